"Scores of networks that were never trained: by hand, on networks of every kind, and searches by them."

import math, sys
from copy import deepcopy
from pathlib import Path
import pytest, torch
from torch import nn
from torch.nn import functional as F
from nas_suite.choices import Space, one_of, random_input, sample
from nas_suite.extraction import extract
from nas_suite.layers import ElasticEmbedding, ElasticLinear, Zero
from nas_suite.strategies.training_free import Untrained
from nas_suite.training import gradient_norm, jacobian_covariance, synflow, untrained_scores

sys.path.insert(0, str(Path(__file__).parent))
from spaces import fixed
from test_contracts import mobile, segmenter, tdnn, transformer, wide
from test_supernet import Net, task_for


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
        assert wanted.isfinite().all() and len(set(wanted.tolist())) == 3
        assert torch.equal(Untrained(space, task, name, items=8)(rows), wanted)
        first.save(tmp_path / name)
        again = Untrained(space, task, name, items=8)
        again.load(tmp_path / name)
        assert again.known == first.known
    with pytest.raises(ValueError, match='the scores are gradient_norm, synflow, jacobian_covariance'):
        Untrained(space, task, 'size')
