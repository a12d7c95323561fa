"CUDA graphs for networks that are trained alone: when they are used, what is put back, and what happens where it fails."

import warnings
import pytest, torch
from torch import nn
from torch.utils.data import TensorDataset
from nas_suite.choices import largest
from nas_suite.extraction import extract
from nas_suite.spaces.mobile import proxyless
from nas_suite.tasks.classification import classification
from nas_suite.training import Loop, NoGraph, fit, graphed, loop as loops


def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Dropout(0.5), nn.Linear(4, 2))


class Fake:
    "Stands for a graph: runs the network, and counts."

    def __init__(self, network, x, context):
        self.network, self.calls, self.context = network, 0, context
        network(x)  # a capture leaves traces

    def __call__(self, x):
        self.calls += 1
        return self.network(x)


def always(*_):
    return True


def test_a_graph_is_used_where_launches_dominate_and_leaves_no_trace():
    network, x = net(), torch.randn(8, 3)
    before, chance = {name: t.clone() for name, t in network.state_dict().items()}, torch.get_rng_state()
    found = graphed(network, x, capture=Fake, dominated=always)
    assert isinstance(found, Fake) and found.calls == 1  # it was compared
    assert all(torch.equal(t, before[name]) for name, t in network.state_dict().items())
    assert torch.equal(torch.get_rng_state(), chance) and all(p.grad is None for p in network.parameters())


def test_where_launches_do_not_dominate_nothing_is_captured():
    network, x = net(), torch.randn(8, 3)
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        assert graphed(network, x, capture=None, dominated=lambda *_: False) is network


class Wrong(Fake):
    def __call__(self, x):
        return super().__call__(x) + 1


class Detached(Fake):
    def __call__(self, x):
        return super().__call__(x.detach()) - self.network[0].weight.sum() + self.network[0].weight.sum().detach()


def fails(error):
    def capture(network, x, context):
        network(x)
        raise error

    return capture


@pytest.mark.parametrize(
    'capture,why',
    [
        (Wrong, 'as a graph it gives something else'),
        (Detached, 'as a graph it gives something else'),
        (fails(RuntimeError('operation not permitted\nwhen capturing')), 'RuntimeError: operation not permitted'),
        (fails(torch.OutOfMemoryError('out')), 'there is no memory for a graph'),
    ],
    ids=['outputs', 'gradients', 'error', 'memory'],
)
def test_where_it_fails_one_line_says_so_and_the_network_runs_plainly(capture, why):
    network, x = net(), torch.randn(8, 3)
    before = {name: t.clone() for name, t in network.state_dict().items()}
    with pytest.warns(NoGraph) as said:
        assert graphed(network, x, capture=capture, dominated=always) is network
    assert len(said) == 1 and why in str(said[0].message) and '\n' not in str(said[0].message)
    assert all(torch.equal(t, before[name]) for name, t in network.state_dict().items())


def trained(monkeypatch=None, made=None, precision='32-true'):
    "Two passes; with `made` as on a card, whose graphs are fakes and are noted there."
    torch.manual_seed(0)
    task, network = classification('digits'), nn.Sequential(nn.Flatten(), nn.Linear(64, 3), net(), nn.Linear(2, 10))
    data = TensorDataset(*(t[:24] for t in task.train.tensors))
    if made is not None:
        real = Loop.fixed

        def fixed(loop, model, x):
            loop.device = torch.device('cuda')
            real(loop, model, x)
            loop.device = torch.device('cpu')

        monkeypatch.setattr(Loop, 'fixed', fixed)
        dominated = dict(capture=lambda *of: made.append(Fake(*of)) or made[-1], dominated=always)
        monkeypatch.setattr(loops, 'graphed', lambda *of: graphed(*of, **dominated))
    fit(network, task, 2, batch_size=8, data=data, progress=False, precision=precision)
    return network.state_dict()


def test_a_training_by_graphs_ends_with_the_same_weights(monkeypatch):
    plain, made = trained(), []
    found = trained(monkeypatch, made)
    assert len(made) == 1 and made[0].calls == 1 + 6
    assert all(torch.equal(t, plain[name]) for name, t in found.items())
    context = made[0].context.keywords
    assert context['enabled'] is False and context['cache_enabled'] is False


def test_on_the_processor_nothing_is_captured(monkeypatch):
    monkeypatch.setattr(loops, 'graphed', None)  # is not called
    trained()


def on_card(precision, capture):
    torch.manual_seed(0)
    small = dict(widths=(8, 16), depths=(2, 2), first=0, stem=8, last=16, dropout=0.0)
    space = proxyless(classes=10, image_size=8, in_channels=1, **small)
    network, task = extract(space, largest(space)), classification('digits')
    with pytest.MonkeyPatch.context() as patch:
        more = dict(dominated=always) if capture else dict(dominated=lambda *_: False)
        patch.setattr(loops, 'graphed', lambda *of: graphed(*of, **more))
        history = fit(network, task, 2, device='cuda', progress=False, precision=precision, seed=1)
    return history[-1]['loss'], network.state_dict()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason='there is no card here')
@pytest.mark.parametrize('precision', ['32-true', 'bf16-mixed', '16-mixed'])
def test_a_training_by_graphs_on_a_card_is_the_plain_one(precision):
    with warnings.catch_warnings():
        warnings.simplefilter('error', NoGraph)
        (loss, weights), (other, plain) = on_card(precision, True), on_card(precision, False)
    assert loss == pytest.approx(other, rel=0.1)
    for name, t in weights.items():
        torch.testing.assert_close(t.float(), plain[name].float(), atol=0.1, rtol=0.1, msg=name)
