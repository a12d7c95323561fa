"What a network's features count, and what few measurements tell."

import math
from pathlib import Path
import numpy as np, pytest, torch
from torch import nn
from nas_suite.choices import choices, decode, encode, restrict, sample
from nas_suite.costs import count_macs, count_params
from nas_suite.extraction import extract
from nas_suite.latency.features import FEATURES, GRAPHS, KINDS, QUANTITIES, network_features, space_features
from nas_suite.spaces.mobile import proxyless
from nas_suite.spaces.tdnn import small_tdnn

at = FEATURES.index


def of(net, shape):
    return dict(zip(FEATURES, network_features(net, shape)))


# ---------------------------------------------------------------- features


def test_the_names_are_fixed():
    assert (
        len(set(FEATURES)) == len(FEATURES) == 69
        and FEATURES[:2] == ('written.dense', 'written.pointwise')
        and GRAPHS == ('written', 'live', 'folded')
    )
    assert FEATURES == tuple(f'{g}.{q}' for g in GRAPHS for q in QUANTITIES)


SPACES = dict(
    proxyless=lambda: proxyless(classes=10, image_size=16, stem=8, first=0, widths=(8, 16), depths=(2, 2), last=32),
    other=lambda: proxyless(classes=10, image_size=16, stem=8, first=8, widths=(8,), depths=(2,), last=32),
    tdnn=lambda: restrict(s := small_tdnn(), {n: [c.options[0], c.options[-1]] for n, c in choices(s).items()}),
)


@pytest.mark.parametrize('name', ['proxyless', 'tdnn'])
def test_a_space_has_the_features_of_its_networks(name):
    "Tables of units sum to what is counted on the extracted network; MACs and parameters are those of PyTorch's counter."
    space = SPACES[name]()
    rows = sample(space, 4, torch.Generator().manual_seed(0))
    table = space_features(space)(rows)
    for arch, row in zip(decode(space, rows), table):
        net = extract(space, arch)
        own = network_features(net, space.input_shape)
        serial = [at(f'{g}.{q}') for g in GRAPHS for q in ('depth', 'critical_macs', 'critical_kernels')]
        rest = [i for i in range(len(FEATURES)) if i not in serial]
        if name != 'tdnn':  # whose own forward joins and pools between its units
            np.testing.assert_allclose(row[rest], own[rest])
            assert (row[serial] >= own[serial] - 1e-9).all()  # units one after the other: never shorter
        else:
            assert all(
                row[at(f'live.{k}')] == own[at(f'live.{k}')]
                for k in ('dense', 'pointwise', 'norm', 'params', 'macs_dense', 'macs_linear')
            )
        assert own[at('written.params')] == count_params(net)
        assert own[[at(f'written.macs_{k}') for k in KINDS[:5]]].sum() == count_macs(net, space.input_shape)


def test_dead_and_constant_parts():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.c = nn.Conv2d(2, 2, 3, padding=1), nn.Conv2d(2, 2, 1), nn.Conv2d(2, 2, 1)

        def forward(self, x):
            self.a(x)  # in vain
            return self.b(x) + self.c(torch.zeros_like(x))

    f = of(Net(), (2, 4, 4))
    assert [f[f'{g}.dense'] for g in GRAPHS] == [1, 0, 0] and [f[f'{g}.pointwise'] for g in GRAPHS] == [2, 2, 1]
    assert [f[f'{g}.kernels'] for g in GRAPHS] == [4, 3, 2] and [f[f'{g}.params'] for g in GRAPHS] == [
        38 + 6 + 6,
        12,
        6,
    ]


def test_kinds():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.w, self.lin = nn.Parameter(torch.zeros(4, 2, 3, 3)), nn.Linear(16, 3)

        def forward(self, x):  # a functional convolution, an unknown operation, moves and views
            y = nn.functional.conv2d(x, self.w, groups=2, padding=1)
            return self.lin(torch.cat([y, torch.cumsum(y, 1)], 1).mean((2,)).flatten(1))

    f = of(Net(), (4, 2, 2))
    assert [f[f'live.{k}'] for k in ('grouped', 'linear', 'pool', 'move', 'other', 'kernels')] == [1, 1, 1, 1, 1, 5]
    assert f['live.macs_grouped'] == 4 * 4 * 2 * 9 and f['live.depth'] == 3


