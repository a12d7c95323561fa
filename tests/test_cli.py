"The command line: words become arguments, errors one line, exit codes say what happened."

import json, signal, subprocess, sys, types, warnings
from pathlib import Path
from unittest.mock import patch

import pytest

import nas_suite
from nas_suite import cli, demo
from nas_suite.spaces.mobile import proxyless

root = Path(nas_suite.__file__).parents[1]


@pytest.fixture
def sh(capsys):
    "`sh('report', folder)` -> exit code, stdout, stderr"

    def run(*words, main=cli.main):
        capsys.readouterr()
        with pytest.raises(SystemExit) as stop:
            main([str(w) for w in words])
        out, err = capsys.readouterr()
        return stop.value.code, out, err

    return run


def finished(folder):
    folder.mkdir(parents=True)
    costs = dict(macs=1e6, params=1e4, latency_ms=0.5, latency_interval=[0.4, 0.6])
    for name, facts in dict(
        config=dict(
            task=dict(name='digits', classes=10, input_shape=[1, 8, 8]),
            budget=dict(latency_ms=0.7),
            seed=0,
            space=dict(name='Mine'),
        ),
        arch={'a.op': 'mb3_k3'},
        result=dict(arch={'a.op': 'mb3_k3'}, costs=costs, metrics=dict(retrained=dict(accuracy=0.9, loss=0.3))),
    ).items():
        (folder / f'{name}.json').write_text(json.dumps(facts))
    for name in ('model.onnx', 'model.pt2', 'model.safetensors'):
        (folder / name).write_bytes(name.encode())
    return folder


@pytest.fixture
def asked(monkeypatch, tmp_path):
    "What a search was asked for; `asked.answer` is what it does"
    from nas_suite.search import space_of, task_of

    seen = types.SimpleNamespace(
        calls=[], answer=lambda data, **more: types.SimpleNamespace(run_dir=finished(tmp_path / 'found'))
    )
    fake = types.ModuleType('nas_suite.search')

    def classification(data, **more):
        seen.calls.append((data, more))
        return seen.answer(data, **more)

    fake.classification, fake.space_of, fake.task_of = classification, space_of, task_of
    monkeypatch.setitem(sys.modules, 'nas_suite.search', fake)
    monkeypatch.setattr(nas_suite, 'search', fake, raising=False)
    return seen


# ---------------------------------------------------------------- help, version, bad words


def test_version(sh):
    assert sh('--version') == (0, f'nas-suite {nas_suite.__version__}\n', '')


@pytest.mark.parametrize(
    'words',
    [
        [],
        ['search'],
        ['search', 'classification'],
        ['search', 'segmentation'],
        ['segment'],
        ['embed'],
        ['verify'],
        ['score-trials'],
        ['search', 'speaker'],
        ['predict'],
        ['measure'],
        ['extract'],
        ['export'],
        ['report'],
        ['spaces'],
        ['train-supernet'],
        ['specialize'],
    ],
)
def test_every_command_explains_itself_with_examples(sh, words):
    code, out, err = sh(*words, '--help')
    assert code == 0 and err == '' and 'Usage: nas-suite' in out and '  nas-suite ' in out.split('Example')[1]


def test_help_lists_what_there_is(sh):
    "Strategies, the data that come with the package, devices and back ends."
    from nas_suite.front.options import strategy_names
    from nas_suite.front.origins import strategies
    from nas_suite.latency import backends
    from nas_suite.tasks.classification import comes_with_us

    assert sorted(strategy_names) == sorted(strategies())
    said = ' '.join(sh('search', 'classification', '--help')[1].split())
    assert all(f'"{name}"' in said for name in comes_with_us) and 'cuda' in said
    assert ', '.join(strategy_names) in said
    plain = [name for name in backends if '-' not in name]
    assert all(name in sh('measure', '--help')[1] for name in plain)
    assert all(name in said for name in plain) and 'nas-suite doctor lists those of this machine' in said


@pytest.fixture
def a_sound_and_a_broken_back_end():
    "Instead of all others; `patch.dict` gives them back in their order, which messages name."
    from nas_suite.latency import Backend, backends

    def fails(*_):
        raise RuntimeError('no such\nthing')

    sound = Backend(lambda network, x: lambda: network(*x))
    with patch.dict(backends, dict(mine=sound, broken=Backend(lambda network, x: fails)), clear=True):
        yield


