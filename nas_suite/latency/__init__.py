from .measuring import *
from .tables import *
from .fewshot import FewShotPredictor, load_predictor
