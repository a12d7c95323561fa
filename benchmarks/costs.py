"Architectures priced a second by cost.batch, and the time of the expected cost with its gradient."

import argparse, statistics, time, torch
from machine import machine, write
from nas_suite.choices import alphas, decode, sample, structure
from nas_suite.costs import macs
from nas_suite.relaxation import probabilities
from nas_suite.spaces.mobile import proxyless

a = argparse.ArgumentParser(description=__doc__)
a.add_argument('--rows', type=int, default=1_000_000)
a.add_argument('--repeats', type=int, default=7)
a = a.parse_args()
torch.set_num_threads(1)
machine(threads=1)
space = proxyless()
t0 = time.perf_counter()
cost = macs(space, space.input_shape)
build = time.perf_counter() - t0
drawn, rows = sample(space, a.rows, torch.Generator().manual_seed(0)), []
few = decode(space, drawn[:2000])


def timed(f):
    t0 = time.perf_counter()
    f()
    return time.perf_counter() - t0


s = structure(space)  # walked once, as a search does


def gradient():
    e = cost.expected(probabilities(s))
    torch.autograd.grad(e, alphas(s))


gradient()
cost.batch(drawn[:10])
for r in range(a.repeats):
    rows.append(
        dict(
            repeat=r,
            batch_per_s=a.rows / timed(lambda: cost.batch(drawn)),
            one_by_one_per_s=len(few) / timed(lambda: [cost(x) for x in few]),
            expected_and_gradient_ms=1e3 * timed(gradient),
        )
    )
m = {k: statistics.median(x[k] for x in rows) for k in rows[0]}
print(
    f"tables built in {build:.2f} s; {m['batch_per_s']:,.0f} architectures a second by cost.batch, {m['batch_per_s'] / m['one_by_one_per_s']:,.0f} x one by one ({m['one_by_one_per_s']:,.0f}); "
    f"expected cost and its gradient {m['expected_and_gradient_ms']:.2f} ms"
)
write('costs', rows)
