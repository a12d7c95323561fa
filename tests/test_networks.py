"Networks as data: what is written is built again bit for bit, and data that asks for more is refused."

import json, math, os, pickle, sys
from collections import namedtuple
from copy import deepcopy
from pathlib import Path
import pytest, torch
from einops.layers.torch import EinMix, Rearrange, Reduce
from torch import fx, nn
from torch.nn import functional as F
from torch.utils._pytree import tree_leaves
from nas_suite.choices import *
from nas_suite.extraction import check, extract
from nas_suite.layers import *
from nas_suite.networks import *
from nas_suite.testing import shaken

sys.path.insert(0, str(Path(__file__).parent))
from test_contracts import SPACES
from transformer_space import Transformer
from test_extraction import Attention, Groups, Outputs, Packed, FORMS


def made(name):
    torch.manual_seed(0)
    return shaken(SPACES[name][0]())


def inputs(space):
    return torch.randn(3, *space.input_shape, generator=torch.Generator().manual_seed(0))


def some(space, n):
    "The largest, the smallest and n random architectures."
    return [largest(space), smallest(space), *decode(space, sample(space, n, torch.Generator().manual_seed(0)))]


def through(net):
    "Written to text, built from it, and given the weights."
    again = build(json.loads(json.dumps(describe(net), allow_nan=False)))
    again.load_state_dict(net.state_dict())
    return again


def equal(a, b):
    def same(x, y):
        return torch.equal(x, y) if isinstance(x, torch.Tensor) else x == y

    a, b = tree_leaves(a), tree_leaves(b)
    return len(a) == len(b) and all(map(same, a, b))


def run(net, *xs):
    torch.manual_seed(0)
    return net(*(x.clone() for x in xs))


def alike(net, *xs):
    "Whether a network and what was written of it are the same in every respect that a user meets."
    again = through(net)
    assert type(again).__mro__[1] is fx.GraphModule and type(again).__name__ == type(net).__name__
    assert again.code == net.code
    assert list(again.state_dict()) == list(net.state_dict()) and describe(again) == describe(net)
    assert [m.training for m in again.modules()] == [m.training for m in net.modules()]

    def kinds(n):
        return {name: (p.dtype, p.requires_grad) for name, p in n.named_parameters()}

    assert kinds(again) == kinds(net)
    with torch.no_grad():
        assert equal(run(again, *xs), run(net, *xs))
        for copy in (deepcopy(again), pickle.loads(pickle.dumps(again))):
            assert equal(run(copy, *xs), run(net, *xs))
    return again


# ---- every space


@pytest.mark.parametrize('name', SPACES)
def test_networks_of_every_space(name):
    space = made(name)
    x = inputs(space)
    for arch in some(space, 1):
        net = extract(space, arch)
        again = alike(net, x)
        assert check(space, arch, again, x) == 0.0
    trained = [through(net).train() for _ in range(2)] + [net.train()]
    for each in trained:  # what they learn is the same too, dropout and batch norm included
        optimizer = torch.optim.SGD(each.parameters(), 0.1)
        sum(out.square().mean() for out in tree_leaves(run(each, x))).backward()
        optimizer.step()
    states = [each.state_dict() for each in trained]
    assert all(torch.equal(states[0][n], t) and torch.equal(states[1][n], t) for n, t in states[2].items())


several = [pytest.param(lambda f=f: Outputs(f), id=n) for n, f in FORMS.items()]


@pytest.mark.parametrize('make', [Attention, Groups, Packed, Transformer, *several])
def test_networks_with_einops_and_several_outputs(make):
    torch.manual_seed(0)
    space = make()
    for arch in (largest(space), smallest(space)):
        alike(extract(space, arch), inputs(space))


# ---- every layer

