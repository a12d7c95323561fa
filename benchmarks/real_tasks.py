"""Three real tasks under one protocol: the networks that searches find, random networks that fill the same measured
latency budget, and hand-designed ones scaled to it, all trained alike. One row of benchmarks/results/real_tasks.csv is
one training; a call goes on where the last one was cut off. What its layers take, which networks are random and how
large those of people are is kept beside it, so that it can go on elsewhere.

Latency is what the layers of a network take in time of the processor, summed: other programs disturb it little, while
on a busy machine latencies by the clock were off by 10 to 20 %, and what searches measured of their candidates more.
What whole networks take, in time of the processor, is noted for each.

Protocols. All of a task (three searches of two strategies, hand-designed networks, random ones, two trainings of each)
is to take about an hour of one core, so the data are cut down before trainings are: CamVid at 60 x 80 pixels, 5,000
images of CIFAR-10, crops of a second in speech, of features that are computed once (they, and disturbances, took three
quarters of a step). A training takes about 15 s in speech and half a minute in the others; CIFAR-10 has ten random
networks and not twenty. A search trains for about as long as two or three networks do. Spaces are wide on purpose:
channels (in pictures: expansions and kernels) differ by two to four times, depths by three, and a budget lies at .6 of
what a space reaches (in the upper half, as `default_space` has it), where a deep narrow network costs as much as a
shallow wide one.

Jobs are ordered so that what is there is of use: random networks with both seeds first (they say what a training seed
is worth), then the hand-designed ones and one search of each strategy, then the rest in turn.
Needs the shared data (NAS_SUITE_SHARED, default ../shared)."""

import argparse, csv, json, os, re, statistics, time, torch, warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from einops import reduce
from scipy.stats import beta, spearmanr
from torch import nn
from torch.utils.data import TensorDataset
from machine import machine
from made_by_hand import ecapas, enets, fitting, mobilenets_v2, plain_chains, plain_segmenters
from data_recipes import camvid, jpeg_npz
from nas_suite.choices import decode, largest
from nas_suite.costs import cost_of, count_macs, count_params
from nas_suite.extraction import extract
from nas_suite.files import read_json, write_json
from nas_suite.front.search import Search
from nas_suite.spaces.mobile import proxyless
from nas_suite.spaces.segmenter import ssr_segmenter
from nas_suite.spaces.tdnn import efficient_tdnn
from nas_suite.strategies.evolution import Evolution
from nas_suite.strategies.filling import filling
from nas_suite.strategies.gated import Gated
from nas_suite.strategies.regularized import Regularized
from nas_suite.strategies.short_training import ShortTraining
from nas_suite.strategies.supernet import Supernet, five_stages
from nas_suite.tasks.base import seeded_weights
from nas_suite.tasks.classification import classification
from nas_suite.tasks.segmentation import segmentation
from nas_suite.tasks.speaker import speaker
from nas_suite.tasks.speaker.audio import Recordings, pick_any
from nas_suite.tasks.speaker.features import LogMel, features_of
from nas_suite.tasks.speaker.task import Speaker
from nas_suite.training import anew, fit

shared = Path(os.environ.get('NAS_SUITE_SHARED', Path(__file__).parents[2] / 'shared')) / 'data'
results = Path(__file__).parent / 'results' / 'real_tasks.csv'
side_by_side = results.with_suffix('') / 'together.json'

# ---------------------------------------------------------------- tasks


def cifar():
    return classification(jpeg_npz.load(shared / 'cifar10_jpeg.npz', 5_000), shift=4, flip=True, name='cifar')


def cifar_space(task, widths=(16, 24, 40), depths=(3, 3, 3), last=160, **operators):
    strides = dict(stem_stride=2, strides=(2, 2, 1))
    sizes = dict(stem=16, widths=widths, depths=depths, last=last, bn_eps=1e-5)
    return proxyless(classes=10, image_size=32, **sizes, **strides, **operators)


def cifar_fused_space(task):
    "Plain and fused convolutions beside depthwise ones, in stages that are wider and less deep."
    return cifar_space(task, (16, 32, 64), (2, 2, 2), 256, kernels=(3, 5), fused=[(3, 1), (3, 3)])


