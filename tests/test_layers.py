"Widths of one's own, layer norm and embedding, the transformer space: every behaviour against the extracted network."

import inspect, itertools, json, re, sys
from pathlib import Path
import pytest, torch
from torch import nn
from nas_suite import layers
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


# ---- each layer by itself


def some_layers():
    "name -> the choices, the input (B, ...) with the width that it has, the width of the output, and the layer."
    w, v, k, d = one_of(4, 8), one_of(2, 6), one_of(3, 5), one_of(1, 2)
    even, both = one_of(2, 4), concat(w, v)
    pairs, few = grouped(w, 2), one_of(2, 4, 8)
    up, same = ElasticConvTranspose2d, dict(padding='same')
    return {
        'conv 3d': ((w, v, k), (w, 3, 4, 5), v, ElasticConv3d(w, v, k, stride=2, **same)),
        'conv 3d, depthwise': ((w, d), (w, 3, 4, 5), w, ElasticConv3d(w, w, 3, dilation=d, groups=w, **same)),
        'conv 3d, along': ((k,), (3, 6, 4, 5), 4, ElasticConv3d(3, 4, k, along=0, transform=True, **same)),
        'up 1d': ((w, v, k), (w, 7), v, ElasticConvTranspose1d(w, v, k, stride=3, **same)),
        'up 2d': ((w, v, even), (w, 3, 4), v, up(w, v, even, stride=2, **same)),
        'up 3d': ((w, v), (w, 2, 3, 4), v, ElasticConvTranspose3d(w, v, 3, 2, 1, 1)),
        'up, dilated': ((w, k, d), (w, 3, 4), 3, up(w, 3, k, 2, dilation=d, transform=True, **same)),
        'up, depthwise': ((w, k), (w, 3, 4), w, up(w, w, k, 2, groups=w, bias=False, masked=True, **same)),
        'up, in groups': ((w,), (pairs, 3, 4), pairs, up(pairs, pairs, 2, 2, groups=2)),
        'up, concat': ((w, v), (both, 3, 4), 3, up(both, 3, 3, 2, 1, 1)),
        'batch norm 3d': ((w,), (w, 3, 4, 5), w, ElasticBatchNorm(w, dims=3)),
        'groups': ((few,), (few, 3, 4), few, ElasticGroupNorm(4, few)),
        'groups that get smaller': ((w,), (pairs, 3, 4), pairs, ElasticGroupNorm(2, pairs)),
        'one group': ((w, v), (both, 3), both, ElasticGroupNorm(1, both, affine=False)),
        'groups of features': ((w,), (w,), w, ElasticGroupNorm(4, w, eps=0.1)),
        'single channels': ((w,), (w, 5), w, ElasticInstanceNorm(w, affine=True, dims=1)),
        'single channels 3d': ((w,), (w, 2, 3, 4), w, ElasticInstanceNorm(w, eps=0.1, dims=3)),
        'slopes': ((w,), (w, 3, 4), w, ElasticPReLU(w)),
        'slopes of features': ((v,), (v,), v, ElasticPReLU(v, 0.5)),
        'fit 3d': ((w, v), (w, 2, 3, 4), v, ElasticFit(w, v, dims=3)),
    }


def random_layer(name):
    "As above, the layer with random weights, and its largest input in place of a shape."
    deciding, (width, *lengths), out, layer = some_layers()[name]
    layer = layer.double().eval()
    for p in layer.parameters():
        nn.init.normal_(p)
    if isinstance(layer, ElasticBatchNorm):
        layer.running_mean.normal_()
        layer.running_var.uniform_(0.5, 2)
    return deciding, width, torch.randn(2, most(width), *lengths, dtype=D), out, layer


def selections(deciding):
    return [dict(zip(deciding, row)) for row in itertools.product(*(range(len(c)) for c in deciding))]


