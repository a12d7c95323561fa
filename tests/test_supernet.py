"Supernet training and evolution: channels sorted without a change, processes that agree, and searches on known landscapes."

import pytest, torch
from torch import nn
from torch.utils.data import TensorDataset
from nas_suite.choices import *
from nas_suite.costs import macs
from nas_suite.layers import *
from nas_suite.strategies.evolution import (
    Accuracy,
    AccuracyPredictor,
    Evolution,
    evolve,
    random_search,
    successive_halving,
)
from nas_suite.strategies.fronts import pareto
from nas_suite.strategies.steps import finalists
from nas_suite.strategies.supernet import Stage, Supernet, progressive, sandwich, sort_channels
from nas_suite.tasks.base import Metric
from nas_suite.tasks.classification import Classification
from nas_suite.training import Loop


class Block(nn.Module):
    def __init__(self, i, o, expand, kernel, norm=True):
        super().__init__()
        mid = scaled(i, expand, 4)
        self.grow, self.dw, self.back = (
            ElasticConv2d(i, mid, 1, bias=not norm, masked=not norm),
            ElasticConv2d(mid, mid, kernel, padding='same', groups=mid, bias=not norm, transform=True),
            ElasticConv2d(mid, o, 1, bias=not norm),
        )
        self.squeeze, self.excite = ElasticConv2d(mid, s := scaled(mid, 0.5, 4), 1), ElasticConv2d(s, mid, 1)
        self.bns = nn.ModuleList([ElasticBatchNorm(w) if norm else nn.Identity() for w in (mid, mid, o)])
        self.act, self.residual = nn.ReLU(), i is o

    def forward(self, x):
        y = self.act(self.bns[1](self.dw(self.act(self.bns[0](self.grow(x))))))
        y = y * torch.sigmoid(self.excite(self.act(self.squeeze(y.mean((2, 3), keepdim=True)))))
        y = self.bns[2](self.back(y))
        return x + y if self.residual else y


class Net(Space):
    input_shape = (2, 8, 8)

    def __init__(self, norm=True):
        super().__init__()
        c = one_of(4, 8, 12)
        self.stem = ElasticConv2d(2, c, 3, padding=1, bias=False)
        self.stage = ElasticDepth(
            [Block(c, c, one_of(1, 2, 3), one_of(3, 5, 7), norm) for _ in range(3)], one_of(1, 2, 3)
        )
        self.last = Block(c, 8, one_of(1, 2), 3, norm)
        self.head = ElasticLinear(8, 3)

    def forward(self, x):
        return self.head(self.last(self.stage(self.stem(x))).mean((2, 3)))


def task_for(n=24, dtype=torch.float32):
    g = torch.Generator().manual_seed(0)
    y = torch.arange(2 * n) % 3
    x = (torch.randn(2 * n, 2, 8, 8, generator=g) + (y - 1).view(-1, 1, 1, 1)).to(dtype)
    a, b = TensorDataset(x[:n], y[:n]), TensorDataset(x[n:], y[n:])
    return Classification('signs', a, b, b, 3, (2, 8, 8))


def shaken(space):
    for p in (*space.parameters(), *space.buffers()):
        if p.is_floating_point() and p.ndim:
            p.data.uniform_(0.3, 1.0) if p.min() >= 0 and p.ndim == 1 else p.data.normal_(0, 0.4)
    return space.eval()


def test_roles():
    by = roles(Net())
    assert sorted(by.values()) == ['depth'] + ['kernel'] * 3 + ['width'] * 5


