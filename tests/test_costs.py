"Costs against enumeration: sums and maxima, alone and together, on random small spaces; costs of one's own."

import itertools, math
import numpy as np, pytest, torch
from hypothesis import HealthCheck, given, settings, strategies as st
from einops import einsum, rearrange, reduce
from torch import nn
from nas_suite.choices import *
from nas_suite.costs import *
from nas_suite.extraction import extract
from nas_suite.layers import *
from nas_suite.spaces.segmenter import small_segmenter
from nas_suite.spaces.tdnn import small_tdnn
from spaces import spaces
from transformer_space import Transformer

torch.set_num_threads(1)
D = torch.float64


def some(n):
    return settings(max_examples=n, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))


def every_row(space):
    live = [torch.tensor(c.survivors) for c in structure(space).choices]
    return torch.cartesian_prod(*live).view(-1, len(live))


def beliefs(space, seed):
    g = torch.Generator().manual_seed(seed)
    return {n: torch.randn(len(c), generator=g, dtype=D).softmax(0).requires_grad_() for n, c in choices(space).items()}


def mean(cost, space, probs):
    "The mean over every combination, inactive choices included."
    rows = torch.cartesian_prod(*(torch.arange(len(p)) for p in probs.values())).view(-1, len(probs))
    weight = math.prod((p[rows[:, d]] for d, p in enumerate(probs.values())), start=torch.ones((), dtype=D))
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
    assert (
        [top(a) for a in archs]
        == top.batch(rows[:8]).tolist()
        == [max(total.parts(a).values(), default=0.0) for a in archs]
    )
    assert top.cheapest()[0] == float(top.batch(rows).min()) == top(top.cheapest()[1])
    if not (probs := beliefs(space, seed)):
        return
    want, found = mean(top, space, probs), top.expected(probs)
    torch.testing.assert_close(found, want, rtol=1e-9, atol=0)
    # probabilities sum to one: gradients are compared along that
    for a, b in zip(
        torch.autograd.grad(found, list(probs.values()), allow_unused=True),
        torch.autograd.grad(want, list(probs.values()), allow_unused=True),
    ):
        a, b = (torch.zeros_like(b if a is None else a) if t is None else t for t in (a, b))
        torch.testing.assert_close(a - a.mean(), b - b.mean(), rtol=1e-7, atol=1e-7 * float(want.detach()))


@some(15)
@given(spaces(limit=40), st.integers(0, 10**6))
def test_the_least_of_sums_maxima_and_scores(space, seed):
    total, top = with_maximum(space)
    rows = every_row(space)
    g = torch.Generator().manual_seed(seed)
    scores = [
        float(total.batch(canonical(space, rows)).max()) * torch.randn(len(c), generator=g, dtype=D)
        for c in structure(space).choices
    ]
    own = sum((s[rows[:, d]] for d, s in enumerate(scores)), torch.zeros(len(rows), dtype=D))
    for prices in ((1.0, 0.0), (0.0, 3.0), (0.5, 2.0)):
        costs = list(zip((total, top), prices))

        def worth(r):
            return sum(p * c.batch(canonical(space, r)) for c, p in costs)

        row = minimise(structure(space), costs)
        assert float(worth(row)) == pytest.approx(float(worth(rows).min()), rel=1e-12)
        row = minimise(structure(space), costs, scores)
        found = worth(row) + sum(
            s[row[:, d]] for d, s in enumerate(scores)
        )  # every choice counts, whether it runs or not
        assert float(found) == pytest.approx(float((worth(rows) + own).min()), rel=1e-9)


def two(shared):
    "Two tables over three choices, of which they share one or none."
    a, b, c = one_of(1, 2), one_of(1, 2, 3), one_of(1, 2)
    toy = nn.ModuleList([a, b, c])
    g = torch.Generator().manual_seed(shared)
    terms = [
        Term('one', (0, 1), torch.rand(2, 3, generator=g, dtype=D)),
        Term('two', (1, 2) if shared else (2,), torch.rand(*[3, 2] if shared else [2], generator=g, dtype=D)),
    ]
    return toy, [CostModel(structure(toy), {a: 0, b: 1, c: 2}, terms, kind, reduce=kind) for kind in ('sum', 'max')]


