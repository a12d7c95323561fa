"Keyword spotting: folders of words, Speech Commands' lists, features of both forms, and real recordings where there are some."

import os, shutil
from pathlib import Path

import pytest, torch
import soundfile

from data_recipes import word_folders
from nas_suite.choices import smallest
from nas_suite.extraction import extract
from nas_suite.tasks.base import kind_of
from nas_suite.tasks.keywords import Keywords, Recorded, fitted_to, keywords
from nas_suite.training import batches

shared = Path(os.environ.get('NAS_SUITE_SHARED', Path(__file__).parents[2] / 'shared')) / 'data' / 'speech_asc'


def spoken(folder, words=('no', 'yes'), speakers=6, rate=8000):
    "A folder of recordings a word, as Speech Commands name them."
    for w, word in enumerate(words):
        for s in range(speakers):
            path = folder / word / f'{s:04x}_nohash_0.wav'
            path.parent.mkdir(parents=True, exist_ok=True)
            tone = torch.sin(torch.arange(rate // 2) * (0.2 + 0.3 * w)) + 0.1 * torch.randn(rate // 2)
            soundfile.write(path, (tone / 2).numpy(), rate)
    return folder


def test_folders_of_words(tmp_path):
    "Nobody is in two parts; noise is no word; the digest tells files from others."
    folder = spoken(tmp_path / 'words')
    spoken(folder, words=['_background_noise_'], speakers=1)
    found = word_folders.load(folder, seed=0)
    who = {part: {word_folders.speaker_of(path) for path, _ in found[part]} for part in ('train', 'test')}
    assert found['words'] == ['no', 'yes'] and not who['train'] & who['test'] and len(who['test']) == 1
    task = keywords(folder, valid=0.3, seconds=0.5, rate=8000)
    assert isinstance(task.test, Recorded) and task.contents() == {'word no': 4, 'word yes': 4} or len(task.valid)
    again = Keywords.from_facts(task.facts(), folder)
    assert again.facts() == task.facts() and kind_of(task.facts()) is Keywords
    spoken(folder, words=['no'], speakers=7)
    assert keywords(folder, valid=0.3, seconds=0.5, rate=8000).facts()['files'] != task.facts()['files']
    with pytest.raises(ValueError, match='give the task'):
        Keywords.from_facts(task.facts())


def test_lists_of_parts_are_kept_to(tmp_path):
    folder = spoken(tmp_path / 'words')
    (folder / 'testing_list.txt').write_text('no/0000_nohash_0.wav\nyes/0000_nohash_0.wav\n')
    (folder / 'validation_list.txt').write_text('no/0001_nohash_0.wav\nyes/0002_nohash_0.wav\n')
    task = keywords(folder, seconds=0.5, rate=8000)
    assert [len(part) for part in (task.train, task.valid, task.test)] == [8, 2, 2]
    assert Keywords.fits(folder) > 0.9 and Keywords.fits(tmp_path) < 0.5


@pytest.mark.parametrize('dims', [1, 2])
def test_features_of_both_forms(dims):
    task = keywords('made up words', dims=dims, seconds=0.4, rate=4000, bands=16)
    x, y = next(batches(task.train, 4, augment=task.augment))
    assert tuple(x.shape[1:]) == task.input_shape and len(task.input_shape) == dims + 1
    net = extract(space := task.default_space({}, shared=True), smallest(space))
    assert net.eval()(x).shape == (4, 4) and tuple(space.input_shape) == task.input_shape
    seen = [next(batches(task.train, 4, seed=seed, augment=task.augment))[0] for seed in (0, 0, 1)]
    assert torch.equal(seen[0], seen[1]) and not torch.equal(seen[0], seen[2])


def test_recordings_of_one_length():
    assert fitted_to(torch.ones(3), 6).tolist() == [0, 1, 1, 1, 0, 0]
    assert all(len(fitted_to(torch.ones(n), 7)) == 7 for n in range(1, 20))


@pytest.mark.parametrize(
    'make, says',
    [
        (lambda folder: keywords(folder / 'nowhere'), 'there is no data'),
        (lambda folder: keywords(folder), 'two words or more; found 0'),
        (lambda folder: keywords('made up words', dims=3), 'dims'),
        (lambda folder: keywords('made up words', valid=2), 'valid'),
        (lambda folder: keywords('made up words', words=['a']), "no setting 'words'"),
    ],
)
def test_what_cannot_be(make, says, tmp_path):
    with pytest.raises(ValueError, match=says):
        make(tmp_path)


@pytest.mark.skipif(not shared.is_dir(), reason=f'needs the recordings in {shared}')
def test_real_recordings(tmp_path):
    "Folders of real recordings, of three speakers in place of words: read, cut to one length, heard by a network."
    for folder in sorted(path for path in shared.iterdir() if path.is_dir())[:3]:
        (tmp_path / folder.name).mkdir()
        for path in sorted(folder.glob('*.flac'))[:10]:
            shutil.copy(path, tmp_path / folder.name)
    task = keywords(tmp_path, valid=0.2, seconds=3.0)
    assert len(task.words) == 3 and {len(task.train[0][0])} == {48000}
    x, y = next(batches(task.train, 4, augment=task.augment))
    assert x.isfinite().all() and x.std() > 0.5
    net = extract(space := task.default_space({}), smallest(space)).eval()
    path = task.test.files[0][0]
    assert Keywords.use(net, task.facts()).predict(path)['word'] in task.words
