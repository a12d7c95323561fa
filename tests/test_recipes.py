"Data sets as the recipes read them, and the classification task."

import shutil, warnings
import numpy as np, pytest, torch
from PIL import Image
from torch.nn import functional as F
from torch.utils.data import TensorDataset
from data_recipes import (
    cifar10,
    cluttered_digits,
    digits,
    image_folder,
    imagenet,
    jpeg_npz,
    segmentation_folders,
    speaker_folders,
)
from data_recipes.files import LeftOut, fields_of
from nas_suite.tasks.base import halves, parted
from nas_suite.tasks.classification import classification, read_picture
from nas_suite.tasks.segmentation import read_image


def folder(root, classes=('ant', 'bee'), n=10, size=(20, 14)):
    for k, c in enumerate(classes):
        (root / c).mkdir(parents=True)
        for i in range(n):
            Image.fromarray(np.full((size[1], size[0], 3), 15 * i + 100 * (k % 2), np.uint8)).save(
                root / c / f'{i}.png'
            )
    return root


def test_digits():
    train, test = digits.load()
    assert (
        train.tensors[0].shape == (1297, 1, 8, 8)
        and test.tensors[0].shape == (500, 1, 8, 8)
        and 0 <= train.tensors[0].min()
        and train.tensors[0].max() == 1
    )
    share = lambda d: d.tensors[1].bincount() / len(d)
    assert (share(train) - share(test)).abs().max() < 0.01
    assert torch.equal(digits.load()[0].tensors[0], train.tensors[0]) and not torch.equal(
        digits.load(seed=1)[0].tensors[1], train.tensors[1]
    )
    whole = torch.cat([train.tensors[0], test.tensors[0]]).flatten(1)
    from sklearn.datasets import load_digits

    assert torch.equal(
        whole.sum(1).sort().values,
        torch.tensor(load_digits().images / 16, dtype=torch.float32).flatten(1).sum(1).sort().values,
    )  # each image in one part


def test_cluttered_digits():
    found = cluttered_digits.load()
    train, test, origins = found['train'], found['test'], found['origins']
    assert train.tensors[0].shape == (2594, 1, 32, 32) and test.tensors[0].shape == (1000, 1, 32, 32)
    plain = digits.load()
    assert torch.equal(train.tensors[1], plain[0].tensors[1][origins]) and origins.bincount().unique().tolist() == [2]
    again, other = cluttered_digits.load()['train'], cluttered_digits.load(seed=1)['train']
    assert torch.equal(train.tensors[0], again.tensors[0]) and not torch.equal(train.tensors[0], other.tensors[0])
    alone = cluttered_digits.load(each=1, pieces=0, noise=0)['train'].tensors[0]  # a digit alone is brighter than none
    assert alone.isfinite().all() and (alone.flatten(1).amax(1) > 1).all() and alone.min() >= -0.5 - 1e-6
    with pytest.raises(ValueError, match='at least one picture'):
        cluttered_digits.load(each=0)


def test_pictures_of_one_digit_are_in_one_part():
    found = cluttered_digits.load()
    where = {image.tobytes(): int(one) for image, one in zip(found['train'].tensors[0].numpy(), found['origins'])}
    for how in (dict(valid=0.25), dict(seed=3), dict(shared=True)):
        task = classification('cluttered_digits', **how)
        parts = [{where[image.tobytes()] for image in part.tensors[0].numpy()} for part in (task.train, task.valid)]
        assert not parts[0] & parts[1] and len(parts[0] | parts[1]) == 1297
        assert len(task.train) + len(task.valid) == 2594


def test_image_folder(tmp_path):
    train, test = image_folder.load(folder(tmp_path / 'a'), image_size=8)
    assert (
        len(train) == 16
        and len(test) == 4
        and not set(train.files) & set(test.files)
        and sorted(test.labels) == [0, 0, 1, 1]
    )
    x, y = train[0]
    assert x.shape == (3, 8, 8) and x.dtype == torch.float32 and y == 0 and train.classes == ['ant', 'bee']
    assert (
        image_folder.load(tmp_path / 'a', 8)[1].files
        == test.files
        != image_folder.load(tmp_path / 'a', 8, seed=3)[1].files
    )
    folder(tmp_path / 'b' / 'train', n=4)
    folder(tmp_path / 'b' / 'val', n=3)
    train, test = image_folder.load(tmp_path / 'b')
    assert (len(train), len(test)) == (8, 6)


