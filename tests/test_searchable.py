"A given network as a space: what is found, that the largest is the given one, that a smaller one is it without channels."

import copy, pickle, sys
from collections import Counter
from functools import cache
from pathlib import Path
import pytest, torch
from einops import rearrange
from einops.layers.torch import Rearrange, Reduce
from torch import nn
from torch.nn import functional as F
from torch.utils._pytree import tree_leaves
from nas_suite import testing
from nas_suite.choices import choices, largest, restrict, sample, selected, smallest
from nas_suite.costs import macs, params
from nas_suite.extraction import check, extract
from nas_suite.front.export import exported
from nas_suite.layers import Top, Droppable, ElasticAttention, ElasticParameter, support
from nas_suite.spaces.searchable import searchable

sys.path.insert(0, str(Path(__file__).parent))
from given_networks import NETWORKS, Words, lively, made


@cache
def space_of(name):
    return searchable(made(name), NETWORKS[name][1])


def batch(shape):
    return torch.randn(2, *shape, generator=torch.Generator().manual_seed(1))


def tensors(output):
    return [t for t in tree_leaves(output) if isinstance(t, torch.Tensor)]


@torch.no_grad()
def differ(one, other) -> float:
    "The largest difference of two outputs."
    pairs = list(zip(tensors(one), tensors(other), strict=True))
    return max(float((a.double() - b.double()).abs().max()) for a, b in pairs)


def some(space, n):
    "The smallest architecture, and random ones."
    return [smallest(space), *(sample(space, generator=torch.Generator().manual_seed(i)) for i in range(n))]


# ---------------------------------------------------------------- what is found

tiny = '32 pixels are few, or no multiple of 32'
FOUND = {  # name -> how many choices of each kind, how many layers write what stays, other things that stay
    'resnet, basic': (dict(width=9, kernel=1, depth=1), {'fc'}),
    'resnet, bottleneck': (dict(width=17, kernel=1, depth=2), {'fc'}),
    'mobilenet v2': (dict(width=7, depth=1), {'classifier.1'}),
    'mobilenet v3': (dict(width=10, kernel=2, depth=1), {'classifier.3'}),
    'efficientnet': (dict(width=8, depth=2, kernel=2), {'classifier.1'}),
    'convnext': (dict(width=6, kernel=4, depth=2), {'classifier.2', 'features.0.0.kernel'}),
    'densenet': (dict(width=10, kernel=1), {'classifier'}),
    'regnet': (dict(width=9, depth=1), {'fc'}),
    'shufflenet': (dict(width=12), {'fc'}),
    'vision transformer': (dict(width=3, heads=2, depth=2), {'heads.head', 'conv_proj.kernel'}),
    'swin': (
        dict(width=4, depth=2),
        {'features.0.0', 'features.2.reduction', 'head', 'features.0.0.kernel'}
        | {f'features.{i}.{j}.mlp.3' for i in (1, 3) for j in (0, 1)},
    ),
    'maxvit': (dict(width=17, depth=4), {'classifier.5'}),
    'deeplab': (dict(width=12, depth=1), {'classifier.4'}),
    'u-net': (dict(width=12), {'out'}),
    'ecapa': (dict(width=15, kernel=1, depth=1), {'head'}),
    'encoder': (dict(width=7, depth=1), {'head'}),
    'encoder of pytorch': (dict(width=3, heads=2, depth=1), {'head'}),
    'encoder of pytorch, time first': (dict(width=3, heads=2, depth=4), {'head'}),
}


@pytest.mark.parametrize('name', FOUND)
def test_choices_are_found_and_what_stays_is_listed(name):
    space, (kinds, left) = space_of(name), FOUND[name]
    assert Counter(key.rpartition('.')[2].rstrip('0123456789') for key in choices(space)) == kinds
    assert set(space.left_out) - {'resolution'} == left
    assert all(isinstance(reason, str) and reason for reason in space.left_out.values())
    if len(NETWORKS[name][1]) == 3: assert space.left_out['resolution'] == tiny


@pytest.mark.parametrize('name', NETWORKS)
def test_the_largest_is_the_given_network_and_others_are_extracted(name):
    space, x = space_of(name), batch(NETWORKS[name][1])
    given = made(name)(x)
    assert not differ(space(x, largest(space)), given) and all(bool(t.any()) for t in tensors(given))
    for arch in some(space, 2):
        assert check(space, arch, extract(space, arch), x) == 0


