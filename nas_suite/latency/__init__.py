from .measuring import *
from .formats import *
from .tables import *
from .remote import *
from .fewshot import Extrapolates, FewShotPredictor, PredictedCost, Predictor, load_predictor
from .regressors import LatencyRegressor, load_regressor
from .given import Opened, device_cost, opened, saved_cost
