"The core against enumeration, on random small spaces: extraction, counting, costs, selection, gates, export, errors."

import io, json, math, os, pickle, random, subprocess, sys
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from pathlib import Path
import pytest, torch
from hypothesis import given, settings, strategies as st
from torch import nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint
from nas_suite import costs
from nas_suite.choices import *
from nas_suite.costs import *
from nas_suite.extraction import *
from nas_suite.spaces.mobile import proxyless
from nas_suite.layers import *

sys.path.insert(0, str(Path(__file__).parent))
from spaces import *

some = lambda n: settings(max_examples=n, deadline=None, derandomize=True, database=None)
D = torch.float64


def given_x(space, n=3, dtype=D, seed=0):
    return torch.randn(n, *space.input_shape, generator=torch.Generator().manual_seed(seed), dtype=D).to(dtype)


def archs_of(space, most=None):
    r = rows(space)
    return decode(
        space, r if most is None else r[torch.randperm(len(r), generator=torch.Generator().manual_seed(0))[:most]]
    )


def one_hot(space, arch):
    return {
        n: torch.eye(len(c), dtype=D)[c.options.index(arch[n]) if n in arch else 0] for n, c in choices(space).items()
    }


def probabilities(space, seed=0, requires_grad=False):
    g = torch.Generator().manual_seed(seed)
    return {
        n: torch.randn(len(c), generator=g, dtype=D)
        .masked_fill(~c.alive, -torch.inf)
        .softmax(0)
        .requires_grad_(requires_grad)
        for n, c in choices(space).items()
    }


def differ(a, b):
    return float((a - b).abs().max())


# ---- 1. extraction


@some(25)
@given(spaces())
def test_extracted_equals_supernet(space):
    x = given_x(space, dtype=torch.float32)
    space.eval()
    for arch in archs_of(space):
        net = extract(space, arch)
        assert type(net).__mro__[1] is torch.fx.GraphModule and not any(m.training for m in net.modules())
        assert not any(type(m).__module__.startswith('nas_suite') for m in net.modules())
        with torch.no_grad():
            assert torch.equal(space(x, arch), net(x))
        assert check(space, arch, net) == 0.0


@some(25)
@given(spaces())
def test_extracted_equals_supernet_in_training(space):
    "Float64; batch statistics, how they move the running ones, and gradients."
    space.double()
    x = given_x(space)
    for arch in archs_of(space, 6):
        space.eval()
        with torch.no_grad():
            assert differ(space(x, arch), extract(space, arch)(x)) <= 1e-10
        space.train()
        ours = deepcopy(space)
        net = extract(ours, arch)
        assert net.training and all(p.dtype == D for p in net.parameters())
        a, b = ours(x, arch), net(x)
        assert differ(a, b) <= 1e-10
        y = x.clone().requires_grad_()
        grads = [torch.autograd.grad(run().square().sum(), y)[0] for run in (lambda: ours(y, arch), lambda: net(y))]
        assert differ(*grads) <= 1e-10 * max(1.0, float(grads[1].abs().max()))
        a, b = ours.eval()(x, arch), net.eval()(x)
        assert differ(a, b) <= 1e-10, "running statistics moved differently"


def test_extracted_keeps_modes_and_what_is_trained():
    space, arch = fixed(), largest(fixed())
    space.train()
    space.body[0].bn.eval()
    space.head.weight.requires_grad_(False)
    before = {k: v.clone() for k, v in space.state_dict().items()}
    net = extract(space, arch)
    assert not net.get_submodule('body.0.bn').training and net.get_submodule('body.2.bn').training
    assert not net.head.weight.requires_grad and net.get_submodule('body.0.conv').weight.requires_grad
    net(given_x(space, dtype=torch.float32)).sum().backward()
    torch.optim.SGD(net.parameters(), 1.0).step()
    assert all(torch.equal(v, before[k]) for k, v in space.state_dict().items())
    assert all(p.grad is None for p in space.parameters())
    assert all(m.training is not None and isinstance(m.training, bool) for m in space.modules())
    assert next(extract(space.bfloat16(), arch).parameters()).dtype == torch.bfloat16


@some(25)
@given(spaces(), st.integers(0, 10**6))
def test_partial_extraction_equals_the_space_on_every_completion(space, seed):
    r, x = random.Random(seed), given_x(space, dtype=torch.float32)
    space.eval()
    some = r.choice(archs_of(space))
    part = {n: some[n] for n in r.sample(list(some), r.randint(0, max(0, len(some) - 1)))}
    if is_complete(space, part):
        return
    small = extract(space, part)
    assert sum(p.numel() for p in small.parameters()) <= sum(p.numel() for p in space.parameters())
    fits = [a for a in archs_of(space) if all(a.get(n, o) == o for n, o in part.items())]
    assert count(small) == len({tuple(sorted((k, str(v)) for k, v in a.items())) for a in fits})
    for arch in fits[:8]:
        with torch.no_grad():
            want = extract(space, arch)(x)
            assert torch.equal(extract(small, arch)(x), want)
            torch.testing.assert_close(small(x, arch), want, rtol=0, atol=0)


def test_partial_extraction_keeps_names_and_places():
    x, k, w, c = torch.randn(2, 2, 5), one_of(1, 3), one_of(2, 4), one_of('p', 'q')
    shared = MixedOp(dict(a=ElasticConv1d(2, 2, k, padding='same'), b=ElasticConv1d(2, 2, k, padding='same')))
    placed = lambda wide: nn.Sequential(ElasticConv1d(2, wide, 1), ElasticConv1d(wide, 2, 1))
    for space, parts in (
        (shared, [{'choice': 'b'}, {'choice': 'a'}]),
        *(
            (placed(e), [{n: o} for n, c in choices(placed(e)).items() for o in c.options])
            for e in (
                either(c, [8, concat(w, 1)]),
                either(c, [grouped(w, 2), 3]),
                either(c, [w, concat(w, one_of(1, 3))]),
                concat(w, 1),
                either(c, [one_of(2, 3), w]),
            )
        ),
    ):
        for part in parts:
            if is_complete(space, part):
                continue
            small = extract(space, part)
            for arch in archs_of(space):
                if any(arch.get(n, o) != o for n, o in part.items()):
                    continue
                assert torch.equal(extract(small, arch)(x), extract(space, arch)(x)), (part, arch)


