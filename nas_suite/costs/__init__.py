"What architectures cost, exactly and in bulk, in expectation, and against a budget."
from .counts import count_macs, count_params, is_fixed, macs, params
from .loss import LatencyAwareLoss
from .models import CostModel, Reading, amount, cheapest, feasible, minimise
from .survey import Record, aligned, on_meta, survey, tabulate
from .tables import Term, distribution, merged, sizes, term

named = dict(macs=macs, params=params) # costs that a word in a shell can name: function(space, input_shape) -> CostModel
_Term, _term, _aligned, _merged, _on_meta = Term, term, aligned, merged, on_meta

__all__ = ['CostModel', 'LatencyAwareLoss', 'Reading', 'Record', 'Term', 'aligned', 'amount', 'cheapest', 'count_macs', 'count_params',
           'distribution', 'feasible', 'is_fixed', 'macs', 'merged', 'minimise', 'named', 'on_meta', 'params', 'sizes', 'survey', 'tabulate', 'term']
