"Elastic layers and mixed operators: weights stored once at the largest size, and run as the selection says."
from .widths import *
from .elastic import *
from .gates import *
from .mixed import *
from .norms import *
from .transposed import *
from .ranked import *
from .given import *
from . import elastic, gates, given, mixed, norms, ranked, transposed, widths

__all__ = [name for module in (widths, elastic, transposed, norms, gates, mixed, ranked, given) for name in module.__all__]
