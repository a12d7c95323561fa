"The space that a task takes lies around the budget, grows with it, stays within what the data can use, and is kept by a run."

import json, warnings
from copy import copy
from functools import lru_cache
import numpy as np, pytest, torch
from torch.utils.data import TensorDataset
from nas_suite import search
from nas_suite.choices import choices, largest, sample, smallest
from nas_suite.costs import cost_of, macs
from nas_suite.extraction import check, extract
from nas_suite.front.doors.base import space_for
from nas_suite.latency import Extrapolates, FewShotPredictor, LatencyRegressor, device_cost, load_predictor
from nas_suite.latency.features import FEATURES, space_features
from nas_suite.latency.oneproxy import AdaProxy
from nas_suite.spaces.mobile import proxyless
from nas_suite.spaces.segmenter import ssr_segmenter
from nas_suite.spaces.sizing import Counted, Ends, Reach, Size, SpareBudget, Wanted, chosen, last
from nas_suite.spaces.tdnn import efficient_tdnn
from nas_suite.tasks.classification import classification, image_sizes
from nas_suite.tasks.segmentation import Segmentation
from nas_suite.tasks.speaker import speaker


def images(n, channels=3, size=32, classes=10):
    "A task of so many empty images."
    picture = torch.zeros(1, channels, size, size).expand(n, channels, size, size)
    data = TensorDataset(picture, torch.arange(n) % classes)
    return classification((data, TensorDataset(*data[:classes])))


def scenes(n, size=(64, 96)):
    "A task of so many empty pictures of five classes."
    labels = torch.zeros(1, dtype=torch.long)
    data = TensorDataset(torch.zeros(1).expand(n, 3, *size), labels.expand(n, *size))
    return Segmentation('scenes', data, data, data, list('abcde'), (3, *size))


photos, digits, pictures, voices = images(20000), classification('digits'), scenes(2000), speaker('synthetic voices')


def reach(space, cost=macs):
    found = cost(space, space.input_shape, checked=False)
    return found.cheapest()[0], found(largest(space))


@pytest.mark.parametrize(
    'task, budgets',
    [(photos, (5e6, 6e7)), (pictures, (3e6, 1e7, 1e8)), (voices, (3e6, 6e6))],
    ids=['photos', 'scenes', 'voices'],
)
def test_budgets_lie_in_the_upper_half_and_larger_ones_give_larger_spaces(task, budgets):
    before = 0
    for budget in budgets:
        space = task.default_space(dict(macs=budget))
        low, high = space.chosen['reach']['macs']
        assert (low + high) / 2 <= budget <= high and high > before and tuple(space.input_shape) == task.input_shape
        before = high


def test_sizes_for_segmentation():
    def found(budget, task=pictures):
        space = task.default_space(dict(macs=budget))
        low, high = space.chosen['reach']['macs']
        return space.config['channels'], [max(cells) for cells in space.config['depths']], low, high

    assert found(3e6) == ([10, 20], [3, 6], 1092300, 3279600)
    assert found(1e7) == ([20, 40], [3, 6], 4261296, 13010496)
    assert found(1e8) == ([56, 112], [4, 8], 26173368, 116445088)
    with pytest.warns(SpareBudget, match='the budget is more than 120 patches of 32 x 32 pixels can use'):
        few = scenes(10).default_space(dict(macs='1G'))
    assert few.config['channels'] == [20, 40] and few.chosen['items'] == 120 and few.chosen['largest_params'] == 85753


def test_spaces_for_large_images_have_few_widths_where_they_are_timed():
    large = scenes(2, (256, 320))
    for timed, widths in ((False, 9), (True, 3)):
        last, usual = large._sizes(timed)[-5], large._usual(timed)
        assert len(last.settings['cuts']) == widths and last.settings['channels'] == (64, 128)
        assert (usual.settings.get('cuts') == (32, 16, 0)) == timed
        config, same = last.make().config, usual.make().config
        assert {key: config[key] for key in same if key != 'cuts'} == {key: same[key] for key in same if key != 'cuts'}


chains = [
    *(pytest.param(task, (shared,), id=f'{name}-{shared}') for task, name in ((photos, 'photos'), (digits, 'digits'))
      for shared in (False, True)),
    pytest.param(photos, (False, True), id='photos-plain'),
    pytest.param(digits, (False, True), id='digits-plain'),
    pytest.param(pictures, (False,), id='scenes'),
    pytest.param(voices, (), id='voices'),
]


