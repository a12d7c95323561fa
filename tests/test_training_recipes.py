"Recipes of training: what each field does, that a training goes on bit for bit with all of them on, and bad ones."

import os
import signal
from functools import partial

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import TensorDataset

from nas_suite import search
from nas_suite.spaces.mobile import proxyless
from nas_suite.strategies.gated import Gated
from nas_suite.tasks.base import Task
from nas_suite.tasks.changes import Changed, ChangedPairs, change_of
from nas_suite.tasks.classification import Classification, Preparation, classification
from nas_suite.tasks.segmentation import Segmentation
from nas_suite.training import Averages, Loop, Recipe, batches, fit, load_checkpoint, presets, recipe_given, settled
from nas_suite.training import passes as passes_of
from nas_suite.training import trained_weights
from test_search import mobile, pair

EVERYTHING = dict(
    optimizer='adamw', lr=0.01, ema=0.9, patience=2, clip=1.0, warmup=0.2, smoothing=0.2, class_weights=True,
    crop=(0.5, 1), flip=True, policy='trivialaugment', mixup=0.2, cutmix=1.0, batch_size=8,
)  # fmt: skip


def problem(n=40, **more):
    g = torch.Generator().manual_seed(0)
    y = torch.arange(n) % 3
    x = (torch.randn(n, 1, 8, 8, generator=g) * 0.1 + y.view(-1, 1, 1, 1) / 3).clamp(0, 1)
    d = TensorDataset(x, y)
    prepared = Preparation((8, 8), 1, (0.0,), (1.0,))
    return Classification('signs', d, d, d, 3, (1, 8, 8), shift=1, preparation=prepared, **more)


def net(seed=0):
    torch.manual_seed(seed)
    layers = nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.3), nn.AdaptiveAvgPool2d(1)
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(4, 3))


def same(one, other):
    return all(torch.equal(tensor, other.state_dict()[name]) for name, tensor in one.state_dict().items())


class Cut(Exception):
    pass


# ---------------------------------------------------------------- goes on


@pytest.mark.parametrize('left_out', [(), ('patience',), ('ema', 'crop', 'policy')])
def test_a_training_goes_on_bit_for_bit_with_everything_on(left_out, tmp_path):
    recipe = Recipe(epochs=6, **{name: value for name, value in EVERYTHING.items() if name not in left_out})
    whole, how = net(), dict(recipe=recipe, seed=3, progress=False)
    history = fit(whole, problem(), **how)
    for cut in (5, 11):
        path = tmp_path / f'{cut}.pt'

        def stop(step):
            if step == cut:
                raise Cut

        with pytest.raises(Cut):
            fit(net(), problem(), **how, checkpoint=path, save_s=0, on_step=stop)
        again = net(1)
        assert fit(again, problem(), **how, checkpoint=path) == history and same(whole, again)
        assert same(whole, _loaded(net(2), trained_weights(path)))


def _loaded(network, weights):
    network.load_state_dict(weights)
    return network


def test_workers_change_nothing():
    found = []
    for workers in (0, 2):
        model = net()
        recipe = Recipe(epochs=2, batch_size=8, crop=(0.5, 1), policy='randaugment', workers=workers)
        found.append((fit(model, problem(), recipe=recipe, seed=1, progress=False), model))
    assert found[0][0] == found[1][0] and same(found[0][1], found[1][1])


def test_a_stopped_training_is_over(tmp_path):
    "Patience that came to its end stays there."
    recipe, task = Recipe(epochs=30, batch_size=8, patience=1, lr=1e-9, optimizer='sgd'), problem()
    history = fit(net(), task, recipe=recipe, progress=False, checkpoint=tmp_path / 'a.pt')
    assert history[-1]['step'] == 10 and load_checkpoint(tmp_path / 'a.pt')['ended']
    model = net(1)
    assert fit(model, task, recipe=recipe, progress=False, checkpoint=tmp_path / 'a.pt') == history


