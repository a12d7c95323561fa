"What the host does in a step: weights are cut in one view, widths are asked once, and choices stay where they are."

import collections, contextlib, warnings
import pytest, torch
from torch import nn
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from nas_suite.choices import *
from nas_suite.costs import macs
from nas_suite.layers import *
from nas_suite.layers import elastic, widths
from nas_suite.relaxation import placed, soften
from nas_suite.spaces import tdnn
from nas_suite.spaces.mobile import ofa_mobilenet_v3, proxyless
from nas_suite.spaces.tdnn import small_tdnn
from nas_suite.strategies.gated import Gated
from nas_suite.strategies.gumbel import Gumbel
from nas_suite.strategies.probabilistic import Probabilistic
from nas_suite.strategies.regularized import Regularized
from nas_suite.strategies.supernet import Stage, Supernet
from nas_suite.training import Loop, sgd


def mobile():
    small = dict(widths=(8, 16), depths=(1, 2), last=(16, 16), stem=8, first=8, dropout=0.0)
    return ofa_mobilenet_v3(classes=4, image_size=8, in_channels=1, **small)


def recordings():
    return small_tdnn(features=8, embedding=4, frames=12, dynamic=(1, 2))


def slice_by_slice(t, *kept):
    "One slice after the other, each of autograd's own."
    for dim, indices in enumerate(kept):
        if isinstance(indices, range):
            t = t.narrow(dim, indices.start, len(indices))
        else:
            t = t.index_select(dim, torch.tensor(indices))
    return t


def trained(make, steps=20):
    torch.manual_seed(0)
    loop = Loop(progress=False)
    space, rule = loop.place(make()), Supernet()
    optimizer, s = sgd(space, 0.05, weight_decay=1e-3), structure(space)
    for step in range(steps):
        x, y = torch.randn(4, *space.input_shape), torch.randint(4, (4,))
        optimizer.zero_grad(set_to_none=True)
        rule.step(space, F.cross_entropy, rule.archs(s, Stage('all', {}, 1, subnets=1), 0, step), x, y, loop=loop, s=s)
        loop.update(optimizer)
    return space.state_dict()


@pytest.mark.parametrize('make', [mobile, recordings], ids=['mobile', 'tdnn'])
def test_twenty_steps_are_those_of_plain_slices_bit_for_bit(make, monkeypatch):
    found = trained(make)
    for module in elastic, tdnn:
        monkeypatch.setattr(module, 'cut', slice_by_slice)
    for (name, ours), plain in zip(found.items(), trained(make).values()):
        assert torch.equal(ours, plain), name


@pytest.mark.parametrize('form', [torch.contiguous_format, torch.channels_last], ids=['contiguous', 'last'])
def test_a_cut_and_its_gradients_are_those_of_plain_slices(form):
    "Of every kind of indices, of a weight that is itself a view, and of the gradient of a gradient."
    whole = torch.randn(9, 6, 5, 5, dtype=torch.double).to(memory_format=form)
    cuts = (range(4), range(3)), (range(4), range(6), range(1, 4), range(1, 4)), ([1, 4, 7], range(2)), (range(8), [0, 5])
    for kept in (*cuts, (range(8),), (range(8), range(6), range(2, 3), range(2, 3))):
        for begin in 0, 1:
            weights = [whole.clone().requires_grad_() for _ in range(2)]
            parts = [f(w[begin:], *kept) for f, w in zip((widths.cut, slice_by_slice), weights)]
            assert torch.equal(*parts)
            slopes = [torch.autograd.grad(p.pow(3).sum(), w, create_graph=True)[0] for p, w in zip(parts, weights)]
            assert torch.equal(*slopes)
            assert torch.equal(*(torch.autograd.grad(g.sum(), w)[0] for g, w in zip(slopes, weights)))
    assert widths.cut(whole, range(9), range(6)) is whole


def test_widths_are_asked_once_under_a_selection(monkeypatch):
    w, asked = one_of(4, 8, 12), []
    width, real = scaled(w, 0.5, 2), Scaled.kept
    monkeypatch.setattr(Scaled, 'kept', lambda self, at: asked.append(1) or real(self, at))
    with selecting(Selection({w: 1})) as now:
        assert [size(width), size(width), len(support(width))] == [4, 4, 4] and len(asked) == 1
        now[w] = 2
        assert size(width) == 6 and len(asked) == 2
    with selecting(Selection({w: 0})):
        assert size(width) == 2
    gates = Gates((0, 2), torch.tensor([0.25, 0.75]), (True, True))
    with selecting(Selection({w: gates})) as now:
        assert is_soft(width) and size(width) == 6
        now[w] = 0
        assert not is_soft(width) and size(width) == 2


def test_choices_stay_on_the_host():
    "Whatever device the weights go to; a conversion reaches the logits."
    space, there = mobile(), torch.device('meta')
    view = restrict(space, {'units.0.depth': 1}).double()
    assert all(c.alpha.dtype == torch.double for c in choices(view).values())
    view.first_conv.to(there), view.units.to(there)
    assert random_input(view).is_meta


