from .measuring import *
from .formats import *
from .tables import *
from .fewshot import FewShotPredictor, load_predictor