def test_image_folder_refuses(tmp_path):
    with pytest.raises(ValueError, match='not a folder'):
        image_folder.load(tmp_path / 'none')
    (tmp_path / 'empty').mkdir()
    with pytest.raises(ValueError, match='two folders of images'):
        image_folder.load(tmp_path / 'empty')
    with pytest.raises(ValueError, match='two folders of images'):
        image_folder.load(folder(tmp_path / 'one', classes=('ant',)))
    with pytest.raises(ValueError, match='bee needs at least two images'):
        image_folder.load((folder(tmp_path / 'few', classes=('ant',)), (tmp_path / 'few' / 'bee').mkdir())[0])
    folder(tmp_path / 'c' / 'train')
    folder(tmp_path / 'c' / 'test', classes=('ant', 'fly'))
    with pytest.raises(ValueError, match='bee.*fly'):
        image_folder.load(tmp_path / 'c')


def test_what_cannot_be_used_is_left_out_in_one_note(tmp_path):
    "A truncated image, one that is none, other formats, empty classes and those of one image; the rest is as without."
    root = folder(tmp_path / 'd', ('ant', 'bee', 'cat'))
    whole = (root / 'ant' / '3.png').read_bytes()
    (root / 'ant' / '0.png').write_bytes(b'no image')
    (root / 'ant' / '3.png').write_bytes(whole[:-30])
    (root / 'bee' / '1.png').write_bytes(b'')
    (root / 'bee' / 'x.heic').write_bytes(b'x')
    (root / 'empty').mkdir()
    folder(root, ('lonely',), n=1)
    with pytest.warns(LeftOut) as said:
        train, test = image_folder.load(root, 8)
    (text,) = [str(one.message) for one in said]
    for what in ('ant/0.png', 'ant/3.png', 'bee/1.png', '1 files .heic', 'empty needs at least two images; found 0'):
        assert what in text
    assert 'lonely needs at least two images; found 1' in text and train.classes == ['ant', 'bee', 'cat']
    assert len(train) + len(test) == 27 and all(part[i][0].shape == (3, 8, 8) for part in (train, test) for i in (0, 1))
    for bad in ('ant/0.png', 'ant/3.png', 'bee/1.png', 'bee/x.heic'):
        (root / bad).unlink()
    (root / 'empty').rmdir()
    shutil.rmtree(root / 'lonely')
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        again = image_folder.load(root, 8)
    assert [part.files for part in again] == [train.files, test.files]  # the run is the same


def test_a_file_that_goes_bad_later_is_skipped(tmp_path):
    task = classification(folder(tmp_path / 'a'), image_size=8)
    images = task.train.dataset
    bad, label = images.files[2], images.labels[2]
    bad.write_bytes(b'gone')
    with pytest.warns(LeftOut, match=f'{bad.name}.*another image of its class'):
        assert images[2][1] == label
    with warnings.catch_warnings():  # said once
        warnings.simplefilter('error')
        images[2]
    for file, mine in zip(images.files, images.labels):
        if mine == label:
            file.write_bytes(b'gone')
    with pytest.raises(ValueError, match='no image of the class ant can be read'), pytest.warns(LeftOut):
        images[2]


def test_what_programs_leave_behind_is_no_data(tmp_path):
    root = folder(tmp_path / 'a')
    plain = [part.files for part in image_folder.load(root, 8)]
    for where in ('.ipynb_checkpoints', 'ant/.ipynb_checkpoints', '__MACOSX/ant', 'bee/@eaDir/1.png'):
        (root / where).mkdir(parents=True)
        shutil.copy(root / 'ant' / '1.png', root / where / '1-checkpoint.png')
    (root / 'ant' / '._1.png').write_bytes(b'x')
    (root / 'bee' / 'Thumbs.db').write_bytes(b'x')
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        assert [part.files for part in image_folder.load(root, 8)] == plain
    shutil.copy(root / 'ant' / '1.png', root / 'ant' / '1-Copy1.png')  # a person made it
    assert sum(map(len, image_folder.load(root, 8))) == 21


# ---------------------------------------------------------------- pictures of any mode


