"Extraction beyond one tensor in and one out: einops in a space's own forward, several outputs, what `check` says."

import json, pickle, types
from collections import OrderedDict
from copy import deepcopy
import einops, pytest, torch
from einops import einsum, rearrange, reduce, repeat
from einops.layers.torch import Rearrange, Reduce
from torch import nn
from torch.fx._symbolic_trace import _wrapped_fns_to_patch
from nas_suite.choices import *
from nas_suite.extraction import *
from nas_suite.layers import *
from nas_suite.networks import build, describe


def every(space):
    options = [torch.arange(len(c)) for c in choices(space).values()]
    return decode(space, torch.cartesian_prod(*options).view(-1, len(options)))


def inputs(space, n=2):
    return torch.randn(n, *space.input_shape, generator=torch.Generator().manual_seed(0))


# ---- einops


def doubled(x):
    return repeat(x, 'b c t -> b (two c) t', two=2)  # a helper of the same module


class Attention(Space):
    "Heads, as one writes them with einops: functions imported by name and through the package, and layers."

    input_shape = (4, 6)

    def __init__(self):
        super().__init__()
        self.widen = ElasticConv1d(4, width := one_of(4, 8), 1)
        self.qkv, self.tokens = ElasticLinear(width, 24), Rearrange('b c t -> b t c')
        self.out = ElasticLinear(8, one_of(3, 5))
        self.pool = Reduce('b t c -> b c', 'mean')

    def forward(self, x):
        tokens = self.qkv(self.tokens(self.widen(x)))
        q, k, v = rearrange(tokens, 'b t (three heads c) -> three b heads t c', three=3, heads=2)
        scores = einsum(q, k, 'b heads i c, b heads j c -> b heads i j').softmax(-1)
        mixed = einops.einsum(scores, v, 'b heads i j, b heads j c -> b heads i c')
        return self.pool(self.out(einops.rearrange(mixed, 'b heads t c -> b t (heads c)')))


class Groups(Space):
    "Groups of channels, mixed and averaged; means and deviations, as the TDNN pools."

    input_shape = (4, 6)

    def __init__(self):
        super().__init__()
        width = grouped(one_of(4, 8), 2)
        self.mix = ElasticConv1d(8, width, one_of(1, 3), padding='same')
        self.answer = ElasticLinear(halves(width), 3)

    def forward(self, x):
        x = self.mix(doubled(x))
        shuffled = rearrange(x, 'b (group c) t -> b (c group) t', group=2)
        parts = rearrange(shuffled, 'b (c group) t -> b group c t', group=2)
        mean = reduce(parts, 'b group c t -> b (group c)', 'mean')
        spread = (reduce(x.square(), 'b c t -> b c', reduction='mean') - mean.square()).clamp(min=1e-6).sqrt()
        return self.answer(torch.cat([mean, spread], 1))


class Packed(Space):
    "A window of patches, packed with a token and unpacked; sizes read from the tensor."

    input_shape = (3, 4, 4)

    def __init__(self):
        super().__init__()
        self.embed, self.token = ElasticConv2d(3, width := one_of(2, 4), 1), nn.Parameter(torch.randn(1))
        self.answer = ElasticLinear(width, 3)

    def forward(self, x):
        x = rearrange(self.embed(x), 'b c (h p) (w q) -> b (h w) p q c', p=2, q=2)
        sizes = einops.parse_shape(x, 'b n p q c')
        tokens = einops.repeat(self.token, 'one -> b one c', b=sizes['b'], c=sizes['c'])
        x, shapes = einops.pack([tokens, x], 'b * c')
        _, patches = einops.unpack(x.sin(), shapes, 'b * c')
        return self.answer(reduce(patches, 'b n p q c -> b c', 'max'))


@pytest.mark.parametrize('make', [Attention, Groups, Packed])
def test_einops_stays_as_it_was_written(make):
    torch.manual_seed(0)
    space, before = make(), (rearrange, einops.rearrange)
    x = inputs(space)
    for arch in every(space):
        net = extract(space, arch)
        assert check(space, arch, net) == 0.0 and torch.equal(net(x), space(x, arch))
        called = [n.target for n in net.graph.nodes if n.op == 'call_function']
        assert {f.__name__ for f in called if f.__module__.startswith('einops')} & {'rearrange', 'reduce'}
        assert not any(type(m).__module__.startswith('nas_suite') for m in net.modules())
        for twin in (pickle.loads(pickle.dumps(net)), deepcopy(net)):
            assert torch.equal(twin(x), net(x))
        assert b'nas_suite' not in pickle.dumps(net)
    registered = len(_wrapped_fns_to_patch)
    for _ in range(3):
        extract(space, arch)
    assert len(_wrapped_fns_to_patch) == registered, "networks are remembered for ever"
    assert (rearrange, einops.rearrange) == before and rearrange(x, 'b ... -> ... b').shape[-1] == 2


