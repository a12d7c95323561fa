"Elastic layers and mixed operators: weights stored once at the largest size, and run as the selection says."
from .widths import *
from .elastic import *
from .gates import *
from .mixed import *
from . import elastic, gates, mixed, widths

__all__ = [*widths.__all__, *elastic.__all__, *gates.__all__, *mixed.__all__]
