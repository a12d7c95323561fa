"The report: read from files, complete without what is missing, one self-contained page in which names stay text."

import json, re
from html.parser import HTMLParser

import pytest

from nas_suite import report as module
from nas_suite.drawing import Table, figure
from nas_suite.front import page as pages
from nas_suite.tasks.base import Task
from nas_suite.report import (
    amount,
    blocks,
    colours,
    features,
    figures,
    met,
    milliseconds,
    page,
    plot,
    read,
    report,
    rows,
    short,
    summary,
)

ops = ['zero', 'mb3_k3', 'mb6_k5']
attributes = dict(zero=dict(skip=True), mb3_k3=dict(expand=3, kernel=3), mb6_k5=dict(expand=6, kernel=5))


def write(folder, **facts):
    folder.mkdir(parents=True, exist_ok=True)
    for name, value in facts.items():
        (folder / f'{name}.json').write_text(json.dumps(value))
    return folder


def facts(names=('blocks.0.op', 'blocks.1.op'), task='digits', latency=True):
    "The files of a small made-up run"
    costs = dict(
        macs=2.4e6,
        params=9e4,
        **(dict(latency_ms=0.8, latency_interval=[0.78, 0.83], latency_table=0.79) if latency else {}),
    )
    arch, budget = (
        {n: ops[1 + i % 2] for i, n in enumerate(names)},
        dict(latency_ms=0.85) if latency else dict(macs=3e6),
    )
    kind = next(iter(budget))
    return dict(
        config=dict(
            task=dict(name=task, classes=10, input_shape=[1, 8, 8]),
            space=dict(name='proxyless'),
            strategy=dict(name='gated'),
            budget=budget,
            seed=0,
            fixed={},
            version='0',
        ),
        environment=dict(device='a CPU', cores=2, threads=1, libraries=dict(torch='2')),
        history=[
            dict(
                step=t,
                loss=2 / (1 + t),
                entropy=1.1 / (1 + t),
                probs={n: [0.2, 0.3, 0.5] for n in names},
                cost={kind: 1.0},
                multiplier={kind: 0.1},
                **(dict(arch_loss=1.0) if t else {}),
            )
            for t in range(5)
        ],
        arch=arch,
        result=dict(
            arch=arch,
            options={n: ops for n in names},
            attributes=attributes,
            costs=costs,
            budget=budget,
            metrics={
                s: dict(accuracy=a, loss=0.1) for s, a in [('supernet', 0.9), ('extracted', 0.92), ('retrained', 0.97)]
            },
            parts={k: {n: 1.0 for n in names} for k in (['latency_ms'] if latency else []) + ['macs']},
            search=dict(steps=5, seconds=1.0, cpu_seconds=1.0, peak_memory_mb=10),
            retrain_history=[dict(step=t, loss=1 / (1 + t)) for t in range(4)],
            onnx=dict(difference=1e-6),
        ),
        baselines=[
            dict(
                name=n,
                arch=arch,
                accuracy=a,
                macs=3e6,
                params=1e5,
                **(dict(latency_ms=l, latency_interval=[l - 0.02, l + 0.02]) if latency else {}),
            )
            for n, a, l in [('MobileNetV2-like', 0.96, 1.4), ('random 1', 0.95, 0.8)]
        ],
    )


@pytest.fixture
def run(tmp_path):
    return write(tmp_path / 'run', **facts())


