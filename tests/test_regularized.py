"The regularized search: its gradients, the guards of shrinking, what is left of removed options, and where it ends."

import math, warnings
from functools import cache
import pytest, torch
from hypothesis import given, settings, strategies as st
from torch import nn
from torch.utils.data import TensorDataset
from noisy_space import noisy
from nas_suite.choices import *
from nas_suite.costs import macs
from nas_suite.extraction import extract
from nas_suite.layers import *
from nas_suite.relaxation import *
from nas_suite.spaces.mobile import proxyless
from nas_suite.spaces.segmenter import published_arch, small_segmenter, ssr_segmenter
from nas_suite.strategies.regularized import Regularized, _alive, regularized, remaining, shrink
from nas_suite.strategies.steps import fitting, weight_step
from nas_suite.tasks.classification import Classification
from nas_suite.training import Loop, load_checkpoint


def mobile(seed=0):
    torch.manual_seed(seed)
    return proxyless(
        classes=3,
        image_size=8,
        in_channels=1,
        stem=8,
        first=0,
        widths=(8,),
        depths=(3,),
        last=16,
        kernels=(3, 5),
        expands=(1, 2),
    )


def segmenter(seed=0):
    torch.manual_seed(seed)
    return small_segmenter(
        3,
        (16, 24),
        channels=(8, 12),
        depths=((1, 2), (1, 2)),
        dilations=(1, 2),
        cuts=(4, 0),
        stem=6,
        grids=(1, 2),
        branch=4,
        low=8,
        head=12,
    )


def scattered(space, seed, std=2.0):
    torch.manual_seed(seed)
    for a in alphas(space):
        nn.init.normal_(a, std=std)
    return space


def task_for(space, n=24):
    torch.manual_seed(1)
    y = torch.arange(2 * n) % 3
    x = 0.3 * torch.randn(2 * n, *space.input_shape) + (y - 1).view(-1, 1, 1, 1)
    a, b = TensorDataset(x[:n], y[:n]), TensorDataset(x[n:], y[n:])
    task = Classification('signs', a, b, b, 3, space.input_shape)
    if isinstance(space, type(segmenter())):
        task.loss = task.score = lambda out, y: nn.functional.cross_entropy(out.mean((2, 3)), y)
    return task


# ---------------------------------------------------------------- the regularizer


@settings(deadline=None, max_examples=30)
@given(st.integers(2, 9), st.integers(0, 10**6), st.sampled_from(normalisations))
def test_ssr_and_its_gradient(n, seed, weights):
    space = nn.Sequential(MixedOp([nn.Identity() for _ in range(n)])).double()
    assert abs(float(regularization(space, 'ssr', weights)['operator'].detach())) < 1e-12  # uniform
    scattered(space, seed)
    (c,) = structure(space).choices
    loss = regularization(space, 'ssr', weights)['operator']
    p = probabilities(space, weights)['0.choice'].detach()
    assert loss <= 1e-12 and float(loss.detach()) == pytest.approx(
        float(-(torch.full_like(p, 1 / n) * (1 / n / p).log()).sum()), abs=1e-9
    )  # minus the divergence from uniform
    own = 1 / n - p
    torch.testing.assert_close(
        torch.autograd.grad(loss, c.alpha)[0], own if weights == 'softmax' else own * (1 - c.alpha.detach().sigmoid())
    )
    one = restrict(space, {'0.choice': '0'})
    assert regularization(one, 'ssr', weights) == {} and undecided(one) == []  # a decided choice adds nothing


def test_dead_choices_do_not_dilute():
    space = scattered(segmenter(), 3)
    op = 'stages.0.blocks.0.op.choice'
    view = restrict(space, {op: 'd1'})
    names = [structure(view).names[d] for d in undecided_by(view)['width']]
    assert not any('blocks.0.op.ops.d2' in n and n.startswith('stages.0') for n in names)
    each = [
        regularization(restrict(view, {m: choices(view)[m].options[0] for m in names if m != n}))['width']
        for n in names
    ]
    torch.testing.assert_close(regularization(view)['width'], torch.stack(each).mean())


