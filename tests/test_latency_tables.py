"Latency tables under a clock that is known, so that what they predict can be compared with what is true."

import json, sys
from pathlib import Path
import numpy as np, pytest, torch
from torch import nn
from nas_suite.choices import *
from nas_suite.extraction import extract
from nas_suite.layers import ElasticEmbedding, ElasticLinear
from nas_suite.costs import Reading
from nas_suite.latency import (
    Measured,
    calibrated_table,
    compare,
    device_cost,
    environment,
    key,
    load_table,
    merge,
    save_table,
    saved_cost,
    table,
    tables,
)
from nas_suite.relaxation import probabilities
from nas_suite.spaces.mobile import proxyless
from nas_suite.spaces.segmenter import ssr_segmenter

sys.path.insert(0, str(Path(__file__).parent))
from spaces import fixed, rows

shape = 1, 8, 8


def mobile(**more):
    torch.manual_seed(0)
    return proxyless(
        **dict(
            classes=3,
            image_size=8,
            in_channels=1,
            stem=8,
            first=0,
            widths=(8,),
            depths=(3,),
            strides=(1,),
            last=16,
            kernels=(3,),
            expands=(1, 2),
        )
        | more
    )


def cost_ms(net):
    return sum(0.01 + 1e-4 * sum(p.numel() for p in m.parameters()) for m in net.modules() if not m._modules)


@pytest.fixture
def clock(monkeypatch):
    "Layers take a time that adds up; whole networks take that twice and .5 ms more. `clock.timed` lists what was timed."

    class Clock:
        timed, speed = [], 1.0

    def measure(
        modules, example, rounds=30, backend='eager', threads=None, device='cpu', seed=0, budget_s=None, progress=False
    ):
        Clock.timed.append(list(modules))
        inputs = [example[n] if isinstance(example, dict) else example for n in modules]
        xs = [x if isinstance(x, tuple) else (x,) for x in inputs]
        with torch.no_grad():
            for net, x in zip(modules.values(), xs):
                net(*x)  # what is timed runs on what it is given
        ms = [cost_ms(m) for m in modules.values()]
        if not isinstance(example, dict):
            ms = [2 * v + 0.5 for v in ms]  # whole networks
        first = xs[0][0]
        where = environment(backend, device, threads, len(first), str(first.dtype).removeprefix('torch.'))
        return Measured(
            list(modules), np.tile(np.array(ms) * Clock.speed, (rounds, 1)), np.full(rounds, 0.25 * Clock.speed), where
        )

    monkeypatch.setattr(tables, 'measure', measure)
    return Clock


@pytest.fixture
def make(tmp_path):
    return lambda space=None, input_shape=shape, **more: table(
        mobile() if space is None else space,
        input_shape,
        **dict(cache=tmp_path / 'cache', rounds=6, progress=False) | more,
    )


def files(tmp_path):
    return [p for p in (tmp_path / 'cache').rglob('*.json') if p.name != 'environment.json']


def archs(space):
    return decode(space, rows(space))


# ---------------------------------------------------------------- what is timed, and what it adds up to


def test_each_different_unit_is_timed_once(clock, make, tmp_path):
    t = make(calibrate=0)
    # two MBConvs with their shortcut (three blocks choose between them; a skipped block takes nothing), stem, last convolution, pooling, flatten, dropout, classifier
    assert (
        len(t.entries) == 2 + 6 == len(clock.timed[0]) == len(set(clock.timed[0])) == len(files(tmp_path))
        and len(clock.timed) == 1
    )
    assert all(v > 0 for v in t.entries.values()) and '' not in t.entries
    assert (
        len(make(mobile(depths=(5,)), calibrate=0).entries) == 8 and len(clock.timed) == 1
    )  # more blocks of the same kind
    more = make(
        mobile(widths=(8, 16), depths=(2, 2), strides=(1, 1)), calibrate=0
    )  # two that widen and two at the new width; last convolution
    assert len(more.entries) == 6 + 2 + 4 and len(clock.timed) == 2 and len(clock.timed[1]) == 4 + 1


