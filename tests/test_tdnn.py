"EfficientTDNN: against a network written by itself from the paper's formulas, golden figures, imports, every behaviour of the space."

import math, pytest, torch
from pathlib import Path
from torch.nn import functional as F
from hypothesis import given, settings, strategies as st
from nas_suite.choices import choices, count, decode, largest, restrict, sample, selected, smallest
from nas_suite.costs import count_macs, count_params, macs, params
from nas_suite.extraction import check, extract
from nas_suite.search import export
from nas_suite.importers import load_efficient_tdnn, load_efficient_tdnn_subnet, to_efficient_tdnn
from nas_suite.spaces.tdnn import efficient_tdnn, fine, published, published_macs, small_tdnn, tdnn_arch, tdnn_config
from nas_suite.training import recalibrate
from spaces import off


def make(**more):
    return efficient_tdnn(
        **(
            dict(
                features=16,
                embedding=8,
                widths=(16, 24, 32),
                last=(24, 36, 48),
                depths=(2, 3, 4),
                attention=8,
                frames=40,
            )
            | more
        )
    )


def shaken(space, seed=0):
    g = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for n, t in space.state_dict().items():
            if n.endswith(('alpha', 'alive')) or not t.is_floating_point():
                continue
            t.copy_(
                torch.rand(t.shape, generator=g) + 0.5
                if n.endswith('running_var')
                else torch.randn(t.shape, generator=g) * (0.3 if t.ndim > 1 else 1)
            )
    return space


def weights(scale=8, **more):
    "A published supernet's file with random values, in its own names, shapes as the published space has them for these sizes."
    space = shaken(make(**more))
    return {k: v.clone() for k, v in to_efficient_tdnn(space).items()}, space.config