@pytest.mark.parametrize('task, how', chains)
def test_neighbours_overlap(task, how):
    "So that there is a space for every budget: the middle of each is below the end of the one before."
    found = task._sizes(*how)
    for chain in found if isinstance(found[0], list) else [found]:
        before = None
        for size in chain[:8]:
            ends = Counted('params').reach(Ends(size))
            assert before is None or before < ends.high and (ends.low + ends.high) / 2 < before
            before = ends.high


def test_the_binding_budget_counts():
    both = digits.default_space(dict(macs=1e9, params=3e4))
    assert both.chosen['binding'] == 'params' and both.config == digits.default_space(dict(params=3e4)).config


def layers(space, input_shape):
    "A cost of one's own: how many layers run."
    return cost_of(space, input_shape, lambda unit, inputs, outputs: 1, 'layers')


def test_costs_of_ones_own_pick_a_space():
    space = search.default_space(images(40, 1, 8), budget={layers: 16})
    low, high = space.chosen['reach']['layers']
    assert (low + high) / 2 <= 16 and reach(space, lambda *a, checked: layers(*a)) == (low, high)


def test_the_data_cap_the_space_and_it_is_said():
    with pytest.warns(SpareBudget, match='the budget is more than 1,297 training items can use'):
        space = digits.default_space(dict(macs='1G'))
    assert space.chosen['largest_params'] <= 100 * 1297 and 'items can use' in space.chosen['note']
    assert digits.default_space({}).chosen is None


def test_a_budget_below_all_says_what_the_smallest_is():
    with pytest.raises(ValueError, match='the smallest reaches 147,808'):
        search.classification(digits, macs=100, progress=False, device='cpu')


def test_weights_are_of_the_seed_alone():
    state = torch.get_rng_state()
    one, two = (digits.default_space(dict(macs='500k'), seed=3).state_dict() for _ in range(2))
    assert torch.equal(torch.get_rng_state(), state) and all(torch.equal(one[name], two[name]) for name in one)


def test_a_run_that_goes_on_keeps_its_space(tmp_path, unwritten):
    "Whatever the machine measures the second time."
    folder, task = tmp_path / 'run', images(40, 1, 8)
    settings = dict(strategy='gated', epochs=1, retrain_epochs=0, device='cpu', run_dir=folder, progress=False)
    found = search.classification(task, macs='300k', **settings)
    chosen_then = json.loads((folder / 'space.json').read_text())
    assert chosen_then['reach'] == found.space.chosen['reach']
    other = space_for(task, dict(macs=9e5), False, run_dir=folder)  # would be another one
    assert other.config == found.space.config != task.default_space(dict(macs=9e5)).config
    (folder / 'result.json').unlink()
    assert search.classification(task, macs='300k', **settings).arch == found.arch
    with pytest.raises(ValueError, match='holds another run; it differs in budget.macs'):
        search.classification(task, macs='900k', **settings)


def test_the_size_of_the_image_is_a_choice():
    assert image_sizes(32, 8) == [(24, 32)] and image_sizes(28, 8) == []
    assert image_sizes(224, 32) == [(168, 224), (120, 168), (88, 120)]
    space = photos.default_space(dict(macs='3M'))
    arch, x = largest(space) | dict(resolution=24), torch.randn(2, 3, 32, 32)
    network = extract(space, arch)
    assert check(space, arch, network, x) == 0 and network.eval()(x).shape == (2, 10)
    assert space.by_hand().arch['resolution'] == 32


def test_latency_on_this_machine_is_timed_quickly(monkeypatch, tmp_path):
    monkeypatch.setenv('NAS_SUITE_CACHE', str(tmp_path))
    space = search.default_space(digits, budget=dict(latency_ms=.5), device='cpu', threads=1)
    low, high = space.chosen['reach']['latency_ms']
    assert 0 < low < high and operators(space) >= {'fused1_k3', 'fused3_k3', 'mb3_k3', 'mb6_k5'}


def operators(space):
    "The operators of all choices of a space."
    return {str(option) for choice in choices(space).values() for option in choice.options}


