"One network for several tasks: batches, losses, heads that leave each other alone, networks for one task, and runs."

import copy, sys
from pathlib import Path

import pytest, torch
from torch import nn
from torch.utils.data import Dataset, TensorDataset

from nas_suite import report, search
from nas_suite.choices import choices, decode, largest, sample, smallest
from nas_suite.costs import count_macs, count_params, macs, params
from nas_suite.extraction import check, extract
from nas_suite.spaces.heads import PixelHead, SharedBackbone, features_only, mobile_heads
from nas_suite.spaces.mobile import ofa_mobilenet_v3, ofa_proxyless, proxyless
from nas_suite.strategies.evolution import Evolution
from nas_suite.strategies.for_tasks import TaskScores, for_each_task, task_front
from nas_suite.strategies.fronts import dominated, pareto
from nas_suite.strategies.strata import stratified
from nas_suite.strategies.supernet import Supernet
from nas_suite.tasks.several import GradientNorms, Several, Uncertainty, Weighed, last_shared, rightness, several
from nas_suite.tasks.several import each_task as each_task_table
from nas_suite.tasks.imitation import FeatureHead, Imitation, Teacher, feature_distance, largest_channel
from nas_suite.tasks.base import Metric, first_of, part_of
from nas_suite.training import Loop, Recipe, Stream, batches, fit
from nas_suite.training.turns import Joint, Turns, rows_of

sys.path.insert(0, str(Path(__file__).parent))
from side_tasks import backbone, heads, pair, shared_space, what, where


# ---------------------------------------------------------------- batches


class Items(Dataset):
    "A data set that is not held in tensors."

    def __init__(self, data):
        self.data = data

    def __len__(self):
        return len(self.data)

    def __getitem__(self, i):
        return self.data[i]


def numbers(n, start):
    return TensorDataset(start + torch.arange(float(n))[:, None], torch.arange(n))


@pytest.mark.parametrize('way', Turns.ways)
@pytest.mark.parametrize('sizes', [(12, 5), (3, 40), (7, 7, 7)])
def test_each_batch_has_its_part_of_each_data_set(way, sizes):
    "Mixed: as many of each, to one; in turn: of one alone, of each as often, to one. None twice before all were once."
    data = Turns({f'd{i}': numbers(n, 100 * i) for i, n in enumerate(sizes)}, way)
    steps, size = len(data) // 5, 5
    order = data.order(torch.Generator().manual_seed(0), size).view(steps, size)
    counts = torch.tensor([[len(data.by_part(batch).get(name, ())) for name in data.parts] for batch in order.tolist()])
    spread = counts if way == 'mixed' else (counts > 0).sum(0)[None]
    assert (spread.amax(1) - spread.amin(1)).max() <= 1
    assert way == 'mixed' or set(counts.flatten().tolist()) <= {0, size}
    for name, n in zip(data.parts, sizes):
        taken = [at for batch in order.tolist() for at in data.by_part(batch).get(name, ())]
        assert len(set(taken[:n])) == len(taken[:n])


@pytest.mark.parametrize('way', (*Turns.ways, 'joint'))
def test_batches_begin_anywhere_and_are_the_same_from_tensors_and_items(way):
    parts = dict(a=numbers(9, 0), b=numbers(9, 0) if way == 'joint' else numbers(4, 100))
    make = Joint if way == 'joint' else lambda parts: Turns(parts, way)
    held, read = make(parts), make({name: Items(part) for name, part in parts.items()})
    whole = batches(held, 4, seed=3)
    seen = [next(whole) for _ in range(9)]
    for found in batches(held, 4, seed=3, start=5), batches(read, 4, seed=3, start=5):
        for x, y in seen[5:]:
            again, target = next(found)
            assert torch.equal(again, x) and list(target) == list(y)
            assert all(torch.equal(target[name], y[name]) for name in y)
    assert any(not torch.equal(x, next(batches(held, 4, seed=4, start=i))[0]) for i, (x, _) in enumerate(seen))


