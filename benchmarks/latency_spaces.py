"""How well a latency table knows the networks of each task's space: 32 random networks that no calibration has seen, measured twice, against the table before and after calibration. Writes results/latency_spaces.csv.

python benchmarks/latency_spaces.py [--rounds 10] [--networks 32] [--only tdnn]
"""

import argparse, os, tempfile, time, warnings
import numpy as np, torch
from machine import machine, write
from scipy.stats import spearmanr
from nas_suite.choices import decode, sample
from nas_suite.latency import BusyMachine, calibrated_table, measure_archs, table
from nas_suite.spaces.mobile import proxyless
from nas_suite.spaces.segmenter import small_segmenter
from nas_suite.spaces.tdnn import small_tdnn

a = argparse.ArgumentParser(description=__doc__)
a.add_argument('--rounds', type=int, default=10)
a.add_argument('--networks', type=int, default=32)
a.add_argument('--calibrate', type=int, default=20)
a.add_argument('--only')
a = a.parse_args()
warnings.simplefilter('ignore', BusyMachine)
torch.set_num_threads(1)
machine(threads=1)
torch.manual_seed(0)
spaces = dict(
    classification=(
        proxyless(classes=10, image_size=32, stem=16, widths=(16, 24, 40), depths=(3, 3, 3), first=16, last=160),
        (3, 32, 32),
    ),
    segmentation=(small_segmenter(cuts=(12, 0)), (3, 64, 96)),
    speaker=(small_tdnn(), (40, 200)),
)
rows = []
for name, (space, shape) in spaces.items():
    if a.only not in (None, name):
        continue
    start, load = time.time(), os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as d:
        plain = table(space, shape, threads=1, rounds=a.rounds, calibrate=0, progress=False, cache=d)
    archs = decode(space, sample(space, a.calibrate + a.networks, torch.Generator().manual_seed(7)))
    mine, rest = archs[: a.calibrate], archs[a.calibrate :]
    timed = measure_archs(space, mine, shape, threads=1, rounds=2 * a.rounds)
    ms, reference = [timed.median_ms(n) for n in timed.names], float(np.median(timed.reference))
    line, corrected = (
        calibrated_table(plain, space, mine, ms, correct=c, reference_ms=reference) for c in (False, True)
    )
    chosen = calibrated_table(plain, space, mine, ms, reference_ms=reference)
    first, again = ([m['latency_ms'] for m in chosen.measure(space, rest, rounds=2 * a.rounds)] for _ in range(2))
    error = lambda p: 100 * float(np.median(np.abs(np.array(p) / first - 1)))
    print(
        f"\n{name}: {len(plain.entries)} units, {a.calibrate} networks for calibration, {len(rest)} others; {time.time() - start:.0f} s, load {load:.1f} to {os.getloadavg()[0]:.1f}, correction {'kept' if chosen.correction else 'not kept'}"
    )
    print(
        f"  measured again       Spearman {spearmanr(again, first).statistic:.3f}  median error {error(again):5.1f} %   (the ceiling)"
    )
    for how, t in (('sums', plain), ('line', line), ('line and correction', corrected)):
        p = [t(x) for x in rest]
        inside = [lo <= f <= hi for x, f in zip(rest, first) for lo, hi in [t.interval(x)]] if how != 'sums' else []
        print(
            f"  {how:<20} Spearman {spearmanr(p, first).statistic:.3f}  median error {error(p):5.1f} %"
            + (f"   {np.mean(inside):.0%} in the 95 % interval" if inside else '')
        )
        rows += [
            dict(
                space=name,
                predictor=how,
                network=i,
                predicted_ms=round(v, 5),
                measured_ms=round(f, 5),
                again_ms=round(g, 5),
                inside=int(inside[i]) if inside else '',
                load=round(load, 1),
            )
            for i, (v, f, g) in enumerate(zip(p, first, again))
        ]
write('latency_spaces', rows)
