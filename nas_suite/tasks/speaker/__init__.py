"Speaker verification: recordings, features, disturbances, a loss, trials, embeddings, the task, and its use."
from .audio import Recordings, UnusualRecording, read_part, read_wave, wrapped
from .features import LogMel, features_of, published_front
from .disturbances import Disturb
from .losses import CosineHead, margin_loss
from .trials import (as_norm, equal_error_rate, error_curve, interval, min_dcf, outline, plot_det, plot_scores,
                     speakers_of)
from .embedding import Trials, embed_files, embeddings
from .task import Speaker, speaker
from .use import Voices, draw_trials, of_speakers

__all__ = [
    'Recordings', 'UnusualRecording', 'read_part', 'read_wave', 'wrapped', 'LogMel', 'features_of', 'published_front',
    'Disturb', 'CosineHead', 'margin_loss', 'as_norm', 'equal_error_rate', 'error_curve', 'interval', 'min_dcf',
    'outline', 'plot_det', 'plot_scores', 'speakers_of', 'Trials', 'embed_files', 'embeddings', 'Speaker', 'speaker',
    'Voices', 'draw_trials', 'of_speakers']
