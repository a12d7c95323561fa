"""Measuring latency: statistics on a made-up clock, back ends by running, the cache under two processes. No test judges a real time."""

import json, multiprocessing, os, subprocess, sys, warnings
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from nas_suite.latency import (
    Backend,
    BusyMachine,
    Cache,
    Measured,
    affine,
    available_cores,
    backends,
    cache_folder,
    doubts,
    energy_counter,
    environment,
    evaluating,
    key,
    measure,
    measuring,
    median_interval,
    peak_memory_mb,
    reference_network,
    stopwatch,
    warm_up,
)
from nas_suite.progress import said_once

# ---------------------------------------------------------------- a made-up clock


class Clock:
    def __init__(self, pace=lambda s: 1.0, noise=0.0, seed=0):
        self.ns, self.pace, self.noise, self.rng = 0.0, pace, noise, np.random.default_rng(seed)

    def __call__(self):
        return self.ns

    def spend(self, ms):
        self.ns += ms * 1e6 * self.pace(self.ns / 1e9) * self.rng.lognormal(0, self.noise)


class Takes(nn.Module):
    def __init__(self, clock, *ms):
        super().__init__()
        self.clock, self.ms, self.calls, self.log = clock, ms, 0, None

    def forward(self, x):
        self.clock.spend(self.ms[min(self.calls, len(self.ms) - 1)])
        self.calls += 1
        if self.log is not None:
            self.log.append(self)
        return x


@pytest.fixture
def timed(monkeypatch):
    "`timed(clock, modules, **options)` measures on that clock; the reference takes 0.5 ms"

    def run(clock, modules, **options):
        fake = lambda module, example: (
            (lambda: module(*example)) if isinstance(module, Takes) else (lambda: clock.spend(0.5))
        )
        monkeypatch.setitem(backends, "fake", fake)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", BusyMachine)
            return measure(modules, torch.zeros(1), backend="fake", clock=clock, **options)

    return run


def test_a_steady_clock_is_read_exactly(timed):
    clock = Clock()
    m = timed(clock, dict(a=Takes(clock, 1.0), b=Takes(clock, 3.0)), tolerance=0, rounds=20)
    assert m.samples.shape == (20, 2) and m.reference.shape == (20,)
    np.testing.assert_allclose(m.samples, [[1.0, 3.0]] * 20, rtol=1e-9)
    assert m.repeats == dict(a=5, b=2)  # blocks of at least 5 ms
    assert m.ratio("b", "a")[0] == pytest.approx(3)


@pytest.mark.parametrize(
    "pace", [lambda s: 1 + s, lambda s: 1 / (1 + s), lambda s: 1 + 0.5 * np.sin(s), lambda s: 1.0 if s < 1 else 2.5]
)
def test_drift_is_cancelled(timed, pace):
    clock = Clock(pace, noise=0.01)
    m = timed(clock, {f"n{i}": Takes(clock, 1 + 0.1 * i) for i in range(8)}, rounds=40, tolerance=0)
    spread = lambda x: np.ptp(np.quantile(x, [0.25, 0.75])) / np.median(x)
    assert spread(m.of("n0", raw=True)) > 2 * spread(m.of("n0"))
    medians = [m.median_ms(n) for n in m.names]
    assert medians == sorted(medians)  # neighbours differ by 6 to 10 %, the pace by far more
    assert m.ratio("n7", "n0")[0] == pytest.approx(1.7, rel=0.03)


def test_one_after_the_other_would_have_been_wrong():
    clock = Clock(lambda s: 1 + s)
    time_ms = stopwatch("cpu", clock)
    b, a = (np.median([time_ms(lambda: net(0)) for _ in range(100)]) for net in (Takes(clock, 2.1), Takes(clock, 2.0)))
    assert a > b


def test_order_is_random_and_repeatable(timed):
    def orders(seed):
        clock, log = Clock(), []
        nets = {str(i): Takes(clock, 10.0) for i in range(5)}
        m = None
        for net in nets.values():
            net.log = log
        m = timed(clock, nets, rounds=6, tolerance=0, seed=seed)
        names = {net: name for name, net in nets.items()}
        called = [names[x] for x in log][-30:]
        return [tuple(called[i : i + 5]) for i in range(0, 30, 5)]

    first = orders(0)
    assert all(sorted(o) == list("01234") for o in first)  # everyone once a round
    assert len(set(first)) > 1 and first == orders(0) and first != orders(1)


def test_early_stop_waits_for_certainty(timed):
    quiet, noisy = Clock(), Clock(noise=0.3)
    assert len(timed(quiet, Takes(quiet, 6.0), rounds=200).samples) == 10
    assert len(timed(quiet, Takes(quiet, 6.0), rounds=200, min_rounds=25).samples) == 25
    assert len(timed(noisy, Takes(noisy, 6.0), rounds=40).samples) == 40