@pytest.mark.usefixtures('a_sound_and_a_broken_back_end')
def test_the_doctor_names_what_is_missing(sh, monkeypatch, tmp_path):
    from nas_suite.front import doctor

    monkeypatch.setattr(doctor, '_extras', dict(no_such_package='sun'))
    monkeypatch.setenv('NAS_SUITE_CACHE', str(tmp_path / 'cache'))
    code, out, _ = sh('doctor', '--json')
    found = {(one['about'], one['name']): one for one in json.loads(out)}
    assert code == 0 and found['back end', 'mine']['seen'] == 'runs'
    assert found['back end', 'broken']['advice'] == 'RuntimeError: no such thing'
    assert found['package', 'no_such_package']['advice'] == "pip install 'nas_suite[sun]'"
    assert str(tmp_path / 'cache') in found['folder', 'latencies']['seen']
    assert '2 of these are missing' in sh('doctor')[1]


def test_help_needs_no_torch():
    code = "import sys; from nas_suite.cli import main\ntry: main(['search', 'classification', '--help'])\nexcept SystemExit: pass\nassert 'torch' not in sys.modules and 'matplotlib' not in sys.modules and 'nas_suite.search' not in sys.modules"
    subprocess.run([sys.executable, '-c', code], check=True, cwd=root, stdout=subprocess.DEVNULL)


