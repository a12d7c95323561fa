"Candidates judged by the workers of an executor: the same numbers, a search that goes on, and a worker that is killed."

import json, math, os, signal, time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path
import pytest, torch
from nas_suite import search
from nas_suite.choices import encode, sample
from nas_suite.costs import macs
from nas_suite.spaces.mobile import proxyless
from nas_suite.strategies.evolution import Evolution
from nas_suite.strategies.scores import Accuracy
from nas_suite.strategies.short_training import ShortTrained, ShortTraining
from nas_suite.tasks.classification import classification
from nas_suite.training import Loop, LostWorker, spread


def tiny():
    torch.manual_seed(0)
    small = dict(widths=(8,), depths=(2,), first=0, stem=8, last=16, expands=(2, 3))
    return proxyless(classes=10, image_size=8, in_channels=1, **small)


@pytest.fixture(scope='module')
def digits():
    return classification('digits')


@pytest.fixture
def two():
    "Two processes that are copies of this one, each with a thread, as this one then has."
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    with ProcessPoolExecutor(2, mp_context=get_context('fork')) as found:
        yield found
    torch.set_num_threads(before)


def looked(task, strategy=None, folder=None, executor=None, evaluations=4):
    strategy = strategy or ShortTraining(passes=1, evaluations=evaluations, batch=2, parents=1)
    space = tiny()
    checkpoint = folder and folder / 'search.pt'
    loop = Loop(checkpoint=checkpoint, progress=False, executor=executor)
    limits = [(macs(space, (1, 8, 8)), 30e3)]
    strategy.search(space, task, limits, loop)
    return [(one.arch, one.score) for one in strategy.searched[0][1]], strategy.derive(space, limits)


@pytest.fixture(scope='module')
def alone(digits):
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    found = looked(digits)
    torch.set_num_threads(before)
    return found


def test_two_workers_find_what_one_process_finds(digits, alone, two, tmp_path):
    assert looked(digits, folder=tmp_path, executor=two) == alone
    known = json.loads((tmp_path / 'scores.json').read_text())
    assert len(known) == 4

    class Never(ShortTraining):
        def scored_by(self, *of):
            accuracy = super().scored_by(*of)
            accuracy._evaluated = None
            return accuracy

    assert looked(digits, Never(passes=1, evaluations=4, batch=2, parents=1), tmp_path, two) == alone


def test_networks_of_a_supernet_are_judged_the_same(digits, two):
    space = tiny()
    rows = sample(space, 3, torch.Generator().manual_seed(0))
    ours, others = Accuracy(space, digits, calibrate=1), Accuracy(space, digits, calibrate=1)
    others.executor = two
    assert torch.equal(ours(rows), others(rows)) and ours.known == others.known
    assert others.sent().known == {} and others.sent().executor is None and others.known


class Mortal(ShortTrained):
    "Its worker is killed once, at the third network; the second is done before."

    def _evaluated(self, row):
        flag, done = Path(self.task.flag), Path(self.task.flag + '-done')
        if row.tolist() == self.task.deadly and not flag.exists():
            flag.touch()
            while not done.exists():  # the other worker is ready
                time.sleep(0.01)
            os.kill(os.getpid(), signal.SIGKILL)
        score = super()._evaluated(row)
        done.touch()
        return score


class Doomed(ShortTraining):
    def scored_by(self, space, task, loop):
        return Mortal(space, task, self.passes, loop.device, loop.seed)


def test_a_killed_worker_is_one_error_and_the_same_call_goes_on(digits, alone, tmp_path, monkeypatch):
    "What the other worker was doing is kept, where it was ready; all else is judged again."
    rows = encode(tiny(), [arch for arch, _ in alone[0]]).tolist()
    monkeypatch.setattr(digits, 'flag', str(tmp_path / 'flag'), raising=False)
    monkeypatch.setattr(digits, 'deadly', rows[0], raising=False)
    monkeypatch.setattr(torch, 'get_num_threads', lambda: 1)
    strategy = Doomed(passes=1, evaluations=4, batch=2, parents=1)
    with ProcessPoolExecutor(2, mp_context=get_context('fork')) as pool:
        with pytest.raises(LostWorker, match='the same call with a new executor goes on'):
            looked(digits, strategy, tmp_path, pool)
    assert len(json.loads((tmp_path / 'scores.json').read_text())) in (0, 1)  # it was just coming back
    with ProcessPoolExecutor(2, mp_context=get_context('fork')) as pool:
        assert looked(digits, Doomed(passes=1, evaluations=4, batch=2, parents=1), tmp_path, pool) == alone


def test_errors_of_workers_are_raised_and_what_came_back_is_given(two):
    came = []
    with pytest.raises(ValueError, match='math domain error'):
        for place, value in spread(two, math.sqrt, [4, -1]):
            came.append((place, value))
    assert came in ([], [(0, 2)])


def test_what_is_refused(tmp_path, digits):
    for wrong, said in ((ThreadPoolExecutor(1), 'threads share'), (3, 'found int')):
        with pytest.raises(ValueError, match=said):
            Loop(executor=wrong)
        with pytest.raises(ValueError, match=said):
            search.run(tiny(), digits, 'random', dict(macs=3e4), executor=wrong, run_dir=tmp_path / 'run')
    assert not (tmp_path / 'run').exists()


def test_evolution_learns_from_what_workers_evaluated(digits, two):
    found = []
    for executor in (None, two):
        strategy, space = Evolution(samples=20), tiny()
        strategy.prepare(space, digits, progress=False, executor=executor)
        found.append(strategy.accuracy.known)
    assert len(found[0]) == 20 and found[0] == found[1]
