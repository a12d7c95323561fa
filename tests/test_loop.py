"The loop that everything trains in: precision, processes, loggers, and what it leaves alone; the same for gated, regularized and supernet searches and for plain training."

import sys
from pathlib import Path
import pytest, torch
from torch import nn
from torch.utils.data import TensorDataset

sys.path.insert(0, str(Path(__file__).parent))
from nas_suite.choices import largest, smallest
from nas_suite.costs import macs
from nas_suite.extraction import extract
from nas_suite.strategies.gated import Gated
from nas_suite.strategies.regularized import Regularized
from nas_suite.strategies.supernet import Supernet, sandwich
from nas_suite.training import Loop, Stream, fit, load_checkpoint
from test_supernet import Net, task_for


def limits_of(space):
    cost = macs(space, space.input_shape)
    low, high = (cost(end(space)) for end in (smallest, largest))
    return [(cost, low + 0.5 * (high - low))]


def searched(strategy):
    return lambda space, task, loop: strategy.search(space, task, limits_of(space), loop).history


def fitted(space, task, loop):
    "The largest network, trained plainly, its weights put back into the space."
    net = extract(space, largest(space))
    history = fit(
        net,
        task,
        epochs=2,
        lr=0.02,
        batch_size=8,
        data=task.train,
        seed=loop.seed,
        progress=False,
        precision=loop.precision,
    )
    for name, value in net.state_dict().items():
        space.register_buffer(name.replace('.', '_') + '_fitted', value)
    return history


FOUR = {
    'gated': searched(Gated(epochs=3, batch_size=8)),
    'reinforce': searched(Gated(epochs=2, batch_size=8, gradient='reinforce')),
    'regularized': searched(Regularized(epochs=4, batch_size=8, shrinks=3)),
    'supernet': lambda space, task, loop: Supernet(sandwich(2, lr=0.02), batch_size=8).train(space, task, loop).history,
    'fit': fitted,
}


def trained(name, dtype=torch.float32, norm=False, **settings):
    "The history of a small training, and the weights it ends with."
    torch.manual_seed(0)
    space = Net(norm=norm).to(dtype)
    history = FOUR[name](space, task_for(dtype=dtype), Loop(seed=2, progress=False, **settings))
    return history, space.state_dict()


# ---------------------------------------------------------------- processes


def near(a, b):
    "Rows and weights that differ by rounding only."
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(near(a[k], b[k]) for k in a)
    if isinstance(a, list):
        return len(a) == len(b) and all(map(near, a, b))
    if isinstance(a, torch.Tensor):
        return torch.allclose(a.double(), b.double(), rtol=1e-6, atol=1e-8)
    return a == (pytest.approx(b, rel=1e-6, abs=1e-8) if isinstance(b, float) else b)


def test_parts_of_a_batch():
    data = TensorDataset(torch.arange(24.0).view(12, 2), torch.arange(12))
    augment = lambda x, y, g: (x + torch.rand(len(x), 1, generator=g), y)
    whole, parts = Stream(data, 6, 3, augment), [Stream(data, 6, 3, augment, part=(i, 3)) for i in range(3)]
    for _ in range(5):
        x, y = next(whole)
        xs, ys = zip(*map(next, parts))
        assert torch.equal(torch.cat(xs), x) and torch.equal(torch.cat(ys), y) and whole.taken == parts[0].taken
    whole.seek(2)
    parts[0].seek(2)
    assert torch.equal(next(whole)[1][:2], next(parts[0])[1]) and whole.taken == 3
    with pytest.raises(ValueError, match='a batch of 5 does not divide into 2 processes'):
        Stream(data, 5, part=(0, 2))
    with pytest.raises(ValueError, match='empty'):
        Stream(TensorDataset(torch.zeros(0)), 5)


# ---------------------------------------------------------------- precision