@pytest.mark.parametrize('alive', [{}, {1: (12,)}, {1: (8, 12)}])
def test_sorting_changes_no_network_that_was_trained(alive):
    space, x = shaken(Net().double()), torch.randn(2, 2, 8, 8, dtype=torch.float64)
    by = roles(space)
    trained = restrict(
        space,
        {n: list(choices(space)[n].options)[-k:] for n, k in by.items() if k == 'width' for k in [2 if alive else 1]},
    )
    archs = [largest(space), *decode(space, sample(trained, 12, torch.Generator().manual_seed(0)))]
    before = [space(x, a) for a in archs]
    weights_before = space.stage.blocks[0].back.weight.clone()
    found = sort_channels(trained)
    assert len(found) >= 6 and not torch.equal(
        weights_before, space.stage.blocks[0].back.weight
    )  # over the same weights
    for a, y in zip(archs, before):
        torch.testing.assert_close(space(x, a), y, rtol=1e-9, atol=1e-9)


def test_sorting_puts_the_important_first():
    space = shaken(Net())
    sort_channels(
        restrict(space, {n: [choices(space)[n].options[-1]] for n, k in roles(space).items() if k == 'width'})
    )
    b = space.last
    score = b.back.weight.abs().sum((0, 2, 3)) + b.squeeze.weight.abs().sum((0, 2, 3))
    assert (score.diff() <= 1e-6).all()


def test_stages_cover_the_space():
    space = Net()
    stages = progressive(space)
    sizes = [count(restrict(space, st.to)) for st in stages]
    assert sizes[0] == 1 and sizes[-1] == count(space) and sizes == sorted(sizes)
    assert [st.sort for st in stages] == [st.name.startswith('width') for st in stages]


def test_a_step_adds_the_gradients_of_its_networks():
    space, task = Net().double(), task_for(dtype=torch.float64)
    x, y = task.train.tensors
    sn, archs = Supernet(sandwich(1)), [largest(space), smallest(space), sample(space)]
    sn.step(space.train(), task.loss, archs, x, y)
    got = {n: None if p.grad is None else p.grad.clone() for n, p in space.named_parameters()}
    space.zero_grad(set_to_none=True)
    soft = space(x, archs[0])
    total = task.loss(soft, y)
    for a in archs[1:]:
        total = total - (soft.detach().softmax(1) * space(x, a).log_softmax(1)).sum(1).mean()
    total.backward()
    for n, p in space.named_parameters():
        assert (p.grad is None) == (got[n] is None)
        if p.grad is not None:
            torch.testing.assert_close(got[n], p.grad, rtol=1e-9, atol=1e-9)


def test_networks_of_a_step_follow_from_seed_and_step():
    space, st = Net(), Stage('all', {}, 1, subnets=3)
    sn = Supernet([st])
    assert sn.archs(space, st, 0, 5) == sn.archs(space, st, 0, 5) != sn.archs(space, st, 0, 6)
    assert sn.archs(space, st, 0, 5)[:2] == [largest(space), smallest(space)]


class Dropping(nn.Module):
    "Drops in ways that a list of torch's dropout layers would not show."

    def forward(self, x):
        x = nn.functional.dropout(x, 0.5, self.training)
        return x * 0 if self.training else x


def test_the_teacher_drops_nothing_and_normalises_by_the_batch():
    torch.manual_seed(0)
    space = nn.Sequential(nn.Conv2d(2, 4, 1), nn.BatchNorm2d(4), nn.Dropout(0.5), Dropping(), nn.Dropout2d(0.5)).train()
    how, x = Supernet([Stage('all', {}, 1)], rule='uniform', distill='teacher'), torch.randn(6, 2, 5, 5)
    teacher = how.teacher(space, space.state_dict())
    with torch.no_grad():
        wanted = nn.functional.batch_norm(space[0](x), None, None, space[1].weight, space[1].bias, training=True)
    assert torch.equal(teacher(x, {}), teacher(x, {}))
    torch.testing.assert_close(teacher(x, {}), wanted)
    assert all(m.training for m in space.modules())  # the space itself is trained as before
    net = Net().train()
    wise = how.teacher(net, net.state_dict())
    torch.testing.assert_close(wise(torch.ones(4, 2, 8, 8), smallest(net)), wise(torch.ones(4, 2, 8, 8), largest(net)))