def ramp(mode, n=16):
    "A ramp from black to white in a mode."
    if mode == 'I;16B':
        return Image.frombytes(mode, (n, n), np.linspace(0, 65535, n * n).astype('>u2').tobytes())
    top = {'F': 1.0, 'I;16': 65535, 'I': 65535}.get(mode)
    if top is not None:
        kind = {'F': np.float32, 'I;16': np.uint16, 'I': np.int32}[mode]
        return Image.fromarray(np.linspace(0, top, n * n).reshape(n, n).astype(kind))
    grey = Image.fromarray(np.linspace(0, 255, n * n).reshape(n, n).astype(np.uint8))
    if mode == 'P':
        return grey.convert(mode)
    return grey.convert('RGB').convert(mode) if mode != 'LAB' else lab(grey)


def lab(grey):
    return Image.merge('LAB', (grey, *[Image.new('L', grey.size, 128)] * 2))


@pytest.mark.parametrize(
    'mode, suffix',
    [('L', 'png'), ('RGB', 'webp'), ('I;16', 'png'), ('I;16', 'tif'), ('I;16B', 'tif'), ('I', 'tif'), ('F', 'tif')]
    + [('P', 'gif'), ('LA', 'png'), ('RGBA', 'png'), ('CMYK', 'tif'), ('YCbCr', 'jpg'), ('LAB', 'tif'), ('HSV', None)],
)
def test_a_ramp_of_any_mode_is_a_ramp(tmp_path, mode, suffix):
    image = ramp(mode)
    sources = [image]
    if suffix is not None:
        image.save(tmp_path / f'x.{suffix}')
        sources.append(tmp_path / f'x.{suffix}')
    for source in sources:
        for read in (lambda s: read_picture(s, 3), lambda s: read_picture(s, 1), as_picture):
            found = np.asarray(read(source)).astype(float)
            wanted = np.linspace(0, 255, 256).reshape(16, 16)
            if found.ndim == 3:
                wanted = wanted[..., None]
            assert abs(found - wanted).max() <= (12 if mode in ('LAB', 'P', 'YCbCr', 'RGB') else 2), (mode, source)


def as_picture(source):
    "What the reader of segmentation gives, as bytes."
    return (255 * read_image(source)).round().permute(1, 2, 0).numpy()


def see_through(mode):
    image = Image.new('RGBA', (4, 4), (10, 20, 30, 0))
    image.paste((200, 100, 50, 255), (0, 0, 2, 4))
    if mode == 'P':
        palette = Image.new('P', (4, 4), 1)
        palette.putpalette([200, 100, 50, 10, 20, 30])
        palette.paste(0, (0, 0, 2, 4))
        palette.info['transparency'] = 1
        return palette
    if mode == 'RGB':
        image = image.convert('RGB')
        image.info['transparency'] = (10, 20, 30)
    return image if mode == 'RGB' else image.convert(mode)


@pytest.mark.parametrize('mode', ['RGBA', 'LA', 'P', 'RGB'])
def test_what_is_transparent_is_white(tmp_path, mode):
    image = see_through(mode)
    image.save(tmp_path / 'x.png', **{k: v for k, v in image.info.items() if k == 'transparency'})
    for source in (image, tmp_path / 'x.png'):
        seen = np.asarray(read_picture(source))
        assert (seen[:, 2:] == 255).all() and (seen[:, :2] < 255).all()
    for name in 'ab':
        (tmp_path / 'f' / name).mkdir(parents=True)
        for i in range(3):
            shutil.copy(tmp_path / 'x.png', tmp_path / 'f' / name / f'{i}.png')
    with pytest.warns(LeftOut, match='6 images may be transparent.*laid on white'):
        image_folder.load(tmp_path / 'f', 4)


def test_pictures_are_upright_for_every_task(tmp_path):
    image, exif = np.zeros((32, 24, 3), np.uint8), Image.Exif()
    image[:16] = 255  # upright its right half is white
    exif[0x112] = 6
    Image.fromarray(image).save(tmp_path / 'x.jpg', exif=exif)
    for seen in (np.asarray(read_picture(tmp_path / 'x.jpg')), as_picture(tmp_path / 'x.jpg')):
        assert seen.shape == (24, 32, 3) and seen[:, 20:].min() > 240 and seen[:, :12].max() < 15


