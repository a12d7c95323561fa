"What a search is compared with: random networks that fill the whole budget, and the hand-designed one scaled to it."

import json, warnings
import pytest, torch
from nas_suite import search
from nas_suite.choices import largest, smallest
from nas_suite.costs import count_params, macs, params
from nas_suite.extraction import extract
from nas_suite.front import compare as comparing
from nas_suite.front.page import baselines_table, verdict
from nas_suite.front.record import among_random, percentile, read, summary
from nas_suite.spaces.mobile import ofa_mobilenet_v3, proxyless
from nas_suite.strategies.evolution import Evolution
from test_search import dear_layers, go, shape


def wide(**more):
    torch.manual_seed(0)
    config = dict(classes=3, image_size=8, in_channels=1, stem=8, first=0, widths=(8, 16), depths=(2, 4), last=16)
    return proxyless(**config | dict(kernels=(3, 5), expands=(2, 3)) | more)


# ---------------------------------------------------------------- random networks


@pytest.fixture(scope='module')
def priced():
    space = wide()
    return space, macs(space, shape), params(space, shape)


@pytest.mark.parametrize('shares', [(0.5, 2.0), (2.0, 0.6), (0.6, 0.6), (0.4, 0.8)])
def test_peers_are_within_every_limit_and_fill_one(priced, shares):
    space, *costs = priced
    limits = [(cost, share * cost(largest(space))) for cost, share in zip(costs, shares)]
    arch = smallest(space)
    drawn = search.peers(space, arch, limits, 5, seed=1)
    assert len({json.dumps(other) for other in drawn}) == 5 and arch not in drawn
    for other in drawn:
        parts = [cost(other) / most for cost, most in limits]
        assert 0.97 <= max(parts) <= 1
    assert drawn == search.peers(space, arch, limits, 5, seed=1) != search.peers(space, arch, limits, 5, seed=2)
    assert arch not in search.peers(space, drawn[0], limits, 5, seed=1) and drawn[0] not in search.peers(
        space, drawn[0], limits, 5, seed=1
    )


def test_peers_of_a_budget_that_nothing_fills_are_as_full_as_any(priced):
    space, cost, _ = priced
    top = cost(largest(space))
    drawn = search.peers(space, smallest(space), [(cost, 3 * top)], 3)
    assert drawn and all(cost(other) >= 0.97 * top for other in drawn)
    assert len(search.peers(space, smallest(space), [], 3)) == 3


def test_of_more_peers_the_nearest_as_measured_are_taken(priced):
    space, cost, _ = priced
    limits = [(cost, 0.5 * cost(largest(space)))]
    asked = []

    def timed(archs):
        asked.extend(archs)
        return [1.0] + [1 + 0.01 * i for i in range(len(archs) - 1, 0, -1)]  # the last ones are the nearest

    near = search.peers(space, smallest(space), limits, 2, seed=1, measured=timed)
    assert near == asked[-2:] and asked[0] == smallest(space) and len(asked) == 10


# ---------------------------------------------------------------- the hand-designed network


def counting(most, count):
    return lambda rival: count(extract(rival.space, rival.arch)) <= most


@pytest.mark.parametrize('make', [wide, lambda: ofa_mobilenet_v3(
    classes=3, image_size=16, in_channels=1, widths=(16, 24), depths=(2, 3), stem=8, first=8, last=(32, 32))])  # fmt: skip
@pytest.mark.parametrize('share', [0.7, 1.7])
def test_by_hand_is_as_wide_as_fits(make, share):
    space = make()
    plain = space.by_hand()
    most = share * count_params(extract(space, plain.arch))
    hand = comparing.scaled_by_hand(space, counting(most, count_params))
    sizes = [count_params(extract(h.space, h.arch)) for w in comparing.widths for h in [space.by_hand(w)]]
    assert count_params(extract(hand.space, hand.arch)) == max(size for size in sizes if size <= most)
    assert hand.name.startswith(plain.name) and 'depth' not in hand.name
    assert (hand.space is space) == (hand.name == plain.name)