def test_ctrl_c_ends_the_step_and_says_how_to_go_on(tmp_path, capsys):
    whole, path = net(), tmp_path / 'fit.pt'
    how = dict(epochs=3, batch_size=8, progress=False, checkpoint=path)
    history = fit(whole, problem(), **how)
    path.unlink()
    signal.signal(signal.SIGINT, signal.default_int_handler)

    task = problem()
    plain = task.augment

    def augment(x, y, generator):
        if not path.exists() and len(seen) == 4:
            os.kill(os.getpid(), signal.SIGINT)
        seen.append(1)
        return plain(x, y, generator)

    seen, task.augment = [], augment
    with pytest.raises(KeyboardInterrupt, match=f'train stopped after step 5 of 30, which is kept in {path}: the same'):
        fit(net(), task, **how)
    assert 'stopping at the end of this step' in capsys.readouterr().err
    assert load_checkpoint(path)['step'] == 5 and signal.getsignal(signal.SIGINT) is signal.default_int_handler
    again = net(1)
    assert fit(again, problem(), **how) == history and same(whole, again)


# ---------------------------------------------------------------- what fields do


def test_without_a_recipe_nothing_is_changed():
    models = [net(), net(), net()]
    fit(models[0], problem(), 2, batch_size=8, progress=False)
    fit(models[1], problem(), recipe=Recipe(epochs=2, batch_size=8), progress=False)
    fit(models[2], problem(), 2, recipe=Recipe(epochs=9), batch_size=8, progress=False)
    assert same(models[0], models[1]) and same(models[0], models[2])


def test_mean_weights_are_the_mean():
    line, values = nn.Linear(1, 1, bias=False), []
    averages, mean = Averages(line, 0.7), line.weight.item()
    for step in range(40):
        nn.init.constant_(line.weight, value := float(step % 5))
        averages.note(step)
        decay = min(0.7, (1 + step) / (10 + step))
        mean = decay * mean + (1 - decay) * value
        values.append(value)
    assert averages.mean['weight'].item() == pytest.approx(mean, rel=1e-5)
    with averages.shown():
        assert line.weight.item() == averages.mean['weight'].item()
    assert line.weight.item() == values[-1]


def test_a_gradient_is_no_longer_than_it_may_be():
    loop = Loop(progress=False, clip=0.5)
    model = loop.place(nn.Linear(3, 1))
    optimizer = torch.optim.SGD(model.parameters(), 1.0)
    before = [p.detach().clone() for p in model.parameters()]
    loop.descend(1000 * model(torch.ones(2, 3)).mean(), optimizer)
    moved = torch.cat([(p.detach() - q).flatten() for p, q in zip(model.parameters(), before)])
    assert moved.norm().item() == pytest.approx(0.5, rel=1e-4)


def test_patience_hands_out_the_best_and_learns_from_what_chooses_none():
    task, seen = problem(), []
    task.valid = TensorDataset(*(tensor[:9] for tensor in task.train.tensors))
    task.evaluate = lambda model, dataset, device: seen.append(len(dataset)) or dict(accuracy=[0.2, 0.9, 0.3, 0.1][len(seen) - 1])
    kept, model = [], net()
    recipe = Recipe(epochs=10, batch_size=8, patience=2)
    history = fit(model, task, recipe=recipe, progress=False, on_step=lambda n: kept.append(_copy(model)))
    assert seen == [9] * 4 and history[-1]['step'] == 20 and history[-1]['accuracy'] == 0.1
    assert all(torch.equal(tensor, kept[9][name]) for name, tensor in model.state_dict().items())


def _copy(model):
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def test_losses_under_a_recipe_are_those_of_pytorch():
    task = problem()
    task.train = TensorDataset(torch.zeros(6, 1, 8, 8), torch.tensor([0, 0, 0, 1, 1, 2]))
    x, y = torch.randn(5, 3), torch.tensor([0, 1, 2, 2, 1])
    loss = task.under(Recipe(smoothing=0.3)).loss_at(0.0)
    assert torch.equal(loss(x, y), F.cross_entropy(x, y, label_smoothing=0.3))
    weights = torch.tensor([6 / 9, 1.0, 2.0])
    loss = task.under(Recipe(class_weights=True)).loss_at(0.0)
    torch.testing.assert_close(loss(x, y), F.cross_entropy(x, y, weights, label_smoothing=0.1))
    shares = F.one_hot(y, 3).float()
    torch.testing.assert_close(loss(x, shares), F.cross_entropy(x, shares, weights, label_smoothing=0.1))