def test_blocks_without_an_operator_leave_nothing():
    "Not even a copy, where nothing writes into what they hand on."
    space = proxyless(
        classes=3, image_size=8, stem=8, first=0, widths=(8,), depths=(3,), strides=(1,), last=16, kernels=(3,)
    )
    net = extract(space, smallest(space))
    assert 'zero' in smallest(space).values() and 'clone' not in net.code and 'zeros_like' not in net.code


def test_zero_vanishes_without_aliasing():
    class Cell(Space):
        def __init__(self, form):
            super().__init__()
            self.form, self.stem, self.relu = form, nn.Conv1d(2, 2, 1), nn.ReLU(inplace=True)
            self.m, self.n = (MixedOp(dict(zero=Zero(), conv=nn.Conv1d(2, 2, 1))) for _ in range(2))

        def forward(self, x):
            if self.form == 'input':
                return self.relu(x + self.m(x)) + self.n(x)
            x = self.stem(x)
            if self.form == 'inplace':
                y = self.relu(x + self.m(x))
                return y + x + self.n(y)
            if self.form == 'sum':
                return sum(m(x) for m in (self.m, self.n))
            if self.form == 'broadcast':
                return x.mean(-1, keepdim=True) + self.m(x) + self.n(x)
            if self.form == 'other':
                return torch.cat([self.m(x), self.n(x)], 1)[:, 1:3] - 2 * self.m(x)

    for form in ('input', 'inplace', 'sum', 'broadcast', 'other'):
        space, x = Cell(form), torch.randn(2, 2, 3)
        for arch in archs_of(space):
            keep = x.clone()
            assert check(space, arch, extract(space, arch), x) == 0.0, (form, arch)
            assert torch.equal(x, keep), f"{form}: the input was written to"


# ---- 2. every behaviour for every kind of choice


def kinds(kind):
    w = one_of(2, 4)
    conv = lambda cin, cout, *a, **k: Conv(2, cin, cout, *a, **k)
    if kind == 'operator':
        body = nn.Sequential(
            conv(2, 3),
            Residual(MixedOp(dict(zero=Zero(), conv=conv(3, 3, 3), deep=nn.Sequential(conv(3, 3), conv(3, 3, 3)))), 3),
        )
    if kind == 'width':
        body = nn.Sequential(
            conv(2, w, 3),
            Residual(nn.Sequential(conv(w, m := scaled(w, one_of(0.5, 2), 1)), conv(m, m, 3, groups=m), conv(m, w)), w),
            conv(w, g := grouped(w, 2)),
            conv(g, 4, groups=1),
            conv(4, 3, norm=False),
        )
    if kind == 'kernel':
        body = nn.Sequential(conv(2, 3, one_of(1, 3, 5), transform=True), conv(3, 3, one_of(3, 5)))
    if kind == 'dilation':
        body = nn.Sequential(conv(2, 3, 3, one_of(1, 2, 3)), conv(3, 3, one_of(3, 5), one_of(1, 2)))
    if kind == 'depth':
        body = nn.Sequential(conv(2, 3), ElasticDepth([Residual(conv(3, 3, 3), 3) for _ in range(3)], one_of(0, 1, 3)))
    if kind == 'resolution':
        return shaken(
            Net(
                ElasticResolution(Net(conv(2, 3, 3), Stats(3), ElasticLinear(6, 3), (2, 6, 6)), one_of(4, 6, 9)),
                nn.Identity(),
                nn.Linear(3, 3),
                (2, 6, 6),
            )
        )
    return shaken(Net(body, Stats(3), ElasticLinear(6, 3), (2, 6, 6)))


operator_like = ('operator', 'resolution', 'depth')


@pytest.mark.parametrize('behaviour', ['hard', 'gated', 'relaxed'])
@pytest.mark.parametrize('kind', ['operator', 'width', 'kernel', 'dilation', 'depth', 'resolution'])
def test_every_behaviour_of_every_kind(kind, behaviour):
    torch.manual_seed(0)
    space = kinds(kind).double().eval()
    x = given_x(space)
    for arch in archs_of(space):
        want = extract(space, arch)(x)
        if behaviour == 'hard':
            assert torch.equal(space(x, arch), want)
            continue
        if behaviour == 'relaxed':
            assert differ(space(x, one_hot(space, arch)), want) <= 1e-10
            continue
        for other in range(3):
            for live, late in (((True, True), False), ((True, False), False), ((True, False), True)):
                gates = {}
                for n, c in choices(space).items():
                    i = c.options.index(arch.get(n, c.options[0]))
                    j = (i + 1 + other % (len(c) - 1)) % len(c)
                    gates[n] = Gates(
                        (i, j), torch.tensor([1.0, 0.0], dtype=D), live if kind in operator_like else (True, True), late
                    )
                assert differ(space(x, gates), want) <= 1e-10, (arch, other, live, late)
                gates = {n: Gates(g.index[::-1], g.weight.flip(0), g.live[::-1], late) for n, g in gates.items()}
                assert differ(space(x, gates), want) <= 1e-10, (arch, other, live, late)


@some(25)
@given(spaces(soft=True))
def test_one_hot_relaxed_equals_hard(space):
    space.double().eval()
    x = given_x(space)
    with torch.no_grad():
        for arch in archs_of(space, 8):
            assert differ(space(x, one_hot(space, arch)), space(x, arch)) <= 1e-9


@some(10)
@given(spaces(soft=True))
def test_relaxed_gradients_match_finite_differences(space):
    "Every architecture parameter that can matter gets its gradient."
    space.double().eval()
    x, found = given_x(space, 2), choices(space)
    if not found:
        return

    def f(*alphas):
        return space(x, {n: a.softmax(0) for n, a in zip(found, alphas)}).square().mean()

    torch.manual_seed(0)
    alphas = [torch.randn(len(c), dtype=D, requires_grad=True) for c in found.values()]
    assert torch.autograd.gradcheck(f, alphas, eps=1e-6, atol=1e-5, rtol=1e-3)


# ---- 3. counting, encodings, evolution, restriction


class Seen(Selection):
    "A selection that notes what is read."

    def __getitem__(self, c):
        self.__dict__.setdefault('seen', set()).add(c)
        return super().__getitem__(c)


