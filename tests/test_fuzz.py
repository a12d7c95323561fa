"""What cannot be is refused in one line before anything is computed: every option of every command, and the arguments of
every public function. Commands and functions are found by looking, so that a new one is tried by being there."""

import contextlib, io, json, zipfile
from unittest.mock import Mock

import numpy as np, pytest, torch, typer
from PIL import Image
from torch.utils.data import TensorDataset

from nas_suite import cli, search
from nas_suite.choices import smallest
from nas_suite.extraction import extract
from nas_suite.front import found as found_module
from nas_suite.front.found import Found
from nas_suite.latency import measuring
from nas_suite.spaces.mobile import ofa_mobilenet_v3
from nas_suite.spaces.segmenter import small_segmenter
from nas_suite.spaces.tdnn import small_tdnn
from nas_suite.strategies.evolution import Evolution
from nas_suite.strategies.supernet import Supernet, sandwich
from nas_suite.tasks.base import Task
from nas_suite.tasks.classification import classification
from nas_suite.tasks.segmentation import segmentation
from nas_suite.tasks.speaker import speaker
from nas_suite.training import Loop


class Computed(BaseException):
    "Something long has begun, although it was asked for what cannot be."


@pytest.fixture
def nothing_long(monkeypatch):
    "No step of a training, no measurement and no evaluation: what would take long is counted, not timed."

    def never(*args, **more):
        raise Computed

    for owner, name in ((Loop, 'backward'), (Loop, 'update'), (measuring, 'warm_up'), (measuring, 'stopwatch'), (Task, 'evaluate')):
        monkeypatch.setattr(owner, name, never)


# ---------------------------------------------------------------- what is good: runs, networks, files


def digits():
    return classification('digits', valid=0.9)


def small_space():
    torch.manual_seed(0)
    sizes = dict(widths=(8, 16), depths=(1, 2), kernels=(3, 5), expands=(2, 3), stem=8, first=8, last=(32, 40))
    return ofa_mobilenet_v3(classes=10, image_size=8, in_channels=1, dropout=0.0, **sizes)


def saved(folder, space, task):
    "A network that was saved, by its weights alone: other formats take seconds."
    network = extract(space, smallest(space)).eval()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(found_module, 'export', lambda model, shape, place, *rest: weights(model, place) or Mock())
        return Found(network, smallest(space), {}, {}, [], space=space, task=task).save(folder)


def weights(model, folder):
    from safetensors.torch import save_model

    save_model(model, str(folder / 'model.safetensors'))


def trained(folder):
    "A supernet that was trained for a step."
    strategy = Evolution(Supernet(sandwich(1), batch_size=256), samples=20, population=20, generations=5, parents=5, finalists=3)
    search.train_supernet(digits(), folder, small_space(), strategy, progress=False)
    return folder


def scenes():
    x, y = torch.rand(8, 3, 32, 48), torch.randint(0, 3, (8, 32, 48))
    return segmentation((TensorDataset(x, y), TensorDataset(x[:2], y[:2])), classes=['a', 'b', 'c'])


def voices(folder):
    import soundfile

    who = [(f'{name}/{i}.wav', name) for name in 'abcdefgh' for i in range(3)]
    for file, _ in who:
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(folder / file, np.random.randn(16000) * 0.1, 16000)
    return folder


@pytest.fixture(scope='module')
def good(tmp_path_factory):
    "What a command needs, by the name of its parameter."
    root = tmp_path_factory.mktemp('good')
    torch.set_num_threads(1)
    Image.new('L', (8, 8)).save(root / 'picture.png')
    (root / 'trials.txt').write_text('1 a/0.wav a/1.wav\n0 a/0.wav b/0.wav\n')
    spoken = voices(root / 'voices')
    (spoken / 'trials.txt').write_text('1 a/0.wav a/1.wav\n0 a/0.wav b/0.wav\n')
    speakers = speaker(spoken, spoken / 'trials.txt', bands=40, embedding=64)
    files = dict(
        run=trained(root / 'run'),
        network=saved(root / 'network', small_space(), digits()),
        segmenter=saved(root / 'segmenter', small_segmenter(3, (32, 48)), scenes()),
        speaker=saved(root / 'speaker', small_tdnn(), speakers),
    )
    entries = {name: dict(ms=1.0) for name in 'abcd'}
    table = dict(format='nas_suite latency table 2', key='', environment={}, input_shape=[1], batch=1, entries=entries)
    (root / 'table.json').write_text(json.dumps(table | dict(calibration={})))
    return files | dict(table=root / 'table.json', voices=spoken, picture=root / 'picture.png', trials=spoken / 'trials.txt', wave=spoken / 'a' / '0.wav')


