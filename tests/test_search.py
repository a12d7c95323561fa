"The front door: budgets are met, what was found is what is on disk, and a run that is killed at any moment ends as if nothing had happened."

from copy import deepcopy
import ast, json, os, random, re, shutil, signal, subprocess, sys, warnings
from pathlib import Path
import numpy as np, pytest, torch
from safetensors.torch import load_file
from torch.utils.data import TensorDataset
from torchmetrics import MeanMetric
from nas_suite import extraction, files, search
from nas_suite.choices import *
from nas_suite.costs import *
from nas_suite.extraction import extract
from nas_suite.front import search as steps
from nas_suite.front.budgets import Limit, settle
from nas_suite.latency import LatencyTable
from nas_suite.spaces.mobile import proxyless
from nas_suite.strategies.gated import Gated
from nas_suite.tasks.base import Metric, Task
from nas_suite.tasks.classification import classification
from nas_suite.training import Loop, load_checkpoint, seeded

shape, budget = (1, 8, 8), 14000
EPOCHS, RETRAIN = 4, 8  # 3 steps an epoch, and 1


def images(n, seed, size=8):
    "Noise with a bright row: its place is the class."
    y = torch.arange(n) % 3
    x = 0.5 * torch.randn(n, 1, size, size, generator=torch.Generator().manual_seed(seed))
    x[torch.arange(n), 0, 2 * y] += 1
    return TensorDataset(x, y)


def pair():
    return images(96, 0), images(48, 1)


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
            depths=(4,),
            last=16,
            kernels=(3,),
            expands=(1, 2),
            dropout=0.1,
        )
        | more
    )


def go(run_dir, task=None, space=None, **more):
    return search.run(
        **dict(
            space=mobile() if space is None else space,
            task=classification(pair(), shift=1) if task is None else task,
            strategy=Gated(epochs=EPOCHS, batch_size=16),
            budget=dict(macs=budget),
            run_dir=run_dir,
            retrain_epochs=RETRAIN,
            seed=3,
            device='cpu',
            progress=False,
        )
        | more
    )


def mortal(name, later, replace=os.replace):
    "Events, counted: a step begins, a file is written and about to be put in its place, it is there. This process kills itself `later` events after file `name` is there (None: after now); -1: never."
    left = later if name is None else -1

    def event(there=None):
        nonlocal left
        if left < 0 and there is not None and there == name:
            left = later
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        left -= left > 0

    def put(source, target):
        event()
        replace(source, target)
        event(Path(target).name)

    os.replace = put
    return event


def server():
    "Starts `go(folder)` in a process of its own for each line of stdin, [folder, name, later] as of `mortal`, with a checkpoint after each step; says how it ended: 0: by itself, else the signal."
    import functools

    torch.set_num_threads(1)
    warnings.filterwarnings('ignore', 'the search was too short', UserWarning)  # it is
    warnings.filterwarnings('ignore', category=steps.Gap)
    steps.Loop = functools.partial(steps.Loop, save_s=0)
    steps.fit = functools.partial(steps.fit, save_s=0)
    for line in iter(sys.stdin.readline, ''):
        if pid := os.fork():
            print(os.waitpid(pid, 0)[1], flush=True)
            continue
        folder, name, later = json.loads(line)
        folder, task, event = Path(folder), classification(pair(), shift=1), mortal(name, later)
        plain = task.loss

        def loss(*a):
            with open(folder.with_suffix('.steps'), 'a') as f:
                f.write('.')
            event()
            return plain(*a)

        task.loss = loss
        try:
            go(folder, task)
            os._exit(0)
        except BaseException:
            __import__('traceback').print_exc()
            os._exit(1)


if __name__ == '__main__':
    server()
    sys.exit()


@pytest.fixture(scope='module', autouse=True)
def one_thread():
    n = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(n)


@pytest.fixture(scope='module')
def found(tmp_path_factory):
    return go(tmp_path_factory.mktemp('search') / 'run')


@pytest.fixture
def copy(found, tmp_path):
    "The run again, without some of its files."

    def make(*without):
        shutil.copytree(found.run_dir, folder := tmp_path / 'copy')
        for n in without:
            (folder / n).unlink()
        return folder

    return make


def state(folder):
    return {p.name: (p.stat().st_mtime_ns, p.read_bytes()) for p in folder.iterdir()}


def facts(folder):
    "What a run found, without how long it took."
    read = lambda n: json.loads((folder / n).read_text())
    r = read('result.json')
    for k in ('seconds', 'cpu_seconds', 'peak_memory_mb'):
        r['search'].pop(k)
    return r, read('arch.json'), read('metrics.json'), read('history.json'), read('config.json')


def same_run(a, b):
    assert facts(a) == facts(b)
    one, two = (load_file(f / 'model.safetensors') for f in (a, b))
    assert one.keys() == two.keys() and all(torch.equal(one[k], two[k]) for k in one)
    assert {p.name for p in b.iterdir() if p.name[0] != '.'} == {p.name for p in a.iterdir()}


FILES = {
    'config.json',
    'environment.json',
    'start.pt',
    'search.pt',
    'history.json',
    'settled.json',
    'arch.json',
    'search.json',
    'retrain.pt',
    'metrics.json',
    'kept.json',
    'costs.json',
    'figures.json',
    'network.json',
    'metadata.json',
    'model.safetensors',
    'model.pt2',
    'model.onnx',
    'result.json',
    'report.html',
}

# ---------------------------------------------------------------- what is found