@some(40)
@given(spaces(limit=48))
def test_active_is_what_is_read(space):
    "The choices in an architecture are those that its forward reads: no more and no less."
    s, x = structure(space), given_x(space, 2, torch.float32)
    space.eval()
    for row, arch in zip(r := rows(space), decode(space, r)):
        now = Seen(zip(s.choices, row.tolist()), zip(s.choices, s.names))
        with torch.no_grad(), selecting(now):
            space(x)
        seen = {n for n, c in zip(s.names, s.choices) if c in now.__dict__.get('seen', ())}
        assert (
            seen == set(arch) if not any(isinstance(m, Asks) for m in space.modules()) else seen <= set(arch)
        )  # what a Python `if` skips is not known


@some(40)
@given(spaces(limit=200))
def test_counting_and_encoding(space):
    s, r = structure(space), rows(space)
    archs = decode(space, r)
    assert count(space) == len(r) == len({json.dumps(a, sort_keys=True) for a in archs})
    assert torch.equal(encode(space, archs), r)
    assert [json.loads(json.dumps(a)) for a in archs] == archs
    every = {tuple(t) for t in r.tolist()}
    g = lambda i: torch.Generator().manual_seed(i)
    drawn = sample(space, 50, g(0))
    for made in (
        drawn,
        mutate(space, drawn, 0.5, g(1)),
        crossover(space, drawn, drawn.flip(0), g(2)),
        mutate(space, drawn, 1.0, g(1)),
    ):
        assert made.shape == drawn.shape and {tuple(t) for t in made.tolist()} <= every
    assert torch.equal(mutate(space, drawn, 0.0, g(1)), drawn) and torch.equal(
        crossover(space, drawn, drawn, g(1)), drawn
    )
    assert torch.equal(sample(space, 50, g(0)), drawn) and sample(space, generator=g(3)) == sample(
        space, generator=g(3)
    )
    if len(every) < 20:
        assert {tuple(t) for t in sample(space, 3000, g(0)).tolist()} == every
    assert {tuple(t) for t in encode(space, [largest(space), smallest(space)]).tolist()} <= every
    noise = {n: random.Random(0).choice(c.options) for n, c in choices(space).items()}  # inactive entries are dropped
    assert all(torch.equal(encode(space, noise | a)[0], row) for a, row in zip(archs[:20], r))


@some(25)
@given(spaces(), st.integers(0, 10**6))
def test_restriction_is_a_view(space, seed):
    r, x = random.Random(seed), given_x(space, dtype=torch.float32)
    names = list(choices(space))
    if not names:
        return
    to = {
        n: r.sample(choices(space)[n].options, r.randint(1, len(choices(space)[n])))
        for n in r.sample(names, r.randint(1, len(names)))
    }
    view, before = restrict(space, to), count(space)
    mine = {id(p) for p in space.parameters()}
    assert all(id(p) in mine for p in view.parameters()) and count(space) == before
    ok = [a for a in archs_of(space) if all(a[n] in to[n] for n in to if n in a)]
    assert count(view) == len(rows(view)) == len(ok)
    key = lambda a: json.dumps(a, sort_keys=True)
    assert {key(a) for a in archs_of(view)} == {key(a) for a in ok}
    assert torch.equal(encode(view, ok), encode(space, ok)), "indices were renumbered"
    drawn = sample(view, 40, torch.Generator().manual_seed(0))
    allowed = {tuple(t) for t in rows(view).tolist()}
    for made in (drawn, mutate(view, drawn, 0.6), crossover(view, drawn, drawn.flip(0))):
        assert {tuple(t) for t in made.tolist()} <= allowed
    assert key(largest(view)) in map(key, ok) and key(smallest(view)) in map(key, ok)
    space.eval()
    view.eval()
    with torch.no_grad():
        for a in ok[:4]:
            assert torch.equal(view(x, a), space(x, a))
    fresh = deepcopy(space)
    fresh.load_state_dict(view.state_dict())
    assert count(fresh) == len(ok) and [c.survivors for c in choices(fresh).values()] == [
        c.survivors for c in choices(view).values()
    ]
    with torch.no_grad():
        next(p for p in weights(space)).add_(1.0)
    assert all(torch.equal(a, b) for a, b in zip(space.parameters(), view.parameters()))
    gone = [(n, o) for n in to for o in choices(space)[n].options if o not in to[n]]
    if gone:
        n, o = gone[0]
        a = next((a for a in archs_of(space) if a.get(n) == o), None)
        if a:
            with pytest.raises(ValueError, match='has no option'):
                encode(view, a)


def test_counts_of_hand_made_spaces():
    w = one_of(1, 2, 3)
    assert (
        count(nn.ModuleList([MixedOp(dict(skip=nn.Identity(), conv=ElasticConv1d(w, w, 1))) for _ in range(2)])) == 10
    )
    stage = lambda: ElasticDepth([nn.ModuleList([one_of(3, 5, 7), one_of(3, 4, 6)]) for _ in range(4)], one_of(2, 3, 4))
    assert count(nn.ModuleList([stage() for _ in range(5)])) == (9**2 + 9**3 + 9**4) ** 5
    k = one_of(1, 3)
    block = ElasticConv1d(2, 2, k, padding='same')
    assert count(ElasticDepth([block] * 3, one_of(0, 1, 3))) == 1 + 2 * 2
    c = one_of('a', 'b')
    assert (
        count(
            nn.ModuleList(
                [
                    MixedOp([ElasticConv1d(1, 1, one_of(1, 3)), nn.Identity()], c),
                    MixedOp([nn.Identity(), ElasticConv1d(1, 1, one_of(1, 3, 5))], c),
                ]
            )
        )
        == 5
    )
    w, v = one_of(2, 3), one_of(1, 2, 4)  # an option of `either` that is also used elsewhere, and inside another option
    assert (
        count(nn.ModuleList([ElasticConv1d(2, w, 1), ElasticConv1d(2, either(one_of('a', 'b'), [w, 8]), 1)])) == 2 * 2
    )
    assert count(ElasticConv1d(2, either(one_of('a', 'b'), [w, concat(w, v)]), 1)) == 2 + 2 * 3
    conv = ElasticConv1d(2, 2, one_of(1, 3), padding='same')
    assert count(MixedOp(dict(none=nn.Identity(), once=conv, twice=nn.Sequential(conv, conv)))) == 1 + 2 + 2

    class Alias(nn.Module):  # blocks registered a second time are no second use
        def __init__(self):
            super().__init__()
            self.blocks = nn.ModuleList([ElasticConv1d(2, 2, one_of(1, 3)) for _ in range(2)])
            self.stage = ElasticDepth(self.blocks, one_of(1, 2))

    assert count(Alias()) == 2 + 4
    assert count(ElasticDepth([ElasticConv1d(2, 2, one_of(1, 3)) for _ in range(3)], 1)) == 2
    assert count(nn.Linear(2, 2)) == 1 and sample(nn.Linear(2, 2)) == {} and sample(nn.Linear(2, 2), 3).shape == (3, 0)


