"""Choices with a constant, noisy preference and nothing else: how many end as one option under each regularizer, with options removed or not, with the competition begun anew after removals or not, and with the regularizer acting from the start or after 40 % of the steps; and how often that is the preferred option. No network; about a minute."""

import torch
from machine import machine, write
from torch import nn
from nas_suite.choices import alphas, structure
from nas_suite.layers import MixedOp
from nas_suite.relaxation import probabilities, undecided_by
from nas_suite.strategies.steps import scatter
from nas_suite.strategies.regularized import _forget, regularized, shrink

torch.set_num_threads(1)
machine(threads=1)
groups, options, steps, times = 60, 6, 320, 30


def end(regularizer, weights, removal, anew, onset, seed, noise=3.0, scale=0.01, weight=0.06, total=16.0):
    "Shares of choices that are one-hot, and whose first option is the preferred one; options left."
    space = nn.Sequential(*(MixedOp([nn.Identity() for _ in range(options)]) for _ in range(groups)))
    g = torch.Generator().manual_seed(seed)
    liked, view = scale * torch.randn(groups, options, generator=g), space
    scatter(space, seed)
    opt = torch.optim.Adam(alphas(space), total / steps)
    events, s, left = (
        {round(steps * (i + 1) / (times + 1)) for i in range(times)} if removal else (),
        structure(space),
        undecided_by(space),
    )
    for step in range(steps):
        p = torch.stack(list(probabilities(s, weights).values()))
        loss = ((liked + noise * scale * torch.randn(groups, options, generator=g)) * p).sum() + groups * regularized(
            s, regularizer, weights, dict(operator=weight), left if step >= onset * steps else {}
        )
        for c, d in zip(s.choices, torch.autograd.grad(loss, [c.alpha for c in s.choices])):
            c.alpha.grad = (d + 1e-5 * c.alpha.detach()) * c.alive
        opt.step()
        if step in events:
            smaller = shrink(view, [], weights=weights)
            before = [c.alpha.detach().clone() for c in structure(smaller).choices]
            _forget(view, smaller, opt)
            if not anew:
                with torch.no_grad():
                    for c, a in zip(structure(smaller).choices, before):
                        c.alpha[c.alive] = a[c.alive]
            if smaller is not view:
                view, s, left = smaller, structure(smaller), undecided_by(smaller)
    p = torch.stack([q.detach() for q in probabilities(s, weights).values()])
    alive = (p > 0.1 * p.amax(1, keepdim=True)).sum(1).double()
    return dict(
        one_hot=float((p.amax(1) > 0.99).double().mean()),
        left=float(alive.mean()),
        preferred=float((p.argmax(1) == liked.argmin(1)).double().mean()),
    )


rows = []
for regularizer, weights, removal, anew, onset in (
    ('none', 'sigmoid', False, False, 0),
    ('none', 'sigmoid', True, False, 0),
    ('none', 'sigmoid', True, True, 0),
    ('ssr', 'sigmoid', False, False, 0),
    ('ssr', 'sigmoid', True, False, 0),
    ('ssr', 'sigmoid', True, True, 0),
    ('ssr', 'sigmoid', True, True, 0.4),
    ('ssr', 'softmax', False, False, 0),
    ('ssr', 'softmax', True, True, 0),
    ('ssr', 'softmax', True, True, 0.4),
):
    each = [end(regularizer, weights, removal, anew, onset, seed) for seed in range(3)]
    rows.append(
        dict(
            regularizer=regularizer,
            weights=weights,
            removal=removal,
            anew=anew,
            onset=onset,
            **{k: round(sum(e[k] for e in each) / 3, 3) for k in each[0]},
            spread=round(max(e['one_hot'] for e in each) - min(e['one_hot'] for e in each), 3),
        )
    )
    print(rows[-1], flush=True)
write('ssr_toy', rows)
