"Elastic layers and mixed operators: weights stored once at the largest size, and run as the selection says."
from .widths import *
from .elastic import *
from .gates import *
from .mixed import *
from .norms import *
from .transposed import *
from . import elastic, gates, mixed, norms, transposed, widths

__all__ = [name for module in (widths, elastic, transposed, norms, gates, mixed) for name in module.__all__]