def test_budget_ends_the_rounds(timed):
    clock = Clock()
    m = timed(clock, Takes(clock, 100.0), rounds=1000, budget_s=2, tolerance=0)
    assert 15 <= len(m.samples) <= 20
    tight = timed(clock, Takes(clock, 100.0), rounds=1000, budget_s=0)
    assert len(tight.samples) == 1 and tight.interval_ms("Takes") == (0, np.inf)
    assert any("cannot bound" in w for w in tight.warnings)


def test_gpu_blocks_are_timed_by_events(monkeypatch):
    "The queue is emptied before a block, events enclose all its calls, one synchronisation ends it"
    from contextlib import nullcontext

    log = []

    class Event:
        def __init__(self, enable_timing):
            assert enable_timing

        def record(self):
            log.append("record")

        def elapsed_time(self, end):
            return 12.0

    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: log.append("sync"))
    monkeypatch.setattr(torch.cuda, "device", lambda d: nullcontext())
    assert stopwatch("cuda")(lambda: log.append("call"), repeats=3) == 4.0
    assert log == ["sync", "record", "call", "call", "call", "record", "sync"]


def test_warm_up_settles_or_gives_up():
    clock = Clock()
    time_ms = stopwatch("cpu", clock)
    cold = Takes(clock, 200.0, 40.0, 9.0, 5.0)
    assert warm_up(lambda: cold(0), time_ms) == pytest.approx(5.0) and 6 <= cold.calls <= 10
    steady = Takes(clock, 5.0)
    warm_up(lambda: steady(0), time_ms)
    assert steady.calls == 3
    endless = Takes(clock, *[1.1**i for i in range(500)])
    warm_up(lambda: endless(0), time_ms, limit_s=0.5)
    assert endless.calls < 60
    slow = Takes(clock, 5e3, 4e3, 3e3, 2e3, 1e3)
    warm_up(lambda: slow(0), time_ms, limit_s=1)
    assert slow.calls == 3  # at least three, however slow


@pytest.mark.parametrize("n", [6, 10, 30, 31, 101])
def test_interval_covers_the_median(n):
    draws = np.random.default_rng(n).lognormal(0, 0.5, (n, 4000))
    low, high = median_interval(draws)
    assert 0.94 < np.mean((low <= 1) & (1 <= high)) <= 1
    inner = median_interval(draws, 0.5)
    assert np.all(inner[0] >= low) and np.all(inner[1] <= high)


def test_interval_is_that_of_the_bootstrap():
    rng = np.random.default_rng(0)
    x = rng.lognormal(0, 0.2, 101)
    boot = np.median(x[rng.integers(0, 101, (4000, 101))], axis=1)
    np.testing.assert_allclose(median_interval(x), np.quantile(boot, [0.025, 0.975]), rtol=0.01)


def test_outliers_are_flagged_and_kept():
    x = np.full(30, 2.0) + np.random.default_rng(0).normal(0, 0.01, 30)
    x[7] = 9.0
    m = Measured(["a"], x[:, None], np.ones(30), {})
    assert np.flatnonzero(m.outliers("a")).tolist() == [7]
    (row,) = m.table()
    assert row["n"] == 30 and row["outliers"] == 1 and row["median_ms"] == pytest.approx(2, abs=0.01)
    assert m.of("a").max() == 9.0
    assert Measured(["a"], np.full((5, 1), 2.0), np.ones(5), {}).outliers("a").sum() == 0


# ---------------------------------------------------------------- what is left behind, and what is refused


def test_modules_are_left_as_they_were():
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout()).train()
    net[1].eval()
    before = {k: v.clone() for k, v in net.state_dict().items()}
    modes, threads, state = [m.training for m in net.modules()], torch.get_num_threads(), torch.get_rng_state()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", BusyMachine)
        m = measure(net, torch.zeros(1, 3, 8, 8), rounds=6, threads=1, block_ms=0.1)
    assert [m.training for m in net.modules()] == modes
    assert torch.get_num_threads() == threads and torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())
    assert m.environment["threads"] == 1 and all(p.grad is None for p in net.parameters())


def test_modes_come_back_after_an_error():
    net = nn.Linear(4, 3).train()
    threads = torch.get_num_threads()
    with pytest.raises(ValueError, match=r"Linear does not run on inputs of shape \(2, 5\)"):
        measure(net, torch.zeros(2, 5), threads=1)
    assert (
        net.training
        and torch.get_num_threads() == threads
        and torch.is_grad_enabled()
        and not torch.is_inference_mode_enabled()
    )