def test_what_was_found_is_what_is_on_disk(found):
    run, space, test = found.run_dir, mobile(), pair()[1]
    assert {p.name for p in run.iterdir()} == FILES
    assert is_complete(space, found.arch) and decode(space, encode(space, found.arch)) == [found.arch] == [
        json.loads((run / 'arch.json').read_text())
    ]
    net = extract(space, found.arch)
    assert (
        found.costs == dict(macs=count_macs(net, shape), params=count_params(net))
        and cheapest(macs(space, shape))[0] <= found.costs['macs'] <= budget
    )
    missing, extra = net.load_state_dict(load_file(run / 'model.safetensors'), strict=False)
    assert not extra and not missing
    net.eval()
    x, y = test.tensors
    with torch.no_grad():
        out = net(x)
        torch.testing.assert_close(found.model(x), out, rtol=1e-4, atol=1e-5)
    got = found.metrics[json.loads((run / 'kept.json').read_text())['stage']]
    assert (
        got['n'] == len(x)
        and got['accuracy'] == pytest.approx(float((out.argmax(1) == y).float().mean()))
        and got['loss'] == pytest.approx(float(torch.nn.functional.cross_entropy(out, y)), rel=1e-4)
    )
    assert set(found.metrics) == {'supernet', 'extracted', 'retrained'}
    steps = EPOCHS * (len(pair()[0]) // 2 // 16)
    assert [r['step'] for r in found.history] == list(range(steps)) and json.loads((run / 'search.json').read_text())[
        'steps'
    ] == steps
    config = json.loads((run / 'config.json').read_text())
    assert (
        config['budget'] == dict(macs=budget)
        and config['seed'] == 3
        and config['strategy']['epochs'] == EPOCHS
        and config['space']['widths'] == [8]
        and config['task']['train'] == config['task']['valid'] == 48
    )


def test_a_subnet_starts_afresh_and_the_space_is_as_it_was_trained(found):
    kept = load_checkpoint(found.run_dir / 'search.pt')['space']
    assert all(torch.equal(v, kept[k]) for k, v in found.space.state_dict().items())
    start = load_checkpoint(found.run_dir / 'start.pt')['space']
    assert all(torch.equal(v, start[k]) for k, v in mobile().state_dict().items()) and any(
        not torch.equal(v, kept[k]) for k, v in start.items()
    )


def test_the_files_need_no_package(found, tmp_path):
    x = pair()[1].tensors[0]
    torch.save((x, found.model(x).detach()), tmp_path / 'want.pt')
    code = '''
import sys; sys.modules['nas_suite'] = sys.modules['data_recipes'] = None
import onnxruntime, torch
from safetensors.torch import load_file
run, want = sys.argv[1:]
x, y = torch.load(want, weights_only=True)
net = torch.export.load(f'{run}/model.pt2').module()
session = onnxruntime.InferenceSession(f'{run}/model.onnx', providers=['CPUExecutionProvider'])
name = session.get_inputs()[0].name
for n in (1, 2, 5, len(x)):
    with torch.no_grad(): mine = net(x[:n])
    other = torch.from_numpy(session.run(None, {name: x[:n].numpy()})[0])
    torch.testing.assert_close(mine, y[:n], rtol=1e-4, atol=1e-5); torch.testing.assert_close(other, y[:n], rtol=1e-4, atol=1e-4)
weights = load_file(f'{run}/model.safetensors')
assert all(torch.equal(v, weights[k]) for k,v in net.state_dict().items()) and len(weights) == len(net.state_dict())
assert not any(k.startswith(('nas_suite.', 'data_recipes.')) for k in sys.modules)'''
    done = subprocess.run(
        [sys.executable, '-I', '-c', code, found.run_dir, tmp_path / 'want.pt'], cwd='/', capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]


def test_the_report_is_one_page_that_loads_nothing(found):
    text = (found.run_dir / 'report.html').read_text()
    links = re.findall(r'\s(?:src|srcset|href|xlink:href|data|action)\s*=\s*["\']?([^"\'\s>]*)', text)
    assert all(v.startswith('#') for v in links) and not re.search(r'@import|url\((?!#)|<script|<link|<iframe', text)
    assert (
        text.count('<svg') >= 3
        and f"{100 * found.metrics['retrained']['accuracy']:.1f} %" in text
        and all(o in text for o in set(found.arch.values()))
    )


def test_a_run_that_was_loaded_is_the_run_that_was_found(found):
    again = search.load(found.run_dir)
    x = images(7, 5).tensors[0]
    assert (again.arch, again.costs, again.metrics, again.run_dir, again.space, again.task) == (
        found.arch,
        found.costs,
        found.metrics,
        found.run_dir,
        None,
        None,
    )
    assert again.history == found.history and torch.equal(again.model(x), found.model(x)) and 'accuracy' in repr(again)
    assert search.load(str(found.run_dir)).arch == found.arch


def test_save_copies_and_never_overwrites(found, tmp_path):
    target = tmp_path / 'saved'
    target.mkdir()  # an empty folder will do
    assert found.save(target) == target and {n: b for n, (_, b) in state(target).items()} == {
        n: b for n, (_, b) in state(found.run_dir).items()
    }
    assert search.load(target).arch == found.arch and [p.name for p in tmp_path.iterdir()] == ['saved']
    before = state(target)
    (tmp_path / 'file').write_text('mine')
    for taken in (target, tmp_path / 'file', str(target)):
        with pytest.raises(ValueError, match='exists already: choose another folder'):
            found.save(taken)
    assert state(target) == before and (tmp_path / 'file').read_text() == 'mine' and len(list(tmp_path.iterdir())) == 2


# ---------------------------------------------------------------- the same again


def test_a_finished_run_is_returned_at_once(found, monkeypatch):
    before = state(found.run_dir)

    def never(*a, **k):
        raise AssertionError('computed again')

    for name in ('fit', 'calibrated', 'settle', 'export', 'named', 'report'):
        monkeypatch.setattr(steps, name, never)
    monkeypatch.setattr(Gated, 'search', never)
    again = go(found.run_dir)
    assert (again.arch, again.costs, again.metrics) == (found.arch, found.costs, found.metrics) and state(
        found.run_dir
    ) == before


def test_a_report_that_was_not_written_any_more_is_written(copy):
    folder = copy('report.html')  # killed after the result, before the report
    go(folder)
    assert (folder / 'report.html').exists()


def test_the_same_seed_gives_the_same_run(found, tmp_path):
    torch.manual_seed(99)  # whatever the state of the global generators is
    random.seed(99)
    again = go(tmp_path / 'run')
    same_run(found.run_dir, again.run_dir)
    history = lambda seed: (
        Gated(epochs=1, batch_size=16)
        .search(
            mobile(), classification(pair(), shift=1), [(macs(mobile(), shape), budget)], Loop(seed, progress=False)
        )
        .history
    )
    assert history(3) == history(3) != history(4)


@pytest.mark.parametrize(
    'more, said',
    [
        (dict(seed=4), 'seed: 3 there, 4 here'),
        (dict(budget=dict(macs='13k')), r'budget.macs: 14000.0 there, 13000.0 here'),
        (dict(budget=dict(params=800)), 'budget'),
        (dict(retrain_epochs=9), 'retrain_epochs: 8 there, 9 here'),
        (dict(strategy=Gated(epochs=5, batch_size=16)), 'strategy.epochs: 4 there, 5 here'),
        (dict(strategy='gated'), 'strategy.epochs: '),
        (dict(fixed={'blocks.0*': 'mb1_k3'}), r'space.networks_digest: .*fixed.blocks.0\*: None there, .mb1_k3. here'),
        (dict(space=mobile(kernels=(5,))), r'space\..*kernels.0: 3 there, 5 here'),
        (dict(task=classification((images(90, 0), images(48, 1)))), 'task.*train: 48 there, 45 here'),
        (dict(seed=4, retrain_epochs=9), 'seed: .*, retrain_epochs: '),
    ],
)
def test_a_folder_of_another_run_is_refused(found, more, said):
    before = state(found.run_dir)
    with pytest.raises(ValueError, match=f'{found.run_dir} holds another run; it differs in {said}'):
        go(found.run_dir, **more)
    assert state(found.run_dir) == before


def test_what_is_no_run_is_left_alone(tmp_path):
    (tmp_path / 'mine').mkdir()
    (tmp_path / 'mine' / 'thesis.txt').write_text('x')
    (tmp_path / 'file').write_text('x')
    with pytest.raises(ValueError, match='mine is not empty and holds no run: choose another folder'):
        go(tmp_path / 'mine')
    with pytest.raises(ValueError, match='file is a file; a run needs a folder'):
        go(tmp_path / 'file')
    for folder in (tmp_path / 'mine', tmp_path / 'nowhere'):
        with pytest.raises(ValueError, match='holds no finished run; repeat the command'):
            search.load(folder)
    assert sorted(str(p.relative_to(tmp_path)) for p in tmp_path.rglob('*')) == ['file', 'mine', 'mine/thesis.txt']


@pytest.mark.parametrize(
    'name', ['config.json', 'history.json', 'settled.json', 'search.pt', 'start.pt', 'retrain.pt', 'metrics.json']
)
def test_a_damaged_file_is_named(copy, name):
    folder = copy('result.json', 'report.html')
    whole = (folder / name).read_bytes()
    (folder / name).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=f'{name}.* is (not a checkpoint, or is )?damaged .*: move it away'):
        go(folder)