@pytest.mark.parametrize('make', [Attention, Groups])
def test_einops_is_exported(make, tmp_path):
    ort = pytest.importorskip('onnxruntime')
    pytest.importorskip('onnxscript')
    space = make().eval()
    net, x = extract(space, largest(space)), inputs(space)
    batch = torch.export.Dim('batch', min=2, max=64)
    program = torch.export.export(net, (x,), dynamic_shapes=({0: batch},))
    for n in (2, 5):
        torch.testing.assert_close(program.module()(inputs(space, n)), net(inputs(space, n)))
    torch.onnx.export(net, (x,), str(tmp_path / 'net.onnx'), dynamo=True, verbose=False)
    run = ort.InferenceSession(str(tmp_path / 'net.onnx'), providers=['CPUExecutionProvider'])
    (out,) = run.run(None, {run.get_inputs()[0].name: x.numpy()})
    torch.testing.assert_close(torch.from_numpy(out), net(x).detach(), rtol=1e-4, atol=1e-5)


def test_einops_in_a_helper_of_another_module_is_explained():
    other = types.ModuleType('other')
    exec('from einops import rearrange\ndef turned(x): return rearrange(x, "b c -> c b")', other.__dict__)

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = ElasticLinear(2, one_of(2, 3))

        def forward(self, x):
            return other.turned(self.fc(x))

    with pytest.raises(ValueError, match='functions of einops are imported where forward is written'):
        extract(Net(), {'fc.out_features': 2})


# ---- several outputs


class Outputs(Space):
    input_shape = (3,)

    def __init__(self, form):
        super().__init__()
        self.form, self.a, self.b = form, ElasticLinear(3, width := one_of(2, 4)), ElasticLinear(width, 2)

    def forward(self, x):
        a = self.a(x)
        return self.form(a, self.b(a))


FORMS = {
    'tuple': lambda a, b: (a, b),
    'list': lambda a, b: [a, b],
    'alone': lambda a, b: b,
    'dict': lambda a, b: dict(features=a, answer=b),
    'ordered': lambda a, b: OrderedDict(features=a, answer=b),
    'nested': lambda a, b: dict(all=[a, (b, b.argmax(1))], constant=3, nothing=None),
}


@pytest.mark.parametrize('form', FORMS)
def test_several_outputs(form):
    torch.manual_seed(0)
    space = Outputs(FORMS[form])
    for arch in every(space):
        net = extract(space, arch)
        assert check(space, arch, net) == 0.0
        kept = deepcopy(net)
        with torch.no_grad():
            kept.b.bias += 0.5
        assert check(space, arch, kept) == pytest.approx(0.5, abs=1e-6)
        out, want = pickle.loads(pickle.dumps(net))(inputs(space)), space(inputs(space), arch)
        assert type(out) is (dict if form == 'ordered' else type(want))


def test_check_says_which_output_differs():
    torch.manual_seed(0)
    small, large = {'a.out_features': 2}, {'a.out_features': 4}

    def differs(text, space, net):
        with pytest.raises(ValueError, match=text):
            check(space, small, net)

    space, nested = Outputs(FORMS['dict']), Outputs(FORMS['nested'])
    at = r"differ in shape at \['features'\]: \(2, 2\) of the space, \(2, 4\) of the subnet"
    differs(at, space, extract(space, large))
    differs(r"differ in shape at \['all'\]\[0\]: \(2, 2\)", nested, extract(nested, large))
    space.form = FORMS['alone']
    one = extract(space, small)
    for form, gives in ('tuple', r'\[0\], \[1\]'), ('dict', r"\['features'\], \['answer'\]"):
        space.form = FORMS[form]
        differs(f'gives {gives}, the subnet a tensor', space, one)
    space.form = lambda a, b: (b, 3)
    three = extract(space, small)
    space.form = lambda a, b: (b, 4)
    differs(r'differ at \[1\]: 4 of the space, 3 of the subnet', space, three)
    assert all(m.training for m in space.modules()), "modes are as they were, also after an error"


def test_inner_parts_of_a_leaf_keep_their_mode():
    class Net(Space):
        input_shape = (3, 4)

        def __init__(self):
            super().__init__()
            self.attend, self.fc = nn.MultiheadAttention(4, 2, batch_first=True), ElasticLinear(4, one_of(2, 3))

        def forward(self, x):
            return self.fc(self.attend(x, x, x, need_weights=False)[0])

    space = Net()
    space.attend.eval()
    net = extract(space, largest(space))
    assert net.training and not net.attend.training and not net.attend.out_proj.training
    assert check(space, largest(space), net) == 0.0 and space.training and not space.attend.training


