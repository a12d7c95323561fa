"""A trained network is made faster on JPEG CIFAR-10: at 75, 50 and 25 % of its measured latency, ours against pruning by
torch-pruning (magnitude and Taylor importance, of all layers together), against one width for all layers, and against
the small networks trained anew.

Networks: ResNet-20 (channels 16, 32, 64) and one like MobileNetV2 (expansion 4, stages of 16, 24, 32 and 64 channels),
both of 32-pixel images with a stem of stride 1. They are trained here first, then every method starts from the same
weights, and all networks are tuned alike: the recipe, the passes and the seed are one, and there is no teacher. What is
trained anew has the passes of both trainings. So that all of it takes a few hours of one core there are 9,000 images,
eight passes and four; another 1,000 images are for methods that choose by accuracy (they chose the learning rate of the
tuning, too, with uniform widths), and 5,000 test.

Latency is that of eager PyTorch on one thread at batch 16, in time of the processor, which other programs disturb
little. A network is timed in rounds side by side with the one it was made from, and its share of that one's latency is
what counts. One batch of 16 and not of one: with a single image half of the time is that of calling operators.

Pruning and widths are of channels in multiples of --channels; their ratio is found by bisection on measured latency:
the slowest network within the budget. With `uniform` each layer (each group of layers whose channels belong together)
keeps the same share of its channels, those with the largest weights. `ours` is search.shrink's strategy in one shot
(`spaces.searchable`, `strategies.sensitivity`) under a latency table of the same setting: it chooses which channels and
blocks stay. The table's budget is found by the same bisection; of networks of budgets around that one, the one that is
best on the images to choose by is taken, of those that use at least 97 % of the budget.

One row of benchmarks/results/shrink.csv is one network; a call goes on where the last one was cut off. Jobs are ordered
so that what is there is of use: ResNet-20 at 50 % with the first seed first. Trained networks are kept in --folder.
Needs the shared data (NAS_SUITE_SHARED, default ../shared) and, for the baselines, torch-pruning."""

import argparse, copy, csv, os, tempfile, time, torch, warnings
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from safetensors.torch import load_model, save_model
from torch import nn
from torch.nn import functional as F
from machine import machine, write
from data_recipes import jpeg_npz
from nas_suite.choices import largest
from nas_suite.costs import cheapest, count_macs, count_params
from nas_suite.extraction import extract
from nas_suite.files import read_json, write_json, writing
from nas_suite.latency import BusyMachine, measure, table
from nas_suite.spaces.importance import rank
from nas_suite.spaces.searchable import searchable
from nas_suite.strategies.sensitivity import Sensitivity
from nas_suite.tasks.classification import classification
from nas_suite.training import Calibration, Loop, batches, evaluate, fit, recalibrate

shape, batch = (3, 32, 32), 16
shared = Path(os.environ.get('NAS_SUITE_SHARED', Path(__file__).parents[2] / 'shared')) / 'data'
results = Path(__file__).parent / 'results'
recipe = dict(batch_size=64, weight_decay=5e-4, optimizer='sgd', progress=False)
budgets = 0.5, 0.25, 0.75
most = 0.85  # Of a layer's channels that pruning takes: of more, torch-pruning leaves layers as they are

# ---------------------------------------------------------------- networks