alone = '''
import sys, json, torch
from spaces import fixed
from nas_suite.choices import *
from nas_suite.costs import macs
s = fixed(); r = sample(s, 20, torch.Generator().manual_seed(0))
print(json.dumps([list(choices(s)), r.tolist(), decode(s, r), [int(v) for v in macs(s, s.input_shape).batch(r)]]))'''


def test_same_in_processes_with_other_hash_seeds():
    env = lambda seed: (
        os.environ
        | dict(
            PYTHONHASHSEED=str(seed),
            PYTHONPATH=os.pathsep.join(
                [str(Path(__file__).parent), str(Path(__file__).parent.parent), os.environ.get('PYTHONPATH', '')]
            ),
        )
    )
    other = 1 if os.environ.get('PYTHONHASHSEED') != '1' else 2  # than that of this process
    names, r, archs, cost = json.loads(
        subprocess.run([sys.executable, '-c', alone], env=env(other), stdout=subprocess.PIPE, check=True).stdout
    )
    s = fixed()
    assert (
        names == list(choices(s))
        and torch.equal(encode(s, archs), torch.tensor(r))
        and macs(s, s.input_shape).batch(torch.tensor(r)).tolist() == cost
    )


# ---- 4. costs


@some(15)
@given(spaces())
def test_costs_equal_counting(space):
    shape = space.input_shape
    m, p, r = macs(space, shape), params(space, shape), rows(space)
    for cost, counted in ((m, lambda net: count_macs(net, shape)), (p, count_params)):
        archs = decode(space, r)
        want = [counted(extract(space, a)) for a in archs]
        assert [cost(a) for a in archs] == want
        assert cost.batch(r).tolist() == want
        assert [sum(cost.parts(a).values()) for a in archs] == pytest.approx(want, rel=1e-12)
        assert cheapest(cost)[0] == min(want) and cost(cheapest(cost)[1]) == min(want)
        with pytest.raises(ValueError, match=f'{min(want):,.6g}'.replace('+', r'\+')):
            feasible(cost, min(want) - 0.5)
        assert feasible(cost, min(want)) == min(want)


def enumerated(space, cost, probs):
    "The mean over every combination, inactive choices included."
    r = torch.cartesian_prod(*(torch.arange(len(p)) for p in probs.values())).view(-1, len(probs))
    q = math.prod((p[r[:, d]] for d, p in enumerate(probs.values())), start=torch.ones((), dtype=D))
    live = q > 0
    return (cost.batch(canonical(space, r[live])) * q[live]).sum()


@some(20)
@given(spaces(limit=40), st.integers(0, 10**6))
def test_expected_cost_equals_enumeration(space, seed):
    for dense in (2**14, 1):  # 1: a combined width is an axis of its own wherever that is possible
        old, costs.tables._DENSE = costs.tables._DENSE, dense
        try:
            cost = macs(space, space.input_shape)
        finally:
            costs.tables._DENSE = old
        probs = probabilities(space, seed)
        if not probs:
            return
        torch.testing.assert_close(cost.expected(probs), enumerated(space, cost, probs), rtol=1e-9, atol=0)
        for a in archs_of(space, 6):
            assert float(cost.expected(one_hot(space, a))) == pytest.approx(cost(a), rel=1e-12)
        assert cheapest(cost)[0] == float(cost.batch(rows(space)).min())
        assert torch.autograd.gradcheck(
            lambda *p: cost.expected(dict(zip(probs, p))) / cost(largest(space)),
            [p.requires_grad_() for p in probs.values()],
            atol=1e-6,
        )


@some(15)
@given(spaces(), st.integers(0, 10**6))
def test_costs_of_a_restricted_space(space, seed):
    r, names = random.Random(seed), list(choices(space))
    if not names:
        return
    view = restrict(
        space, {n: r.sample(choices(space)[n].options, r.randint(1, len(choices(space)[n]))) for n in names}
    )
    a, b, kept = macs(space, space.input_shape), macs(view, space.input_shape), rows(view)
    assert torch.equal(a.batch(kept), b.batch(kept))
    assert cheapest(b)[0] == float(a.batch(kept).min())
    probs = probabilities(view, seed)
    torch.testing.assert_close(b.expected(probs), enumerated(view, b, probs), rtol=1e-9, atol=0)


def test_wide_concatenation_uses_the_width_as_axis():
    class Wide(nn.Module):
        def __init__(self, options, n=3):
            super().__init__()
            self.ws = [one_of(*options) for _ in range(n)]
            self.arms = nn.ModuleList([ElasticConv1d(2, w, 1, bias=False) for w in self.ws])
            self.out = ElasticConv1d(concat(*self.ws), one_of(2, 3), 1, bias=False)

        def forward(self, x):
            return self.out(torch.cat([a(x) for a in self.arms], 1))

    wide = Wide(range(2, 51))
    cost = macs(wide, (2, 3))
    assert max(t.table.numel() for t in cost.merged) < 10_000
    for a in decode(wide, sample(wide, 5, torch.Generator().manual_seed(0))):
        assert cost(a) == count_macs(extract(wide, a), (2, 3))
    probs = probabilities(wide)
    mean = {n: (p * torch.tensor(c.options)).sum() for (n, c), p in zip(choices(wide).items(), probs.values())}
    mean = list(mean.values())
    want = 3 * (2 * sum(mean[:3]) + sum(mean[:3]) * mean[3])  # bilinear, and independent: exact here
    torch.testing.assert_close(cost.expected(probs), want, rtol=1e-9, atol=0)
    assert cheapest(cost)[0] == 3 * (2 * 6 + 6 * 2)
    with pytest.raises(ValueError, match='the smallest reaches 72'):
        feasible(cost, 71)
    with pytest.raises(ValueError, match='the smallest reaches 72'):
        LatencyAwareLoss(cost, 71)
    small = Wide((1, 3, 4))
    p = {c: torch.randn(3, dtype=D).softmax(0) for c in small.ws}
    for w in (
        concat(*small.ws),
        concat(small.ws[0], small.ws[0], small.ws[1]),
        halves(concat(*small.ws[:2])),
        scaled(concat(*small.ws), 0.5, 2),
    ):
        want = dict.fromkeys(values(w), 0.0)
        for i in range(3):
            for j in range(3):
                for k in range(3):
                    at = dict(zip(small.ws, (i, j, k)))
                    want[len(kept(w, at.__getitem__))] += float(math.prod(p[c][t] for c, t in at.items()))
        torch.testing.assert_close(distribution(w, p), torch.tensor(list(want.values()), dtype=D))


