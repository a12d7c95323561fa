"What every task owes: metrics in any unit, outputs of any form, facts that make it again, and a network in use."

import inspect, json, math, numpy as np, pytest, torch
from PIL import Image
from torch import nn
from torch.nn import functional as F
from torch.utils.data import TensorDataset
from torchmetrics import MeanAbsoluteError
from data_recipes import image_folder, synthetic_voices
from nas_suite.front.export import export
from nas_suite.front.runs import Run
from nas_suite.tasks.base import Metric, Task, Use, joined, kind_of
from nas_suite.tasks.classification import Classification, classification
from nas_suite.tasks.segmentation import Segmentation, end, segmentation
from nas_suite.tasks.speaker import Speaker, speaker
from nas_suite.training import batches, fit


def as_json(data):
    return json.loads(json.dumps(data))


# ---------------------------------------------------------------- metrics


def test_a_metric_is_shown_in_its_unit():
    assert Metric('accuracy').show(0.971) == '97.1 %' and Metric('F', unit='').show(12.5) == '12.5'
    assert Metric('error', larger_is_better=False, unit='px').show(0.83) == '0.83 px'
    assert {Metric().show(value) for value in (None, math.nan, math.inf, 'x')} == {'–'}


@pytest.mark.parametrize('larger', [True, False])
def test_worth_is_to_be_large_and_its_own_inverse(larger):
    metric = Metric('m', larger, 'px')
    assert metric.worth(metric.worth(7.25)) == 7.25 and (metric.worth(2.0) > metric.worth(1.0)) is larger
    assert Metric(**as_json(metric.facts())) == metric


# ---------------------------------------------------------------- a task of one's own: no classes, two outputs, pixels


class Distance(MeanAbsoluteError):
    def update(self, output, target):
        super().update(output['place'], target[:, :2].contiguous())


class Where(Use):
    def predict(self, raw):
        found = super().predict(raw)['output']
        return dict(row=float(found['place'][0]), column=float(found['place'][1]), light=float(found['light'][0]))


class Dots(Task):
    "Where is the dot, and how bright is it? Two outputs in a dict, an error in pixels."

    name, input_shape, batch_size = 'dots', (1, 8, 8), 16
    metric = Metric('error', larger_is_better=False, unit='px')

    def __init__(self, n=48):
        self.train, self.valid, self.test = (self.pictures(n, seed) for seed in range(3))

    def pictures(self, n, seed):
        g = torch.Generator().manual_seed(seed)
        at, light = torch.randint(8, (n, 2), generator=g), 0.5 + torch.rand(n, generator=g)
        x = torch.zeros(n, 1, 8, 8)
        x[torch.arange(n), 0, at[:, 0], at[:, 1]] = light
        return TensorDataset(x, torch.cat([at.float(), light[:, None]], 1))

    def loss(self, output, target):
        return F.mse_loss(output['place'], target[:, :2]) + F.mse_loss(output['light'][:, 0], target[:, 2])

    def meter(self):
        return Distance()

    @classmethod
    def use(cls, model, facts):
        return Where(model, facts)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.ReLU())
        self.place, self.light = nn.Linear(16, 2), nn.Linear(16, 1)

    def forward(self, x):
        z = self.body(x)
        return dict(place=self.place(z), light=self.light(z))


def test_a_task_without_classes_is_trained_and_judged():
    torch.manual_seed(0)
    task, net = Dots(), Net()
    before = task.evaluate(net, task.test)
    history = fit(net, task, epochs=6, lr=0.05, progress=False)
    found = task.evaluate(net, task.test)
    assert set(found) == {'error', 'loss', 'n'} and found['n'] == 48
    assert found['error'] < before['error'] and history[-1]['loss'] < history[0]['loss']
    x, y = task.test.tensors
    with torch.no_grad():
        output = net(x)
    assert found['error'] == pytest.approx(float((output['place'] - y[:, :2]).abs().mean()), rel=1e-5)
    assert found['loss'] == pytest.approx(float(task.loss(output, y)), rel=1e-4)
    assert task.evaluate(net, task.test, batch_size=5)['loss'] == pytest.approx(found['loss'], rel=1e-4)
    assert task.metric.show(found['error']).endswith(' px') and task.metric.worth(found['error']) == -found['error']
    assert float(task.reward(output, y)) == -float(task.score(output, y)) == -float(task.loss_at(0.5)(output, y))