@pytest.mark.parametrize(
    'task, budget, shared, plain',
    [
        (digits, dict(latency_ms=1), False, [True]),
        (photos, dict(latency_ms=1, params='1M'), False, [True]),
        (photos, Wanted(dict(latency_ms=1), table='a file'), False, [True, False]),
        (digits, dict(latency_ms=1), True, [False]),
        (digits, dict(macs='500k', params='50k'), False, [False]),
        (digits, {}, False, [False]),
        (images(10, 3, 96), dict(latency_ms=1), False, [False, False, False]),
    ],
)
def test_plain_convolutions_are_offered_where_time_counts(task, budget, shared, plain):
    "In small images, where weights are not shared; a MAC is dearer in them, so other budgets do without."
    found = [{'fused' in size.settings for size in chain} for chain in task._candidates(budget, shared)]
    assert found == [{each} for each in plain]


def test_the_fastest_network_of_a_space_is_plain():
    size = digits._sizes(False, plain=True)[0][6]
    ends = Ends(size)
    assert set(ends.archs[0].values()) == {'zero', 'fused1_k3'} and set(ends.archs[1].values()) == {'fused3_k3'}
    assert Ends(digits._sizes(False)[0][6]).archs[0] == smallest(digits._sizes(False)[0][6].make())


def test_halving():
    sizes = list(range(20))
    for most in range(-1, 21):
        found = last(sizes, lambda size: size <= most)
        assert found == (None if most < 0 else min(most, 19))
    assert Reach(2.0, 4.0).place(3.0) == 0.5
    assert chosen([[]], Size(dict, {}), Wanted(dict(unknown_mj=3))).facts is None


# ---------------------------------------------------------------- another device


def mobile(width):
    same = dict(classes=4, image_size=16, stem=8, first=8, depths=(2, 1), kernels=(3, 5), last=32)
    return Size(proxyless, same | dict(widths=(width, width)))