def test_macs_are_those_of_the_counter():
    "Transposed convolutions, attention, linear layers on tokens, and functions that tracing does not look into."
    import torchvision

    class Attend(nn.Module):
        def forward(self, x):
            q = x.unflatten(2, (4, -1)).transpose(1, 2)
            return nn.functional.scaled_dot_product_attention(q, q, q)

    tiny = dict(image_size=32, patch_size=16, num_layers=1, num_heads=2, hidden_dim=16, mlp_dim=32, num_classes=3)
    swin = torchvision.models.swin_transformer.SwinTransformer([4, 4], 8, [1, 1], [2, 2], [4, 4], num_classes=3)
    nets = [
        (nn.Sequential(nn.ConvTranspose2d(8, 4, 4, stride=4)), (8, 5, 5)),
        (nn.Sequential(Attend()), (17, 16)),
        (nn.Sequential(nn.Flatten(0, 1), nn.Linear(16, 3)), (17, 16)),
        (torchvision.models.VisionTransformer(**tiny), (3, 32, 32)),
        (swin, (3, 32, 32)),
    ]
    for net, shape in nets:
        f = of(net.eval(), shape)
        assert sum(f[f'written.macs_{k}'] for k in KINDS[:5]) == count_macs(net, shape) > 0, type(
            net[0] if isinstance(net, nn.Sequential) else net
        ).__name__


def test_what_cannot_be_counted_says_so():
    class Loop(nn.Module):
        def forward(self, x):
            return x if x.sum() > 0 else -x

    with pytest.raises(ValueError, match='Loop has no features'):
        network_features(Loop(), (3, 4, 4))
    with pytest.raises(ValueError, match='no input_shape'):
        space_features(nn.Sequential(nn.Linear(2, 2)))


# ---------------------------------------------------------------- the predictor

from nas_suite.costs import LatencyAwareLoss, cheapest, feasible, macs
from nas_suite.latency import FewShotPredictor, Predictor, device_cost, load_predictor
from nas_suite.strategies.steps import derive
from scipy.stats import spearmanr


def world(n=400, noise=0.03, seed=0):
    "Features, and latencies that are sums of them, of four devices; the last is new."
    g = np.random.default_rng(seed)
    F = g.gamma(2.0, 1.0, (n, 6)) * [1, 10, 100, 1, 3, 1e4]
    ms = {
        f'd{i}': (F / F.mean(0))
        @ g.dirichlet(np.ones(6))
        * 10 ** g.uniform(-1, 2)
        * np.exp(noise * g.standard_normal(n))
        for i in range(4)
    }
    return F, ms


def learned(k=20, sources=True, seed=0, **more):
    F, ms = world(seed=seed, **more)
    new = ms.pop('d3')
    p = FewShotPredictor(seed=seed).fit(F, ms if sources else None)
    return p.update({i: new[i] for i in p.suggest(k)}), F, new


@pytest.mark.parametrize('sources', [False, True])
def test_a_known_device_is_learned(sources):
    p, F, new = learned(sources=sources)
    mean, sd = p.predict(F)
    assert spearmanr(mean, new).statistic > 0.94 and np.median(abs(mean / new - 1)) < 0.15 and (sd > 0).all()
    cover = np.mean(
        [
            (lambda q, F, y: np.mean((q.interval(F)[0] <= y) & (y <= q.interval(F)[1])))(
                *learned(sources=sources, seed=s)
            )
            for s in range(4)
        ]
    )
    assert 0.8 < cover <= 1
    low, median, high = (p.quantile(F, q) for q in (0.05, 0.5, 0.95))
    assert (low < median).all() and (median < high).all() and p.scale == 'ms'
    np.testing.assert_allclose(mean, median, rtol=1e-6)  # normal, far from zero
    np.testing.assert_allclose((high - low) / (2 * 1.6448536), sd, rtol=1e-6)