def cifar_strategies(passes, evaluations) -> dict:
    return dict(gated=lambda space: Gated(epochs=8), shorttraining=lambda space: ShortTraining(passes, evaluations))


def in_memory(dataset) -> TensorDataset:
    return TensorDataset(*map(torch.stack, zip(*dataset)))


def scenes(size=(60, 80)):
    task = segmentation(camvid.load(shared / 'camvid', size), image_size=size, batch_size=12, name='camvid')
    task.train, task.valid = in_memory(task.train), in_memory(task.valid)
    return task


def scenes_space(task):
    depths, fixed = ((1, 2, 3), (1, 2, 3, 4)), dict(dropout=(0.03, 0.1), grids=(1, 2, 3, 6), branch=12, low=24, head=48)
    sizes = dict(channels=(24, 48), depths=depths, dilations=(1, 2, 4), cuts=(18, 9, 0))
    return ssr_segmenter(task.classes, task.input_shape[1:], **sizes, **fixed)


class Heard(Recordings):
    "Random crops of the features of recordings, computed once: items (features (bands, T), speaker's number)."

    def __init__(self, recordings: Recordings, front: LogMel):
        seconds = recordings.n / recordings.rate
        super().__init__(recordings.files, recordings.speakers, seconds, recordings.rate, recordings.waves)
        self.front, self.frames = front, front.frames(recordings.n)

    def crop(self, i: int):
        if i not in self.kept:
            name = self.files[i][0]
            self.kept[i], _ = features_of(self.waves.get(name, name), self.front, least=self.n / self.rate)
        start = pick_any(self.kept[i].shape[1] - self.frames + 1)
        found = self.kept[i][:, start : start + self.frames]
        return found - reduce(found, 'band t -> band 1', 'mean')


class Voices(Speaker):
    "Speaker verification that learns from features as they are, without disturbances."

    def prepare(self, x, y, generator=None):
        return x, y


def voices():
    folder = shared / 'speech_asc'
    how = dict(bands=40, embedding=64, seconds=1.0, disturb=False)
    task = speaker(folder, folder / 'trials_eval.txt', name='speech', **how)
    task = Voices(**vars(task))
    task.train = Heard(task.train, task.front)
    return task


def voices_space(task):
    sizes = dict(widths=(8, 12, 16, 24, 32), last=(24, 36, 48, 72, 96), depths=(1, 2, 3), scale=4, attention=16)
    return efficient_tdnn(40, 64, frames=task.input_shape[1], **sizes)


def evolution(space):
    return Evolution(Supernet(five_stages(space, 6), rule='uniform', distill='none'), samples=60)


@dataclass
class Protocol:
    "How the networks of a task are found and trained."

    make: Callable  # () -> task
    space: Callable  # task -> space
    epochs: int  # Of every training that is compared
    strategies: dict  # Name -> function(space) -> strategy, the task's default first
    by_hand: dict  # Name -> function(task, space) -> size -> function that makes the network
    random: int = 20  # Networks that fill the budget
    place: float = 0.6  # Of the budget: 0 at the latency of the fastest network, 1 at the largest's
    timed: tuple = None  # Shape of the input that latencies are of; default: that of training
    searches: int = 3  # Of each strategy

    def names(self) -> list:
        "The networks that are compared."
        return names_of(self.strategies, self.by_hand, self.searches, self.random)


