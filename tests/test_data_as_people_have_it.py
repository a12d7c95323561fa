"Pictures, masks and recordings in the forms that people have them in; what is wrong with them in one line."

import json
import types

import numpy as np
import pytest
import torch
from PIL import Image

from data_recipes import coco, colours, columns, images_given
from nas_suite.front.commands.data import kind_for, looked_into
from nas_suite.tasks.classification import classification
from nas_suite.tasks.segmentation import Segmentation, segmentation
from nas_suite.tasks.speaker import Speaker, speaker
from nas_suite.tasks.speaker.audio import read_wave

# ---------------------------------------------------------------- pictures with a label

TONES = dict(ant=(200, 30, 30), bee=(30, 30, 200))


def photo(path, name, i=0, size=(50, 40)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new('RGB', size, tuple(min(255, tone + i) for tone in TONES[name])).save(path)
    return path


def folder(root, n=10, **more):
    for name in TONES:
        for i in range(n):
            photo(root / name / f'{i}.png', name, i, **more)
    return root


def parts(task):
    return [len(part) for part in (task.train, task.valid, task.test)]


def is_right(task):
    "The red ones are ants."
    return all((int(y) == 0) == bool(x[0].mean() > x[2].mean()) for part in (task.train, task.valid, task.test) for x, y in part)


def test_the_folder_of_what_chooses_is_used(tmp_path):
    for part, n in dict(train=5, val=3, test=2).items():
        folder(tmp_path / part, n)
    task = classification(tmp_path)
    assert parts(task) == [10, 6, 4] and is_right(task) and task.input_shape == (3, 32, 32)
    again = classification(tmp_path).from_facts(task.facts(), tmp_path)
    assert again.facts() == task.facts()
    with pytest.raises(ValueError, match='valid is a share of the training data, and the data say what chooses'):
        classification(tmp_path, valid=0.3)
    photo(tmp_path / 'val' / 'cow' / '1.png', 'ant')
    with pytest.raises(ValueError, match=r'val has the class cow, which .*train has no image of'):
        classification(tmp_path)


@pytest.mark.parametrize('size, wanted', [((20, 90), 32), ((70, 100), 64), ((500, 90), 80), ((900, 700), 128)])
def test_the_size_is_that_of_the_pictures(size, wanted, tmp_path):
    task = classification(folder(tmp_path, 2, size=size))
    assert task.input_shape == (3, wanted, wanted) == tuple(task.train[0][0].shape)
    assert classification(tmp_path, image_size=24).input_shape == (3, 24, 24)
    assert task.facts()['image_size'] == wanted


def table(path, rows, titles='path,label'):
    path.write_text('\n'.join([titles, *(','.join(map(str, row)) for row in rows)]))
    return path


def test_a_table_of_paths_and_labels(tmp_path):
    folder(tmp_path / 'all')
    rows = [(f'all/{name}/{i}.png', name) for name in TONES for i in range(10)]
    task = classification(table(tmp_path / 'a.csv', rows))
    assert parts(task) == [8, 8, 4] and is_right(task) and task.names == ['ant', 'bee']
    split = [(*row, 'train' if i % 10 < 6 else 'val' if i % 10 < 8 else 'test') for i, row in enumerate(rows)]
    task = classification(table(tmp_path / 'b.csv', split, 'Filename,Class,Split'))
    assert parts(task) == [12, 4, 4] and is_right(task)
    table(tmp_path / 'c.tsv', [], '\n'.join('\t'.join(row) for row in rows))
    assert parts(classification(tmp_path / 'c.tsv')) == [8, 8, 4]


def test_what_a_table_names_and_cannot_be_read_is_left_out(tmp_path):
    folder(tmp_path / 'all')
    broken = tmp_path / 'all/ant/3.png'
    broken.write_bytes(broken.read_bytes()[:60])
    rows = [(f'all/{name}/{i}.png', name) for i in range(10) for name in TONES]
    with pytest.warns(UserWarning, match=r'a\.csv: 1 left out: .*3\.png'):
        task = classification(table(tmp_path / 'a.csv', rows))
    assert sum(parts(task)) == 19 and is_right(task)


def test_classes_of_a_table_are_in_the_order_of_their_names(tmp_path):
    folder(tmp_path / 'all')
    rows = [(f'all/ant/{i}.png', label) for i in range(9) for label in ('10', '2', 'bee', 'ant')]
    assert classification(table(tmp_path / 'a.csv', rows)).names == ['2', '10', 'ant', 'bee']


BAD_TABLES = {
    'no such file': ([('all/ant/99.png', 'ant')], 'path,label', r'a\.csv, line 2: there is no file .*99\.png'),
    'no label': ([('all/ant/1.png', '')], 'path,label', r'a\.csv, line 2 has no label'),
    'columns': ([('all/ant/1.png', 'ant')], 'path,colour,size', r'needs a column of labels, called label.*found path, colour'),
    'fields': ([('all/ant/1.png', 'ant', 3)], 'path,label', r'line 2: there are 2 columns; found 3 fields'),
    'part': ([('all/ant/1.png', 'ant', 'later')], 'path,label,split', r"a part is one of train.*found 'later'"),
    'one class': ([('all/ant/1.png', 'ant'), ('all/ant/2.png', 'ant')], 'path,label', 'at least two classes; found 1: ant'),
    'empty': ([], 'path,label', 'has no rows'),
}


@pytest.mark.parametrize('rows, titles, said', BAD_TABLES.values(), ids=BAD_TABLES)
def test_bad_tables(rows, titles, said, tmp_path):
    folder(tmp_path / 'all', 3)
    with pytest.raises(ValueError, match=said):
        classification(table(tmp_path / 'a.csv', rows, titles))


def test_several_folders_and_dicts_of_parts(tmp_path):
    first, second = folder(tmp_path / 'a', 5), folder(tmp_path / 'b', 10)
    assert parts(classification([first, second])) == [12, 12, 6]
    assert parts(classification((second, first))) == [10, 10, 10]
    task = classification(dict(train=second, validation=first, test=first))
    assert parts(task) == [20, 10, 10] and is_right(task)
    with pytest.raises(ValueError, match='has the parts train, test and perhaps valid; found tests'):
        classification(dict(train=first, tests=second))
    with pytest.raises(ValueError, match='there is no folder and no table'):
        classification([first, tmp_path / 'none'])


class Rows:
    "As a data set of Hugging Face's: columns, features, items that are dicts."

    def __init__(self, n=10, kind='picture'):
        label = type('ClassLabel', (), dict(names=list(TONES)))()
        self.features = dict(img=type('Image', (), {})(), label=label, note=type('Value', (), {})())
        self.column_names, self.n, self.kind = list(self.features), n, kind

    def __len__(self):
        return 2 * self.n

    def __getitem__(self, key):
        if key == 'label':
            return [i % 2 for i in range(len(self))]
        picture = Image.new('RGB', (50, 40), TONES[list(TONES)[key % 2]])
        return dict(img=picture if self.kind == 'picture' else np.asarray(picture), label=key % 2, note='')


class Pictures:
    "As a data set of torchvision's."

    classes = list(TONES)

    def __init__(self, n=10):
        self.targets = [i % 2 for i in range(2 * n)]

    def __len__(self):
        return len(self.targets)

    def __getitem__(self, i):
        return Image.new('RGB', (50, 40), TONES[self.classes[self.targets[i]]]), self.targets[i]


@pytest.mark.parametrize('data, wanted', [
    (Rows(), [8, 8, 4]), (Rows(kind='array'), [8, 8, 4]), (dict(train=Rows(6), test=Rows(2), validation=Rows(3)), [12, 6, 4]),
    (Pictures(), [8, 8, 4]), ((Pictures(6), Pictures(2)), [6, 6, 4]), ([Pictures(5), Rows(5)], [8, 8, 4]),
])  # fmt: skip
def test_data_sets_of_others(data, wanted):
    task = classification(data)
    assert parts(task) == wanted and is_right(task) and task.names == list(TONES)
    assert task.train[0][0].shape == (3, 32, 32)


def test_streams_are_refused_in_words():
    def stream():
        yield Image.new('RGB', (9, 9)), 0

    class Stream(torch.utils.data.IterableDataset):
        __iter__, __len__ = stream, lambda self: 3

    for data in (stream(), types.SimpleNamespace(__iter__=stream), Stream()):
        with pytest.raises(ValueError, match='the data are a stream .*and a search goes over its data in orders of its own'):
            images_given.all_parts(data)


# ---------------------------------------------------------------- masks

TABLE = dict(sky=(70, 130, 180), road=(128, 64, 128), void=(0, 0, 0))


def scene(root, i, save, size=(32, 24)):
    "An image with sky above road, and its mask."
    labels = np.zeros(size[::-1], np.uint8)
    labels[size[1] // 2 + i % 3 :] = 1
    image = np.where(labels[..., None] == 0, (80, 140, 200), (110, 100, 110)).astype(np.uint8)
    for name in ('images', 'masks'):
        (root / name).mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(root / 'images' / f'{i}.png')
    save(labels).save(root / 'masks' / f'{i}.png')
    return labels


def in_colour(labels):
    picture = np.array([TABLE['sky'], TABLE['road']], np.uint8)[labels]
    picture[0, 0] = TABLE['void']
    return Image.fromarray(picture)


def scenes(root, save, n=10):
    return [scene(root, i, save) for i in range(n)]


FILES = {
    'class_dict.csv': 'name,r,g,b\nsky,70,130,180\nroad,128,64,128\nvoid,0,0,0\n',
    'labelmap.txt': '# label:color_rgb:parts:actions\nsky:70,130,180::\nroad:128,64,128::\nvoid:0,0,0::\n',
    'colours.txt': 'sky 70 130 180\nroad #804080\nvoid 0 0 0\n',
    'classes.txt': 'sky 70 130 180\nroad 128 64 128\nvoid 0 0 0\n',
}


@pytest.mark.parametrize('name', FILES)
def test_masks_in_colour_by_a_file_of_the_folder(name, tmp_path):
    masks = scenes(tmp_path, in_colour)
    (tmp_path / name).write_text(FILES[name])
    task = segmentation(tmp_path)
    assert task.names == ['sky', 'road'] and [tuple(colour) for colour in task.palette] == [TABLE['sky'], TABLE['road']]
    image, labels = task.train[0]
    wanted = torch.from_numpy(masks[_number(task)]).long()
    wanted[0, 0] = 255
    assert torch.equal(labels, wanted)


def _number(task):
    base, i = task.train, 0
    while hasattr(base, 'indices'):
        base, i = base.dataset, base.indices[i]
    return int(base.files[i][0].stem)


def test_masks_in_colour_by_a_table(tmp_path):
    scenes(tmp_path, in_colour)
    task = segmentation(tmp_path, colours=TABLE)
    again = segmentation(tmp_path, colours=TABLE).from_facts(json.loads(json.dumps(task.facts())), tmp_path)
    assert again.facts() == task.facts() and again.names == ['sky', 'road']
    pair = segmentation((tmp_path / 'images', tmp_path / 'masks'), colours=TABLE)
    assert pair.names == ['sky', 'road']


@pytest.mark.parametrize('table, said', [
    (dict(TABLE, road=(1, 2, 3)), r'masks.*png has the colour \(128, 64, 128\), which the table of 3 colours does not have'),
    (dict(sky=(1, 2)), r'a colour is \(r, g, b\).*that of sky is \(1, 2\)'),
    (dict(sky=(1, 2, 3), road=(1, 2, 3)), 'sky and road have the same colour'),
    (dict(sky=(1, 2, 3), void=(0, 0, 0)), 'at least two classes with a colour; found sky, void'),
    ('nowhere.csv', 'there is no file nowhere.csv'),
])  # fmt: skip
def test_bad_tables_of_colours(table, said, tmp_path):
    scenes(tmp_path, in_colour, 6)
    with pytest.raises(ValueError, match=said):
        segmentation(tmp_path, colours=table)


def test_colours_without_a_table_are_asked_for(tmp_path):
    scenes(tmp_path, in_colour, 6)
    (tmp_path / 'classes.txt').write_text('sky\nroad\n')
    with pytest.raises(ValueError, match='is a colour picture: say what its colours are'):
        segmentation(tmp_path)
    with pytest.raises(ValueError, match='colours are those of masks in files'):
        segmentation('digit scenes', colours=TABLE)


@pytest.mark.parametrize('named', [False, True])
def test_masks_of_0_and_255_are_of_two_classes(named, tmp_path):
    masks = scenes(tmp_path, lambda labels: Image.fromarray(labels * 255))
    if named:
        (tmp_path / 'classes.txt').write_text('sky\nroad\n')
    with pytest.warns(UserWarning, match='nothing but 0 and 255: 0 is read as'):
        task = segmentation(tmp_path)
    assert task.names == (['sky', 'road'] if named else ['background', 'foreground'])
    assert torch.equal(task.train[0][1], torch.from_numpy(masks[_number(task)]).long())


def test_255_beside_other_labels_is_ignored(tmp_path):
    def save(labels):
        labels = labels.copy()
        labels[0, 0] = 255
        return Image.fromarray(labels)

    scenes(tmp_path, save)
    (tmp_path / 'classes.txt').write_text('sky\nroad\n')
    task = segmentation(tmp_path)
    assert task.train[0][1][0, 0] == 255 and (task.train[0][1][1:] < 2).all()


def test_the_palette_of_a_mask_gives_the_colours(tmp_path):
    def save(labels):
        picture = Image.fromarray(labels, 'P')
        picture.putpalette([*TABLE['sky'], *TABLE['road']])
        return picture

    scenes(tmp_path, save)
    (tmp_path / 'classes.txt').write_text('sky\nroad\n')
    task = segmentation(tmp_path)
    assert [tuple(colour) for colour in task.palette] == [TABLE['sky'], TABLE['road']]


def test_the_layout_of_pascal_voc(tmp_path):
    root = tmp_path / 'VOCdevkit' / 'VOC2012'
    masks = scenes(root, Image.fromarray)
    (root / 'images').rename(root / 'JPEGImages')
    (root / 'masks').rename(root / 'SegmentationClass')
    lists = root / 'ImageSets' / 'Segmentation'
    lists.mkdir(parents=True)
    (lists / 'train.txt').write_text('\n'.join(map(str, range(7))))
    (lists / 'val.txt').write_text('7\n8\n9\n')
    with pytest.warns(UserWarning, match='no pixel of bicycle'):
        task = segmentation(tmp_path)
    assert len(task.names) == 21 and len(task.full) == 7 and len(task.test) == 3
    assert torch.equal(task.train[0][1], torch.from_numpy(masks[_number(task)]).long())
    (lists / 'val.txt').write_text('99\n')
    with pytest.raises(ValueError, match='val.txt names 99, which has no image'):
        segmentation(tmp_path)


def annotations(n=10, size=(32, 24)):
    "A square by a polygon, a column by run lengths, and a crowd."
    width, height = size
    images = [dict(id=i, file_name=f'{i}.png', width=width, height=height) for i in range(n)]
    square = [4, 4, 12, 4, 12, 12, 4, 12]
    runs = dict(size=[height, width], counts=[20 * height, 2 * height, 10 * height])
    crowd = dict(size=[height, width], counts=[30 * height, 2 * height])
    objects = [(7, [square], 0), (3, runs, 0), (3, crowd, 1)]
    rows = [dict(id=10 * i + k, image_id=i, category_id=category, segmentation=outline, iscrowd=crowd_)
            for i in range(n) for k, (category, outline, crowd_) in enumerate(objects)]
    return dict(images=images, annotations=rows, categories=[dict(id=7, name='square'), dict(id=3, name='column')])


def test_annotations_as_cocos(tmp_path):
    scenes(tmp_path, Image.fromarray)
    for mask in (tmp_path / 'masks').iterdir():
        mask.unlink()
    (tmp_path / 'masks').rmdir()
    (tmp_path / 'annotations.json').write_text(json.dumps(annotations()))
    task = segmentation(tmp_path)
    assert task.names == ['background', 'column', 'square'] and len(task.full) == 8 and len(task.test) == 2
    labels = task.train[0][1]
    wanted = torch.zeros(24, 32, dtype=torch.long)
    wanted[4:13, 4:13], wanted[:, 20:22], wanted[:, 30:] = 2, 1, 255
    assert torch.equal(labels, wanted)
    assert coco.is_here(tmp_path)


def _compressed(counts):
    "Run lengths as COCO's tools write them."
    text = ''
    for i, count in enumerate(counts):
        value = count - counts[i - 2] if i > 2 else count
        more = True
        while more:
            bits = value & 31
            value >>= 5
            more = value != -1 if bits & 16 else value != 0
            text += chr((bits | 32 if more else bits) + 48)
    return text


@pytest.mark.parametrize('seed', range(3))
def test_compressed_run_lengths(seed):
    mask = np.random.default_rng(seed).random((17, 23)) < 0.3
    flat = mask.T.ravel()
    edges = np.flatnonzero(np.diff(np.concatenate([[False], flat, [not flat[-1]]]).astype(int)) != 0)
    counts = np.diff(np.concatenate([[0], edges])).tolist()
    for runs in (counts, _compressed(counts)):
        assert (coco.object_mask(dict(segmentation=dict(size=[17, 23], counts=runs)), (17, 23)) == mask).all()


def spoil(change):
    facts = annotations()
    change(facts)
    return facts


@pytest.mark.parametrize('facts, said', [
    (spoil(lambda facts: facts['annotations'][0].update(category_id=99)), 'object 0 is of category 99'),
    (spoil(lambda facts: facts['annotations'][0].update(image_id=99)), 'objects of image 99, which is not among the images'),
    (spoil(lambda facts: facts['images'][0].update(file_name='x.png')), 'names the image x.png, which is not in'),
    (spoil(lambda facts: facts.update(categories=[])), 'has 0 categories'),
])  # fmt: skip
def test_bad_annotations(facts, said, tmp_path):
    scenes(tmp_path, Image.fromarray)
    (tmp_path / 'annotations.json').write_text(json.dumps(facts))
    with pytest.raises(ValueError, match=said):
        segmentation(tmp_path)


def test_lines_of_a_table_of_colours(tmp_path):
    path = tmp_path / 'colours.txt'
    path.write_text('traffic light\t250\t170\t30\nside walk 244, 35, 232\n')
    assert colours.read_colours(path) == {'traffic light': (250, 170, 30), 'side walk': (244, 35, 232)}
    path.write_text('a 1 2 3\nb 4 5\n')
    with pytest.raises(ValueError, match=r"line 2: a class and its colour, `road 128 64 128`; found 'b 4 5'"):
        colours.read_colours(path)


# ---------------------------------------------------------------- recordings


def test_samples_in_any_usual_shape():
    wave = torch.sin(torch.arange(8000) / 9)
    for given in (wave, wave[None], wave.numpy()[None], torch.stack([wave, wave]), wave.double()):
        found, _ = read_wave(given)
        assert found.shape == (8000,) and torch.allclose(found, wave, atol=1e-6)
    short = (wave * 32767).round().short()
    assert torch.allclose(read_wave(short)[0], wave, atol=1e-4)
    found, said = read_wave(dict(array=wave.numpy(), sampling_rate=8000))
    assert found.shape == (16000,) and said == '8000 Hz resampled to 16000 Hz'
    with pytest.raises(ValueError, match=r'has shape \(8000, 3\); samples are \(n,\), or \(channels, n\)'):
        read_wave(torch.ones(8000, 3))


# ---------------------------------------------------------------- columns of masks and of voices


class Columns:
    "As a data set of Hugging Face's: features by the names of their classes, and a list of values for each."

    def __init__(self, kinds, **values):
        self.features = {name: type(kinds[name], (), {})() for name in values}
        self.column_names, self.values = list(values), values

    def __len__(self):
        return len(self.values[self.column_names[0]])

    def __getitem__(self, key):
        return self.values[key] if isinstance(key, str) else {name: value[key] for name, value in self.values.items()}


def mask_columns(n, paint, first=0):
    labels = [np.where(np.arange(24)[:, None] >= 12 + (first + i) % 3, 1, 0).repeat(32, 1).astype(np.uint8) for i in range(n)]
    images = [Image.fromarray(np.stack([120 * one + 60] * 3, -1).astype(np.uint8)) for one in labels]
    kinds = dict(note='Value', annotation='Image', image='Image')
    return Columns(kinds, note=['-'] * n, annotation=[paint(one) for one in labels], image=images)


def voice_columns(speakers, n=3, rate=8000, kind='Audio'):
    generator = np.random.default_rng(0)
    sounds = [dict(array=generator.standard_normal(rate), sampling_rate=rate) for _ in range(n * len(speakers))]
    kinds = dict(audio=kind, speaker_id='Value')
    return Columns(kinds, audio=sounds, speaker_id=[who for who in speakers for _ in range(n)])


@pytest.mark.parametrize('paint, settings', [
    (lambda one: Image.fromarray(one), dict(classes=['sky', 'road'])),
    (lambda one: Image.fromarray(255 * one), {}),
    (lambda one: Image.fromarray(np.array([TABLE['sky'], TABLE['road']], np.uint8)[one]), dict(colours=TABLE)),
])  # fmt: skip
def test_masks_in_columns(paint, settings):
    for data, wanted in ((mask_columns(15, paint), [6, 6, 3]), (dict(train=mask_columns(8, paint), test=mask_columns(4, paint, 8)), [4, 4, 4])):
        assert kind_for(data) is Segmentation
        task = segmentation(data, **settings)
        assert parts(task) == wanted and task.input_shape == (3, 24, 32)
        x, y = task.test[0]
        assert torch.equal(y, (x[0] > 0).long())  # the brighter is the road
        assert task.test[0][1].equal(y)  # once more: a picture is not closed for those who come later


def test_masks_in_columns_need_their_classes():
    with pytest.raises(ValueError, match='nobody says what the labels of item 0 of the data mean'):
        segmentation(mask_columns(10, lambda one: Image.fromarray(one)))
    with pytest.raises(ValueError, match='the data set holds 3 pairs; at least 5 are needed'):
        segmentation(mask_columns(3, lambda one: Image.fromarray(one)), classes=['sky', 'road'])


def test_voices_in_columns():
    names = [f'v{i}' for i in range(12)]
    task = speaker(voice_columns(names), seconds=0.5)
    assert task.classes == 12 - 3 - 2 and task.train[0][0].shape == (8000,) and kind_for(voice_columns(names)) is Speaker
    apart = speaker(dict(train=voice_columns(names[:6]), test=voice_columns(names[6:])), seconds=0.5)
    assert {who for pair in apart.test.speakers for who in pair} == set(names[6:]) and apart.classes == 4
    mixed = speaker(dict(train=voice_columns(names, 2), test=voice_columns(names, 1)), seconds=0.5)
    assert mixed.classes == 7 and len(mixed.train) == 21
    assert apart.facts()['recordings'] != mixed.facts()['recordings']
    with pytest.raises(ValueError, match='needs a column of speakers, called speaker, speaker_id'):
        speaker(Columns(dict(audio='Audio', text='Value'), audio=[{}], text=['hello']))
    with pytest.raises(ValueError, match='a dict of data has the parts train, test and perhaps valid; found tested'):
        speaker(dict(train=voice_columns(names), tested=voice_columns(names)))


def test_a_decoder_of_sound_is_asked_for_its_samples():
    class Decoder:
        def get_all_samples(self):
            return types.SimpleNamespace(data=torch.ones(2, 800), sample_rate=8000)

    found = columns.Voices({'a': ([{'audio': Decoder()}], 0, 'audio')})['a']
    assert read_wave(found)[0].shape == (1600,)


def test_data_sets_of_the_package_itself():
    datasets = pytest.importorskip('datasets', reason='Hugging Face datasets is not installed')
    rows = mask_columns(10, lambda one: Image.fromarray(one)).values
    features = datasets.Features(note=datasets.Value('string'), annotation=datasets.Image(), image=datasets.Image())
    task = segmentation(datasets.Dataset.from_dict(rows, features=features), classes=['sky', 'road'])
    assert parts(task) == [4, 4, 2] and torch.equal(task.test[0][1], (task.test[0][0][0] > 0).long())


def test_sound_that_is_not_decoded_is_read_from_its_bytes(tmp_path):
    import soundfile

    soundfile.write(tmp_path / 'a.flac', np.sin(np.arange(800) / 9), 8000)
    raw = (tmp_path / 'a.flac').read_bytes()
    rows = [dict(audio=found) for found in (dict(bytes=raw, path='a.flac'), dict(bytes=None, path=str(tmp_path / 'a.flac')))]
    waves = columns.Voices({str(i): (rows, i, 'audio') for i in range(2)})
    assert all(read_wave(waves[str(i)])[0].shape == (1600,) for i in range(2))
    with pytest.raises(ValueError, match='0 cannot be read as a recording'):
        columns.Voices({'0': ([dict(audio=dict(bytes=raw[:50]))], 0, 'audio')})['0']


@pytest.mark.parametrize('name', ['colours.csv', 'My Colors.txt', 'palette.tsv', 'label_colors.txt'])
def test_a_table_of_colours_beside_the_masks_is_found(tmp_path, name):
    for i in range(6):
        scene(tmp_path, i, in_colour)
    (tmp_path / 'labels.csv').write_text('file,n\n1.png,7\n')  # of something else
    with pytest.raises(ValueError, match='0.png is a colour picture: say what its colours are'):
        segmentation(tmp_path)
    (tmp_path / 'labels.csv').unlink()
    (tmp_path / name).write_text('name,r,g,b\n' + ''.join(f'{key},{r},{g},{b}\n' for key, (r, g, b) in TABLE.items()))
    assert segmentation(tmp_path).names == ['sky', 'road']
    said = looked_into(tmp_path, image_size=(32, 48)).lines()
    assert 'input 3 x 32 x 48' in said and any(line.startswith('class   1 road: ') for line in said)
