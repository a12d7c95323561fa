"Multiply-accumulates of everything that multiplies, by hand and by PyTorch's counter, in costs and in features alike."

import copy, math, pytest, torch
from torch import nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode
from nas_suite.costs import count_macs, counted, macs
from nas_suite.latency.features import FEATURES, KINDS, network_features, space_features
from nas_suite.extraction import extract
from nas_suite.layers import MixedOp


class Apply(nn.Module):
    "A function of the input and of parameters of these shapes."

    def __init__(self, f, *shapes):
        super().__init__()
        self.f, self.weights = f, nn.ParameterList(torch.zeros(shape) for shape in shapes)

    def forward(self, x):
        return self.f(x, *self.weights)


class Of(nn.Module):
    "A layer that is given its input more than once."

    def __init__(self, layer, times, **more):
        super().__init__()
        self.layer, self.times, self.more = layer, times, more

    def forward(self, x):
        out = self.layer(*[x] * self.times, **self.more)
        return out[0] if isinstance(out, tuple) else out


def attend(x, **more):
    q = x.unflatten(2, (4, -1)).transpose(1, 2)
    return F.scaled_dot_product_attention(q, q, q, **more)


shape = 5, 8  # tokens of eight features, of one sample
MATRICES = {  # name -> (network, MACs); PyTorch's own counter is right
    'x @ W': (Apply(lambda x, w: x @ w, (8, 3)), 120),
    'matmul': (Apply(torch.matmul, (1, 8, 3)), 120),
    'mm': (Apply(lambda x, w: x[0].mm(w), (8, 3)), 120),
    'bmm': (Apply(torch.bmm, (1, 8, 3)), 120),
    'addmm': (Apply(lambda x, b, w: torch.addmm(b, x[0], w), (5, 3), (8, 3)), 120),
    'baddbmm': (Apply(lambda x, b, w: torch.baddbmm(b, x, w), (1, 5, 3), (1, 8, 3)), 120),
    'linear': (Apply(F.linear, (3, 8), (3,)), 120),
    'nn.Linear': (nn.Linear(8, 3), 120),
    'one token less': (nn.Sequential(nn.Flatten(0, 1), nn.Linear(8, 3)), 120),
    'einsum': (Apply(lambda x, w: torch.einsum('bnc,cd->bnd', x, w), (8, 3)), 120),
    'einsum of three': (Apply(lambda x, v, w: torch.einsum('bnc,cd,de->bne', x, v, w), (8, 3), (3, 2)), 120 + 30),
    'tensordot': (Apply(lambda x, w: torch.tensordot(x, w, ([1, 2], [0, 1])), (5, 8, 3)), 120),
    'multi_dot': (Apply(lambda x, v, w: torch.linalg.multi_dot([x[0], v, w]), (8, 3), (3, 2)), 80 + 48),
    'attention': (Apply(attend), 2 * 5 * 5 * 8),
    'causal attention': (Apply(lambda x: attend(x, is_causal=True)), 2 * 5 * 5 * 8),
    'masked attention': (Apply(lambda x, m: attend(x, attn_mask=m), (5, 5)), 2 * 5 * 5 * 8),
    'MultiheadAttention': (Of(nn.MultiheadAttention(8, 2, batch_first=True), 3), 4 * 5 * 64 + 400),
    'its fast form': (Of(nn.MultiheadAttention(8, 2, batch_first=True), 3, need_weights=False), 4 * 5 * 64 + 400),
    'TransformerEncoderLayer': (Of(nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), 1), 4 * 320 + 400 + 1280),
    'conv1d': (Apply(F.conv1d, (4, 5, 3)), 6 * 4 * 5 * 3),
    'conv1d in groups': (Apply(lambda x, w: F.conv1d(x, w, groups=5), (5, 1, 3)), 6 * 5 * 3),
    'conv2d': (Apply(lambda x, w: F.conv2d(x[:, None], w, stride=2), (4, 1, 3, 3)), 2 * 3 * 4 * 9),
    'transposed': (Apply(F.conv_transpose1d, (5, 4, 3)), 8 * 5 * 4 * 3),
    'transposed, in groups': (nn.Sequential(nn.ConvTranspose1d(5, 5, 3, stride=2, groups=5)), 8 * 5 * 3),
    'nothing': (Apply(lambda x, w: x * w, (8,)), 0),
    'outer': (Apply(lambda x, w: torch.outer(x[0, 0], w), (3,)), 0),
}
VECTORS = {  # what it takes for free
    'x @ v': (Apply(lambda x, v: x @ v, (8,)), 40),
    'mv': (Apply(lambda x, w: w.mv(x[0, 0]), (3, 8)), 24),
    'addmv': (Apply(lambda x, b, w: torch.addmv(b, w, x[0, 0]), (3,), (3, 8)), 24),
    'dot': (Apply(lambda x, v: x[0, 0].dot(v), (8,)), 8),
    'vdot': (Apply(lambda x, v: torch.vdot(x[0, 0], v), (8,)), 8),
    'inner': (Apply(lambda x, v: torch.inner(x, v), (8,)), 40),
    'v @ v': (Apply(lambda x, v: x[0, 0] @ v, (8,)), 8),
    'v @ W': (Apply(lambda x, w: x[0, 0] @ w, (8, 3)), 24),
    'addbmm': (Apply(lambda x, b, w: torch.addbmm(b, x, w), (5, 3), (1, 8, 3)), 120),
    'bilinear': (Apply(lambda x, w: F.bilinear(x, x, w), (3, 8, 8)), 5 * 3 * 64),
    'nn.Bilinear': (Of(nn.Bilinear(8, 8, 3), 2), 5 * 3 * 64),
}