def test_gates_go_to_a_device_together():
    space = mobile()
    soft = soften(space)
    assert placed(soft, torch.device('cpu')) is soft
    far = placed(soft, torch.device('meta'))
    for c, state in soft.items():
        if isinstance(state, Gates):
            assert far[c].weight.is_meta and far[c].weight.shape == state.weight.shape and far[c].index == state.index
        else:
            assert far[c] == state
    assert far.names == soft.names


def operators():
    sizes = dict(widths=(8,), depths=(2,), kernels=(3,), last=16, stem=8, first=8)
    return proxyless(classes=4, image_size=8, in_channels=1, **sizes)


def shared():
    sizes = dict(widths=(8,), depths=(1, 2), kernels=(3, 5), expands=(3, 4), last=(16, 16), stem=8, first=8)
    return ofa_mobilenet_v3(classes=4, image_size=8, in_channels=1, dropout=0.0, **sizes)


class Card(TorchDispatchMode):
    "Tensors without data stand for those of a card: whatever the host reads of them, or sends there and waits for, is counted."

    def __init__(self):
        super().__init__()
        self.waits = collections.Counter()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        kwargs, name = kwargs or {}, function.overloadpacket
        there = [t.is_meta for t in tree_leaves((args, kwargs)) if isinstance(t, torch.Tensor)]
        if name is torch.ops.aten._to_copy and 'device' in kwargs:
            if there[0] and kwargs['device'].type == 'cpu':
                self.waits['read'] += 1
                return torch.zeros(args[0].shape, dtype=kwargs.get('dtype') or args[0].dtype)
            self.waits['sent'] += not there[0] and kwargs['device'].type == 'meta' and not kwargs.get('non_blocking')
        if any(there) and name is torch.ops.aten._local_scalar_dense:
            self.waits['number'] += 1
            return 0.5
        if any(there) and name is torch.ops.aten.nonzero:
            self.waits['nonzero'] += 1
            return torch.zeros(1, args[0].ndim, dtype=torch.long)
        return function(*args, **kwargs)


class Steps(Loop):
    "Four steps on a device that need no data; nothing is noted, which would read losses."

    def __init__(self, device, taken):
        super().__init__(progress=False, device='cpu' if device == 'meta' else device, on_step=taken)
        self.device = torch.device(device)

    def place(self, space):
        self.network, self.shape = None, space.input_shape
        for module in space.modules():
            if not isinstance(module, Choice):
                for tensors in module._parameters, module._buffers:
                    for name, t in tensors.items():
                        far = t if t is None else t.detach().to(self.device)
                        tensors[name] = nn.Parameter(far) if isinstance(t, nn.Parameter) else far
        return space.train()

    def stream(self, *_):
        return self

    per_epoch = 4

    def __next__(self):
        return torch.randn(4, *self.shape, device=self.device), torch.zeros(4, dtype=torch.long, device=self.device)

    def resume(self, parts, **values):
        self.parts, self.values = parts, values

    def due(self, times):
        return False

    def look(self):
        self.unread = []

    def note(self, row):
        "The last step of a stage is noted whenever it comes."


class Task:
    train = held = augment = None
    input_shape = 1, 8, 8

    def head(self, seed):
        return nn.Identity()

    def score(self, output, y):
        return F.cross_entropy(output, y)

    def reward(self, output, y):
        return (output.argmax(1) == y).float().mean()

    def loss_at(self, share):
        return self.score


def searched(strategy, space, loop):
    cost = macs(space, space.input_shape)
    strategy.search(space, Task(), [(cost, 0.7 * cost(largest(space)))], loop)


def trained_by(rule):
    strategy = Supernet([Stage('all', {}, 1, subnets=1)], rule=rule, distill='in-place' if rule == 'sandwich' else 'none')
    strategy.report = lambda *_: {}
    strategy.search = lambda space, task, limits, loop: strategy.train(space, task, loop)
    return strategy


# What the host has to know of a step: of the logits their gradients and the loss, once each; of networks that are weighed how good they are.
waits = [
    (Gated(epochs=1), operators, 2),
    (Gated(epochs=1, gradient='full_v2'), operators, 2),
    (Gated(epochs=1, gradient='reinforce'), operators, 1),
    (Gumbel(epochs=1), shared, 2),
    (Regularized(epochs=1, shrinks=0), shared, 2),
    (Probabilistic(epochs=1, draws=0.01, least=2), operators, 2),
    *((trained_by(rule), shared, 0) for rule in Supernet.rules),
]


@pytest.mark.filterwarnings('ignore:the search was too short')
@pytest.mark.parametrize('strategy,space,most', waits, ids=lambda v: getattr(v, '__name__', type(v).__name__))
def test_a_step_waits_for_its_device_as_often_as_it_must(strategy, space, most):
    found = []
    with Card() as card:

        def taken(_):
            found.append({what: n for what, n in card.waits.items() if n})
            card.waits.clear()

        searched(strategy, space(), Steps('meta', taken))
    assert len(found) == 4  # and the first of them moves the space
    assert all(set(step) <= {'read'} and step.get('read', 0) <= most for step in found[1:])
    assert not any('number' in step or 'nonzero' in step for step in found)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason='there is no card here')