def test_cheapest_where_less_is_more():
    "A minimum that descending one choice after the other does not find."
    a, b = one_of(0, 1), one_of(0, 1)
    space = nn.ModuleList([a, b])
    s = structure(space)
    for seed in range(20):
        g = torch.Generator().manual_seed(seed)
        table = torch.rand(2, 2, generator=g, dtype=D) + 1
        cost = CostModel(s, {a: 0, b: 1}, [costs.Term('t', (0, 1), table)], 'toy')
        assert cheapest(cost)[0] == float(table.min())


def test_what_no_layer_computes_is_an_error():
    class Product(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = ElasticConv1d(2, 2, one_of(1, 3), padding='same')

        def forward(self, x):
            x = self.conv(x)
            return x @ (x.transpose(1, 2) @ x)

    for n in range(4):
        ops = [nn.Conv1d(2, 2, 1) if i != n else Product() for i in range(4)]
        with pytest.raises(ValueError, match='computes something'):
            macs(MixedOp(ops), (2, 4))


def test_a_missing_entry_is_an_error():
    c = one_of(1, 2)
    table = torch.tensor([math.nan, 3.0], dtype=D)
    cost = CostModel(structure(nn.ModuleList([c])), {c: 0}, [costs.Term('conv7', (0,), table)], 'latency')
    assert cost({'0': 2}) == 3
    with pytest.raises(ValueError, match='conv7'):
        cost({'0': 1})
    with pytest.raises(ValueError, match='conv7'):
        cost.expected({'0': torch.tensor([0.5, 0.5])})
    assert float(cost.expected({'0': torch.tensor([0.0, 1.0])})) == 3


# ---- 5. no stale state


def test_nothing_selected():
    space = fixed()
    x = given_x(space, dtype=torch.float32)

    def refuses(s=space):
        with pytest.raises(RuntimeError, match=r'nothing is selected: call `space\(x, arch\)`.*selected'):
            s(x)

    refuses()
    with pytest.raises(ZeroDivisionError):
        with selected(space, largest(space)):
            space(x)
            1 / 0
    refuses()
    with selected(space, largest(space)):
        out = space.eval()(x)
        with selected(space, smallest(space)):
            assert not torch.equal(space(x), out)
        assert torch.equal(space(x), out)
        copies = [deepcopy(space), pickle.loads(pickle.dumps(space))]
        with ThreadPoolExecutor(1) as pool:
            pool.submit(refuses).result()
        with pytest.raises(RuntimeError, match='belongs to another one'):
            copies[0](x)
    for s in (space, *copies):
        refuses(s)
        assert torch.equal(s(x, largest(space)), out)
    assert not any('select' in k for k in space.state_dict())


def test_threads_do_not_see_each_other():
    space = fixed().eval()
    x = given_x(space, dtype=torch.float32)
    archs = decode(space, sample(space, 60, torch.Generator().manual_seed(0)))
    with torch.no_grad():
        want = [space(x, a) for a in archs]

        def job(a):
            with torch.no_grad():
                return space(x, a)

        with ThreadPoolExecutor(4) as pool:
            assert all(map(torch.equal, pool.map(job, archs), want))
        with ThreadPoolExecutor(4) as pool:  # extraction beside forwards
            nets = [pool.submit(extract, space, a) if i % 2 else pool.submit(job, a) for i, a in enumerate(archs)]
            for i, (n, w) in enumerate(zip(nets, want)):
                assert torch.equal(n.result()(x) if i % 2 else n.result(), w)
    assert all(m.training is False for m in space.modules())


def test_checkpointing_keeps_the_selection():
    space = fixed().double().eval()
    x, arch = given_x(space).requires_grad_(), largest(fixed())
    space(x, arch).sum().backward()
    want = x.grad.clone()
    x.grad = None
    with selected(space, arch):
        y = checkpoint(space, x, use_reentrant=False, context_fn=keep_selection)
    with selected(space, smallest(space)):
        y.sum().backward()  # backward runs what forward ran, whatever is selected now
    torch.testing.assert_close(x.grad, want)
    with selected(space, arch):
        y = checkpoint(space, x, use_reentrant=False)
    with pytest.raises(RuntimeError, match='nothing is selected'):
        y.sum().backward()


def test_shared_branches_run():
    w, v, x = one_of(2, 3), one_of(1, 2, 4), torch.randn(1, 2, 4)
    conv = ElasticConv1d(2, 2, one_of(1, 3), padding='same')
    spaces = [
        MixedOp(dict(none=nn.Identity(), once=conv, twice=nn.Sequential(conv, conv))),
        ElasticDepth([conv] * 3, one_of(0, 1, 3)),
        nn.Sequential(
            ElasticConv1d(2, e := either(one_of('a', 'b'), [w, concat(w, v)]), 1),
            ElasticConv1d(e, w, 1),
            ElasticConv1d(w, 2, 1),
        ),
    ]
    for space in spaces:
        for arch in archs_of(space):
            with selected(space, arch):
                assert torch.equal(space(x), extract(space, arch)(x))


def test_two_spaces_do_not_interact():
    a, b = fixed(0).eval(), fixed(1).eval()
    x = given_x(a, dtype=torch.float32)
    ya, yb = a(x, largest(a)), b(x, smallest(b))
    ma = macs(a, a.input_shape)
    restrict(b, {n: c.options[:1] for n, c in choices(b).items()})
    macs(b, b.input_shape)
    extract(b, smallest(b))
    with selected(b, smallest(b)):
        assert torch.equal(a(x, largest(a)), ya) and torch.equal(b(x), yb)
        with pytest.raises(RuntimeError, match='belongs to another one'):
            nn.Module.__call__(a, x)
    assert ma(largest(a)) == macs(a, a.input_shape)(largest(a))


# ---- 6. gates


class Mixed(nn.Module):
    def __init__(self, layers=3, norm=True):
        super().__init__()
        torch.manual_seed(0)
        ops = lambda: dict(
            zero=Zero(),
            one=Conv(1, 3, 3, 1, norm=norm),
            three=Conv(1, 3, 3, 3, norm=norm),
            id=nn.Identity(),
            deep=nn.Sequential(Conv(1, 3, 3, 3, norm=norm), Conv(1, 3, 3, 3, norm=norm)),
        )
        self.mixed = nn.ModuleList([MixedOp(ops()) for _ in range(layers)])

    def forward(self, x):
        for m in self.mixed:
            x = x + m(x)
        return x


def gated(space, mode, seed=0):
    "One-hot straight-through gates of sampled paths, as functions of the architecture parameters."
    g, out = torch.Generator().manual_seed(seed), {}
    for n, c in choices(space).items():
        i, j = torch.randperm(len(c), generator=g)[:2].tolist()
        idx = (i, j) if mode.startswith('two') else tuple(range(len(c)))
        p = c.alpha[list(idx)].softmax(0)
        hot = torch.eye(len(idx), dtype=p.dtype)[idx.index(i)]
        out[n] = Gates(
            idx,
            hot + p - p.detach(),
            (True,) * len(idx) if mode.endswith('full') else tuple(k == i for k in idx),
            mode.endswith('late'),
        )
    return out


def test_gate_gradients_agree():
    space = Mixed().double()
    with torch.no_grad():
        for a in alphas(space):
            a.normal_()
    x = torch.randn(4, 3, 6, dtype=D)

    def gradients(mode):
        space.zero_grad()
        net = space.train()
        with selected(space, gated(space, mode)), still(net):
            net(x).pow(3).sum().backward()
        return [a.grad.clone() for a in alphas(space)], {
            n: p.grad.clone() for n, p in space.named_parameters() if p.grad is not None and not n.endswith('alpha')
        }

    full, wf = gradients('full')
    for mode in ('full_v2', 'full_v2_late'):
        mine, w = gradients(mode)
        for a, b in zip(full, mine):
            torch.testing.assert_close(b, a, rtol=1e-12, atol=1e-12)
        assert set(w) <= set(wf)
        for n, g in wf.items():
            torch.testing.assert_close(w.get(n, torch.zeros_like(g)), g, rtol=1e-12, atol=1e-12)
    two_full, _ = gradients('two_full')
    for mode in ('two', 'two_late'):
        mine, _ = gradients(mode)
        for a, b in zip(two_full, mine):
            torch.testing.assert_close(b, a, rtol=1e-12, atol=1e-12)
    for n, g in gated(space, 'two').items():
        a = choices(space)[n].alpha.grad
        out = [k for k in range(len(a)) if k not in g.index]
        assert (a[out] == 0).all() and a[list(g.index)].abs().min() > 0 and abs(float(a.sum())) < 1e-9


@pytest.mark.parametrize('late', [False, True])
def test_gate_gradient_is_the_derivative(late):
    "Of a quadratic, by finite differences through the mixture itself; Zero included."
    mix = MixedOp(dict(zero=Zero(), a=nn.Conv1d(2, 2, 1), b=nn.Conv1d(2, 2, 3, padding=1))).double()
    x, t = torch.randn(3, 2, 5, dtype=D), torch.randn(3, 2, 5, dtype=D)
    for at in range(3):
        g = torch.eye(3, dtype=D)[at].requires_grad_()
        with selecting(Selection({mix.choice: Gates((0, 1, 2), g, tuple(i == at for i in range(3)), late)})):
            (mix(x) - t).square().sum().backward()
        ys = torch.stack([op(x) for op in mix.ops.values()])
        loss = lambda w: (torch.einsum('i,i...->...', w, ys) - t).square().sum()
        w = torch.eye(3, dtype=D)[at].requires_grad_()
        (exact,) = torch.autograd.grad(loss(w), w)
        torch.testing.assert_close(g.grad - g.grad[at], exact - exact[at])


def test_gates_under_autocast():
    for late in (False, True):
        mix = MixedOp(dict(zero=Zero(), conv=nn.Conv1d(2, 2, 1)))
        g, x = torch.tensor([0.0, 1.0], requires_grad=True), torch.randn(2, 2, 3)
        with (
            torch.autocast('cpu', torch.bfloat16),
            selecting(Selection({mix.choice: Gates((0, 1), g, (False, True), late)})),
        ):
            y = mix(x)
        y.float().square().sum().backward()
        assert float(g.grad[0]) == pytest.approx(-2 * float(mix.ops['conv'](x).square().sum()), rel=0.05)


def saved_bytes(f):
    "Bytes kept for backward, each storage once."
    kept = {}

    def pack(t):
        kept[t.untyped_storage().data_ptr()] = (t.untyped_storage(), t.untyped_storage().nbytes())
        return t

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        out = f()
    return sum(n for _, n in kept.values()), out


def test_one_live_path_keeps_the_memory_of_one():
    x = torch.randn(16, 4, 64)

    def bytes_of(n, mode):
        torch.manual_seed(0)
        mix = MixedOp(
            [
                nn.Sequential(
                    nn.Conv1d(4, 4, 3, padding=1),
                    nn.Tanh(),
                    nn.Conv1d(4, 4, 3, padding=1),
                    nn.Tanh(),
                    nn.Conv1d(4, 4, 3, padding=1),
                    nn.Tanh(),
                )
                for _ in range(n)
            ]
        )
        with selected(mix, gated(mix, mode)):
            return saved_bytes(lambda: mix(x))[0]

    act = x.numel() * 4
    full = [bytes_of(n, 'full') for n in (2, 4, 8)]
    assert (full[1] - full[0]) == pytest.approx(2 * 4 * act, rel=0.25) and (full[2] - full[1]) == pytest.approx(
        2 * (full[1] - full[0]), rel=0.1
    )
    for mode in ('two', 'two_late', 'full_v2_late'):
        one = [bytes_of(n, mode) for n in (2, 4, 8)]
        assert max(one) - min(one) < 0.1 * act, mode
        assert one[0] < full[0] - 2 * act
    v2 = [bytes_of(n, 'full_v2') for n in (2, 4, 8)]
    assert v2[2] - v2[1] == pytest.approx(4 * act, rel=0.1)  # one tensor an operator


def statistics(m):
    return {n: b.clone() for n, b in m.named_buffers() if 'running' in n or 'tracked' in n}


@pytest.mark.parametrize('mode', ['two', 'two_late', 'full_v2', 'full_v2_late'])
def test_dead_paths_move_no_statistics(mode):
    space, x = Mixed(2).train(), torch.randn(4, 3, 6)
    for seed in range(4):
        gates, before = gated(space, mode, seed), statistics(space)
        with selected(space, gates):
            y = space(x)
        y.sum().backward()
        for name, m in ((f'mixed.{i}', m) for i, m in enumerate(space.mixed)):
            g = gates[f'{name}.choice']
            alive = g.index[g.live.index(True)]
            for k, op in enumerate(m.ops):
                for n, b in statistics(m.ops[op]).items():
                    moved = not torch.equal(b, before[f'{name}.ops.{op}.{n}'])
                    assert moved == (k == alive), (n, op)
        before = statistics(space)
        with selected(space, gated(space, mode, seed)), still(space):
            space(x).sum().backward()
        assert all(torch.equal(b, before[n]) for n, b in statistics(space).items())
        assert all(m.track_running_stats for m in space.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm))


