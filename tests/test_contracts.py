"Every space, task, strategy and cost, tested by the checks that are shipped: a new one is tested by being listed here."

import random, sys
from copy import deepcopy
from functools import cache
from pathlib import Path
import nbformat, pytest, torch
from torch.utils.data import TensorDataset
from nas_suite import testing
from nas_suite.choices import choices, count, decode, encode, restrict, sample
from nas_suite.costs import macs, params
from nas_suite.relaxation import modes
from nas_suite.spaces.mobile import ofa_mobilenet_v3, proxyless
from nas_suite.spaces.heads import SharedBackbone
from nas_suite.spaces.resnet import ofa_resnet50
from nas_suite.spaces.segmenter import Segmenter, ssr_segmenter
from nas_suite.spaces.tdnn import efficient_tdnn
from nas_suite.strategies.coordinate_descent import CoordinateDescent
from nas_suite.strategies.bayesian import Bayesian
from nas_suite.strategies.evolution import Evolution
from nas_suite.strategies.gated import Gated
from nas_suite.strategies.gumbel import Gumbel
from nas_suite.strategies.integer_program import IntegerProgram
from nas_suite.strategies.local_search import LocalSearch
from nas_suite.strategies.random import Random
from nas_suite.strategies.natural_gradient import NaturalGradient
from nas_suite.strategies.probabilistic import Probabilistic
from nas_suite.strategies.pruning import Pruning
from nas_suite.strategies.regularized import Regularized
from nas_suite.strategies.ridge import Ridge
from nas_suite.strategies.sensitivity import Sensitivity
from nas_suite.strategies.steps import _market, derive
from nas_suite.strategies.short_training import ShortTraining
from nas_suite.strategies.training_free import TrainingFree
from nas_suite.tasks.classification import Classification, classification
from nas_suite.tasks.segmentation import Segmentation, segmentation
from nas_suite.tasks.keywords import keywords
from nas_suite.tasks.several import several
from nas_suite.tasks.speaker import speaker
from nas_suite.training import Loop

sys.path.insert(0, str(Path(__file__).parent))
from bits_space import FewBits
from cross_entropy import CrossEntropy
from given_networks import given
from keyword_task import Keywords
from side_tasks import pair, shared_space
from spaces import Builder, fixed
from transformer_space import Transformer
from unit_costs import energy, peak_memory
from volume_space import Volumes

root = Path(__file__).parents[1]


def tutorial():
    "The network that the tutorial makes searchable: a plain nn.Module."
    page = nbformat.read(root / 'nbs/tutorials/01_your_own_network.ipynb', 4)
    (code,) = (c.source for c in page.cells if c.cell_type == 'code' and 'class Searchable' in c.source)
    exec(code[: code.index('torch.manual_seed')], names := dict(torch=torch, nn=torch.nn))
    space = names['Searchable'](3)
    space.input_shape = 1, 8, 8
    return space


small = dict(classes=3, image_size=8, in_channels=1)


def mobile(**more):
    sizes = dict(stem=8, first=0, widths=(8,), depths=(3,), last=16, kernels=(3,), expands=(1, 2))
    return proxyless(**small | sizes | more)


def wide():
    "More of everything."
    sizes = dict(first=8, widths=(8, 12), depths=(1, 2), kernels=(3, 5, 7), expands=(1, 3), dropout=0.2)
    return mobile(in_channels=2, image_size=12, **sizes)


def once_for_all():
    sizes = dict(widths=(8,), depths=(1, 2), kernels=(3, 5), expands=(2, 3), stem=8, first=8, last=(16, 16))
    return ofa_mobilenet_v3(**small, **sizes)


def resnet():
    sizes = dict(widths=(32,), base_depths=(1,), depths=(0, 1), strides=(1,), ratios=(0.5, 1.0), expands=(0.5,))
    return ofa_resnet50(**small, **sizes, stem=32, stem_block=False)


def tdnn(**more):
    sizes = dict(widths=(8, 16), last=(8, 12), kernels=(3,), depths=(1, 2), scale=4, attention=4, frames=12)
    return efficient_tdnn(4, 3, **sizes | more)


def segmenter():
    sizes = dict(channels=(8, 12), depths=(1, (1, 2)), dilations=(1,), factors=(1, 2), cuts=(4, 0))
    return ssr_segmenter(3, (16, 24), **sizes, stem=6, grids=(1, 2), branch=4, low=8, head=12)


def transformer():
    return Transformer((4, 8), 3, patch=2, widths=(8, 12), counts=(1, 2), dim=4, ratios=(1, 2), depths=(1, 2))


