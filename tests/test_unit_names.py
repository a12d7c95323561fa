"Names of a latency table's units: the same whatever a version of PyTorch prints, others for other units; older files."

import json
import pytest, torch
from torch import fx, nn
from nas_suite.choices import largest
from nas_suite.latency import LatencyTable, load_table, merge, pack, save_table, tables
from nas_suite.latency.formats import Published
from nas_suite.latency.tables import published_table, signature
from nas_suite.spaces.mobile import proxyless

shape = 3, 16, 16
small = dict(classes=4, image_size=16, stem=8, first=0, widths=(8,), depths=(2,), last=16, kernels=(3,), expands=(1, 2))


def known(space):
    "A table of made-up latencies, each another."
    found = tables.units(space, shape)
    made = tables._model(space, found, {s: 1 + i / 7 for i, s in enumerate(found.nets)}, 1.1, 0.2)
    made.environment, made.input_shape = dict(device='a phone', batch=1), shape
    made.calibration = dict(scale=1.1, offset=0.2)
    first, second, *_ = made.entries
    return tables._model(space, found, made.entries, 1.1, 0.2, None), made, {first: 0.1, second: -0.2}


@pytest.fixture
def other_version(monkeypatch):
    "A PyTorch that prints its layers in another way."

    def change():
        monkeypatch.setattr(nn.BatchNorm2d, 'extra_repr', lambda m: f'{m.num_features}, eps={m.eps}, bias=True')
        monkeypatch.setattr(nn.Conv2d, 'extra_repr', lambda m: f'{m.in_channels} to {m.out_channels}, k={m.kernel_size}')
        monkeypatch.setattr(nn.Linear, 'extra_repr', lambda m: f'{m.in_features} -> {m.out_features}')

    return change


def table_of(space):
    _, made, one = known(space)
    correction = dict(units=one, pairs={tuple(one): 0.05})
    full = tables._model(space, made.found, made.entries, 1.1, 0.2, correction)
    full.environment, full.input_shape, full.calibration = made.environment, shape, made.calibration
    return full


def test_a_table_is_read_by_another_version(other_version, tmp_path):
    t = table_of(proxyless(**small))
    path = save_table(t, tmp_path / 't.json')
    other_version()
    again = load_table(path, proxyless(**small), shape)
    assert again.entries == t.entries and again.correction == t.correction
    assert again(largest(proxyless(**small))) == t(largest(proxyless(**small)))


def as_before(path):
    "A file as the first format wrote it, here and now."
    data, nets = json.loads(path.read_text()), tables.units(proxyless(**small), shape).nets
    former = {tables._id(s): tables._printed(*net) for s, net in nets.items()}
    of = {i: tables._id(name) for i, name in former.items()}
    data['entries'] = {of[i]: e | dict(unit=former[i]) for i, e in data['entries'].items()}
    correction = data['correction']
    correction['units'] = {of[i]: ms for i, ms in correction['units'].items()}
    correction['pairs'] = [[of[a], of[b], ms] for a, b, ms in correction['pairs']]
    path.write_text(json.dumps(data | dict(format='nas_suite latency table 1')))


@pytest.mark.parametrize('elsewhere', [False, True])
def test_files_of_the_first_format_are_read(elsewhere, tmp_path, monkeypatch):
    "By the name that was printed; of another version, without arguments that have their default."
    t = table_of(proxyless(**small))
    path = save_table(t, tmp_path / 't.json')
    assert json.loads(path.read_text())['format'] == 'nas_suite latency table 2'
    as_before(path)
    if elsewhere:
        norm = nn.BatchNorm2d.extra_repr
        monkeypatch.setattr(nn.BatchNorm2d, 'extra_repr', lambda m: f'{norm(m)}, bias=True, novel=True')
        monkeypatch.setattr(
            nn.Linear, 'extra_repr', lambda m: f'in_features={m.in_features}, out_features={m.out_features}'
        )
    again = load_table(path, proxyless(**small), shape)
    assert again.entries == t.entries and again.correction == t.correction
    with pytest.raises(ValueError, match='lacks 2 of the 12'):
        load_table(path, proxyless(**small | dict(expands=(1, 2, 3))), shape)
    new = save_table(t, tmp_path / 'new.json')
    both = load_table(merge([path, new], tmp_path / 'both.json'), proxyless(**small), shape)
    assert both.entries == t.entries
    packed = pack(
        proxyless(**small | dict(expands=(1, 2, 3))), tmp_path / 'p.zip', networks=0, known=path, progress=False
    )
    assert packed.is_file()