@pytest.mark.parametrize(
    'words',
    [
        ['serch'],
        ['search', 'clasification'],
        ['search', 'classification'],
        ['search', 'classification', 'digits', '--epochs', 'many'],
        ['export', 'x'],
        ['report', 'a', 'b'],
        ['--nonsense'],
        ['search', 'classification', 'digits'],
        ['search', 'classification', 'digits', '--macs', '1M', '--fixed', 'kernel'],
        ['search', 'classification', 'digits', '--budget', 'joules=3'],
        ['search', 'classification', 'digits', '--macs', '1M', '--epochs', 'nan'],
        ['search', 'classification', 'digits', '--macs', '1M', '--epochs', 'inf'],
        ['search', 'classification', 'digits', '--macs', '1M', '--epochs', '0'],
        ['search', 'classification', 'digits', '--macs', '1M', '--seed', '-1'],
        ['search', 'classification', 'digits', '--macs', '1M', '--retrain-epochs', '-1'],
        ['search', 'classification', 'digits', '--macs', '1M', '--threads', '0'],
        ['search', 'classification', 'digits', '--latency-ms', 'inf'],
        ['train-supernet', 'digits', '--run-dir', 'x', '--epochs', 'nan'],
        ['train-supernet', 'digits', '--run-dir', 'x', '--batch-size', '0'],
        ['train-supernet', 'digits', '--run-dir', 'x', '--seed', '-1'],
        ['train-supernet', 'digits', '--run-dir', 'x', '--device', 'cuda:99'],
        ['latency', 'pack', 'proxyless', '--out', 'x.zip', '--rounds', '0'],
        ['latency', 'pack', 'proxyless', '--out', 'x.zip', '--networks', '-1'],
        ['search', 'classification', 'digits', '--budget', 'macs'],
        ['search', 'classification', 'digits', '--cost', 'nowhere.py:f', '--macs', '1M'],
        ['report', 'nowhere'],
        ['predict', 'nowhere', 'x'],
        ['measure', 'nowhere'],
        ['measure', __file__],
        ['extract', 'nowhere', '--out', 'x'],
        ['export', 'nowhere', '--format', 'onnx', '--out', 'x'],
        ['export', '.', '--format', 'tflite', '--out', 'x'],
    ],
)
def test_bad_input_is_one_line_and_2(sh, words, asked, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, out, err = sh(*words)
    assert (
        code == 2
        and out == ''
        and err.startswith('nas-suite: ')
        and err.count('\n') == 1
        and err.endswith('\n')
        and len(err) > 20
    )
    assert not asked.calls and not list(tmp_path.iterdir())


# ---------------------------------------------------------------- search


def test_options_become_arguments(sh, asked):
    code, out, err = sh(
        'search',
        'classification',
        'digits',
        '--latency-ms',
        '0.5',
        '--macs',
        '50M',
        '--params',
        '300k',
        '--strategy',
        'gated',
        '--epochs',
        '3',
        '--retrain-epochs',
        5,
        '--seed',
        '7',
        '--device',
        'cpu',
        '--threads',
        1,
        '--run-dir',
        'somewhere',
        '--fixed',
        'a.kernel=5',
        '--fixed',
        'b.op=mb3_k3',
        '--fixed',
        'c=a=b',
        '--quiet',
    )
    assert code == 0 and err == ''
    assert asked.calls == [
        (
            'digits',
            dict(
                latency_ms=0.5,
                macs='50M',
                params='300k',
                strategy='gated',
                epochs=3,
                retrain_epochs=5,
                seed=7,
                device='cpu',
                threads=1,
                run_dir=Path('somewhere'),
                fixed={'a.kernel': 5, 'b.op': 'mb3_k3', 'c': 'a=b'},
                progress=False,
            ),
        )
    ]
    assert '90.0 %' in out and 'report.html' in out


def test_what_is_not_said_is_not_passed(sh, asked):
    assert sh('search', 'classification', 'digits', '--macs', '1M')[0] == 0
    assert asked.calls == [
        (
            'digits',
            dict(
                macs='1M',
                strategy='gated',
                seed=0,
                device='auto',
                run_dir=Path('runs/digits-gated-1M-macs'),
                progress=True,
            ),
        )
    ]


def test_any_cost_is_a_budget(sh, asked, tmp_path):
    (tmp_path / 'own.py').write_text('def energy_mj(space, input_shape): return space')
    assert (
        sh(
            'search',
            'classification',
            'digits',
            '--cost',
            f'{tmp_path}/own.py:energy_mj',
            '--budget',
            'energy_mj=12',
            '--budget',
            'weight_bytes=100k',
            '--latency-ms',
            2,
            '--precision',
            'bf16-mixed',
        )[0]
        == 0
    )
    ((_, given),) = asked.calls
    energy, weights = given['budget']
    assert (
        energy('space', ()) == 'space'
        and energy.__name__ == 'energy_mj'
        and given['budget'] == {energy: '12', 'weight_bytes': '100k'}
    )
    assert (
        given['latency_ms'] == 2.0
        and given['precision'] == 'bf16-mixed'
        and str(given['run_dir']) == 'runs/digits-gated-2ms-12-energy_mj-100k-weight_bytes'
    )
    for words, what in (
        (['--cost', f'{tmp_path}/own.py:none', '--macs', '1M'], 'no function none'),
        (['--cost', f'{tmp_path}/own.py:energy_mj', '--macs', '1M'], 'has no budget'),
        (['--cost', f'{tmp_path}/own.py:energy_mj', '--budget', 'energy=1', '--budget', 'area=2'], "no cost 'area' by --cost"),
        (['--macs', '1M', '--budget', 'macs=2M'], 'twice'),
        (['--budget', 'joules=1'], "there is no cost 'joules'"),
    ):
        code, out, err = sh('search', 'classification', 'digits', *words)
        assert code == 2 and what in err, err


def test_a_cost_of_ones_own_goes_by_its_own_name(sh, asked, tmp_path):
    own = tmp_path / 'own.py'
    own.write_text(
        'from types import SimpleNamespace as Cost\n'
        'def energy(space, input_shape): return Cost(name="energy_mj")\n'
        'def area(space, input_shape): return Cost(name="area_mm2")\n'
    )
    run = finished(tmp_path / 'run')
    asked.answer = lambda data, **more: types.SimpleNamespace(run_dir=run)
    costs = ['--cost', f'{own}:energy', '--cost', f'{own}:area']
    words = ['search', 'classification', 'digits', *costs]
    assert sh(*words, '--budget', 'area_mm2=3', '--budget', 'energy_mj=12')[0] == 0
    ((_, given),) = asked.calls
    assert {key('space', ()).name: most for key, most in given['budget'].items()} == dict(area_mm2='3', energy_mj='12')
    assert str(given['run_dir']) == 'runs/digits-gated-3-area_mm2-12-energy_mj'
    assert sh(*words, '--budget', 'area=3', '--budget', 'energy_mj=12')[0] == 0  # by the function's name too
    *_, (_, given) = asked.calls
    assert {key('space', ()).name for key in given['budget']} == {'area_mm2', 'energy_mj'}
    assert sh(*words, '--budget', 'volume=3', '--budget', 'energy_mj=12')[0] == 0
    *_, (_, given) = asked.calls
    with pytest.raises(ValueError, match="there is no cost 'volume'; those of --cost are energy_mj, area_mm2"):
        next(iter(given['budget']))('space', ())
    own.write_text('def energy(')
    code, out, err = sh(*words[:-2], '--budget', 'energy=1')
    assert code == 2 and 'cannot be imported (SyntaxError' in err and err.count('\n') == 1


def test_a_task_of_ones_own_is_named_by_its_file(tmp_path):
    "Whatever module the class was in when the run was made; the run's folder names no code."
    from nas_suite.front.using import _with_kind
    from nas_suite.tasks.base import kind_of

    (tmp_path / 'words_helper.py').write_text('name = "words"\n')
    (tmp_path / 'words_task.py').write_text(
        'from dataclasses import dataclass\nfrom nas_suite.tasks.base import Task\nimport words_helper\n'
        '@dataclass\nclass Size:\n    n: "int" = 1\n'
        'class Words(Task): name = words_helper.name\n'
    )
    found = _with_kind(dict(kind='__main__.Words', name='x'), str(tmp_path / 'words_task.py'))
    assert kind_of(found).name == 'words' and found['name'] == 'x'
    with pytest.raises(ValueError, match='words_task.py has no task Other; it has Words'):
        _with_kind(dict(kind='mine.Other'), str(tmp_path / 'words_task.py'))


def test_a_tasks_commands_are_a_file_of_their_own():
    "The core knows no task; whatever lies in the folder of commands is found."
    import nas_suite.front

    folder = Path(nas_suite.front.__file__).parent
    assert set(cli.commands) == {p.stem for p in (folder / 'commands').glob('*.py') if p.stem != '__init__'}
    for name in ('launch', 'options', 'using', 'networks', 'devices', 'record', 'blocks', 'figures', 'page'):
        code = (folder / f'{name}.py').read_text()
        assert not [
            w
            for w in (
                'tasks.classification',
                'tasks.segmentation',
                'tasks.speaker',
                'hasattr(task',
                'palette',
                "'front' in",
            )
            if w in code
        ], name


def test_names_of_folders(tmp_path):
    of = cli.folder_for
    assert str(of('digits', 'gated', dict(latency_ms=0.5, macs=None))) == 'runs/digits-gated-0.5ms'
    assert str(of('digits', 'gated', dict(params='4M'), 3)) == 'runs/digits-gated-4M-params-seed3'
    assert str(of('../a b/../x', 'g', {})) == 'runs/.._a_b_.._x-g'
    (tmp_path / 'photos').mkdir()
    assert str(of(f'{tmp_path}/photos/', 'gated', dict(latency_ms=2.0))) == 'runs/photos-gated-2ms'


@pytest.mark.parametrize(
    'error',
    [
        ValueError('no architecture\n  runs within 1 ms'),
        FileNotFoundError('there is no folder x'),
        ImportError('onnx is not installed'),
        PermissionError(13, 'Permission denied', 'x'),
    ],
)
def test_errors_of_the_package_are_one_line(sh, asked, error):
    def fail(*a, **k):
        raise error

    asked.answer = fail
    code, out, err = sh('search', 'classification', 'digits', '--macs', '1M')
    assert code == 2 and out == '' and err == f"nas-suite: {' '.join(str(error).split())}\n"
    for words in (
        ['--debug', 'search', 'classification', 'digits', '--macs', '1M'],
        ['search', 'classification', 'digits', '--macs', '1M', '--debug'],
    ):
        with pytest.raises(type(error)):
            cli.main(words)


def test_a_bug_is_not_hidden(asked):
    def fail(*a, **k):
        raise RuntimeError('a bug')

    asked.answer = fail
    with pytest.raises(RuntimeError):
        cli.main(['search', 'classification', 'digits', '--macs', '1M'])


def test_ctrl_c_exits_130_and_says_how_to_go_on(sh, asked):
    def stop(*a, **k):
        raise KeyboardInterrupt

    asked.answer = stop
    code, out, err = sh('search', 'classification', 'digits', '--macs', '1M')
    assert code == 130 and 'same command' in err and 'Traceback' not in err


def test_ctrl_c_in_a_real_process(tmp_path):
    code = """if True:
        import signal, sys, types, nas_suite
        signal.signal(signal.SIGINT, signal.default_int_handler) # in the background it may be ignored
        fake = types.ModuleType('nas_suite.search')
        def classification(*a, **k): print('searching', flush=True); sys.stdin.read() # until it is interrupted, or nobody is there any more
        fake.classification = classification
        sys.modules['nas_suite.search'] = nas_suite.search = fake
        from nas_suite.cli import main
        main(['search', 'classification', 'digits', '--macs', '1M'])"""
    p = subprocess.Popen(
        [sys.executable, '-c', code],
        cwd=root,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert p.stdout.readline() == 'searching\n'
    p.send_signal(signal.SIGINT)
    out, err = p.communicate()
    assert p.returncode == 130 and 'same command' in err and 'Traceback' not in err


def test_own_warnings_are_one_line_and_those_of_others_are_silent(sh, asked):
    from nas_suite.latency import BusyMachine

    answer = asked.answer

    def warn(*a, **k):
        warnings.simplefilter('always')
        warnings.warn('the machine\nis busy', BusyMachine)
        warnings.warn('old', DeprecationWarning)
        return answer(*a, **k)

    asked.answer = warn
    code, out, err = sh('search', 'classification', 'digits', '--macs', '1M')
    assert code == 0 and err == 'note: the machine is busy\n'


# ---------------------------------------------------------------- files of a run


def test_report(sh, tmp_path):
    run = finished(tmp_path / 'run')
    code, out, err = sh('report', run)
    assert code == 0 and str(run / 'report.html') in out and '90.0 %' in out and (run / 'report.html').exists()


@pytest.mark.parametrize('format', ['onnx', 'pt2', 'safetensors'])
def test_export_copies(sh, tmp_path, format):
    run, out = finished(tmp_path / 'run'), tmp_path / 'new' / 'file'
    for _ in range(2):
        assert sh('export', run, '--format', format, '--out', out)[0] == 0
    assert out.read_bytes() == f'model.{format}'.encode() and [p.name for p in out.parent.iterdir()] == ['file']
    assert sh('export', run, '-f', format, '-o', run / f'model.{format}')[0] == 2
    assert (run / f'model.{format}').read_bytes()
    assert sh('export', run, '-f', format, '-o', tmp_path)[0] == 2
    (run / f'model.{format}').unlink()
    code, _, err = sh('export', run, '-f', format, '-o', tmp_path / 'late')
    assert code == 2 and 'not finished' in err and not (tmp_path / 'late').exists()
    result = json.loads((run / 'result.json').read_text())
    (run / 'result.json').write_text(json.dumps(result | dict(formats={format: 'not written: it has no word for that'})))
    code, _, err = sh('export', run, '-f', format, '-o', tmp_path / 'late')
    assert code == 2 and 'has no word for that' in err and not (tmp_path / 'late').exists()


def test_extract_copies_the_network_that_was_found(sh, tmp_path):
    run, out = finished(tmp_path / 'run'), tmp_path / 'net'
    assert sh('extract', run, '--out', out)[0] == 0
    assert sorted(p.name for p in out.iterdir()) == ['arch.json', 'model.onnx', 'model.pt2', 'model.safetensors']
    code, _, err = sh('extract', run, '--out', out)
    assert code == 2 and 'exists already' in err
    (run / 'result.json').unlink()
    assert sh('extract', run, '--out', tmp_path / 'other')[0] == 2
    assert sorted(p.name for p in tmp_path.iterdir()) == ['net', 'run']  # no drafts are left


def test_extract_another_architecture_says_what_is_wrong(sh, tmp_path, asked):
    run = finished(tmp_path / 'run')
    assert 'there is no file' in sh('extract', run, '--arch', tmp_path / 'no.json', '--out', tmp_path / 'o')[2]
    (tmp_path / 'bad.json').write_text('{')
    assert 'is not JSON' in sh('extract', run, '--arch', tmp_path / 'bad.json', '--out', tmp_path / 'o')[2]
    (tmp_path / 'arch.json').write_text('{}')
    assert 'of your own (Mine)' in sh('extract', run, '--arch', tmp_path / 'arch.json', '--out', tmp_path / 'o')[2]
    assert not (tmp_path / 'o').exists()


def test_extract_another_architecture(sh, tmp_path, asked, monkeypatch):
    "From a supernet on disk; what is written is what the supernet computes with that architecture, apart from batch norm statistics."
    import torch
    from nas_suite.choices import sample
    from nas_suite.front.export import Written
    from nas_suite.front.origins import space_facts
    from nas_suite.tasks.classification import classification
    from nas_suite.training import save_checkpoint

    run, written = finished(tmp_path / 'run'), {}
    settings = dict(classes=10, image_size=8, in_channels=1, stem=8, first=8, widths=[8], depths=[2], last=16)
    config = json.loads((run / 'config.json').read_text())
    space = proxyless(**settings)
    (run / 'config.json').write_text(
        json.dumps(config | dict(space=space_facts(space), task=classification('digits').facts()))
    )
    save_checkpoint(run / 'search.pt', dict(space=space.state_dict(), step=1))

    def export(net, shape, folder, metadata):
        written.update(net=net, shape=shape)
        return Written(notes=dict(onnx='not written: as it is'))

    monkeypatch.setattr('nas_suite.front.export.export', export)
    arch = sample(space, generator=torch.Generator().manual_seed(0))
    (tmp_path / 'arch.json').write_text(json.dumps(arch))
    code, out, err = sh('extract', run, '--arch', tmp_path / 'arch.json', '--out', tmp_path / 'o')
    assert (code, err) == (0, 'note: model.onnx: not written: as it is\n')
    assert json.loads((tmp_path / 'o' / 'arch.json').read_text()) == arch
    assert written['shape'] == (1, 8, 8) and written['net'](torch.zeros(2, 1, 8, 8)).shape == (2, 10)
    (tmp_path / 'arch.json').write_text(json.dumps(dict(arch, nothing=1)))
    code, out, err = sh('extract', run, '--arch', tmp_path / 'arch.json', '--out', tmp_path / 'p')
    assert code == 2 and 'nothing' in err and not (tmp_path / 'p').exists()


@pytest.fixture(scope='module')
def exported(tmp_path_factory):
    "An .onnx file with a free number of samples"
    import torch

    folder = tmp_path_factory.mktemp('onnx')
    net = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3), torch.nn.BatchNorm2d(2)).eval()
    torch.onnx.export(
        net, (torch.randn(2, 1, 8, 8),), dynamo=True, verbose=False, dynamic_shapes=({0: torch.export.Dim('batch')},)
    ).save(str(folder / 'model.onnx'))
    return folder / 'model.onnx'


