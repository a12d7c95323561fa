"What every task owes: metrics in any unit, outputs of any form, facts that make it again, and a network that a person can use."
import json, math, numpy as np, pytest, torch
from PIL import Image
from torch import nn
from torch.nn import functional as F
from torch.utils.data import TensorDataset
from torchmetrics import MeanAbsoluteError
from data_recipes import digits, image_folder, synthetic_voices
from nas_suite.tasks.base import Metric, Task, Use, joined, kind_of
from nas_suite.tasks.classification import Classification, Preparation, classification
from nas_suite.training import batches, fit

# ---------------------------------------------------------------- metrics

def test_a_metric_is_shown_in_its_unit():
    assert Metric('accuracy').show(.971) == '97.1 %' and Metric('error', False, 'px').show(.83) == '0.83 px' and Metric('F', unit='').show(12.5) == '12.5'
    assert {Metric().show(v) for v in (None, math.nan, math.inf, 'x')} == {'–'}

@pytest.mark.parametrize('larger', [True, False])
def test_worth_is_to_be_large_and_its_own_inverse(larger):
    m = Metric('m', larger, 'px')
    assert m.worth(m.worth(7.25)) == 7.25 and (m.worth(2.) > m.worth(1.)) is larger
    assert Metric(**json.loads(json.dumps(m.facts()))) == m

# ---------------------------------------------------------------- a task that nobody knew of: no classes, two outputs, pixels

class Dots(Task):
    "Where is the dot, and how bright is it? Two outputs in a dict, an error in pixels."
    name, input_shape, metric, batch_size = 'dots', (1, 8, 8), Metric('error', larger_is_better=False, unit='px'), 16
    def __init__(self, n=48): self.train, self.valid, self.test = (self.pictures(n, seed) for seed in range(3))
    def pictures(self, n, seed):
        g = torch.Generator().manual_seed(seed)
        at, light = torch.randint(8, (n, 2), generator=g), .5 + torch.rand(n, generator=g)
        x = torch.zeros(n, 1, 8, 8)
        x[torch.arange(n), 0, at[:, 0], at[:, 1]] = light
        return TensorDataset(x, torch.cat([at.float(), light[:, None]], 1))
    def loss(self, output, target): return F.mse_loss(output['place'], target[:, :2]) + F.mse_loss(output['light'][:, 0], target[:, 2])
    def meter(self):
        class Distance(MeanAbsoluteError):
            def update(self, output, target): super().update(output["place"], target[:, :2].contiguous())
        return Distance()
    @classmethod
    def use(cls, model, facts): return Where(model, facts)

class Where(Use):
    def predict(self, raw):
        found = super().predict(raw)['output']
        return dict(row=float(found['place'][0]), column=float(found['place'][1]), light=float(found['light'][0]))

class Net(nn.Module):
    def __init__(self): super().__init__(); self.body, self.place, self.light = nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.ReLU()), nn.Linear(16, 2), nn.Linear(16, 1)
    def forward(self, x): z = self.body(x); return dict(place=self.place(z), light=self.light(z))

def test_a_task_without_classes_from_training_to_use():
    torch.manual_seed(0)
    task, net = Dots(), Net()
    before = task.evaluate(net, task.test)
    history = fit(net, task, epochs=6, lr=.05, progress=False)
    found = task.evaluate(net, task.test)
    assert set(found) == {'error', 'loss', 'n'} and found['n'] == 48 and found['error'] < before['error'] and history[-1]['loss'] < history[0]['loss']
    with torch.no_grad(): out = net(task.test.tensors[0])
    y = task.test.tensors[1]
    assert found['error'] == pytest.approx(float((out['place'] - y[:, :2]).abs().mean()), rel=1e-5) and found['loss'] == pytest.approx(float(task.loss(out, y)), rel=1e-4)
    assert task.evaluate(net, task.test, batch_size=5)['loss'] == pytest.approx(found['loss'], rel=1e-4)
    assert float(task.reward(out, y)) == -float(task.score(out, y)) == -float(task.loss_at(.5)(out, y))
    where = kind_of(json.loads(json.dumps(task.facts()))).use(net.train(), task.facts() | task.decision(net))
    answer = where.predict(task.test[0][0])
    assert answer == pytest.approx(dict(row=float(out['place'][0, 0]), column=float(out['place'][0, 1]), light=float(out['light'][0, 0])), rel=1e-4) and net.training
    assert 'row' in where.say(answer) and where.write(answer, 'x') == [] and task.metric.show(found['error']).endswith(' px')