def of_macs(kind, noise=0.03, seed=0, n=500):
    "Features with MACs among them, and a device: a sum of them in ms, or a product of their powers."
    g = np.random.default_rng(seed)
    size = g.uniform(0, np.log(30), n)
    F = np.exp(size[:, None] + 0.3 * g.standard_normal((n, 6))) * [1, 10, 100, 1, 3, 1e6]
    names = [*(f'live.kind{i}' for i in range(5)), 'live.macs_dense']
    if kind == 'product':
        ms = F[:, 5] ** 0.4 * np.prod((F[:, :5] / F[:, :5].mean(0)) ** g.uniform(-0.4, 0.4, 5), 1)
    else:
        ms = 2 + F[:, 5] / F[:, 5].mean() * 10
    return F, names, ms * np.exp(noise * g.standard_normal(n))


@pytest.mark.parametrize('k', [10, 20])
def test_a_device_that_is_linear_in_macs_is_no_worse_than_a_line(k):
    "In ms, over devices whose latencies lie within a factor of thirty; in logarithms the line is far off."
    ours, line = [], []
    for seed in range(5):
        F, names, ms = of_macs('sum', seed=seed)
        p = FewShotPredictor(names=names).fit(F)
        rows = p.suggest(k)
        p.update({i: ms[i] for i in rows})
        assert p.scale == 'ms' and p.suggest(1)[0] not in rows
        ours.append(np.median(abs(p.quantile(F, 0.5) / ms - 1)))
        line.append(np.median(abs(np.polyval(np.polyfit(F[rows, 5], ms[rows], 1), F[:, 5]) / ms - 1)))
    assert np.mean(ours) <= 1.02 * np.mean(line) < 0.05, (ours, line)


def test_a_device_whose_latency_is_a_product_is_learned_in_logarithms():
    for seed in range(3):
        F, names, ms = of_macs('product', seed=seed)
        p = FewShotPredictor(names=names).fit(np.log(F))  # what multiplies is a sum of these
        p.update({i: ms[i] for i in p.suggest(20)})
        assert p.scale == 'log' and spearmanr(p.predict(np.log(F))[0], ms).statistic > 0.95
        assert 'logarithms' in repr(p)


@pytest.mark.parametrize('k', [1, 2, 10, 20])
@pytest.mark.parametrize('kind', ['sum', 'product'])
def test_latencies_are_positive_and_ordered(kind, k):
    "Also far below and above all that was measured, and where nothing but the slowest was."
    F, names, ms = of_macs(kind)
    slow = np.argsort(ms)[-k:]
    p = FewShotPredictor(names=names).fit(F).update({int(i): ms[i] for i in slow})
    far = np.concatenate([F, F * 1e-3, F.min(0)[None] * 0, F * 10])
    mean, sd = p.predict(far)
    low, median, high = (p.quantile(far, q) for q in (0.001, 0.5, 0.999))
    assert (0 < low).all() and (low < median).all() and (median < high).all() and (mean > 0).all() and (sd > 0).all()
    assert all(np.isfinite(v).all() for v in (mean, sd, high))


@pytest.mark.parametrize('noise', [0.01, 0.03, 0.15])
@pytest.mark.parametrize('chosen', [True, False])
def test_nine_of_ten_latencies_lie_in_the_interval(noise, chosen):
    "Whatever the noise is: the prior of the noise knows of one in thirty only."
    inside = []
    for seed in range(8):
        F, names, ms = of_macs('sum', noise, seed)
        p = FewShotPredictor(names=names).fit(F)
        rows = p.suggest(20) if chosen else np.random.default_rng(seed).permutation(len(F))[:20]
        low, high = p.update({int(i): ms[i] for i in rows}).interval(F)
        inside.append(np.mean((low <= ms) & (ms <= high)))
    assert 0.85 < np.mean(inside) < 0.97, inside


