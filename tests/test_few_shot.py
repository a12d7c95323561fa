"What a network's features count, and what few measurements tell."
import math, sys
from pathlib import Path
import numpy as np, pytest, torch
from torch import nn
from nas_suite.choices import decode, sample
from nas_suite.costs import count_macs, count_params
from nas_suite.extraction import extract
from nas_suite.latency.features import FEATURES, GRAPHS, KINDS, QUANTITIES, features, network_features, space_features
from nas_suite.spaces.mobile import ofa_mobilenet_v3, proxyless
from nas_suite.spaces.tdnn import small_tdnn

at = FEATURES.index
def of(net, shape): return dict(zip(FEATURES, network_features(net, shape)))

# ---------------------------------------------------------------- features

def test_the_names_are_fixed():
    assert len(set(FEATURES)) == len(FEATURES) == 69 and FEATURES[:2] == ('written.dense', 'written.pointwise') and GRAPHS == ('written', 'live', 'folded')
    assert FEATURES == tuple(f'{g}.{q}' for g in GRAPHS for q in QUANTITIES)

SPACES = dict(proxyless=lambda: proxyless(classes=10, image_size=16, stem=8, first=0, widths=(8, 16), depths=(2, 2), last=32),
              ofa=lambda: ofa_mobilenet_v3(classes=10, image_size=32, width=.5), tdnn=small_tdnn)
@pytest.mark.parametrize('name', SPACES)
def test_a_space_has_the_features_of_its_networks(name):
    "Tables of units sum to what is counted on the extracted network; MACs and parameters are those of PyTorch's counter."
    space = SPACES[name]()
    rows = sample(space, 4, torch.Generator().manual_seed(0))
    table = space_features(space)(rows)
    for arch,row in zip(decode(space, rows), table):
        net = extract(space, arch); own = network_features(net, space.input_shape)
        serial = [at(f'{g}.{q}') for g in GRAPHS for q in ('depth', 'critical_macs', 'critical_kernels')]
        rest = [i for i in range(len(FEATURES)) if i not in serial]
        if name != 'tdnn': # whose own forward joins and pools between its units
            np.testing.assert_allclose(row[rest], own[rest]); assert (row[serial] >= own[serial] - 1e-9).all() # units one after the other: never shorter
        else: assert all(row[at(f'live.{k}')] == own[at(f'live.{k}')] for k in ('dense', 'pointwise', 'norm', 'params', 'macs_dense', 'macs_linear'))
        assert own[at('written.params')] == count_params(net)
        assert own[[at(f'written.macs_{k}') for k in KINDS[:5]]].sum() == count_macs(net, space.input_shape)

def test_dead_and_constant_parts():
    class Net(nn.Module):
        def __init__(self): super().__init__(); self.a, self.b, self.c = nn.Conv2d(2, 2, 3, padding=1), nn.Conv2d(2, 2, 1), nn.Conv2d(2, 2, 1)
        def forward(self, x):
            self.a(x) # in vain
            return self.b(x) + self.c(torch.zeros_like(x))
    f = of(Net(), (2, 4, 4))
    assert [f[f'{g}.dense'] for g in GRAPHS] == [1, 0, 0] and [f[f'{g}.pointwise'] for g in GRAPHS] == [2, 2, 1]
    assert [f[f'{g}.kernels'] for g in GRAPHS] == [4, 3, 2] and [f[f'{g}.params'] for g in GRAPHS] == [38+6+6, 12, 6]

def test_kinds():
    class Net(nn.Module):
        def __init__(self): super().__init__(); self.w, self.lin = nn.Parameter(torch.zeros(4, 2, 3, 3)), nn.Linear(16, 3)
        def forward(self, x): # a functional convolution, an unknown operation, moves and views
            y = nn.functional.conv2d(x, self.w, groups=2, padding=1)
            return self.lin(torch.cat([y, torch.cumsum(y, 1)], 1).mean((2,)).flatten(1))
    f = of(Net(), (4, 2, 2))
    assert [f[f'live.{k}'] for k in ('grouped', 'linear', 'pool', 'move', 'other', 'kernels')] == [1, 1, 1, 1, 1, 5]
    assert f['live.macs_grouped'] == 4*4*2*9 and f['live.depth'] == 3

def test_what_cannot_be_counted_says_so():
    class Loop(nn.Module):
        def forward(self, x): return x if x.sum() > 0 else -x
    with pytest.raises(ValueError, match='Loop has no features'): network_features(Loop(), (3, 4, 4))
    with pytest.raises(ValueError, match='no input_shape'): space_features(nn.Sequential(nn.Linear(2, 2)))
