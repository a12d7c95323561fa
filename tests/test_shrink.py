"A trained network made smaller: which channels stay, what an option costs, the door and the command."
import math, warnings

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from nas_suite import search
from nas_suite.choices import choices, largest, smallest
from nas_suite.costs import macs
from nas_suite.extraction import extract
from nas_suite.front.doors.shrink import OtherClasses, for_classes
from nas_suite.latency import tables as measured
from nas_suite.spaces.importance import rank, scores
from nas_suite.spaces.searchable import searchable
from nas_suite.strategies.supernet import Supernet
from nas_suite.strategies.sensitivity import Sensitivity, losses_of, sensitivities, tried
from nas_suite.tasks.classification import classification
from nas_suite.training import fit

SHAPE = 1, 8, 8

class Residual(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width)
        self.conv2, self.bn2 = nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width)
    def forward(self, x): return F.relu(x + self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x))))))

def network(width=16, blocks=2):
    torch.manual_seed(0)
    stem = nn.Sequential(nn.Conv2d(1, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU())
    return nn.Sequential(stem, *(Residual(width) for _ in range(blocks)), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
                         nn.Linear(width, 10))

@pytest.fixture(scope='module')
def task(): return classification('digits', shared=True)

@pytest.fixture(scope='module')
def trained(task):
    net = network()
    fit(net, task, 2, progress=False)
    return net.eval()

def batches(n=2, size=16):
    generator = torch.Generator().manual_seed(1)
    return [(torch.randn(size, *SHAPE, generator=generator), torch.randint(0, 10, (size,), generator=generator))
            for _ in range(n)]

# which members stay

@pytest.mark.parametrize('score', scores)
def test_channels_that_do_nothing_go_first_and_the_largest_network_stays(score):
    net, weak = network().eval(), [1, 4, 9]
    with torch.no_grad():
        block = net[1]
        for tensor in (block.conv1.weight, block.bn1.weight, block.bn1.bias): tensor[weak] *= 1e-3
        block.conv2.weight[:, weak] *= 1e-3
    space = searchable(net, SHAPE, steps=1, depth=False)
    rank(space, score, batches(), F.cross_entropy)
    order = choices(space)['1.conv1.width'].order
    assert sorted(sorted(range(16), key=order.__getitem__)[-3:]) == weak
    x = batches()[0][0]
    with torch.no_grad(): assert torch.equal(space(x, largest(space)), net(x))

def test_smaller_networks_keep_the_best_channels_as_they_are():
    net = network().eval()
    space = searchable(net, SHAPE, steps=1, depth=False)
    choice = choices(space)['1.conv1.width']
    choice.sort(torch.arange(16.) % 5)
    small = extract(space, largest(space) | {'1.conv1.width': 4})
    best = sorted(sorted(range(16), key=choice.order.__getitem__)[:4])
    assert best == [4, 9, 14, 3] or best == sorted([4, 9, 14, 3])
    weights = {name: tensor for name, tensor in small.state_dict().items() if name.endswith('conv1.weight')}
    assert any(tensor.shape[0] == 4 and torch.equal(tensor, net[1].conv1.weight[best]) for tensor in weights.values())

def test_the_block_that_does_least_goes_first():
    net = network(blocks=3).eval()
    with torch.no_grad(): net[2].bn2.weight.zero_(), net[2].bn2.bias.zero_()
    space = searchable(net, SHAPE)
    with torch.no_grad(): own = [(x, net(x)) for x, _ in batches()]
    rank(space, 'activation', own, F.mse_loss)
    name = next(n for n in choices(space) if n.endswith('depth'))
    assert choices(space)[name].order[1] == 2
    small = extract(space, largest(space) | {name: 2})
    x = batches()[0][0]
    with torch.no_grad(): torch.testing.assert_close(small(x), net(x)) # without the block that adds nothing

def test_scores_need_what_they_need():
    space = searchable(network().eval(), SHAPE)
    with pytest.raises(ValueError, match="there is no score 'luck'; the scores are magnitude"): rank(space, 'luck')
    with pytest.raises(ValueError, match="'taylor' needs batches"): rank(space, 'taylor')
    mode = [m.training for m in space.modules()]
    rank(space, 'magnitude')
    assert mode == [m.training for m in space.modules()]

# what an option costs

def test_options_that_were_not_tried_lie_between_those_that_were_and_none_is_worth_more_than_a_larger_one():
    assert losses_of([8, 16, 24, 32], {0: .5, 2: .1, 3: 0.}).tolist() == pytest.approx([.5, .3, .1, 0.])
    assert losses_of([1, 2, 3], {0: .1, 1: .4, 2: 0.}).tolist() == pytest.approx([.4, .4, 0.])
    assert losses_of([1, 2], {0: -.3, 1: 0.}).tolist() == [0., 0.]
    assert tried([0, 1, 2, 3, 4, 5, 6], 3) == [0, 2, 5] and tried([3, 7], 3) == [3] and tried([2], 3) == []

def test_an_option_costs_what_it_costs_alone():
    space = searchable(network().eval(), SHAPE, depth=False)
    asked = []
    def loss(arch):
        asked.append(arch)
        return sum(1 - arch[name] / 16 for name in arch)
    found, top = sensitivities(space, loss, n=9), largest(space)
    assert all(len({name for name in top if arch[name] != top[name]}) <= 1 for arch in asked)
    for name, choice in choices(space).items():
        assert found[name].tolist() == pytest.approx([1 - option / 16 for option in choice.options])

def test_a_sampler_has_no_data():
    space = searchable(network().eval(), SHAPE)
    with pytest.raises(ValueError, match='needs data'): search.sample(space, Sensitivity(), dict(macs='50k'))

def test_the_given_network_stays_the_teacher():
    net = network().eval()
    space, x = searchable(net, SHAPE), batches()[0][0]
    teacher = Supernet(distill='given').teacher(space, space.state_dict())
    with torch.no_grad():
        for weight in space.parameters(): weight.add_(1)
        assert torch.equal(teacher(x, smallest(space)), net(x))

# the door

def shares(small, large) -> bool:
    "Whether each weight of a network is a part of one of another."
    numbers = torch.cat([t.flatten() for t in large.state_dict().values()])
    return all(torch.isin(p, numbers).all() for p in small.parameters())

def test_a_given_network_that_was_measured_within_the_budget_is_not_refused_by_a_table(task, trained, monkeypatch):
    "Under a busy machine a table of parts says more than the whole network takes."
    monkeypatch.setattr(measured.LatencyTable, 'cheapest', lambda cost: (1e9, largest(cost.structure)))
    found = search.shrink(trained, task, latency_ms=1e4, epochs=0, progress=False)
    assert found.costs['latency_ms'] < 1e4 and found.arch == largest(found.space)

def test_nothing_is_trained_in_one_shot_and_the_budget_is_met(task, trained):
    strategy = Sensitivity(0, evaluations=8, images=64, options=2)
    before = {name: tensor.clone() for name, tensor in trained.state_dict().items()}
    full = macs(searchable(trained, SHAPE), SHAPE)
    found = search.shrink(trained, task, macs=full(largest(full_space := searchable(trained, SHAPE))) / 3,
                          strategy=strategy, epochs=0, progress=False)
    assert found.costs['macs'] <= full(largest(full_space)) / 3
    assert shares(found.model, trained) and 'retrained' not in found.metrics
    assert all(torch.equal(tensor, before[name]) for name, tensor in trained.state_dict().items())

def test_tuned_and_trained_it_goes_on_where_it_was_cut_off(task, trained, tmp_path):
    how = dict(params='2k', strategy=Sensitivity(.2, evaluations=4, images=64, options=1), retrain_epochs=1,
               finalists=0, progress=False, run_dir=tmp_path/'run')
    first = search.shrink(trained, task, **how)
    again = search.shrink(trained, task, **how)
    assert first.arch == again.arch and first.costs['params'] <= 2000 and 'retrained' in again.metrics
    x = torch.randn(2, *SHAPE)
    with torch.no_grad(): assert torch.equal(first.model.eval()(x), again.model.eval()(x))
    other = network()
    with pytest.raises(ValueError, match='another run|differ'): search.shrink(other, task, **how)

def test_costs_know_which_blocks_stay(task):
    net = network(blocks=3)
    with torch.no_grad(): net[1].bn2.weight.zero_(), net[1].bn2.bias.zero_() # of all blocks the first does least
    how = dict(strategy=Sensitivity(0, evaluations=12, images=64, options=1), epochs=0, progress=False)
    found = search.shrink(net.eval(), task, params=9000, **how)
    assert found.costs['params'] == sum(p.numel() for p in found.model.parameters()) <= 9000

def test_a_network_within_the_budget_is_the_answer(task, trained):
    found = search.shrink(trained, task, macs='10M', params='1M', progress=False)
    x = torch.randn(2, *SHAPE)
    with torch.no_grad(): assert torch.allclose(found.model(x), trained(x), atol=1e-5)
    assert found.costs['params'] == sum(p.numel() for p in trained.parameters())

def test_what_is_the_answer_is_not_decided_twice(task, trained, tmp_path, monkeypatch):
    from nas_suite.front.doors import shrink as door
    how = dict(macs='10M', progress=False, run_dir=tmp_path/'run')
    first = search.shrink(trained, task, **how)
    monkeypatch.setattr(door, '_is_met', lambda *given: pytest.fail('it was decided before'))
    assert search.shrink(trained, task, **how).arch == first.arch

def test_below_the_smallest_is_said_in_a_line(task, trained):
    with pytest.raises(ValueError, match='smallest') as error: search.shrink(trained, task, macs=10, progress=False)
    assert '\n' not in str(error.value)

def test_other_classes():
    net, x = network().eval(), torch.zeros(2, *SHAPE)
    assert for_classes(net, 10, x) is net
    with pytest.warns(OtherClasses, match='5 is made anew for 3 classes'): other = for_classes(net, 3, x)
    assert other(x).shape == (2, 3) and net(x).shape == (2, 10)
    assert torch.equal(other[0][0].weight, net[0][0].weight)
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        assert torch.equal(for_classes(net, 3, x)[5].weight, for_classes(net, 3, x)[5].weight)
    pooled = nn.Sequential(nn.Conv2d(1, 4, 1), nn.AdaptiveAvgPool2d(2), nn.Flatten())
    with pytest.raises(ValueError, match='gives 16 numbers and the data have 10 classes'): for_classes(pooled, 10, x)

@pytest.mark.parametrize('wrong, said', [
    (dict(macs=math.nan), 'macs'), (dict(), 'budget'), (dict(macs='1M', epochs=-1), 'epochs'),
    (dict(macs='1M', strategy='luck'), 'luck'), (dict(macs='1M', image_size=32), 'image_size'),
    (dict(macs='1M', score='luck'), 'luck')])
def test_bad_input_is_one_line(task, trained, wrong, said):
    with pytest.raises((ValueError, TypeError), match=said): search.shrink(trained, task, **wrong, progress=False)

def test_an_example_that_the_network_does_not_take(task):
    with pytest.raises(ValueError, match='does not run on') as error:
        search.shrink(nn.Sequential(nn.Conv2d(3, 8, 3), nn.Flatten(), nn.Linear(8, 10)), task, macs='1M', progress=False)
    assert '\n' not in str(error.value).strip()

# the command

def test_the_command(tmp_path):
    from nas_suite.cli import app
    from typer.testing import CliRunner
    (tmp_path/'mine.py').write_text('from torch import nn\n\ndef make():\n    return nn.Sequential(nn.Conv2d(1, 16, 3), '
                                    'nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 10))\n\ndef no():\n'
                                    '    return 3\n')
    def run(*words): return CliRunner().invoke(app, ['shrink', *map(str, words)])
    done = run(f'{tmp_path}/mine.py:make', 'digits', '--macs', '4k', '--one-shot', '--run-dir', tmp_path/'run', '-q')
    assert done.exit_code == 0, done.output
    assert (tmp_path/'run'/'result.json').exists() and (tmp_path/'run'/'model.onnx').exists()
    for model, said in (('mine', 'file.py:function'), (f'{tmp_path}/mine.py:none', 'no function none'),
                        (f'{tmp_path}/mine.py:no', 'gives a int'), (f'{tmp_path}/nowhere.py:make', 'no file')):
        failed = run(model, 'digits', '--macs', '4k', '--run-dir', tmp_path/'other')
        assert failed.exit_code != 0 and said in f'{failed.output}{failed.exception}', model