@pytest.mark.parametrize('values', [[[-1, 5]], [[0, 70000]], [[np.nan, 1.0]], [[0.0, 1e6]]])
def test_values_without_a_scale_are_refused(tmp_path, values):
    image = Image.fromarray(np.array(values, np.float32 if isinstance(values[0][1], float) else np.int32))
    image.save(tmp_path / 'x.tif')
    with pytest.raises(ValueError, match='x.tif has values'):
        read_picture(tmp_path / 'x.tif')


# ---------------------------------------------------------------- lists


@pytest.mark.parametrize('code', ['utf-8', 'utf-8-sig', 'utf-16', 'cp1252'])
@pytest.mark.parametrize('end', ['\n', '\r\n'])
def test_lists_in_any_encoding(tmp_path, code, end):
    path = tmp_path / 'classes.txt'
    path.write_bytes(end.join(['Straße', '', ' Fußgänger ']).encode(code))
    assert segmentation_folders.class_list(path) == ['Straße', 'Fußgänger']


@pytest.mark.parametrize(
    'line, ways',
    [
        ('1 a/0.wav b/1.wav', 1),
        ('1\tJohn Smith/0.wav\tAnn Lee/1.wav', 1),
        ('1 "John Smith/0.wav" "Ann Lee/1.wav"', 1),
        ('1,"Smith, John/0.wav","Ann Lee/1.wav"', 1),
        ('1,John Smith/0.wav,Ann Lee/1.wav', None),
        ('1 John Smith/0.wav Ann Lee/1.wav', None),
        ('John Smith/0.wav Ann Lee/1.wav target', None),
        ('1;John Smith/0.wav;Ann Lee/1.wav', None),
    ],
)
def test_trials_with_blanks_in_their_paths(tmp_path, line, ways):
    for name in ('a/0.wav', 'b/1.wav', 'John Smith/0.wav', 'Ann Lee/1.wav', 'Smith, John/0.wav'):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b'x')
    (tmp_path / 't.txt').write_text(line + '\n')
    ((same, a, b),) = speaker_folders.read_trials(tmp_path / 't.txt', tmp_path)
    assert same is True and all((tmp_path / file).is_file() for file in (a, b)) and a != b
    assert ways is None or len(fields_of(line, 3)) == ways


def test_imagenet_is_read_and_checked(tmp_path):
    with pytest.raises(ValueError, match='train is missing'):
        imagenet.load(tmp_path)
    for part in ('train', 'val'):
        folder(tmp_path / part, n=2)
    with pytest.raises(ValueError, match='2 class folders; ImageNet has 1000'):
        imagenet.load(tmp_path)


def test_nothing_is_downloaded_without_being_asked(tmp_path, monkeypatch):
    import urllib.request

    monkeypatch.setattr(urllib.request, 'urlopen', lambda *a, **k: pytest.fail('a download'))
    with pytest.raises(ValueError, match='download=True'):
        cifar10.load(tmp_path)
    assert not list(tmp_path.iterdir())


def test_jpeg_cifar10(shared, tmp_path):
    train, test = jpeg_npz.load(shared('data/cifar10_jpeg.npz'), train=300, test=200)
    assert (
        train.tensors[0].shape == (300, 3, 32, 32)
        and test.tensors[0].shape == (200, 3, 32, 32)
        and train.tensors[1].unique().tolist() == list(range(10))
    )
    assert train.tensors[0].mean().abs() < 0.2 and (train.tensors[0].std() - 1).abs() < 0.2
    np.savez(tmp_path / 'x.npz', train_jpeg=np.zeros(3))
    with pytest.raises(ValueError, match='train_offset'):
        jpeg_npz.load(tmp_path / 'x.npz')
    with pytest.raises(ValueError, match='no file'):
        jpeg_npz.load(tmp_path / 'none.npz')


# ---------------------------------------------------------------- the task


def test_halves_are_disjoint_and_balanced():
    y = torch.tensor([0] * 20 + [1] * 10 + [2] * 6)
    d = TensorDataset(torch.arange(36.0), y)
    a, b = halves(d)
    assert (
        sorted(torch.cat([a.tensors[0], b.tensors[0]]).tolist()) == list(range(36))
        and a.tensors[1].bincount().tolist() == [10, 5, 3] == b.tensors[1].bincount().tolist()
    )
    assert not torch.equal(halves(d, seed=1)[0].tensors[0], a.tensors[0]) and len(halves(d, 0.25)[1]) == 5 + 2 + 2