@pytest.mark.parametrize(
    'space, input_shape',
    [
        (mobile, shape),
        (lambda: mobile(expands=(1, 2, 3), first=8, kernels=(3, 5), dropout=0.1), shape),
        (fixed, (2, 5, 5)),
    ],
    ids=['proxyless', 'more', 'elastic'],
)
def test_predictions_are_exact_where_latencies_add_up(clock, make, space, input_shape):
    space = space()
    t, every = make(space, input_shape), archs(space)[:: max(1, count(space) // 40)]
    want = [2 * cost_ms(extract(space, a)) + 0.5 for a in every]
    assert (
        t.calibration['scale'] == pytest.approx(2, rel=1e-6)
        and t.calibration['offset'] == pytest.approx(0.5, rel=1e-6)
        and t.calibration['loo_error_percent'] < 1e-4
    )
    assert [t(a) for a in every] == pytest.approx(want, rel=1e-6) and min(want) > 0
    assert t.batch(encode(space, every)).tolist() == [t(a) for a in every]
    plain = make(space, input_shape, calibrate=0)
    a, b = t.calibration['scale'], t.calibration['offset']
    for arch in every[::10]:
        assert t(arch) == pytest.approx(a * plain(arch) + b) and plain(arch) == pytest.approx(
            sum(plain.parts(arch).values())
        )
        assert sum(t.parts(arch).values()) == pytest.approx(t(arch) - b)
    uniform = {n: torch.ones(len(c)).double() / len(c) for n, c in choices(space).items()}
    mean = t.batch(
        canonical(space, torch.cartesian_prod(*(torch.arange(len(c)) for c in choices(space).values())))
    ).mean()
    assert float(t.expected(uniform)) == pytest.approx(float(mean))
    probs = probabilities(space)
    t.expected(probs).backward()
    assert sum(float(c.alpha.grad.abs().sum()) for c in choices(space).values()) > 0


def test_a_unit_gets_the_width_of_what_was_selected_before_it(clock, make):
    "A cell of the segmentation space may follow any candidate of the one before, each with a width of its own."
    torch.manual_seed(0)
    space = ssr_segmenter(
        3,
        (16, 24),
        channels=(8, 12),
        depths=((1, 2), 1),
        dilations=(1, 2),
        factors=(1,),
        cuts=(4, 0),
        stem=4,
        grids=(1, 2),
        branch=2,
        low=4,
        head=6,
    )
    t, every = make(space, (3, 16, 24)), decode(space, sample(space, 20, torch.Generator().manual_seed(0)))
    assert [t(a) for a in every] == pytest.approx([2 * cost_ms(extract(space, a)) + 0.5 for a in every], rel=1e-6)


def test_units_of_tokens_run_on_all_of_their_shapes(clock, make):
    "An elastic width that belongs to the last dimension; the dimension before it, and what follows a mean over it."

    class FeedForward(Space):
        def __init__(self):
            super().__init__()
            self.input_shape, hidden = (50, 16), one_of(32, 64)
            self.norm, self.up, self.act, self.down = (
                nn.LayerNorm(16),
                ElasticLinear(16, hidden),
                nn.GELU(),
                ElasticLinear(hidden, 16),
            )
            self.head = nn.Linear(16, 4)

        def forward(self, x):
            return self.head((x + self.down(self.act(self.up(self.norm(x))))).mean(1))

    space = FeedForward()
    seen = {shapes[0] for _, shapes in tables.units(space, (50, 16), 2).nets.values()}
    assert seen == {(2, 50, 16), (2, 50, 32), (2, 50, 64), (2, 16)}
    t = make(space, (50, 16))
    assert [t(a) for a in archs(space)] == pytest.approx(
        [2 * cost_ms(extract(space, a)) + 0.5 for a in archs(space)], rel=1e-6
    )


def test_a_space_of_integers_has_a_table(counted, tmp_path):
    "What is computed in is the type of the weights, also where the first unit takes integers."

    class Tokens(Space):
        def __init__(self):
            super().__init__()
            self.input_shape, self.input_dtype, width = (12,), torch.long, one_of(4, 8)
            self.embedding, self.head = ElasticEmbedding(10, width), ElasticLinear(width, 3)

        def forward(self, x):
            return self.head(self.embedding(x).mean(1))

    space = Tokens()
    found = table(space, (12,), rounds=6, calibrate=0, cache=tmp_path / 'mine', progress=False)
    assert found.environment['precision'] == 'float32' and found(largest(space)) > 0
    again = table(space, (12,), rounds=6, calibrate=0, cache=tmp_path / 'mine', progress=False)
    assert again(largest(space)) == found(largest(space))  # read from the cache


def test_calibration_spans_the_space(clock, make):
    space = mobile(expands=(1, 2, 3))
    t = make(space, calibrate=5)
    costs = [t(a) for a in archs(space)]
    assert len(clock.timed) == 2 and len(clock.timed[1]) == t.calibration['n'] == 5
    assert min(t.calibration['measured']) == pytest.approx(min(costs)) and max(
        t.calibration['measured']
    ) == pytest.approx(max(costs))
    assert make(space, calibrate=1).calibration['n'] == 3  # no line through less


# ---------------------------------------------------------------- what is kept


def test_what_is_known_is_not_timed_again(clock, make, tmp_path, monkeypatch):
    first, kept = make(), {p: (p.read_text(), p.stat().st_mtime_ns) for p in files(tmp_path)}
    clock.timed.clear()
    again = make()
    assert [len(t) for t in clock.timed] == [
        first.calibration['n']
    ] and again.entries == first.entries  # whole networks only

    def never(*a, **k):
        raise AssertionError('timed')

    monkeypatch.setattr(tables, 'measure', never)
    assert (
        make(calibrate=0).entries == first.entries
        and {p: (p.read_text(), p.stat().st_mtime_ns) for p in files(tmp_path)} == kept
    )
    small = restrict(mobile(), {'blocks.0*': 'mb1_k3'})
    assert make(small, calibrate=0)(smallest(small)) == make(calibrate=0)(smallest(small))
    files(tmp_path)[3].unlink()
    with pytest.raises(AssertionError, match='timed'):
        make(calibrate=0)


def test_only_what_is_missing_is_timed(clock, make, tmp_path):
    first = make(calibrate=0)
    gone = files(tmp_path)[3]
    signature = json.loads(gone.read_text())['signature']
    gone.unlink()
    clock.timed.clear()
    assert make(calibrate=0).entries == first.entries and clock.timed == [[signature]]


@pytest.mark.parametrize('limits, sizes', [((3, 2**28), [3, 3, 2]), ((500, 1), [1] * 8)], ids=['units', 'bytes'])
def test_a_table_in_parts_goes_on_where_it_was_cut_off(clock, make, tmp_path, monkeypatch, limits, sizes):
    whole = make(calibrate=0, cache=tmp_path / 'whole')
    monkeypatch.setattr(tables, '_limits', limits)
    clock.timed.clear()
    budgets, built, real, timed = [], [], tables._real, tables.measure

    def cut_off(*a):
        built.append(a)
        if len(built) == sizes[0] + 1:
            raise KeyboardInterrupt  # while the second part is built
        return real(*a)

    monkeypatch.setattr(tables, '_real', cut_off)
    monkeypatch.setattr(tables, 'measure', lambda *a, budget_s=None, **k: budgets.append(budget_s) or timed(*a, **k))
    with pytest.raises(KeyboardInterrupt):
        make(calibrate=0)
    assert [len(t) for t in clock.timed] == sizes[:1] and len(files(tmp_path)) == sizes[0]
    budgets.clear()
    t = make(calibrate=0, budget_s=10.0)
    assert (
        [len(t) for t in clock.timed] == sizes
        and sorted(sum(clock.timed, [])) == sorted(whole.entries)
        and t.entries == whole.entries
    )  # each unit once
    assert sum(budgets) == pytest.approx(10) and sum(clock.timed, []) != list(
        whole.entries
    )  # seconds for all of them; in another order


def test_a_damaged_cache_names_the_file(clock, make, tmp_path):
    make(calibrate=0)
    bad = files(tmp_path)[0]
    bad.write_text(bad.read_text()[:40])
    with pytest.raises(ValueError, match=f'{bad.name}.*move it away'):
        make(calibrate=0)


@pytest.mark.parametrize('change', ['device', 'instructions', 'libraries', 'cores', 'governor'])
def test_another_machine_is_another_table(clock, make, monkeypatch, change):
    first = make(calibrate=0)
    clock.speed = 3.0
    moved = lambda *a, **k: environment(*a, **k) | {change: 'another'}
    here = tables.measure

    def there(*a, **k):
        m = here(*a, **k)
        m.environment[change] = 'another'
        return m

    monkeypatch.setattr(tables, 'environment', moved)
    monkeypatch.setattr(tables, 'measure', there)
    second = make(calibrate=0)
    assert [len(t) for t in clock.timed] == [8, 8] and key(second.environment) != key(first.environment)
    assert {k: 3 * v for k, v in first.entries.items()} == pytest.approx(second.entries)
    make(calibrate=0)
    assert len(clock.timed) == 2


def test_settings_are_told_apart(clock, make):
    make(calibrate=0)
    for n, more in enumerate(
        (dict(threads=torch.get_num_threads() + 1), dict(batch=2), dict(space=mobile().double())), 2
    ):
        t = make(**more, calibrate=0)
        assert len(clock.timed) == n and len(clock.timed[-1]) == 8
        assert (
            t.environment
            | dict(
                threads=more.get('threads', t.environment['threads']),
                batch=more.get('batch', 1),
                precision='float64' if 'space' in more else 'float32',
            )
            == t.environment
        )
    assert make(batch=2, calibrate=0).batch_size == 2 and len(clock.timed) == n


# ---------------------------------------------------------------- files


def test_a_table_in_a_file_is_the_same_table(clock, make, tmp_path):
    space = mobile()
    t = make(space)
    path = save_table(t, tmp_path / 'latency.json')
    again = load_table(path, mobile(), shape)
    every = rows(space)
    assert path == tmp_path / 'latency.json' and torch.equal(again.batch(every), t.batch(every))
    assert (again.entries, again.environment, again.calibration, again.input_shape, again.batch_size) == (
        t.entries,
        json.loads(json.dumps(t.environment)),
        t.calibration,
        shape,
        1,
    )
    assert again.parts(largest(space)) == t.parts(largest(space))
    before = path.read_text()
    save_table(again, path)
    assert path.read_text() == before and sorted(p.name for p in tmp_path.iterdir()) == ['cache', 'latency.json']
    small = restrict(space, {'blocks.0*': 'mb1_k3'})  # a part of the space is in it
    assert load_table(path, small, shape)(smallest(small)) == t(smallest(small))
    clock.speed = 2.0  # the machine is slower than it was, and so is the reference
    (found,) = again.measure(space, [largest(space)], rounds=6)
    assert found['latency_ms'] == pytest.approx(t(largest(space))) and found['raw_ms'] == pytest.approx(
        2 * t(largest(space))
    )
    low, high = found['latency_interval']
    assert low <= found['latency_ms'] <= high


def test_a_table_of_something_else_lists_what_it_lacks(clock, make, tmp_path):
    path = save_table(make(calibrate=0), tmp_path / 'latency.json')
    large = mobile(image_size=16)
    for other, at, n, of in (
        (mobile(expands=(1, 2, 3)), shape, 1, 9),
        (mobile(kernels=(3, 5)), shape, 2, 10),
        (mobile(last=32), shape, 5, 8),
        (large, large.input_shape, 5, 8),
    ):
        with pytest.raises(ValueError) as e:
            load_table(path, other, at)
        head, *units = str(e.value).split(':\n')
        assert head.startswith(
            f'{path} lacks {n} of the {of} units of this space at {at}; measuring them takes about '
        ) and all(str(d) in units[0] for d in at[1:])
    have = json.loads(path.read_text())
    unit, gone = next((k, e['unit']) for k, e in have['entries'].items() if 'Linear' in e['unit'])
    del have['entries'][unit]
    path.write_text(json.dumps(have))
    with pytest.raises(ValueError) as e:
        load_table(path, mobile(), shape)
    assert 'lacks 1 of the 8' in str(e.value) and str(e.value).endswith(gone)


@pytest.mark.parametrize('text', ['', '{', '[]', 'null', '{}', '{"format": "another"}', None])
def test_a_damaged_file_is_named(clock, make, tmp_path, text):
    path = save_table(make(calibrate=0), tmp_path / 'latency.json')
    path.write_text(path.read_text()[:-400] if text is None else text)
    with pytest.raises(ValueError, match='latency.json.* is not a latency table'):
        load_table(path, mobile(), shape)
    with pytest.raises(ValueError, match='there is no latency table .*nowhere'):
        load_table(tmp_path / 'nowhere', mobile(), shape)


# ---------------------------------------------------------------- another device, several tables


def test_an_interval_holds_as_often_as_it_says():
    "Tables calibrated on networks whose latencies differ from the line by 5 %: a new network is in the interval 95 times of 100."
    rng, inside, wide = np.random.default_rng(0), [], []
    for n in (5, 8, 20):
        for _ in range(60):
            x = rng.uniform(1, 10, n + 1)
            y = (2 * x + 1) * np.exp(0.05 * rng.standard_normal(n + 1))
            a, b, report = tables.affine(x[:n], y[:n])

            class Fixed(tables.LatencyTable):
                def __init__(self):
                    self.calibration = dict(measured=list(y[:n]), loo_ms=report['loo_ms'])

                def __call__(self, arch):
                    return a * x[n] + b

            low, high = Fixed().interval({})
            inside.append(low <= y[n] <= high)
            wide.append(high / low)
    assert 0.9 < np.mean(inside) < 1 and np.mean(wide[:60]) > np.mean(wide[-60:])


def test_a_table_is_here_or_it_is_not(clock, make):
    t = make()
    assert (
        t.here()
        and all(
            not changed.here()
            for changed in [
                _changed(t, device='a phone'),
                _changed(t, libraries=dict(torch='1.0')),
                _changed(t, kind='remote'),
                _changed(t, kind='xpu'),
            ]
        )
        and _changed(t, threads=1).here()
    )
    t.environment = {}
    assert not t.here()


def _changed(t, **more):
    import copy

    new = copy.copy(t)
    new.environment = t.environment | more
    return new


def test_a_known_table_is_completed(clock, make, tmp_path):
    small, space = make(calibrate=0), mobile(expands=(1, 2, 3))
    clock.timed.clear()
    t = make(space, known=small, calibrate=0, cache=tmp_path / 'another cache')
    assert (
        [len(n) for n in clock.timed] == [1]
        and all(t.entries[s] == v for s, v in small.entries.items())
        and len(t.entries) == 9
    )
    with pytest.raises(ValueError, match='another device setting'):
        make(space, known=_changed(small, threads=99))


def test_tables_are_merged_and_compared(clock, make, tmp_path):
    one, other = make(calibrate=0), make(mobile(expands=(1, 2, 3)), calibrate=0, cache=tmp_path / 'b')
    paths = [save_table(t, tmp_path / f'{i}.json') for i, t in enumerate((one, other))]
    path = merge(paths, tmp_path / 'both.json')
    both = load_table(path, mobile(expands=(1, 2, 3)), shape)
    assert (
        both.entries == pytest.approx(other.entries)
        and both.calibration == {}
        and both.spread[max(one.entries)][0] == 12
    )
    assert {s: e for s, e in load_table(path, mobile(), shape).entries.items()} == pytest.approx(one.entries)
    clock.speed = 3.0
    slow = make(calibrate=0, cache=tmp_path / 'c')
    found = compare(one, slow)
    assert (
        found
        == dict(
            units=8,
            spearman=pytest.approx(1.0),
            ratio=pytest.approx(3.0),
            low=pytest.approx(3.0),
            high=pytest.approx(3.0),
        )
        == compare(paths[0], slow)
    )
    data = json.loads(paths[0].read_text())
    data['key'] = 'another'
    paths[0].write_text(json.dumps(data))
    with pytest.raises(ValueError, match='another device setting'):
        merge(paths, tmp_path / 'no.json')
    with pytest.raises(ValueError, match='at least two'):
        merge(paths[:1], tmp_path / 'no.json')
    assert not (tmp_path / 'no.json').exists()
    assert one.plot(slow) and make().plot()
    with pytest.raises(ValueError, match='no calibration'):
        one.plot()


# ---------------------------------------------------------------- what a search asks of a device's cost


def test_a_reading_is_a_measurement_where_the_device_is_here(clock, make, monkeypatch):
    space, rounds = mobile(), []
    t, arch = make(space), largest(space)

    def measured(self, pairs, rounds=40, asked=rounds):
        asked.append(rounds)
        return [dict(latency_ms=2.05, latency_interval=[1.9, 2.2], raw_ms=1.0, warnings=['busy']) for _ in pairs]

    monkeypatch.setattr(tables.LatencyTable, 'measure_pairs', measured)
    r = t.reading(space, arch)
    assert (
        (r.value, r.low, r.high, r.measured, r.warnings) == (2.05, 1.9, 2.2, True, ['busy'])
        and t.unit == 'ms'
        and t.show(r.value) == '2.05 ms'
    )
    for limit in (1.5, 2.1, 3.0):
        t.reading(space, arch, limit)  # within the interval: too close to tell
    assert rounds == [40, 40, 40, 160, 40] and len(t.readings(space, [arch] * 3)) == 3


def test_a_reading_is_a_prediction_where_it_is_not(clock, make, tmp_path):
    space = mobile()
    t, arch = _changed(make(space), device='a phone'), largest(space)
    low, high = t.interval(arch)
    assert t.reading(space, arch, 1.0) == t.predicted(arch) == Reading(t(arch), low, high) and t.device == 'a phone'
    unknown = _changed(make(space, calibrate=0), device='a phone').reading(space, arch)
    assert unknown.low == unknown.value == unknown.high and 'is not known' in unknown.warnings[0]


def test_a_device_is_told_from_others(clock, make, tmp_path):
    t = make()
    phone, other = _changed(t, device='a phone'), _changed(t, device='another')
    assert t.identity() == {} and phone.identity() == _changed(t, device='a phone').identity() != other.identity()
    assert saved_cost(tmp_path) is None and phone.save(tmp_path) == saved_cost(tmp_path) == tmp_path / 'latency.json'
    for given in (phone, tmp_path, str(tmp_path / 'latency.json')):
        assert device_cost(given, mobile(), shape).identity() == phone.identity()
    with pytest.raises(ValueError, match='there is no latency table'):
        device_cost(tmp_path / 'nowhere.json', mobile(), shape)


def test_a_table_is_read_for_the_space_at_hand(clock, make):
    space = mobile(expands=(1, 2, 3))
    for t in (make(space, calibrate=0), make(space)):
        assert t.of(space, shape) is t is device_cost(t, mobile(expands=(1, 2, 3)), shape)
        part = mobile(expands=(2, 3))  # the same choices, other options
        assert 'mb1' not in str(smallest(part)) and device_cost(t, part, shape).identity() == t.identity()
        for arch in archs(part)[::7]:
            assert device_cost(t, part, shape)(arch) == pytest.approx(t(arch), rel=1e-9)
        with pytest.raises(ValueError, match='the table'):
            device_cost(t, mobile(last=24), shape)


# ---------------------------------------------------------------- units and pairs that take another time inside a network


class World:
    "Latencies of networks: units take a share more than alone, some pairs of neighbours a share less."

    def __init__(self, space, t, unit=0.15, pair=0.2, noise=0.003, seed=0):
        self.t, rng = t, np.random.default_rng(seed)
        self.plain = tables._model(space, t.found, t.entries)
        self.space, self.rng, self.noise = space, rng, noise
        self.one = {s: unit * rng.standard_normal() for s in sorted(t.entries)}
        self.seed, self.pair = seed, pair

    def __call__(self, archs):
        (names, F), (pairs, G) = tables._live(self.space, self.t.found, archs)
        e = self.t.entries
        two = np.random.default_rng(1 + self.seed).standard_normal(len(pairs)) * self.pair
        ms = (
            0.3
            + F @ [e[s] * (1 + self.one[s]) for s in names]
            + G @ (two * [min(e.get(a, 0), e.get(b, 0)) for a, b in pairs])
        )
        return ms * np.exp(self.noise * self.rng.standard_normal(len(archs)))


@pytest.mark.parametrize(
    'space, input_shape',
    [(lambda: mobile(expands=(1, 2, 3), kernels=(3, 5), depths=(5,)), shape), (fixed, (2, 5, 5))],
    ids=['proxyless', 'elastic'],
)
def test_units_and_pairs_are_corrected(clock, make, space, input_shape, tmp_path):
    space = space()
    t = make(space, input_shape, calibrate=0)
    world, every = World(space, t), archs(space)
    draw = np.random.default_rng(3).permutation(len(every))
    mine, rest = [every[i] for i in draw[:30]], [every[i] for i in draw[30:130]] or every
    ms = world(mine)
    line, better = (calibrated_table(t, space, mine, ms, correct=c) for c in (False, None))
    error = lambda m: np.median(np.abs(m.batch(encode(space, rest)).numpy() / world(rest) - 1))
    assert line.correction is None
    if better.correction is None:
        assert error(line) < 0.02
        return  # nothing to gain in so small a space
    assert (
        error(better) < 0.7 * error(line)
        and better.calibration['loo_error_percent_corrected'] < better.calibration['loo_error_percent_affine']
    )
    assert [better(a) for a in rest[:5]] == pytest.approx(better.batch(encode(space, rest[:5])).tolist())
    uniform = {
        n: torch.ones(len(c)).double() / len(c) for n, c in choices(space).items()
    }  # still a table: expectations are exact
    mean = better.batch(
        canonical(space, torch.cartesian_prod(*(torch.arange(len(c)) for c in choices(space).values())))
    ).mean()
    assert float(better.expected(uniform)) == pytest.approx(float(mean))
    again = load_table(save_table(better, tmp_path / 't.json'), space, input_shape)
    assert torch.allclose(again.batch(encode(space, rest)), better.batch(encode(space, rest)))
    low, high = better.interval(rest[0])
    assert low < better(rest[0]) < high


def test_where_there_is_nothing_to_correct_the_line_is_kept(clock, make):
    space = mobile(expands=(1, 2, 3), kernels=(3, 5), depths=(5,))
    t = make(space, calibrate=0)
    world, every = World(space, t, 0.0, 0.0, 0.05), archs(space)
    mine = [every[i] for i in np.random.default_rng(0).permutation(len(every))[:24]]
    m = calibrated_table(t, space, mine, world(mine))
    assert (
        m.correction is None
        or m.calibration['loo_error_percent_corrected'] <= 1.1 * m.calibration['loo_error_percent_affine']
    )
    assert calibrated_table(t, space, mine[:10], world(mine[:10])).correction is None  # too few to try


def test_only_what_runs_is_timed():
    "The aggregation of a TDNN sees as many channels as blocks run: no other combination is a unit, and each unit runs on its shapes."
    from nas_suite.spaces.tdnn import efficient_tdnn

    space = efficient_tdnn(
        4, 3, widths=(8, 16), last=(8, 12), kernels=(3,), depths=(1, 2, 3), scale=4, attention=4, frames=12
    )
    nets = tables.units(space, (4, 12), 1)[2]
    for net, shapes in nets.values():
        with torch.no_grad():
            net(*(torch.empty(s, device='meta') for s in shapes))
    assert sum('Tanh' in s for s in nets) == 2 * len({d * w for d in (1, 2, 3) for w in (8, 16)})


# ---------------------------------------------------------------- a real clock, whatever it says


def test_on_this_machine(make, tmp_path):
    space = mobile()
    t = make(space, rounds=2, calibrate=3, threads=1)
    assert all(t(a) > 0 for a in archs(space)) and all(v > 0 for v in t.entries.values())
    assert (
        t.environment['device']
        and t.environment['threads'] == 1
        and t.calibration['n'] == 3
        and t.calibration['reference_ms'] > 0
    )
    assert t(largest(space)) == pytest.approx(
        t.calibration['scale'] * sum(t.calibration['sums'][-1:]) + t.calibration['offset']
    )
    again = load_table(save_table(t, tmp_path / 'latency.json'), space, shape)
    found = again.measure(space, [largest(space), smallest(space)], rounds=6)
    assert (
        all(
            0 < f['latency_interval'][0] <= f['latency_ms'] <= f['latency_interval'][1] and f['raw_ms'] > 0
            for f in found
        )
        and len(found) == 2
    )