@pytest.mark.parametrize(
    "modules, example, options, message",
    [
        ({}, torch.zeros(1), {}, "modules is empty"),
        ([], torch.zeros(1), {}, "modules is empty"),
        ({"a": "text"}, torch.zeros(1), {}, "a is a str; only an nn.Module"),
        ({"a": nn.Identity(), "b": nn.Identity()}, {"a": torch.zeros(1)}, {}, "no input for b"),
        (nn.Identity(), (1, 3, 32), {}, "give a tensor"),
        (nn.Identity(), (), {}, "holds nothing"),
        (
            nn.Identity(),
            torch.zeros(1),
            dict(backend="tvm"),
            "no back end 'tvm'; the back ends are eager, compile.*onnxruntime, executorch",
        ),
        (nn.Identity(), torch.zeros(1), dict(rounds=0), "at least 1"),
        (nn.Identity(), torch.zeros(1), dict(threads=0), "at least 1"),
        (nn.Bilinear(2, 2, 2), torch.zeros(1, 2), {}, "Bilinear does not run"),
    ],
)
def test_bad_input_is_named(modules, example, options, message):
    with pytest.raises(ValueError, match=message):
        measure(modules, example, **options)


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ImportError, match="pip install"):
        measure(nn.Linear(2, 2), torch.zeros(1, 2), backend="onnxruntime")
    for name in [n for n in sys.modules if n.split(".")[0] == "executorch"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "executorch", None)
    with pytest.raises(ImportError, match=r"the extra executorch: pip install 'nas_suite\[executorch\]'"):
        measure(nn.Linear(2, 2), torch.zeros(1, 2), backend="executorch")


def test_forms_of_modules_and_inputs():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", BusyMachine)
        quick = dict(rounds=2, block_ms=0.1)
        assert measure([nn.Identity(), nn.ReLU()], torch.zeros(1), **quick).names == ["0", "1"]
        assert measure(nn.ReLU(), torch.zeros(1), **quick).names == ["ReLU"]
        m = measure(
            dict(a=nn.Linear(2, 2), b=nn.Bilinear(2, 3, 1)),
            dict(b=(torch.zeros(4, 2), torch.zeros(4, 3)), a=torch.zeros(4, 2)),
            **quick,
        )
        assert m.names == ["a", "b"] and (m.samples > 0).all() and m.environment["batch"] == 4


# ---------------------------------------------------------------- environment


def test_the_key_is_stable_across_processes():
    facts = dict(
        device="x",
        kind="cpu",
        backend="eager",
        precision="float32",
        batch=1,
        threads=1,
        cores=2.0,
        libraries=dict(torch="2", b="1"),
    )
    program = f"from nas_suite.latency import key; print(key({facts!r}))"
    other = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"PYTHONHASHSEED": "7"},
        cwd=Path(__file__).parent.parent,
    )
    assert other.stdout.strip() == key(facts) == key(dict(reversed(facts.items()))) and len(key(facts)) == 12


def test_the_key_ignores_what_changes_by_itself():
    e = environment()
    assert json.loads(json.dumps(e)) == e
    assert key(e) == key(
        e | dict(load_before=50.0, load_after=3.0, time="", temperature_c=90.0, frequency_mhz=1.0, affinity=[5])
    )
    assert (
        len(
            {
                key(e),
                key(e | dict(batch=8)),
                key(e | dict(threads=99)),
                key(e | dict(backend="compile")),
                key(e | dict(device="other")),
                key(e | dict(cores=0.5)),
            }
        )
        == 6
    )
    assert environment(backend="onnxruntime")["libraries"].keys() == {"torch", "onnxruntime"}


@pytest.mark.parametrize(
    "files, cores",
    [
        ({"sys/fs/cgroup/cpu.max": "max 100000"}, None),
        ({"sys/fs/cgroup/cpu.max": "25000 100000"}, 0.25),
        ({"proc/self/cgroup": "0::/a/b", "sys/fs/cgroup/a/b/cpu.max": "50000 100000"}, 0.5),
        (
            {
                "proc/self/cgroup": "0::/a/b",
                "sys/fs/cgroup/a/b/cpu.max": "max 100000",
                "sys/fs/cgroup/a/cpu.max": "10000 100000",
            },
            0.1,
        ),
        ({"sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1", "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000"}, None),
        (
            {
                "proc/self/cgroup": "4:cpu,cpuacct:/job",
                "sys/fs/cgroup/cpu/job/cpu.cfs_quota_us": "75000",
                "sys/fs/cgroup/cpu/job/cpu.cfs_period_us": "100000",
            },
            0.75,
        ),
        ({"proc/self/cgroup": "3:cpuset:/job", "sys/fs/cgroup/cpuset/job/cpu.cfs_quota_us": "5"}, None),
    ],
)
def test_quotas_count(tmp_path, files, cores):
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text + "\n")
    assert available_cores(tmp_path) == (cores or available_cores(tmp_path / "nothing"))


