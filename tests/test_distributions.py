"Distributions over networks: PARSEC and the natural gradient with all networks of NAS-Bench-201, and with a few of them."

import math, sys
from pathlib import Path
import pytest, torch
from torch import nn
from nas_suite import search
from nas_suite.choices import canonical, encode, one_of, structure
from nas_suite.strategies.black_box import sampler
from nas_suite.strategies.distributions import Distribution, Joint, importance
from nas_suite.strategies.natural_gradient import (
    NaturalGradient,
    lattice_paths,
    lattice_size,
    moved,
    replicator,
    utilities,
)
from nas_suite.strategies.probabilistic import Probabilistic
from nas_suite.training import Loop
from scipy.stats import rankdata

sys.path.insert(0, str(Path(__file__).parent))
import tables
from test_black_box import driven, half
from test_contracts import SPACES, limits_of
from test_supernet import Net, task_for

BOTH = [Probabilistic, NaturalGradient]
MIXTURE = {  # step -> log likelihood, entropy, mode
    0: (-3.417487, 9.6566, None),
    1: (-2.948288, 9.6043, [3, 3, 3, 1, 3, 3]),
    10: (-0.851818, 6.8565, [3, 3, 3, 1, 3, 3]),
    20: (-0.434307, 4.8832, [3, 3, 3, 1, 3, 3]),
    50: (-0.172672, 2.7373, [3, 3, 3, 1, 3, 3]),
    100: (-0.073759, 1.5656, [3, 3, 3, 1, 2, 3]),
    200: (-0.029335, 0.7199, [3, 3, 3, 1, 2, 3]),
}
REPLICATOR = {  # step -> expected utility, entropy
    0: (0.5, 9.6566),
    1: (0.520912, 9.6514),
    10: (0.681322, 9.2330),
    20: (0.788068, 8.4730),
    50: (0.953031, 6.2150),
    100: (0.988670, 4.9200),
    200: (0.995051, 4.0988),
}


def test_the_mixture_of_all_cells():
    "The likelihood never falls, and the numbers are those that were published with the formulas."
    table = tables.nasbench201()
    rows, known = table.rows(), Distribution(table.space)
    logs, logits, before = (table.signal(rows) - table.signal(rows).max()) / 2, torch.zeros(6, 5).double(), -math.inf
    for step in range(201):
        joint = known.log_prob(rows) + logs
        likelihood = float(joint.logsumexp(0))
        assert likelihood >= before
        before = likelihood
        if step in MIXTURE:
            wanted, entropy, mode = MIXTURE[step]
            assert (round(likelihood, 6), round(known.entropy, 4)) == (wanted, entropy)
            assert mode is None or known.mode()[0].tolist() == mode
        logits += known.towards(rows, importance(joint))
        known.probs = logits.softmax(1)
    assert float(table.truth(rows).max() - table.truth(known.mode())) == 0


def test_the_replicator_of_all_cells():
    table = tables.nasbench201()
    rows, known = table.rows(), Distribution(table.space)
    ranks = torch.from_numpy(rankdata(table.signal(rows).numpy()) - 1) / (len(rows) - 1)
    for step in range(201):
        entropy, mode, before = known.entropy, known.mode()[0].tolist(), known.probs
        utility = float(replicator(known, rows, ranks))
        if step in REPLICATOR:
            assert (round(utility, 6), round(entropy, 4)) == REPLICATOR[step]
        assert step == 0 or mode == [3, 3, 3, 1, 3, 3]
        if step == 1:
            wanted = [0.197317, 0.201653, 0.208559, 0.209966, 0.182505]
            assert before[0].tolist() == pytest.approx(wanted, abs=5e-7)
    assert torch.allclose(known.probs.sum(1), torch.ones(6).double()) and (known.probs >= 0).all()


# ---------------------------------------------------------------- any space

SMALL = 'proxyless, restricted', 'once-for-all', 'tdnn', 'all kinds', 'depths'


def listed(space):
    s = structure(space)
    rows = torch.cartesian_prod(*(torch.tensor(c.survivors) for c in s.choices)).view(-1, len(s.choices))
    return canonical(space, rows).unique(dim=0)


