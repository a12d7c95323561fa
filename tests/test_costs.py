"Costs against enumeration: sums and maxima, alone and together, on random small spaces; costs of one's own."
import itertools, math
import pytest, torch
from hypothesis import HealthCheck, given, settings, strategies as st
from torch import nn
from nas_suite.choices import *
from nas_suite.costs import *
from nas_suite.layers import *
from spaces import spaces

torch.set_num_threads(1)
D = torch.float64

def some(n): return settings(max_examples=n, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))

def every_row(space):
    live = [torch.tensor(c.survivors) for c in structure(space).choices]
    return torch.cartesian_prod(*live).view(-1, len(live))

def beliefs(space, seed):
    g = torch.Generator().manual_seed(seed)
    return {n: torch.randn(len(c), generator=g, dtype=D).softmax(0).requires_grad_() for n,c in choices(space).items()}

def mean(cost, space, probs):
    "The mean over every combination, inactive choices included."
    rows = torch.cartesian_prod(*(torch.arange(len(p)) for p in probs.values())).view(-1, len(probs))
    weight = math.prod((p[rows[:, d]] for d,p in enumerate(probs.values())), start=torch.ones((), dtype=D))
    return (cost.batch(canonical(space, rows)) * weight).sum()

def with_maximum(space):
    "The multiplications of a space, and the largest of its units' as a cost."
    total = macs(space, space.input_shape)
    return total, CostModel(total.structure, total.column, total.terms, 'largest', reduce='max')

@some(15)
@given(spaces(limit=40), st.integers(0, 10**6))
def test_a_maximum_equals_enumeration(space, seed):
    total, top = with_maximum(space)
    rows = canonical(space, every_row(space))
    archs = decode(space, rows[:8])
    assert [top(a) for a in archs] == top.batch(rows[:8]).tolist() == [max(total.parts(a).values(), default=0.) for a in archs]
    assert top.cheapest()[0] == float(top.batch(rows).min()) == top(top.cheapest()[1])
    if not (probs := beliefs(space, seed)): return
    want, found = mean(top, space, probs), top.expected(probs)
    torch.testing.assert_close(found, want, rtol=1e-9, atol=0)
    # probabilities sum to one: gradients are compared along that
    for a,b in zip(torch.autograd.grad(found, list(probs.values()), allow_unused=True), torch.autograd.grad(want, list(probs.values()), allow_unused=True)):
        a, b = (torch.zeros_like(b if a is None else a) if t is None else t for t in (a, b))
        torch.testing.assert_close(a - a.mean(), b - b.mean(), rtol=1e-7, atol=1e-7 * float(want.detach()))

@some(15)
@given(spaces(limit=40), st.integers(0, 10**6))
def test_the_least_of_sums_maxima_and_scores(space, seed):
    total, top = with_maximum(space)
    rows = every_row(space)
    g = torch.Generator().manual_seed(seed)
    scores = [float(total.batch(canonical(space, rows)).max()) * torch.randn(len(c), generator=g, dtype=D) for c in structure(space).choices]
    own = sum((s[rows[:, d]] for d,s in enumerate(scores)), torch.zeros(len(rows), dtype=D))
    for prices in ((1., 0.), (0., 3.), (.5, 2.)):
        costs = list(zip((total, top), prices))
        def worth(r): return sum(p * c.batch(canonical(space, r)) for c,p in costs)
        row = minimise(structure(space), costs)
        assert float(worth(row)) == pytest.approx(float(worth(rows).min()), rel=1e-12)
        row = minimise(structure(space), costs, scores)
        found = worth(row) + sum(s[row[:, d]] for d,s in enumerate(scores)) # every choice counts, whether it runs or not
        assert float(found) == pytest.approx(float((worth(rows) + own).min()), rel=1e-9)

