"A small transformer space for sequences (C, T) and images (C, H, W): elastic width, heads, MLP ratio and depth."

import math, torch
from einops.layers.torch import Rearrange, Reduce
from torch import nn
from torch.nn import functional as F
from nas_suite.choices import Space, one_of
from nas_suite.layers import *


class Attend(nn.Module):
    "Scaled dot-product attention, each (B, heads, T, dim). It has no choice: its input says how many heads there are."

    def forward(self, q, k, v):
        return F.scaled_dot_product_attention(q, k, v)


class Attention(nn.Module):
    "Self-attention of an elastic number of heads: (B, T, C) -> (B, T, C)."

    def __init__(self, width, count, dim: int):
        super().__init__()
        inner = heads(count, dim)
        # a head that is half there counts by half of its values, so that queries and keys are not masked
        self.query, self.key = (ElasticLinear(width, inner, masked=False) for _ in range(2))
        self.value = ElasticLinear(width, inner)
        self.split, self.merge = Rearrange('b t (h d) -> b h t d', d=dim), Rearrange('b h t d -> b t (h d)')
        self.attend = Attend()
        self.project = ElasticLinear(inner, width)

    def forward(self, x):
        q, k, v = (self.split(f(x)) for f in (self.query, self.key, self.value))
        return self.project(self.merge(self.attend(q, k, v)))


class Block(nn.Module):
    "Attention and an MLP, each after a layer norm and beside a shortcut: (B, T, C) -> (B, T, C)."

    unit = True

    def __init__(self, width, count, dim: int, ratio):
        super().__init__()
        middle = scaled(width, ratio)
        self.norm1, self.attention = ElasticLayerNorm(width), Attention(width, count, dim)
        self.norm2, self.act = ElasticLayerNorm(width), nn.GELU()
        self.expand, self.contract = ElasticLinear(width, middle), ElasticLinear(middle, width)

    def forward(self, x):
        x = x + self.attention(self.norm1(x))
        return x + self.contract(self.act(self.expand(self.norm2(x))))


class Transformer(Space):
    "Patches, positions, blocks, and the mean over positions: (B, C, T) or (B, C, H, W) -> (B, classes)."

    def __init__(
        self,
        input_shape=(8, 16),
        classes: int = 5,
        patch: int = 4,
        widths=(16, 24, 32),
        counts=(1, 2, 4),
        dim: int = 8,  # Heads, and channels of each
        ratios=(1, 2),
        depths=(1, 2, 3),
    ):
        super().__init__()
        self.input_shape = tuple(input_shape)
        channels, *lengths = input_shape
        conv, axes = (ElasticConv1d, 't') if len(lengths) == 1 else (ElasticConv2d, 'h w')
        self.width = one_of(*widths)
        self.patches = conv(channels, self.width, patch, stride=patch)
        self.flatten = Rearrange(f'b c {axes} -> b ({axes}) c')
        n = math.prod(length // patch for length in lengths)
        self.register_buffer('positions', torch.arange(n), persistent=False)
        self.position = ElasticEmbedding(n, self.width)
        blocks = [Block(self.width, one_of(*counts), dim, one_of(*ratios)) for _ in range(max(depths))]
        self.blocks = ElasticDepth(blocks, one_of(*depths))
        self.norm, self.mean = ElasticLayerNorm(self.width), Reduce('b t c -> b c', 'mean')
        self.head = ElasticLinear(self.width, classes)

    def forward(self, x):
        x = self.flatten(self.patches(x)) + self.position(self.positions)
        return self.head(self.mean(self.norm(self.blocks(x))))
