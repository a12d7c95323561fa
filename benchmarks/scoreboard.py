"""Every search that asks and tells, on tables where the truth of every network is known: what it finds with so many
queries, beside random search, random search that fills the budget, aging evolution and local search.

    python benchmarks/scoreboard.py [--seeds 50] [--seconds 60] [--only NAME ...] [--again NAME ...]

What was done stands in results/scoreboard.csv, and is not done again. A search that takes more than --seconds of CPU on
one table is run with fewer seeds, and its row says how many. A search is over when it has found what the signal says is
best: what it would ask for after that changes nothing. The seeds are others than those that the strategies were tried
with while they were written. What has no row, and why, stands in results/scoreboard_absent.csv."""

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

COUNTS = (10, 25, 40, 50, 100, 200, 400)
FIRST = 1000  # seed
PATH = Path(__file__).parent / 'results/scoreboard.csv'
CELLS, CHAINS = 'NAS-Bench-201', 'NAS-Bench-Macro'


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

    def seen(self, rows: torch.Tensor) -> torch.Tensor:
        "The signal of networks, minus infinity of those over a limit. LongTensor[N, D] -> Tensor[N]."
        most = torch.tensor([most for _, most in self.limits], dtype=torch.float64)
        fits = (spent(rows, [cost for cost, _ in self.limits]) <= most).all(1)
        return self.table.signal(rows).masked_fill(~fits, -torch.inf)

    def known(self) -> dict:
        """The best truth within the limits, the best signal, and the mean truth of those that the signal says are
        best."""
        rows = self.table.rows()
        seen, truth = self.seen(rows), self.table.truth(rows)
        best = truth[seen > -torch.inf].max()
        return dict(best=float(best), signal=float(seen.max()), by_signal=float(truth[seen == seen.max()].mean()))


def cases() -> list:
    cells, chains = nasbench201(), nasbench_macro()
    caps = [Case(cells, f'{device} {share:.0%}', capped(cells, device, share)) for device, share in CAPS]
    budgets = [Case(chains, f'FLOPs {share:.0%}', budgeted(chains, share)) for share in BUDGETS]
    return [*budgets, Case(cells, 'none', []), *caps]


ABSENT = {  # (strategy, table) -> why it is not searched
    ('coordinatedescent', CELLS): 'goes from the largest network down; operators of a cell have no order of size',
    ('coordinatedescent', 'without a limit'): 'goes down to a limit',
    ('trainingfree', CELLS): 'scores networks before they are trained; a table has numbers, and no networks',
    ('trainingfree', CHAINS): 'the same; benchmarks/training_free.py builds these chains and says what it finds',
}


PLANNED = ('coordinatedescent',)  # goes down to the limits in as many evaluations as it may have: a search a count


def absent() -> list:
    "Rows of what is not searched, and why: what asks and tells, and what does not."
    rows = [dict(strategy=name, table=table, why=why) for (name, table), why in ABSENT.items()]
    gradients = 'asks for no networks: it learns choices together with weights, and a table has no weights'
    others = [name for name, kind in strategies().items() if not asks(kind)]
    return rows + [dict(strategy=name, table='all', why=gradients) for name in others]


def asks(kind) -> bool:
    return issubclass(kind, BlackBox) and kind.ask is not BlackBox.ask


def made(kind, evaluations: int) -> BlackBox:
    "A strategy with its default settings, for so many evaluations where it asks how many there are."
    taken = inspect.signature(kind).parameters
    return kind(**({'evaluations': evaluations} if 'evaluations' in taken else {}))


def searches() -> dict:
    "Name -> function from evaluations to a strategy: the baselines, and what the package has that asks and tells."
    found = {'random': lambda n: Random(used=0, evaluations=n), 'random that fills': lambda n: made(Random, n)}
    found['aging evolution'] = lambda n: made(Aging, n)
    found['evolution'] = lambda n: Evolution(population=20, parents=5, finalists=5)
    others = {name: kind for name, kind in strategies().items() if asks(kind) and kind not in (Random, Evolution)}
    return found | {name: (lambda n, kind=kind: made(kind, n)) for name, kind in others.items()}


def plays(name: str, case: Case) -> bool:
    "Is a search run on a table under limits?"
    where = {case.table.name} | ({'without a limit'} if not case.limits else set())
    return not any((name, table) in ABSENT for table in where)


