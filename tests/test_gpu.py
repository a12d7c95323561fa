"""Everything that has a device in it, on a card: searches of the three tasks, resume, tables, extraction, networks that go elsewhere.

Skipped where there is no card. NAS_SUITE_TEST_DEVICE=cpu runs the same tests on the processor, to try the tests themselves."""

import os, warnings
import numpy as np, pytest, torch
from nas_suite import search
from nas_suite.choices import choices, largest, smallest
from nas_suite.costs import macs
from nas_suite.extraction import check, extract
from nas_suite.latency import BusyMachine, table
from nas_suite.spaces.mobile import ofa_mobilenet_v3
from nas_suite.strategies.evolution import Evolution
from nas_suite.strategies.gated import Gated
from nas_suite.strategies.regularized import Regularized
from nas_suite.strategies.short_training import ShortTraining
from nas_suite.strategies.supernet import Supernet, sandwich
from nas_suite.tasks.classification import classification
from nas_suite.training import Calibration, Loop, calibrated
from test_search import mobile, pair
import test_segmentation, test_speaker

DEVICE = os.environ.get('NAS_SUITE_TEST_DEVICE', 'cuda')
pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(DEVICE == 'cuda' and not torch.cuda.is_available(), reason='there is no card here'),
    pytest.mark.filterwarnings('ignore'),
]


@pytest.fixture(autouse=True)
def plain_floats():
    "Not TF32, whose rounding depends on the kernel."
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    yield
    torch.backends.cudnn.allow_tf32 = before


def images():
    return classification(pair(), shift=1), mobile()


def streets():
    return test_segmentation.scenes(), test_segmentation.tiny_space()


def voices():
    torch.manual_seed(0)
    return test_speaker.tiny_task(), test_speaker.tiny_space()


def shared():
    torch.manual_seed(0)
    sizes = dict(widths=(8,), depths=(1, 2), kernels=(3, 5), expands=(2, 3), stem=8, first=8, last=(16, 16))
    return ofa_mobilenet_v3(classes=3, image_size=8, in_channels=1, **sizes)


CASES = {
    'images, gated': (images, lambda: Gated(epochs=2, batch_size=16)),
    'images, short trainings': (images, lambda: ShortTraining(passes=1, evaluations=3, batch=2, parents=1)),
    'streets, all at once': (streets, lambda: Regularized(epochs=3, batch_size=4, shrinks=2)),
    'voices, gated': (voices, lambda: Gated(epochs=1, batch_size=4)),
}


@pytest.mark.parametrize('precision', ['32-true', 'bf16-mixed'])
@pytest.mark.parametrize('name', CASES)
def test_a_search_on_a_card_hands_out_a_network_for_any_machine(name, precision, tmp_path, unwritten):
    "Its answers on the processor are those that it gives on the card."
    if precision != '32-true' and name != 'images, gated':
        pytest.skip('one search in 16 bits is enough')
    (task, space), strategy = CASES[name][0](), CASES[name][1]()
    cost = macs(space, task.input_shape)
    budget = dict(macs=0.7 * cost(largest(space)) + 0.3 * cost(smallest(space)))
    how = dict(retrain_epochs=1, finalists=0, run_dir=tmp_path / 'run', progress=False)
    found = search.run(space, task, strategy, budget, device=DEVICE, precision=precision, **how)
    assert found.costs['macs'] <= budget['macs'] and all(c.alpha.device.type == 'cpu' for c in choices(space).values())
    again = search.load(tmp_path / 'run')
    assert all(t.device.type == 'cpu' for t in again.model.state_dict().values())
    x = torch.randn(2, *task.input_shape)
    with torch.inference_mode():
        here, there = again.model.eval()(x), again.model.to(DEVICE)(x.to(DEVICE)).cpu()
    torch.testing.assert_close(here, there, atol=1e-3, rtol=1e-3)


class Cut(Exception):
    pass


@pytest.mark.parametrize('name', ['images, gated', 'streets, all at once'])
def test_a_search_goes_on_on_the_card(name, tmp_path):
    "Cut off in the middle, from a checkpoint that was read onto the processor."

    def go(folder, cut=None):
        (task, space), strategy = CASES[name][0](), CASES[name][1]()

        def taken(n):
            if n == cut:
                raise Cut

        cost = macs(space, task.input_shape)
        loop = Loop(3, DEVICE, folder / 'search.pt', progress=False, save_s=0, on_step=taken)
        strategy.search(space, task, [(cost, 0.7 * cost(largest(space)))], loop)
        return space.state_dict()

    whole = go(tmp_path / 'whole')
    with pytest.raises(Cut):
        go(tmp_path / 'cut', cut=3)
    for key, value in go(tmp_path / 'cut').items():
        torch.testing.assert_close(value.cpu(), whole[key].cpu(), atol=1e-3, rtol=1e-3, msg=key)


@pytest.mark.parametrize('make', [mobile, shared], ids=['operators', 'weights that are shared'])
def test_extraction_is_exact_on_the_card(make):
    space = make().to(DEVICE).eval()
    x = torch.randn(4, *space.input_shape, device=DEVICE)
    for arch in largest(space), smallest(space):
        assert check(space, arch, extract(space, arch).to(DEVICE), x) <= 1e-5


@pytest.mark.parametrize('backend', ['eager', 'cuda-graph'])
def test_a_table_of_the_card_is_used_on_a_machine_without_it(backend, tmp_path):
    if backend == 'cuda-graph' and DEVICE == 'cpu':
        pytest.skip('a graph is one of a card')
    space = shared()
    with warnings.catch_warnings():
        warnings.simplefilter('ignore', BusyMachine)
        clock = table(space, (1, 8, 8), device=DEVICE, backend=backend, rounds=6, calibrate=3, cache=tmp_path, progress=False)
    low, high = clock(smallest(space)), clock(largest(space))
    assert 0 < low < 5 * high and np.isfinite(high) and clock.environment['backend'] == backend
    kept = clock.save(tmp_path)
    task, strategy = classification(pair(), shift=1), Evolution(Supernet(sandwich(1), batch_size=16), score='accuracy', population=6, parents=2, generations=1, finalists=2)
    search.train_supernet(task, tmp_path / 'run', space, strategy, device=DEVICE, progress=False)
    (found,) = search.specialize(
        tmp_path / 'run', latency_ms=1.5 * max(low, high), table=kept, task=task, space=shared(), device='cpu'
    )
    assert found.costs['latency_table'] <= 1.5 * max(low, high)


def test_batch_norm_is_calibrated_alike_on_both():
    task, space = images()
    network = extract(space, largest(space))
    one, other = (calibrated(extract(space, largest(space)), task, device='cpu'), calibrated(network.to(DEVICE), task, device=DEVICE))
    for (name, a), b in zip(one.state_dict().items(), other.state_dict().values()):
        torch.testing.assert_close(a, b.cpu(), atol=1e-3, rtol=1e-3, msg=name)
    assert all(x.device.type == torch.device(DEVICE).type for x, _ in Calibration(task, device=DEVICE))


def test_the_memory_of_a_search_is_that_of_the_card():
    if DEVICE == 'cpu':
        pytest.skip('of the processor it is that of the process')
    from nas_suite.front.search import _peak

    torch.cuda.reset_peak_memory_stats()
    held = torch.zeros(2**20, device=DEVICE)
    assert 4 <= _peak(DEVICE) < 2**20 and held.is_cuda
