"Options that carry attributes, the roles of choices, and what matters in a space, however deep or large it is."

import io, json, pickle, sys
from copy import deepcopy
from pathlib import Path
import pytest, torch
from hypothesis import given, settings
from torch import nn
from torch.utils._pytree import tree_leaves
from nas_suite.choices import *
from nas_suite.extraction import extract
from nas_suite.layers import ElasticConv1d, ElasticDepth, MixedOp

sys.path.insert(0, str(Path(__file__).parent))
from spaces import spaces

# ---- options that carry attributes


def test_an_option_is_its_name():
    option = Option('mb3_k5', expand=3, kernel=5)
    assert option == 'mb3_k5' and hash(option) == hash('mb3_k5') and repr(option) == "'mb3_k5'"
    assert json.dumps([option]) == '["mb3_k5"]'
    assert option.attributes == dict(expand=3, kernel=5) and Option('skip').attributes == {}
    pickled = [pickle.loads(pickle.dumps(option, n)) for n in range(2, pickle.HIGHEST_PROTOCOL + 1)]
    for twin in (deepcopy(option), *pickled):
        assert type(twin) is Option and twin == option and twin.attributes == option.attributes
    assert Option('named', name=1, cls=2).attributes == dict(name=1, cls=2)


def structured():
    "A space of an operator whose options carry attributes, and of a kernel and a width."
    width, kernel = one_of(2, 4).read_as('width'), one_of(1, 3).read_as('kernel')
    choice = one_of(Option('k1', kernel=1), Option('k3', kernel=3))
    ops = MixedOp({o: ElasticConv1d(width, 2, o.attributes['kernel'], padding='same') for o in choice.options}, choice)
    return nn.Sequential(ElasticConv1d(2, width, kernel, padding='same'), ops)


def test_a_space_keeps_options_and_roles():
    space = structured()
    names = {'0.out_channels': 'width', '0.kernel_size': 'kernel', '1.choice': 'operator'}
    copies = [deepcopy(space), pickle.loads(pickle.dumps(space)), restrict(space, {'0.kernel_size': 3})]
    narrow = [extract(space, {'0.kernel_size': 3}), extract(space, {'0.out_channels': 2})]
    for view in (space, *copies, *narrow):
        assert roles(view) == names
        assert [o.attributes for o in choices(view)['1.choice'].options] == [dict(kernel=1), dict(kernel=3)]
        with selected(view, largest(view)):
            assert choices(view)['1.choice'].value.attributes == dict(kernel=3)
    small = extract(space, {'1.choice': 'k3'})
    assert roles(small) == names and choices(small)['1.choice'].options[0].attributes == dict(kernel=3)


def test_architectures_are_plain_data():
    space = structured()
    arch = largest(space)
    assert {type(v) for v in arch.values()} == {int, str} and json.loads(json.dumps(arch)) == arch
    given = arch | {'1.choice': choices(space)['1.choice'].options[1]}
    assert torch.equal(encode(space, given), encode(space, arch))
    assert extract(space, given).code == extract(space, arch).code
    file = io.BytesIO()
    torch.save(sample(space) | largest(space), file)
    file.seek(0)
    assert torch.load(file, weights_only=True) == arch


# ---- roles


@pytest.mark.parametrize(
    'read, role',
    [
        ([], 'operator'),
        (['operator'], 'operator'),
        (['width'], 'width'),
        (['operator', 'width'], 'width'),
        (['width', 'operator'], 'width'),
        (['width', 'depth'], 'depth'),
        (['depth', 'width', 'operator'], 'depth'),
        (['kernel', 'width'], 'kernel'),
        (['bits', 'operator'], 'bits'),
        (['width', 'heads'], 'heads'),
        (['kernel', 'dilation'], 'kernel'),
    ],
)
def test_roles(read, role):
    choice = one_of(1, 2)
    for word in read:
        assert choice.read_as(word) is choice
    assert choice.role == role and roles(nn.ModuleList([choice])) == {'0': role}


@pytest.mark.parametrize('bad', ['', None, 3])
def test_a_role_is_a_word(bad):
    with pytest.raises(ValueError, match='a role is a word'):
        one_of(1, 2).read_as(bad)


# ---- what matters, however deep


def nested(depth):
    "A choice inside a choice inside a choice ...: at each level either nothing or all that is further in."
    inner = ElasticConv1d(2, 2, one_of(1, 3, 5), padding='same')
    for _ in range(depth):
        inner = MixedOp(dict(out=nn.Identity(), more=nn.Sequential(inner)))
    return inner


def naive(space, rows):
    "Which choices matter, as `Structure.where` says it, word by word."
    where = structure(space).where

    def matters(row, uses):
        return any(all(row[k] in allowed for k, allowed in use) for use in uses)

    return torch.tensor([[matters(row, uses) for uses in where] for row in rows.tolist()])


def test_deep_nesting():
    space = nested(40)
    assert count(space) == 40 + 3 and len(choices(space)) == 41
    for level in (0, 1, 20, 39):
        rows = torch.ones(1, 41, dtype=torch.long)
        rows[0, level] = 0  # leaves at this level: what is further in does not matter
        (arch,) = decode(space, rows)
        assert len(arch) == level + 1 and torch.equal(encode(space, arch), canonical(space, rows))
        assert is_complete(space, arch) and not is_complete(space, dict(list(arch.items())[:-1]))
    assert len(largest(space)) == 41


@settings(max_examples=30, deadline=None, derandomize=True, database=None)
@given(spaces(limit=200))
def test_active_is_what_the_structure_says(space):
    s = structure(space)
    rows = torch.stack([torch.randint(len(c), (50,)) for c in s.choices], 1) if s.choices else torch.zeros(2, 0).long()
    assert active(space, rows).tolist() == naive(space, rows).tolist()
    for arch, matters in zip(decode(space, rows), naive(space, rows).tolist()):
        assert list(arch) == [n for n, m in zip(s.names, matters) if m] and is_complete(space, arch)


# ---- in proportion to the number of choices


def wide(n):
    "n choices: stages of blocks of two operators, each with a kernel."
    op = lambda: ElasticConv1d(2, 2, one_of(1, 3))
    stage = lambda: ElasticDepth([MixedOp([op(), op()]) for _ in range(10)], one_of(*range(1, 11)))
    return nn.ModuleList([stage() for _ in range(n // 30)])


def steps(f, *args):
    "Calls made while `f(*args)` runs, of Python and of C."
    made = 0

    def note(frame, event, arg):
        nonlocal made
        made += event in ('call', 'c_call')

    sys.setprofile(note)
    try:
        f(*args)
    finally:
        sys.setprofile(None)
    return made


def test_encoding_takes_time_in_proportion():
    made = {}
    for n in (300, 600):
        s = structure(wide(n))
        arch = largest(s)
        encode(s, arch)  # what is made once
        plan = sum(t.numel() for t in tree_leaves(s.plan))
        made[n] = len(arch), steps(encode, s, arch), steps(encode, s, [arch] * 5), plan
    for small, large in zip(made[300], made[600]):
        assert large <= 2.1 * small, made
    assert made[300][1] <= 25 * made[300][0]


def test_two_choices_of_one_name_are_an_error():
    space = nn.ModuleList([one_of(1, 2), one_of(3, 4)])
    space[0].name = space[1].name = 'width'
    with pytest.raises(ValueError, match="two choices are called 'width'"): choices(space)
