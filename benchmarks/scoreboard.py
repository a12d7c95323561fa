"""Every search that asks and tells, on tables where the truth of every network is known: what it finds with so many
queries, beside random search, random search that fills the budget, aging evolution and local search.

    python benchmarks/scoreboard.py [--seeds 50] [--seconds 30] [--again NAME ...]

What was done stands in results/scoreboard.csv, and is not done again. A search that takes more than --seconds of CPU on
one table is run with fewer seeds, and its row says how many. The seeds are others than those that the strategies were
tried with while they were written."""

import argparse, csv, inspect, time
from dataclasses import dataclass
from pathlib import Path
import torch
from machine import machine, write
from tabular import BUDGETS, CAPS, Table, budgeted, capped, nasbench201, nasbench_macro
from nas_suite.choices import decode, encode, mutate, sample, structure
from nas_suite.front.origins import strategies
from nas_suite.strategies.black_box import BlackBox, sampler
from nas_suite.strategies.evolution import Evolution
from nas_suite.strategies.fronts import spent
from nas_suite.strategies.random import Random
from nas_suite.training import seeded

COUNTS = (10, 25, 50, 100, 200, 400)
FIRST = 1000  # seed
PATH = Path(__file__).parent / 'results/scoreboard.csv'


class Aging(BlackBox):
    "Regularized evolution (Real et al., 2019): the best of some of the last few networks, one choice changed."

    def __init__(self, evaluations=200, batch=1, population=10, sample=5):
        super().__init__(evaluations=evaluations, batch=batch)
        self.population, self.sample = population, sample

    def begin(self, space, limits, seed):
        super().begin(space, limits, seed)
        self.structure, self.generator = structure(space), seeded(seed, 'aging')
        self.costs = [cost for cost, _ in limits]
        self.most = torch.tensor([most for _, most in limits], dtype=torch.float64)
        self.living = []  # pairs of a row and its score, the oldest first

    def ask(self, n):
        return decode(self.structure, torch.cat([self.child() for _ in range(n)]))

    def child(self):
        "A row (1, D): a random one at first, then a mutant of a parent; of 64 that are drawn the first within limits."
        while True:
            if len(self.living) < self.population:
                rows = sample(self.structure, 64, self.generator)
            else:
                at = torch.randint(self.population, (self.sample,), generator=self.generator).tolist()
                rows = self.mutants(max((self.living[i] for i in at), key=lambda one: one[1])[0])
            fits = (spent(rows, self.costs) <= self.most).all(1)
            if fits.any():
                return rows[fits][:1]

    def mutants(self, row, n=64):
        rows, at = row.repeat(n, 1), torch.randint(len(row), (n,), generator=self.generator)
        fresh = mutate(self.structure, rows, 1.0, self.generator)
        here = torch.nn.functional.one_hot(at, len(row)).bool()
        rows = torch.where(here, fresh, rows)
        return rows[(rows != row).any(1)]

    def tell(self, archs, scores):
        self.living += zip(encode(self.structure, archs), scores)
        self.living = self.living[-self.population :]


@dataclass
class Case:
    "A table under limits."

    table: Table
    budget: str
    limits: list

    def known(self) -> dict:
        "The best truth within the limits, and the mean truth of those that the signal says are best."
        rows = self.table.rows()
        if self.limits:
            rows = rows[(spent(rows, [c for c, _ in self.limits]) <= torch.tensor([m for _, m in self.limits])).all(1)]
        signal, truth = self.table.signal(rows), self.table.truth(rows)
        return dict(best=float(truth.max()), by_signal=float(truth[signal == signal.max()].mean()))


def cases() -> list:
    cells, chains = nasbench201(), nasbench_macro()
    caps = [Case(cells, f'{device} {share:.0%}', capped(cells, device, share)) for device, share in CAPS]
    budgets = [Case(chains, f'FLOPs {share:.0%}', budgeted(chains, share)) for share in BUDGETS]
    return [*budgets, Case(cells, 'none', []), *caps]


