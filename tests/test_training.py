"Batches that begin anywhere, training that is cut off anywhere, statistics put right, and evaluation of each item once."

import random
from copy import deepcopy
import numpy as np, pytest, torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import Dataset, Subset, TensorDataset
from nas_suite.choices import largest, one_of, selected
from nas_suite.front.export import export
from nas_suite.layers import ElasticConv2d
from nas_suite.tasks.base import Task
from nas_suite.tasks.classification import Classification
from nas_suite.tasks.segmentation import Segmentation
from nas_suite.tasks.speaker import Speaker
from nas_suite.training import (
    Calibration,
    Loop,
    NotFinite,
    batches,
    cosine,
    evaluate,
    fit,
    load_checkpoint,
    optimizers,
    recalibrate,
    save_checkpoint,
    seed_of,
    seeded,
)


class Noisy(Dataset):
    "Items that draw from every global generator there is."

    def __len__(self):
        return 10

    def __getitem__(self, i):
        return torch.tensor([float(i), random.random(), np.random.rand(), torch.rand(()).item()]), i


def take(it, n):
    return [next(it) for _ in range(n)]


def same(a, b):
    return all(torch.equal(x, u) and torch.equal(y, v) for (x, y), (u, v) in zip(a, b, strict=True))


data = TensorDataset(torch.arange(22.0).view(11, 2), torch.arange(11))


@pytest.mark.parametrize('dataset', [data, Noisy()])
@pytest.mark.parametrize('start', [1, 3, 7])
def test_batches_begin_anywhere(dataset, start):
    augment = lambda x, y, g: (x + torch.rand((), generator=g), y)
    whole = take(batches(dataset, 3, seed=5, augment=augment), 12)
    assert same(whole[start:], take(batches(dataset, 3, seed=5, start=start, augment=augment), 12 - start))
    assert not same(whole, take(batches(dataset, 3, seed=6, augment=augment), 12))


def test_an_epoch_has_each_item_once():
    found = take(batches(data, 4, seed=1), 4)
    for epoch in (found[:2], found[2:]):
        assert len(torch.cat([y for _, y in epoch]).unique()) == 8
    assert len(next(batches(data, 100))[0]) == 11
    with pytest.raises(ValueError, match='empty'):
        next(batches(TensorDataset(torch.zeros(0, 1)), 2))


def test_items_do_not_disturb_the_global_generators():
    torch.manual_seed(0)
    random.seed(0)
    np.random.seed(0)
    want = torch.rand(()).item(), random.random(), np.random.rand()
    torch.manual_seed(0)
    random.seed(0)
    np.random.seed(0)
    take(batches(Noisy(), 2), 5)
    assert (torch.rand(()).item(), random.random(), np.random.rand()) == want


def test_seeds():
    assert seed_of(0, 'a') == seed_of(0, 'a') != seed_of(0, 'b') != seed_of(1, 'b')
    assert torch.equal(torch.rand(3, generator=seeded('x', 1)), torch.rand(3, generator=seeded('x', 1)))


def test_cosine():
    lrs = [cosine(s, 100, 0.4, 10) for s in range(101)]
    assert (
        lrs[:11] == sorted(lrs[:11])
        and max(lrs) == lrs[10] == 0.4
        and lrs[10:] == sorted(lrs[10:], reverse=True)
        and lrs[-1] == pytest.approx(0, abs=1e-12)
        and lrs[55] == pytest.approx(0.2)
    )


@pytest.mark.parametrize('make', optimizers.values())
def test_no_decay_on_biases_norms_and_alphas(make):
    c = one_of(1, 3)
    net = nn.Sequential(ElasticConv2d(2, 4, c, padding='same'), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 2))
    groups = {id(p): g['weight_decay'] for g in make(net, 0.1, weight_decay=0.5).param_groups for p in g['params']}
    assert id(c.alpha) not in groups and len(groups) == 6
    assert {n: groups[id(p)] for n, p in net.named_parameters() if id(p) in groups} == {
        '0.weight': 0.5,
        '0.bias': 0,
        '1.weight': 0,
        '1.bias': 0,
        '3.weight': 0.5,
        '3.bias': 0,
    }


