"""ProxylessNAS's gated search on JPEG CIFAR-10 under a latency budget measured here: the networks found, random networks of equal measured latency,
and a MobileNetV2-like one made as fast by its width, all retrained alike, for several seeds. Needs the shared data (NAS_SUITE_SHARED, default ../shared)."""

import argparse, csv, os, statistics, sys, tempfile, time, warnings, torch
from copy import deepcopy
from pathlib import Path
from data_recipes import jpeg_npz
from machine import machine
from nas_suite.choices import choices, decode, sample
from nas_suite.costs import count_macs, count_params
from nas_suite.extraction import extract
from nas_suite.latency import measure, table
from nas_suite.spaces.mobile import mobilenet_v2_like, proxyless
from nas_suite.strategies.gated import Gated
from nas_suite.tasks.classification import classification
from nas_suite.training import Loop, batches, evaluate, fit, recalibrate

a = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
a.add_argument('--images', type=int, default=16000)
a.add_argument('--seeds', type=int, default=3)
a.add_argument('--random', type=int, default=5)
a.add_argument('--search-epochs', type=int, default=10)
a.add_argument('--epochs', type=int, default=3)
a.add_argument('--budget', type=float, default=0.7, help='of the MobileNetV2-like network')
a.add_argument(
    '--batch',
    type=int,
    default=16,
    help='images at once when latency is measured: one alone is mostly the overhead of calls',
)
a.add_argument('--out', default='proxyless_cifar')
a.add_argument(
    '--latency-only',
    action='store_true',
    help='measure the networks of an earlier run again, all side by side, on a quieter machine',
)
a = a.parse_args()
torch.set_num_threads(1)
warnings.simplefilter('ignore')
machine(threads=1, batch=a.batch)
shape, out = (3, 32, 32), Path(__file__).parent / 'results' / f'{a.out}.csv'
file = Path(os.environ.get('NAS_SUITE_SHARED', Path(__file__).parents[2] / 'shared')) / 'data' / 'cifar10_jpeg.npz'
task = classification(jpeg_npz.load(file, a.images), shift=4, flip=True, name='JPEG CIFAR-10')