x1, x2, x3, v = torch.randn(2, 4, 8), torch.randn(2, 4, 8, 8), torch.randn(2, 4, 6, 6, 6), torch.randn(2, 8)
images, words = {'1d': x1, '2d': x2, '3d': x3}, torch.randint(0, 5, (2, 4))
LAYERS = [
    (FakeQuantConv1d, (4, 6, 3), dict(weight_bits=4, activation_bits=32), x1),
    (FakeQuantConv2d, (4, 4, 3), dict(padding='same', groups=2, weight_bits=32), x2),
    (FakeQuantConv2d, (4, 4, (3, 1)), dict(steps='normal', weight_bits=1, activation_bits=3), x2),
    (FakeQuantLinear, (8, 6), dict(bias=False, weight_bits=2), x1),
    (Removed, (3, [[2, 3, 2], [2, 5, 1]]), {}, x2),
    (Removed, (3,), {}, x1),
    *(
        (getattr(nn, f'{kind}{d}'), args, more, x)
        for d, x in images.items()
        for kind, args, more in [
            ('Conv', (4, 6, 3), dict(stride=2, padding=1, bias=False)),
            ('Conv', (4, 4, 3), dict(padding='same', groups=2, padding_mode='circular')),
            ('ConvTranspose', (4, 6, 3), dict(output_padding=1, stride=2)),
            ('BatchNorm', (4,), dict(eps=1e-3, momentum=None)),
            ('BatchNorm', (4,), dict(affine=False, track_running_stats=False)),
            ('InstanceNorm', (4,), dict(affine=True)),
            ('MaxPool', (2,), dict(ceil_mode=True)),
            ('AvgPool', (3, 2), dict(padding=1, count_include_pad=False)),
            ('AdaptiveAvgPool', (2,), {}),
            ('AdaptiveMaxPool', (1,), {}),
            ('LPPool', (2, 2), {}),
            ('Dropout', (0.3,), {}),
            ('ConstantPad', (1, 0.5), {}),
            ('ZeroPad', (1,), {}),
            ('ReflectionPad', (1,), {}),
            ('ReplicationPad', (1,), {}),
            ('CircularPad', (1,), {}),
        ]
    ),
    *(
        (kind, (), {}, v)
        for kind in (
            nn.ReLU,
            nn.ReLU6,
            nn.GELU,
            nn.SiLU,
            nn.ELU,
            nn.CELU,
            nn.SELU,
            nn.Mish,
            nn.Tanh,
            nn.Sigmoid,
            nn.Softplus,
            nn.Softsign,
            nn.Hardswish,
            nn.Hardsigmoid,
            nn.Hardtanh,
            nn.LogSigmoid,
            nn.Tanhshrink,
            nn.Softshrink,
            nn.Hardshrink,
            nn.LeakyReLU,
            nn.RReLU,
            nn.Identity,
            nn.GLU,
            nn.Dropout,
            nn.AlphaDropout,
            nn.PReLU,
            nn.Flatten,
        )
    ),
    (nn.ReLU, (), dict(inplace=True), v),
    (nn.GELU, ('tanh',), {}, v),
    (nn.LeakyReLU, (0.3,), {}, v),
    (nn.Hardtanh, (-2.0, math.inf), {}, v),
    (nn.Threshold, (0.1, 2.0), {}, v),
    (nn.PReLU, (4,), {}, x1),
    (nn.Softmax, (1,), {}, v),
    (nn.LogSoftmax, (-1,), {}, v),
    (nn.Softmin, (1,), {}, v),
    (nn.Softmax2d, (), {}, x2),
    (nn.Identity, (5,), dict(unused=1), v),
    (nn.Linear, (8, 3), {}, v),
    (nn.Linear, (8, 3), dict(bias=False), v),
    (nn.LayerNorm, (8,), {}, v),
    (nn.LayerNorm, ((4, 8),), dict(bias=False, eps=1e-3), x1),
    (nn.LayerNorm, (8,), dict(elementwise_affine=False), v),
    (nn.RMSNorm, (8,), {}, v),
    (nn.GroupNorm, (2, 4), {}, x2),
    (nn.GroupNorm, (2, 4), dict(affine=False), x2),
    (nn.LocalResponseNorm, (2,), {}, x2),
    (nn.SyncBatchNorm, (4,), {}, x2),
    (nn.Upsample, (), dict(scale_factor=2, mode='bilinear', align_corners=False), x2),
    (nn.Upsample, ((5, 6),), {}, x2),
    (nn.UpsamplingBilinear2d, (9,), {}, x2),
    (nn.PixelShuffle, (2,), {}, x2),
    (nn.PixelUnshuffle, (2,), {}, x2),
    (nn.ChannelShuffle, (2,), {}, x2),
    (nn.Flatten, (2,), {}, x2),
    (nn.Unflatten, (1, (2, 2)), {}, x2),
    (nn.Unfold, (3,), dict(padding=1), x2),
    (nn.Fold, ((4, 5), 2), {}, torch.randn(2, 12, 12)),
    (nn.FeatureAlphaDropout, (), {}, x2),
    (nn.Embedding, (5, 3), dict(padding_idx=0), words),
    (nn.Embedding, (5, 3), dict(max_norm=1.0), words),
    (nn.EmbeddingBag, (5, 3), dict(mode='sum'), words),
    (nn.LSTM, (8, 3), dict(num_layers=2, bidirectional=True, batch_first=True), x1),
    (nn.LSTM, (8, 4), dict(proj_size=2, bias=False), x1),
    (nn.GRU, (8, 3), dict(dropout=0.2, num_layers=2), x1),
    (nn.RNN, (8, 3), dict(nonlinearity='relu'), x1),
    (nn.GRUCell, (8, 3), {}, v),
    (nn.LSTMCell, (8, 3), dict(bias=False), v),
    (nn.RNNCell, (8, 3), {}, v),
    (Rearrange, ('b (h c) -> b h c',), dict(h=2), v),
    (Reduce, ('b c (h two) w -> b c h w', 'max'), dict(two=2), x2),
    (EinMix, ('b i -> b o',), dict(weight_shape='i o', bias_shape='o', i=8, o=3), v),
]


