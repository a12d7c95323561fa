"Small spaces for the tests: random ones, drawn by hypothesis, and a fixed one."

import random, torch
from hypothesis import strategies as st
from torch import nn
from nas_suite.choices import *
from nas_suite.layers import *


class Conv(nn.Module):
    "Convolution, then norm or none, then an activation."

    def __init__(self, dims, cin, cout, kernel=1, dilation=1, groups=1, norm=True, transform=False, affine=True):
        super().__init__()
        self.out_channels = cout
        self.conv = (ElasticConv1d, ElasticConv2d, ElasticConv3d)[dims - 1](
            cin, cout, kernel, padding='same', dilation=dilation, groups=groups, bias=not norm, transform=transform
        )
        self.bn = ElasticBatchNorm(cout, dims=dims, affine=affine) if norm else None
        self.act = nn.Tanh()

    def forward(self, x):
        y = self.conv(x)
        return self.act(y if self.bn is None else self.bn(y))


class Residual(nn.Module):
    def __init__(self, body, width):
        super().__init__()
        self.body, self.out_channels = body, width

    def forward(self, x):
        return x + self.body(x)


class Chain(nn.Module):  # not a Sequential, which would run its width
    def __init__(self, *parts):
        super().__init__()
        self.parts, self.out_channels = nn.Sequential(*parts), parts[-1].out_channels

    def forward(self, x):
        return self.parts(x)


class Both(nn.Module):
    "Two branches, one after the other along the channels."

    def __init__(self, a, b):
        super().__init__()
        self.a, self.b = a, b
        self.out_channels = concat(a.out_channels, b.out_channels)

    def forward(self, x):
        return torch.cat([self.a(x), self.b(x)], 1)


class Asks(nn.Module):
    "A Python `if` on a choice."

    def __init__(self, body, how, width):
        super().__init__()
        self.body, self.how, self.out_channels = body, how, width

    def forward(self, x):
        if self.how.value == 'skip':
            return x
        return self.body(x) * 2 if self.how.value == 'double' else self.body(x)


class Twice(nn.Module):
    "One block used in two places."

    def __init__(self, body, width):
        super().__init__()
        self.body, self.out_channels = body, width

    def forward(self, x):
        return self.body(self.body(x))


class Sums(nn.Module):
    "The running sum of the blocks of a variable depth."

    def __init__(self, blocks, depth, width):
        super().__init__()
        self.stage, self.out_channels = ElasticDepth(blocks, depth), width

    def forward(self, x):
        total = x
        for b in self.stage:
            x = b(x)
            total = total + x
        return total


class Collects(nn.Module):
    "All outputs of the blocks of a variable depth, one after the other."

    def __init__(self, blocks, depth, width):
        super().__init__()
        self.stage = ElasticDepth(blocks, depth)
        self.out_channels = (
            either(depth, [concat(*[width] * (d + 1)) for d in depth.options])
            if isinstance(depth, Choice)
            else concat(*[width] * (depth + 1))
        )

    def forward(self, x):
        outs = [x]
        for b in self.stage:
            x = b(x)
            outs.append(x)
        return torch.cat(outs, 1)


class Scale(nn.Module):
    "A parameter that is no layer's."

    def __init__(self, width):
        super().__init__()
        self.gain, self.out_channels = nn.Parameter(torch.tensor(1.5)), width

    def forward(self, x):
        return x * self.gain


class Stats(nn.Module):
    "Mean and standard deviation over what is not a channel; that of a masked channel is not 0, so it is masked again."

    def __init__(self, width):
        super().__init__()
        self.width = halves(width)

    def forward(self, x):
        x = x.flatten(2)
        return masked(torch.cat([x.mean(-1), (x.var(-1, unbiased=False) + 1e-3).sqrt()], 1), self.width)


class Mean(nn.Module):
    def forward(self, x):
        return x.flatten(2).mean(-1)


class Net(Space):
    def __init__(self, body, pool, head, shape):
        super().__init__()
        self.body, self.pool, self.head, self.input_shape = body, pool, head, shape

    def forward(self, x):
        return self.head(self.pool(self.body(x)))


