"One file that takes raw input, of each task: what it answers, what it carries, and that nothing but ONNX Runtime is needed."

import json, subprocess, sys, warnings, wave
import numpy as np, onnx, onnxruntime, pytest, torch
from PIL import Image
from torch import nn
from torch.utils.data import TensorDataset
from data_recipes import synthetic_voices
from nas_suite import search
from nas_suite.choices import Space, one_of, smallest
from nas_suite.extraction import extract
from nas_suite.front.deploy import deploy, write_deployment
from nas_suite.front.export import NotWritten, Written, export, read_metadata
from nas_suite.front.found import Found, LeftOut
from nas_suite.front.page import uses
from nas_suite.layers import ElasticConv1d, ElasticConv2d, ElasticLinear
from nas_suite.tasks.classification import Preparation, classification
from nas_suite.tasks.segmentation import segmentation
from nas_suite.tasks.speaker import speaker


def pair(labels):
    "Two data sets of a few images and labels."
    data = TensorDataset(torch.randn(len(labels), 3, 32, 32), labels)
    return data, data


class Tiny(Space):
    "A convolution, and its mean through a layer, or a class for every fourth pixel."

    def __init__(self, task, convolution, outputs):
        super().__init__()
        self.input_shape, self.outputs = tuple(task.input_shape), outputs
        width = one_of(8, 16)
        self.first = convolution(self.input_shape[0], width, 5, stride=2, padding=2)
        self.last = convolution(width, 3, 3, stride=2, padding=1) if outputs is None else ElasticLinear(width, outputs)

    def forward(self, x):
        x = self.first(x).relu()
        return self.last(x if self.outputs is None else x.flatten(2).mean(2))


def photos():
    task = classification(pair(torch.arange(40) % 4), mean=(0.5, 0.4, 0.3), std=(0.2, 0.2, 0.3), names=['ant', 'bee', 'cat', 'dog'])
    return task, Tiny(task, ElasticConv2d, 4)


def scenes():
    task = segmentation(pair(torch.arange(8 * 1024).view(8, 32, 32) % 3), classes=['sky', 'road', 'tree'])
    return task, Tiny(task, ElasticConv2d, None)


def voices():
    task = speaker(synthetic_voices.load(voices=12, utterances=2), bands=24, seconds=0.5, embedding=16)
    return task, Tiny(task, ElasticConv1d, 16)


@pytest.fixture(scope='module')
def saved(tmp_path_factory):
    "Function: a network of a task, saved as it would be by `specialize`, and read back."
    known = {}

    def make(kind):
        if kind not in known:
            torch.manual_seed(0)
            task, space = kind()
            arch = smallest(space)
            model = extract(space, arch).eval()
            found = Found(model, arch, dict(macs=1e5), {}, [], space=space, task=task, figures=task.decision(model))
            known[kind] = search.load(found.save(tmp_path_factory.mktemp('saved') / kind.__name__))
        return known[kind]

    return make


def session(found, name='deploy.onnx'):
    return onnxruntime.InferenceSession(found.run_dir / name, providers=['CPUExecutionProvider'])


def ends(found, name):
    "Inputs and outputs of a file: name -> sizes."
    graph = onnx.load(found.run_dir / name).graph
    return [
        {end.name: [d.dim_param or d.dim_value for d in end.type.tensor_type.shape.dim] for end in side}
        for side in (graph.input, graph.output)
    ]


def picture(height, width, seed=0):
    "A smooth picture with some noise."
    rows, columns = np.mgrid[:height, :width]
    smooth = 127 + 100 * np.sin(np.stack([rows / 17, columns / 11, (rows + columns) / 23], -1) + seed)
    return (smooth + np.random.default_rng(seed).integers(0, 20, smooth.shape)).astype(np.uint8)


KINDS = [photos, scenes, voices]