protocols = dict(
    speech=Protocol(
        voices,
        voices_space,
        epochs=20,
        strategies=dict(evolution=evolution, shorttraining=lambda space: ShortTraining(5, 12)),
        by_hand={'ECAPA-like': lambda task, space: ecapas(40, 64, task.input_shape[1])},
        timed=(40, 301),
    ),
    cifar=Protocol(
        cifar,
        cifar_space,
        epochs=8,
        strategies=cifar_strategies(3, 8),
        by_hand={
            'MobileNetV2-like': lambda task, space: mobilenets_v2(space),
            'plain': lambda task, space: plain_chains(space),
        },
        random=10,
    ),
    cifar_fused=Protocol(
        cifar,
        cifar_fused_space,
        epochs=12,
        strategies=cifar_strategies(4, 10),
        by_hand={
            'plain': lambda task, space: plain_chains(space),
            'MobileNetV2-like': lambda task, space: mobilenets_v2(cifar_space(task)),
        },
        random=10,
        searches=2,
    ),
    camvid=Protocol(
        scenes,
        scenes_space,
        epochs=20,
        strategies=dict(
            regularized=lambda space: Regularized(epochs=10, batch_size=12),
            shorttraining=lambda space: ShortTraining(5, 12),
        ),
        by_hand={
            'ENet-like': lambda task, space: enets(task.classes),
            'plain': lambda task, space: plain_segmenters(task.classes, task.input_shape[1:]),
        },
    ),
)

# ---------------------------------------------------------------- jobs


@dataclass(frozen=True)
class Job:
    "One training: of the network `name` of a task, from a seed."

    task: str
    name: str
    training_seed: int


def names_of(strategies, by_hand, searches: int, random: int) -> list:
    "The networks of a task, those first that tell most."
    drawn = [f'random {number}' for number in range(random)]
    names, taken = [*drawn[:4], *by_hand], 4
    for seed in range(searches):
        names += [f'{strategy} {seed}' for strategy in strategies]
        names += drawn[taken : taken + 5]
        taken += 5
    return names + drawn[taken:]


def jobs_of(networks: dict, seeds: int = 2) -> list:
    "All trainings, in order; `networks`: name of a task -> names of its networks."
    return [Job(task, name, seed) for task, names in networks.items() for name in names for seed in range(seeds)]


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


def kind_of(name: str) -> str:
    "'random', the strategy that found a network, or the name of a hand-designed one."
    return re.fullmatch(r'(.+?)( \d+)?', name)[1]


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
    "What is known of a task so far; `networks`: those that were found, and those of people."
    scores = by_network([row for row in rows if row['task'] == task])
    kinds = {name: kind_of(name) for name in scores}
    random = {name: values for name, values in scores.items() if kinds[name] == 'random'}
    people = {name: values for name, values in scores.items() if kinds[name] == name}
    means = [statistics.mean(values) for values in random.values()]
    found = dict(task=task, trainings=sum(map(len, scores.values())), random=len(random), spread=spread(random))
    found['networks'] = {
        name: dict(
            mean=statistics.mean(values),
            percentile=percentile(statistics.mean(values), means) if means else None,
            ahead={other: paired(values, theirs) for other, theirs in people.items() if other != name},
        )
        for name, values in scores.items()
        if name not in random
    }
    return found


# ---------------------------------------------------------------- the trainings


def once(file: Path, compute):
    "What a file says, computed where it is not there."
    if not file.exists():
        write_json(file, compute())
    return read_json(file)


def processor_ms(network, shapes, least_ms: float = 2.0, samples: int = 7) -> float:
    "The time of the processor that a network takes, for inputs of these shapes, on one thread."
    inputs = [torch.randn(shape) for shape in shapes]
    network = network.to_empty(device='cpu') if any(p.is_meta for p in network.parameters()) else network
    network.eval()

    def block(times):
        began = time.thread_time_ns()
        for _ in range(times):
            network(*inputs)
        return (time.thread_time_ns() - began) / times / 1e6

    with torch.inference_mode():
        block(2)
        times = max(1, round(least_ms / block(2)))
        # the lower quartile, as what else runs on the machine only adds
        return statistics.quantiles([block(times) for _ in range(samples)])[0]


