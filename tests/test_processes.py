"Two processes by torchrun: trainings of each kind, a search, and the command line. One start serves all trainings, for to begin two processes takes as long as they do."

import json, os, socket, subprocess, sys
from pathlib import Path
import pytest, torch

sys.path.insert(0, str(Path(__file__).parent))
from nas_suite import cli, search
from nas_suite.choices import largest, smallest
from nas_suite.costs import macs
from nas_suite.strategies.gated import Gated
from test_loop import FOUR, near, trained
from test_search import go
from test_supernet import losses_with_batch_norm


def torchrun(n, *what, **more):
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
    done = subprocess.run([*start, *map(str, what)], env=env, capture_output=True, text=True, **more)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def work(folder):
    "What each of the processes does; the first writes what came of the trainings, each what it found."
    made = {name: trained(name, torch.float64) for name in FOUR}, losses_with_batch_norm()
    if os.environ['RANK'] == '0':
        torch.save(made, folder / 'made.pt')
    found = go(folder / 'run', strategy=Gated(epochs=2, batch_size=16), retrain_epochs=1)
    with torch.no_grad():
        out = found.model(torch.ones(1, 1, 8, 8)).sum().item()
    (folder / f'found{os.environ["RANK"]}').write_text(f'{found.arch} {out}')


def test_two_processes_work_as_one_does(tmp_path):
    (tmp_path / 'worker.py').write_text(
        'import sys\nfrom pathlib import Path\nsys.path.insert(0, sys.argv[1])\nfrom test_processes import work\nwork(Path(sys.argv[2]))\n'
    )
    torchrun(2, tmp_path / 'worker.py', Path(__file__).parent, tmp_path)
    made, losses = torch.load(tmp_path / 'made.pt', weights_only=True)
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
    # one search: both train, the first writes and speaks, and both give back the same network
    one, two = ((tmp_path / f'found{rank}').read_text() for rank in range(2))
    assert one == two and len(json.loads((tmp_path / 'run' / 'history.json').read_text())) == 6
    assert (tmp_path / 'run' / 'report.html').exists() and not (tmp_path / 'run' / '.lock').exists()


FEW_SAMPLES = '''
import inspect, sys
from nas_suite import cli
from nas_suite.strategies.evolution import Evolution
first = [p for p in inspect.signature(Evolution.__init__).parameters][1:]
Evolution.__init__.__defaults__ = tuple(20 if name == 'samples' else value
                                        for name, value in zip(first, Evolution.__init__.__defaults__))
cli.main(sys.argv[1:])
'''


def test_the_command_line_on_two_processes(tmp_path, unwritten):
    (tmp_path / 'worker.py').write_text(FEW_SAMPLES)
    args = ['train-supernet', 'digits', '--epochs', '.3', '--batch-size', '32', '--quiet', '--run-dir']
    out = torchrun(2, tmp_path / 'worker.py', *args, tmp_path / 'two')
    assert out.count('largest') == 1 and (tmp_path / 'two' / 'history.json').exists()  # one of them speaks and writes
    cost = macs(s := search.space_of(json.loads((tmp_path / 'two' / 'config.json').read_text())['space']), (1, 8, 8))
    budget = (cost(smallest(s)) + cost(largest(s))) / 2
    with pytest.raises(SystemExit) as e:
        cli.main(
            ['specialize', str(tmp_path / 'two'), '--macs', f'{budget:.0f}', '--out', str(tmp_path / 'nets'), '-q']
        )
    assert not e.value.code
    assert {'model.safetensors', 'arch.json'} <= {p.name for p in (tmp_path / 'nets' / 'network-1').iterdir()}
    for bad, what in (
        (['specialize', str(tmp_path / 'two')], 'one or more budgets'),
        (['specialize', str(tmp_path / 'two'), '--macs', '10'], 'the smallest reaches'),
        (['specialize', str(tmp_path), '--macs', '1M'], 'no config.json'),
        (['train-supernet', 'digits', '--schedule', 'none', '--run-dir', str(tmp_path / 'x')], 'sandwich, progressive'),
        (['train-supernet', 'nothing', '--run-dir', str(tmp_path / 'x')], 'digits'),
    ):
        with pytest.raises(SystemExit) as e:
            cli.main(bad)
        assert e.value.code == 2
    assert not (tmp_path / 'x').exists()
