"Few bits: quantisers against their golden errors, layers against the networks extracted from them."

import json, sys
from pathlib import Path
import pytest, torch
from scipy.stats import norm
from torch import nn
from nas_suite.choices import *
from nas_suite.costs import macs, params
from nas_suite.extraction import check, extract
from nas_suite.layers import *
from nas_suite.layers.quantised import activation_in, weight_in
from nas_suite.spaces.quantized import calibrate, quantize

sys.path.insert(0, str(Path(__file__).parent))
from bits_space import FewBits

D = torch.float64


# ---------------------------------------------------------------- quantisers


def error(levels, ends):
    "The mean square error on normal numbers of these levels, each between two ends: in closed form."
    a, b = torch.tensor(ends[:-1], dtype=D), torch.tensor(ends[1:], dtype=D)
    total = 0.0
    for level, low, high in zip(levels, a.tolist(), b.tolist()):
        mass, first = norm.cdf(high) - norm.cdf(low), norm.pdf(low) - norm.pdf(high)
        tails = (low * norm.pdf(low) if abs(low) < 99 else 0) - (high * norm.pdf(high) if abs(high) < 99 else 0)
        total += mass + tails - 2 * level * first + level**2 * mass
    return total


def levels_of(quantise, low=-9, high=9):
    "What a quantiser gives, and where it goes from one to the next."
    x = torch.linspace(low, high, 180_001, dtype=D)
    y = quantise(x)
    found = y.unique()
    return found.tolist(), [float(x[y == level].min()) for level in found[1:]]


@pytest.mark.parametrize('bits, of_weights, of_activations', [
    (1, 0.363380, 0.131483), (2, 0.118846, 0.027783), (3, 0.037440, 0.006890), (4, 0.011543, 0.001882),
])  # fmt: skip
def test_golden_errors_on_normal_numbers(bits, of_weights, of_activations):
    levels, ends = levels_of(lambda x: mid_rise(x, bits, torch.ones((), dtype=D)))
    assert len(levels) == 2**bits
    assert error(levels, [-999.0, *ends, 999.0]) == pytest.approx(of_weights, abs=2e-6)
    levels, ends = levels_of(lambda x: half_wave(x, bits), 0)
    assert len(levels) == 2**bits and levels[-1] == pytest.approx({1: 0.799, 2: 1.614, 3: 2.2519, 4: 2.775}[bits])
    assert error(levels, [0.0, *ends, 999.0]) == pytest.approx(of_activations, abs=2e-6)


def test_a_learned_quantiser_is_what_onnx_says():
    import onnx.reference
    from onnx import TensorProto, helper

    x = torch.randn(200) * 3
    for zero, step in ((0, 0.02), (128, 0.05), (37, 0.1)):
        node = helper.make_node('QuantizeLinear', ['x', 's', 'z'], ['q'])
        back = helper.make_node('DequantizeLinear', ['q', 's', 'z'], ['y'])
        info = [helper.make_tensor_value_info(n, t, None) for n, t in (('x', 1), ('s', 1), ('z', TensorProto.UINT8))]
        graph = helper.make_graph([node, back], 'g', info, [helper.make_tensor_value_info('y', 1, None)])
        run = onnx.reference.ReferenceEvaluator(helper.make_model(graph, opset_imports=[helper.make_opsetid('', 19)]))
        feed = dict(x=x.numpy(), s=torch.tensor(step).numpy(), z=torch.tensor(zero, dtype=torch.uint8).numpy())
        assert torch.equal(torch.from_numpy(run.run(None, feed)[0]), quantise(x, torch.tensor(step), zero, 8))


@pytest.mark.parametrize('bits', [1, 2, 3, 8])
def test_the_gradient_of_a_step_is_that_of_lsq(bits):
    weight = torch.randn(3, 7, dtype=D)
    step = torch.tensor([0.3, 0.7, 1.1], dtype=D, requires_grad=True)
    grad = torch.randn(3, 7, dtype=D)
    weight_in(weight, bits, step).backward(grad)
    low, high = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
    half = 0.5 if bits == 1 else 0.0
    for channel in range(3):
        ratio = weight[channel] / step[channel].detach() - half
        inside = (ratio.round() >= low) & (ratio.round() <= high)
        each = torch.where(inside, ratio.round() - ratio, ratio.clamp(low, high) + half)
        expected = (each * grad[channel]).sum() / (7 * max(1, high)) ** 0.5
        assert step.grad[channel].item() == pytest.approx(expected.item(), abs=1e-9)


