"""Whether source devices can say how wide intervals are to be: each of them is predicted as if it were new, and by how
much its standardised errors exceed those of a normal distribution is what the intervals of the target are multiplied by.

Shares of latencies inside 90 % intervals, of 20 measurements with source devices, means over target devices and seeds:
as they are, multiplied by the geometric mean or the median of those factors, or by the root of the mean."""

import argparse, copy
import numpy as np
from few_shot import TASKS, Networks, group
from machine import machine, write
from published import fbnet, nasbench201
from scipy.stats import norm
from nas_suite.latency import fewshot


def factor(p, ms, j, k, draw):
    "By how much the errors of a source device exceed what the model of the others said, at the ninth tenth."
    at = draw.permutation(np.flatnonzero(~np.isnan(ms)))[:1000]
    parts = [(kind, np.delete(A[at], j, 1) if kind.endswith('sources') else A[at]) for kind, A in p.all]
    prior, some = fewshot._PRIORS[p.priors], fewshot._on(fewshot._MS, parts)
    v = np.exp([*(prior[kind][0] for kind, _ in some), fewshot._NOISE[0]])
    rows = fewshot._greedy(some, v, k, wanted=fewshot._spread(fewshot._cost(some)))
    model = fewshot._model([(kind, A[rows]) for kind, A in parts], ms[at][rows], prior)
    mean, deviation = model(parts)
    targets = model.scale.targets(np.maximum(ms[at] / model.unit, fewshot._LEAST))
    off = np.delete(np.abs(targets - mean) / deviation, rows)
    return np.quantile(off, 0.9) / norm.ppf(0.95)


def coverage(q, parts, ms, by):
    "The share of latencies inside the 90 % intervals, these `by` times as wide."
    model = copy.copy(q.model)
    model.stretch = q.model.stretch * by
    known = fewshot._Latencies(model.scale, model.unit, *model(parts))
    return 100 * np.mean((known.quantile(0.05) <= ms) & (ms <= known.quantile(0.95)))


def rows_of(task, networks, seed, k=20):
    "A row for each target device of a task."
    sources, targets = ([d for d in names if d in networks.ms] for names in TASKS[task])
    pool = networks.pool(seed)
    known = {d: networks.ms[d][pool] for d in sources}
    p = fewshot.FewShotPredictor(names=networks.names, seed=seed).fit(networks.X[pool], known)
    draw, parts, chosen = np.random.default_rng(seed), p._parts(networks.X), p.suggest(k)
    logs = np.log([factor(p, ms, j, k, draw) for j, ms in enumerate(p.sources.values())])
    ways = dict(plain=1.0, mean=np.exp(logs.mean()), median=np.exp(np.median(logs)), half=np.exp(logs.mean() / 2))
    for device in (d for d in targets if not np.isnan(networks.ms[d]).any()):
        ms = networks.ms[device]
        q = copy.copy(p).update({int(i): ms[pool[i]] for i in chosen})
        yield {name: coverage(q, parts, ms, by) for name, by in ways.items()} | dict(factor=ways['mean'])


def main():
    a = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    a.add_argument('--seeds', type=int, default=3)
    a = a.parse_args()
    machine(threads=1)
    found = nasbench201()
    data, out = dict(F=Networks(fbnet(), False), ND=Networks(found, False), N=Networks(found, True)), []
    for task in TASKS:
        rows = [row for seed in range(a.seeds) for row in rows_of(task, data[group(task)], seed)]
        means = {name: round(float(np.mean([row[name] for row in rows])), 2) for name in rows[0]}
        out.append(dict(task=task, seeds=a.seeds, **means))
        print(*out[-1].values(), flush=True)
    write('few_shot_rehearsal', out)


if __name__ == '__main__':
    main()
