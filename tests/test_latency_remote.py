"Another device by files: the program runs where nas_suite cannot be imported, and a file that is not its result is an error in one line."

import ast, json, re, subprocess, sys, zipfile
import numpy as np, pytest, torch
from nas_suite import cli
from nas_suite.front import devices
from nas_suite.choices import *
from nas_suite.extraction import extract
from nas_suite.latency import FewShotPredictor, load_table, pack, runner, save_table, tables, unpack
from nas_suite.spaces.mobile import proxyless


def mobile(**more):
    torch.manual_seed(0)
    return proxyless(
        **dict(
            classes=3,
            image_size=8,
            in_channels=1,
            stem=8,
            first=0,
            widths=(8,),
            depths=(3,),
            strides=(1,),
            last=16,
            kernels=(3,),
            expands=(1, 2),
        )
        | more
    )


quick = dict(rounds=6, block_ms=0.05, progress=False)


@pytest.fixture(scope='module')
def archive(tmp_path_factory):
    return pack(mobile(), tmp_path_factory.mktemp('pack') / 'phone.zip', networks=4, **quick)


BLOCKED = """
import runpy, sys
for name in ('nas_suite', 'torch', 'scipy', 'pandas'): sys.modules[name] = None        # only Python, numpy and ONNX Runtime
%s
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name='__main__')
"""


def run(archive, *words, cwd, before=""):
    return subprocess.run(
        [sys.executable, '-c', BLOCKED % before, archive, *words], capture_output=True, text=True, cwd=cwd
    )


@pytest.fixture(scope='module')
def results(archive, tmp_path_factory):
    folder = tmp_path_factory.mktemp('device')
    done = run(archive, '--device', 'a board', cwd=folder)
    assert done.returncode == 0 and done.stdout.strip() == 'phone.json: 12 networks, 6 rounds', done.stderr
    assert [p.name for p in folder.iterdir()] == ['phone.json']  # and nothing else is written
    return folder / 'phone.json'


# ---------------------------------------------------------------- the archive


def test_what_is_packed(archive):
    with zipfile.ZipFile(archive) as z:
        m, names = json.loads(z.read('manifest.json')), z.namelist()
        assert z.read('__main__.py').decode() == runner()
    units = tables._units(mobile(), (1, 8, 8), 1)[2]
    assert {n['unit'] for n in m['networks'] if 'unit' in n} == set(units) and len(units) == 8
    archs = [n['arch'] for n in m['networks'] if 'arch' in n]
    assert len(archs) == 4 and archs[-1] == largest(mobile())
    assert sorted(names) == sorted(
        [n['file'] for n in m['networks'] + [m['reference']]] + ['manifest.json', '__main__.py']
    )
    assert all(
        re.fullmatch(r'networks/(unit-[0-9a-f]{16}|network-\d+|reference)\.onnx', n)
        for n in names
        if n.startswith('networks')
    )


def test_the_program_is_small_and_its_own():
    "It imports nothing but the standard library at the top, runs on Python 3.8, and has nothing of nas_suite in it."
    tree = ast.parse(runner(), feature_version=(3, 8))
    top = {
        a.name.split('.')[0]
        for n in ast.walk(tree)
        if isinstance(n, (ast.Import, ast.ImportFrom))
        for a in (n.names if isinstance(n, ast.Import) else [ast.alias(n.module)])
    }
    assert (
        top - set(sys.stdlib_module_names) == {'numpy', 'onnxruntime', 'torch', 'executorch'}
        and 'import nas_suite' not in runner()
        and 'from nas_suite' not in runner()
    )
    assert not re.search(
        r'extract(all)?\(|shutil|eval\(|exec\(|__import__', runner()
    )  # nothing is unpacked, nothing is run that a file says


def test_networks_in_the_archive_compute_what_ours_do(archive):
    import onnxruntime

    with zipfile.ZipFile(archive) as z:
        m = json.loads(z.read('manifest.json'))
        n = next(n for n in m['networks'] if n.get('arch') == largest(mobile()))
        session = onnxruntime.InferenceSession(z.read(n['file']), providers=['CPUExecutionProvider'])
    x = torch.randn(1, 1, 8, 8)
    with torch.no_grad():
        torch.testing.assert_close(
            torch.tensor(session.run(None, {session.get_inputs()[0].name: x.numpy()})[0]),
            extract(mobile(), n['arch']).eval()(x),
            atol=1e-5,
            rtol=1e-4,
        )


