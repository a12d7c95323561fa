"""How well a supernet's inherited weights rank its networks, by the rule that it was trained by, at equal passes of
networks: rank correlation with the same networks trained alone. And fair slices of channels beside prefixes."""

import argparse, warnings, torch
from scipy.stats import kendalltau, spearmanr
from torch import nn
from machine import machine, write
from nas_suite.choices import Space, decode, one_of, sample
from nas_suite.extraction import extract
from nas_suite.layers import ElasticBatchNorm, ElasticConv2d, ElasticDepth, ElasticLinear, fair, scaled
from nas_suite.strategies.scores import Accuracy
from nas_suite.strategies.supernet import Supernet, sandwich
from nas_suite.tasks.classification import classification
from nas_suite.training import Loop, fit, seeded


class Block(nn.Module):
    "An inverted residual block whose expansion and kernel are searched."

    def __init__(self, width, expand, kernel):
        super().__init__()
        middle = scaled(width, expand)
        self.grow, self.bn1 = ElasticConv2d(width, middle, 1, bias=False), ElasticBatchNorm(middle)
        self.move = ElasticConv2d(middle, middle, kernel, padding='same', groups=middle, bias=False)
        self.bn2, self.act = ElasticBatchNorm(middle), nn.ReLU()
        self.back, self.bn3 = ElasticConv2d(middle, width, 1, bias=False), ElasticBatchNorm(width)

    def forward(self, x):
        y = self.act(self.bn1(self.grow(x)))
        y = self.act(self.bn2(self.move(y)))
        return x + self.bn3(self.back(y))


class Small(Space):
    "Width, depth, expansion and kernel of a chain of blocks."

    input_shape = (1, 8, 8)

    def __init__(self):
        super().__init__()
        width = one_of(4, 8, 16)
        self.stem, self.bn = ElasticConv2d(1, width, 3, 2, 1, bias=False), ElasticBatchNorm(width)
        blocks = [Block(width, one_of(1, 2, 3), one_of(1, 3, 5)) for _ in range(3)]
        self.blocks, self.head = ElasticDepth(blocks, one_of(1, 2, 3)), ElasticLinear(width, 10)

    def forward(self, x):
        return self.head(self.blocks(self.bn(self.stem(x))).mean((2, 3)))


class One(Space):
    "A layer of five widths."

    input_shape = (1, 8, 8)

    def __init__(self, slices=lambda width: width):
        super().__init__()
        width = slices(one_of(2, 4, 6, 8, 10))
        self.layer, self.norm = ElasticConv2d(1, width, 3, bias=False), ElasticBatchNorm(width)
        self.head = ElasticLinear(width, 10)

    def forward(self, x):
        return self.head(self.norm(self.layer(x)).relu().amax((2, 3)))


def new(make, seed, *args):
    torch.manual_seed(seed)
    return make(*args)


def alone(make, task, rows, seed, epochs) -> list:
    "What networks reach that are trained from new weights."
    found = []
    for row in rows:
        space = new(make, seed)
        network = extract(space, decode(space, row)[0])
        fit(network, task, epochs, lr=0.1, batch_size=64, seed=seed, data=task.train, progress=False)
        found.append(task.evaluate(network.eval(), task.valid, 'cpu')['accuracy'])
    return found


def inherited(space, task, rows, seed, **how) -> list:
    "What they reach with the weights of a supernet, re-calibrated."
    Supernet(**how).train(space, task, Loop(seed, progress=False))
    return Accuracy(space, task, seed=seed)(rows).tolist()


RULES = {  # rule -> networks that are drawn for a step, of which it then trains so many
    'sandwich': (2, 4),
    'uniform': (3, 3),
    'fair': (1, 3),
    'ordered': (3, 3),
}


def compared(task, networks, seeds, epochs) -> list:
    rows = sample(Small(), networks, seeded(0, 'networks')).unique(dim=0)
    truth = alone(Small, task, rows, 100, epochs)
    again = alone(Small, task, rows, 101, epochs)
    out = [dict(part='rules', rule='another seed alone', seed=0, spearman=spearmanr(truth, again).statistic)]
    mean = [(a + b) / 2 for a, b in zip(truth, again)]
    for seed in range(seeds):
        for rule, (drawn, passes) in RULES.items():
            stages = sandwich(3 * epochs * 3 / passes, lr=0.05, subnets=drawn)
            distill = 'in-place' if rule == 'sandwich' else 'none'
            found = inherited(new(Small, seed), task, rows, seed, stages=stages, rule=rule, distill=distill)
            out.append(dict(part='rules', rule=rule, seed=seed, spearman=spearmanr(found, mean).statistic))
            out[-1]['mean'] = sum(found) / len(found)
            print(out[-1], flush=True)
    return out


def sliced(task, seeds, epochs) -> list:
    rows, out = torch.arange(5)[:, None], []
    truth = torch.tensor([alone(One, task, rows, 200 + seed, epochs) for seed in range(4)]).mean(0)
    for seed in range(seeds):
        for name, slices in dict(prefix=lambda width: width, fair=fair).items():
            space, stages = new(One, seed, slices), sandwich(epochs)
            found = inherited(space, task, rows, seed, stages=stages, rule='fair', distill='none')
            tau = kendalltau(found, truth).statistic
            row = dict(part='slices', rule=name, seed=seed, kendall=tau, mean=sum(found) / 5)
            out.append(row | {f'width {2 * i + 2}': round(v, 3) for i, v in enumerate(found)})
            print(out[-1], flush=True)
    widths = {f'width {2 * i + 2}': round(float(v), 3) for i, v in enumerate(truth)}
    return out + [dict(part='slices', rule='alone') | widths]


if __name__ == '__main__':
    a = argparse.ArgumentParser(description=__doc__)
    a.add_argument('--networks', type=int, default=20)
    a.add_argument('--seeds', type=int, default=3)
    a.add_argument('--epochs', type=int, default=10)
    a = a.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter('ignore')
    machine(threads=1)
    digits = classification('digits')
    found = sliced(digits, 2 * a.seeds, a.epochs) + compared(digits, a.networks, a.seeds, a.epochs)
    write('supernet_rules', [{k: round(v, 3) if isinstance(v, float) else v for k, v in row.items()} for row in found])
