"""One small Once-for-All supernet on JPEG CIFAR-10: 12 networks over its range of costs as they come out of it (batch norm re-calibrated), after brief fine-tuning, and trained alone from scratch for as many steps;
the ways of training a supernet, side by side; and MobileNetV2-like networks of several widths, trained alone. A run goes on where it was cut off; `--part supernets` and `--part alone` may run beside one another.
Needs the shared data (NAS_SUITE_SHARED, default ../shared)."""

import argparse, csv, os, sys, tempfile, time, torch
from pathlib import Path
from data_recipes import jpeg_npz
from machine import machine
from nas_suite.choices import decode, largest, sample, smallest
from nas_suite.costs import count_macs, count_params, macs
from nas_suite.extraction import extract
from nas_suite.spaces.mobile import mobilenet_v2_like, ofa_mobilenet_v3
from nas_suite.strategies.supernet import Supernet, progressive, sandwich
from nas_suite.tasks.classification import classification
from nas_suite.training import Loop, batches, evaluate, fit, load_checkpoint, recalibrate

a = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
a.add_argument('--part', choices=['supernets', 'alone'], help='default: both, one after the other')
a.add_argument('--images', type=int, default=8000)
a.add_argument('--epochs', type=int, default=20)
a.add_argument('--tune', type=int, default=2)
a.add_argument('--networks', type=int, default=12)
a.add_argument('--seed', type=int, default=0)
a.add_argument('--out', default='ofa_cifar')
a = a.parse_args()
torch.set_num_threads(1)
machine(threads=1)
shape, results = (3, 32, 32), Path(__file__).parent / 'results'
file = Path(os.environ.get('NAS_SUITE_SHARED', Path(__file__).parents[2] / 'shared')) / 'data' / 'cifar10_jpeg.npz'
task = classification(jpeg_npz.load(file, a.images, 4000), shift=4, flip=True, name='JPEG CIFAR-10', valid=0.2)


def make(width=1.0):
    with torch.random.fork_rng():
        torch.manual_seed(a.seed)
        return ofa_mobilenet_v3(
            width,
            classes=10,
            image_size=32,
            widths=(16, 24, 40),
            depths=(1, 2, 3),
            kernels=(3, 5),
            expands=(2, 3, 4),
            stem=16,
            first=16,
            last=(160, 192),
            dropout=0.0,
        )


space = make()
cost = macs(space, shape)
rows = sample(space, 5000, torch.Generator().manual_seed(1))
spread = cost.batch(rows).argsort()[torch.linspace(0, len(rows) - 1, a.networks).long()[1:-1]]
archs = {
    'smallest': smallest(space),
    **{f'network {i + 1}': x for i, x in enumerate(decode(space, rows[spread]))},
    'largest': largest(space),
}


def path(part):
    return results / f'{a.out}_{part}.csv'


def known(part):
    return list(csv.DictReader(open(path(part)))) if path(part).exists() else []


def note(part, row):
    rows = known(part) + [row]
    with open(tmp := path(part).with_suffix('.tmp'), 'w', newline='') as f:
        w = csv.DictWriter(f, list(row))
        w.writeheader()
        w.writerows(rows)
    os.replace(tmp, path(part))
    print({k: round(v, 4) if isinstance(v, float) else v for k, v in row.items()}, flush=True)


def accuracy(net):
    return evaluate(net, task.test, task)['accuracy']


def calibrated(net):
    return recalibrate(net, batches(task.train, 256, a.seed), 8)


if a.part != 'supernets':  # all with the same number of steps as a supernet has
    todo = {n: (1.0, x) for n, x in archs.items()} | {
        f'MobileNetV2-like x{w}': (w, mobilenet_v2_like(space)) for w in (0.5, 0.7, 1.0, 1.3)
    }
    done = {r['name'] for r in known('alone')}
    for name, (width, x) in todo.items():
        if name in done:
            continue
        net, cpu = extract(make(width), x), time.process_time()
        fit(net, task, epochs=a.epochs, seed=a.seed, data=task.train, progress=False)
        note(
            'alone',
            dict(
                name=name,
                seed=a.seed,
                macs=count_macs(net, shape),
                params=count_params(net),
                accuracy=accuracy(net),
                cpu_s=time.process_time() - cpu,
            ),
        )
    if a.part:
        sys.exit()

e = a.epochs
stages = progressive(space, epochs=e * 0.16, full=e * 0.3, lr=0.05)
scale = e / sum(st.epochs for st in stages)
for st in stages:
    st.epochs *= scale  # as many steps in all
schemes = dict(
    sandwich=Supernet(sandwich(e)),
    progressive=Supernet(stages, rule='uniform', distill='teacher'),
    **{
        'sandwich, no distillation': Supernet(sandwich(e), distill='none'),
        'uniform, no distillation': Supernet(sandwich(e, subnets=4), rule='uniform', distill='none'),
    },
)
for scheme, strategy in schemes.items():
    done = {r['name'] for r in known('supernets') if r['scheme'] == scheme}
    if len(done) == len(archs):
        continue
    s, folder = make(), Path(tempfile.gettempdir()) / f'{a.out}-{a.seed}'
    folder.mkdir(exist_ok=True)
    kept = folder / f"{scheme.replace(' ', '-')}.pt"
    history = strategy.train(s, task, Loop(a.seed, checkpoint=kept, progress=False)).history
    cpu = load_checkpoint(kept)['spent']['cpu_seconds']  # of all its processes, where it was cut off
    for name, x in archs.items():
        if name in done:
            continue
        net = calibrated(extract(s, x))
        inherited, tuned = accuracy(net), None
        if scheme in ('sandwich', 'progressive'):
            fit(net, task, epochs=a.tune, lr=0.01, seed=a.seed, data=task.train, progress=False)
            tuned = accuracy(net)
        note(
            'supernets',
            dict(
                scheme=scheme,
                name=name,
                seed=a.seed,
                macs=count_macs(net, shape),
                uncalibrated=accuracy(extract(s, x)),
                inherited=inherited,
                tuned=tuned,
                steps=history[-1]['step'] + 1,
                cpu_s=cpu,
            ),
        )
