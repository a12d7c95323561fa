"""Two spaces all of whose networks have been trained, so that a search can be judged by the truth: NAS-Bench-201 with
the latency of its cells on devices, and NAS-Bench-Macro with FLOPs."""

import os
from dataclasses import dataclass
from pathlib import Path
import numpy as np, torch
from torch import Tensor
from nas_suite.choices import Space, one_of, structure
from nas_suite.costs import CostModel
from nas_suite.costs.tables import Term

SOURCES = {  # file -> what is in it, and where the numbers are published
    'nasbench201/cifar10.npz': 'accuracy of 15,625 cells: arch_ops (15625, 6), columns, accuracy (15625, columns); '
    'github.com/D-X-Y/NAS-Bench-201',
    'latency/help/nb201.npz': 'latency of the same cells in the same order: devices, latency_ms (15625, devices); '
    'github.com/HayeonLee/HELP',
    'nasbench_macro/cifar10.npz': 'accuracy of 6,561 chains: arch (6561, 8), acc (6561, 3), flops, params; '
    'github.com/xiusu/NAS-Bench-Macro',
    'cifar10_jpeg.npz': 'images and labels of CIFAR-10; data_recipes/jpeg_npz.py says how they are laid out',
}
CAPS = [(device, share) for device in ('raspi4', 'titan_rtx_256', 'pixel2', 'fpga') for share in (0.25, 0.5)]
BUDGETS = (0.25, 0.5, 0.75)


def path_of(name: str) -> Path:
    "A file of the shared data; SystemExit, saying what it is and where its numbers are from, where it is absent."
    shared = Path(os.environ.get('NAS_SUITE_SHARED', Path(__file__).parents[2] / 'shared'))
    path = shared / 'data' / name
    if path.exists():
        return path
    raise SystemExit(f'there is no {path} (NAS_SUITE_SHARED is the folder of data/). It holds the {SOURCES[name]}')


def read(path) -> dict:
    with np.load(path) as file:
        return {key: file[key] for key in file.files}


class Plain(Space):
    "Choices, and nothing that they would decide: what networks score and cost stands in a table."

    def __init__(self, options: list, names: list):
        super().__init__()
        for name in names:
            setattr(self, name, one_of(*options))

    def forward(self, x):
        raise TypeError('the networks of this space are rows of a table')


@dataclass
class Table:
    "A space with what every network scores: what a search may see of it, and what it is really worth."

    name: str
    space: Plain
    signals: Tensor  # (options of the first choice, ..., options of the last)
    truths: Tensor  # The same, in % of accuracy
    costs: dict  # Name -> CostModel

    def signal(self, rows: Tensor) -> Tensor:
        "What is seen of networks. LongTensor[N, D] -> Tensor[N]."
        return self.signals[tuple(rows.T)]

    def truth(self, rows: Tensor) -> Tensor:
        "The accuracy to report. LongTensor[N, D] -> Tensor[N]."
        return self.truths[tuple(rows.T)]

    def rows(self) -> Tensor:
        "All networks, LongTensor[N, D], the last choice fastest."
        return torch.cartesian_prod(*(torch.arange(n) for n in self.truths.shape))

    def limit(self, cost: str, most: float) -> list:
        "Limits as a strategy takes them."
        return [(self.costs[cost], most)]


def laid_out(values, ops) -> Tensor:
    "Values (N,) of networks (N, D), in the place of their options."
    table = torch.full([int(n) + 1 for n in ops.max(0)], torch.nan, dtype=torch.float64)
    table[tuple(torch.from_numpy(ops.astype(int)).T)] = torch.as_tensor(values, dtype=torch.float64)
    return table


def looked_up(space, values: Tensor, name: str, unit: str = '') -> CostModel:
    "A cost that is a table over all choices."
    s = structure(space)
    return CostModel(s, s.column, [Term('network', tuple(range(values.ndim)), values)], name, unit=unit)


def added(space, values: Tensor, name: str) -> CostModel:
    "A cost that is a sum over choices, from a table of it over all choices."
    s, zero = structure(space), (0,) * values.ndim
    base, terms = values[zero], []
    for d, choice in enumerate(s.names):
        at = zero[:d] + (slice(None),) + zero[d + 1 :]
        terms.append(Term(choice, (d,), values[at] - base))
    return CostModel(s, s.column, terms, name, offset=float(base))


def nasbench201(find=path_of) -> Table:
    "Seen: validation after 12 epochs. Reported: test after 200. Costs: its latency on each device."
    table, measured = read(find('nasbench201/cifar10.npz')), read(find('latency/help/nb201.npz'))
    ops, columns = table['arch_ops'], table['columns'].tolist()
    edges = [f'edge{i}{j}' for i, j in ((0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (2, 3))]
    space = Plain(['none', 'skip', 'conv1x1', 'conv3x3', 'pool'], edges)
    seen, told = (
        laid_out(table['accuracy'][:, columns.index(f'cifar10_{name}')], ops) for name in ('valid_12ep', 'test_200ep')
    )
    latency = measured['latency_ms'].T
    costs = {d: looked_up(space, laid_out(ms, ops), d, 'ms') for d, ms in zip(measured['devices'].tolist(), latency)}
    return Table('NAS-Bench-201', space, seen, told, costs)


def nasbench_macro(find=path_of) -> Table:
    "Seen: the accuracy of the first seed. Reported: the mean of three. Costs: `flops`, `params`, sums over the layers."
    table = read(find('nasbench_macro/cifar10.npz'))
    ops, accuracy = table['arch'], table['acc'].astype(float)
    space = Plain(['identity', 'e3k3', 'e6k5'], [f'layer{i}' for i in range(8)])
    costs = {name: added(space, laid_out(table[name], ops), name) for name in ('flops', 'params')}
    return Table('NAS-Bench-Macro', space, laid_out(accuracy[:, 0], ops), laid_out(accuracy.mean(1), ops), costs)


def capped(table: Table, device: str, share: float) -> list:
    "Limits: the latency that this share of all cells stays within."
    cost = table.costs[device]
    return [(cost, float(np.quantile(cost.batch(table.rows()).numpy(), share)))]


def budgeted(table: Table, share: float) -> list:
    "Limits: this share of the way from the smallest to the largest FLOPs."
    spent = table.costs['flops'].batch(table.rows())
    return [(table.costs['flops'], float(spent.min() + share * (spent.max() - spent.min())))]
