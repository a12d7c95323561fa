"""What a person hands to a public function, and cannot be, is refused in one line before anything is computed: budgets,
architectures, numbers and files, from Python; tests/test_fuzz.py does the same for the commands."""

import copy, importlib, inspect, math, pkgutil
from functools import cache

import numpy as np, pytest, torch
from test_fuzz import nothing_long  # noqa: F401
from nas_suite import search, spaces, strategies
from nas_suite.choices import Space, encode, restrict, smallest
from nas_suite.costs import macs
from nas_suite.extraction import extract
from nas_suite.latency import read_table
from nas_suite.networks import build, describe
from nas_suite.report import read
from nas_suite.spaces.mobile import proxyless
from nas_suite.spaces.tdnn import efficient_tdnn
from nas_suite.strategies.base import Strategy
from nas_suite.strategies.evolution import Evolution
from nas_suite.strategies.gated import Gated
from nas_suite.strategies.regularized import Regularized
from nas_suite.strategies.supernet import Stage, Supernet, sandwich
from nas_suite.tasks.classification import classification
from nas_suite.tasks.segmentation import segmentation
from nas_suite.tasks.speaker import speaker
from nas_suite.training import Loop, fit, load_checkpoint


@cache
def space():
    torch.manual_seed(0)
    sizes = dict(stem=8, first=0, widths=(8,), depths=(3,), last=16, kernels=(3,), expands=(1, 2))
    return proxyless(classes=10, image_size=8, in_channels=1, **sizes)


@cache
def digits():
    return classification('digits')


@cache
def cost():
    return macs(space(), (1, 8, 8))


def refused(call, *words):
    "A call that ends in one line which has one of these words."
    with pytest.raises((ValueError, OSError)) as e:
        call()
    said = str(e.value)
    assert said and '\n' not in said, said
    assert not words or any(word in said for word in words), said


# ---------------------------------------------------------------- budgets

BUDGETS = [math.nan, math.inf, -math.inf, -1, 0, '', 'x', '1e999', '-1', 'nan', [], {}, (), 10**400, True, 1j, b'1',
           np.float32('nan'), torch.tensor(math.inf), torch.ones(2), object()]  # fmt: skip
SPENT = {
    'run': lambda v: search.run(copy.deepcopy(space()), digits(), 'gated', dict(macs=v), progress=False),
    'run, latency': lambda v: search.run(copy.deepcopy(space()), digits(), 'gated', dict(latency_ms=v), progress=False),
    'run, params': lambda v: search.run(copy.deepcopy(space()), digits(), 'evolution', dict(params=v), progress=False),
    'classification': lambda v: search.classification('digits', macs=v, progress=False),
    'segmentation': lambda v: search.segmentation('digit scenes', macs=v, progress=False),
    'speaker': lambda v: search.speaker('synthetic voices', macs=v, progress=False),
    'a cost of a budget': lambda v: search.run(copy.deepcopy(space()), digits(), 'gated', {cost(): v}, progress=False),
}


@pytest.mark.parametrize('value', BUDGETS, ids=lambda v: 'object' if type(v) is object else repr(v))
@pytest.mark.parametrize('name', SPENT)
def test_budgets(name, value, nothing_long):  # noqa: F811
    refused(lambda: SPENT[name](value))


# ---------------------------------------------------------------- architectures


def archs():
    good = smallest(space())
    first = next(iter(good))
    wrong = ['no such option', 7, None, [], math.nan, {}, 'mb9_k9']
    return [
        3, 'x', ['zero'], math.nan, object(), {'nothing': 'zero'}, good | {'nothing': 'zero'},
        {1: 2}, *(good | {first: option} for option in wrong),
    ]  # fmt: skip


SAID = {
    'extract': lambda arch: extract(space(), arch),
    'encode': lambda arch: encode(space(), arch),
    'macs': lambda arch: cost()(arch),
    'parts': lambda arch: cost().parts(arch),
    'forward': lambda arch: space()(torch.zeros(1, 1, 8, 8), arch=arch),
}


@pytest.mark.parametrize('number', range(15))
@pytest.mark.parametrize('name', SAID)
def test_architectures(name, number, nothing_long):  # noqa: F811
    refused(lambda: SAID[name](archs()[number]))


FIXED = [3, 'x', ['zero'], {'nothing': 'zero'}, {'blocks.0*': 'no such option'}, {'blocks.0*': []}, {'blocks.0*': 7}, {'': 'zero'}]  # fmt: skip


@pytest.mark.parametrize('fixed', FIXED, ids=repr)
def test_choices_that_are_decided_beforehand(fixed, nothing_long):  # noqa: F811
    refused(lambda: restrict(copy.deepcopy(space()), fixed))
    refused(lambda: search.run(copy.deepcopy(space()), digits(), 'gated', dict(macs=1e6), fixed=fixed, progress=False))


# ---------------------------------------------------------------- numbers and words

