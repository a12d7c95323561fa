"""Regularized search on CamVid at 180 x 240 pixels, one thread. Three parts, the first two continued where they were
cut off:

ablation: regularizer (none, zero-one, entropy, SSR) under sigmoid weights with and without removal of options, SSR
under softmax with it, and SSR that acts from the first architecture step on (`onset` .1 of the steps) rather than after
40 % of them, at one MACs budget. What is left undecided at the end, what the supernet reaches with its soft weights and
what its likeliest
    network reaches with the same weights, before and after re-calibration; what the network within the budget reaches
when it is trained anew; expected and real cost.
networks: the search under a latency budget measured here, against five random networks of about the same measured
latency, a network without choices whose depth and width fit, and an ENet-like one, all trained alike; mIoU and latency,
side by side.
cost: CPU time of a step of the search, at its beginning and when one network is left, against a step of training that
network, in rounds side by side; and what autograd keeps of each.

The first two test on `val`, and on `test` where the folder has it. Needs CamVid in NAS_SUITE_SHARED/data/camvid
(default ../shared)."""

import argparse, csv, json, os, resource, tempfile, time, torch
from pathlib import Path
from statistics import median
from machine import kept_bytes, machine, write
from made_by_hand import enets, fitting, plain_segmenters
from torch import nn
from torch.utils.data import TensorDataset
from data_recipes import camvid
from nas_suite.choices import decode, largest, restrict, sample, selecting, smallest, weights
from nas_suite.costs import count_macs, macs
from nas_suite.extraction import extract
from nas_suite.latency import measure, table
from nas_suite.relaxation import soften
from nas_suite.spaces.segmenter import small_segmenter
from nas_suite.strategies.steps import architecture_gradients, weight_step
from nas_suite.strategies.regularized import Regularized, remaining
from nas_suite.tasks.segmentation import segmentation
from nas_suite.training import Loop, calibrated, fit, load_checkpoint

a = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
a.add_argument('part', nargs='?', choices=['ablation', 'networks', 'cost'], help='default: all')
a.add_argument('--seeds', type=int, nargs='+', default=[0, 1, 2])
a.add_argument('--epochs', type=int, default=10, help='of the search')
a.add_argument(
    '--train',
    type=int,
    help='epochs of a network trained anew; default: 8 in the ablation, elsewhere twice those of the search, as the front door has it',
)
a = a.parse_args()
torch.set_num_threads(1)
if __name__ == '__main__':
    machine(threads=1)
root, size, batch = (
    Path(os.environ.get('NAS_SUITE_SHARED', Path(__file__).parents[2] / 'shared')) / 'data' / 'camvid',
    (180, 240),
    6,
)
results = Path(__file__).parent / 'results'


def kept(dataset):
    return TensorDataset(*map(torch.stack, zip(*dataset)))


found = camvid.load(root, size)
tested = 'val' if 'val' in found else 'test'


def task_for(seed):
    "The halves of the training images depend on the seed."
    task = segmentation(
        {k: v for k, v in found.items() if k not in {'val', 'test'} - {tested}},
        image_size=size,
        seed=seed,
        name='CamVid',
    )
    task.train, task.valid = kept(task.train), kept(task.valid)
    return task


def space_for(seed, make=small_segmenter, **more):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return make(11, size, **{**dict(depths=((1, 2), (1, 2, 3, 4)), dilations=(1, 2, 4, 8)), **more})


def small(seed):
    return space_for(seed, depths=((1, 2), (1, 2, 3)), dilations=(1, 2, 4))  # for the ablation


class Soft(nn.Module):
    "A space with the soft weights it has come to, as a network."

    def __init__(self, space, weights):
        super().__init__()
        self.space, self.weights = space, weights

    def forward(self, x):
        with selecting(soften(self.space, self.weights, learn=False)):
            return self.space(x)


def done(path):
    "The rows that are there."
    return list(csv.DictReader(open(path))) if path.exists() else []


def miou(net, task):
    return round(task.evaluate(net, task.test)['miou'], 4)


def more_tests(net, task):
    "On the test part, where the folder has it beside the one for validation."
    return dict(test_miou=round(task.evaluate(net, found['test'])['miou'], 4)) if {'val', 'test'} <= set(found) else {}