class Page(HTMLParser):
    "What a browser would load, and whether tags are balanced"

    empty = {'meta', 'br', 'link', 'img'}

    def __init__(self, text):
        super().__init__()
        self.loads, self.tags, self.open, self.text, self.anchors = [], set(), [], [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        for k, v in attrs:
            assert not k.startswith('on'), (tag, k)
            if k in ('src', 'href', 'xlink:href', 'srcset', 'action', 'data') and not (v or '').startswith('#'):
                (self.anchors if tag == 'a' else self.loads).append((tag, k, v))
        if tag not in self.empty:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        self.handle_endtag(tag)

    def handle_endtag(self, tag):
        if tag not in self.empty:
            assert self.open and self.open.pop() == tag, tag

    def handle_data(self, data):
        self.text.append(data)

    @property
    def words(self):
        return ' '.join(' '.join(self.text).split())


def optional_tags_closed(text):  # head, body and html end tags are written out; nothing else may be left open
    page = Page(text)
    assert page.open == []
    return page


def test_a_finished_run_has_all_figures_and_one_self_contained_page(run):
    assert list(figures(run)) == ['tradeoff', 'architecture', 'parts', 'beliefs', 'course', 'training']
    path = report(run)
    assert path == run / 'report.html'
    text = path.read_text(encoding='utf-8')
    page = optional_tags_closed(text)
    assert page.loads == [] and 'script' not in page.tags and '@import' not in text
    assert not re.search(r'url\((?!#)', text)
    assert text.count('<svg') == 6
    for said in (
        '97.0 %',
        '0.800 ms',
        '2.40 M',
        '90.0 k',
        'a CPU',
        'MobileNetV2-like',
        'random 1',
        'budget 0.850 ms: met',
        '1.0 points above the MobileNetV2-like',
    ):
        assert said in page.words, said


def test_ids_are_unique_and_references_resolve(run):
    text = report(run).read_text()
    ids = re.findall(r'\sid="([^"]+)"', text)
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'(?:url\(|href=")#([^")]+)', text)) <= set(ids)


def test_neutral_ink_becomes_the_colour_of_the_page(run):
    text = report(run).read_text()
    assert 'currentColor' in text and module.ink not in re.sub(r'<style>.*?</style>', '', text, count=1, flags=re.S)
    assert 'prefers-color-scheme' in text


@pytest.mark.parametrize('missing', ['environment', 'history', 'arch', 'result', 'baselines'])
def test_what_is_missing_is_left_out(tmp_path, missing):
    f = facts()
    run = write(tmp_path, **{k: v for k, v in f.items() if k != missing})
    optional_tags_closed(report(run).read_text())
    summary(run)
    if missing == 'baselines':
        assert 'tradeoff' not in figures(run) and 'Against the baselines' not in report(run).read_text()
    if missing == 'result':
        assert 'has not finished' in report(run).read_text()


def test_nothing_but_a_configuration(tmp_path):
    run = write(tmp_path, config={})
    assert figures(run) == {} and 'not finished' in summary(run)
    optional_tags_closed(report(run).read_text())
    with pytest.raises(ValueError, match='nothing to plot'):
        plot(run)


@pytest.mark.parametrize('cut', ['options', 'costs', 'metrics', 'parts', 'search', 'retrain_history', 'onnx', 'budget'])
def test_a_result_may_lack_any_part(tmp_path, cut):
    f = facts()
    del f['result'][cut]
    optional_tags_closed(report(write(tmp_path, **f)).read_text())


def test_what_was_asked_for_is_said_in_lists_with_units(tmp_path):
    f = facts()
    f['config'] |= dict(
        budget=dict(latency_ms=0.85, macs=300000.0), fixed={}, precision='32-true',
        strategy=dict(name='evolution', supernet=dict(stages=[dict(name='all', epochs=40.0, lr=0.05)], batch_size=64)),
    )
    run = write(tmp_path, **f)
    for name in ('network.json', 'model.safetensors', 'model.pt2'):
        (run / name).write_text('{}')
    text = report(run).read_text()
    for name, value in {
        'latency': '0.850 ms', 'MACs': '300 k', 'supernet · stages 1 · epochs': '40', 'supernet · batch size': '64'
    }.items():
        assert f'<dt>{name}</dt><dd>{value}</dd>' in text, name
    assert '3e+05' not in text and 'export.load' not in text and 'load_model(net' in text


def test_without_latency(tmp_path):
    run = write(tmp_path, **facts(latency=False))
    text = report(run).read_text()
    assert 'tradeoff' in figures(run) and 'latency' not in summary(run)
    assert 'budget 3.00 M: met' in Page(text).words


hostile = '<script>alert(1)</script>"\'><img src=http://x.y/z onerror=alert(1)> $\\frac{1$ &amp; \u202e'


