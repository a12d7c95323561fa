"""What scores before training are worth: networks of NAS-Bench-Macro, built for real and never trained, ranked by each
untrained score, by parameters and by MACs, beside the accuracy that the table says they reach."""

import argparse, sys, time, torch
from pathlib import Path
from scipy.stats import rankdata, spearmanr
from torch import nn
from machine import machine, write
from tabular import BUDGETS, budgeted, nasbench_macro, path_of
from nas_suite.choices import Space, encode, sample
from nas_suite.costs import macs, params
from nas_suite.layers import MixedOp
from nas_suite.strategies.black_box import sampler
from nas_suite.strategies.filling import filling
from nas_suite.strategies.training_free import TrainingFree, Untrained
from nas_suite.tasks.classification import Classification
from nas_suite.training import seeded, untrained_scores

sys.path.insert(0, str(Path(__file__).parents[1]))
from data_recipes import jpeg_npz


def conv(inputs, outputs, kernel=1, stride=1, groups=1):
    layer = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
    return nn.Sequential(layer, nn.BatchNorm2d(outputs))


class Block(nn.Module):
    "An inverted residual block."

    def __init__(self, inputs, outputs, stride, expand, kernel):
        super().__init__()
        hidden = expand * inputs
        grow, move = conv(inputs, hidden), conv(hidden, hidden, kernel, stride, hidden)
        self.body = nn.Sequential(grow, nn.ReLU6(), move, nn.ReLU6(), conv(hidden, outputs))
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x):
        return x + self.body(x) if self.residual else self.body(x)


class Macro(Space):
    "The space of NAS-Bench-Macro: its MACs and parameters are those of the table."

    input_shape = (3, 32, 32)
    rows = [(32, 64, 2), (64, 64, 1), (64, 128, 2), (128, 128, 1), (128, 128, 1), (128, 256, 2)] + [(256, 256, 1)] * 2

    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(conv(3, 32, 3), nn.ReLU6())
        self.layers = nn.Sequential(*(self.layer(*row) for row in self.rows))
        self.last = nn.Sequential(conv(256, 1280), nn.ReLU6(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.classes = nn.Linear(1280, 10)

    def layer(self, inputs, outputs, stride):
        blank = nn.Identity() if stride == 1 else conv(inputs, outputs, 1, stride)
        blocks = dict(e3k3=Block(inputs, outputs, stride, 3, 3), e6k5=Block(inputs, outputs, stride, 6, 5))
        return MixedOp(dict(identity=blank, **blocks))

    def forward(self, x):
        return self.classes(self.last(self.layers(self.stem(x))))


def images(n: int) -> Classification:
    "The task of a few CIFAR-10 images."
    data, _ = jpeg_npz.load(path_of('cifar10_jpeg.npz'), n, 1)
    return Classification('cifar-10', data, data, data, 10, (3, 32, 32), shift=0)


def found(task, space, rows, seed) -> dict:
    "What networks score: name -> tensor (N,), and the seconds that a network takes."
    scores, seconds = dict(params=params(space, space.input_shape).batch(rows)), dict(params=0.0, MACs=0.0)
    scores['MACs'] = macs(space, space.input_shape).batch(rows)
    for name in untrained_scores:
        began = time.process_time()
        scores[name] = Untrained(space, task, name, items=len(task.train), seed=seed)(rows)
        seconds[name] = (time.process_time() - began) / len(rows)
    scores['all ranks added'] = sum(torch.as_tensor(rankdata(scores[name])) for name in untrained_scores)
    seconds['all ranks added'] = sum(seconds.values())
    return scores, seconds


def searched(table, space, task, share, evaluations, seed) -> dict:
    "What the strategy finds within a share of the range of FLOPs, by its default score."
    limits, strategy = budgeted(table, share), TrainingFree()
    at_work, scores = sampler(table.space, strategy, limits, seed), Untrained(space, task, strategy.score, seed=seed)
    while len(at_work.told) < evaluations and (archs := at_work.ask(strategy.batch)):
        at_work.tell(archs, scores(encode(table.space, archs)))
    truth = float(table.truth(encode(table.space, at_work.best().arch))[0])
    row = dict(networks=f'found {share:.0%}', n=len(at_work.told), score=strategy.score, picked=round(truth, 3))
    print(*row.values())
    return row


def main(networks: int, items: int, evaluations: int, seed: int):
    table, space, task = nasbench_macro(), Macro(), images(items)
    for cost, name in ((macs, 'flops'), (params, 'params')):
        rows = table.rows()
        assert torch.allclose(cost(space, space.input_shape).batch(rows), table.costs[name].batch(rows), rtol=1e-9)
    kinds = {'any': sample(space, networks, seeded(seed, 'any')).unique(dim=0)}
    for share in BUDGETS:
        kinds[f'fill {share:.0%}'] = filling(table.space, budgeted(table, share), networks, seed)
    out = []
    for kind, rows in kinds.items():
        scores, seconds = found(task, space, rows, seed)
        truth = table.truth(rows)
        for name, values in scores.items():
            rho, best = spearmanr(values, truth).statistic, float(truth[values.argmax()])
            row = dict(networks=kind, n=len(rows), score=name, spearman=round(float(rho), 3), picked=round(best, 3))
            out.append(row | dict(mean=round(float(truth.mean()), 3), seconds=round(seconds[name], 3)))
            print(*out[-1].values())
    out += [searched(table, space, task, share, evaluations, seed) for share in BUDGETS]
    write('training_free', out)


if __name__ == '__main__':
    a = argparse.ArgumentParser(description=__doc__)
    a.add_argument('--networks', type=int, default=50)
    a.add_argument('--evaluations', type=int, default=100, help='of a search')
    a.add_argument('--items', type=int, default=16)
    a.add_argument('--seed', type=int, default=0)
    a = a.parse_args()
    torch.set_num_threads(1)
    machine(threads=1)
    main(a.networks, a.items, a.evaluations, a.seed)
