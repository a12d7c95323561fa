"Scored pruning on NAS-Bench-Macro: exact means, what rounds leave, what limits change, and scores of samples."

import sys
from pathlib import Path
import pytest, torch
from nas_suite.choices import choices, encode, largest
from nas_suite.costs import macs
from nas_suite.strategies.black_box import sampler
from nas_suite.strategies.pruning import Pruning, option_scores, pruned
from nas_suite.training import Loop

sys.path.insert(0, str(Path(__file__).parent))
from tables import budgeted, nasbench_macro, searched
from test_supernet import Net, task_for

ALL = [
    [88.615, 90.822, 91.304],
    [88.932, 90.730, 91.077],
    [88.667, 90.799, 91.273],
    [89.403, 90.583, 90.754],
    [89.403, 90.562, 90.775],
    [89.197, 90.644, 90.899],
    [89.850, 90.359, 90.531],
    [89.850, 90.358, 90.532],
]
HALF = [
    [87.736, 89.970, 90.217],
    [88.192, 89.925, 89.772],
    [87.646, 89.991, 90.307],
    [88.571, 89.661, 89.331],
    [88.571, 89.633, 89.377],
    [88.129, 89.771, 89.780],
    [89.066, 89.302, 88.858],
    [89.066, 89.300, 88.860],
]


def setting():
    table = nasbench_macro()
    rows = table.rows()
    limits = budgeted(table, 0.5)
    return table, rows, table.truth(rows), limits, limits[0][0].batch(rows) <= limits[0][1]


def left(view):
    return [list(c.survivors) for c in choices(view).values()]


def test_exact_scores_of_options():
    table, rows, truth, _, fits = setting()
    for some, want in ((fits | True, ALL), (fits, HALF)):
        found = torch.stack(list(option_scores(table.space, rows[some], truth[some]).values()))
        assert (found - torch.tensor(want)).abs().max() < 6e-4


def test_what_rounds_leave():
    table, rows, truth, limits, fits = setting()
    view = pruned(table.space, rows, truth, [])
    kept = (rows > 0).all(1)
    assert left(view) == [[1, 2]] * 8 and int(kept.sum()) == 256
    assert float(truth[kept].mean()) == pytest.approx(92.547, abs=5e-4)
    assert float(truth.mean()) == pytest.approx(90.247, abs=5e-4)
    best = rows[kept][truth[kept].argmax()].tolist()
    assert best == [2, 2, 2, 2, 2, 2, 2, 1] and float(truth[kept].max()) == pytest.approx(93.107, abs=5e-4)
    assert rows[truth.argmax()].tolist() == [2, 2, 2, 1, 2, 2, 0, 2]  # lost
    assert 0.41 < float(kept[truth.argsort(descending=True)[:66]].double().mean()) < 0.45
    assert left(pruned(view, rows[kept], truth[kept], [])) == [[2]] * 8
    within = pruned(table.space, rows[fits], truth[fits], limits)
    assert left(within) == [[1, 2]] * 6 + [[0, 1]] * 2


def test_sampled_scores_mostly_drop_the_same():
    table, rows, truth, _, fits = setting()
    for some, least in ((fits | True, 0.8), (fits, 0.7)):
        pool, same = rows[some], []
        exact = [int(v.argmin()) for v in option_scores(table.space, pool, truth[some]).values()]
        for seed in range(40):
            drawn = pool[torch.randperm(len(pool), generator=torch.Generator().manual_seed(seed))[:60]]
            found = option_scores(table.space, drawn, table.signal(drawn)).values()
            same.append(sum(int(v.nan_to_num(1e9).argmin()) == e for v, e in zip(found, exact)) / 8)
        assert least < sum(same) / 40 < 0.95


def test_it_never_prunes_what_a_budget_needs():
    "The cheapest network alone is within the limit: its options stay, whatever they score."
    table, rows, truth, _, _ = setting()
    cost = table.costs['flops']
    view = pruned(table.space, rows, truth, [(cost, 1.0001 * cost.cheapest()[0])])
    assert all(0 in survivors for survivors in left(view))


def test_asked_and_told():
    "Within the limits, in any number at a time the same, and the rounds follow one another; failures are not judged."
    table, rows, truth, limits, _ = setting()
    asked = []
    for batch in (5, 20):
        strategy = Pruning(rounds=2, samples=20, evaluations=60)
        asked.append(searched(table, strategy, limits, 60, seed=1, batch=batch)[0])
        assert strategy.turn == 2 and sum(map(len, left(strategy.view))) < 24
    assert torch.equal(*asked) and (limits[0][0].batch(asked[0]) <= limits[0][1]).all()
    at_work = sampler(table.space, Pruning(samples=10, rounds=1), limits)
    at_work.tell(archs := at_work.ask(10), [float('nan')] * 10)
    assert at_work.strategy.view is table.space and len(encode(table.space, at_work.ask(3))) == 3 == len(archs) - 7


# ---------------------------------------------------------------- training between the rounds


def begun(folder, **loop):
    "A search in two rounds, with a checkpoint after each step, and its space."
    torch.manual_seed(0)
    space = Net()
    strategy = Pruning(evaluations=4, batch=2, rounds=2, samples=4, between=1, supernet=dict(epochs=1, batch_size=8))
    at = Loop(checkpoint=folder / 'search.pt', progress=False, save_s=0, **loop)
    return space, strategy, at


def test_what_is_left_is_trained_between_the_rounds(tmp_path):
    space, strategy, loop = begun(tmp_path / 'whole')
    cost = macs(space, space.input_shape)
    limits = [(cost, 0.8 * cost(largest(space)))]
    trained = strategy.search(space, task_for(), limits, loop)
    assert list(dict.fromkeys(row['stage'] for row in trained.history)) == ['all', 'round 1', 'round 2']
    steps = [row['step'] for row in trained.history]
    assert steps == sorted(steps) and strategy.epochs == 3 and loop.step == 3 * (max(steps) + 1) // 3
    left = list(map(len, strategy.left.values()))
    assert all(n <= len(c) for n, c in zip(left, choices(space).values())) and sum(left) < sum(map(len, choices(space).values()))
    assert all(arch[n] in strategy.left[n] for arch in [strategy.derive(space, limits)] for n in arch)
    weights = {name: tensor.clone() for name, tensor in space.state_dict().items()}

    again, other, loop = begun(tmp_path / 'whole')  # as a trained supernet is opened: without limits
    other.search(again, task_for(), [], loop)
    assert other.left == strategy.left
    assert all(torch.equal(tensor, weights[name]) for name, tensor in again.state_dict().items())

    def stop(n):
        count.append(n)
        if len(count) == at:
            raise KeyboardInterrupt

    for at in (2, len(steps) and max(steps)):  # in the first training, and in the last
        count = []
        cut, mine, loop = begun(tmp_path / f'cut-{at}', on_step=stop)
        with pytest.raises(KeyboardInterrupt):
            mine.search(cut, task_for(), limits, loop)
        cut, mine, loop = begun(tmp_path / f'cut-{at}')
        mine.search(cut, task_for(), limits, loop)
        assert mine.left == strategy.left and mine.derive(cut, limits) == strategy.derive(space, limits)
        assert all(torch.equal(tensor, weights[name]) for name, tensor in cut.state_dict().items())
