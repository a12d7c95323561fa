"""Searches killed at random moments in every phase, gone on with, and compared bit for bit with the same search
undisturbed.

Every strategy on every task, on small data, by SIGKILL, SIGTERM and SIGINT in turns; each search ends with a final. A
latency budget is among what is asked, by a clock that counts instead of a stop watch, so that measuring gives the same
twice. Goes on from its CSV. `--mishaps` tries what else befalls a run: a full disk, a folder that is removed, two
processes in it, a clock that goes back, one process of two that dies."""

import argparse, csv, errno, functools, json, os, random, resource, shutil, signal, subprocess, sys, tempfile, time
from pathlib import Path
import torch
from safetensors.torch import load_file
from torch.utils.data import TensorDataset
from machine import machine, write
from nas_suite import search
from nas_suite.front import search as steps
from nas_suite.latency import backends, measuring
from nas_suite.spaces.mobile import proxyless
from nas_suite.spaces.segmenter import ssr_segmenter
from nas_suite.spaces.tdnn import efficient_tdnn
from nas_suite.strategies.evolution import Evolution
from nas_suite.strategies.gated import Gated
from nas_suite.strategies.regularized import Regularized
from nas_suite.tasks.classification import classification
from nas_suite.tasks.segmentation import Segmentation
from nas_suite.tasks.speaker import speaker

sys.path.insert(0, str(Path(__file__).parents[1] / 'tests'))
from clock import counting, looking

# ---------------------------------------------------------------- what is searched


def pair(n, *shape):
    "Noise whose mean tells which of three classes it is, for training and for testing."
    generator, y = torch.Generator().manual_seed(0), torch.arange(2 * n) % 3
    x = torch.randn(2 * n, *shape, generator=generator) + (y - 1).view(-1, *[1] * len(shape))
    return (x[:n], y[:n]), (x[n:], y[n:])


def images():
    "Small images of three classes, and a space of mobile networks for them."
    a, b = (TensorDataset(*part) for part in pair(48, 1, 8, 8))
    sizes = dict(stem=8, first=0, widths=(8,), depths=(3,), last=16, kernels=(3,), expands=(1, 2))
    space = proxyless(classes=3, image_size=8, in_channels=1, **sizes)
    return classification((a, b), shift=1), space


def scenes():
    "Small images whose pixels are of three classes, and a space of segmenters for them."
    (x, y), (u, v) = pair(12, 3, 16, 24)
    a, b = (TensorDataset(x, y.view(-1, 1, 1).expand(-1, 16, 24).clone()) for x, y in ((x, y), (u, v)))
    sizes = dict(channels=(8, 12), depths=(1, (1, 2)), dilations=(1,), factors=(1, 2), cuts=(4, 0))
    space = ssr_segmenter(3, (16, 24), **sizes, stem=6, grids=(1, 2), branch=4, low=8, head=12)
    return Segmentation('scenes', a, b, b, ['-', '0', '+'], (3, 16, 24)), space


def voices():
    "Made-up voices, and a space of small time-delay networks for them."
    task = speaker('synthetic voices', held=0.3, embedding=8)
    sizes = dict(widths=(8, 16), last=(8, 12), kernels=(3,), depths=(1, 2), scale=4, attention=4, frames=12)
    return task, efficient_tdnn(task.input_shape[0], 8, **sizes)


tasks = dict(images=images, scenes=scenes, voices=voices)
strategies = dict(
    gated=lambda: Gated(epochs=2, batch_size=16),
    regularized=lambda: Regularized(epochs=2, batch_size=16, shrinks=2),
    evolution=lambda: Evolution(
        dict(epochs=2, batch_size=16), score='accuracy', population=6, parents=2, generations=2, finalists=2
    ),
)
share = 0.5  # of the way from the fastest to the slowest network: the budget


def seeded_pair(task: str):
    torch.manual_seed(0)
    return tasks[task]()