def test_measure_a_file_and_a_run(sh, exported, tmp_path, monkeypatch):
    import torch
    from nas_suite.front.onnx_file import OnnxFile

    net = OnnxFile(exported)
    (x,) = net.example()
    assert x.shape == (1, 1, 8, 8) and net(x)[0].shape == (1, 2, 6, 6)
    code, out, err = sh('measure', exported, '--rounds', 6, '--threads', 1, '-q')
    assert code == 0 and 'median ms' in out and 'batch 1' in out and 'threads 1' in out and 'onnxruntime' in out
    run = finished(tmp_path / 'run')
    monkeypatch.setattr(nas_suite.search, 'load', lambda folder: types.SimpleNamespace(model=torch.nn.Flatten()))
    code, out, err = sh('measure', run, '--rounds', 6, '--batch', 3, '-q')
    assert code == 0 and 'batch 3' in out
    for words, what in (
        ([run, '--backend', 'abacus'], 'abacus'),
        ([run, '--rounds', 0], ''),
        ([exported, '--backend', 'eager'], 'onnxruntime'),
        ([run / 'model.pt2'], 'would run what is in it'),
        ([run / 'model.onnx'], 'not a network'),
        ([run, '--batch', 0], 'at least 1'),
    ):
        code, out, err = sh('measure', *words, '-q')
        assert code == 2 and what in err and err.count('\n') == 1, err