@pytest.mark.parametrize('n, wanted', [(80, 40), (400, 40), (2000, 100), (400_000, 10_000)])
def test_weights_that_are_kept_learn_from_nearly_all(n, wanted):
    "A twentieth is held back: at least ten items a class, up to half of it, and at most 10,000 in all."
    data = TensorDataset(torch.arange(n), torch.arange(n) % 4)
    first, second = parted(data, shared=True)
    assert len(second) == wanted and len(first) + len(second) == n
    assert second.tensors[1].bincount().tolist() == pytest.approx([wanted / 4] * 4, abs=1)
    assert not set(first.tensors[0].tolist()) & set(second.tensors[0].tolist())
    assert [len(part) for part in parted(data)] == [n / 2] * 2  # who trains anew may choose by half
    assert len(parted(data, 0.25, shared=True)[1]) == n / 4  # what is said holds


def test_task_of_each_form_of_data(tmp_path):
    for data, shape, classes in (
        ('digits', (1, 8, 8), 10),
        (folder(tmp_path / 'a'), (3, 32, 32), 2),
        (digits.load(), (1, 8, 8), 10),
    ):
        task = classification(data)
        assert (
            task.input_shape == shape
            and task.classes == classes
            and len(task.train) + len(task.valid) == len(task.full)
        )
        x, y = task.full[0]
        assert tuple(x.shape) == shape
    assert classification(folder(tmp_path / 'b'), image_size=16).input_shape == (3, 16, 16)


def test_loss_score_and_metric():
    task, out, y = classification('digits'), torch.randn(7, 10), torch.tensor([1, 2, 3, 4, 5, 6, 7])
    assert torch.equal(task.score(out, y), F.cross_entropy(out, y)) and torch.equal(
        task.loss(out, y), F.cross_entropy(out, y, label_smoothing=0.1)
    )
    q = torch.full((7, 10), 0.01)
    q[range(7), y] += 0.9
    torch.testing.assert_close(task.loss(out, y), -(q * out.log_softmax(1)).sum(1).mean())
    m = task.meter()
    m.update(out, y)
    assert (
        float(m.compute())
        == pytest.approx(float(task.reward(out, y)))
        == pytest.approx(int((out.argmax(1) == y).sum()) / 7)
    )


def test_augmentation():
    task, x = classification('digits'), torch.rand(64, 1, 8, 8)
    y = torch.arange(64)
    (a, same), (b, _) = (task.augment(x, y, torch.Generator().manual_seed(s)) for s in (0, 0))
    assert torch.equal(a, b) and a.shape == x.shape and not torch.equal(a, x) and torch.equal(same, y)
    for one, moved in zip(x, a):  # each is a shift by up to one pixel
        p = F.pad(one, (1,) * 4)
        assert any(torch.equal(moved, p[:, i : i + 8, j : j + 8]) for i in range(3) for j in range(3))
    task.shift, task.flip = 0, True
    flipped, _ = task.augment(x, y, torch.Generator().manual_seed(0))
    n = sum(torch.equal(f, o.flip(2)) for f, o in zip(flipped, x))
    assert 16 < n < 48 and all(torch.equal(f, o.flip(2)) or torch.equal(f, o) for f, o in zip(flipped, x))


@pytest.mark.parametrize(
    'data,what',
    [
        ('nothing', 'digits, cifar10'),
        (3, 'there is no data'),
        ((TensorDataset(torch.zeros(0, 1, 8, 8), torch.zeros(0, dtype=torch.long)),) * 2, 'empty'),
        ((TensorDataset(torch.zeros(4, 8, 8), torch.arange(4)),) * 2, 'float tensor'),
        ((TensorDataset(torch.zeros(4, 1, 8, 8), torch.tensor([0, 0, 2, 2])),) * 2, 'labels go up to 2'),
        ((TensorDataset(torch.zeros(4, 1, 8, 8), torch.zeros(4, dtype=torch.long)),) * 2, 'at least two classes'),
        (
            (
                TensorDataset(torch.zeros(4, 1, 8, 8), torch.arange(4)),
                TensorDataset(torch.zeros(4, 1, 9, 9), torch.arange(4)),
            ),
            'differ in shape',
        ),
    ],
)
def test_bad_data(data, what):
    with pytest.raises(ValueError, match=what):
        classification(data)