def test_dead_depth_and_resolution_move_no_statistics():
    blocks = [Residual(Conv(2, 3, 3, 3), 3) for _ in range(3)]
    stage, x = ElasticDepth(blocks, one_of(1, 3)).train(), torch.randn(2, 3, 4, 4)
    with selected(stage, {'depth': Gates((0, 1), torch.tensor([1.0, 0.0], requires_grad=True), (True, False))}):
        stage(x).sum().backward()
    assert [int(b.body.bn.num_batches_tracked) for b in blocks] == [1, 0, 0]
    net = ElasticResolution(nn.Sequential(Conv(2, 3, 3, 3), Mean()), one_of(3, 4)).train()
    with selected(net, {'resolution': Gates((0, 1), torch.tensor([1.0, 0.0], requires_grad=True), (True, False))}):
        net(x).sum().backward()
    assert int(net.body[0].bn.num_batches_tracked) == 1


@some(15)
@given(spaces(soft=True))
def test_unused_weights_have_no_gradient(space):
    "A weight that an architecture does not use ends with gradient None or exactly 0."
    space.train()
    x = given_x(space, dtype=torch.float32)
    for arch in archs_of(space, 3):
        space.zero_grad()
        space(x, arch).square().sum().backward()
        assert all(a.grad is None for a in alphas(space))
        net = extract(space, arch)
        mine = sum(int((p.grad != 0).sum()) for p in weights(space) if p.grad is not None)
        assert mine <= sum(p.numel() for p in net.parameters()) + sum(
            t.numel()
            for m in space.modules()
            if isinstance(m, (ElasticConv1d, ElasticConv2d)) and m.transforms is not None
            for t in (*m.transforms.values(), m.weight)
        )


