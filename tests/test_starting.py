"A search that begins with the weights of others: what is taken, what is made anew, and files that do not fit."

import json, pickle
import pytest, torch
from typer.testing import CliRunner
from nas_suite import search
from nas_suite.choices import Space, one_of, sample
from nas_suite.cli import app
from nas_suite.extraction import extract
from nas_suite.files import read_json
from nas_suite.front.search import Search, same_supernet
from nas_suite.front.starting import Started, begin, space_like, start_given
from nas_suite.importers import (
    PublishedNet, load_efficient_tdnn, load_ofa, load_proxyless, published_space, to_efficient_tdnn, to_ofa, to_proxyless)
from nas_suite.spaces.mobile import ofa_mobilenet_v3, ofa_proxyless, proxyless
from nas_suite.spaces.resnet import ofa_resnet50
from nas_suite.spaces.tdnn import efficient_tdnn
from nas_suite.strategies.evolution import Evolution
from nas_suite.strategies.gated import Gated
from nas_suite.strategies.supernet import Supernet, sandwich
from nas_suite.tasks.classification import classification

quick = dict(progress=False, device='cpu')


def mobile(classes, **more):
    return ofa_mobilenet_v3(0.25, classes, 8, 1, **dict(widths=(8, 16), depths=(1, 2), last=(32, 32)) | more)


def like_proxyless(classes):
    return ofa_proxyless(0.5, classes, 8, 1, widths=(8, 16), depths=(1, 2), last=(32,))


def resnet(classes):
    return ofa_resnet50(classes, 16, 1, widths=(16, 32), base_depths=(1, 1), depths=(0, 1), strides=(1, 2), stem=16)


def tdnn(embedding):
    return efficient_tdnn(16, embedding, widths=(16, 24), last=(24, 36), depths=(2, 3), scale=4, attention=8)


def chain(classes):
    sizes = dict(widths=(8, 16), depths=(2, 2), stem=8, first=8, last=32, first_residual=False)
    return proxyless(1.0, classes, 8, 1, **sizes)


def trainer():
    return Evolution(Supernet(sandwich(0.1)), samples=20)


kinds = {
    'ofa_mobilenet_v3': (mobile, to_ofa, load_ofa, {'classifier'}),
    'ofa_proxyless': (like_proxyless, to_ofa, load_ofa, {'classifier'}),
    'ofa_resnet50': (resnet, to_ofa, load_ofa, {'classifier'}),
    'efficient_tdnn': (tdnn, to_efficient_tdnn, load_efficient_tdnn, {'linear', 'bnembed'}),
}


@pytest.mark.parametrize('kind', kinds)
def test_all_but_the_head_is_as_the_reader_has_it(kind, tmp_path):
    make, write, read, heads = kinds[kind]
    weights = {name: torch.randn_like(t.float()).to(t.dtype) for name, t in write(make(8)).items()}
    torch.save({'state_dict': weights}, tmp_path / 'w.pth')
    for size in (8, 11):
        space, expected = make(size), read(make(8), weights).state_dict()
        before = {name: tensor.clone() for name, tensor in space.state_dict().items()}
        begun = begin(space, start_given(tmp_path / 'w.pth'))
        assert set(begun.anew) == (heads if size == 11 else set())
        for name, tensor in space.state_dict().items():
            is_anew = name.partition('.')[0] in begun.anew
            assert torch.equal(tensor, (before if is_anew else expected)[name]), name


def test_a_proxyless_network_is_one_operator_of_each_block(tmp_path):
    torch.manual_seed(0)
    theirs = chain(8)
    for seed in range(3):
        arch = sample(theirs, generator=torch.Generator().manual_seed(seed))
        config, weights = to_proxyless(theirs, arch)
        torch.save(weights, tmp_path / 'net.pth')
        (tmp_path / 'net.json').write_text(json.dumps(config))
        start, task = start_given(str(tmp_path / 'net.pth')), classification('digits')
        space = space_like(start, task)
        assert space.config['classes'] == 10 and begin(space, start).anew == ['classifier']
        mine, published = extract(space.eval(), arch), load_proxyless(config, weights)
        x = torch.randn(2, 1, 8, 8)
        mine.classifier, published.classifier = torch.nn.Identity(), torch.nn.Identity()
        assert torch.equal(mine(x), published(x)) and isinstance(published, PublishedNet)


def test_a_published_supernet_is_known_by_its_shapes():
    with torch.device('meta'):
        weights = {name: to_ofa(make()) for name, make in dict(v3=ofa_mobilenet_v3, resnet=ofa_resnet50).items()}
    found = published_space(weights['v3'], classes=7, image_size=96, in_channels=3)
    assert found.config['width'] == 1 and found.classifier.out_features == 7
    assert found.config['family'] == 'ofa_mobilenet_v3' and found.input_shape == (3, 96, 96)
    assert published_space(weights['resnet'], classes=7, image_size=64, in_channels=3).config['family'] == 'ofa_resnet50'