@pytest.mark.parametrize('shared', [0, 1])
def test_two_maxima_and_a_sum(shared):
    toy, (total, top) = two(shared)
    other = CostModel(
        top.structure, top.column, [Term(t.label, t.axes, 1 - t.table) for t in top.terms], 'other', reduce='max'
    )
    rows = every_row(toy)
    for prices in itertools.product((0.0, 0.3, 2.0), repeat=3):
        costs = list(zip((total, top, other), prices))
        if not any(prices):
            continue

        def worth(r):
            return float(sum(p * c.batch(r) for c, p in costs))

        assert worth(minimise(structure(toy), costs)) == pytest.approx(min(worth(r[None]) for r in rows), rel=1e-12)


def test_a_maximum_can_be_calibrated_restricted_and_a_budget():
    toy, (_, top) = two(1)
    probs = beliefs(toy, 0)
    shifted = top.calibrated(2.0, 1.0)
    assert shifted({'0': 1, '1': 2, '2': 2}) == 1 + 2 * top({'0': 1, '1': 2, '2': 2})
    torch.testing.assert_close(shifted.expected(probs), 1 + 2 * top.expected(probs))
    with pytest.raises(ValueError, match='the smallest reaches'):
        feasible(top, 0.5 * top.cheapest()[0])
    loss = LatencyAwareLoss(top, 1.1 * top.cheapest()[0])
    grads = torch.autograd.grad(loss(torch.tensor(1.0), probs) + loss.excess(probs), list(probs.values()))
    assert all(torch.isfinite(g).all() for g in grads) and any(g.abs().sum() > 0 for g in grads)
    one_hot = {n: torch.eye(len(p), dtype=D)[0] for n, p in probs.items()}
    assert float(top.expected(one_hot)) == pytest.approx(top({'0': 1, '1': 1, '2': 1}))


def test_a_maximum_that_has_no_exact_expectation_says_so():
    ws = [one_of(*range(2, 51)) for _ in range(3)]
    arms = nn.ModuleList([ElasticConv1d(2, w, 1) for w in ws])
    space = nn.ModuleList([arms, nn.ModuleList(ws)])
    wide = concat(*ws)
    s = structure(space)
    column = {c: d for d, c in enumerate(s.choices)}
    n = len(values(wide))
    terms = [Term('wide', (wide,), torch.arange(n).double()), Term('arm', (0,), torch.arange(49).double())]
    with pytest.raises(ValueError, match='no exact form here'):
        CostModel(s, column, terms, 'peak', reduce='max').expected(beliefs(space, 0))
    alone = CostModel(s, column, terms[:1], 'peak', reduce='max')  # a width by itself has a distribution
    torch.testing.assert_close(
        alone.expected(beliefs(space, 0)), CostModel(s, column, terms[:1], 'sum').expected(beliefs(space, 0))
    )


def test_the_time_to_the_cheapest_grows_with_the_number_of_choices_alone():
    from nas_suite.costs.elimination import plan

    chain = lambda n: plan((3,) * n, tuple((d, d + 1) for d in range(n - 1)))
    assert sum(len(s.joined) for s in chain(400)) < 2.1 * sum(len(s.joined) for s in chain(200))
    hub = plan((3,) * 201, tuple((0, d) for d in range(1, 201)))  # one choice that all tables share goes last
    assert hub[-2].column == 0 and all(len(s.axes) == 1 for s in hub[:-1])


# ---- widths of any dimension


def counted(space, n=12):
    "Checks both counts against extracted networks."
    m, p = macs(space, space.input_shape), params(space, space.input_shape)
    for arch in [smallest(space), largest(space), *decode(space, sample(space, n, torch.Generator().manual_seed(0)))]:
        net = extract(space, arch)
        assert m(arch) == count_macs(net, space.input_shape) and p(arch) == count_params(net)
    return m


@pytest.mark.parametrize('shape', [(8, 16), (3, 8, 8)])
def test_a_transformer_is_counted(shape):
    from nas_suite.latency.tables import units

    space = Transformer(shape)
    m = counted(space)
    assert any('attend' in label for label in m.parts(largest(space)))
    nets = units(space, shape, 3).nets
    assert len(nets) > 20
    for net, shapes in nets.values():  # each runs on the shapes it is said to see
        assert shapes[0][0] == 3 or isinstance(net, nn.Embedding)  # of the positions, no samples
        assert torch.isfinite(
            torch.tensor(
                net(
                    *(
                        torch.zeros(s, device="meta", dtype=torch.long if isinstance(net, nn.Embedding) else None)
                        for s in shapes
                    )
                ).shape
            )
        ).all()