@pytest.mark.parametrize(
    'more, said',
    [
        (dict(format='tflite'), "there is no format 'tflite'; the formats are onnx, executorch"),
        (dict(batch=0), 'at least 1'),
        (dict(units=False, networks=0), 'nothing to time'),
        (dict(archs=[{'a': 1}], units=False), "a"),
    ],
)
def test_what_cannot_be_packed(tmp_path, more, said):
    with pytest.raises(ValueError, match=said):
        pack(mobile(), tmp_path / 'p.zip', **more, progress=False)
    assert not list(tmp_path.iterdir())
    (tmp_path / 'p.zip').write_text('mine')
    with pytest.raises(ValueError, match='exists already'):
        pack(mobile(), tmp_path / 'p.zip', progress=False)
    assert (tmp_path / 'p.zip').read_text() == 'mine'


# ---------------------------------------------------------------- there and back


def test_a_device_s_numbers_become_a_table(results, tmp_path):
    found, raw, space = unpack(results), json.loads(results.read_text()), mobile()
    assert found.measured.samples.shape == (6, 12) and len(found.measured.reference) == 6
    t = found.table(space)
    assert (
        t.environment['device'] == 'a board'
        and t.environment['libraries'].keys() == {'onnxruntime'}
        and (t.environment['threads'], t.environment['batch'], t.environment['backend']) == (1, 1, 'onnxruntime')
        and not t.here()
    )
    drift = np.array(raw['samples']['reference']) / np.median(raw['samples']['reference'])
    for s, ms in t.entries.items():
        assert ms == pytest.approx(np.median(np.array(raw['samples'][f'unit-{tables._id(s)}']) / drift))
    assert t.calibration['n'] == 4 and t.calibration['measured'] == [ms for _, ms in found.pairs] and len(t.spread) == 8
    again = load_table(save_table(t, tmp_path / 't.json'), space, (1, 8, 8))
    assert again(largest(space)) == t(largest(space)) and again.interval(largest(space)) == t.interval(largest(space))
    with pytest.raises(ValueError, match='lacks 1 of the 9 units'):
        found.table(mobile(expands=(1, 2, 3)))


def test_what_is_known_is_left_out(results, tmp_path):
    t, wide = unpack(results).table(mobile()), mobile(expands=(1, 2, 3))
    path = pack(wide, tmp_path / 'more.zip', networks=0, known=save_table(t, tmp_path / 't.json'), **quick)
    assert run(path, '--device', 'a board', cwd=tmp_path).returncode == 0
    found = unpack(tmp_path / 'more.json')
    assert len(found.units) == 1 and found.archs == []
    full = found.table(wide, known=t)
    assert full.entries == {**t.entries, **found.units} and full.calibration == {}


def test_whole_networks_only_are_for_a_predictor(tmp_path):
    space = mobile(expands=(1, 2, 3), depths=(4,))
    few = FewShotPredictor(space).fit(sample(space, 50, torch.Generator().manual_seed(0)))
    archs = [decode(space, sample(space, 50, torch.Generator().manual_seed(0))[i])[0] for i in few.suggest(4)]
    path = pack(space, tmp_path / 'few.zip', units=False, archs=archs, **quick)
    assert run(path, '--rounds', '7', '--threads', '2', cwd=tmp_path).returncode == 0
    found = unpack(tmp_path / 'few.json')
    assert (
        found.archs == archs and found.measured.samples.shape == (7, 4) and found.measured.environment['threads'] == 2
    )
    few.update(found.pairs)
    assert few.predict(archs)[0].min() > 0
    with pytest.raises(ValueError, match='only whole networks were packed'):
        found.table(space)


def test_the_program_says_what_is_wrong(archive, results, tmp_path):
    (tmp_path / 'phone.json').write_text('mine')
    done = run(archive, cwd=tmp_path)
    assert (
        done.returncode == 1
        and 'phone.json exists already' in done.stderr
        and (tmp_path / 'phone.json').read_text() == 'mine'
    )
    done = run(archive, '--out', 'b.json', cwd=tmp_path, before="sys.modules['onnxruntime'] = None")
    assert (
        done.returncode == 1
        and 'needs the package onnxruntime: pip install onnxruntime' in done.stderr
        and 'Traceback' not in done.stderr
    )
    broken = tmp_path / 'broken.zip'  # one network that does not run is noted
    with zipfile.ZipFile(archive) as a, zipfile.ZipFile(broken, 'w') as b:
        for n in a.namelist():
            b.writestr(n, b'no network' if n.endswith('network-1.onnx') else a.read(n))
    assert run(broken, cwd=tmp_path).returncode == 0
    with pytest.raises(
        ValueError,
        match='broken.json cannot be used: 1 of 12 networks did not run on the device, the first, network-1, because of',
    ) as e:
        unpack(tmp_path / 'broken.json')
    assert '\n' not in str(e.value)