class Builder:
    "Draws a space with at most `limit` combinations; `soft`: only what relaxation is defined for."

    def __init__(self, pick, dims, limit, soft):
        self.pick, self.dims, self.left, self.soft, self.widths, self.kernels = pick, dims, limit, soft, [], []

    def choice(self, *options, least=1):
        n = max(least, min(len(options), self.left, self.pick(2, 3)))
        self.left //= n
        return one_of(*options[-n:])

    def flag(self):
        return self.pick(False, True)

    def number(self, *options):
        return self.pick(*options) if self.left < 2 else self.choice(*options)

    def width(self, deep=0):
        kind = self.pick(
            *(['int', 'choice', 'choice', 'shared'] + ['scaled', 'grouped', 'concat', 'halves', 'either'] * (deep < 2))
        )
        if kind == 'int':
            return self.pick(2, 3)
        if kind == 'choice' or kind == 'shared' and not self.widths:
            w = self.number(4, 2, 3) if self.flag() else self.number(1, 2, 4)
            if isinstance(w, Choice):
                self.widths.append(w)
            return w
        if kind == 'shared':
            return self.pick(*self.widths)
        if kind == 'scaled':
            return scaled(
                self.width(deep + 1), self.number(0.5, 2) if self.flag() else self.pick(0.75, 2), self.pick(1, 2)
            )
        if kind == 'grouped':
            return grouped(halves(self.width(deep + 1)) if self.flag() else self.number(2, 4, 6), 2)
        if kind == 'concat':
            return concat(self.width(deep + 1), self.width(deep + 1))
        if kind == 'halves':
            return halves(self.width(deep + 1))
        if self.left < 2:
            return self.pick(2, 3)
        return (
            either(
                self.choice('a', 'b', least=2) if (c := self.pick(None, 1)) else self.choice('b', 'a', least=2),
                [self.width(deep + 1) for _ in range(2)],
            )
            if self.left < 4
            else self._either(deep)
        )

    def _either(self, deep):
        c = self.choice('x', 'y', least=2)
        return either(c, [self.width(deep + 1) for _ in range(len(c))])

    def kernel(self):
        if self.kernels and self.flag():
            return self.pick(*self.kernels)
        k = self.number(1, 3, 5)
        if isinstance(k, Choice):
            self.kernels.append(k)
        return k

    def conv(self, cin, cout):
        kind = self.pick('plain', 'norm', 'bottleneck', 'depthwise', 'groups')
        if kind == 'depthwise':
            return Chain(
                Conv(self.dims, cin, cout),
                Conv(self.dims, cout, cout, self.kernel(), self.pick(1, 2), groups=cout, transform=self.flag()),
            )
        if kind == 'groups':
            g = grouped(self.number(2, 4), 2)
            return Chain(
                Conv(self.dims, cin, g),
                Conv(self.dims, g, grouped(4, 2), self.kernel(), groups=2),
                Conv(self.dims, 4, cout),
            )
        if kind == 'bottleneck':
            return Chain(Conv(self.dims, cin, m := self.width(1)), Conv(self.dims, m, cout, norm=False))
        return Conv(
            self.dims,
            cin,
            cout,
            self.kernel(),
            self.number(1, 2) if self.flag() else 1,
            norm=kind == 'norm',
            affine=self.flag(),
        )

    def same(self, w, deep=0):
        "A block that keeps its width."
        kinds = (
            ['conv', 'residual']
            + ['mixed', 'mixed', 'depth', 'twice', 'scale'] * (deep < 2)
            + ['asks', 'sums'] * (not self.soft and deep < 2)
        )
        kind = self.pick(*kinds)
        if kind == 'conv':
            return self.conv(w, w)
        if kind == 'residual':
            return Residual(self.pick(self.mixed, self.conv)(w, w), w)
        if kind == 'mixed':
            return self.mixed(w, w, deep)
        if kind == 'twice':
            return Twice(self.same(w, deep + 1), w)
        if kind == 'scale':
            return Scale(w)
        if kind == 'asks':
            return Asks(self.conv(w, w), self.choice('once', 'skip', 'double'), w)
        depth = self.choice(0, 1, 2)
        blocks = [self.same(w, deep + 1) for _ in range(2)]
        if kind == 'sums':
            return Sums(blocks, depth, w)
        stage = ElasticDepth(blocks, depth)
        stage.out_channels = w
        return stage

    def mixed(self, cin, cout, deep=1):
        ops = [self.conv(cin, cout)]
        if cin is cout:
            ops += [self.pick(Zero, nn.Identity)()]
        if deep < 2 and cin is cout and self.left > 2:
            ops.append(self.same(cin, deep + 1))
        if self.left < len(ops):
            ops = ops[:1]
        self.left //= len(ops)
        m = MixedOp({f'op{i}': op for i, op in enumerate(ops)})
        m.out_channels = cout
        return m

    def net(self):
        shape = (2, 6) if self.dims == 1 else (2, 5, 5)
        parts = [Conv(self.dims, 2, self.width(), self.kernel())]
        for _ in range(self.pick(1, 2)):
            w = parts[-1].out_channels
            kind = self.pick(*(['same'] * 3 + ['change', 'both', 'of'] + ['collects'] * (not self.soft)))
            if kind == 'same':
                parts.append(self.same(w))
            elif kind == 'change':
                parts.append(self.conv(w, self.width()))
            elif kind == 'both':
                parts.append(Both(self.conv(w, self.width()), self.conv(w, self.width(1))))
            elif kind == 'of' and not self.soft and self.left > 2:
                self.left //= 2
                m = MixedOp(dict(a=self.conv(w, self.width(1)), b=self.conv(w, self.width(1))))
                m.out_channels = of(m)
                parts.append(m)
            elif kind == 'collects':
                parts.append(Collects([self.conv(w, w) for _ in range(2)], self.number(0, 1, 2), w))
        w = parts[-1].out_channels
        pool, into = self.pick((Mean(), w), (Stats(w), halves(w)))
        net = Net(nn.Sequential(*parts), pool, ElasticLinear(into, 3), shape)
        if self.dims == 2 and self.left > 1 and self.flag():
            net = Net(ElasticResolution(net, self.choice(4, 5, 6)), nn.Identity(), nn.Linear(3, 3), shape)
        return net