# what stands in for a word or a required option: by command, or by the name alone
STANDS = {
    'predict run': 'network',
    'segment run': 'segmenter',
    'embed run': 'speaker',
    'verify run': 'speaker',
    'search speaker data': 'voices',
    'score-trials run': 'speaker',
    'predict places': 'picture',
    'segment places': 'picture',
    'embed places': 'wave',
    'measure source': 'network',
    'a': 'wave',
    'b': 'wave',
    'trials': 'trials',
    'run': 'run',
    'source': 'run',
    'one': 'table',
    'tables': 'table',
}
WORDS = {'search segmentation data': 'digit scenes', 'data': 'digits', 'model': 'tiny_network:make',
         'out': 'new', 'run_dir': 'new', 'embed out': 'new.npz', 'format': 'onnx'}
BESIDE = {'search': ['--macs', '1M'], 'shrink': ['--macs', '1M'], 'specialize': ['--macs', '1M']} # a budget, where an option is not one


# ---------------------------------------------------------------- what is bad

no_number = ['nan', 'inf', '-inf', '1e999', '', 'x', '1' * 400, '1e400000', '--', '٣', '٣x', '1_000', '0x10']
below = ['-1', '-0.5']
fits = {  # what is no number of most options, and one of these
    'threshold': {'-1', '-0.5', '0'},
    'seed': {'0'},
    'networks': {'0'},
    'retrain_epochs': {'0'},
    'finalists': {'0'},
}
words = {
    'device': ['', 'x', 'cuda:99', 'cuda:-1', 'cpu:x', 'meta', 'cpu cuda'],
    'strategy': ['', 'x', 'gate', 'Gated', 'gated,supernet'],
    'precision': ['', 'x', '64', '16', 'bf16-mixed '],
    'schedule': ['', 'x', 'Sandwich'],
    'format': ['', 'x', '.onnx', 'ONNX'],
    'form': ['', 'x', 'JSON', 'xml'],
    'recipe': ['', 'x', 'Plain', 'best'],
    'backend': ['', 'x', 'Eager', 'onnx'],
    'front': ['', 'x', 'MACs'],
    'macs': [*no_number, *below, '0', '5Q', 'M', '1,5M', '1M M'],
    'params': [*no_number, *below, '0', '5Q', '1 2', '1e3k3'],
    'sram': [*no_number, *below, '0', '5Q', 'k', '1kk', '1KiBB', '64iB'],
    'flash': [*no_number, *below, '0', '1T', 'MiB', '1M M'],
    'budget': ['', '=', 'x', 'macs', 'macs=', '=1', 'macs=nan', 'macs=-1', 'macs=0', 'x=1', 'macs=1e999'],
    'cost': ['', ':', 'x', 'x:', ':x', 'x:y', 'nowhere.py:f', 'os:nowhere', 'os:sep', '.:x', '..x:y', '/tmp:x'],
    'fixed': ['', '=', 'x', 'x=', '=x', 'nowhere=1', '*=nowhere', '*.*=1=2'],
    'settings': ['', '=', 'x', 'x=', '=x'],
    'image_size': ['', 'x', '0x0', '180', '-1x5', '1x2x3', 'nanxnan', '1.5x2', '0x10', '9' * 400 + 'x1'],
    'data': ['', 'x', 'nowhere/', 'digit', '\n'],
    'trials': ['', 'nowhere.txt', 'O'],
    'noise': ['', 'nowhere/'],
    'rooms': ['', 'nowhere/'],
    'task': ['', 'nowhere.py', 'x', 'os'],
    'source': ['', 'x', 'nowhere/'],
    'run': ['', 'x', 'nowhere/'],
    'model': ['', 'x', ':', 'x:', ':x', 'x:y', 'nowhere.py:f', 'os:nowhere', 'os:sep', 'os:getcwd'],
    'only': ['', 'nowhere', 'nowhere.*'],
    'freeze': ['', 'nowhere', 'nowhere.*'],
    'score': ['', 'x', 'Taylor'],
}
# files as they come: each as each kind of file that is read
contents = {
    'empty': b'',
    'rubbish': bytes(range(256)) * 9,
    'deep': b'[' * 100_000,
    'infinite': b'{"format": "nas_suite latency table 1", "entries": {"a": Infinity, "b": NaN}}',
    'digits': b'{"a": ' + b'1' * 5000 + b'}',
    'list': b'[1, 2]',
    'null': b'null',
    'object': b'{}',
    'bare': b'{"format": "nas_suite latency table 2", "entries": [1]}',
}
suffixes = {
    'arch': ['.json'],
    'table': ['.json', '.npz', '.yaml', '.csv', '.parquet', ''],
    'tables': ['.json'],
    'known': ['.json'],
    'one': ['.json'],
    'other': ['.json'],
    'results': ['.json', '.zip'],
    'trials': ['.txt'],
    'places': ['.png', '.wav', ''],
    'a': ['.wav', '.flac'],
    'b': ['.wav'],
    'classes': ['.txt'],
    'cohort': ['.txt'],
    'root': ['.txt'],
    'source': ['.onnx', '.pt2', ''],
    'run': [''],
    'out': [''],
}


