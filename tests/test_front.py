"One supernet for every budget: trained by the command line, in one process or two, handed out, drawn, taken over by a search."

import json, shutil, sys, warnings
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from copy import copy
from multiprocessing import get_context
from pathlib import Path
import pytest, torch
from PIL import Image
from torch.utils.data import ConcatDataset, Subset
from data_recipes.files import LeftOut
from nas_suite import search
from nas_suite.choices import *
from nas_suite.costs import macs
from nas_suite.front.doors.base import asked
from nas_suite.front.search import ChangedData, Search
from nas_suite.front.specialize import opened
from nas_suite.latency import table
from nas_suite.report import read, stage_table
from nas_suite.spaces.mobile import ofa_mobilenet_v3, proxyless
from nas_suite.strategies import finals
from nas_suite.strategies import steps
from nas_suite.strategies.evolution import Accuracy, Evolution, dominated, evolve, hypervolume, pareto, random_search
from nas_suite.strategies.gated import Gated
from nas_suite.strategies.supernet import Supernet, sandwich
from nas_suite.tasks.classification import classification
from nas_suite.tasks.speaker import speaker

sys.path.insert(0, str(Path(__file__).parent))
from test_supernet import cost, landscape, space as toy


@pytest.fixture(scope='module')
def task():
    return classification('digits', valid=0.5)


def small(seed=0, **more):
    torch.manual_seed(seed)
    return ofa_mobilenet_v3(
        **dict(
            classes=10,
            image_size=8,
            in_channels=1,
            widths=(8, 16),
            depths=(1, 2),
            kernels=(3, 5),
            expands=(2, 3),
            stem=8,
            first=8,
            last=(32, 40),
            dropout=0.0,
        )
        | more
    )


def strategy(epochs=1):
    return Evolution(Supernet(sandwich(epochs)), samples=20, population=20, generations=5, parents=5, finalists=3)


@pytest.fixture(scope='module')
def run(tmp_path_factory, task):
    folder = tmp_path_factory.mktemp('runs') / 'supernet'
    search.train_supernet(task, folder, small(), strategy(), progress=False)
    return folder


def test_a_trained_supernet(run, task):
    assert {p.name for p in run.iterdir()} == {
        'config.json',
        'environment.json',
        'history.json',
        'report.html',
        'scores.json',
        'search.json',
        'search.pt',
        'start.pt',
    }
    head, body = stage_table(read(run))
    assert head == ['network', 'all'] and body[0][0] == 'largest'
    page = (run / 'report.html').read_text()
    assert 'A supernet for digits' in page and 'The supernet after each stage' in page and 'not finished' not in page
    again = search.train_supernet(task, run, small(), strategy(), progress=False)  # nothing is done twice
    assert again == json.loads((run / 'history.json').read_text())
    with pytest.raises(ValueError, match='holds another run; it differs in'):
        search.train_supernet(task, run, small(), strategy(2), progress=False)


def test_networks_are_handed_out_and_noted(run, task, tmp_path, counted):
    shutil.copytree(run, mine := tmp_path / 'run')
    space, c = small(), macs(small(), (1, 8, 8))
    low, high = c(smallest(space)), c(largest(space))
    budgets = [low + (high - low) * f for f in (0.2, 0.6)]
    found = search.specialize(mine, macs=budgets)
    assert all(f.costs['macs'] <= b for f, b in zip(found, budgets)) and found[0].arch != found[1].arch
    search.specialize(mine, macs=budgets[:1])
    noted = json.loads((mine / 'specialized.json').read_text())
    assert [r['budget'] for r in noted] == [dict(macs=int(b)) for b in budgets[1:] + budgets[:1]] or len(noted) == 2
    assert (
        all(r['measured'] is not None and r['predicted'] is not None for r in noted)
        and 'Networks for every budget' in (mine / 'report.html').read_text()
    )
    clock = table(space, (1, 8, 8), rounds=5, calibrate=3, progress=False, cache=tmp_path)
    ms = clock(largest(space))
    (by_time,) = search.specialize(mine, latency_ms=ms, table=clock)
    assert (
        counted[0] > 0
        and by_time.costs['latency_measured']
        and by_time.costs['latency_interval'][1] <= ms
        and by_time.costs['latency_table'] > 0.7 * ms
    )  # met, and used
    for f, name in zip(found, 'ab'):
        f.save(tmp_path / name)
    net = torch.export.load(tmp_path / 'a' / 'model.pt2').module()
    torch.testing.assert_close(net(torch.ones(2, 1, 8, 8)), found[0].model.eval()(torch.ones(2, 1, 8, 8)))
    with pytest.raises(ValueError, match='smallest reaches'):
        search.specialize(mine, macs=low / 2)
    assert sorted(p.name for p in mine.iterdir()) == sorted(
        [*(p.name for p in run.iterdir()), 'specialized.json']
    )  # a failure leaves nothing