def reference(w, c, config, x):
    "The published network, sliced by hand: w holds a supernet's tensors by their published names."
    depth, widths, kernels, last = config
    w = {k.removeprefix('module.__S__.'): v for k, v in w.items()}
    C, cat, groups = max(c['widths']), max(c['last']), c['scale']
    c0 = widths[0]
    prefix = lambda n: torch.arange(n)

    def grouped(m):
        return torch.arange(C).view(groups, C // groups)[:, : m // groups].reshape(-1)

    def kernel(name, k):
        t = w[f'{name}.conv.weight'] if f'{name}.conv.weight' in w else w[f'{name}.weight']
        full = t.shape[2]
        if k < 5 <= full:
            t = t[:, :, 1:4] @ w[f'{name}.k53']
        if k < 3 <= full:
            t = t[:, :, 1:2] @ w[f'{name}.k31']
        return t

    def norm(name, idx, x):
        return F.batch_norm(x, *(w[f'{name}.{n}'][idx] for n in ('running_mean', 'running_var', 'weight', 'bias')))

    def layer(name, i, o, x, k=1, d=1):
        return norm(
            f'{name}.bn.bn',
            o,
            F.relu(F.conv1d(x, kernel(f'{name}.conv', k)[o][:, i], padding=(k - 1) // 2 * d, dilation=d)),
        )

    out = [layer('layer1', prefix(c['features']), prefix(c0), x, kernels[0])]
    total = out[0]
    for i in range(depth):
        b, m, k = f'blocks.{i}', widths[i + 1], kernels[i + 1]
        mid, part = grouped(m), prefix(m // groups)
        h = layer(f'{b}.first_conv', prefix(c0), mid, out[-1])
        xs, ys = h.split(m // groups, 1), []
        for j in range(groups - 1):
            ys.append(layer(f'{b}.resconv.convs.{j}', part, part, xs[j] + ys[-1] if ys else xs[j], k, i + 2))
        h = layer(f'{b}.last_conv', mid, prefix(c0), torch.cat([*ys, xs[-1]], 1))
        s, r = h.mean(2), c0 // 4
        s = F.relu(F.linear(s, w[f'{b}.se.reduce.linear.weight'][:r, :c0], w[f'{b}.se.reduce.linear.bias'][:r]))
        s = torch.sigmoid(F.linear(s, w[f'{b}.se.expand.linear.weight'][:c0, :r], w[f'{b}.se.expand.linear.bias'][:c0]))
        o = h * s[..., None] + total
        total = total + o
        out.append(o)
    rows = torch.arange(max(c['depths']) * C).view(-1, C)[:depth, :c0].reshape(-1)
    h = F.relu(F.conv1d(torch.cat(out[1:], 1), w['catconv.conv.weight'][:last][:, rows]))
    a = F.conv1d(
        torch.tanh(F.conv1d(h, w['pooling.linear1.conv.weight'][:, :last])), w['pooling.linear2.conv.weight'][:last]
    ).softmax(2)
    mean = (a * h).sum(2)
    p = torch.cat([mean, torch.sqrt(((a * h**2).sum(2) - mean**2).clamp(min=1e-9))], 1)
    both = torch.arange(2 * cat).view(2, cat)[:, :last].reshape(-1)
    e = F.linear(norm('bnpool.bn', both, p), w['linear.linear.weight'][:, both], w['linear.linear.bias'])
    return norm('bnembed', slice(None), e)


def test_imported_supernet_is_the_published_network():
    w, c = weights()
    space, w = load_efficient_tdnn(make(), w).double().eval(), {k: v.double() for k, v in w.items()}
    x = torch.randn(3, 16, 50, dtype=torch.float64)
    archs = [smallest(space), largest(space), *decode(space, sample(space, 12, torch.Generator().manual_seed(0)))]
    with torch.no_grad():
        for arch in archs:
            want = reference(w, c, tdnn_config(space, arch), x)
            y = space(x, arch)
            assert off(y, want) < 1e-9 and torch.equal(extract(space, arch)(x), y), arch


@pytest.mark.parametrize(
    'change, message',
    [
        (lambda w: w.pop('module.__S__.blocks.1.se.reduce.linear.bias'), 'blocks.1.se.reduce.linear.bias'),
        (lambda w: w.update({'module.__S__.blocks.0.extra': torch.zeros(1)}), 'blocks.0.extra'),
        (lambda w: w.update({'module.__X__.weight': torch.zeros(1)}), '__X__'),
        (
            lambda w: w.update({'module.__S__.layer1.conv.k53': torch.zeros(2, 2)}),
            'layer1.conv.k53 \\(2, 2\\) instead of \\(3, 3\\)',
        ),
    ],
)
def test_other_weights_are_refused(change, message):
    w, _ = weights()
    change(w)
    space = make()
    before = {k: v.clone() for k, v in space.state_dict().items()}
    with pytest.raises(ValueError, match=message):
        load_efficient_tdnn(space, w)
    assert all(torch.equal(v, before[k]) for k, v in space.state_dict().items())


def test_supernet_file(tmp_path):
    w, _ = weights()
    w |= {'module.__L__.W': torch.zeros(8, 10), 'module.__T__.window': torch.zeros(400)}  # the loss and the front end
    torch.save(dict(state_dict=w, epoch=64), tmp_path / 's.torchparams')
    a, b = load_efficient_tdnn(make(), tmp_path / 's.torchparams'), load_efficient_tdnn(make(), w)
    assert all(torch.equal(v, b.state_dict()[k]) for k, v in a.state_dict().items() if 'alpha' not in k)
    (tmp_path / 'broken').write_bytes(b'PK')
    with pytest.raises(ValueError, match='broken'):
        load_efficient_tdnn(make(), tmp_path / 'broken')

    class Evil:
        def __reduce__(self):
            return (Path.touch, (tmp_path / 'run',))

    torch.save(dict(state_dict=Evil()), tmp_path / 'evil')
    with pytest.raises(ValueError, match='evil'):
        load_efficient_tdnn(make(), tmp_path / 'evil')
    assert not (tmp_path / 'run').exists()


def test_there_and_back():
    w, _ = weights()
    back = to_efficient_tdnn(load_efficient_tdnn(make(), w))
    assert back.keys() == w.keys() and all(torch.equal(back[k], w[k]) for k in w)


def test_published_entries():
    space = efficient_tdnn()
    w = to_efficient_tdnn(space)
    assert (
        len(w) == 311
        and sum(
            v.numel() for k, v in w.items() if not k.endswith(('running_mean', 'running_var', 'num_batches_tracked'))
        )
        == 7_550_818
    )
    assert w['module.__S__.blocks.3.resconv.convs.6.conv.k53'].shape == (3, 3) and w[
        'module.__S__.bnpool.bn.weight'
    ].shape == (3072,)
    assert sum(k.endswith('k53') for k in w) == 29
    assert (
        len(extract(efficient_tdnn(**fine), tdnn_arch(efficient_tdnn(**fine), published['Small'])).state_dict()) == 137
    )


def test_imported_subnet_uses_its_own_norms(tmp_path):
    w, c = weights()
    space = load_efficient_tdnn(make(), w)
    config = (3, [24, 16, 32, 24], [3, 1, 5, 3], 36)
    net = extract(space, tdnn_arch(space, config))
    theirs = lambda k: (
        k.replace('layer1.conv.', 'layer1.').replace('blocks.blocks.', 'blocks.').removeprefix('aggregate.')
    )
    bn = {
        theirs(k): torch.rand_like(v) + 0.5 if v.is_floating_point() else v
        for k, v in net.state_dict().items()
        if '.bn' in f'.{k}'
    }
    torch.save(dict(subnet=config, bn=bn, **{'EER (%) w/ AS-Norm': 1.41}), tmp_path / 'w.bn.tar')
    sub, arch, results = load_efficient_tdnn_subnet(space, tmp_path / 'w.bn.tar')
    assert tdnn_config(space, arch) == config and results == {'EER (%) w/ AS-Norm': 1.41}
    mods = {theirs(n): m for n, m in sub.named_modules()}
    for k, v in bn.items():
        name, _, t = k.rpartition('.')
        assert torch.equal(getattr(mods[name], t), v), k
    x = torch.randn(2, 16, 30)
    assert not torch.equal(sub(x), net.eval()(x))
    for wrong in (
        {},
        {**bn, 'blocks.9.bn.weight': torch.zeros(1)},
        {k: v for k, v in bn.items() if k != 'bnembed.bias'},
    ):
        with pytest.raises(ValueError, match='missing|unexpected'):
            load_efficient_tdnn_subnet(space, dict(subnet=config, bn=wrong))


def test_statistics_of_indexed_channels_are_written_back():
    space = make()
    arch = tdnn_arch(space, (2, [16, 16, 24], [1, 3, 5], 24))
    norm = space.blocks.blocks[0].first_conv.bn
    before = norm.running_mean.clone()
    with torch.no_grad():
        space.train()(torch.randn(8, 16, 40), arch)
    picked = torch.arange(32).view(8, 4)[:, :2].reshape(-1)
    moved = norm.running_mean != before
    assert moved[picked].all() and moved.sum() == len(picked)


def test_recalibration_of_indexed_channels():
    space = shaken(make())
    arch = tdnn_arch(space, (2, [16, 16, 24], [1, 3, 5], 24))
    net, x = extract(space, arch).double(), torch.randn(32, 16, 40, dtype=torch.float64)
    recalibrate(net, [(x, None)], 1)
    first = net.eval().layer1.conv.bn
    y = F.relu(net.layer1.conv.conv(x))
    assert off(first.running_mean, y.mean((0, 2))) < 1e-9 and off(first.running_var, y.var((0, 2))) < 1e-9


golden = {  # configuration: MACs at 300 and 301 frames (M), parameters (K)
    (4, (512,) * 5, (5,) * 5, 1536): (1929.3, 1935.7, 7550.5),
    (4, (512,) * 5, (1,) * 5, 1536): (1742.5, 1748.3, 6927.9),
    (2, (512,) * 3, (1,) * 3, 1536): (936.8, 939.9, 3979.8),
    (2, (256,) * 3, (1,) * 3, 768): (267.4, 268.3, 1255.0),
    (2, (128,) * 3, (1,) * 3, 384): (83.47, 83.75, 443.97),
    (3, (512,) * 4, (5, 3, 3, 3), 1536): (1440.4, 1445.2, 5789.8),
    (3, (384, 256, 256, 256), (5, 3, 3, 3), 768): (569.1, 570.98, 2416.4),
    (2, (256,) * 3, (3,) * 3, 400): (203.4, 204.07, 899.20),
}


def test_golden_figures():
    space = efficient_tdnn(**fine)
    for config, (at300, at301, k) in golden.items():
        net = extract(space, tdnn_arch(space, (config[0], list(config[1]), list(config[2]), config[3])))
        digits = lambda v, text: round(v, len(str(text).split('.')[1]))
        assert (digits(published_macs(net) / 1e6, at300), digits(published_macs(net, 301) / 1e6, at301)) == (
            at300,
            at301,
        )
        assert math.isclose(count_params(net) / 1e3, k, abs_tol=0.06)


def test_counts():
    space = efficient_tdnn()
    full = {'channels': 512, 'blocks.*.width': 512, 'last': 1536}
    assert (
        count(restrict(space, {'depth': 4, **full})) == 243
        and count(restrict(space, full)) == 351
        and count(space) == 4_066_875
    )
    assert count(efficient_tdnn(**fine)) == (147**3 + 147**4 + 147**5) * 145


@settings(max_examples=12, deadline=None)
@given(st.integers(0, 10**6))
def test_costs_and_extraction(seed):
    space = small_tdnn()
    arch = sample(space, generator=torch.Generator().manual_seed(seed))
    net = extract(space, arch)
    assert (
        check(space, arch, net) == 0
        and macs(space, space.input_shape)(arch) == count_macs(net, space.input_shape)
        and params(space, space.input_shape)(arch) == count_params(net)
    )


def test_one_hot_relaxed_is_hard():
    space = shaken(make(widths=(16, 32), last=(24, 48), kernels=(1, 3))).double().eval()
    x = torch.randn(2, 16, 40, dtype=torch.float64)
    for arch in decode(space, sample(space, 4, torch.Generator().manual_seed(2))):
        hot = {
            n: F.one_hot(torch.tensor(c.index(arch.get(n, c.options[0]), n)), len(c)).double()
            for n, c in choices(space).items()
        }
        with torch.no_grad():
            assert off(space(x, hot), space(x, arch)) < 1e-9, arch


def test_relaxed_gives_every_choice_a_gradient():
    space = make(widths=(16, 32), last=(24, 48), kernels=(1, 3))
    with selected(space, {n: c.alpha.softmax(0) for n, c in choices(space).items()}):
        space(torch.randn(4, 16, 40)).square().mean().backward()
    assert all(c.alpha.grad is not None and c.alpha.grad.abs().sum() > 0 for c in choices(space).values())


@pytest.mark.parametrize(
    'config', ['3-512-512', (3, [512] * 3, [5] * 4, 1536), 'Base', (9, [512] * 10, [5] * 10, 1536)]
)
def test_bad_configurations(config):
    with pytest.raises(ValueError):
        tdnn_arch(efficient_tdnn(), config)


@pytest.mark.parametrize(
    'config',
    [
        '3-384-256-256-256-5-3-3-3-768',
        '3.384.256.256.256.5.3.3.3.768',
        '(3, [384, 256, 256, 256], [5, 3, 3, 3], 768)',
        (3, (384, 256, 256, 256), (5, 3, 3, 3), 768),
    ],
)
def test_forms_of_a_configuration(config):
    space = efficient_tdnn()
    assert tdnn_config(space, tdnn_arch(space, config)) == published['Mobile']


@pytest.mark.parametrize(
    'wrong',
    [dict(widths=(20,)), dict(widths=()), dict(kernels=(2,)), dict(scale=1), dict(features=0), dict(depths=(0, 1))],
)
def test_bad_sizes(wrong):
    with pytest.raises(ValueError):
        efficient_tdnn(**wrong)


def test_dynamic_convolution_exports_and_mixes_by_recording(tmp_path):
    space = shaken(make(dynamic=(1, 2, 4)))
    config = (2, [24, 16, 32], [3, 1, 5], 36)
    arch = tdnn_arch(space, config)
    assert tdnn_config(space, arch) == config and [v for n, v in arch.items() if n.endswith('dynamic')] == [1, 1]
    arch |= {'blocks.blocks.0.dynamic': 4, 'blocks.blocks.1.dynamic': 2}
    net, x = extract(space, arch).eval(), torch.randn(3, 16, 40)
    assert check(space, arch, net) == 0 and export(net, (16, 40), tmp_path).difference < 1e-3
    net, x = net.double(), x.double()
    assert off(net(x)[1:2], net(x[1:2])) < 1e-9  # each recording its own kernels
    plain = tdnn_arch(space, config)
    more = {
        n: f(extract(space, arch)) / f(extract(space, plain))
        for n, f in dict(macs=lambda n: count_macs(n, (16, 300)), params=count_params).items()
    }
    assert more['macs'] < 1.05 < more['params']


def test_one_kernel_is_an_ordinary_convolution():
    a, b = make(), make(dynamic=(1, 2))
    assert not any('dynamic' in n for n in choices(a)) and count(make(dynamic=(1, 2), depths=(2,))) == 4 * count(
        make(depths=(2,))
    )
    for f in (lambda: load_efficient_tdnn(b, to_efficient_tdnn(a)), lambda: to_efficient_tdnn(b)):
        with pytest.raises(ValueError, match='dynamic'):
            f()
    with pytest.raises(ValueError, match='dynamic'):
        tdnn_arch(make(dynamic=2), (2, [16, 16, 24], [1, 3, 5], 24))
    with pytest.raises(ValueError, match='dynamic'):
        make(dynamic=(0, 1))


@pytest.mark.parametrize('name', ['Mobile', 'Small'])
def test_published_networks_at_their_size(name):
    w = {k: v.double() for k, v in to_efficient_tdnn(shaken(efficient_tdnn(**fine))).items()}
    space, x = load_efficient_tdnn(efficient_tdnn(**fine).double(), w), torch.randn(1, 80, 60, dtype=torch.float64)
    with torch.no_grad():
        assert (
            off(
                extract(space, tdnn_arch(space, published[name])).eval()(x),
                reference(w, space.config, published[name], x),
            )
            < 1e-9
        )
