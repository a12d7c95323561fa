"""What it costs that a network is a slice of a supernet: a training step, a batch of one, memory saved for backward,
extraction, and an architecture's evaluation, each beside the same static network."""

import argparse, statistics, time, torch
from torch import nn
from machine import kept_bytes, machine, write
from measured import timed
from nas_suite.choices import decode, largest, sample, smallest
from nas_suite.extraction import extract
from nas_suite.spaces.mobile import ofa_mobilenet_v3
from nas_suite.spaces.tdnn import efficient_tdnn
from nas_suite.strategies.evolution import Accuracy
from nas_suite.tasks.classification import classification

a = argparse.ArgumentParser(description=__doc__)
a.add_argument('--rounds', type=int, default=15)
a.add_argument('--batch', type=int, default=32)
a.add_argument('--space', choices=['mobile', 'tdnn'], default='mobile')
a.add_argument('--archs', nargs='+', help='default: all four')
a = a.parse_args()
torch.set_num_threads(1)
machine(threads=1, batch=a.batch)
torch.manual_seed(0)
space = dict(
    mobile=lambda: ofa_mobilenet_v3(classes=10, image_size=32, dropout=0.0), tdnn=lambda: efficient_tdnn(frames=200)
)[a.space]()
form, shape = torch.channels_last if a.space == 'mobile' else torch.contiguous_format, space.input_shape
space.to(memory_format=form)
archs = {
    'smallest': smallest(space),
    'largest': largest(space),
    **{f'random {i + 1}': x for i, x in enumerate(decode(space, sample(space, 2, torch.Generator().manual_seed(0))))},
}
x = torch.randn(a.batch, *shape).to(memory_format=form)
y = torch.randint(10, (a.batch,))


def step(net, arch=None):
    out = net(x) if arch is None else net(x, arch)
    nn.functional.cross_entropy(out, y).backward()
    net.zero_grad()  # as training does; else the gradients of all weights would be added up


def saved(f):
    return kept_bytes(f, space.parameters())


def compared(*fs):
    "Seconds of this process's work in each of several functions, in turns; and the ratio to the first, in each round."
    times = [*timed(dict(enumerate(fs)), a.rounds).values()]
    return [(statistics.median(ts), statistics.median(t / t0 for t, t0 in zip(ts, times[0]))) for ts in times]


rows = []
for name, arch in archs.items():
    if a.archs and name not in a.archs:
        continue
    static = extract(space, arch)
    static.train(), space.train()
    (t0, _), (t1, ratio) = compared(lambda: step(static), lambda: step(space, arch))
    own = {p.untyped_storage().data_ptr() for p in static.parameters()}
    m0, m1 = (
        saved(lambda: step(static))
        - sum(p.untyped_storage().nbytes() for p in static.parameters() if p.requires_grad and p.ndim > 1),
        saved(lambda: step(space, arch)),
    )
    static.eval(), space.eval()
    one = torch.randn(1, *shape)
    with torch.inference_mode():
        (e0, _), (e1, slice_ratio), (e2, extracted_ratio) = compared(
            lambda: static(one), lambda: space(one, arch), lambda s=extract(space, arch): s(one)
        )
    took = compared(lambda: extract(space, arch))[0][0]
    rows.append(
        dict(
            arch=name,
            step_ms=1e3 * t1,
            static_ms=1e3 * t0,
            step_ratio=ratio,
            saved_mib=m1 / 2**20,
            static_mib=m0 / 2**20,
            memory_ratio=m1 / m0,
            one_ms=1e3 * e0,
            sliced_ratio=slice_ratio,
            extracted_ratio=extracted_ratio,
            extraction_ms=1e3 * took,
        )
    )
    print(
        f"{name:10} step {1e3 * t1:7.1f} ms, {ratio:.3f} x static; saved {m1 / 2**20:6.1f} MiB, {m1 / m0:.3f} x; batch of one: {slice_ratio:.3f} x as a slice, {extracted_ratio:.3f} x extracted; extraction {1e3 * took:.1f} ms"
    )
if a.space == 'mobile':
    task = classification('digits')
    s = ofa_mobilenet_v3(
        classes=10,
        image_size=8,
        in_channels=1,
        widths=(16, 24, 32),
        depths=(1, 2, 3),
        kernels=(3, 5),
        last=(128, 160),
        stem=16,
        first=16,
        dropout=0.0,
    )
    acc, some = Accuracy(s, task), sample(s, 20, torch.Generator().manual_seed(0))
    t = time.perf_counter()
    acc(some)
    t = (time.perf_counter() - t) / len(acc.known)
    print(f'an architecture evaluated for real on digits, extraction and re-calibration within: {1e3 * t:.0f} ms')
    rows.append(dict(arch='evaluation', one_ms=1e3 * t))
write('supernet_step' + '_tdnn' * (a.space == 'tdnn') + f'_{a.batch}' * (a.batch != 32), rows)
