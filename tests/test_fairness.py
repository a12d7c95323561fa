"Rules of a supernet that train all alike: strict fairness, ordered dropout, and widths whose slices are fair."

import sys
from collections import Counter
from pathlib import Path
import pytest, torch
from torch import nn
from torch.utils._pytree import tree_map
from nas_suite import testing
from nas_suite.choices import Space, choices, decode, largest, one_of, random_input, restrict, roles, sample
from nas_suite.choices import Gates, Selection, selected, selecting
from nas_suite.costs import macs, params
from nas_suite.extraction import check, extract
from nas_suite.layers import ElasticBatchNorm, ElasticConv2d, ElasticLayerNorm, ElasticLinear, MixedOp, concat, fair
from nas_suite.layers import mask, rest, scaled, support
from nas_suite.strategies.supernet import Stage, Supernet, by_sample, fair_networks, sandwich
from nas_suite.training import Loop

sys.path.insert(0, str(Path(__file__).parent))
from test_contracts import SPACES
from test_supernet import Net, shaken, task_for


class Chain(Space):
    "Three operators, three widths, three kernels and two more: no choice depends on another."

    input_shape = (2, 8, 8)

    def __init__(self):
        super().__init__()
        width = one_of(2, 4, 6)
        self.first = ElasticConv2d(2, width, one_of(1, 3, 5), padding='same', bias=False)
        self.norm = ElasticBatchNorm(width)
        self.mixed = MixedOp([nn.Identity(), nn.ReLU(), nn.Tanh()])
        self.last = ElasticConv2d(width, one_of(4, 8), 1)
        self.end = MixedOp([nn.Identity(), nn.Sigmoid()])

    def forward(self, x):
        return self.end(self.last(self.mixed(self.norm(self.first(x))))).mean((2, 3))


def seen(space, steps, seed=0):
    "How often each option of each choice was in the networks of some steps."
    found = {name: Counter() for name in choices(space)}
    for step in steps:
        for arch in fair_networks(space, seed, step):
            for name, option in arch.items():
                found[name][option] += 1
    return found


@pytest.mark.parametrize('step', [0, 1, 7])
def test_each_option_is_in_exactly_one_network_of_a_step(step):
    counts = seen(Chain(), [step])
    for name, choice in choices(Chain()).items():
        found = [counts[name][option] for option in choice.options]
        assert found == [1, 1, 1] if len(choice) == 3 else sorted(found) == [1, 2]
    view = restrict(Chain(), {'mixed.choice': ['0', '2']})
    assert set(seen(view, range(4))['mixed.choice']) == {'0', '2'}


@pytest.mark.parametrize('steps', [1, 2, 5, 6])
def test_choices_with_fewer_options_are_fair_over_the_steps(steps):
    for counts in seen(Chain(), range(steps), seed=steps).values():
        assert sum(counts.values()) == 3 * steps and max(counts.values()) - min(counts.values()) <= 1


def test_networks_of_a_fair_step_follow_from_seed_and_step():
    space = Net()
    assert fair_networks(space, 0, 5) == fair_networks(space, 0, 5) != fair_networks(space, 0, 6)
    assert fair_networks(space, 0, 5) != fair_networks(space, 1, 5)
    assert len(fair_networks(nn.Linear(1, 1), 0, 0)) == 1


def test_a_resolution_is_one_for_the_whole_of_a_step():
    space = SPACES['resolution'][0]()
    rule = Supernet(rule='fair', distill='none')
    [name] = [name for name, role in roles(space).items() if role == 'resolution']
    sizes = [{arch[name] for arch in rule.archs(space, rule.stages[0], 0, step)} for step in range(12)]
    assert all(len(one) == 1 for one in sizes) and len(set.union(*sizes)) == len(choices(space)[name])


