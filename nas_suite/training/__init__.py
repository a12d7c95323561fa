"Data that begins anywhere, the loop that everything trains in, recipes, and evaluation with batch norm put right."
from .data import Stream, batches, image_format, seed_of, seeded
from .evaluation import Calibration, calibrated, evaluate, recalibrate
from .finite import NotFinite, check_data, finite, first_layer, not_finite
from .graphs import Graphed, NoGraph, graphed
from .loop import (Loop, adam, adamw, averaged, cosine, head_of, labelled, launched, load_checkpoint, log_functions,
    optimizer_named, optimizers, precisions, save_checkpoint, set_rate, sgd)
from .recipes import (Recipe, View, asked_of_inputs, of_inputs, passes, presets, recipe_given, settled, usual_rates,
    view_of)
from .fitting import Averages, Best, Training, fit, trained_weights
from .resident import sent
from .untrained import anew, as_it_begins, degree, gradient_norm, jacobian_covariance, synflow, untrained_scores
from .workers import LostWorker, executor_given, packed, spread, unpacked

__all__ = ['Averages', 'Best', 'Calibration', 'Graphed', 'Loop', 'LostWorker', 'NoGraph', 'NotFinite', 'Recipe',
    'Stream', 'Training', 'View', 'adam', 'adamw', 'anew', 'as_it_begins', 'asked_of_inputs', 'averaged', 'batches',
    'calibrated', 'check_data', 'cosine', 'degree', 'evaluate', 'executor_given', 'finite', 'first_layer', 'fit',
    'gradient_norm', 'graphed', 'head_of', 'image_format', 'jacobian_covariance', 'labelled', 'launched',
    'load_checkpoint', 'log_functions', 'not_finite', 'of_inputs', 'optimizer_named', 'optimizers', 'packed',
    'passes', 'precisions', 'presets', 'recalibrate', 'recipe_given', 'save_checkpoint', 'seed_of', 'seeded', 'sent',
    'set_rate', 'settled', 'sgd', 'spread', 'synflow', 'trained_weights', 'unpacked',
    'untrained_scores', 'usual_rates', 'view_of']
