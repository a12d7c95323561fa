"A network in each format: whatever it takes and gives, in each type, and what is said where a format has no word for it."

import json, math, re
import onnx, pytest, torch
from torch import nn
from nas_suite import search
from nas_suite.choices import Space, one_of
from nas_suite.front.export import NotWritten, export
from nas_suite.layers import ElasticLinear
from nas_suite.strategies.gated import Gated
from nas_suite.tasks.classification import Classification
from nas_suite.training import NotFinite
from torch.utils.data import TensorDataset


class Calls(nn.Module):
    "A linear layer, and a function of what it gives."

    def __init__(self, function, n=4):
        super().__init__()
        self.layer, self.function = nn.Linear(n, 4), function

    def forward(self, x):
        return self.function(self.layer(x))


class Scalar(nn.Module):
    "One number a sample: (B,) -> (B, 3)."

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(1, 3)

    def forward(self, x):
        return self.layer(x[:, None])


class Sequence(nn.Module):
    "A recurrent network or attention, and a dict of outputs: (B, T, 4) -> (B, 3) and (B, T, n)."

    def __init__(self, kind):
        super().__init__()
        self.kind = kind
        self.body = nn.MultiheadAttention(4, 2, batch_first=True) if kind is None else kind(4, 5, batch_first=True)
        self.head = nn.Linear(4 if kind is None else 5, 3)

    def forward(self, x):
        y, _ = self.body(x, x, x) if self.kind is None else self.body(x)
        return dict(answer=self.head(y.mean(1)), steps=y, classes=3)


class Passes(nn.Module):
    def forward(self, x):
        return dict(x=x, y=x + 1)


words = lambda: nn.Sequential(nn.Embedding(9, 4), nn.Flatten(), nn.Linear(4 * 3, 2))
conv = lambda: nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(2 * 9, 3))
volumes = lambda: nn.Sequential(nn.Conv3d(1, 2, 2), nn.Flatten(), nn.Linear(16, 3))
single = r'in single precision: ONNX Runtime: .*'
WRITTEN = {  # name -> how a network is made, what it takes, the names of its outputs, and what is said of ONNX
    'a number': (Scalar, (), ['output'], None),
    'features': (lambda: Calls(torch.relu), (4,), ['output'], None),
    'volumes': (volumes, (1, 3, 3, 3), ['output'], None),
    'words': (words, (3,), ['output'], None),
    'words, half': (lambda: words().half(), (3,), ['output'], None),
    'half': (lambda: conv().half(), (1, 5, 5), ['output'], None),
    'bfloat16': (lambda: conv().bfloat16(), (1, 5, 5), ['output'], single),
    'double': (lambda: conv().double(), (1, 5, 5), ['output'], single),
    'large numbers': (lambda: Calls(lambda y: y * 1e6), (4,), ['output'], None),
    'LSTM': (lambda: Sequence(nn.LSTM), (3, 4), ['answer', 'steps'], None),
    'GRU': (lambda: Sequence(nn.GRU), (3, 4), ['answer', 'steps'], None),
    'attention': (lambda: Sequence(None), (3, 4), ['answer', 'steps'], None),
    'one tensor twice': (lambda: Calls(lambda y: dict(a=y, b=[y, None])), (4,), ['a', 'b.0'], None),
    'the input itself': (Passes, (4,), ['x', 'y'], None),
    'no operator': (lambda: Calls(torch.special.i1), (4,), None, 'not written: ONNX has no operator for .*i1'),
    'batches of two': (lambda: Calls(lambda y: y.reshape(2, -1)), (4,), ['output'], 'takes one sample at a time'),
}


@pytest.mark.parametrize('name', WRITTEN)
def test_each_network_is_written_as_far_as_it_can_be(tmp_path, name):
    from safetensors.torch import load_file

    make, shape, outputs, said = WRITTEN[name]
    model = make().eval()
    (tmp_path / 'model.onnx').write_text('of another time')
    written = export(model, shape, tmp_path)
    assert re.match(said or '$', written.notes.get('onnx', '')) and written.notes.keys() <= {'onnx', 'pt2'}
    assert (tmp_path / 'model.pt2').exists()
    assert all(torch.equal(t, model.state_dict()[n]) for n, t in load_file(tmp_path / 'model.safetensors').items())
    if outputs is None:
        assert written.difference is None and not (tmp_path / 'model.onnx').exists()
        return
    assert written.difference <= 1e-3
    assert [o.name for o in onnx.load(tmp_path / 'model.onnx').graph.output] == outputs


def test_a_network_that_gives_no_numbers_is_none(tmp_path):
    with pytest.raises(NotFinite, match='NaN or infinite'):
        export(Calls(lambda y: y * math.nan), (4,), tmp_path)


def test_a_full_disk_is_no_matter_of_formats(tmp_path, monkeypatch):
    def full(*args, **more):
        raise OSError(28, 'No space left on device')

    monkeypatch.setattr(torch.export, 'save', full)
    with pytest.raises(OSError, match='No space left'):
        export(conv(), (1, 5, 5), tmp_path)


def test_a_network_is_tried_once(monkeypatch):
    from nas_suite.front import export as page

    calls, real = [], page.export
    monkeypatch.setattr(page, 'export', lambda *args: calls.append(args) or real(*args))
    for _ in range(2):
        net = torch.fx.symbolic_trace(Calls(lambda y: torch.erfinv(y.tanh() / 2), 7))
        with pytest.warns(page.NotWritten, match='^the smallest network as onnx: not written: ONNX has no operator'):
            page.tried(net, (7,)).warn('the smallest network as ')
    assert len(calls) == 1


class Rare(Space):
    "A function that ONNX lacks: (B, 4) -> (B, 3)."

    input_shape = (4,)

    def __init__(self):
        super().__init__()
        width = one_of(4, 8)
        self.first, self.last = ElasticLinear(4, width), ElasticLinear(width, 3)

    def forward(self, x):
        return self.last(torch.special.i1(self.first(x)))


def test_a_search_ends_with_its_result_and_says_at_once_what_will_be_missing(tmp_path, trial):
    y = torch.arange(24) % 3
    data = TensorDataset(torch.randn(24, 4) + y[:, None], y)
    task = Classification('points', data, data, data, 3, (4,))
    strategy = Gated(epochs=1, batch_size=12)
    with pytest.warns(NotWritten, match='^(model.|the smallest network as )onnx: not written: ONNX has no ') as said:
        found = search.run(Rare(), task, strategy, dict(params=60), tmp_path, retrain_epochs=1, device='cpu', progress=False)
    assert [str(w.message).split('onnx')[0] for w in said if w.category is NotWritten] == ['the smallest network as ', 'model.']
    result = json.loads((tmp_path / 'result.json').read_text())
    assert result['onnx']['difference'] is None and 'ONNX has no operator' in result['formats']['onnx']
    assert 'ONNX has no operator' in (tmp_path / 'report.html').read_text()
    assert (tmp_path / 'model.pt2').exists() and not (tmp_path / 'model.onnx').exists()
    again, x = search.load(tmp_path, Rare()).model, torch.randn(2, 4)
    assert torch.equal(again(x), found.model(x))
