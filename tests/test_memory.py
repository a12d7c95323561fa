"Peak memory: the best order of a graph, what an allocator makes of it, and networks and spaces against known numbers."
import itertools
import json
import random

import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset

from nas_suite import testing
from nas_suite.choices import choices, decode, largest, one_of, sample
from nas_suite.costs import (
    Graph, Op, allocate, amount, bit_operations, chain_graph, count_bit_operations, count_flash, flash, memory_facts,
    memory_over_time, peak_memory, schedule, sram, timeline)
from nas_suite.costs import diana_cycles, energy_pj, gap8_cycles, mpic_cycles, mpic_pj
from nas_suite.costs.integers import Sizes, mpic, picojoules
from nas_suite.extraction import extract
from nas_suite.front import figures
from nas_suite.front.doors.base import one_budget
from nas_suite.layers import ElasticConv2d, ElasticDepth, MixedOp, Zero, concat
from nas_suite.spaces.quantized import quantize
from nas_suite.tasks.classification import classification
from test_contracts import SPACES

both = 'add', 'depthwise'


def orders(graph, **how):
    "The peak of each order in which a graph can run."
    for order in itertools.permutations(op.name for op in graph.ops):
        try: yield timeline(graph, order, **how).peak
        except ValueError: pass


def drawn(seed: int) -> Graph:
    "A graph of six operations, drawn at random: each reads one or two tensors before it."
    rng = random.Random(seed)
    names, ops = ['x'], []
    for n in range(6):
        takes = tuple(rng.sample(names, min(len(names), rng.choice((1, 1, 2)))))
        kind = rng.choice(('', 'depthwise') if len(takes) == 1 else ('', 'add'))
        ops.append(Op(f'o{n}', takes, rng.choice((4, 8, 16, 30)), kind))
        names.append(f'o{n}')
    return Graph(dict(x=8), ops, ('o5', rng.choice(names)))


@pytest.mark.parametrize('seed', range(12))
@pytest.mark.parametrize('how', [{}, dict(in_place=both), dict(with_input=False)], ids=str)
def test_the_best_order_is_that_of_all_orders(seed, how):
    graph = drawn(seed)
    found = schedule(graph, **how)
    assert found.exact and found.peak == min(orders(graph, **how))
    assert timeline(graph, found.order, **how).peak == found.peak
    assert allocate(found).peak >= found.peak


@pytest.mark.parametrize('seed', range(6))
def test_a_bound_says_so_and_is_one(seed):
    graph, exact = drawn(seed), schedule(drawn(seed)).peak
    bound = schedule(graph, most_states=1)
    assert bound.at_least <= exact <= bound.peak
    assert bound.exact or 'a bound' in repr(bound)


def test_a_long_chain_is_fast():
    assert schedule(chain_graph(*range(1, 600))).peak == 599 + 598


@pytest.mark.parametrize('seed', range(6))
def test_places_do_not_overlap(seed):
    placed = allocate(schedule(drawn(seed), in_place=both)).placed
    for a, b in itertools.combinations(placed, 2):
        apart = a.offset + a.size <= b.offset or b.offset + b.size <= a.offset
        assert apart or not a.overlaps(b)


class Branches(nn.Module):
    "Two branches, put together."
    def __init__(self):
        super().__init__()
        self.a, self.a2, self.b, self.b2 = (nn.Linear(i, o) for i, o in ((10, 50), (50, 4), (10, 30), (30, 12)))
    def forward(self, x):
        a, b = self.a(x), self.b(x)
        return torch.cat([self.a2(a), self.b2(b)], 1)


class InPlace(nn.Module):
    "The same sum, written into the input."
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(10, 60), nn.Linear(60, 10)
    def forward(self, x):
        x += self.b(self.a(x).relu_())
        return x


class Views(nn.Module):
    "Halves of channels, which take no memory of their own."
    def forward(self, x):
        a, b = x.chunk(2, 1)
        return a.flatten(1) * b.flatten(1)


networks = dict(
    chain=(nn.Sequential(nn.Linear(10, 40), nn.Linear(40, 20), nn.Linear(20, 5)), (10,), 60, 60),
    branches=(Branches(), (10,), 64, 64), in_place=(InPlace(), (10,), 80, 80), views=(Views(), (8, 2, 2), 48, 48),
    depthwise=(nn.Sequential(nn.Conv2d(4, 4, 3, 2, 1, groups=4)), (4, 8, 8), 256 + 64, 256),
    weights=(nn.Sequential(nn.Linear(10, 40), nn.BatchNorm1d(40), nn.Hardswish(), nn.PReLU()), (10,), 50, 50))


@pytest.mark.parametrize('name', networks)
def test_networks(name):
    net, shape, plain, in_place = networks[name]
    assert memory_over_time(net, shape).peak == plain
    assert memory_over_time(net, shape, in_place=both).peak == in_place
    assert memory_over_time(net, shape, bits=32).peak == 4 * plain