# ---------------------------------------------------------------- files that are no results


def changed(data, change):
    out = json.loads(json.dumps(data))
    change(out)
    return out


def drop(*path):
    def f(d):
        for k in path[:-1]:
            d = d[k]
        del d[path[-1]]

    return f


def put(value, *path):
    def f(d):
        for k in path[:-1]:
            d = d[k]
        d[path[-1]] = value

    return f


DAMAGE = {
    'no format': drop('format'),
    'another': put('a', 'format'),
    'a table': put('nas_suite latency table 1', 'format'),
    'manifest': drop('manifest'),
    'manifest of another': put('x', 'manifest', 'format'),
    'manifest text': put('x', 'manifest'),
    'no samples': drop('samples'),
    'samples list': put([], 'samples'),
    'one missing': lambda d: d['samples'].pop('network-0'),
    'reference missing': lambda d: d['samples'].pop('reference'),
    'one empty': put([], 'samples', 'network-1'),
    'ragged': lambda d: d['samples']['network-2'].pop(),
    'zero': lambda d: put(0.0, 'samples', 'network-2', 0)(d),
    'negative': lambda d: put(-1.0, 'samples', 'network-2', 0)(d),
    'nan': lambda d: put(float('nan'), 'samples', 'network-2', 0)(d),
    'text': lambda d: put('fast', 'samples', 'network-2', 0)(d),
    'foreign': put([1.0] * 6, 'samples', 'unit-0'),
    'environment': drop('environment'),
    'device': drop('environment', 'device'),
    'libraries': drop('environment', 'libraries'),
    'unit changed': lambda d: put('another', 'manifest', 'networks', 0, 'unit')(d),
    'unit gone': lambda d: drop('manifest', 'networks', 0, 'unit')(d),
    'repeats': drop('repeats'),
    'batch': put('many', 'manifest', 'batch'),
    'shape': put(3, 'manifest', 'input_shape'),
    'failed': drop('failed'),
}


@pytest.mark.parametrize('what', DAMAGE)
def test_damage_is_an_error_in_one_line(results, tmp_path, what):
    (tmp_path / 'bad.json').write_text(json.dumps(changed(json.loads(results.read_text()), DAMAGE[what])))
    with pytest.raises(ValueError, match='bad.json') as e:
        unpack(tmp_path / 'bad.json')
    assert '\n' not in str(e.value) and len(str(e.value)) < 600


@pytest.mark.parametrize(
    'content',
    [b'', b'{', b'[]', b'null', b'3', b'\xff\xfe', b'PK\x03\x04', b'{"format": "nas_suite latency results 1"}'],
)
def test_other_files_are_errors_in_one_line(tmp_path, content):
    (tmp_path / 'bad.json').write_bytes(content)
    with pytest.raises(ValueError, match='bad.json') as e:
        unpack(tmp_path / 'bad.json')
    assert '\n' not in str(e.value)
    with pytest.raises(ValueError, match='there is no file'):
        unpack(tmp_path / 'nothing.json')


def test_cut_files_are_errors_in_one_line(results, tmp_path):
    text = results.read_text()
    for n in np.linspace(0, len(text) - 2, 25).astype(int):
        (tmp_path / 'bad.json').write_text(text[:n])
        with pytest.raises(ValueError, match='bad.json'):
            unpack(tmp_path / 'bad.json')