def make(seed=0, width=1.0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return proxyless(
            width,
            classes=10,
            image_size=32,
            stem=16,
            stem_stride=2,
            first=0,
            widths=(16, 24, 40),
            depths=(3, 3, 3),
            strides=(1, 2, 2),
            last=160,
            bn_eps=1e-5,
        )


def timed(nets: dict, rounds=40):
    m = measure(nets, torch.randn(a.batch, *shape), rounds=rounds, threads=1)
    return {n: (m.median_ms(n), m.interval_ms(n)) for n in nets}


def again():
    "Latency of all networks in the file, anew."
    rows = list(csv.DictReader(open(out)))
    nets = {}
    for i, r in enumerate(rows):
        s = make(0, float(r['width'])) if r.get('width') else make(0)
        net = extract(s, dict(zip(choices(s), r['arch'].split())))
        assert count_params(net) == int(r['params']), r['name']
        r['key'] = (
            f"{r['name']} of seed {r['seed']}" if r['name'] == 'found' else r['name']
        )  # the others are the same for all seeds
        nets[r['key']] = net
    latency = timed(nets, rounds=200)
    for r in rows:
        r['latency_ms'], (r['low'], r['high']) = latency[r.pop('key')]
    write(rows)


def write(rows):
    with open(tmp := out.with_suffix('.tmp'), 'w', newline='') as f:
        w = csv.DictWriter(f, field)
        w.writeheader()
        w.writerows(rows)
    os.replace(tmp, out)


field = [
    'name',
    'seed',
    'accuracy',
    'latency_ms',
    'low',
    'high',
    'macs',
    'params',
    'width',
    'supernet',
    'recalibrated',
    'search_s',
    'train_s',
    'arch',
]
if a.latency_only:
    again()
    sys.exit()
space = make()
hand = mobilenet_v2_like(space)
cost = table(
    space, shape, a.batch, threads=1, seed=0, rounds=60, calibrate=12, cache=tempfile.mkdtemp(), progress=False
)
print({k: v for k, v in cost.calibration.items() if k not in ('sums', 'measured')})
budget = a.budget * cost(hand)
print(f'MobileNetV2-like: {cost(hand):.3f} ms; budget {budget:.3f} ms')

# the hand-designed network, as fast as the budget by its width
slim = {str(w): extract(s := make(0, w), mobilenet_v2_like(s)) for w in (0.25, 0.35, 0.5, 0.6, 0.75, 0.9, 1.0)}
ms = {w: t[0] for w, t in timed(slim, 150).items()}
best_width = float(
    min(ms, key=lambda w: abs(ms[w] / ms['1.0'] - a.budget))
)  # by ratio: the machine's speed drifts between measurements
print('width of the MobileNetV2-like network:', best_width, {w: round(t, 3) for w, t in ms.items()})

# random networks that take the budget
rows = sample(space, 20000, torch.Generator().manual_seed(0))
rand = decode(space, rows[(cost.batch(rows) / budget - 1).abs() < 0.01][: a.random])

results = []


def note(name, seed, net, arch, latency, **more):
    t0, (ms, (low, high)) = time.time(), latency
    fit(net, task, epochs=a.epochs, seed=seed, progress=False)
    results.append(
        dict(
            name=name,
            seed=seed,
            accuracy=evaluate(net, task.test, task)['accuracy'],
            latency_ms=ms,
            low=low,
            high=high,
            macs=count_macs(net, shape),
            params=count_params(net),
            train_s=time.time() - t0,
            arch=' '.join(arch.values()),
            **more,
        )
    )
    print({k: round(v, 4) if isinstance(v, float) else v for k, v in results[-1].items()}, flush=True)
    write(results)


for seed in range(a.seeds):
    s, t0 = make(seed), time.time()
    start, strategy = deepcopy(s), Gated(epochs=a.search_epochs)
    history = strategy.search(s, task, [(cost, budget)], Loop(seed, progress=False)).history
    arch = strategy.derive(s, [(cost, budget)])
    print(
        f"seed {seed}: searched in {time.time() - t0:.0f} s, entropy {history[-1]['entropy']:.2f}, multiplier {history[-1]['multiplier']}",
        flush=True,
    )
    sub, took = extract(s, arch), time.time() - t0
    raw = evaluate(sub, task.test, task)['accuracy']
    cal = evaluate(recalibrate(sub, batches(task.full, 256), 8), task.test, task)['accuracy']
    small = make(seed, best_width)
    nets = {
        'found': (extract(start, arch), arch),
        'MobileNetV2-like': (extract(small, mobilenet_v2_like(small)), mobilenet_v2_like(small)),
        **{f'random {i + 1}': (extract(start, r), r) for i, r in enumerate(rand)},
    }
    latency = timed({n: net for n, (net, _) in nets.items()}, rounds=60)  # side by side
    for n, (net, r) in nets.items():
        note(
            n,
            seed,
            net,
            r,
            latency[n],
            **(
                dict(supernet=raw, recalibrated=cal, search_s=took)
                if n == 'found'
                else dict(width=best_width)
                if n == 'MobileNetV2-like'
                else {}
            ),
        )

mean = lambda name: [r['accuracy'] for r in results if r['name'].startswith(name)]
for name in ('found', 'MobileNetV2-like', 'random'):
    v = mean(name)
    print(
        f"{name:18} accuracy {statistics.mean(v):.4f} +- {statistics.stdev(v) if len(v) > 1 else 0:.4f} over {len(v)} trainings, latency {statistics.mean(r['latency_ms'] for r in results if r['name'].startswith(name)):.3f} ms"
    )
