"Searches that ask and tell: what a sampler guards, what a search goes on with, and evolution driven from outside."

import inspect, math, sys
from pathlib import Path
import numpy as np
import pytest, torch
from nas_suite import search
from nas_suite.choices import decode, encode, largest, smallest, structure
from nas_suite.costs import macs, params
from nas_suite.strategies.black_box import BlackBox
from nas_suite.strategies.bayesian import Bayesian
from nas_suite.strategies.evolution import Evolution, Population, evolve
from nas_suite.strategies.gated import Gated
from nas_suite.strategies.local_search import LocalSearch
from nas_suite.strategies.random import Random
from nas_suite.strategies.ridge import Ridge
from nas_suite.strategies.sensitivity import Sensitivity
from nas_suite.strategies.scores import Accuracy
from nas_suite.strategies.short_training import ShortTraining, alike
from nas_suite.training import Loop

sys.path.insert(0, str(Path(__file__).parent))
from cross_entropy import CrossEntropy
from test_search import mobile
from test_supernet import Net, landscape, space, task_for

cost = macs(space, space.input_shape)
half = [(cost, (cost(smallest(space)) + cost(largest(space))) / 2)]


def driven(strategy, turns=20, n=7, limits=half, score=landscape):
    at_work = search.sample(space, strategy, limits, seed=3)
    for _ in range(turns):
        archs = at_work.ask(n)
        at_work.tell(archs, score(encode(space, archs)))
    return at_work


kinds = [kind for kind in search.strategies().values() if issubclass(kind, BlackBox) and kind is not Sensitivity]  # needs data
ours = [Random, LocalSearch, Ridge, Bayesian, lambda: Evolution(population=12, parents=4, finalists=4)]


@pytest.mark.parametrize('make', [CrossEntropy, *ours])
@pytest.mark.parametrize(
    'limits', [[], half, [(cost, cost(smallest(space)))]], ids=['none', 'half', 'the smallest alone']
)
def test_asked_networks_are_within_limits_and_told_the_same_again(make, limits):
    first, again = driven(make(), limits=limits), driven(make(), limits=limits)
    assert first.told == again.told and len(first.told) > 0
    assert all(price(one.arch) <= most for one in first.told for price, most in limits)
    assert first.best().score == max(one.score for one in first.told)


def test_failures_never_win():
    def failing(rows):
        scores = landscape(rows)
        return scores.masked_fill(scores > scores.median(), math.nan)

    for strategy in (CrossEntropy(), *(make() for make in ours)):
        told = driven(strategy, score=failing)
        assert told.best().score < math.inf and any(one.score == -math.inf for one in told.told)
        assert driven(strategy, turns=2, score=lambda rows: landscape(rows) * math.nan).best() is None


def test_what_is_refused():
    with pytest.raises(TypeError, match='Gated has no ask and tell'):
        search.sample(space, Gated())
    with pytest.raises(ValueError, match='smallest reaches'):
        search.sample(space, CrossEntropy(), [(cost, 1)])
    with pytest.raises(ValueError, match='one score'):
        driven(CrossEntropy(), turns=1).tell([smallest(space)], [])
    with pytest.raises(ValueError, match='elite'):
        CrossEntropy(elite=0)
    assert 'blackbox' not in search.strategies() and 'evolution' in search.strategies()


def test_a_population_told_in_parts_is_the_one_that_evolve_breeds():
    budgets = [half[0][1], 1.2 * cost(smallest(space))]
    settings = dict(population=12, parents=4, patience=3, generations=10, seed=2)
    whole, people = (
        evolve(space, landscape, [cost], budgets, **settings),
        Population(space, [cost], budgets, **settings),
    )
    while not people.done:
        while len(rows := people.ask(5)):
            people.tell(rows.flip(0), landscape(rows.flip(0)))
    rows, scores = people.best()
    assert torch.equal(rows, whole.rows) and torch.equal(scores, whole.scores) and people.history == whole.history[:-1]


