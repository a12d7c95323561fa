"""Mixed bits against uniform bits and against random mixed bits of the same bytes, on digits; half an hour.

A network in floating point; then, at the bytes of uniform 2, 3 and 4 bits, the bits of weights by the integer programme
over curvature (HAWQ), by a differentiable search (Gumbel over the mixture of quantised weights), uniform, and 20 random
mixed assignments that fill the same bytes. Each is calibrated, trained for the same few passes, and tested, over seeds.
It goes on from benchmarks/results/bits.csv. `python benchmarks/bits.py latency`: int8 against float32 by ONNX Runtime."""

import csv, sys
from pathlib import Path

import torch
from machine import machine, write
from torch import nn
from nas_suite.choices import choices, decode, largest, one_of
from nas_suite.costs import best_networks, sum_of
from nas_suite.extraction import extract
from nas_suite.latency import measure
from nas_suite.layers import integer_network
from nas_suite.spaces.mobile import ofa_mobilenet_v3, proxyless
from nas_suite.spaces.quantized import calibrate, quantize
from nas_suite.strategies.curvature import curvature_costs
from nas_suite.strategies.filling import filling
from nas_suite.strategies.gumbel import Gumbel
from nas_suite.tasks.classification import classification
from nas_suite.training import Calibration, Loop, fit

OPTIONS, UNIFORM, SEEDS, RANDOM = (1, 2, 3, 4, 6, 8), (2, 3, 4), 3, 20
FILE = Path(__file__).parent / 'results/bits.csv'


def block(i, o, stride=1):
    return [nn.Conv2d(i, o, 3, stride, 1, bias=False), nn.BatchNorm2d(o), nn.ReLU()]


def network(task, seed):
    torch.manual_seed(seed)
    body = *block(1, 8), *block(8, 16, 2), *block(16, 16), *block(16, 32, 2), *block(32, 32)
    net = nn.Sequential(*body, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 10))
    fit(net, task, epochs=20, lr=0.05, seed=seed, progress=False)
    return net.eval()


def bits_of_weights(space):
    "The bits of all weights that are searched, as a cost; and their number."
    layers = {name: space.get_submodule(name.removesuffix('.weight_bits')) for name in choices(space)}
    sizes = {name: layer.weight.numel() for name, layer in layers.items()}
    cost = sum_of(space, {n: torch.tensor(OPTIONS, dtype=torch.double) * size for n, size in sizes.items()}, 'bits')
    return cost, sum(sizes.values())


def candidates(space, task, batches, limits, bits, seed):
    "Pairs of a name and an architecture."
    yield 'uniform', {name: bits for name in choices(space)}
    costs = curvature_costs(space, lambda net, x, y: task.loss(net(x), y), batches, seed=seed)
    worth = sum_of(space, {name: -values for name, values in costs.items()}, 'worth')
    yield 'programme', decode(space, best_networks(space, worth, limits)[0].row)[0]
    strategy, searched = Gumbel(epochs=15), extract(space, {})
    strategy.search(searched, task, limits, Loop(seed, progress=False))
    yield 'differentiable', strategy.derive(searched, limits)
    for i, row in enumerate(filling(space, limits, RANDOM, seed)):
        yield f'random {i}', decode(space, row)[0]


def done():
    if not FILE.exists():
        return []
    with open(FILE, newline='') as file:
        return list(csv.DictReader(file))


def judged(space, task, arch, seed):
    "Test accuracy before and after a few passes with few bits."
    net = extract(space, arch).eval()
    before = task.evaluate(net, task.test)['accuracy']
    fit(net, task, epochs=5, lr=0.01, seed=seed, progress=False)
    return before, task.evaluate(net.eval(), task.test)['accuracy']


