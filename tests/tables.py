"""NAS-Bench-201 and NAS-Bench-Macro as of benchmarks/tabular.py: spaces of plain choices, scores and costs by lookup.
Tests that ask for them are skipped, naming what is missing, where the shared data are absent."""

import os, sys
from functools import cache
from pathlib import Path
import pytest, torch
from nas_suite.choices import encode
from nas_suite.strategies.black_box import sampler

sys.path.insert(0, str(Path(__file__).parents[1] / 'benchmarks'))
import tabular
from tabular import BUDGETS, CAPS, budgeted, capped  # noqa: F401


def path_of(name: str) -> Path:
    root = Path(os.environ.get('NAS_SUITE_SHARED', Path(__file__).parents[2] / 'shared'))
    if not (path := root / 'data' / name).exists():
        pytest.skip(f'needs the shared data {name} (set NAS_SUITE_SHARED to its folder)')
    return path


@cache
def nasbench201() -> tabular.Table:
    "`space`, `signal(rows)`, `truth(rows)`, `rows()`; limits: `capped(table, device, share)` of all cells."
    return tabular.nasbench201(path_of)


@cache
def nasbench_macro() -> tabular.Table:
    "The same of chains; limits: `budgeted(table, share)` of the range of FLOPs."
    return tabular.nasbench_macro(path_of)


def searched(table, strategy, limits, n: int, seed: int = 0, batch: int = None) -> tuple:
    "Rows and signals of the first `n` networks that a strategy asks for: LongTensor[n, D], Tensor[n]."
    at_work, rows = sampler(table.space, strategy, limits, seed), []
    while left := n - sum(map(len, rows)):
        archs = at_work.ask(min(left, batch or strategy.batch))
        if not archs:
            break
        rows.append(encode(table.space, archs))
        at_work.tell(archs, table.signal(rows[-1]).tolist())
    rows = torch.cat(rows)
    return rows, table.signal(rows)


def reported(table, rows, n: int) -> float:
    "The truth of the best of the first `n` networks, by what was seen of them."
    rows = rows[:n]
    return float(table.truth(rows[table.signal(rows).argmax()][None]))