# ---------------------------------------------------------------- fit


def problem(n=40):
    g = torch.Generator().manual_seed(0)
    y = torch.arange(n) % 3
    d = TensorDataset(torch.randn(n, 1, 6, 6, generator=g) + (y - 1).view(-1, 1, 1, 1), y)
    return Classification('signs', d, d, d, 3, (1, 6, 6), shift=1)


def net(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Dropout(0.3),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(4, 3),
    )


class Cut(Exception):
    pass


@pytest.mark.parametrize(
    'cut, how', [(cut, {}) for cut in (1, 2, 10, 29, 30)] + [(10, dict(optimizer='adam', lr=0.01))]
)
def test_fit_goes_on_where_it_was_cut_off(cut, how, tmp_path):
    whole, task, how = net(), problem(), dict(epochs=6, batch_size=8, seed=3, progress=False) | how
    history = fit(whole, task, **how)

    def stop(step):
        if step == cut:
            raise Cut

    with pytest.raises(Cut):
        fit(net(), task, **how, checkpoint=tmp_path / 'fit.pt', save_s=0, on_step=stop)
    again = net(1)  # what it begins with does not matter any more
    rest = fit(again, task, **how, checkpoint=tmp_path / 'fit.pt')
    assert rest == history and all(torch.equal(v, again.state_dict()[k]) for k, v in whole.state_dict().items())
    assert list(tmp_path.iterdir()) == [tmp_path / 'fit.pt']


def test_recipes_of_tasks_are_settings_of_fit():
    assert Task.recipe == dict(lr=0.1, optimizer='sgd') and Segmentation.recipe == dict(lr=0.01, optimizer='adam')
    for kind in (Task, Segmentation, Classification, Speaker):
        assert set(kind.recipe) == {'lr', 'optimizer'} and kind.recipe['optimizer'] in optimizers
    with pytest.raises(ValueError, match='the optimizers are sgd, adam'):
        fit(net(), problem(), optimizer='lion', progress=False)


def test_fit_learns_and_leaves_global_randomness():
    task, model = problem(), net()
    torch.manual_seed(9)
    want = torch.rand(2)
    torch.manual_seed(9)
    history = fit(model, task, epochs=20, batch_size=8, progress=False)
    assert (
        torch.equal(torch.rand(2), want)
        and history[-1]['loss'] < history[0]['loss']
        and evaluate(model, task.test, task)['accuracy'] > 0.8
    )


# ---------------------------------------------------------------- statistics


def test_recalibration_is_the_mean_and_variance_of_all_items():
    torch.manual_seed(0)
    model = nn.Sequential(nn.BatchNorm2d(3), nn.Dropout(0.5)).train()
    model[0].running_mean.fill_(9)
    model[0].weight.data.normal_()
    xs = [torch.randn(n, 3, 4, 4) * (i + 1) + i for i, n in enumerate((2, 5, 1))]  # of different sizes and places
    state = {k: v.clone() for k, v in model.state_dict().items() if 'running' not in k}
    model[1].eval()
    recalibrate(model, [(x, None) for x in xs], 3)
    x = torch.cat(xs).transpose(0, 1).flatten(1)
    torch.testing.assert_close(model[0].running_mean, x.mean(1), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(model[0].running_var, x.var(1), rtol=1e-5, atol=1e-5)
    assert (
        model.training
        and model[0].training
        and not model[1].training
        and model[0].track_running_stats
        and model[0].momentum == 0.1
    )
    assert all(torch.equal(v, model.state_dict()[k]) for k, v in state.items())
    with pytest.raises(ValueError, match='at least one batch'):
        recalibrate(model, [], 3)


def test_later_layers_are_calibrated_on_what_they_will_see():
    torch.manual_seed(0)
    model, x = (
        nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)).eval(),
        torch.randn(64, 2, 6, 6) * 3 + 1,
    )
    recalibrate(model, [(x, None)], 1)
    with torch.no_grad():
        y = model(x)
    assert y.mean((0, 2, 3)).abs().max() < 1e-3 and (y.var((0, 2, 3)) - 1).abs().max() < 1e-2