@pytest.mark.parametrize('kind', KINDS)
def test_both_files_say_what_goes_in_and_what_comes_out(saved, kind):
    bare = {photos: ('image', 'logits'), scenes: ('image', 'logits'), voices: ('features', 'embedding')}[kind]
    found = saved(kind)
    taken, given = ends(found, 'model.onnx')
    assert (list(taken), list(given)) == ([bare[0]], [bare[1]])
    assert taken[bare[0]][0] == given[bare[1]][0] == 'batch'
    if kind is voices:
        assert taken['features'] == ['batch', 24, 'time']
    taken, given = ends(found, 'deploy.onnx')
    wanted = {
        photos: (dict(image=['batch', 'height', 'width', 3]), {'class', 'probability', 'probabilities'}),
        scenes: (dict(image=['batch', 'height', 'width', 3]), {'mask'}),
        voices: (dict(samples=['batch', 'time']), {'embedding'}),
    }[kind]
    assert (taken, set(given)) == wanted


@pytest.mark.parametrize('kind', KINDS)
def test_the_facts_are_in_the_run_and_in_both_formats(saved, kind):
    found, known = saved(kind), saved(kind).metadata
    folder = found.run_dir
    assert read_metadata(folder / 'model.onnx') == read_metadata(folder / 'model.pt2') == known
    assert json.loads((folder / 'metadata.json').read_text()) == known
    wanted = {
        photos: {'names', 'mean', 'std', 'size', 'resize', 'crop', 'colours'},
        scenes: {'names', 'palette', 'mean', 'std', 'size', 'resize', 'crop', 'colours'},
        voices: {'sample_rate', 'threshold', 'features'},
    }[kind]
    assert wanted | {'task', 'metric', 'input', 'output'} <= known.keys()
    inside = read_metadata(folder / 'deploy.onnx')
    assert wanted <= inside.keys() and inside['raw'] and inside['input'] in ('image', 'samples')


def test_metadata_are_read_without_unpickling(tmp_path, saved, monkeypatch):
    import pickle

    folder = saved(photos).run_dir
    monkeypatch.setattr(pickle, 'Unpickler', None)
    monkeypatch.setattr(torch, 'load', None)
    assert read_metadata(folder / 'model.pt2')['names']
    for name in ('a.pt2', 'a.onnx'):
        (tmp_path / name).write_bytes(b'damaged')
        with pytest.raises(ValueError, match=f'{name} is no exported network'):
            read_metadata(tmp_path / name)
    with pytest.raises(FileNotFoundError):
        read_metadata(tmp_path / 'nowhere.pt2')


@pytest.mark.parametrize('size', [(32, 32), (33, 32), (50, 200), (131, 77), (20, 24)])
def test_a_photo_is_answered_as_in_python(saved, size):
    image = picture(*size)
    for kind, off in ((photos, 1e-4), (scenes, 0.002)):
        found = saved(kind)
        answer, outputs = found.predict(image), session(found)
        names = [out.name for out in outputs.get_outputs()]
        two = dict(zip(names, outputs.run(names, dict(image=np.stack([image, image[::-1]])))))
        assert found.use.predict(Image.fromarray(image)).keys() == answer.keys()
        if kind is photos:
            assert len(two['class']) == 2 and found.facts['names'][two['class'][0]] == answer['class']
            assert abs(two['probability'][0] - answer['probability']) < off
            np.testing.assert_allclose(two['probabilities'].sum(1), 1, rtol=1e-5)
        else:
            assert two['mask'].shape == (2, *size) and two['mask'].dtype == np.uint8
            assert (two['mask'][0] != answer['mask'].numpy()).mean() < off


@pytest.mark.parametrize('seconds', [0.2, 0.5, 0.9, 2.3])
def test_a_recording_is_answered_as_in_python(saved, seconds):
    found = saved(voices)
    samples = 0.1 * np.random.default_rng(0).standard_normal((2, round(16000 * seconds))).astype(np.float32)
    given = session(found).run(None, dict(samples=samples))[0]
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')  # it is repeated
        mine = torch.stack([found.predict(each)['embedding'] for each in samples])
    np.testing.assert_allclose(given, mine.numpy(), atol=2e-6)


ALONE = """
import runpy, sys
for name in ('torch', 'torchvision', 'torchaudio', 'onnx', 'nas_suite', 'data_recipes', 'PIL', 'soundfile', 'scipy'): sys.modules[name] = None
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name='__main__')
"""


def alone(found, *words):
    "What use.py prints where nothing but ONNX Runtime, and what that brings, can be imported."
    command = [sys.executable, '-I', '-c', ALONE, found.run_dir / 'use.py', *words]
    return subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=60)