@pytest.mark.parametrize('how', [dict(mixup=0.5), dict(cutmix=1.0), dict(mixup=0.5, cutmix=1.0)])
def test_mixed_labels_are_shares_of_what_the_pictures_are_made_of(how):
    x = torch.arange(1.0, 5).view(-1, 1, 1, 1).expand(4, 1, 8, 8)  # each picture has a value of its own
    task = problem(smoothing=0.0)
    task.shift = 0
    augment = task.under(Recipe(**how)).augment
    mixed, shares = augment(x, torch.tensor([0, 1, 2, 0]), torch.Generator().manual_seed(4))
    again, _ = augment(x, torch.tensor([0, 1, 2, 0]), torch.Generator().manual_seed(4))
    assert torch.equal(mixed, again) and shares.shape == (4, 3)
    torch.testing.assert_close(shares.sum(1), torch.ones(4))
    other = x.roll(1, 0)
    own = ((mixed - other) / (x - other)).mean((1, 2, 3))
    labels = torch.tensor([0, 1, 2, 0])
    wanted = own.view(-1, 1) * F.one_hot(labels, 3) + (1 - own).view(-1, 1) * F.one_hot(labels.roll(1), 3)
    torch.testing.assert_close(shares, wanted, atol=1e-4, rtol=0)


def test_items_are_changed_by_their_number_and_epoch_alone():
    task = problem()
    data = Changed(task.train, change_of(Recipe(crop=(0.3, 0.6)), (8, 8), True), (8, 8), (0.0,), (1.0,))
    at = [next(batches(data, 8, 5, start))[0] for start in (0, 1, 5, 5)]
    stream = batches(data, 8, 5)
    found = [next(stream)[0] for _ in range(6)]
    assert torch.equal(at[0], found[0]) and torch.equal(at[1], found[1]) and torch.equal(at[2], found[5])
    assert not torch.equal(found[0], found[5]) and data[0][0].shape == (1, 8, 8)


def test_a_picture_without_changes_is_the_same_picture():
    task = problem()
    plain = Changed(task.train, change_of(Recipe(), (8, 8), False), (8, 8), (0.0,), (1.0,))
    x, y = plain[3]
    torch.testing.assert_close(x, task.train[3][0], atol=1 / 510 + 1e-6, rtol=0)
    assert int(y) == 0


def test_photos_are_cut_from_their_files(tmp_path):
    from PIL import Image

    for label, name in enumerate('ab'):
        for i in range(6):
            (tmp_path / name).mkdir(exist_ok=True)
            Image.new('RGB', (300, 200), (50 * label + 10, 100, i)).save(tmp_path / name / f'{i}.png')
    (tmp_path / 'a' / '0.png').write_bytes(b'no picture')
    with pytest.warns(UserWarning, match='1 left out'):
        task = classification(tmp_path, image_size=40)
    seen = []
    view = task.under(Recipe(crop=(0.2, 0.5), policy='trivialaugment'))
    data = view.data(task.full)
    data.of_file = lambda picture: seen.append(picture.size) or torch.zeros(3, 40, 40)
    assert len(data) == len(task.full) and data[0][0].shape == (3, 40, 40) and seen == [(300, 200)]
    x, y = view.data(task.train)[0]
    assert x.shape == (3, 40, 40) and x.dtype == torch.float32


