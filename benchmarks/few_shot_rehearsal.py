"""Whether source devices can say how wide intervals are to be: each of them is predicted as if it were new, and by how
much its standardised errors exceed those of a normal distribution is what the intervals of the target are multiplied by.

Shares of latencies inside 90 % intervals, of 20 measurements with source devices, means over target devices and seeds:
as they are, multiplied by the geometric mean or the median of those factors, or by the root of the mean; and by
Student's t, whose scale is that of the measurements left out, with an inverse-gamma prior fitted to the scales of the
source devices (`prior`) and without one (`left_out`). `held_...`: how far off, as the root mean square of a logarithm,
each way puts the width for a source device of which the others know nothing; by these one would have to choose."""

import argparse, copy
import numpy as np
from few_shot import TASKS, Networks, group
from machine import machine, write
from published import fbnet, nasbench201
from scipy.optimize import brentq
from scipy.special import digamma, polygamma
from scipy.stats import norm, t as student
from nas_suite.latency import fewshot


NORMAL = norm.ppf(0.95)


class Source:
    "A source device as if it were new: its measurements left out, what is done now, and what would be right."

    def __init__(self, p, ms, j, k, draw):
        at = draw.permutation(np.flatnonzero(~np.isnan(ms)))[:1000]
        parts = [(kind, np.delete(A[at], j, 1) if kind.endswith('sources') else A[at]) for kind, A in p.all]
        prior, some = fewshot._PRIORS[p.priors], fewshot._on(fewshot._MS, parts)
        v = np.exp([*(prior[kind][0] for kind, _ in some), fewshot._NOISE[0]])
        rows = fewshot._greedy(some, v, k, wanted=fewshot._spread(fewshot._cost(some)))
        model = fewshot._model([(kind, A[rows]) for kind, A in parts], ms[at][rows], prior)
        mean, deviation = model(parts)
        targets = model.scale.targets(np.maximum(ms[at] / model.unit, fewshot._LEAST))
        off = np.delete(np.abs(targets - mean) / deviation, rows)
        self.left_out, self.now = left_out(model), model.stretch
        self.factor = np.quantile(off, 0.9) / NORMAL  # by how much errors exceed what the model said
        self.right = self.factor * self.now


def left_out(model):
    "By how many standard deviations each measurement is off that the others predict."
    return np.abs(model.alpha) / np.sqrt(np.diag(model.inverse))


def by_student(off, sources=()):
    "The stretch by Student's t, with an inverse-gamma prior from the right scales of sources, or without one."
    shape = rate = 0.0
    if sources:
        logs = 2 * np.log([source.right for source in sources])
        variance = max(logs.var(ddof=1), 0.01)
        shape = brentq(lambda a: polygamma(1, a) - variance, 1e-3, 1e4)
        rate = np.exp(logs.mean() + digamma(shape))
    scale = (rate + np.square(off).sum() / 2) / (shape + len(off) / 2)
    return np.sqrt(scale) * student.ppf(0.95, 2 * shape + len(off)) / NORMAL


def held_out(sources):
    "How far off each way is on each source, told by the others alone: logarithms."
    for j, one in enumerate(sources):
        others = sources[:j] + sources[j + 1 :]
        ways = dict(plain=one.now, left_out=by_student(one.left_out), prior=by_student(one.left_out, others))
        yield {name: np.log(stretch / one.right) for name, stretch in ways.items()}


def coverage(q, parts, ms, stretch):
    "The share of latencies inside the 90 % intervals of another stretch."
    model = copy.copy(q.model)
    model.stretch = stretch
    known = fewshot._Latencies(model.scale, model.unit, *model(parts))
    return 100 * np.mean((known.quantile(0.05) <= ms) & (ms <= known.quantile(0.95)))


def rows_of(task, networks, seed, k=20):
    "A row for each target device of a task."
    sources, targets = ([d for d in names if d in networks.ms] for names in TASKS[task])
    pool = networks.pool(seed)
    known = {d: networks.ms[d][pool] for d in sources}
    p = fewshot.FewShotPredictor(names=networks.names, seed=seed).fit(networks.X[pool], known)
    draw, parts, chosen = np.random.default_rng(seed), p._parts(networks.X), p.suggest(k)
    known = [Source(p, ms, j, k, draw) for j, ms in enumerate(p.sources.values())]
    logs = np.log([source.factor for source in known])
    by = dict(plain=1.0, mean=np.exp(logs.mean()), median=np.exp(np.median(logs)), half=np.exp(logs.mean() / 2))
    for device in (d for d in targets if not np.isnan(networks.ms[d]).any()):
        ms = networks.ms[device]
        q = copy.copy(p).update({int(i): ms[pool[i]] for i in chosen})
        off, now = left_out(q.model), q.model.stretch
        ways = {name: now * times for name, times in by.items()}
        ways |= dict(left_out=by_student(off), prior=by_student(off, known))
        yield {name: coverage(q, parts, ms, stretch) for name, stretch in ways.items()} | dict(factor=by['mean'])
    for off in held_out(known):
        yield {f'held_{name}': value for name, value in off.items()}


def means(rows):
    "Means of the columns; of the held-out ones the root mean squares."
    names = dict.fromkeys(name for row in rows for name in row)
    columns = {name: np.array([row[name] for row in rows if name in row]) for name in names}
    root = {name: name.startswith('held_') for name in names}
    return {n: round(float(np.sqrt(np.mean(v**2)) if root[n] else v.mean()), 2) for n, v in columns.items()}


def main():
    a = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    a.add_argument('--seeds', type=int, default=8)
    a = a.parse_args()
    machine(threads=1)
    found = nasbench201()
    data, out = dict(F=Networks(fbnet(), False), ND=Networks(found, False), N=Networks(found, True)), []
    for task in TASKS:
        rows = [row for seed in range(a.seeds) for row in rows_of(task, data[group(task)], seed)]
        out.append(dict(task=task, seeds=a.seeds, **means(rows)))
        print(*out[-1].values(), flush=True)
    write('few_shot_rehearsal', out)


if __name__ == '__main__':
    main()
