"What architectures cost, exactly and in bulk, in expectation, and against a budget."
from .bits import bit_operations, count_bit_operations, count_flash, flash, sram
from .counts import cost_of, count_macs, count_params, counted, is_fixed, is_unit, macs, params, plain, weight_bytes
from .flows import Flow, flow_of, graph_now, memory_over_time
from .integers import diana_cycles, energy_pj, gap8_cycles, mpic_cycles, mpic_pj
from .loss import LatencyAwareLoss, ascend
from .memory import PeakMemory, peak_memory
from .models import CostModel, Reading, amount, cheapest, cost_models, feasible, limits_given, minimise
from .peaks import Allocation, Graph, Op, Timeline, allocate, chain_graph, draw_memory, memory_facts, schedule, timeline
from .programme import Best, Programme, TooLarge
from .ranking import Certificate, Ranking, best_networks, certificate, linear_part
from .regression import Fit, every_pair, neighbours, regression, sum_of
from .probing import tabulate
from .survey import Call, Record, aligned, is_elastic, on_meta, one_sample, only_options, survey
from .tables import Term, distribution, merged, sizes, term

# costs that a word in a shell can name: function(space, input_shape) -> CostModel
named = dict(macs=macs, params=params, weight_bytes=weight_bytes, sram=sram, flash=flash,
             bit_operations=bit_operations, gap8_cycles=gap8_cycles, mpic_cycles=mpic_cycles, mpic_pj=mpic_pj,
             diana_cycles=diana_cycles, energy_pj=energy_pj)

__all__ = [
    'Allocation', 'Best', 'Call', 'Certificate', 'CostModel', 'Fit', 'Flow', 'Graph', 'LatencyAwareLoss', 'Op',
    'PeakMemory', 'Programme', 'Ranking', 'Reading', 'Record', 'Term', 'Timeline', 'TooLarge', 'aligned', 'allocate',
    'amount', 'ascend', 'best_networks', 'bit_operations', 'certificate', 'chain_graph', 'cheapest', 'cost_models',
    'cost_of', 'count_bit_operations', 'count_flash', 'count_macs', 'count_params', 'counted', 'diana_cycles',
    'distribution', 'draw_memory', 'energy_pj', 'every_pair', 'feasible', 'flash', 'flow_of', 'gap8_cycles',
    'graph_now', 'is_elastic', 'is_fixed', 'is_unit', 'limits_given', 'linear_part', 'macs', 'memory_facts',
    'memory_over_time', 'merged', 'minimise', 'mpic_cycles', 'mpic_pj', 'named', 'neighbours', 'on_meta', 'one_sample',
    'only_options', 'params', 'peak_memory', 'plain', 'regression', 'schedule', 'sizes', 'sram', 'sum_of', 'survey',
    'tabulate', 'term', 'timeline', 'weight_bytes']