# ---------------------------------------------------------------- using a network


class Use:
    "Says what is in a text"

    suffixes = ()

    def predict(self, path):
        import torch

        try:
            return dict(text=Path(path).read_text(), mask=torch.zeros(100, 100), numbers=torch.ones(2))
        except UnicodeDecodeError:
            raise ValueError(f'{path} is no text') from None

    def say(self, answer):
        return answer['text'].upper()

    def write(self, answer, stem):
        Path(f'{stem}-said.txt').write_text(answer['text'])


@pytest.fixture
def reader(monkeypatch, tmp_path):
    "A finished run whose network reads texts"
    import nas_suite.front.using

    monkeypatch.setattr(
        nas_suite.front.networks, 'using', lambda run, device, **more: nas_suite.front.using.task_facts(run) and Use()
    )
    return finished(tmp_path / 'run')


def test_a_configuration_that_is_none_is_named(sh, tmp_path):
    for name, text in dict(config='[]', result='{}').items():
        (tmp_path / f'{name}.json').write_text(text)
    (tmp_path / 'a.png').write_bytes(b'')
    code, _, err = sh('predict', tmp_path, tmp_path / 'a.png')
    assert code == 2 and 'config.json is damaged' in err and err.count('\n') == 1


def test_predict_works_for_every_task(sh, reader, tmp_path):
    texts = tmp_path / 'in'
    (texts / 'deep').mkdir(parents=True)
    (texts / 'a.txt').write_text('hello')
    (texts / 'deep' / 'b.txt').write_text('you')
    (texts / 'bad.bin').write_bytes(b'\xff\xfe\xff')
    (texts / '.hidden').write_text('x')
    code, out, err = sh('predict', reader, texts, '--out', tmp_path / 'out')
    assert (
        code == 0
        and f"{texts / 'a.txt'}       HELLO" in out
        and f"{texts / 'deep' / 'b.txt'}  YOU" in out
        and err == f"note: {texts / 'bad.bin'} is no text\n"
    )
    assert sorted(str(p.relative_to(tmp_path / 'out')) for p in (tmp_path / 'out').rglob('*.txt')) == [
        'a-said.txt',
        'deep/b-said.txt',
    ]
    code, out, err = sh('predict', reader, texts / 'a.txt', '--json')
    assert json.loads(out) == dict(
        file=str(texts / 'a.txt'), answer=dict(text='hello', mask=dict(shape=[100, 100]), numbers=[1, 1])
    )
    (tmp_path / 'a.txt').write_text('x')
    for words, what in (
        ([texts, '--out', tmp_path / 'out'], 'exists already'),
        ([texts / 'bad.bin', '--out', tmp_path / 'new'], 'none of 1 files'),
        ([texts / 'a.txt', tmp_path / 'a.txt'], 'same name'),
    ):
        code, out, err = sh('predict', reader, *words)
        assert code == 2 and what in err and not (tmp_path / 'new').exists(), err
    assert not [p for p in tmp_path.iterdir() if p.name[0] == '.']


