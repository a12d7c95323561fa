"The final: candidates fill the budget, its cost is bounded, evidence beats a ranking that is wrong, and it goes on where it was cut off."

import json, math, shutil, warnings
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from types import SimpleNamespace
import pytest, torch
from torch import nn
from torch.utils.data import TensorDataset
from nas_suite import files, search
from nas_suite.choices import count, encode, largest, one_of, smallest, structure
from nas_suite.costs import macs, params
from nas_suite.extraction import extract
from nas_suite.front import figures, page, search as steps
from nas_suite.front.record import percentile, read
from nas_suite.spaces.mobile import proxyless
from nas_suite.strategies.base import Strategy
from nas_suite.strategies.candidates import Band, around
from nas_suite.strategies.evidence import by_prior, spearman, weighed
from nas_suite.strategies.evolution import Evolution
from nas_suite.strategies.finals import Final, Hands, Plan, judging, planned
from nas_suite.strategies.gated import Gated
from nas_suite.strategies.regularized import Regularized
from nas_suite.strategies.training_free import looked_at, untrained, voices
from nas_suite.tasks.base import Metric
from nas_suite.tasks.classification import classification
from nas_suite.training import Loop, NotFinite
from test_search import mobile, pair, same_run, shape

# ---------------------------------------------------------------- candidates


def wide():
    torch.manual_seed(0)
    return proxyless(classes=3, image_size=8, in_channels=1, stem=8, first=0, widths=(8, 16), depths=(2, 3), last=16)


@pytest.fixture(scope='module')
def priced():
    "A space, two costs, and one that is no sum: the larger of two."
    space = wide()
    one, other = macs(space, shape), params(space, shape)
    return space, one, other, SimpleNamespace(name='peak', batch=lambda rows: torch.maximum(one.batch(rows), 10 * other.batch(rows)))


@pytest.mark.parametrize('strategy', [Strategy(), Gated(epochs=1), Regularized(epochs=1)], ids=['any', 'gated', 'joint'])
@pytest.mark.parametrize('kind', ['one', 'two', 'no sum', 'loose'])
def test_candidates_fill_the_budget(strategy, kind, priced):
    space, a, b, c = priced
    big = encode(space, largest(space))
    most = {id(cost): float(cost.batch(big)) for cost in (a, b, c)}
    limits = dict(
        one=[(a, 0.6 * most[id(a)])], two=[(a, 0.6 * most[id(a)]), (b, 0.7 * most[id(b)])],
        loose=[(a, 3 * most[id(a)])],
    ).get(kind, [(c, 0.7 * most[id(c)])])  # fmt: skip
    start = around(space, smallest(space), limits, 2)[1]
    found = strategy.entrants(space, limits, 12, 1, start)
    assert found[0] == start and len(found) == len({str(sorted(arch.items())) for arch in found}) == 12
    band = Band(structure(space), limits)
    rows = encode(space, found)
    assert (band.shares(rows) <= 1).all()
    top = min(1.0, float(band.used(big))) if kind == 'loose' else 1.0
    assert (band.used(rows) >= dict(loose=0.9 * top).get(kind, 0.97 * band.used(rows).max())).all()
    assert found == strategy.entrants(space, limits, 12, 1, start) != strategy.entrants(space, limits, 12, 2, start)


def test_a_space_of_few_networks_gives_as_many_as_there_are():
    tiny = nn.ModuleDict(dict(width=one_of(1, 2), depth=one_of(1, 2)))
    for n in 1, 3, 10:
        found = Strategy().entrants(tiny, [], n, 0, dict(width=1, depth=2))
        assert len(found) == min(n, count(tiny)) and found[0] == dict(width=1, depth=2)


# ---------------------------------------------------------------- what it may cost


@pytest.mark.parametrize('each', [0.01, 0.35, 0.7])
@pytest.mark.parametrize('least', [1, 5])
def test_the_cost_is_bounded_by_that_of_the_search(each, least):
    trained = []
    for most in (0.5, 1, 2, 3, 5, 10, 30, 100, 1000):
        for longest in (0, 1, 3, 2 * most):
            plan = planned(most, each, longest, least)
            if plan is None:
                continue
            assert plan.passes <= most and plan.judged >= max(2, plan.trained)
            assert sum(passes for _, passes in plan.rounds) <= max(longest, 1)
            assert bool(plan.rounds) == bool(longest)
        trained.append(plan.trained if plan else 0)
    assert trained == sorted(trained) and trained[0] == 0 and trained[-1] == 8


def test_who_asks_for_finalists_gets_them():
    for n in (2, 3, 8):
        assert planned(1, 0.5, 10, 5, n).rounds[0][0] == n
    assert planned(100, 0.5, 10, 1, 0) is planned(100, 0.5, 10, 1, 1) is None


