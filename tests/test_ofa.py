"Once-for-All's spaces, weights and descriptions against an independent reference, published figures, and the published code where it is installed."

import json, random
import pytest, torch
from torch.nn import functional as F
from nas_suite.choices import *
from nas_suite.costs import count_macs, count_params, macs, params
from nas_suite.extraction import extract
from nas_suite.importers import PublishedNet, load_ofa, ofa_arch, ofa_network, to_ofa, to_ofa_setting
from nas_suite.spaces.mobile import ofa_mobilenet_v3, ofa_proxyless, proxyless
from nas_suite.spaces.resnet import ofa_resnet50
from spaces import off


def g(i):
    return torch.Generator().manual_seed(i)


def divisible(v):
    return (n := max(8, int(v + 4) // 8 * 8)) + 8 * (n < 0.9 * v)


def shaken(space, seed=0):
    "Random numbers in every weight, statistic and matrix."
    r = g(seed)
    for n, t in space.state_dict().items():
        if not t.is_floating_point() or 'alpha' in n:
            continue
        t.copy_(
            torch.rand(t.shape, generator=r) + 0.5
            if n.endswith('running_var')
            else torch.randn(t.shape, generator=r) * (0.3 if t.ndim < 2 else t[0].numel() ** -0.5)
        )
    return space.eval()


SPACES = dict(
    mbv3=lambda: ofa_mobilenet_v3(0.5, classes=7, image_size=40, resolutions=(24, 32, 40)),
    proxyless=lambda: ofa_proxyless(0.4, classes=7, image_size=32),
    resnet=lambda: ofa_resnet50(
        classes=7,
        image_size=32,
        widths=(32, 64, 64),
        base_depths=(1, 1, 2),
        strides=(1, 2, 1),
        stem=32,
        resolutions=(24, 32),
    ),
)


def archs(space, n=6, seed=0):
    return [largest(space), smallest(space), *decode(space, sample(space, n, g(seed)))]


def reference(kind, config, w, s, x):
    "The network of a setting from the published tensors, written with functions alone."
    r = s['r']
    if len(config['resolutions']) > 1:
        x = F.interpolate(x, (r, r), mode='bilinear', align_corners=False)
    act = dict(relu=F.relu, relu6=F.relu6, h_swish=lambda x: x * F.relu6(x + 3) / 6)

    def bn(x, name):
        n = x.shape[1]
        return F.batch_norm(
            x,
            *(w[f'{name}.{t}'][:n] for t in ('running_mean', 'running_var', 'weight', 'bias')),
            False,
            0.0,
            config['bn_eps'],
        )

    def conv(x, name, o=None, stride=1, twice=True):
        t = w[f'{name}.conv.weight' if twice else f'{name}.weight']
        t = t[: t.shape[0] if o is None else o, : x.shape[1]]
        return F.conv2d(x, t, None, stride, t.shape[-1] // 2)

    def depthwise(x, name, k, stride):
        c, t = x.shape[1], w[f'{name}.conv.conv.weight'][: x.shape[1]]
        for big, small in ((7, 5), (5, 3)):
            if k < big:
                t = (t[..., 1:-1, 1:-1].reshape(c, -1) @ w[f'{name}.conv.{big}to{small}_matrix'].T).view(
                    c, 1, small, small
                )
        return F.conv2d(x, t, None, stride, k // 2, 1, c)

    def mean(x):
        return x.mean(3, keepdim=True).mean(2, keepdim=True)

    if kind == 'resnet':
        ratios, out = config['ratios'], lambda v, i: divisible(round(v * ratios[i]))
        layer = lambda x, name, o, stride=1: bn(conv(x, f'{name}.conv', o, stride), f'{name}.bn.bn')
        mid, width = out(config['stem'] // 2, s['w'][0]), out(config['stem'], s['w'][1])
        x = F.relu(layer(x, 'input_stem.0', mid, config['stem_stride']))
        if s['d'][0] == 2:
            x = x + F.relu(bn(conv(x, 'input_stem.1.conv.conv', mid), 'input_stem.1.conv.bn.bn'))
        x = F.relu(layer(x, 'input_stem.2', width))
        if config['stem_pool']:
            x = F.max_pool2d(x, 3, 2, 1)
        b = 0
        for u, (base, c) in enumerate(zip(config['base_depths'], config['widths'])):
            o, n = out(c, s['w'][2 + u]), base + max(config['depths'])
            for j in range(base + s['d'][1 + u]):
                mid, stride, name = (
                    divisible(round(o * s['e'][b + j])),
                    config['strides'][u] if j == 0 else 1,
                    f'blocks.{b + j}',
                )
                y = F.relu(layer(F.relu(layer(x, f'{name}.conv1', mid)), f'{name}.conv2', mid, stride))
                y = layer(y, f'{name}.conv3', o)
                if j == 0:
                    x = layer(F.avg_pool2d(x, stride, stride, 0, True) if stride > 1 else x, f'{name}.downsample', o)
                x = F.relu(y + x)
            b += n
        x = x.mean(3).mean(2)
        return F.linear(x, w['classifier.linear.linear.weight'][:, : x.shape[1]], w['classifier.linear.linear.bias'])
    v3 = kind == 'mbv3'

    def block(x, i, k, e, stride, a, se, twice):
        name, mid = f'blocks.{i}.conv', divisible(round(x.shape[1] * e))
        inner = (lambda n: f'{n}.bn.bn') if twice else (lambda n: f'{n}.bn')
        y = (
            act[a](bn(conv(x, f'{name}.inverted_bottleneck.conv', mid), inner(f'{name}.inverted_bottleneck')))
            if e != 1
            else x
        )
        if twice:
            y = depthwise(y, f'{name}.depth_conv', k, stride)
        else:
            y = F.conv2d(y, w[f'{name}.depth_conv.conv.weight'], None, stride, 1, 1, y.shape[1])
        y = act[a](bn(y, inner(f'{name}.depth_conv')))
        if se:
            c, m = y.shape[1], divisible(y.shape[1] // 4)
            f = f'{name}.depth_conv.se.fc'
            q = F.relu(F.conv2d(mean(y), w[f'{f}.reduce.weight'][:m, :c], w[f'{f}.reduce.bias'][:m]))
            y = y * (F.relu6(F.conv2d(q, w[f'{f}.expand.weight'][:c, :m], w[f'{f}.expand.bias'][:c]) + 3) / 6)
        y = bn(conv(y, f'{name}.point_linear.conv', twice=twice), inner(f'{name}.point_linear'))
        return y + x if y.shape == x.shape and (v3 or i > 0) else y

    x = act['h_swish' if v3 else 'relu6'](bn(conv(x, 'first_conv', stride=config['stem_stride']), 'first_conv.bn'))
    x = block(x, 0, 3, 1, 1, 'relu' if v3 else 'relu6', False, False)
    b = 0
    for u, (depths, stride) in enumerate(zip(config['depths'], config['strides'])):
        for j in range(s['d'][u] if len(depths) > 1 else depths[0]):
            x = block(
                x,
                1 + b + j,
                s['ks'][b + j],
                s['e'][b + j],
                stride if j == 0 else 1,
                ('relu' if u < 2 else 'h_swish') if v3 else 'relu6',
                v3 and u in (1, 3, 4),
                True,
            )
        b += max(depths)
    if v3:
        x = act['h_swish'](
            conv(mean(act['h_swish'](bn(conv(x, 'final_expand_layer'), 'final_expand_layer.bn'))), 'feature_mix_layer')
        )
    else:
        x = mean(F.relu6(bn(conv(x, 'feature_mix_layer'), 'feature_mix_layer.bn')))
    return F.linear(x.flatten(1), w['classifier.linear.weight'], w['classifier.linear.bias'])


def old_spelling(w):
    "The names of earlier files."
    return {
        k.replace('.conv.inverted', '.mobile_inverted_conv.inverted')
        .replace('.conv.depth', '.mobile_inverted_conv.depth')
        .replace('.conv.point', '.mobile_inverted_conv.point')
        .replace('.bn.bn.', '.bn.')
        .replace('.conv.conv.weight', '.conv.weight')
        .replace('.linear.linear.', '.linear.'): v
        for k, v in w.items()
    }


@pytest.mark.parametrize('kind', SPACES)
def test_supernet_subnet_and_reference_agree(kind):
    w = to_ofa(shaken(SPACES[kind](), 1))
    own = {k: v.double() for k, v in w.items()}
    for files in (w, {'state_dict': old_spelling(w)}):
        space = load_ofa(SPACES[kind](), files).double()
        x = torch.randn(2, *space.input_shape, generator=g(2), dtype=torch.float64)
        with torch.no_grad():
            for a in archs(space):
                want, y = reference(kind, space.config, own, to_ofa_setting(space, a), x), space(x, a)
                assert want.std() > 1e-3 and off(y, want) < 1e-9 and torch.equal(extract(space, a)(x), y)


@pytest.mark.parametrize('kind', SPACES)
def test_settings_go_there_and_back(kind):
    space = SPACES[kind]()
    for a in archs(space, 20):
        assert ofa_arch(space, json.loads(json.dumps(to_ofa_setting(space, a)))) == a
    whole = [encode(space, a) for a in archs(space, 20)]
    assert len(torch.cat(whole).unique(dim=0)) > 15


@pytest.mark.parametrize('kind', ['mbv3', 'proxyless'])
def test_descriptions_go_there_and_back(kind):
    space = shaken(SPACES[kind]())
    cost, weights = macs(space, space.input_shape), params(space)
    for a in archs(space, 3):
        config, w = ofa_network(space, a)
        size = config['resolution']
        net, x = load_ofa(json.loads(json.dumps(config)), w), torch.randn(2, 3, size, size, generator=g(0))
        subnet = extract(space, {**a, 'resolution': size} if 'resolution' in a else a)
        with torch.no_grad():
            assert (
                off(net.double()(x.double()), subnet.double()(x.double())) < 1e-9
            )  # the subnet resizes the image first, to the size it has
        assert (
            ofa_arch(space, config) == a and count_macs(net, x.shape[1:]) == cost(a) and count_params(net) == weights(a)
        )


def test_wrong_files(tmp_path):
    space, other = SPACES['mbv3'](), SPACES['proxyless']()
    w = to_ofa(shaken(SPACES['mbv3']()))
    before = {k: v.clone() for k, v in space.state_dict().items()}
    some = 'blocks.1.conv.depth_conv.conv.7to5_matrix'
    torch.save({'state_dict': w}, tmp_path / 'whole.pth')
    (tmp_path / 'cut.pth').write_bytes((tmp_path / 'whole.pth').read_bytes()[:20000])
    for bad, what in (
        (to_ofa(other), 'missing.*unexpected'),
        (tmp_path / 'cut.pth', 'cut.pth holds no weights, or is damaged'),
        (tmp_path / 'none.pth', 'there is no file'),
        ({k: v for k, v in w.items() if k != some}, f'1 missing: {some}'),
        ({**w, 'extra.weight': torch.zeros(1)}, '1 unexpected: extra.weight'),
        (
            {**w, 'classifier.linear.bias': torch.zeros(3)},
            r'1 of another shape: classifier.linear.bias \(3,\) instead of \(7,\)',
        ),
        (
            {**w, 'blocks.1.mobile_inverted_conv.depth_conv.bn.weight': w['blocks.1.conv.depth_conv.bn.bn.weight']},
            'twice',
        ),
    ):
        with pytest.raises(ValueError, match=what):
            load_ofa(space, bad)
        assert all(torch.equal(v, before[k]) for k, v in space.state_dict().items())  # nothing was half loaded
    with pytest.raises(ValueError, match='missing'):
        load_ofa(space, {k: v for k, v in w.items() if not k.endswith('_matrix')})
    load_ofa(space, {k: v for k, v in w.items() if not k.endswith('_matrix')}, identity=True)
    assert torch.equal(space.units[0].blocks[0].depth_conv.conv.transforms['7to5'], torch.eye(25))
    with pytest.raises(ValueError, match='1 missing: classifier'):
        load_ofa(
            space,
            {k: v for k, v in w.items() if not k.endswith('_matrix') and k != 'classifier.linear.bias'},
            identity=True,
        )
    load_ofa(space, tmp_path / 'whole.pth')
    assert torch.equal(to_ofa(space)[some], w[some])
    for f in (lambda: load_ofa(proxyless(0.25, image_size=32), w), lambda: to_ofa(proxyless(0.25, image_size=32))):
        with pytest.raises(ValueError, match='Proxyless'):
            f()


@pytest.mark.parametrize(
    'setting,what',
    [
        (dict(ks=[3] * 19, e=6, d=4), 'ks is a number or a list of 20'),
        (dict(ks=9, e=6, d=4), 'kernel has no option 9'),
        (dict(ks=7, e=6, d=5), 'units.0.depth has no option 5'),
        (dict(ks=7, e=6), "d is a number or a list of 5; found None"),
        (dict(ks=7, e=6, d=4, r=30), 'resolution has no option 30'),
    ],
)
def test_bad_settings(setting, what):
    with pytest.raises(ValueError, match=what):
        ofa_arch(SPACES['mbv3'](), setting)


def test_published_sizes():
    "Numbers of the paper and of the published code."

    def weights(s):
        return sum(p.numel() for n, p in s.named_parameters() if 'alpha' not in n)

    a, b, c, d = ofa_mobilenet_v3(), ofa_mobilenet_v3(1.2), ofa_proxyless(), ofa_resnet50()
    assert count(restrict(a, {'resolution': 224})) == 7371**5 and len(choices(a)['resolution']) == 25
    assert weights(a) == 7_678_880 and [round(weights(s) / 1e6, 3) for s in (b, c, d)] == [10.716, 7.957, 48.106]
    assert [len(to_ofa(s)) for s in (a, b, c, d)] == [475, 475, 446, 368]
    assert [b.config[k] for k in ('strides', 'stem_stride')] == [[2, 2, 2, 1, 2], 2] and c.config['strides'] == [
        2,
        2,
        2,
        1,
        2,
        1,
    ]


# Kernel and expansion of each block, unit by unit, of specialized networks as published; MACs in millions and parameters in millions as in their table, and the image size that these imply.
PUBLISHED = {
    '1080ti 12 ms': ('33 33|36 54 54|56 53 73|34 73 36 34|76 54 73 53|36', 165, 5.9),
    'cpu 15 ms': ('33 33|34 36|76 34|54 36 36|56 33|76', 301, 4.9),
    'v100 11 ms': ('33 33|56 53|73 33 74|74 54 33 74|36 56 54 36|34', 352, 6.2),
    'tx2 35 ms': ('34 33|36 76|56 53|53 34|56 34|54', 121, 4.3),
}


@pytest.mark.parametrize('name', PUBLISHED)
def test_published_networks_cost_what_is_published(name):
    text, m, p = PUBLISHED[name]
    units = [[(int(b[0]), int(b[1])) for b in u.split()] for u in text.split('|')]
    pad = [u + [u[-1]] * (4 - len(u)) for u in units[:-1]] + [units[-1]]
    setting = dict(ks=[k for u in pad for k, _ in u], e=[e for u in pad for _, e in u], d=[len(u) for u in units])
    space = ofa_proxyless()
    arch = ofa_arch(restrict(space, {'resolution': 224}), setting)
    net = extract(ofa_proxyless(resolutions=(224,)), {k: v for k, v in arch.items() if k != 'resolution'})
    assert round(count_params(net) / 1e6, 1) == p
    found = [size for size in range(128, 261, 4) if round(count_macs(net, (3, size, size)) / 1e6) == m]
    assert len(found) == 1, found  # one size alone explains the published MACs
    (size,) = found
    config, _ = ofa_network(space, arch)
    again = PublishedNet(json.loads(json.dumps(config)))
    assert round(count_macs(again, (3, size, size)) / 1e6) == m and round(count_params(again) / 1e6, 1) == p


def test_against_the_published_code():
    nets = pytest.importorskip(
        'ofa.imagenet_classification.elastic_nn.networks', reason='the package ofa is not installed'
    )
    lists = dict(ks_list=[3, 5, 7], expand_ratio_list=[3, 4, 6], depth_list=[2, 3, 4])
    pairs = [
        (ofa_mobilenet_v3(), nets.OFAMobileNetV3(width_mult=1.0, **lists)),
        (ofa_mobilenet_v3(1.2), nets.OFAMobileNetV3(width_mult=1.2, **lists)),
        (ofa_proxyless(), nets.OFAProxylessNASNets(width_mult=1.3, **lists)),
        (
            ofa_resnet50(),
            nets.OFAResNets(
                depth_list=[0, 1, 2], expand_ratio_list=[0.2, 0.25, 0.35], width_mult_list=[0.65, 0.8, 1.0]
            ),
        ),
    ]
    x = torch.randn(1, 3, 224, 224, generator=g(1), dtype=torch.float64)
    for space, theirs in pairs:
        w = to_ofa(shaken(space, 3))
        theirs.load_state_dict(w)
        theirs.double().eval()
        space.double()
        assert theirs.state_dict().keys() == w.keys()
        random.seed(0)
        for a in decode(space, sample(space, 2, g(5))):
            a = {**a, 'resolution': 224}
            s = to_ofa_setting(space, a)
            theirs.set_active_subnet(**s)
            with torch.no_grad():
                y = space(x, a)
                assert (
                    off(y, theirs(x)) < 1e-9
                    and torch.equal(extract(space, a)(x), y)
                    and off(y, theirs.get_active_subnet().double().eval()(x)) < 1e-9
                )
            if 'ks' in s:
                assert [b['conv']['kernel_size'] for b in theirs.get_active_net_config()['blocks']] == [
                    b['conv']['kernel_size'] for b in ofa_network(space, a)[0]['blocks']
                ]