@pytest.mark.parametrize('name', ['sgd', 'adam'])
def test_optimizers_by_name_go_on_where_they_were_cut_off(tmp_path, name):
    torch.manual_seed(0)
    start = Net().state_dict()

    def run(path, cut=None):
        space, how = Net(), Supernet(sandwich(2, lr=1e-3), batch_size=12, optimizer=name)
        space.load_state_dict(start)
        loop = Loop(3, checkpoint=path, progress=False, save_s=0, on_step=lambda step: 1 / (step != cut))
        how.train(space, task_for(), loop)
        return space

    whole = run(tmp_path / 'whole.pt')
    with pytest.raises(ZeroDivisionError):
        run(tmp_path / 'cut.pt', 3)
    again = run(tmp_path / 'cut.pt')
    assert all(torch.equal(a, b) for a, b in zip(whole.state_dict().values(), again.state_dict().values()))
    assert Supernet(optimizer=name).config()['optimizer'] == name
    with pytest.raises(ValueError, match='the optimizers are sgd, adam'):
        Supernet(optimizer='lion')


def test_progressive_shrinking_with_a_teacher_goes_on_where_it_was_cut_off(tmp_path):
    class Cut(Exception):
        pass

    torch.manual_seed(0)
    start = Net().state_dict()

    def run(path, cut=None):
        space = Net()
        space.load_state_dict(start)

        def on_step(step):
            if step == cut:
                raise Cut

        sn = Supernet(progressive(space, epochs=2, full=2), rule='uniform', distill='teacher', batch_size=12)
        return sn.train(
            space, task_for(), Loop(3, checkpoint=path, progress=False, save_s=0, on_step=on_step)
        ).history, space.state_dict()

    whole, weights = run(tmp_path / 'a.pt')
    assert [r['stage'] for r in whole if 'probes' in r] == [st.name for st in progressive(Net())] and all(
        0 <= v <= 1 for r in whole if 'probes' in r for v in r['probes'].values()
    )
    for cut in (3, 4, 9, 13):  # in the first stage, at its end, and beyond channel sorting
        with pytest.raises(Cut):
            run(tmp_path / f'{cut}.pt', cut)
        rest, again = run(tmp_path / f'{cut}.pt')
        assert rest == whole and all(torch.equal(v, again[k]) for k, v in weights.items())


def losses_with_batch_norm():
    "Of a small supernet."
    torch.manual_seed(0)
    supernet = Supernet(sandwich(2, lr=0.02), batch_size=8)
    history = supernet.train(Net().double(), task_for(dtype=torch.float64), Loop(progress=False)).history
    return [row['losses'] for row in history if 'losses' in row]


# ---------------------------------------------------------------- evolution

space = Net()
own = [torch.randn(len(c), generator=torch.Generator().manual_seed(d)) for d, c in enumerate(structure(space).choices)]


def landscape(rows):
    return (sum(v[rows[:, d]] * a for d, (v, a) in enumerate(zip(own, active(space, rows).T)))).double()


cost = macs(space, space.input_shape)


def every():
    return torch.cartesian_prod(*(torch.arange(len(c)) for c in structure(space).choices))


def test_evolution_finds_the_best():
    rows = canonical(space, every()).unique(dim=0)
    c, v = cost.batch(rows), landscape(rows)
    budgets = [float(c.quantile(q)) for q in (0.1, 0.5, 0.9)]
    found, value, best = evolve(space, landscape, [cost], budgets, population=60, parents=20, generations=40)
    for g, b in enumerate(budgets):
        real = found[g][value[g] > -torch.inf]
        assert (
            (cost.batch(real) <= b).all()
            and len(real.unique(dim=0)) == len(real)
            and torch.equal(landscape(real), value[g][value[g] > -torch.inf])
        )
        assert value[g, 0] >= v[c <= b].topk(3).values[-1]  # among the three best of all
    assert all(b[g] <= n[g] for b, n in zip(best, best[1:]) for g in range(3))
    again = evolve(space, landscape, [cost], budgets, population=60, parents=20, generations=40)
    assert torch.equal(again[0], found)