def test_doubts():
    assert doubts(load=3.0, own=1.5, cores=2, threads=2, spreads=dict(a=0.04), rounds=6) == []
    assert doubts(load=None, cores=1, threads=1) == []
    assert "other programs keep 5.0 cores busy and 2 are available" in doubts(load=6.0, own=1.0, cores=2)[0]
    assert "8 threads share 2 cores" in doubts(cores=2, threads=8)[0]
    assert "a (9%), b (8%), c (7%) and 1 more" in doubts(spreads=dict(b=0.08, a=0.09, d=0.06, c=0.07, e=0.01))[0]
    numbered = {str(i): 0.02 * i for i in range(4)}  # of a list, whose numbers are no names
    assert "more than 5 % of the median for 1 of 4 networks, by 6% at most: is" in doubts(spreads=numbered)[0]
    assert "over 6% of the median, where 5 % is usual: is the machine busy?" in doubts(spreads={"0": 0.06})[0]


def test_a_busy_machine_is_said_once_in_a_search():
    with pytest.warns(BusyMachine) as shown, said_once(), said_once():
        for load in (6.0, 7.5):
            for doubt in doubts(load=load, cores=2, threads=4, spreads=dict(a=load / 20)):
                warnings.warn(doubt, BusyMachine)
    assert len(shown) == 3


def test_warnings_are_raised_and_kept(timed, monkeypatch):
    clock = Clock()
    monkeypatch.setitem(backends, "fake", lambda module, example: lambda: clock.spend(1.0))
    with pytest.warns(BusyMachine, match="1000 threads share"):
        threads = torch.get_num_threads
        monkeypatch.setattr(torch, "set_num_threads", lambda n: None)
        m = measure(nn.Identity(), torch.zeros(1), backend="fake", clock=clock, threads=1000, rounds=6)
    assert threads() != 1000 and any("1000 threads" in w for w in m.warnings) and "! 1000 threads" in repr(m)


# ---------------------------------------------------------------- back ends


@pytest.mark.parametrize("backend", ["eager", "onnxruntime", "compile", "executorch"])
def test_back_ends_compute_the_same(backend):
    if backend == "executorch":
        pytest.importorskip("executorch.runtime", reason="the extra executorch is not installed")
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2)
    ).eval()
    x = torch.randn(2, 3, 8, 8)
    with torch.inference_mode():
        try:
            out = backends[backend].prepare(net, (x,))()
        except Exception as e:
            if backend == "compile" and "compiler" in str(e).lower():
                pytest.skip("no C++ compiler here")
            raise
    torch.testing.assert_close(
        torch.as_tensor(out[0] if isinstance(out, (list, tuple)) else out), net(x).detach(), atol=1e-5, rtol=1e-4
    )


@pytest.mark.parametrize("backend", ["onnxruntime", "compile", "executorch"])
def test_measure_on_back_ends(backend):
    if backend == "executorch":
        pytest.importorskip("executorch.runtime", reason="the extra executorch is not installed")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", BusyMachine)
        try:
            m = measure(nn.Linear(8, 8).train(), torch.randn(4, 8), rounds=6, backend=backend, block_ms=0.1)
        except Exception as e:
            if backend == "compile" and "compiler" in str(e).lower():
                pytest.skip("no C++ compiler here")
            raise
    assert m.samples.shape == (6, 1) and (m.samples > 0).all() and m.prepare_s["Linear"] > 0
    assert m.environment["backend"] == backend


def test_every_module_is_compiled_however_many_share_a_class():
    from torch._dynamo.testing import CompileCounter

    counter, real = CompileCounter(), torch.compile
    torch.compile, before = lambda f, **k: real(f, backend=counter, **k), torch.compile
    try:
        nets = [
            nn.Sequential(nn.Linear(4, 4 + i)).eval() for i in range(12)
        ]  # torch's own limit is 8 for one code object
        x = torch.randn(2, 4)
        with torch.inference_mode():
            runs = [backends["compile"].prepare(net, (x,)) for net in nets]
            for net, run in zip(nets, runs):
                torch.testing.assert_close(run(), net(x))
    finally:
        torch.compile = before
    assert counter.frame_count == 12


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no card here")
@pytest.mark.parametrize("backend", ["eager", "cuda-graph"])
def test_on_a_gpu(backend):
    net = nn.Conv2d(3, 8, 3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", BusyMachine)
        m = measure(net, torch.randn(1, 3, 32, 32), device="cuda", rounds=6, backend=backend, energy_s=0.2)
    assert (m.samples > 0).all() and m.environment["kind"] == "cuda" and net.weight.device.type == "cpu"
    assert set(m.environment["libraries"]["tf32"]) == {"matrices", "convolutions"} and m.memory_mb["Conv2d"] > 0
    assert m.environment["energy"] != "NVML" or m.energy_mj["Conv2d"] > 0


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no card here")
@pytest.mark.parametrize("backend", ["cuda-graph", "onnxruntime-tensorrt"])
def test_a_graph_gives_what_the_network_gives(backend):
    net, x = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU()).eval().cuda(), torch.randn(1, 3, 16, 16).cuda()
    with torch.inference_mode():
        try:
            run = backends[backend].prepare(net, (x,))
        except ImportError as e:
            pytest.skip(str(e))
        for _ in range(2):
            out = run()
            out = torch.from_numpy(out.copy_outputs_to_cpu()[0]).cuda() if backend != "cuda-graph" else out
            torch.testing.assert_close(out, net(x), atol=1e-2, rtol=1e-2)  # TF32 in one of them


