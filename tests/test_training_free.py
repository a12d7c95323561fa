"Scores of networks that were never trained: by hand, on networks of every kind, and searches by them."

import math, sys
from copy import deepcopy
from itertools import product
from pathlib import Path
import numpy as np, pytest, torch
from torch import nn
from torch.nn import functional as F
from nas_suite import search
from nas_suite.choices import Space, encode, one_of, random_input, sample, smallest
from nas_suite.costs import macs, params
from nas_suite.extraction import extract
from nas_suite.layers import ElasticEmbedding, ElasticLinear, Zero, make_divisible
from nas_suite.strategies.filling import filling
from nas_suite.strategies.training_free import TrainingFree, Untrained
from nas_suite.strategies.wiring import (
    AccuracyModel,
    Cell,
    accuracy_model,
    best_on_grid,
    nn_degree,
    nn_mass,
    residual_mass,
)
from nas_suite.training import Loop, degree, gradient_norm, jacobian_covariance, synflow, untrained_scores

sys.path.insert(0, str(Path(__file__).parent))
from spaces import fixed
from test_contracts import mobile, segmenter, tdnn, transformer, wide
from test_supernet import Net, landscape, space, task_for


class Tokens(Space):
    "Integers to classes, by embeddings of elastic width."
    input_shape, input_dtype = (5,), torch.long

    def __init__(self):
        super().__init__()
        width = one_of(4, 8)
        self.words, self.last = ElasticEmbedding(2, width), ElasticLinear(width, 3)

    def forward(self, x):
        return self.last(self.words(x).tanh().mean(1))


KINDS = dict(images=mobile, wide=wide, audio=tdnn, patches=transformer, pixels=segmenter, all=fixed, tokens=Tokens)


def network_and_batch(make, n=6):
    torch.manual_seed(0)
    space = make()
    network = extract(space, sample(space, generator=torch.Generator().manual_seed(0))).train()
    x = random_input(space, n, torch.Generator().manual_seed(1))
    with torch.no_grad():
        output = deepcopy(network)(x)
    return network, (x, torch.arange(output[:, 0].numel()).view_as(output[:, 0]) % output.shape[1])


@pytest.mark.parametrize('kind', KINDS)
def test_scores_of_networks_of_every_kind_leave_them_as_they_are(kind):
    network, batch = network_and_batch(KINDS[kind])
    before = deepcopy(network.state_dict())
    found = [score(network, batch) for score in untrained_scores.values()]
    assert all(isinstance(one, float) and math.isfinite(one) for one in found) and found[0] > 0
    assert found == [score(network, batch) for score in untrained_scores.values()]  # nothing is drawn
    after = network.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before) and network.training
    assert all(p.grad is None and p.requires_grad for p in network.parameters())


@pytest.mark.parametrize('dtype', [torch.float64, torch.bfloat16])
def test_scores_in_other_precisions_are_about_the_same(dtype):
    network, (x, y) = network_and_batch(mobile)
    for score in (gradient_norm, synflow):
        wanted = score(network, (x, y))
        found = score(deepcopy(network).to(dtype), (x.to(dtype), y))
        assert found == pytest.approx(wanted, rel=0.1 if dtype == torch.bfloat16 else 1e-4)


def test_the_gradient_norm_is_that_of_autograd():
    network, (x, y) = network_and_batch(mobile)
    plain = deepcopy(network)
    F.cross_entropy(plain(x), y).backward()  # it is in training mode, and drops nothing
    wanted = torch.cat([p.grad.flatten() for p in plain.parameters()]).norm()
    assert gradient_norm(network, (x, y)) == pytest.approx(float(wanted), rel=1e-5)
    frozen = deepcopy(network).requires_grad_(False)
    assert gradient_norm(frozen, (x, y)) == 0
    weight = torch.tensor([[1.0, -2.0], [0.5, 3.0]])
    line, x, y = nn.Linear(2, 2, bias=False), torch.tensor([[1.0, 2.0]]), torch.tensor([[0.0, 1.0]])
    line.weight.data.copy_(weight)
    by_hand = 2 * torch.outer((weight @ x[0]) - y[0], x[0]) / 2
    assert gradient_norm(line, (x, y), F.mse_loss) == pytest.approx(float(by_hand.norm()), rel=1e-6)


@pytest.mark.parametrize('widths', [(3, 1), (2, 5, 4), (1, 2, 3, 4, 5)])
def test_the_flow_of_a_chain_is_a_product(widths):
    layers = [nn.Linear(a, b, bias=False).double() for a, b in zip(widths, widths[1:])]
    product = torch.ones(widths[0], dtype=torch.float64)
    for layer in layers:
        product = layer.weight.detach().abs() @ product
    chain = nn.Sequential(*layers)
    wanted = len(layers) * float(product.sum())
    for x in (torch.randn(3, widths[0]).double(), torch.zeros(1, widths[0]).double()):  # data do not matter
        assert synflow(chain, (x, None)) == pytest.approx(wanted, rel=1e-12)