def drawn(seed, dims):
    "A random space of the core's tests, of what relaxation is defined for."
    r = random.Random(seed)
    return Builder(lambda *o: o[r.randrange(len(o))], dims, 24, True).net()


SPACES = {  # name -> how it is made, and how many networks are in it, counted by hand
    'proxyless': (mobile, 2 * 3 * 3),
    'proxyless, wide': (wide, 6 * 6 * 7),
    'proxyless, one path': (lambda: mobile(depths=(1,), expands=(2,)), 1),
    'proxyless, restricted': (
        lambda: restrict(mobile(), {'blocks.1*': ['zero', 'mb2_k3'], 'blocks.0*': 'mb1_k3'}),
        1 * 2 * 3,
    ),
    'once-for-all': (once_for_all, 4 + 4 * 4),
    'resnet': (resnet, 2 * 2 * 2 * 2),
    'tdnn': (tdnn, 2 * 2 * (2 + 2 * 2)),
    'tdnn, dynamic': (lambda: tdnn(widths=8, last=8, kernels=(1, 3), depths=2, dynamic=(1, 2)), 2 * (2 * 2) ** 2),
    'segmenter': (segmenter, 2 * 2 * 2 * (2 * 2 * 2 + (2 * 2 * 2) ** 2)),
    'shared backbone': (shared_space, (4 + 4 * 4) ** 2 * 2 * 2),
    'transformer': (transformer, 2 * ((2 * 2) + (2 * 2) ** 2)),
    'volumes': (Volumes, 2 * 2 * 2 * 2),
    'tutorial': (tutorial, 3 * 2 * 3 * 4),
    'all kinds': (
        fixed,
        2 * 2 * ((1 + 2 + 2) + (3 * 3 + 2 * (4 * 4 - 3 * 3))),
    ),  # a kernel of two blocks counts where one is a conv
    'of a given network': (given, 2 * 2 * (1 + 2)),
    'operators': (lambda: drawn(10, 1), 3 * (1 + 1 + 2)),
    'resolution': (lambda: drawn(16, 2), 2 * 2 * 3 * 2),
    'depths': (lambda: drawn(19, 2), 2 * (1 + 2 * 2 + 2 * 2)),
    'widths': (lambda: drawn(25, 1), 3 * 2 * 2 * 2),
    'bits': (FewBits, 2 * 2 * 2 * (1 + 2) * 2),
}


@pytest.mark.parametrize('name', SPACES)
def test_networks_are_counted(name):
    assert count(SPACES[name][0]()) == SPACES[name][1]


@pytest.mark.parametrize('kept', testing.space_checks, ids=lambda f: f.__name__)
@pytest.mark.parametrize('name', SPACES)
def test_space(name, kept):
    kept(SPACES[name][0])


@pytest.mark.parametrize('kept', testing.relaxation_checks, ids=lambda f: f.__name__)
@pytest.mark.parametrize('name', SPACES)
def test_relaxation(name, kept):
    kept(SPACES[name][0])


# ---------------------------------------------------------------- costs

COSTS = dict(macs=macs, params=params, energy=energy, peak_memory=peak_memory)
ON = ('proxyless, wide', 'once-for-all', 'tdnn', 'transformer', 'all kinds')  # small enough to be counted whole


@pytest.mark.parametrize('space', ON)
@pytest.mark.parametrize('name', COSTS)
def test_cost(name, space):
    testing.check_cost(COSTS[name], [SPACES[space][0]])


# ---------------------------------------------------------------- tasks

TASKS = {  # name -> how it is made, something to predict, what it is made from again
    'digits': (lambda: classification('digits'), torch.rand(1, 8, 8), 'digits'),
    'digit scenes': (lambda: segmentation('digit scenes', image_size=(32, 48)), torch.rand(3, 40, 50), 'digit scenes'),
    'voices': (lambda: speaker('synthetic voices', held=0.3), torch.randn(16000), None),
    'keywords': (Keywords, torch.randn(1600), 'made up'),
    'made up words': (lambda: keywords('made up words', seconds=0.4, rate=4000, bands=16), torch.randn(1600), None),
    'several': (lambda: several(pair()), torch.rand(3, 16, 16), None),
}


@pytest.mark.parametrize('name', TASKS)
def test_task(name):
    make, raw, data = TASKS[name]
    testing.check_task(make, raw=raw, data=data)


# ---------------------------------------------------------------- strategies