class Alone(nn.Module):
    "A layer, and a choice, so that it is a space."

    def __init__(self, layer, *more):
        super().__init__()
        self.layer, self.scale = layer, one_of(1, 2)

    def forward(self, x):
        out = self.layer(x)
        return out if self.scale.value == 1 else (out, 2)


@pytest.mark.filterwarnings('ignore:LSTM with projections')
@pytest.mark.parametrize('kind, args, more, x', LAYERS, ids=lambda p: getattr(p, '__name__', ''))
def test_every_layer(kind, args, more, x):
    torch.manual_seed(0)
    space = Alone(kind(*args, **more))
    modes = (False,) if kind is nn.SyncBatchNorm else (True, False)  # it trains on several devices only
    for mode in modes:
        alike(extract(space.train(mode), {'scale': 1}), x)


def test_layers_of_several_inputs():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.attend = nn.MultiheadAttention(8, 2, kdim=8, add_bias_kv=True, batch_first=True)
            self.plain = nn.MultiheadAttention(8, 2, bias=False, dropout=0.1)
            self.pair, self.near, self.distance = nn.Bilinear(8, 8, 3), nn.CosineSimilarity(-1), nn.PairwiseDistance()
            self.scale = one_of(1, 2)

        def forward(self, x, y=None):
            a, weights = self.attend(x, x, x)
            b, _ = self.plain(a, x, x, need_weights=False)
            return self.pair(a, b), weights, self.near(a, b), self.distance(a, b) * self.scale.value

    torch.manual_seed(0)
    for mode in (True, False):
        alike(extract(Net().train(mode), {'scale': 2}), x1)


def test_layers_that_are_listed_are_tried():
    several = {nn.MultiheadAttention, nn.Bilinear, nn.CosineSimilarity, nn.PairwiseDistance}
    tried = {kind for kind, *_ in LAYERS} | several
    left = {
        nn.FractionalMaxPool2d,
        nn.FractionalMaxPool3d,  # random
        nn.MaxUnpool1d,
        nn.MaxUnpool2d,
        nn.MaxUnpool3d,
        nn.UpsamplingNearest2d,
    }  # of indices; as its neighbour
    assert set(layer_types.values()) - tried == left


# ---- calls, values, tensors


class Much(nn.Module):
    "Functions, methods, operators and values of every kind."

    def __init__(self):
        super().__init__()
        self.scale, self.gain = one_of(1, 2), nn.Parameter(torch.randn(4, 1))
        self.inner = nn.Module()
        self.inner.register_buffer('shift', torch.randn(8).double())

    def forward(self, x, factor=2.0, mask=None):
        n, c, t = x.shape
        y = (x * self.gain + self.inner.shift).float() ** 2 / factor - 1
        y = y[..., ::2][:, 1:, None].expand(-1, -1, 3, -1) @ torch.ones(4, 2)
        y = y.masked_fill_(y > 1, -math.inf).clamp(min=-5.0).to(dtype=torch.float64)
        y = y.to(memory_format=torch.contiguous_format).float()
        z = F.interpolate(x, size=t + 3, mode='linear', align_corners=False)
        z = F.pad(z, (1, 2), value=math.inf).nan_to_num(posinf=1.0)
        z = torch.where(z > 0, z, F.gelu(z)).view(n, c, -1).mT.flatten(1)
        values, at = x.max(-1)
        first, rest = torch.split(x, [2, 2], dim=1)
        parts = {'rest': rest.sum((1, 2)), 3: first.add_(1)}
        return dict(y=y, z=[z, values], at=(at, parts), size=t, word='it\'s "quoted"\n', none=None)