def test_names_in_a_file_are_never_paths(results, archive, tmp_path):
    "Whatever paths an archive or a file of results holds, no file but the named one is written."
    evil = tmp_path / 'evil.zip'
    with zipfile.ZipFile(archive) as a, zipfile.ZipFile(evil, 'w') as b:
        m = json.loads(a.read('manifest.json'))
        for n in a.namelist():
            if n != 'manifest.json':
                b.writestr(n, a.read(n))
        m['networks'][-1]['file'] = '../../outside.onnx'
        m['networks'][-2]['file'] = '/etc/passwd'
        b.writestr('../../outside.onnx', a.read('networks/reference.onnx'))
        b.writestr('manifest.json', json.dumps(m))
    inside = tmp_path / 'a' / 'b'
    inside.mkdir(parents=True)
    assert run(evil, cwd=inside).returncode == 0
    assert sorted(str(p.relative_to(tmp_path)) for p in tmp_path.rglob('*') if p.is_file()) == [
        'a/b/evil.json',
        'evil.zip',
    ]
    with pytest.raises(ValueError, match='did not run on the device'):
        unpack(inside / 'evil.json')  # what is not in the archive is not found on the disk


def test_few_rounds_and_wide_spreads_are_noted(results, tmp_path):
    data = json.loads(results.read_text())
    data['samples'] = {k: [1.0, 2.0, 3.0] if k == 'network-0' else [1.0, 1.0, 1.0] for k in data['samples']}
    (tmp_path / 'r.json').write_text(json.dumps(data))
    said = unpack(tmp_path / 'r.json').measured.warnings
    assert '3 rounds' in said[0] and '1 of 12 networks' in said[-1]


# ---------------------------------------------------------------- the commands


def command(*words, capsys):
    with pytest.raises(SystemExit) as e:
        cli.main(['latency', *map(str, words)])
    out = capsys.readouterr()
    return e.value.code or 0, out.out, out.err


def test_the_commands(results, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(devices, 'spaces', lambda: dict(tiny=mobile))
    code, out, err = command('unpack', results, '--space', 'tiny', '--out', tmp_path / 't.json', capsys=capsys)
    assert code == 0 and re.search(r'8 units on a board, [\d.]+ % off', out), err
    assert command('unpack', results, '--space', 'tiny', '--out', tmp_path / 't.json', capsys=capsys)[0] == 2
    code, out, err = command('check', tmp_path / 't.json', 'tiny', capsys=capsys)
    assert code == 0 and 'covers it: 8 units' in out and 'a board' in out
    monkeypatch.setattr(devices, 'spaces', lambda: dict(tiny=lambda: mobile(expands=(1, 2, 3))))
    code, out, err = command('check', tmp_path / 't.json', 'tiny', capsys=capsys)
    assert code == 2 and 'lacks 1 of the 9 units' in err and 'takes about' in err and len(err.strip().splitlines()) == 1
    code, out, err = command('compare', tmp_path / 't.json', tmp_path / 't.json', capsys=capsys)
    assert code == 0 and '8 units in both' in out and 'takes 1.00 times' in out
    code, out, err = command(
        'merge', tmp_path / 't.json', tmp_path / 't.json', '--out', tmp_path / 'm.json', capsys=capsys
    )
    assert code == 0 and (tmp_path / 'm.json').exists()
    code, out, err = command(
        'pack', 'tiny', '--no-units', '--networks', 1, '--out', tmp_path / 'p.zip', '-q', capsys=capsys
    )
    assert code == 0 and 'python p.zip' in out
    assert run(tmp_path / 'p.zip', '--rounds', '6', cwd=tmp_path).returncode == 0
    assert command('unpack', tmp_path / 'p.json', '--out', tmp_path / 'n.json', capsys=capsys)[0] == 0
    assert json.loads((tmp_path / 'n.json').read_text())['networks'][0]['arch'] == largest(mobile(expands=(1, 2, 3)))
    for words, said in (
        (('pack', 'nothing', '--out', tmp_path / 'q.zip'), "the spaces are tiny"),
        (('unpack', tmp_path / 't.json', '--out', tmp_path / 'q'), 'it is a latency table already'),
        (('unpack', tmp_path / 'p.zip', '--out', tmp_path / 'q'), 'p.zip'),
    ):
        code, out, err = command(*words, capsys=capsys)
        assert code == 2 and said in err and len(err.strip().splitlines()) == 1


def test_an_executorch_archive(tmp_path):
    pytest.importorskip('executorch.runtime', reason='the extra executorch is not installed')
    path = pack(mobile(), tmp_path / 'et.zip', units=False, networks=1, format='executorch', **quick)
    done = subprocess.run(
        [sys.executable, '-c', BLOCKED.replace("'torch', ", '') % '', path],
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    found = unpack(tmp_path / 'et.json')
    assert found.measured.environment['libraries'].keys() == {'executorch'} and found.pairs[0][1] > 0