def test_best_steps_and_ranges_beat_others():
    weight = torch.randn(4, 300, generator=torch.Generator().manual_seed(0))
    for bits in (1, 2, 4):
        step = best_steps(weight, bits)
        least = (weight_in(weight, bits, step) - weight).square().mean()
        for other in (0.6, 1.5):
            assert (weight_in(weight, bits, step * other) - weight).square().mean() > least
    x = torch.cat([torch.rand(999) - 0.1, torch.tensor([9.0])])  # an outlier
    step, zero = best_range(x, 4)
    assert 0 < float(step) < 9.1 / 15 and (activation_in(x, 4, step, zero) - x)[:-1].abs().max() < 0.5
    assert best_range(torch.zeros(3), 4)[1] == 0 and best_range(torch.rand(9), 8)[1] == 0


# ---------------------------------------------------------------- layers

WAYS = {'learned': {}, 'fractional': dict(relax='fractional'), 'normal': dict(steps='normal', weights=(1, 3))}


def made(**how):
    torch.manual_seed(0)
    return FewBits(**how).double().eval()


@pytest.mark.parametrize('way', WAYS)
def test_extracted_networks_are_the_space(way):
    space = made(**WAYS[way])
    x = torch.randn(2, 1, 6, 6, dtype=D)
    rows = sample(space, 24, torch.Generator().manual_seed(0))
    for arch in decode(space, rows):
        net = extract(space, arch)
        assert check(space, arch, net) == 0
        kinds = {type(m) for m in net.modules()}
        assert kinds <= {type(net), nn.Module, FakeQuantConv2d, FakeQuantLinear, nn.BatchNorm2d, nn.ReLU, Removed}
        assert net.first.weight_bits == arch['first.weight_bits'] == net.depthwise.weight_bits
        assert (net.wide.weight_bits, net.wide.activation_bits) == (8, arch['wide.activation_bits'])
        soft = {n: torch.eye(len(c), dtype=D)[c.options.index(arch[n]) if n in arch else 0]
                for n, c in choices(space).items()}  # fmt: skip
        if way == 'normal':  # whose step follows from the weights of all channels that are computed
            soft['first.out_channels'] = arch['first.out_channels']
        torch.testing.assert_close(space(x, soft), net(x), rtol=1e-9, atol=1e-9)
    for cost in (macs(space, space.input_shape), params(space)):  # against counting some of the extracted
        assert cost.batch(rows).shape == (24,)


def test_a_part_of_a_space_has_the_rows_of_its_bits():
    space = made(weights=(1, 2, 4, 8))
    x = torch.randn(2, 1, 6, 6, dtype=D)
    small = extract(space, {'wide.activation_bits': 32})
    less = extract(restrict(space, {'first.weight_bits': [2, 8], 'first.out_channels': 2}), {})
    for part, shape in ((small, (4, 4)), (less, (2, 2))):
        assert part.first.weight_step.shape == shape
        for arch in decode(part, sample(part, 20)):
            whole = {**arch, 'wide.activation_bits': 32} if part is small else arch
            whole |= {} if part is small else {'first.out_channels': 2}
            assert torch.equal(part(x, arch), space(x, whole))


def test_channels_that_change_places_take_their_steps_along():
    from nas_suite.strategies.supernet import sort_channels

    space = made()
    with torch.no_grad():
        space.first.weight_step.mul_(1 + torch.rand_like(space.first.weight_step))
    x = torch.randn(2, 1, 6, 6, dtype=D)
    arch = largest(space)
    before, steps = space(x, arch), space.first.weight_step.clone()
    sort_channels(space)
    torch.testing.assert_close(space(x, arch), before)
    assert torch.equal(steps.sort(1)[0], space.first.weight_step.sort(1)[0])