def layers(network):
    return sum(isinstance(m, torch.nn.Conv2d) for m in network.modules())


def test_where_time_goes_by_layers_depth_is_scaled_too():
    space = wide()
    deep = layers(extract(space, space.by_hand().arch))
    hand = comparing.scaled_by_hand(space, counting(deep - 3, layers))
    assert hand.name == 'MobileNetV2-like x1.4, depth x0.75' and layers(extract(hand.space, hand.arch)) == deep - 3
    assert comparing.scaled_by_hand(space, counting(deep // 8, layers)) is None
    assert comparing.scaled_by_hand(torch.nn.Linear(1, 1), None) is None  # nobody knows one
    assert comparing.scaled_by_hand(space, lambda rival: rival.space is space).space is space  # scaled: nobody knows


@pytest.mark.parametrize('depth', [1.0, 0.5, 0.1])
def test_a_scaled_space_is_as_deep_as_said(depth):
    hand = wide().by_hand(depth=depth)
    assert hand.space.config['depths'] == [max(1, -(-int(10 * depth * n) // 10)) for n in (2, 4)]
    assert hand.space.config['width'] == 1 and wide().by_hand(0.5).space.config['depths'] == [2, 4]


# ---------------------------------------------------------------- a comparison


@pytest.fixture(scope='module')
def compared(tmp_path_factory):
    "A run that keeps the weights of its supernet, with a budget of two costs, one of them one's own."
    folder, space = tmp_path_factory.mktemp('compare') / 'run', wide(depths=(2, 2))
    whole = {dear_layers: 0.9 * dear_layers(space, shape)(space.by_hand().arch), 'params': 3500}
    strategy = Evolution(dict(epochs=2, batch_size=16), score='accuracy', population=4, parents=2, generations=1, finalists=1)
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        found = go(folder, space=space, strategy=strategy, budget=whole, retrain_epochs=0, finalists=0)
    return found, search.compare(found, random=4, progress=False), whole


def test_all_rivals_are_within_the_whole_budget(compared):
    found, rows, whole = compared
    limits = dict(macs=whole[dear_layers] / 3, params=3500)
    assert rows[0]['name'] == 'found' and rows[0]['arch'] == found.arch
    assert [row['name'].split()[0] for row in rows] == ['found', 'MobileNetV2-like', *['random'] * 4]
    for row in rows:
        assert all(row[name] <= most for name, most in limits.items())
    for row in rows[2:]:
        assert max(row[name] / most for name, most in limits.items()) >= 0.97


def test_the_percentile_is_said_in_rows_summary_and_report(compared):
    found, rows, _ = compared
    drawn = [row['accuracy'] for row in rows if row['name'].startswith('random')]
    said = percentile(rows[0]['accuracy'], drawn)
    assert rows[0]['percentile'] == vars(said) and not any('percentile' in row for row in rows[1:])
    interval = f'{100 * said.low:.0f} to {100 * said.high:.0f} with 95 % confidence'
    words = among_random(read(found.run_dir))
    assert words == f'percentile {100 * said.value:.0f} of 4 random, {interval}'
    assert words in summary(found.run_dir) and words in verdict(read(found.run_dir))
    assert words in (found.run_dir / 'report.html').read_text()


def test_a_scaled_network_beside_weights_that_were_kept_is_trained_alone(compared):
    found, rows, _ = compared
    hand = next(row for row in rows if row['name'].startswith('Mobile'))
    assert hand['name'] != 'MobileNetV2-like' and hand['trained_alone'] == 2
    assert not any('trained_alone' in row for row in rows if row is not hand)
    assert 'trained alone, for 2 epochs' in baselines_table(read(found.run_dir)).note


def test_a_folder_asks_for_costs_of_ones_own(compared):
    found, _, whole = compared
    loaded = search.load(found.run_dir)

    def prices(budget):
        return comparing._Prices(comparing.Run(found.run_dir), found.space, shape, budget)

    with pytest.raises(ValueError, match='energy_mj is a cost of one.s own'):
        prices(loaded.budget)
    assert found.budget == whole and prices(whole).most == loaded.budget