def test_suggestions_are_spread_over_the_cost():
    "Of eight, one lies in or beside each eighth of the candidates by MACs, and by what is predicted once it is known."
    F, names, ms = of_macs('sum')
    p = FewShotPredictor(names=names).fit(F)
    of = lambda rows, cost: np.sort(cost.argsort().argsort()[rows]) / len(cost)
    due = np.sort([0.5, 0.25, 0.75, 0.125, 0.625, 0.375, 0.875, 0.0625])
    assert (abs(of(p.suggest(8), F[:, 5]) - due) < 0.26).all()
    p.update({i: ms[i] for i in p.suggest(8)})
    assert np.ptp(of(p.suggest(8), p.predict(F)[0])) > 0.5


def test_what_source_devices_say_is_worked_out_once(monkeypatch):
    "Of each network: intervals, bounds and updates ask again, new networks alone are new."
    F, ms = world()
    new, asked = ms.pop('d3'), []
    own = FewShotPredictor._worked_out
    monkeypatch.setattr(
        FewShotPredictor, '_worked_out', lambda self, parts: asked.append(len(parts[0][1])) or own(self, parts)
    )
    p = FewShotPredictor().fit(F[:300], {k: v[:300] for k, v in ms.items()})
    asked.clear()
    p.update({i: new[i] for i in p.suggest(20)})
    p.predict(F[:300]), p.interval(F[:300]), p.update({0: new[0]}).quantile(F[:300], 0.9)
    assert sum(asked) == 0
    first = p.predict(F[250:])
    assert asked == [100]
    np.testing.assert_allclose(p.predict(F[250:]), first)
    other = FewShotPredictor().fit(F, ms).update(dict(zip(p.rows, p.measured[1])))
    assert asked == [100, 400] and spearmanr(other.predict(F)[0], p.predict(F)[0]).statistic > 0.99
    monkeypatch.setattr('nas_suite.latency.fewshot._KEPT', 50)
    np.testing.assert_allclose(p.predict(F[250:]), first)  # what is too much to remember is right too


def test_more_measurements_and_chosen_ones_tell_more():
    few, F, new = learned(6)
    many, _, _ = learned(60)
    assert np.median(abs(many.predict(F)[0] / new - 1)) < np.median(abs(few.predict(F)[0] / new - 1))
    assert many.predict(F)[1].mean() < few.predict(F)[1].mean()


def test_units_do_not_matter():
    p, F, new = learned()
    rows = p.suggest(5)
    q = FewShotPredictor().fit(F * 1000.0, {k: 7 * v for k, v in p.sources.items()})
    q.update({i: 1000 * new[i] for i in p.rows})
    np.testing.assert_allclose(q.predict(F * 1000.0)[0], 1000 * p.predict(F)[0], rtol=1e-3)


def test_suggestions_are_new_spread_and_near_the_budget():
    p, F, new = learned(10)
    more = p.suggest(30)
    assert len(set(more)) == 30 and not set(more) & set(p.rows) and p.suggest(5) == p.suggest(5) == more[:5]
    near = p.suggest(20, near_ms=float(np.median(new)))
    gap = lambda rows: np.mean(abs(np.log(new[rows] / np.median(new))))
    assert gap(near) < gap(more)
    g = np.random.default_rng(0)
    assert np.linalg.slogdet(np.cov(F[FewShotPredictor().fit(F).suggest(12)].T))[1] > np.mean(
        [np.linalg.slogdet(np.cov(F[g.permutation(len(F))[:12]].T))[1] for _ in range(20)]
    )


def test_one_empty_network_does_not_decide():
    F, ms = world()
    new = ms['d3'].copy()
    p = FewShotPredictor().fit(F)
    rows = p.suggest(20)
    new[rows[0]] = 1e-4
    assert spearmanr(p.update({i: new[i] for i in rows}).predict(F)[0], ms['d3']).statistic > 0.6