def test_a_final_among_those_that_fill_the_budget(run, task, tmp_path, monkeypatch):
    "The best of the candidates on validation data; scores are kept, and what was cut off goes on."
    shutil.copytree(run, mine := tmp_path / 'run')
    seen = []

    class Counted(Accuracy):
        def _evaluated(self, row):
            seen.append(row)
            if len(seen) == 3:
                raise KeyboardInterrupt
            return Accuracy._evaluated(self, row)

    monkeypatch.setattr(finals, 'Accuracy', Counted)  # what evolution's own finalists are judged by is another
    budget = macs(small(), (1, 8, 8))(largest(small())) * 0.6
    alone, = search.specialize(mine, macs=budget, finalists=0)
    assert not seen and alone.finals == {}
    with pytest.raises(KeyboardInterrupt):
        search.specialize(mine, macs=budget, finalists=5)
    found, = search.specialize(mine, macs=budget, finalists=5)
    rows = found.finals['candidates']
    assert len(rows) == 5 and rows[0]['arch'] == alone.arch and len(seen) == 5 + 1  # the third was begun twice
    accuracy = Accuracy(s := opened(mine).space, task)
    truth = [accuracy._evaluated(row[None]) for row in encode(s, [row['arch'] for row in rows])]
    assert [row['inherited'] for row in rows] == pytest.approx(truth)
    best = max(range(5), key=lambda i: truth[i])
    assert found.finals['winner'] == best and found.arch == rows[best]['arch'] and found.costs['macs'] <= budget
    noted = json.loads((mine / 'specialized.json').read_text())
    assert [row['judged'] for row in noted] == [1, 5] and noted[1]['passes'] == pytest.approx(found.finals['passes'])
    again, = search.specialize(mine, macs=budget, finalists=5)
    assert again.arch == found.arch and len(seen) == 6
    with pytest.raises(ValueError, match='finalists is out of range: -1'):
        search.specialize(mine, macs=budget, finalists=-1)


def test_workers_judge_the_candidates_of_a_budget(run, tmp_path):
    "What is handed out, and what each candidate scored, is the same to the last bit."
    budget = macs(small(), (1, 8, 8))(largest(small())) * 0.6
    shutil.copytree(run, alone := tmp_path / 'alone')
    shutil.copytree(run, spread := tmp_path / 'spread')
    with pytest.raises(ValueError, match='an executor of processes'):
        search.specialize(spread, macs=budget, executor=ThreadPoolExecutor(1))
    one, = search.specialize(alone, macs=budget, finalists=3)
    with ProcessPoolExecutor(1, mp_context=get_context('fork')) as executor:
        other, = search.specialize(spread, macs=budget, finalists=3, executor=executor)
    assert other.arch == one.arch and other.finals['candidates'] == one.finals['candidates']


def test_the_front(run, task, tmp_path):
    shutil.copytree(run, mine := tmp_path / 'run')
    found = search.front(mine, points=4, widths=(1.0,), epochs=1, progress=False)
    costs, guess = zip(*((p['cost'], p['predicted']) for p in found['points']))
    assert (
        list(costs) == sorted(costs) and list(guess) == sorted(guess) and len(set(costs)) == len(found['points']) <= 4
    )
    assert found['by_hand'][0]['name'] == 'MobileNetV2-like x1' and 0 <= found['by_hand'][0]['accuracy'] <= 1
    accuracy = Accuracy(s := opened(mine).space, task)
    for p in found['points']:
        assert p['accuracy'] == pytest.approx(float(accuracy(encode(s, p['arch']))[0]))
    assert (
        json.loads((mine / 'front.json').read_text()) == json.loads(json.dumps(found))
        and 'MobileNetV2-like, trained alone' in (mine / 'report.html').read_text()
    )
    with pytest.raises(ValueError, match="there is no budget 'joules'"):
        search.front(mine, 'joules')


def test_a_search_takes_a_supernet_over(run, task, tmp_path, unwritten):
    budget = macs(small(), (1, 8, 8))(largest(small())) * 0.5
    found = search.run(small(), task, strategy(), dict(macs=budget), tmp_path / 'run', supernet=run, progress=False)
    assert found.costs['macs'] <= budget and found.history == json.loads((run / 'history.json').read_text())
    alone = search.specialize(run, macs=budget)
    assert alone[0].arch == found.arch
    for other, what in ((dict(seed=1), 'seed'), (dict(space=small(expands=(2, 4))), 'space')):
        with pytest.raises(ValueError, match=f'is another one; it differs in .*{what}'):
            search.run(
                **dict(
                    space=small(),
                    task=task,
                    strategy=strategy(),
                    budget=dict(macs=budget),
                    run_dir=tmp_path / 'other',
                    supernet=run,
                    progress=False,
                )
                | other
            )
        assert not (tmp_path / 'other').exists()  # refused before anything was computed
    with pytest.raises(ValueError, match='no trained supernet'):
        search.run(small(), task, strategy(), dict(macs=budget), tmp_path / 'none', supernet=tmp_path, progress=False)