def count_latencies():
    "Latencies are counted from now on, and the same whenever they are measured."
    ns = [0]
    for name, back_end in list(backends.items()):
        backends[name] = counting(back_end, ns)
    measuring.measure.__defaults__ = (*measuring.measure.__defaults__[:-1], looking(ns))


def go(strategy: str, task: str, folder: Path, budget: dict):
    "One whole search, with a checkpoint after every step of training."
    torch.set_num_threads(1)
    os.environ['NAS_SUITE_CACHE'] = str(folder.with_suffix('.cache'))
    count_latencies()
    steps.Loop = functools.partial(steps.Loop, save_s=0)
    steps.fit = functools.partial(steps.fit, save_s=0)
    made, space = seeded_pair(task)
    how = dict(seed=3, retrain_epochs=2, finalists=2, progress=False)
    search.run(space, made, strategies[strategy](), budget, folder, **how)


# ---------------------------------------------------------------- processes


def child(work, *args) -> int:
    "The number of a new process that does the work; what it says goes to a file beside the run."
    if number := os.fork():
        return number
    status = 1
    try:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        with open(args[2].with_suffix('.said'), 'a') as said:
            os.dup2(said.fileno(), 1)
            os.dup2(said.fileno(), 2)
        work(*args)
        status = 0
    except (ValueError, OSError) as e:
        print(f'{type(e).__name__}: {e}', flush=True)
        status = 2
    finally:
        os._exit(status)


def ended(number: int, block=True):
    "The status of a process: 0, what it exited with, or minus the signal; None while it runs."
    there, status = os.waitpid(number, 0 if block else os.WNOHANG)
    return os.waitstatus_to_exitcode(status) if there else None


def files_of(folder: Path) -> set:
    return {p.name for p in folder.iterdir() if p.name[0] != '.'} if folder.exists() else set()


def watched(number: int, folder: Path) -> tuple:
    "The status of a process at its end, and when each file of its run came up, in seconds since the start."
    start, seen = time.perf_counter(), {}
    while (status := ended(number, block=False)) is None:
        for name in files_of(folder) - seen.keys():
            seen[name] = time.perf_counter() - start
        time.sleep(0.002)
    return status, seen | {'the end': time.perf_counter() - start}


def killed_at(number: int, folder: Path, after: str, later: float, by: int):
    "Kill a process some seconds after a file of its run is there; its status, and the phase that it died in."
    start = time.perf_counter()
    while (status := ended(number, block=False)) is None and after and after not in files_of(folder):
        time.sleep(0.001)
    if status is None:
        time.sleep(later)
        os.kill(number, by)
        status = ended(number)
    return status, time.perf_counter() - start


# ---------------------------------------------------------------- what must be the same


def facts(folder: Path) -> dict:
    "What a run found, without how long it took."
    found = {p.name: json.loads(p.read_text()) for p in folder.glob('*.json') if p.name not in ('environment.json', 'fps.json')}
    for name in ('seconds', 'cpu_seconds', 'peak_memory_mb'):
        found['result.json']['search'].pop(name), found['search.json'].pop(name)
    return found


def timeless(data):
    "Data without what is read from a clock."
    if isinstance(data, dict):
        aside = 'seconds', 'cpu_seconds', 'peak_memory_mb', 'time', 'fps', 'real_time_factor', 'environment', 'warnings'
        return {name: timeless(each) for name, each in data.items() if name not in aside}
    return [timeless(each) for each in data] if isinstance(data, list) else data


def difference(one: Path, two: Path) -> str:
    "Where two finished runs differ, in words; nothing where they do not."
    if files_of(one) != files_of(two):
        return f'files: {", ".join(sorted(files_of(one) ^ files_of(two)))}'
    a, b = (timeless(facts(folder)) for folder in (one, two))
    if bad := [name for name in a if a[name] != b[name]]:
        return f'content: {", ".join(bad)}'
    a, b = (load_file(folder / 'model.safetensors') for folder in (one, two))
    if a.keys() != b.keys() or any(not torch.equal(a[name], b[name]) for name in a):
        return 'weights'
    if left := [p.name for p in two.iterdir() if p.name.startswith('.draft')]:
        return f'drafts are left: {", ".join(left)}'
    return ''


