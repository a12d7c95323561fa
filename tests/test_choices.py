"Options that carry attributes, and the roles of choices."
import io, json, pickle, sys
from copy import deepcopy
from pathlib import Path
import pytest, torch
from torch import nn
from nas_suite.choices import *
from nas_suite.extraction import extract
from nas_suite.layers import ElasticConv1d, MixedOp
sys.path.insert(0, str(Path(__file__).parent))

# ---- options that carry attributes

def test_an_option_is_its_name():
    option = Option('mb3_k5', expand=3, kernel=5)
    assert option == 'mb3_k5' and hash(option) == hash('mb3_k5') and json.dumps([option]) == '["mb3_k5"]' and repr(option) == "'mb3_k5'"
    assert option.attributes == dict(expand=3, kernel=5) and Option('skip').attributes == {}
    for twin in (deepcopy(option), *(pickle.loads(pickle.dumps(option, n)) for n in range(2, pickle.HIGHEST_PROTOCOL + 1))):
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
    views = [space, deepcopy(space), pickle.loads(pickle.dumps(space)), restrict(space, {'0.kernel_size': 3}), extract(space, {'0.kernel_size': 3}), extract(space, {'0.out_channels': 2})]
    for view in views:
        assert roles(view) == names
        assert [o.attributes for o in choices(view)['1.choice'].options] == [dict(kernel=1), dict(kernel=3)]
        with selected(view, largest(view)): assert choices(view)['1.choice'].value.attributes == dict(kernel=3)
    small = extract(space, {'1.choice': 'k3'})
    assert roles(small) == names and choices(small)['1.choice'].options[0].attributes == dict(kernel=3)

def test_architectures_are_plain_data():
    space = structured()
    arch = largest(space)
    assert {type(v) for v in arch.values()} == {int, str} and json.loads(json.dumps(arch)) == arch
    given = arch | {'1.choice': choices(space)['1.choice'].options[1]}
    assert torch.equal(encode(space, given), encode(space, arch)) and extract(space, given).code == extract(space, arch).code
    file = io.BytesIO()
    torch.save(sample(space) | largest(space), file)
    file.seek(0)
    assert torch.load(file, weights_only=True) == arch

# ---- roles

@pytest.mark.parametrize('read, role', [
    ([], 'operator'), (['operator'], 'operator'), (['width'], 'width'), (['operator', 'width'], 'width'), (['width', 'operator'], 'width'),
    (['width', 'depth'], 'depth'), (['depth', 'width', 'operator'], 'depth'), (['kernel', 'width'], 'kernel'), (['bits', 'operator'], 'bits'), (['width', 'heads'], 'heads'), (['kernel', 'dilation'], 'kernel')])
def test_roles(read, role):
    choice = one_of(1, 2)
    for word in read: assert choice.read_as(word) is choice
    assert choice.role == role and roles(nn.ModuleList([choice])) == {'0': role}

@pytest.mark.parametrize('bad', ['', None, 3])
def test_a_role_is_a_word(bad):
    with pytest.raises(ValueError, match='a role is a word'): one_of(1, 2).read_as(bad)