def test_evolution_beats_random_search():
    budget, wins = [float(cost.batch(every()).quantile(0.3))], 0
    for seed in range(5):
        _, v, _ = evolve(space, landscape, [cost], budget, population=40, parents=10, generations=15, seed=seed)
        _, r = random_search(space, landscape, [cost], budget, n=40 + 15 * 30, seed=seed)
        wins += int(v[0, 0] >= r[0])
    assert wins >= 4


def test_infeasible_budgets_end_soon(monkeypatch):
    "After a number of evaluations that the population and the generations bound."
    scored, priced, plain = [], [], cost.batch

    def score(rows):
        scored.append(len(rows))
        return landscape(rows)

    monkeypatch.setattr(cost, 'batch', lambda rows: priced.append(len(rows)) or plain(rows))
    for f in (evolve, random_search):
        with pytest.raises(ValueError, match='smallest reaches'):
            f(space, score, [cost], [10.0])
    assert scored == [] and len(priced) <= 2  # it is known beforehand: a price, to name the cheapest
    low = cost(smallest(space))
    priced.clear()
    found, value, _ = evolve(space, score, [cost], [low], population=20, parents=5, generations=5)
    assert (value[0] > -torch.inf).sum() == 1 and cost.batch(found[0, :1])[0] == low  # one network fits, and is found
    assert (
        sum(scored) <= 20 + 5 * 15 and sum(n > 1 for n in priced) <= 1 + 5 * 2
    )  # a beginning, and two draws of children a generation


def test_predictor():
    rows = canonical(space, every()).unique(dim=0)
    some = rows[torch.randperm(len(rows), generator=torch.Generator().manual_seed(0))[:150]]
    p = AccuracyPredictor(space)
    report = p.fit(some, landscape(some))
    assert report['kendall'] > 0.8 and report['n'] == 150 and report['held_out'] == 30
    assert torch.corrcoef(torch.stack([p(rows), landscape(rows)]))[0, 1] > 0.95
    assert p.fit(decode(space, some), landscape(some))['kendall'] == report['kendall']
    for bad, what in (
        ((some[:10], landscape(some[:10])), 'at least 20'),
        ((some, landscape(some)[:-1]), 'one score'),
        ((some, landscape(some) * torch.nan), 'finite'),
    ):
        with pytest.raises(ValueError, match=what):
            p.fit(*bad)


def test_successive_halving():
    seen = []

    def score(rows, effort):
        seen.append((len(rows), effort))
        return landscape(rows)

    rows = sample(space, 27, torch.Generator().manual_seed(0))
    row, v, rounds = successive_halving(rows, score)
    assert (
        v == landscape(rows).max()
        and seen == [(27, 1), (9, 3), (3, 9), (1, 27)]
        and rounds == [(e, n) for n, e in seen]
    )
    with pytest.raises(ValueError, match='keep'):
        successive_halving(rows, score, keep=1)


def test_accuracy_is_that_of_the_calibrated_network_and_is_computed_once(monkeypatch):
    task, net = task_for(), Net()
    score, calls = Accuracy(net, task, calibrate=2, batch_size=8), []
    rows = sample(net, 3, torch.Generator().manual_seed(0))
    plain = score.network
    monkeypatch.setattr(score, 'network', lambda arch: calls.append(arch) or plain(arch))
    a = score(rows.repeat(2, 1))
    assert len(calls) == len(rows.unique(dim=0)) and torch.equal(a[:3], a[3:])
    with torch.no_grad():
        guess = plain(decode(net, rows[0])[0])(task.valid.tensors[0]).argmax(1)
    assert a[0] == pytest.approx(float((guess == task.valid.tensors[1]).float().mean()))
    task.valid = TensorDataset(torch.zeros(0, 2, 8, 8), torch.zeros(0, dtype=torch.long))
    with pytest.raises(ValueError, match='validation data is empty'):
        Accuracy(net, task)