@pytest.mark.parametrize('name', NETWORKS)
def test_half_of_the_macs_is_within_the_space(name):
    space = space_of(name)
    cost = macs(space, NETWORKS[name][1])  # is compared with networks that are counted
    assert cost(smallest(space)) < cost(largest(space)) / 2


def test_networks_are_exported():
    for name in ('shufflenet', 'encoder'):
        space, x = space_of(name), batch(NETWORKS[name][1])
        net = extract(space, some(space, 1)[1])
        assert differ(exported(net, x).module()(x), net(x)) < 1e-4


# ---------------------------------------------------------------- what a smaller network is


def layers(space) -> dict:
    "The elastic layers of a space by the names that they have in the given network."
    blocks, found = [n for n, m in space.network.named_modules() if isinstance(m, Droppable)], {}
    for name, layer in space.network.named_modules():
        inside = next((b for b in blocks if name.startswith(f'{b}.block.')), None)
        found[name if inside is None else name.removeprefix(f'{inside}.block.')] = layer
    return {name: layer for name, layer in found.items() if hasattr(layer, 'plain') and not name.startswith('norms.')}


def zero(tensor, dim, kept):
    "Zeros wherever a channel is gone."
    gone = [i for i in range(tensor.shape[dim]) if i not in set(kept)]
    tensor.index_fill_(dim, torch.tensor(gone, dtype=torch.long), 0)


@torch.no_grad()
def zeroed(net, space, arch, reads=False) -> nn.Module:
    "The given network with zeros for whatever an architecture is without."
    with selected(space, arch):
        for name, layer in layers(space).items():
            if isinstance(layer, ElasticParameter):
                zero(net.get_parameter(name), layer.dim, support(layer.width))
                continue
            own = net.get_submodule(name)
            if isinstance(layer, ElasticAttention):
                zero(own.out_proj.weight, 1, support(layer.inner))
                continue
            width = next(getattr(layer, n) for n in ('out_channels', 'out_features', 'width') if hasattr(layer, n))
            transposed = isinstance(own, nn.modules.conv._ConvTransposeNd)
            zero(own.weight, int(transposed), support(width))
            if getattr(own, 'bias', None) is not None: zero(own.bias, 0, support(width))
            if reads and hasattr(layer, 'in_channels'): zero(own.weight, 1, support(layer.in_channels))
    return net


def shuffled(space):
    "The same space with members of random ranks."
    generator = torch.Generator().manual_seed(3)
    for choice in choices(space).values():
        if isinstance(choice, Top): choice.sort(torch.rand(len(choice.order), generator=generator))
    return space


encoders = 'encoder', 'encoder of pytorch', 'encoder of pytorch, time first'
SUMS = {'vision transformer', 'swin', 'maxvit', 'convnext', *encoders}


def without_channels(space, arch, inner: bool) -> dict:
    "An architecture of all blocks and kernels, and where a norm sums over channels, of all channels that it sums over."
    whole, kept = largest(space), ('width', 'heads')
    found = {name: arch.get(name, whole[name]) if name.split('.')[-1].startswith(kept) else whole[name] for name in whole}
    if not inner: return found
    within = '.heads', 'mlp.0.width', 'feed.0.width', 'linear1.width', 'qkv.width', 'block.3.width', 'mlp_layer.1.width'
    return {name: option if name.endswith(within) else whole[name] for name, option in found.items()}


@pytest.mark.parametrize('name', NETWORKS)
def test_a_smaller_network_is_the_given_one_with_zeros_in_it(name):
    space, x = shuffled(copy.deepcopy(space_of(name))).double(), batch(NETWORKS[name][1]).double()
    assert not differ(space(x, largest(space)), made(name).double()(x))
    for arch in some(space, 1):
        arch = without_channels(space, arch, name in SUMS)
        net = zeroed(made(name).double(), space, arch, reads=name == 'ecapa')
        assert differ(extract(space, arch)(x), net(x)) < 1e-9, arch


def test_the_best_members_stay():
    space = space_of('resnet, basic')
    space = copy.deepcopy(space)
    choice, layer = choices(space)['layer1.0.conv1.width'], layers(space)['layer1.0.conv1']
    scores = torch.randn(64)
    choice.sort(scores)
    with selected(space, largest(space) | {'layer1.0.conv1.width': 24}):
        assert list(support(layer.out_channels)) == sorted(scores.topk(24).indices.tolist())
        assert torch.equal(layer.plain().weight, layer.weight[sorted(scores.topk(24).indices.tolist())])


