"ProxylessNAS's gradients against hand-derived ones, what a step must leave alone, and derivation against enumeration."

from copy import deepcopy
from itertools import product
import pytest, torch
from torch import nn
from torch.utils.data import TensorDataset
from noisy_space import noisy
from nas_suite.choices import *
from nas_suite.costs import LatencyAwareLoss, ascend, macs, params
from nas_suite.layers import *
from nas_suite.relaxation import draw_gates, draw_path, entropy, modes, probabilities
from nas_suite.strategies.gated import AlphaOptimizer, Gated, _short
from nas_suite.strategies.steps import added_gradients, architecture_gradients, derive, reinforce_gradients, scatter, weight_step
from nas_suite.tasks.classification import Classification
from nas_suite.training import Loop


class Times(nn.Module):
    "x * weight, a number: the gate's gradient can be worked out by hand."

    def __init__(self, w):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(float(w), dtype=torch.float64))

    def forward(self, x):
        return x * self.weight


def chain(n=2, zero=True):
    return nn.Sequential(
        *(
            MixedOp(
                dict(zero=Zero(), a=Times(0.5 + i), b=Times(-1.0), c=Times(2.0))
                if zero
                else dict(a=Times(0.5 + i), b=Times(-1.0), c=Times(2.0))
            )
            for i in range(n)
        )
    )


def set_alphas(space, seed=0):
    g = torch.Generator().manual_seed(seed)
    for c in structure(space).choices:
        c.alpha = nn.Parameter(torch.randn(len(c), generator=g, dtype=torch.float64))
    return space


@pytest.mark.parametrize('mode', modes)
@pytest.mark.parametrize('seed', range(4))
def test_the_gradient_of_each_gate_by_hand(mode, seed):
    "dL/dalpha_i = sum_j dL/dg_j * dp_j/dalpha_i with dL/dg_j = <dL/dy, o_j(x)>, p over the options that are sampled (ProxylessNAS, equation 4)."
    space, x, t = (
        set_alphas(chain(1), seed),
        torch.tensor([1.0, -2.0, 3.0], dtype=torch.float64),
        torch.tensor([0.3, 0.1, -1.0], dtype=torch.float64),
    )
    selection, pairs = draw_gates(space, mode, torch.Generator().manual_seed(seed))
    (choice,) = structure(space).choices
    gates = selection[choice]
    loss, (grad,) = architecture_gradients(space, selection, lambda: ((space(x) - t) ** 2).sum())
    ops = [0.0, 0.5, -1.0, 2.0]
    live = gates.index[gates.live.index(True)]
    torch.testing.assert_close(loss, ((ops[live] * x - t) ** 2).sum(), rtol=1e-12, atol=1e-12)
    dy, q = 2 * (ops[live] * x - t), choice.alpha.detach()[list(gates.index)].softmax(0)
    dg = torch.stack([(dy * ops[i] * x).sum() for i in gates.index])
    want = torch.zeros(4, dtype=torch.float64)
    want[list(gates.index)] = q * (dg - (q * dg).sum())
    torch.testing.assert_close(grad, want, rtol=1e-12, atol=1e-12)
    if mode == 'two':
        assert pairs == {0: gates.index} and len(gates.index) == 2 and (grad != 0).sum() <= 2
    else:
        assert len(gates.index) == 4


def test_the_full_gradient_is_that_of_the_expectation_where_the_loss_is_linear():
    "For a loss that is linear in the output, the mean of the binary gates' gradient is the gradient of the expected loss, Zero included."
    space, x = set_alphas(chain(1), 3), torch.tensor([1.0, 2.0], dtype=torch.float64)
    (c,) = structure(space).choices
    _, (grad,) = architecture_gradients(
        space, draw_gates(space, 'full', torch.Generator().manual_seed(0))[0], lambda: space(x).sum()
    )
    alpha = c.alpha.detach().requires_grad_(True)
    (want,) = torch.autograd.grad(
        (alpha.softmax(0) * torch.tensor([0.0, 0.5, -1.0, 2.0], dtype=torch.float64)).sum() * x.sum(), alpha
    )
    torch.testing.assert_close(grad, want, rtol=1e-12, atol=1e-12)


