"Networks that fill a budget: all within it, full, distinct, and each as likely as it is drawn."

import sys
from pathlib import Path
import pytest, torch
from hypothesis import given, settings, strategies as st
from nas_suite.choices import Space, canonical, one_of, sample, structure
from nas_suite.costs import CostModel, macs, params
from nas_suite.costs.tables import Term
from nas_suite.strategies import filling as module
from nas_suite.strategies.filling import filling

sys.path.insert(0, str(Path(__file__).parent))
from spaces import fixed, rows as every_row, spaces
from tables import CAPS, budgeted, capped, nasbench201, nasbench_macro
from unit_costs import peak_memory


def fill_of(space, limits):
    return module._Fill(structure(space), limits)


shares = st.sampled_from([(0.1, 0.1), (0.4, 0.4), (0.9, 0.3), (1.5, 1.5)])


@settings(max_examples=10)
@given(spaces(), st.integers(0, 10**6), shares, st.booleans())
def test_all_networks_within_limits_the_full_ones_first(space, seed, shares, peak):
    costs = [macs(space, space.input_shape), (peak_memory if peak else params)(space, space.input_shape)]
    rows, limits = every_row(space), []
    for cost, share in zip(costs, shares):
        paid = cost.batch(rows)
        limits.append((cost, float(paid.min() + share * (paid.max() - paid.min())) + 1e-6))
    part = fill_of(space, limits)(rows)
    if not (part >= 0).any():
        with pytest.raises(ValueError, match='all limits at once'):
            filling(space, limits, 5, seed)
        return
    found = filling(space, limits, len(rows), seed)
    assert {tuple(r) for r in found.tolist()} == {tuple(r) for r in rows[part >= 0].tolist()}
    assert len(found) == int((part >= 0).sum()) and torch.equal(canonical(space, found), found)
    used, bar = fill_of(space, limits)(found), module._bar(part, 0.9)
    n = int((part >= bar).sum())
    assert (used[:n] >= bar).all() and (used[n:] < bar).all() and (used[n:].diff() <= 0).all()
    assert torch.equal(filling(space, limits, 3, seed), found[:3])


class Plain(Space):
    input_shape = (1,)

    def __init__(self, choices, options):
        super().__init__()
        for i in range(choices):
            setattr(self, f'c{i}', one_of(*range(options)))


def additive(space, seed=0, reduce='sum'):
    s, generator = structure(space), torch.Generator().manual_seed(seed)
    terms = [
        Term(name, (d,), torch.rand(len(c), generator=generator).cumsum(0).double())
        for d, (name, c) in enumerate(zip(s.names, s.choices))
    ]
    return CostModel(s, s.column, terms, reduce, reduce=reduce)


def off(drawn, all_rows):
    "How far the share of each option among rows drawn without replacement is from that among all, in deviations."
    z = []
    for d in range(all_rows.shape[1]):
        for o in all_rows[:, d].unique():
            p, found = ((rows[:, d] == o).double().mean() for rows in (all_rows, drawn))
            sd = (p * (1 - p) / len(drawn) * (1 - len(drawn) / len(all_rows))).sqrt()
            z.append(float((found - p) / sd.clamp(min=1e-9)))
    return torch.tensor(z)


@pytest.mark.parametrize('walked', [False, True])
@pytest.mark.parametrize('share', [0.1, 0.5])
def test_full_networks_are_equally_likely(walked, share, monkeypatch):
    "Those of an enumerated space, and those that walks find from random networks of which none is full."
    space = Plain(7, 4)
    cost, every = additive(space), torch.cartesian_prod(*[torch.arange(4)] * 7)
    limits = [(cost, float(cost.batch(every).quantile(share)))]
    fill = fill_of(space, limits)
    full = every[fill(every) >= 0.9]
    if walked:
        monkeypatch.setattr(module, '_SMALL', 0)
        away = every[(fill(every) < 0.9)]
        monkeypatch.setattr(
            module, 'sample', lambda s, n, generator: away[torch.randperm(len(away), generator=generator)[:n]]
        )
    found = filling(space, limits, 250)
    assert len(found.unique(dim=0)) == 250 and (fill(found) >= 0.9).all()
    z = off(found, full)
    assert z.abs().max() < 4 and z.square().mean() < 2


def test_networks_that_leave_choices_inactive_are_drawn_as_often_as_sample_draws_them():
    space = fixed()
    limits = [(macs(space, space.input_shape), 1e9)]
    drawn = torch.cat([filling(space, limits, 1, seed, used=0) for seed in range(200)])
    expected = sample(space, 20_000, torch.Generator().manual_seed(0)).double().mean(0)
    assert torch.allclose(drawn.double().mean(0), expected, atol=0.2)


@pytest.mark.parametrize('share', [0.1])
def test_large_spaces_under_sums_and_maxima(share):
    space = Plain(20, 5)
    limits = []
    for seed, reduce in enumerate(['sum', 'sum', 'max']):
        cost = additive(space, seed, reduce)
        low, high = cost.cheapest()[0], cost({n: 4 for n in structure(space).names})
        limits.append((cost, low + share * (high - low)))
    for some in (limits[:1], limits[:2], limits, limits[2:]):
        found = filling(space, some, 40, seed=1)
        part = fill_of(space, some)(found)
        assert len(found.unique(dim=0)) == 40 and part.min() >= module._bar(part, 0.9)
        assert torch.equal(found, filling(space, some, 40, seed=1))


def test_under_a_limit_that_nothing_reaches_the_fullest_come():
    space = Plain(20, 5)
    cost = additive(space)
    most = cost({n: 4 for n in structure(space).names})
    assert cost.batch(filling(space, [(cost, 3 * most)], 40)).min() > 0.8 * most


def test_tables():
    cells, chains = nasbench201(), nasbench_macro()
    rows = cells.rows()
    assert abs(float(cells.truth(rows).mean()) - 87.063) < 1e-3
    assert rows[cells.signal(rows).argmax()].tolist() == [3, 3, 3, 1, 2, 3]
    caps = [round(capped(cells, *cap)[0][1], 4) for cap in CAPS]
    assert caps == [15.7228, 25.6801, 14.1455, 18.0573, 12, 15, 2.9058, 3.725]
    rows, limits = chains.rows(), budgeted(chains, 0.5)
    fill = fill_of(chains.space, limits)(rows)
    assert int((fill >= 0).sum()) == 3504 and abs(float(chains.truth(rows)[fill >= 0].mean()) - 89.1) < 1e-3
    assert int((fill > 0.9).sum()) == 1002 and abs(float(chains.truth(rows)[fill > 0.9].mean()) - 90.665) < 1e-3
    found = filling(chains.space, limits, 1002)
    assert abs(float(chains.truth(found).mean()) - 90.665) < 1e-3
