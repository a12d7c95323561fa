"A space whose bits, widths, kernels and operators are searched, of every layer that can have few bits."

from torch import nn
from nas_suite.choices import Space, one_of
from nas_suite.layers import (
    ElasticBatchNorm, MixedOp, QuantConv2d, QuantLinear, Zero, with_bits,
)  # fmt: skip


class FewBits(Space):
    input_shape = 1, 6, 6

    def __init__(self, steps='learned', relax='mixture', weights=(2, 8)):
        super().__init__()
        self.how = dict(steps=steps, relax=relax)
        width, bits = one_of(2, 4), one_of(*weights)
        self.first = QuantConv2d(1, width, one_of(1, 3), padding='same', bias=False, weights=bits, **self.how)
        self.norm, self.act = ElasticBatchNorm(width), nn.ReLU()
        self.depthwise = QuantConv2d(
            width, width, 3, stride=2, padding='same', groups=width, weights=bits, activations=4, **self.how
        )
        self.wide = QuantConv2d(width, 3, 1, weights=8, activations=one_of(2, 32), **self.how)
        given = with_bits(nn.Conv2d(3, 3, (3, 1), padding=(1, 0)), one_of(0, 1), 8, **self.how)
        self.mixed = MixedOp({'zero': Zero(), 'conv': given})
        self.last = QuantLinear(3, 3, weights=32, activations=8, **self.how)

    def forward(self, x):
        x = self.act(self.norm(self.first(x)))
        x = self.wide(self.depthwise(x))
        return self.last((x + self.mixed(x)).mean((2, 3)))
