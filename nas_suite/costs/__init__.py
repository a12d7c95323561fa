"What architectures cost, exactly and in bulk, in expectation, and against a budget."
from .counts import cost_of, count_macs, count_params, counted, is_fixed, is_unit, macs, params, plain, weight_bytes
from .loss import LatencyAwareLoss, ascend
from .models import CostModel, Reading, amount, cheapest, cost_models, feasible, limits_given, minimise
from .programme import Best, Programme, TooLarge
from .ranking import Certificate, Ranking, best_networks, certificate, linear_part
from .regression import Fit, every_pair, neighbours, regression, sum_of
from .probing import tabulate
from .survey import Call, Record, aligned, is_elastic, on_meta, one_sample, only_options, survey
from .tables import Term, distribution, merged, sizes, term

# costs that a word in a shell can name: function(space, input_shape) -> CostModel
named = dict(macs=macs, params=params, weight_bytes=weight_bytes)

__all__ = [
    'Best', 'Call', 'Certificate', 'CostModel', 'Fit', 'LatencyAwareLoss', 'Programme', 'Ranking', 'Reading',
    'Record', 'Term', 'TooLarge', 'aligned', 'amount', 'ascend', 'best_networks', 'certificate', 'cheapest',
    'cost_models', 'cost_of', 'count_macs', 'count_params', 'counted', 'distribution', 'every_pair', 'feasible',
    'is_elastic', 'is_fixed', 'is_unit', 'limits_given', 'linear_part', 'macs', 'merged', 'minimise', 'named',
    'neighbours', 'on_meta', 'one_sample', 'only_options', 'params', 'plain', 'regression', 'sizes', 'sum_of',
    'survey', 'tabulate', 'term', 'weight_bytes']