def test_predictors_say_what_is_wrong(tmp_path):
    F, ms = world(60)
    p = FewShotPredictor()
    for call, words in (
        (lambda: p.suggest(3), 'call fit first'),
        (lambda: p.predict(F), 'call fit first'),
        (lambda: p.save(tmp_path / 'a.npz'), 'call fit first'),
        (lambda: p.fit(F[:1]), 'to choose from; found 1'),
        (lambda: p.fit([{'a': 1}]), 'give the predictor its space'),
        (lambda: p.fit(F, {'d': ms['d0'][:-1]}), '60 latencies'),
        (lambda: p.fit(F, {'d': -ms['d0']}), 'above 0 ms'),
        (lambda: p.fit(F, {'d': np.where(np.arange(60) < 50, np.nan, 1)}), '20 measured candidates or more; d has 10'),
        (lambda: p.fit(F, [ms['d0']]), 'a dict from name'),
    ):
        with pytest.raises(ValueError, match=words):
            call()
    with pytest.raises(ValueError, match='finite'):
        FewShotPredictor().fit(np.where(F > 1e9, F, np.nan))
    p = FewShotPredictor().fit(F)
    for call, words in (
        (lambda: p.predict(F), 'nothing is measured yet'),
        (lambda: p.suggest(61), 'k is 1 to 60'),
        (lambda: p.suggest(0), 'k is 1 to 60'),
        (lambda: p.suggest(2, near_ms=1.0), 'nothing is measured'),
        (lambda: p.interval(F), 'nothing is measured'),
        (lambda: p.update({}), 'found none'),
        (lambda: p.update({0: 0.0}), 'above 0 ms; found 0'),
        (lambda: p.update({0: math.nan}), 'above 0 ms; found nan'),
        (lambda: p.update({60: 1.0}), 'candidates are 0 to 59; found 60'),
        (lambda: p.update({0: '3 ms'}), "found '3 ms'"),
        (lambda: p.cost_model(), 'nothing is measured yet'),
    ):
        with pytest.raises(ValueError, match=words):
            call()
    assert len(p.measured[1]) == 0  # nothing of a refused update stays
    p.update({0: 1.0, 1: 2.0})
    for call, words in (
        (lambda: p.predict(F[:, :3]), '6 columns'),
        (lambda: p.quantile(F, 1.0), 'between 0 and 1'),
        (lambda: p.interval(F, 90), 'between 0 and 1; found 90'),
        (lambda: p.suggest(2, near_ms=0), 'above 0 ms; found 0'),
        (lambda: p.suggest(2, near_ms=math.nan), 'above 0 ms; found nan'),
        (lambda: p.suggest(59), 'k is 1 to 58'),
        (lambda: p.cost_model(), 'FewShotPredictor\\(space\\)'),
        (lambda: p.save(tmp_path / 'a.pt'), 'ends in .npz'),
    ):
        with pytest.raises(ValueError, match=words):
            call()
    (tmp_path / 'bad.npz').write_bytes(b'no')
    for name, words in (('bad.npz', 'is not a predictor'), ('none.npz', 'there is no predictor')):
        with pytest.raises(ValueError, match=words):
            load_predictor(tmp_path / name)


def test_one_measurement_is_enough_to_predict():
    F, _ = world()
    p = FewShotPredictor().fit(F).update({3: 5.0})
    mean, sd = p.predict(F)
    assert np.isfinite(mean).all() and np.isfinite(sd).all() and abs(np.log(p.quantile(F[3:4], 0.5)[0] / 5)) < 0.3


@pytest.fixture(scope='module')
def phone():
    "A small space, a predictor of it with 25 measurements, and the true latency."
    space = SPACES['proxyless']()
    table, rows = space_features(space), sample(space, 400, torch.Generator().manual_seed(0)).unique(dim=0)

    def true(rows):
        f = table(rows)
        return 0.3 + 0.05 * f[:, at('live.kernels')] + 2e-6 * f[:, at('live.macs_pointwise')]

    p = FewShotPredictor(space).fit(decode(space, rows))
    archs = p.suggest(25)
    return space, p.update(list(zip(archs, true(encode(space, archs))))), true