NUMBERS = [math.nan, math.inf, -1, 'x', '', [], None, 1j, True, 10**400]
COUNTED = {
    'Gated epochs': lambda v: Gated(epochs=v),
    'Gated batch_size': lambda v: Gated(batch_size=v) if v is not None else Gated(batch_size='x'),
    'Gated alpha_lr': lambda v: Gated(alpha_lr='x' if v is None else v),
    'Regularized epochs': lambda v: Regularized(epochs=v),
    'Regularized shrinks': lambda v: Regularized(shrinks=v),
    'Supernet batch_size': lambda v: Supernet(sandwich(1), batch_size=v) if v is not None else Supernet(sandwich(1), batch_size=0),
    'Evolution population': lambda v: Evolution(population=v),
    'Evolution mutation': lambda v: Evolution(mutation=v),
    'fit epochs': lambda v: fit(extract(space(), smallest(space())), digits(), v, progress=False),
    'fit lr': lambda v: fit(extract(space(), smallest(space())), digits(), 1, lr=v, progress=False),
    'run seed': lambda v: search.run(copy.deepcopy(space()), digits(), 'gated', dict(macs=1e6), seed=v, progress=False),
    'run threads': lambda v: search.run(
        copy.deepcopy(space()), digits(), 'gated', dict(macs=1e6), threads='x' if v is None else v, progress=False
    ),
}


BY_RECIPE = 'fit epochs', 'fit lr'  # None: what the recipe says


@pytest.mark.parametrize('value', NUMBERS, ids=lambda v: repr(v)[:12])
@pytest.mark.parametrize('name', COUNTED)
def test_numbers(name, value, nothing_long):  # noqa: F811
    if value is None and name in BY_RECIPE:
        pytest.skip('the recipe says how many')
    refused(lambda: COUNTED[name](value))


def kinds(kind=Strategy):
    "All strategies of the package, found by looking."
    if kind is Strategy:
        for module in pkgutil.iter_modules(strategies.__path__):
            importlib.import_module(f'nas_suite.strategies.{module.name}')
    found = [each for each in kind.__subclasses__() if each.__module__.startswith('nas_suite.')]
    return found + [below for each in found for below in kinds(each)]


SETTINGS = {(kind.__name__, name): kind for kind in kinds() for name in inspect.signature(kind).parameters}


@pytest.mark.parametrize('name', SETTINGS, ids='-'.join)
def test_every_setting_of_every_strategy_when_it_is_made(name):
    "No setting waits for a search to be looked at."
    for wrong in (math.nan, math.inf, -1, -1e9, 'x', object(), 10**400, [3]):
        refused(lambda: SETTINGS[name](**{name[1]: wrong}))


def makers():
    "Whatever makes a space from settings alone, found by looking at what the functions of the package return; and a loop."
    found = dict(Loop=Loop)
    for module in pkgutil.iter_modules(spaces.__path__, 'nas_suite.spaces.'):
        for name, made in vars(importlib.import_module(module.name)).items():
            if inspect.isfunction(made) and made.__module__ == module.name and name[0] != '_':
                kind = inspect.signature(made).return_annotation
                if inspect.isclass(kind) and issubclass(kind, Space): found[name] = made
    return found


PARTS = {
    (name, setting.name): made
    for name, made in makers().items()
    for setting in inspect.signature(made).parameters.values()
    if setting.kind is not setting.VAR_KEYWORD
}
NEEDED = dict(mobile_heads=dict(heads=dict(what=dict(kind='classes', classes=3))))
NO_SETTING = [math.nan, math.inf, -1, -1e9, 'x', object(), 10**400, [math.nan], [-1], ['x'], {}, b'1', 1j]


@pytest.mark.parametrize('name', PARTS, ids='-'.join)
def test_every_setting_of_every_space_and_of_a_loop(name):
    "What is no number, width, depth, kernel or switch is refused by its name where a space, or a loop, is made."
    fits = {'checkpoint': ('x', b'1'), 'backbone': ({},)}.get(name[1], ())  # a path, and no settings
    for wrong in NO_SETTING:
        if wrong not in fits: refused(lambda: PARTS[name](**NEEDED.get(name[0], {}) | {name[1]: wrong}))
    assert len(makers()) >= 9


@pytest.mark.parametrize('number', [float, np.int64, np.float32, torch.tensor])
def test_spaces_take_numbers_as_they_come(number):
    "Of Python, NumPy or a tensor; the settings that are kept are plain."
    sizes = dict(classes=number(3), image_size=number(8), widths=[number(8)], depths=(number(2),), kernels=range(3, 6, 2))
    made = proxyless(in_channels=1, stem=8, first=0, last=16, **sizes)
    assert made.config == proxyless(**made.config).config
    assert [type(made.config[k]) for k in ('classes', 'image_size')] == [int, int] and made.config['kernels'] == [3, 5]
    made = efficient_tdnn(4, 3, number(8), number(8), number(3), depths=number(1), scale=number(4), attention=4)
    assert made.config['widths'] == [8] and type(made.config['scale']) is int