class Odd(Space):
    "A constant made in forward, a recurrent layer, and weights that a layer and a function share."

    input_shape = (3, 4)

    def __init__(self):
        super().__init__()
        self.lstm, self.fc = nn.LSTM(4, 4, batch_first=True), ElasticLinear(4, one_of(2, 3))
        self.last = nn.Linear(4, 4)

    def forward(self, x):
        x, _ = self.lstm(x * torch.tensor([1.0, 2.0, 3.0, 4.0]))
        return self.fc(self.last(x) @ self.last.weight)


def test_a_network_has_its_own_weights_whatever_its_layers_are():
    torch.manual_seed(0)
    space = Odd()
    for arch in every(space):
        net, x = extract(space, arch), inputs(space)
        assert check(space, arch, net) == 0.0 and torch.equal(pickle.loads(pickle.dumps(net))(x), net(x))
        assert not {p.data_ptr() for p in space.parameters()} & {p.data_ptr() for p in net.parameters()}
        want = space(x, arch)
        net(x).sum().backward()
        assert all(p.grad is not None for p in net.parameters()) and all(p.grad is None for p in space.parameters())
        with torch.no_grad():
            for p in net.parameters():
                p.zero_()
        assert torch.equal(space(x, arch), want) and not torch.equal(net(x), want)


# ---- what a forward asks of a tensor, and what it makes


class Around(Space):
    "A searchable part, and around it what is to be tried: a module without choices, or what the space's forward does."

    input_shape = 6, 8

    def __init__(self, module=None, then=None):
        super().__init__()
        self.a = ElasticLinear(8, width := one_of(4, 8))
        self.b, self.module, self.then = ElasticLinear(width, 8), module, then

    def forward(self, x):
        x = self.b(self.a(x))
        x = x if self.module is None else self.module(x)
        return x if self.then is None else self.then(x)


def made_into(then):
    "A class of modules without choices that do this; a pickle finds it here."
    kind = type(f'Ordinary{len(globals())}', (nn.Module,), {})
    body = types.FunctionType(then.__code__, globals(), closure=then.__closure__)
    kind.forward, kind.__module__ = staticmethod(body), __name__
    globals()[kind.__name__] = kind
    return kind


def same_everywhere(space):
    "Checks networks of a space on another input, pickled twice, and copied; the last network."
    torch.manual_seed(0)
    for arch in every(space):
        net, x = extract(space.eval(), arch), torch.randn(3, 9, 8)

        def seeded(net):
            torch.manual_seed(1)
            return net(x)

        with selected(space, arch), torch.no_grad():
            want = seeded(space)
        for twin in net, deepcopy(net), pickle.loads(pickle.dumps(pickle.loads(pickle.dumps(net)))):
            assert torch.equal(seeded(twin), want)
    return net


def tripled_if(is_tensor):
    return lambda x: x * 3 if is_tensor(x) else x


ASKED = {
    'isinstance': tripled_if(lambda x: isinstance(x, torch.Tensor)),
    'one of several': tripled_if(lambda x: isinstance(x, (list, torch.Tensor))),
    'is_tensor': tripled_if(torch.is_tensor),
    'no parameter': tripled_if(lambda x: not isinstance(x, nn.Parameter)),
    'no sequence': tripled_if(lambda x: not isinstance(x, (list, tuple))),
    'transposed': lambda x: x.T * 3 if isinstance(x.T, torch.Tensor) else x,
    'a size is none': lambda x: x * x.shape[1] * (1 if isinstance(x.shape[1] - 1, torch.Tensor) else 3),
}


@pytest.mark.parametrize('question', ASKED)
def test_the_branch_is_that_of_a_tensor(question):
    then = ASKED[question]
    for space in Around(then=then), Around(made_into(then)()):
        net = same_everywhere(space)
        assert not any(type(m).__name__.startswith('Ordinary') for m in net.modules())  # looked into


UNANSWERED = {
    'type': lambda x: x * 3 if type(x) is torch.Tensor else x,
    'attributes': lambda x: x if hasattr(x, 'tensors') else x * 3,
    'values': lambda x: x if x.sum() > 0 else -x,
    'rows': lambda x: torch.stack([row * i for i, row in enumerate(x)]),
    'length': lambda x: x * len(x),
}


@pytest.mark.parametrize('question', UNANSWERED)
def test_what_no_trace_can_answer_stays_whole_or_is_refused(question):
    then = UNANSWERED[question]
    net = same_everywhere(Around(nn.Sequential(made_into(then)())))
    assert any(type(m).__name__.startswith('Ordinary') for m in net.modules())
    with pytest.raises(ValueError, match='cannot be traced|the extracted network is not the space'):
        extract(Around(then=then), {'a.out_features': 4})