@pytest.mark.parametrize('name', [name for name in SPACES if name not in ('segmenter', 'proxyless', 'tdnn, dynamic')])
def test_the_cost_of_a_space_is_what_its_networks_need(name):
    space = SPACES[name][0]()
    for how in (dict(), dict(in_place=both, with_input=False, bits=4)):
        cost = peak_memory(space, space.input_shape, checked=False, **how)
        assert cost.exact
        for arch in decode(space, sample(space, 3, torch.Generator().manual_seed(1))):
            found = memory_over_time(extract(space, arch, compare=False), space.input_shape, **how)
            assert cost(arch) == found.peak, (how, arch)


@pytest.mark.parametrize('name', ['proxyless, wide', 'once-for-all', 'transformer'])
def test_it_keeps_the_contract_of_costs(name):
    testing.check_cost(peak_memory, [SPACES[name][0]])


@pytest.mark.parametrize('name', ['proxyless, wide', 'once-for-all', 'all kinds', 'widths'])
def test_the_bound_is_none_below_and_the_cost_of_one_network(name):
    space = SPACES[name][0]()
    cost = peak_memory(space, space.input_shape, checked=False)
    generator = torch.Generator().manual_seed(0)
    for sharpness in (0, 1, 4):
        logits = {n: torch.randn(len(c), generator=generator, dtype=torch.float64) for n, c in choices(space).items()}
        probs = {n: (sharpness * l).softmax(0).requires_grad_() for n, l in logits.items()}
        mean = super(type(cost), cost).expected(probs)
        assert float(cost.bound(probs).detach()) >= float(mean.detach()) - 1e-6
    for arch in decode(space, sample(space, 4, generator)):
        one = {n: torch.eye(len(c), dtype=torch.float64)[c.options.index(arch[n]) if n in arch else 0]
               for n, c in choices(space).items()}
        assert float(cost.bound(one)) == cost(arch)


class Shared(nn.Module):
    "A tensor that the last layer reads again, and one that an option alone reads."
    input_shape = 4, 6, 6
    def __init__(self):
        super().__init__()
        self.first, self.wide = nn.Conv2d(4, 4, 1), nn.Conv2d(4, 40, 1)
        self.deep = ElasticDepth([nn.Conv2d(40, 40, 1) for _ in range(2)], one_of(0, 1, 2))
        self.mix = MixedOp(dict(zero=Zero(), conv=nn.Conv2d(40, 40, 1)))
    def forward(self, x):
        x = self.first(x)
        y = self.deep(self.wide(x))
        return torch.cat([y + self.mix(y), x], 1)


def test_depths_of_none_and_operators_that_are_missing():
    space = Shared()
    cost = peak_memory(space)
    for arch in decode(space, torch.cartesian_prod(torch.arange(3), torch.arange(2))):
        assert cost(arch) == memory_over_time(extract(space, arch), space.input_shape).peak, arch


def test_bad_input_says_what_is_wrong():
    net = nn.Linear(10, 4)
    with pytest.raises(ValueError, match='bits is a whole number from 1 to 64; found 0'):
        memory_over_time(net, (10,), bits=0)
    with pytest.raises(ValueError, match="in_place has kinds of add and depthwise; found 'conv'"):
        memory_over_time(net, (10,), in_place=['conv'])
    with pytest.raises(ValueError, match='does not run through Linear'):
        memory_over_time(net, (11,))
    with pytest.raises(ValueError, match='an input shape is'):
        memory_over_time(net, 11)


@pytest.mark.parametrize('name', ['widths', 'tutorial'])
def test_bits_of_weights_and_of_what_layers_read(name):
    space = quantize(SPACES[name][0](), weights=one_of(2, 4), activations=one_of(4, 8))
    shape = space.input_shape
    stored, memory, operations = flash(space), sram(space), bit_operations(space)
    for arch in decode(space, sample(space, 3, torch.Generator().manual_seed(2))):
        net = extract(space, arch, compare=False)
        assert stored(arch) == count_flash(net) and operations(arch) == count_bit_operations(net, shape)
        assert memory(arch) >= memory_over_time(net, shape).peak
        assert memory(arch) == memory_over_time(net, shape).peak or not memory.exact


def test_few_bits_take_less():
    net = nn.Sequential(nn.Conv2d(4, 8, 3), nn.ReLU(), nn.Conv2d(8, 4, 3))
    few = extract(quantize(net, 4, 4, ends=None, input_shape=(4, 8, 8)), {}, compare=False)
    assert count_flash(few) == (2 * 4 * 8 * 9) / 2 + 8 + 4
    assert count_bit_operations(few, (4, 8, 8)) * 4 == count_bit_operations(net, (4, 8, 8))
    assert memory_over_time(few, (4, 8, 8)).peak == (4 * 64 + 8 * 36) / 2 < memory_over_time(net, (4, 8, 8)).peak


@pytest.mark.parametrize('text, bytes_', {'256k': 256e3, '64Ki': 65536, '64KiB': 65536, '1M': 1e6, '1MiB': 2**20,
                                          '.5 MB': 5e5}.items())
def test_sizes_of_memories(text, bytes_):
    assert amount(text) == bytes_
    assert one_budget(sram=text) == dict(sram=bytes_)


