"Derivation within several budgets against enumeration, finalists, and what a strategy's settings are."

from types import SimpleNamespace
import pytest, torch
from torch import nn
from nas_suite.choices import *
from nas_suite.costs import cost_of, macs, params, programme
from nas_suite.layers import *
from nas_suite.strategies.base import Strategy
from nas_suite.strategies.gated import Gated
from nas_suite.strategies.regularized import Regularized
from nas_suite.relaxation import draw_gates
from nas_suite.strategies.steps import _market, architecture_gradients, derive, finalists, fitting


def chain(strides=(1, 2, 2, 2, 1)):
    "Widths whose MACs lie in the first half and whose parameters lie in the second."
    widths = [one_of(4, 8, 12, 16) for _ in strides]
    return nn.Sequential(
        *(ElasticConv2d(a, b, 3, stride=s, padding=1) for a, b, s in zip([3, *widths], widths, strides))
    )


space = chain()
cheap, heavy = macs(space, (3, 16, 16)), params(space, (3, 16, 16))
late = macs(chain((2, 2, 1, 1, 1)), (3, 16, 16))  # a third budget, of another machine so to say
late.structure = cheap.structure
rows = torch.cartesian_prod(*(torch.arange(4),) * 5)


def beliefs(seed):
    g = torch.Generator().manual_seed(seed)
    return {n: (torch.randn(4, generator=g) + torch.tensor([0.0, 0.4, 0.8, 1.2])).softmax(0) for n in choices(space)}


def limits_of(seed, costs):
    shares = 0.1 + 0.6 * torch.rand(len(costs), generator=torch.Generator().manual_seed(seed))
    return [(cost, s * float(cost.batch(rows).max())) for cost, s in zip(costs, shares.tolist())]


def best_of_all(market, rows):
    "What is worth most within all budgets, of those networks that use one, or nearly as much of one as any; None for none."
    fits, used = market.fits(rows), market.used(rows)
    if not fits.any():
        return None
    least = 0.98 if float(used[fits].max()) >= 0.98 else 0.98 * float(used[fits].max())
    return float(market.worth(rows)[fits & (used >= least - 1e-12)].max())


@pytest.mark.parametrize('costs', [(cheap,), (cheap, heavy), (cheap, heavy, late)], ids=len)
def test_derivation_against_all_networks(costs):
    "Within every budget, one of them used, and the best of all that are so."
    found = 0
    for seed in range(8):
        limits, probs = limits_of(seed, costs), beliefs(seed) if seed else {n: torch.ones(4) / 4 for n in choices(space)}
        market = _market(space, limits, probs)
        want = best_of_all(market, rows)
        if want is None:
            with pytest.raises(ValueError, match='no architecture'):
                derive(space, limits, probs)
            continue
        arch = derive(space, limits, probs)
        assert all(cost(arch) <= limit for cost, limit in limits)
        assert float(market.worth(encode(space, arch))[0]) == pytest.approx(want, abs=1e-5)
        near = market.nearly()  # the search for what is too large for a programme
        assert near is None or market.fits(near)[0] and float(market.worth(near)[0]) <= want + 1e-9
        found += near is not None
    assert found >= 6


def test_each_budget_has_its_own_price():
    "Where only one of two budgets is tight, the other costs nothing: each alone would be filled otherwise."
    probs, limits = beliefs(11), [(c, share * c(largest(space))) for c, share in ((cheap, 0.28), (heavy, 0.61))]
    market = _market(space, limits, probs)
    own = encode(space, derive(space, limits, probs))
    assert float(market.worth(own)[0]) == pytest.approx(best_of_all(market, rows), abs=1e-6)
    assert market.used(own)[0] >= 0.98 and market.shares(own).min() < 0.9


def test_a_budget_that_nothing_uses_is_used_as_far_as_can_be():
    "More than the largest network takes: what is most probable within 2 % of the largest."
    probs, limits = beliefs(3), [(cheap, 2 * cheap(largest(space)))]
    arch, market = derive(space, limits, probs), _market(space, limits, probs)
    assert 0.49 <= cheap(arch) / limits[0][1] <= 0.5
    assert float(market.worth(encode(space, arch))[0]) == pytest.approx(best_of_all(market, rows), abs=1e-6)


