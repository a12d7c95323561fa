"Searches on tables where every network has been trained: the numbers of independent programmes for the same rules."

import math, sys
from pathlib import Path
import pytest, torch
from nas_suite.front.origins import strategies
from nas_suite.strategies.bayesian import Bayesian
from nas_suite.strategies.local_search import LocalSearch
from nas_suite.strategies.random import Random
from nas_suite.strategies.ridge import Ridge

sys.path.insert(0, str(Path(__file__).parent))
from tables import budgeted, nasbench201, nasbench_macro, reported, searched
import scoreboard


def means(table, make, limits, counts, seeds) -> list:
    "The mean truth of what is found with so many queries."
    found = [searched(table, make(), limits, max(counts), seed)[0] for seed in range(seeds)]
    return [sum(reported(table, rows, n) for rows in found) / seeds for n in counts]


def near(found, golden, sd, seeds):
    "Within three and a half standard errors of a mean; sd is that of one search."
    return all(abs(a - b) < 3.5 * s / math.sqrt(seeds) for a, b, s in zip(found, golden, sd))


def test_random_that_fills():
    table = nasbench_macro()
    found = means(table, Random, budgeted(table, 0.5), (10, 40, 160), 25)
    assert near(found, (91.92, 92.16, 92.33), (0.3, 0.18, 0.12), 25), found
    found = means(table, lambda: Random(used=0), budgeted(table, 0.5), (10, 40, 160), 25)
    assert near(found, (91.63, 92.00, 92.15), (0.45, 0.21, 0.15), 25), found


def test_local_search():
    table = nasbench201()
    found = means(table, LocalSearch, [], (25, 100), 8)
    assert near([94.373 - f for f in found], (0.97, 0.19), (0.7, 0.26), 8), found
    table = nasbench_macro()
    found = means(table, lambda: LocalSearch(used=0), budgeted(table, 0.5), (20, 80), 8)
    assert near(found, (91.97, 92.18), (0.35, 0.2), 8), found


def test_ridge():
    table = nasbench_macro()
    of_chains = lambda: Ridge(features='options', ranks=False, penalty=0.3)
    found = means(table, of_chains, budgeted(table, 0.5), (10, 20, 40, 80), 6)
    assert near(found, (91.92, 92.21, 92.376, 92.405), (0.3, 0.2, 0.091, 0.05), 6), found
    table = nasbench201()
    found = means(table, Ridge, [], (25, 50, 100), 6)
    assert near([94.373 - f for f in found], (0.90, 0.39, 0.24), (0.6, 0.45, 0.3), 6), found


def test_bayesian():
    "Within its own spread of what it found by other seeds, far above random networks that fill the budget."
    table = nasbench_macro()
    found = means(table, Bayesian, budgeted(table, 0.5), (40,), 6)
    assert near(found, (92.36,), (0.09,), 6), found
    table = nasbench201()
    found = means(table, Bayesian, [], (25, 50), 6)
    assert near([94.373 - f for f in found], (0.55, 0.22), (0.45, 0.3), 6), found


@pytest.mark.parametrize('make', [Random, LocalSearch, Ridge, Bayesian])
def test_each_network_is_asked_for_once_until_none_is_left(make):
    table = nasbench_macro()
    limits = budgeted(table, 0.15)
    fit = int((limits[0][0].batch(table.rows()) <= limits[0][1]).sum())
    rows, _ = searched(table, make(), limits, fit + 50, batch=20)
    assert len(rows) == len(rows.unique(dim=0)) == fit
    assert (limits[0][0].batch(rows) <= limits[0][1]).all()


def test_the_scoreboard_stops_where_nothing_can_change_and_takes_nothing_over_a_limit():
    table = nasbench_macro()
    case = scoreboard.Case(table, 'FLOPs 25%', budgeted(table, 0.25))
    make, enough = scoreboard.searches()['localsearch'], case.known()['signal']
    (early, asked), (to_the_end, more) = (
        scoreboard.truths(case, 'localsearch', make, 1, signal) for signal in (enough, math.inf)
    )
    assert early == to_the_end and asked < more
    seen, (cost, most) = case.seen(table.rows()), case.limits[0]
    assert torch.equal(seen > -math.inf, cost.batch(table.rows()) <= most)
    down, _ = scoreboard.truths(case, 'coordinatedescent', scoreboard.searches()['coordinatedescent'], 1, enough)
    assert max(down) <= case.known()['best']


def test_what_the_scoreboard_leaves_out_is_said():
    said = {row['strategy'] for row in scoreboard.absent()}
    assert said | set(scoreboard.searches()) == {*strategies(), 'random that fills', 'aging evolution'}
    assert all(row['why'] for row in scoreboard.absent())