class Clock:
    "The latency of a space's networks: what their layers take, each measured once and kept in a file."

    def __init__(self, file: Path, shape: tuple):
        self.file, self.shape = file, shape
        self.known = read_json(file) if file.exists() else {}

    def of_unit(self, unit, inputs, outputs) -> float:
        if isinstance(unit, nn.ParameterList):
            return 0.0  # it only joins what others gave
        name = f'{unit!r} {inputs}'
        if name not in self.known:
            self.known[name] = round(processor_ms(unit, inputs), 5)
            if len(self.known) % 50 == 0:
                write_json(self.file, self.known)
        return self.known[name]

    def cost(self, space, input_shape):
        "The cost of a space: a budget, as a search takes it."
        before = len(self.known)
        found = cost_of(space, self.shape, self.of_unit, name='core_ms', unit='ms')
        if len(self.known) > before:
            write_json(self.file, self.known)
        return found


class Bench:
    "A task with its space, its clock and its budget, and the networks that are compared."

    def __init__(self, name: str, folder: Path, device: str):
        self.name, self.folder, self.device, self.protocol = name, folder / name, device, protocols[name]
        self.task = self.protocol.make()
        self.shape = tuple(self.protocol.timed or self.task.input_shape)
        self.kept = results.with_suffix('') / name  # goes with the rows
        for where in (self.folder, self.kept):
            where.mkdir(parents=True, exist_ok=True)
        self.space = self.space_from(0)
        self.clock = Clock(self.kept / 'layers.json', self.shape)
        self.latency = self.clock.cost(self.space, self.shape)
        fastest, slowest = self.latency.cheapest()[0], self.latency(largest(self.space))
        self.budget = round(fastest + self.protocol.place * (slowest - fastest), 4)
        self.random = once(self.kept / 'random.json', self._filling)
        mine = [row for row in kept(results) if row['task'] == name]
        found = [row for row in mine if kind_of(row['name']) in self.protocol.strategies]
        self.archs = {row['name']: json.loads(row['arch']) for row in found}

    def space_from(self, seed: int):
        "The space, with weights drawn from a seed."
        with seeded_weights(seed):
            return self.protocol.space(self.task)

    def _filling(self) -> list:
        "Random architectures that fill the budget, those that take most alike as measured."
        n, limits = self.protocol.random, [(self.latency, self.budget)]
        # searches draw from seeds of their own, 0 and up
        archs = decode(self.space, filling(self.space, limits, 3 * n, seed=1000, used=0.97))
        took = [self.measured(extract(self.space, arch)) for arch in archs]
        middle = statistics.median(took)
        nearest = sorted(range(len(archs)), key=lambda i: abs(took[i] - middle))[:n]
        return [archs[i] for i in sorted(nearest)]

    def measured(self, network) -> float:
        "What a whole network takes."
        return processor_ms(network, [(1, *self.shape)], samples=15)

    def found(self, strategy: str, seed: int) -> dict:
        "The architecture that a search hands out, in a run that goes on where it was cut off."
        space = self.space_from(seed)
        how = dict(run_dir=self.folder / f'{strategy}-{seed}', seed=seed, device=self.device, threads=1, progress=False)
        budget, how['retrain_epochs'] = {self.clock.cost: self.budget}, self.protocol.epochs
        search = Search(space, self.task, self.protocol.strategies[strategy](space), budget, **how)
        costs = search.costs()
        limits = search.limits(costs)
        with search.begun(costs):
            trained = search.search(limits)
            return search.decide(search.final(search.settle(limits), limits, costs, trained), costs)

    def _fitted(self, makers: dict) -> tuple:
        "Of networks by their sizes the one that suits the budget, and the part that it takes of what random ones take."
        alike = statistics.median(self.measured(extract(self.space, arch)) for arch in self.random)
        took = {size: self.measured(make()) / alike for size, make in makers.items()}
        size = fitting(took, 1.0)
        return size, round(took[size], 4)

    def by_hand(self, name: str) -> tuple:
        "A hand-designed network in the size that suits the budget, its latency, and this size."
        makers = self.protocol.by_hand[name](self.task, self.space)
        size, took = once(self.kept / f'{name}.json', lambda: self._fitted(makers))
        return makers[size](), took * self.budget, size

    def network(self, name: str) -> tuple | None:
        "The network of a name, its latency and what it is; None where there is none."
        if (kind := kind_of(name)) == name:
            return self.by_hand(name)
        number = int(name.split()[1])
        if kind == 'random' and number >= len(self.random):
            return None
        if name not in self.archs:
            self.archs[name] = self.random[number] if kind == 'random' else self.found(kind, number)
        arch = self.archs[name]
        return extract(self.space, arch), self.latency(arch), arch

    def train(self, job: Job) -> dict | None:
        "Train a network and test it."
        began = time.process_time()
        there = self.network(job.name)
        if there is None:
            return None
        network, latency, arch = there
        looked = time.process_time()
        network = anew(network.cpu(), job.training_seed).to(self.device)
        file = self.folder / f'{job.name}-{job.training_seed}.pt'
        how = dict(self.task.recipe, seed=job.training_seed, device=self.device, progress=False, checkpoint=file)
        fit(network, self.task, self.protocol.epochs, **how)
        metric, more = self.task.metric, {}
        found = self.task.evaluate(network, self.task.test, self.device)[metric.name]
        file.unlink(missing_ok=True)
        if not self.task.held_back:  # the training has not seen the validation data
            more['valid'] = round(self.task.evaluate(network, self.task.valid, self.device)[metric.name], 5)
        said = dict(metric=metric.name, value=round(found, 5), worth=round(metric.worth(found), 5))
        said |= dict(latency_ms=round(latency, 4), budget_ms=self.budget, measured_ms=round(self.measured(network), 4))
        said |= dict(params=count_params(network), macs=count_macs(network, self.shape))
        said |= dict(epochs=self.protocol.epochs, items=len(self.task.full))
        took = dict(found_cpu_s=round(looked - began, 1), cpu_s=round(time.process_time() - looked, 1))
        return said | more | took | dict(arch=json.dumps(arch))


