"Latencies as sums over options: devices of NAS-Bench-201, exact expectations, and budgets of every kind of search."

import json, math, sys
from pathlib import Path
import numpy as np, pytest, torch
from scipy.stats import spearmanr
from nas_suite import extraction, search, testing
from nas_suite.choices import choices, encode, restrict, sample
from nas_suite.costs import every_pair, macs, neighbours, regression
from nas_suite.front import budgets
from nas_suite.latency import LatencyRegressor, device_cost, given, load_regressor, opened, regressors, saved_cost
from nas_suite.spaces.mobile import proxyless
from nas_suite.strategies.evolution import Evolution
from nas_suite.strategies.gated import Gated
from nas_suite.strategies.integer_program import IntegerProgram
from nas_suite.strategies.probabilistic import Probabilistic
from nas_suite.strategies.regularized import Regularized
from nas_suite.tasks.classification import classification
from nas_suite.training import Loop

sys.path.insert(0, str(Path(__file__).parent))
import tables
from few_digits import third
from test_supernet import Net, task_for

DEVICES = {  # mean, R2 of options and of pairs, median relative error in % of either, rank correlation of options
    'titan_rtx_256': (18.86039, 0.9997, 0.9998, 0.22, 0.19, 0.9998),
    'gold_6226': (9.73753, 0.9779, 0.9796, 1.71, 1.77, 0.9890),
    'pixel2': (15.72538, 0.7970, 0.8010, 10.56, 10.39, 0.9070),
    'raspi4': (27.52672, 0.9048, 0.9590, 8.98, 7.15, 0.9427),
    'eyeriss': (5.51340, 1.0000, 1.0000, 0.00, 0.00, 0.9968),
    'fpga': (3.75184, 1.0000, 1.0000, 0.00, 0.00, 0.9995),
    '1080ti_1': (9.84376, 0.9907, 0.9919, 1.40, 1.33, 0.9892),
    'silver_4114': (18.96971, 0.9326, 0.9352, 7.16, 6.91, 0.9669),
    'essential_ph_1': (14.32755, 0.8594, 0.8619, 9.22, 8.91, 0.9353),
}


@pytest.mark.parametrize('device', DEVICES)
def test_devices(device):
    table, (mean, *wanted, rank) = tables.nasbench201(), DEVICES[device]
    rows, space = table.rows(), table.space
    ms = table.costs[device].batch(rows)
    fits = [regression(space, rows, ms, pairs) for pairs in ((), every_pair(space))]
    found = [round(fit.r2, 4) for fit in fits]
    said = [fit.model.batch(rows) for fit in fits]
    found += [round(100 * float(np.median(abs(some / ms - 1))), 2) for some in said]
    assert found == wanted and round(float(ms.mean()), 5) == mean
    if device not in ('eyeriss', 'fpga'):  # sums, but for rounding: what is equal there ranks by rounding
        assert round(float(spearmanr(said[0], ms).statistic), 4) == rank
    uniform = {name: torch.full((5,), 0.2, dtype=torch.float64) for name in choices(space)}
    for fit in fits:
        assert float(fit.model.expected(uniform)) == pytest.approx(float(ms.mean()), rel=1e-9)


def test_the_expectation_is_that_of_all_cells():
    table = tables.nasbench201()
    rows, space = table.rows(), table.space
    model = regression(space, rows, table.costs['raspi4'].batch(rows), every_pair(space)).model
    said, draw = model.batch(rows), np.random.default_rng(0)
    for _ in range(20):
        probs = torch.from_numpy(draw.dirichlet(np.ones(5), 6))
        weights = torch.stack([p[rows[:, d]] for d, p in enumerate(probs)]).prod(0)
        mean = float(weights @ said)
        assert float(model.expected(dict(zip(choices(space), probs)))) == pytest.approx(mean, rel=1e-10)