def test_shares_have_gradients_and_fractional_bits_are_continuous():
    layer = QuantLinear(5, 4, weights=one_of(2, 4, 8), relax='fractional').double()
    x = torch.randn(3, 5, dtype=D)

    def output(shares):
        with selecting(Selection({layer.weight_bits: Gates((0, 1, 2), shares, (True,) * 3)})):
            return layer(x).square().sum()

    for shares in ([0.5, 0.3, 0.2], [0.0, 0.4, 0.6]):
        shares = torch.tensor(shares, dtype=D, requires_grad=True)
        (grad,) = torch.autograd.grad(output(shares), shares)
        for i in range(3):
            move = 1e-6 * torch.eye(3, dtype=D)[i]
            slope = (output(shares + move) - output(shares - move)) / 2e-6
            assert grad[i].item() == pytest.approx(slope.item(), rel=1e-4, abs=2e-6)
    four, near = torch.tensor([0.0, 1.0, 0.0], dtype=D), torch.tensor([1e-9, 1 - 1e-9, 0.0], dtype=D)
    assert output(four).item() == pytest.approx(output(near).item(), abs=1e-5)


# ---------------------------------------------------------------- any space


def with_few_bits(name):
    from test_contracts import SPACES

    torch.manual_seed(0)
    return quantize(SPACES[name][0](), one_of(2, 8), one_of(4, 8))


@pytest.mark.parametrize('name', [
    'proxyless', 'once-for-all', 'resnet', 'tdnn', 'segmenter', 'transformer', 'of a given network', 'depths',
])  # fmt: skip
def test_any_space_gets_bits(name):
    space = with_few_bits(name)
    small = extract(space, {n: 2 for n in list(choices(space))[-2:] if n.endswith('weight_bits')})
    for part in (space.eval(), small.eval()):
        for arch in (largest(part), *decode(part, sample(part, 2, torch.Generator().manual_seed(0)))):
            assert check(part, arch, extract(part, arch)) == 0
    assert 'bits' in roles(space).values()


def test_first_and_last_layers_keep_their_bits():
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Conv2d(2, 2, 3), nn.Flatten(), nn.Linear(8, 3))
    found = {ends: quantize(net, 2, 4, ends=ends, input_shape=(1, 6, 6)) for ends in (8, 32, None)}
    bits = {ends: [(m.weight_bits, m.activation_bits) for m in (n[0], n[2], n[4])] for ends, n in found.items()}
    assert bits == {8: [(8, 8), (2, 4), (8, 8)], 32: [(32, 32), (2, 4), (32, 32)], None: [(2, 4)] * 3}
    with torch.no_grad():  # of floating point, nothing changes
        x = torch.randn(2, 1, 6, 6)
        assert torch.equal(quantize(net, 32, 32, ends=32, input_shape=(1, 6, 6))(x), net(x))
    assert type(net[0]) is nn.Conv2d


def test_calibration_gives_every_layer_its_steps():
    torch.manual_seed(0)
    space = quantize(FewBitsNot(), one_of(2, 8), one_of(4, 8), ends=None)
    x = 3 + 0.1 * torch.randn(16, 1, 6, 6)
    before = {n: m.activation_step.clone() for n, m in space.named_modules() if isinstance(m, Bits)}
    calibrate(space, x)
    layers = {n: m for n, m in space.named_modules() if isinstance(m, Bits)}
    assert len(layers) == 3 and all(not torch.equal(m.activation_step, before[n]) for n, m in layers.items())
    assert layers['first'].activation_zero.tolist() == [0, 0] and space.training
    arch = largest(space)
    net, exact = extract(space, arch), extract(FewBitsNot.like(space), {k: v for k, v in arch.items() if 'bits' not in k})
    close = (net.eval()(x) - exact.eval()(x)).abs().max() / exact(x).abs().max()
    assert close < 0.05
    again = calibrate(extract(space, arch), x)  # a plain network is calibrated alike
    torch.testing.assert_close(again(x), net(x), rtol=0.05, atol=0.05)


class FewBitsNot(Space):
    "Of floating point."

    input_shape = 1, 6, 6

    def __init__(self):
        super().__init__()
        self.first, self.act = ElasticConv2d(1, 4, 3), nn.ReLU()
        self.mixed = MixedOp({str(k): ElasticConv2d(4, 2, k, padding='same') for k in (1, 3)})

    def forward(self, x):
        return self.mixed(self.act(self.first(x)))

    @classmethod
    def like(cls, other):
        new = cls()
        new.load_state_dict({n: t for n, t in other.state_dict().items() if n in new.state_dict()})
        return new