def test_deleting_what_came_last_computes_it_again(found, copy):
    folder = copy(
        'result.json',
        'metrics.json',
        'model.onnx',
        'model.pt2',
        'model.safetensors',
        'report.html',
        'arch.json',
        'search.json',
    )
    over = subprocess.Popen([sys.executable, '-c', ''])
    over.wait()
    draft = folder / f'.draft-{files._mine}-{over.pid}-00000000-config.json'  # of a process that was killed
    draft.write_text('{"half')
    again = go(folder)
    assert not draft.exists()
    same_run(found.run_dir, folder)
    assert not [p for p in again.save(folder.parent / 'saved').iterdir() if p.name[0] == '.']  # drafts are not copied


# ---------------------------------------------------------------- killed


@pytest.fixture(scope='module')
def processes(tmp_path_factory):
    p = subprocess.Popen(
        [sys.executable, __file__],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=open(log := tmp_path_factory.mktemp('log') / 'stderr', 'w'),
        text=True,
        bufsize=1,
        env=os.environ
        | dict(
            OMP_NUM_THREADS='1',
            MKL_NUM_THREADS='1',
            PYTHONPATH=os.pathsep.join([str(Path(search.__file__).parents[1]), os.environ.get('PYTHONPATH', '')]),
        ),
    )
    yield p
    p.stdin.close()
    assert p.wait() == 0 and 'nas_suite' not in (said := log.read_text()), said  # not a warning


def attempt(processes, folder, name=None, later=-1):
    "The search in a folder, in a process that is killed `later` events after file `name` is there: how it ended."
    processes.stdin.write(json.dumps([str(folder), name, later]) + '\n')
    return int(processes.stdout.readline())


MOMENTS = 'config.json', 'search.pt', 'search.pt', 'history.json', 'retrain.pt', 'retrain.pt', 'model.pt2'


