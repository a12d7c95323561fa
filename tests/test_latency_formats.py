"Published tables: every key by hand, sums against a walk over the architecture, and files that are none."

import os, zlib
from pathlib import Path
import pytest, torch
from torch import nn
from nas_suite.choices import *
from nas_suite.costs import cheapest
from nas_suite.latency import calibrated_table, load_table, look_up, published_keys, read_published
from nas_suite.spaces.mobile import ofa_mobilenet_v3, proxyless
from nas_suite.spaces.tdnn import efficient_tdnn, published, tdnn_arch

shared = Path(os.environ.get('NAS_SUITE_SHARED', '../shared')) / 'data' / 'latency' / 'lut'


def ms(key):
    return 1 + zlib.crc32(key.encode()) % 1000 / 100


def write(path, keys, spread='std'):
    path.write_text('\n'.join(f'{k}: {{count: 5, mean: {ms(k)}, {spread}: 0.25}}' for k in sorted(keys)))
    return path


def draws(space, n=20):
    return decode(space, sample(space, n, torch.Generator().manual_seed(0)))


# ---------------------------------------------------------------- Once-for-All: the walk of its latency estimator, by hand


def ofa_keys(arch, sizes=(224, 112), widths=(24, 40, 80, 112, 160), strides=(2, 2, 2, 1, 2), classes=1000):
    "All keys of a network of MobileNetV3's space, in order."
    image, h = sizes
    out, w = (
        [
            f'Conv-input:{image}x{image}x3-output:{h}x{h}x16',
            f'expanded_conv-input:{h}x{h}x16-output:{h}x{h}x16-expand:16-kernel:3-stride:1-idskip:1-se:0-hs:0',
        ],
        16,
    )
    for n, (o, s) in enumerate(zip(widths, strides)):
        for j in range(arch[f'units.{n}.depth']):
            k, e = (arch[f'units.{n}.blocks.{j}.{what}'] for what in ('kernel', 'expand'))
            stride = s if j == 0 else 1
            h2 = h // stride
            out.append(
                f'expanded_conv-input:{h}x{h}x{w}-output:{h2}x{h2}x{o}-expand:{w * e}-kernel:{k}-stride:{stride}-idskip:{int(w == o and stride == 1)}-se:{int(n in (1, 3, 4))}-hs:{int(n >= 2)}'
            )
            h, w = h2, o
    return out + [
        f'Conv_1-input:{h}x{h}x{w}-output:{h}x{h}x960',
        f'AvgPool2D-input:{h}x{h}x960-output:1x1x960',
        'Conv_2-input:1x1x960-output:1x1x1280',
        f'Logits-input:1x1x1280-output:{classes}',
    ]


@pytest.fixture(scope='module')
def ofa():
    return ofa_mobilenet_v3(resolutions=(224,), depths=(2, 3), kernels=(3, 5), expands=(3, 4))


def test_a_published_table_of_once_for_all_is_a_cost(ofa, tmp_path):
    archs = [*draws(ofa), largest(ofa), smallest(ofa)]
    keys = {k for a in [*draws(ofa, 2000), *archs] for k in ofa_keys(a)}
    path = write(tmp_path / 'note10.yaml', keys)
    t = load_table(path, ofa, ofa.input_shape)
    for a in archs:
        assert t(a) == pytest.approx(sum(map(ms, ofa_keys(a))))
    assert (
        t.environment == dict(device='note10')
        and not t.here()
        and t.interval(archs[0]) is None
        and set(t.spread.values()) == {(5, 0.25)}
    )
    wrong = keys - {ofa_keys(largest(ofa))[3]}
    write(path, wrong)
    with pytest.raises(ValueError) as e:
        load_table(path, ofa, ofa.input_shape)
    head, *lines = str(e.value).splitlines()
    assert 'lacks 1 of the' in head and lines == [ofa_keys(largest(ofa))[3]]  # by the table's own key
    parts = [
        write(tmp_path / f'{i}.yaml', p) for i, p in enumerate((sorted(keys)[::2], sorted(keys)[1::2]))
    ]  # several files of one device
    assert load_table(parts, ofa, ofa.input_shape)(archs[0]) == pytest.approx(t(archs[0]))
    measured = [1.5 * t(a) + 3 for a in archs]
    better = calibrated_table(t, ofa, archs[:8], measured[:8])
    assert better(archs[9]) == pytest.approx(measured[9]) and better.interval(archs[9])[1] > better(archs[9])


# ---------------------------------------------------------------- ProxylessNAS


def test_a_published_table_of_proxylessnas_is_a_cost(tmp_path):
    space = proxyless(depths=(2, 1, 1, 1, 1, 1))

    def keys(arch):
        out, w, h = (
            [
                'Conv-input:224x224x3-output:112x112x32',
                'expanded_conv-input:112x112x32-output:112x112x16-expand:1-kernel:3-stride:1-idskip:0',
            ],
            16,
            112,
        )
        for i, (o, s) in enumerate(((24, 2), (24, 1), (40, 2), (80, 2), (96, 1), (192, 2), (320, 1))):
            op = arch[f'blocks.{i + 1}.mix.choice']
            if op == 'zero':
                continue
            e, k = op[2:].split('_k')
            out.append(
                f'expanded_conv-input:{h}x{h}x{w}-output:{h // s}x{h // s}x{o}-expand:{e}-kernel:{k}-stride:{s}-idskip:{int(s == 1 and w == o)}'
            )
            w, h = o, h // s
        return out + ['Conv_1-input:7x7x320-output:7x7x1280', 'Logits-input:7x7x1280-output:1000']

    every = {k for a in draws(space, 3000) for k in keys(a)}
    t = load_table(write(tmp_path / 'pixel1.yml', every, 'var'), space, space.input_shape)
    for a in draws(space):
        assert t(a) == pytest.approx(sum(map(ms, keys(a))))
    assert set(t.spread.values()) == {(5, 0.5)}  # a variance of .25


