"The logic of the benchmark of three real tasks, on a task that is made up."

import sys
from pathlib import Path
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / 'benchmarks'))
import real_tasks as bench


def rows_of(scores):
    return [
        dict(task='made up', name=name, training_seed=str(seed), worth=str(value))
        for name, values in scores.items()
        for seed, value in enumerate(values)
    ]


def test_jobs_go_network_by_network():
    jobs = bench.jobs_of(dict(a=('one', 'two')), searches=3, random=20, seeds=2)
    assert len(jobs) == len(set(jobs)) == 2 * (6 + 1 + 20)
    assert [(job.name, job.training_seed) for job in jobs[:6]] == [
        ('one 0', 0),
        ('one 0', 1),
        ('two 0', 0),
        ('two 0', 1),
        ('by hand', 0),
        ('by hand', 1),
    ]
    assert all(a.name == b.name for a, b in zip(jobs[::2], jobs[1::2]))


def test_it_goes_on_after_each_training(tmp_path):
    jobs, path, done = bench.jobs_of(dict(a=('one',)), searches=1, random=2), tmp_path / 'rows.csv', []

    def do(job):
        if job.name == 'by hand':
            return None
        if len(done) == 3:
            raise KeyboardInterrupt
        done.append(job)
        return dict(worth=len(done))

    with pytest.raises(KeyboardInterrupt):
        bench.go_on(jobs, path, do)
    assert len(bench.kept(path)) == 3
    before, done[:] = list(done), []
    bench.go_on(jobs, path, do)
    assert len(bench.kept(path)) == 6 and not set(before) & set(done)
    assert {job.name for job in bench.left(jobs, bench.kept(path))} == {'by hand'}
    bench.go_on(jobs, tmp_path / 'none.csv', do, seconds=-1)
    assert bench.kept(tmp_path / 'none.csv') == []


def test_percentile_and_its_interval():
    assert bench.percentile(2, [1] * 10)[0] == 1 and bench.percentile(0, [1] * 10)[0] == 0
    share, low, high = bench.percentile(1, [0, 1, 2, 3])
    assert share == 0.375 and 0 < low < share < high < 1
    assert bench.percentile(2, [1] * 100)[1] > bench.percentile(2, [1] * 10)[1]


def test_seed_noise_is_told_from_networks():
    alike = bench.spread({f'random {i}': [0.5, 0.7] for i in range(5)})
    assert alike.between == 0 and alike.noise_share == 1 and alike.spearman is None
    clear = bench.spread({f'random {i}': [i, i] for i in range(5)})
    assert clear.noise == 0 and clear.noise_share == 0 and clear.spearman == pytest.approx(1)
    both = bench.spread({'a': [0, 2], 'b': [10, 12], 'c': [20, 22]})
    assert both.noise**2 == pytest.approx(2) and both.between**2 == pytest.approx(99)
    assert bench.spread({'a': [0, 2], 'b': [1]}) is None


def test_report_of_what_is_there():
    rows = rows_of({'gated 0': [0.9, 0.8], 'by hand': [0.7], **{f'random {i}': [i / 10] * 2 for i in range(5)}})
    said = bench.report(rows, 'made up')
    assert said['trainings'] == 13 and said['random'] == 5 and set(said['networks']) == {'gated 0', 'by hand'}
    mine = said['networks']['gated 0']
    assert mine['percentile'][0] == 1 and mine['ahead_of_hand'] == pytest.approx([0.2])
    assert bench.report([], 'made up')['networks'] == {}