def off(a, b):
    "The largest difference of two results, in float64, relative to the largest value: other operations, other layouts, another batch round otherwise on each processor. The same operations must agree to the bit."
    assert a.dtype == b.dtype == torch.float64 and a.shape == b.shape and b.isfinite().all()
    return float((a - b).detach().abs().max() / b.detach().abs().max().clamp(min=1))


def shaken(space, seed=0):
    "Parameters and statistics at random values, so that nothing is equal by chance."
    g = torch.Generator().manual_seed(seed)
    for m in space.modules():
        if isinstance(m, nn.modules.batchnorm._BatchNorm):
            m.running_mean.normal_(generator=g)
            m.running_var.uniform_(0.5, 2, generator=g)
            if m.affine:
                with torch.no_grad():
                    m.weight.normal_(generator=g)
                    m.bias.normal_(generator=g)
        if isinstance(m, ElasticConv) and m.transforms is not None:
            with torch.no_grad():
                for p in m.transforms.values():
                    p.normal_(generator=g)
    return space


@st.composite
def spaces(draw, limit=24, soft=False):
    "Random small spaces."
    r = random.Random(draw(st.integers(0, 10**6)))  # a seed: more variety than drawing each part
    b = Builder(lambda *o: o[r.randrange(len(o))], r.randint(1, 2), limit, soft)
    torch.manual_seed(0)
    return shaken(b.net())


def rows(space):
    "All distinct architectures of a space, by enumeration."
    s = structure(space)
    return (
        canonical(
            s, torch.cartesian_prod(*(torch.tensor(c.survivors) for c in s.choices)).view(-1, len(s.choices))
        ).unique(dim=0)
        if s.choices
        else torch.zeros(1, 0, dtype=torch.long)
    )


def fixed(seed=0):
    "A space with everything in it, always the same."
    torch.manual_seed(seed)
    c, k = one_of(2, 4), one_of(1, 3)
    block = lambda: Residual(
        MixedOp(
            dict(
                zero=Zero(),
                conv=Conv(2, c, c, k),
                wide=Chain(Conv(2, c, m := scaled(c, one_of(1, 2), 2)), Conv(2, m, c)),
            )
        ),
        c,
    )
    stage = ElasticDepth([block(), block()], one_of(1, 2))
    return shaken(
        Net(
            nn.Sequential(Conv(2, 2, c, 3), stage, Conv(2, c, g := grouped(one_of(2, 4), 2))),
            Stats(g),
            ElasticLinear(halves(g), 3),
            (2, 5, 5),
        )
    )