def test_spaces(sh):
    code, out, err = sh('spaces')
    assert code == 0 and 'proxyless' in out and 'networks, 21 choices' in out


# ---------------------------------------------------------------- the demo


def test_a_finished_demo_is_shown_at_once(sh, tmp_path, monkeypatch):
    run = finished(tmp_path / 'demo')
    for n in ('baselines.json', 'report.html'):
        (run / n).write_text('[]')
    monkeypatch.setitem(sys.modules, 'nas_suite.search', None)  # importing it would fail
    code, out, err = sh('--run-dir', run, main=demo.main)
    assert code == 0 and '90.0 %' in out and str(run / 'report.html') in out


def test_the_demo_removes_only_runs(sh, tmp_path):
    (tmp_path / 'mine').mkdir()
    (tmp_path / 'mine' / 'thesis.txt').write_text('x')
    code, out, err = sh('--run-dir', tmp_path / 'mine', '--fresh', main=demo.main)
    assert code == 2 and (tmp_path / 'mine' / 'thesis.txt').exists() and err.count('\n') == 1


def test_a_demo_that_was_cut_off_keeps_its_budget(tmp_path, capsys):
    from nas_suite.latency import save_table, table

    run, space = (
        finished(tmp_path / 'demo'),
        proxyless(
            classes=10,
            image_size=8,
            in_channels=1,
            widths=(8,),
            depths=(2,),
            first=0,
            stem=8,
            last=16,
            kernels=(3,),
            expands=(2, 3),
        ),
    )
    save_table(
        clock := table(space, (1, 8, 8), rounds=3, calibrate=3, cache=tmp_path / 'cache', progress=False),
        run / 'latency.json',
    )
    again, budget = demo.clock_and_budget(run, space, (1, 8, 8), 0.6, 1)
    assert budget == 0.7 and again.entries == clock.entries