@pytest.mark.parametrize('way', (*Turns.ways, 'joint'))
def test_processes_share_a_batch(way):
    "Two processes see the items of one, each of them with the targets that are its own."
    parts = dict(a=numbers(8, 0), b=numbers(8, 0) if way == 'joint' else numbers(8, 100))
    data = Joint(parts) if way == 'joint' else Turns(parts, way)
    whole, shares = Stream(data, 4, seed=1), [Stream(data, 4, seed=1, part=(i, 2)) for i in range(2)]
    for _ in range(3):
        x, y = next(whole)
        found = [next(share) for share in shares]
        assert sorted(torch.cat([part for part, _ in found]).flatten().tolist()) == sorted(x.flatten().tolist())
        for part, target in found:
            for name, rows in rows_of(len(part), target).items():
                assert torch.equal(part[rows].flatten() % 100, target[name].float())
            assert list(target) == list(y)


def test_parts_of_data_sets_side_by_side():
    data = Turns(dict(a=numbers(6, 0), b=numbers(4, 100)))
    some, first = part_of(data, torch.tensor([1, 5, 7])), first_of(data, 4)
    assert some.way == 'mixed' and [len(part) for part in some.parts.values()] == [2, 1]
    assert some[2][0] == 101 and [len(part) for part in first.parts.values()] == [2, 2]
    joint = Joint(dict(a=numbers(6, 0), b=numbers(6, 0)))
    assert len(part_of(joint, torch.tensor([1, 5]))) == 2 and part_of(joint, torch.tensor([1, 5]))[1][1]['b'] == 5
    with pytest.raises(ValueError, match='the data set b is empty'):
        Turns(dict(a=numbers(2, 0), b=numbers(0, 0)))
    with pytest.raises(ValueError, match='one part after the other'):
        rows_of(3, dict(a=torch.zeros(2), b=torch.zeros(2)))


# ---------------------------------------------------------------- spaces


@pytest.fixture(scope='module')
def space():
    "A small backbone with both heads, norms at random values."
    from nas_suite.testing import shaken

    return shaken(shared_space())


def some(space, n=1):
    return [largest(space), smallest(space), *decode(space, sample(space, n, torch.Generator().manual_seed(0)))]


def test_heads_do_not_touch_each_other(space):
    "The loss of one task has no gradient for another's head: none at all, by any loss weighing, in mixed batches too."
    task = several(pair(), batches='mixed')
    x, y = next(batches(task.train, 8, augment=task.augment))
    for name, other in (('what', 'where'), ('where', 'what')):
        view = copy.deepcopy(space).train()
        loss = task.loss(view(x, largest(view)), y)
        alone = task.losses(view(x, largest(view)), y, {n: t.loss for n, t in task.tasks.items()})[name]
        theirs = [p for p in view.ends[other].parameters() if p.requires_grad]
        assert all(g is None or not g.any() for g in torch.autograd.grad(alone, theirs, allow_unused=True))
        both = torch.autograd.grad(loss, list(view.ends[name].parameters()), allow_unused=True)
        mine = torch.autograd.grad(alone, list(view.ends[name].parameters()), allow_unused=True)
        assert any(g is not None and g.any() for g in mine)
        for a, b in zip(both, mine):
            assert (a is None and b is None) or torch.allclose(a, b, atol=1e-6)


def test_a_batch_of_one_task_leaves_other_heads_alone(space):
    task, view = several(pair(), batches='alternate'), copy.deepcopy(space).train()
    x, y = next(batches(task.train, 8, augment=task.augment))
    [name] = y
    task.loss(view(x, largest(view)), y).backward()
    [other] = set(task.tasks) - {name}
    assert all(p.grad is None or not p.grad.any() for p in view.ends[other].parameters())
    assert any(p.grad is not None and p.grad.any() for p in view.backbone.parameters())


