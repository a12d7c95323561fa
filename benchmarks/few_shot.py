"""The twelve few-shot tasks on NAS-Bench-201 and FBNet, and the devices of one-proxy: rank correlation, error and
coverage with 10 and 20 measurements, with and without source devices, beside a line in MACs and a ridge on options.

Goes on where it was cut off; what is done is kept in the temporary folder until the code of the predictor changes."""

import argparse, copy, hashlib, json, os, tempfile, time
from pathlib import Path
import numpy as np
from scipy.stats import spearmanr
from machine import machine, write
from published import columns, fbnet, nasbench201, one_hot
from nas_suite.latency import fewshot
from nas_suite.latency.features import FEATURES

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
        'titan_rtx_1 titan_rtx_32 titanxp_1 2080ti_1 titanx_1 1080ti_1 titanx_32 titanxp_32 2080ti_32 1080ti_32 '
        'gold_6226 samsung_s7 silver_4114 gold_6240 silver_4210r samsung_a50 pixel2',
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
        '1080ti_1 1080ti_32 1080ti_64 2080ti_1 2080ti_32 2080ti_64 titan_rtx_1 titan_rtx_32 titan_rtx_64 titanx_1 '
        'titanx_32 titanx_64 titanxp_1 titanxp_32 titanxp_64',
        'gold_6226 essential_ph_1 samsung_s7 pixel2',
    ),
)
TASKS = {t: tuple([EAGLE.get(d, d) for d in names.split()] for names in pair) for t, pair in TASKS.items()}
PROXY = (
    'eagle_cpu_855 eagle_dsp_855 eagle_gpu_855 eagle_gtx eagle_i7 eagle_jetson eagle_jetson_16 eagle_tpu '
    'rice_edgegpu rice_edgetpu eyeriss fpga pixel3 raspi4 true_630 true_640 true_a76 true_vpu'
).split()  # all 18; four of them are HELP's too
GROUPS = {'F': 'fbnet', 'ND': 'nasbench201', 'N': 'nasbench201'}  # tasks on the same networks
COUNTS = 10, 20
VALUES = 'spearman', 'error_percent', 'within_10_percent', 'inside_90_percent', 'logarithms'


def group(task):
    return 'ND' if task == 'ND' else task[0]


def macs_line(macs, rows, ms):
    "Latencies of all networks by a line through those measured."
    return np.polyval(np.polyfit(macs[rows], ms, 1), macs)


def ridge(hot, rows, ms):
    "Latencies of all networks by a ridge on one-hot options, its strength chosen by leaving one out."
    centre, found = hot[rows].mean(0), []
    known = hot[rows] - centre
    for strength in np.logspace(-3, 2, 16):
        inverse = np.linalg.inv(known @ known.T + strength * np.eye(len(rows)))
        alpha = inverse @ (ms - ms.mean())
        found.append((np.mean((alpha / np.diag(inverse)) ** 2), known.T @ alpha))
    return (hot - centre) @ min(found, key=lambda pair: pair[0])[1] + ms.mean()


def scores(said, true, low=None, high=None):
    off = np.abs(said / true - 1)
    inside = np.nan if low is None else 100 * np.mean((low <= true) & (true <= high))
    return dict(
        spearman=float(spearmanr(said, true).statistic),
        error_percent=float(100 * np.median(off)),
        within_10_percent=float(100 * np.mean(off <= 0.1)),
        inside_90_percent=float(inside),
    )


class Networks:
    "The networks of a group of tasks: columns, MACs, options, and latencies by device."

    def __init__(self, found, subset):
        self.rows = found['subset'] if subset else np.arange(len(found['ops']))
        X, self.names = columns(found)
        kinds = 'dense', 'pointwise', 'depthwise', 'grouped', 'linear'
        macs = found['features'][:, [FEATURES.index(f'live.macs_{k}') for k in kinds]].sum(1)
        self.X, self.macs, self.hot = (v[self.rows] for v in (X, macs, one_hot(found['ops'])))
        self.ms = {d: ms[self.rows] for d, ms in found['latency'].items()}

    def complete(self):
        "Devices on which all networks were measured."
        return {d for d, ms in self.ms.items() if not np.isnan(ms).any()}

    def measured_on(self, device):
        "Those networks that were measured on a device."
        out, there = copy.copy(self), ~np.isnan(self.ms[device])
        out.rows, out.X, out.macs, out.hot = (v[there] for v in (self.rows, self.X, self.macs, self.hot))
        out.ms = {device: self.ms[device][there]}
        return out

    def pool(self, seed):
        return np.random.default_rng(seed).permutation(len(self.rows))[:1000]