def linear(**more):
    return nn.Sequential(nn.Linear(2, 2), nn.utils.parametrizations.weight_norm(nn.Linear(2, 2)), **more)


BAD = {
    'conv.0 cannot be quantised.*Conv3d; skip=.conv.0.': lambda: quantize(
        nn.ModuleDict(dict(conv=nn.Sequential(nn.Conv3d(1, 2, 3)))), 4
    ),
    '1 cannot be quantised: .*ParametrizedLinear': lambda: quantize(linear(), 4),
    '0.linear1 cannot be .*TransformerEncoderLayer': lambda: quantize(
        nn.Sequential(nn.TransformerEncoderLayer(4, 2)), 4, skip='0.self_attn'
    ),
    '0 cannot be quantised: it has few bits already': lambda: quantize(nn.Sequential(QuantLinear(2, 2))),
    'activations are 2 to 8.*found 1': lambda: quantize(nn.Linear(1, 2), 8, one_of(1, 8)),
    'skip names no layer by .stem': lambda: quantize(nn.Sequential(nn.Linear(1, 2)), skip=['0', 'stem*']),
    'no convolution or linear layer': lambda: quantize(nn.ReLU()),
    'found dict': lambda: quantize({}),
    'skip is a name or pattern of layers, or several; found 3': lambda: quantize(nn.Linear(1, 2), skip=3),
    'a choice needs at least one option': lambda: quantize(nn.Linear(1, 2), []),
    "bits of weights .* found '8'": lambda: quantize(nn.Linear(1, 2), '8'),
    'bits of weights .* found 1.5': lambda: quantize(nn.Linear(1, 2), (1.5, 4)),
    'ends: the bits of activations .* found 1$': lambda: quantize(nn.Linear(1, 2), ends=1),
    'Linear has no input_shape': lambda: quantize(nn.Linear(1, 2)),
    'GRU': lambda: quantize(nn.Sequential(nn.GRU(2, 2)), 8),
    'no layer with few bits': lambda: calibrate(nn.Linear(1, 2), torch.zeros(1, 1)),
    'activations are 2 to 8': lambda: QuantConv2d(1, 2, 3, activations=1),
    'body.2: the bits of activations .* found 1$': lambda: with_bits(nn.Linear(1, 2), 8, one_of(8, 1), name='body.2'),
    'weights are 0': lambda: QuantConv1d(1, 2, 3, weights=one_of(8, 16)),
    'found True': lambda: QuantLinear(1, 2, weights=True),
    'found 4.0': lambda: QuantLinear(1, 2, weights=4.0),
    'steps is one of learned, normal': lambda: QuantLinear(1, 2, steps='lsq'),
    'relax is one of mixture, fractional': lambda: QuantLinear(1, 2, relax='sum'),
    'stem cannot be quantised: it is a Conv3d': lambda: with_bits(nn.Conv3d(1, 2, 3), name='stem'),
    'it is a ElasticConvTranspose2d': lambda: with_bits(ElasticConvTranspose2d(1, 2, 3)),
}


@pytest.mark.parametrize('message', BAD)
def test_what_cannot_have_few_bits(message):
    with pytest.raises(ValueError, match=message):
        BAD[message]()


# ---------------------------------------------------------------- whole numbers


def block(i, o, **more):
    return [nn.Conv2d(i, o, 3, padding=1, bias=False, **more), nn.BatchNorm2d(o), nn.ReLU()]


@pytest.fixture(scope='module')
def digits():
    "A network that knows digits, its task, and inputs."
    from nas_suite.tasks.classification import classification
    from nas_suite.training import Calibration, fit

    task = classification('digits')
    torch.manual_seed(0)
    ends = nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 10)
    net = nn.Sequential(*block(1, 8), *block(8, 16, stride=2), *block(16, 16), *ends)
    fit(net, task, epochs=10, lr=0.05, progress=False)
    return net.eval(), task, torch.cat([x for x, _ in Calibration(task)])[:512]