@pytest.mark.parametrize('name', some_layers())
def test_a_layer_is_what_it_stands_for(name):
    from nas_suite.costs import count_macs, count_params

    deciding, width, whole, _, layer = random_layer(name)
    for hard in selections(deciding):
        with selecting(Selection(hard)):
            x = take(whole, 1, support(width))
            y, plain, told = layer(x), layer.plain(), layer.out_shape(x.shape)
            assert type(plain).__module__.startswith('torch.nn.modules') and torch.equal(y, plain(x))
            assert tuple(n if isinstance(n, int) else size(n) for n in told) == y.shape
            assert layer.count(x.shape) == (count_macs(plain, x.shape[1:]), count_params(plain))


@pytest.mark.parametrize('first', [True, False])
@pytest.mark.parametrize('name', some_layers())
def test_a_layer_that_is_soft_and_certain_is_the_selected_one(name, first):
    deciding, width, whole, out, layer = random_layer(name)
    for hard in selections(deciding):

        def certain(i, n):
            pair = (i, (i + 1) % n)
            return Gates(pair if first else pair[::-1], torch.tensor([first, not first], dtype=D), (True, True))

        with selecting(Selection(hard)):
            want, here = layer(take(whole, 1, support(width))), list(support(out))
        with selecting(Selection({c: certain(i, len(c)) for c, i in hard.items()})):
            there = mask(width, whole)
            x = take(whole, 1, support(width))
            y = layer(x if there is None else x * there.view(-1, *[1] * (x.ndim - 2)))
            computed = list(support(out))
        torch.testing.assert_close(y[:, [computed.index(n) for n in here]], want, rtol=1e-9, atol=1e-9)
        rest = y[:, [i for i, n in enumerate(computed) if n not in here]]
        assert not rest.any()


@pytest.mark.parametrize('name', some_layers())
def test_a_layer_is_extracted_written_and_narrowed(name):
    from nas_suite.networks import build, describe

    deciding, width, whole, _, layer = random_layer(name)
    space = nn.Sequential(layer)
    names = {c: n for n, c in choices(space).items()}
    for hard in selections(deciding):
        arch = {names[c]: c.options[i] for c, i in hard.items()}
        with selecting(Selection(hard)):
            x = take(whole, 1, support(width))
        net = extract(space, arch)
        again = build(json.loads(json.dumps(describe(net))))
        again.load_state_dict(net.state_dict())
        assert check(space, arch, net, x) == 0 and torch.equal(again.eval()(x), net(x))


@pytest.mark.parametrize('name', some_layers())
def test_a_layer_is_narrowed(name):
    deciding, width, whole, out, layer = random_layer(name)
    space = nn.Sequential(layer, ElasticDepth([nn.Tanh()], one_of(0, 1)))  # something is left to decide
    names = {c: n for n, c in choices(space).items()}
    least = {names[c]: c.options[0] for c in deciding}
    with selected(space, {**least, '1.depth': 0}):
        x = take(whole, 1, support(width))
        want, n = layer(x), layer.count(x.shape).params
    small = extract(space, least)
    with selected(small, {**least, '1.depth': 0}):
        assert torch.equal(small(x), want) and sum(p.numel() for p in weights(small)) == n


def test_groups_that_are_narrowed_stay_groups():
    few = one_of(2, 4, 8)
    for norm in (ElasticGroupNorm(2, grouped(few, 2)), ElasticGroupNorm(4, few), ElasticGroupNorm(1, few)):
        space = nn.Sequential(norm)
        part = extract(restrict(space, {'0.width*': [2, 4]}), {})
        assert len(part[0].group_of) == 4 and part[0].num_groups == min(2, norm.num_groups)
        x, even = torch.randn(2, 8, 3), torch.tensor([0.5, 0.5])
        with selecting(Selection({few: Gates((0, 1), even, (True, True))})):
            there = torch.tensor(support(norm.width))
            want = norm(x[:, there])
        (narrowed,) = choices(part).values()
        with selecting(Selection({narrowed: Gates((0, 1), even, (True, True))})):
            torch.testing.assert_close(part(x[:, there]), want)