def test_blocks_that_stay_are_the_best():
    space, x = copy.deepcopy(space_of('resnet, basic')), batch((3, 32, 32))
    net = made('resnet, basic')
    choices(space)['layer1.depth'].sort([0.1, 0.9])
    arch = largest(space) | {'layer1.depth': 1}
    net.layer1[0] = nn.Identity()
    assert not differ(space(x, arch), net(x)) and not differ(extract(space, arch)(x), net(x))


# ---------------------------------------------------------------- between layers


def conv(channels, out, kernel=3):
    return nn.Sequential(nn.Conv2d(channels, out, kernel, padding=kernel // 2), nn.BatchNorm2d(out), nn.ReLU())


class Between(nn.Module):
    "Two convolutions and what a function does in between."

    def __init__(self, f, out=16, **parts):
        super().__init__()
        self.a, self.b, self.head, self.f = conv(3, 16), conv(out, 16), nn.Linear(16, 5), f
        for name, part in parts.items():
            setattr(self, name, part)

    def forward(self, x):
        return self.head(self.b(self.f(self, self.a(x))).mean((2, 3)))


def attention_of_channels(m, x):
    q = x.flatten(2)
    return (torch.softmax(q @ q.transpose(1, 2), -1) @ q).view_as(x)


def on_maps(m, x):
    y = m.put(F.gelu(m.up(x.permute(0, 2, 3, 1))))
    return x + y.permute(0, 3, 1, 2)


def halves(m, x):
    a, b = x.chunk(2, 1)
    return a * b


def maxout(m, x):
    b, c, h, w = x.shape
    return x.view(b, 2, c // 2, h, w).amax(1)


def shuffle(m, x):
    b, c, h, w = x.shape
    return x.view(b, 4, c // 4, h, w).transpose(1, 2).reshape(b, c, h, w)


def recurrent(m, x):
    return m.r(x.mean(3).transpose(1, 2))[0].transpose(1, 2).unsqueeze(3)


class Decides(nn.Module):
    def forward(self, x):
        return x if x.sum() > 0 else -x


def hooked():
    net = conv(16, 16)
    net[0].register_forward_hook(lambda module, args, output: output * 2)
    return net


class Halving(nn.Conv2d):
    def __init__(self, channels):
        super().__init__(channels, channels, 3, stride=2, padding=1)


wn, sn = torch.nn.utils.parametrizations.weight_norm, torch.nn.utils.spectral_norm
SEARCHED = {  # what is done between two layers whose channels are searched then
    'pools of a given size': lambda: Between(lambda m, x: F.adaptive_avg_pool2d(x, 4) + F.adaptive_max_pool2d(x, 4)),
    'pool of einops': lambda: Between(lambda m, x: m.r(x), r=Reduce('b c (h 2) (w 2) -> b c h w', 'mean')),
    'slices': lambda: Between(lambda m, x: torch.cat([x[:, :6] * 2, x[:, 6:]], 1)),
    'slices from the end': lambda: Between(lambda m, x: torch.cat([x[:, -4:], x[:, :-4]], 1)),
    'narrow': lambda: Between(lambda m, x: torch.cat([x.narrow(1, 8, 8), x.narrow(1, 0, 8)], 1)),
    'parts of sizes': lambda: Between(lambda m, x: torch.cat(torch.split(x, [4, 12], 1)[::-1], 1)),
    'parts of a size': lambda: Between(lambda m, x: torch.cat(x.split(6, 1)[::-1], 1)),
    'halves that multiply': lambda: Between(halves, 8),
    'one by one': lambda: Between(lambda m, x: torch.stack(torch.unbind(x, 1), 1)),
    'pixel shuffle': lambda: Between(lambda m, x: F.pixel_shuffle(x, 2), 4),
    'pixels there and back': lambda: Between(lambda m, x: m.d(m.u(x)), u=nn.PixelShuffle(2), d=nn.PixelUnshuffle(2)),
    'shuffle': lambda: Between(shuffle),
    'backwards': lambda: Between(lambda m, x: x.flip(1)),
    'more channels of zeros': lambda: Between(lambda m, x: F.pad(x, (0, 0, 0, 0, 2, 2)), 20),
    'repeated': lambda: Between(lambda m, x: x.repeat(1, 2, 1, 1), 32),
    'repeated one by one': lambda: Between(lambda m, x: x.repeat_interleave(2, 1), 32),
    'sizes of pictures': lambda: Between(lambda m, x: F.interpolate(x, scale_factor=2)),
    'where': lambda: Between(lambda m, x: torch.where(x > 1, x, 0.1 * x)),
    'in place': lambda: Between(lambda m, x: x.mul_(2).relu_()),
    'one layer twice': lambda: Between(lambda m, x: m.b(m.b(x))),
    'own parameters': lambda: Between(lambda m, x: x * m.w, w=nn.Parameter(torch.rand(16, 1, 1))),
    'own matrix': lambda: Between(
        lambda m, x: torch.einsum('bchw,cd->bdhw', x, m.w), w=nn.Parameter(torch.randn(16, 16))
    ),
    'last channels': lambda: Between(on_maps, up=nn.Linear(16, 32), put=nn.Linear(32, 16)),
    'group norm of a concatenation': lambda: Between(
        lambda m, x: m.n(torch.cat([x, m.c(x)], 1)), 32, n=nn.GroupNorm(4, 32), c=conv(16, 16)
    ),
    'groups of a concatenation': lambda: Between(
        lambda m, x: m.g(torch.cat([x, m.c(x)], 1)), 32, g=nn.Conv2d(32, 32, 3, 1, 1, groups=4), c=conv(16, 16)
    ),
    'more channels by depth': lambda: Between(lambda m, x: m.g(x), 32, g=nn.Conv2d(16, 32, 3, 1, 1, groups=16)),
    'groups that differ': lambda: Between(lambda m, x: m.g(x), 32, g=nn.Conv2d(16, 32, 3, 1, 1, groups=4)),
    'squeeze and excitation': lambda: Between(
        lambda m, x: x * m.e(F.relu(m.s(F.adaptive_avg_pool2d(x, 1)))).sigmoid(),
        s=nn.Conv2d(16, 4, 1),
        e=nn.Conv2d(4, 16, 1),
    ),
    'a sum of several': lambda: Between(lambda m, x: sum(c(x) for c in m.c), c=nn.ModuleList(conv(16, 16) for _ in '12')),
    'a class of its own': lambda: Between(lambda m, x: m.c(x), c=Halving(16)),
    'layers': lambda: Between(lambda m, x: m.s(x), s=nn.Sequential(nn.PReLU(16), nn.InstanceNorm2d(16, affine=True))),
}
STAYS = {  # what is done between two layers whose channels stay then -> a word of the reason
    'a pattern with sizes': (lambda: Between(lambda m, x: rearrange(x, 'b (g c) h w -> b (c g) h w', g=4)), 'of its own'),
    'a layer with sizes': (
        lambda: Between(lambda m, x: m.r(x), r=Rearrange('b (g c) h w -> b (c g) h w', g=4, c=4)),
        'of its own',
    ),
    'a shuffle in one': (lambda: Between(lambda m, x: F.channel_shuffle(x, 4)), 'of its own'),
    'every second': (lambda: Between(lambda m, x: torch.cat([x[:, ::2], x[:, 1::2]], 1)), 'not understood'),
    'parts otherwise': (lambda: Between(lambda m, x: torch.cat(torch.tensor_split(x, 2, 1)[::-1], 1)), 'of its own'),
    'zeros up to a size': (
        lambda: Between(lambda m, x: m.c(x) + F.pad(x, (0, 0, 0, 0, 8, 8)), 32, c=conv(16, 32)),
        'of its own',
    ),
    'attention of channels': (lambda: Between(attention_of_channels), 'multiplies two widths'),
    'softmax of channels': (lambda: Between(lambda m, x: x.softmax(1)), 'softmax over channels'),
    'mean of channels': (lambda: Between(lambda m, x: x - x.mean(1, keepdim=True)), 'several channels'),
    'length of channels': (lambda: Between(lambda m, x: F.normalize(x, dim=1)), 'normalize'),
    'sum so far': (lambda: Between(lambda m, x: x.cumsum(1)), 'cumsum'),
    'largest of two': (lambda: Between(maxout, 8), 'several channels'),
    'numbers of channels': (lambda: Between(lambda m, x: x[:, m.i], i=torch.randperm(16)), 'index'),
    'a norm of everything': (lambda: Between(lambda m, x: m.n(x), n=nn.LayerNorm([16, 8, 8])), 'several dimensions'),
    'functional convolution': (
        lambda: Between(lambda m, x: F.conv2d(x, m.w, padding=1), w=nn.Parameter(torch.randn(16, 16, 3, 3))),
        'convolution',
    ),
    'weight norm': (lambda: Between(lambda m, x: m.c(x), c=wn(nn.Conv2d(16, 16, 3, 1, 1))), 'convolution'),
    'spectral norm': (lambda: Between(lambda m, x: m.c(x), c=sn(nn.Conv2d(16, 16, 3, 1, 1))), 'convolution'),
    'a hook': (lambda: Between(lambda m, x: m.c(x), c=hooked()), 'convolution'),
    'recurrent': (lambda: Between(recurrent, r=nn.LSTM(16, 16, batch_first=True)), 'is recurrent'),
    'groups transposed': (
        lambda: Between(lambda m, x: m.c(x), 24, c=nn.ConvTranspose2d(16, 24, 4, 2, 1, groups=2)),
        'several groups',
    ),
    'a decision': (lambda: Between(lambda m, x: m.d(x), d=Decides()), 'several channels'),
}


@torch.no_grad()
def converted(net, x, **how):
    "A network as a space, after everything was compared: the given one, three extracted ones, the weights."
    net = lively(net)
    before = {name: t.clone() for name, t in net.state_dict().items()}
    space = searchable(net, x, steps=2, **how)
    assert not differ(space(x, largest(space)), net(x))
    for arch in some(space, 2):
        assert check(space, arch, extract(space, arch), x) == 0
    assert all(torch.equal(t, before[name]) for name, t in net.state_dict().items())
    return space


@pytest.mark.parametrize('what', SEARCHED)
def test_channels_are_followed(what):
    torch.manual_seed(0)
    net, x = SEARCHED[what](), batch((3, 8, 8))
    space = converted(net, x)
    assert 'a.0.width' in choices(space) and set(space.left_out) == {'head', 'resolution'}
    macs(space, (3, 8, 8)), params(space, (3, 8, 8))
    shuffled(space).double()
    for arch in some(space, 1):
        arch = without_channels(space, arch, False)
        zeros = zeroed(copy.deepcopy(net).double(), space, arch)
        assert differ(extract(space, arch)(x.double()), zeros(x.double())) < 1e-9


class Flat(nn.Module):
    "A linear layer that reads every number of a picture."

    def __init__(self, f):
        super().__init__()
        self.a, self.head, self.f = conv(3, 16), nn.Linear(16 * 16, 5), f

    def forward(self, x):
        return self.head(self.f(F.max_pool2d(self.a(x), 2)))


FLATTENED = {
    'flatten': lambda x: torch.flatten(x, 1),
    'method': lambda x: x.flatten(1),
    'layer': nn.Flatten(),
    'view': lambda x: x.view(x.size(0), -1),
    'numbers': lambda x: x.reshape(-1, 16 * 16),
    'einops': lambda x: rearrange(x, 'b c h w -> b (c h w)'),
}


@pytest.mark.parametrize('how', FLATTENED)
def test_channels_are_followed_into_a_flattened_picture(how):
    torch.manual_seed(0)
    net, x = Flat(FLATTENED[how]), batch((3, 8, 8))
    space = shuffled(converted(net, x)).double()
    assert list(choices(space)) == ['a.0.width']
    macs(space, (3, 8, 8))
    arch = {'a.0.width': 6}
    assert differ(extract(space, arch)(x.double()), zeroed(copy.deepcopy(net).double(), space, arch)(x.double())) < 1e-9


@pytest.mark.parametrize('what', STAYS)
def test_channels_that_cannot_be_followed_stay_and_are_listed(what):
    torch.manual_seed(0)
    make, reason = STAYS[what]
    net = make()
    space = converted(net, batch((3, 8, 8)))
    assert 'a.0.width' not in choices(space) and 'b.0.width' in choices(space) and reason in space.left_out['a.0']
    if what != 'a decision': macs(space, (3, 8, 8))


class Blocks(nn.Module):
    "Two residual blocks whose sums are written in one of many ways."

    def __init__(self, join, **parts):
        super().__init__()
        self.stem, self.blocks, self.join = conv(3, 16), nn.ModuleList(conv(16, 16) for _ in '12'), join
        self.head = nn.Linear(16, 5)
        for name, part in parts.items():
            setattr(self, name, part)

    def forward(self, x):
        x = self.stem(x)
        for block in self.blocks:
            x = self.join(self, x, block)
        return self.head(x.mean((2, 3)))


def added_in_place(m, x, block):
    y = block(x)
    y += m.shortcut(x)
    return F.relu(y)


BLOCKS = {
    'a sum': lambda: Blocks(lambda m, x, block: x + block(x)),
    'a function': lambda: Blocks(lambda m, x, block: torch.add(block(x), x)),
    'an identity': lambda: Blocks(lambda m, x, block: block(x) + m.shortcut(x), shortcut=nn.Identity()),
    'an identity, in place': lambda: Blocks(added_in_place, shortcut=nn.Identity()),
    'an empty shortcut': lambda: Blocks(added_in_place, shortcut=nn.Sequential()),
    'identities in a row': lambda: Blocks(added_in_place, shortcut=nn.Sequential(nn.Identity(), nn.Identity())),
    'a copy': lambda: Blocks(lambda m, x, block: x.clone() + block(x)),
    'a copy, in order': lambda: Blocks(lambda m, x, block: F.relu(x.clone().contiguous() + block(x), inplace=True)),
    'scaled': lambda: Blocks(lambda m, x, block: x + 0.5 * block(x.sigmoid())),
}


@pytest.mark.parametrize('how', BLOCKS)
def test_blocks_are_left_out_however_their_sum_is_written(how):
    torch.manual_seed(0)
    net, x = BLOCKS[how](), batch((3, 8, 8))
    space = converted(net, x)
    (depth,) = [name for name, choice in choices(space).items() if choice.role == 'depth']
    assert choices(space)[depth].options == [0, 1, 2]
    net.blocks = nn.ModuleList()
    assert not differ(space(x, largest(space) | {depth: 0}), net(x))


def test_a_shortcut_that_changes_something_is_none():
    torch.manual_seed(0)
    join = lambda m, x, block: block(x) + m.shortcut(x)
    for shortcut in (nn.Dropout(0.5), nn.BatchNorm2d(16), nn.ReLU6()):
        space = converted(Blocks(join, shortcut=shortcut), batch((3, 8, 8)))
        assert not any(choice.role == 'depth' for choice in choices(space).values()), shortcut


# ---------------------------------------------------------------- networks as people have them


class Tied(nn.Module):
    "The last layer's matrix is the table of words."

    def __init__(self, function=False):
        super().__init__()
        self.table, self.hidden, self.out = nn.Embedding(20, 16), nn.Linear(16, 16), nn.Linear(16, 20)
        self.out.weight, self.function = self.table.weight, function

    def forward(self, x):
        y = self.hidden(self.table(x)).relu()
        return F.linear(y, self.table.weight) if self.function else self.out(y)


@pytest.mark.parametrize('function', (False, True))
def test_weights_of_two_layers_stay(function):
    space = converted(Tied(function), torch.randint(0, 20, (2, 6)))
    assert not choices(space) and 'weights' in space.left_out['table']


def test_words_are_an_input():
    space = converted(Words(), torch.randint(0, 20, (2, 6)))
    assert list(choices(space)) == ['table.width', 'hidden.width'] and space.input_dtype is torch.long
    macs(space, (6,))


class Several(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = conv(3, 16), conv(16, 16)

    def forward(self, x):
        x = self.a(x)
        y = self.b(x)
        return dict(out=y.mean((2, 3)), maps=[(y,)])


def test_outputs_may_be_several():
    space = converted(Several(), batch((3, 8, 8)))
    assert list(choices(space)) == ['a.0.width'] and space.left_out['b.0'] == 'it leaves the network'


@pytest.mark.parametrize('dtype', (torch.double, torch.half))
def test_other_precisions(dtype):
    space = converted(Between(lambda m, x: x).to(dtype), batch((3, 8, 8)).to(dtype))
    assert {p.dtype for p in space.network.parameters() if p.requires_grad and p.ndim > 1} == {dtype}


def test_an_example_of_one_and_a_network_that_trains():
    net = Between(lambda m, x: x).train()
    before = copy.deepcopy(net.state_dict())
    space = searchable(net, batch((3, 8, 8))[:1])
    assert net.training and space.training and all(m.training for m in net.modules())
    assert all(torch.equal(t, before[name]) for name, t in net.state_dict().items())
    assert list(choices(space)) == list(choices(searchable(net.eval(), (3, 8, 8))))


def test_what_is_searched_is_said():
    net = Between(lambda m, x: x + m.c(x), c=nn.Sequential(conv(16, 16, 7), nn.Conv2d(16, 16, 1)))
    def space(**how): return searchable(net, (3, 64, 64), **how)
    whole = {'a.0.width', 'b.0.width', 'c.0.0.width', 'c.0.0.kernel', 'c.depth', 'resolution'}
    assert set(choices(space())) == whole and set(choices(space(resolution=False))) == whole - {'resolution'}
    assert set(choices(space(kernels=False))) == whole - {'c.0.0.kernel'}
    assert set(choices(space(depth=False))) == whole - {'c.depth'}
    assert choices(space(steps=4))['b.0.width'].options == [4, 8, 12, 16]
    assert choices(space(resolution=[40, 48]))['resolution'].options == [40, 48, 64]


def test_only_what_is_asked_for_is_searched():
    net = Between(lambda m, x: x + m.c(x), c=nn.Sequential(conv(16, 16, 7), nn.Conv2d(16, 16, 1)))
    space = searchable(net, (3, 8, 8), only='b.*')
    assert list(choices(space)) == ['b.0.width'] and space.left_out['a.0'] == 'it is not among those asked for'
    assert space.left_out['c.0.0.kernel'] == space.left_out['c.depth'] == space.left_out['a.0']
    space = searchable(net, (3, 8, 8), freeze=['c.*'])  # what it reads stays too
    assert list(choices(space)) == ['b.0.width'] and space.left_out['a.0'] == space.left_out['c.depth'] == 'it is frozen'


# ---------------------------------------------------------------- copies and files


def test_copies_files_and_restricted_spaces():
    space, x = shuffled(copy.deepcopy(space_of('ecapa'))), batch((10, 20))
    arch = some(space, 1)[1]
    for other in (copy.deepcopy(space), pickle.loads(pickle.dumps(space))):
        assert not differ(other(x, arch), space(x, arch))
    new = searchable(made('ecapa'), (10, 20))
    assert differ(new(x, arch), space(x, arch))  # other members stay
    new.load_state_dict(space.state_dict(), strict=True)
    assert not differ(new(x, arch), space(x, arch))
    name = 'blocks.0.inner.0.0.width'
    smaller = restrict(space, {name: choices(space)[name].options[0]})
    assert not differ(smaller(x, smallest(smaller)), space(x, smallest(space)))
    assert not differ(extract(smaller, smallest(smaller))(x), space(x, smallest(space)))


def test_what_draws_in_training_does_so_in_an_extracted_network():
    testing.training_mode_is_extracted(lambda: copy.deepcopy(space_of('efficientnet')))  # stochastic depth


@pytest.mark.parametrize('name', ('shufflenet', 'encoder of pytorch', 'ecapa', 'convnext'))
def test_relaxed_networks_and_other_precisions_keep_the_contract(name):
    def make(): return copy.deepcopy(space_of(name))
    testing.check_relaxation(make)
    testing.precision_is_kept(make)


# ---------------------------------------------------------------- bad input


class TwoInputs(nn.Module):
    def forward(self, x, y):
        return x + y


@pytest.mark.parametrize(
    'net, example, words',
    [
        (Decides(), (3, 8, 8), 'Decides cannot be looked into'),
        (TwoInputs(), (3, 8, 8), 'does not run on an example'),
        (conv(3, 8), (5, 8, 8), 'does not run on an example of shape'),
        (conv(3, 8), torch.zeros(2, 3, 8, 8, dtype=torch.long), 'type torch.int64'),
        (conv(3, 8), 'picture', 'an example is a batch'),
        (conv(3, 8), torch.zeros(3), 'an example is a batch'),
    ],
)
def test_bad_input(net, example, words):
    with pytest.raises(ValueError, match=words): searchable(net, example)


def test_a_resolution_that_the_network_does_not_take():
    with pytest.raises(ValueError, match='on images of 16 pixels'):
        searchable(nn.Sequential(conv(3, 8), nn.Flatten(), nn.Linear(8 * 32 * 32, 5)), (3, 32, 32), resolution=[16])
