"One-proxy on 18 devices: the monotonicity matrix, and what adaptation makes of it, beside the published figures."

import argparse, numpy as np
from machine import machine, write
from published import data, one_hot
from nas_suite.latency.oneproxy import adapt, monotonicities, monotonicity, proxy_weights

a = argparse.ArgumentParser(description=__doc__)
a.add_argument('--seeds', type=int, default=5)
a = a.parse_args()
machine(threads=1)
FIGURE = dict(
    true_vpu=dict(
        rice_edgegpu=0.75,
        rice_edgetpu=0.87,
        rice_eyeriss=0.67,
        rice_fpga=0.67,
        rice_pixel3=0.61,
        rice_raspi4=0.65,
        true_630=0.76,
        true_640=0.76,
        true_a76=0.74,
        eagle_gtx=0.69,
        eagle_cpu_855=0.88,
        eagle_dsp_855=0.89,
        eagle_gpu_855=0.74,
        eagle_i7=0.68,
        eagle_jetson=0.84,
        eagle_jetson_16=0.80,
    ),
    rice_pixel3=dict(rice_edgegpu=0.62, rice_edgetpu=0.46, rice_raspi4=0.96, rice_eyeriss=0.72, rice_fpga=0.87),
)
AFTER = dict(
    rice_pixel3=dict(rice_edgegpu=0.94, rice_edgetpu=0.92, rice_raspi4=0.96, rice_eyeriss=0.99, rice_fpga=0.99)
)
PAIRS = {
    ('rice_edgegpu', 'rice_edgetpu'): 0.63,
    ('rice_pixel3', 'rice_raspi4'): 0.92,
    ('true_vpu', 'rice_edgetpu'): 0.87,
    ('eagle_cpu_855', 'eagle_jetson'): 0.95,
    ('rice_edgegpu', 'rice_eyeriss'): 0.50,
    ('eagle_gtx', 'eagle_i7'): 0.99,
}
z = data('latency/oneproxy/nb201_subset.npz')
ms = {str(d): l.astype(float) for d, l in zip(z['devices'], z['latency_ms'].T)}
M = monotonicities(
    {d: np.nan_to_num(l, nan=-1.0) for d, l in ms.items()}
)  # the paper ranks networks that failed on a device, -1 ms, first
names, X = list(ms), np.c_[one_hot(z['arch_ops']), np.ones(len(z['arch_ops']))]
cut = lambda v: np.floor(100 * v + 1e-9) / 100
write(
    'oneproxy_matrix', [{'device': n} | {m: round(float(v), 4) for m, v in zip(names, row)} for n, row in zip(names, M)]
)
read = [
    (cut(M[names.index(p), names.index(t)]), v) for p, row in FIGURE.items() if p == 'true_vpu' for t, v in row.items()
] + [(cut(M[names.index(p), names.index(t)]), v) for (p, t), v in PAIRS.items()]
print(
    f'{sum(abs(a - b) < 1e-6 for a, b in read)} of {len(read)} entries that were read in the figure agree to two digits, cut off'
)
print(
    'differ:',
    [
        (p, t, round(float(M[names.index(p), names.index(t)]), 4), v)
        for p, t, v in [('true_vpu', t, v) for t, v in FIGURE['true_vpu'].items()] + [(*k, v) for k, v in PAIRS.items()]
        if abs(cut(M[names.index(p), names.index(t)]) - v) > 1e-6
    ],
)
rows = []
for proxy in ('true_vpu', 'rice_pixel3'):
    w = proxy_weights(X, ms[proxy])
    for target in names:
        if target == proxy:
            continue
        after = {}
        for n in (60, 20):
            for seed in range(a.seeds):
                order = np.random.default_rng(seed).permutation(np.flatnonzero(~np.isnan(ms[target])))
                train, held, rest = order[:n], order[n : n + 10], order[n + 10 :]
                model = adapt(w, X[train], ms[target][train], X[held], ms[target][held])
                after.setdefault(n, []).append(monotonicity(model.predict(X[rest]), ms[target][rest]))
        rows.append(
            dict(
                proxy=proxy,
                target=target,
                before=round(float(M[names.index(proxy), names.index(target)]), 3),
                without_failed=round(monotonicity(ms[proxy], ms[target]), 3),
                figure=FIGURE[proxy].get(target),
                linear=round(monotonicity(X @ w, ms[target]), 3),
                after_60=round(float(np.mean(after[60])), 3),
                spread_60=round(float(np.std(after[60])), 3),
                after_20=round(float(np.mean(after[20])), 3),
                spread_20=round(float(np.std(after[20])), 3),
                published_after=AFTER.get(proxy, {}).get(target),
            )
        )
if a.seeds == 5:
    write('oneproxy', rows)