def files_of(name):
    "Bad files for a parameter: the words that `bad_file` makes them from. The first kind of file in all ways, others in few."
    first, *others = suffixes.get(name, ['.json'])
    some = [f'{kind}{end}' for end in others for kind in ('empty', 'rubbish', 'deep', 'cut')]
    return [f'file:{kind}' for kind in ('absent', 'folder', 'loop', *(kind + first for kind in (*contents, 'cut')), *some)]


folders = {'cohort', 'root', 'run_dir', 'run'}  # a folder is none of the bad ones


def bad_words(command, parameter):
    "What cannot be, for a parameter."
    kind, name = str(parameter.type_descriptor.annotation), parameter.name
    if getattr(parameter, 'is_flag', False): return ['=x']
    if 'int' in kind or 'float' in kind:
        return [word for word in [*no_number, *below, '0', *['2.5'] * ('int' in kind)] if word not in fits.get(name, ())]
    if 'Path' not in kind:
        if name in words: return words[name]
        raise LookupError(f"{command} {name}: say in `words` what it cannot be")
    if name in ('out', 'plot', 'run_dir', 'page'): return ['file:file/below', 'below/nul\0l', *['']*(name != 'run_dir')]
    return ['', *(word for word in files_of(name) if not (name in folders and word in ('file:folder', '')))]


def commands(command=typer.main.get_command(cli.app), path=()):
    "Every command with its words."
    if not hasattr(command, 'commands'): return [(' '.join(path), command)]
    return [found for name, part in command.commands.items() for found in commands(part, (*path, name))]


measured_there = {'latency unpack run', 'latency unpack known'}  # looked at beside what a device has measured


def cases():
    "Commands, parameters and bad words. Commands that share an option have a few words each after the first one."
    seen = set()
    for path, command in commands():
        for parameter in command.params:
            if f'{path} {parameter.name}' in measured_there: continue
            bad = bad_words(path, parameter)
            again = (parameter.name, path.split()[0]) in seen
            seen.add((parameter.name, path.split()[0]))
            for i, word in enumerate(bad):
                if not again or i % 4 == 0: yield path, parameter, word


CASES = list(cases())


