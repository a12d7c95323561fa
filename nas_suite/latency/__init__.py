from .measuring import *
from .formats import *
from .tables import *
from .remote import *
from .fewshot import (Extrapolates, FewShotPredictor, PredictedCost, Predictor, check_file, device_cost, load_cost,
    load_predictor, opened, saved_cost)
from .regressors import LatencyRegressor