def test_a_task_without_classes_is_used():
    torch.manual_seed(0)
    task, net = Dots(), Net().train()
    where = kind_of(as_json(task.facts())).use(net, task.facts() | task.decision(net))
    answer = where.predict(task.test[0][0])
    with torch.no_grad():
        output = net(task.test[0][0][None])
    row, column = output['place'][0].tolist()
    wanted = dict(row=row, column=column, light=float(output['light']))
    assert answer == pytest.approx(wanted, rel=1e-4) and net.training
    assert 'row' in where.say(answer) and where.write(answer, 'x') == []


def test_what_a_task_need_not_say():
    task = Dots()
    assert task.held is task.valid and len(task.full) == 96
    assert task.sections({}) == [] and task.after(None, None) == {} == task.decision(None)
    assert list(task.head().parameters()) == []
    assert next(batches(task.train, 4, augment=task.augment))[0].shape == (4, 1, 8, 8)
    with pytest.raises(ValueError, match='give the space'):
        task.default_space({})
    with pytest.raises(ValueError, match='give the task'):
        Dots.from_facts(task.facts())

    class Bare(Task):
        pass

    with pytest.raises(TypeError, match='Bare has no loss'):
        Bare().loss(None, None)
    assert len(joined(task.train, [1, 2])) == 50  # not both in memory


@pytest.mark.parametrize(
    'kind',
    [
        'os.system',
        'nas_suite.tasks.base.Metric',
        'nas_suite.tasks.base.importlib',
        'nas_suite.tasks.none.Task',
        'test_tasks.Gone',
        'nas_suite.tasks',
        '',
        None,
        3,
    ],
)
def test_a_kind_that_is_none(kind):
    with pytest.raises(ValueError, match='give the task'):
        kind_of(dict(kind=kind))


def test_no_module_of_a_folder_is_imported(tmp_path, monkeypatch):
    (tmp_path / 'planted.py').write_text('raise SystemExit("it ran")')
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ValueError, match='give the task'):
        kind_of(dict(kind='planted.Task'))


# ---------------------------------------------------------------- classification: from a photo to a name


def pictures(root, n=5):
    for label, colour in (('blue', (0, 0, 255)), ('red', (255, 0, 0))):
        (root / label).mkdir(parents=True)
        for i in range(n):
            Image.new('RGB', (20 + i, 14), colour).save(root / label / f'{i}.png')
    return root


class Red(nn.Module):
    "Class 1 where it is redder than blue."

    def forward(self, x):
        means = x.mean((2, 3))
        return torch.stack([means[:, 2], means[:, 0]], 1)


@pytest.fixture
def photos(tmp_path):  # a folder, its task, and a network in use
    task = classification(pictures(tmp_path / 'a'), image_size=16)
    return tmp_path / 'a', task, task.use(Red(), as_json(task.facts()))


def test_a_photo_is_prepared_as_in_training(photos):
    root, task, use = photos
    assert task.names == ['blue', 'red']
    wanted = dict(size=[16, 16], channels=3, mean=list(image_folder.mean), std=list(image_folder.std))
    assert use.facts['preparation'] == wanted
    for name in task.names:
        path = root / name / '3.png'
        with Image.open(path) as image:
            image = image.convert('RGB')
        raw = torch.from_numpy(np.array(image)).permute(2, 0, 1)
        trained_on = image_folder.Images([path], [0], task.names, 16)[0][0]
        for source in (path, str(path), image, np.array(image), raw):
            assert torch.equal(use.prepared(source), trained_on)
        assert torch.allclose(use.prepared(raw / 255), trained_on, atol=1e-5)


