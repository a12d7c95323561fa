"Watching a search, and looking into data before one."

import importlib.util

import pytest
from PIL import Image

from nas_suite import cli
from nas_suite.front.commands.data import data_page, examples_of, looked_into
from nas_suite.front.watching import Live, TensorBoard
from nas_suite.training import log_functions


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
    with pytest.raises(ValueError, match="there is no task 'cats'; the tasks are classification, segmentation, speaker"):
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