def test_batches_for_calibration_are_the_same_each_time_and_kept_where_small():
    task = Classification('x', TensorDataset(torch.randn(20, 3), torch.arange(20) % 3), None, None, 3, (3,))
    small, large = Calibration(task, batch_size=8, n=5), Calibration(task, batch_size=8, n=5, keep=100)
    assert len(small) == len(large) == 3
    first = [x for x, _ in small]
    assert small.kept and [id(x) for x, _ in small] == [id(x) for x in first]
    assert (
        all(torch.equal(a, b) for data in (large, large) for a, (b, _) in zip(first, data, strict=True))
        and large.kept is None
    )
    torch.manual_seed(0)
    one = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    nets = [one, deepcopy(one)]
    for n, data in zip(nets, (small, large)):
        recalibrate(n, data, len(data))
    assert torch.equal(nets[0][1].running_mean, nets[1][1].running_mean)


# ---------------------------------------------------------------- evaluation, checkpoints


def test_evaluation_counts_each_item_once_and_restores_modes():
    x, y = torch.eye(3).repeat(4, 1)[:10], torch.tensor([0, 1, 2, 0, 1, 2, 0, 0, 0, 1])
    task = Classification('eye', None, None, None, 3, (3,))
    model = nn.Sequential(nn.Identity(), nn.Dropout(0.9)).train()
    model[0].eval()
    out = evaluate(model, TensorDataset(x, y), task, batch_size=4)
    want = float((x.argmax(1) == y).float().mean())
    assert (
        out['accuracy'] == pytest.approx(want)
        and out['n'] == 10
        and out['loss'] == pytest.approx(float(F.cross_entropy(x, y)))
    )
    assert model.training and not model[0].training and model[1].training


def test_checkpoints_are_whole_or_not_there(tmp_path, monkeypatch):
    path = tmp_path / 'c.pt'
    save_checkpoint(path, dict(a=torch.ones(2), step=3))
    assert torch.equal(load_checkpoint(path)['a'], torch.ones(2))

    def broken(state, f):
        f.write(b'half')
        raise OSError('disk full')

    monkeypatch.setattr(torch, 'save', broken)
    with pytest.raises(OSError):
        save_checkpoint(path, dict(a=torch.zeros(2)))
    assert load_checkpoint(path)['step'] == 3
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(ValueError, match='c.pt'):
        load_checkpoint(path)
    with pytest.raises(ValueError, match='no checkpoint'):
        load_checkpoint(tmp_path / 'none.pt')


def test_a_checkpoint_is_never_unpickled(tmp_path):
    class Evil:
        def __reduce__(self):
            return (open, (str(tmp_path / 'evil'), 'w'))

    torch.save(Evil(), tmp_path / 'c.pt')
    with pytest.raises(ValueError, match='c.pt'):
        load_checkpoint(tmp_path / 'c.pt')
    assert not (tmp_path / 'evil').exists()


# ---------------------------------------------------------------- numbers that are none


class Indexed(Dataset):
    "Items that are made one by one."

    def __init__(self, *tensors):
        self.data, self.labels = TensorDataset(*tensors), tensors[1]

    def __len__(self):
        return len(self.data)

    def __getitem__(self, i):
        return self.data[i]


@pytest.mark.parametrize('kind', [TensorDataset, Indexed])
@pytest.mark.parametrize('value', [np.nan, np.inf, -np.inf])
def test_one_number_in_the_data_stops_training_and_evaluation(kind, value):
    x, y = torch.randn(40, 1, 6, 6), torch.arange(40) % 3
    x[17, 0, 2, 3] = value
    task, data = problem(), kind(x, y)
    half = Subset(data, range(10, 40))
    model = net()
    with pytest.raises(NotFinite, match=r'in step [0-4]: item 17 of the data') as error:
        fit(model, task, 2, batch_size=8, data=half, progress=False)
    assert error.value.of_data and all(p.isfinite().all() for p in model.parameters())  # it stops in time
    with pytest.raises(NotFinite, match='item 17 of the data') as error:
        evaluate(net().eval(), half, task, batch_size=4)
    assert error.value.of_data