@pytest.mark.parametrize('weights, activations', [(8, 8), (4, 8), (3, 4), (1, 8)])
def test_integers_of_onnx_runtime_are_the_simulation(digits, tmp_path, weights, activations):
    import onnx
    from nas_suite.front.integers import OnnxNetwork, write_integers

    net, task, x = digits
    few = calibrate(quantize(net, weights, activations, input_shape=task.input_shape), x)
    found = write_integers(extract(few, {}), x, tmp_path / 'a.onnx')
    assert found.agreement >= (0.99 if activations == 8 else 0.97)
    assert found.bits == {'0': (8, 8), '3': (weights, activations), '6': (weights, activations), '11': (8, 8)}
    assert set(found.stored) == (set() if weights == activations == 8 else {'3', '6'})
    graph = onnx.load(tmp_path / 'a.onnx').graph
    whole = {t.name: onnx.numpy_helper.to_array(t) for t in graph.initializer if t.data_type == onnx.TensorProto.INT8}
    sizes = {t.size: (int(t.min()), int(t.max())) for t in whole.values() if t.ndim == 4}
    low, high = sizes[16 * 16 * 9]
    assert low >= -(2 ** (weights - 1)) and high <= max(1, 2 ** (weights - 1) - 1)
    kinds = [node.op_type for node in graph.node]
    assert kinds.count('Conv') == 3 and 'BatchNormalization' not in kinds
    assert kinds.count('Clip') == (2 if activations < 8 else 0)
    said = {p.key: p.value for p in onnx.load(tmp_path / 'a.onnx').metadata_props}
    assert 'stored' in said and f'[{weights}, {activations}]' in said['bits']
    apart = task.evaluate(OnnxNetwork(tmp_path / 'a.onnx'), task.test)['accuracy']
    assert apart == pytest.approx(task.evaluate(few, task.test)['accuracy'], abs=0.01)


def test_whole_numbers_are_joined_into_integer_kernels(digits, tmp_path):
    import onnx, onnxruntime
    from nas_suite.latency import measure
    from nas_suite.latency.measuring import onnx_graph

    net, task, x = digits
    few = calibrate(quantize(net, 8, input_shape=task.input_shape), x)
    whole = integer_network(extract(few, {}), x)
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / 'joined.onnx')
    onnxruntime.InferenceSession(onnx_graph(whole, (x[:1],)), options, providers=['CPUExecutionProvider'])
    kinds = [node.op_type for node in onnx.load(tmp_path / 'joined.onnx').graph.node]
    assert kinds.count('QLinearConv') == 3 and 'QGemm' in kinds and 'Conv' not in kinds
    found = measure(dict(whole=whole, real=net), x[:1], rounds=1, min_rounds=1, backend='onnxruntime', warm_up_s=0)
    assert found.median_ms('whole') > 0


def test_units_of_few_bits_are_timed_as_whole_numbers():
    from nas_suite.latency.tables import as_run, units

    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Conv2d(2, 2, 3), nn.Flatten(), nn.Linear(8, 3))
    space = quantize(net, one_of(4, 8, 32), ends=None, input_shape=(1, 6, 6))
    found = {label: signatures for label, _, signatures, _ in units(space, space.input_shape).units}
    assert [len(set(found[name].values())) for name in ('0', '2', '4')] == [3, 3, 3]
    layer, x = FakeQuantConv2d(1, 2, 3), torch.randn(1, 1, 6, 6)
    timed = as_run(layer.eval(), (x,), ends=True)
    kinds = [type(m) for m in timed.children()]
    assert kinds[-1] is Requantise and any(isinstance(m, IntegerLayer) for m in timed.modules())
    plain, between = nn.Conv2d(1, 2, 3), FakeQuantLinear(2, 2, steps='normal')
    assert as_run(plain, (x,)) is plain and as_run(between, (torch.zeros(1, 2),)) is between


def test_a_batch_norm_of_any_sign_is_folded():
    for bits in (1, 8):
        net = nn.Sequential(FakeQuantConv2d(2, 6, 3, weight_bits=bits), nn.BatchNorm2d(6))
        with torch.no_grad():
            net[1].weight.copy_(torch.tensor([1.0, -2.0, 0.0, 0.5, -1e-3, 3.0]))
            net[1].running_var.uniform_(0.5, 2), net[1].running_mean.normal_()
        x = torch.randn(4, 2, 6, 6)
        plain = extract(net.eval(), {})
        torch.testing.assert_close(integer_network(plain)(x), plain(x), rtol=0.02, atol=0.05)