def timed(space, input_shape, pairs=(), least=100.0):
    "A regressor of networks whose latency is their MACs, and a constant."
    rows = sample(space, 60, torch.Generator().manual_seed(0))
    ms = least + macs(space, input_shape).batch(rows) / 1e3
    regressor = LatencyRegressor(space, pairs)
    regressor.fit(rows, ms.numpy())
    return regressor


def test_it_keeps_the_contract_of_costs():
    def make(space, input_shape):
        return timed(space, input_shape, neighbours(space)).cost_model()

    testing.check_cost(make)


def test_what_is_said_of_a_regressor():
    space = Net()
    regressor = timed(space, space.input_shape, every_pair(space))
    assert regressor.report['n'] == 60 and regressor.report['r2'] > 0.8 and 'R2' in repr(regressor)
    rows = sample(space, 20, torch.Generator().manual_seed(1))
    mean, deviation = regressor.predict(rows)
    median, upper = regressor.cost_model(confidence=0.5), regressor.cost_model()
    assert median.batch(rows).numpy() == pytest.approx(mean)
    assert upper.batch(rows).numpy() == pytest.approx(mean + 1.6448536 * deviation, abs=1e-6)
    assert regressor.identity() == timed(space, space.input_shape, every_pair(space)).identity()
    assert regressor.identity() != timed(space, space.input_shape).identity()
    smaller = restrict(space, {next(iter(choices(space))): choices(space)[next(iter(choices(space)))].options[:1]})
    assert regressor.cost_model(smaller).cheapest()[0] >= upper.cheapest()[0]
    with pytest.raises(ValueError, match='by this sum some network takes -[0-9.]+ ms'):
        timed(space, space.input_shape, least=1.0).cost_model()
    with pytest.raises(ValueError, match='of another space'):
        regressor.cost_model(tables_free())
    for ms in ([1.0] * 59, [0.0] * 60, [float('nan')] * 60):
        with pytest.raises(ValueError, match='latency above 0 ms'):
            regressor.fit(sample(space, 60), ms)


def tables_free():
    from spaces import fixed

    return fixed()


SEARCHES = {
    'gated': lambda: Gated(epochs=1, batch_size=4),
    'regularized': lambda: Regularized(epochs=1, batch_size=4, shrinks=2),
    'probabilistic': lambda: Probabilistic(epochs=1, batch_size=4),
    'evolution': lambda: Evolution(
        supernet=dict(epochs=1, batch_size=8), score='accuracy', population=4, parents=2, generations=1, finalists=2
    ),
    'integer program': lambda: IntegerProgram(supernet=dict(epochs=1, batch_size=8), evaluations=3, start=2, batch=2),
}


@pytest.mark.parametrize('name', SEARCHES)
def test_a_budget_of_every_search(name):
    space = Net()
    cost = device_cost(timed(space, space.input_shape), space, space.input_shape)
    low = cost.cheapest()[0]
    high = float(cost.batch(sample(space, 200, torch.Generator().manual_seed(2))).max())
    limits = [(cost, (low + high) / 2)]
    strategy = SEARCHES[name]()
    strategy.search(space, task_for(), limits, Loop(progress=False))
    arch = strategy.derive(space, limits)
    assert cost(arch) <= limits[0][1] and len(encode(space, arch)) == 1


def test_the_door_takes_a_regressor_for_a_table():
    space = Net()
    regressor = timed(space, space.input_shape)
    assert budgets.target('cpu', regressor) == ('cpu', regressor)
    assert budgets.identity(regressor) == regressor.identity()
    cost = device_cost(regressor, space, space.input_shape)
    reading = cost.predicted(cost.cheapest()[1])
    assert reading.low < reading.value < cost.cheapest()[0] and budgets.reachable(cost, 10 * cost.cheapest()[0])


# ---------------------------------------------------------------- in a file


def tiny():
    sizes = dict(stem=8, first=0, widths=(8,), depths=(2,), last=16, kernels=(3,), expands=(1, 2))
    return proxyless(classes=10, image_size=8, in_channels=1, **sizes)