# ---------------------------------------------------------------- the report of a task of one's own

READERS = '''
from nas_suite.tasks.base import Task

class Readers(Task):
    @classmethod
    def sections(cls, run): return [('What readers say', 'all of it')]
'''


def test_a_report_finds_the_task_in_a_file(sh, tmp_path, monkeypatch):
    (file := tmp_path / 'readers_task.py').write_text(READERS)
    monkeypatch.setattr(sys, 'path', [*sys.path])
    config = json.loads((finished(tmp_path / 'run') / 'config.json').read_text())
    config['task'] |= dict(kind='readers_task.Readers', metric=dict(name='accuracy'))
    (tmp_path / 'run' / 'config.json').write_text(json.dumps(config))
    assert sh('report', tmp_path / 'run')[0] in (0, None)
    assert 'What the task adds to its reports is left out' in (tmp_path / 'run' / 'report.html').read_text()
    try:
        assert sh('report', tmp_path / 'run', '--task', file)[0] in (0, None)
    finally:
        sys.modules.pop('readers_task', None)
    assert 'What readers say' in (tmp_path / 'run' / 'report.html').read_text()


@pytest.mark.parametrize('kind,said', [('__main__.Readers', 'a class is found by the file'), ('a.Other', 'has no task Other')])
def test_a_report_refuses_a_file_with_another_task(sh, tmp_path, monkeypatch, kind, said):
    (file := tmp_path / 'more_readers_task.py').write_text(READERS)
    monkeypatch.setattr(sys, 'path', [*sys.path])
    config = json.loads((finished(tmp_path / 'run') / 'config.json').read_text())
    (tmp_path / 'run' / 'config.json').write_text(json.dumps(config | dict(task=config['task'] | dict(kind=kind))))
    code, _, err = sh('report', tmp_path / 'run', '--task', file)
    assert code == 2 and said in err and err.count('\n') == 1


