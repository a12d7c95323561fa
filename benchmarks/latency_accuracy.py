"""How well a latency table knows whole networks: random networks' predicted latency against their measured one, next to the same networks measured
twice (no table can do better) and to MACs as the predictor (the naive baseline)."""

import argparse, statistics, torch
from scipy.stats import spearmanr
from machine import machine, write
from nas_suite.choices import decode, sample
from nas_suite.costs import macs
from nas_suite.latency import affine, table
from nas_suite.spaces.mobile import proxyless

a = argparse.ArgumentParser(description=__doc__)
a.add_argument('--networks', type=int, default=40)
a.add_argument('--rounds', type=int, default=40)
a.add_argument('--batches', type=int, nargs='+', default=[1, 16])
a.add_argument('--seed', type=int, default=0)
a = a.parse_args()
torch.set_num_threads(1)
machine(threads=1)
shape, rows = (3, 32, 32), []
torch.manual_seed(a.seed)
space = proxyless(
    classes=10,
    image_size=32,
    stem=16,
    stem_stride=2,
    first=0,
    widths=(16, 24, 40),
    depths=(3, 3, 3),
    strides=(1, 2, 2),
    last=160,
)
archs = decode(
    space, sample(space, a.networks, torch.Generator().manual_seed(a.seed + 1))
)  # others than those of the calibration
n_macs = [macs(space, shape)(x) for x in archs]


def error(p, t):
    return 100 * statistics.median(abs(x - y) / y for x, y in zip(p, t))


def folds(x, y, k=5):  # least squares, each network predicted from the others
    out = [0.0] * len(x)
    for f in range(k):
        scale, offset, _ = affine(*zip(*[(u, v) for i, (u, v) in enumerate(zip(x, y)) if i % k != f]))
        for i in range(f, len(x), k):
            out[i] = scale * x[i] + offset
    return out


for batch in a.batches:
    cost = table(space, shape, batch, threads=1, seed=a.seed, progress=False)
    first, again = ([m['latency_ms'] for m in cost.measure(space, archs, rounds=a.rounds)] for _ in range(2))
    raw = [(cost(x) - cost.offset) / cost.scale for x in archs]
    found = {
        'table, calibrated': [cost(x) for x in archs],
        'sum of its units': raw,
        'MACs, fitted to these': folds(n_macs, first),
        'measured again': again,
    }
    print(
        f'batch {batch}: {len(archs)} networks of {min(first):.2f} to {max(first):.2f} ms; {len(cost.entries)} units; calibrated on 8 others: {cost.scale:.3f} x sum + {cost.offset:.3f} ms'
    )
    for name, p in found.items():
        print(f'  {name:24} Spearman {spearmanr(p, first).statistic:.3f}   median error {error(p, first):5.2f} %')
        rows += [
            dict(batch=batch, predictor=name, network=i, predicted_ms=v, measured_ms=t)
            for i, (v, t) in enumerate(zip(p, first))
        ]
write('latency_accuracy', rows)