def test_calls_and_values():
    torch.manual_seed(0)
    net = extract(Much(), {'scale': 1})
    again = alike(net, x1)
    assert equal(run(again, x1, torch.tensor(3.0)), run(net, x1, torch.tensor(3.0)))
    assert again.inner.shift.dtype == torch.float64


class Tied(Space):
    input_shape = (8,)

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(8, 8), nn.Linear(8, 8, bias=False)
        self.pick = ElasticLinear(8, one_of(2, 3))
        self.second.weight = self.first.weight
        self.norm, self.drop = nn.BatchNorm1d(8), nn.Dropout(0.5)

    def forward(self, x):
        x = self.drop(self.norm(self.second(self.first(x)))) + F.linear(x, self.first.weight)
        return self.pick(x)


def test_tensors_keep_what_they_are():
    torch.manual_seed(0)
    space, x = Tied(), torch.randn(4, 8)
    space.norm.eval()
    space.first.bias.requires_grad_(False)
    net = extract(space, largest(space))
    again = alike(net, x)
    assert again.second.weight is again.first.weight and describe(net)['tied'] == [['first.weight', 'second.weight']]
    assert again.training and not again.norm.training and not again.first.bias.requires_grad
    assert not torch.equal(again(x), again(x)) and torch.equal(again.eval()(x), again(x)), "dropout is not alive"
    for kind in (torch.float64, torch.bfloat16):
        assert through(net.eval().to(kind)).first.weight.dtype == kind
        alike(net, x.to(kind))


def test_a_built_network_is_empty_until_it_is_given_weights():
    net = extract(Tied(), {'pick.out_features': 2})
    state = torch.random.get_rng_state()
    assert all((t == 0).all() for t in build(describe(net)).state_dict().values())
    assert torch.equal(torch.random.get_rng_state(), state), "random numbers were drawn"


# ---- what cannot be written


def refuses(net, text):
    with pytest.raises(ValueError, match=text):
        describe(net)


def test_what_cannot_be_written():
    class Own(nn.Linear):
        pass

    Point = namedtuple('Point', 'x y')
    traced = lambda m: fx.symbolic_trace(m) if not isinstance(m, nn.Module) else extract(Alone(m), {'scale': 1})

    class Tracer(fx.Tracer):
        def is_leaf_module(self, m, name):
            return True

    def leaf(m):
        root = nn.Sequential(m)
        return fx.GraphModule(root, Tracer().trace(root))

    refuses(nn.Linear(2, 2), 'extract a network from it first')
    refuses(leaf(Own(2, 2)), '0 is a Own, which is no plain layer')
    refuses(leaf(nn.Sequential(nn.Linear(2, 2))), '0 is a Sequential')
    refuses(leaf(nn.TransformerEncoderLayer(8, 2)), '0 is a TransformerEncoderLayer')
    refuses(leaf(nn.utils.parametrizations.weight_norm(nn.Linear(2, 2))), 'no plain layer')
    tampered = nn.Conv1d(2, 2, 3)
    tampered.stride = (2,)
    assert describe(leaf(tampered))['layers']['0']['arguments']['stride'] == dict(tuple=[2])
    tampered.transposed = True
    refuses(leaf(tampered), 'cannot be written: .* with another transposed')
    refuses(traced(lambda x: Point(x, x)), 'Point.* is not among the functions')
    refuses(traced(lambda x: torch.svd_lowrank(x)), 'not among the functions')
    refuses(traced(lambda x: x.numpy()), "no method 'numpy'")
    refuses(traced(lambda x: x.data), "asked for .*'data'")
    refuses(traced(lambda *xs: xs[0]), 'name of a result or an argument')
    hooked = traced(nn.Linear(2, 2))
    hooked.layer.register_forward_pre_hook(lambda *_: None)
    refuses(hooked, 'layer has hooks')
    lost = traced(nn.Linear(2, 2))
    lost.layer.register_buffer('more', torch.zeros(1), persistent=False)
    refuses(lost, 'layer.more is not in the state_dict')
    unused = traced(nn.Linear(2, 2))
    unused.more = nn.Linear(2, 2)
    refuses(unused, 'more.weight is used by no call')


# ---- what is not built