def test_the_flow_of_a_deep_network_does_not_overflow():
    deep = nn.Sequential(*(nn.Linear(100, 100, bias=False) for _ in range(60)))
    assert 1e38 < synflow(deep, (torch.ones(1, 100), None)) < math.inf


def test_jacobians_by_their_formula():
    n, k = 5, 1e-5
    linear, x = nn.Sequential(nn.Linear(7, 6), nn.Linear(6, 3)).double(), torch.randn(n, 7).double()
    alike = -((n - 1) * (math.log(k) + 1 / k) + math.log(n + k) + 1 / (n + k))
    assert jacobian_covariance(linear, (x, None)) == pytest.approx(alike, rel=1e-6)
    halves = nn.Sequential(nn.Linear(2, 4, bias=False), nn.ReLU(), nn.Linear(4, 1, bias=False)).double()
    halves[0].weight.data = torch.tensor([[1.0, 0], [-1, 0], [0, 1], [0, -1]]).double()
    halves[2].weight.data = torch.tensor([[1.0, 2, 3, 4]]).double()
    x = torch.tensor([[1.0, 1], [-1, 1]]).double()  # Jacobians (1, 3) and (-2, 3): centred, perfectly correlated
    assert jacobian_covariance(halves, (x, None)) == pytest.approx(
        -(math.log(2 + k) + 1 / (2 + k) + math.log(k) + 1 / k), rel=1e-6
    )
    x = torch.tensor([[1.0, 1], [-1, -1]]).double()  # (1, 3) and (-2, -4)
    assert jacobian_covariance(halves, (x, None)) == pytest.approx(
        -(math.log(2 + k) + 1 / (2 + k) + math.log(k) + 1 / k), rel=1e-6
    )
    dead = nn.Sequential(nn.Linear(2, 2), Zero(), nn.Linear(2, 1)).double()
    assert math.isnan(jacobian_covariance(dead, (x, None))) and synflow(dead, (x, None)) == float(dead[2].bias.detach().abs())
    with pytest.raises(ValueError, match='two or more; found 1'):
        jacobian_covariance(halves, (x[:1], None))
    with pytest.raises(ValueError, match='nn.Embedding; found none'):
        jacobian_covariance(halves, (torch.ones(2, 2, dtype=torch.long), None))


def test_scores_of_rows_do_not_depend_on_the_weights_of_the_space(tmp_path):
    space, task = Net(), task_for()
    rows = sample(space, 3, torch.Generator().manual_seed(0))
    for name in untrained_scores:
        first = Untrained(space, task, name, items=8)
        wanted = first(rows)
        for weight in space.parameters():
            nn.init.uniform_(weight)
        assert wanted.isfinite().all() and len(set(wanted.tolist())) >= 2
        assert torch.equal(Untrained(space, task, name, items=8)(rows), wanted)
        first.save(tmp_path / name)
        again = Untrained(space, task, name, items=8)
        again.load(tmp_path / name)
        assert again.known == first.known
    with pytest.raises(ValueError, match='the scores are gradient_norm, synflow, jacobian_covariance, degree'):
        Untrained(space, task, 'size')


def mobile_net_v2(times: float) -> float:
    "NN-Mass of the blocks with a sum of MobileNetV2."
    rows = [(1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1)]
    inputs, total = make_divisible(32 * times), 0
    for expand, width, depth, stride in rows:
        outputs = make_divisible(width * times)
        for n in range(depth):
            if inputs == outputs and (n or stride == 1):
                total += residual_mass(inputs, expand * inputs)
            inputs = outputs
    return total


def test_masses_and_degrees_are_the_known_ones():
    known = {(8, 8, 10): (0.345238, 22.095238), (8, 8, math.inf): (1, 64), (16, 8, 10): (0.178571, 22.857143)}
    known |= {(8, 16, 10): (0.164286, 21.028571), (8, 8, 0): (0, 0), (8, 2, 10): (0, 0), (8, 1, 10): (0, 0)}
    for cell, (density, mass) in known.items():
        assert Cell(*cell).density == pytest.approx(density, abs=1e-6)
        assert nn_mass([Cell(*cell)]) == pytest.approx(mass, abs=1e-6)
    assert nn_mass([Cell(8, 8, 10), Cell(16, 8, 10)]) == pytest.approx(22.095238 + 22.857143, abs=1e-6)
    assert [residual_mass(24, 144), residual_mass(32, 192), residual_mass(256, 64)] == [39, 52, 512 / 3]
    assert mobile_net_v2(1.0) == pytest.approx(1287) and mobile_net_v2(0.5) == pytest.approx(650)
    assert nn_degree([Cell(8, 8, 0)]) == 8 and nn_degree([Cell(8, 4, 0), Cell(16, 12, 0)]) == 14