def test_one_run_begins_with_another_one_of_other_classes(tmp_path, unwritten):
    torch.manual_seed(0)
    torch.save(to_ofa(mobile(8)), tmp_path / 'w.pth')
    with pytest.warns(Started, match=r'w\.pth \(Once-for-All\).*classifier made anew'):
        search.train_supernet('digits', tmp_path / 'a', mobile(10), trainer(), start=tmp_path / 'w.pth', **quick)
    config = read_json(tmp_path / 'a/config.json')
    assert config['start']['anew'] == ['classifier'] and config['start']['file'] == 'w.pth'
    assert 'Begun with the weights of w.pth' in (tmp_path / 'a/report.html').read_text()
    config = Search(mobile(10), classification('digits', shared=True), trainer(), dict(macs='1M')).config
    same_supernet(tmp_path / 'a', config)  # also a supernet that began so may be taken over
    few = classification('digits')
    train, test = ([(x, y) for x, y in part if y < 4][:60] for part in (few.train, few.test))
    how = dict(strategy='gated', epochs=1, retrain_epochs=0, finalists=0, **quick)
    with pytest.warns(Started, match='an earlier run'):
        found = search.classification((train, test), macs='1M', start=tmp_path / 'a', run_dir=tmp_path / 'b', **how)
    assert found.space.config['classes'] == 4 and found.space.config['widths'] == [8, 16]
    again = search.classification((train, test), macs='1M', start=tmp_path / 'a', run_dir=tmp_path / 'b', **how)
    assert again.arch == found.arch
    with pytest.raises(ValueError, match='start'):
        search.classification((train, test), macs='1M', run_dir=tmp_path / 'b', **how)


class Own(torch.nn.Module):
    def __init__(self, classes):
        super().__init__()
        self.some, self.last = one_of(1, 2), torch.nn.Linear(4, classes)


class Named(Own, Space):
    heads = ('last',)


def test_a_space_of_ones_own_names_its_heads(tmp_path):
    torch.save(Own(3).state_dict(), tmp_path / 'w.pth')
    assert begin(Own(3), start_given(tmp_path / 'w.pth')).anew == []
    with pytest.raises(ValueError, match='which layers may be made anew'):
        begin(Own(4), start_given(tmp_path / 'w.pth'))
    assert begin(Named(4), start_given(tmp_path / 'w.pth')).anew == ['last']


class Malice:
    def __reduce__(self):
        return print, ('this must not be printed',)


def test_what_does_not_fit_is_one_line(tmp_path, capsys):
    torch.save(to_ofa(mobile(8)), tmp_path / 'w.pth')
    torch.save(to_ofa(mobile(8)) | {'more.weight': torch.ones(1)}, tmp_path / 'more.pth')
    (tmp_path / 'bad.pth').write_bytes(pickle.dumps(Malice(), protocol=2))
    (tmp_path / 'text.pth').write_text('weights')
    cases = [
        ('w.pth', mobile(8, widths=(8, 64)), 'instead of'),
        ('w.pth', mobile(8, depths=(1, 3)), 'is missing'),
        ('more.pth', mobile(8), 'more.weight is unexpected'),
        ('w.pth', tdnn(8), 'nor those that EfficientTDNN publishes'),
        ('w.pth', chain(8), 'are not of this Proxyless'),
    ]
    for file, space, said in cases:
        before = {name: tensor.clone() for name, tensor in space.state_dict().items()}
        with pytest.raises(ValueError, match=said) as error:
            begin(space, start_given(tmp_path / file))
        assert len(str(error.value)) < 700 and '\n' not in str(error.value) and file in str(error.value)
        assert all(torch.equal(tensor, before[name]) for name, tensor in space.state_dict().items())
    for file, said in (('bad.pth', 'holds no weights'), ('text.pth', 'holds no weights'), ('no.pth', 'no file')):
        with pytest.raises(ValueError, match=f'{said}.*start is a file of weights'):
            start_given(tmp_path / file)
    with pytest.raises(ValueError, match='holds no trained supernet'):
        start_given(tmp_path)
    with pytest.raises(ValueError, match='give the space that they are of'):
        space_like(start_given(tmp_path / 'w.pth'), classification('digits'))
    with pytest.raises(ValueError, match='start gives weights, and the supernet has its own'):
        search.classification('digits', macs=1e6, start=tmp_path / 'w.pth', supernet=tmp_path, strategy=Gated(epochs=1))
    assert 'this must not be printed' not in capsys.readouterr().out


@pytest.mark.parametrize('words', ['search classification digits --macs 1M', 'search speaker x --macs 1M',
                                   'train-supernet digits'])
def test_the_commands_take_a_file(words, tmp_path):
    torch.save({'a': torch.ones(2)}, tmp_path / 'w.pth')
    for file, said in (('w.pth', 'of no published supernet'), ('none.pth', 'there is no file')):
        if 'speaker' in words and file == 'w.pth':
            continue
        asked = [*words.split(), '--start', str(tmp_path / file), '--run-dir', str(tmp_path / 'run')]
        found = CliRunner().invoke(app, asked)
        assert found.exit_code and said in (found.output + str(found.exception)), found.output
        assert not (tmp_path / 'run').exists()