def test_what_a_task_need_not_say():
    task = Dots()
    assert task.held is task.valid and len(task.full) == 96 and task.sections({}) == [] and task.after(None, None) == {} == task.decision(None)
    assert list(task.head().parameters()) == [] and next(batches(task.train, 4, augment=task.augment))[0].shape == (4, 1, 8, 8)
    for ask, what in ((lambda: task.default_space({}), 'give the space'), (lambda: Dots.from_facts(task.facts()), 'give the task')):
        with pytest.raises(ValueError, match=what): ask()
    class Bare(Task): pass
    with pytest.raises(TypeError, match='Bare has no loss'): Bare().loss(None, None)
    assert len(joined(task.train, [1, 2])) == 50 # not both in memory

@pytest.mark.parametrize('kind', ['os.system', 'nas_suite.tasks.base.Metric', 'nas_suite.tasks.base.importlib', 'nas_suite.tasks.none.Task', 'test_tasks.Gone', 'nas_suite.tasks', '', None, 3])
def test_a_kind_that_is_none(kind):
    with pytest.raises(ValueError, match='give the task'): kind_of(dict(kind=kind))

def test_no_module_of_a_folder_is_imported(tmp_path, monkeypatch):
    (tmp_path/'planted.py').write_text('raise SystemExit("it ran")')
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ValueError, match='give the task'): kind_of(dict(kind='planted.Task'))

# ---------------------------------------------------------------- classification: from a photo to a name

def pictures(root, n=5):
    for label, colour in (('blue', (0, 0, 255)), ('red', (255, 0, 0))):
        (root/label).mkdir(parents=True)
        for i in range(n): Image.new('RGB', (20 + i, 14), colour).save(root/label/f'{i}.png')
    return root

class Red(nn.Module):
    "Class 1 where it is redder than blue."
    def forward(self, x): m = x.mean((2, 3)); return torch.stack([m[:, 2], m[:, 0]], 1)

def test_a_photo_is_prepared_as_in_training(tmp_path):
    task = classification(pictures(tmp_path/'a'), image_size=16)
    assert task.names == ['blue', 'red'] and task.facts()['preparation'] == dict(size=[16, 16], channels=3, mean=list(image_folder.mean), std=list(image_folder.std))
    use = task.use(Red(), json.loads(json.dumps(task.facts())))
    for name in task.names:
        path = tmp_path/'a'/name/'3.png'
        with Image.open(path) as im: im = im.convert('RGB')
        raw = torch.from_numpy(np.array(im)).permute(2, 0, 1)
        whole = image_folder.Images([path], [0], task.names, 16)[0][0]
        for source in (path, str(path), im, np.array(im), raw): assert torch.equal(use.prepared(source), whole)
        assert torch.allclose(use.prepared(raw / 255), whole, atol=1e-5)
        answer = use.predict(path)
        assert answer['class'] == name and answer['probability'] == answer['top'][0][1] > .5 and sum(p for _, p in answer['top']) == pytest.approx(1)
        assert use.say(answer).startswith(f'{name} (')
    (tmp_path/'b.png').write_text('none')
    for bad, what in ((tmp_path/'b.png', 'b.png cannot be read'), (tmp_path/'c.png', 'no file'), (torch.zeros(1, 4, 4), r'\(3, H, W\)'), (torch.full((3, 4, 4), 2.), '0 to 1')):
        with pytest.raises(ValueError, match=what): use.predict(bad)

@pytest.mark.parametrize('size', [(16, 16), (12, 20), (24, 9)])
def test_the_middle_of_a_picture_of_any_form(size):
    for h, w in ((30, 30), (17, 50), (61, 20)):
        x = image_folder.cut(torch.linspace(0, 1, w).expand(3, h, w), size)
        assert x.shape == (3, *size) and float((x + x.flip(2) - 1).abs().max()) < .1 # as much is cut off on the left as on the right

def test_digits_are_grey_and_named():
    task = classification('digits')
    use = task.use(nn.Sequential(nn.Flatten(), nn.Linear(64, 10)), task.facts())
    x = task.test[0][0]
    assert torch.equal(use.prepared(x), x) and use.predict(Image.fromarray(np.zeros((30, 20), np.uint8)))['class'] in set('0123456789')

def test_data_of_ones_own_may_say_what_they_went_through():
    x, y = torch.randn(8, 3, 6, 10), torch.arange(8) % 2
    pair = TensorDataset(x, y), TensorDataset(x, y)
    task = classification(pair)
    use = task.use(Red(), task.facts())
    assert torch.equal(use.prepared(x[0]), x[0]) and use.predict(x[0])['class'] in ('0', '1')
    with pytest.raises(ValueError, match='what photos of this task went through is not known'): use.predict(Image.new('RGB', (10, 6)))
    told = classification(pair, mean=(.5,)*3, std=(.25,)*3, names=['a', 'b'])
    assert told.use(Red(), told.facts()).prepared(Image.new('RGB', (99, 77))).unique().tolist() == [-2.] and told.names == ['a', 'b']
    with pytest.raises(ValueError, match='each of the 2 classes has a name'): classification(pair, names=['a'])