def test_killed_at_many_moments(found, processes, tmp_path):
    "Each time the process dies as soon as a file is written, or some events later; the last one ends as if nothing had been."
    r, folder, during = random.Random(0), tmp_path / 'run', []
    for name in MOMENTS:
        assert (
            attempt(processes, folder, name, r.randint(0, 3)) == signal.SIGKILL
            and (folder / name).exists()
            and not (folder / 'result.json').exists()
        )
        if name.endswith('.pt'):
            during.append(load_checkpoint(folder / name)['step'])
        for p in folder.iterdir():  # what is there is whole
            if p.suffix == '.json':
                json.loads(p.read_text())
            if p.suffix == '.pt':
                load_checkpoint(p)
    steps, retrain = EPOCHS * 3, RETRAIN
    assert 0 < during[0] < during[1] and 0 < during[2] < during[3] <= retrain
    assert attempt(processes, folder) == 0
    same_run(found.run_dir, folder)
    taken = len((tmp_path / 'run.steps').read_text())
    assert steps + retrain <= taken <= steps + retrain + len(MOMENTS), "it began again instead of going on"


def test_killed_at_any_time(found, processes, tmp_path):
    "Longer and longer lives, in events, until one suffices."
    r, folder, killed, life = random.Random(1), tmp_path / 'run', 0, 3
    while (status := attempt(processes, folder, later=round(life * r.uniform(0.5, 1.5)))) != 0:
        assert status == signal.SIGKILL
        killed, life = killed + 1, 1.8 * life
    assert killed >= 2
    same_run(found.run_dir, folder)


# ---------------------------------------------------------------- budgets


def test_both_budgets_fixed_choices_and_a_folder_of_images(tmp_path, unwritten):
    from PIL import Image

    g = torch.Generator().manual_seed(0)
    for c, colour in enumerate(((255, 0, 0), (0, 255, 0), (0, 0, 255))):
        (tmp_path / 'photos' / f'class{c}').mkdir(parents=True)
        for i in range(10):
            Image.new(
                'RGB', (70 + i, 80), tuple(int(v * (0.5 + 0.5 * float(torch.rand((), generator=g)))) for v in colour)
            ).save(tmp_path / 'photos' / f'class{c}' / f'{i}.png')
    space = mobile(in_channels=3, image_size=64, stem=4, widths=(8,), depths=(3,), stem_stride=4)
    m, p = macs(space, space.input_shape), params(space, space.input_shape)
    fixed = {'blocks.0*': 'mb2_k3', 'blocks.2.mix.choice': 'zero'}
    view = restrict(space, fixed)
    low = cheapest(macs(view, space.input_shape))[1]
    found = search.classification(
        str(tmp_path / 'photos'),
        macs=m(low) * 1.05,
        params=f'{p(low) * 1.05 / 1000}k',
        space=space,
        strategy=Gated(epochs=2, batch_size=8),
        retrain_epochs=3,
        fixed=fixed,
        seed=1,
        device='cpu',
        run_dir=tmp_path / 'run',
        progress=False,
    )
    assert (
        found.arch == low
        and found.arch['blocks.0.mix.choice'] == 'mb2_k3'
        and found.arch['blocks.2.mix.choice'] == 'zero'
    )  # nothing else fits both
    assert found.costs['macs'] <= m(low) * 1.05 and found.costs['params'] <= p(low) * 1.05
    assert all(r['probs']['blocks.2.mix.choice'] == [1, 0, 0] for r in found.history) and set(
        found.history[0]['cost']
    ) == {'macs', 'params'}
    assert count(space) == 2 * 3 * 3 and all(
        len(c.survivors) == len(c) for c in choices(space).values()
    )  # the space that was given is not restricted
    assert (
        found.task.name == 'photos'
        and found.metrics['retrained']['n'] == 6
        and found.model(torch.zeros(2, 3, 64, 64)).shape == (2, 3)
    )
    assert json.loads((tmp_path / 'run' / 'config.json').read_text())['fixed'] == fixed


def test_a_budget_of_parameters(tmp_path, unwritten):
    cost = params(mobile(), shape)
    low, high = cheapest(cost)[0], cost(largest(mobile()))
    found = search.classification(
        pair(),
        params=(low + high) / 2,
        space=mobile(),
        epochs=1,
        retrain_epochs=1,
        seed=2,
        device='cpu',
        run_dir=tmp_path / 'run',
        progress=False,
    )
    assert (
        low <= found.costs['params'] <= (low + high) / 2
        and found.costs['params'] == count_params(extract(mobile(), found.arch))
        and set(found.history[0]['cost']) == {'params'}
    )


def believing(space, seed):
    "With random architecture parameters."
    with torch.no_grad():
        for n, c in choices(space).items():
            c.alpha.copy_(torch.randn(len(c), generator=seeded(seed, n)))
    return space


def settled(space, strategy, limits):
    return settle(space, lambda limits: strategy.derive(space, limits), [Limit(*limit) for limit in limits])


def score(space, rows):
    return sum(
        on * c.probs.detach().log()[i] for c, i, on in zip(choices(space).values(), rows.T, active(space, rows).T)
    )