def test_an_embedding_of_words_is_narrowed_and_sorted():
    w = one_of(4, 6)
    words, read = ElasticEmbedding(9, w, padding_idx=-1), ElasticLinear(w, 3)
    ids = torch.tensor([[0, 8, 3], [1, 1, 8]])
    assert not words.weight[8].any()
    with selecting(Selection({w: 0})):
        assert torch.equal(words(ids), words.plain()(ids)) and words.plain().padding_idx == 8
        want = read(words(ids))
    with torch.no_grad(), selecting(Selection({w: 0})):
        order = torch.tensor([2, 0, 3, 1, 4, 5])
        for layer in (words, read):
            layer.reorder(use(layer, w), order)
        torch.testing.assert_close(read(words(ids)), want)


@pytest.mark.parametrize(
    'make, words',
    [
        (lambda: ElasticConvTranspose2d(4, 8, one_of(3, 5), 4, 'same'), 'reach over the stride of 4'),
        (lambda: ElasticConvTranspose2d(4, 8, 4, 1, 'same'), 'stride of 1 needs odd kernels'),
        (lambda: ElasticConvTranspose2d(4, 8, 4, 2, 'same', dilation=one_of(1, 2)), 'all over an even'),
        (lambda: ElasticConvTranspose2d(4, 8, 3, 2, 'same', 1), 'decides the output padding'),
        (lambda: ElasticConvTranspose2d(one_of(4, 8), 8, 3, groups=2), 'grouped'),
        (lambda: ElasticConvTranspose1d(4, one_of('a', 'b'), 3), 'positive ints'),
        (lambda: ElasticGroupNorm(2, one_of(12, 16)), '12 channels .* multiples of 8'),
        (lambda: ElasticGroupNorm(3, 8), '3 groups of 8 channels'),
        (lambda: ElasticGroupNorm(0, 8), '0 groups of 8 channels'),
        (lambda: ElasticGroupNorm(2, concat(one_of(2, 4), 6)), 'no equal groups'),
        (lambda: ElasticInstanceNorm(4, dims=2)(torch.zeros(1, 4, 3)), 'takes a tensor of 4'),
    ],
)
def test_what_no_ordinary_layer_could_be_is_refused(make, words):
    with pytest.raises(ValueError, match=words):
        make()


@pytest.mark.parametrize('norm', [lambda w: ElasticGroupNorm(1, w), ElasticInstanceNorm])
def test_a_norm_does_not_undo_a_mask(norm):
    w = one_of(4, 8)
    space, even = nn.Sequential(ElasticConv2d(3, w, 1), norm(w)), Gates((0, 1), torch.tensor([0.5, 0.5]), (True, True))
    with selecting(Selection({w: even})), pytest.raises(ValueError, match='bias=False or masked=False'):
        space(torch.zeros(1, 3, 2, 2))


def test_group_norm_looks_at_the_channels_that_are_there():
    w = one_of(4, 8)
    norm = ElasticGroupNorm(2, grouped(w, 2)).double()
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    x, m = torch.randn(3, 8, 5, dtype=D), torch.tensor([1, 1, 0.3, 0.3] * 2, dtype=D)

    def run(p):
        with selecting(Selection({w: Gates((0, 1), p, (True, True))})):
            return norm(x)

    y = run(torch.tensor([0.7, 0.3], dtype=D))
    for group in (slice(0, 4), slice(4, 8)):
        part, n = x[:, group], m[group].view(1, 4, 1)
        mean = (n * part).sum((1, 2), keepdim=True) / (5 * n.sum())
        std = ((n * (part - mean) ** 2).sum((1, 2), keepdim=True) / (5 * n.sum()) + norm.eps).sqrt()
        weight, bias = norm.weight[group].view(1, 4, 1), norm.bias[group].view(1, 4, 1)
        torch.testing.assert_close(y[:, group], n * ((part - mean) / std * weight + bias))
    assert torch.autograd.gradcheck(run, torch.tensor([0.4, 0.6], dtype=D, requires_grad=True))


