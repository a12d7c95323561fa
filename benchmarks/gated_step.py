"""Time and saved-for-backward bytes of a weight step and of an architecture step in each gradient mode, against
training one fixed path. 12 choices of 6 or 7 operators, 32 px, batch 64. The active path is the fixed one in all of
them, the other path is drawn at random. The fixed path is drawn at random too, several times; below it the cheapest and
dearest operators throughout."""

import argparse, random, statistics, time, torch
from torch.nn import functional as F
from machine import kept_bytes, machine, write
from measured import gates
from nas_suite.choices import Selection, selecting, structure, weights
from nas_suite.extraction import extract
from nas_suite.relaxation import modes
from nas_suite.spaces.mobile import mbconv_option, proxyless
from nas_suite.strategies.steps import architecture_gradients, weight_step


def path_of(s, expand, kernel):
    return {c: c.options.index(mbconv_option(expand, kernel)) for c in s.choices}


def main():
    a = argparse.ArgumentParser(description=__doc__)
    a.add_argument('--rounds', type=int, default=12)
    a.add_argument('--paths', type=int, default=10)
    a.add_argument('--batch', type=int, default=64)
    a.add_argument('--threads', type=int, default=1)
    a.add_argument('--seed', type=int, default=0)
    a = a.parse_args()
    torch.set_num_threads(a.threads)
    torch.manual_seed(a.seed)
    random.seed(a.seed)
    machine(threads=a.threads, batch=a.batch)
    space = proxyless(classes=10, image_size=32, widths=(24, 40, 80), depths=(4, 4, 4), strides=(2, 2, 2)).train()
    s, x, y = structure(space), torch.randn(a.batch, 3, 32, 32), torch.randint(0, 10, (a.batch,))
    assert len(s.choices) == 12
    drawn = [{c: random.randrange(len(c)) for c in s.choices} for _ in range(a.paths)]
    cases = [('drawn', p) for p in drawn] + [
        ('expand 3, kernel 3', path_of(s, 3, 3)),
        ('expand 6, kernel 7', path_of(s, 6, 7)),
    ]
    times, size = {}, {}  # by (path, step)
    for label, active in cases:
        net = extract(space, {n: c.options[active[c]] for n, c in zip(s.names, s.choices)})
        loss = lambda: F.cross_entropy(space(x), y)
        sgd = lambda ps: torch.optim.SGD(ps, 0.01, 0.9, nesterov=True)
        opt_net, opt = sgd(net.parameters()), sgd(weights(space))

        def train_net():
            opt_net.zero_grad(set_to_none=True)
            F.cross_entropy(net(x), y).backward()
            opt_net.step()

        steps = dict(
            fixed=train_net,
            weight=lambda: weight_step(space, Selection(active), loss, opt),
            **{m: lambda m=m: architecture_gradients(space, gates(s, active, m), loss) for m in modes},
        )

        def forward(name):
            if name == 'fixed':
                return F.cross_entropy(net(x), y)
            with selecting(Selection(active) if name == 'weight' else gates(s, active, name)):
                return loss()

        for n in steps:
            for p in weights(space):
                p.requires_grad_(n in ('fixed', 'weight'))
            size.setdefault((label, n), []).append(
                kept_bytes(lambda: forward(n), [*space.parameters(), *net.parameters()])
            )
        for p in weights(space):
            p.requires_grad_(True)
        for f in steps.values():
            f()
        for _ in range(a.rounds):
            for n in random.sample(list(steps), len(steps)):
                t = time.perf_counter()
                steps[n]()
                times.setdefault((label, n), []).append(time.perf_counter() - t)
    rows, mean = [], statistics.mean

    def quantiles(ratios):
        return [statistics.quantiles(ratios, n=10)[i] for i in (0, 4, 8)]

    for label, n in times:
        # a drawn path costs what the draw makes it cost: the ratio of means over all draws; its spread is over rounds, each with the same draws
        per = a.rounds if label == 'drawn' else 1
        means = lambda n: [mean(times[label, n][r::per]) for r in range(per)] if label == 'drawn' else times[label, n]
        low, mid, high = quantiles([t / f for t, f in zip(means(n), means('fixed'))])
        rows.append(
            dict(
                path=label,
                step=n,
                ms=1e3 * mean(times[label, n]),
                time_ratio=mid,
                low=low,
                high=high,
                mib=mean(size[label, n]) / 2**20,
                memory_ratio=mean(size[label, n]) / mean(size[label, 'fixed']),
            )
        )
        print(
            '{path:22} {step:8} {ms:8.1f} ms   {time_ratio:5.2f} x time ({low:.2f} to {high:.2f})   {mib:7.1f} MiB   {memory_ratio:5.2f} x memory'.format(
                **rows[-1]
            )
        )
    write('gated_step', rows)


if __name__ == '__main__':
    main()
