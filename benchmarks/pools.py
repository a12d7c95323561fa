"""Which operators devices like: the additive cost of FBNet's operators on each device, from the shared latencies of
5,000 networks; and random search in a device's pool against the whole space, with MACs as the score. A minute."""

import torch
from machine import write
from published import FBNet, data
from nas_suite.choices import sample
from nas_suite.costs import macs, regression
from nas_suite.strategies.fronts import hypervolume
from nas_suite.strategies.pools import pool

DEVICES = 'titan_rtx_1', '1080ti_1', 'fpga', 'eyeriss', 'pixel3', 'raspi4', 'gold_6240', 'silver_4114'


def front(space, cost, capacity, n, seed):
    "Latency and capacity of random networks."
    rows = sample(space, n, torch.Generator().manual_seed(seed))
    return capacity.batch(rows), cost.batch(rows)


def main(n=500, seeds=5):
    table, space = data('latency/help/fbnet.npz'), FBNet()
    rows, capacity = torch.from_numpy(table['arch_ops'].astype('int64')), macs(space, space.input_shape)
    operators, searches = [], []
    for device in DEVICES:
        ms = table['latency_ms'][:, table['devices'].tolist().index(device)].astype(float)
        fit = regression(space, rows, ms, name='latency_ms', unit='ms')
        found = pool(space, fit.model, capacity)
        small = found.restrict(space)
        for one in found.operators:
            operators.append(
                dict(
                    device=device,
                    r2=round(fit.r2, 3),
                    operator=one.option,
                    ms=round(one.cost, 4),
                    macs=round(one.capacity),
                    kept=one.kept,
                )
            )
        for seed in range(seeds):
            views = dict(full=space, pool=small)
            sides = {k: front(view, fit.model, capacity, n, seed) for k, view in views.items()}
            least = min(float(c.min()) for c, _ in sides.values())
            most = max(float(ms.max()) for _, ms in sides.values())
            top = max(float(c.max()) for c, _ in sides.values()) - least
            low = min(float(ms.min()) for _, ms in sides.values())
            row = {k: hypervolume(c, ms, least, most) / (top * (most - low)) for k, (c, ms) in sides.items()}
            row = {k: round(v, 4) for k, v in row.items()}
            searches.append(dict(device=device, seed=seed, options=len(found.options), **row))
        print(device, found, searches[-1], sep='\n', flush=True)
    write('pools_operators', operators)
    write('pools_search', searches)


main()
