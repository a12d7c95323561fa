"The twelve few-shot tasks on NAS-Bench-201 and FBNet: rank correlation, error and coverage with 10 and 20 measurements, with and without source devices."

import argparse, copy, time, numpy as np
from machine import machine, write
from published import columns, fbnet, nasbench201
from scipy.stats import spearmanr
from nas_suite.latency.fewshot import FewShotPredictor

a = argparse.ArgumentParser(description=__doc__)
a.add_argument('--seeds', type=int, default=5)
a.add_argument('--spaces', nargs='+', default=['fbnet', 'nasbench201'])
a.add_argument('--quick', action='store_true', help='one way only')
EAGLE = dict(
    jetson16='eagle_jetson_16',
    jetson32='eagle_jetson',
    tpu='eagle_tpu',
    dsp855='eagle_dsp_855',
    gpu855='eagle_gpu_855',
    cpu855='eagle_cpu_855',
    i7='eagle_i7',
    gtx='eagle_gtx',
)  # dsp675 and gpu675 are not shared
TASKS = dict(
    ND=(
        '1080ti_1 1080ti_32 1080ti_256 silver_4114 silver_4210r samsung_a50 pixel3 essential_ph_1 samsung_s7',
        'titan_rtx_256 gold_6226 fpga pixel2 raspi4 eyeriss',
    ),
    N1=('tpu eyeriss gpu675 gpu855 pixel3', '1080ti_1 titan_rtx_32 titanxp_1 2080ti_32 titan_rtx_1'),
    N2=('1080ti_1 1080ti_32 titanx_32 titanxp_1 titanxp_32', 'jetson16 tpu dsp675 dsp855 pixel3'),
    N3=('gtx jetson16 eyeriss dsp675 gpu855', '1080ti_1 2080ti_1 titanxp_1 2080ti_32 titanxp_32'),
    N4=('i7 jetson32 tpu eyeriss cpu855 dsp675 dsp855 gpu675 gpu855 pixel2', '1080ti_1 2080ti_1 titan_rtx_1'),
    NA=(
        'titan_rtx_1 titan_rtx_32 titanxp_1 2080ti_1 titanx_1 1080ti_1 titanx_32 titanxp_32 2080ti_32 1080ti_32 gold_6226 samsung_s7 silver_4114 gold_6240 silver_4210r samsung_a50 pixel2',
        'eyeriss gtx tpu',
    ),
    FD=(
        '1080ti_1 1080ti_32 1080ti_64 silver_4114 silver_4210r samsung_a50 pixel3 essential_ph_1 samsung_s7',
        'fpga raspi4 eyeriss',
    ),
    F1=('2080ti_1 essential_ph_1 silver_4114 titan_rtx_1 titan_rtx_32', 'eyeriss fpga raspi4 samsung_a50 samsung_s7'),
    F2=('essential_ph_1 gold_6226 gold_6240 pixel3 raspi4', '1080ti_1 1080ti_32 2080ti_32 titan_rtx_1 titanxp_1'),
    F3=('essential_ph_1 pixel2 pixel3 raspi4 samsung_s7', '1080ti_1 1080ti_32 2080ti_1 titan_rtx_1 titan_rtx_32'),
    F4=(
        '1080ti_64 2080ti_1 eyeriss gold_6226 gold_6240 raspi4 samsung_s7 silver_4210r titan_rtx_1 titan_rtx_32',
        '1080ti_1 pixel2 essential_ph_1',
    ),
    FA=(
        '1080ti_1 1080ti_32 1080ti_64 2080ti_1 2080ti_32 2080ti_64 titan_rtx_1 titan_rtx_32 titan_rtx_64 titanx_1 titanx_32 titanx_64 titanxp_1 titanxp_32 titanxp_64',
        'gold_6226 essential_ph_1 samsung_s7 pixel2',
    ),
)
TASKS = {t: tuple([EAGLE.get(d, d) for d in names.split()] for names in pair) for t, pair in TASKS.items()}
geomean = lambda v: float(np.exp(np.mean(np.log(v))))


def log_latency(p, parts, there=slice(None)):
    "Mean and standard deviation of the logarithm as `p.predict` has them, from parts of the model that are made once for many devices."
    mean, sd = p.model([(kind, A[there]) for kind, A in parts])
    return mean, p.stretch * sd