def test_a_photo_is_named(photos):
    root, task, use = photos
    for name in task.names:
        answer = use.predict(root / name / '3.png')
        assert answer['class'] == name and answer['probability'] == answer['top'][0][1] > 0.5
        assert sum(p for _, p in answer['top']) == pytest.approx(1) and use.say(answer).startswith(f'{name} (')


@pytest.mark.parametrize(
    'source, what',
    [
        ('bad.png', 'bad.png cannot be read'),
        ('none.png', 'no file'),
        (torch.zeros(1, 4, 4), r'\(3, H, W\)'),
        (torch.full((3, 4, 4), 2.0), '0 to 1'),
    ],
)
def test_what_is_no_photo(photos, source, what):
    root, _, use = photos
    (root / 'bad.png').write_text('none')
    with pytest.raises(ValueError, match=what):
        use.predict(root / source if isinstance(source, str) else source)


@pytest.mark.parametrize('size', [(16, 16), (12, 20), (24, 9)])
def test_the_middle_of_a_picture_of_any_form(size):
    for h, w in ((30, 30), (17, 50), (61, 20)):
        x = image_folder.cut(torch.linspace(0, 1, w).expand(3, h, w), size)
        assert (
            x.shape == (3, *size) and float((x + x.flip(2) - 1).abs().max()) < 0.1
        )  # as much is cut off on both sides


def test_digits_are_grey_and_named():
    task = classification('digits')
    use = task.use(nn.Sequential(nn.Flatten(), nn.Linear(64, 10)), task.facts())
    x, blank = task.test[0][0], Image.fromarray(np.zeros((30, 20), np.uint8))
    assert torch.equal(use.prepared(x), x) and use.predict(blank)['class'] in set('0123456789')


def test_data_of_ones_own_may_say_what_they_went_through():
    x, y = torch.randn(8, 3, 6, 10), torch.arange(8) % 2
    pair = TensorDataset(x, y), TensorDataset(x, y)
    task = classification(pair)
    use = task.use(Red(), task.facts())
    assert task.facts()['data'] is None and torch.equal(use.prepared(x[0]), x[0])
    assert use.predict(x[0])['class'] in ('0', '1')
    with pytest.raises(ValueError, match='what photos of this task went through is not known'):
        use.predict(Image.new('RGB', (10, 6)))
    told = classification(pair, mean=(0.5,) * 3, std=(0.25,) * 3, names=['a', 'b'])
    seen = told.use(Red(), told.facts()).prepared(Image.new('RGB', (99, 77)))
    assert seen.unique().tolist() == [-2.0] and told.names == ['a', 'b']
    with pytest.raises(ValueError, match='each of the 2 classes has a name'):
        classification(pair, names=['a'])


def made_again(task, data=None):
    "The task that its facts describe, which has the same facts."
    facts = as_json(task.facts())
    again = kind_of(facts).from_facts(facts, data)
    assert type(again) is type(task) and as_json(again.facts()) == facts and len(json.dumps(facts)) < 2000
    assert all(isinstance(text, str) for text in kind_of(facts).metadata(facts).values())
    with pytest.raises(ValueError, match='give the task'):
        kind_of(facts).from_facts(facts | dict(data=None))
    return again


def test_a_classification_is_made_again():
    task = classification('digits', valid=0.3, seed=2, shift=0, smoothing=0.2)
    assert all(torch.equal(a[0], b[0]) for a, b in zip(made_again(task).valid, task.valid))


def test_a_folder_is_the_one_it_was(tmp_path):
    task = classification(pictures(tmp_path / 'a'), image_size=16, flip=False)
    made_again(task, tmp_path / 'a')
    (tmp_path / 'a' / 'red').rename(tmp_path / 'a' / 'yellow')
    with pytest.raises(ValueError, match='the classes of the data are blue, yellow'):
        Classification.from_facts(task.facts(), tmp_path / 'a')