def theirs(space) -> float:
    "What the authors add to 100 times the task's loss, over 100: 30, 15 and 15 times three means."
    found = dict(choice=[], middle=[], out_channels=[])
    for name in undecided(space):
        p = probabilities(space, 'sigmoid')[name].detach()
        p = p[choices(space)[name].survivors]
        found[name.rpartition('.')[2]].append(float(p.log().mean()) + math.log(len(p)))
    weights = dict(choice=30, middle=15, out_channels=15)
    return sum(w * sum(found[n]) / len(found[n]) for n, w in weights.items() if found[n]) / 100


def test_weights_are_the_authors():
    make = lambda **more: scattered(small_segmenter(3, (16, 24), **(dict(depths=(1, 2), factors=(1,)) | more)), 0)
    space = make()
    found = regularized(space, 'ssr', 'sigmoid').item()
    assert found == pytest.approx(theirs(space), abs=1e-6) == pytest.approx(-0.215593, abs=1e-5)
    others = [
        make(depths=(2, 2), cuts=(8, 0)),
        restrict(space, {'*.op.choice': ['d1', 'd4']}),  # removed candidates leave as many of either width
    ]
    for view in others:
        assert regularized(view, 'ssr', 'sigmoid').item() == pytest.approx(theirs(view), abs=1e-6)
    by = regularization(space)
    assert found == pytest.approx(0.3 * float(by['operator']) + 0.3 * float(by['width']), abs=1e-6)
    heavier = regularized(space, 'ssr', 'sigmoid', dict(width=0.5)).item()
    assert heavier == pytest.approx(found + 0.2 * float(by['width']), abs=1e-6)
    assert Regularized().strength == {} and Regularized(strength=dict(width=0.5)).strength == dict(width=0.5)


# ---------------------------------------------------------------- shrinking


@cache
def priced(make):
    space = make()
    return space, macs(space, space.input_shape)


@settings(deadline=None, max_examples=12)
@given(st.integers(0, 10**6), st.sampled_from([mobile, segmenter]), st.floats(0.0, 1.0), st.floats(0.0, 0.9))
def test_guards_of_shrinking(seed, make, share, threshold):
    space, cost = priced(make)
    scattered(space, seed)
    low, high = cost(smallest(space)), cost(largest(space))
    budget = low + share * (high - low)
    view = shrink(space, [(cost, budget)], threshold)
    assert (
        min(cost.batch(sample(view, 200, torch.Generator().manual_seed(0))).tolist() + [cost(smallest(view))])
        <= budget + 1e-6
    )
    p = probabilities(space, 'sigmoid')
    for n, c in choices(view).items():
        gone = [i for i in range(len(c)) if i not in c.survivors]
        likely = [i for i in gone if p[n][i] > threshold * p[n].max() and n in reachable(view)]
        for i in likely:
            assert fitting(restrict(space, {**_alive(view), n: c.options[i]}), [(cost, budget)]) is None, (
                'a likely option goes only where no network within the budget has it'
            )
    free = shrink(space, [], threshold)
    for n in reachable(free):
        assert int(p[n].argmax()) in choices(free)[n].survivors
    assert all(
        len(choices(free)[n].survivors) == 1 for n in choices(free) if n not in reachable(free)
    )  # what nothing depends on is decided
    assert choices(space)[n].survivors == list(range(len(choices(space)[n])))  # the space itself keeps all