def predicted(networks, seed, targets, sources, ways):
    "Rows of results of our predictor, each device in turn the new one."
    pool = networks.pool(seed)
    began = time.process_time()
    known = {d: networks.ms[d][pool] for d in sources}
    p = fewshot.FewShotPredictor(names=networks.names, seed=seed).fit(networks.X[pool], known)
    fit_s, parts, out = time.process_time() - began, p._parts(networks.X), []
    for way in ways:
        for k in COUNTS:
            drawn = np.random.default_rng([seed, k]).permutation(len(pool))[:k]
            chosen = drawn if way.startswith('random') else p.suggest(k)
            for device in targets:
                began, ms = time.process_time(), networks.ms[device]
                q = copy.copy(p).update({int(i): ms[pool[i]] for i in chosen})
                said = q._known(parts)
                bounds = [said.quantile(v) for v in (0.5, 0.05, 0.95)]
                spent = time.process_time() - began
                row = scores(bounds[0], ms, *bounds[1:]) | dict(logarithms=float(q.scale == 'log'))
                row |= dict(fit_s=fit_s, predict_s=spent, stretch=q.model.stretch)
                out.append(dict(way=way, k=k, device=device, seed=seed) | row)
                if sources:
                    continue
                for name, known in (('MACs line', networks.macs), ('one-hot ridge', networks.hot)):
                    method = macs_line if name == 'MACs line' else ridge
                    row = scores(method(known, pool[chosen], ms[pool[chosen]]), ms)
                    name += ' of random samples' if way.startswith('random') else ''
                    out.append(dict(way=name, k=k, device=device, seed=seed) | row)
    return out


def units(seeds):
    "What is computed in one go: (group, task or None for features only, seed), seed by seed."
    return [
        (g, task, seed)
        for seed in range(seeds)
        for g in GROUPS
        for task in (None, *(t for t in TASKS if group(t) == g))
    ]


def compute(unit, networks):
    g, task, seed = unit
    if task is None:
        tasks = {t: targets for t, (_, targets) in TASKS.items() if group(t) == g}
        tasks |= {'one-proxy': PROXY} if g == 'N' else {}
        targets, ways = {d for devices in tasks.values() for d in devices}, ('features only', 'random, features only')
        rows = predicted(networks, seed, sorted(targets & networks.complete()), (), ways)
        if 'rice_edgetpu' in targets:  # on which some networks do not run
            rows += predicted(networks.measured_on('rice_edgetpu'), seed, ['rice_edgetpu'], (), ways)
        return [dict(task=t) | row for t, devices in tasks.items() for row in rows if row['device'] in devices]
    complete = networks.complete()
    sources, targets = ([d for d in side if d in complete] for side in TASKS[task])
    rows = predicted(networks, seed, targets, sources, ('sources', 'random samples'))
    return [dict(task=task) | row for row in rows]


class Done:
    "Results by unit, each written when it is there; another version of the predictor begins anew."

    def __init__(self):
        code = ''.join(Path(f).read_text() for f in (fewshot.__file__, __file__))
        name = f'few_shot-{hashlib.sha256(code.encode()).hexdigest()[:8]}.jsonl'
        self.path = Path(tempfile.gettempdir()) / 'nas_suite-benchmarks' / name
        self.path.parent.mkdir(exist_ok=True)
        lines = self.path.read_text().splitlines() if self.path.exists() else []
        self.rows = {tuple(unit): rows for unit, rows in map(json.loads, lines)}

    def add(self, unit, rows):
        self.rows[unit] = rows
        with open(self.path, 'a') as f:
            f.write(json.dumps([unit, rows]) + '\n')
            f.flush()
            os.fsync(f.fileno())


