"""Small networks on a card: retraining one of 32 pixels, as the package does it, kernel by kernel, and as a graph of the
whole step that was captured by hand; and a search on images like CIFAR-10's, on the card and on two cores of the same
machine. Seconds a step, in benchmarks/results/gpu_search.csv with the name of the device. At most 8 minutes on a card;
images are random, as time does not depend on them.

--small: a narrow space and batches of 8, to try the script on a CPU; what needs a card is left out, and said."""

import argparse, contextlib, time, torch
from torch.nn import functional as F
from torch.utils.data import TensorDataset
from gpu_steps import kept_rows
from machine import machine, write
from nas_suite.choices import largest
from nas_suite.costs import macs
from nas_suite.extraction import extract
from nas_suite.spaces.mobile import proxyless
from nas_suite.strategies.gated import Gated
from nas_suite.tasks.classification import classification
from nas_suite.training import Loop, fit, graphed, image_format, loop, sgd


class Enough(Exception):
    "All steps that are timed were taken."


class Watch:
    "Seconds a step, from step `first` on; as `on_step` of a loop."

    def __init__(self, device: str, first: int, last: int):
        self.device, self.first, self.last, self.seconds = device, first, last, None

    def now(self) -> float:
        if self.device == 'cuda':
            torch.cuda.synchronize()
        return time.perf_counter()

    def __call__(self, n: int):
        if n == self.first:
            self.begun = self.now()
        if n == self.last:
            self.seconds = (self.now() - self.begun) / (self.last - self.first)
            raise Enough


def task_of(a):
    "A task on random images of 32 pixels."
    chance = torch.Generator().manual_seed(0)
    n = max(2048, 4 * a.batch) if not a.small else 64
    parts = [TensorDataset(torch.randn(n, 3, 32, 32, generator=chance), torch.arange(n) % 10) for _ in range(2)]
    return classification(tuple(parts), names=[str(i) for i in range(10)], shift=4, flip=True)


def space_of(a):
    torch.manual_seed(0)
    return proxyless(0.25 if a.small else 1.0, classes=10, image_size=32)


def retraining(a, device: str, graphs: bool) -> float:
    "Seconds a step of `fit`."
    watch, space = Watch(device, a.first, a.first + a.steps), space_of(a)
    network, task = extract(space, largest(space)), task_of(a)
    plainly = loop.graphed
    loop.graphed = graphed if graphs else lambda network, *_: network
    try:
        with contextlib.suppress(Enough):
            fit(network, task, 10**4, batch_size=a.batch, device=device, on_step=watch, progress=False)
    finally:
        loop.graphed = plainly
    return watch.seconds


def by_hand(a) -> float:
    "Seconds a step, of which everything is one CUDA graph: forward, loss, backward and the optimizer."
    space, watch = space_of(a), Watch('cuda', 0, 0)
    network = extract(space, largest(space))
    network = network.to('cuda', memory_format=image_format(network)).train()
    x = torch.randn(a.batch, 3, 32, 32, device='cuda').to(memory_format=image_format(network))
    y, optimizer = torch.randint(10, (a.batch,), device='cuda'), sgd(network, 0.1)

    def step():
        optimizer.zero_grad(set_to_none=True)
        F.cross_entropy(network(x), y).backward()
        optimizer.step()

    side, graph = torch.cuda.Stream(), torch.cuda.CUDAGraph()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            step()
    torch.cuda.current_stream().wait_stream(side)
    with torch.cuda.graph(graph):
        step()
    begun = watch.now()
    for _ in range(a.steps):
        graph.replay()
    return (watch.now() - begun) / a.steps


def searching(a, device: str, steps: int) -> float:
    "Seconds a step of ProxylessNAS's search: one of the weights, and one of the architecture."
    first = a.first if device == a.device else 2
    watch, space, task = Watch(device, first, first + steps), space_of(a), task_of(a)
    strategy = Gated(epochs=10**4, warmup=0.0, batch_size=a.batch)
    cost = macs(space, space.input_shape)
    with contextlib.suppress(Enough):
        strategy.search(space, task, [(cost, 0.6 * cost(largest(space)))], Loop(device=device, progress=False, on_step=watch))
    return watch.seconds


def rows_of(a) -> list:
    "What was measured: part, how, seconds a step, and how many times that of the first of its part."
    found = [('retraining', 'as the package does it', retraining(a, a.device, True))]
    if a.device == 'cuda':
        found.append(('retraining', 'kernel by kernel', retraining(a, a.device, False)))
        found.append(('retraining', 'a graph captured by hand', by_hand(a)))
    else:
        print('retraining by graphs, and the search on a card, need a card: left out')
    found.append(('search', f'on {a.device}', searching(a, a.device, a.steps)))
    if a.device == 'cuda':
        torch.set_num_threads(2)
        found.append(('search', 'on two cores', searching(a, 'cpu', a.few)))
    firsts = {part: seconds for part, _, seconds in reversed(found)}
    return [dict(part=part, how=how, ms=1e3 * s, ratio=s / firsts[part]) for part, how, s in found]


def main():
    a = argparse.ArgumentParser(description=__doc__)
    a.add_argument('--device', choices=['cpu', 'cuda'], default='cuda' if torch.cuda.is_available() else 'cpu')
    a.add_argument('--small', action='store_true')
    a.add_argument('--batch', type=int)
    a.add_argument('--steps', type=int, help='that are timed on the device')
    a.add_argument('--few', type=int, default=4, help='that are timed on two cores')
    a = a.parse_args()
    a.batch = a.batch or (8 if a.small else 256)
    a.steps, a.first = a.steps or (4 if a.small else 200), 2 if a.small else 20
    torch.set_num_threads(1)
    env = machine(device=a.device, threads=1, batch=a.batch)
    about = dict(device=env['device'], small=a.small, batch=a.batch)
    rows = [about | row for row in rows_of(a)]
    for row in rows:
        print('{part:12} {how:26} {ms:9.2f} ms a step   {ratio:6.2f} x'.format(**row), flush=True)
    write('gpu_search', kept_rows('gpu_search', about) + rows)


if __name__ == '__main__':
    main()