@pytest.mark.parametrize("backend", ["cuda-graph", "onnxruntime-tensorrt"])
def test_back_ends_of_cards_refuse_the_processor_in_a_line(backend):
    with pytest.raises(ValueError, match=f"the back end {backend} measures on a card .*not on cpu") as said:
        measure(nn.ReLU(), torch.zeros(1, 4), backend=backend)
    assert "\n" not in str(said.value)


def test_a_graph_is_captured_after_a_warm_up_on_the_same_side_stream(monkeypatch):
    "On a card that only notes what it is asked for."
    log = []

    class Stream:
        def __init__(self, name="side"):
            self.name = name

        def wait_stream(self, other):
            log.append(f"{self.name} waits for {other.name}")

    def entered(what):
        @contextmanager
        def inside(*of, **more):
            log.append(f"{what} {' '.join(s.name for s in (*of, *more.values()) if isinstance(s, Stream))}".strip())
            yield
            log.append(f"end of {what}")

        return inside

    for name, fake in dict(
        Stream=lambda device: Stream(), CUDAGraph=lambda: "graph", current_stream=lambda device: Stream("main"),
        stream=entered("on"), graph=entered("capture"), device=entered("device"),
    ).items():
        monkeypatch.setattr(torch.cuda, name, fake)
    found = measuring.captured(lambda: log.append("run") or len(log), torch.device("cuda"), calls=2)
    assert log == [
        *("device", "side waits for main", "on side", "run", "run", "end of on", "main waits for side"),
        *("capture side", "run", "end of capture", "end of device"),
    ]
    assert found == ("graph", 9)


def test_a_warning_of_a_busy_machine_is_one_line_that_counts():
    "Names of networks are whatever they are, units of a table too: whole layers are not printed."
    unit = str(nn.Sequential(*(nn.Conv2d(8, 8, 3) for _ in range(9)))) + " ((1, 8, 32, 32))"
    for name in ("small", "x" * 300, unit, f"{nn.Linear(3, 2)}\n" * 9, "[[1, 2]]" * 40, "Conv2d(" * 50):
        said, = measuring.doubts(spreads={name: 0.31, "b": 0.06, "c": 0.01, "d": 0.02})
        assert "\n" not in said and len(said) < 220 and "for 2 of 4 networks, " in said and "(31%), b (6%)" in said
    assert "Sequential, Conv2d on ((1, 8, 32, 32))" in measuring.doubts(spreads={unit: 0.3})[0]


def test_a_back_end_of_ones_own(monkeypatch):
    "Four functions: the handle may be anything, what it noted is in the table, its versions are in the key, and its own waiting ends each block"
    clock, log = Clock(), []

    class Handle:
        notes = dict(graph_breaks=2)

        def __init__(self, module, example):
            self.module, self.example = module, example

    def run(h):
        log.append("run")
        clock.spend(2.0)
        return h.module(*h.example)

    monkeypatch.setitem(backends, "mine", Backend(Handle, run, lambda: log.append("sync"), lambda: dict(mine="1.0")))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", BusyMachine)
        m = measure(nn.ReLU(), torch.zeros(1, 4), backend="mine", clock=clock, rounds=10)
    assert (
        m.median_ms("ReLU") == pytest.approx(2.0)
        and m.table()[0]["graph_breaks"] == 2
        and m.environment["libraries"]["mine"] == "1.0"
    )
    assert key(m.environment) != key(m.environment | dict(libraries=dict(m.environment["libraries"], mine="2.0")))
    assert (
        log[-5:] == ["sync", "run", "run", "run", "sync"] and m.memory_mb == {}
    )  # blocks of at least 5 ms; another's memory is not known


# ---------------------------------------------------------------- memory, energy, heat


class Twice(nn.Module):
    def forward(self, x):
        return (x + 1).mul_(2).view(-1).reshape(2, -1) + 1