@pytest.mark.parametrize('share', [0, 0.3, 1])
@pytest.mark.parametrize('kinds', ['macs', 'params', 'macs params'])
def test_every_budget_is_met_whatever_was_learned(kinds, share):
    "For random beliefs: no other option of one choice would fit, cost as much and be more probable."
    space = mobile(expands=(1, 2, 3), kernels=(3, 5), depths=(3,))
    rows = sample(space, 5000, torch.Generator().manual_seed(0)).unique(dim=0)
    every = decode(space, rows)
    assert len(every) == count(space)
    models = [dict(macs=macs, params=params)[k](space, shape) for k in kinds.split()]
    low = cheapest(models[0])[1]
    limits = [(m, m(low) + share * (m(largest(space)) - m(low))) for m in models]
    for seed in range(3):
        arch = Gated().derive(believing(space, seed), limits)
        i = every.index(arch)
        p, costs = score(space, rows), torch.stack([m.batch(rows) for m in models])
        fits = (costs <= torch.tensor([b for _, b in limits])[:, None]).all(0)
        assert fits[i]
        better = fits & ((rows != rows[i]).sum(1) == 1) & (p > p[i] + 1e-6) & (costs >= costs[:, i : i + 1]).all(0)
        assert not better.any(), (arch, decode(space, rows[better]))


REFUSED = {
    'no budget': (dict(budget={}), 'a search needs a budget: one or more of latency_ms, macs, params'),
    'None': (dict(budget=dict(macs=None)), 'a search needs a budget'),
    'unknown budget': (
        dict(budget=dict(flops=1e6)),
        "there is no budget 'flops'; budgets are latency_ms, macs, params",
    ),
    'no number': (dict(budget=dict(macs='many')), "the budget of macs is a number, or a string such as '50M'; found 'many'"),
    'negative': (dict(budget=dict(macs=-1)), 'the budget of macs is out of range: -1'),
    'macs': (
        dict(budget=dict(macs=1000)),
        'no architecture of this space has macs of 1,000 or less; the smallest reaches LOW_MACS',
    ),
    'params': (
        dict(budget=dict(params=10)),
        'no architecture of this space has params of 10 or less; the smallest reaches LOW_PARAMS',
    ),
    'one of two': (dict(budget=dict(macs='1M', params=10)), 'params of 10 or less'),
    'fixed too large': (
        dict(budget=dict(macs='LOW_MACS'), fixed={'*': 'mb2_k3'}),
        'no architecture of this space has macs',
    ),
    'device': (dict(device='cuda:99'), 'there is no device cuda:99 here'),
    'precision': (dict(precision='half'), "there is no precision 'half'; the precisions are 32-true"),
    'task': (dict(task='digits'), 'a task is a subclass of nas_suite.tasks.base.Task with train, valid, test'),
    'no strategy': (dict(strategy=3), 'a strategy is a subclass of nas_suite.strategies.base.Strategy'),
    'two of one name': (dict(budget={'macs': 1e5, macs: 1e5}), "two costs of a budget have the name 'macs'"),
    'no cost': (dict(budget={3: 1e5}), 'the key of a budget is a name, a cost, or a function that makes one'),
    'strategy': (
        dict(strategy='magic'),
        "there is no strategy 'magic'; the strategies are bayesian, coordinatedescent, evolution",
    ),
    'retraining': (dict(retrain_epochs=-1), 'retrain_epochs is out of range: -1'),
    'no number of epochs': (dict(retrain_epochs=float('nan')), 'retrain_epochs is out of range: nan'),
    'half an epoch': (dict(retrain_epochs=0.5), 'retrain_epochs is out of range: 0.5; it is a whole number, at least 0'),
    'threads': (dict(threads=0), 'threads is out of range: 0'),
    'no space': (dict(space=[]), 'a space is an nn.Module with choices in it; found list'),
    'no choice': (dict(space=torch.nn.Linear(3, 2)), 'there is no choice in this Linear'),
    'seed': (dict(seed='a'), "seed is a whole number, at least 0; found 'a'"),
    'negative seed': (dict(seed=-1), 'seed is out of range: -1'),
    'NaN': (dict(budget=dict(macs=float('nan'))), 'the budget of macs is out of range: nan'),
    'infinite': (dict(budget=dict(latency_ms='1e999')), 'the budget of latency_ms is out of range: inf'),
    'zero': (dict(budget=dict(latency_ms=0)), 'the budget of latency_ms is out of range: 0'),
    'true': (dict(budget=dict(macs=True)), 'the budget of macs is a number'),
    'back end': (dict(backend='abacus'), "there is no back end 'abacus'; the back ends are eager"),
    'loggers': (dict(loggers=print), 'loggers is a list of functions'),
    'logger': (dict(loggers=[3]), r'a logger is a function\(dict, step\), or an object with log_metrics.*; found 3'),
    'fixed': (dict(fixed='kernel=3'), "fixed is a dict of choices and their options; found 'kernel=3'"),
    'table': (dict(table=3), 'a table is a latency table, its file, or a predictor; found 3'),
    'a device without memory': (dict(device='meta'), 'there is no device meta here'),
    'supernet': (dict(supernet='nowhere'), 'there is no trained supernet in nowhere'),
    'batch': (dict(batch=0), 'batch is out of range: 0'),
    'no such device': (dict(device='mps'), r'there is no device mps here \([^\n]{,120}\)$'),
    'choice': (dict(fixed={'nothing': 1}), "this space has no choice 'nothing'; its choices are blocks.0.mix.choice"),
    'option': (
        dict(fixed={'blocks.0.mix.choice': 'mb9_k9'}),
        "blocks.0.mix.choice has no option 'mb9_k9'; its options are 'mb1_k3', 'mb2_k3'",
    ),
    'input': (
        dict(task=classification((images(96, 0), images(48, 1))), space=mobile(in_channels=3)),
        r'an input of shape \(1, 8, 8\) does not run through this space',
    ),
}