def made(kind) -> BlackBox:
    "A strategy with its default settings, for as many evaluations as there are queries."
    taken = inspect.signature(kind).parameters
    return kind(**({'evaluations': max(COUNTS)} if 'evaluations' in taken else {}))


def searches() -> dict:
    "Name -> function that makes a strategy: the baselines, and what the package has that asks and tells."
    kinds, most = strategies(), max(COUNTS)
    found = {'random': lambda: Random(used=0, evaluations=most), 'random that fills': lambda: made(Random)}
    found['bayesian'] = lambda: made(kinds['bayesian'])
    found['localsearch'] = lambda: made(kinds['localsearch'])
    found['aging evolution'] = lambda: made(Aging)
    found['evolution'] = lambda: Evolution(population=20, parents=5, finalists=5)
    for name, kind in kinds.items():
        if issubclass(kind, BlackBox) and kind.ask is not BlackBox.ask and kind not in (Random, Evolution) and name not in found:
            found[name] = lambda kind=kind: made(kind)
    return found


def truths(case: Case, strategy: BlackBox, seed: int) -> list:
    "The truth of the best by the signal of the first so many queries, for each of the counts."
    at_work, rows, done = sampler(case.table.space, strategy, case.limits, seed), [], 0
    batch = vars(strategy).get('batch', 20)
    while done < max(COUNTS):
        archs = at_work.ask(min(batch, max(COUNTS) - done))
        if not archs:
            break
        rows.append(encode(case.table.space, archs))
        at_work.tell(archs, case.table.signal(rows[-1]).tolist())
        done += len(archs)
    rows = torch.cat(rows)
    signal, truth = case.table.signal(rows), case.table.truth(rows)
    return [float(truth[signal[:n].argmax()]) for n in COUNTS]


def repeated(case: Case, make, seeds: int, seconds: float) -> tuple:
    "Truths (seeds, counts), of fewer seeds where these take too long, and CPU seconds of one search."
    begin, found = time.process_time(), []
    for seed in range(FIRST, FIRST + seeds):
        found.append(truths(case, make(), seed))
        if time.process_time() - begin > seconds and len(found) >= 5:
            break
    return torch.tensor(found, dtype=torch.float64), (time.process_time() - begin) / len(found)


def rows_of(case: Case, name: str, found, seconds: float) -> list:
    known = case.known()
    return [
        dict(
            table=case.table.name,
            budget=case.budget,
            strategy=name,
            queries=n,
            seeds=len(found),
            accuracy=round(float(of_n.mean()), 3),
            sd=round(float(of_n.std()), 3),
            regret=round(known['best'] - float(of_n.mean()), 3),
            to_the_signals_best=round(known['by_signal'] - float(of_n.mean()), 3),
            best=round(known['best'], 3),
            by_signal=round(known['by_signal'], 3),
            cpu_s=round(seconds, 2),
        )
        for n, of_n in zip(COUNTS, found.T)
    ]


if __name__ == '__main__':
    a = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    a.add_argument('--seeds', type=int, default=50)
    a.add_argument('--seconds', type=float, default=30)
    a.add_argument('--again', nargs='*', default=[], help='searches that are run anew')
    a = a.parse_args()
    machine(threads=1)
    torch.set_num_threads(1)
    rows = list(csv.DictReader(PATH.open())) if PATH.exists() else []
    rows = [row for row in rows if row['strategy'] not in a.again]
    done = {(row['table'], row['budget'], row['strategy']) for row in rows}
    todo = [(case, name, make) for name, make in searches().items() for case in cases()]
    for case, name, make in todo:
        if (case.table.name, case.budget, name) in done:
            continue
        try:
            found, seconds = repeated(case, make, a.seeds, a.seconds)
        except (TypeError, ValueError, NotImplementedError) as why:
            print(f'{name} does not search {case.table.name}: {why}')
            continue
        rows += rows_of(case, name, found, seconds)
        write('scoreboard', rows)
        said = ' '.join(f'{row["regret"]:.3f}' for row in rows[-len(COUNTS) :])
        print(f'{case.table.name:16} {case.budget:18} {name:18} {said}  {len(found)} seeds, {seconds:.2f} s', flush=True)
