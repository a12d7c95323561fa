"Pools of operators: what devices that were measured keep, and what the means are."

import sys
from pathlib import Path
import pytest, torch
from nas_suite.choices import choices, count, sample, structure
from nas_suite.costs import macs, params, regression
from nas_suite.spaces.mobile import proxyless
from nas_suite.strategies.pools import pool

sys.path.insert(0, str(Path(__file__).parents[1] / 'benchmarks'))
sys.path.insert(0, str(Path(__file__).parent))
from tables import path_of

ORDER = 'k3_e1 k3_e1_g2 k3_e3 k3_e6 k5_e1 k5_e1_g2 k5_e3 k5_e6'.split()
MS = {  # least squares on the shared latencies: above a skip, mean of the layers
    '1080ti_1': [0.4522, 0.5574, 0.4530, 0.4613, 0.4529, 0.5532, 0.4581, 0.4612],
    'titan_rtx_1': [0.3432, 0.4248, 0.3438, 0.3481, 0.3431, 0.4250, 0.3439, 0.3482],
    'fpga': [0.4882, 0.2783, 1.3927, 2.7496, 0.4887, 0.3043, 1.4001, 2.7671],
    'pixel3': [0.2250, 0.2603, 0.6722, 1.3757, 0.3196, 0.3611, 0.9709, 2.0115],
    'raspi4': [0.4464, 0.5035, 1.1492, 2.4862, 0.6117, 0.6657, 1.5903, 3.2465],
    'silver_4114': [1.3616, 1.5870, 1.7441, 2.5334, 1.4748, 1.6875, 1.7739, 2.5817],
}
LIKED = {
    '1080ti_1': 'skip k5_e6',
    'titan_rtx_1': 'skip k5_e6',
    'fpga': 'skip k3_e1_g2 k5_e1_g2 k5_e1 k5_e3 k5_e6',
    'pixel3': 'skip k3_e1 k5_e1 k3_e3 k5_e3 k3_e6 k5_e6',
    'raspi4': 'skip k3_e1 k5_e1 k3_e3 k5_e3 k3_e6 k5_e6',
}


@pytest.fixture(scope='module')
def fbnet():
    path_of('latency/help/fbnet.npz')
    from published import FBNet, data

    space = FBNet()
    table = data('latency/help/fbnet.npz')
    return space, table, torch.from_numpy(table['arch_ops'].astype('int64')), macs(space, space.input_shape)


@pytest.mark.parametrize('device', MS)
def test_what_devices_like(device, fbnet):
    space, table, rows, capacity = fbnet
    ms = table['latency_ms'][:, table['devices'].tolist().index(device)].astype(float)
    cost = regression(space, rows, ms, name='latency_ms', unit='ms').model
    found = pool(space, cost, capacity)
    by = {one.option: one.cost for one in found.operators}
    assert by['skip'] == 0 and [by[o] for o in ORDER] == pytest.approx(MS[device], abs=6e-5)
    assert device not in LIKED or found.options == LIKED[device].split()
    small = found.restrict(space)
    assert count(small) == len(found.options) ** 22 and count(space) == 9**22  # the space is as it was


def mobile():
    return proxyless(classes=3, image_size=8, in_channels=1, stem=8, first=0, widths=(8, 16), depths=(2, 1), last=16)


def test_the_means_are_those_of_all_networks():
    "Excess of each option over the cheapest of its choice, against means over the listed networks."
    space = mobile()
    s, cost = structure(space), params(space, space.input_shape)
    rows = torch.cartesian_prod(*(torch.arange(len(c)) for c in s.choices))
    spent, want = cost.batch(rows), {}
    for d, c in enumerate(s.choices):
        means = [float(spent[rows[:, d] == i].mean()) for i in range(len(c))]
        for i, mean in enumerate(means):
            want.setdefault(c.options[i], []).append(mean - min(means))
    for one in pool(space, cost).operators:
        assert one.cost == pytest.approx(sum(want[one.option]) / len(want[one.option]), rel=1e-9)
        assert one.places == len(want[one.option])


def test_other_roles_and_wrong_ones():
    from nas_suite.spaces.mobile import ofa_mobilenet_v3

    sizes = dict(widths=(8, 16), depths=(1, 2), kernels=(3, 5), expands=(2, 3), stem=8, first=8, last=(16, 16))
    space = ofa_mobilenet_v3(classes=3, image_size=8, in_channels=1, **sizes)
    cost = macs(space, space.input_shape)
    kernels = pool(space, cost, params(space, space.input_shape), role='kernel')
    assert [one.option for one in kernels.operators] == [3, 5] and kernels.options == [3, 5]
    small = pool(space, cost, role='kernel', within=100.0).restrict(space)  # all costs are alike
    drawn = sample(small, 20, torch.Generator().manual_seed(0))
    assert len(cost.batch(drawn)) == 20 and set(choices(small)) == set(choices(space))
    with pytest.raises(ValueError, match="no choice of this space is of the role 'colour'; they are "):
        pool(space, cost, role='colour')