# ---------------------------------------------------------------- segmentation: from a photo to a mask


def scenes():
    return segmentation('digit scenes', valid=0.25, shift=1)


def draws_the_same_weights(task):
    state = torch.get_rng_state()
    one, two, other = (task.default_space(dict(macs=2e6), seed=seed).state_dict() for seed in (0, 0, 1))
    assert torch.equal(torch.get_rng_state(), state) and all(torch.equal(one[name], two[name]) for name in one)
    assert any(not torch.equal(one[name], other[name]) for name in one)


def test_a_segmentation_is_made_again():
    draws_the_same_weights(made_again(scenes()))


class Bright(nn.Module):
    "Class 0 where it is bright, 1 where it is dark."

    def forward(self, x):
        mean = x.mean(1, keepdim=True)
        return torch.cat([mean, -mean, -mean - 9, -mean - 9, -mean - 9], 1)


def test_masks_are_said_and_written(tmp_path):
    task, image = scenes(), torch.zeros(3, 45, 70)
    image[:, :, :35] = 1.0
    use = task.use(Bright(), as_json(task.facts()))
    answer = use.predict(image)
    assert answer['mask'].shape == (45, 70) and torch.equal(answer['mask'], use.segment(image))
    assert answer['shares'] == pytest.approx(dict(background=0.5, **{'0': 0.5}), abs=0.02)
    assert 'background 5' in use.say(answer)
    paths = use.write(answer, tmp_path / 'a.b')
    assert [path.name for path in paths] == ['a.b-mask.png', 'a.b-overlay.png']
    with Image.open(paths[0]) as mask:
        assert mask.mode == 'P' and np.array_equal(np.asarray(mask), answer['mask'].numpy())
    with Image.open(paths[1]) as overlay:
        assert overlay.size == (70, 45) and overlay.mode == 'RGB'


@pytest.mark.filterwarnings('ignore')
def test_what_segmentation_leaves_in_a_run(tmp_path, monkeypatch):
    "Examples, speed and the agreement of ONNX Runtime go into the folder; the report's part is made of its files."
    task, run, net, fps = scenes(), Run(tmp_path / 'run'), nn.Conv2d(3, 5, 3, padding=1), end.fps
    monkeypatch.setattr(end, 'fps', lambda model, shape, **more: fps(model, shape, **more, rounds=3, warm_up=1))
    with run.begun(dict(task=task.facts(), latency=dict(device='cpu', threads=1))):
        export(net, task.input_shape, run.folder)
        figures = task.after(net, run)
        assert figures['agreement'] >= 0.999 and figures['fps'] == run.read('fps')['fps']
        assert task.after(net, run)['fps'] == figures['fps']  # measured once
    judged = task.evaluate(net, task.test)
    facts = as_json(dict(config=run.read('config'), result=dict(metrics=dict(extracted=judged), figures=figures)))
    facts['folder'] = run.folder
    said = kind_of(facts['config']['task']).sections(facts)
    assert [title for title, _ in said] == ['What the network sees'] * 2 + ['How fast it sees'] + ['Class by class'] * 3
    assert said[2][1]['ONNX, pixels of the same class'] == '100.00 %'
    rows = said[3][1].rows
    assert [row[0] for row in rows] == [*task.names, 'mean'] and rows[-1][1] == Metric().show(judged['miou'])
    assert Segmentation.sections(dict(config=facts['config'], result={}, folder=None)) == []
    (run.folder / 'examples.npz').write_bytes(b'x')
    with pytest.raises(ValueError, match='examples.npz is damaged'):
        Segmentation.sections(facts)


# ---------------------------------------------------------------- speakers: from a recording to a decision

voices = synthetic_voices.load(voices=12, utterances=4)