def test_removed_branches_are_not_run():
    space = segmenter().train()
    task, runs = task_for(space), []
    gone = space.stages[0].blocks[0].op.ops['d2']
    gone.register_forward_hook(lambda *_: runs.append(1))
    x, y = task.train[:8]
    opt = torch.optim.AdamW(weights(space), 1e-3)
    weight_step(space, soften(space, 'sigmoid', learn=False), lambda: task.loss(space(x), y), opt)
    assert len(runs) == 1
    view = restrict(space, {'stages.0.blocks.0.op.choice': ['d1', 'd1_s2']})
    weight_step(view, soften(view, 'sigmoid', learn=False), lambda: task.loss(view(x), y), opt)
    assert len(runs) == 1 and all(p.grad is None for p in weights(gone))
    with selecting(soften(view, 'sigmoid')):
        task.loss(view(x), y).backward()
    assert (
        float(
            choices(view)['stages.0.blocks.0.op.choice']
            .alpha.grad[
                [
                    i
                    for i, o in enumerate(choices(view)['stages.0.blocks.0.op.choice'].options)
                    if o not in ('d1', 'd1_s2')
                ]
            ]
            .abs()
            .sum()
        )
        == 0
    )


# ---------------------------------------------------------------- the search


@pytest.mark.parametrize('make', [mobile, segmenter])
def test_it_ends_as_one_network(make, tmp_path):
    space = make()
    task, cost = task_for(space), macs(space, space.input_shape)
    limits = [(cost, cost(smallest(space)) + 0.5 * (cost(largest(space)) - cost(smallest(space))))]
    s = Regularized(epochs=40 if make is mobile else 16, batch_size=8, strength=dict(width=0.6))
    history = s.search(space, task, limits, Loop(checkpoint=tmp_path / 's.pt', progress=False)).history
    last, left = history[-1], remaining(space)
    assert last['undecided'] == 0 and last['forced'] == [] and count(left) == 1
    assert last['entropy'] == pytest.approx(0, abs=1e-6) and last['cost']['macs'] == pytest.approx(
        last['discrete']['macs']
    )  # the mixture is its network
    assert [h['undecided'] for h in history] == sorted((h['undecided'] for h in history), reverse=True)
    arch, found = largest(left), s.derive(space, limits)
    assert max(cost(arch), cost(found)) <= limits[0][1]
    assert found == arch or cost(arch) < 0.98 * cost(found)  # what is left, unless it leaves some of the budget unused
    x = task.test[:4][0]
    with torch.no_grad(), selecting(soften(left.eval(), 'sigmoid')):
        assert torch.equal(left(x), extract(space.eval(), arch)(x))
    saved = load_checkpoint(tmp_path / 's.pt')
    used, names = {id(p) for p in extract_parameters(space, arch)}, [n for n, p in space.named_parameters()]
    index = {i: p for i, p in enumerate(weights(space))}
    assert {id(index[i]) for i in saved['opt']['state'] if i in index} <= used  # nothing is kept of removed branches
    for c, state in zip(structure(space).choices, saved['arch_opt']['state'].values()):
        gone = c.alpha.detach() < -500
        assert float(state['exp_avg'][gone].abs().sum()) == 0
    tight = [(cost, cost(arch) * 0.99)]
    if cost(smallest(space)) <= tight[0][1]:
        assert (
            cost(s.derive(space, tight)) <= tight[0][1]
        )  # removed options are at hand where the network is measured to be too slow


def extract_parameters(space, arch):
    "Parameters that run when `arch` is selected."
    for p in space.parameters():
        p.grad = None
    x = torch.randn(2, *space.input_shape)
    with selected(space.train(), arch):
        space(x).sum().backward()
    return [p for p in space.parameters() if p.grad is not None]


def test_force_is_reported():
    space = mobile()
    task, cost = task_for(space), macs(space, space.input_shape)
    limits = [(cost, 0.7 * cost(largest(space)))]
    history = (
        Regularized(epochs=3, batch_size=8, threshold=0.0).search(space, task, limits, Loop(progress=False)).history
    )
    assert (
        set(history[-1]['forced']) == set(choices(space))
        and history[-1]['undecided'] == 0
        and count(remaining(space)) == 1
        and cost(largest(remaining(space))) <= limits[0][1]
    )
    space = mobile()
    never = Regularized(epochs=3, batch_size=8, shrinks=0).search(space, task, limits, Loop(progress=False)).history
    assert (
        never[-1]['forced'] == []
        and never[-1]['undecided'] == len(choices(space))
        and count(remaining(space)) == count(space)
    )