def shaken(space, seed=0):
    known = Distribution(space)
    logits = torch.randn(known.probs.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    known.probs = logits.masked_fill(~known.alive, -torch.inf).softmax(1)
    return known, logits


@pytest.mark.parametrize('name', SMALL)
def test_networks_are_as_frequent_as_probable(name):
    space = SPACES[name][0]()
    known, _ = shaken(space)
    rows = listed(space)
    assert float(known.log_prob(rows).exp().sum()) == pytest.approx(1)
    drawn = known.draw(20_000, torch.Generator().manual_seed(0))
    often = (drawn[:, None] == rows).all(2).double().mean(0)
    assert (often - known.log_prob(rows).exp()).abs().max() < 0.015
    assert all(known.alive[d, o] for row in drawn for d, o in enumerate(row.tolist()) if o)


@pytest.mark.parametrize('name', SMALL)
def test_the_direction_of_all_networks_is_the_gradient(name):
    "Weighed by probability times likelihood, it is the gradient of the mixture's log likelihood by the logits."
    space = SPACES[name][0]()
    known, logits = shaken(space)
    rows, s = listed(space), structure(space)
    logs = torch.randn(len(rows), generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    logits = logits.clone().requires_grad_()
    known.probs = logits.masked_fill(~known.alive, -torch.inf).softmax(1)
    joint = known.log_prob(rows) + logs
    (exact,) = torch.autograd.grad(joint.logsumexp(0), logits)
    known.probs = known.probs.detach()
    assert torch.allclose(known.towards(rows, importance(joint.detach())), exact, atol=1e-9)
    assert len(s.choices) == len(exact)


def test_weights():
    logs = torch.tensor([-5000.0, -5001.0, -4999.5, -math.inf]).double()
    assert float(importance(logs).sum()) == pytest.approx(1)
    assert torch.allclose(importance(logs), importance(logs + 12345.0), atol=1e-12)
    scores = torch.tensor([1.0, 3.0, 2.0, 2.0, -math.inf, -math.inf]).double()
    assert float(utilities(scores).sum()) == pytest.approx(0, abs=1e-12)
    assert torch.equal(utilities(scores), utilities(scores * 100)) and utilities(scores)[2] == utilities(scores)[3]
    assert utilities(scores).argmax() == 1
    known = Distribution(nn.ModuleDict(dict(a=one_of(1, 2, 3))))
    for _ in range(50):
        known.probs = moved(known, torch.tensor([[0], [1], [2]]), torch.tensor([1.0, -0.5, -0.5]), 0.3)
    assert known.probs.min() >= 1e-3 / 1.35 and float(known.probs.sum()) == pytest.approx(1)


@pytest.mark.parametrize('kind', BOTH)
def test_nothing_is_asked_for_twice_or_beyond_a_limit(kind):
    for limits in ([], half):
        told, again = driven(kind(), limits=limits), driven(kind(), limits=limits)
        assert told.told == again.told and told.told
        rows = encode(told.space, [one.arch for one in told.told])
        assert len(rows) == len(rows.unique(dim=0))
        assert all(cost(one.arch) <= most for one in told.told for cost, most in limits)
        scores = torch.tensor([one.score for one in told.told])
        assert scores[len(scores) // 2 :].mean() > scores[: len(scores) // 4].mean()


@pytest.mark.parametrize('kind', BOTH)
@pytest.mark.parametrize('name', SMALL)
def test_a_limit_that_one_network_meets(kind, name):
    space = SPACES[name][0]()
    limits = [(cost, cost.cheapest()[0]) for cost, _ in limits_of(space)[:1]]
    told = search.sample(space, kind(), limits)
    archs = told.ask(10)
    assert archs and all(cost(arch) <= most for arch in archs for cost, most in limits)
    told.tell(archs, [math.nan] * len(archs))
    told.ask(10)


def test_more_networks_where_less_is_decided():
    strategy = Probabilistic(draws=0.25, least=4)
    assert [strategy.count(nats) for nats in (9.6566, 20.1, 40.0, 0.0)] == [4, 6, 10, 4]
    assert Probabilistic(draws=1.0).count(6 * math.log(5)) == 10


def test_a_hundred_cells_by_scores():
    "Of all 15,625, with a few networks at a time: better than as many random ones, which are .69 below the best."
    table = tables.nasbench201()
    for strategy in (Probabilistic(least=10), NaturalGradient()):
        lost = []
        for seed in range(4):
            rows, _ = tables.searched(table, strategy, [], 100, seed)
            lost.append(float(table.truths.max()) - tables.reported(table, rows, 100))
        assert sum(lost) / len(lost) < 0.69


# ---------------------------------------------------------------- the search of a supernet


def test_paths_are_trained_and_probabilities_move():
    space, seen = Net(), []
    limits = limits_of(space)
    strategy = Probabilistic(epochs=6, batch_size=4, warmup=0.3)
    before = {n: p.clone() for n, p in space.state_dict().items()}
    history = strategy.search(space, task_for(), limits, Loop(progress=False)).history
    for row in history:
        seen.append(row['drawn'])
        assert {'loss', 'entropy', 'probs', 'cost', 'multiplier'} <= set(row)
    first = next(i for i, row in enumerate(history) if 'arch_loss' in row)
    assert set(seen[:first]) == {1} and min(seen[first:]) >= 4
    assert history[-1]['entropy'] < history[0]['entropy']
    moved_parts = [n for n, p in space.state_dict().items() if not torch.equal(p, before[n])]
    assert any('alpha' in n for n in moved_parts) and any('weight' in n for n in moved_parts)
    arch = strategy.derive(space, limits)
    assert all(cost(arch) <= most for cost, most in limits)


def test_lattices():
    assert [len(lattice_paths(layers)) for layers in (5, 6, 8, 10, 15)] == [10, 60, 560, 2520, 30030]
    assert lattice_size(lattice_paths(5)) == (12, 17)
    for path in lattice_paths(8):
        assert path[0] == (0, 0) and path[-1] == (5, 2) and len(path) == 9
        assert all((b[0] - a[0], b[1] - a[1]) in ((0, 0), (1, 0), (1, 1)) for a, b in zip(path, path[1:]))
    assert math.comb(20, 5) * 10 == 155_040 and len(set(lattice_paths(10))) == 2520


# ---------------------------------------------------------------- choices that are looked at together

PAIRS = {  # step -> log likelihood of the mixture, entropy: with a table for each two edges, of all cells, rate 1
    0: (-3.417487, 9.6566),
    10: (-2.179268, 9.1643),
    50: (-0.249497, 3.1745),
    100: (-0.051396, 0.8990),
}


def paired(known):
    names = known.structure.names
    return Joint(known, [names[i : i + 2] for i in range(0, 6, 2)])


def test_a_joint_table_begins_as_the_outer_product():
    table = tables.nasbench201()
    rows = table.rows()
    known, _ = shaken(table.space)
    joint = paired(known)
    assert torch.allclose(joint.log_prob(rows), known.log_prob(rows), atol=1e-12)
    assert joint.entropy == pytest.approx(known.entropy) and torch.equal(joint.mode(), known.mode())
    for name, p in known.named().items():
        assert torch.allclose(joint.named()[name], p, atol=1e-12)
    drawn = joint.draw(1000, torch.Generator().manual_seed(0))
    assert torch.equal(joint._rows(joint.codes(drawn)), drawn)
    alone = Joint(known, [])  # nothing is together: the same numbers to the bit
    assert torch.equal(alone.probs, known.probs)
    weights = importance(table.signal(rows))
    assert torch.allclose(alone.towards(rows, weights), known.towards(rows, weights), atol=1e-12)


def test_the_direction_of_a_joint_table_is_the_gradient():
    table = tables.nasbench201()
    rows, (known, _) = table.rows(), shaken(table.space)
    joint, logs = paired(known), table.signal(rows) / 2
    logits = joint.probs.log().clone().requires_grad_()
    joint.probs = logits.softmax(1)
    both = joint.log_prob(rows) + logs
    (exact,) = torch.autograd.grad(both.logsumexp(0), logits)
    joint.probs = joint.probs.detach()
    assert torch.allclose(joint.towards(rows, importance(both.detach())), exact, atol=1e-9)


def test_the_mixture_of_all_cells_in_pairs():
    "Tables of pairs say more than independent choices, step by step; the likelihood never falls."
    table = tables.nasbench201()
    rows, joint = table.rows(), paired(Distribution(table.space))
    logs, before = (table.signal(rows) - table.signal(rows).max()) / 2, -math.inf
    for step in range(101):
        both = joint.log_prob(rows) + logs
        assert (likelihood := float(both.logsumexp(0))) >= before
        before = likelihood
        if step in PAIRS:
            assert (round(likelihood, 6), round(joint.entropy, 4)) == PAIRS[step]
            assert not step or joint.mode()[0].tolist() == [3, 3, 3, 1, 2, 3]  # the best cell of all
        joint.probs = (joint.probs.log() + joint.towards(rows, importance(both))).softmax(1)


def test_groups_by_scores():
    table = tables.nasbench201()
    names = Distribution(table.space).structure.names
    for groups, said in (([['x']], 'no choice'), ([names[:2], names[1:3]], 'in two groups')):
        with pytest.raises(ValueError, match=said):
            sampler(table.space, Probabilistic(groups=groups))
    with pytest.raises(ValueError, match='groups is a list of lists'):
        Probabilistic(groups=['x'])
    at_work = sampler(table.space, Probabilistic(draws=1.0, groups=[names[:3], names[3:]], coarse=30))
    shapes = []
    for _ in range(30):
        archs = at_work.ask(10)
        at_work.tell(archs, table.signal(encode(table.space, archs)).tolist())
        shapes.append(tuple(at_work.strategy.known.probs.shape))
    assert shapes[0] == (6, 5) and shapes[-1] == (2, 125)
    assert at_work.best().score > float(table.signal(table.rows()).quantile(0.99))