class Noted(CrossEntropy):
    "Notes what it is told, and breaks off after so many networks."

    def begin(self, space, limits, seed):
        super().begin(space, limits, seed)
        self.heard, self.most = [], getattr(self, 'most', math.inf)

    def tell(self, archs, scores):
        super().tell(archs, scores)
        self.heard += zip(archs, scores)
        if len(self.heard) >= self.most:
            raise KeyboardInterrupt


def test_a_search_that_was_cut_off_evaluates_nothing_twice(tmp_path, monkeypatch):
    calls, plain = [], Accuracy.network
    monkeypatch.setattr(Accuracy, 'network', lambda self, arch: calls.append(arch) or plain(self, arch))

    def go(folder, most=math.inf):
        torch.manual_seed(0)
        net, strategy = Net(), Noted(epochs=1, evaluations=12, batch=4)
        strategy.most, limits = most, [(macs(net, net.input_shape), half[0][1])]
        strategy.search(net, task_for(), limits, Loop(seed=1, checkpoint=folder / 'search.pt', progress=False))
        return strategy.heard, strategy.derive(net, limits)

    whole, n = go(tmp_path / 'whole'), len(calls)
    calls.clear()
    with pytest.raises(KeyboardInterrupt):
        go(tmp_path / 'cut', most=8)
    assert (tmp_path / 'cut' / 'scores.json').exists() and 0 < len(calls) < n
    assert go(tmp_path / 'cut') == whole and len(calls) <= n + 4  # those of the batch that was not written
    assert len(whole[0]) == 12


def test_tighter_limits_pick_another_of_the_same_and_looser_ones_look_again():
    torch.manual_seed(0)
    net, strategy = Net(), CrossEntropy(epochs=1, evaluations=12, batch=6)
    price = macs(net, net.input_shape)
    strategy.search(net, task_for(), [(price, half[0][1])], Loop(progress=False))
    for most, searches in ((half[0][1], 1), (0.9 * half[0][1], 1), (price(largest(net)), 2)):
        assert price(strategy.derive(net, [(price, most)])) <= most and len(strategy.searched) == searches


def test_a_strategy_without_ask():
    with pytest.raises(TypeError, match='BlackBox has no ask'):
        search.sample(space, BlackBox()).ask()


@pytest.mark.parametrize('kind', kinds)
def test_none_are_asked_for_before_and_after_others(kind):
    for limits in [], half:
        at_work = search.sample(space, kind(), limits, seed=1)
        for n in (0, 3, 0, 2, 2, 0):
            archs = at_work.ask(n)
            assert len(archs) <= n and (n or archs == [] == kind.ask(at_work.strategy, 0))
            at_work.tell(archs, landscape(encode(space, archs)))
        with pytest.raises(ValueError, match='n is out of range: -1'):
            at_work.ask(-1)


def wrong(parameter) -> list:
    "Values that no setting with such a default can have."
    if isinstance(parameter.default, bool):
        return []
    return ['none of these', 3] if isinstance(parameter.default, str) else [-1, math.nan, math.inf, 'many', [1]]


@pytest.mark.parametrize('kind', kinds)
def test_settings_out_of_range_are_said_by_name(kind):
    for parameter in inspect.signature(kind).parameters.values():
        for value in wrong(parameter):
            with pytest.raises(ValueError, match=parameter.name):
                kind(**{parameter.name: value})


@pytest.mark.parametrize(
    'settings',
    [
        dict(population=4),
        dict(population=20, parents=20),
        dict(population=1, parents=1),
        dict(parents=0),
        dict(mutation=1.5),
        dict(mutation=-0.1),
        dict(patience=0),
        dict(generations=-1),
        dict(generations=2.5),
    ],
    ids=str,
)
def test_a_population_that_cannot_be(settings):
    with pytest.raises(ValueError, match=' is out of range'):
        evolve(space, landscape, [cost], [half[0][1]], **settings)


