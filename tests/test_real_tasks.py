"The logic of the benchmark of three real tasks, on a task that is made up."

import sys
from pathlib import Path
import pytest, torch
from nas_suite.choices import decode, sample
from nas_suite.costs import count_params
from nas_suite.extraction import extract
from nas_suite.spaces.mobile import proxyless
from nas_suite.tasks.speaker.audio import Recordings
from nas_suite.tasks.speaker.features import LogMel

sys.path.insert(0, str(Path(__file__).parents[1] / 'benchmarks'))
import real_tasks as bench
from made_by_hand import ecapas, enets, fitting, mobilenets_v2, plain_chains, plain_segmenters


def small_mobile():
    return proxyless(classes=4, image_size=16, stem=8, widths=(8, 16), depths=(2, 1), last=32)


def rows_of(scores):
    return [
        dict(task='made up', name=name, training_seed=str(seed), worth=str(value))
        for name, values in scores.items()
        for seed, value in enumerate(values)
    ]


def test_jobs_go_network_by_network():
    jobs = bench.jobs_of(dict(a=bench.names_of(('one', 'two'), ('hand',), 3, 20)), seeds=2)
    assert len(jobs) == len(set(jobs)) == 2 * (6 + 1 + 20)
    names = [job.name for job in jobs[::2]]
    assert names[:8] == ['random 0', 'random 1', 'random 2', 'random 3', 'hand', 'one 0', 'two 0', 'random 4']
    assert [job.training_seed for job in jobs] == [0, 1] * 27
    assert all(a.name == b.name for a, b in zip(jobs[::2], jobs[1::2]))
    few = bench.names_of(['one'], ['hand'], searches=1, random=2)
    assert few == ['random 0', 'random 1', 'hand', 'one 0']


def test_every_task_has_its_jobs():
    jobs = bench.planned(list(bench.protocols))
    assert {job.task for job in jobs} == set(bench.protocols)
    for name, protocol in bench.protocols.items():
        names = {job.name for job in jobs if job.task == name}
        kinds = {bench.kind_of(each) for each in names}
        assert kinds == {'random', *protocol.strategies, *protocol.by_hand}
        found = protocol.searches * len(protocol.strategies)
        assert len(names) == found + len(protocol.by_hand) + protocol.random


def test_it_goes_on_after_each_training(tmp_path):
    jobs = bench.jobs_of(dict(a=bench.names_of(['one'], ['by hand'], 1, 2)))
    path, done = tmp_path / 'rows.csv', []

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
    rows = rows_of(
        {'gated 0': [0.9, 0.8], 'plain': [0.7], 'ENet-like': [0.5], **{f'random {i}': [i / 10] * 2 for i in range(5)}}
    )
    said = bench.report(rows, 'made up')
    assert said['trainings'] == 14 and said['random'] == 5
    assert set(said['networks']) == {'gated 0', 'plain', 'ENet-like'}
    mine = said['networks']['gated 0']
    assert mine['percentile'][0] == 1
    assert mine['ahead'] == {'plain': pytest.approx([0.2]), 'ENet-like': pytest.approx([0.4])}
    assert set(said['networks']['plain']['ahead']) == {'ENet-like'}
    assert bench.report([], 'made up')['networks'] == {}


def test_kinds_of_networks():
    assert [bench.kind_of(name) for name in ('random 3', 'gated 0', 'plain')] == ['random', 'gated', 'plain']


def test_the_size_of_a_hand_designed_network():
    took = dict(a=0.5, b=0.98, c=1.02, d=1.04)
    assert fitting(took, 1.0) == 'c' and fitting(took, 1.0, over=0) == 'b' and fitting(took, 0.1) == 'a'


def test_hand_designed_networks_grow_with_their_size():
    x, bands = torch.randn(2, 3, 48, 64), torch.randn(2, 40, 50)
    for makers, inputs, shape in (
        (enets(5), x, (2, 5, 48, 64)),
        (plain_segmenters(5, (48, 64), (18, 24)), x, (2, 5, 48, 64)),
        (ecapas(40, 16, 50, (8, 16)), bands, (2, 16)),
        (mobilenets_v2(small_mobile()), torch.randn(2, 3, 16, 16), (2, 4)),
        (plain_chains(small_mobile()), torch.randn(2, 3, 16, 16), (2, 4)),
    ):
        first, *_, last = (make() for make in makers.values())
        assert first.eval()(inputs).shape == last.eval()(inputs).shape == shape
        assert count_params(first) < count_params(last)


def test_features_that_are_computed_once():
    front = LogMel(40)
    waves = {'long': torch.randn(16000) / 10, 'short': torch.randn(3000) / 10}
    recordings = Recordings([('long', 'a'), ('short', 'b')], ['a', 'b'], 0.5, waves=waves)
    heard = bench.Heard(recordings, front)
    for i in range(2):
        torch.manual_seed(i)
        features, label = heard[i]
        assert label == i and features.shape == (40, front.frames(recordings.n))
        assert features.mean(1).abs().max() < 1e-4
    whole = front(waves['long'][None])[0]
    torch.manual_seed(0)
    start = int(torch.randint(whole.shape[1] - heard.frames + 1, ()))
    torch.manual_seed(0)
    crop = heard[0][0]
    wanted = whole[:, start : start + heard.frames]
    assert torch.allclose(crop, wanted - wanted.mean(1, keepdim=True), atol=1e-5)


def test_a_clock_measures_each_layer_once(tmp_path, monkeypatch):
    asked = []

    def counted(network, shapes):
        asked.append(network)
        return sum(p.numel() for p in network.parameters()) / 1e3

    monkeypatch.setattr(bench, 'processor_ms', counted)
    space, file = small_mobile(), tmp_path / 'layers.json'
    cost = bench.Clock(file, (3, 16, 16)).cost(space, (3, 16, 16))
    rows = sample(space, 5, torch.Generator().manual_seed(0))
    wanted = [count_params(extract(space, arch)) / 1e3 for arch in decode(space, rows)]
    assert cost.batch(rows).tolist() == pytest.approx(wanted) and asked
    asked.clear()
    again = bench.Clock(file, (3, 16, 16)).cost(space, (3, 16, 16))
    assert not asked and again.batch(rows).tolist() == cost.batch(rows).tolist()


def test_time_of_the_processor():
    assert bench.processor_ms(torch.nn.Linear(4, 4, device='meta'), [(1, 4)], 0.01, 3) > 0