def test_a_group_that_is_not_there_has_the_gradient_that_it_would_have():
    w = one_of(4, 8)
    norm, x = ElasticGroupNorm(2, w).double(), torch.randn(3, 8, 5, dtype=D)
    p = torch.tensor([1.0, 0.0], dtype=D, requires_grad=True)
    with selecting(Selection({w: Gates((0, 1), p, (True, True))})):
        (norm(x) * x).sum().backward()
    with selecting(Selection({w: 1})):
        first, second = (norm(x) * x).unflatten(1, (2, 4)).sum((0, 2, 3)).tolist()
    torch.testing.assert_close(p.grad, torch.tensor([first, first + second], dtype=D))


def test_channels_around_transposed_convolutions_and_norms_are_sorted():
    from nas_suite.strategies.supernet import sort_channels

    w, v, kept_so = one_of(4, 8), one_of(2, 6), one_of(4, 8)
    parts = [
        ElasticConvTranspose2d(2, w, 2, stride=2),
        ElasticGroupNorm(1, w),
        ElasticPReLU(w),
        ElasticConvTranspose2d(w, w, 3, padding=1, groups=w),
        ElasticInstanceNorm(w, affine=True),
        ElasticConvTranspose2d(w, v, 2, stride=2),
        ElasticConvTranspose2d(v, kept_so, 1),
        ElasticGroupNorm(2, kept_so),
        ElasticConv2d(kept_so, 3, 1),
    ]
    space = nn.Sequential(*parts).double().eval()
    for p in space.parameters():
        if p.ndim < 2 and p.numel() > 1:
            nn.init.normal_(p)
    x, archs = torch.randn(2, 2, 3, 3, dtype=D), archs_of(space)

    def run(arch):
        with torch.no_grad(), selected(space, arch):
            return space(x)

    before, stored = [run(arch) for arch in archs], parts[5].weight.clone()
    assert sort_channels(space) == [w, v] and not torch.equal(parts[5].weight, stored)
    for layer, width in ((parts[5], w), (parts[6], v)):
        assert all(layer.importance()[: values(width)[0]].diff() <= 0)
    for arch, y in zip(archs, before):
        torch.testing.assert_close(run(arch), y)


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


def elastic_layers():
    "The elastic layers that stand for layers of PyTorch."
    from nas_suite import layers
    from nas_suite.choices import _elastic

    return [(name, getattr(layers, f'Elastic{name}')) for name in sorted(_elastic)]


def test_an_elastic_layer_is_named_where_there_is_one():
    from nas_suite import layers

    named = {name for name, _ in elastic_layers()}
    others = {'Conv', 'ConvTranspose', 'Depth', 'Resolution', 'Fit'}  # their base, and what PyTorch has not
    others |= {'Attention', 'Parameter'}  # of a network that is given: PyTorch has them by other names
    assert named | others == {name[7:] for name in layers.__all__ if name.startswith('Elastic')}


TAKEN = {
    'Conv2d': lambda c: nn.Conv2d(3, c, 3),
    'Conv1d': lambda c: nn.Conv1d(c, 3, 3),
    'Conv3d': lambda c: nn.Conv3d(3, 3, c),
    'ConvTranspose2d': lambda c: nn.ConvTranspose2d(c, 3, 3),
    'Linear': lambda c: nn.Linear(3, c),
    'BatchNorm': lambda c: nn.BatchNorm2d(c),
    'InstanceNorm': lambda c: nn.InstanceNorm1d(c, affine=True),
    'LayerNorm': lambda c: nn.LayerNorm(c),
    'GroupNorm': lambda c: nn.GroupNorm(2, c),
    'Embedding': lambda c: nn.Embedding(9, c),
}


@pytest.mark.parametrize('name', TAKEN)
def test_a_layer_of_pytorch_takes_no_choice(name):
    for width in one_of(8, 16), scaled(one_of(8, 16), 2):
        with pytest.raises(ValueError, match=f'takes numbers, and .* is none: use nas_suite.layers.Elastic{name}$'):
            TAKEN[name](width)


LAYERS_OF_TORCH = [
    kind
    for name, kind in sorted(vars(nn).items())
    if isinstance(kind, type) and issubclass(kind, nn.Module) and kind.__module__ != 'torch.nn.modules.container'
    if kind is not nn.Module and set(inspect.signature(kind).parameters) - {'args', 'kwargs'}
]