def test_a_better_zero_gains():
    "All else makes the output worse, so that its probability must rise (the published code lowers it)."
    space = set_alphas(chain(1), 1)
    (c,) = structure(space).choices
    x, opt, before = torch.tensor([1.0, 2.0], dtype=torch.float64), AlphaOptimizer(space, 0.05), None
    before = float(c.probs[0].detach())
    for i in range(600):
        selection, pairs = draw_gates(space, 'two', torch.Generator().manual_seed(i))
        opt.step(architecture_gradients(space, selection, lambda: (space(x) ** 2).sum())[1], [None], pairs)
    assert float(c.probs[0].detach()) > max(0.8, before)


def test_full_v2_is_full_with_less_memory():
    torch.manual_seed(0)
    conv = lambda k: nn.Sequential(
        nn.Conv2d(4, 4, k, padding=k // 2), nn.ReLU(), nn.Conv2d(4, 4, k, padding=k // 2)
    ).double()
    space = set_alphas(nn.Sequential(*(MixedOp(dict(a=conv(1), b=conv(3), c=conv(5), d=Zero())) for _ in range(3))), 2)
    x, out = torch.randn(2, 4, 6, 6, dtype=torch.float64), {}
    for mode in ('full', 'full_v2'):
        seen = {}

        def pack(t):
            seen[t.untyped_storage().data_ptr()] = t.untyped_storage().nbytes()
            keep.append(t)
            return t

        keep = []
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
            out[mode] = architecture_gradients(
                space, draw_gates(space, mode, torch.Generator().manual_seed(5))[0], lambda: (space(x) ** 2).mean()
            )
        out[mode] += (sum(seen.values()),)
    assert out['full'][0] == out['full_v2'][0]
    for a, b in zip(out['full'][1], out['full_v2'][1]):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-14)
    assert out['full_v2'][2] < out['full'][2]


def test_memory_of_two_paths_does_not_grow_with_the_operators():
    kept = []
    for n in (3, 9):
        space = nn.Sequential(*(MixedOp([nn.Conv2d(4, 4, 3, padding=1) for _ in range(n)]) for _ in range(3)))
        total, alive = {}, []

        def pack(t):
            total[t.untyped_storage().data_ptr()] = t.untyped_storage().nbytes()
            alive.append(t)
            return t

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
            architecture_gradients(
                space,
                draw_gates(space, 'two', torch.Generator().manual_seed(0))[0],
                lambda: space(torch.ones(8, 4, 16, 16)).mean(),
            )
        kept.append(sum(total.values()))
    assert kept[1] < 1.02 * kept[0]


def test_the_mass_of_a_pair_stays():
    "Unsampled options keep their probabilities to 1e-12 whatever the gradient is (ProxylessNAS, section 3.3.1); Adam has no memory of the first moment, and no decay."
    space = set_alphas(chain(3), 7)
    s = structure(space)
    opt = AlphaOptimizer(space, 0.3)
    for i in range(20):
        _, pairs = draw_gates(space, 'two', torch.Generator().manual_seed(i))
        before = [c.probs.detach().clone() for c in s.choices]
        grads = [
            torch.zeros(4, dtype=torch.float64).index_put(
                (torch.tensor(pairs[d]),), torch.randn(2, dtype=torch.float64)
            )
            for d in range(3)
        ]
        opt.step(grads, [None] * 3, pairs)
        for d, (c, p) in enumerate(zip(s.choices, before)):
            others = [j for j in range(4) if j not in pairs[d]]
            assert (c.probs.detach()[others] - p[others]).abs().max() < 1e-12 and not torch.equal(
                c.probs.detach()[list(pairs[d])], p[list(pairs[d])]
            )
    before = [c.alpha.detach().clone() for c in s.choices]
    opt.step([None] * 3, [None] * 3, {})
    assert all(torch.equal(a, c.alpha) for a, c in zip(before, s.choices))  # no gradient, no step


def test_adam_by_hand():
    space = set_alphas(chain(1), 0)
    (c,) = structure(space).choices
    opt, a, v = AlphaOptimizer(space, 0.1, beta=0.9), c.alpha.detach().clone(), torch.zeros(4, dtype=torch.float64)
    for k in range(1, 4):
        g = torch.randn(4, dtype=torch.float64)
        v = 0.9 * v + 0.1 * g * g
        a = a - 0.1 * g / ((v / (1 - 0.9**k)).sqrt() + 1e-8)
        opt.step([g], [None], {})
        torch.testing.assert_close(c.alpha.detach(), a, rtol=1e-12, atol=1e-12)