def test_hostile_names_stay_text(tmp_path):
    f = facts(names=(f'a.{hostile}', f'b.{hostile}'), task=hostile)
    f['config']['strategy']['name'] = f['config']['space']['name'] = f['environment']['device'] = hostile
    f['config']['fixed'] = {hostile: hostile}
    f['environment'][hostile] = hostile
    f['result']['options'] = {n: ['zero', hostile, 'mb6_k5'] for n in f['arch']}
    for n in f['arch']:
        f['arch'][n] = f['result']['arch'][n] = hostile
    f['result']['metrics']['retrained'][hostile] = hostile
    f['result']['search'][hostile] = 1
    f['result']['parts']['macs'] = {hostile: 1.0}
    f['result']['retrain_history'] = [{'step': t, 'loss': 1.0, hostile: float(t)} for t in range(3)]
    for h in f['history']:
        h['cost'] = h['multiplier'] = {hostile: 1.0}
    f['config']['budget'][hostile] = 1.0
    f['baselines'][0]['name'] = f['baselines'][1]['name'] = hostile
    page = optional_tags_closed(report(write(tmp_path / '<b>&', **f)).read_text())
    assert page.loads == [] and not page.tags & {'script', 'img', 'b>&'}
    assert '<script>alert(1)</script>' in page.words  # as text
    summary(tmp_path / '<b>&')


@pytest.mark.parametrize(
    'names,options',
    [
        (['width'], [8, 16, 24]),
        (['stages.1.depth', 'stages.1.0.kernel', 'stages.1.0.expand'], [3, 5, 7]),
        (['x'], [None, True, 1.5]),
        ([f'c{i}.op' for i in range(60)], ops),
    ],
)
def test_any_space_is_drawn(tmp_path, names, options):
    f = facts(names=names)
    f['result']['options'] = {n: options for n in names}
    f['arch'] = f['result']['arch'] = {n: options[-1] for n in names}
    run = write(tmp_path, **f)
    assert len(figures(run)) == 6
    optional_tags_closed(report(run).read_text())
    plot(run)


def test_numbers_that_are_not(tmp_path):
    f = facts()
    f['history'][2].update(loss=float('nan'), entropy=float('inf'), cost=dict(latency_ms=None))
    f['result']['costs']['latency_interval'] = [0, float('inf')]
    f['baselines'][0].update(latency_ms=None, latency_interval=None)
    run = write(tmp_path, **f)
    assert 'nan' not in Page(report(run).read_text()).words.lower().replace('nanx', '')
    assert '0.800 ms ' in summary(run)


def test_the_file_is_replaced_whole_or_not_at_all(run, monkeypatch):
    path = report(run)
    before = path.read_bytes()

    def fail(*a):
        raise OSError('disk full')

    with monkeypatch.context() as m:
        m.setattr('os.replace', fail)
        with pytest.raises(OSError):
            report(run)
    assert path.read_bytes() == before
    with monkeypatch.context() as m:
        m.setattr(pages, 'page', lambda run: 'half \ud800')  # cannot be written as UTF-8
        with pytest.raises(UnicodeEncodeError):
            report(run)
    assert path.read_bytes() == before
    assert not [p for p in run.iterdir() if p.name[0] == '.']


def test_the_same_files_give_the_same_page(run):
    assert page(read(run)) == page(read(run))


def test_wrong_folders(tmp_path, run):
    for bad in (tmp_path / 'none', tmp_path):
        with pytest.raises(FileNotFoundError, match='config.json'):
            report(bad)
    (run / 'history.json').write_text('[{')
    with pytest.raises(ValueError, match='history.json is damaged'):
        report(run)
    (run / 'history.json').write_text('{}')
    with pytest.raises(ValueError, match='history.json is damaged'):
        figures(run)


def test_the_found_network_is_compared_as_measured_beside_the_baselines(tmp_path):
    f = facts()
    f['baselines'].insert(0, dict(name='found', accuracy=0.97, latency_ms=0.9, latency_interval=[0.88, 0.92]))
    run = read(write(tmp_path, **f))
    assert [r['name'] for r in rows(run)] == ['found', 'MobileNetV2-like', 'random 1']
    assert rows(run)[0]['latency_ms'] == 0.9 and run['result']['costs']['latency_ms'] == 0.8
    text = report(tmp_path).read_text()
    assert 'side by side' in text
    assert 'at 0.900 ms</h1>' in text and '<b>0.900 ms</b>' in text  # one latency, in the headline and in the tile
    assert met(run) == dict(latency_ms=False) and 'not met' in text  # by the interval of what was measured last


