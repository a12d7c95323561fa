"Widths of one's own, layer norm and embedding, the transformer space: every behaviour against the extracted network."

import sys
from pathlib import Path
import pytest, torch
from torch import nn
from nas_suite.choices import *
from nas_suite.extraction import check, extract
from nas_suite.layers import *

sys.path.insert(0, str(Path(__file__).parent))
from spaces import Conv, Mean, Net, Residual, rows, shaken
from transformer_space import Transformer

D = torch.float64


def given_x(space, n=2):
    return torch.randn(n, *space.input_shape, generator=torch.Generator().manual_seed(0), dtype=D)


def archs_of(space, most=24):
    every = rows(space)
    return decode(space, every[torch.randperm(len(every), generator=torch.Generator().manual_seed(0))[:most]])


def one_hot(space, arch):
    def row(c, n):
        return torch.eye(len(c), dtype=D)[c.options.index(arch[n]) if n in arch else 0]

    return {n: row(c, n) for n, c in choices(space).items()}


# ---- widths of one's own


class Spread(Width):
    "Channels at equal distances: not the first ones, and nothing but `kept` is said."

    def kept(self, at):
        total, n = self.inner[0].most(), len(self.inner[0].kept(at))
        return range(0, total, total // n)


class Rounded(Width):
    "The first channels, a multiple of four."

    def kept(self, at):
        return range(4 * round(len(self.inner[0].kept(at)) / 4))


def own(kind):
    "A space whose inner widths are of one's own, with one more beside and one after the other."
    torch.manual_seed(0)
    w, v = kind(one_of(4, 8, 16)), kind(one_of(8, 16))
    depthwise = Residual(Conv(2, w, w, one_of(1, 3), groups=w), w)
    body = nn.Sequential(Conv(2, 2, w, 3), depthwise, Conv(2, w, v, 3, norm=False), Conv(2, v, scaled(v, 0.5), 1))
    return shaken(Net(body, Mean(), ElasticLinear(scaled(v, 0.5), 3), (2, 5, 5)))


@pytest.mark.parametrize('kind', [Spread, Rounded])
def test_a_width_of_ones_own_runs_everywhere(kind):
    space = own(kind).double().eval()
    x = given_x(space)
    for arch in archs_of(space):
        net = extract(space, arch)
        assert torch.equal(space(x, arch), net(x)) and check(space, arch, net) == 0
        torch.testing.assert_close(space(x, one_hot(space, arch)), net(x), rtol=1e-9, atol=1e-9)
    soft = {n: torch.softmax(torch.arange(len(c), dtype=D), 0) for n, c in choices(space).items()}
    assert torch.isfinite(space(x, soft)).all()


@pytest.mark.parametrize('kind', [Spread, Rounded])
def test_a_width_of_ones_own_is_narrowed_where_it_may_be(kind):
    space = own(kind).double().eval()
    x, name = given_x(space), next(n for n, c in choices(space).items() if c.options == [4, 8, 16])
    for options in ([4, 8], [8, 16]):
        small = extract(restrict(space, {name: options}), {})
        fewer = sum(p.numel() for p in weights(small)) < sum(p.numel() for p in weights(space))
        assert fewer == (kind is Rounded and options == [4, 8])
        for arch in archs_of(small, 8):
            assert torch.equal(small(x, arch), space(x, arch))


def test_what_a_width_of_ones_own_says():
    c = one_of(4, 8, 16)
    spread, rounded = Spread(c), Rounded(one_of(5, 11))
    assert spread.values() == [4, 8, 16] and spread.most() == 16 and spread.least() == 4 and spread.variables() == [c]
    assert (spread.is_prefix, spread.has_places, spread.sortable) == (False, True, False)
    assert rounded.values() == [4, 12]
    assert (rounded.is_prefix, rounded.has_places, rounded.sortable) == (True, False, True)
    assert concat(spread, 2).places(c) and not Rounded(c).places(c) and not spread.in_groups(2)
    assert spread.sizes({c: torch.tensor([2, 0])}).tolist() == [16, 4]
    p = torch.tensor([0.2, 0.3, 0.5])
    torch.testing.assert_close(concat(spread, 2).distribution({c: p}), p)
    spread.read()
    assert c.role == 'width'


def test_channels_of_a_width_of_ones_own_are_sorted():
    from nas_suite.strategies.supernet import sort_channels

    for kind, found in ((Spread, 0), (Rounded, 1)):
        w = kind(one_of(4, 8))
        body = nn.Sequential(Conv(2, 2, w, 3), Conv(2, w, 3, 3))
        space = shaken(Net(body, Mean(), nn.Linear(3, 3), (2, 5, 5))).double().eval()
        x = given_x(space)
        archs = archs_of(space)
        before, weight = [space(x, arch) for arch in archs], space.body[0].conv.weight.clone()
        assert len(sort_channels(space)) == found and torch.equal(weight, space.body[0].conv.weight) == (found == 0)
        for arch, y in zip(archs, before):
            torch.testing.assert_close(space(x, arch), y)


# ---- the algebra against enumeration


def algebra():
    a, b, c, r = one_of(4, 8), one_of(2, 6, 8), one_of('p', 'q'), one_of(0.5, 2)
    return [
        width_of(3),
        width_of(a),
        scaled(a, r, 2),
        grouped(a, 2),
        heads(one_of(1, 3), a),
        heads(b, 4),
        concat(a, 3, b),
        halves(a),
        concat(a, scaled(a, 2)),
        either(c, [a, 5]),
        either(c, [concat(a, 1), grouped(b, 2)]),
        rest(10, a),
        rest(10, either(c, [a, 3])),
        scaled(concat(a, b), 0.5, 1),
        concat(either(c, [a, 2]), either(c, [b, 1])),
        Spread(a),
        concat(Spread(a), b),
    ]


@pytest.mark.parametrize('i', range(17))
def test_answers_follow_from_what_is_kept(i):
    width = algebra()[i]
    raw, found = width.variables(), [width.kept(at) for at in width.combinations()]
    sizes = sorted({len(k) for k in found})
    assert set(sizes) <= set(width.values())
    assert width.most() >= max(k[-1] for k in found) + 1 and width.least() == sizes[0]
    assert all(list(k) == sorted(set(k)) for k in found)
    index = {c: torch.tensor([at(c) for at in width.combinations()]) for c in raw}
    assert width.sizes(index).expand(len(found)).tolist() == [len(k) for k in found]
    g = torch.Generator().manual_seed(0)
    p = {c: torch.rand(len(c), generator=g, dtype=D).softmax(0) for c in raw}
    if raw:
        torch.testing.assert_close(width.distribution(p), Channels.distribution(width, p))
    states = {c: Gates(tuple(range(len(c))), p[c], (True,) * len(c)) for c in raw}
    with selecting(Selection(states)):
        support, mask = list(width.support()), width.mask(torch.zeros(1, dtype=D))
    assert support == sorted({n for k in found for n in k})
    if not raw:
        assert mask is None
        return
    weight = [torch.stack([p[c][at(c)] for c in raw]).prod() for at in width.combinations()]
    torch.testing.assert_close(mask, torch.stack([sum(w for w, k in zip(weight, found) if n in k) for n in support]))
    for at, k in zip(width.combinations(), found):
        with selecting(Selection({c: at(c) for c in raw})):
            assert list(width.support()) == list(k) and width.mask(torch.zeros(1)) is None
    assert width.is_prefix == all(list(k) == list(range(len(k))) for k in found)


# ---- layer norm, embedding, transformers


def test_layer_norm_looks_at_the_channels_that_are_there():
    w = one_of(4, 6)
    norm = ElasticLayerNorm(w).double()
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    m, x = torch.tensor([1.0, 1, 1, 1, 0.3, 0.3], dtype=D), torch.randn(3, 5, 6, dtype=D)
    with selecting(Selection({w: Gates((0, 1), torch.tensor([0.7, 0.3], dtype=D), (True, True))})):
        y = norm(x)
    mean = (m * x).sum(-1, keepdim=True) / m.sum()
    std = ((m * (x - mean) ** 2).sum(-1, keepdim=True) / m.sum() + norm.eps).sqrt()
    torch.testing.assert_close(y, m * ((x - mean) / std * norm.weight + norm.bias))
    p = torch.tensor([0.4, 0.6], dtype=D, requires_grad=True)

    def f(p):
        with selecting(Selection({w: Gates((0, 1), p, (True, True))})):
            return norm(x)

    assert torch.autograd.gradcheck(f, p)


@pytest.mark.parametrize('shape', [(8, 16), (3, 8, 8)])
def test_transformers_behave_alike_however_they_are_selected(shape):
    torch.manual_seed(0)
    space = Transformer(shape).double().eval()
    for m in space.modules():
        if isinstance(m, ElasticLayerNorm):
            nn.init.normal_(m.weight)
            nn.init.normal_(m.bias)
    x = given_x(space)
    every = [largest(space), smallest(space), *decode(space, sample(space, 8, torch.Generator().manual_seed(0)))]
    for arch in every:
        net = extract(space, arch)
        assert not any(type(m).__module__.startswith(('nas_suite', 'transformer')) for m in net.modules())
        assert torch.equal(space(x, arch), net(x)) and check(space, arch, net) == 0
        torch.testing.assert_close(space(x, one_hot(space, arch)), net(x), rtol=1e-9, atol=1e-9)
        gates = {}
        for n, c in choices(space).items():
            i = c.options.index(arch.get(n, c.options[0]))
            gates[n] = Gates((i, (i + 1) % len(c)), torch.tensor([1.0, 0.0], dtype=D), (True, not n.endswith('depth')))
        torch.testing.assert_close(space(x, gates), net(x), rtol=1e-9, atol=1e-9)
    part = extract(space, {'width': 24, 'blocks.depth': 2})
    for arch in decode(part, sample(part, 4, torch.Generator().manual_seed(0))):
        whole = {**arch, 'width': 24, 'blocks.depth': 2}
        torch.testing.assert_close(part(x, arch), space(x, whole), rtol=1e-9, atol=1e-9)


def test_roles_of_a_transformer():
    kinds = roles(Transformer())
    assert kinds.pop('blocks.depth') == 'depth' and set(kinds.values()) == {'width'} and len(kinds) == 7


def test_gradients_reach_every_choice_of_a_transformer():
    space = Transformer(depths=(1, 2), widths=(8, 16)).double()
    soft = {n: c.alpha.softmax(0) for n, c in choices(space.double()).items()}
    space(given_x(space), soft).square().sum().backward()
    assert all(float(a.grad.abs().max()) > 0 for a in alphas(space))


# ---- what they cost


def small_transformer():
    return Transformer((8, 16), widths=(8, 16), counts=(1, 2), dim=4, ratios=(1, 2), depths=(1, 2))


makers = {'Spread': lambda: own(Spread), 'Rounded': lambda: own(Rounded), 'transformer': small_transformer}


@pytest.mark.parametrize('make', makers.values(), ids=makers)
def test_tables_are_what_counting_gives(make):
    from nas_suite.costs import count_macs, count_params, macs, params

    space = make()
    raw, shape = structure(space).choices, space.input_shape
    every = torch.cartesian_prod(*(torch.tensor(c.survivors) for c in raw)).view(-1, len(raw))
    p = [torch.softmax(torch.arange(len(c), dtype=D), 0) for c in raw]
    for cost, count in ((macs(space, shape), lambda net: count_macs(net, shape)), (params(space), count_params)):
        for arch in archs_of(space, 6):
            assert cost(arch) == count(extract(space, arch))
        chance = torch.stack([q[every[:, d]] for d, q in enumerate(p)]).prod(0)
        torch.testing.assert_close(cost.expected(dict(zip(choices(space), p))), (chance * cost.batch(every)).sum())


def test_what_is_left_of_nested_widths_is_no_product_of_their_options(monkeypatch):
    "Soft over twenty levels: each part is asked by itself, where all combinations would be a million."
    width, choices_of = 4, [one_of('a', 'b') for _ in range(20)]
    for level, choice in enumerate(choices_of):
        width = either(choice, [width, 4 + level % 3])
    left, asked, kept = rest(16, width), [], Either.kept
    monkeypatch.setattr(Either, 'kept', lambda self, at: asked.append(1) or kept(self, at))
    even = Gates((0, 1), torch.full((2,), 0.5), (True, True))
    with selecting(Selection({choice: even for choice in choices_of})):
        support, mask = left.support(), left.mask(torch.zeros(1))
    assert len(asked) == 0 and list(support) == list(range(12)) and mask.shape == (12,)