x = dict(result='x')
HOSTILE = {
    'a function of another module': dict(function='os.system', args=['touch bad']),
    'eval': dict(function='eval', args=['1']),
    'builtins': dict(function='builtins.eval', args=['1']),
    'subprocess': dict(function='subprocess.run', args=['ls']),
    'torch.load': dict(function='torch.load', args=['bad.pt']),
    'torch.save': dict(function='torch.save', args=[x, 'bad.pt']),
    'torch.hub': dict(function='torch.hub.load', args=['a/b', 'c']),
    'torch.from_file': dict(function='torch.from_file', args=['bad', True, 8]),
    'torch.compile': dict(function='torch.compile', args=[x]),
    'torch.jit': dict(function='torch.jit.load', args=['bad.pt']),
    'torch.utils': dict(function='torch.utils.cpp_extension.load', args=['a', 'b']),
    'torch.ops': dict(function='torch.ops.load_library', args=['bad.so']),
    'torch.classes': dict(function='torch.classes.load_library', args=['bad.so']),
    'torch.os': dict(function='torch.os.system', args=['ls']),
    'einops inside': dict(function='einops.einops.functools.partial', args=[x]),
    'a dunder': dict(function='torch.__dict__', args=[]),
    'operator.attrgetter': dict(function='operator.attrgetter', args=['__class__']),
    'operator.methodcaller': dict(function='operator.methodcaller', args=['numpy']),
    'operator.call': dict(function='operator.call', args=[x]),
    'a layer as function': dict(function='torch.nn.Linear', args=[2, 2]),
    'an attribute': dict(function='getattr', args=[x, '__class__']),
    'data': dict(function='getattr', args=[x, 'data']),
    'an attribute of a word': dict(function='getattr', args=['text', 'shape']),
    'a default': dict(function='getattr', args=[x, 'shape', 1]),
    'an attribute by result': dict(function='getattr', args=[x, x]),
    'an attribute by keyword': dict(function='getattr', args=[x], kwargs=dict(name='__class__')),
    'a dunder method': dict(method='__reduce_ex__', args=[x, 2]),
    'numpy': dict(method='numpy', args=[x]),
    'tofile': dict(method='storage', args=[x]),
    'apply': dict(method='apply_', args=[x, x]),
    'a hook': dict(method='register_hook', args=[x, x]),
    'a method of a word': dict(method='size', args=['text']),
    'a method of nothing': dict(method='size'),
    'code in a keyword': dict(function='torch.relu', kwargs={'input=print(1), x': x}),
    'code in a keyword, dunder': dict(function='torch.relu', args=[x], kwargs={'__x': 1}),
    'code in a layer': dict(layer='layer"); print(1); ("', args=[x]),
    'an unknown layer': dict(layer='other', args=[x]),
    'a private layer': dict(layer='_modules', args=[x]),
    'code in a tensor': dict(tensor='a.b); print(1'),
    'an unknown tensor': dict(tensor='other'),
    'a number of a layer': dict(tensor='layer.in_features'),
    'the inside of a layer': dict(tensor='layer._parameters'),
    'a layer as tensor': dict(tensor='layer'),
    'a dunder tensor': dict(tensor='__class__'),
    'code in an input': dict(input='x=print(1)'),
    'many inputs': dict(input='*xs'),
    'two words': dict(function='torch.relu', method='relu', args=[x]),
    'no word': dict(args=[x]),
    'an unknown word': dict(call='torch.relu', args=[x]),
    'an unknown result': dict(function='torch.relu', args=[dict(result='later')]),
    'an unknown value': dict(function='torch.relu', args=[dict(pickle='gASV')]),
    'a value of two kinds': dict(function='torch.relu', args=[dict(result='x', tuple=[])]),
    'an unknown type': dict(method='to', args=[x, dict(dtype='load')]),
    'a device': dict(method='to', args=[x, dict(device='cpu; ls')]),
    'a name that is no text': dict(function=['torch.relu'], args=[x]),
    'arguments that are none': dict(function='torch.relu', args=3),
    'deep': dict(function='torch.relu', args=None),
}


@pytest.fixture
def description():
    return json.loads(json.dumps(describe(extract(Alone(nn.Linear(2, 2)), {'scale': 1}))))


