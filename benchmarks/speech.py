"""A small EfficientTDNN supernet on real recordings (30 speakers; 18 to train on, 6 each for validation and testing):
the equal error rate of fixed networks after each of the five stages; at the end of random networks, of random networks
with widths that training never drew (the fine space), and of the networks found at three budgets, as they are and after
a few epochs of their own, beside ECAPA-like networks of equal MACs trained alone for as many steps as the supernet. One
seed a call; intervals are from a bootstrap over the 6 test speakers. Needs the shared data (NAS_SUITE_SHARED, default
../shared). The conditions of a recording are a cue in this set: the quietest tenth of the frames alone gives 23 %
error; cepstral features with linear discriminant analysis give 18.8 %."""

import argparse, csv, os, tempfile, time, torch
from pathlib import Path
from machine import machine
from made_by_hand import ecapa_like
from nas_suite.choices import decode, largest, sample, smallest
from nas_suite.costs import count_macs, macs
from nas_suite.extraction import extract
from nas_suite.spaces.tdnn import efficient_tdnn, small_tdnn
from nas_suite.strategies.evolution import Evolution
from nas_suite.strategies.supernet import Supernet, five_stages, probes
from nas_suite.tasks.speaker import equal_error_rate, interval, speaker
from nas_suite.training import Loop, calibrated, fit, load_checkpoint, seeded

a = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
a.add_argument('--seed', type=int, default=0)
a.add_argument('--epochs', type=float, default=20, help='of each stage')
a.add_argument('--tune', type=int, default=12, help='epochs of a network found')
a = a.parse_args()
torch.set_num_threads(1)
machine(threads=1)
root = Path(os.environ.get('NAS_SUITE_SHARED', Path(__file__).parents[2] / 'shared')) / 'data' / 'speech_asc'
split = {r['speaker']: r['source_split'] for r in csv.DictReader(open(root / 'utterances.csv'))}
task = speaker(
    root,
    root / 'trials_eval.txt',
    bands=40,
    embedding=64,
    seconds=1.5,
    valid=sorted(s for s, p in split.items() if p in ('valid', 'val', 'dev', 'validation')),
    seed=a.seed,
)
print(task.classes, 'speakers,', len(task.train), 'recordings,', len(task.valid), 'and', len(task.test), 'trials')
path, started = Path(__file__).parent / 'results' / f'speech-{a.seed}.csv', time.process_time()
rows = []


def note(part, name, net, cost):
    s = task.scores(net, task.test)
    eer, (low, high) = equal_error_rate(s, task.test.same)[0], interval(s, task.test.same, task.test.speakers, n=200)
    rows.append(
        dict(
            seed=a.seed,
            part=part,
            network=name,
            macs=cost,
            eer=eer,
            low=low,
            high=high,
            cpu_s=time.process_time() - started,
        )
    )
    with open(tmp := path.with_suffix('.tmp'), 'w', newline='') as f:
        w = csv.DictWriter(f, list(rows[0]))
        w.writeheader()
        w.writerows(rows)
    os.replace(tmp, path)
    print(
        part, name, f'{cost / 1e6:.2f} M MACs, EER {100 * eer:.1f} % ({100 * low:.1f} to {100 * high:.1f})', flush=True
    )


with torch.random.fork_rng():
    torch.manual_seed(a.seed)
    space = small_tdnn(40, 64, frames=task.input_shape[1])
cost, stages = macs(space, task.input_shape), []


class Watched(Supernet):
    def report(self, space, task, seed=0, device='cpu', calibrate=8):
        stage = self.stages[len(stages)].name
        stages.append(stage)
        for name, arch in probes(space, seed=0).items():
            note(stage, name, calibrated(extract(space, arch), task, seed=seed), cost(arch))
        return {}


strategy = Evolution(
    Watched(five_stages(space, a.epochs), rule='uniform', distill='none'), samples=60, generations=60, population=60
)
kept = Path(tempfile.mkdtemp()) / 'search.pt'
history = strategy.search(space, task, [], Loop(a.seed, checkpoint=kept, progress=False)).history
steps = history[-1]['step'] + 1
for i, arch in enumerate(decode(space, sample(space, 12, seeded('networks')))):
    note('random', f'random {i + 1}', calibrated(extract(space, arch), task, seed=a.seed), cost(arch))


def finer():
    "The space of all widths in steps of 4, with the weights of the supernet: almost all of its networks were never drawn in training."
    s = efficient_tdnn(
        40,
        64,
        widths=tuple(range(16, 65, 4)),
        last=tuple(range(48, 193, 4)),
        depths=(1, 2, 3),
        scale=4,
        attention=32,
        frames=task.input_shape[1],
    )
    missing = s.load_state_dict(
        {n: t for n, t in space.state_dict().items() if n.split('.')[-1] not in ('alpha', 'alive')}, strict=False
    )
    assert not missing.unexpected_keys and all(n.split('.')[-1] in ('alpha', 'alive') for n in missing.missing_keys)
    return s


fine = finer()
fine_cost = macs(fine, task.input_shape)
for i, arch in enumerate(decode(fine, sample(fine, 12, seeded('fine')))):
    note('never drawn', f'random {i + 1}', calibrated(extract(fine, arch), task, seed=a.seed), fine_cost(arch))
low, high = cost(smallest(space)), cost(largest(space))
budgets = [low + f * (high - low) for f in (0.05, 0.2, 0.5)]
for b, best in zip(budgets, strategy.specialize(space, [cost], budgets)):
    net = calibrated(extract(space, best.arch), task, seed=a.seed)
    note('found', f'{b / 1e6:.2f} M', net, cost(best.arch))
    fit(net, task, epochs=a.tune, lr=0.01, seed=a.seed, head=load_checkpoint(kept)['head'], progress=False)
    note('found, tuned', f'{b / 1e6:.2f} M', net, cost(best.arch))


def by_hand(width):
    "An ECAPA-like network."
    with torch.random.fork_rng():
        torch.manual_seed(a.seed)
        return ecapa_like(40, 64, task.input_shape[1], width)


known = {w: count_macs(by_hand(w), task.input_shape) for w in range(8, 81, 4)}
for b in budgets:
    net = by_hand(min(known, key=lambda w: abs(known[w] - b)))
    fit(net, task, epochs=round(5 * a.epochs), lr=0.05, seed=a.seed, progress=False)
    note('by hand', f'{b / 1e6:.2f} M', net, count_macs(net, task.input_shape))
print(f'{steps} steps, {(time.process_time() - started) / 60:.0f} CPU minutes; written: {path}')