@pytest.mark.parametrize('what', REFUSED)
def test_what_cannot_be_is_refused_before_anything_is_written(what, tmp_path):
    more, said = REFUSED[what]
    lows = dict(LOW_MACS=cheapest(macs(mobile(), shape))[0], LOW_PARAMS=cheapest(params(mobile(), shape))[0])
    for k, v in lows.items():
        said = said.replace(k, f'{v:,.6g}')
    if more.get('budget') == dict(macs='LOW_MACS'):
        more = more | dict(budget=dict(macs=lows['LOW_MACS']))
    with pytest.raises(ValueError, match=said):
        go(tmp_path / 'a' / 'run', **more)
    assert not list(tmp_path.iterdir())


def test_numbers_of_other_libraries_are_numbers():
    from nas_suite.front.search import Search

    for macs_most in (np.int64(14000), np.float32(14000), torch.tensor(14000), np.array(14000.0), '14k'):
        asked = Search(mobile(), classification(pair()), Gated(epochs=np.int64(2), lr=torch.tensor(0.5)),
                       dict(macs=macs_most), seed=np.int32(3), retrain_epochs=torch.tensor(1), device='cpu')
        assert asked.config['budget'] == dict(macs=14000) and asked.config['strategy']['epochs'] == 2
        assert (asked.seed, asked.retrain_epochs, asked.config['strategy']['lr']) == (3, 1, 0.5)


def test_the_doors_look_before_they_read_data(tmp_path):
    for door in (search.classification, search.segmentation, search.speaker):
        for more, said in (
            (dict(epochs=float('nan')), 'epochs is out of range: nan'),
            (dict(epochs='many'), "epochs is a number, above 0; found 'many'"),
            (dict(seed=-1), 'seed is out of range'),
            (dict(strategy=Gated(epochs=2), epochs=3), 'epochs given twice'),
            (dict(strategy='magic'), "there is no strategy 'magic'"),
            (dict(macs=float('inf')), 'the budget of macs is out of range: inf'),
            (dict(macs=None, budget=3), 'a budget is a dict of costs'),
        ):
            with pytest.raises(ValueError, match=said):
                door(tmp_path / 'no data', **(dict(macs='1M', device='cpu') | more))


@pytest.mark.parametrize('there', [False, True])
def test_a_refusal_in_the_first_step_leaves_no_folder(tmp_path, there):
    def refuse(output, target):
        raise ValueError('a label is 300')

    task = classification(pair(), shift=1)
    task.loss = refuse
    if there:
        (tmp_path / 'a' / 'run').mkdir(parents=True)
    with pytest.raises(ValueError, match='a label is 300'):
        go(tmp_path / 'a' / 'run', task)
    assert (tmp_path / 'a' / 'run').exists() == there == (tmp_path / 'a').exists()


def test_the_smallest_network_can_be_asked_for():
    low, arch = cheapest(macs(mobile(), shape))
    assert Gated().derive(mobile(), [(macs(mobile(), shape), feasible(macs(mobile(), shape), low))]) == arch


# ---------------------------------------------------------------- latency: met is what is measured, not what the table says


class Clock(LatencyTable):
    "A table by MACs; whole networks take `factor(arch, times measured)` of what it says, give or take 2 %."

    def here(self):
        return True

    def measure_pairs(self, pairs, **more):
        archs = [arch for _, arch in pairs]
        self.seen += archs
        ms = [self(a) * self.factor(a, len(self.seen)) for a in archs]
        return [dict(latency_ms=v, latency_interval=[0.98 * v, 1.02 * v], raw_ms=v, warnings=[]) for v in ms]


def clock(space, factor):
    m = macs(space, shape)
    c = Clock(m.structure, m.column, m.terms, 'latency_ms', 0.0, 1e-4)
    c.seen, c.factor = [], factor
    return c


@pytest.mark.parametrize('factor', [1.0, 0.8, 1.3, 1.7], ids=str)
def test_a_latency_budget_is_met_as_measured(factor):
    space = believing(mobile(expands=(1, 2, 3), kernels=(3, 5), depths=(3,)), 0)
    c = clock(space, lambda a, n: factor)
    low, high = cheapest(c)[0], c(largest(space))
    b = factor * (low + 0.5 * (high - low)) if factor > 1 else low + 0.5 * (high - low)
    got = settled(space, Gated(), [(c, b), (params(space, shape), 10**9)])
    found = got.readings['latency_ms']
    assert found.high <= b and found.value == c(got.arch) * factor and got.arch in [t['arch'] for t in got.tried]
    less = Gated().derive(space, [(c, 0.9 * b / factor / 1.02)])  # and used: nine tenths of it would not do as well
    assert score(space, encode(space, got.arch)) >= score(space, encode(space, less)) and len(c.seen) < 30


def test_no_network_is_returned_that_was_measured_above_the_budget():
    space = mobile()
    c = clock(space, lambda a, n: 50.0)
    with pytest.raises(ValueError, match=r'no network was measured within 1 ms; the closest of \d+ took \d+'):
        settled(space, Gated(), [(c, 1.0)])
    got = settled(
        space, Gated(), [(count := macs(space, shape), budget)]
    )  # where nothing is uncertain nothing is tried twice
    assert len(got.tried) == 1 and got.readings == dict(macs=Reading(count(got.arch))) and count(got.arch) <= budget


# ---------------------------------------------------------------- latency of a device that is not here: predicted, and met with the upper end of the interval


def phone(space, error, n=8):
    "A table by MACs of a made-up phone, known to about `error`."
    m = macs(space, shape)
    c = LatencyTable(m.structure, m.column, m.terms, 'latency_ms', 0.0, 1e-4)
    c.environment = dict(device='a made-up phone')
    c.calibration = (
        dict(measured=[1.0] * n, loo_ms=[1 + error * (-1) ** i for i in range(n)]) if error is not None else {}
    )
    return c


