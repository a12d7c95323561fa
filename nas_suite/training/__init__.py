"Data that begins anywhere, the loop that everything trains in, and evaluation with batch norm put right."
from .data import Stream, batches, image_format, seed_of, seeded
from .evaluation import Calibration, calibrated, evaluate, recalibrate
from .finite import NotFinite, check_data, finite, first_layer, not_finite
from .graphs import Graphed, NoGraph, graphed
from .loop import (Loop, adam, averaged, cosine, fit, head_of, launched, load_checkpoint, log_functions,
    optimizer_named, optimizers, precisions, save_checkpoint, set_rate, sgd)
from .untrained import anew, as_it_begins, degree, gradient_norm, jacobian_covariance, synflow, untrained_scores
from .workers import LostWorker, executor_given, packed, spread, unpacked

__all__ = ['Calibration', 'Graphed', 'Loop', 'LostWorker', 'NoGraph', 'NotFinite', 'Stream', 'adam', 'anew',
    'as_it_begins', 'averaged', 'batches', 'calibrated', 'check_data', 'cosine', 'degree', 'evaluate',
    'executor_given', 'finite', 'first_layer', 'fit', 'gradient_norm', 'graphed', 'head_of', 'image_format',
    'jacobian_covariance', 'launched', 'load_checkpoint', 'log_functions', 'not_finite', 'optimizer_named',
    'optimizers', 'packed', 'precisions', 'recalibrate', 'save_checkpoint', 'seed_of', 'seeded', 'set_rate', 'sgd',
    'spread', 'synflow', 'unpacked', 'untrained_scores']