def test_more_than_is_asked_for_before_anything_is_told():
    "Those that learn have nothing to learn from yet, and ask for more random networks."
    for kind in (Ridge, Bayesian):
        at_work = search.sample(space, kind(), half)
        archs = at_work.ask(12) + at_work.ask(12)
        assert len(archs) == len(encode(space, archs).unique(dim=0))
        at_work.tell(archs, landscape(encode(space, archs)))
        assert at_work.ask(1)


def test_bayesian_optimisation_is_what_a_loop_gets_by_default():
    assert isinstance(search.sample(space).strategy, Bayesian)
    assert isinstance(search.sample(space, 'localsearch', half).strategy, LocalSearch)


def test_a_search_that_is_stuck_begins_anew_and_asks_for_nothing_twice():
    at_work = driven(Bayesian(patience=5), turns=40, score=lambda rows: -(rows == rows[:1]).double().sum(1) * 0)
    rows = encode(space, [one.arch for one in at_work.told])
    assert len(rows) == len(rows.unique(dim=0)) > 60 and at_work.strategy.since > 0


def test_short_trainings_go_on_where_hardly_any_is_within_a_bent_budget():
    "What was trained is remembered, the best of it is taken where enough is left, and nothing is trained twice."
    space = mobile(depths=(3,), expands=(1, 2, 3))
    cost, asked = macs(space, (1, 8, 8)), []

    def judged(rows):
        asked.extend(map(tuple, rows.tolist()))
        return cost.batch(rows)

    short = ShortTraining(evaluations=6, batch=2, parents=2)
    short.seed, short.progress, short.searched, short.accuracy = 0, False, [], judged
    most = 0.8 * cost(largest(space))
    short.look(space, [(cost, most)])
    first = list(asked)
    assert len(first) == len(set(first)) == 6
    costs = sorted((float(cost.batch(torch.tensor([row]))[0]) for row in first), reverse=True)
    assert cost(short.derive(space, [(cost, most)])) == costs[0] and len(asked) == 6
    bent = costs[4]  # two are left
    assert cost(short.derive(space, [(cost, bent)])) == bent and len(asked) == 6
    best = cost(short.derive(space, [(cost, costs[5])]))  # one is left
    assert len(asked) > 6 and best == costs[5] and len(set(asked)) == len(asked)


def test_short_trainings_learn_which_operator_is_good_wherever_it_stands():
    "Twelve noisy scores, in a space of more options: those are asked for that have most of the good one."
    space = mobile(widths=(8, 16), depths=(3, 3), expands=(1, 2, 3))
    good, limited = [], params(space, (1, 8, 8))

    def judged(rows):
        liked = [sum(option == 'mb2_k3' for option in arch.values()) for arch in decode(space, rows)]
        good.extend(liked)
        return torch.tensor(liked, dtype=torch.float64) + torch.randn(len(rows), generator=generator)

    generator = torch.Generator().manual_seed(0)
    short = ShortTraining(evaluations=12, batch=2, parents=3)
    short.seed, short.progress, short.searched, short.accuracy = 0, False, [], judged
    limits = [(limited, 0.8 * limited(largest(space)))]
    short.look(space, limits)
    assert sum(good[6:]) > sum(good[:6]) and max(good[6:]) > max(good[:6])
    found = short.derive(space, limits)
    assert sum(option == 'mb2_k3' for option in found.values()) >= max(good) - 1 and len(good) == 12


def test_networks_are_alike_by_what_they_have_and_where():
    told = driven(Random(), turns=3)
    rows, s = encode(space, [one.arch for one in told.told]), structure(space)
    found = alike(s, rows, rows)
    assert abs(found.diagonal() - 1).max() < 1e-9 and (found == found.T).all() and found.max() < 1 + 1e-9
    assert np.linalg.eigvalsh(found).min() > -1e-9
    assert np.allclose(alike(s, rows[:2], rows), found[:2])