def test_a_predictor_is_a_budget_of_every_strategy(phone):
    "Strategies ask a cost model for single costs, for many, for the cheapest, for gradients, and for what fits: never slower than the budget."
    space, p, true = phone
    cost = p.cost_model(space)
    rows = sample(space, 300, torch.Generator().manual_seed(1))
    bound = cost.batch(rows)
    assert (
        cost.name == 'latency_ms'
        and cost.surrogate_r2 > 0.95
        and cost(decode(space, rows[0])[0]) == pytest.approx(float(bound[0]))
    )
    assert (bound.numpy() >= p.quantile(rows, 0.5)).all() and (bound.numpy() >= true(rows)).mean() > 0.93
    low, _ = cheapest(cost)
    assert low <= 1.05 * float(bound.min())
    budget = float(bound.median())
    assert feasible(cost, budget) == budget
    likes = {
        n: torch.tensor([0.01 if o == 'zero' else 1.0 + i for i, o in enumerate(c.options)])
        for n, c in choices(space).items()
    }  # wants them large
    arch = derive(space, [(cost, budget)], {n: v / v.sum() for n, v in likes.items()})
    assert cost(arch) <= budget and true(encode(space, arch))[0] <= budget and cost(arch) > 0.7 * budget
    with pytest.raises(ValueError, match='no architecture of this space has latency_ms'):
        feasible(cost, low / 3)
    loss, probs = LatencyAwareLoss(cost, budget), {n: c.probs for n, c in choices(space).items()}
    loss.ascend(probs)
    loss(torch.tensor(1.0), probs).backward()
    assert all(c.alpha.grad is not None and torch.isfinite(c.alpha.grad).all() for c in choices(space).values())
    space.zero_grad()
    mean = float(cost.expected(probs).detach())
    drawn = cost.batch(sample(space, 2000, torch.Generator().manual_seed(3)))
    assert abs(mean / float(drawn.mean()) - 1) < 0.05
    assert (p.cost_model(space, 0.5).batch(rows) < bound).all()


def test_a_restricted_space_keeps_its_predictor(phone):
    space, p, _ = phone
    name, choice = next(iter(choices(space).items()))
    view = restrict(space, {name: choice.options[0]})
    cost = p.cost_model(view)
    assert cheapest(cost)[1][name] == choice.options[0]
    with pytest.raises(ValueError, match='another space'):
        p.cost_model(SPACES['other']())


def test_a_predictor_survives_its_file(phone, tmp_path):
    space, p, _ = phone
    rows = sample(space, 50, torch.Generator().manual_seed(1))
    again = load_predictor(p.save(tmp_path / 'p.npz'), space)
    np.testing.assert_allclose(again.predict(rows)[0], p.predict(rows)[0], rtol=1e-5)
    assert again.suggest(4) == p.suggest(4)
    with pytest.raises(ValueError, match='another space'):
        load_predictor(tmp_path / 'p.npz', SPACES['other']())
    q, F, _ = learned()
    back = load_predictor(q.save(tmp_path / 'q.npz'))
    np.testing.assert_allclose(back.predict(F)[1], q.predict(F)[1], rtol=1e-5)
    assert back.priors == q.priors and back.scale == q.scale


