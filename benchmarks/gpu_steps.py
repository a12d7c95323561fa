"""Training steps of search on a card, each beside the extracted network's own training step in the same run: a gated
weight step on a drawn path, a gated architecture step on two paths, and a supernet step of the largest, the smallest
and random networks. Time and peak memory, in benchmarks/results/gpu_steps.csv with the name of the device. Whole steps
as a search makes them: the draw, forward, backward, the optimizer, prices and alphas. At most 8 minutes on a card.

--small: images of 32 pixels, batches of 2 and narrow networks on the CPU: what is left is the time of the host, which
on a card runs ahead of it or holds it up."""

import argparse, csv, random, statistics, torch
from pathlib import Path
from torch.nn import functional as F
from machine import machine, write
from measured import clock_of, peak_bytes, ratio, timed
from nas_suite.choices import Selection, decode, encode, largest, sample, smallest, structure
from nas_suite.costs import LatencyAwareLoss, macs
from nas_suite.extraction import extract
from nas_suite.relaxation import draw_path
from nas_suite.spaces.mobile import ofa_mobilenet_v3, proxyless
from nas_suite.spaces.tdnn import efficient_tdnn, small_tdnn
from nas_suite.strategies.gated import AlphaOptimizer, Gated
from nas_suite.strategies.steps import resting, weight_step
from nas_suite.strategies.supernet import Supernet
from nas_suite.training import Loop, image_format, seeded, sgd

CLASSES = 10


def spaces(small: bool) -> dict:
    "The spaces that are measured: name -> space."
    if small:
        image = dict(classes=CLASSES, image_size=32)
        return dict(
            gated=proxyless(0.25, **image),
            supernet=ofa_mobilenet_v3(0.25, dropout=0.0, **image),
            tdnn=small_tdnn(frames=50, embedding=CLASSES),
        )
    size = [224]
    return dict(
        gated=proxyless(classes=1000),
        supernet=ofa_mobilenet_v3(dropout=0.0, resolutions=size),
        tdnn=efficient_tdnn(embedding=CLASSES),
    )


class Bench:
    "A space on a.device, a.batch for it, and the training steps of it and of its networks."

    def __init__(self, space, batch: int, device):
        self.loop = Loop(device=device, progress=False)
        self.space, self.s, self.device = self.loop.place(space), structure(space), device
        self.form = image_format(space)
        self.x = torch.randn(batch, *space.input_shape, device=device)
        if self.x.ndim == 4:
            self.x = self.x.to(memory_format=self.form)
        self.y = torch.randint(CLASSES, (batch,), device=device)
        self.optimizer = sgd(space, 0.01, weight_decay=3e-5)

    def output(self):
        return self.loop.run(self.x, self.space)

    def loss(self):
        return F.cross_entropy(self.output(), self.y)

    def static(self, arch: dict):
        "The extracted network, and its own training step."
        network = extract(self.space, arch).to(memory_format=self.form).train()
        optimizer = sgd(network, 0.01, weight_decay=3e-5)
        return network, lambda: self.loop.descend(F.cross_entropy(self.loop.run(self.x, network), self.y), optimizer)


def path_of(bench: Bench, arch: dict) -> Selection:
    row = encode(bench.s, arch)[0].tolist()
    return Selection(zip(bench.s.choices, row), zip(bench.s.choices, bench.s.names))


def gated_steps(bench: Bench, arch: dict) -> dict:
    "A weight step on the path of an architecture, drawing another in vain, and an architecture step on two drawn paths."
    s, loop, rule, turn = bench.s, bench.loop, Gated(gradient='two'), iter(range(10**9))
    path, cost = path_of(bench, arch), macs(bench.space, bench.space.input_shape)
    prices = [LatencyAwareLoss(cost, 0.6 * cost(largest(bench.space)))]
    alphas, calm = AlphaOptimizer(s, 1e-6), resting(bench.space)

    def weight():
        draw_path(s, seeded(0, 'path', next(turn)))
        weight_step(bench.space, path, bench.loss, bench.optimizer, loop)

    def architecture():
        chance = seeded(0, 'gates', next(turn))
        rule.architecture_step(calm, bench.loss, None, prices, alphas, chance, loop, 10.0)

    return dict(weight=weight, architecture=architecture)


