"""Coordinate descent where the space is wide: four convolutions of eight widths each on scikit-learn's digits, under half of the
range of MACs; a supernet trained by ordered dropout judges, and the networks found are trained alone."""

import argparse, statistics, warnings, torch
from torch import nn
from machine import machine, write
from nas_suite.choices import Space, encode, largest, one_of, smallest
from nas_suite.costs import macs
from nas_suite.extraction import extract
from nas_suite.layers import ElasticBatchNorm, ElasticConv2d, ElasticLinear
from nas_suite.strategies.black_box import sampler
from nas_suite.strategies.coordinate_descent import CoordinateDescent
from nas_suite.strategies.local_search import LocalSearch
from nas_suite.strategies.random import Random
from nas_suite.strategies.scores import Accuracy
from nas_suite.strategies.supernet import Supernet, sandwich
from nas_suite.tasks.classification import classification
from nas_suite.training import Loop, fit


class Wide(Space):
    "Four convolutions, the third with a stride, of 2 to 16 channels each."

    input_shape = (1, 8, 8)

    def __init__(self):
        super().__init__()
        layers, before = [], 1
        for stride in (1, 1, 2, 1):
            width = one_of(*range(2, 17, 2))
            conv = ElasticConv2d(before, width, 3, stride, 1, bias=False)
            layers += [conv, ElasticBatchNorm(width), nn.ReLU()]
            before = width
        self.layers, self.head = nn.Sequential(*layers), ElasticLinear(before, 10)

    def forward(self, x):
        return self.head(self.layers(x).mean((2, 3)))


SEARCHES = {
    'descent, one layer': lambda n: CoordinateDescent(evaluations=n),
    'descent, three layers': lambda n: CoordinateDescent(evaluations=n, layers=3),
    'random that fills': lambda n: Random(evaluations=n),
    'local search': lambda n: LocalSearch(evaluations=n),
}


def alone(seed, arch, task, epochs) -> float:
    "What a network reaches on test data that is trained from new weights."
    torch.manual_seed(seed)
    network = extract(Wide(), arch)
    fit(network, task, epochs, lr=0.1, batch_size=64, seed=seed, progress=False)
    return task.evaluate(network.eval(), task.test, 'cpu')['accuracy']


def main(seeds: int, evaluations: int, epochs: int):
    task, out = classification('digits'), []
    for seed in range(seeds):
        torch.manual_seed(seed)
        space = Wide()
        how = Supernet(sandwich(3 * epochs, subnets=1), rule='ordered', distill='none')
        how.train(space, task, Loop(seed, progress=False))
        score, cost = Accuracy(space, task, seed=seed), macs(space, space.input_shape)
        limits = [(cost, (cost(smallest(space)) + cost(largest(space))) / 2)]
        for name, make in SEARCHES.items():
            mine = sampler(space, make(evaluations), limits, seed)
            while (left := evaluations - len(mine.told)) and (archs := mine.ask(min(20, left))):
                mine.tell(archs, score(encode(space, archs)).tolist())
            best = mine.best()
            found = statistics.mean(alone(100 + k, best.arch, task, epochs) for k in range(2))
            row = dict(search=name, seed=seed, networks=len(mine.told), inherited=best.score, alone=found)
            out.append(row | dict(used=cost(best.arch) / limits[0][1]))
            print(out[-1], flush=True)
    write('coordinate_descent', [{k: round(v, 4) if isinstance(v, float) else v for k, v in row.items()} for row in out])


if __name__ == '__main__':
    a = argparse.ArgumentParser(description=__doc__)
    a.add_argument('--seeds', type=int, default=4)
    a.add_argument('--evaluations', type=int, default=100)
    a.add_argument('--epochs', type=int, default=10)
    a = a.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter('ignore')
    machine(threads=1)
    main(a.seeds, a.evaluations, a.epochs)