def mixed():
    task, rows = classification('digits'), done()
    for seed in range(SEEDS):
        net, batches = network(task, seed), Calibration(task, n=2)
        space = quantize(net, one_of(*OPTIONS), 8, ends=None, input_shape=task.input_shape)
        calibrate(space, next(iter(batches))[0])
        cost, weights = bits_of_weights(space)
        real = round(task.evaluate(net, task.test)['accuracy'], 4)
        for bits in UNIFORM:
            known = {row['name'] for row in rows if (row['seed'], row['bits']) == (str(seed), str(bits))}
            if len(known) == RANDOM + 3:
                continue
            for name, arch in candidates(space, task, batches, [(cost, bits * weights)], bits, seed):
                if name in known:
                    continue
                before, after = judged(space, task, arch, seed)
                row = dict(seed=seed, bits=bits, name=name, share=round(cost(arch) / weights / bits, 4), real=real)
                row |= dict(calibrated=round(before, 4), trained=round(after, 4), arch='/'.join(map(str, arch.values())))
                rows.append({key: str(value) for key, value in row.items()})
                write('bits', rows)


def told(stage):
    "Each budget: uniform, both searches, and where they stand among the random ones of the same seed."
    rows = [row | dict(score=float(row[stage])) for row in done()]
    for bits in UNIFORM:
        here = [row for row in rows if row['bits'] == str(bits)]
        peers = {row['seed']: [r['score'] for r in here if (r['seed'], r['name'][:6]) == (row['seed'], 'random')]
                 for row in here}  # fmt: skip
        peers = {seed: scores for seed, scores in peers.items() if len(scores) > 1}
        if not peers:
            continue
        random = torch.tensor([score for scores in peers.values() for score in scores])
        print(f'{bits} bits, {stage}: random {100 * random.mean():.2f} +- {100 * random.std():.2f}')
        for name in ('uniform', 'programme', 'differentiable'):
            each = [row for row in here if row['name'] == name and row['seed'] in peers]
            above = [sum(score < row['score'] for score in peers[row['seed']]) / len(peers[row['seed']]) for row in each]
            mean = 100 * sum(row['score'] for row in each) / len(each)
            print(f'   {name:15} {mean:.2f} %, above {100 * sum(above) / len(above):.0f} % of the random ones')


def latency():
    "int8 against float32 by ONNX Runtime, of one thread."
    torch.manual_seed(0)
    torch.set_num_threads(1)
    small = *block(3, 32), *block(32, 64, 2), *block(64, 64), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10)
    spaces = dict(
        cnn=quantize(nn.Sequential(*small).eval(), 8, input_shape=(3, 64, 64)),
        proxyless=quantize(proxyless(classes=10, image_size=96).eval(), 8),
        mobilenet_v3=quantize(ofa_mobilenet_v3(classes=10, image_size=96).eval(), 8),
    )
    rows = []
    for name, space in spaces.items():
        x = torch.randn(1, *space.input_shape)
        calibrate(space, x.repeat(8, 1, 1, 1) + 0.1 * torch.randn(8, *space.input_shape), networks=1)
        net = extract(space, largest(space))
        real = extract(quantize_none(space), largest(space))
        found = measure(dict(int8=integer_network(net, x), float32=real), x, backend='onnxruntime', threads=1)
        row = {key: round(found.median_ms(key), 3) for key in ('float32', 'int8')}
        rows.append(dict(network=name, **row, times=round(row['float32'] / row['int8'], 2)))
        print(rows[-1], flush=True)
    write('bits_latency', rows)


def quantize_none(space):
    "The same space with all layers in floating point: their bits are set to 32."
    from copy import deepcopy
    from nas_suite.layers import Bits

    new = deepcopy(space)
    for layer in new.modules():
        if isinstance(layer, Bits):
            layer.weight_bits = layer.activation_bits = 32
    return new


if __name__ == '__main__':
    machine(backend='onnxruntime' if 'latency' in sys.argv else 'eager')
    latency() if 'latency' in sys.argv else mixed()
    for stage in () if 'latency' in sys.argv else ('calibrated', 'trained'):
        told(stage)