evolving = dict(
    supernet=dict(epochs=2, batch_size=4), score='accuracy', population=6, parents=2, generations=2, finalists=2
)
STRATEGIES = {
    f'gated, {mode}': lambda mode=mode: Gated(epochs=2, batch_size=4, gradient=mode) for mode in (*modes, 'reinforce')
}
STRATEGIES['gumbel'] = lambda: Gumbel(epochs=2, batch_size=4)
STRATEGIES['pruning'] = lambda: Pruning(epochs=6, evaluations=8, batch=3, samples=4)
STRATEGIES['regularized'] = lambda: Regularized(epochs=2, batch_size=4, shrinks=3)
STRATEGIES['evolution'] = lambda: Evolution(**evolving)
STRATEGIES['integer program'] = lambda: IntegerProgram(epochs=6, evaluations=8, batch=3, start=3)
few = dict(epochs=6, evaluations=8, batch=4)
STRATEGIES['random'] = lambda: Random(**few)
STRATEGIES['local search'] = lambda: LocalSearch(**few)
STRATEGIES['ridge'] = lambda: Ridge(**few, start=4)
STRATEGIES['training free'] = lambda: TrainingFree('gradient_norm', evaluations=3, batch=2, items=2, parents=1)
STRATEGIES['short training'] = lambda: ShortTraining(passes=1, evaluations=3, batch=2, parents=1)
STRATEGIES['coordinate descent'] = lambda: CoordinateDescent(epochs=1, evaluations=4, batch=2, layers=2, candidates=2)
STRATEGIES['probabilistic'] = lambda: Probabilistic(epochs=2, batch_size=4)
STRATEGIES['natural gradient'] = lambda: NaturalGradient(epochs=6, evaluations=8, batch=4)
STRATEGIES['bayesian'] = lambda: Bayesian(**few, start=4)
STRATEGIES['sensitivity'] = lambda: Sensitivity(epochs=6, evaluations=4, batch=2, images=8, options=1)
STRATEGIES['cross entropy'] = lambda: CrossEntropy(epochs=6, evaluations=8, batch=4)
FEW = ('proxyless, wide', 'once-for-all', 'transformer', 'all kinds')  # where strategies are tried that see no space
SEES_SCORES = (  # of those, evolution and the one of tests/ are tried everywhere
    'random', 'local search', 'ridge', 'bayesian', 'integer program', 'natural gradient',
    'training free', 'coordinate descent', 'short training',
)  # fmt: skip
FEW_ON_HEADS = 'gated, two', 'regularized', 'sensitivity', 'evolution' # tried on several tasks
CHANGED = {  # settings that a configuration must tell
    'gated': Gated(alpha_lr=0.5, every=3, gradient='full'),
    'pruning': Pruning(rounds=2, samples=30, supernet=dict(epochs=2, batch_size=4)),
    'gumbel': Gumbel(hot=3.0, cold=0.5, epochs=3),
    'regularized': Regularized(
        regularizer='entropy', weights='softmax', strength=dict(operator=1.0, depth=0.3, width=0.2)
    ),
    'evolution': Evolution(**evolving | dict(score='predictor', samples=30)),
    'integer program': IntegerProgram(pairs=True, ridge=1.0, supernet=dict(epochs=2, batch_size=4)),
    'random': Random(epochs=3, evaluations=30, used=0.5),
    'local search': LocalSearch(evaluations=30, batch=3, used=0),
    'ridge': Ridge(features='options', ranks=False, penalty=0.1, start=3),
    'training free': TrainingFree('degree', evaluations=30, batch=5, items=8, parents=3, mutation=0.5),
    'short training': ShortTraining(passes=2, evaluations=30, batch=5, parents=3, mutation=0.5),
    'coordinate descent': CoordinateDescent(first=0.1, decay=0.9, layers=3, candidates=4),
    'probabilistic': Probabilistic(draws=1.0, least=8, temperature=0.1),
    'natural gradient': NaturalGradient(rate=0.1, batch=16),
    'bayesian': Bayesian(start=3, used=0.8, full=0),
    'sensitivity': Sensitivity(epochs=2, evaluations=30, batch=4, images=64, options=2, ridge=1.0, lr=0.1, curvature=True),
    'cross entropy': CrossEntropy(epochs=3, evaluations=30, elite=0.5, smoothing=0.9),
}


@pytest.mark.parametrize('name', STRATEGIES)
def test_strategy(name, unwritten, drawn_once):  # the formats of a network are no strategy's matter
    testing.check_strategy(STRATEGIES[name])


@pytest.mark.parametrize('name', CHANGED)
def test_configuration(name):
    facts = CHANGED[name].config()
    assert type(CHANGED[name])(**facts).config() == facts != type(CHANGED[name])().config()