def test_a_network_for_one_task_is_that_of_all_without_the_other_heads(space):
    x, shape = torch.randn(2, *space.input_shape), space.input_shape
    cost, weighs = macs(space, shape), params(space, shape)
    for name in space.names:
        view = space.for_task(name)
        less, lighter = macs(view, shape), params(view, shape)
        for arch in some(space):
            whole, mine = extract(space, arch).eval(), view.arch_for(arch)
            assert check(space, arch, whole, x) == 0
            alone = extract(view, mine).eval()
            assert torch.equal(alone(x), whole(x)[name]) and torch.equal(alone(x), space(x, arch)[name])
            assert less(mine) == count_macs(alone, shape) < cost(arch)
            assert lighter(mine) == count_params(alone) < weighs(arch)
            assert not any(other in module for module, _ in alone.named_modules() for other in set(space.names) - {name})


def test_a_view_shares_weights_and_is_made_again_from_its_settings(space):
    view = space.for_task('where')
    assert set(choices(view)) < set(choices(space)) and view.backbone is space.backbone
    again = mobile_heads(**{key: value for key, value in view.config.items() if key != 'family'})
    assert list(choices(again)) == list(choices(view)) and again.only
    again.load_state_dict(view.state_dict())
    x = torch.randn(2, *space.input_shape)
    assert torch.equal(again.eval()(x, largest(again)), view.eval()(x, largest(view)))
    with pytest.raises(ValueError, match='the heads are what, where'):
        space.for_task('who')