def test_data_that_have_changed(run, task):
    fewer = copy(task)
    fewer.train = Subset(task.train, range(len(task.train) - 1))
    with pytest.raises(ValueError, match='train: .*go on with these by allow_changed_data=True'):
        search.specialize(run, macs=1e9, task=fewer)
    with pytest.warns(ChangedData, match='have changed .train: '):
        assert opened(run, task=fewer, allow_changed_data=True).task is fewer
    more, other = copy(task), copy(task)
    more.train, other.smoothing = ConcatDataset([task.train, fewer.train]), 0.3
    for changed in more, other:  # more items would go on with the training
        with pytest.raises(ValueError, match='this task is not that of the run'):
            opened(run, task=changed, allow_changed_data=True)


def test_damage_is_named(run, tmp_path):
    shutil.copytree(run, mine := tmp_path / 'run')
    (mine / 'search.pt').write_bytes((run / 'search.pt').read_bytes()[:1000])
    with pytest.raises(ValueError, match='search.pt is not a checkpoint, or is damaged'):
        search.specialize(mine, macs=1e9)
    (mine / 'history.json').unlink()
    with pytest.raises(ValueError, match='not trained to the end'):
        search.specialize(mine, macs=1e9)


@pytest.mark.parametrize(
    ('make', 'said'),
    [
        (lambda task: speaker('synthetic voices', trials='list.txt'), "trials is .*found 'list.txt': leave it out"),
        (lambda task: speaker({}, trials='O'), "trials is .*found 'O': leave it out"),
        (lambda task: speaker('synthetic voices', disturb=False, noise='musan'), 'noise is .*leave it out'),
        (lambda task: classification('digits', image_size=32), 'image_size is .*found 32: leave it out'),
        (lambda task: search.speaker(task, macs='1M', trials='list.txt'), 'trials is .*leave it out'),
        (lambda task: search.segmentation(task, macs='1M', image_size=(8, 8)), 'image_size is .*leave it out'),
        (lambda task: search.segmentation(task, macs='1M', classes=['a']), 'classes is .*leave it out'),
    ],
)
def test_what_would_be_ignored_is_refused(task, make, said):
    with pytest.raises(ValueError, match=said):
        make(task)


# ---------------------------------------------------------------- the front itself


def test_pareto_front_of_a_known_landscape():
    rows, value, spent = pareto(toy, landscape, [cost], population=40, generations=30, seed=1)
    every = canonical(toy, sample(toy, 4000, torch.Generator().manual_seed(3))).unique(dim=0)
    both = torch.stack([-landscape(every), cost.batch(every)], 1)
    assert not dominated(torch.cat([-value[:, None], spent], 1)).any()
    torch.testing.assert_close(value, landscape(rows))
    torch.testing.assert_close(spent[:, 0], cost.batch(rows))
    worst = float(landscape(every).min()), float(cost.batch(every).max())
    assert hypervolume(value, spent[:, 0], *worst) >= 0.98 * hypervolume(landscape(every), cost.batch(every), *worst)
    again = pareto(toy, landscape, [cost], population=40, generations=30, seed=1)
    assert all(torch.equal(a, b) for a, b in zip((rows, value, spent), again))
    with pytest.raises(ValueError, match='at least one cost'):
        pareto(toy, landscape, [])


@pytest.mark.parametrize(
    'take',
    [
        lambda costs, limits: pareto(toy, landscape, costs, population=8, generations=2),
        lambda costs, limits: evolve(toy, landscape, costs, [limits[1]], population=8, parents=3, generations=2),
        lambda costs, limits: random_search(toy, landscape, costs, [limits[1]], n=20),
    ],
)
def test_one_cost_is_as_good_as_a_list_of_one(take):
    limits = cost, 0.5 * (cost(largest(toy)) + cost(smallest(toy)))
    for one, other in zip(take(cost, limits), take([cost], limits)):
        assert torch.equal(torch.as_tensor(one), torch.as_tensor(other))
    for wrong in 'macs', dict(macs=1), [cost, 'macs'], None:
        with pytest.raises(ValueError, match='costs are a list of cost models'):
            take(wrong, limits)


def test_one_limit_is_as_good_as_a_list_of_one():
    limit = cost, 0.5 * (cost(largest(toy)) + cost(smallest(toy)))
    assert steps.derive(toy, limit) == steps.derive(toy, [limit])
    assert torch.equal(steps.fitting(toy, limit), steps.fitting(toy, [limit]))
    assert search.sample(toy, Evolution(), limit).limits == [limit]
    for take in (steps.derive, steps.fitting, lambda space, limits: search.sample(space, Evolution(), limits)):
        for wrong in cost, [cost], [(cost, 1, 2)], [('macs', 1)], 3:
            with pytest.raises(ValueError, match='limits are pairs of a cost and the most it may be'):
                take(toy, wrong)


