"""Hand-designed networks in any size, which found ones are compared with: MobileNetV2-like, ENet-like, a plain chain of
the segmenter's cells, and ECAPA-like. Each of those that a task calls gives functions that make a network, by its
size."""

import torch
from functools import partial
from torch import nn
from torch.nn import functional as F
from nas_suite.choices import choices
from nas_suite.extraction import extract
from nas_suite.spaces.mobile import proxyless
from nas_suite.spaces.segmenter import ssr_segmenter
from nas_suite.spaces.tdnn import efficient_tdnn, tdnn_arch


def fitting(took: dict, budget: float, over: float = 0.03):  # took: size -> latency
    "The slowest of some sizes that takes at most so much more than a budget; the fastest where none does."
    within = [size for size, ms in took.items() if ms <= (1 + over) * budget]
    return max(within, key=took.get) if within else min(took, key=took.get)


# ---------------------------------------------------------------- images


def _mobilenet(space, width: float, depth: int) -> nn.Module:
    depths = [min(depth, n) for n in space.config['depths']]
    hand = proxyless(**space.config | dict(depths=depths)).by_hand(width)
    return extract(hand.space, hand.arch)


def mobilenets_v2(space) -> dict:  # of `proxyless`, whose stages and strides they have
    "MobileNetV2-like networks: kernel 3 and the largest expansion everywhere, and at most so many blocks a stage."
    widths = (0.25, 0.35, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.15, 1.3, 1.5)
    sizes = [(width, depth) for depth in range(1, max(space.config['depths']) + 1) for width in widths]
    return {f'width {width}, depth {depth}': partial(_mobilenet, space, width, depth) for width, depth in sizes}


def _plain_chain(space, width: float, depth: int) -> nn.Module:
    fixed = dict(width=width, depths=[depth] * len(space.config['depths']), kernels=[3], expands=[3], fused=[(3, 1)])
    chain = proxyless(**space.config | fixed)
    return extract(chain, dict.fromkeys(choices(chain), 'fused1_k3'))


def plain_chains(space) -> dict:  # of `proxyless`, whose stages and strides they have
    "Plain convolutions of kernel 3 with shortcuts where shapes allow, so many a stage."
    widths = (0.5, 0.75, 1.0, 1.25, 1.5, 1.75, 2.0, 2.5, 3.0)
    sizes = [(width, depth) for depth in (1, 2, 3) for width in widths]
    return {f'width {width}, depth {depth}': partial(_plain_chain, space, width, depth) for width, depth in sizes}


# ---------------------------------------------------------------- segmentation


def _normed(channels: int) -> list:
    return [nn.BatchNorm2d(channels), nn.ReLU()]


class Bottleneck(nn.Module):
    """ENet's: a projection to a quarter, a convolution (dilated, or in two parts), and back, beside the identity or a
    pooling."""

    def __init__(self, i: int, o: int, dilation: int = 1, long: bool = False, stride: int = 1):
        super().__init__()
        m = max(4, o // 4)
        middle = [nn.Conv2d(m, m, 3, padding=dilation, dilation=dilation, bias=False)]
        if long:
            first = nn.Conv2d(m, m, (5, 1), padding=(2, 0), bias=False)
            middle = [first, nn.Conv2d(m, m, (1, 5), padding=(0, 2), bias=False)]
        project = [nn.Conv2d(i, m, stride, stride, bias=False), *_normed(m)]
        expand = [nn.Conv2d(m, o, 1, bias=False), nn.BatchNorm2d(o), nn.Dropout2d(0.05)]
        self.main = nn.Sequential(*project, *middle, *_normed(m), *expand)
        self.pool, self.extra = nn.MaxPool2d(2) if stride == 2 else nn.Identity(), o - i

    def forward(self, x):
        y, x = self.main(x), self.pool(x)
        return F.relu(y + F.pad(x, (0, 0, 0, 0, 0, self.extra))) if self.extra >= 0 else F.relu(y)


def _context(channels: int) -> list:
    "ENet's eight bottlenecks of growing dilation."
    kinds = [(1, False), (2, False), (1, True), (4, False), (1, False), (8, False), (1, True), (16, False)]
    return [Bottleneck(channels, channels, dilation, long) for dilation, long in kinds]


class ENetLike(nn.Module):
    "ENet's encoder with `width` times its channels (Paszke et al., 2016), and a light, bilinear decoder."

    def __init__(self, classes: int, width: float):
        super().__init__()
        a, b, c = 16, max(8, round(16 * width) * 4), max(16, round(32 * width) * 4)
        self.first, self.pool = nn.Conv2d(3, a - 3, 3, 2, 1, bias=False), nn.MaxPool2d(2)
        begin = [*_normed(a), Bottleneck(a, b, stride=2), *(Bottleneck(b, b) for _ in range(4))]
        self.encoder = nn.Sequential(*begin, Bottleneck(b, c, stride=2), *_context(c), *_context(c))
        narrow = [nn.Conv2d(c, b, 1, bias=False), *_normed(b), nn.Upsample(scale_factor=2, mode='bilinear')]
        self.decoder = nn.Sequential(*narrow, Bottleneck(b, b), Bottleneck(b, b), nn.Conv2d(b, classes, 1))

    def forward(self, x):
        low = self.decoder(self.encoder(torch.cat([self.first(x), self.pool(x)], 1)))
        return F.interpolate(low, size=x.shape[2:], mode='bilinear', align_corners=False)


def enets(classes: int) -> dict:
    "ENet-like networks."
    widths = (0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.2, 1.4, 1.7, 2.0, 2.4)
    return {f'width {width}': partial(ENetLike, classes, width) for width in widths}


def plain_segmenter(classes: int, image_size: tuple, depths: tuple, width: int) -> nn.Module:
    "The segmenter's cells without choices: dilation 1, full resolution, `width` channels and twice as many."
    fixed = dict(dilations=(1,), factors=(1,), cuts=(0,), dropout=(0.03, 0.1), grids=(1, 2, 3, 6))
    sizes = dict(channels=(width, 2 * width), depths=tuple((n,) for n in depths), branch=12, low=24, head=48)
    return extract(ssr_segmenter(classes, image_size, **sizes, **fixed), {})


def plain_segmenters(classes: int, image_size: tuple, widths=range(18, 41, 2)) -> dict:
    "Plain chains of one or two, and two to four, cells."
    sizes = [(depths, width) for depths in ((1, 2), (1, 3), (2, 3), (2, 4)) for width in widths]
    return {f'depths {d}, width {w}': partial(plain_segmenter, classes, image_size, d, w) for d, w in sizes}


# ---------------------------------------------------------------- speech


def ecapa_like(bands: int, embedding: int, frames: int, width: int) -> nn.Module:
    "Three blocks of one width, kernels 5, 3, 3, 3, and three times as wide at the end (Desplanques et al., 2020)."
    sizes = dict(widths=(width,), last=(3 * width,), kernels=(3, 5), depths=(3,), scale=4, attention=32)
    space = efficient_tdnn(bands, embedding, frames=frames, **sizes)
    return extract(space, tdnn_arch(space, (3, [width] * 4, [5, 3, 3, 3], 3 * width)))


def ecapas(bands: int, embedding: int, frames: int, widths=range(8, 97, 4)) -> dict:
    "ECAPA-like networks."
    return {f'width {width}': partial(ecapa_like, bands, embedding, frames, width) for width in widths}