def in_features(net):
    found = dict(zip(FEATURES, network_features(net.eval(), shape)))
    return sum(found[f'written.macs_{kind}'] for kind in KINDS[:5])


@pytest.mark.parametrize('name', MATRICES | VECTORS)
def test_what_is_multiplied_is_counted_alike(name):
    net, by_hand = (MATRICES | VECTORS)[name]
    assert count_macs(net, shape) == in_features(net) == by_hand
    with torch.inference_mode():
        assert counted(lambda: net(torch.zeros(1, *shape)))[1] == by_hand  # with data, where attention has fast forms
    if name in MATRICES:
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            net.to('meta')(torch.zeros(1, *shape, device='meta'))
        assert counter.get_total_flops() == 2 * by_hand


@pytest.mark.parametrize('name', ['x @ v', 'bilinear', 'einsum of three', 'masked attention', 'conv1d'])
def test_a_space_counts_what_its_networks_multiply(name):
    net, by_hand = (MATRICES | VECTORS)[name]
    out = copy.deepcopy(net).to('meta')(torch.zeros(1, *shape, device='meta')).shape[1:]
    none = Apply(lambda x: x.flatten(1)[:, : math.prod(out)].unflatten(1, out))
    space = nn.Sequential(nn.Identity(), MixedOp({'one': net, 'none': none}))
    space.input_shape = shape
    cost, features = macs(space, shape), space_features(space)
    for arch, most in zip(({'1.choice': 'one'}, {'1.choice': 'none'}), (by_hand, 0)):
        row = dict(zip(FEATURES, features([arch])[0]))
        assert cost(arch) == count_macs(extract(space, arch), shape) == most
        assert sum(row[f'live.macs_{kind}'] for kind in KINDS[:5]) == most


def test_layers_of_one_class_are_told_apart():
    "A module of somebody else's need not print what it was made with."

    def summed(x, weight):
        return F.linear(x, weight).sum(-1)

    space = nn.Sequential(MixedOp({'wide': Apply(summed, (6, 8)), 'narrow': Apply(summed, (2, 8))}))
    cost = macs(space, shape)
    assert [cost({'0.choice': option}) for option in ('wide', 'narrow')] == [240, 80]


def test_what_a_function_of_any_name_multiplies():
    "Not only by its name is it seen that something multiplies: `pooled_attention` is no pool."

    def pooled_attention(x):
        return x @ x.mT

    graph = torch.fx.Graph()
    x = graph.placeholder('x')
    graph.output(graph.call_function(pooled_attention, (x,)))
    assert in_features(torch.fx.GraphModule({}, graph)) == 5 * 5 * 8


def test_what_runs_gives_what_it_gave():
    out, n = counted(lambda: torch.ones(2, 3) @ torch.ones(3))
    assert out.tolist() == [3, 3] and n == 6