def run(found, tasks, seeds, ways):
    "Rows of results: a task's devices that are not shared are left out."
    X, names = columns(found)
    out = []
    for task in tasks:
        space = found.get('subset') if task[0] == 'N' and task != 'ND' else None
        space = np.arange(len(X)) if space is None else space
        sources, targets = ([d for d in side if d in found['latency']] for side in TASKS[task])
        for seed in range(seeds):
            pool = np.random.default_rng(seed).permutation(space)[:1000]
            for way in ways:
                t0 = time.process_time()
                p = FewShotPredictor(names=names, seed=seed).fit(
                    X[pool], {d: found['latency'][d][pool] for d in sources} if way != 'features only' else None
                )
                fitted, parts = time.process_time() - t0, p._parts(X[space])
                for k in (10, 20):
                    rows = p.suggest(k)
                    for device in targets:
                        ms = found['latency'][device]
                        there = ~np.isnan(ms[space])
                        chosen = (
                            np.random.default_rng([seed, k]).permutation(len(pool))[:k]
                            if way == 'random samples'
                            else rows
                        )
                        t0 = time.process_time()
                        q = copy.copy(p).update({int(i): ms[pool[i]] for i in chosen})
                        m, sd = log_latency(q, parts, there)
                        spent, true, median, low, high = (
                            time.process_time() - t0,
                            ms[space][there],
                            np.exp(m),
                            np.exp(m - 1.645 * sd),
                            np.exp(m + 1.645 * sd),
                        )
                        out.append(
                            dict(
                                task=task,
                                device=device,
                                seed=seed,
                                way=way,
                                k=k,
                                spearman=spearmanr(median, true).statistic,
                                error_percent=100 * np.median(abs(median / true - 1)),
                                within_10_percent=100 * (abs(median / true - 1) <= 0.1).mean(),
                                inside_90_percent=100 * ((low <= true) & (true <= high)).mean(),
                                priors=p.priors,
                                stretch=p.stretch,
                                fit_s=fitted,
                                predict_s=spent,
                            )
                        )
        show([r for r in out if r['task'] == task], ways)
    return out


def show(rows, ways):
    for way in ways:
        for k in (10, 20):
            r = [x for x in rows if x['way'] == way and x['k'] == k]
            by = [np.mean([x['spearman'] for x in r if x['seed'] == s]) for s in sorted({x['seed'] for x in r})]
            print(
                f"{r[0]['task']} {way:15} k={k} spearman {np.mean(by):.3f} +- {np.std(by):.3f}  error {np.median([x['error_percent'] for x in r]):.1f} %  inside {np.mean([x['inside_90_percent'] for x in r]):.0f} %  fit {np.mean([x['fit_s'] for x in r]):.1f} s  priors {sorted({x['priors'] for x in r})} stretch {np.mean([x['stretch'] for x in r]):.2f}",
                flush=True,
            )


def summary(rows):
    "Of each task and seed, and of each device: means."

    def grouped(keys, values):
        by = {}
        for r in rows:
            by.setdefault(tuple(r[k] for k in keys), []).append(r)
        return [
            dict(zip(keys, k)) | {v: round(float(np.mean([float(x[v]) for x in r])), 4) for v in values}
            for k, r in by.items()
        ]

    values = ('spearman', 'error_percent', 'within_10_percent', 'inside_90_percent')
    return grouped(('task', 'way', 'k', 'seed'), (*values, 'stretch', 'fit_s', 'predict_s')), grouped(
        ('task', 'device', 'way', 'k'), values
    )


if __name__ == '__main__':
    a = a.parse_args()
    machine(threads=1)
    ways, rows = ['sources'] if a.quick else ['sources', 'features only', 'random samples'], []
    for name in a.spaces:
        rows += run(
            dict(fbnet=fbnet, nasbench201=nasbench201)[name](),
            [t for t in TASKS if (t[0] == 'F') == (name == 'fbnet')],
            a.seeds,
            ways,
        )
    for way in ways:
        for k in (10, 20):
            mean = {
                t: np.mean([r['spearman'] for r in rows if (r['task'], r['way'], r['k']) == (t, way, k)])
                for t in TASKS
                if any(r['task'] == t for r in rows)
            }
            for letter, which in (('F', 'FBNet, six tasks'), ('N', 'NAS-Bench-201, five tasks')):
                if v := [m for t, m in mean.items() if t[0] == letter and t != 'ND']:
                    print(f'{which}, {way}, k={k}: geometric mean {geomean(v):.4f}')
    if not a.quick and len(a.spaces) == 2 and a.seeds == 5:
        for name, table in zip(('few_shot', 'few_shot_devices'), summary(rows)):
            write(name, table)