def trained(net, task, seed, epochs) -> float:
    "Train a network in place; CPU seconds."
    began = time.process_time()
    fit(net, task, epochs=epochs, lr=0.05, batch_size=batch, seed=seed, progress=False)
    return time.process_time() - began


def ablation():
    path = results / 'segmentation_ablation.csv'
    rows = done(path)
    grid = [
        ('ssr', 'sigmoid', 30, 0.4),
        ('none', 'sigmoid', 0, 0),
        ('none', 'sigmoid', 30, 0),
        ('ssr', 'sigmoid', 0, 0.4),
        ('entropy', 'sigmoid', 30, 0.4),
        ('zero-one', 'sigmoid', 30, 0.4),
        ('ssr', 'softmax', 30, 0.4),
        ('entropy', 'sigmoid', 0, 0.4),
        ('zero-one', 'sigmoid', 0, 0.4),
        ('ssr', 'sigmoid', 30, 0.1),
    ]
    for regularizer, weights, shrinks, onset in grid:  # cut off, it has fewer cells rather than fewer seeds
        for seed in a.seeds:
            key = dict(seed=str(seed), regularizer=regularizer, weights=weights, shrinks=str(shrinks), onset=str(onset))
            if any(all(r[k] == v for k, v in key.items()) for r in rows):
                continue
            task, space = task_for(seed), small(seed)
            cost = macs(space, task.input_shape)
            low, high = cost(smallest(space)), cost(largest(space))
            budget = low + 0.45 * (high - low)
            strategy = Regularized(
                epochs=a.epochs,
                batch_size=batch,
                regularizer=regularizer,
                weights=weights,
                shrinks=shrinks,
                onset=onset,
            )
            with tempfile.TemporaryDirectory() as d:
                history = strategy.search(
                    space, task, [(cost, budget)], Loop(seed, checkpoint=Path(d) / 's.pt', progress=False)
                ).history
                spent, last, view = (
                    load_checkpoint(Path(d) / 's.pt')['spent']['cpu_seconds'],
                    history[-1],
                    remaining(space),
                )
            likely, arch = strategy.derive(view, []), strategy.derive(space, [(cost, budget)])
            soft, net = Soft(view, weights), extract(space, likely)
            row = dict(
                key,
                steps=last['step'] + 1,
                search_cpu_s=round(spent, 1),
                **{f'entropy_{d}': round(max(0.0, v), 4) for d, v in last['entropy_by'].items()},
                **{f'live_{d}': v for d, v in last['live'].items()},
                undecided=last['undecided'],
                forced=len(last['forced']),
                decided_at=next((h['step'] for h in history if not h['undecided']), ''),
                supernet=miou(soft, task),
                derived=miou(net, task),
                derived_recalibrated=miou(calibrated(net, task, seed=seed, n=25, batch_size=16), task),
                expected=round(last['cost']['macs'] / budget, 4),
                likely=round(cost(likely) / budget, 4),
                within=round(cost(arch) / budget, 4),
            )
            fresh = extract(small(seed), arch)
            seconds = trained(fresh, task, seed, a.train or 8)
            row |= dict(
                retrained=miou(fresh, task),
                train_cpu_s=round(seconds, 1),
                **more_tests(fresh, task),
                budget=budget,
                live_over_time=json.dumps(
                    [[h['step'], sum(h['live'].values()), round(h['loss'], 3)] for h in history[::5]]
                ),
                arch=json.dumps(arch),
            )
            rows.append({k: str(v) for k, v in row.items()})
            write('segmentation_ablation', rows)
            print({k: v for k, v in row.items() if k not in ('arch', 'live_over_time')}, flush=True)


def milliseconds(nets, rounds=60):
    "Median latency of networks, timed side by side, and its interval."
    m = measure({n: net.eval() for n, net in nets.items()}, torch.randn(1, 3, *size), rounds=rounds, threads=1)
    return {n: (m.median_ms(n), m.interval_ms(n)) for n in nets}


def fitted(makers, bound):
    "The slowest of some networks that is measured within a latency."
    nets = {name: make() for name, make in makers.items()}
    ms = {n: v[0] for n, v in milliseconds(nets, 30).items()}
    return nets[fitting(ms, bound, over=0)]