def test_what_has_no_whole_numbers():
    from nas_suite.front.integers import to_integers

    with pytest.raises(ValueError, match='no layer with few bits'):
        integer_network(extract(nn.Sequential(nn.Linear(1, 2)), {}))
    with pytest.raises(ValueError, match="^0: weights of 8 bits .* no int8 form"):
        integer_network(extract(nn.Sequential(FakeQuantLinear(2, 2, steps='normal')), {}))
    with pytest.raises(ValueError, match='found a Linear'):
        integer_network(nn.Linear(1, 2))
    with pytest.raises(ValueError, match='give task='):
        to_integers(nn.Linear(1, 2), 'nowhere')


def test_a_run_has_whole_numbers_and_says_how_its_space_is_made(digits, tmp_path):
    from nas_suite.front.integers import integers_beside
    from nas_suite.front.origins import space_facts, space_of
    from nas_suite.spaces.mobile import proxyless

    net, task, x = digits
    notes = {}
    integers_beside(net, task, tmp_path, {}, notes)  # of floating point: nothing
    few = quantize(net, 4, steps='normal', input_shape=task.input_shape)
    integers_beside(extract(few, {}), task, tmp_path, {}, notes)
    assert 'no int8 form' in notes['int8.onnx'] and not list(tmp_path.iterdir())
    small = dict(classes=10, image_size=8, in_channels=1, widths=(8,), depths=(1,), stem=8, first=8, last=8)
    space = quantize(proxyless(**small), (4, 8), skip='blocks.0*', relax='fractional')
    facts = json.loads(json.dumps(space_facts(space)))
    assert space_facts(space_of(facts)) == space_facts(space)


# ---------------------------------------------------------------- bits by curvature

TRACES = [0.06857826, 0.03162379, 0.03298575, 0.01205663, 0.02222431, 0.00596336, 0.06931772, 0.00807129, 0.00372905,
          0.00530698, 0.00209011, 0.00737569, 0.00210454, 0.00151197, 0.00158041, 0.00078146, 0.00451841, 0.00098745,
          0.00072944]  # fmt: skip
MOVED_8 = [0.0235, 0.0125, 0.0102, 0.0082, 0.0145, 0.0344, 0.0023, 0.0287, 0.0148, 0.0333, 0.0682, 0.0027, 0.0448,
           0.0336, 0.0576, 0.1130, 0.0102, 0.0947, 0.0532]  # fmt: skip
MOVED_4 = [6.7430, 3.9691, 3.3281, 2.6796, 4.7277, 10.5966, 0.6827, 9.0942, 4.8857, 10.7599, 21.7546, 0.8603, 14.5324,
           10.9651, 18.7706, 36.4044, 3.1572, 29.6994, 17.4016]  # fmt: skip
NUMBERS = [*[36864] * 4, 73728, 147456, 8192, 147456, 147456, 294912, 589824, 32768, 589824, 589824, 1179648, 2359296,
           131072, 2359296, 2359296]  # fmt: skip
MACS = [*[115605504] * 4, *[57802752, 115605504, 6422528, 115605504, 115605504] * 3]
MS_4 = [0.21094404, 0.21092674, 0.21104113, 0.21086851, 0.13642465, 0.19167506, 0.02532183, 0.19148203, 0.19142914,
        0.11395316, 0.20556011, 0.01917474, 0.20566918, 0.20566509, 0.13185102, 0.22287786, 0.01790088, 0.22304611,
        0.22286099]  # fmt: skip
MS_8 = [0.36189111, 0.36211718, 0.31141909, 0.30454471, 0.19184896, 0.38948934, 0.0334169, 0.38904905, 0.3892859,
        0.19134735, 0.34307431, 0.02802354, 0.34313329, 0.34310756, 0.21117103, 0.37376585, 0.02896843, 0.37398187,
        0.37405185]  # fmt: skip


class Resnet(Space):
    "Nineteen layers of 4 or 8 bits; those that a residual sum ties have one choice."

    def __init__(self):
        super().__init__()
        tied, made = {6: 4, 11: 9, 16: 14}, {}
        self.layers = nn.ModuleList()
        for i in range(19):
            made[i] = made[tied[i]] if i in tied else one_of(4, 8)
            self.layers.append(QuantLinear(1, 1, weights=made[i]))

    def sums(self, four, eight):
        "What the options of each choice add over its layers."
        names = dict(zip(structure(self).choices, structure(self).names))
        parts = {}
        for layer, a, b in zip(self.layers, four, eight):
            parts[names[layer.weight_bits]] = parts.get(names[layer.weight_bits], 0) + torch.tensor([a, b], dtype=D)
        return parts