def test_a_difference_names_the_first_layer():
    class Shifts(nn.Module):
        def __init__(self):
            super().__init__()
            self.twice, self.fc = one_of(1, 2), nn.Linear(8, 8)

        def forward(self, x):
            x = x + 1 if type(x) is torch.Tensor else x
            return self.fc(x) * self.twice.value

    space = Around(Shifts())
    with pytest.raises(ValueError, match=r'outputs differ by .*first layer that differs is module.fc \(Linear\)'):
        extract(space, smallest(space))
    other = extract(space, smallest(space), compare=False)
    assert check(space, smallest(space), other) > 1e-3
    space.input_shape = (7,)
    with pytest.raises(ValueError, match=r'does not run on a random input of shape \(2, 7\)'):
        extract(space, smallest(space))


MADE = {
    'numbers': lambda x: (x - torch.tensor([0.5])) / torch.linspace(1, 2, 8),
    'where': lambda x: torch.where(x > 0, x, torch.tensor(0.1)),
    'kernel': lambda x: nn.functional.conv1d(x.transpose(1, 2), torch.eye(8)[..., None]).transpose(1, 2),
    'positions': lambda x: x + torch.arange(x.shape[1])[:, None],
    'from one': lambda x: x + torch.arange(1, x.size(1) + 1, dtype=x.dtype, device=x.device)[:, None],
    'zeros': lambda x: torch.cat([x, torch.zeros(x.shape[0], 1, 8), x.new_ones(x.shape[0], 2, 8)], 1),
    'triangle': lambda x: torch.ones((x.shape[1], x.shape[1])).tril() @ x,
    'full': lambda x: x * torch.full((x.shape[1], 1), 2) + torch.full((8,), 0.5),
    'alike': lambda x: torch.zeros_like(x) + torch.ones_like(x[:, :1]),
    'random': lambda x: x + torch.rand(8) + torch.randn(x.shape[1], 8),
}


@pytest.mark.parametrize('how', MADE)
def test_tensors_that_a_forward_makes(how):
    for space in Around(then=MADE[how]), Around(made_into(MADE[how])()):
        net = same_everywhere(space)
        if how == 'random':
            assert not torch.equal(net(inputs(space)), net(inputs(space)))
        again = build(json.loads(json.dumps(describe(net))))
        again.load_state_dict(net.state_dict())


def test_other_random_numbers_are_refused_or_stay_whole():
    drawn = lambda x: x + torch.randint(0, 9, (8,))
    net = same_everywhere(Around(made_into(drawn)()))
    assert not torch.equal(net(torch.zeros(1, 2, 8)), net(torch.zeros(1, 2, 8)))
    for then in drawn, lambda x: x + torch.empty(8).uniform_():
        with pytest.raises(ValueError, match='draws random numbers, which a trace would freeze'):
            extract(Around(then=then), {'a.out_features': 4})


class Mixture(nn.Module):
    "A fixed module of several inputs that reads its mode, and keeps a tensor that is no buffer."

    def __init__(self):
        super().__init__()
        self.fc, self.shift = nn.Linear(8, 8), torch.ones(8)

    def forward(self, pair, scale=1.0):
        a, b = pair['a'], pair['b']
        return nn.functional.dropout(self.fc(a) + b * scale + self.shift, 0.5, self.training)


def test_modules_without_choices_stay_whole_and_are_the_networks_own():
    class Net(Around):
        def forward(self, x):
            y = self.b(self.a(x))
            return self.module(dict(a=x, b=y), scale=2.0)

    space = Net(Mixture())
    net = extract(space.train(), largest(space))
    assert isinstance(net.module, Mixture) and net.module.training and net.module.shift is not space.module.shift
    assert check(space, largest(space), net) == 0.0 and space.training
    x = inputs(space)
    assert not torch.equal(net(x), net(x)) and torch.equal(net.eval()(x), net(x))
    assert not {p.data_ptr() for p in space.parameters()} & {p.data_ptr() for p in net.parameters()}
    with pytest.raises(ValueError, match='module is a Mixture, which is no plain layer'):
        describe(net)


def test_numbers_that_are_looked_up():
    class Words(Space):
        input_shape, input_dtype = (5,), torch.long

        def __init__(self):
            super().__init__()
            self.look, self.answer = nn.Embedding(7, 4), ElasticLinear(4, one_of(2, 3))

        def forward(self, x):
            return self.answer(self.look(x).mean(1))

    space = Words()
    assert random_input(space).dtype == torch.long
    for arch in every(space):
        assert check(space, arch, extract(space, arch)) == 0.0
    space.input_dtype = 'long'
    with pytest.raises(ValueError, match="input_dtype is a torch.dtype, such as torch.long; found 'long'"):
        extract(space, arch)
