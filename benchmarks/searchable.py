"""Networks of torchvision, and three that the tests write, as spaces: seconds of the processor that the conversion takes
and those that the table of MACs takes, the choices found and how many networks they are, what stays, the difference of the
largest from the given network, the largest difference of ten random architectures from what is extracted, the difference
of ONNX Runtime's output for one of them, the MACs of the given network, the smallest share of them, and the largest within
half of them of 2,000 random architectures. Weights are random. A call goes on where the last one stopped."""

import argparse, csv, sys, time, torch
from collections import Counter
from pathlib import Path
from machine import machine, write
from nas_suite.choices import choices, count, decode, largest, sample, smallest
from nas_suite.costs import macs
from nas_suite.extraction import check, extract
from nas_suite.front.export import export
from nas_suite.spaces.searchable import searchable
from torch.utils._pytree import tree_leaves
from torchvision import models

sys.path.insert(0, str(Path(__file__).parents[1] / 'tests'))
from given_networks import Ecapa, Encoder, UNet, lively

photo = 3, 224, 224
published = """resnet18 resnet50 mobilenet_v2 mobilenet_v3_small efficientnet_b0 convnext_tiny densenet121 regnet_y_400mf
    shufflenet_v2_x1_0 vit_b_16 swin_t""".split()
NETWORKS = {name: (getattr(models, name), photo) for name in published}
NETWORKS['deeplabv3_mobilenet'] = lambda: models.segmentation.deeplabv3_mobilenet_v3_large(weights_backbone=None), photo
NETWORKS['u-net'] = lambda: UNet(32), (3, 128, 128)
NETWORKS['ecapa-tdnn'] = lambda: Ecapa(512, 80, 192), (80, 200)
NETWORKS['transformer encoder'] = lambda: Encoder(256, 8, 6, 100, 40), (100, 40)

results = Path(__file__).parent / 'results' / 'searchable.csv'


def difference(one, other) -> float:
    pairs = zip(tree_leaves(one), tree_leaves(other), strict=True)
    return max(float((a - b).abs().max()) for a, b in pairs)


def within(space, cost, limit: float, tries: int = 2000):
    "The costliest of random architectures within a limit; the smallest where none is."
    rows = sample(space, tries, torch.Generator().manual_seed(1))
    spent = cost.batch(rows)
    if not bool((spent <= limit).any()): return smallest(space)
    return decode(space, rows[[int(spent.masked_fill(spent > limit, -1).argmax())]])[0]


def onnx_difference(net, shape, folder: Path) -> float | str:
    "Of ONNX Runtime's output; where it cannot be written, why."
    written = export(net, shape, folder)
    return written.notes.get('onnx', written.difference)


@torch.no_grad()
def row(name: str, random: int, folder: Path) -> dict:
    make, shape = NETWORKS[name]
    torch.manual_seed(0)
    net, x = lively(make()), torch.randn(2, *shape)
    t0 = time.process_time()
    space = searchable(net, shape)
    t1 = time.process_time()
    cost = macs(space, shape)
    t2 = time.process_time()
    archs = [sample(space, generator=torch.Generator().manual_seed(i)) for i in range(random)]
    whole, half = cost(largest(space)), within(space, cost, cost(largest(space)) / 2)
    kinds = Counter(key.rpartition('.')[2].rstrip('0123456789') for key in choices(space))
    left = {layer: reason for layer, reason in space.left_out.items() if reason != 'it leaves the network'}
    return dict(
        network=name,
        convert_s=round(t1 - t0, 2),
        **{kind: kinds[kind] for kind in ('width', 'heads', 'kernel', 'depth', 'resolution')},
        networks=f'{float(count(space)):.1g}',
        stay=len(left),
        why='; '.join(f'{reason} ({n})' for reason, n in Counter(left.values()).most_common(3)),
        largest=difference(space(x, largest(space)), net(x)),
        extracted=max(check(space, arch, extract(space, arch), x) for arch in archs),
        onnx=onnx_difference(extract(space, archs[0]), shape, folder),
        macs_s=round(t2 - t1, 2),
        gmacs=round(whole / 1e9, 3),
        smallest=round(cost(smallest(space)) / whole, 3),
        half=round(cost(half) / whole, 3),
    )


def main():
    a = argparse.ArgumentParser(description=__doc__)
    a.add_argument('--networks', nargs='*', default=list(NETWORKS), choices=list(NETWORKS))
    a.add_argument('--random', type=int, default=10)
    a.add_argument('--folder', type=Path, default=Path('runs/searchable'))
    a = a.parse_args()
    torch.set_num_threads(1)
    machine(threads=1)
    rows = list(csv.DictReader(results.open())) if results.exists() else []
    for name in a.networks:
        if name in [r['network'] for r in rows]: continue
        rows.append(row(name, a.random, a.folder / name))
        print({key: value for key, value in rows[-1].items() if key != 'why'})
        write('searchable', rows)


if __name__ == '__main__': main()