@pytest.mark.parametrize('text', ['kk', '1KiBB', 'Ki', '64iB', '1 M M', '-1k', '0Mi'])
def test_no_sizes_of_memories(text):
    with pytest.raises(ValueError, match='the budget of flash'): one_budget(flash=text)


def test_the_space_within_a_memory():
    task = classification('digits')
    small, large = (task.default_space(dict(flash=most)) for most in (20e3, 90e3))
    assert small.config['widths'] < large.config['widths'] and small.chosen['binding'] == 'flash'
    assert large.chosen['reach']['flash'][0] <= 90e3


@pytest.mark.parametrize('shared', [False, True])
def test_the_space_within_a_memory_below_that_of_the_first_map(shared):
    "The map behind a layer that keeps 32 x 32 pixels needs more than 16 kB: the layer halves the image then."
    x = torch.zeros(64, 1, 32, 32)
    task = classification(dict(train=TensorDataset(x, torch.arange(64) % 4), test=TensorDataset(x, torch.arange(64) % 4)))
    space = task.default_space(dict(sram='16k'), shared)
    low, high = space.chosen['reach']['sram']
    assert low < 16e3 and space.config['stem_stride'] == 2


def alone(layer, shape):
    "Cycles of one layer on GAP8 and DIANA, and pJ on MPIC."
    return [make(layer, shape)({}) for make in (gap8_cycles, diana_cycles, mpic_pj)]


def test_published_formulas():
    convolution = alone(nn.Conv2d(16, 32, 3, padding=1), (16, 16, 16))
    assert convolution[:2] == [71_040, 2 * 16 * 16 * 9 + 256 * 48 / 8]
    assert convolution[2] == pytest.approx(256 * 9 * 16 * 32 * 10.252, rel=1e-4)
    assert alone(nn.Conv2d(32, 32, 3, padding=1, groups=32), (32, 16, 16))[0] == 73_728
    assert alone(nn.Linear(64, 10), (64,))[0] == 96
    assert gap8_cycles(nn.Conv2d(8, 8, 3, groups=2), (8, 4, 4))({}) == 2 * (2 * 36 + 5 + 14 * 9 + 10)


known_speeds = (2, 2, 6.5), (2, 8, 2.2), (4, 2, 3.9), (8, 4, 2.3), (3, 1, 3.9), (8, 6, 2.1)


@pytest.mark.parametrize('activations, weights, each', known_speeds)
def test_mixed_precision(activations, weights, each):
    assert mpic(Sizes(1, 8, 8, 1, 1, 1, False, weights, activations)) == 64 / each
    assert picojoules(2, 8) < picojoules(8, 8) < picojoules(32, 32)


@pytest.mark.parametrize('make', [gap8_cycles, mpic_cycles, diana_cycles, energy_pj])
def test_integer_targets_keep_the_contract_of_costs(make):
    testing.check_cost(make, [lambda: quantize(SPACES['widths'][0](), weights=one_of(2, 8), activations=8)])


def test_what_has_no_formula_is_named():
    with pytest.raises(ValueError, match='gap8_cycles has a formula for convolutions and linear layers; .*multiplies'):
        gap8_cycles(SPACES['transformer'][0]())
    floats = quantize(nn.Sequential(nn.Conv2d(3, 4, 1)), 32, 8, ends=None, input_shape=(3, 4, 4))
    with pytest.raises(ValueError, match='weights have 32 bits, of which this machine multiplies at most 8'):
        mpic_cycles(floats)


def test_memory_is_noted_as_plain_facts_and_drawn():
    facts = memory_facts(memory_over_time(Branches(), (10,)))
    assert json.loads(json.dumps(facts)) == facts
    assert facts['peak'] == 64 and facts['order'] == ['a', 'a2', 'b', 'b2', 'cat'] and facts['where'] == 'a2'
    (axes,) = figures.memory(dict(memory=facts)).axes
    assert '64 B at once, at a2' in axes.get_title(loc='left') and len(axes.patches) == len(facts['placed'])
    assert figures.memory(dict(memory={})) is None


class Wide(nn.Module):
    "Five branches of a width each, put together: too many choices for one table."
    input_shape = 4, 4, 4
    def __init__(self):
        super().__init__()
        widths = [one_of(*range(8, 40, 4)) for _ in range(5)]
        self.branches = nn.ModuleList([ElasticConv2d(4, width, 1) for width in widths])
        self.last = ElasticConv2d(concat(*widths), 4, 1)
    def forward(self, x): return self.last(torch.cat([branch(x) for branch in self.branches], 1))


def test_too_many_choices_for_a_table_give_a_bound_that_says_so():
    space = Wide()
    cost = peak_memory(space)
    assert not cost.exact
    for arch in decode(space, sample(space, 3, torch.Generator().manual_seed(0))):
        assert memory_over_time(extract(space, arch), (4, 4, 4)).peak <= cost(arch)
    assert cost(largest(space)) == memory_over_time(extract(space, largest(space)), (4, 4, 4)).peak
