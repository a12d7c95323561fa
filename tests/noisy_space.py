"A space whose options are told apart only through noise: for schedules, short and long."

import torch
from torch import nn
from nas_suite.choices import structure
from nas_suite.costs import CostModel, Term
from nas_suite.layers import MixedOp


class Plus(nn.Module):
    "x + value, with noise: what an option is worth, as a batch shows it."

    def __init__(self, value, noise, generator, learns=False):
        super().__init__()
        self.value, self.noise, self.generator = value, noise, generator
        self.shift = nn.Parameter(torch.zeros(())) if learns else None  # a weight, which changes nothing

    def forward(self, x):
        out = x + self.value + self.noise * torch.randn((), generator=self.generator)
        return out if self.shift is None else out + 0 * self.shift


def noisy(seed=0, choices=6, options=4, noise=10.0, scale=0.1, learns=False):
    "A space whose dearer options are worth more on the whole, its cost, and the bounds of that."
    g = torch.Generator().manual_seed(seed)
    times = 0.2 + torch.rand(choices, options, generator=g)
    worth = scale * (torch.randn(choices, options, generator=g) + 3 * (times - times.mean(1, keepdim=True)))
    space = nn.Sequential(*(MixedOp([Plus(v, noise * scale, g, learns) for v in row]) for row in worth.tolist()))
    s = structure(space)
    terms = [Term(f'{d}', (d,), row.double()) for d, row in enumerate(times)]
    cost = CostModel(s, {c: d for d, c in enumerate(s.choices)}, terms, 'time')
    return space, cost, float(times.amin(1).sum()), float(times.amax(1).sum())