def test_a_latency_budget_is_met_by_the_upper_end(tmp_path):
    f = facts()
    assert met(read(write(tmp_path / 'a', **f))) == dict(latency_ms=True)
    f['result']['costs']['latency_interval'] = [0.78, 0.86]
    assert met(read(write(tmp_path / 'b', **f))) == dict(latency_ms=False)
    assert 'not met' in report(tmp_path / 'b').read_text()


def test_what_a_search_returned_will_do(run):
    class Found:
        run_dir = str(run)

    assert summary(Found()) == summary(run) and plot(Found())._repr_png_()[:4] == b'\x89PNG'

    class Loose:
        run_dir = None
        arch = {'a.op': 'mb3_k3'}
        costs = dict(macs=1e6)
        metrics = dict(retrained=dict(accuracy=0.5))
        history = []
        facts = {}

    plot(Loose())
    with pytest.raises(ValueError, match='no folder'):
        report(Loose())


def test_a_plot_shows_itself_once_whatever_a_line_ends_with(run, monkeypatch):
    import IPython

    seen = []
    monkeypatch.setattr('IPython.display.display', lambda *found, **how: seen.append(found))
    silent = plot(run)
    assert seen == []  # no notebook
    monkeypatch.setattr(IPython, 'get_ipython', lambda: type('Shell', (), dict(config=dict(IPKernelApp={}))))
    picture = plot(run)
    assert len(seen) == 1
    picture._ipython_display_()  # as the value of that line
    assert len(seen) == 1
    picture._ipython_display_()  # and again, by its name
    silent._ipython_display_()
    assert len(seen) == 3


def test_drawing_changes_no_global_state(run):
    import matplotlib
    import matplotlib.pyplot as plt

    before, open_ = dict(matplotlib.rcParams), plt.get_fignums()  # of other tests
    report(run)
    plot(run)
    assert dict(matplotlib.rcParams) == before and plt.get_fignums() == open_


@pytest.mark.parametrize(
    'name,option,said',
    [
        ('blocks.0.op', 'mb6_k5', dict(kernel=5, expand=6)),
        ('blocks.0.op', 'zero', dict(skip=True)),
        ('blocks.0.op', None, dict(skip=True)),
        ('blocks.0.op', '5x5_MBConv6', {}),
        ('kernel', 7, {}),
        ('size', 7, dict(kernel=7)),
        ('size', True, {}),
        ('wide', 24, dict(width=24)),
    ],
)
def test_features_are_read_from_the_run_and_never_from_names(name, option, said):
    run = dict(result=dict(attributes=attributes, roles=dict(size='kernel', wide='width')))
    assert features(run, name, option) == said


def test_any_metric_and_any_costs(tmp_path):
    "An error of 0.83 pixels, an energy in an interval, a memory: shown as what they are, each with its budget."
    f = facts()
    f['config']['task']['metric'] = dict(name='error', larger_is_better=False, unit='px')
    f['config']['budget'] = dict(energy_mj=12.0, peak_bytes=2e6)
    f['result'] |= dict(
        costs=dict(
            energy_mj=11.2,
            energy_interval=[10.9, 12.4],
            energy_measured=False,
            energy_device='a board',
            peak_bytes=1.7e6,
        ),
        units=dict(energy_mj='mJ', peak_bytes='B'),
        metrics=dict(retrained=dict(error=0.83, loss=2.0)),
        parts=dict(energy_mj={'a': 1.0, 'b': 2.0}),
    )
    f['baselines'] = [
        dict(name='by hand', error=1.5, energy_mj=20.0, peak_bytes=3e6),
        dict(name='random 1', error=0.9, energy_mj=11.0, peak_bytes=1e6),
    ]
    run = write(tmp_path, **f)
    said = Page(report(run).read_text()).words
    assert met(read(run)) == dict(energy_mj=False, peak_bytes=True)
    for words in (
        'A network for digits: 0.83 px at 11.2 mJ',
        'Error against energy',
        'Down and to the left is better',
        'energy, predicted for a board',
        '10.9 to 12.4, 95 %',
        'budget 12.0 mJ: not met',
        'budget 2.00 MB: met',
        '0.67 px below the by hand',
        'at 56 % of its energy',
        '0.07 px below the best',
    ):
        assert words in said, words
    assert '83.0 %' not in said and '20.0 mJ' in summary(run) and '0.83 px' in summary(run)
    assert list(figures(run)) == ['tradeoff', 'architecture', 'parts', 'beliefs', 'course', 'training']