def test_images_and_labels_move_together():
    x = torch.arange(64.0).view(1, 8, 8).expand(3, 8, 8)
    data = TensorDataset(x[None], x[None, 0].long() // 32)
    names = ['top', 'bottom']
    task = Segmentation('halves', data, data, data, names, (3, 8, 8))
    view = task.under(Recipe(crop=(0.3, 0.5), flip=True))
    torch.manual_seed(0)
    for _ in range(5):
        image, labels = view.data(task.train)[0]
        assert image.shape == (3, 8, 8) and labels.dtype == torch.long and type(image) is torch.Tensor
        assert ((image[0] > 36).long() <= labels).all() and ((image[0] < 27).long() <= 1 - labels).all()
    assert isinstance(view.data(task.train), ChangedPairs)


# ---------------------------------------------------------------- words


BAD = {
    'name': ('best', "there is no recipe 'best'; the recipes are small, standard, long"),
    'kind': (3, 'a recipe is small, standard, long, a Recipe, or a dict of its fields; found 3'),
    'field': (dict(rate=1), "there is no field of a recipe 'rate'"),
    'optimizer': (dict(optimizer='lion'), 'the optimizers are sgd, adam, adamw'),
    'policy': (dict(policy='cutout'), 'the policies are randaugment, trivialaugment'),
    'precision': (dict(precision='8'), 'the precisions are 32-true'),
    'ema': (dict(ema=1.0), 'ema is out of range: 1'),
    'crop': (dict(crop=0.5), 'crop is the least and the largest share'),
    'crop range': (dict(crop=(0.5, 2)), 'crop is out of range: 2'),
    'crop order': (dict(crop=(0.5, 0.2)), 'crop is the least and the largest share of a picture; found'),
    'workers': (dict(workers=-1), 'workers is out of range: -1'),
    'patience': (dict(patience=0), 'patience is out of range: 0'),
    'clip': (dict(clip=0), 'clip is out of range: 0'),
    'smoothing': (dict(smoothing=1), 'smoothing is out of range: 1'),
    'mixup': (dict(mixup=-1), 'mixup is out of range: -1'),
    'epochs': (dict(epochs=0.5), 'epochs is out of range: 0.5'),
    'preset': (dict(preset='best'), "there is no recipe 'best'"),
}


@pytest.mark.parametrize('recipe, said', BAD.values(), ids=BAD)
def test_bad_recipes_are_said_at_the_front_door(recipe, said, tmp_path):
    with pytest.raises(ValueError, match=said):
        search.classification('digits', macs='1M', recipe=recipe, run_dir=tmp_path / 'run')
    assert not (tmp_path / 'run').exists()


def test_what_a_task_cannot_do_is_said_before_anything_is_done(tmp_path):
    class Plain(Task):
        name = 'plain'

    with pytest.raises(ValueError, match='the recipe has mixup, which means nothing to the task plain; it knows none'):
        Plain().under(Recipe(mixup=0.2))
    task = problem()
    task.preparation = None
    with pytest.raises(ValueError, match='a policy needs to know what the images were normalised by'):
        search.classification(task, macs='1M', recipe=dict(policy='randaugment'), run_dir=tmp_path / 'run')
    assert not (tmp_path / 'run').exists()
    assert all(recipe.policy is None for recipe in task.recipes.values())


def test_presets_suit_task_and_data():
    few, photos = problem(), problem()
    photos.input_shape = 1, 64, 64
    assert few.recipes is presets and photos.recipes['long'].cutmix and photos.recipes['small'].crop == (0.5, 1)
    assert set(few.recipes) == set(photos.recipes) == set(presets)
    assert passes_of(presets['small'], 5) == 200 and passes_of(presets['small'], 10_000) == 30
    assert recipe_given(dict(preset='standard', workers=2)) == Recipe(**presets['standard'].facts() | dict(workers=2))
    for recipe in (*few.recipes.values(), *photos.recipes.values()):
        assert Recipe(**recipe.facts()) == recipe


def test_a_rate_belongs_to_its_optimizer():
    rates = partial(settled, task=problem())
    assert rates(None).lr == 0.1 and rates(Recipe(optimizer='adamw')).lr == 0.001 and rates(Recipe(lr=3.0)).lr == 3


# ---------------------------------------------------------------- a search


def tiny():
    torch.manual_seed(0)
    return proxyless(classes=3, image_size=8, in_channels=1, stem=8, widths=(8,), depths=(2,), last=16, bn_eps=1e-5)


def test_a_search_trains_by_its_recipe_and_logs_all_of_it(tmp_path):
    rows = []
    task = classification(pair(), mean=(0.0,), std=(1.0,))
    how = dict(budget=dict(macs=14000), progress=False, run_dir=tmp_path / 'run', recipe=dict(EVERYTHING, epochs=2))
    how |= dict(loggers=[lambda row, step: rows.extend(row)], finalists=2, device='cpu', seed=3)
    found = search.run(mobile(), task, Gated(epochs=2, batch_size=16), **how)
    names = {name.partition('/')[0] for name in rows if '/' in name}
    assert {'train', 'finalist 1 of 2', 'finalist 2 of 2'} <= names and 'train/accuracy' in rows
    assert (found.run_dir / 'kept.json').is_file() and not list(found.run_dir.glob('final-*.pt'))
    with pytest.raises(ValueError, match='it differs in .*recipe.epochs: 2 there, 30 here'):
        search.run(mobile(), task, Gated(epochs=2, batch_size=16), **dict(how, recipe='small'))


def test_a_network_that_training_spoils_is_handed_out_as_it_was(tmp_path):
    "At a learning rate that is far too large the training ends at chance; the search's weights are better."
    from nas_suite.front.search import KeptEarlier
    from nas_suite.report import read, stage_table, summary

    recipe = Recipe(epochs=1, batch_size=40, optimizer='sgd', lr=1e-8, warmup=0)  # it learns nothing
    how = dict(budget=dict(macs='1M'), progress=False, run_dir=tmp_path / 'run', recipe=recipe, finalists=0)
    with pytest.warns(KeptEarlier, match='these are handed out; a longer training'):
        found = search.run(tiny(), problem(), Gated(epochs=15, batch_size=8), **how)
    scores = {stage: metrics['accuracy'] for stage, metrics in found.metrics.items()}
    assert scores['extracted'] > scores['retrained']
    judged = problem().evaluate(found.model, problem().test)
    assert judged['accuracy'] == scores['extracted']
    record = read(found.run_dir)
    assert record['result']['kept'] == 'extracted' and f'{100 * scores["extracted"]:.1f} %' in summary(found.run_dir)
    assert stage_table(record) is not None


# ---------------------------------------------------------------- supernets


def test_a_supernet_is_trained_by_a_recipe_as_far_as_one_can_be():
    from nas_suite.strategies.supernet import LeftOfRecipe, Stage, Supernet, supernet_by

    recipe = Recipe(epochs=7, lr=0.02, batch_size=16, optimizer='adam', ema=0.9, patience=3, mixup=0.2, crop=(0.5, 1))
    with pytest.warns(LeftOfRecipe, match='leaves out of the recipe: ema, patience$'):
        found = supernet_by(recipe)
    assert [(stage.epochs, stage.lr) for stage in found.stages] == [(7, 0.02)] and found.optimizer == 'adam'
    assert found.batch_size == 16 and found.config()['recipe'] == dict(mixup=0.2, crop=[0.5, 1])
    assert Supernet(**found.config()).config() == found.config()  # as a folder gives it back
    stages = supernet_by(Recipe(lr=0.1), [Stage('a', {}, 1, 0.05), Stage('b', {}, 1, 0.01)]).stages
    assert [round(stage.lr, 6) for stage in stages] == [0.1, 0.02]  # the others in proportion
    assert 'recipe' not in supernet_by(Recipe()).config()
    with pytest.raises(ValueError, match='about its inputs and labels; found ema'):
        Supernet(recipe=dict(ema=0.9))


def test_a_supernet_sees_what_its_recipe_says(tmp_path):
    from nas_suite.spaces.mobile import ofa_mobilenet_v3
    from nas_suite.strategies.supernet import sandwich, supernet_by

    def losses(**fields):
        torch.manual_seed(0)
        tiny = dict(widths=(8,), depths=(1, 2), kernels=(3,), expands=(2, 3), stem=8, first=8, last=(16, 20), dropout=0.0)
        space = ofa_mobilenet_v3(classes=3, image_size=8, in_channels=1, **tiny)
        supernet = supernet_by(Recipe(batch_size=20, **fields), sandwich(1))
        supernet.report = lambda *_: {}
        return supernet.train(space, problem(), Loop(0, 'cpu', None, progress=False)).history[0]['losses']

    plain, mixed = losses(), losses(mixup=1.0, crop=(0.3, 1))
    assert plain != mixed and losses(mixup=1.0, crop=(0.3, 1)) == mixed
    with pytest.raises(ValueError, match='a recipe beside a strategy that has its own'):
        search.train_supernet(problem(), tmp_path / 'no', strategy='evolution', recipe='small')
