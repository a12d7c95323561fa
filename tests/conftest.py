"Seeds, a clock that a busy machine does not change, and the real data that is not on every machine."

import gc, os, random, sys
from pathlib import Path
import numpy as np, pytest, torch
from hypothesis import HealthCheck, settings

settings.register_profile('busy', deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile('busy')  # examples may take as long as they take

gc.disable()  # until all tests are collected: to look through what grows and stays takes seconds


def pytest_collection_finish():
    "What is there now stays and is not looked through again, and the rest less often, which took a tenth of the time."
    gc.freeze()
    gc.set_threshold(50_000, 10, 5)
    gc.enable()


@pytest.fixture(autouse=True)
def seeds():
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)


@pytest.fixture(autouse=True, scope='session')
def untried():
    "Searches do not try to write a network before they begin, which takes a second, but where a test asks for `trial`."
    from nas_suite.front import export, search

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(search, 'tried', lambda *_: export.Written())
        yield


@pytest.fixture
def trial(monkeypatch):
    "Searches try to write a network before they begin."
    from nas_suite.front import export, search

    monkeypatch.setattr(search, 'tried', export.tried)


@pytest.fixture
def unwritten(monkeypatch):
    "Searches write no .pt2 and no ONNX file, which takes seconds: the folder has the weights and the JSON alone."
    from nas_suite.front import export

    monkeypatch.setattr(export, '_attempt', lambda *_: None)


@pytest.fixture
def undrawn(monkeypatch):
    "Reports are written without their figures drawn, which takes a second for each report: for what nobody looks at."
    from nas_suite.front import page

    monkeypatch.setattr(page, 'svg', lambda name, fig, title: f'<svg>{name}</svg>')


@pytest.fixture
def drawn_once(monkeypatch):
    "Of searches that are to find the same, the first report draws its figures, and others take them from there."
    from nas_suite.front import page

    plain, drawn = page.svg, {}

    def once(name, fig, title):
        if name not in drawn:
            drawn[name] = plain(name, fig, title)
        return drawn[name]

    monkeypatch.setattr(page, 'svg', once)


@pytest.fixture(autouse=True, scope='session')
def verified_once():
    "Counts of a space of ours that were held against extracted networks, and are the same again, are believed."
    from nas_suite.choices import choices
    from nas_suite.costs import counts

    plain, seen = counts._verified, set()

    def once(cost, space, count):
        settings = getattr(space, 'config', {})
        if not type(space).__module__.startswith('nas_suite.spaces.') or 'family' not in settings:
            return plain(cost, space, count)
        alive = tuple((name, choice.options, tuple(choice.survivors)) for name, choice in choices(space).items())
        said = tuple(cost(arch) for arch in counts._spread(space))
        key = repr((cost.name, type(space), settings, alive, said))
        found = cost if key in seen else plain(cost, space, count)
        seen.add(key)
        return found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(counts, '_verified', once)
        yield


@pytest.fixture
def as_it_was():
    "What a page patches into classes of the package is gone after it."
    modules = [module for name, module in sys.modules.items() if name.startswith('nas_suite') and module is not None]
    found = {kind for module in modules for kind in vars(module).values() if isinstance(kind, type)}
    before = {kind: dict(vars(kind)) for kind in found if kind.__module__.startswith('nas_suite')}
    yield
    for kind, names in before.items():
        now = dict(vars(kind))
        for name in now.keys() - names.keys(): delattr(kind, name)
        for name, value in names.items():
            if now.get(name) is not value: setattr(kind, name, value)


@pytest.fixture
def few_digits(monkeypatch):
    "The handwritten digits are a third of them."
    from data_recipes import digits
    from few_digits import third

    monkeypatch.setattr(digits, 'load', third)


@pytest.fixture
def shared():
    "Function: a path inside the shared data; skips, naming it, where it is absent."
    root = Path(os.environ.get('NAS_SUITE_SHARED', Path(__file__).parents[2] / 'shared'))

    def find(name):
        if not (path := root / name).exists():
            pytest.skip(f"needs the shared data {name} (set NAS_SUITE_SHARED to its folder)")
        return path

    return find


@pytest.fixture
def counted(monkeypatch, tmp_path):
    "Latencies that are counted: every back end runs a network, and its time is 20 us a layer and 1 ns an operation, up to some percent different for each network and each call. Kept in a cache of their own."
    from clock import counting, looking
    from nas_suite.latency import backends, measuring

    ns, noise = [0], np.random.default_rng(0)
    for name, back_end in backends.items():
        monkeypatch.setitem(backends, name, counting(back_end, ns, lambda: noise.lognormal(0, 0.005)))
    defaults = measuring.measure.__defaults__[:-1] # the last parameter is the clock
    monkeypatch.setattr(measuring.measure, '__defaults__', (*defaults, looking(ns)))
    monkeypatch.setenv('NAS_SUITE_CACHE', str(tmp_path / 'latencies'))
    return ns