# ---------------------------------------------------------------- the tables that are there


@pytest.mark.skipif(not shared.exists(), reason=f'no {shared}')
def test_efficient_tdnns_table_is_a_cost_of_its_space():
    import pyarrow.parquet as pq

    rows = {r['group'] + r['key']: r['latency'] for r in pq.read_table(shared / 'tdnn_v100_80x300.parquet').to_pylist()}
    space = efficient_tdnn(widths=(256, 384, 512), last=(768, 1536), kernels=(3, 5), depths=3)
    t = load_table(shared / 'tdnn_v100_80x300.parquet', space, (80, 300), environment=dict(device='V100', batch=64))
    for name in ('Base', 'Mobile'):
        d, w, k, last = published[name]
        want = [
            f'layer1(in_channels=80, kernel_size={k[0]}, out_channels={w[0]})',
            *(f'blocks(channels={w[0]}, kernel_size={b}, mid_channels={a})' for a, b in zip(w[1:], k[1:])),
            f'catconv(in_channels={d * w[0]}, out_channels={last})',
            f'pool(in_dim={last})',
            f'embed(in_features={2 * last}, out_features=192)',
        ]
        assert t(tdnn_arch(space, published[name])) == pytest.approx(sum(rows[n] for n in want), rel=1e-6)
    assert t.batch_size == 64 and t.environment['device'] == 'V100' and 7 < cheapest(t)[0] < t(largest(space)) < 28
    with pytest.raises(ValueError, match=r'lacks \d+ of the') as e:
        load_table(shared / 'tdnn_v100_80x300.parquet', efficient_tdnn(widths=100 * 8, last=768, depths=2), (80, 300))
    assert 'layer1(in_channels=80, kernel_size=1, out_channels=800)' in str(e.value)


@pytest.mark.skipif(not shared.exists(), reason=f'no {shared}')
def test_tf_nas_table_keeps_its_stairs():
    with pytest.raises(ValueError, match="no column ms; its columns are key, cpu, gpu"):
        read_published(shared / 'tfnas_lut.parquet')
    cpu, gpu = (read_published(shared / 'tfnas_lut.parquet', column=c) for c in ('cpu', 'gpu'))
    assert (
        cpu.kind == 'tfnas'
        and len(cpu.entries) == 36481
        and cpu.entries['base'] > 0
        and cpu.entries.keys() == gpu.entries.keys()
    )

    def block(mid, k=3):
        return nn.Sequential(
            nn.Conv2d(16, mid, 1),
            nn.ReLU(),
            nn.Conv2d(mid, mid, k, 2, k // 2, groups=mid),
            nn.ReLU(),
            nn.Conv2d(mid, 24, 1),
        )

    of = lambda mid: look_up(cpu, published_keys(block(mid), ((1, 16, 112, 112),), 'tfnas'))
    assert published_keys(block(96), ((1, 16, 112, 112),), 'tfnas') == ['MBInvertedResBlock_112_16_0_24_k3_s2_relu|96']
    assert of(72) - of(64) == pytest.approx(7.24 - 3.92, abs=0.02) and of(64) - of(56) < 0.3 > of(80) - of(
        72
    )  # a step in the width, kept
    assert (
        published_keys(nn.Conv2d(3, 16, 3, 2, 1), ((1, 3, 224, 224),), 'tfnas') == []
        and look_up(cpu, published_keys(block(4000), ((1, 16, 112, 112),), 'tfnas')) is None
    )


# ---------------------------------------------------------------- files that are none


@pytest.mark.parametrize(
    'name, text, said',
    [
        ('a.yaml', ': :', 'damaged'),
        ('a.yaml', '', 'damaged'),
        ('a.yaml', '[1, 2]', 'damaged'),
        ('a.yaml', 'Conv-input: {count: 3}', 'damaged|known format'),
        ('a.yaml', 'expanded_conv-x: .nan', 'is nan'),
        ('a.yaml', 'something: 3.5', "known format; its keys look like 'something'"),
        ('a.csv', 'name,ms\nx,1\n', 'no column key'),
        ('a.csv', 'key,time\nx,1\n', 'no column ms'),
        ('a.csv', '', 'no column'),
        ('a.csv', 'key,ms\nexpanded_conv-x,fast\n', 'damaged'),
        ('a.parquet', 'PAR1', 'damaged'),
        ('a.pkl', '', 'is not .yaml'),
        ('a.yaml', '!!python/object/apply:os.getcwd []', 'damaged'),
    ],
)
def test_a_file_that_is_no_table_is_named(tmp_path, name, text, said):
    (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match=said) as e:
        read_published(tmp_path / name)
    assert name in str(e.value) and '\n' not in str(e.value)


def test_our_units_in_a_csv(tmp_path):
    from nas_suite.latency import tables

    space = proxyless(
        classes=3,
        image_size=8,
        in_channels=1,
        stem=8,
        first=0,
        widths=(8,),
        depths=(3,),
        strides=(1,),
        last=16,
        kernels=(3,),
        expands=(1, 2),
    )
    units = tables.units(space, (1, 8, 8), 1)[2]
    (tmp_path / 'phone.csv').write_text('key,ms\n' + ''.join(f'{tables._id(s)},{1 + i}\n' for i, s in enumerate(units)))
    t = load_table(tmp_path / 'phone.csv', space, (1, 8, 8))
    assert list(t.entries.values()) == list(range(1, 1 + len(units)))
