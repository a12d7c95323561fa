"Published ProxylessNAS networks against an independent forward, in both directions, and files that are none."

import json
from copy import deepcopy
import pytest, torch
from torch.nn import functional as F
from nas_suite.choices import sample
from nas_suite.costs import count_macs, count_params, macs, params
from nas_suite.extraction import check, extract
from nas_suite.importers import load_proxyless, proxyless_space, read_weights, to_proxyless
from nas_suite.spaces.mobile import proxyless
from spaces import off


def network(seed=0, size=48):
    "Published files of a random network, random in every tensor."
    g = torch.Generator().manual_seed(seed)
    space = proxyless(
        0.25,
        classes=7,
        image_size=size,
        widths=(32, 64, 64),
        depths=(2, 3, 2),
        strides=(2, 2, 1),
        last=40,
        first_residual=False,
    )
    config, weights = to_proxyless(space, sample(space, generator=g))
    return config, {
        k: torch.full_like(v, 7)
        if not v.is_floating_point()
        else torch.rand(v.shape, generator=g) + 0.5
        if k.endswith('running_var')
        else torch.randn(v.shape, generator=g) * 0.3
        for k, v in weights.items()
    }


def reference(config, w, x):
    "The network of a description, written with functions alone."

    def conv_bn(x, name, stride, groups=1, act=True):
        k = w[f'{name}.conv.weight'].shape[-1]
        x = F.conv2d(x, w[f'{name}.conv.weight'], None, stride, k // 2, 1, groups)
        x = F.batch_norm(
            x,
            *(w[f'{name}.bn.{n}'] for n in ('running_mean', 'running_var', 'weight', 'bias')),
            False,
            0.0,
            config['bn']['eps'],
        )
        return F.relu6(x) if act else x

    x = conv_bn(x, 'first_conv', config['first_conv']['stride'])
    for i, b in enumerate(config['blocks']):
        op, name, y = b['mobile_inverted_conv'], f'blocks.{i}.mobile_inverted_conv', x
        if op['name'] == 'ZeroLayer':
            continue
        if op['expand_ratio'] != 1:
            y = conv_bn(y, f'{name}.inverted_bottleneck', 1)
        y = conv_bn(conv_bn(y, f'{name}.depth_conv', op['stride'], y.shape[1]), f'{name}.point_linear', 1, act=False)
        x = x + y if b['shortcut'] else y
    x = conv_bn(x, 'feature_mix_layer', 1).mean((2, 3))
    return F.linear(x, w['classifier.linear.weight'], w['classifier.linear.bias'])


@pytest.mark.parametrize('seed', range(4))
def test_plain_and_extracted_equal_the_reference(seed):
    config, weights = network(seed)
    x = torch.randn(2, 3, 48, 48)
    net, (space, arch) = load_proxyless(config, weights), proxyless_space(config, weights)
    with torch.no_grad():
        assert (
            off(
                deepcopy(net).double()(x.double()),
                reference(config, {k: v.double() for k, v in weights.items()}, x.double()),
            )
            < 1e-9
        )  # the mean is computed in another order
        assert torch.equal(net(x), extract(space.eval(), arch)(x))
    assert check(space, arch, net, x) == 0
    assert count_macs(net, (3, 48, 48)) == macs(space, (3, 48, 48))(arch) and count_params(net) == params(
        space, (3, 48, 48)
    )(arch)


def test_there_and_back():
    config, weights = network(1)
    again, same = to_proxyless(*proxyless_space(config, weights))
    assert again == config and same.keys() == weights.keys() and all(torch.equal(same[k], weights[k]) for k in weights)
    assert proxyless_space(config)[1] == proxyless_space(json.loads(json.dumps(config)))[1]


def test_the_key_spelling_of_later_files():
    config, weights = network(2)
    later = deepcopy(config)
    for b in later['blocks']:
        b['conv'] = b.pop('mobile_inverted_conv')
    x = torch.randn(1, 3, 48, 48)
    new = load_proxyless(
        later, {'state_dict': {k.replace('mobile_inverted_conv', 'conv'): v for k, v in weights.items()}}
    )
    with torch.no_grad():
        assert torch.equal(new(x), load_proxyless(config, weights)(x))


def test_a_published_network(shared):
    config, weights = (shared(f'data/checkpoints/proxyless-w0.25-r112_imagenet.{e}') for e in ('json', 'pth'))
    net, (space, arch) = load_proxyless(config, weights), proxyless_space(config, weights)
    x = torch.randn(2, 3, 112, 112)
    with torch.no_grad():
        assert torch.equal(net(x), extract(space.eval(), arch)(x)) and check(space, arch, net, x) == 0
        assert (
            off(
                deepcopy(net).double()(x.double()),
                reference(
                    json.loads(config.read_text()),
                    {k: v.double() for k, v in read_weights(weights).items()},
                    x.double(),
                ),
            )
            < 1e-9
        )
    assert (
        len(net.state_dict()) == 368
        and round(count_params(net) / 1e6, 3) == 0.570
        and round(count_macs(net, (3, 112, 112)) / 1e6, 2) == 10.69
    )
    assert macs(space, (3, 112, 112))(arch) == count_macs(net, (3, 112, 112))
    assert to_proxyless(space, arch)[0] == json.loads(config.read_text())


def test_bad_files_and_networks(tmp_path):
    config, weights = network(0)
    (tmp_path / 'net.json').write_text(json.dumps(config))
    torch.save({'state_dict': weights}, tmp_path / 'net.pth')
    assert len(load_proxyless(tmp_path / 'net.json', tmp_path / 'net.pth').state_dict()) == len(weights)
    (tmp_path / 'short.pth').write_bytes((tmp_path / 'net.pth').read_bytes()[:5000])
    (tmp_path / 'short.json').write_text(json.dumps(config)[:500])

    class Evil:
        def __reduce__(self):
            return (open, (str(tmp_path / 'evil'), 'w'))

    torch.save({'a': Evil()}, tmp_path / 'evil.pth')
    for bad, what in (
        (tmp_path / 'short.pth', 'short.pth'),
        (tmp_path / 'evil.pth', 'evil.pth'),
        (tmp_path / 'none.pth', 'no file'),
        ({'a': 3}, "'a'"),
    ):
        with pytest.raises(ValueError, match=what):
            load_proxyless(config, bad)
    assert not (tmp_path / 'evil').exists()
    with pytest.raises(ValueError, match='short.json'):
        load_proxyless(tmp_path / 'short.json', weights)
    first = 'first_conv.conv.weight'
    for change, what in (
        (lambda w: w.pop(first), f'1 missing: {first}'),
        (lambda w: w.update(more=torch.zeros(1)), '1 unexpected: more'),
        (lambda w: w.update({first: torch.zeros(1)}), f'1 of another shape: {first}'),
    ):
        change(w := dict(weights))
        with pytest.raises(ValueError, match=what):
            load_proxyless(config, w)

    def changed(f):
        f(c := deepcopy(config))
        return c

    op = lambda c, i: c['blocks'][i]['mobile_inverted_conv']
    for f, what in (
        (lambda c: c.pop('bn'), "no 'bn'"),
        (
            lambda c: op(c, 1).update(name='Conv'),
            "block 1 is a MBInvertedConvLayer or a ZeroLayer; found 'Conv'|found Conv",
        ),
        (lambda c: op(c, 1).update(use_se=True), 'squeeze'),
        (lambda c: op(c, 0).update(expand_ratio=2), 'first block'),
        (lambda c: op(c, 1).pop('kernel_size'), "block 1 has no 'kernel_size'"),
        (lambda c: op(c, 1).update(out_channels=12), 'block 1'),
    ):
        with pytest.raises(ValueError, match=what):
            proxyless_space(changed(f))