# ---------------------------------------------------------------- trials


def budget_of(task: str) -> dict:
    "MACs and a latency that a part of the networks has."
    from nas_suite.choices import sample
    from nas_suite.costs import macs

    made, space = seeded_pair(task)
    rows = sample(space, 200, torch.Generator().manual_seed(0))
    spent = macs(space, made.input_shape).batch(rows)
    return dict(latency_ms=1e3, macs=float(spent.min() + share * (spent.max() - spent.min())))


@functools.cache
def undisturbed(strategy: str, task: str, work: Path, begin=go) -> tuple:
    "A search that nobody disturbs: its folder, and when each of its files came up."
    folder = work / f'{strategy}-{task}-{begin.__name__}'
    status, seen = watched(child(begin, strategy, task, folder, budget_of(task)), folder)
    if status:
        raise SystemExit(f'the search of {strategy} on {task} fails by itself:\n{folder.with_suffix(".said").read_text()}')
    return folder, seen


def trial(number: int, work: Path) -> dict:
    "Kill one search at a random moment of a random phase, go on with it, and compare."
    r = random.Random(number)
    strategy = list(strategies)[number % len(strategies)]
    task = list(tasks)[number // len(strategies) % len(tasks)]
    by = r.choice([signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
    whole, seen = undisturbed(strategy, task, work)
    moments = sorted([('', 0.0), *seen.items()], key=lambda pair: pair[1])
    i = r.randrange(len(moments) - 1)
    folder, budget = work / f'trial-{number}', budget_of(task)
    gap = moments[i + 1][1] - moments[i][1]
    status, at = killed_at(
        child(go, strategy, task, folder, budget), folder, moments[i][0], r.uniform(0, gap), by
    )
    there = files_of(folder)
    last = max((name for name in there if name in seen), key=seen.get, default='nothing')
    again = ended(child(go, strategy, task, folder, budget))
    found = difference(whole, folder) if again == 0 else folder.with_suffix('.said').read_text().strip().splitlines()[-1]
    for rest in work.glob(f'trial-{number}*'):
        shutil.rmtree(rest) if rest.is_dir() else rest.unlink()
    return dict(
        trial=number, strategy=strategy, task=task, signal=signal.Signals(by).name, last_file=last,
        seconds=round(at, 3), status=status, difference=found,
    )  # fmt: skip


# ---------------------------------------------------------------- what else befalls a run


def limited(strategy, task, folder, budget):
    "A search on a disk that takes no file above 20 kB."
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, resource.RLIM_INFINITY))
    go(strategy, task, folder, budget)


def without_space(strategy, task, folder, budget):
    "A search on a disk that is full from its tenth file on."
    plain, count = os.fsync, []

    def full(file):
        count.append(file)
        if len(count) >= 10:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return plain(file)

    os.fsync = full
    go(strategy, task, folder, budget)


def backwards(strategy, task, folder, budget):
    "A search whose clock goes back by a day at every look."
    plain, looks = time.time, []

    def back():
        looks.append(1)
        return plain() - 86400 * len(looks)

    time.time = back
    go(strategy, task, folder, budget)


def in_two(strategy, task, folder, budget):
    "A search by two processes that torchrun starts."
    start = [sys.executable, '-m', 'torch.distributed.run', '--standalone', '--nproc_per_node=2', __file__]
    asked = json.dumps([strategy, task, str(folder), budget])
    done = subprocess.run([*start, '--asked', asked], env=os.environ | dict(OMP_NUM_THREADS='1'))
    if done.returncode:
        raise ValueError(f'torchrun ended with {done.returncode}')


def one_of_two(asked: str):
    "The part of one of the processes, whose number is written beside the run."
    strategy, task, folder, budget = json.loads(asked)
    folder = Path(folder)
    folder.with_suffix(f'.number{os.environ["RANK"]}').write_text(str(os.getpid()))
    go(strategy, task, folder, budget)


def without_the_second(number: int, folder: Path):
    "Kill the second of two processes while they train."
    while ended(number, block=False) is None and 'search.pt' not in files_of(folder):
        time.sleep(0.001)
    os.kill(int(folder.with_suffix('.number1').read_text()), signal.SIGKILL)


def removed(number: int, folder: Path):
    while ended(number, block=False) is None and 'search.pt' not in files_of(folder):
        time.sleep(0.001)
    shutil.rmtree(folder, ignore_errors=True)


def second(number: int, folder: Path):
    "A second process with the same search, while the first is at work; it must be refused."
    while 'search.pt' not in files_of(folder):
        time.sleep(0.001)
    other = folder.with_name(folder.name + '-other')
    twin = child(lambda *args: go(*args[:2], folder, args[3]), 'gated', 'images', other, budget_of('images'))
    assert ended(twin) == 2, 'two processes in one folder'
    print('the second:', other.with_suffix('.said').read_text().strip().replace(str(folder), 'RUN'))


mishaps = {  # what befalls -> how a search is begun, what is done to it meanwhile, and how it is gone on with
    'no file above 20 kB can be written': (limited, None, go),
    'the disk is full': (without_space, None, go),
    'the clock goes back by a day at every look': (backwards, None, go),
    'the folder is removed': (go, removed, go),
    'a second process in the same folder': (go, second, go),
    'one of two processes of torchrun is killed': (in_two, without_the_second, in_two),
}


def mishap(name: str, work: Path) -> dict:
    "Let something befall a search, go on with it, and compare."
    begin, meanwhile, go_on = mishaps[name]
    whole, _ = undisturbed('gated', 'images', work, go_on)
    folder, budget = work / f'mishap-{list(mishaps).index(name)}', budget_of('images')
    number = child(begin, 'gated', 'images', folder, budget)
    if meanwhile:
        meanwhile(number, folder)
    try:
        status = ended(number)
    except ChildProcessError:
        status = 0
    said = folder.with_suffix('.said').read_text().strip().splitlines()[-1:] if status else ['']
    again = ended(child(go_on, 'gated', 'images', folder, budget))
    found = difference(whole, folder) if again == 0 else f'does not go on ({again})'
    return dict(mishap=name, status=status, said=said[0].replace(str(folder), 'RUN'), afterwards=found or 'the same')


def main():
    a = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    a.add_argument('trials', nargs='?', type=int, default=100)
    a.add_argument('--first', type=int, default=0, help='number of the first trial')
    a.add_argument('--mishaps', action='store_true', help='what else befalls a run, instead of kills')
    a.add_argument('--asked', help=argparse.SUPPRESS)  # what a process of torchrun is to do
    a.add_argument('--into', default='crash_final', help='name of the CSV, or nothing for none')
    a = a.parse_args()
    if a.asked:
        return one_of_two(a.asked)
    torch.set_num_threads(1)
    machine(threads=1)
    if a.mishaps:
        with tempfile.TemporaryDirectory() as work:
            rows = [mishap(name, Path(work)) for name in mishaps]
        for row in rows:
            print(*row.values(), sep=' | ')
        write('mishaps', rows)
        sys.exit(any(row['afterwards'] != 'the same' for row in rows))
    path = Path(__file__).parent / 'results' / f'{a.into}.csv'
    rows = list(csv.DictReader(open(path, newline=''))) if a.into and path.exists() else []
    done = {int(row['trial']) for row in rows}
    with tempfile.TemporaryDirectory() as work:
        for number in range(a.first, a.first + a.trials):
            if number in done:
                continue
            rows.append(row := trial(number, Path(work)))
            print(*row.values(), flush=True)
            if a.into:
                write(a.into, rows)
    bad = [row for row in rows if row['difference']]
    killed = sum(int(row['status']) != 0 for row in rows)
    print(f'{len(rows) - len(bad)} of {len(rows)} searches ended as if nothing had been; {killed} were killed before their end')
    sys.exit(bool(bad))


if __name__ == '__main__':
    main()