def test_hostile_files_of_a_predictor_are_refused_in_one_line(tmp_path):
    "Cut off anywhere, with arrays and facts of another kind: a ValueError of one line that names the file."
    import json

    p, F, _ = learned(5)
    whole = p.save(tmp_path / 'p.npz').read_bytes()
    with np.load(tmp_path / 'p.npz') as z:
        good = {k: z[k] for k in z.files}
    about = json.loads(str(good['about']))
    files = {f'cut-{n}': whole[:n] for n in (0, 10, len(whole) // 2, len(whole) - 10)}
    files['changed'] = whole[:200] + bytes(200) + whole[400:]
    arrays = dict(
        pool=good['pool'][:-1],
        latencies=-good['latencies'],
        measured=good['measured'] * np.nan,
        ms=np.array(['a'] * 5),
    )
    facts = dict(names=3, sources=['d0'], rows=[0, 1, 2, 3, 400], archs=[{}], priors='none', seed=10**30, format='2')
    facts |= dict(report=float('nan'))
    contents = [good | {k: v} for k, v in arrays.items()]
    contents += [good | dict(about=np.array(json.dumps(about | {k: v}))) for k, v in facts.items()]
    contents += [
        good | dict(about=np.array(text)) for text in ('[' * 10**5, '{}', '[1]', '{"format": ' + '9' * 400 + '}')
    ]
    contents += [{k: v for k, v in good.items() if k != missing} for missing in good]
    for i, content in enumerate(contents):
        np.savez(tmp_path / 'x.npz', **content)
        files[f'content-{i}'] = (tmp_path / 'x.npz').read_bytes()
    for name, data in files.items():
        (tmp_path / 'bad.npz').write_bytes(data)
        with pytest.raises(ValueError, match='bad.npz is not a predictor') as e:
            load_predictor(tmp_path / 'bad.npz')
        assert '\n' not in str(e.value) and len(str(e.value)) < 400, name
    np.savez(tmp_path / 'x.npz', **(good | dict(about=np.array(json.dumps(about | dict(stretch=1.0))))))
    assert load_predictor(tmp_path / 'x.npz').scale == p.scale  # as files of 0.1.0 were


def test_a_predictor_is_the_cost_of_a_device(phone, tmp_path):
    space, p, _ = phone
    cost, arch = (
        device_cost(p, space, space.input_shape),
        decode(space, sample(space, 1, torch.Generator().manual_seed(5)))[0],
    )
    r = cost.reading(space, arch, 1.0)
    assert (
        (r.value, r.low, r.high) == (cost.middle(arch), *cost.interval(arch))
        and r.low < r.value < r.high
        and not r.measured
        and not cost.here()
    )
    assert cost.readings(space, [arch]) == [r] and cost.unit == 'ms' and cost.device == 'a predicted device'
    assert cost.save(tmp_path) == tmp_path / 'predictor.npz'
    again = device_cost(tmp_path, space, space.input_shape)
    assert again.identity() == cost.identity() and again.middle(arch) == pytest.approx(cost.middle(arch))
    other = FewShotPredictor(space).fit(p.archs).update([(arch, 1.0)])
    assert device_cost(other, space, space.input_shape).identity() != cost.identity()


def test_a_predictor_of_ones_own_needs_one_method(tmp_path):
    space = SPACES['proxyless']()

    class Mine(Predictor):
        def predict(self, archs):
            return np.full(len(archs), 5.0), np.full(len(archs), 0.5)

    class Theirs:  # no Predictor, with a cost model of its own
        def predict(self, archs):
            return [5.0], [0.5]

        def cost_model(self, space):
            return macs(space, space.input_shape)

    arch = decode(space, sample(space, 1))[0]
    for given, bound in ((Mine(), 5 + 0.5 * 1.6448536), (Theirs(), macs(space, space.input_shape)(arch))):
        cost = device_cost(given, space, space.input_shape)
        r = cost.reading(space, arch)
        assert cost(arch) == pytest.approx(bound) and (r.value, r.low, r.high) == pytest.approx(
            (5, 5 - 0.5 * 1.959964, 5 + 0.5 * 1.959964)
        )
        assert (
            cost.identity() == dict(table=type(given).__name__)
            and cost.save(tmp_path) is None
            and cost.expected({n: c.probs for n, c in choices(space).items()}) > 0
        )
    with pytest.raises(ValueError, match='a latency table, its file, or a predictor; found 3'):
        device_cost(3, space, space.input_shape)
    with pytest.raises(TypeError, match='has no method predict'):
        Predictor().predict([arch])


# ---------------------------------------------------------------- the published data


def test_fbnet_on_the_published_latencies(shared, monkeypatch):
    "A tenth of the benchmark: 20 measurements of a phone's and a GPU's 5,000 networks."
    shared('data/latency/help/fbnet.npz')
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / 'benchmarks'))
    import published

    z = published.data('latency/help/fbnet.npz')
    rows = torch.as_tensor(z['arch_ops'][:1000].astype(int))
    X = space_features(published.FBNet())(rows)
    for device, least in (('2080ti_1', 0.97), ('fpga', 0.95), ('pixel2', 0.65)):
        ms = z['latency_ms'][:1000, list(z['devices']).index(device)].astype(float)
        p = FewShotPredictor().fit(X)
        assert spearmanr(p.update({i: ms[i] for i in p.suggest(20)}).predict(X)[0], ms).statistic > least, device