class Weather(Task):
    @classmethod
    def sections(cls, run):
        return [
            ('Storms', Table(['storm', 'seen'], [['<b>', '3']], note='On test data.')),
            ('Storms', figure(2, 1)),
            ('Storms', 'as they came'),
            ('Rain', dict(days=3)),
            ('Snow', None),
        ]


def test_a_task_adds_its_own_part(tmp_path):
    f = facts()
    f['config']['task']['kind'] = f'{Weather.__module__}.{Weather.__qualname__}'
    text = report(write(tmp_path, **f)).read_text()
    page = optional_tags_closed(text)
    for words in ('Storms', 'On test data.', 'as they came', 'Rain', 'days 3'):
        assert words in page.words, words
    assert (
        text.count('<h2>Storms') == 1 and 'Snow' not in text and text.count('<svg') == 7 and 'days' in summary(tmp_path)
    )
    f['config']['task']['kind'] = 'theirs.Weather'
    words = Page(report(write(tmp_path, **f)).read_text()).words
    assert (
        'left out: the task of this run is of a kind that is not here (theirs.Weather)' in words
        and 'Storms' not in words
    )


def test_helpers():
    assert [amount(x) for x in (0, 12, 999, 1000, 1.5e9, -2e6, float('nan'))] == [
        '0',
        '12',
        '999',
        '1.00 k',
        '1.50 G',
        '-2.00 M',
        '–',
    ]
    assert [milliseconds(x) for x in (0.0123, 1, 250.0, 0)] == ['0.0123 ms', '1.00 ms', '250 ms', '0.000 ms']
    assert (
        short(['blocks.10.mix.choice', 'blocks.2.mix.choice']) == ['10', '2']
        and short(['x']) == ['x']
        and short([]) == []
    )
    assert blocks({'s.0.kernel': 3, 's.0.expand': 6, 'd': 2}) == {
        's.0': {'s.0.kernel': 3, 's.0.expand': 6},
        'd': {'d': 2},
    }
    assert (
        len(
            set(
                colours(
                    dict(result=dict(attributes=attributes)), [('op', o) for o in ops] + [('kernel', 3), ('width', 8)]
                ).values()
            )
        )
        == 5
    )


def test_small_test_sets_are_named_as_such(tmp_path):
    f = facts()
    for m in f['result']['metrics'].values():
        m['n'] = 500
    words = Page(report(write(tmp_path, **f)).read_text()).words
    assert 'on 500 test samples' in words and 'differences below 2.1 points can be chance' in words
    assert module.chance(0.97, 500) == pytest.approx(0.02115, rel=0.01)


def test_the_space_that_a_budget_picked(tmp_path):
    "Why it was picked, what it reaches, and where the budget lies; nothing where no budget picked one."
    picked = dict(
        budget=dict(latency_ms=0.85, macs=3e6),
        reach=dict(latency_ms=[0.4, 1.2], macs=[1e6, 9e6]),
        place=dict(latency_ms=0.5625, macs=0.25),
        binding='macs',
        largest_params=31450,
        items=120,
        called='patches of 32 x 32 pixels',
        note='',
    )
    text = page(read(write(tmp_path / 'low', **facts(), space=picked)))
    for words in (
        '<h2>The space</h2>',
        'the budget lies below the middle of every space',
        'has 31,450 parameters, for 120 patches of 32 x 32 pixels.',
        '<td>latency</td><td>0.400 ms</td><td>1.20 ms</td><td>0.850 ms</td><td>56 %</td>',
        '<td>MACs</td><td>1.00 M</td><td>9.00 M</td><td>3.00 M</td><td>25 %, the one that binds</td>',
    ):
        assert words in text, words
    for place, words in ((0.6, 'in whose upper half the budget lies'), (3.0, 'the largest that the data can use')):
        assert words in pages.why_this_space(picked | dict(place=dict(latency_ms=5, macs=place)))
    over = pages.why_this_space(picked | dict(place=dict(macs=3.0), note='the budget is <more> than can be used'))
    assert over.endswith('The budget is <more> than can be used.')
    alone = page(read(write(tmp_path / 'alone', **facts(), space=dict(note='the table knows <few>'))))
    assert '<p class=note>the table knows &lt;few&gt;</p>' in alone
    assert 'The space' not in page(read(write(tmp_path / 'none', **facts())))