# ---- 7. export


def test_a_subnet_lives_without_the_package():
    space = fixed().double().eval()  # another process may use another number of threads
    x = given_x(space)
    code = '''
import sys, io; sys.modules['nas_suite'] = None
import torch; net, x, want = torch.load(io.BytesIO(sys.stdin.buffer.read()), weights_only=False)
assert (net(x) - want).abs().max() <= 1e-9 * want.abs().max() and not any(k.startswith('nas_suite.') for k in sys.modules)
torch.jit.trace(net, x); print('|'.join(net.state_dict()))'''
    # `Stats` and `Residual` of this test's space are traced away too, so the file needs torch only
    arch = largest(space) | {n: 'zero' for n in choices(space) if n.endswith('blocks.1.body.choice')}
    net = extract(space, arch)
    file = io.BytesIO()
    torch.save((net, x, net(x)), file)
    env = {k: v for k, v in os.environ.items() if k != 'PYTHONPATH'}
    done = subprocess.run([sys.executable, '-c', code], input=file.getvalue(), capture_output=True, env=env, cwd='/')
    assert done.returncode == 0, done.stderr.decode()[-2000:]
    keys = done.stdout.decode().strip().split('|')
    mine = set(space.state_dict())
    assert keys and all(k in mine for k in keys), "names of parameters differ from those of the space"
    assert (
        not any('blocks.1.' in k for k in keys)
        and torch.equal(pickle.loads(pickle.dumps(net))(x), net(x))
        and torch.equal(deepcopy(net)(x), net(x))
    )
    other = extract(fixed(1).double().eval(), arch)
    other.load_state_dict(net.state_dict())
    assert torch.equal(other(x), net(x))


def test_torch_export_and_onnx(tmp_path):
    ort = pytest.importorskip('onnxruntime')
    pytest.importorskip('onnxscript')
    space = fixed().eval()
    x = given_x(space, dtype=torch.float32)
    for arch in (largest(space), smallest(space)):
        net = extract(space, arch)
        program = torch.export.export(net, (x,))
        torch.testing.assert_close(program.module()(x), net(x))
        torch.onnx.export(net, (x,), str(tmp_path / 'net.onnx'), dynamo=True, verbose=False)
        run = ort.InferenceSession(str(tmp_path / 'net.onnx'), providers=['CPUExecutionProvider'])
        (out,) = run.run(None, {run.get_inputs()[0].name: x.numpy()})
        assert differ(torch.from_numpy(out), net(x).detach()) < 1e-4


# ---- 8. errors


def raises(text):
    return pytest.raises(ValueError, match=text)