@pytest.mark.parametrize('make', [lambda p: classification('digits', valid=.3, seed=2, shift=0, smoothing=.2), lambda p: classification(pictures(p/'a'), image_size=16, flip=False)])
def test_a_classification_is_made_again(tmp_path, make):
    task = make(tmp_path)
    facts = json.loads(json.dumps(task.facts()))
    data = None if facts['data'] else tmp_path/'a'
    again = kind_of(facts).from_facts(facts, data)
    assert json.loads(json.dumps(again.facts())) == facts and all(torch.equal(a[0], b[0]) for a, b in zip(again.valid, task.valid))
    if data is None: return
    with pytest.raises(ValueError, match='give the task'): Classification.from_facts(facts)
    (tmp_path/'a'/'red').rename(tmp_path/'a'/'yellow')
    with pytest.raises(ValueError, match='the classes of the data are blue, yellow'): Classification.from_facts(facts, data)

def test_names_of_a_task_fit_its_classes():
    train, test = digits.load()
    assert classification((train, test)).facts()['data'] is None and Preparation((8, 8)).facts()['channels'] == 3

# ---------------------------------------------------------------- the other tasks of the package

def made():
    from nas_suite.tasks.segmentation import segmentation
    from nas_suite.tasks.speaker import speaker
    return dict(segmentation=lambda: segmentation('digit scenes', valid=.25, shift=1), speaker=lambda: speaker('synthetic voices', bands=24, seconds=.5, embedding=16, held=.3))

@pytest.mark.parametrize('name', ['segmentation', 'speaker'])
def test_a_task_is_made_again_from_its_facts(name, monkeypatch):
    few = synthetic_voices.load(voices=12, utterances=4)
    monkeypatch.setattr(synthetic_voices, 'load', lambda: few)
    task = made()[name]()
    facts = json.loads(json.dumps(task.facts()))
    kind = kind_of(facts)
    again = kind.from_facts(facts)
    assert type(again) is type(task) and json.loads(json.dumps(again.facts())) == facts and len(json.dumps(facts)) < 2000
    assert all(isinstance(text, str) for text in kind.metadata(facts).values())
    with pytest.raises(ValueError, match='give the task'): kind.from_facts(facts | dict(data=None))
    state = torch.get_rng_state()
    one, two, other = (task.default_space(dict(latency_ms=1.), seed=s).state_dict() for s in (0, 0, 1))
    assert torch.equal(torch.get_rng_state(), state) and all(torch.equal(one[k], two[k]) for k in one) and any(not torch.equal(one[k], other[k]) for k in one)

def test_masks_are_said_and_written(tmp_path):
    task = made()['segmentation']()
    class Bright(nn.Module):
        def forward(self, x): m = x.mean(1, keepdim=True); return torch.cat([m, -m, -m - 9, -m - 9, -m - 9], 1)
    use = task.use(Bright(), json.loads(json.dumps(task.facts())))
    image = torch.zeros(3, 45, 70); image[:, :, :35] = 1.
    answer = use.predict(image)
    assert answer['mask'].shape == (45, 70) and torch.equal(answer['mask'], use.segment(image)) and answer['shares'] == pytest.approx(dict(background=.5, **{'0': .5}), abs=.02)
    assert 'background 5' in use.say(answer)
    paths = use.write(answer, tmp_path/'a.b')
    assert [p.name for p in paths] == ['a.b-mask.png', 'a.b-overlay.png']
    with Image.open(paths[0]) as im: assert im.mode == 'P' and np.array_equal(np.asarray(im), answer['mask'].numpy())
    with Image.open(paths[1]) as im: assert im.size == (70, 45) and im.mode == 'RGB'

def few_voices(**more):
    from nas_suite.tasks.speaker import speaker
    return speaker(synthetic_voices.load(voices=12, utterances=4), **dict(bands=24, seconds=.5, embedding=16, held=.3) | more)