# ---------------------------------------------------------------- evidence


def pool(n=40):
    generator = torch.Generator().manual_seed(0)
    truth, other = torch.randn(2, n, generator=generator).double()
    return truth, dict(inherited=-truth, params=other, depth=truth + 0.3 * torch.randn(n, generator=generator))


def test_evidence_turns_a_wrong_ranking_around():
    truth, signals = pool()
    assert spearman(by_prior(signals).rank(signals), truth) < -0.3
    assert weighed(signals, [0, 1, 2], truth[:3]) == by_prior(signals)
    for n in (4, 6, 8):
        assert spearman(weighed(signals, list(range(n)), truth[:n]).rank(signals)[n:], truth[n:]) > 0.7


def test_a_signal_that_says_nothing_is_left_out():
    truth, signals = pool()
    signals = signals | dict(macs=torch.ones(40), inherited=torch.full((40,), -math.inf))
    found = weighed(signals, list(range(6)), truth[:6])
    assert all(math.isfinite(w) for w in found.of.values()) and found.rank(signals).isfinite().all()
    assert spearman([1, 1, 2], [1, 1, 1]) is None


# ---------------------------------------------------------------- a final by itself


@dataclass
class Table:
    "A task in which a network is worth its kernels when it was trained alone, and minus that with inherited weights."
    fails: tuple = ()  # Kernels with which a training diverges
    metric = Metric('worth', unit='')
    batch_size = 4
    train = valid = TensorDataset(torch.randn(12, 1, 8, 8), torch.arange(12) % 3)

    def prepare(self, x, y, generator=None):
        return x, y

    def evaluate(self, network, dataset, device='cpu'):
        kernels = sum(m.kernel_size[0] for m in network.modules() if isinstance(m, nn.Conv2d))
        return dict(worth=float(kernels if hasattr(network, 'passes') else -kernels))


def contest(tmp_path, task, plan, costs=lambda arch: {}, stop=None):
    "A final on made-up trainings, whose files are in memory; `stop`: after so many of them the process ends."
    space, store, ran = wide(), {}, []

    def train(network, passes, checkpoint, before, label):
        if len(ran) == stop:
            raise KeyboardInterrupt
        ran.append(passes)
        network.passes = getattr(network, 'passes', 0) + passes
        if task.evaluate(network, None)['worth'] in task.fails:
            raise NotFinite('nan')

    def once(name, compute):
        if name not in store:
            store[name] = json.loads(json.dumps(compute()))
        return store[name]

    hands = Hands(lambda arch: extract(space, arch), train, costs, once, lambda name: tmp_path / name, False)
    final = Final(space, task, plan, hands)
    limits = [(params(space, shape), 0.8 * params(space, shape)(largest(space)))]
    final.judge(lambda n: around(space, smallest(space), limits, n), dict(params=limits[0][0]))
    return final, ran


def test_a_final_finds_the_best_where_the_inherited_ranking_is_upside_down(tmp_path):
    final, ran = contest(tmp_path, Table(), Plan(24, [(6, 1), (3, 2)], 0.1, 20))
    winner = final.play()
    worth = [-score for score in final.signals['inherited']]
    assert worth[winner] == max(worth) and final.order[0] == 0
    assert final.weights.of['inherited'] < 0 < by_prior(final.signals).of['inherited']
    facts = final.facts(winner)
    said = {found['of']: found for found in facts['agreements']}
    assert said['inherited'] == dict(of='inherited', to='round 1', spearman=pytest.approx(-1), n=6)
    assert said['round 1'] == dict(of='round 1', to='round 2', spearman=pytest.approx(1), n=3)
    assert [len(row['short']) for row in facts['candidates']].count(2) == 3 and facts['passes'] <= 20
    assert json.loads(json.dumps(facts)) == facts


def test_a_candidate_that_diverges_ends_itself_alone(tmp_path):
    whole, _ = contest(tmp_path, Table(), plan := Plan(24, [(6, 1), (3, 2)], 0.1, 20))
    best = whole.facts(whole.play())['candidates'][whole.order[-1]]['short'][0]
    final, _ = contest(tmp_path, Table((best,)), plan)
    winner = final.play()
    assert final.short[winner][-1] < best and None in [scores[0] for scores in final.short.values()]
    every = tuple(float(n) for n in range(100))
    final, _ = contest(tmp_path, Table(every), plan)
    assert final.play() is None and final.facts(None)['winner'] is None


