"""Small networks of each kind that people have, as the tests of `searchable` take them: torchvision's own classes where
their constructors allow for few and narrow layers, and a U-Net, an ECAPA-TDNN and transformer encoders written by hand."""

from functools import partial
import torch
from torch import nn
from torch.nn import functional as F
from torchvision import models as published
from torchvision.models._utils import IntermediateLayerGetter
from torchvision.models.convnext import CNBlockConfig
from torchvision.models.efficientnet import MBConvConfig
from torchvision.models.mobilenetv3 import InvertedResidualConfig
from torchvision.models.regnet import BlockParams
from torchvision.models.resnet import BasicBlock, Bottleneck
from torchvision.models.segmentation.deeplabv3 import DeepLabHead, DeepLabV3
from nas_suite.spaces.searchable import searchable


class Double(nn.Sequential):
    "Two convolutions, the first with a batch norm, the second with a group norm."

    def __init__(self, channels, out):
        first = nn.Conv2d(channels, out, 3, padding=1), nn.BatchNorm2d(out), nn.ReLU(inplace=True)
        super().__init__(*first, nn.Conv2d(out, out, 3, padding=1), nn.GroupNorm(4, out), nn.ReLU(inplace=True))


class UNet(nn.Module):
    def __init__(self, width=8):
        super().__init__()
        self.a, self.b, self.c = Double(3, width), Double(width, 2 * width), Double(2 * width, 4 * width)
        self.up_b, self.up_a = nn.ConvTranspose2d(4 * width, 2 * width, 2, 2), nn.ConvTranspose2d(2 * width, width, 2, 2)
        self.down_b, self.down_a = Double(4 * width, 2 * width), Double(2 * width, width)
        self.pool, self.out = nn.MaxPool2d(2), nn.Conv2d(width, 5, 1)

    def forward(self, x):
        a = self.a(x)
        b = self.b(self.pool(a))
        b = self.down_b(torch.cat([b, self.up_b(self.c(self.pool(b)))], 1))
        return self.out(self.down_a(torch.cat([a, self.up_a(b)], 1)))


