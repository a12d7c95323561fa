"Time to extract a 20-block mobile network from its supernet, and the difference in its output (it must be exactly 0)."

import argparse, copy, statistics, time, torch
from machine import machine, write
from nas_suite.choices import decode, largest, sample
from nas_suite.extraction import check, extract
from nas_suite.spaces.mobile import proxyless

a = argparse.ArgumentParser(description=__doc__)
a.add_argument('--repeats', type=int, default=20)
a = a.parse_args()
torch.set_num_threads(1)
env = machine(threads=1)
space = proxyless(image_size=224).eval()
archs = [largest(space), *decode(space, sample(space, a.repeats, torch.Generator().manual_seed(0)))]
rows, x = [], torch.randn(1, 3, 224, 224, generator=torch.Generator().manual_seed(0))
extract(space, archs[0])
for i, arch in enumerate(archs):
    t0 = time.perf_counter()
    net = extract(space, arch, compare=False)
    t1 = time.perf_counter()
    copy.deepcopy(net)
    t2 = time.perf_counter()
    extract(space, arch)
    t3 = time.perf_counter()
    rows.append(
        dict(
            arch=i,
            extract_ms=1e3 * (t1 - t0),
            deepcopy_ms=1e3 * (t2 - t1),
            compared_ms=1e3 * (t3 - t2),
            difference=check(space, arch, net, x),
        )
    )
ms, base, compared = (statistics.median(r[k] for r in rows) for k in ('extract_ms', 'deepcopy_ms', 'compared_ms'))
print(
    f"{len(rows)} architectures of a 22-block network: {ms:.1f} ms an extraction (median; {min(r['extract_ms'] for r in rows):.1f} to {max(r['extract_ms'] for r in rows):.1f}), "
    f"{ms / base:.2f} x a deepcopy of the result ({base:.1f} ms); {compared:.1f} ms with the comparison of both on a random input; largest difference {max(r['difference'] for r in rows)}"
)
write('extraction', rows)
