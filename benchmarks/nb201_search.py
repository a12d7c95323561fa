"Search on NAS-Bench-201 under a latency budget with 20 measurements of the device: accuracy found, and how often the budget is exceeded."

import argparse, copy, numpy as np
from machine import machine, write
from published import columns, data, nasbench201
from few_shot import TASKS
from nas_suite.latency.features import FEATURES
from nas_suite.latency.fewshot import FewShotPredictor

BUDGETS = dict(
    titan_rtx_256=(18, 21, 25),
    gold_6226=(8, 11, 14),
    pixel2=(14, 18, 22),
    eyeriss=(5, 7, 9),
    fpga=(4, 5, 6),
    raspi4=(15, 25, 35),
)  # ms; HELP's, and three for the Raspberry Pi
FINALISTS = 3  # measurements that are kept for networks about to be returned
WAYS = 'bound', 'bound and finalists', 'median', 'MACs', 'random', 'true latency'


def best(score, ok):
    return int(np.where(ok, score, -np.inf).argmax()) if ok.any() else None


def quantile(p, parts, q):
    "As `p.quantile`, from parts of the model that are made once for many devices."
    return p._known(parts).quantile(q)


def finalists(p, parts, X, ms, valid, budget, known):
    "Measure the network about to be returned, learn from it, and try a better one: three times."
    for _ in range(FINALISTS):
        i = best(valid, (quantile(p, parts, 0.95) <= budget) & ~np.isin(np.arange(len(X)), list(known)))
        good = [j for j in known if known[j] <= budget]
        if (
            i is None or good and valid[i] <= valid[good].max()
        ):  # nothing better is safe: what lies at the budget, if it promises more
            i = best(valid, (quantile(p, parts, 0.5) <= budget) & ~np.isin(np.arange(len(X)), list(known)))
            if i is None or good and valid[i] <= valid[good].max():
                break
        known[i] = ms[i]
        p.update([(X[i], ms[i])])
    good = [j for j in known if known[j] <= budget]
    return max(good, key=lambda j: valid[j]) if good else None


if __name__ == '__main__':
    a = argparse.ArgumentParser(description=__doc__)
    a.add_argument('--seeds', type=int, default=20)
    a = a.parse_args()
    machine(threads=1)
    found, table = nasbench201(), data('nasbench201/cifar10.npz')
    named = [str(c) for c in table['columns']]
    test, valid = (
        table['accuracy'][:, next(i for i, c in enumerate(named) if all(w in c for w in words))]
        for words in (('200', 'test'), ('12', 'val'))
    )
    X, names = columns(found)
    macs, rows = found['features'][:, [FEATURES.index(f'live.macs_{k}') for k in ('dense', 'pointwise')]].sum(1), []
    for seed in range(a.seeds):
        g = np.random.default_rng(seed)
        pool = g.permutation(len(X))[:1000]
        fitted = FewShotPredictor(names=names, seed=seed).fit(
            X[pool], {d: found['latency'][d][pool] for d in TASKS['ND'][0]}
        )
        first, parts = fitted.suggest(20), fitted._parts(X)
        for device, budgets in BUDGETS.items():
            ms = found['latency'][device]

            def learned(k):
                return copy.copy(fitted).update({int(i): ms[pool[i]] for i in first[:k]})

            full = learned(20)
            upper, median = quantile(full, parts, 0.95), quantile(full, parts, 0.5)
            slope = np.polyfit(macs[pool[first]], ms[pool[first]], 1)
            for budget in budgets:
                drawn = g.permutation(len(X))[:20]
                known = {int(pool[i]): ms[pool[i]] for i in first[: 20 - FINALISTS]}
                picks = {
                    WAYS[0]: best(valid, upper <= budget),
                    WAYS[1]: finalists(learned(20 - FINALISTS), parts, X, ms, valid, budget, known),
                    WAYS[2]: best(valid, median <= budget),
                    WAYS[3]: best(valid, np.polyval(slope, macs) <= budget),
                    WAYS[4]: best(valid, np.isin(np.arange(len(X)), drawn) & (ms <= budget)),
                    WAYS[5]: best(valid, ms <= budget),
                }
                optimum = float(test[ms <= budget].max())
                for way, i in picks.items():
                    rows.append(
                        dict(
                            device=device,
                            budget_ms=budget,
                            seed=seed,
                            way=way,
                            accuracy=None if i is None else round(float(test[i]), 3),
                            optimum=round(optimum, 3),
                            latency_ms=None if i is None else round(float(ms[i]), 4),
                            over=None if i is None else int(ms[i] > budget),
                        )
                    )
    for way in WAYS:
        r = [x for x in rows if x['way'] == way and x['accuracy'] is not None]
        by = [
            np.mean([x['optimum'] - x['accuracy'] for x in r if x['seed'] == s and not x['over']])
            for s in range(a.seeds)
        ]
        print(
            f"{way:30} {len(r)} of {sum(x['way'] == way for x in rows)} found one; over budget {100 * np.mean([x['over'] for x in r]):.1f} %, by {100 * np.mean([x['latency_ms'] / x['budget_ms'] - 1 for x in r if x['over']] or [0]):.1f} % then; below the optimum {np.mean(by):.2f} +- {np.std(by):.2f} points where within it; uses {100 * np.mean([x['latency_ms'] / x['budget_ms'] for x in r]):.0f} % of the budget"
        )
    if a.seeds == 20:
        write('nb201_search', rows)