def looked(case: Case, strategy: BlackBox, seed: int, most: int, enough: float) -> torch.Tensor:
    "Up to so many networks that a strategy asks for, rows (N, D): none after one whose signal is `enough`."
    at_work, rows, found = sampler(case.table.space, strategy, case.limits, seed), [], 0
    batch, best = vars(strategy).get('batch', 20), -torch.inf
    while found < most and best < enough:
        archs = at_work.ask(min(batch, most - found))
        if not archs:
            break
        rows.append(encode(case.table.space, archs))
        at_work.tell(archs, case.table.signal(rows[-1]).tolist())
        found, best = found + len(archs), max(best, float(case.seen(rows[-1]).max()))
    return torch.cat(rows)


def truths(case: Case, name: str, make, seed: int, enough: float) -> tuple:
    """The truth of the best by the signal of the first so many queries, for each of the counts, NaN where none of them
    is within the limits, and how many networks were asked for in all."""
    counts = COUNTS if name in PLANNED else [max(COUNTS)]
    each = [looked(case, make(n), seed, n, enough) for n in counts]
    found = []
    for rows, n in zip(each if name in PLANNED else each * len(COUNTS), COUNTS):
        seen = case.seen(rows[:n])
        best = float(case.table.truth(rows[seen.argmax()][None])[0])
        found.append(best if seen.max() > -torch.inf else torch.nan)
    return found, sum(map(len, each))


@dataclass
class Repeats:
    "What searches found that differ in the seed alone."

    truths: torch.Tensor  # (seeds, counts)
    asked: int  # Networks, in all
    seconds: float  # Of the CPU, in all


def repeated(case: Case, name: str, make, seeds: int, seconds: float) -> Repeats:
    "Searches by as many seeds, by fewer where these take too long."
    begin, found, enough = time.process_time(), [], case.known()['signal']
    for seed in range(FIRST, FIRST + seeds):
        found.append(truths(case, name, make, seed, enough))
        if time.process_time() - begin > seconds and len(found) >= 5:
            break
    each, asked = zip(*found)
    return Repeats(torch.tensor(each, dtype=torch.float64), sum(asked), time.process_time() - begin)


def rows_of(case: Case, name: str, found: Repeats) -> list:
    known, of_all = case.known(), dict(table=case.table.name, budget=case.budget, strategy=name)
    rows = []
    for n, truth in zip(COUNTS, found.truths.T):
        mean = float(truth.mean())
        row = dict(queries=n, seeds=len(truth), accuracy=mean, sd=float(truth.std()), regret=known['best'] - mean)
        row |= dict(to_the_signals_best=known['by_signal'] - mean, best=known['best'], by_signal=known['by_signal'])
        row |= dict(ms_a_query=1000 * found.seconds / found.asked, cpu_s=found.seconds)
        rows.append(of_all | {key: round(value, 3) for key, value in row.items()})
    return rows


if __name__ == '__main__':
    a = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    a.add_argument('--seeds', type=int, default=50)
    a.add_argument('--seconds', type=float, default=60)
    a.add_argument('--only', nargs='*', help='searches that are run; default: all')
    a.add_argument('--again', nargs='*', default=[], help='searches that are run anew')
    a = a.parse_args()
    machine(threads=1)
    torch.set_num_threads(1)
    rows = list(csv.DictReader(PATH.open())) if PATH.exists() else []
    rows = [row for row in rows if row['strategy'] not in a.again]
    done = {(row['table'], row['budget'], row['strategy']) for row in rows}
    write('scoreboard_absent', absent())
    todo = [(case, name, make) for name, make in searches().items() for case in cases() if plays(name, case)]
    for case, name, make in todo:
        if a.only and name not in a.only or (case.table.name, case.budget, name) in done:
            continue
        found = repeated(case, name, make, a.seeds, a.seconds)
        rows += rows_of(case, name, found)
        write('scoreboard', rows)
        said = ' '.join(f'{row["regret"]:.3f}' for row in rows[-len(COUNTS) :])
        print(f'{case.table.name:16} {case.budget:18} {name:18} {said}  {found.seconds:.0f} s', flush=True)
    total = sum(float(row['cpu_s']) for row in rows if int(row['queries']) == COUNTS[0])
    print(f'{total / 60:.1f} CPU minutes in all, at least {min(int(row["seeds"]) for row in rows)} seeds a row')
