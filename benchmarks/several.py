"""One backbone for two tasks: what is in a picture (JPEG CIFAR-10, 32 x 32) and what each pixel is (CamVid, 180 x 240).

Batches of the two alternate. A network is counted and timed on one picture of 180 x 240, in which it answers both. All
supernets are trained by the same rule for the same passes over their data, and networks are not trained further, so that
differences are those of sharing. Under a budget of MACs, --share of the way from the smallest to the largest network:

shared      the network with both heads that evolution finds for the mean of what is right, within the budget
own         of the same weights the best network for one task alone, within the budget
other       the network that is best for the other task, with its own head
random      networks with both heads that fill the budget
alone       a supernet of one task, trained without the other: its best network within the budget
separate    the same within half of the budget: two of them cost what `shared` costs (the smallest network, where none is
            within it: its MACs say so)

Latency is that of eager PyTorch on one thread at batch 1, side by side in one measurement a seed. One row of
benchmarks/results/several.csv is one network of one seed, its metric on test data; a call goes on where the last one was
cut off, supernets included, which are kept in --folder. Needs the shared data (NAS_SUITE_SHARED, default ../shared)."""

import argparse, csv, os, tempfile, torch, warnings
from copy import deepcopy
from pathlib import Path
from machine import machine, write
from data_recipes import jpeg_npz
from nas_suite.choices import decode, encode, largest, smallest
from nas_suite.costs import macs
from nas_suite.extraction import extract
from nas_suite.latency import measure
from nas_suite.spaces.heads import mobile_heads
from nas_suite.strategies.evolution import Evolution
from nas_suite.strategies.filling import filling
from nas_suite.strategies.supernet import Supernet, sandwich
from nas_suite.tasks.base import seeded_weights
from nas_suite.tasks.classification import classification
from nas_suite.tasks.segmentation import segmentation
from nas_suite.tasks.several import several
from nas_suite.training import Loop, calibrated

shared = Path(os.environ.get('NAS_SUITE_SHARED', Path(__file__).parents[2] / 'shared')) / 'data'
a = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
a.add_argument('--seeds', type=int, nargs='+', default=[0, 1, 2])
a.add_argument('--epochs', type=float, default=20)
a.add_argument('--images', type=int, default=5000, help='of CIFAR-10, for training')
a.add_argument('--share', type=float, default=0.5)
a.add_argument('--random', type=int, default=5)
a.add_argument('--population', type=int, default=16)
a.add_argument('--generations', type=int, default=6)
a.add_argument('--out', default='several', help='name of the table in benchmarks/results')
a.add_argument('--weights', default='gradient norm', choices=['gradient norm', 'uncertainty', 'fixed'])
a.add_argument('--folder', type=Path, default=Path(tempfile.gettempdir()) / 'nas_suite-several')
a = a.parse_args()
backbone = dict(stem=16, first=16, widths=[16, 24, 40, 64], depths=[1, 2], kernels=[3, 5], expands=[3, 4])
backbone |= dict(stem_stride=2, strides=[1, 2, 2, 2])
heads = dict(
    what=dict(kind='classes', classes=10, widths=[96, 192]), where=dict(kind='pixels', classes=11, widths=[32, 64])
)
few = dict(score='accuracy', population=a.population, parents=a.population // 3, generations=a.generations, finalists=2)


def tasks(seed):
    "Both tasks: nearly all training data for the weights, the rest chooses."
    train, test = jpeg_npz.load(shared / 'cifar10_jpeg.npz', a.images, 2000)
    what = classification((train, test), name='CIFAR-10', seed=seed, shared=True, shift=4, flip=True)
    return dict(what=what, where=segmentation(shared / 'camvid', seed=seed, valid=0.15))


def trained(name, task, space, seed):
    "A supernet, whose training goes on where it was cut off."
    batch_size = 32 if name == 'what' else 8
    how = Supernet(sandwich(a.epochs, subnets=1), batch_size=batch_size)
    file = a.folder / f'{name}-{seed}-{a.epochs:g}-{a.images}.pt'
    how.train(space, task, Loop(seed, checkpoint=file, save_s=60, progress=False))
    return space


def best(space, task, most, seed):
    "The best network of a trained space within a budget of MACs; the smallest, where none is."
    cost, how = macs(space, space.input_shape), Evolution(**few)
    if most <= cost(smallest(space)):
        return smallest(space)
    how.prepare(space, task, seed, progress=False)
    return how.derive(space, [(cost, most)])


def judged(space, task, arch, seed):
    "A calibrated network, and its metric on test data."
    net = calibrated(extract(space, arch), task, task.full, seed=seed).eval()
    return net, task.evaluate(net, task.test)


def networks(seed):
    "All networks of a seed: (method, task, network, metric, MACs)."
    pair = tasks(seed)
    both = several(pair, weights=None if a.weights == 'fixed' else a.weights, batches='alternate')
    with seeded_weights(seed):
        space = mobile_heads(heads, both.input_shape[1:], backbone)
    fresh, cost = deepcopy(space), macs(space, space.input_shape)
    low, high = cost(smallest(space)), cost(largest(space))
    most = low + a.share * (high - low)
    trained('both', both, space, seed)
    archs = dict(shared=[best(space, both, most, seed)])
    archs['random'] = decode(space, filling(space, [(cost, most)], a.random, seed, 0.9))
    for method, some in archs.items():
        for arch in some:
            net, found = judged(space, both, arch, seed)
            for name, task in pair.items():
                yield method, name, net, found[name][task.metric.name], cost(arch)
    own = {name: best(space.for_task(name), task, most, seed) for name, task in pair.items()}
    for name, task in pair.items():
        view, spent = space.for_task(name), macs(space.for_task(name), space.input_shape)
        [other] = [arch for one, arch in own.items() if one != name]
        for method, arch in dict(own=own[name], other=view.arch_for(smallest(space) | other)).items():
            arch = decode(view, encode(view, {n: o for n, o in (smallest(view) | arch).items()}))[0]
            net, found = judged(view, task, arch, seed)
            yield method, name, net, found[task.metric.name], spent(arch)
        alone = trained(name, task, deepcopy(fresh).for_task(name), seed)
        for method, part in dict(alone=1.0, separate=0.5).items():
            arch = best(alone, task, part * most, seed)
            net, found = judged(alone, task, arch, seed)
            yield method, name, net, found[task.metric.name], spent(arch)


def rows_of(seed):
    "The rows of a seed, latencies measured side by side."
    found = list(networks(seed))
    nets = {str(i): net for i, (_, _, net, *_) in enumerate(found)}
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        timed = measure(nets, torch.zeros(1, 3, 180, 240), threads=1, budget_s=60)
    settings = dict(seed=seed, epochs=a.epochs, images=a.images, share=a.share, weights=a.weights)
    for i, (method, name, _, metric, spent) in enumerate(found):
        latency = round(timed.median_ms(str(i)), 3)
        yield settings | dict(method=method, task=name, metric=round(metric, 4), macs=int(spent), latency_ms=latency)


if __name__ == '__main__':
    machine(threads=1)
    torch.set_num_threads(1)
    a.folder.mkdir(parents=True, exist_ok=True)
    results = Path(__file__).parent / 'results' / f'{a.out}.csv'
    rows = list(csv.DictReader(open(results))) if results.exists() else []
    for seed in a.seeds:
        known = dict(seed=str(seed), epochs=f'{a.epochs}', images=str(a.images), share=str(a.share), weights=a.weights)
        if any(all(row[name] == value for name, value in known.items()) for row in rows):
            continue
        rows += list(rows_of(seed))
        write(a.out, rows)
    for row in rows:
        print(row)
