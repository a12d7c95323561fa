"ProxylessNAS's space: its size, its costs against an independent count, its sizes of image, and what it refuses."

import pytest, torch
from torch import nn
from nas_suite.choices import choices, count, decode, encode, largest, restrict, sample, smallest
from nas_suite.costs import macs, params
from nas_suite.extraction import check, extract
from nas_suite.layers import Zero
from nas_suite.relaxation import draw_path
from nas_suite.choices import selecting
from nas_suite.spaces.mobile import MBConv, MobileBlock, mobilenet_v2_like, proxyless
from spaces import off


def test_the_published_space():
    space = proxyless()
    assert len(choices(space)) == 21 and count(space) == 7**15 * 6**6
    assert sum('zero' in c.options for c in choices(space).values()) == 15
    assert sorted({tuple(c.options) for c in choices(space).values()}, key=len)[0] == (
        'mb3_k3',
        'mb3_k5',
        'mb3_k7',
        'mb6_k3',
        'mb6_k5',
        'mb6_k7',
    )
    widths = [b.mix.ops['mb3_k3'].point_linear.conv.out_channels for b in space.blocks if isinstance(b, MobileBlock)]
    assert widths == [24] * 4 + [40] * 4 + [80] * 4 + [96] * 4 + [192] * 4 + [320]
    strides = [b.mix.ops['mb3_k3'].depth_conv.conv.stride[0] for b in space.blocks if isinstance(b, MobileBlock)]
    assert [i for i, s in enumerate(strides) if s == 2] == [0, 4, 8, 16]
    for b in space.blocks:
        if isinstance(b, MobileBlock) and any(isinstance(op, Zero) for op in b.mix.ops.values()):
            assert b.residual


def counted(net, shape):
    "MACs and parameters by hooks: those of convolutions and linear layers; parameters of everything."
    total = []

    def note(m, _, y):
        if isinstance(m, nn.Conv2d):
            total.append(y[0].numel() * m.in_channels // m.groups * m.kernel_size[0] * m.kernel_size[1])
        elif isinstance(m, nn.Linear):
            total.append(m.in_features * m.out_features)

    hooks = [m.register_forward_hook(note) for m in net.modules()]
    with torch.no_grad():
        net.eval()(torch.zeros(1, *shape))
    for h in hooks:
        h.remove()
    return sum(total), sum(p.numel() for p in net.parameters())


@pytest.mark.parametrize(
    'width,size,channels,classes',
    [(1.0, 224, 3, 1000), (0.35, 96, 1, 5), (0.25, 8, 1, 10)],
)
def test_sizes(width, size, channels, classes):
    space, shape = proxyless(width, classes, size, channels).eval(), (channels, size, size)
    m, p = macs(space, shape), params(space, shape)
    for arch in [
        largest(space),
        smallest(space),
        mobilenet_v2_like(space),
        *decode(space, sample(space, 2, torch.Generator().manual_seed(0))),
    ]:
        net = extract(space, arch)
        assert check(space, arch, net) == 0 and net(torch.zeros(2, *shape)).shape == (2, classes)
        assert (m(arch), p(arch)) == counted(net, shape)
    assert count(proxyless(width, classes, size, channels)) == 7**15 * 6**6


@pytest.mark.parametrize('size,least', [(8, 2), (16, 4), (32, 4), (64, 4), (96, 6), (112, 4), (224, 7)])
def test_the_last_map_does_not_vanish(size, least):
    space = proxyless(0.25, image_size=size).eval()
    seen = []
    space.pool.register_forward_hook(lambda m, x, y: seen.append(x[0].shape[-1]))
    with torch.no_grad():
        space(torch.zeros(1, 3, size, size), smallest(space))
    assert seen == [least]


def test_all_operators_begin_as_one_function():
    space = (
        proxyless(classes=10, image_size=16, widths=(16, 24), depths=(3, 3), stem=8, first=8, last=32).double().train()
    )
    x, outs = torch.randn(8, 3, 16, 16, dtype=torch.float64), []
    for i in range(6):
        path = draw_path(space, torch.Generator().manual_seed(i), uniform=True)
        with torch.no_grad(), selecting(path):
            outs.append(space(x))
    assert all(off(y, outs[0]) < 1e-9 for y in outs[1:])
    ops = [m for m in space.modules() if isinstance(m, MBConv)]
    assert all(o.depth_conv.conv.weight.requires_grad for o in ops) and len(
        {o.depth_conv.conv.weight.data_ptr() for o in ops}
    ) == len(ops)  # alike, not tied


def test_fused_operators():
    space = proxyless(
        classes=10, image_size=16, widths=(16, 24), depths=(1, 2), last=32, kernels=[3], fused=[(3, 1), (5, 3)]
    )
    again = proxyless(**space.config)
    assert [*choices(again)['blocks.2.mix.choice'].options] == ['mb3_k3', 'mb6_k3', 'fused1_k3', 'fused3_k5']
    by_hand = mobilenet_v2_like(space)
    assert {str(option) for option in by_hand.values()} == {'mb6_k3'}
    block = space.blocks[3]
    assert block.residual and not block.mix.ops['fused3_k5'](torch.randn(4, 24, 8, 8)).any()
    block.mix.ops['fused1_k3'](torch.randn(4, 24, 8, 8)).sum().backward() # near the identity, and not stuck there
    assert block.mix.ops['fused1_k3'].conv.bn.weight.grad.abs().min() > 0
    assert mobilenet_v2_like(restrict(space, dict.fromkeys(choices(space), 'fused1_k3'))) is None


def test_the_hand_designed_network():
    space = proxyless(0.5, image_size=32)
    arch = mobilenet_v2_like(space)
    assert set(arch.values()) == {'mb6_k3'} and encode(space, arch).shape == (1, 21)
    assert mobilenet_v2_like(nn.Linear(2, 2)) in (None, {})


@pytest.mark.parametrize(
    'kwargs,what',
    [
        (dict(width=0), 'width'),
        (dict(classes=0), 'classes'),
        (dict(image_size=2), '4 x 4'),
        (dict(widths=(8,), depths=(1, 2)), 'one entry a stage'),
        (dict(kernels=(4,)), 'odd'),
        (dict(kernels=()), 'kernels needs at least one'),
        (dict(strides=(1,)), 'one entry a stage'),
        (dict(expands=(0.5,)), 'expands is out of range'),
        (dict(fused=[(4, 1)]), 'odd'),
        (dict(fused=[(3, 0.5)]), 'expansion of a fused'),
    ],
)
def test_bad_sizes(kwargs, what):
    with pytest.raises(ValueError, match=what):
        proxyless(**kwargs)