def test_bad_architectures():
    space, other = fixed(), nn.Sequential(ElasticLinear(3, one_of(2, 3)))
    arch, x = largest(space), given_x(space, dtype=torch.float32)
    name = 'body.0.out_channels'
    for f in (
        lambda a: encode(space, a),
        lambda a: space(x, a),
        lambda a: extract(space, a),
        macs(space, space.input_shape),
    ):
        with raises(f"no choice 'nothing'; its choices are .*{name}"):
            f(arch | {'nothing': 1})
        with raises(f'{name} has no option 3; its options are 2, 4'):
            f(arch | {name: 3})
        with raises("has no option True"):
            f(arch | {name: True})
        with raises("no choice '0.out_features'"):
            f(largest(other))
    with raises('is a dict'):
        encode(space, [[1, 2]])
    lacks = {n: o for n, o in arch.items() if n != name}
    for f in (lambda a: encode(space, a), lambda a: space(x, a), macs(space, space.input_shape)):
        with raises(f'lacks {name}; the options of {name} are 2, 4'):
            f(lacks)
    with raises('several options selected'):
        extract(space, one_hot(space, arch))
    with raises('several options selected'):
        encode(space, one_hot(space, arch))
    with raises(f'{name} has 2 options; found 3 weights'):
        space(x, arch | {name: torch.ones(3)})
    with raises('no choice'):
        restrict(space, {'nothing*': 1})
    with raises('no option 7'):
        restrict(space, {name: 7})
    with raises('at least one option'):
        restrict(space, {name: []})
    with raises('rows of this space'):
        decode(space, torch.zeros(2, 99, dtype=torch.long))
    with raises('rows'):
        macs(space, space.input_shape).batch(torch.zeros(2, 99, dtype=torch.long))
    D = len(choices(space))
    for bad in (-1, 9):
        with raises(name):
            decode(space, torch.full((1, D), bad))
        with raises(name):
            macs(space, space.input_shape).batch(torch.full((1, D), bad))
    with raises('probabilities are missing for'):
        macs(space, space.input_shape).expected({})


@pytest.mark.parametrize(
    'make, text',
    [
        (lambda: one_of(), 'at least one option'),
        (lambda: one_of(1, 1), 'must differ'),
        (lambda: one_of([1]), 'an option is'),
        (lambda: ElasticConv2d(3, one_of('a', 'b'), 3), 'positive ints'),
        (lambda: ElasticConv2d(3, one_of(0, 4), 3), 'positive ints'),
        (lambda: ElasticConv2d(3, 2.5, 3), 'width'),
        (lambda: ElasticConv2d(3, 8, one_of(3, 4)), 'all odd or all even'),
        (lambda: ElasticConv2d(3, 8, 4, padding='same'), 'odd kernels'),
        (lambda: ElasticConv2d(3, 8, 3, padding='valid'), "padding is"),
        (lambda: ElasticConv2d(6, 8, 3, groups=4), 'groups'),
        (lambda: ElasticConv2d(one_of(4, 8), 8, 3, groups=2), 'groups'),
        (lambda: ElasticConv2d(4, one_of(4, 8), 3, groups=one_of(2, 4)), 'groups'),
        (lambda: grouped(one_of(4, 6), 4), 'multiple of 4; found 6'),
        (lambda: either(one_of(0, 1), [one_of(1, 2)]), '2 options'),
        (lambda: concat(one_of(1, 2), 'x'), 'width'),
        (lambda: MixedOp([nn.Identity()], one_of(1, 2)), '2 options'),
        (lambda: MixedOp([]), 'at least one'),
        (lambda: ElasticDepth([nn.Identity()], one_of(1, 2)), '1 blocks'),
        (lambda: of(ElasticDepth([Scale(2)], one_of(0, 1))), '0'),
        (lambda: of(MixedOp([nn.Identity()])), 'out_channels'),
    ],
)
def test_bad_layers(make, text):
    with raises(text):
        make()


def test_bad_shapes_masks_and_budgets():
    w = one_of(2, 4)
    space = nn.Sequential(ElasticConv2d(3, w, 3), nn.ReLU())
    for f in (macs, params):
        for shape in ((5, 8, 8), (3, 8), 8, (3, 2, 2)):
            with raises('shape'):
                f(space, shape)
    with raises('no input_shape'):
        params(space)
    with raises('no input_shape'):
        check(space, {'0.out_channels': 2}, None)
    cost = macs(space, (3, 8, 8))
    for bad in ('fast', None, '5 apples', True, [3]):
        with raises('a budget is'):
            feasible(cost, bad)
    for bad in (0, -1, math.nan):
        with pytest.raises(ValueError):
            feasible(cost, bad)
    assert amount('1.5k') == 1500 and amount('2M') == 2e6
    with raises('no form'):
        LatencyAwareLoss(cost, 1e6, 'cubic')
    bad = nn.Sequential(ElasticConv2d(3, w, 3), ElasticBatchNorm(w))
    with raises('batch norm'):
        with selected(bad, {'0.out_channels': torch.tensor([0.5, 0.5])}):
            bad(torch.randn(2, 3, 5, 5))
    with raises("padding='same'"):
        s = nn.Sequential(ElasticConv2d(3, 2, one_of(1, 3)))
        with selected(s, {'0.kernel_size': torch.tensor([0.5, 0.5])}):
            s(torch.randn(2, 3, 5, 5))


def test_untraceable_spaces_say_where():
    class Scaled(nn.Module):  # holds a choice: one that holds none stays whole
        def __init__(self):
            super().__init__()
            self.scale = one_of(1, 2)

    class Reads(Scaled):
        def forward(self, x):
            return F.dropout(x, 0.5, self.training) * self.scale.value

    class Branches(Scaled):
        def forward(self, x):
            return x * self.scale.value if x.sum() > 0 else -x

    class Loops(Scaled):
        def forward(self, x):
            return torch.stack([t * self.scale.value for t in x])

    for m, text in (
        (Reads(), r'1 \(Reads\) reads self.training'),
        (Branches(), r'1 \(Branches\) cannot be traced'),
        (Loops(), r'1 \(Loops\) cannot be traced'),
    ):
        space = nn.Sequential(ElasticLinear(3, w := one_of(2, 3)), m)
        with raises(text):
            extract(space, {'0.out_features': 2, '1.scale': 1})
        assert all(isinstance(k.training, bool) for k in space.modules())


def test_hooks_of_a_subnet_are_its_own():
    from nas_suite.spaces.tdnn import small_tdnn

    space = small_tdnn()
    one, two = extract(space, smallest(space)), extract(space, smallest(space))
    for m in one.modules():
        m.register_forward_hook(lambda *_: None)
    assert all(m._forward_hooks for m in one.modules()) and not any(
        m._forward_hooks for net in (space, two) for m in net.modules()
    )
