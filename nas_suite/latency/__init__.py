from .measuring import *
from .formats import *
from .tables import *
from .remote import *
from .fewshot import FewShotPredictor, load_predictor