@pytest.mark.parametrize(
    "net, x, alive",
    [
        (nn.Linear(100, 50, bias=False), torch.zeros(10, 100), 50 * 100 + 1000 + 500),
        (
            nn.Sequential(*[nn.ReLU() for _ in range(9)]),
            torch.zeros(1000),
            3000,
        ),  # an input, and two of nine outputs at once
        (nn.Sequential(nn.ReLU(inplace=True), nn.Flatten()), torch.zeros(10, 10), 100),  # nothing new
        (Twice(), torch.zeros(1000), 3000),
    ],
    ids=["linear", "chain", "in place", "views"],
)
def test_peak_memory_is_what_is_alive_at_once(net, x, alive):
    with torch.inference_mode():
        assert peak_memory_mb(net, (x,)) == pytest.approx(4 * alive / 2**20)


def test_memory_is_beside_latency(timed):
    clock = Clock()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", BusyMachine)
        m = measure(nn.Linear(256, 1024, bias=False), torch.zeros(1, 256), rounds=6, block_ms=0.1)
    assert (
        m.table()[0]["memory_mb"] == pytest.approx(1 + 4 * 1280 / 2**20, abs=1e-3)
        and " MB" in repr(m)
        and Measured.from_json(m.to_json()).memory_mb == m.memory_mb
    )


def test_energy_is_read_from_a_counter(monkeypatch):
    clock = Clock()
    joules = lambda: clock.ns / 1e9 * 40  # 40 W
    monkeypatch.setattr(measuring, "energy_counter", lambda device: ("RAPL", joules))
    monkeypatch.setitem(
        backends,
        "fake",
        lambda module, example: (lambda: module(*example)) if isinstance(module, Takes) else (lambda: clock.spend(0.5)),
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", BusyMachine)
        go = lambda **more: measure(
            dict(a=Takes(clock, 2.0), b=Takes(clock, 30.0)),
            torch.zeros(1),
            backend="fake",
            clock=clock,
            rounds=6,
            **more,
        )
        m = go(energy_s=0.1)
        assert (
            m.energy_mj == dict(a=pytest.approx(80, rel=1e-4), b=pytest.approx(1200, rel=1e-4))
            and m.environment["energy"] == "RAPL"
            and " mJ" in repr(m)
        )
        assert go().energy_mj == {} and go().environment["energy"] is None
        monkeypatch.setattr(measuring, "energy_counter", lambda device: None)
        m = go(energy_s=0.1)
        assert m.energy_mj == {} and any("no energy counter" in w for w in m.warnings)


def test_counters_of_processors(tmp_path):
    assert energy_counter(root=tmp_path) is None
    for i, (n, uj) in enumerate(
        {"intel-rapl:0": 2e6, "intel-rapl:0:0": 5e6, "intel-rapl:1": 3e6}.items()
    ):  # a part of a package is in the package
        p = tmp_path / "sys/class/powercap" / n
        p.mkdir(parents=True)
        (p / "energy_uj").write_text(f"{uj:.0f}")
        (p / "max_energy_range_uj").write_text("4000000")
    name, read = energy_counter(root=tmp_path)
    assert (name, read()) == ("RAPL", 5.0)
    (tmp_path / "sys/class/powercap/intel-rapl:0/energy_uj").write_text("1000000")
    assert read() == 8.0 and read() == 8.0


def test_a_gpu_has_a_counter(monkeypatch):
    class Library:
        def nvmlDeviceGetHandleByIndex_v2(self, index, handle):
            return 0

        def nvmlDeviceGetTotalEnergyConsumption(self, handle, out):
            out._obj.value = 12500
            return 0

    monkeypatch.setattr(measuring, "_nvml", Library)
    name, read = energy_counter("cuda")
    assert (name, read()) == ("NVML", 12.5)
    monkeypatch.setattr(Library, "nvmlDeviceGetTotalEnergyConsumption", lambda self, handle, out: 3)  # an old GPU
    assert energy_counter("cuda") is None
    monkeypatch.setattr(measuring, "_nvml", lambda: None)
    assert energy_counter("cuda") is None


def test_heat_and_batteries_are_named(tmp_path, monkeypatch):
    assert measuring._throttles(tmp_path) == 0 and not measuring._on_battery(tmp_path)
    for path, text in {
        "sys/devices/system/cpu/cpu0/thermal_throttle/core_throttle_count": "3",
        "sys/devices/system/cpu/cpu1/thermal_throttle/package_throttle_count": "4",
        "sys/class/power_supply/BAT0/type": "Battery",
        "sys/class/power_supply/BAT0/status": "Discharging",
    }.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
    assert measuring._throttles(tmp_path) == 7 and measuring._on_battery(tmp_path)
    said = doubts(throttled=True, battery=True)
    assert "hot" in said[0] and "battery" in said[1]
    counts = iter((7, 9))
    monkeypatch.setattr(measuring, "_throttles", lambda: next(counts))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", BusyMachine)
        assert any("hot" in w for w in measure(nn.ReLU(), torch.zeros(1), rounds=6, block_ms=0.01).warnings)


def test_cold_calls_are_single_and_follow_a_flush(timed, monkeypatch):
    clock, log = Clock(), []
    monkeypatch.setattr(measuring, "_flusher", lambda device: lambda: log.append("flush"))
    net = Takes(clock, 1.0)
    net.log = log
    m = timed(clock, net, rounds=6, cold=True, tolerance=0)
    assert (
        m.repeats == dict(Takes=1)
        and m.environment["cold"]
        and log[-3:].count("flush") >= 1
        and log.count("flush") == 12
    )
    at = [i for i, x in enumerate(log) if x is net][-6:]
    assert all(log[i - 1] == "flush" for i in at)


# ---------------------------------------------------------------- results on disk


def test_json_round_trip():
    rng = np.random.default_rng(0)
    m = Measured(
        ["a", "b"],
        rng.lognormal(0, 0.2, (7, 2)),
        rng.lognormal(-1, 0.2, 7),
        environment(),
        dict(a=3, b=1),
        dict(a=0.5, b=0.1),
        ["busy"],
        4,
    )
    again = Measured.from_json(m.to_json())
    np.testing.assert_allclose(again.samples, m.samples, rtol=1e-5)
    assert (
        again.to_json() == m.to_json()
        and again.warnings == ["busy"]
        and again.seed == 4
        and again.environment == m.environment
    )
    for text in ("", "[]", "{}", '{"names": 1}'):
        with pytest.raises(ValueError, match="not a measurement"):
            Measured.from_json(text)


def _measured(names, here, ms=1.0):
    return Measured(list(names), np.full((30, len(names)), ms), np.full(30, 0.5), here)


def test_cache_round_trip(tmp_path):
    cache, here = Cache(tmp_path / "new" / "folder"), environment(threads=1, batch=1)
    assert cache.get(here, "u") is None and cache.missing(here, ["u", "v", "u"]) == ["u", "v"]
    cache.add(_measured(["u"], here, 1.25))
    entry = cache.get(here, "u")
    assert (
        entry["median_ms"] == 1.25
        and entry["interval_ms"] == [1.25, 1.25]
        and entry["samples_ms"] == [1.25] * 30
        and entry["reference_ms"] == [0.5] * 30
    )
    assert Cache(tmp_path / "new" / "folder").missing(here, ["u", "v"]) == ["v"]
    assert cache.get(here | dict(batch=2), "u") is None
    few = Measured(["w"], np.ones((3, 1)), np.ones(3), here)
    cache.add(few)
    assert cache.get(here, "w")["interval_ms"] is None
    cache.add(_measured(["u"], here, 2.0))
    assert cache.get(here, "u")["median_ms"] == 2.0 and not list(tmp_path.rglob("*.part"))
    json.loads(next(tmp_path.rglob("environment.json")).read_text())


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "null",
        '{"signature": "u"}',
        '{"signature": "other", "median_ms": 1}',
        '{"signature": "u", "median_ms": NaN}',
        '{"signature": "u", "median_ms": -1}',
        '{"signature": "u", "median_ms": "1"}',
    ],
)
def test_a_damaged_cache_file_is_named(tmp_path, text):
    cache, here = Cache(tmp_path), environment()
    cache.add(_measured(["u"], here))
    cache.path(here, "u").write_text(text)
    with pytest.raises(ValueError, match=cache.path(here, "u").name):
        cache.get(here, "u")