def supernet_step(bench: Bench, arch: dict):
    "A step of the weights of a space on one network."
    rule, s = Supernet(), bench.s

    def step():
        bench.optimizer.zero_grad(set_to_none=True)
        rule.step(bench.space, F.cross_entropy, [arch], bench.x, bench.y, loop=bench.loop, s=s)
        bench.loop.update(bench.optimizer)

    return step


def measured(bench: Bench, name: str, arch: dict, steps: dict, a) -> list:
    "A row for each step of a network: time and memory, and both as multiples of the extracted network's own step."
    network, own = bench.static(arch)
    times = timed(dict(static=own, **steps), a.rounds, clock_of(bench.device), a.seconds)
    least = peak_bytes(own, network, bench.device)
    rows = []
    for step, f in steps.items():
        memory = peak_bytes(f, bench.space, bench.device)
        rows.append(
            dict(
                step=step,
                network=name,
                ms=1e3 * statistics.median(times[step]),
                static_ms=1e3 * statistics.median(times['static']),
                time_ratio=ratio(times[step], times['static']),
                mib=memory / 2**20,
                memory_ratio=memory / least,
            )
        )
    return rows


def drawn(space, n: int) -> dict:
    "Random networks of a space, by name."
    archs = decode(space, sample(space, n, torch.Generator().manual_seed(0)))
    return {f'random {i + 1}': arch for i, arch in enumerate(archs)}


def rows_of(kind: str, space, a) -> list:
    bench, found = Bench(space, a.batch, a.device), []
    if kind == 'gated':
        for name, arch in drawn(space, a.networks).items():
            found += measured(bench, name, arch, gated_steps(bench, arch), a)
        return found
    archs = dict(largest=largest(space), smallest=smallest(space), **drawn(space, a.networks))
    for name, arch in archs.items():
        found += measured(bench, name, arch, {kind: supernet_step(bench, arch)}, a)
    return found


def summed_up(rows: list) -> list:
    "Random networks of a step as one row: means of times, and the ratio of the means."
    found = [row for row in rows if not row['network'].startswith('random')]
    for step in dict.fromkeys(row['step'] for row in rows):
        some = [row for row in rows if row['step'] == step and row not in found]
        mean = {key: statistics.mean(row[key] for row in some) for key in ('ms', 'static_ms', 'mib', 'memory_ratio')}
        found.append(dict(step=step, network='random', **mean, time_ratio=mean['ms'] / mean['static_ms']))
    return found


def kept_rows(name: str, mine: dict) -> list:
    "The rows of the table of other runs: on other devices, of other settings or versions."
    path = Path(__file__).parent / 'results' / f'{name}.csv'
    if not path.exists():
        return []
    with open(path) as file:
        return [row for row in csv.DictReader(file) if any(row[k] != str(v) for k, v in mine.items())]


def main():
    a = argparse.ArgumentParser(description=__doc__)
    a.add_argument('--device', choices=['cpu', 'cuda'], default='cuda' if torch.cuda.is_available() else 'cpu')
    a.add_argument('--small', action='store_true')
    a.add_argument('--batch', type=int)
    a.add_argument('--rounds', type=int, default=30)
    a.add_argument('--networks', type=int, default=3, help='random networks of each space')
    a.add_argument('--seconds', type=float, default=20, help='the most that the rounds of a network take')
    a.add_argument('--kinds', nargs='+', default=['gated', 'supernet', 'tdnn'])
    a.add_argument('--label', default='', help='what the rows are of, where several versions are compared')
    a = a.parse_args()
    a.batch = a.batch or (2 if a.small else 64)
    torch.set_num_threads(1)
    torch.manual_seed(0)
    random.seed(0)
    env, made = machine(device=a.device, threads=1, batch=a.batch), spaces(a.small)
    about, rows = dict(device=env['device'], small=a.small, batch=a.batch, version=a.label), []
    for kind in a.kinds:
        for row in summed_up(rows_of(kind, made.pop(kind), a)):
            rows.append(about | row)
            print(
                '{step:13} {network:9} {ms:8.2f} ms   {time_ratio:5.2f} x time   {mib:8.1f} MiB   {memory_ratio:5.2f} x memory'.format(
                    **row
                ),
                flush=True,
            )
    write('gpu_steps', kept_rows('gpu_steps', about) + rows)


if __name__ == '__main__':
    main()