def scene(width):
    same = dict(classes=3, image_size=(16, 24), depths=(1, (1, 2)), dilations=(1,), stem=6, grids=(1, 2), branch=4)
    return Size(ssr_segmenter, same | dict(channels=(width, 2 * width), cuts=(width // 2, 0), low=8, head=12))


def voice(width):
    same = dict(features=8, embedding=8, frames=20, kernels=(1, 3), depths=1, scale=2, attention=8)
    return Size(efficient_tdnn, same | dict(widths=(width // 2, width), last=2 * width))


def ms(features):
    "What a made-up phone takes."
    of_macs = [i for i, name in enumerate(FEATURES) if name.startswith('live.macs')]
    return 0.3 + 0.05 * features[:, FEATURES.index('live.kernels')] + 1e-6 * features[:, of_macs].sum(1)


@lru_cache
def phone(size, width, by_options=True):
    "A space, and a predictor of the phone that measured twelve of its networks."
    space = size(width).make()
    table, rows = space_features(space), sample(space, 60, torch.Generator().manual_seed(0)).unique(dim=0)
    made = FewShotPredictor(space) if by_options else FewShotPredictor(names=list(FEATURES))
    found = made.fit(rows if by_options else table(rows))
    return space, found.update({i: float(ms(table(rows[[i]]))[0]) for i in found.suggest(12)})


@pytest.mark.parametrize(
    'family, widths, form',
    [
        (mobile, (48, 56, 128), lambda p, space, folder: str(p.save(folder / 'p.npz'))),
        (scene, (24, 28, 60), lambda p, space, folder: p.cost_model(space)),
        (voice, (24, 28, 64), lambda p, space, folder: p),
    ],
    ids=['classification', 'segmentation', 'speaker'],
)
def test_a_predictor_serves_spaces_like_its_own_and_refuses_others(family, widths, form, tmp_path):
    "The same networks in another size, with the same options or with others."
    sizes = [family(width) for width in widths]
    (space, p), like, far = phone(family, widths[0]), sizes[1].make(), sizes[2].make()
    device = form(p, space, tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        assert device_cost(device, space, space.input_shape)(largest(space)) > 0  # its own: no word
    with pytest.warns(Extrapolates, match='it learned from'):
        cost = device_cost(device, like, like.input_shape)
    ends = [smallest(like), largest(like)]
    for arch, true in zip(ends, ms(space_features(like)(ends))):
        low, high = cost.interval(arch)
        assert cost.middle(arch) == pytest.approx(true, rel=0.05) and low <= true <= high
    with pytest.raises(ValueError, match='too far from this one: it learned from'):
        device_cost(device, far, far.input_shape)
    low, high = map(cost, ends)
    most = high - 0.1 * (high - low)
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        found = chosen([sizes], sizes[0], Wanted(dict(latency_ms=most), table=device), 10**9)
    assert found.size is sizes[1] and found.facts['reach']['latency_ms'][1] == pytest.approx(high)
    assert 'knows the networks of few spaces' in found.facts['note']


def test_a_predictor_of_depthwise_convolutions_alone_serves_still():
    "Plain ones are too far from what it learned: the space without them is taken."
    size = mobile(48)
    plain = Size(proxyless, size.settings | dict(fused=((3, 1), (3, 3))))
    (space, p) = phone(mobile, 48)
    most = float(ms(space_features(space)([largest(space)]))[0])
    found = chosen([[plain], [size]], size, Wanted(dict(latency_ms=most), table=p), 10**9)
    assert found.size is size and 'knows the networks of few spaces' in found.facts['note']


def test_a_predictor_of_features_alone_serves_any_space():
    space, p = phone(voice, 24, by_options=False)
    with pytest.raises(ValueError, match='a predictor of features has no space'):
        p.cost_model()
    cost = p.cost_model(space)
    assert cost.middle(largest(space)) == pytest.approx(float(ms(space_features(space)([largest(space)]))[0]), rel=0.05)
    with pytest.raises(ValueError, match='too far from this one'):
        p.cost_model(mobile(48).make())


def test_files_of_before_say_no_range(tmp_path):
    "They are taken at their word, with a warning where their candidates end."
    p = copy(phone(voice, 24)[1])
    p.reach = None
    old = load_predictor(p.save(tmp_path / 'old.npz'))
    with pytest.warns(Extrapolates):
        assert old.of(voice(64).make()).by_features
    with np.load(tmp_path / 'old.npz') as stored:
        data = {key: stored[key] for key in stored.files}
    for wrong in ([], dict(MACs=[1.0]), 3):
        about = json.dumps(json.loads(str(data['about'])) | dict(reach=wrong))
        np.savez(tmp_path / 'bad.npz', **data | dict(about=np.array(about)))
        with pytest.raises(ValueError, match='bad.npz is not a predictor'):
            load_predictor(tmp_path / 'bad.npz')


def test_what_is_no_device_is_said_before_a_space_is_looked_at(tmp_path):
    (tmp_path / 'damaged.npz').write_bytes(b'no')
    (tmp_path / 'damaged.json').write_text('{')
    for table, words in (
        (AdaProxy(np.ones(3), 0.0, 1.0), 'a latency table, its file, or a predictor; found AdaProxy'),
        (tmp_path / 'damaged.npz', 'damaged.npz is not a predictor'),
        (tmp_path / 'damaged.json', 'damaged.json'),
        (tmp_path / 'nowhere.npz', 'there is no'),
    ):
        for task in (photos, pictures, voices):
            with pytest.raises(ValueError, match=words):
                task.default_space(Wanted(dict(latency_ms=3), table=table))


def test_a_sum_over_options_is_of_one_space():
    "A regressor knows options alone: of layers of other sizes it says nothing."
    space, other = mobile(48).make(), mobile(56).make()
    rows = sample(space, 20, torch.Generator().manual_seed(0))
    regressor = LatencyRegressor(space)
    regressor.fit(rows, ms(space_features(space)(rows)))
    with pytest.raises(ValueError, match='layers of other sizes'):
        device_cost(regressor, other, other.input_shape)
    for cost in (device_cost(regressor, space, space.input_shape), regressor.cost_model()):
        assert device_cost(cost, space, space.input_shape).batch(rows).tolist() == cost.batch(rows).tolist()
        with pytest.raises(ValueError, match='is of another space'):
            device_cost(cost, voice(24).make(), (8, 20))


def test_the_same_question_has_the_same_answer(counted):
    "Whatever noise is in the timings: what was timed is kept."
    size = mobile(48)
    one = chosen([[size, mobile(56)]], size, dict(latency_ms=0.5), 10**9)
    before = counted[0]
    two = chosen([[size, mobile(56)]], size, dict(latency_ms=0.5), 10**9)
    assert one.facts == two.facts and one.size is two.size and counted[0] == before > 0