def task_for(space, n=12):
    "Inputs whose class, or that of their pixels, is told by their mean; of a space with several heads several tasks."
    if isinstance(space, SharedBackbone):
        return several(pair())
    generator = torch.Generator().manual_seed(0)
    y = torch.arange(2 * n) % 3
    x = torch.randn(2 * n, *space.input_shape, generator=generator) + (y - 1).view(-1, *[1] * len(space.input_shape))
    dense = isinstance(space, Segmenter)
    if dense:
        y = y.view(-1, 1, 1).expand(-1, *space.input_shape[1:]).contiguous()
    a, b = TensorDataset(x[:n], y[:n]), TensorDataset(x[n:], y[n:])
    if dense:
        return Segmentation('signs', a, b, b, ['-', '0', '+'], space.input_shape)
    return Classification('signs', a, b, b, 3, space.input_shape)


def spent_in(space):
    "MACs and parameters, each with what networks of a space spend."
    rows = testing.every_row(space)
    if rows is None:
        rows = sample(space, 2000, torch.Generator().manual_seed(0))
    return [(cost, cost.batch(rows)) for cost in (macs(space, space.input_shape), params(space, space.input_shape))]


def limits_among(costs, share=0.4):
    "Both a share of the way from the cheapest to the dearest network; the first alone where no network meets both."
    out = [(cost, float(spent.min() + share * (spent.max() - spent.min()))) for cost, spent in costs]
    joint = torch.stack([spent <= bound for (_, spent), (_, bound) in zip(costs, out)]).all(0)
    return out if joint.any() else out[:1]


def limits_of(space, share=0.4):
    "Limits of MACs and parameters, as of `limits_among`."
    return limits_among(spent_in(space), share)


@cache
def known(name):
    "A space, and what is spent in it: found once, for all strategies."
    space = testing.shaken(SPACES[name][0]())
    return space, spent_in(space)


def best_that_uses(market, rows):
    "What is worth most within all budgets, of those networks that use one, or nearly as much of one as any."
    fits, used = market.fits(rows), market.used(rows)
    most = float(used[fits].max())
    least = 0.98 if most >= 0.98 else 0.98 * most
    return float(market.worth(rows)[fits & (used >= least - 1e-9)].max())


@pytest.mark.parametrize('name', SPACES)
def test_what_is_derived_is_the_most_probable_that_uses_a_budget(name):
    "Against all networks, one budget and two, beliefs that are equal and random ones."
    space, costs = known(name)
    rows = testing.every_row(space)
    if rows is None:
        pytest.skip('too many networks to list')
    for seed, share in enumerate((0.3, 0.5, 0.2, 0.8)):
        g = torch.Generator().manual_seed(seed)
        probs = {n: (seed * torch.randn(len(c), generator=g)).softmax(0) for n, c in choices(space).items()}
        probs = {n: p * choices(space)[n].alive for n, p in probs.items()}
        limits = limits_among(costs, share)[: 1 + seed % 2]
        market = _market(space, limits, probs)
        found = encode(space, derive(space, limits, probs))
        assert market.fits(found)[0]
        assert float(market.worth(found)[0]) == pytest.approx(best_that_uses(market, rows), abs=1e-5)


@pytest.mark.parametrize('name', SPACES)
@pytest.mark.parametrize('strategy', STRATEGIES)
def test_each_strategy_on_each_space(strategy, name):
    "A network within all limits, and something learned; what was never alive stays so."
    if strategy in SEES_SCORES and name not in FEW:
        pytest.skip('asks for rows and is told scores, whatever the space')
    if name == 'shared backbone' and strategy not in FEW_ON_HEADS:
        pytest.skip('sees the losses of several tasks as these do')
    space, costs = deepcopy(known(name))  # of the copy, which the search changes
    given, limits, one = deepcopy(space.state_dict()), limits_among(costs), STRATEGIES[strategy]()
    trained = one.search(space, task_for(space), limits, Loop(seed=1, progress=False))
    arch = one.derive(space, limits)
    assert torch.equal(encode(space, decode(space, encode(space, arch))), encode(space, arch))
    assert all(cost(arch) <= bound for cost, bound in limits) and trained.history
    state = space.state_dict()
    assert all(t.isfinite().all() for t in state.values())
    trains = any(not torch.equal(t, given[n]) for n, t in state.items() if 'alpha' not in n and t.is_floating_point())
    assert trains == (one.epochs > 0)
    assert all(torch.equal(state[n], given[n]) for n in state if n.endswith('alive')), (
        'a search changes which options there are'
    )