@pytest.mark.parametrize('kind', LAYERS_OF_TORCH, ids=lambda kind: kind.__name__)
def test_no_layer_of_pytorch_takes_a_choice(kind):
    "Whatever argument it is, and however a layer looks at it."
    taken = inspect.signature(kind).parameters.values()
    needed = {p.name: 2 for p in taken if p.default is p.empty and p.kind is p.POSITIONAL_OR_KEYWORD}
    for name in [p.name for p in taken if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]:
        for given in one_of(1, 2), scaled(one_of(1, 2), 2), (one_of(1, 2), 1):
            with pytest.raises(ValueError, match=f'^nn.{kind.__name__} takes numbers, and .* is none: ') as e:
                kind(**needed | {name: given})
            elastic = re.search(r'use nas_suite.layers.(\w+)$', str(e.value))
            assert hasattr(layers, elastic[1]) if elastic else 'there is no elastic one' in str(e.value)


def test_layers_that_take_anything_take_no_choice():
    "A recurrent layer says nothing of its arguments in its signature; a layer that is built on one says which that is."
    class Own(nn.Linear):
        pass

    for make, name in (nn.LSTM, 'LSTM'), (nn.GRU, 'GRU'), (nn.RNN, 'RNN'), (Own, 'Linear'):
        with pytest.raises(ValueError, match=f'nn.{name} takes numbers'):
            make(3, one_of(8, 16))
    nn.ModuleList([one_of(1, 2)]), nn.ModuleDict(dict(a=one_of(1, 2))), nn.Sequential(nn.ReLU())
    assert str(inspect.signature(nn.Conv2d)).startswith('(in_channels: int')


def test_what_is_no_number_says_so():
    choice = one_of(8, 16)
    with pytest.raises(ValueError, match='nn.MultiheadAttention takes numbers.*there is no elastic one; a MixedOp'):
        nn.MultiheadAttention(choice, 2)
    for taken in lambda: choice // 2, lambda: 2 * choice, lambda: choice < 3, lambda: range(choice), lambda: list(choice):
        with pytest.raises(ValueError, match=r'Choice\(8, 16\) is no number'):
            taken()
    for taken in lambda: torch.zeros(choice), lambda: torch.ones(3).view(choice, 1), lambda: torch.ones(16) * choice:
        with pytest.raises(ValueError, match=r'Choice\(8, 16\) is no number'):
            taken()
    assert choice != 8 and choice == choice and len(choice) == 2


@pytest.mark.parametrize('late', [False, True])
def test_operators_of_other_sizes_are_not_mixed(late):
    mix = MixedOp(dict(a=nn.Conv2d(4, 4, 1), b=nn.AdaptiveAvgPool2d(1), c=nn.Conv2d(4, 4, 3, 2, 1)))
    gates = Gates((0, 2), torch.tensor([1.0, 0.0], requires_grad=True), (True, False), late)
    with pytest.raises(ValueError, match=r"choice: the options 'a' and 'c' .* \(4, 6, 6\) and \(4, 3, 3\)"):
        with selected(mix, {'choice': gates}):
            mix(torch.randn(2, 4, 6, 6)).sum().backward()


def test_operators_are_modules_with_names_that_there_is_room_for():
    for name in 'half', 'keys', 'forward', 'training', 'a.b', '':
        with pytest.raises(ValueError, match=f'an operator cannot be called {name!r}'):
            MixedOp({'first': nn.ReLU(), name: nn.GELU()})
    with pytest.raises(ValueError, match="two operators are called '1'"):
        MixedOp({1: nn.ReLU(), '1': nn.GELU()})
    for ops, found in ({'a': nn.ReLU(), 'b': 3}, "'b' is to be a module; found 3"), ([nn.ReLU], "'0' is to be a module"):
        with pytest.raises(ValueError, match=found):
            MixedOp(ops)
    with pytest.raises(ValueError, match='a dict of operators, or a list of them; found None'):
        MixedOp(None)
    assert len(MixedOp(layer() for layer in (nn.ReLU, nn.GELU))) == 2
