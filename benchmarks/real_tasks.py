"""Three real tasks under one protocol: the networks that searches find, random networks that fill the same measured
latency budget, and a hand-designed one scaled to it, all trained alike. One row of benchmarks/results/real_tasks.csv is
one training; a call goes on where the last one was cut off. Jobs are ordered so that what is there is of use: network by
network, both training seeds of each, first one search seed of each strategy, then the random networks.
Needs the shared data (NAS_SUITE_SHARED, default ../shared)."""

import argparse, csv, os, statistics, time, torch, warnings
from dataclasses import dataclass
from pathlib import Path
from scipy.stats import beta, spearmanr
from machine import machine
from data_recipes import camvid, jpeg_npz
from nas_suite import search
from nas_suite.choices import Space, decode, largest
from nas_suite.extraction import extract
from nas_suite.files import read_json, write_json
from nas_suite.latency import load_table, table
from nas_suite.strategies.filling import filling
from nas_suite.tasks.base import seeded_weights
from nas_suite.tasks.classification import classification
from nas_suite.tasks.segmentation import segmentation
from nas_suite.tasks.speaker import speaker
from nas_suite.training import anew, fit

shared = Path(os.environ.get('NAS_SUITE_SHARED', Path(__file__).parents[2] / 'shared')) / 'data'
results = Path(__file__).parent / 'results' / 'real_tasks.csv'

# ---------------------------------------------------------------- tasks


def cifar():
    return classification(jpeg_npz.load(shared / 'cifar10_jpeg.npz', 10_000), shift=4, flip=True, name='cifar')


def scenes():
    return segmentation(camvid.load(shared / 'camvid', (180, 240)), image_size=(180, 240), batch_size=6, name='camvid')


def voices():
    folder = shared / 'speech_asc'
    return speaker(folder, folder / 'trials_eval.txt', bands=40, embedding=64, seconds=1.5, name='speech')


@dataclass
class Protocol:
    "How the networks of a task are found and trained."

    make: object  # function() -> task
    epochs: int  # Of every training that is compared
    strategies: tuple  # Names: the task's default first


protocols = dict(
    cifar=Protocol(cifar, 8, ('gated', 'shorttraining')),
    camvid=Protocol(scenes, 20, ('regularized', 'shorttraining')),
    speech=Protocol(voices, 40, ('evolution', 'shorttraining')),
)

# ---------------------------------------------------------------- jobs


@dataclass(frozen=True)
class Job:
    "One training: of the network `name` of a task, from a seed."

    task: str
    name: str
    training_seed: int


def names_of(strategies, searches: int, random: int) -> list:
    "The networks of a task, those first that tell most."
    first = [f'{strategy} {0}' for strategy in strategies]
    others = [f'{strategy} {seed}' for seed in range(1, searches) for strategy in strategies]
    drawn = [f'random {number}' for number in range(random)]
    return [*first, 'by hand', *drawn[:5], *others, *drawn[5:]]


def jobs_of(tasks: dict, searches: int = 3, random: int = 20, seeds: int = 2) -> list:
    "All trainings, in order; `tasks`: name -> names of strategies."
    return [
        Job(task, name, seed)
        for task, strategies in tasks.items()
        for name in names_of(strategies, searches, random)
        for seed in range(seeds)
    ]


def left(jobs: list, rows: list) -> list:
    "The jobs of which there is no row."
    there = {(row['task'], row['name'], int(row['training_seed'])) for row in rows}
    return [job for job in jobs if (job.task, job.name, job.training_seed) not in there]


def kept(path: Path) -> list:
    "The rows that are there."
    return list(csv.DictReader(open(path))) if path.exists() else []


def keep(path: Path, rows: list):
    "Write all rows, whole or not at all."
    with open(draft := path.with_suffix('.tmp'), 'w', newline='') as file:
        writer = csv.DictWriter(file, list(dict.fromkeys(name for row in rows for name in row)))
        writer.writeheader()
        writer.writerows(rows)
    os.replace(draft, path)