@pytest.mark.parametrize('error', [0.01, 0.05, 0.2])
def test_a_predicted_latency_is_within_the_budget_with_its_interval(error):
    space = believing(mobile(expands=(1, 2, 3), kernels=(3, 5), depths=(3,)), 0)
    c = phone(space, error)
    b = c(largest(space))
    got = settled(space, Gated(), [(c, b)])
    found = got.readings['latency_ms']
    assert (
        found.low < found.value == c(got.arch) < found.high <= b
        and found.measured is False
        and (found.low, found.high) == c.interval(got.arch)
    )
    assert found.high > 0.5 * b and got.arch == got.tried[-1]['arch'] and len(got.tried) <= 4  # and used, in few steps
    assert (
        c.interval(got.arch, 0.5)[1] < found.high < phone(space, error, 4).interval(got.arch)[1]
    )  # fewer networks, wider


def test_a_device_given_in_each_form_is_one(tmp_path, unwritten):
    space, quick = mobile(), dict(strategy=Gated(epochs=1, batch_size=16), retrain_epochs=0)
    c = phone(space, 0.05)
    b = 0.9 * c(largest(space))

    class Predictor:
        def cost_model(self, space):
            return phone(space, 0.05).calibrated(1.0, 0.0)

        def predict(self, archs):
            return [c(a) for a in archs], [0.05 * c(a) for a in archs]

    by_table = go(tmp_path / 'a', **quick, budget=dict(latency_ms=b), device=c)
    by_predictor = go(tmp_path / 'b', **quick, budget=dict(latency_ms=b), device=Predictor())
    for f in (by_table, by_predictor):
        assert (
            f.costs['latency_interval'][1] <= b
            and f.costs['latency_measured'] is False
            and f.costs['latency_predicted'] == f.costs['latency_interval']
        )
    assert (tmp_path / 'a' / 'latency.json').exists() and not (tmp_path / 'b' / 'latency.json').exists()
    page = (tmp_path / 'a' / 'report.html').read_text()
    assert 'predicted for a made-up phone' in page and 'latency predicted by the table' in page
    again = go(tmp_path / 'a', **quick, budget=dict(latency_ms=b), device=c)
    assert again.arch == by_table.arch
    other = phone(space, 0.05)
    other.environment = dict(device='another phone')
    with pytest.raises(ValueError, match='holds another run; it differs in latency'):
        go(tmp_path / 'a', **quick, budget=dict(latency_ms=b), device=other)
    for device, said in (
        (phone(space, 0.5), 'no architecture of this space is within'),
        (tmp_path / 'nowhere.json', 'there is no latency table'),
        ('nowhere', 'there is no latency table'),
        (3, 'a device is a name'),
    ):
        with pytest.raises(ValueError, match=said):
            go(tmp_path / 'c', budget=dict(latency_ms=1.05 * cheapest(c)[0]), device=device)
    from nas_suite.latency import FewShotPredictor  # the real one, from twenty measurements, and from its file

    few = FewShotPredictor(mobile()).fit(sample(mobile(), 200, torch.Generator().manual_seed(0)))
    few.update(
        [
            (i, float(c.batch(few_rows[i : i + 1])[0]))
            for few_rows in [sample(mobile(), 200, torch.Generator().manual_seed(0))]
            for i in few.suggest(12)
        ]
    )
    by_few = go(tmp_path / 'd', **quick, budget=dict(latency_ms=b), device=few)
    assert (
        by_few.costs['latency_interval'][1] <= b
        and abs(by_few.costs['latency_ms'] / c(by_few.arch) - 1) < 0.2
        and (tmp_path / 'd' / 'predictor.npz').exists()
    )
    again = go(tmp_path / 'e', **quick, budget=dict(latency_ms=b), device=str(tmp_path / 'd' / 'predictor.npz'))
    assert again.arch == by_few.arch and again.costs['latency_interval'] == pytest.approx(
        by_few.costs['latency_interval']
    )
    with pytest.raises(ValueError, match='given twice'):
        go(tmp_path / 'c', budget=dict(latency_ms=b), device=c, table=c)
    assert not (tmp_path / 'c').exists()


def test_a_table_whose_error_nobody_knows_says_so():
    space = mobile()
    c = phone(space, None)
    got = settled(space, Gated(), [(c, c(largest(space)))])
    assert (
        c.interval(got.arch) is None
        and got.described(dict(latency_ms=c))['latency_interval'] is None
        and 'is not known' in got.readings['latency_ms'].warnings[0]
    )


# ---------------------------------------------------------------- what the search is made of


@pytest.mark.parametrize('c, size, classes', [(1, 8, 10), (3, 33, 2)])
def test_the_default_space_suits_the_images(c, size, classes):
    data = TensorDataset(torch.zeros(4 * classes, c, size, size), torch.arange(4 * classes) % classes)
    task, state = classification((data, data)), torch.get_rng_state()
    space, again, other = search.default_space(task), search.default_space(task), search.default_space(task, 1)
    assert torch.equal(torch.get_rng_state(), state) and count(space) > 10**6
    assert all(torch.equal(v, again.state_dict()[k]) for k, v in space.state_dict().items()) and any(
        not torch.equal(v, other.state_dict()[k]) for k, v in space.state_dict().items()
    )
    with torch.no_grad():
        assert space.eval()(torch.zeros(2, c, size, size), smallest(space)).shape == (2, classes)


# ---------------------------------------------------------------- whatever task, cost and outputs


def dear_layers(space, input_shape):
    "A cost of one's own: three for each MAC."
    count = macs(space, input_shape)
    return CostModel(
        count.structure, count.column, count.terms, 'energy_mj', 3 * count.offset, 3 * count.scale, unit='mJ'
    )