def few_voices(data=voices, **more):
    return speaker(data, **dict(bands=24, seconds=0.5, embedding=16, held=0.3) | more)


def embedder():
    return nn.Sequential(nn.Conv1d(24, 16, 5), nn.ReLU(), nn.AdaptiveAvgPool1d(1), nn.Flatten())


def test_a_speaker_task_is_made_again(monkeypatch):
    monkeypatch.setattr(synthetic_voices, 'load', lambda: voices)
    draws_the_same_weights(made_again(few_voices('synthetic voices')))


def test_a_voice_is_embedded_and_verified(tmp_path):
    task, net = few_voices(), embedder()
    one, other = (task.test.waves[file] for file in task.test.files[:2])
    with pytest.raises(ValueError, match='no threshold is known'):
        task.use(net, task.facts()).verify(one, other)
    known = task.decision(net)
    assert known == dict(threshold=task.evaluate(net, task.valid.whole())['threshold'])
    use = task.use(net, as_json(task.facts() | known))
    answer = use.verify(one, one)
    assert answer['same'] and answer['threshold'] == known['threshold'] and answer['score'] == pytest.approx(1)
    assert use.say(answer).startswith('the same speaker') and not use.verify(one, other, threshold=1.1)['same']
    said = use.predict(one)
    assert torch.equal(said['embedding'], use.embed(one)) and '16 numbers' in use.say(said)
    (path,) = use.write(said, tmp_path / 'a')
    assert np.array_equal(np.load(path), said['embedding'].numpy())


def test_what_speaker_verification_leaves_in_a_run(tmp_path):
    "The real-time factor comes from the latency that was settled on; the report has rates, threshold and trials."
    task, run, net = few_voices(), Run(tmp_path / 'run'), embedder()
    with run.begun(dict(task=task.facts())):
        run.write('settled', dict(readings={}))
        assert task.after(net, run) == {}
        run.write('settled', dict(readings=dict(latency_ms=dict(value=5.0))))  # for half a second of speech
        assert task.after(net, run) == pytest.approx(dict(real_time_factor=0.01))
    judged, known = task.evaluate(net, task.test), task.decision(net) | dict(real_time_factor=0.01)
    result = dict(metrics=dict(extracted=judged), figures=known)
    facts = as_json(dict(config=run.read('config'), result=result, folder=None))
    kind = kind_of(facts['config']['task'])
    (title, said), (_, drawn), (_, caption) = kind.sections(facts)
    assert title == 'Speaker verification' and len(drawn.axes) == 2 and caption.endswith('.')
    assert said['EER'].startswith(Metric().show(judged['eer'])) and 'over speakers' in said['EER']
    assert 'p_target 0.01' in said['minDCF'] and said['threshold'].startswith(f"{known['threshold']:.4f}")
    assert said['real-time factor'] == '0.01' and said['costs are for'] == '0.5 s of speech'
    assert kind.sections(dict(facts, result={})) == []


def test_architecture_parameters_of_speakers_need_recordings_put_aside():
    with pytest.raises(ValueError, match=r'give speaker\(..., held=.3\)'):
        few_voices(held=0.0).held
    task = few_voices()
    everything = len(task.held) + len(task.train)
    assert task.held is task.spare and abs(len(task.held) - 0.3 * everything) < 1 and task.full is task.train
    assert set(task.train.speakers) == {speaker for _, speaker in task.train.files}  # one of each stays


@pytest.mark.parametrize('kind', [Classification, Segmentation, Speaker])
def test_what_data_say_is_no_setting(kind):
    fields = inspect.signature(kind).parameters
    said_by_data = [name for name, one in fields.items() if one.default is one.empty]
    for name in [*said_by_data, 'made', 'nowhere']:
        with pytest.raises(ValueError, match=f'no setting {name!r}'): kind.settings_given({name: 1})
    assert kind.settings_given({}) == {}