@pytest.mark.parametrize('name', FOUR)
def test_half_precision(name):
    "Trains in 16 bits, keeps its weights in 32, and begins as in 32 bits does."
    (full, _), (half, weights) = trained(name, norm=True), trained(name, norm=True, precision='bf16-mixed')
    first = lambda history: torch.tensor(history[0].get('losses', history[0].get('loss')))
    assert not torch.equal(first(full), first(half)) and torch.allclose(first(full), first(half), rtol=0.1)
    assert {v.dtype for v in weights.values()} <= {torch.float32, torch.float64, torch.bool, torch.int64}
    assert all(v.isfinite().all() for v in weights.values())


def test_precisions_are_named():
    with pytest.raises(ValueError, match="no precision 'double'; the precisions are 32-true, bf16-mixed, 16-mixed"):
        Loop(precision='double')


# ---------------------------------------------------------------- what it notes, and what it leaves alone


def toy(loop, steps=10, part=None, cut=None):
    "A line, by a loop."
    net = loop.place(nn.Sequential(nn.Linear(2, 1), nn.Dropout(0.5)))
    data = TensorDataset(torch.randn(12, 2, generator=torch.Generator().manual_seed(0)), torch.ones(12, 1))
    optimizer, train = torch.optim.SGD(net.parameters(), 0.1, momentum=0.9), loop.stream(data, 4)
    loop.resume(dict(net=net, opt=optimizer), seen=0)
    for step in loop.steps(steps):
        if step == cut:
            raise InterruptedError
        x, y = next(train)
        loss = (loop.run(x, net) - y).square().mean()
        loop.descend(loss, optimizer)
        loop.values['seen'] += len(x)
        if loop.due(5):
            loop.note(dict(step=step, loss=loss, both=torch.stack([loss, 2 * loss]), parts=dict(a=1.0, b='x')))
    return net


def test_what_is_noted():
    seen, logged = [], []

    class Logger:
        def log_metrics(self, metrics, step):
            logged.append((step, metrics))

    loop = Loop(progress=False, on_step=seen.append, loggers=[Logger(), lambda row, step: logged.append((step, row))])
    toy(loop)
    assert seen == list(range(1, 11)) and [r['step'] for r in loop.history] == [0, 2, 4, 6, 8, 9]
    row = loop.history[0]
    assert row['both'] == pytest.approx([row['loss'], 2 * row['loss']]) and row['parts'] == dict(a=1.0, b='x')
    assert len(logged) == 12 and logged[0] == logged[1] == (0, {'step': 0, 'loss': row['loss'], 'parts/a': 1.0})
    assert loop.spent['seconds'] > 0 and loop.share == 1.0


@pytest.mark.parametrize('cut', [0, 1, 5, 9])
def test_it_goes_on_where_it_was_cut_off(cut, tmp_path):
    settings = dict(seed=4, checkpoint=tmp_path / 'toy.pt', progress=False, save_s=0)
    torch.manual_seed(0)
    start = torch.get_rng_state()
    whole = Loop(4, progress=False)
    want = toy(whole).state_dict()
    torch.set_rng_state(start)
    with pytest.raises(InterruptedError):
        toy(Loop(**settings), cut=cut)
    torch.set_rng_state(start)
    rest = Loop(**settings)
    again = toy(rest).state_dict()
    assert rest.history == whole.history and rest.values == whole.values == dict(seen=40)
    assert all(torch.equal(value, again[name]) for name, value in want.items())
    saved = load_checkpoint(tmp_path / 'toy.pt')
    assert (
        saved['step'] == 10
        and saved['batches'] == [10]
        and saved['seen'] == 40
        and list(tmp_path.iterdir()) == [tmp_path / 'toy.pt']
    )


def test_global_generators_are_left_as_they_were():
    torch.manual_seed(9)
    loop = Loop(progress=False)
    net, want = nn.Linear(1, 1), torch.rand(2)
    torch.manual_seed(9)
    nn.Linear(1, 1)
    for _ in loop.steps(3):
        torch.rand(1)
    assert torch.equal(torch.rand(2), want)