OF_TASKS = {
    classification: ['valid', 'seed', 'shared', 'mean', 'smoothing', 'shift', 'flip'],
    segmentation: ['valid', 'seed', 'shared', 'weighted', 'shift', 'flip', 'batch_size'],
    speaker: ['valid', 'seed', 'seconds', 'held', 'bands', 'disturb', 'noise', 'embedding', 'margin', 'scale', 'ramp'],
}


@pytest.mark.parametrize('task, name', [(task, name) for task, names in OF_TASKS.items() for name in names])
def test_settings_of_tasks(task, name):
    "Before data are read."
    for value in (math.nan, -1, 'x'):
        if (name, value) not in (('noise', 'x'),):
            refused(lambda: task('no such data', **{name: value}), name)
    refused(lambda: task('no such data', shfit=1), "no setting 'shfit'")


def test_stages_of_a_supernet():
    refused(lambda: Supernet([3]), 'stages is a list of')
    refused(lambda: Supernet('sandwich'), 'stages is a list of')
    refused(lambda: Stage('a', ['zero'], 1), 'to is a dict')
    refused(lambda: Stage('a', {}, 1, sort='yes'), 'sort is True or False')


WORDS = ['', 'x', 'Cpu ', 'cuda:99', 3, [], 'meta']


@pytest.mark.parametrize('word', WORDS, ids=repr)
@pytest.mark.parametrize('name', ['device', 'precision', 'backend', 'strategy'])
def test_words(name, word, nothing_long):  # noqa: F811
    given = dict(space=copy.deepcopy(space()), task=digits(), strategy='gated', budget=dict(macs=1e6), progress=False)
    refused(lambda: search.run(**given | {name: word}))


# ---------------------------------------------------------------- files

CONTENTS = {
    'nothing': b'', 'rubbish': bytes(range(256)) * 9, 'text': b'hello', 'nested': b'[' * 100_000, 'infinite': b'{"a": Infinity}',
    'long number': b'{"a": ' + b'9' * 400 + b'}', 'a list': b'[]', 'a number': b'3', 'null': b'null', 'no end': b'{"a": 1',
    'half an archive': b'PK\x03\x04' + b'\0' * 40, 'UTF-16': '{"a": 1}'.encode('utf-16'),
}  # fmt: skip
READ = {
    'read_table': read_table,
    'load_checkpoint': load_checkpoint,
    'search.load': search.load,
    'report.read': read,
    'table=': lambda path: search.run(
        copy.deepcopy(space()), digits(), 'gated', dict(latency_ms=1), table=path, progress=False
    ),
    'supernet=': lambda path: search.run(
        copy.deepcopy(space()), digits(), 'evolution', dict(macs=1e6), supernet=path, progress=False
    ),
}


@pytest.mark.parametrize('content', CONTENTS)
@pytest.mark.parametrize('name', READ)
def test_files(name, content, tmp_path, nothing_long):  # noqa: F811
    (path := tmp_path / 'given.json').write_bytes(CONTENTS[content])
    refused(lambda: READ[name](path), 'given.json')


@pytest.mark.parametrize('name', READ)
def test_files_that_are_not_there(name, tmp_path, nothing_long):  # noqa: F811
    refused(lambda: READ[name](tmp_path / 'absent.json'), 'absent.json')
    (tmp_path / 'folder.json').mkdir()
    refused(lambda: READ[name](tmp_path / 'folder.json'), 'folder.json')


@pytest.mark.parametrize('content', CONTENTS)
@pytest.mark.parametrize('file', ['config.json', 'arch.json', 'result.json', 'network.json', 'model.safetensors'])
def test_files_of_a_run(file, content, tmp_path, nothing_long):  # noqa: F811
    (tmp_path / 'config.json').write_text('{}')
    (tmp_path / file).write_bytes(CONTENTS[content])
    refused(lambda: search.load(tmp_path))


def descriptions():
    "Hostile descriptions of networks: other names, other kinds, at every place of a good one."
    good = describe(extract(space(), smallest(space())))
    out = [None, 3, 'x', [], {}, {'layers': {}}, {'nodes': []}]
    for key in good:
        for value in (None, 3, 'os.system', [], {}, [[]], [{}], ['os.system']):
            if value != good[key]:
                out.append(good | {key: value})
    return out


@pytest.mark.parametrize('number', range(len(descriptions())))
def test_descriptions_of_networks(number):
    "Refused, or nothing that a network calls and holds is another thing."
    good = describe(extract(space(), smallest(space())))
    try:
        made = describe(build(descriptions()[number]))
    except (ValueError, OSError) as e:
        assert str(e) and '\n' not in str(e)
    else:
        assert all(made[name] == good[name] for name in ('layers', 'calls'))
