"""Peak memory of known networks, and does TinyNAS's statistic choose the better space?

    python benchmarks/memory.py            # the golden peaks
    python benchmarks/memory.py --space    # trains random networks of two spaces on digits, some minutes; -> results/memory.csv

The second: among widths of ProxylessNAS's space for digits, the memory of a machine (7 kB of SRAM, 40 kB of Flash) leaves
of each the networks that fit. TinyNAS takes the space whose networks have the largest mean MACs. Random networks that
fit, of the space that is taken and of the one in the middle of the ranking, are trained in the same way.
"""
import argparse
import csv
import statistics
import sys
from pathlib import Path

import torch
from torch import nn

from nas_suite.choices import decode, sample
from nas_suite.costs import allocate, chain_graph, flash, macs, memory_over_time, schedule, sram
from nas_suite.extraction import extract
from nas_suite.layers import make_divisible
from nas_suite.spaces.mobile import proxyless
from nas_suite.tasks.classification import classification
from nas_suite.training import fit

both = 'add', 'depthwise'
results = Path(__file__).parent / 'results' / 'memory.csv'
columns = 'space,mean_macs,fit,seed,sram,flash,macs,accuracy'.split(',')
limits = dict(sram=7168, flash=40_000)


def layers(i, o, kernel=1, stride=1, groups=1):
    "A convolution and its norm."
    return [nn.Conv2d(i, o, kernel, stride, kernel // 2, groups=groups), nn.BatchNorm2d(o)]


class Inverted(nn.Module):
    "An inverted residual block."
    def __init__(self, i, o, stride, expand):
        super().__init__()
        mid, self.adds = i * expand, stride == 1 and i == o
        first = [*layers(i, mid), nn.ReLU6()] if expand > 1 else []
        self.body = nn.Sequential(*first, *layers(mid, mid, 3, stride, mid), nn.ReLU6(), *layers(mid, o))
    def forward(self, x): return x + self.body(x) if self.adds else self.body(x)


def mobilenet_v2(width: float) -> nn.Module:
    "MobileNetV2 without its classifier."
    def rounded(n): return make_divisible(n * width, 8)
    channels = rounded(32)
    body = [*layers(3, channels, 3, 2), nn.ReLU6()]
    for expand, out, number, stride in ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1),
                                        (6, 160, 3, 2), (6, 320, 1, 1)):
        for n in range(number):
            body.append(Inverted(channels, rounded(out), stride if n == 0 else 1, expand))
            channels = rounded(out)
    return nn.Sequential(*body)


def golden():
    "Known peaks, in bytes."
    print(f"{'network':<26}{'in place':>12}{'plain':>12}{'known':>24}")
    for width, side, known in ((.35, 144, '290,304 / 311,040'), (1., 224, '1,404,928 / 1,505,280')):
        net = mobilenet_v2(width)
        peaks = [memory_over_time(net, (3, side, side), in_place=how).peak for how in (both, ())]
        print(f"{f'MobileNetV2 x{width} at {side}':<26}", *(f'{peak:>11,}' for peak in peaks), f'{known:>24}')
    for sizes in ((10, 40, 20, 5), (5, 3, 4, 6)):
        found = schedule(chain_graph(*sizes))
        print(f'chain {sizes}: alive {found.peak}, allocated {allocate(found).peak}')


def spaces() -> dict:
    "Widths of ProxylessNAS's space for digits: name -> space."
    found = {}
    for low in (8, 16, 24):
        for high in (16, 32, 48):
            if high < low: continue
            sizes = dict(classes=10, image_size=8, in_channels=1, stem=8, first=0, widths=(low, high), depths=(2, 2))
            found[f'{low}-{high}'] = proxyless(**sizes, last=2 * high)
    return found


def that_fit(space, n: int = 1000) -> tuple:
    "The rows of n random ones that are within the memories, and their mean MACs."
    rows = sample(space, n, torch.Generator().manual_seed(0))
    fits = (sram(space, checked=False).batch(rows) <= limits['sram'])
    fits &= flash(space, checked=False).batch(rows) <= limits['flash']
    kept = rows[fits]
    counted = macs(space, space.input_shape, checked=False).batch(kept)
    return kept, float(counted.mean()) if len(kept) else 0.


def done() -> set:
    "What the table has."
    if not results.exists(): return set()
    return {(row['space'], int(row['seed'])) for row in csv.DictReader(results.open())}


def compare(networks: int, epochs: int):
    "Train random networks of the best space and of the middle one."
    torch.set_num_threads(1)
    task, known = classification('digits'), {name: that_fit(space) for name, space in spaces().items()}
    ranked = sorted((name for name in known if len(known[name][0])), key=lambda name: -known[name][1])
    for name in ranked: print(f'{name:>8}: {len(known[name][0]):4d} of 1000 fit, mean {known[name][1]/1e3:.0f} k MACs')
    for name in (ranked[0], ranked[len(ranked) // 2]):
        rows, mean = known[name]
        for seed, arch in enumerate(decode(spaces()[name], rows[:networks])):
            if (name, seed) in done(): continue
            torch.manual_seed(seed)
            space = spaces()[name]
            net = extract(space, arch, compare=False)
            fit(net, task, epochs=epochs, seed=seed, progress=False)
            score = task.evaluate(net, task.test)[task.metric.name]
            spent = [cost(space, space.input_shape, checked=False)(arch) for cost in (sram, flash, macs)]
            note([name, round(mean), len(rows), seed, *map(int, spent), round(score, 4)])
    for name in (ranked[0], ranked[len(ranked) // 2]):
        scores = [float(row['accuracy']) for row in csv.DictReader(results.open()) if row['space'] == name]
        print(f'{name}: accuracy {statistics.mean(scores):.4f} +- {statistics.stdev(scores):.4f} of {len(scores)}')


def note(row: list):
    "Add a row to the table."
    new = not results.exists()
    with results.open('a') as file:
        writer = csv.writer(file)
        if new: writer.writerow(columns)
        writer.writerow(row)


if __name__ == '__main__':
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument('--space', action='store_true')
    asked.add_argument('--networks', type=int, default=12)
    asked.add_argument('--epochs', type=int, default=8)
    options = asked.parse_args()
    golden()
    if options.space: compare(options.networks, options.epochs)
    sys.exit(0)