def test_a_voice_is_embedded_and_verified(tmp_path):
    task = few_voices()
    net = nn.Sequential(nn.Conv1d(24, 16, 5), nn.ReLU(), nn.AdaptiveAvgPool1d(1), nn.Flatten())
    bare = task.use(net, task.facts())
    wave, other = (task.test.waves[f] for f in task.test.files[:2])
    with pytest.raises(ValueError, match='no threshold is known'): bare.verify(wave, other)
    known = task.decision(net)
    assert set(known) == {'threshold'} and known['threshold'] == task.evaluate(net, task.valid.whole())['threshold']
    use = task.use(net, json.loads(json.dumps(task.facts() | known)))
    answer = use.verify(wave, wave)
    assert answer['same'] and answer['threshold'] == known['threshold'] and answer['score'] == pytest.approx(1) and use.say(answer).startswith('the same speaker')
    assert torch.equal(use.predict(wave)['embedding'], use.embed(wave)) and '16 numbers' in use.say(use.predict(wave)) and not use.verify(wave, other, threshold=1.1)['same']
    path, = use.write(use.predict(wave), tmp_path/'a')
    assert np.array_equal(np.load(path), use.embed(wave).numpy())

@pytest.mark.filterwarnings('ignore')
def test_what_segmentation_leaves_in_a_run(tmp_path, monkeypatch):
    "Examples, speed and the agreement of ONNX Runtime go into the folder; the report's part is made of its files."
    from nas_suite.front.export import export
    from nas_suite.front.runs import Run
    from nas_suite.tasks.segmentation import Segmentation, end
    task, run = made()['segmentation'](), Run(tmp_path/'run')
    monkeypatch.setattr(end, 'fps', lambda model, shape, fps=end.fps, **more: fps(model, shape, **more, rounds=3, warm_up=1))
    net = nn.Conv2d(3, 5, 3, padding=1)
    with run.begun(dict(task=task.facts(), latency=dict(device='cpu', threads=1))):
        export(net, task.input_shape, run.folder)
        figures = task.after(net, run)
        assert figures['agreement'] >= .999 and figures['fps'] == run.read('fps')['fps'] and task.after(net, run)['fps'] == figures['fps']
    judged = task.evaluate(net, task.test)
    facts = json.loads(json.dumps(dict(config=run.read('config'), result=dict(metrics=dict(extracted=judged), figures=figures)))) | dict(folder=run.folder)
    said = kind_of(facts['config']['task']).sections(facts)
    assert [title for title, _ in said] == ['What the network sees']*2 + ['How fast it sees'] + ['Class by class']*3 and said[2][1]['ONNX, pixels of the same class'] == '100.00 %'
    table = said[3][1]
    assert [row[0] for row in table.rows] == [*task.names, 'mean'] and table.rows[-1][1] == Metric().show(judged['miou'])
    assert Segmentation.sections(dict(config=facts['config'], result={}, folder=None)) == []
    (run.folder/'examples.npz').write_bytes(b'x')
    with pytest.raises(ValueError, match='examples.npz is damaged'): Segmentation.sections(facts)

def test_what_speaker_verification_leaves_in_a_run(tmp_path):
    "The real-time factor comes from the latency that was settled on; the report has rates, threshold and trials."
    from nas_suite.front.runs import Run
    task, run = few_voices(), Run(tmp_path/'run')
    net = nn.Sequential(nn.Conv1d(24, 16, 5), nn.ReLU(), nn.AdaptiveAvgPool1d(1), nn.Flatten())
    with run.begun(dict(task=task.facts())):
        for readings, figures in (({}, {}), (dict(latency_ms=dict(value=5.)), dict(real_time_factor=.01))): # half a second of speech
            run.write('settled', dict(arch={}, readings=readings, tried=[]))
            assert task.after(net, run) == pytest.approx(figures)
    judged, known = task.evaluate(net, task.test), task.decision(net) | dict(real_time_factor=.01)
    facts = json.loads(json.dumps(dict(config=run.read('config'), result=dict(metrics=dict(extracted=judged), figures=known)))) | dict(folder=run.folder)
    kind = kind_of(facts['config']['task'])
    (title, said), (_, drawn), (_, caption) = kind.sections(facts)
    assert title == 'Speaker verification' and said['EER'].startswith(Metric().show(judged['eer'])) and 'over speakers' in said['EER'] and 'p_target 0.01' in said['minDCF']
    assert said['threshold'].startswith(f"{known['threshold']:.4f}") and said['real-time factor'] == '0.01' and said['costs are for'] == '0.5 s of speech'
    assert len(drawn.axes) == 2 and caption.endswith('.') and kind.sections(dict(facts, result={})) == []

def test_architecture_parameters_of_speakers_need_recordings_put_aside():
    with pytest.raises(ValueError, match='give speaker\\(..., held=.3\\)'): few_voices(held=0.).held
    task = few_voices()
    assert task.held is task.spare and abs(len(task.held) - .3 * (len(task.held) + len(task.train))) < 1 and task.full is task.train
    assert set(task.train.speakers) == {s for _, s in task.train.files} # one of each stays