def test_cache_folder(monkeypatch, tmp_path):
    monkeypatch.delenv("NAS_SUITE_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "nas_suite"
    monkeypatch.setenv("NAS_SUITE_CACHE", str(tmp_path / "mine"))
    assert (
        cache_folder() == tmp_path / "mine"
        and Cache().folder.parent == tmp_path / "mine"
        and Cache(tmp_path).folder == tmp_path
    )
    monkeypatch.delenv("NAS_SUITE_CACHE")
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder() == tmp_path / ".cache" / "nas_suite"


def _nobody():
    raise RuntimeError("Could not determine home directory.")


@pytest.mark.parametrize("home", ["/dev/null", "/proc", None])
def test_a_home_that_cannot_be_written_or_is_none(monkeypatch, home):
    "Latencies are kept while the process lives, and that is said."
    monkeypatch.delenv("NAS_SUITE_CACHE", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    if home is None:
        monkeypatch.setattr(Path, "home", _nobody)
    else:
        monkeypatch.setenv("HOME", home)
    measuring._stand_in.cache_clear()
    with pytest.warns(UserWarning, match="NAS_SUITE_CACHE"):
        folder = cache_folder()
    assert folder.is_dir() and folder == cache_folder()
    measuring._stand_in.cache_clear()


def _write_many(folder, here, number, enough):
    cache = Cache(folder)
    for i in range(60):
        cache.add(_measured([f"unit {i % 6}", f"own {number} {i}"], here, 1.0 + number))
    while not enough.is_set():
        cache.add(_measured([f"unit {i % 6}" for i in range(6)], here, 1.0 + number))


def test_cache_under_two_processes(tmp_path):
    here, spawn = environment(), multiprocessing.get_context("spawn")
    enough = spawn.Event()
    writers = [spawn.Process(target=_write_many, args=(tmp_path, here, n, enough)) for n in (0, 1)]
    for w in writers:
        w.start()
    cache, seen = Cache(tmp_path), 0
    while seen < 600 and all(
        w.is_alive() for w in writers
    ):  # reads while both write, however long that takes: whole entries or none
        for i in range(6):
            entry = cache.get(here, f"unit {i}")
            if entry is not None:
                seen += 1
                assert entry["median_ms"] in (1.0, 2.0) and len(entry["samples_ms"]) == 30
    enough.set()
    for w in writers:
        w.join()
    assert [w.exitcode for w in writers] == [0, 0] and seen >= 600
    assert cache.missing(here, [f"own {n} {i}" for n in (0, 1) for i in range(60)]) == []
    assert not list(tmp_path.rglob("*.part"))


# ---------------------------------------------------------------- calibration


def test_affine_finds_the_line():
    x = np.linspace(1, 10, 6)
    a, b, report = affine(x, 1.5 * x + 0.7)
    assert (
        (a, b) == (pytest.approx(1.5), pytest.approx(0.7))
        and report["loo_error_percent"] < 1e-6
        and report["spearman"] == pytest.approx(1)
    )
    assert not report["proportional"] and report["n"] == 6


def test_affine_withstands_one_bad_network():
    errors, plain = [], []
    for seed in range(50):
        rng = np.random.default_rng(seed)
        x = rng.uniform(2, 20, 8)
        y = (1.4 * x + 0.8) * rng.normal(1, 0.01, 8)
        y[rng.integers(8)] *= 1.6
        a, b, _ = affine(x, y)
        at = np.linspace(2, 20, 10)
        errors.append(np.abs((a * at + b) / (1.4 * at + 0.8) - 1).mean())
        plain.append(np.abs(np.polyval(np.polyfit(x, y, 1), at) / (1.4 * at + 0.8) - 1).mean())
    assert np.median(errors) < 0.02 < np.median(plain)


@pytest.mark.parametrize("x, y", [([1, 2, 3], [3, 2, 1]), ([2, 2, 2], [3, 4, 5]), ([1, 2, 3, 4], [2, 2, 2, 2])])
def test_affine_always_rises(x, y):
    a, b, report = affine(x, y)
    assert a > 0 and np.isfinite([a, b, report["loo_error_percent"]]).all()
    json.dumps(report, allow_nan=False)


@pytest.mark.parametrize(
    "x, y, message",
    [
        ([1, 2], [1, 2], "at least 3"),
        ([1, 2, 3], [1, 2], "at least 3"),
        ([1, 2, 0], [1, 2, 3], "above 0"),
        ([1, 2, 3], [1, float("nan"), 3], "above 0"),
        ([[1, 2, 3]], [[1, 2, 3]], "at least 3"),
    ],
)
def test_affine_refuses(x, y, message):
    with pytest.raises(ValueError, match=message):
        affine(x, y)


def test_the_reference_is_always_the_same():
    state = torch.get_rng_state()
    (a, (x,)), (b, (y,)) = reference_network(), reference_network()
    assert torch.equal(a(x), b(y)) and not a.training and torch.equal(state, torch.get_rng_state())


def test_evaluating_nests():
    net = nn.Sequential(nn.Dropout(), nn.Dropout().eval())
    with pytest.raises(RuntimeError), evaluating([net]):
        assert not any(m.training for m in net.modules())
        raise RuntimeError
    assert [m.training for m in net.modules()] == [True, True, False]


def test_without_a_compiler_it_is_said_in_one_line(monkeypatch, tmp_path):
    "In a process of its own: what was compiled before needs no compiler any more."
    code = (
        "import os, torch\nos.environ['PATH'] = '/nonexistent'\nfrom nas_suite.latency import measure\n"
        "try: measure(torch.nn.Linear(4, 4), torch.zeros(1, 4), rounds=2, backend='compile')\n"
        "except ValueError as e: print(e)\n"
    )
    more = dict(TORCHINDUCTOR_CACHE_DIR=str(tmp_path), PYTHONPATH=str(Path(measuring.__file__).parents[2]))
    env = {n: v for n, v in os.environ.items() if n not in ("CXX", "CC")} | more
    said = subprocess.run([sys.executable, "-W", "ignore", "-c", code], env=env, capture_output=True, text=True).stdout
    assert "needs a C++ compiler" in said and said.count("\n") == 1
