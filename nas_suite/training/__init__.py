"Data that begins anywhere, the loop that everything trains in, and evaluation with batch norm put right."
from .data import Stream, batches, image_format, seed_of, seeded
from .evaluation import Calibration, calibrated, evaluate, recalibrate
from .loop import (Loop, adam, averaged, cosine, fit, head_of, launched, load_checkpoint, log_functions, optimizer_named,
    optimizers, precisions, save_checkpoint, set_rate, sgd)

__all__ = ['Calibration', 'Loop', 'Stream', 'adam', 'averaged', 'batches', 'calibrated', 'cosine', 'evaluate', 'fit',
    'head_of', 'image_format', 'launched', 'load_checkpoint', 'log_functions', 'optimizer_named', 'optimizers',
    'precisions', 'recalibrate', 'save_checkpoint', 'seed_of', 'seeded', 'set_rate', 'sgd']