def test_a_network_that_diverges_is_named_and_nothing_is_saved(tmp_path):
    model, path = net(), tmp_path / 'fit.pt'
    with pytest.raises(NotFinite, match=r'in step \d+: the first layer whose output is not is \d') as error:
        fit(model, problem(), 4, lr=1e30, batch_size=8, progress=False, checkpoint=path, save_s=0)
    assert not error.value.of_data and all(
        v.isfinite().all() for v in load_checkpoint(path)['opt']['state'][0].values()
    )
    model = net()
    model[6].weight.data[0] = np.nan
    with pytest.raises(NotFinite, match=r'is 6 \(Linear\), whose weights are not finite'):
        evaluate(model, problem().test, problem())
    with pytest.raises(NotFinite, match=r'NaN or infinite: the first layer .* 6 \(Linear\)'):
        export(model, (1, 6, 6), tmp_path / 'out')


def test_a_loss_that_is_looked_at_later_stops_before_it_is_saved(tmp_path):
    "As on a GPU, where no step waits for its loss."
    loop, data = Loop(checkpoint=tmp_path / 'x.pt', progress=False, save_s=1e9), problem().train
    model = loop.place(net())
    train = loop.stream(data, 8)
    loop.resume(dict(net=model))
    loop.watch = lambda loss: loop.unread.append((loop.step, loss.detach()))
    with pytest.raises(NotFinite, match='the loss is nan in step 3: outputs are finite, what is made of them is not'):
        for step in loop.steps(6):
            x, _ = next(train)
            loop.backward(loop.run(x, model).mean() * (np.nan if step == 3 else 1))
    assert not (tmp_path / 'x.pt').exists()


def test_layers_are_named_also_in_a_space():
    space = nn.Sequential(ElasticConv2d(1, one_of(2, 4), 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    loop = Loop(progress=False)
    loop.place(space)
    nn.init.constant_(space[0].weight, np.inf)
    with pytest.raises(NotFinite, match=r'is 0 \(ElasticConv2d\), whose weights are not finite'):
        with selected(space, largest(space)):
            loss = loop.run(torch.ones(2, 1, 6, 6), space).mean()
        loop.backward(loss)  # where nothing is selected any more


# ---------------------------------------------------------------- checkpoints that are sound


def test_a_sound_checkpoint_is_never_called_damaged(tmp_path, monkeypatch):
    path = tmp_path / 'c.pt'
    torch.save(dict(kind=F.relu), path)  # whole, but not to be read as numbers and names
    with pytest.raises(ValueError, match='c.pt is no checkpoint of this program: it is whole') as error:
        load_checkpoint(path)
    assert 'delete' not in str(error.value)

    def no_memory(*args, **more):
        raise MemoryError

    monkeypatch.setattr(torch, 'load', no_memory)
    with pytest.raises(ValueError, match='c.pt cannot be read now .MemoryError'):
        load_checkpoint(path)


def test_a_checkpoint_of_another_device_goes_on_here(tmp_path, monkeypatch):
    "Weights and the state of optimizers, written where a GPU is."
    task, path = problem(), tmp_path / 'fit.pt'
    whole, model = net(), net()
    history = fit(whole, task, 4, batch_size=8, progress=False)

    def stop(step):
        if step == 7:
            raise Cut

    with pytest.raises(Cut):
        fit(model, task, 4, batch_size=8, progress=False, checkpoint=path, save_s=0, on_step=stop)
    state = load_checkpoint(path)
    with monkeypatch.context() as there:
        there.setattr(torch.serialization, 'location_tag', lambda storage: 'cuda:1')
        torch.save(state, path)
    model = net(1)
    assert fit(model, task, 4, batch_size=8, progress=False, checkpoint=path) == history
    assert all(torch.equal(v, model.state_dict()[k]) for k, v in whole.state_dict().items())