def test_an_uncalibrated_network_needs_the_word(task):
    with pytest.raises(ValueError, match='uncalibrated=True'):
        Accuracy(small(), task, calibrate=0)
    s = small()
    row = encode(s, largest(s))
    a, b = Accuracy(s, task), Accuracy(s, task, uncalibrated=True)
    before = {k: v.clone() for k, v in s.state_dict().items()}
    a(row), b(row)
    assert all(torch.equal(v, before[k]) for k, v in s.state_dict().items())
    means = [
        [m.running_mean.clone() for m in acc.network(largest(s)).modules() if hasattr(m, 'running_mean')]
        for acc in (a, b)
    ]
    assert not torch.equal(means[0][0], means[1][0]) and not means[1][0].any()
    with pytest.raises(ValueError, match='empty'):
        Accuracy(s, task, torch.utils.data.TensorDataset(torch.zeros(0, 1, 8, 8), torch.zeros(0)))


# ---------------------------------------------------------------- data that change while a run is cut off


def photos(root, n=8):
    for label, colour in (('blue', (0, 0, 255)), ('red', (255, 0, 0))):
        (root / label).mkdir(parents=True)
        for i in range(n):
            Image.new('RGB', (12, 12), colour).save(root / label / f'{i}.png')
    return root


def begun(root, run, **more):
    "A search of photos, before its first step."
    task = classification(root, image_size=8)
    torch.manual_seed(0)
    space = proxyless(classes=2, image_size=8, stem=8, first=0, widths=(8,), depths=(2,), last=16)
    found = Search(space, task, Gated(epochs=1), dict(macs=1e6), run_dir=run, device='cpu', progress=False, **more)
    with found.begun({}):
        return found.run


@pytest.mark.filterwarnings('error')
def test_a_bad_file_and_its_removal_leave_the_run_what_it_is(tmp_path):
    root, run = photos(tmp_path / 'photos'), tmp_path / 'run'
    bad = root / 'red' / '8.png'
    bad.write_bytes(b'no image')
    with pytest.warns(LeftOut, match='red/8.png'):
        begun(root, run)
    bad.unlink()
    begun(root, run)
    (tmp_path / 'moved').mkdir()
    begun(root.rename(tmp_path / 'moved' / 'photos'), run)  # where the folder lies says nothing


def test_changed_data_are_gone_on_with_where_that_is_said(tmp_path):
    root, run = photos(tmp_path / 'photos'), tmp_path / 'run'
    config = begun(root, run).read('config')
    (root / 'red' / '3.png').write_bytes(b'it went bad')
    with pytest.raises(ValueError, match='have changed .valid: 8 there, 7 here.*--allow-changed-data'), pytest.warns(LeftOut):
        begun(root, run)
    with pytest.warns(UserWarning, match='goes on with data that have changed'):
        assert begun(root, run, allow_changed_data=True).read('config') == config
    with pytest.raises(ValueError, match='holds another run; it differs in .*seed'), pytest.warns(LeftOut):
        begun(root, run, allow_changed_data=True, seed=1)


def test_a_supernet_goes_on_with_changed_data_where_that_is_said(tmp_path, monkeypatch):
    class Begun(Exception):
        pass

    def stop(*_):
        raise Begun

    monkeypatch.setattr(Search, 'search', stop)
    root, run = photos(tmp_path / 'photos'), tmp_path / 'run'

    def train(**more):
        torch.manual_seed(0)
        search.train_supernet(classification(root, image_size=8, shared=True), run, small(), progress=False, **more)

    with pytest.raises(Begun):
        train()
    (root / 'red' / '3.png').unlink()
    with pytest.raises(ValueError, match='have changed .*--allow-changed-data'):
        train()
    with pytest.raises(Begun), pytest.warns(ChangedData):
        train(allow_changed_data=True)


def test_weights_that_are_kept_say_what_they_do_not_see(tmp_path):
    space = small()
    how = dict(run_dir=tmp_path / 'run', device='cpu', progress=False)
    with pytest.warns(UserWarning, match='learn from 64[0-9] of 1297 training items'):
        Search(space, classification('digits'), Evolution(epochs=1), dict(macs=1e9), **how)
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        Search(space, classification('digits', shared=True), Evolution(epochs=1), dict(macs=1e9), **how)
        Search(space, classification('digits'), Gated(epochs=1), dict(macs=1e9), **how)
    assert asked('evolution', None).shares_weights and len(classification('digits', shared=True).train) == 1197