def two(shared):
    "Two tables over three choices, of which they share one or none."
    a, b, c = one_of(1, 2), one_of(1, 2, 3), one_of(1, 2)
    toy = nn.ModuleList([a, b, c])
    g = torch.Generator().manual_seed(shared)
    terms = [Term('one', (0, 1), torch.rand(2, 3, generator=g, dtype=D)), Term('two', (1, 2) if shared else (2,), torch.rand(*[3, 2] if shared else [2], generator=g, dtype=D))]
    return toy, [CostModel(structure(toy), {a: 0, b: 1, c: 2}, terms, kind, reduce=kind) for kind in ('sum', 'max')]

@pytest.mark.parametrize('shared', [0, 1])
def test_two_maxima_and_a_sum(shared):
    toy, (total, top) = two(shared)
    other = CostModel(top.structure, top.column, [Term(t.label, t.axes, 1 - t.table) for t in top.terms], 'other', reduce='max')
    rows = every_row(toy)
    for prices in itertools.product((0., .3, 2.), repeat=3):
        costs = list(zip((total, top, other), prices))
        if not any(prices): continue
        def worth(r): return float(sum(p * c.batch(r) for c,p in costs))
        assert worth(minimise(structure(toy), costs)) == pytest.approx(min(worth(r[None]) for r in rows), rel=1e-12)

def test_a_maximum_can_be_calibrated_restricted_and_a_budget():
    toy, (_, top) = two(1)
    probs = beliefs(toy, 0)
    shifted = top.calibrated(2., 1.)
    assert shifted({'0': 1, '1': 2, '2': 2}) == 1 + 2*top({'0': 1, '1': 2, '2': 2})
    torch.testing.assert_close(shifted.expected(probs), 1 + 2*top.expected(probs))
    with pytest.raises(ValueError, match='the smallest reaches'): feasible(top, .5 * top.cheapest()[0])
    loss = LatencyAwareLoss(top, 1.1 * top.cheapest()[0])
    grads = torch.autograd.grad(loss(torch.tensor(1.), probs) + loss.excess(probs), list(probs.values()))
    assert all(torch.isfinite(g).all() for g in grads) and any(g.abs().sum() > 0 for g in grads)
    one_hot = {n: torch.eye(len(p), dtype=D)[0] for n,p in probs.items()}
    assert float(top.expected(one_hot)) == pytest.approx(top({'0': 1, '1': 1, '2': 1}))

def test_a_maximum_that_has_no_exact_expectation_says_so():
    ws = [one_of(*range(2, 51)) for _ in range(3)]
    arms = nn.ModuleList([ElasticConv1d(2, w, 1) for w in ws])
    space = nn.ModuleList([arms, nn.ModuleList(ws)])
    wide = concat(*ws)
    s = structure(space)
    column = {c: d for d,c in enumerate(s.choices)}
    n = len(values(wide))
    terms = [Term('wide', (wide,), torch.arange(n).double()), Term('arm', (0,), torch.arange(49).double())]
    with pytest.raises(ValueError, match='no exact form here'): CostModel(s, column, terms, 'peak', reduce='max').expected(beliefs(space, 0))
    alone = CostModel(s, column, terms[:1], 'peak', reduce='max') # a width by itself has a distribution
    torch.testing.assert_close(alone.expected(beliefs(space, 0)), CostModel(s, column, terms[:1], 'sum').expected(beliefs(space, 0)))

def test_the_time_to_the_cheapest_grows_with_the_number_of_choices_alone():
    from nas_suite.costs.elimination import plan
    chain = lambda n: plan((3,) * n, tuple((d, d + 1) for d in range(n - 1)))
    assert sum(len(s.joined) for s in chain(400)) < 2.1 * sum(len(s.joined) for s in chain(200))
    hub = plan((3,) * 201, tuple((0, d) for d in range(1, 201))) # one choice that all tables share goes last
    assert hub[-2].column == 0 and all(len(s.axes) == 1 for s in hub[:-1])
