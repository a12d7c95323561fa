"Semantic segmentation: what is counted, the task, pictures, and the end of a search."
from .metrics import class_weights, confusion, fitted, scores
from .task import Segmentation, distinct, segmentation
from .pictures import Masks, coloured, mask_picture, overlay, read_image, segment
from .end import class_table, draw_confusion, draw_examples, examples, fps

__all__ = [
    'class_weights', 'confusion', 'fitted', 'scores', 'Segmentation', 'distinct', 'segmentation',
    'Masks', 'coloured', 'mask_picture', 'overlay', 'read_image', 'segment',
    'class_table', 'draw_confusion', 'draw_examples', 'examples', 'fps']