SPENT = dict(
    size=([n / 2**21 for n in NUMBERS], [n / 2**20 for n in NUMBERS]),
    bops=([n / 1e6 / 64 for n in MACS], [n / 1e6 / 16 for n in MACS]),
    latency=(MS_4, MS_8),
)


@pytest.mark.parametrize('name, share, bits, omega, spent', [
    ('size', 0.25, '8888888888888844444', 0.11830, 6.6406),
    ('size', 0.5, '8888888888888884844', 0.07451, 7.2656),
    ('size', 0.75, '8888888888888488884', 0.03344, 9.2344),
    ('bops', 0.25, '8884848444444444444', 0.46042, 45.7605),
    ('bops', 0.5, '8884888848884444444', 0.21569, 65.0281),
    ('bops', 0.75, '8888888848888484884', 0.07996, 84.2957),
    ('latency', 0.25, '8884848444444444444', 0.46042, 3.6147),
    ('latency', 0.5, '8888848848884484844', 0.20267, 4.2201),
    ('latency', 0.75, '8888888848888484884', 0.07996, 4.7063),
])  # fmt: skip
def test_the_golden_optima_of_hawq(name, share, bits, omega, spent):
    from nas_suite.costs import best_networks, sum_of

    space = Resnet()
    four, eight = SPENT[name]
    cost = sum_of(space, space.sums(four, eight), name)
    curved = space.sums([t * m for t, m in zip(TRACES, MOVED_4)], [t * m for t, m in zip(TRACES, MOVED_8)])
    worth = sum_of(space, {n: -values for n, values in curved.items()}, 'worth')
    most = sum(four) + share * (sum(eight) - sum(four))
    (best,) = best_networks(space, worth, [(cost, most)])
    arch = decode(space, best.row)[0]
    with selected(space, arch):
        found = ''.join(str(layer.weight_bits.value) for layer in space.layers)
    assert found == bits and -best.worth == pytest.approx(omega, abs=5e-6) and cost(arch) == pytest.approx(spent, abs=5e-5)


def test_traces_of_a_quadratic_form_are_exact():
    from itertools import product
    from nas_suite.strategies.curvature import trace_samples

    A = torch.tensor([[2.0, 1, 0], [1, 3, 0.5], [0, 0.5, 1]])
    x = torch.randn(3, requires_grad=True)
    y = torch.randn(2, requires_grad=True)
    every = [dict(x=torch.tensor(signs), y=torch.ones(2)) for signs in product((-1.0, 1.0), repeat=3)]
    found = trace_samples(x @ A @ x / 2 + (x[:2] * y).sum() + y.sum(), dict(x=x, y=y), every)
    assert found['x'].mean() == pytest.approx(6) and found['x'].var(correction=0) == pytest.approx(5)
    assert found['y'].abs().max() == 0  # linear in it


def test_curvature_says_what_bits_cost():
    from nas_suite.strategies.curvature import curvature_costs
    from torch.nn import functional as F

    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3))
    space = quantize(net, one_of(0, 1, 2, 4, 8), ends=None, input_shape=(6,))
    x, y = torch.randn(64, 6), torch.randint(0, 3, (64,))
    costs = curvature_costs(space, lambda net, x, y: F.cross_entropy(net(x), y), [(x, y)], vectors=16)
    assert set(costs) == {'0.weight_bits', '2.weight_bits'}
    values = costs['2.weight_bits'].tolist()
    assert values[1] > values[2] > values[3] > values[4] > 0 and values[0] > values[2]
    moved = (net[2].weight.detach() ** 2).sum()
    weight = net[2].weight.detach().requires_grad_()
    hidden = net[1](net[0](x)).detach()
    hessian = torch.autograd.functional.hessian(lambda w: F.cross_entropy(F.linear(hidden, w, net[2].bias), y), weight)
    trace = hessian.reshape(24, 24).trace()
    assert float(costs['2.weight_bits'][0]) == pytest.approx(float(trace / 24 / 2 * moved), rel=0.2)