@pytest.fixture
def nothing_happens(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    before = set(sys.modules)
    yield
    assert not os.listdir(tmp_path) and not capsys.readouterr().out and set(sys.modules) == before


@pytest.mark.parametrize('name', HOSTILE)
def test_hostile_calls(name, description, nothing_happens):
    call = dict(HOSTILE[name])
    if name == 'deep':  # a value nested deeper than Python goes
        value = []
        for _ in range(100_000):
            value = [value]
        call['args'] = [value]
    description['calls'].insert(-1, dict(name='bad', **call))
    with pytest.raises(ValueError):
        build(description)


HOSTILE_PARTS = {
    'an unknown layer': lambda d: d['layers']['layer'].update(type='torch.nn.Module'),
    'a container': lambda d: d['layers']['layer'].update(type='torch.nn.Sequential'),
    'another module': lambda d: d['layers']['layer'].update(type='os.system'),
    'a pickled layer': lambda d: d['layers']['layer'].update(type='torch.jit.ScriptModule'),
    'a device': lambda d: d['layers']['layer']['arguments'].update(device='cuda'),
    'a weight': lambda d: d['layers'].update(
        layer=dict(type='torch.nn.Embedding', arguments=dict(num_embeddings=2, embedding_dim=2, _weight=[]))
    ),
    'an argument': lambda d: d['layers']['layer']['arguments'].update(other=1),
    'a result': lambda d: d['layers']['layer']['arguments'].update(in_features=dict(result='x')),
    'a size': lambda d: d['layers']['layer']['arguments'].update(in_features=-3),
    'a word': lambda d: d['layers']['layer']['arguments'].update(in_features='__import__'),
    'a class': lambda d: d.update(name='A:\n print(1)'),
    'a dunder class': lambda d: d.update(name='__class__'),
    'a version': lambda d: d.update(version=2),
    'an entry': lambda d: d.update(code='print(1)'),
    'nothing': lambda d: d.clear(),
    'a layer that is not called': lambda d: d['layers'].update(more=d['layers']['layer']),
    'a tensor that is not used': lambda d: d['tensors'].update(more=dict(shape=[2], parameter=True)),
    'a type': lambda d: d['types'].update({'layer.weight': 'load'}),
    'the type of nothing': lambda d: d['types'].update(more='float16'),
    'a mode of nothing': lambda d: d['modes'].update(more=True),
    'tied to another shape': lambda d: d['tied'].append(['layer.weight', 'layer.bias']),
    'no calls': lambda d: d.update(calls=[]),
    'a call of no dict': lambda d: d['calls'].insert(0, 3),
    'two outputs': lambda d: d['calls'].append(d['calls'][-1]),
    'the same name twice': lambda d: d['calls'].insert(1, d['calls'][0]),
    'a network in a network': lambda d: d['layers'].update(layer=dict(network=dict(d, layers={}))),
    'a network in itself': lambda d: d['layers'].update(layer=dict(network=d)),
    'a network and a layer': lambda d: d['layers'].update(layer=dict(network=deepcopy(d), type='torch.nn.Linear')),
    'code in a name': lambda d: d['calls'][0].update(name='x=print(1)'),
    'a keyword as name': lambda d: d['calls'][0].update(name='lambda'),
    'a number as name': lambda d: d['calls'][0].update(name=3),
}


@pytest.mark.parametrize('name', HOSTILE_PARTS)
def test_hostile_parts(name, description, nothing_happens):
    HOSTILE_PARTS[name](description)
    with pytest.raises(ValueError):
        build(description)


def test_what_is_no_description():
    for bad in (None, 3, 'text', [], {}, {'version': 1}, [1, 2]):
        with pytest.raises(ValueError):
            build(bad)


def test_words_are_data():
    "A text stays a text, whatever is in it."
    net = fx.symbolic_trace(lambda x: (x, '"); print(1); ("', "\\'); import os", 'a\nb'))
    again = build(json.loads(json.dumps(describe(net))))
    assert again(1) == net(1) and again.code == net.code


def test_functions_are_of_tensors():
    "PyTorch itself says which of its functions take tensors; some wait for an argument that is one, or make them."
    known = {f for fs in torch.overrides.get_overridable_functions().values() for f in fs}
    plain = {n for n, f in functions.items() if n.startswith('torch.') and f not in known and not n.endswith('_')}
    making = 'arange eye full linspace ones rand_like randn_like zeros'
    waiting = 'hardsigmoid hardswish logsigmoid sigmoid tanh threshold upsample'
    assert plain <= {f'torch.{n}' for n in making.split()} | {f'torch.nn.functional.{n}' for n in waiting.split()}
    assert all(callable(f) and '__' not in n for n, f in functions.items())
    assert all(callable(getattr(torch.Tensor, m, len)) and not m.startswith('_') for m in methods)
    leaving = 'numpy tolist item data_ptr storage untyped_storage apply_ map_ register_hook backward type set_'
    assert not methods & set(leaving.split())
