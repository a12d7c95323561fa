from .measuring import *
from .tables import *