def test_the_gradients_of_a_fair_step_are_added():
    space, task = Net().double().train(), task_for(dtype=torch.float64)
    x, y = task.train.tensors
    rule = Supernet(rule='fair', distill='none')
    archs = rule.archs(space, rule.stages[0], 3, 4)
    rule.step(space, task.loss, archs, x, y)
    found = [p.grad for p in space.parameters()]
    space.zero_grad(set_to_none=True)
    found = [None if grad is None else grad.clone() for grad in found]
    sum(task.loss(space(x, arch), y) for arch in archs).backward()
    for grad, p in zip(found, space.parameters()):
        assert (grad is None) == (p.grad is None)
        if grad is not None:
            torch.testing.assert_close(grad, p.grad, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize('rule', ['fair', 'ordered'])
def test_a_training_goes_on_where_it_was_cut_off(tmp_path, rule):
    torch.manual_seed(0)
    start = Net().state_dict()

    def run(path, cut=None):
        space, how = Net(), Supernet(sandwich(2, lr=0.01), rule=rule, distill='none', batch_size=12)
        space.load_state_dict(start)
        loop = Loop(3, checkpoint=path, progress=False, save_s=0, on_step=lambda step: 1 / (step != cut))
        return how.train(space, task_for(), loop), space.state_dict()

    whole, weights = run(tmp_path / 'whole.pt')
    with pytest.raises(ZeroDivisionError):
        run(tmp_path / 'cut.pt', 3)
    again, same = run(tmp_path / 'cut.pt')
    assert whole.history == again.history and all(torch.equal(weights[name], same[name]) for name in weights)
    assert any(not torch.equal(weights[name], start[name]) for name in weights)


def test_configurations_of_before_are_read():
    before = dict(stages=[dict(name='all', to={}, epochs=5)], rule='uniform', distill='none', loss='soft targets',
                  batch_size=64, weight_decay=3e-5, optimizer='sgd')  # fmt: skip
    assert Supernet(**before).rule == 'uniform'
    for rule in ('fair', 'ordered'):
        how = Supernet(rule=rule, distill='none', epochs=3)
        assert Supernet(**how.config()).config() == how.config()
        with pytest.raises(ValueError, match='needs the sandwich rule'):
            Supernet(rule=rule)


# ---------------------------------------------------------------- ordered dropout

ELASTIC = [name for name in SPACES if name not in ('proxyless', 'proxyless, one path', 'proxyless, restricted')]


def in_double(make):
    torch.manual_seed(0)
    return shaken(make()).double().eval()


@pytest.mark.parametrize('name', ELASTIC)
def test_each_sample_sees_the_network_of_its_own_widths(name):
    space = in_double(SPACES[name][0])
    x, generator = random_input(space, 4), torch.Generator().manual_seed(0)
    for _ in range(2):
        arch = by_sample(space, sample(space, generator=generator), len(x), generator)
        soft = {name: gates for name, gates in arch.items() if isinstance(gates, Gates)}
        with selected(space, arch):
            together = space(x)
        for i in range(len(x)):
            own = {n: choices(space)[n].options[g.index[int(g.weight[i].argmax())]] for n, g in soft.items()}
            with selected(space, arch | own):
                alone = space(x[i : i + 1])
            own = tree_map(lambda t: t[i : i + 1], together)
            torch.testing.assert_close(own, alone, rtol=1e-9, atol=1e-9)


def test_a_fixed_width_is_the_sliced_network_to_the_bit():
    space, x = shaken(Net()), torch.randn(5, 2, 8, 8)
    widths = [name for name, role in roles(space).items() if role == 'width']
    for k in range(2):
        view = restrict(space, {name: [choices(space)[name].options[k]] for name in widths})
        arch = largest(view)
        assert by_sample(view, arch, 5) == arch  # nothing is left to draw
        gates = {n: Gates((k,), torch.ones(5, 1), (True,)) for n in widths if n in arch}
        with selected(space, arch | gates):
            assert torch.equal(space(x), extract(space, arch)(x))


def test_a_channel_is_there_as_often_as_it_should_be():
    class One(Space):
        def __init__(self):
            super().__init__()
            self.layer = ElasticLinear(3, one_of(1, 2, 3, 4, 5))

    space, n = One(), 20000
    arch = by_sample(space, largest(space), n, torch.Generator().manual_seed(0))
    with selected(space, arch):
        there = space.layer(torch.ones(n, 3)) != 0
    share = there.double().mean(0)
    assert share.tolist() == pytest.approx([(5 - c) / 5 for c in range(5)], abs=4 * 0.5 / n**0.5)
    assert (there[:, 1:] <= there[:, :-1]).all()  # a prefix in each sample


def test_masks_of_samples_of_widths_of_every_kind():
    width, ratio = one_of(4, 8), one_of(0.5, 1.0)
    kinds = [width, scaled(width, ratio, 2), concat(2, width, width), rest(10, width), fair(one_of(2, 4, 6))]
    for kind in kinds:
        found = kind.variables() if hasattr(kind, 'variables') else [kind]
        gates = {c: Gates(tuple(range(len(c))), torch.eye(len(c)), (True,) * len(c)) for c in found}
        if len({len(c) for c in found}) > 1:
            continue
        with selecting(Selection(gates)):
            channels, weights = list(support(kind)), mask(kind, torch.ones(1))
        for i in range(len(weights)):
            with selecting(Selection(dict.fromkeys(found, i))):
                wanted = [float(c in support(kind)) for c in channels]
            assert weights[i].tolist() == wanted


def test_samples_that_are_not_the_first_dimension_are_refused():
    width = one_of(2, 4)
    layer = ElasticLayerNorm(width)
    with selecting(Selection({width: Gates((0, 1), torch.eye(2), (True, True))})):
        with pytest.raises(ValueError, match='each of 2 samples has a width of its own'):
            layer(torch.ones(6, 4))
        assert layer(torch.randn(2, 3, 4)).shape == (2, 3, 4)


# ---------------------------------------------------------------- fair slices


class Slices(Space):
    "Convolutions with a norm, a depthwise one and a residual sum, over fair slices."

    input_shape = (2, 8, 8)

    def __init__(self, wrap=fair, options=(4, 8, 12, 16, 20)):
        super().__init__()
        width = wrap(one_of(*options))
        self.first, self.norm = ElasticConv2d(2, width, 3, padding=1, bias=False), ElasticBatchNorm(width)
        self.move = ElasticConv2d(width, width, 3, padding=1, groups=width)
        self.back, self.last = ElasticConv2d(width, width, 1), ElasticLinear(width, 3)

    def forward(self, x):
        x = self.norm(self.first(x)).relu()
        return self.last((x + self.back(self.move(x))).mean((2, 3)))


@pytest.mark.parametrize('n', [3, 5, 7])
def test_each_group_is_used_equally_often(n):
    groups = {3: [2, 2, 2], 5: [3] * 5, 7: [4] * 7}[n]
    choice = one_of(*(8 * j for j in range(1, n + 1)))
    slices = [set(fair(choice).kept({choice: i}.__getitem__)) for i in range(n)]
    assert [len(kept) for kept in slices] == choice.options
    assert [sum(8 * g in kept for kept in slices) for g in range(n)] == groups
    for j in range(1, (n + 1) // 2):
        assert slices[j - 1] | slices[n - j - 1] == slices[-1] and not slices[j - 1] & slices[n - j - 1]


def test_fair_networks_are_extracted_and_counted():
    space, plain = shaken(Slices()), Slices(lambda width: width)
    for arch in decode(space, torch.arange(5)[:, None]):
        assert check(space, arch, extract(space, arch)) == 0
        for cost in (macs, params):
            assert cost(space, (2, 8, 8))(arch) == cost(plain, (2, 8, 8)).batch(torch.tensor([[0]]) + arch_index(arch))
    view = restrict(space, {next(iter(choices(space))): [8, 12]})
    assert check(view, largest(view), extract(view, largest(view))) == 0
    x = torch.randn(2, 2, 8, 8)
    assert torch.equal(view(x, largest(view)), space(x, largest(view)))


def arch_index(arch):
    return [4, 8, 12, 16, 20].index(next(iter(arch.values())))


def test_a_space_of_fair_slices_keeps_its_contract():
    testing.check_space(Slices)
    testing.check_relaxation(Slices)


def test_fair_slices_are_trained_by_the_fair_rule():
    space = Slices()
    rule = Supernet([Stage('all', {}, 1)], rule='fair', distill='none', batch_size=12)
    before = space.first.weight.detach().clone()
    rule.train(space, task_for(), Loop(progress=False))
    assert (space.first.weight != before).flatten(1).any(1).all()


def test_what_cannot_be_sliced_fairly_is_refused():
    with pytest.raises(ValueError, match='odd number of groups; found 2'):
        fair(one_of(2, 4))
    with pytest.raises(ValueError, match='16 channels are not 5 equal groups'):
        fair(one_of(4, 16), 5)
    with pytest.raises(ValueError, match='groups of 4 channels is a multiple of these; found 6'):
        fair(one_of(4, 6, 20), 5)
    assert fair(8) == 8