def networks():
    path = results / 'segmentation_networks.csv'
    rows = done(path)
    for seed in a.seeds:
        if any(r['seed'] == str(seed) for r in rows):
            continue
        task, space = task_for(seed), space_for(seed)
        cost = table(space, task.input_shape, threads=1, seed=seed, progress=False)
        low, high = cost(smallest(space)), cost(largest(space))
        budget = low + 0.5 * (high - low)
        strategy = Regularized(epochs=a.epochs, batch_size=batch)
        with tempfile.TemporaryDirectory() as d:
            history = strategy.search(
                space, task, [(cost, budget)], Loop(seed, checkpoint=Path(d) / 's.pt', progress=False)
            ).history
            spent = load_checkpoint(Path(d) / 's.pt')['spent']['cpu_seconds']
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        arch = strategy.derive(space, [(cost, budget)])
        drawn = sample(space, 4000, torch.Generator().manual_seed(seed))
        near = [i for i, c in enumerate(cost.batch(drawn).tolist()) if 0.95 * budget <= c <= budget][:5]
        nets = {
            'found': extract(space_for(seed), arch),
            **{f'random {i + 1}': extract(space_for(seed), r) for i, r in enumerate(decode(space, drawn[near]))},
        }
        bound = milliseconds(nets)['found'][0]
        nets['plain'] = fitted(plain_segmenters(11, size, (18, 20, 22, 24)), bound)
        nets['ENet-like'] = fitted(enets(11), bound)
        ms = milliseconds(nets)
        for name, net in nets.items():
            seconds = trained(net, task, seed, a.train or 2 * a.epochs)
            rows.append(
                dict(
                    seed=seed,
                    name=name,
                    miou=miou(net, task),
                    **more_tests(net, task),
                    ms=round(ms[name][0], 3),
                    low_ms=round(ms[name][1][0], 3),
                    high_ms=round(ms[name][1][1], 3),
                    fps=round(1000 / ms[name][0], 1),
                    macs=count_macs(net, task.input_shape),
                    train_cpu_s=round(seconds, 1),
                    search_cpu_s=round(spent, 1) if name == 'found' else '',
                    forced=len(history[-1]['forced']) if name == 'found' else '',
                    peak_mb=round(memory) if name == 'found' else '',
                    budget_ms=round(budget, 3),
                    arch=json.dumps(arch) if name == 'found' else '',
                )
            )
            print({k: v for k, v in rows[-1].items() if k != 'arch'}, flush=True)
        write('segmentation_networks', rows)


def cost(rounds=8):
    task, space = task_for(0), space_for(0).train()
    arch = decode(space, sample(space, 1, torch.Generator().manual_seed(0)))[0]
    net, left = extract(space, arch), restrict(space, arch)
    x, y = task.train[:batch]
    opts = {k: torch.optim.AdamW(v, 1e-3) for k, v in (('net', net.parameters()), ('space', weights(space)))}

    def plain():
        opts['net'].zero_grad(set_to_none=True)
        task.loss(net(x), y).backward()
        opts['net'].step()

    steps = {
        'training': plain,
        **{
            f'{kind}, {name}': f
            for name, view in (('whole space', space), ('one network left', left))
            for kind, f in (
                (
                    'weights',
                    lambda view=view: weight_step(
                        view, soften(view, 'sigmoid', learn=False), lambda: task.loss(view(x), y), opts['space']
                    ),
                ),
                (
                    'architecture',
                    lambda view=view: architecture_gradients(
                        view, soften(view, 'sigmoid'), lambda: task.score(view(x), y)
                    ),
                ),
            )
        },
    }
    del steps['architecture, one network left']  # there is nothing to learn
    for f in steps.values():
        f()
    s = {n: [] for n in steps}
    for _ in range(rounds):
        for n, f in steps.items():
            began = time.thread_time()
            f()
            s[n].append(time.thread_time() - began)
    ms, mb = {n: 1000 * median(v) for n, v in s.items()}, {n: kept_bytes(f) / 2**20 for n, f in steps.items()}
    rows = [
        dict(
            step=n,
            ms=round(ms[n], 1),
            times=round(ms[n] / ms['training'], 2),
            kept_mb=round(mb[n], 1),
            memory_times=round(mb[n] / mb['training'], 2),
        )
        for n in steps
    ]
    for r in rows:
        print(r)
    write('segmentation_cost', rows)


if __name__ == '__main__':
    for part in ('ablation', 'networks', 'cost') if a.part is None else (a.part,):
        globals()[part]()