def test_ids_of_both_formats_are_keys_of_a_published_table():
    space = proxyless(**small)
    nets = tables.units(space, shape).nets
    for name in (lambda s: s, lambda s: tables._printed(*nets[s])):
        entries = {tables._id(name(s)): 1.0 + i for i, s in enumerate(nets)}
        assert list(published_table(Published(entries, 'units'), space, shape).entries.values()) == list(entries.values())


class Mine(nn.Module):
    "Prints nothing of what it was made with."

    def __init__(self, repeats, *sizes, kept=None):
        super().__init__()
        self.repeats, self.kept = repeats, kept
        self.layers = nn.ModuleList(nn.Linear(4, 4) for _ in sizes)
        self.weight = nn.Parameter(torch.zeros(sizes))
        self.register_buffer('window', torch.zeros(sizes[0]))

    def forward(self, x):
        return x * self.weight.sum()


def traced(f):
    graph = fx.Graph()
    x = graph.placeholder('x')
    graph.output(f(graph, x))
    return fx.GraphModule(nn.Module(), graph)


def double(graph, x):
    one = graph.call_function(torch.relu, (x,))
    return graph.call_function(torch.add, (one, one))


def one_more(graph, x):
    one = graph.call_function(torch.relu, (x,))
    return graph.call_function(torch.add, (one, 1))


DIFFERENT = [
    (lambda: nn.Conv2d(4, 4, 3), lambda: nn.Conv2d(4, 4, 3, bias=False)),
    (lambda: nn.Conv2d(4, 4, 3), lambda: nn.Conv2d(4, 4, 3, padding_mode='reflect')),
    (lambda: nn.LSTM(4, 4), lambda: nn.LSTM(4, 4, batch_first=True)),
    (lambda: nn.GRU(4, 4), lambda: nn.LSTM(4, 4)),
    (lambda: nn.LayerNorm(4), lambda: nn.LayerNorm(4, bias=False)),
    (lambda: nn.BatchNorm2d(4), lambda: nn.BatchNorm2d(4, affine=False)),
    (lambda: nn.Sequential(nn.ReLU(), nn.Tanh()), lambda: nn.Sequential(nn.Tanh(), nn.ReLU())),
    (lambda: nn.MultiheadAttention(8, 2), lambda: nn.MultiheadAttention(8, 4)),
    (lambda: Mine(2, 3), lambda: Mine(3, 3)),
    (lambda: Mine(2, 3), lambda: Mine(2, 4)),
    (lambda: Mine(2, 3, kept=torch.relu), lambda: Mine(2, 3, kept=torch.tanh)),
    (lambda: traced(double), lambda: traced(one_more)),  # node 1 and the number 1
]


@pytest.mark.parametrize('pair', DIFFERENT, ids=range(len(DIFFERENT)))
def test_other_units_have_other_names(pair):
    names = [[signature(make(), ((1, 4, 8, 8),)) for _ in range(2)] for make in pair]
    assert all(a == b for a, b in names) and names[0][0] != names[1][0]
    assert '0x' not in names[0][0]  # where an object lies in memory says nothing


def test_what_a_version_has_more_is_left_out(monkeypatch):
    "An argument with its default is not in a name, so that a version which lacks it has the same."
    name = "Conv2d(in_channels=3, out_channels=8, kernel_size=(3, 3), stride=(1, 1), padding=(1, 1), dilation=(1, 1), "
    assert signature(nn.Conv2d(3, 8, 3, padding=1), ((1, 3, 8, 8),)) == f'{name}weight: 8x3x3x3, bias: 8) ((1, 3, 8, 8))'
    norm = signature(nn.BatchNorm2d(8), ((1, 8, 4, 4),))
    assert norm == 'BatchNorm2d(num_features=8, weight: 8, bias: 8) ((1, 8, 4, 4))'
    assert isinstance(table_of(proxyless(**small)), LatencyTable)