def test_the_script_names_a_photo_with_onnx_runtime_alone(saved, tmp_path):
    found, image = saved(photos), picture(60, 80)
    assert len((found.run_dir / 'use.py').read_text().splitlines()) <= 25
    np.save(tmp_path / 'a.npy', image)
    done, answer = alone(found, tmp_path / 'a.npy'), found.predict(image)
    assert done.stdout.split() == [str(tmp_path / 'a.npy'), answer['class'], f"{answer['probability']:.3f}"], done.stderr
    assert 'python use.py photo.jpg' in alone(found).stderr


def test_the_script_writes_a_mask_with_onnx_runtime_alone(saved, tmp_path):
    found, image = saved(scenes), picture(40, 70)
    np.save(tmp_path / 'a.npy', image)
    done = alone(found, tmp_path / 'a.npy')
    assert done.returncode == 0 and '%' in done.stdout, done.stderr
    assert (np.load(tmp_path / 'a-mask.npy') != found.predict(image)['mask'].numpy()).mean() < 0.002


def test_the_script_decides_on_two_recordings_with_onnx_runtime_alone(saved, tmp_path):
    found, generator = saved(voices), np.random.default_rng(0)
    for name in 'ab':
        with wave.open(str(tmp_path / f'{name}.wav'), 'wb') as file:
            file.setparams((1, 2, 16000, 0, 'NONE', ''))
            file.writeframes((3000 * generator.standard_normal(16000)).astype('<i2').tobytes())
    done = alone(found, tmp_path / 'a.wav', tmp_path / 'b.wav')
    said = found.use.verify(tmp_path / 'a.wav', tmp_path / 'b.wav')
    score, threshold = [float(word.strip(',')) for word in done.stdout.split() if word.strip(',')[-1:].isdigit()]
    assert abs(score - said['score']) < 1e-3 and abs(threshold - said['threshold']) < 1e-3, done.stderr
    assert done.stdout.startswith('the same speaker' if said['same'] else 'two speakers')


def test_the_script_takes_recordings_of_any_format(saved, tmp_path):
    import soundfile

    found, names = saved(voices), [str(tmp_path / name) for name in ('a.flac', 'b.wav')]
    for name, subtype in zip(names, ('PCM_16', 'FLOAT')):
        soundfile.write(name, 0.1 * np.random.default_rng(0).standard_normal((16000, 2)), 16000, subtype=subtype)
    command = [sys.executable, str(found.run_dir / 'use.py'), *names]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.stdout.startswith('the same speaker  score 1.0000'), done.stderr
    soundfile.write(names[0], np.ones(800), 8000)
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.stderr.strip() == f'{names[0]} has 8000 samples a second; the network takes 16000'


@pytest.mark.parametrize('kind', KINDS)
def test_what_the_report_says_of_use_runs_when_it_is_pasted(saved, kind):
    found = saved(kind)
    said = uses(dict(config=dict(task=found.facts), folder=found.run_dir))
    assert len(said) == 5
    for title, code in said.items():
        exec(compile(code, title, 'exec'), {})


def test_a_network_of_words_is_shown_with_words(tmp_path):
    words = torch.fx.symbolic_trace(nn.Sequential(nn.Embedding(9, 4), nn.Flatten(), nn.Linear(4 * 3, 2)))
    export(words.eval(), (3,), tmp_path)
    said = uses(dict(config=dict(task=dict(input_shape=[3])), folder=tmp_path))
    for title in ('The network, as plain PyTorch', 'The network, with ONNX Runtime'):
        exec(compile(said[title], title, 'exec'), {})


def test_raw_input_is_not_shown_where_nobody_knows_what_it_goes_through(tmp_path):
    facts = classification(pair(torch.arange(20) % 4)).facts()
    assert not [title for title in uses(dict(config=dict(task=facts), folder=tmp_path)) if 'Raw' in title]


# ---------------------------------------------------------------- what cannot be written


def test_what_is_not_known_is_noted(tmp_path):
    task = classification(pair(torch.arange(20) % 4))
    written = Written()
    (tmp_path / 'deploy.onnx').write_text('of another time')
    deploy(nn.Identity(), type(task), task.facts(), tmp_path, written)
    assert 'what photos of this task went through is not known' in written.notes['deploy']
    assert not list(tmp_path.iterdir())
    task = photos()[0]
    deploy(nn.Identity(), type(task), task.facts(), tmp_path, written)
    assert written.notes['deploy'] == 'not written: there is no model.onnx'