def together(benches: list, rounds: int = 12) -> dict:
    "What the networks that were trained take, whole and measured in turn: task -> name -> ms."
    rows = kept(results)
    trained = {b.name: dict.fromkeys(row['name'] for row in rows if row['task'] == b.name) for b in benches}
    networks = {(bench.name, name): bench.network(name)[0] for bench in benches for name in trained[bench.name]}
    took = {key: [] for key in networks}
    for _ in range(rounds):
        for bench in benches:
            for name in trained[bench.name]:
                took[bench.name, name].append(bench.measured(networks[bench.name, name]))
    return {task: {name: round(min(took[task, name]), 4) for name in names} for task, names in trained.items()}


def planned(names: list) -> list:
    "The jobs of some tasks."
    known = {name: protocols[name] for name in names}
    return jobs_of({name: protocol.names() for name, protocol in known.items()})


def say(found: dict):
    "A report in a few lines."
    print(f"{found['task']}: {found['trainings']} trainings, {found['random']} random networks; {found['spread']}")
    for name, one in found['networks'].items():
        percentile = one['percentile'] and ' '.join(f'{100 * share:.0f}' for share in one['percentile'])
        ahead = {other: [round(d, 4) for d in found] for other, found in one['ahead'].items()}
        print(f"  {name}: {one['mean']:.4f}, percentile and interval {percentile}, ahead by {ahead}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--task', nargs='+', choices=list(protocols), default=list(protocols))
    parser.add_argument('--hours', type=float, default=float('inf'))
    parser.add_argument('--device', default='cpu')
    parser.add_argument('--folder', type=Path, default=Path('runs/real-tasks'), help='of the searches')
    parser.add_argument('--report', action='store_true', help='only say what is known')
    parser.add_argument('--together', action='store_true', help='only measure what was trained, side by side')
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter('ignore')
    if arguments.together:
        found = together([Bench(name, arguments.folder, arguments.device) for name in arguments.task])
        write_json(side_by_side, found)
    elif not arguments.report:
        machine(threads=1, device=arguments.device)
        benches = {}

        def do(job):
            if job.task not in benches:
                benches[job.task] = Bench(job.task, arguments.folder, arguments.device)
            return benches[job.task].train(job)

        go_on(planned(arguments.task), results, do, 3600 * arguments.hours)
    for name in arguments.task:
        say(report(kept(results), name))


if __name__ == '__main__':
    main()