def bad_file(word, folder):
    "The path of a bad file, which is there if it says so."
    kind = word.removeprefix('file:')
    path = folder / kind
    stem, _, end = kind.partition('.')
    if stem == 'file/below': (folder / 'file').write_text('x')
    elif stem == 'folder': path.mkdir()
    elif stem == 'loop': path.symlink_to(path)
    elif stem == 'cut': path.write_bytes(cut(end))
    elif stem in contents: path.write_bytes(contents[stem])
    return path


def cut(end):
    "The first part of a file of a kind."
    whole = io.BytesIO()
    if end == 'npz': np.savez(whole, a=np.arange(1000))
    elif end == 'png': Image.new('L', (99, 99)).save(whole, 'png')
    elif end == 'json': whole.write(json.dumps(dict(format='nas_suite latency table 1', entries=dict(a=1.0))).encode())
    else:
        with zipfile.ZipFile(whole, 'w') as archive: archive.writestr('a.txt', 'x' * 1000)
    return whole.getvalue()[: len(whole.getvalue()) // 2]


def words_of(path, command, parameter, bad, good):
    "A command line that is right but for one word."
    said = path.split()
    beside = next((more for name, more in BESIDE.items() if path.startswith(name)), [])
    if parameter.name == 'table' and beside: beside = ['--latency-ms', '1']
    if parameter.name not in ('macs', 'latency_ms', 'params', 'sram', 'flash', 'budget'): said += beside
    for other in command.params:
        here = other is parameter
        if not here and not other.required: continue
        name, dashed = other.name, other.param_type_name == 'option'
        key = next((key for key in (f'{path} {name}', name) if key in STANDS), None)
        fine = str(good[STANDS[key]]) if key else WORDS.get(f'{path} {name}', WORDS.get(name, 'x'))
        value = bad if here else fine
        if dashed and here and getattr(other, 'is_flag', False): said.append(max(other.opts, key=len) + value)
        elif dashed: said += [f'{max(other.opts, key=len)}={value}']
        else: said.append(value)
    return said


def everything(folder):
    "All that lies in a folder, to see whether something was written."
    def size(path): return path.lstat().st_size if path.is_file() else None
    return {str(path): size(path) for path in folder.rglob('*')}


def outcome(argv):
    "Exit code and what was said."
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try: cli.main(argv)
        except SystemExit as stop: return stop.code, out.getvalue(), err.getvalue()
    raise AssertionError('a command ends by exit')


def is_named(parameter, bad, line):
    "Whether a message says which option or file was wrong: by its name, or by what was given."
    parts = [part for part in bad.replace('=', ':').split(':') if part.strip()] or ["''", ' . ', 'in .', repr(bad)[1:-1]]
    parts += [bad.rpartition('/')[2]] * ('/' in bad)
    names = {parameter.name, parameter.name.replace('_', '-'), parameter.name.replace('_', ' '), *parameter.opts}
    return any(name.lower() in f'{line} '.lower() for name in (*names, *(part[:12] for part in parts)))


@pytest.mark.parametrize(
    ('path', 'parameter', 'word'), CASES, ids=[f'{path} {p.name} {word[:20]!a}' for path, p, word in CASES]
)
def test_a_bad_option_is_refused_in_a_line(path, parameter, word, good, tmp_path, monkeypatch, nothing_long):
    monkeypatch.chdir(tmp_path)
    bad = str(bad_file(word, tmp_path)) if word.startswith('file:') else word
    command = dict(commands())[path]
    said = words_of(path, command, parameter, bad, good)
    before = everything(tmp_path) | everything(good['run'].parent)
    code, out, err = outcome(said)
    lines = [line for line in err.splitlines() if not line.startswith('note: ')]
    assert code == 2 and len(lines) == 1 and lines[0].startswith('nas-suite: '), (said, code, out, err)
    assert 'Traceback' not in err and len(lines[0]) < 1000
    assert is_named(parameter, bad, err), (said, err)
    assert not out and before == everything(tmp_path) | everything(good['run'].parent), (said, out)