# ---------------------------------------------------------------- data that have changed


def commands(group, words=()):
    "Every command of a program, by its words, with the names of its parameters."
    for name, command in group.commands.items():
        if hasattr(command, 'commands'):
            yield from commands(command, (*words, name))
        else:
            yield (*words, name), {parameter.name for parameter in command.params}


def test_every_command_that_goes_on_with_a_folder_may_go_on_with_changed_data():
    import typer

    known = dict(commands(typer.main.get_command(cli.app)))
    going_on = [words for words, names in known.items() if 'run_dir' in names]
    assert len(going_on) >= 4 and ('train-supernet',) in going_on and ('search', 'speaker') in going_on
    assert all('allow_changed_data' in known[words] for words in [*going_on, ('specialize',)])


@pytest.mark.parametrize('said', [(), ('--allow-changed-data',)])
def test_a_supernet_is_told_that_its_data_may_have_changed(sh, monkeypatch, tmp_path, said):
    from nas_suite import search

    seen = []
    monkeypatch.setattr(search, 'train_supernet', lambda *_, **more: seen.append(more) or 1 / 0)
    with pytest.raises(ZeroDivisionError):
        cli.main(['train-supernet', 'digits', '--run-dir', str(tmp_path / 'run'), *said])
    assert seen[0]['allow_changed_data'] == bool(said)


# ---------------------------------------------------------------- what pages type


def typed_lines():
    "Commands in fenced blocks of README, of the texts in docs and of notebooks, with where they stand."
    import json
    import re

    texts = {path.name: path.read_text() for path in [root / 'README.md', *(root / 'docs').glob('*.md')]}
    for path in sorted((root / 'nbs').rglob('*.ipynb')):
        if '.ipynb_checkpoints' in path.parts:
            continue
        cells = json.loads(path.read_text())['cells']
        texts[path.name] = '\n\n'.join(''.join(cell['source']) for cell in cells if cell['cell_type'] == 'markdown')
    for name, text in texts.items():
        for block in re.findall(r'^```(?:shell|bash|sh)?\n(.*?)^```', text, re.M | re.S):
            for line in block.replace('\\\n', ' ').splitlines():
                if found := re.match(r'(?:\$ )?nas-suite (?!.*(?:\.\.\.|…))(.+)', line):
                    yield name, found[1]


@pytest.mark.parametrize('page, line', list(typed_lines()))
def test_what_pages_type_can_be_typed(page, line):
    import shlex

    import typer

    command, words = typer.main.get_command(cli.app), shlex.split(line, comments=True)
    for stop in ('|', '>', '2>', '&&', '&'):
        words = words[: words.index(stop)] if stop in words else words
    while hasattr(command, 'commands') and words and not words[0].startswith('-'):
        assert words[0] in command.commands, f'{page}: there is no command {words[0]}'
        command, words = command.commands[words[0]], words[1:]
    if '--help' not in words:
        command.make_context('nas-suite', words)
