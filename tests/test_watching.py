"Watching a search, and looking into data before one."

import importlib.util
import json
import os
import re
import signal
import sys
from functools import partial

import pytest
import torch
from PIL import Image

import nas_suite.progress
from nas_suite import cli
from nas_suite.choices import largest
from nas_suite.extraction import extract
from nas_suite.front.commands.data import data_page, examples_of, looked_into
from nas_suite.front.example import example_run
from nas_suite.front.watching import Live, TensorBoard, watched
from nas_suite.strategies.gated import Gated
from nas_suite.strategies.gumbel import Gumbel
from nas_suite.strategies.probabilistic import Probabilistic
from nas_suite.training import Loop, fit, log_functions
from test_loop import FOUR, limits_of, searched
from test_supernet import Net, task_for


def test_loggers_of_the_package_are_loggers(tmp_path):
    assert log_functions([Live()])[0]({}, 0) is None
    if importlib.util.find_spec('tensorboard') is None:
        with pytest.raises(ImportError, match='pip install tensorboard'):
            TensorBoard(tmp_path)
    else:
        log_functions([TensorBoard(tmp_path)])[0]({'train/loss': 1.0}, 3)
        assert list(tmp_path.iterdir())


def test_curves_are_drawn_now_and_then():
    now, drawn = [0.0], []
    live = Live(every_s=5, clock=lambda: now[0])
    live.show = lambda: drawn.append(now[0]) or setattr(live, 'drawn', now[0])
    for step in range(20):
        now[0] = float(step)
        live.log_metrics({'train/loss': 1.0, 'rate': 0.1}, step)
    assert drawn == [0, 5, 10, 15] and list(live.series) == ['train/loss'] and len(live.figure().axes) == 1


def test_what_is_in_data_is_said(tmp_path, capsys):
    for name, tone in dict(ant=60, bee=180).items():
        for i in range(6):
            (tmp_path / 'a' / name).mkdir(parents=True, exist_ok=True)
            Image.new('RGB', (60, 48), (tone, 100, 10 * i)).save(tmp_path / 'a' / name / f'{i}.png')
    (tmp_path / 'a' / 'ant' / 'none.png').write_bytes(b'none')
    seen = looked_into(tmp_path / 'a')
    assert seen.kind == 'classification' and 'none.png cannot be read' in seen.notes[0]
    with pytest.raises(SystemExit):
        cli.main(['data', str(tmp_path / 'a'), '--out', str(tmp_path / 'examples.png')])
    said = capsys.readouterr().out
    assert 'input 3 x 48 x 48' in said and 'class   0 ant: ' in said and Image.open(tmp_path / 'examples.png').size[0] > 100
    with pytest.raises(ValueError, match="there is no task 'cats'; the tasks are classification, keywords, segmentation, several, speaker"):
        looked_into(tmp_path / 'a', 'cats')


OWN = '''
from nas_suite.tasks.base import Task

class Weights(Task):
    name, input_shape = 'weights', (1, 4)
    def __init__(self, n): self.train = self.valid = self.test = range(n)
    @classmethod
    def fits(cls, data): return float(str(data).endswith('.weights'))
    @classmethod
    def from_data(cls, data, **settings): return cls(5)
    def contents(self): return {'heaviest': '3 kg'}
'''


def test_a_task_of_ones_own_is_looked_into(tmp_path, capsys):
    (tmp_path / 'scales.py').write_text(OWN)
    for place in (f'{tmp_path}/scales.py', f'{tmp_path}/scales.py:Weights'):
        with pytest.raises(SystemExit):
            cli.main(['data', 'a.weights', '--task', place, '--page', str(tmp_path / 'page.html')])
        said = capsys.readouterr().out
        assert said.startswith('weights: weights\n') and 'train 5, learned from' in said and 'heaviest: 3 kg' in said
        assert 'items of weights are not drawn' in (tmp_path / 'page.html').read_text()
    assert looked_into('a.weights').kind == 'weights'  # its class is known now
    with pytest.raises(ValueError, match='has the tasks none'):
        (tmp_path / 'none.py').write_text('')
        looked_into('a.weights', f'{tmp_path}/none.py')


def test_a_page_of_data_lists_what_is_left_out(tmp_path):
    for i in range(6):
        for name in ('ant', 'b & c'):
            (tmp_path / name).mkdir(exist_ok=True)
            Image.new('RGB', (60 + i, 48), (60, 100, 10 * i)).save(tmp_path / name / f'{i}.png')
    for name in ('cut.png', 'bad.jpg'):
        (tmp_path / 'ant' / name).write_bytes(b'none')
    text = data_page(looked_into(tmp_path))
    assert text.count('<li>') == 2 and 'b &amp; c' in text and '<svg' in text
    assert 'pixels, the middle one' in text and 'learned from' in text