class Dense(nn.Module):
    "A cell whose layers also take channels of the layer before their neighbour."

    def __init__(self, cell):
        super().__init__()
        self.links = [0, 0, *(min(cell.links, n) for n in cell.possible)]
        self.layers = nn.ModuleList(nn.Conv2d(cell.width + n, cell.width, 1) for n in self.links)

    def forward(self, x):
        before = x
        for layer, links in zip(self.layers, self.links):
            joined = torch.cat([x, before[:, :links]], 1) if links else x
            before, x = x, layer(joined)
        return x


@pytest.mark.parametrize('cell', [Cell(4, 5, 0), Cell(4, 6, 3), Cell(4, 3, 4)])
def test_the_degree_of_a_network_is_that_of_its_cell(cell):
    assert degree(Dense(cell), (torch.ones(2, 4, 3, 3), None)) == nn_degree([cell])


@pytest.mark.parametrize('known', [(1.04, 30.0, -3.0), (1.2, 2.0, -1.0), (1.0, 80.0, -6.0), (1.3, -20.0, -0.5)])
def test_the_accuracy_model_gives_back_its_constants(known):
    true, degrees = AccuracyModel(*known), np.linspace(8, 150, 25)
    found = accuracy_model(degrees, true(degrees))
    assert (found.a, found.b, found.c) == pytest.approx(known, rel=1e-6)
    assert ((np.diff(found(degrees)) > 0) == (known[1] > 0)).all()
    with pytest.raises(ValueError, match='four networks or more; found 3'):
        accuracy_model([1, 2, 3], [0.5, 0.6, 0.7])
    with pytest.raises(ValueError, match='at most 1; found 50'):
        accuracy_model([1, 2, 3, 4], [50, 60, 70, 80])


@pytest.mark.parametrize('seed', range(6))
def test_the_best_point_of_a_grid_is_that_of_exhaustive_search(seed):
    draw, n = np.random.default_rng(seed), 1 + seed % 3
    axes = [np.sort(draw.choice(np.arange(8, 200, 8), draw.integers(5, 12), replace=False)) for _ in range(n)]
    depths, phase = draw.integers(3, 10, n), draw.uniform(0, 6, n)
    model = AccuracyModel(1.03, draw.uniform(20, 80), -2.0)

    def value(x):  # with several summits where the seed is even
        rising = model((x * depths).sum(1) / depths.sum())
        return rising + 0.02 * np.sin(x / 30 + phase).sum(1) * (seed % 2 == 0)

    def work(x):
        return (9 * x**2 * depths).sum(1) + 9 * (x[:, 1:] * x[:, :-1]).sum(1)

    grid = np.array(list(product(*axes)), dtype=float)
    limits = [(work, np.quantile(work(grid), 0.4)), (lambda x: x.max(1), grid.max() * 0.8)]
    fits = np.all([cost(grid) <= most for cost, most in limits], axis=0)
    assert value(np.array([best_on_grid(value, limits, axes)]))[0] == pytest.approx(value(grid[fits]).max(), abs=1e-12)
    with pytest.raises(ValueError, match='no point of the grid'):
        best_on_grid(value, [(work, 1.0)], axes)


def test_a_search_finds_the_best_score_within_all_budgets():
    limits = [(cost, 3 * cost(smallest(space))) for cost in (macs(space, (2, 8, 8)), params(space, (2, 8, 8)))]
    at_work = search.sample(space, TrainingFree(parents=4), limits, seed=1)
    while len(at_work.told) < 60 and (archs := at_work.ask(10)):
        assert all(cost(arch) <= most for arch in archs for cost, most in limits)
        at_work.tell(archs, landscape(encode(space, archs)))
    told = [tuple(sorted(one.arch.items())) for one in at_work.told]
    assert len(told) == len(set(told)) >= 40
    assert at_work.best().score >= float(landscape(filling(space, limits, 60, seed=5)).max())


def test_a_free_search_trains_nothing_and_is_known_by_name():
    space, task = Net(), task_for()
    before, strategy = deepcopy(space.state_dict()), TrainingFree(evaluations=6, batch=3, items=4, parents=2)
    limits = [(macs(space, (2, 8, 8)), 3 * macs(space, (2, 8, 8))(smallest(space)))]
    trained = strategy.search(space, task, limits, Loop(progress=False))
    assert len(trained.history) == 6 and strategy.epochs == 0 and not strategy.keeps_weights
    assert all(torch.equal(now, before[name]) for name, now in space.state_dict().items())
    assert search.strategies()['trainingfree'] is TrainingFree
    assert TrainingFree(**strategy.config()).config() == strategy.config() != TrainingFree().config()


@pytest.mark.parametrize('setting', [dict(score='size'), dict(evaluations=0), dict(items=1), dict(parents=0),
                                     dict(mutation=0), dict(mutation=2)])  # fmt: skip
def test_settings_out_of_their_range_are_refused_by_name(setting):
    with pytest.raises(ValueError, match=next(iter(setting))):
        TrainingFree(**setting)
