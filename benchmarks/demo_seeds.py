"""The demo for several seeds: the network found beside random ones of equal measured latency and the hand-designed one,
scaled to the budget. Goes on where it was cut off. The latency table is measured once, and `--table` takes one that is
there: it is the same machine for all seeds."""

import argparse, csv, os, time, torch, warnings
from functools import partial
from pathlib import Path
from machine import machine
from nas_suite.latency import tables
from nas_suite.demo import search_and_compare, sizes, small_space
from nas_suite.files import read_json
from nas_suite.latency import load_table, table

results = Path(__file__).parent / 'results' / 'demo_seeds.csv'


def kept(file: Path) -> list:
    "The rows that are there."
    return list(csv.DictReader(open(file))) if file.exists() else []


def keep(rows: list, results: Path):
    "Write all rows, whole or not at all."
    draft = results.with_suffix('.tmp')
    with open(draft, 'w', newline='') as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    os.replace(draft, results)


def clock_of(folder: Path, given: Path | None):
    "The latency table of this machine, measured once."
    space, shape = small_space(), (1, 32, 32)
    file = given or folder / 'latency.json'
    if file.exists():
        found = load_table(file, space, shape)
        if not found.here():
            raise SystemExit(f'{file} was measured elsewhere, or with other cores: nothing could be measured beside it')
        return found
    measured = table(space, shape, rounds=100, calibrate=12, threads=sizes['threads'])
    folder.mkdir(parents=True, exist_ok=True)
    measured.save(folder)
    return measured


def own(network: dict) -> bool:
    "Whether a network is one of the searched space, not a hand-designed one that was scaled."
    return ' x' not in network['name']


def rows_of(seed: int, folder: Path, clock, said: dict) -> list:
    "A row for each network of one seed's demo."
    began = time.process_time()
    networks = search_and_compare(folder / f'seed-{seed}', sizes | dict(seed=seed), False, clock)
    took = time.process_time() - began
    budget = read_json(folder / f'seed-{seed}' / 'config.json')['budget']['latency_ms']
    common = said | dict(budget_ms=budget, cpu_s=round(took, 1))
    return [
        dict(
            seed=seed,
            name=network['name'],
            accuracy=round(network['accuracy'], 4),
            latency_ms=round(network['latency_ms'], 4),
            table_ms=round(clock(network['arch']), 4) if own(network) else '',
            macs=network['macs'],
            params=network['params'],
            arch=' '.join(network['arch'].values()),
            **common,
        )
        for network in networks
    ]


def won(rows: list, seed: str) -> dict:
    "Whether the network found is ahead of every, and of the mean of, the random ones, and of the hand-designed one."
    mine = {row['name']: float(row['accuracy']) for row in rows if str(row['seed']) == seed}
    random = [score for name, score in mine.items() if name.startswith('random')]
    found, by_hand = mine['found'], next((score for name, score in mine.items() if name.startswith('Mobile')), 0.0)
    return dict(mean=found > sum(random) / len(random), every=found > max(random), by_hand=found > by_hand, found=found)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--seeds', type=int, nargs='+', default=list(range(10)))
    parser.add_argument('--folder', type=Path, default=Path('runs/demo-seeds'), help='of the runs')
    parser.add_argument('--table', type=Path, help='of this machine, measured before')
    parser.add_argument('--busy', action='store_true', help="latency in the thread's own time: others use this machine")
    parser.add_argument('--results', type=Path, default=results, help='of each process another, if there are several')
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.busy:
        tables.measure = partial(tables.measure, clock=time.thread_time_ns)
    warnings.simplefilter('ignore')
    machine(threads=1)
    said = {name: value for name, value in sizes.items() if name != 'seed'}
    said |= dict(timed='thread' if arguments.busy else 'wall')
    clock, rows = clock_of(arguments.folder, arguments.table), kept(arguments.results)
    for seed in arguments.seeds:
        if any(row['seed'] == str(seed) for row in rows):
            continue
        rows += [
            {name: str(value) for name, value in row.items()} for row in rows_of(seed, arguments.folder, clock, said)
        ]
        keep(rows, arguments.results)
        print(seed, won(rows, str(seed)), flush=True)
    seeds = sorted({row['seed'] for row in rows})
    wins = [won(rows, seed) for seed in seeds]
    for name in ('mean', 'every', 'by_hand'):
        print(f'ahead of {name}: {sum(win[name] for win in wins)} of {len(wins)}')


if __name__ == '__main__':
    main()