def convolution(channels, out, kernel=3, stride=1, groups=1, act=True):
    "A convolution and its batch norm, and a ReLU unless what follows is a sum."
    layers = [nn.Conv2d(channels, out, kernel, stride, kernel // 2, groups=groups, bias=False), nn.BatchNorm2d(out)]
    return nn.Sequential(*layers, nn.ReLU()) if act else nn.Sequential(*layers)


class Basic(nn.Module):
    "Two convolutions and a shortcut."

    def __init__(self, channels, out, stride):
        super().__init__()
        self.first, self.second = convolution(channels, out, 3, stride), convolution(out, out, act=False)
        same = channels == out and stride == 1
        self.shortcut = nn.Identity() if same else convolution(channels, out, 1, stride, act=False)

    def forward(self, x):
        return F.relu(self.second(self.first(x)) + self.shortcut(x))


class Inverted(nn.Module):
    "An inverted residual: wide inside, and a sum of what is narrow."

    def __init__(self, channels, out, stride, expand):
        super().__init__()
        inside = channels * expand
        self.expand = convolution(channels, inside, 1) if expand > 1 else nn.Identity()
        self.depthwise = convolution(inside, inside, 3, stride, groups=inside)
        self.project = convolution(inside, out, 1, act=False)
        self.residual = channels == out and stride == 1

    def forward(self, x):
        y = self.project(self.depthwise(self.expand(x)))
        return x + y if self.residual else y


def network(blocks, last):
    "A network of a stem of 16 channels, blocks, and a head."
    head = nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(last, 10)
    return nn.Sequential(convolution(3, 16), *blocks, *head)


def resnet20():
    shapes = [(16, 16, 1)] * 3 + [(16, 32, 2)] + [(32, 32, 1)] * 2 + [(32, 64, 2)] + [(64, 64, 1)] * 2
    return network([Basic(*sizes) for sizes in shapes], 64)


def mobilenet():
    shapes = [(16, 16, 1, 1), (16, 24, 2, 4), (24, 24, 1, 4), (24, 32, 2, 4), (32, 32, 1, 4), (32, 32, 1, 4)]
    shapes += [(32, 64, 1, 4), (64, 64, 1, 4), (64, 64, 1, 4)]
    return network([*(Inverted(*sizes) for sizes in shapes), convolution(64, 160, 1)], 160)


networks = dict(resnet20=resnet20, mobilenet=mobilenet)


def drawn(name, seed):
    "A network with weights drawn from a seed."
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return networks[name]()


def anew(net, seed):
    "The same network with other weights."
    net = copy.deepcopy(net)
    with torch.random.fork_rng():
        torch.manual_seed(seed + 1000)
        for layer in net.modules():
            if isinstance(layer, (nn.Conv2d, nn.Linear, nn.BatchNorm2d)):
                layer.reset_parameters()
    return net


# ---------------------------------------------------------------- trainings and measurements


@cache
def task_of(images):
    data = jpeg_npz.load(shared / 'cifar10_jpeg.npz', images, 5000)
    return classification(data, valid=0.1, shift=4, flip=True, name='JPEG CIFAR-10')


@dataclass
class Case:
    "A trained network, and what is to become of it."

    name: str
    seed: int
    share: float  # Of the given network's latency
    asked: argparse.Namespace

    @property
    def task(self):
        return task_of(self.asked.images)

    @property
    def folder(self) -> Path:
        return Path(self.asked.folder)

    def given(self):
        "The trained network, from its file."
        net = drawn(self.name, self.seed)
        load_model(net, self.folder / f'{self.name}-{self.seed}.safetensors')
        return net.eval()

    def train(self, net, epochs, lr, label):
        "Train a network in place, going on where it was cut off."
        checkpoint = self.folder / f'{self.name}-{self.seed}-{label}.pt'
        fit(net, self.task, epochs, lr, seed=self.seed, data=self.task.train, checkpoint=checkpoint, **recipe)
        return net.eval()

    def accuracy(self, net) -> float:
        return evaluate(net, self.task.test, self.task)['accuracy']


def base(case: Case):
    "Train a given network, unless that was done."
    file = case.folder / f'{case.name}-{case.seed}.safetensors'
    if file.exists():
        return
    start = time.process_time()
    net = case.train(drawn(case.name, case.seed), case.asked.epochs, 0.1, 'base')
    accuracy = case.accuracy(net)
    with writing(file) as draft:
        save_model(net.to(memory_format=torch.contiguous_format), draft)
    write_json(file.with_suffix('.json'), dict(accuracy=accuracy))
    print(f'{case.name} {case.seed}: {accuracy:.4f}, {time.process_time() - start:.0f} s of this process', flush=True)


def timed(net, given, rounds=12):
    "Latencies of a network and of the given one, side by side, in time of the processor."
    modules = dict(net=net.to(memory_format=torch.contiguous_format), given=given)
    with warnings.catch_warnings():
        warnings.simplefilter('ignore', BusyMachine)  # time of the processor is not of the others
        return measure(
            modules, torch.randn(batch, *shape), rounds, threads=1, warm_up_s=0.1, clock=time.process_time_ns
        )


def bisected(case: Case, make, steps=7, high=most):
    "The slowest network within the budget of those that `make` returns for a ratio, which is kept beside it."
    given, low, best = case.given(), 0.0, None
    for _ in range(steps):
        ratio = (low + high) / 2
        net = make(ratio)
        share = timed(net, given, 20).ratio('net', 'given')[0]
        if share <= case.share:
            high, best = ratio, (share, ratio)
        else:
            low = ratio
    return high if best is None else best[1]  # the fastest there is: its row says how fast


# ---------------------------------------------------------------- methods


def scored(case: Case, net):
    "Give weights the gradients of a few batches, which Taylor importance reads."
    net.eval().zero_grad()
    stream = batches(case.task.train, 64, case.seed)
    for _ in range(8):
        x, y = next(stream)
        F.cross_entropy(net(x), y).backward()


def pruned(case: Case, ratio, importance, together):
    "A network of which a share of channels was removed, by torch-pruning; `together`: compared over all layers."
    import torch_pruning as tp

    net = case.given()
    if importance == 'taylor':
        scored(case, net)
    scores = dict(taylor=tp.importance.GroupTaylorImportance, magnitude=tp.importance.GroupMagnitudeImportance)
    head = [layer for layer in net.modules() if isinstance(layer, nn.Linear)]
    pruner = tp.pruner.BasePruner(
        net,
        torch.randn(1, *shape),
        scores[importance](),
        global_pruning=together,
        pruning_ratio=ratio,
        max_pruning_ratio=most,
        ignored_layers=head,
        round_to=case.asked.channels,
    )
    pruner.step()
    net.zero_grad(set_to_none=True)
    return net.eval()


def by_pruning(importance, together):
    "A method: pruning at the ratio that fills the budget, which is found once and then kept."

    def method(case: Case):
        file = case.folder / f'{case.name}-{case.seed}-{case.share}-{importance}-{together}-ratio.json'
        if not file.exists():
            make = lambda ratio: pruned(case, ratio, importance, together)
            write_json(file, dict(ratio=bisected(case, make)))
        return pruned(case, read_json(file)['ratio'], importance, together)

    return method


@dataclass
class Searched:
    "A given network as a space, and what each of its options costs in loss and in time."

    space: nn.Module
    strategy: Sensitivity
    latency: object  # Of the space
    full: float  # Of the given network, ms

    @property
    def most(self) -> float:
        "The share of the latency that the space can take away."
        return 1 - cheapest(self.latency)[0] / self.full

    def within(self, ratio) -> list:
        return [(self.latency, (1 - ratio) * self.full)]

    def best(self, ratio):
        "The network that the strategy derives within a share of the latency."
        return extract(self.space, self.strategy.derive(self.space, self.within(ratio)))


searched = {}  # network and seed -> `Searched`


def space_of(case: Case) -> Searched:
    "What is searched, made once for all budgets."
    if (case.name, case.seed) not in searched:
        space, strategy = searchable(case.given(), shape, steps=case.asked.channels), Sensitivity(0, evaluations=20)
        loop = Loop(case.seed, 'cpu', progress=False)
        rank(space, 'activation', Calibration(case.task, seed=case.seed, batch_size=64), case.task.score)
        strategy.search(space, case.task, [], loop)
        strategy.measure(space, case.task, loop)
        with warnings.catch_warnings():
            warnings.simplefilter('ignore', BusyMachine)  # what is slow is slow beside all others
            latency = table(space, shape, batch, threads=1, cache=case.folder / 'latency', progress=False)
        searched[case.name, case.seed] = Searched(space, strategy, latency, latency(largest(space)))
    return searched[case.name, case.seed]


def ours(case: Case):
    "The integer programme over what each option costs, its best networks judged; the budget is found by bisection."
    found = space_of(case)
    file = case.folder / f'{case.name}-{case.seed}-{case.share}-ours.json'

    def guess(ratio):
        found.strategy.begin(found.space, found.within(ratio), case.seed)
        return extract(found.space, found.strategy.ask(1)[0])

    if not file.exists():
        ratio = bisected(case, guess, high=found.most)
        write_json(file, dict(ratio=chosen(case, found, [ratio + 0.02 * step for step in range(-3, 6)])))
    return found.best(read_json(file)['ratio'])


def chosen(case: Case, found: Searched, ratios) -> float:
    "The ratio whose network is best on the images to choose by, of those that use 97 % of the budget, or most of it."
    given, used, scores = case.given(), {}, {}
    for ratio in (min(ratio, found.most) for ratio in ratios):
        net = found.best(ratio)
        share = timed(net, given, 40).ratio('net', 'given')[0]
        if share > case.share:
            continue
        calibrated = recalibrate(net, batches(case.task.train, 256, case.seed), 8)
        used[ratio], scores[ratio] = share, evaluate(calibrated, case.task.valid, case.task)['accuracy']
    if not used:
        raise ValueError(f'no network around the budget of {case.share:.0%} is within it')
    least = min(0.97 * case.share, max(used.values()))
    return max((ratio for ratio in used if used[ratio] >= least), key=scores.get)


methods = dict(
    ours=ours,
    uniform=by_pruning('magnitude', False),
    magnitude=by_pruning('magnitude', True),
    taylor=by_pruning('taylor', True),
)

# ---------------------------------------------------------------- jobs


def tuned(case: Case, method):
    "A method's network before and after the tuning that is alike for all."
    net = methods[method](case)
    calibrated = recalibrate(net, batches(case.task.train, 256, case.seed), 8)
    before = case.accuracy(calibrated)
    return case.train(calibrated, case.asked.tune, 0.02, f'{case.share}-{method}'), before


def from_scratch(case: Case, method):
    "A method's network with other weights, trained for as many passes as given network and tuning had together."
    net = anew(methods[method](case), case.seed)
    return case.train(net, case.asked.epochs + case.asked.tune, 0.1, f'{case.share}-{method}-anew'), None


def job(case: Case, method):
    "One row."
    start = time.process_time()
    how, name = (from_scratch, method.removesuffix(' anew')) if method.endswith(' anew') else (tuned, method)
    net, before = how(case, name)
    found, given = timed(net, case.given(), 40), read_json(case.folder / f'{case.name}-{case.seed}.json')
    share, low, high = found.ratio('net', 'given')
    row = dict(network=case.name, seed=case.seed, budget=case.share, method=method)
    row |= dict(share=round(share, 4), low=round(low, 4), high=round(high, 4), ms=round(found.median_ms('net'), 4))
    row |= dict(macs=count_macs(net, shape), params=count_params(net), before=before and round(before, 4))
    row |= dict(accuracy=round(case.accuracy(net), 4), given=round(given['accuracy'], 4))
    asked = {name: vars(case.asked)[name] for name in ('images', 'epochs', 'tune', 'channels')}
    return row | asked | dict(cpu_s=round(time.process_time() - start))


def known(out):
    "The rows that are there, as texts."
    path = results / f'{out}.csv'
    if not path.exists():
        return []
    with open(path, newline='') as file:
        return list(csv.DictReader(file))


def is_done(case: Case, method, out):
    asked = case.name, str(case.seed), str(case.share), method
    return asked in {(row['network'], row['seed'], row['budget'], row['method']) for row in known(out)}


def cases(asked):
    "All that is to be done, the most telling first."
    first = [(asked.networks[0], asked.seeds[0], share) for share in asked.budgets]
    rest = [(name, seed, share) for seed in asked.seeds for share in asked.budgets for name in asked.networks]
    return [Case(*which, asked) for which in dict.fromkeys(first + rest)]


def main(asked):
    torch.set_num_threads(1)
    machine(threads=1)
    Path(asked.folder).mkdir(parents=True, exist_ok=True)
    if find_spec('torch_pruning') is None:
        raise SystemExit('the baselines need torch-pruning: pip install torch-pruning')
    for case in cases(asked):
        base(case)
        for method in asked.methods:
            if is_done(case, method, asked.out):
                continue
            row = job(case, method)
            write(asked.out, known(asked.out) + [row])
            print(row, flush=True)


if __name__ == '__main__':
    every = [*methods, *(f'{name} anew' for name in methods if name in ('uniform', 'ours'))]
    a = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    a.add_argument('--networks', nargs='+', choices=networks, default=[*networks])
    a.add_argument('--budgets', nargs='+', type=float, default=budgets, help='shares of the measured latency')
    a.add_argument('--methods', nargs='+', choices=every, default=every)
    a.add_argument('--seeds', nargs='+', type=int, default=[0, 1, 2])
    a.add_argument('--images', type=int, default=10_000, help='of training, a tenth of them to choose by')
    a.add_argument('--epochs', type=int, default=8, help='passes of the given network')
    a.add_argument('--tune', type=int, default=4, help='passes of tuning')
    a.add_argument('--channels', type=int, default=2, help='channels are multiples of it')
    a.add_argument('--folder', default=Path(tempfile.gettempdir()) / 'nas_suite-shrink', help='of trained networks')
    a.add_argument('--out', default='shrink', help='name of the table in benchmarks/results')
    main(a.parse_args())
