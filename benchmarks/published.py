"NAS-Bench-201's and FBNet's spaces in our layers, their features, and the shared latencies of their networks."

import os, tempfile, numpy as np, torch
from pathlib import Path
from torch import nn
from nas_suite.choices import Space
from nas_suite.latency.features import FEATURES, space_features
from nas_suite.layers import MixedOp, Zero

shared = Path(os.environ.get('NAS_SUITE_SHARED', Path(__file__).parents[2] / 'shared')) / 'data'


def data(name):
    "An .npz of the shared data as a dict."
    if not (path := shared / name).exists():
        raise SystemExit(f"this benchmark needs the shared data {name} (set NAS_SUITE_SHARED to its folder)")
    with np.load(path) as z:
        return {k: z[k] for k in z.files}


class Cell(nn.Module):
    "Every edge from node i to j > i is searched; a node is the sum of its edges. Edges in NAS-Bench-201's order."

    unit = True

    def __init__(self, c):
        super().__init__()
        conv = lambda k: nn.Sequential(nn.ReLU(), nn.Conv2d(c, c, k, padding=k // 2, bias=False), nn.BatchNorm2d(c))
        self.edges = nn.ModuleDict(
            {
                f'{i}{j}': MixedOp(
                    dict(none=Zero(), skip=nn.Identity(), conv1x1=conv(1), conv3x3=conv(3), pool=nn.AvgPool2d(3, 1, 1))
                )
                for j in range(1, 4)
                for i in range(j)
            }
        )

    def forward(self, x):
        nodes = [x]
        for j in range(1, 4):
            nodes.append(sum(self.edges[f'{i}{j}'](nodes[i]) for i in range(j)))
        return nodes[-1]


class NASBench201(Space):
    "One cell at 16 channels: the published network repeats it, five times at each of three sizes, between parts that never change, so all features are in proportion to those of one."

    input_shape = 16, 32, 32

    def __init__(self):
        super().__init__()
        self.cell = Cell(16)

    def forward(self, x):
        return self.cell(x)


class Block(nn.Module):
    "FBNet's block: 1x1 (in groups, shuffled), depthwise, 1x1, and a shortcut where it fits."

    def __init__(self, cin, c, expand, k, stride, groups):
        super().__init__()
        m, self.residual = cin * expand, cin == c and stride == 1
        self.body = nn.Sequential(
            nn.Conv2d(cin, m, 1, groups=groups, bias=False),
            nn.BatchNorm2d(m),
            nn.ReLU(),
            *([nn.ChannelShuffle(groups)] if groups > 1 else []),
            nn.Conv2d(m, m, k, stride, k // 2, groups=m, bias=False),
            nn.BatchNorm2d(m),
            nn.ReLU(),
            nn.Conv2d(m, c, 1, groups=groups, bias=False),
            nn.BatchNorm2d(c),
        )

    def forward(self, x):
        return x + self.body(x) if self.residual else self.body(x)


class FBNet(Space):
    "The CIFAR form: 22 layers of nine operators, options in the order of `arch_ops`."

    input_shape = 3, 32, 32
    blocks = dict(
        k3_e1=(1, 3, 1),
        k3_e1_g2=(1, 3, 2),
        k3_e3=(3, 3, 1),
        k3_e6=(6, 3, 1),
        k5_e1=(1, 5, 1),
        k5_e1_g2=(1, 5, 2),
        k5_e3=(3, 5, 1),
        k5_e6=(6, 5, 1),
    )

    def __init__(self):
        super().__init__()
        layers, cin = [nn.Sequential(nn.Conv2d(3, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU())], 16
        for c, n, s in ((16, 1, 1), (24, 4, 1), (32, 4, 2), (64, 4, 2), (112, 4, 1), (184, 4, 2), (352, 1, 1)):
            for i in range(n):
                stride = s if i == 0 else 1
                skip = (
                    nn.Identity()
                    if cin == c and stride == 1
                    else nn.Sequential(nn.Conv2d(cin, c, 1, stride, bias=False), nn.BatchNorm2d(c), nn.ReLU())
                )
                layers.append(
                    MixedOp(
                        {k: Block(cin, c, e, w, stride, g) for k, (e, w, g) in self.blocks.items()} | dict(skip=skip)
                    )
                )
                cin = c
        self.layers = nn.Sequential(
            *layers,
            nn.Conv2d(cin, 1504, 1, bias=False),
            nn.BatchNorm2d(1504),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(1504, 100),
        )

    def forward(self, x):
        return self.layers(x)


def featured(name, space, ops):
    "The features of architectures, given as option indices; kept in the temporary folder, since tracing every cell takes minutes."
    path = Path(tempfile.gettempdir()) / 'nas_suite-benchmarks' / f'{name}-{len(FEATURES)}.npz'
    if path.exists():
        with np.load(path) as z:
            return z['features']
    found = space_features(space)(torch.as_tensor(ops.astype(int)))
    path.parent.mkdir(exist_ok=True)
    np.savez(tmp := path.with_suffix(f'.{os.getpid()}.npz'), features=found)
    os.replace(tmp, path)
    return found


def columns(found):
    "What a predictor is given: features, options, and numbers of options; and their names."
    hot = one_hot(found['ops'])
    number = hot.reshape(*found['ops'].shape, -1).sum(1)
    return np.concatenate([found['features'], hot, number], 1), [
        *FEATURES,
        *(f'choice.{i}' for i in range(hot.shape[1])),
        *(f'count.{i}' for i in range(number.shape[1])),
    ]


def one_hot(ops):
    return np.eye(int(ops.max()) + 1)[ops.astype(int)].reshape(len(ops), -1)


def nasbench201():
    "Rows, features, and latencies in ms by device: 15,625 networks; those that only the subset has are NaN elsewhere."
    z, sub = data('latency/help/nb201.npz'), data('latency/oneproxy/nb201_subset.npz')
    latency = {str(d): l.astype(float) for d, l in zip(z['devices'], z['latency_ms'].T)}
    for d, l in zip(sub['devices'], sub['latency_ms'].T):
        if str(d).startswith(('eagle', 'true', 'rice_edge')):
            latency[str(d)] = np.full(len(z['arch_ops']), np.nan)
            latency[str(d)][sub['nb201_index']] = l
    return dict(
        ops=z['arch_ops'],
        features=featured('nasbench201', NASBench201(), z['arch_ops']),
        latency=latency,
        subset=sub['nb201_index'].astype(int),
        references=z['help_reference_idx'],
    )


def fbnet():
    "Rows, features, and latencies in ms by device of 5,000 networks."
    z = data('latency/help/fbnet.npz')
    return dict(
        ops=z['arch_ops'],
        features=featured('fbnet', FBNet(), z['arch_ops']),
        latency={str(d): l.astype(float) for d, l in zip(z['devices'], z['latency_ms'].T)},
        references=z['help_reference_idx'],
    )
