"HELP's tables: its predictor meta-learned here, the Gaussian process with the same measurements, and the published figures."

import argparse, copy, time, numpy as np, torch
from machine import machine, write
from published import columns, fbnet, nasbench201
from few_shot import TASKS
from scipy.stats import spearmanr
from nas_suite.latency.features import FEATURES
from nas_suite.latency.fewshot import FewShotPredictor
from nas_suite.latency.help import HELP, cell_graphs, trimmed

a = argparse.ArgumentParser(description=__doc__)
a.add_argument('--episodes', type=int, nargs=2, default=(400, 800), help='of NAS-Bench-201 and FBNet')
a.add_argument('--seeds', type=int, default=5)
a.add_argument('--check', action='store_true', help='write nothing')
PUBLISHED = dict(
    nasbench201={
        'MACs, published': dict(
            titan_rtx_256=0.950, gold_6226=0.826, pixel2=0.765, raspi4=0.846, eyeriss=0.437, fpga=0.900
        ),
        'BRP-NAS with 900, published': dict(
            titan_rtx_256=0.814, gold_6226=0.796, pixel2=0.666, raspi4=0.847, eyeriss=0.811, fpga=0.801
        ),
        'HELP, published': dict(
            titan_rtx_256=0.987, gold_6226=0.989, pixel2=0.802, raspi4=0.890, eyeriss=0.940, fpga=0.985
        ),
    },
    fbnet={
        'MAML, published': dict(raspi4=0.718, eyeriss=0.763, fpga=0.727),
        'Meta-SGD, published': dict(raspi4=0.821, eyeriss=0.822, fpga=0.776),
        'HELP, published': dict(raspi4=0.887, eyeriss=0.943, fpga=0.892),
    },
)


def encoded(ops):  # as the authors write FBNet's operators: kernel 3 or 5, which of four kinds; a skip is zeros
    out = np.zeros((*ops.shape, 6), np.float32)
    for i in range(8):
        out[ops == i, i // 4] = 1
        out[ops == i, 2 + i % 4] = 1
    return out.reshape(len(ops), -1)


if __name__ == '__main__':
    a = a.parse_args()
    machine(threads=1)
    torch.set_num_threads(1)
    rows = []
    for space, found, task, pool_size, episodes in (
        ('nasbench201', nasbench201(), 'ND', 900, a.episodes[0]),
        ('fbnet', fbnet(), 'FD', 4000, a.episodes[1]),
    ):
        pool, query, refs = (
            np.arange(pool_size),
            np.arange(pool_size, pool_size + 1000),
            found['references'].astype(int),
        )
        (X, names), net_in = (
            columns(found),
            cell_graphs(found['ops']) if space == 'nasbench201' else encoded(found['ops']),
        )
        sources, targets = TASKS[task]
        t0 = time.process_time()
        net = HELP(8, graph=True) if space == 'nasbench201' else HELP(132)
        losses = net.meta_train(net_in, {d: found['latency'][d] for d in sources}, refs, pool, episodes)
        trained = time.process_time() - t0
        print(
            f'{space}: {episodes} episodes in {trained:.0f} s of CPU, loss {np.mean(losses[:20]):.3f} to {np.mean(losses[-20:]):.3f}',
            flush=True,
        )
        t0 = time.process_time()
        gp = FewShotPredictor(names=names).fit(X[pool[:900]], {d: found['latency'][d][pool[:900]] for d in sources})
        fitted = time.process_time() - t0
        macs = found['features'][
            :, [FEATURES.index(f'live.macs_{k}') for k in ('dense', 'pointwise', 'depthwise', 'grouped')]
        ].sum(1)
        for device in targets:
            ms = found['latency'][device]
            middle = trimmed(ms, query)

            def score(method, p, seed=0, **more):
                rows.append(
                    dict(
                        space=space,
                        method=method,
                        device=device,
                        seed=seed,
                        trimmed=round(float(spearmanr(p[middle], ms[middle]).statistic), 4),
                        untrimmed=round(float(spearmanr(p[query], ms[query]).statistic), 4),
                        **more,
                    )
                )

            for method, values in PUBLISHED[space].items():
                rows.append(dict(space=space, method=method, device=device, trimmed=values[device]))
            score('MACs', macs)
            first = [(X[i], ms[i]) for i in refs]
            for seed in range(a.seeds):
                few = np.random.default_rng(seed).permutation(trimmed(ms, pool))[:10]
                net.generator.manual_seed(seed)
                score(
                    'HELP, here',
                    net.adapt(net_in[few], ms[few], ms[refs]).predict(net_in),
                    seed,
                    episodes=episodes,
                    train_s=round(trained, 1),
                )
                score(
                    'GP, the same 10 + 10',
                    copy.copy(gp).update(first + [(X[i], ms[i]) for i in few]).quantile(X, 0.5),
                    seed,
                    train_s=round(fitted, 1),
                )
            p = copy.copy(gp).update(first)
            chosen = p.suggest(10)
            score(
                'GP, 10 + 10 of its choice',
                p.update({i: ms[pool[i]] for i in chosen}).quantile(X, 0.5),
                train_s=round(fitted, 1),
            )
            free = copy.copy(gp)
            score(
                'GP, 20 of its choice',
                free.update({i: ms[pool[i]] for i in gp.suggest(20)}).quantile(X, 0.5),
                train_s=round(fitted, 1),
            )
        for method in dict.fromkeys(r['method'] for r in rows):
            r = [x for x in rows if x['space'] == space and x['method'] == method]
            if r:
                print(
                    f"{space:12} {method:28} trimmed {np.mean([x['trimmed'] for x in r]):.3f} untrimmed {np.mean([x.get('untrimmed', np.nan) for x in r]):.3f}  "
                    + ' '.join(f"{d} {np.mean([x['trimmed'] for x in r if x['device'] == d]):.3f}" for d in targets),
                    flush=True,
                )
    if not a.check:
        write('help', rows)