@pytest.mark.parametrize('make, more', [(ofa_mobilenet_v3, {}), (ofa_proxyless, {}), (proxyless, dict(depths=(1, 2)))])
def test_features_of_a_space_are_its_own(make, more):
    "The last map is what reaches the classifier, names and weights are those of the space."
    sizes = backbone | dict(depths=((1, 2), (1, 2))) | more
    whole = make(classes=3, image_size=16, last=(16, 16) if make is ofa_mobilenet_v3 else (16,), **sizes) if make is not proxyless else make(
        classes=3, image_size=16, last=16, **{k: v for k, v in sizes.items() if k != 'first'}, first=8)
    maps, seen = features_only(whole.eval()), []
    row = whole.units if make is not proxyless else whole.blocks
    row.register_forward_hook(lambda module, args, output: seen.append(output))
    x, arch = torch.randn(1, 3, 16, 16), smallest(whole)
    whole(x, arch)
    found = maps.eval()(x, arch)
    assert torch.equal(found[-1], seen[0]) and torch.equal(found[0], x)
    assert [m.shape[1] for m in found] == maps.channels and [16 // m.shape[2] for m in found] == maps.strides
    assert set(maps.state_dict()) <= set(whole.state_dict()) and list(choices(maps)) == list(choices(whole))


def test_features_have_one_size():
    with pytest.raises(ValueError, match='one size'):
        features_only(proxyless(classes=3, image_size=32, widths=(8,), depths=(1,), resolutions=(24, 32)))
    with pytest.raises(ValueError, match='no outline'):
        features_only(SharedBackbone(nn.Identity(), dict(a=nn.Identity()), (3, 8, 8)))


@pytest.mark.parametrize(
    'settings, says',
    [
        (dict(heads={}), 'one or more'),
        (dict(heads=dict(keys=heads['what'])), "found 'keys'"),
        (dict(heads=dict(what=1)), 'the head what is a dict'),
        (dict(heads=dict(what=dict(kind='classes', classes=2, colour=1))), 'the head what cannot be made'),
        (dict(heads=heads, backbone=dict(family='resnet')), 'the backbones are'),
        (dict(heads=heads, backbone=dict(depth=3)), 'the backbone cannot be made'),
        (dict(heads=heads, image_size=(8, 8, 8)), 'a height and a width'),
    ],
)
def test_settings_of_heads_are_refused_by_name(settings, says):
    with pytest.raises(ValueError, match=says):
        mobile_heads(**settings)


# ---------------------------------------------------------------- losses and scores


def test_losses_are_those_of_the_tasks():
    "Of a mixed batch each loss is what the task says of its own rows; of a joint batch of all."
    x, mine, theirs = torch.randn(4, 3, 16, 16), torch.tensor([0, 1]), torch.randint(0, 2, (2, 16, 16))
    outputs = dict(what=torch.randn(4, 2), where=torch.randn(4, 2, 16, 16))
    task = several(pair(), weights=dict(what=2.0, where=0.5))
    expected = 2 * task.tasks['what'].loss(outputs['what'][:2], mine) + 0.5 * task.tasks['where'].loss(outputs['where'][2:], theirs)
    assert torch.allclose(task.loss(outputs, dict(what=mine, where=theirs)), expected)
    joint = several(pair(), batches='joint', lead='where')
    targets = dict(what=mine.repeat(2), where=theirs.repeat(2, 1, 1))
    expected = joint.tasks['what'].loss(outputs['what'], targets['what']) + joint.tasks['where'].loss(outputs['where'], targets['where'])
    assert torch.allclose(joint.loss(outputs, targets), expected)


def test_gradient_norms_are_made_equal():
    shared = torch.randn(4, 5, requires_grad=True).tanh()
    outputs = dict(a=nn.Linear(5, 2)(shared), b=nn.Linear(5, 3)(shared), c=nn.Linear(5, 1)(shared))
    losses = {name: factor * output.square().mean() for (name, output), factor in zip(outputs.items(), (1, 1e3, 1e-3))}
    weighting = GradientNorms(outputs)
    total = weighting(losses, outputs)
    assert last_shared(outputs).node is shared.grad_fn
    weights = weighting.norms.mean() / weighting.norms
    pulls = [torch.autograd.grad(w * loss, shared, retain_graph=True)[0].norm() for w, loss in zip(weights, losses.values())]
    assert torch.allclose(torch.stack(pulls), pulls[0].expand(3), rtol=1e-4)
    assert torch.allclose(total, sum(w * loss for w, loss in zip(weights, losses.values())))
    with torch.no_grad():
        weighting({name: loss.detach() for name, loss in losses.items()}, outputs)  # nothing to follow: as it was


def test_learned_variances_have_their_optimum_at_half_the_inverse_loss():
    weighting, losses = Uncertainty(['a', 'b']), dict(a=torch.tensor(0.5), b=torch.tensor(4.0))
    with torch.no_grad():
        weighting.log_variance.copy_((2 * torch.tensor([0.5, 4.0])).log())
    weighting(losses, {}).backward()
    assert weighting.log_variance.grad.abs().max() < 1e-6


def test_scores():
    share, error, distance = Metric(), Metric('error', larger_is_better=False), Metric('px', False, 'px')
    assert rightness(share, 0.8) == 0.8 and rightness(error, 0.2) == 0.8
    assert rightness(share, 0.4, 0.5) == 0.8 and abs(rightness(error, 0.2, 0.0) - 0.8) < 1e-9
    assert rightness(distance, 2.0, 2.0) == 1 and rightness(distance, 1.0, 2.0) == 1.5
    with pytest.raises(ValueError, match='relative_to'):
        rightness(distance, 1.0)


# ---------------------------------------------------------------- the task


@pytest.mark.parametrize(
    'tasks, settings, says',
    [
        ([what()], {}, 'are a dict'),
        ({}, {}, 'one or more'),
        (dict(what=1), {}, 'what is to be a task'),
        ({'a b': what()}, {}, 'a name is a word'),
        (dict(loss=what()), {}, 'give this one another name'),
        (pair(), dict(weights='best'), "uncertainty or gradient norm; found 'best'"),
        (pair(), dict(weights=dict(what=-1)), 'the weight of what'),
        (pair(), dict(weights=dict(who=1.0)), "weights has 'who'"),
        (pair(), dict(batches='twice'), 'the ways are mixed, alternate, joint'),
        (pair(), dict(lead='what'), "say batches='joint'"),
        (pair(), dict(batches='joint', lead='who'), 'the tasks are what, where'),
        (pair(), dict(relative_to=dict(what=0)), 'other than 0'),
        (pair(), dict(weight=1), "no setting 'weight' of Several"),
        (dict(what=what(8), where=where(16)), dict(batches='mixed'), 'let batches alternate'),
        (dict(what=what(16), where=where(16, few=6)), dict(batches='joint'), 'the same items'),
    ],
)
def test_what_cannot_be_is_refused_by_name(tasks, settings, says):
    with pytest.raises(ValueError, match=says):
        several(tasks, **settings)


def test_joint_tasks_have_the_same_inputs():
    other = what()
    other.train = TensorDataset(other.train.tensors[0].flip(0), other.train.tensors[1])
    with pytest.raises(ValueError, match='item 0 of their training data differs'):
        several(dict(what=other, where=where()), batches='joint')


def test_inputs_of_two_sizes_alternate():
    task = several(dict(what=what(8), where=where(16)))
    assert task.batches == 'alternate' and task.input_shape == (3, 16, 16)
    found = [tuple(x.shape[2:]) for x, _ in (b for b, _ in zip(batches(task.train, 8, augment=task.augment), range(4)))]
    assert sorted(found) == [(8, 8), (8, 8), (16, 16), (16, 16)]


def test_a_recipe_is_of_each_task():
    task = several(pair())
    view = task.under(Recipe(flip=True))
    x, y = next(batches(view.data(task.train), 8, augment=view.augment))
    outputs = dict(what=torch.zeros(8, 2), where=torch.zeros(8, 2, 16, 16))
    assert torch.allclose(view.loss_at(0.5)(outputs, y), 2 * torch.tensor(2.0).log())
    assert task.knows == ('crop', 'flip')
    with pytest.raises(ValueError, match='means nothing to the task bright'):
        task.under(Recipe(mixup=0.2))


@pytest.mark.parametrize('weights, ways', [('uncertainty', 'mixed'), ('gradient norm', 'alternate'), (None, 'joint')])
def test_training_goes_on_bit_for_bit(weights, ways, tmp_path):
    "Cut off after each of some steps; what weighs the losses goes on too. Another seed is another training."
    task = several(pair(), weights=weights, batches=ways)
    network = extract(shared_space(), smallest(shared_space()))

    def trained(name, until=None, seed=1):
        net = copy.deepcopy(network)

        def stop(n):
            if n == until:
                raise KeyboardInterrupt

        args = dict(epochs=2, batch_size=16, seed=seed, progress=False, save_s=0, checkpoint=tmp_path / name)
        if until:
            with pytest.raises(KeyboardInterrupt):
                fit(copy.deepcopy(network), task, on_step=stop, **args)
        fit(net, task, **args)
        return net, torch.load(tmp_path / name, weights_only=True)['head']

    whole, head = trained('whole')
    cut, again = trained('cut', until=2)
    for a, b in ((whole.state_dict(), cut.state_dict()), (head, again)):
        assert all(torch.equal(t, b[name]) for name, t in a.items())
    other, _ = trained('other', seed=2)
    assert any(not torch.equal(t, other.state_dict()[name]) for name, t in whole.state_dict().items())
    if weights:
        learned = [t for name, t in head.items() if 'weighting' in name]
        assert learned and all(t.any() for t in learned)


def test_weighed_outputs_are_distilled_as_plain_ones():
    "In-place distillation sees outputs, and nothing of what weighs the losses."
    task, space = several(pair(), weights='uncertainty'), shared_space()
    trained = Supernet(epochs=1, batch_size=8).train(space, task, Loop(seed=1, progress=False))
    assert trained.history and trained.head['weighting.log_variance'].any()
    probes = [row for row in trained.history if 'probes' in row][-1]['probes']
    assert all(0 <= score <= 1 for score in probes.values())
    assert isinstance(task.head(0)(dict(what=torch.zeros(1, 2), where=torch.zeros(1, 2, 4, 4))), Weighed)


# ---------------------------------------------------------------- three stages


def test_an_ensemble_of_paths_takes_the_mean_of_their_gradients():
    task, space = what(), shared_space().for_task('what')
    x, y = next(batches(task.train, 8, augment=task.augment))
    archs, trained = some(space), [p for p in space.parameters() if p.requires_grad]

    def grads(rule, archs):
        space.zero_grad(set_to_none=True)
        how = Supernet(epochs=1, rule=rule, distill='none')
        how.step(space, task.loss, archs, x, y, loop=Loop(progress=False))
        return [torch.zeros_like(p) if p.grad is None else p.grad.clone() for p in trained]

    alone = [grads('uniform', [arch]) for arch in archs]
    for mean, *each in zip(grads('ensemble', archs), *alone):
        assert torch.allclose(mean, sum(each) / len(archs), atol=1e-6)


def test_a_front_of_several_scores():
    "Whatever is best at one score is on it, and nothing that another beats; scores of another number are refused."
    view = shared_space().for_task('what')
    cost = macs(view, view.input_shape)
    seen = {}

    def both(rows):
        scores = torch.stack([(rows * (1 + i + torch.arange(rows.shape[1]) % 2)).sum(1) * (1 - 2 * i) for i in range(2)], 1)
        seen.update(zip(map(tuple, rows.tolist()), scores.tolist()))
        return scores

    front = pareto(view, both, [cost], population=12, generations=3, scores=2)
    assert front.scores.shape == (len(front.rows), 2) and front.costs[:, 0].diff().min() >= 0
    assert not dominated(torch.cat([-front.scores, front.costs], 1)).any()
    assert all(front.scores[:, i].max() == max(scores[i] for scores in seen.values()) for i in range(2))
    with pytest.raises(ValueError, match='3 scores here'):
        pareto(view, both, [cost], population=4, generations=1, scores=3)
    with pytest.raises(ValueError, match='one number a network'):
        pareto(view, both, [cost], population=4, generations=1)


def test_the_third_stage_changes_no_weight(tmp_path):
    task, space = several(pair()), shared_space()
    before = {name: tensor.clone() for name, tensor in space.state_dict().items()}
    scores = TaskScores(space, task)
    rows = sample(space, 3, torch.Generator().manual_seed(0))
    known = scores(rows)
    for row, arch in zip(known.tolist(), decode(space, rows)):
        found = task.evaluate(scores.network(arch), task.valid)
        assert row == [found['what']['accuracy'], found['where']['miou']]
    scores.save(tmp_path / 'scores.json')
    again = TaskScores(space, task)
    again.load(tmp_path / 'scores.json')
    assert again.known == scores.known

    def limits(view):
        return [(cost := macs(view, view.input_shape), 1.2 * cost(smallest(view)))]

    each = for_each_task(space, task, limits, population=4, parents=2, generations=1, finalists=2)
    for name, one in each.items():
        [(cost, most)] = limits(one.space)
        assert cost(one.arch) <= most and one.space.names == [name]
    front = task_front(space, task, [macs(space, space.input_shape)], again, population=4, generations=1)
    assert front and set(front[0].metrics) == set(task.tasks)
    assert all(torch.equal(tensor, before[name]) for name, tensor in space.state_dict().items())


# ---------------------------------------------------------------- from the front door

quick = dict(score='accuracy', population=4, generations=1, parents=2, finalists=2)


@pytest.fixture(scope='module')
def both(tmp_path_factory):
    "A search for both tasks, whose backbone was trained on one first; and the same call again."
    folder = tmp_path_factory.mktemp('both') / 'run'
    with pytest.MonkeyPatch.context() as patch:
        from nas_suite.front import export, page
        from nas_suite.tasks.segmentation import end

        patch.setattr(export, '_attempt', lambda *_: None)
        patch.setattr(page, 'svg', lambda name, fig, title: '')
        patch.setattr(end, 'fps', lambda *_, **more: dict(fps=1.0))

        def call(**more):
            strategy = Evolution(Supernet(epochs=1, batch_size=16), **quick)
            how = dict(macs='250k', pretrain='what', space=shared_space(), finalists=0, device='cpu', progress=False)
            return search.several(pair(), strategy=strategy, run_dir=folder, **how | more)

        yield call(), call, folder


def test_a_search_for_several_tasks(both):
    found, call, folder = both
    again = call()
    assert again.arch == found.arch and found.costs['macs'] <= 250e3
    assert all(torch.equal(t, again.model.state_dict()[name]) for name, t in found.model.state_dict().items())
    assert (folder.parent / 'run-backbone' / 'history.json').is_file() and (folder / 'where' / 'examples.npz').is_file()
    assert found.metrics['extracted']['score'] == pytest.approx(
        (found.metrics['extracted']['what']['accuracy'] + found.metrics['extracted']['where']['miou']) / 2
    )
    answer = found.predict(torch.rand(3, 16, 16))
    assert set(answer) == {'what', 'where'} and answer['where']['mask'].shape == (16, 16)
    with pytest.raises(ValueError, match='another run'):
        call(macs='240k')


def test_the_report_shows_each_task(both):
    found, _, folder = both
    titles = [title for title, _ in Several.sections(report.read(folder))]
    assert titles[0] == 'Task by task' and 'where: Class by class' in titles
    rows = each_task_table(report.read(folder)).rows
    assert [row[0] for row in rows] == ['what', 'where', 'all']
    assert 'Task by task' in (folder / 'report.html').read_text()


@pytest.mark.parametrize('name', ['what', 'where'])
def test_a_network_found_for_all_is_one_for_each(both, name):
    found, _, folder = both
    x = torch.randn(2, 3, 16, 16)
    for whole in found, search.load(folder):
        alone = search.for_task(whole, name)
        with torch.no_grad():
            assert torch.equal(alone.model(x), whole.model(x)[name])
        assert all(alone.costs[cost] < found.costs[cost] for cost in alone.costs)
        assert alone.metrics['extracted'] == found.metrics['extracted'][name]
        assert set(alone.predict(torch.rand(3, 16, 16))) == set(found.predict(torch.rand(3, 16, 16))[name])
        assert alone.space.names == [name] and count_params(extract(alone.space, alone.arch)) == alone.costs['params']
    with pytest.raises(ValueError, match='this is of one'):
        search.for_task(alone, name)
    with pytest.raises(ValueError, match='the tasks are what, where'):
        search.for_task(found, 'who')


def test_networks_for_each_task_of_a_run(both):
    found, _, folder = both
    each = search.each_task(folder, macs='240k', space=shared_space(), task=found.task, device='cpu', **quick)
    assert all(one.costs['macs'] <= 240e3 and one.task is found.task.tasks[name] for name, one in each.items())
    front = search.tasks_front(folder, ['macs', 'params'], shared_space(), found.task, 'cpu', 4, 1)
    assert all(set(one.costs) == {'macs', 'params'} for one in front)
    with pytest.raises(ValueError, match='the smallest'):
        search.each_task(folder, macs=10, space=shared_space(), task=found.task, device='cpu', **quick)


@pytest.mark.parametrize(
    'tasks, more, says',
    [
        (1, {}, 'are a dict'),
        (dict(what=1), {}, 'what is to be a task, or a pair'),
        (dict(what=('speech', 'digits')), {}, 'the kinds are classification, keywords, segmentation'),
        (pair(), dict(pretrain='who'), 'the tasks are what, where'),
        (pair(), dict(pretrain='what', start='.'), 'start'),
        (pair(), dict(weights='best'), 'gradient norm'),
        (several(pair()), dict(weights='uncertainty'), 'weights'),
        (pair(), dict(epochs=-1), 'epochs'),
    ],
)
def test_what_the_door_refuses(tasks, more, says):
    with pytest.raises(ValueError, match=says):
        search.several(tasks, macs='1M', device='cpu', progress=False, **more)


# ---------------------------------------------------------------- a teacher's features, and networks of all sizes


def test_the_distance_of_features_sees_the_largest_channel_alone():
    maps = torch.randn(2, 6, 5, 7)
    below = maps.amin(1, keepdim=True) - torch.rand(2, 3, 5, 7)
    for other in maps, maps[:, torch.randperm(6)], torch.cat([below, maps], 1):
        assert feature_distance(largest_channel(maps), largest_channel(other)) == 0
    assert torch.isclose(feature_distance(largest_channel(maps + 2), largest_channel(maps)), torch.tensor(2.0))
    assert feature_distance(torch.zeros(1, 2, 2), torch.ones(1, 4, 4)) == 1


def test_a_teacher_is_imitated_on_what_the_network_sees():
    "In joint batches the teacher sees the changed inputs, in others the same; it is not changed, and has no gradient."
    network = nn.Sequential(nn.Conv2d(3, 4, 3, 2, 1), nn.BatchNorm2d(4), nn.ReLU())
    teacher, before = Teacher(network, '0'), {n: t.clone() for n, t in network.state_dict().items()}
    maps = features_only(ofa_mobilenet_v3(image_size=16, last=(8, 8), **backbone))
    space = SharedBackbone(maps, dict(where=PixelHead(maps.channels, maps.strides, 2, [4], finest=2), features=FeatureHead()))
    for way in 'joint', 'mixed', 'alternate':
        one = where(shift=2)
        task = several(dict(where=one, features=Imitation(one, teacher)), batches=way, relative_to=dict(features=1.0))
        for (x, y), _ in zip(batches(task.train, 8, augment=task.augment), range(2)):
            rows = rows_of(len(x), y)
            if 'features' in y:
                assert torch.equal(teacher(x[rows['features']]), y['features']) and not y['features'].requires_grad
        net = extract(space, smallest(space))
        fit(net, task, epochs=1, progress=False)
        found = task.evaluate(net, task.test)
        assert found['score'] == pytest.approx((found['where']['miou'] + 2 - found['features']['distance']) / 2)
    assert network.training and all(torch.equal(t, before[n]) for n, t in network.state_dict().items())
    with pytest.raises(ValueError, match="no layer 'layer4'"):
        Teacher(network, 'layer4')
    with pytest.raises(ValueError, match='no maps'):
        Teacher(nn.Flatten())(torch.zeros(1, 3, 8, 8))


def test_strata_are_drawn_alike():
    "The ends of what networks cost are drawn as often as the middle; the same seed draws the same."
    view = shared_space().for_task('where')
    cost = macs(view, view.input_shape)
    drawn = [stratified(view, cost, 300, torch.Generator().manual_seed(seed), strata=5) for seed in (0, 0, 1)]
    assert torch.equal(drawn[0], drawn[1]) and not torch.equal(drawn[0], drawn[2])
    low, high = (cost(pick(view)) for pick in (smallest, largest))
    plain = cost.batch(sample(view, 300, torch.Generator().manual_seed(0)))
    share = lambda spent: float(((spent < low + (high - low) / 5) | (spent > high - (high - low) / 5)).float().mean())
    assert share(cost.batch(drawn[0])) > 1.3 * share(plain)
    Supernet(epochs=1, rule='strata', distill='none', batch_size=8).train(view, where(), Loop(progress=False))


@pytest.mark.parametrize('weights, ways', [('uncertainty', 'alternate')])
def test_a_supernet_of_several_tasks_goes_on_bit_for_bit(weights, ways, tmp_path):
    task = several(pair(), weights=weights, batches=ways)

    def trained(name, until=None):
        def stop(n):
            if n == until:
                raise KeyboardInterrupt

        def train(space, on_step=None):
            loop = Loop(1, checkpoint=tmp_path / name, save_s=0, progress=False, on_step=on_step)
            return Supernet(epochs=2, batch_size=16).train(space, task, loop)

        if until:
            with pytest.raises(KeyboardInterrupt):
                train(shared_space(), stop)
        found = train(space := shared_space())
        return space.state_dict() | found.head, found.history

    (whole, told), (cut, again) = trained('whole'), trained('cut', until=3)
    assert told == again and all(torch.equal(tensor, cut[name]) for name, tensor in whole.items())


def test_the_supernet_of_several_tasks_is_specialized(both):
    found, _, folder = both
    limits = [240e3, 260e3]
    each = search.specialize(folder, macs=limits, space=shared_space(), task=found.task, device='cpu', finalists=0)
    assert all(one.costs['macs'] <= most for one, most in zip(each, limits))
    assert set(each[0].predict(torch.rand(3, 16, 16))) == {'what', 'where'}