def test_a_budget_is_kept_to_the_last_digit():
    "A network above a budget by less than the solver sees is passed over."
    costs = cheap.batch(rows).unique()
    for cost in costs[[len(costs) // 4, len(costs) // 2]].tolist():
        for most in (cost, cost * (1 - 1e-9)):
            assert cheap(derive(space, [(cheap, most)], beliefs(5))) <= most


def test_what_is_too_large_for_a_programme_is_searched(monkeypatch):
    monkeypatch.setattr(programme, '_MOST', 10)
    limits = limits_of(2, (cheap, heavy))
    market = _market(space, limits, beliefs(2))
    with pytest.warns(UserWarning, match='84 unknowns'):
        arch = derive(space, limits, beliefs(2))
    assert market.fits(encode(space, arch))[0] and market.used(encode(space, arch))[0] >= 0.98


@pytest.mark.parametrize('alone', [True, False])
def test_a_peak_within_its_budget_is_nothing_to_seek(alone):
    "The likeliest network fits: the rest of a budget may be spent, but a larger maximum buys nothing."
    peak = cost_of(space, (3, 16, 16), lambda unit, inputs, outputs: float(inputs[0][1]), 'peak', reduce='max')
    limits = [(peak, 1e6)] if alone else [(peak, 1e6), (cheap, 0.8 * cheap(largest(space)))]
    arch, likeliest = (
        derive(space, limits, beliefs(0)),
        _market(space, limits, beliefs(0)).best([0.0, 0.0][: len(limits)]),
    )
    assert all(cost(arch) <= limit for cost, limit in limits)
    if alone:
        assert arch == decode(space, likeliest)[0]


def test_whether_a_network_fits():
    low = [(c, float(c.batch(rows).min())) for c in (cheap, heavy)]
    assert (
        torch.equal(fitting(space, low), encode(space, smallest(space)))
        and fitting(space, [low[0], (heavy, low[1][1] - 1)]) is None
    )
    for seed in range(8):
        limits = limits_of(seed, (cheap, heavy))
        row, market = fitting(space, limits), _market(space, limits, beliefs(0))
        assert (row is not None) == bool(market.fits(rows).any()) and (row is None or market.fits(row)[0])


def test_finalists_are_judged_for_real():
    some, judged = rows[torch.randperm(len(rows), generator=torch.Generator().manual_seed(0))[:30]], []

    def judge(rows):
        judged.append(len(rows))
        return heavy.batch(rows)

    guess = torch.arange(30.0, 0, -1)
    guess[20:] = -torch.inf
    best = finalists(space, some, guess, judge, n=12)
    at = int(heavy.batch(some[:12]).argmax())
    assert (
        judged == [12]
        and best.arch == decode(space, some[at])[0]
        and best.score == heavy(best.arch)
        and best.guess == 30.0 - at
    )
    finalists(space, some, guess, judge, n=28)
    assert judged[1] == 20  # a row without a guess holds no network


def test_small_gradients_survive_sixteen_bits():
    "The loss is multiplied before, and the gradient divided after; where that is infinite there is no step."

    def grads(scale, size=1.0):
        mix = nn.Sequential(MixedOp([nn.Identity(), nn.Tanh(), Zero()]))
        scaler = SimpleNamespace(get_scale=lambda: scale)
        loop = None if scale is None else SimpleNamespace(
            scaler=scaler, mean=list, watch=lambda out: None, device=torch.device('cpu')
        )
        selection, _ = draw_gates(mix, 'full', torch.Generator().manual_seed(0))
        return architecture_gradients(mix, selection, lambda: size * mix(torch.ones(2)).sum(), loop)[1][0]

    torch.testing.assert_close(grads(2.0**16), grads(None))
    assert (
        torch.equal(grads(1.0), grads(None))
        and float(grads(None).abs().sum()) > 0
        and torch.equal(grads(2.0**16, 1e36), torch.zeros(3))
    )


# ---------------------------------------------------------------- settings


@pytest.mark.parametrize('strategy', [Gated(epochs=3, alpha_lr=0.5), Regularized(strength=dict(width=0.2), held=False)])
def test_settings_are_all_that_a_strategy_is(strategy):
    facts = strategy.config()
    assert type(strategy)(**facts) == strategy and type(strategy)() != strategy
    with pytest.raises(TypeError, match='colour'):
        type(strategy)(**facts, colour=1)


def test_a_class_of_ones_own():
    class Mine(Strategy):
        def __init__(self, tries=3):
            self.tries, self.known = tries, {}

    assert Mine(5).config() == dict(tries=5) and not Mine.keeps_weights
    with pytest.raises(TypeError, match='Mine has no search'):
        Mine().search(space, None, [], None)
    with pytest.raises(ValueError, match='tries is out of range: 0'):
        Mine(0).check(tries=False)