def net():
    torch.manual_seed(0)
    block = lambda k: nn.Sequential(nn.Conv2d(3, 3, k, padding=k // 2, bias=False), nn.BatchNorm2d(3))
    space = nn.Sequential(
        *(MixedOp(dict(zero=Zero(), a=block(1), b=block(3), c=block(5))) for _ in range(3)),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
    )
    space.input_shape = (3, 6, 6)
    return space.train()


def test_a_weight_step_touches_one_path():
    space = net()
    s = structure(space)
    path, before = (
        draw_path(restrict(space, {'*': ['a', 'b', 'c']}), torch.Generator().manual_seed(1)),
        deepcopy(space.state_dict()),
    )  # nothing passes a zero
    path = Selection(zip(s.choices, path.values()))
    weight_step(
        space,
        path,
        lambda: space(torch.randn(4, 3, 6, 6)).pow(2).mean(),
        torch.optim.SGD(weights(space), 0.1, momentum=0.9),
    )
    for d, c in enumerate(s.choices):
        for i, o in enumerate(c.options):
            mine = [p for p in space[d].ops[o].parameters()]
            assert all((p.grad is None) == (path[c] != i) for p in mine)
            for n, t in space[d].ops[o].state_dict().items():
                assert torch.equal(t, before[f'{d}.ops.{o}.{n}']) == (path[c] != i)
        assert c.alpha.grad is None


@pytest.mark.parametrize('mode', [*modes, 'reinforce'])
def test_an_architecture_step_leaves_weights_and_statistics(mode):
    space = net()
    before, x = deepcopy(space.state_dict()), torch.randn(4, 3, 6, 6)
    if mode == 'reinforce':
        reinforce_gradients(space, lambda: -space(x).pow(2).mean(), None)
    else:
        architecture_gradients(
            space, draw_gates(space, mode, torch.Generator().manual_seed(0))[0], lambda: space(x).pow(2).mean()
        )
    assert all(torch.equal(v, before[k]) for k, v in space.state_dict().items()) and all(
        p.grad is None and p.requires_grad for p in space.parameters()
    )


def test_reinforce_is_unbiased():
    space, x = set_alphas(chain(2), 4), torch.tensor([1.0], dtype=torch.float64)
    s, n = structure(space), 4000
    exact = [torch.zeros(4, dtype=torch.float64) for _ in s.choices]
    ps = [c.probs.detach() for c in s.choices]
    vals = [[0.0, 0.5, -1.0, 2.0], [0.0, 1.5, -1.0, 2.0]]
    for i, j in product(range(4), range(4)):
        r, p = vals[0][i] * vals[1][j], ps[0][i] * ps[1][j]
        for d, k in enumerate((i, j)):
            exact[d] -= p * r * (torch.eye(4, dtype=torch.float64)[k] - ps[d])
    mean, grads, baseline = reinforce_gradients(
        space, lambda: space(x).sum(), 0.0, n=n, generator=torch.Generator().manual_seed(0)
    )
    for g, e in zip(grads, exact):
        torch.testing.assert_close(g, e, rtol=0, atol=5 * 4 / n**0.5)
    assert baseline == pytest.approx(0.1 * mean)


def test_added_gradients_come_from_all_probabilities():
    space = net()
    s = structure(space)
    cost = macs(space, (3, 6, 6))
    loss = LatencyAwareLoss(cost, 0.3 * cost(largest(space)), strength=0.5)
    loss.multiplier.fill_(2.0)
    factor, grads = added_gradients(space, torch.tensor(1.5), [loss], probabilities(space))
    want = torch.autograd.grad(2.0 * loss.excess(probabilities(space)), alphas(space))
    assert (
        factor == 1
        and all(torch.allclose(a, b.to(a.dtype)) for a, b in zip(grads, want))
        and all((g != 0).all() for g in grads)
    )
    factor, grads = added_gradients(
        space, torch.tensor(1.5), [LatencyAwareLoss(cost, 1e5, "power", 0.6)], probabilities(space)
    )
    assert factor == pytest.approx(float((cost.expected(probabilities(space)) / 1e5) ** 0.6), rel=1e-5)


def best_of_all(space, limits):
    "What is most probable of those that use a budget, or nearly as much of one as any."
    s = structure(space)
    rows = torch.cartesian_prod(*(torch.arange(len(c)) for c in s.choices)).view(-1, len(s.choices))
    used = torch.stack([c.batch(rows) / b for c, b in limits]).amax(0)
    ok = used <= 1
    least = 0.98 if used[ok].max() >= 0.98 else 0.98 * used[ok].max()
    return sum(c.probs.detach().log()[rows[:, d]] for d, c in enumerate(s.choices))[ok & (used >= least)].max()


def test_derivation_is_the_best_of_all():
    "Never over a budget, one of them used, and the most probable of all that are so."
    for seed in range(8):
        space = net()
        s = structure(space)
        g = torch.Generator().manual_seed(seed)
        for c in s.choices:
            c.alpha.data = torch.randn(len(c), generator=g)
        costs = [macs(space, (3, 6, 6)), params(space, (3, 6, 6))][: 1 + seed % 2]
        limits = [(c, (0.15 + 0.6 * float(torch.rand((), generator=g))) * c(largest(space))) for c in costs]
        arch = derive(space, limits)
        assert all(c(arch) <= b for c, b in limits)
        mine = sum(c.probs.detach().log()[c.options.index(arch[n])] for n, c in zip(s.names, s.choices))
        assert float(mine) == pytest.approx(float(best_of_all(space, limits)), abs=1e-5)
    assert derive(space, []) == {n: c.options[int(c.alpha.argmax())] for n, c in choices(space).items()}


def test_it_learns_what_is_better_within_the_budget():
    "One operator of each block helps, and costs; the budget allows it in two of three blocks."

    class Gain(nn.Module):
        def __init__(self, width):
            super().__init__()
            self.conv = nn.Conv2d(3, 3, 1, groups=width)
            nn.init.zeros_(self.conv.weight)
            nn.init.zeros_(self.conv.bias)

        def forward(self, x):
            return x + self.conv(x)

    torch.manual_seed(0)
    space = nn.Sequential(
        *(MixedOp(dict(none=nn.Identity(), some=Gain(3), full=Gain(1))) for _ in range(3)),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
    )
    space.input_shape = (3, 4, 4)
    x, y = torch.rand(300, 3, 4, 4), torch.arange(300) % 3
    x[torch.arange(300), (y + 1) % 3] += 0.5  # the class shows in another channel: only `full` can move it
    a, b = TensorDataset(x[:150], y[:150]), TensorDataset(x[150:], y[150:])
    task, cost = Classification('shifted', a, b, b, 3, (3, 4, 4), smoothing=0.0), macs(space, (3, 4, 4))
    budget = 2.2 * 9 * 16
    strategy = Gated(epochs=60, batch_size=50, lr=0.1)
    history = strategy.search(space, task, [(cost, budget)], Loop(progress=False)).history
    arch = strategy.derive(space, [(cost, budget)])
    assert (
        history[-1]['entropy'] < history[0]['entropy']
        and cost(arch) <= budget
        and history[-1]['cost']['macs'] < 1.1 * budget
    )
    assert 'full' in arch.values()


@pytest.mark.parametrize(
    'kwargs,what',
    [
        (dict(gradient='three'), 'reinforce'),
        (dict(epochs=0), 'epochs'),
        (dict(warmup=1.0), 'warmup'),
        (dict(batch_size=1), 'batch_size'),
        (dict(every=0), 'every'),
        (dict(lr=0), 'lr'),
    ],
)
def test_bad_settings(kwargs, what):
    with pytest.raises(ValueError, match=what):
        Gated(**kwargs)


# ---------------------------------------------------------------- schedules: short searches and long ones


def searched(steps, share, scale=0.1, costs=1, **settings):
    "The architecture steps of a gated search, and nothing else: what is left of the entropy, costs and prices, and what it says."
    space, cost, low, high = noisy(scale=scale)
    s, strategy = structure(space), Gated(warmup=0.0, **settings)
    budgets = [low + share * (high - low), high][:costs]
    losses = [LatencyAwareLoss(cost, budget, strategy.form, strategy.strength, steps=steps) for budget in budgets]
    scatter(s, 0)
    plan, optimizer, g = strategy.plan(s, steps), AlphaOptimizer(space, 12 / steps), torch.Generator().manual_seed(1)
    loop = Loop(progress=False)
    for step in range(steps):
        strategy.architecture_step(
            space, lambda: -space(torch.zeros(())), None, losses, optimizer, g, loop, plan.goal(step)
        )
    used = [float(loss.excess(probabilities(s)).detach()) + 1 for loss in losses]
    return entropy(s) / plan.start, used, [float(loss.multiplier) for loss in losses], _short(s, losses, plan)


@pytest.mark.parametrize('steps, share, scale', [(50, 0.7, 0.1), (200, 0.3, 100.0), (1000, 0.5, 0.1)])
def test_it_decides_and_lands_on_the_budget_in_any_number_of_steps(steps, share, scale):
    "Though the noise of a step is ten times what an option is worth; and whatever the scale of the task's loss."
    left, (used,), (price,), short = searched(steps, share, scale)
    assert left <= 0.25 and 0.97 <= used <= 1.03 and abs(price) < 2 and short == []


def test_what_was_published_does_not():
    left, _, _, short = searched(100, 0.5, entropy_left=1.0)
    assert left > 0.6 and 'the entropy of the choices is' in short[0]


def test_a_search_that_was_too_short_says_so():
    space, cost, low, high = noisy()
    s, budget = structure(space), 0.9 * high
    plan = Gated().plan(s, 100)
    with torch.no_grad():
        for choice in s.choices:
            choice.alpha[:] = 0.5 * torch.eye(4)[0]
    short = _short(s, [LatencyAwareLoss(cost, budget)], plan)
    assert len(short) == 2 and 'of the budget, of which more could be used' in short[1]
    (over,) = _short(s, [LatencyAwareLoss(cost, 1.01 * low)], plan)[1:]
    assert 'the expected time is' in over
    assert len(_short(s, [LatencyAwareLoss(cost, 3 * high)], plan)) == 1  # nothing there uses so much
    assert len(_short(s, [LatencyAwareLoss(cost, budget, 'linear')], plan)) == 1


def test_of_two_budgets_one_binds():
    "The price of the one that is used less does not go below zero, or the two would pull against each other."
    left, used, prices, short = searched(100, 0.5, costs=2)
    assert 0.95 <= used[0] <= 1.05 and used[1] < 0.9 and prices[1] == 0


def test_sharpening_follows_its_goal_and_keeps_the_order():
    space = set_alphas(chain(3), 5)
    s = structure(space)
    before = [c.alpha.detach().argsort() for c in s.choices]
    opt = AlphaOptimizer(space, 0.1)
    opt.sharpen(entropy(s) + 0.1)
    assert opt.sharpness == 1  # nothing to do
    for _ in range(30):
        opt.sharpen(0.2)
    assert entropy(s) == pytest.approx(0.2, abs=1e-3) and opt.sharpness > 1
    assert all(torch.equal(a, c.alpha.detach().argsort()) for a, c in zip(before, s.choices))
    other = AlphaOptimizer(space, 0.1)
    other.load_state_dict(opt.state_dict())
    assert other.sharpness == opt.sharpness


def test_a_price_is_measured_by_the_task():
    "At a price of 1 the gradients of cost and task are alike; where either is nothing, the unit stays as it is."
    space, cost, low, high = noisy()
    loss, probs = LatencyAwareLoss(cost, high / 2), probabilities(space)
    loss.multiplier.fill_(1.0)
    felt = [torch.randn(4) for _ in structure(space).choices]
    _, grads = added_gradients(space, torch.tensor(1.0), [loss], probs, felt=felt)
    length = lambda grads: float(torch.cat(grads).pow(2).sum().sqrt())
    assert length(grads) == pytest.approx(length(felt), rel=1e-5)
    unit = float(loss.unit)
    added_gradients(space, torch.tensor(1.0), [loss], probs, felt=[None] * 6)
    assert float(loss.unit) == unit > 0
    for _ in range(50):
        ascend([loss], probs)
    assert float(loss.multiplier) == 5.0