def test_data_of_the_two_kinds_of_steps():
    space, drawn = mobile(), dict(train=0, valid=0)

    class Watched(TensorDataset):
        def __init__(self, name, d):
            super().__init__(*d.tensors)
            self.name = name

        def order(self, g):
            drawn[self.name] += 1
            return torch.randperm(len(self), generator=g)

    for held in (True, False):
        task = task_for(space)
        task.train, task.valid = Watched('train', task.train), Watched('valid', task.valid)
        drawn.update(train=0, valid=0)
        Regularized(epochs=2, batch_size=8, held=held).search(space, task, [], Loop(progress=False))
        assert drawn['train'] > 0 and (drawn['valid'] > 0) == held


@pytest.mark.parametrize(
    'bad, says',
    [
        (dict(regularizer='l0'), 'they are ssr, entropy, zero-one, none'),
        (dict(weights='relu'), 'they are softmax, sigmoid'),
        (dict(strength=dict(colour=1.0)), "no role 'colour'; they are depth, resolution, operator"),
        (dict(threshold=1.0), 'threshold is out of range: 1.0'),
        (dict(force=0.05), 'force is out of range'),
        (dict(epochs=0), 'epochs is out of range: 0'),
        (dict(batch_size=1), 'batch_size'),
    ],
)
def test_bad_settings(bad, says):
    with pytest.raises(ValueError, match=says):
        Regularized(**bad)


def test_the_published_network():
    space = ssr_segmenter()
    cost = macs(space, (3, 512, 1024))
    assert 10.7e9 < cost(published_arch(space)) < 11.1e9


def test_the_regularizer_acts_from_its_onset():
    def end(**settings):
        space = segmenter()
        task = task_for(space)
        Regularized(epochs=2, batch_size=6, **settings).search(space, task, [], Loop(progress=False))
        return torch.cat([a.detach().flatten() for a in alphas(space)])

    assert torch.equal(end(onset=1.0), end(regularizer='none')) and not torch.equal(end(onset=0.1), end(onset=1.0))
    with pytest.raises(ValueError, match='onset is out of range: 2'):
        Regularized(onset=2)


@pytest.mark.parametrize('steps', [60, 300])
def test_it_decides_and_lands_on_the_budget_in_any_number_of_steps(steps):
    space, cost, low, high = noisy(learns=True)
    budget = (low + high) / 2
    data = TensorDataset(torch.zeros(2 * steps // 20, 1), torch.zeros(2 * steps // 20).long())
    task = Classification('noise', data, data, data, 2, (1,))
    task.loss = task.score = lambda out, y: -out.mean()
    strategy = Regularized(epochs=20, batch_size=2)
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        history = strategy.search(space, task, [(cost, budget)], Loop(progress=False)).history
    at = int(strategy.force * steps)
    before, last = [row for row in history if row['step'] < at][-1], history[-1]
    assert len(history) >= 60 and last['step'] == steps - 1
    assert before['entropy'] < 0.5 * math.log(4) and 0.97 <= before['cost']['time'] / budget <= 1.03
    assert 0.97 <= cost(strategy.derive(space, [(cost, budget)])) / budget <= 1
    assert abs(before['multiplier']['time']) < 3


def test_it_says_that_it_was_too_short():
    space, cost, low, high = noisy(learns=True)
    budget = (low + high) / 2
    data = TensorDataset(torch.zeros(8, 1), torch.zeros(8).long())
    task = Classification('noise', data, data, data, 2, (1,))
    task.loss = task.score = lambda out, y: -out.mean()
    with pytest.warns(UserWarning, match='too short: the entropy of the choices was .* when 6 of them were decided'):
        Regularized(epochs=5, batch_size=2, alpha_lr=1e-3).search(space, task, [(cost, budget)], Loop(progress=False))