def grouped(rows, keys, values, deviations=()):
    "Means of values over rows with the same keys, and how many seeds these are."
    by = {}
    for r in rows:
        by.setdefault(tuple(r[k] for k in keys), []).append(r)
    out = []
    for key, some in by.items():
        of = {v: np.array([r.get(v, np.nan) for r in some], float) for v in values}
        row = {v: round(float(a.mean()), 4) if not np.isnan(a).any() else None for v, a in of.items()}
        row |= {f'{v}_std': round(float(of[v].std(ddof=1)), 4) if len(some) > 1 else None for v in deviations}
        out.append(dict(zip(keys, key)) | row | dict(seeds=len({r['seed'] for r in some})))
    return out


def show(rows):
    "Of each way: what is reached, and on how many devices a line in MACs errs less."
    mean = {
        (r['task'], r['device'], r['way'], r['k']): r for r in grouped(rows, ('task', 'device', 'way', 'k'), VALUES)
    }
    for way in dict.fromkeys(r['way'] for r in rows):
        for k in COUNTS:
            some = [r for key, r in mean.items() if key[2:] == (way, k)]
            line = 'MACs line of random samples' if way.startswith('random') else 'MACs line'
            worse = [
                f"{r['task']} {r['device']}"
                for r in some
                if (l := mean.get((r['task'], r['device'], line, k))) and r['error_percent'] > l['error_percent']
            ]
            tasks = {t: [r for r in some if r['task'] == t] for t in TASKS}
            ranks = {t: np.mean([r['spearman'] for r in v]) for t, v in tasks.items() if v}
            inside = {t: np.mean([r['inside_90_percent'] or np.nan for r in v]) for t, v in tasks.items() if v}
            means = []
            for name, which in (('FBNet', 'F'), ('N1 to NA', 'N')):
                v = [x for t, x in ranks.items() if group(t) == which]
                means.append(f'{name} {np.exp(np.mean(np.log(np.maximum(v, 1e-9)))):.4f}' if v else '')
            print(
                f"{way}, {k}: {', '.join(means)}; error {np.mean([r['error_percent'] for r in some]):.2f} %, "
                f"inside {min(inside.values()):.1f} to {max(inside.values()):.1f} %, seeds {some[0]['seeds']}, "
                f"a line in MACs is nearer on {len(worse)} of {len(some)}: {', '.join(worse)}"
            )


if __name__ == '__main__':
    a = argparse.ArgumentParser(description=__doc__)
    a.add_argument('--seeds', type=int, default=25)
    a.add_argument('--source-seeds', type=int, default=25, help='of the tasks with source devices')
    a.add_argument('--groups', nargs='+', default=list(GROUPS), choices=GROUPS)
    a.add_argument('--minutes', type=float, default=float('inf'), help='stop after so many; the next call goes on')
    a = a.parse_args()
    machine(threads=1)
    done, spaces, all_networks, began = Done(), {}, {}, time.time()
    wanted = [u for u in units(a.seeds) if u[0] in a.groups and (u[1] is None or u[2] < a.source_seeds)]
    for unit in wanted:
        if unit in done.rows or time.time() - began > 60 * a.minutes:
            continue
        name = GROUPS[unit[0]]
        if name not in spaces:
            spaces[name] = dict(fbnet=fbnet, nasbench201=nasbench201)[name]()
        if unit[0] not in all_networks:
            all_networks[unit[0]] = Networks(spaces[name], subset=unit[0] == 'N')
        done.add(unit, compute(unit, all_networks[unit[0]]))
    rows = [r for unit in wanted for r in done.rows.get(unit, ())]
    left = sum(unit not in done.rows for unit in wanted)
    print(f'{len(wanted) - left} of {len(wanted)} done, {left} left')
    show(rows)
    if not left and set(a.groups) == set(GROUPS):
        values = *VALUES, 'stretch', 'fit_s', 'predict_s'
        write('few_shot', grouped(rows, ('task', 'way', 'k', 'seed'), values))
        write('few_shot_devices', grouped(rows, ('task', 'device', 'way', 'k'), VALUES, VALUES[:2]))
