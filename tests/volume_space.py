"A small space over volumes (C, D, H, W) that is decoded to a larger map: transposed convolutions, norms of groups and of channels, PReLU."

from einops.layers.torch import Reduce
from torch import nn
from nas_suite.choices import Space, one_of
from nas_suite.layers import *


class Volumes(Space):
    "(B, C, D, H, W) -> (B, classes)."

    def __init__(self, input_shape=(2, 2, 3, 3), classes: int = 3):
        super().__init__()
        self.input_shape = tuple(input_shape)
        few, many = one_of(4, 8), one_of(4, 8)
        self.encode = nn.Sequential(
            ElasticConv3d(input_shape[0], few, one_of(1, 3), padding='same', bias=False),
            ElasticBatchNorm(few, dims=3),
            ElasticPReLU(few),
        )
        self.flat = Reduce('b c d h w -> b c h w', 'mean')
        self.grow = nn.Sequential(
            ElasticConvTranspose2d(few, many, one_of(2, 4), stride=2, padding='same', bias=False),
            ElasticGroupNorm(2, many),
            ElasticPReLU(many),
        )
        self.refine = nn.Sequential(
            ElasticConvTranspose2d(many, many, 3, padding=1, groups=many, bias=False),
            ElasticInstanceNorm(many, affine=True),
            nn.ReLU(),
        )
        self.mean, self.head = Reduce('b c h w -> b c', 'mean'), ElasticLinear(many, classes)

    def forward(self, x):
        x = self.grow(self.flat(self.encode(x)))
        return self.head(self.mean(x + self.refine(x)))