@pytest.mark.filterwarnings('ignore:the search was too short')
@pytest.mark.parametrize('strategy,space,most', waits, ids=lambda v: getattr(v, '__name__', type(v).__name__))
def test_a_step_waits_for_a_card_as_often_as_it_must(strategy, space, most):
    found, counted = [], []

    def taken(n):
        found.append(sum('synchronizing CUDA operation' in str(w.message) for w in counted))
        counted.clear()

    try:
        with warnings.catch_warnings(record=True) as counted:
            warnings.simplefilter('always')
            torch.cuda.set_sync_debug_mode('warn')
            searched(strategy, space(), Steps('cuda', taken))
    finally:
        torch.cuda.set_sync_debug_mode('default')
    assert len(found) == 4 and max(found[1:]) <= most


def grads_of(weights, parts, rounds=2):
    "Gradients after backward passes through some parts of weights, each cut by `parts(weights)`, with and without leaves."
    found = []
    for leaves in False, True:
        mine, slices = [nn.Parameter(w.clone()) for w in weights], widths.Slices()
        for turn in range(rounds):
            with slices.used() if leaves else contextlib.nullcontext():
                cuts = parts(mine)
            sum((i + turn + 1) * part.pow(2).sum() for i, part in enumerate(cuts)).backward()
            slices.gather()
        found.append([w.grad for w in mine])
    return found


@pytest.mark.parametrize('form', [torch.contiguous_format, torch.channels_last], ids=['contiguous', 'last'])
def test_leaves_gather_the_gradients_of_autograd(form):
    "Of one part, of parts that overlap, of a whole beside a part, of lists; none for what no loss depends on."
    whole = torch.randn(6, 4, 5, 5, dtype=torch.double).to(memory_format=form)
    cut, middle = widths.cut, range(1, 4)
    plans = (
        lambda w: [cut(w[0], range(3), range(2))],
        lambda w: [cut(w[0], range(3)), cut(w[0], range(5), range(4), middle, middle), cut(w[0], range(3))],
        lambda w: [w[0], cut(w[0], range(2), range(4))],
        lambda w: [cut(w[0], [0, 2], range(3)), cut(w[0], range(4))],
        lambda w: [cut(w[0], range(6)), cut(w[1], range(2))][:1],
    )
    for plan in plans:
        plain, ours = grads_of([whole, whole], plan)
        for one, other in zip(plain, ours):
            assert (one is None) == (other is None)
            assert one is None or torch.allclose(one, other, rtol=1e-14, atol=0)


def test_what_was_cut_of_a_layer_stands_until_its_tensors_are_others():
    w, x = one_of(2, 4), torch.randn(2, 3, 5, 5)
    net = nn.Sequential(ElasticConv2d(3, w, 3, padding='same'), ElasticBatchNorm(w))
    slices = widths.Slices()

    def off(now):
        "The largest difference of gradients to those of autograd."
        found = []
        for leaves in False, True:
            net.zero_grad(set_to_none=True)
            with selecting(Selection({w: 0})), slices.used() if leaves else contextlib.nullcontext():
                net(x.to(net[0].weight.dtype)).pow(3).sum().backward()
            slices.gather()
            found.append([p.grad for p in net.parameters()])
        assert [g is None for g in found[0]] == [g is None for g in found[1]], now
        return max(float((a - b).abs().max()) for a, b in zip(*found) if a is not None)

    assert off('at first') < 1e-5 and off('again') < 1e-5
    net[0].weight.requires_grad_(False)
    assert off('a frozen weight') < 1e-5
    net[0].weight.requires_grad_(True)
    net.double()
    assert off('of another type') < 1e-12
    net[1].weight = nn.Parameter(torch.full((4,), 2.0, dtype=torch.double))
    assert off('a new weight') < 1e-12
    net[0].weight.register_hook(lambda grad: 2 * grad)
    assert off('a hook') < 1e-12


def test_what_a_step_on_the_host_reads(monkeypatch):
    "Numbers that Python asks tensors for: of a network its loss, and of a space once what is alive."
    read = collections.Counter()

    def counted(name, real):
        def method(self, *args):
            read[name] += 1
            return real(self, *args)

        return method

    space, loop = mobile(), Loop(progress=False)
    rule, s = Supernet(), structure(loop.place(space))
    archs = [largest(space), smallest(space)]
    x, y = torch.randn(4, *space.input_shape), torch.randint(4, (4,))
    rule.step(space, F.cross_entropy, archs, x, y, loop=loop, s=s)
    for name in 'item', 'tolist', '__bool__', '__float__', '__int__':
        monkeypatch.setattr(torch.Tensor, name, counted(name, getattr(torch.Tensor, name)))
    rule.step(space, F.cross_entropy, archs, x, y, loop=loop, s=s)
    assert read == dict(item=2, tolist=2)