@pytest.mark.parametrize(
    'make,what',
    [
        (lambda: Supernet(stages=[]), 'at least one stage'),
        (lambda: Supernet(distill='soft'), 'distillation'),
        (lambda: Supernet(loss='x'), 'soft targets'),
        (lambda: Evolution(samples=5), 'samples'),
        (lambda: Evolution(score='x'), 'predictor, accuracy'),
        (lambda: Evolution(parents=100), 'parents'),
    ],
)
def test_bad_settings(make, what):
    with pytest.raises(ValueError, match=what):
        make()


# ---------------------------------------------------------------- scores that are no number


@pytest.mark.parametrize('value', [torch.nan, torch.inf])
def test_what_is_no_score_never_wins(value):
    space = Net()
    cost = macs(space, space.input_shape)
    rows = sample(space, 60, torch.Generator().manual_seed(0))
    first = int(rows[:, 0].max())
    score = lambda rows: torch.where(rows[:, 0] == first, value, rows.double().sum(1))
    most = cost(largest(space))
    found = evolve(space, score, [cost], [most], population=20, generations=5, parents=5)
    best, top = random_search(space, score, [cost], [most], n=100)
    halved = successive_halving(rows, lambda rows, effort: score(rows))
    front = pareto(space, score, [cost], population=12, generations=3)
    last = finalists(space, rows, torch.zeros(60), score, n=60)
    for row in (found.rows[0, 0], best[0], halved.row, *front.rows):
        assert int(row[0]) != first
    assert encode(space, last.arch)[0, 0] != first and last.score == float(score(rows)[score(rows).isfinite()].max())
    assert all(torch.as_tensor(v).isfinite().all() for v in (found.scores[0, 0], top, halved.score, front.scores))


def test_no_score_at_all_is_an_error():
    space = Net()
    cost = macs(space, space.input_shape)
    rows, none = sample(space, 9, torch.Generator().manual_seed(0)), lambda rows, *_: torch.full((len(rows),), torch.nan)
    most = [cost(largest(space))]
    for fails in (
        lambda: evolve(space, none, [cost], most, population=10, generations=2, parents=4),
        lambda: random_search(space, none, [cost], most, n=20),
        lambda: successive_halving(rows, none),
        lambda: pareto(space, none, [cost], population=8, generations=2),
        lambda: finalists(space, rows, torch.zeros(9), none),
    ):
        with pytest.raises(ValueError, match='networks that were judged has a score'):
            fails()


@pytest.mark.parametrize('larger', [True, False])
def test_a_diverged_network_is_the_worst_whatever_the_metric(larger, monkeypatch):
    task, space = task_for(), Net()
    monkeypatch.setattr(type(task), 'metric', Metric('m', larger))
    accuracy = Accuracy(space, task, uncalibrated=True)
    monkeypatch.setattr(type(accuracy), 'network', lambda self, arch: NotANumber())
    assert accuracy(encode(space, largest(space))).tolist() == [-torch.inf]


class NotANumber(nn.Module):
    def forward(self, x):
        return torch.full((len(x), 3), torch.nan)


def test_a_score_gives_a_number_a_network():
    space = Net()
    cost, most = macs(space, space.input_shape), largest(space)
    for wrong in lambda rows, *_: torch.zeros(1), lambda rows, *_: torch.zeros(len(rows), 1), lambda rows, *_: 0.0:
        for found in (
            lambda: pareto(space, wrong, [cost], population=4, generations=1),
            lambda: evolve(space, wrong, [cost], [cost(most)], population=4, parents=2, generations=1),
            lambda: random_search(space, wrong, [cost], [cost(most)], n=4),
            lambda: successive_halving(sample(space, 4), wrong),
        ):
            with pytest.raises(ValueError, match='one number a network, of shape'):
                found()