class Two(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Conv2d(3, 4, 3)

    def forward(self, x):
        y = self.layer(x).mean((2, 3))
        return dict(answer=y, more=y + 1)


def test_a_file_that_cannot_be_joined_or_says_something_else_is_not_kept(tmp_path):
    task, written = photos()[0], Written()
    export(Two().eval(), (3, 32, 32), tmp_path)
    with pytest.warns(NotWritten, match='deploy.onnx: not written: the network has 1 inputs and 2 outputs'):
        deploy(Two().eval(), type(task), task.facts(), tmp_path, written)
    model = nn.Sequential(nn.AvgPool2d(32), nn.Flatten(), nn.Linear(3, 4)).eval()
    nn.init.constant_(model[2].weight, 0)
    model[2].weight.data[1, 0] = 1.0
    export(model, (3, 32, 32), tmp_path, task.metadata(task.facts()))
    facts = task.facts()
    wrong = facts | dict(preparation=Preparation((32, 32), mean=(0.0,) * 3).facts())  # another mean than the file has
    with pytest.raises(ValueError, match='its answers differ by .* from those of the network in use'):
        write_deployment(tmp_path, task.use(model, wrong), task.deployment(facts))
    assert not (tmp_path / 'deploy.onnx').exists() and not (tmp_path / 'use.py').exists()
    assert write_deployment(tmp_path, task.use(model, facts), task.deployment(facts)) < 1e-3


# ---------------------------------------------------------------- in Python and in a shell


def test_of_a_folder_each_file_is_answered(saved, tmp_path):
    found = saved(photos)
    for name in ('a.png', 'b/c.jpg'):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.fromarray(picture(40, 50)).save(tmp_path / name)
    (tmp_path / 'notes.txt').write_text('no picture')
    one = found.predict(tmp_path / 'a.png')
    assert found.predict(tmp_path)[tmp_path / 'a.png'] == one and len(found.predict(tmp_path)) == 2
    (tmp_path / 'd.png').write_bytes(b'damaged')
    with pytest.warns(LeftOut, match='d.png cannot be read'):
        assert len(found.predict(tmp_path)) == 2
    (empty := tmp_path / 'empty').mkdir()
    with pytest.raises(ValueError, match='there are no files'):
        found.predict(empty)


@pytest.mark.parametrize('kind', KINDS)
def test_answers_are_printed_for_people_programs_and_spreadsheets(saved, kind, tmp_path, capsys):
    import csv
    from nas_suite.front.networks import app

    found = saved(kind)
    for name in 'ab':
        if kind is voices:
            import soundfile

            soundfile.write(tmp_path / f'{name}.wav', np.random.default_rng(0).standard_normal(16000) / 10, 16000)
        else:
            Image.fromarray(picture(40, 50)).save(tmp_path / f'{name}.png')
    (tmp_path / 'notes.txt').write_text('of no kind for the task')
    lines = {}
    for form in ('table', 'json', 'csv'):
        app(['predict', str(found.run_dir), str(tmp_path), '--format', form], standalone_mode=False)
        lines[form] = capsys.readouterr().out.splitlines()
    assert len(lines['table']) == len(lines['json']) == 2 and all(json.loads(line)['answer'] for line in lines['json'])
    rows = list(csv.DictReader(lines['csv']))
    numbers = {photos: {'class', 'probability'}, scenes: {'sky', 'road', 'tree'}, voices: {f'embedding_{i}' for i in range(16)}}
    assert len(rows) == 2 and rows[0].keys() - {'file'} == numbers[kind] and rows[1]['file'].startswith(str(tmp_path))
    with pytest.raises(ValueError, match='there is no form for --format .*; the forms are table, json, csv'):
        app(['predict', str(found.run_dir), str(tmp_path), '--format', 'xml'], standalone_mode=False)


def test_a_network_shows_itself(saved):
    shown = saved(photos)._repr_html_()
    assert 'A network for images' in shown and '<svg' in shown and '100 k' in shown