def test_candidates_above_the_budget_give_their_place_away(tmp_path):
    plan, asked = Plan(24, [(4, 1), (2, 1)], 0.1, 20), []

    def costs(arch):
        asked.append(arch)
        return {} if len(asked) % 2 else None

    final, _ = contest(tmp_path, Table(), plan, costs)
    final.play()
    assert len(final.order) == 4 and len(asked) == 7 and all(final.archs[one] == asked[2 * i] for i, one in enumerate(final.order))


def test_where_nothing_is_trained_the_inherited_score_decides(tmp_path):
    final, ran = contest(tmp_path, Table(), Plan(12, [], 0.1, 20))
    winner = final.play()
    assert not ran and final.signals['inherited'][winner] == max(final.signals['inherited'])


# ---------------------------------------------------------------- in a search


def go(run_dir, **more):
    settings = dict(strategy=Gated(epochs=2, batch_size=16), budget=dict(macs=14000), retrain_epochs=2, finalists=2)
    settings |= dict(run_dir=run_dir, seed=3, device='cpu', progress=False)
    with warnings.catch_warnings():
        warnings.simplefilter('ignore', steps.Gap)
        warnings.simplefilter('ignore', steps.HeldBack)
        return search.run(mobile(), classification(pair(), shift=1), **settings | more)


@pytest.fixture(scope='module')
def held(tmp_path_factory):
    return go(tmp_path_factory.mktemp('final') / 'run')


def test_a_run_says_all_of_its_final(held):
    said = held.finals
    assert said == json.loads((held.run_dir / 'finals.json').read_text()) == search.load(held.run_dir).finals
    row = said['candidates'][said['winner']]
    assert row['arch'] == held.arch and len(said['order']) == 2 and 0.9 < row['costs']['share'] <= 1
    assert held.costs['macs'] == row['costs']['readings']['macs']['value'] == row['macs']
    assert set(held.metrics) == {'supernet', 'extracted', 'short', 'retrained'}
    scores = {one: said['candidates'][one]['short'][-1] for one in said['order']}
    assert scores[said['winner']] == max(scores.values())
    assert not list(held.run_dir.glob('final-*.pt'))


class Ended(Exception):
    pass


def test_a_run_that_ends_again_and_again_in_its_final_goes_on_bit_for_bit(held, tmp_path, monkeypatch):
    "Each time right after another file of the final was written."
    folder = tmp_path / 'run'
    folder.mkdir()
    for name in ('config', 'environment', 'history', 'search', 'settled'):
        shutil.copy(held.run_dir / f'{name}.json', folder)
    for name in ('start.pt', 'search.pt'):
        shutil.copy(held.run_dir / name, folder)
    plain = files.os.replace
    for moment in ('inherited.json', 'candidates.json', 'entered-1.json', 'final-0-1.pt', 'scores-1.json', 'finals.json'):
        def replace(a, b):
            plain(a, b)
            if Path(b).name == moment:
                raise Ended

        with monkeypatch.context() as patch:
            patch.setattr(files.os, 'replace', replace)
            with pytest.raises(Ended):
                go(folder)
        assert (folder / moment).exists() and not (folder / 'arch.json').exists()
    go(folder)
    same_run(held.run_dir, folder)
    assert json.loads((folder / 'finals.json').read_text()) == held.finals


def test_workers_train_the_same_candidates(held, tmp_path, unwritten, monkeypatch):
    "Of the final alone: what is before it is taken over. Here nothing is trained but by workers."
    folder = tmp_path / 'run'
    shutil.copytree(held.run_dir, folder, ignore=shutil.ignore_patterns('finals.json', 'cand*', 'inh*', 'ent*', 'scores*'))
    for name in ('arch', 'result', 'costs', 'metrics'):
        (folder / f'{name}.json').unlink()
    monkeypatch.setattr(torch, 'get_num_threads', lambda: 1)
    steps_here, plain = [], Loop.descend
    monkeypatch.setattr(Loop, 'descend', lambda self, *of: steps_here.append(1) or plain(self, *of))
    with ProcessPoolExecutor(2, mp_context=get_context('fork')) as two:
        found = go(folder, executor=two)
    assert found.finals == held.finals and not steps_here


def test_without_finalists_a_search_hands_out_what_it_derives(tmp_path):
    found = go(tmp_path / 'run', finalists=0)
    assert found.finals == {} and not list((tmp_path / 'run').glob('*candidates*'))
    settled = json.loads((tmp_path / 'run' / 'settled.json').read_text())
    assert found.arch == settled['arch'] and set(found.metrics) == {'supernet', 'extracted', 'retrained'}