class Gate(nn.Module):
    "Squeeze-and-excitation over time."

    def __init__(self, width):
        super().__init__()
        self.squeeze, self.excite = nn.Conv1d(width, width // 2, 1), nn.Conv1d(width // 2, width, 1)

    def forward(self, x):
        return x * torch.sigmoid(self.excite(F.relu(self.squeeze(x.mean(2, keepdim=True)))))


class Scales(nn.Module):
    "Res2Net: the channels in groups, each of which is added to the next."

    def __init__(self, width, dilation, scale=4):
        super().__init__()
        kind = partial(nn.Conv1d, width // scale, width // scale, 3, padding=dilation, dilation=dilation)
        self.convs = nn.ModuleList(kind() for _ in range(scale - 1))
        self.norms = nn.ModuleList(nn.BatchNorm1d(width // scale) for _ in range(scale - 1))

    def forward(self, x):
        first, *others = torch.chunk(x, len(self.convs) + 1, 1)
        out = [first]
        for conv, norm, part in zip(self.convs, self.norms, others):
            out.append(norm(F.relu(conv(part if len(out) == 1 else part + out[-1]))))
        return torch.cat(out, 1)


def timed(channels, out, kernel=1):
    return nn.Sequential(nn.Conv1d(channels, out, kernel, padding=kernel // 2), nn.ReLU(), nn.BatchNorm1d(out))


class TimeBlock(nn.Module):
    def __init__(self, width, dilation):
        super().__init__()
        self.inner = nn.Sequential(timed(width, width), Scales(width, dilation), timed(width, width), Gate(width))

    def forward(self, x):
        return x + self.inner(x)


class Ecapa(nn.Module):
    "ECAPA-TDNN: attentive statistics over time of the concatenation of all blocks."

    def __init__(self, width=16, features=10, classes=5):
        super().__init__()
        self.stem, self.blocks = timed(features, width, 5), nn.ModuleList(TimeBlock(width, d) for d in (2, 3))
        self.last = nn.Conv1d(2 * width, 2 * width, 1)
        self.attention = nn.Sequential(timed(6 * width, 8), nn.Tanh(), nn.Conv1d(8, 2 * width, 1))
        self.norm, self.head = nn.BatchNorm1d(4 * width), nn.Linear(4 * width, classes)

    def forward(self, x):
        x, found = self.stem(x), []
        for block in self.blocks:
            x = block(x)
            found.append(x)
        x = F.relu(self.last(torch.cat(found, 1)))
        times = x.size(-1)
        mean, deviation = x.mean(2, keepdim=True), (x.var(2, keepdim=True) + 1e-5).sqrt()
        whole = torch.cat([x, mean.expand(-1, -1, times), deviation.expand(-1, -1, times)], 1)
        weight = torch.softmax(self.attention(whole), 2)
        mean = (x * weight).sum(2)
        deviation = ((x**2 * weight).sum(2) - mean**2).clamp(min=1e-5).sqrt()
        return self.head(self.norm(torch.cat([mean, deviation], 1)))


class Attention(nn.Module):
    "Attention as timm writes it."

    def __init__(self, width, heads):
        super().__init__()
        self.heads, self.scale = heads, (width // heads) ** -0.5
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x):
        batch, tokens, width = x.shape
        qkv = self.qkv(x).reshape(batch, tokens, 3, self.heads, width // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        weight = ((q * self.scale) @ k.transpose(-2, -1)).softmax(-1)
        return self.proj((weight @ v).transpose(1, 2).reshape(batch, tokens, width))


class EncoderLayer(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.norm1, self.attention, self.norm2 = nn.LayerNorm(width), Attention(width, heads), nn.LayerNorm(width)
        self.feed = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))

    def forward(self, x):
        x = x + self.attention(self.norm1(x))
        return x + self.feed(self.norm2(x))


class Encoder(nn.Module):
    "A transformer encoder whose positions and factors are its own parameters."

    def __init__(self, width=32, heads=4, layers=3, tokens=6, features=10):
        super().__init__()
        self.embed, self.norm, self.head = nn.Linear(features, width), nn.LayerNorm(width), nn.Linear(width, 5)
        self.position, self.factor = nn.Parameter(torch.randn(1, tokens, width)), nn.Parameter(torch.randn(width))
        self.layers = nn.Sequential(*(EncoderLayer(width, heads) for _ in range(layers)))

    def forward(self, x):
        return self.head(self.norm(self.layers(self.embed(x) * self.factor + self.position)).mean(1))


class OfPyTorch(nn.Module):
    "PyTorch's own transformer encoder."

    def __init__(self, width=32, **how):
        super().__init__()
        layer = nn.TransformerEncoderLayer(width, 4, 2 * width, **how)
        self.embed, self.head = nn.Linear(10, width), nn.Linear(width, 5)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)

    def forward(self, x):
        return self.head(self.encoder(self.embed(x)))


class Words(nn.Module):
    "Takes numbers of words."

    def __init__(self, width=32):
        super().__init__()
        self.table, self.hidden, self.out = nn.Embedding(20, width), nn.Linear(width, 2 * width), nn.Linear(2 * width, 5)

    def forward(self, x):
        return self.out(F.gelu(self.hidden(self.table(x)))).mean(1)


class Inverted(nn.Module):
    "Two convolutions and an inverted block between them, of three channels."

    def __init__(self, width=16):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU())
        self.wide = nn.Sequential(nn.Conv2d(width, width, 5, padding=2, groups=width), nn.BatchNorm2d(width), nn.ReLU())
        self.last, self.out, self.head = nn.Conv2d(width, width, 1), nn.Conv2d(width, width, 3), nn.Linear(width, 3)

    def forward(self, x):
        x = self.stem(x)
        return self.head(self.out(x + self.last(self.wide(x))).relu().mean((2, 3)))


def given():
    "The space of a small network."
    torch.manual_seed(0)
    return searchable(lively(Inverted()), (3, 8, 8))


def mobile_v3():
    kind = partial(InvertedResidualConfig, dilation=1, width_mult=1.0)
    blocks = [kind(16, 3, 16, 16, True, 'RE', 2), kind(16, 5, 48, 24, True, 'HS', 1), kind(24, 5, 48, 24, True, 'HS', 1)]
    return published.MobileNetV3(blocks, 32, num_classes=5)


def efficient():
    blocks = [MBConvConfig(1, 3, 1, 16, 16, 1, 1.0, 1.0), MBConvConfig(4, 5, 2, 16, 24, 2, 1.0, 1.0)]
    return published.EfficientNet(blocks, dropout=0.2, num_classes=5)


def deeplab():
    backbone = published.MobileNetV2(5, inverted_residual_setting=[[1, 16, 1, 1], [4, 24, 2, 2]]).features
    return DeepLabV3(IntermediateLayerGetter(backbone, {'4': 'out'}), DeepLabHead(1280, 5, (2, 3)))


image, sound, tokens = (3, 32, 32), (10, 20), (6, 10)
vit = partial(published.VisionTransformer, 32, 8, 2, 4, 32, 64, num_classes=5)
convnext = partial(published.ConvNeXt, [CNBlockConfig(16, 32, 2), CNBlockConfig(32, None, 2)], num_classes=5)
maxvit = partial(published.MaxVit, image[1:], 8, 4, [8, 16], [1, 1], 4, 0.0, num_classes=5)
swin = partial(published.SwinTransformer, [4, 4], 16, [2, 2], [2, 4], [4, 4], num_classes=5)

NETWORKS = {  # name -> how it is made, the shape of an input
    'resnet, basic': (lambda: published.ResNet(BasicBlock, [2, 1, 1, 1], num_classes=5), image),
    'resnet, bottleneck': (lambda: published.ResNet(Bottleneck, [2, 2, 1, 1], num_classes=5), image),
    'mobilenet v2': (
        lambda: published.MobileNetV2(5, inverted_residual_setting=[[1, 16, 1, 1], [4, 24, 3, 2]]),
        image,
    ),
    'mobilenet v3': (mobile_v3, image),
    'efficientnet': (efficient, image),
    'convnext': (convnext, image),
    'densenet': (lambda: published.DenseNet(8, (2, 2), 16, bn_size=2, num_classes=5), image),
    'regnet': (
        lambda: published.RegNet(BlockParams([1, 2], [16, 32], [8, 8], [1, 1], [2, 2], 0.25), num_classes=5),
        image,
    ),
    'shufflenet': (lambda: published.ShuffleNetV2([2, 2, 1], [24, 32, 64, 128, 64], num_classes=5), image),
    'vision transformer': (vit, image),
    'swin': (swin, image),
    'maxvit': (maxvit, image),
    'deeplab': (deeplab, image),
    'u-net': (UNet, image),
    'ecapa': (Ecapa, sound),
    'encoder': (Encoder, tokens),
    'encoder of pytorch': (partial(OfPyTorch, batch_first=True, norm_first=True), tokens),
    'encoder of pytorch, time first': (OfPyTorch, tokens),
}


def lively(net: nn.Module) -> nn.Module:
    "A network in eval mode without zeros where training begins with them: in statistics, norms, and the last layer."
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for m in net.modules():
            if getattr(m, 'running_var', None) is not None:
                m.running_mean.normal_(0, 0.1, generator=generator)
                m.running_var.uniform_(0.5, 1.5, generator=generator)
            if 'Norm' in type(m).__name__ and getattr(m, 'weight', None) is not None:
                m.weight.uniform_(0.5, 1.5, generator=generator)
                m.bias.normal_(0, 0.2, generator=generator)
            if hasattr(m, 'layer_scale'): m.layer_scale.uniform_(0.5, 1, generator=generator)
        for p in net.parameters():
            if not p.any(): p.normal_(0, 0.1, generator=generator)
    return net.eval()


def made(name: str) -> nn.Module:
    "One of them, always the same."
    torch.manual_seed(0)
    return lively(NETWORKS[name][0]())