class Tokens(nn.Module):
    "Attention written out in PyTorch's own words, in a module without choices, between elastic layers."

    input_shape = 6, 12

    def __init__(self, attend):
        super().__init__()
        self.inner = scaled(one_of(1, 2, 3), 8, 8)
        self.q, self.k, self.v = (ElasticLinear(12, self.inner) for _ in range(3))
        self.attend, self.out = attend, ElasticLinear(self.inner, 5)

    def forward(self, x):
        return self.out(self.attend(self.q(x), self.k(x), self.v(x)))


class Views(nn.Module):
    def forward(self, q, k, v):
        b, n, c = q.shape
        q, k, v = (t.view(b, n, c // 8, 8).transpose(1, 2) for t in (q, k, v))
        weights = (q @ k.transpose(-2, -1)).softmax(-1)
        return (weights @ v).permute(0, 2, 1, 3).reshape(b, n, -1)


class Chunks(nn.Module):
    def forward(self, q, k, v):
        q, k, v = torch.stack((q, k, v)).unflatten(-1, (-1, 8)).movedim(3, 2).unbind(0)
        out = torch.bmm(q.flatten(0, 1), k.flatten(0, 1).mT).softmax(-1)
        out = torch.einsum('x i j, x j d -> x i d', out, v.flatten(0, 1))
        return torch.cat((out[:, :3], out[:, 3:]), 1).reshape(q.shape[0], -1, q.shape[2], 8).swapaxes(1, 2).flatten(2)


class Names(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm = nn.Identity()

    def forward(self, q, k, v):
        q, k, v = (rearrange(t, 'b n (h d) -> b h n d', d=8) for t in (q, k, v))
        logits = einsum(q, k, 'b h i d, b h j d -> b h i j')
        scores = logits - reduce(logits, 'b h i j -> b h i 1', 'mean')
        return rearrange(einsum(scores, v, 'b h i j, b h j d -> b h i d'), 'b h n d -> b n (h d)')


@pytest.mark.parametrize('attend', [Views, Chunks])
def test_lengths_are_known_through_operations(attend):
    counted(Tokens(attend()))


def test_lengths_are_known_through_einops():
    space = Tokens(Names())  # its functions are not traced: the sizes alone
    m = cost_of(
        space,
        space.input_shape,
        lambda unit, inputs, outputs: math.prod(outputs[0]) if isinstance(unit, Names) else 0,
        'out',
    )
    assert [m(a) for a in (smallest(space), largest(space))] == [6 * 8, 6 * 24]


def test_a_choice_is_read_where_the_lengths_are_made():
    class Read(nn.Module):
        reads_choices = True

        def __init__(self, count):
            super().__init__()
            self.count, self.attend = count, Views()
            self.up, self.down = ElasticLinear(12, scaled(count, 8, 8)), ElasticLinear(scaled(count, 8, 8), 12)

        def forward(self, x):
            x = self.up(x)
            return self.down(x.reshape(x.shape[0], x.shape[1], self.count.value, 8).flatten(2))

    space = Read(one_of(1, 2, 4))
    space.input_shape = 6, 12
    counted(space)


def test_what_cannot_be_known_is_an_error():
    class Odd(nn.Module):  # half of the features, rounded down: of 3 and 5, 1 and 2
        def forward(self, x):
            return x[..., : x.shape[-1] // 2]

    space = nn.Sequential(ElasticLinear(4, one_of(3, 5)), Odd(), nn.Tanh())
    with pytest.raises(ValueError, match='cannot be known'):
        cost_of(space, (6, 4), lambda unit, inputs, outputs: math.prod(inputs[0]), 'n')
    fixed = nn.Sequential(
        ElasticLinear(4, one_of(4, 8)), nn.Unflatten(-1, (2, 4)), nn.Tanh()
    )  # runs for one option alone
    with pytest.raises(ValueError, match='cannot be known'):
        cost_of(fixed, (6, 4), lambda unit, inputs, outputs: math.prod(inputs[0]), 'n')


def test_tokens_through_operators_of_other_widths_and_depths():
    width = one_of(8, 16)
    ops = MixedOp(
        dict(
            same=nn.Identity(),
            linear=ElasticLinear(width, width),
            wide=nn.Sequential(ElasticLinear(width, 24), nn.GELU(), ElasticLinear(24, width)),
        )
    )
    other = MixedOp([ElasticLinear(width, 8), ElasticLinear(width, 12)])
    space = nn.Sequential(
        ElasticLinear(12, width),
        ElasticDepth([ops, ElasticLinear(width, width)], one_of(1, 2)),
        ElasticLayerNorm(width),
        other,
        nn.LayerNorm(8),
    )
    space = nn.Sequential(*list(space)[:4], ElasticLinear(either(other.choice, [8, 12]), 3))
    space.input_shape = 6, 12
    counted(space)


class Odds(Width):
    "A width of one's own: every other channel of another one."

    def kept(self, at):
        return range(0, 2 * (len(self.inner[0].kept(at)) // 2), 2)


def test_a_width_of_ones_own_is_counted():
    base = one_of(4, 6, 8)
    mine = Odds(base)
    space = nn.Sequential(ElasticConv2d(2, mine, 1), ElasticBatchNorm(mine), ElasticConv2d(mine, 3, 3, padding='same'))
    space.input_shape = 2, 5, 5
    m = macs(space, space.input_shape)
    assert [m({'0.out_channels.width': n}) for n in (4, 6, 8)] == [25 * (2 * k + 27 * k) for k in (2, 3, 4)]


def test_costs_of_ones_own():
    space = Transformer((8, 16))

    def moved(unit, inputs, outputs):
        return sum(math.prod(s) for s in (*inputs, *outputs)) + sum(p.numel() for p in unit.parameters())

    traffic, top = (cost_of(space, (8, 16), moved, 'traffic', 'B', reduce) for reduce in ('sum', 'max'))
    rows = sample(space, 200, torch.Generator().manual_seed(0))
    arch = decode(space, rows[:1])[0]
    assert sum(traffic.parts(arch).values()) == traffic(arch) and max(top.parts(arch).values()) == top(arch)
    assert (traffic.batch(rows) >= top.batch(rows)).all() and top.cheapest()[0] <= float(top.batch(rows).min())
    assert weight_bytes(space)(arch) == 4 * count_params(extract(space, arch))
    assert weight_bytes(Transformer((8, 16)).half())(arch) == 2 * count_params(extract(space, arch))
    for bad in (lambda *_: None, lambda *_: math.inf, lambda *_: 'a'):
        with pytest.raises(ValueError, match='finite number'):
            cost_of(space, (8, 16), bad, 'bad')
    with pytest.raises(ValueError, match='number from 0 on'):
        cost_of(space, (8, 16), lambda *_: -1, 'bad', reduce='max')
    with pytest.raises(ValueError, match='sum or max'):
        cost_of(space, (8, 16), moved, 'bad', reduce='mean')


def test_units_that_only_join_are_asked_about_too():
    for space in (small_segmenter(), small_tdnn(frames=50)):

        def weights(unit, inputs, outputs):
            return sum(p.numel() for p in unit.parameters())

        cost, own = cost_of(space, space.input_shape, weights, 'weights', once=True), params(space, space.input_shape)
        rows = sample(space, 5, torch.Generator().manual_seed(0))
        assert cost.batch(rows).tolist() == own.batch(rows).tolist()


def test_weights_that_are_used_twice_are_there_once():
    conv = ElasticConv1d(4, 4, one_of(1, 3), padding='same')
    space = nn.Sequential(conv, nn.ReLU(), conv)

    def weights(unit, inputs, outputs):
        return sum(p.numel() for p in unit.parameters())

    assert cost_of(space, (4, 8), weights, 'weights', once=True)({'0.kernel_size': 3}) == 4 * 4 * 3 + 4
    assert cost_of(space, (4, 8), weights, 'weights')({'0.kernel_size': 3}) == 2 * (4 * 4 * 3 + 4)


def test_the_cheapest_follows_what_is_alive():
    toy, (total, top) = two(1)
    first = total.cheapest()
    first[1]['0'] = None  # what was handed out is the caller's
    assert total.cheapest()[0] == first[0] and total.cheapest()[1]['0'] is not None
    choice = structure(toy).choices[1]
    best = choice.options.index(total.cheapest()[1]['1'])
    choice.alive[best] = False
    rows = every_row(toy)
    assert total.cheapest()[0] == float(total.batch(rows).min()) and total.cheapest()[1]['1'] != choice.options[best]


def test_what_is_counted_is_known_here_without_measuring():
    from nas_suite.choices import largest
    from nas_suite.spaces.mobile import proxyless

    space = proxyless(classes=3, image_size=8, in_channels=1, stem=8, first=0, widths=(8,), depths=(2,), last=16)
    cost, arch = macs(space, (1, 8, 8)), largest(space)
    assert cost.here() and cost.predicted(arch) == cost.reading(space, arch) == cost.readings(space, [arch])[
        0
    ] == Reading(cost(arch))


class Convs(Space):
    input_shape = (1, 8, 8)

    def __init__(self):
        super().__init__()
        width = one_of(4, 8)
        self.a = ElasticConv2d(1, width, one_of(3, 5), padding='same')
        self.b = ElasticConv2d(width, 3, one_of(3, 5, 7), padding='same')

    def forward(self, x):
        return self.b(self.a(x)).mean((2, 3))


@pytest.mark.parametrize('price', [-1e-3, -1.0, 1.0])
def test_no_price_takes_what_is_not_there(price):
    "Tables of a restricted space have no entries for options that are gone."
    space = restrict(Convs(), {'a.kernel_size': 3, 'b.kernel_size': [3, 5]})
    cost = macs(space, space.input_shape)
    row = minimise(structure(space), [(cost, price)])
    end = largest(space) if price < 0 else smallest(space)
    assert decode(space, row) == [end] and float(cost.batch(row)[0]) == cost(end)


# ---- how a unit is called


class Fuse(nn.Module):
    "A fixed convolution after whatever a subclass makes of its arguments."

    def __init__(self, channels=16):
        super().__init__()
        self.conv = nn.Conv2d(channels, 8, 1)


class OfList(Fuse):
    def forward(self, xs):
        return self.conv(torch.cat(list(xs), 1))


class OfDict(Fuse):
    def forward(self, named):
        return self.conv(torch.cat([named['a'], named['b']['c']], 1))


class OfSize(Fuse):
    def forward(self, x, size, again=False):
        y = nn.functional.interpolate(self.conv(x), size)
        return self.conv(y) if again else y


class Named(Fuse):
    def forward(self, x, *, scale, other):
        return self.conv(torch.cat([x * scale, other], 1))


CALLS = {
    'list': (OfList(), lambda fuse, a, b: fuse([a, b])),
    'tuple': (OfList(), lambda fuse, a, b: fuse((a, b))),
    'dict': (OfDict(), lambda fuse, a, b: fuse(dict(a=a, b=dict(c=b)))),
    'size': (OfSize(8), lambda fuse, a, b: fuse(a + b, (4, 4))),
    'size of another': (OfSize(8), lambda fuse, a, b: fuse(a[..., ::2], b.shape[-2:])),
    'flag': (OfSize(8), lambda fuse, a, b: fuse(a + b, (8, 8), again=True)),
    'both flags': (OfSize(8), lambda fuse, a, b: fuse(fuse(a, (8, 8), again=True), size=(8, 4))),
    'by name': (Named(), lambda fuse, a, b: fuse(other=b, x=a, scale=2)),
}


class Fused(Space):
    input_shape = 3, 8, 8

    def __init__(self, fuse, call):
        super().__init__()
        self.stem, self.fuse, self.call = ElasticConv2d(3, 8, one_of(1, 3), padding='same'), fuse, call
        ops = dict(c3=nn.Conv2d(8, 8, 3, padding=1), c5=nn.Conv2d(8, 8, 5, padding=2))
        self.mix, self.head = MixedOp(ops), nn.Linear(8, 4)

    def forward(self, x):
        a = self.stem(x)
        return self.head(self.call(self.fuse, a, self.mix(a)).mean((2, 3)))


@pytest.mark.parametrize('how', CALLS)
def test_a_unit_may_be_called_in_any_way(how):
    from nas_suite.latency.features import FEATURES, QUANTITIES, space_features
    from nas_suite.latency.tables import units

    space = Fused(*CALLS[how])
    total, found = counted(space), space_features(space)
    archs = [largest(space), smallest(space)]
    of_macs = [f'written.{q}' for q in QUANTITIES if q.startswith('macs_')]
    of_macs = [FEATURES.index(name) for name in of_macs]
    assert found(archs)[:, of_macs].sum(1).tolist() == [total(arch) for arch in archs]
    for net, shapes in units(space, space.input_shape, 3).nets.values():
        assert net(*(torch.zeros(s, device='meta') for s in shapes)).shape[0] == 3


def test_attention_and_lists_of_features_are_units():
    from nas_suite.latency.features import space_features
    from torchvision.models.densenet import _DenseBlock

    class Attends(Space):
        input_shape = 5, 8

        def __init__(self):
            super().__init__()
            self.a, self.attend = ElasticLinear(8, width := one_of(4, 8)), nn.MultiheadAttention(8, 2, batch_first=True)
            self.b = ElasticLinear(width, 8)

        def forward(self, x):
            x = self.b(self.a(x))
            return self.attend(x, x, x, need_weights=False)[0]

    class Dense(Space):
        input_shape = 8, 4, 4

        def __init__(self):
            super().__init__()
            self.dense, self.out = _DenseBlock(2, 8, 2, 4, 0.0), ElasticConv2d(16, one_of(4, 8), 1)

        def forward(self, x):
            return self.out(self.dense(x))

    for space in Attends(), Dense():
        counted(space)
        assert space_features(space)([largest(space)]).any()


class Words(Space):
    input_shape, input_dtype = (6,), torch.long

    def __init__(self):
        super().__init__()
        self.look, self.place = nn.Embedding(9, 8), nn.Embedding(6, 8)
        self.a = ElasticLinear(8, width := one_of(4, 8))
        self.b = ElasticLinear(width, 3)

    def forward(self, x):
        x = self.look(x) + self.place(torch.arange(x.shape[1], device=x.device))
        return self.b(self.a(x)).mean(1)


def test_a_space_of_words_is_counted():
    from nas_suite.latency.features import space_features

    space = Words()
    m = macs(space, space.input_shape)
    assert m(largest(space)) == count_macs(extract(space, largest(space)), (6,), torch.long) == 6 * (8 * 8 + 8 * 3)
    assert params(space)(smallest(space)) == 15 * 8 + 9 * 4 + 5 * 3
    assert space_features(space)([largest(space)]).any()


class Dropping(Space):
    "A head without choices that reads its mode stays whole."

    input_shape = 6, 8

    def __init__(self):
        super().__init__()
        self.a = ElasticLinear(8, width := one_of(4, 8))
        self.b, self.head = ElasticLinear(width, 8), Drops()

    def forward(self, x):
        return self.head(self.b(self.a(x))).mean(1)


class Drops(nn.Linear):
    def __init__(self):
        super().__init__(8, 3)

    def forward(self, x):
        return nn.functional.dropout(super().forward(x), 0.3, self.training)


@pytest.mark.parametrize('make', [Words, Dropping])
def test_they_keep_the_contract_of_a_space(make):
    from nas_suite import testing

    for owed in testing.extraction_is_exact, testing.networks_are_data, testing.costs_are_those_of_networks:
        owed(make)


def test_a_network_of_words_is_exported(tmp_path):
    from nas_suite.front.export import export

    space = Words()
    assert export(extract(space, largest(space)), (6,), tmp_path).difference < 1e-4


# ---- what does not fit together


def mixed(**ops):
    return MixedOp(ops)


def small(stride=1, out=8, padding=1):
    return nn.Conv2d(8, out, 3, stride, padding)


class Then(Space):
    input_shape = 3, 8, 8

    def __init__(self, mix, then=None):
        super().__init__()
        self.stem, self.mix, self.then = nn.Conv2d(3, 8, 1), mix, then or nn.AdaptiveAvgPool2d(1)

    def forward(self, x):
        return self.then(self.mix(self.stem(x)))


UNLIKE = {
    'stride': (lambda: mixed(a=small(1), b=small(2)), "'a' and 'b' .* (8, 8, 8) and (8, 4, 4)"),
    'width': (lambda: mixed(a=small(), b=small(out=16)), "'a' and 'b' .* (8, 8, 8) and (16, 8, 8)"),
    'window': (lambda: mixed(a=small(), b=small(), c=nn.AdaptiveAvgPool2d(1)), "'a' and 'c' .* (8, 8, 8) and (8, 1, 1)"),
    'dimensions': (lambda: mixed(a=small(), b=nn.Flatten()), "'a' and 'b' .* (8, 8, 8) and (512)"),
    'a choice': (
        lambda: mixed(a=ElasticConv2d(8, one_of(4, 8), 1), b=small()),
        "'a' and 'b' .* (4/8, 8, 8) and (8, 8, 8)",
    ),
}


@pytest.mark.parametrize('how', UNLIKE)
def test_options_of_different_shapes_are_refused(how):
    make, words = UNLIKE[how]
    words = 'mix.choice: the options ' + words.replace('(', r'\(').replace(')', r'\)')
    for cost in macs, lambda space, shape: params(space):
        with pytest.raises(ValueError, match=words):
            cost(Then(make()), (3, 8, 8))


def test_options_may_differ_in_a_width_that_the_space_has():
    narrow, wide, either_way = small(out=8), small(out=16), one_of(4, 8)
    mix = mixed(a=narrow, b=wide)
    counted(Then(mix, ElasticConv2d(of(mix), 4, 1)))
    twice = concat(either_way, either_way)  # the same channels, put together in two ways
    double = nn.Sequential(ElasticConv2d(8, either_way, 1), Doubled())
    counted(Then(mixed(a=double, b=ElasticConv2d(8, twice, 1)), ElasticConv2d(twice, 4, 1)))


class Doubled(nn.Module):
    def forward(self, x):
        return torch.cat([x, x], 1)


def test_a_batch_dimension_is_said():
    space = Then(mixed(a=small(), b=small()))
    for shape in (1, 3, 8, 8), (16, 3, 8, 8):
        for count in macs, params:
            with pytest.raises(ValueError, match=r'without the batch: give \(3, 8, 8\); found'):
                count(space, shape)
    del Then.input_shape
    try:
        with pytest.raises(ValueError, match=r'without the batch: give \(3, 8, 8\); found \(1, 3, 8, 8\)'):
            macs(space, (1, 3, 8, 8))
        with pytest.raises(ValueError, match='does not run through this space'):
            macs(space, (1, 4, 8, 8))
    finally:
        Then.input_shape = 3, 8, 8


def test_sizes_of_numpy_are_sizes():
    space = Then(mixed(a=small(), b=small()))
    ours, theirs = (3, 8, 8), tuple(np.array([3, 8, 8]))
    assert macs(space, theirs)(smallest(space)) == macs(space, ours)(smallest(space))
    for shape in (3, 8.0, 8), (3, True, 8), (3, 0, 8):
        with pytest.raises(ValueError, match='an input shape is'):
            macs(space, shape)


# ---------------------------------------------------------------- what is free is not run without data

FREE = {
    **{f: dict() for f in ('relu6', 'hardtanh', 'hardswish', 'hardsigmoid', 'relu', 'elu', 'leaky_relu', 'silu', 'gelu')},
    'sigmoid': dict(),
    'tanh': dict(),
    'interpolate': dict(scale_factor=2, mode='bilinear'),
}


class Free(nn.Module):
    "One function between two convolutions, after a batch norm."

    def __init__(self, name, more):
        super().__init__()
        self.first, self.norm, self.last = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 2, 3)
        self.free = lambda x: getattr(nn.functional, name)(x, **more)

    def forward(self, x):
        return self.last(self.free(self.norm(self.first(x))))


@pytest.mark.parametrize('training', [False, True], ids=['evaluated', 'trained'])
@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16])
@pytest.mark.parametrize('name', FREE)
def test_tensors_without_data_come_out_as_those_with(name, dtype, training):
    "Shape, type and count, of what is not run on the meta device and of the same on the CPU."
    net, x = Free(name, FREE[name]).to(dtype).train(training), torch.randn(2, 3, 9, 8, dtype=dtype)
    with torch.no_grad():
        real, macs = from_counter(net, x)
        empty, same = from_counter(net.to('meta'), x.to('meta'))
    assert empty.is_meta and (empty.shape, empty.dtype) == (real.shape, real.dtype) and macs == same > 0


def from_counter(net, x):
    from nas_suite.costs.counts import counted

    return counted(lambda: net(x))


def test_changes_in_place_stay_in_place_without_data():
    x = torch.empty(2, 3, device='meta')
    assert from_counter(nn.ReLU6(inplace=True), x)[0] is x and from_counter(torch.sigmoid_, x)[0] is x
