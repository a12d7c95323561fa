"Two processes by torchrun: trainings of each kind, a search, and the command line. One start serves all, for to begin two processes takes as long as they do."

import inspect, json, os, socket, subprocess, sys
from pathlib import Path
import pytest, torch

sys.path.insert(0, str(Path(__file__).parent))
from data_recipes import digits
from few_digits import third
from nas_suite import cli, search
from nas_suite.choices import largest, smallest
from nas_suite.costs import macs
from nas_suite.front import export
from nas_suite.front.doors.base import space_for
from nas_suite.front.search import Search
from nas_suite.strategies.evolution import Evolution
from nas_suite.strategies.gated import Gated
from nas_suite.tasks.classification import classification
from test_loop import FOUR, near, trained
from test_search import go, pair
from test_supernet import losses_with_batch_norm


WORKER = '''
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from test_processes import work
work(Path(sys.argv[2]))
'''


def torchrun(n, *what):
    with socket.socket() as s:
        s.bind(('127.0.0.1', 0))
        port = s.getsockname()[1]
    start = [sys.executable, '-m', 'torch.distributed.run', f'--nproc_per_node={n}']
    start += ['--master_addr=127.0.0.1', f'--master_port={port}']
    env = dict(
        os.environ,
        OMP_NUM_THREADS='1',
        PYTHONPATH=os.pathsep.join([str(Path(__file__).parents[1]), os.environ.get('PYTHONPATH', '')]),
    )
    done = subprocess.run([*start, *map(str, what)], env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def of_few_samples(strategy):
    "A strategy by evolution that learns from a few samples only, by default."
    names = list(inspect.signature(strategy.__init__).parameters)[1:]
    pairs = zip(names, strategy.__init__.__defaults__)
    strategy.__init__.__defaults__ = tuple(20 if name == 'samples' else value for name, value in pairs)


def space_of_a_door(folder):
    "The space that a process takes: the first picks it; the others, which would take another, wait for its folder."
    task, budget = classification(pair()), dict(macs=3e5)
    space = space_for(task, dict(macs=3e5 if os.environ['RANK'] == '0' else 9e5), False, run_dir=folder)
    with Search(space, task, 'gated', budget, run_dir=folder, device='cpu').begun({}):
        return space


def work(folder):
    "What each of the processes does; the first writes what came of the trainings, each what it found."
    made = {name: trained(name, torch.float64) for name in FOUR}, losses_with_batch_norm()
    if os.environ['RANK'] == '0':
        torch.save(made, folder / 'made.pt')
    export._attempt = lambda *_: None  # neither .pt2 nor ONNX, which takes seconds
    found = go(folder / 'run', strategy=Gated(epochs=2, batch_size=16), retrain_epochs=1)
    (folder / f'space{os.environ["RANK"]}').write_text(json.dumps(space_of_a_door(folder / 'door').config))
    with torch.no_grad():
        out = found.model(torch.ones(1, 1, 8, 8)).sum().item()
    (folder / f'found{os.environ["RANK"]}').write_text(f'{found.arch} {out}')
    of_few_samples(Evolution)
    digits.load = third
    args = ['train-supernet', 'digits', '--epochs', '.3', '--batch-size', '32', '--quiet', '--run-dir']
    cli.main([*args, str(folder / 'two')])


@pytest.fixture(scope='module')
def worked(tmp_path_factory):
    "The folder of two processes that did all of the work, and what they said."
    folder = tmp_path_factory.mktemp('processes')
    (folder / 'worker.py').write_text(WORKER)
    return folder, torchrun(2, folder / 'worker.py', Path(__file__).parent, folder)


def test_two_processes_work_as_one_does(worked):
    folder, _ = worked
    made, losses = torch.load(folder / 'made.pt', weights_only=True)
    for name in FOUR:
        # the same losses, beliefs, prices and weights; batch norm, whose statistics are those of a part, is left out
        history, weights = trained(name, torch.float64)
        again, others = made[name]
        assert len(history) > 2 and near(history, again), name
        for key, value in weights.items():
            assert near(value, others[key]), (name, key)
    # with batch norm losses are near
    alone = losses_with_batch_norm()
    assert len(alone) == len(losses) > 2
    for a, b in zip(alone, losses):
        assert b == pytest.approx(a, rel=0.3)
    # one space, though each would have picked its own
    one, two = (json.loads((folder / f'space{rank}').read_text()) for rank in range(2))
    assert one == two and json.loads((folder / 'door' / 'space.json').read_text())['budget'] == dict(macs=3e5)
    # one search: both train, the first writes and speaks, and both give back the same network
    one, two = ((folder / f'found{rank}').read_text() for rank in range(2))
    assert one == two and len(json.loads((folder / 'run' / 'history.json').read_text())) == 6
    assert (folder / 'run' / 'report.html').exists() and not (folder / 'run' / '.lock').exists()


def test_the_command_line_on_two_processes(worked, tmp_path, unwritten, few_digits):
    folder, out = worked
    assert out.count('largest') == 1 and (folder / 'two' / 'history.json').exists()  # one of them speaks and writes
    cost = macs(s := search.space_of(json.loads((folder / 'two' / 'config.json').read_text())['space']), (1, 8, 8))
    budget = (cost(smallest(s)) + cost(largest(s))) / 2
    with pytest.raises(SystemExit) as e:
        cli.main(
            ['specialize', str(folder / 'two'), '--macs', f'{budget:.0f}', '--out', str(tmp_path / 'nets'), '-q']
        )
    assert not e.value.code
    assert {'model.safetensors', 'arch.json'} <= {p.name for p in (tmp_path / 'nets' / 'network-1').iterdir()}
    for bad, what in (
        (['specialize', str(folder / 'two')], 'one or more budgets'),
        (['specialize', str(folder / 'two'), '--macs', '10'], 'the smallest reaches'),
        (['specialize', str(tmp_path), '--macs', '1M'], 'no config.json'),
        (['train-supernet', 'digits', '--schedule', 'none', '--run-dir', str(tmp_path / 'x')], 'sandwich, progressive'),
        (['train-supernet', 'nothing', '--run-dir', str(tmp_path / 'x')], 'digits'),
    ):
        with pytest.raises(SystemExit) as e:
            cli.main(bad)
        assert e.value.code == 2
    assert not (tmp_path / 'x').exists()