def go_on(jobs: list, path: Path, do, seconds: float = float('inf')):  # do(job) -> dict of what was found
    "Do the jobs that are left, a row each, until the time is over; `do` returns None for a network that there is not."
    rows, end = kept(path), time.monotonic() + seconds
    for job in left(jobs, rows):
        if time.monotonic() > end:
            return
        if (found := do(job)) is None:
            continue
        rows.append({name: str(value) for name, value in (vars(job) | found).items()})
        keep(path, rows)
        print({name: value for name, value in rows[-1].items() if name != 'arch'}, flush=True)


# ---------------------------------------------------------------- what the rows say


@dataclass
class Spread:
    "How trainings of one kind of network spread."

    networks: int
    mean: float
    between: float  # Standard deviation between networks, seed noise taken out
    noise: float  # Standard deviation between training seeds of one network
    spearman: float | None  # Rank correlation of the first two training seeds

    @property
    def noise_share(self) -> float:
        "The part of the variance of single trainings that is seed noise."
        total = self.between**2 + self.noise**2
        return self.noise**2 / total if total else 0.0


def by_network(rows: list) -> dict:
    "Scores of each network, in the order of their training seeds, larger is better: name -> list."
    found = {}
    for row in sorted(rows, key=lambda row: int(row['training_seed'])):
        found.setdefault(row['name'], []).append(float(row['worth']))
    return found


def spread(scores: dict) -> Spread | None:
    "Variance components of the networks that were trained at least twice; None for fewer than three of them."
    twice = [values for values in scores.values() if len(values) > 1]
    if len(twice) < 3:
        return None
    noise = statistics.mean(statistics.variance(values) for values in twice)
    n = statistics.mean(map(len, twice))
    between = max(0.0, statistics.variance(statistics.mean(values) for values in twice) - noise / n)
    first, second = ([values[k] for values in twice] for k in (0, 1))
    agree = float(spearmanr(first, second).statistic) if len(set(first)) > 1 and len(set(second)) > 1 else None
    return Spread(len(twice), statistics.mean(map(statistics.mean, twice)), between**0.5, noise**0.5, agree)


def percentile(mine: float, random: list) -> tuple:
    "The share of random networks that are worse, ties by half, and its 95 % interval (Jeffreys)."
    below = sum(score < mine for score in random) + sum(score == mine for score in random) / 2
    above = len(random) - below
    return below / len(random), *(float(beta.ppf(q, below + 0.5, above + 0.5)) for q in (0.025, 0.975))


def paired(mine: list, others: list) -> list:
    "Differences at the training seeds that both have."
    return [a - b for a, b in zip(mine, others)]


def report(rows: list, task: str) -> dict:
    "What is known of a task so far; `missing` says what is not."
    scores = by_network([row for row in rows if row['task'] == task])
    random = {name: values for name, values in scores.items() if name.startswith('random')}
    means = [statistics.mean(values) for values in random.values()]
    found = dict(task=task, trainings=sum(map(len, scores.values())), random=len(random), spread=spread(random))
    found['networks'] = {
        name: dict(
            mean=statistics.mean(values),
            percentile=percentile(statistics.mean(values), means) if means else None,
            ahead_of_hand=paired(values, scores['by hand']) if 'by hand' in scores else None,
        )
        for name, values in scores.items()
        if name not in random
    }
    return found


# ---------------------------------------------------------------- the trainings


