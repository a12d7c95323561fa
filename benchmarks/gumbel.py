"""Gumbel weights over all branches against two gated paths, on handwritten digits: what the derived network inherits,
and what a step costs. Each search of a seed in turn in one process, on one thread; about three CPU minutes."""

import argparse, torch
from machine import machine, write
from nas_suite.choices import encode, largest
from nas_suite.costs import macs
from nas_suite.spaces.mobile import proxyless
from nas_suite.strategies.gated import Gated
from nas_suite.strategies.gumbel import Gumbel
from nas_suite.strategies.scores import Accuracy
from nas_suite.tasks.classification import classification
from nas_suite.training import Loop


def searched(name, strategy, seed):
    "A search from new weights, and what its network inherits."
    torch.manual_seed(seed)
    task = classification('digits')
    sizes = dict(stem=8, first=0, widths=(8, 16), depths=(2, 2), last=32, bn_eps=1e-5)
    space = proxyless(classes=10, image_size=8, in_channels=1, **sizes)
    cost = macs(space, task.input_shape)
    limits = [(cost, 0.4 * cost(largest(space)))]
    loop = Loop(seed=seed, progress=False)
    spent = strategy.search(space, task, limits, loop).spent['cpu_seconds']
    arch = strategy.derive(space, limits)
    inherited = float(Accuracy(space, task, data=task.test)(encode(space, arch))[0])
    return dict(
        search=name,
        seed=seed,
        epochs=strategy.epochs,
        inherited=round(inherited, 4),
        ms=round(1000 * spent / loop.total, 1),
        cpu_s=round(spent, 1),
        used=round(cost(arch) / limits[0][1], 3),
    )


parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument('--epochs', type=int, default=15)
parser.add_argument('--seeds', type=int, default=3)
a = parser.parse_args()
torch.set_num_threads(1)
machine(threads=1)
rows = []
for seed in range(a.seeds):
    for name, make in (('gated', Gated), ('gumbel', Gumbel)):
        rows.append(searched(name, make(epochs=a.epochs), seed))
        print(rows[-1], flush=True)
    longer = round(a.epochs * rows[-1]['ms'] / rows[-2]['ms'])
    rows.append(searched('gated, as long', Gated(epochs=longer), seed))
    print(rows[-1], flush=True)
write('gumbel', rows)
