"Files are there whole or not at all, as anybody may read them, and killed processes leave nothing for long."

import os, stat, subprocess, sys, threading, time
import numpy as np, pytest, torch
from nas_suite.files import drafts, filling, parse_json, read_json, remove_drafts, write, write_json, writing


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture
def open_mask():
    old = os.umask(0o022)
    yield
    os.umask(old)


def test_text_and_bytes(tmp_path):
    assert (
        write(tmp_path / 'new' / 'a.txt', 'ä\n').read_bytes() == 'ä\n'.encode()
        and write(tmp_path / 'b', b'\0\1').read_bytes() == b'\0\1'
    )
    assert [p.name for p in (tmp_path / 'new').iterdir()] == ['a.txt']


def test_other_writers_keep_the_suffix(tmp_path):
    with writing(tmp_path / 'x.npz') as draft:
        np.savez(draft, x=np.arange(3))
    with writing(tmp_path / 'x.pt') as draft:
        torch.save(dict(x=1), draft)
    assert sorted(p.name for p in tmp_path.iterdir()) == ['x.npz', 'x.pt']
    assert np.load(tmp_path / 'x.npz')['x'].tolist() == [0, 1, 2] and torch.load(
        tmp_path / 'x.pt', weights_only=True
    ) == dict(x=1)


def test_permissions_are_those_of_an_ordinary_file(tmp_path, open_mask):
    path = write(tmp_path / 'a', 'x')
    assert mode(path) == 0o644
    path.chmod(0o600)
    write(path, 'y')
    assert mode(path) == 0o600
    with filling(tmp_path / 'folder') as draft:
        write(draft / 'a', 'x')
    assert mode(tmp_path / 'folder') == 0o755
    for given in (0o644, 0o640):  # a writer that puts a file of its own in the draft's place, as safetensors does
        with writing(tmp_path / 'b') as draft:
            draft.unlink()
            os.close(os.open(draft, os.O_CREAT | os.O_WRONLY, 0o600))
        assert mode(tmp_path / 'b') == given
        (tmp_path / 'b').chmod(0o640)


def test_a_link_is_followed(tmp_path):
    target = write(tmp_path / 'far' / 'a', 'x')
    (tmp_path / 'link').symlink_to(target)
    write(tmp_path / 'link', 'y')
    assert (tmp_path / 'link').is_symlink() and target.read_text() == 'y'


@pytest.mark.parametrize('error', [ValueError, KeyboardInterrupt])
def test_a_failed_write_changes_nothing(tmp_path, error):
    write(tmp_path / 'a', 'old')
    with pytest.raises(error), writing(tmp_path / 'a') as draft:
        draft.write_text('ne')
        raise error
    with pytest.raises(error), filling(tmp_path / 'b') as draft:
        write(draft / 'a', 'new')
        raise error
    assert [p.name for p in tmp_path.iterdir()] == ['a'] and (tmp_path / 'a').read_text() == 'old'


def test_what_stands_there_is_not_replaced(tmp_path):
    with pytest.raises(IsADirectoryError):
        write(tmp_path, 'x')
    write(tmp_path / 'full' / 'a', 'x')
    for taken in (tmp_path / 'full', tmp_path / 'full' / 'a'):
        with pytest.raises(ValueError, match='exists already'), filling(taken):
            pass
    (tmp_path / 'empty').mkdir()
    with filling(tmp_path / 'empty') as draft:
        write(draft / 'b', 'x')
    assert [p.name for p in (tmp_path / 'empty').iterdir()] == ['b']


def test_damaged_json_is_named(tmp_path):
    assert read_json(write_json(tmp_path / 'a.json', dict(a=[1, 2.5, None]))) == dict(a=[1, 2.5, None])
    for damaged in ('{"a":', b'\xff\xfe'):
        with pytest.raises(ValueError, match=r'a\.json is damaged .*: measure again'):
            read_json(write(tmp_path / 'a.json', damaged), 'measure again')
    with pytest.raises(FileNotFoundError):
        read_json(tmp_path / 'none.json')


@pytest.mark.parametrize(
    'text, said',
    [
        ('[' * 1_000_000, 'lie in one another'),
        ('[' * 500 + ']' * 500, 'more than 100 lists and objects lie in one another'),
        ('{"a":' * 200 + '1' + '}' * 200, 'more than 100 lists and objects lie in one another'),
        ('9' * 400, 'a number has 400 digits'),
        ('[-' + '9' * 5000 + ']', 'a number has 5001 digits'),
        ('1e999', '1e999 is no finite number'),
        ('[NaN]', 'NaN is no finite number'),
        ('-Infinity', '-Infinity is no finite number'),
        ('', 'Expecting value'),
    ],
    ids=lambda text: text[:12],
)
def test_what_no_program_can_use_is_no_json(tmp_path, text, said):
    with pytest.raises(ValueError, match=f'a.json is damaged .*{said}'):
        read_json(write(tmp_path / 'a.json', text))
    assert parse_json('\ufeff{"a": 1}'.encode()) == dict(a=1)  # with a mark of the byte order
    assert str(parse_json('[NaN, 1e999, -Infinity]', finite=False)) == '[nan, inf, -inf]'


def test_readers_see_whole_files_while_many_write(tmp_path):
    path, ended = tmp_path / 'a.json', threading.Event()
    write_json(path, list(range(1000)))

    def work():
        while not ended.is_set():
            write_json(path, list(range(1000)))

    writers = [threading.Thread(target=work) for _ in range(3)]
    for t in writers:
        t.start()
    try:
        for _ in range(100):
            assert len(read_json(path)) == 1000
    finally:
        ended.set()
        for t in writers:
            t.join()
    assert [p.name for p in tmp_path.iterdir()] == ['a.json']


def test_drafts_of_killed_processes_are_removed(tmp_path):
    code = """
import os
from nas_suite.files import filling, writing
with writing('a') as a, filling('b') as b:
    (b/'x').touch()
    a.write_text('half')
    os._exit(1)
"""
    env = os.environ | dict(PYTHONPATH=os.pathsep.join(sys.path))
    subprocess.run([sys.executable, '-c', code], cwd=tmp_path, env=env)
    left = drafts(tmp_path)
    assert len(left) == 2 and sorted(tmp_path.iterdir()) == left
    write(tmp_path / '.draft-of-a-letter', 'mine')
    with writing(tmp_path / 'c') as draft, writing(tmp_path / 'd') as other:
        foreign = other.rename(tmp_path / other.name.replace(other.name[7:13], '000000'))  # of another machine
        assert drafts(tmp_path) == left
        os.utime(foreign, (time.time() - 2 * 24 * 3600,) * 2)
        assert remove_drafts(tmp_path) == sorted([*left, foreign]) and draft.exists()
        other.touch()
    assert sorted(p.name for p in tmp_path.iterdir()) == ['.draft-of-a-letter', 'c', 'd']