@pytest.mark.parametrize('data', ['digits', 'digit scenes', 'synthetic voices'])
def test_items_of_every_task_are_drawn(data):
    seen = looked_into(data)
    fig = examples_of(seen, 3)
    assert len(fig.axes) == 3 and all(ax.images for ax in fig.axes) and len(seen.contents) > 3


# ---------------------------------------------------------------- loggers, logs, Ctrl-C


class Kept:
    "A logger in the form that Lightning's have."

    def __init__(self):
        self.rows = []

    def log_metrics(self, metrics, step):
        self.rows.append((step, metrics))


LOOPS = FOUR | {
    'probabilistic': searched(Probabilistic(epochs=2, batch_size=8)),
    'gumbel': searched(Gumbel(epochs=2, batch_size=8)),
    'fit': lambda space, task, loop: fit(
        extract(space, largest(space)), task, epochs=2, batch_size=8, progress=False, loggers=loop.loggers
    ),
}


@pytest.mark.parametrize('name', LOOPS)
def test_every_loop_is_logged_in_numbers(name):
    torch.manual_seed(0)
    kept = Kept()
    history = LOOPS[name](Net(), task_for(), Loop(progress=False, loggers=[kept]))
    assert kept.rows and len(kept.rows) == len(history) and kept.rows == sorted(kept.rows, key=lambda row: row[0])
    assert all(isinstance(value, (int, float)) for _, row in kept.rows for value in row.values())
    assert any('loss' in key for _, row in kept.rows for key in row)


def test_what_tensorboard_reads_back(tmp_path):
    pytest.importorskip('tensorboard', reason='TensorBoard is not installed')
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    torch.manual_seed(0)
    kept = Kept()
    history = LOOPS['gated'](Net(), task_for(), Loop(progress=False, loggers=[TensorBoard(tmp_path), kept]))
    read = EventAccumulator(str(tmp_path))
    read.Reload()
    assert set(read.Tags()['scalars']) == {key for _, row in kept.rows for key in row}
    for key in read.Tags()['scalars']:
        found = [(event.step, event.value) for event in read.Scalars(key)]
        assert found == [(step, pytest.approx(row[key], rel=1e-6)) for step, row in kept.rows if key in row]
    assert len(history) > 2


def test_a_report_is_written_again_while_a_run_grows(tmp_path):
    example_run(tmp_path, finished=False)
    whole = json.loads((tmp_path / 'history.json').read_text())
    (tmp_path / 'history.json').write_text(json.dumps(whole[:10]))
    waits, pages = [], []

    def later(seconds):
        waits.append(seconds)
        if len(waits) == 1:
            (tmp_path / 'history.json').write_text(json.dumps(whole))
        else:
            example_run(tmp_path)

    for path in watched(tmp_path, 7, later):
        pages.append(path.read_text())
    assert waits == [7, 7] and len(pages) == 3 == len(set(pages))
    assert ['has not finished' in page for page in pages] == [True, True, False] and 'Use it' in pages[2]


def test_a_log_file_gets_lines_and_no_bar(monkeypatch):
    end, begin = os.pipe()
    monkeypatch.setattr(sys, 'stderr', os.fdopen(begin, 'w'))
    monkeypatch.setattr(nas_suite.progress, 'Lines', partial(nas_suite.progress.Lines, every_s=0))
    Gated(epochs=2, batch_size=8).search(Net(), task_for(), limits_of(Net()), Loop())
    sys.stderr.close()
    with os.fdopen(end) as log:
        text = log.read()
    monkeypatch.undo()
    lines = text.splitlines()
    assert '\r' not in text and lines and all(re.fullmatch(r'search: step \d+ of \d+ \(\d+ %\)(, \w+ [\d.]+)*, \d+ s left', one) for one in lines)


@pytest.mark.parametrize('name', ['gated', 'regularized', 'supernet'])
def test_ctrl_c_ends_a_step_and_the_rest_is_the_same(name, tmp_path, capsys):
    def trained(**more):
        torch.manual_seed(0)
        space = Net()
        LOOPS[name](space, task_for(), Loop(seed=2, progress=False, **more))
        return space.state_dict()

    whole, kept = trained(), tmp_path / 'kept.pt'
    with pytest.raises(KeyboardInterrupt):
        trained(checkpoint=kept, save_s=1000, on_step=lambda step: step == 2 and os.kill(os.getpid(), signal.SIGINT))
    assert 'stopping at the end of this step' in capsys.readouterr().err and kept.exists()
    again = trained(checkpoint=kept)
    assert all(torch.equal(again[key], value) for key, value in whole.items())