def test_costs_of_ones_own_are_budgets(tmp_path, unwritten):
    quick, count = dict(strategy=Gated(epochs=1, batch_size=16), retrain_epochs=0), macs(mobile(), shape)
    found = go(tmp_path / 'run', **quick, budget={dear_layers: 3 * budget, 'params': '100k'})
    assert found.costs['energy_mj'] == 3 * count(found.arch) <= 3 * budget and set(found.costs) == {
        'macs',
        'params',
        'energy_mj',
    }
    result, config = (json.loads((tmp_path / 'run' / f'{n}.json').read_text()) for n in ('result', 'config'))
    assert (
        config['budget'] == dict(energy_mj=3 * budget, params=1e5)
        and result['units']['energy_mj'] == 'mJ'
        and sum(result['parts']['energy_mj'].values()) == found.costs['energy_mj']
    )
    assert set(found.history[0]['cost']) == {'energy_mj', 'params'}
    same = go(
        tmp_path / 'run', **quick, budget={dear_layers(mobile(), shape): 3 * budget, 'params': '100k'}
    )  # as an object it is the same budget
    assert same.arch == found.arch
    with pytest.raises(ValueError, match='no architecture of this space has energy_mj of 10 or less'):
        go(tmp_path / 'none', **quick, budget={dear_layers: 10})
    assert not (tmp_path / 'none').exists()


class Rows(Task):
    "Which row is bright, as a number from 0 to 2: no classes, an error in pixels, two outputs."

    name, input_shape, metric, batch_size = 'rows', shape, Metric('error', False, 'px'), 16

    def __init__(self):
        self.train, self.valid, self.test = (images(48, seed) for seed in range(3))

    def loss(self, output, target):
        return ((output['row'][:, 0] - target) ** 2).mean() + output['parts'][1].pow(2).mean() * 0

    def meter(self):
        return RowError()


class RowError(MeanMetric):
    def update(self, output, target):
        super().update((output['row'][:, 0] - target).abs())


class TwoAnswers(Space):
    "A dict with a tensor and a list in it."

    input_shape = shape

    def __init__(self):
        super().__init__()
        self.body, self.head = mobile(dropout=0.0), torch.nn.Linear(3, 1)

    def forward(self, x):
        y = self.body(x)
        return dict(row=self.head(y), parts=[y, y * 2])


def test_several_outputs_a_metric_in_pixels_and_no_classes(tmp_path):
    torch.manual_seed(0)
    space, task = TwoAnswers(), Rows()
    cost = macs(space, shape)
    found = go(
        tmp_path / 'run',
        task=task,
        space=space,
        strategy=Gated(epochs=2, batch_size=16),
        retrain_epochs=4,
        budget=dict(macs=cost(largest(space)) * 0.8),
    )
    assert 0 < found.metrics['retrained']['error'] and set(found.model(torch.zeros(2, *shape))) == {'row', 'parts'}
    outputs = [o.name for o in __import__('onnx').load(tmp_path / 'run' / 'model.onnx').graph.output]
    assert sorted(outputs) == ['parts.0', 'parts.1', 'row']
    again, x = search.load(tmp_path / 'run').model, images(5, 3).tensors[0]  # a space that nobody can make again
    assert torch.equal(again(x)['parts'][1], found.model(x)['parts'][1])
    x = images(2, 9).tensors[0]
    assert torch.equal(found.predict(x[0])['output']['row'], found.model(x[:1])['row'][0])
    with pytest.raises(ValueError, match=r"the run's space is one of your own \(TwoAnswers\)"):
        search.space_of(dict(name='TwoAnswers'))
    with pytest.raises(ValueError, match='Rows cannot be made again from a folder: give the task'):
        search.task_of(dict(task=task.facts()))


def test_a_network_is_compared_with_the_space_once(tmp_path, monkeypatch, unwritten):
    "Of one architecture and weights: what a search decided on is compared as it ends, and not when it is read back."
    seen, plain = [], extraction._compared

    def noted(space, net):
        seen.append(tuple(p.double().sum().item() for p in net.parameters()))
        return plain(space, net)

    monkeypatch.setattr(extraction, '_compared', noted)
    found = go(tmp_path / 'run', strategy=Gated(epochs=1, batch_size=16), retrain_epochs=0, finalists=0)
    own = tuple(p.double().sum().item() for p in extract(found.space, found.arch).parameters())
    # in the search, and here
    assert seen.count(own) == 2 and set(found.metrics) == {'supernet', 'extracted'}


def test_the_network_is_an_ordinary_one_and_nothing_of_a_pt2_is_read(found, monkeypatch):
    def never(*a, **k):
        raise AssertionError('a .pt2 file was read')

    monkeypatch.setattr(torch.export, 'load', never)
    x = images(7, 5).tensors[0]
    for net in (found.model, search.load(found.run_dir).model):
        assert any(isinstance(m, torch.nn.Dropout) for m in net.modules())
        net.train()
        assert net.training and not torch.equal(net(x), net(x))  # dropout is alive
        net(x).sum().backward()
        assert any(p.grad is not None for p in net.parameters())
        net.eval()
        assert torch.equal(deepcopy(net)(x), net(x))
    root = Path(search.__file__).parent
    calls = {
        ast.unparse(n.func)
        for p in root.rglob('*.py')
        for n in ast.walk(ast.parse(p.read_text() if p.name != '_modidx.py' else ''))
        if isinstance(n, ast.Call) and isinstance(n.func, ast.Attribute) and n.func.attr in ('load', 'export')
    }
    assert 'torch.export.load' not in calls and 'torch.export.export' in calls