def test_a_regressor_comes_back_from_its_file(tmp_path):
    space = Net()
    regressor = timed(space, space.input_shape, neighbours(space))
    cost = device_cost(regressor, space, space.input_shape)
    assert cost.save(tmp_path) == saved_cost(tmp_path) == tmp_path / 'regressor.npz'
    other = Net()  # of the same choices and sizes, other weights
    for given in (tmp_path, tmp_path / 'regressor.npz', opened(tmp_path)):
        again = device_cost(given, other, other.input_shape)
        rows = sample(space, 50, torch.Generator().manual_seed(3))
        assert torch.equal(again.batch(rows), cost.batch(rows)) and again.identity() == cost.identity()
        assert again.predicted(again.cheapest()[1]) == cost.predicted(cost.cheapest()[1])
    again = load_regressor(tmp_path / 'regressor.npz', space)
    assert again.report == regressor.report and repr(again) == repr(regressor)
    with pytest.raises(ValueError, match='of another space'):
        load_regressor(tmp_path / 'regressor.npz', tiny())
    with pytest.raises(ValueError, match='call fit first'):
        LatencyRegressor(space).save(tmp_path / 'x.npz')
    with pytest.raises(ValueError, match='ends in .npz'):
        regressor.save(tmp_path / 'x.json')


def test_a_damaged_regressor_is_refused_in_a_line(tmp_path):
    space = Net()
    regressor = timed(space, space.input_shape, neighbours(space)[:2])
    regressor.save(path := tmp_path / 'good.npz')
    with np.load(path) as stored:
        values, about = stored['values'], json.loads(str(stored['about']))
    facts = [about | {name: wrong} for name in about if name != 'format' for wrong in (None, [], {}, 'x', -1.0, [['a']])]
    facts += [about | dict(fit=about['fit'] | dict(offset=math.nan)), about | dict(more=1), about | dict(pairs=[['a', 'b']])]
    bad = [dict(about=np.array(json.dumps(fact)), values=values) for fact in facts]
    bad += [dict(about=np.array(json.dumps(about)), values=wrong) for wrong in (values[:-1], values * math.nan, values > 0)]
    for content in bad:
        np.savez(tmp_path / 'bad.npz', **content)
        with pytest.raises(ValueError) as e:
            device_cost(tmp_path / 'bad.npz', space, space.input_shape)
        assert '\n' not in str(e.value) and len(str(e.value)) < 400
    (tmp_path / 'bad.npz').write_bytes(path.read_bytes()[:99])
    with pytest.raises(ValueError, match='bad.npz is not a'):
        opened(tmp_path / 'bad.npz')


# ---------------------------------------------------------------- through the front door


def test_a_search_reads_its_table_once_and_goes_on(tmp_path, monkeypatch):
    "The file of a regressor as table=, also by a door, which asks spaces of all sizes for their latencies."
    task, space = classification(third()), tiny()
    regressor = timed(space, space.input_shape, least=1.0)
    path, reads, compared = regressor.save(tmp_path / 'phone.npz'), [], []
    monkeypatch.setattr(given, 'read_regressor', lambda path: reads.append(path) or regressors.read_regressor(path))
    plain = extraction._compared
    monkeypatch.setattr(extraction, '_compared', lambda *args: compared.append(1) or plain(*args))
    cost = device_cost(regressor, space, space.input_shape)
    budget = dict(latency_ms=(cost.cheapest()[0] + 1e9) / 2)
    how = dict(run_dir=tmp_path / 'run', retrain_epochs=1, finalists=0, progress=False)
    gated = Gated(epochs=1, batch_size=99)
    found = search.classification(task, strategy=gated, space=space, budget=budget, table=path, **how)
    assert reads == [path] and found.costs['latency_ms'] == pytest.approx(cost.middle(found.arch))
    assert (tmp_path / 'run' / 'regressor.npz').exists()
    compared.clear()
    again = search.load(tmp_path / 'run', space)
    assert again.arch == found.arch and not compared
