"What benchmarks of training steps share: steps side by side, the gates of a given path, and what is kept for backward."

import random, statistics, time, torch
from torch import nn
from machine import kept_bytes
from nas_suite.choices import Gates, Selection


def gates(s, active: dict, mode: str) -> Selection:
    "Gates of a gradient mode with this active path, the other path drawn at random."
    now = Selection(names=zip(s.choices, s.names))
    for c in s.choices:
        index = tuple(range(len(c)))
        if mode == 'two':
            index = active[c], random.choice([i for i in index if i != active[c]])
        hard, q = torch.tensor([float(i == active[c]) for i in index]), c.alpha[list(index)].softmax(0)
        weight = hard.to(q) + q - q.detach()
        now[c] = Gates(index, weight, tuple(i == active[c] for i in index), mode == 'full_v2')
    return now


def clock_of(device):
    "Seconds: of this process's work on the CPU, which others do not disturb; on a card of the wall, its work done."
    if torch.device(device).type == 'cpu':
        return time.process_time

    def done():
        torch.cuda.synchronize()
        return time.perf_counter()

    return done


def timed(functions: dict, rounds: int, clock=time.process_time, limit: float = float('inf')) -> dict:
    "Seconds of each of several functions, in turns in an order that changes: name -> list, one a round. `limit`: seconds in all."
    for _ in range(2):
        for f in functions.values():
            f()
    found, begun, chance = {name: [] for name in functions}, time.monotonic(), random.Random(0)
    for turn in range(rounds):
        for name in chance.sample(list(functions), len(functions)):
            start = clock()
            functions[name]()
            found[name].append(clock() - start)
        if turn >= 2 and time.monotonic() - begun > limit:
            break
    return found


def ratio(times: list, to: list) -> float:
    "How many times as long: the ratio of the medians."
    return statistics.median(times) / statistics.median(to)


def peak_bytes(f, network: nn.Module, device) -> int:
    "The most memory that a step takes beyond what is there before it; on the CPU what it keeps for backward."
    if torch.device(device).type == 'cpu':
        return kept_bytes(f, network.parameters())
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    f()
    torch.cuda.synchronize()
    return torch.cuda.max_memory_allocated() - before