class Bench:
    "A task with its space, its clock and its budget, and the networks that are compared."

    def __init__(self, name: str, folder: Path, device: str):
        self.name, self.folder, self.device, self.protocol = name, folder / name, device, protocols[name]
        self.task = self.protocol.make()
        self.space = self.task.default_space({}, seed=0)
        self.shape = tuple(self.task.input_shape)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.clock = self._clock()
        file = self.folder / 'budget.json'
        if not file.exists():
            fastest, slowest = self.clock.cheapest()[0], self.clock(largest(self.space))
            write_json(file, (fastest + slowest) / 2)
        self.budget = read_json(file)

    def _clock(self):
        "The latency table of this machine, measured once."
        if not (self.folder / 'latency.json').exists():
            table(self.space, self.shape, rounds=60, calibrate=12, threads=1, progress=False).save(self.folder)
        return load_table(self.folder / 'latency.json', self.space, self.shape)

    def found(self, strategy: str, seed: int) -> dict:
        "The architecture that a search finds, in a run that goes on where it was cut off."
        with seeded_weights(seed):
            anew(self.space, seed)
        found = search.run(
            self.space,
            self.task,
            strategy,
            dict(latency_ms=self.budget),
            self.folder / f'{strategy}-{seed}',
            seed,
            table=self.clock,
            device=self.device,
            retrain_epochs=self.protocol.epochs,
            threads=1,
            progress=False,
        )
        return found.arch

    def by_hand(self):
        "The hand-designed network of the space whose width suits the budget best: a network and its latency, or None."
        if not isinstance(self.space, Space) or self.space.by_hand() is None:
            return None
        from nas_suite.latency import measure_archs

        found = []
        for width in (0.25, 0.35, 0.5, 0.6, 0.75, 0.9, 1.0, 1.25):
            hand = self.space.by_hand(width)
            took = measure_archs(hand.space, [hand.arch], self.shape, rounds=30, threads=1).median_ms('0')
            found.append((abs(took - self.budget), width, hand, took))
        _, _, hand, took = min(found, key=lambda one: one[:2])
        return extract(hand.space, hand.arch), took, ' '.join(map(str, hand.arch.values()))

    def network(self, name: str):
        "The network of a name, its latency and what it is; None where there is none."
        if name == 'by hand':
            return self.by_hand()
        kind, number = name.split()
        if kind == 'random':
            rows = filling(self.space, [(self.clock, self.budget)], 20, seed=0, used=0.97)
            if int(number) >= len(rows):
                return None
            arch = decode(self.space, rows[int(number)])[0]
        else:
            arch = self.found(kind, int(number))
        return extract(self.space, arch), self.clock(arch), ' '.join(map(str, arch.values()))

    def train(self, job: Job) -> dict | None:
        "Train a network and test it."
        there = self.network(job.name)
        if there is None:
            return None
        network, latency, arch = there
        network, began = anew(network.cpu(), job.training_seed).to(self.device), time.process_time()
        how = dict(self.task.recipe, seed=job.training_seed, device=self.device, progress=False)
        fit(network, self.task, self.protocol.epochs, **how)
        metric = self.task.metric
        found = self.task.evaluate(network, self.task.test, self.device)[metric.name]
        said = dict(metric=metric.name, value=round(found, 5), worth=round(metric.worth(found), 5))
        said |= dict(latency_ms=round(latency, 4), budget_ms=round(self.budget, 4), epochs=self.protocol.epochs)
        return said | dict(items=len(self.task.full), cpu_s=round(time.process_time() - began, 1), arch=arch)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--task', nargs='+', choices=list(protocols), default=list(protocols))
    parser.add_argument('--hours', type=float, default=float('inf'))
    parser.add_argument('--device', default='cpu')
    parser.add_argument('--folder', type=Path, default=Path('runs/real-tasks'), help='of searches, tables and budgets')
    parser.add_argument('--report', action='store_true', help='only say what is known')
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter('ignore')
    if not arguments.report:
        machine(threads=1, device=arguments.device)
        benches = {}

        def do(job):
            if job.task not in benches:
                benches[job.task] = Bench(job.task, arguments.folder, arguments.device)
            return benches[job.task].train(job)

        jobs = jobs_of({name: protocols[name].strategies for name in arguments.task})
        go_on(jobs, results, do, 3600 * arguments.hours)
    for name in arguments.task:
        print(report(kept(results), name))


if __name__ == '__main__':
    main()
