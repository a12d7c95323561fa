"Pictures that are bright on one side: which side (a class), and which pixels are (segmentation). Two tasks over the same pictures."

import torch
from torch.utils.data import TensorDataset
from nas_suite.spaces.heads import mobile_heads
from nas_suite.tasks.base import seeded_weights
from nas_suite.tasks.classification import Classification
from nas_suite.tasks.segmentation import Segmentation

shape = 3, 16, 16


def pictures(n, seed, size=16):
    "Pictures (n, 3, size, size), the bright side of each (n,), and which pixels are bright (n, size, size)."
    generator = torch.Generator().manual_seed(seed)
    side = torch.arange(n) % 2
    right = (torch.arange(size) >= size // 2).expand(n, 3, size, size)
    bright = right == side.bool()[:, None, None, None]
    x = torch.where(bright, 1.0, -1.0) + 0.3 * torch.randn(n, 3, size, size, generator=generator)
    return x, side, bright[:, 0].long().contiguous()


def what(size=16, few=8, **more):
    "Which side is bright?"
    parts = [pictures(n, seed, size) for seed, n in enumerate((2 * few, few, few))]
    data = [TensorDataset(x, y) for x, y, _ in parts]
    return Classification('side', *data, 2, (3, size, size), names=['left', 'right'], **more)


def where(size=16, few=8, **more):
    "Which pixels are bright?"
    parts = [pictures(n, seed, size) for seed, n in enumerate((2 * few, few, few))]
    data = [TensorDataset(x, y) for x, _, y in parts]
    return Segmentation('bright', *data, ['dark', 'bright'], (3, size, size), **more)


def pair(size=16):
    return dict(what=what(size), where=where(size))


backbone = dict(widths=(8, 12), depths=(1, 2), kernels=(3, 5), expands=(2, 3), stem=8, first=8)
heads = dict(
    what=dict(kind='classes', classes=2, widths=[8, 16]), where=dict(kind='pixels', classes=2, widths=[4, 8], finest=2)
)


def shared_space(seed=0, size=16, **more):
    "A small backbone with both heads."
    with seeded_weights(seed):
        return mobile_heads(heads, size, backbone | more)