def test_a_strategy_that_keeps_its_weights_hands_out_the_best_of_them(tmp_path):
    strategy = Evolution(dict(epochs=2, batch_size=16), score='accuracy', population=6, parents=2, generations=1, finalists=2)
    found = go(tmp_path / 'run', strategy=strategy, retrain_epochs=0, finalists=6)
    rows = found.finals['candidates']
    assert found.finals['plan']['rounds'] == [] and set(found.metrics) == {'supernet', 'extracted'}
    assert rows[found.finals['winner']]['inherited'] == max(row['inherited'] for row in rows)


def test_the_report_tells_of_the_final(held):
    run = read(held.run_dir)
    table = page.finals_table(run)
    assert len(table.rows) == 2 and table.strong == (held.finals['order'].index(held.finals['winner']),)
    assert 'passes over the training data' in table.note and 'The final' in (held.run_dir / 'report.html').read_text()
    assert page.finals_table(run | dict(finals={})) is None
    assert page.too_short(run) == '' and 'too short' in page.too_short(run | dict(finals={}, config=asked()))
    assert page.too_short(run | dict(finals={}, config=asked(finalists=0))) == ''


def test_the_report_draws_the_final_stage_by_stage(held):
    run = read(held.run_dir)
    ax = figures.finals(run).axes[0]
    assert [tick.get_text() for tick in ax.get_xticklabels()][0] == 'inherited'
    lines = {text.get_text(): line for text, line in zip([t for t in ax.texts if t.get_text() in '12'], ax.lines)}
    assert len(lines) == 2 and all(0 <= y <= 1 for line in lines.values() for y in line.get_ydata())
    winner = str(held.finals['order'].index(held.finals['winner']) + 1)
    assert lines[winner].get_color() == figures.accent and lines[winner].get_ydata()[-1] >= 0.5
    assert 'finals' in figures.figures(run) and figures.finals(dict(run, finals={})) is None
    unjudged = dict(held.finals, candidates=[dict(row, inherited=None) for row in held.finals['candidates']])
    assert 'inherited' not in [t.get_text() for t in figures.finals(dict(run, finals=unjudged)).axes[0].get_xticklabels()]


def test_untrained_scores_are_signals_whose_cost_is_counted(held):
    signals = held.finals['candidates'][0]
    assert all(math.isfinite(signals[name]) for name in voices)
    assert {found['of'] for found in held.finals['agreements']} >= set(voices)
    assert held.finals['weights']['before']['of'] | dict.fromkeys(voices, 0.0) == held.finals['weights']['before']['of']
    task = classification(pair(), shift=1)
    assert judging(task, looked_at=looked_at(task)) - judging(task) == pytest.approx(64 / len(task.train))


def test_an_untrained_score_that_a_network_cannot_give_is_left_out():
    space, task = mobile(), classification(pair(), shift=1)
    archs = [smallest(space), largest(space)]
    assert set(untrained(space, task, archs)) == set(voices)


    def refuses(output, target):
        raise RuntimeError('this loss has no gradient')

    task.loss = refuses
    assert set(untrained(space, task, archs)) == {'jacobian_covariance'}


def test_the_worse_of_extracted_and_retrained_is_named(held):
    run = read(held.run_dir)
    for extracted, retrained, said in ((0.9, 0.8, True), (0.8, 0.9, False), (0.8, 0.8, False), (None, 0.8, False)):
        metrics = dict(extracted=dict(accuracy=extracted), retrained=dict(accuracy=retrained))
        note = page.stages_table(dict(run, result=dict(run['result'], metrics=metrics))).note
        assert ('worse than the extracted one' in note) == said and 'no network has seen' in note


def asked(**settings):
    return dict(retrain_epochs=3, finalists=None) | settings


def test_a_winner_that_leaves_much_of_the_budget_says_why(held):
    run = page.read(held.run_dir)
    rows, order = run['finals']['candidates'], run['finals']['order']
    winner = run['finals']['winner']
    for share, other, said in ((0.98, 0.99, ''), (0.9, 0.99, 'scored better'), (0.9, 0.8, 'none tried uses')):
        for one in order:
            rows[one]['costs']['share'] = share if one == winner else other
        note = page.finals_table(run).note
        assert ('90.0 % of the budget' in note and said in note) if said else 'The winner' not in note


def test_a_percentile_has_its_interval():
    "Clopper and Pearson: none of ten beaten leaves 1 - .025^(1/10) above; all of ten the same below."
    none, every, most = (percentile(score, list(range(10))) for score in (-1, 10, 7.5))
    assert (none.value, none.low, every.value, every.high) == (0, 0, 1, 1)
    assert none.high == pytest.approx(1 - 0.025**0.1) and every.low == pytest.approx(0.025**0.1)
    assert (most.value, round(most.low, 4), round(most.high, 4)) == (0.8, 0.4439, 0.9748)
    assert percentile(3, [3, 3]).value == 0.5
