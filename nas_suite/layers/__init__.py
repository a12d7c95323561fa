"Elastic layers and mixed operators: weights stored once at the largest size, and run as the selection says."
from .widths import *
from .elastic import *
from .gates import *
from .mixed import *
from .norms import *
from .transposed import *
from .ranked import *
from .given import *
from .quantisers import *
from .quantised import *
from .integers import *
from . import elastic, gates, given, integers, mixed, norms, quantised, quantisers, ranked, transposed, widths

_modules = widths, elastic, transposed, norms, gates, mixed, ranked, given, quantisers, quantised, integers
__all__ = [name for module in _modules for name in module.__all__]
