"Semantic segmentation: figures by hand, recipes and what they refuse, pairs that stay pairs, and the whole way from data to masks."

import json, math, shutil, numpy as np, onnx, onnxruntime, pytest, torch
from pathlib import Path
from hypothesis import given, settings, strategies as st
from PIL import Image
from torch import nn
from torch.nn import functional as F
from torch.utils.data import TensorDataset
from data_recipes import camvid, cityscapes, digit_scenes
from data_recipes.files import LeftOut
from data_recipes.segmentation_folders import ignored
from nas_suite import cli, search
from nas_suite.report import figures, page, read
from nas_suite.spaces.segmenter import Segmenter, ssr_segmenter
from nas_suite.strategies.evolution import Evolution
from nas_suite.strategies.regularized import Regularized
from nas_suite.strategies.supernet import Supernet, sandwich
from nas_suite.tasks.segmentation import end
from nas_suite.tasks.segmentation import (
    class_table,
    class_weights,
    coloured,
    confusion,
    fps,
    overlay,
    read_image,
    scores,
    segment,
    segmentation,
)
from nas_suite.training import batches


def matrix(pred, true, classes):
    m = confusion(classes)
    m.update(torch.tensor([pred]), torch.tensor([true]))
    return m.compute()


# ---------------------------------------------------------------- figures


def test_iou_by_hand():
    m = matrix([0, 0, 0, 1, 1, 2], [0, 0, 1, 1, 2, 2], 3)
    assert m.tolist() == [[2, 0, 0], [1, 1, 0], [0, 1, 1]]
    s = scores(m)
    assert (
        s['iou'] == [2 / 3, 1 / 3, 1 / 2]
        and s['miou'] == pytest.approx(0.5)
        and s['pixel_accuracy'] == pytest.approx(4 / 6)
        and s['class_accuracy'] == pytest.approx((1 + 0.5 + 0.5) / 3)
    )


def test_ignored_and_absent_classes():
    s = scores(
        matrix([0, 1, 2, 2, 0], [0, 1, ignored, ignored, 0], 4)
    )  # 2 is said only where nobody asks, 3 is nowhere
    assert s['iou'] == [1, 1, None, None] and s['miou'] == 1 == s['pixel_accuracy'] == s['class_accuracy']
    s = scores(matrix([0, 2], [0, 0], 3))  # absent, but predicted: 0, and it counts
    assert s['iou'] == [0.5, None, 0] and s['miou'] == 0.25 and s['class_accuracy'] == 0.5
    assert scores(matrix([0, 1], [ignored, ignored], 2)) == dict(
        miou=0.0, pixel_accuracy=0.0, class_accuracy=0.0, iou=[None, None]
    )


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 3), st.sampled_from([0, 1, 2, 3, ignored])), min_size=1, max_size=60),
    st.integers(1, 20),
)
def test_one_matrix_whatever_the_batches(pixels, cut):
    p, t = zip(*pixels)
    m = confusion(4)
    for part in (slice(0, cut), slice(cut, None)):
        if p[part]:
            m.update(torch.tensor([p[part]]), torch.tensor([t[part]]))
    for c, v in enumerate(scores(m.compute())['iou']):
        hit = sum(a == b == c for a, b in pixels)
        union = sum(b != ignored and (a == c or b == c) for a, b in pixels)
        assert v is None if not union else v == pytest.approx(hit / union)


def test_weights_of_the_published_code():
    assert class_weights(torch.tensor([1, 99]), 1.02).tolist() == pytest.approx(
        [1 / math.log(1.02 + 0.01), 1 / math.log(1.02 + 0.99)]
    )
    assert class_weights(torch.tensor([0, 0]), 1.1).tolist() == pytest.approx([1 / math.log(1.1)] * 2)


def tiny(n=8, size=(24, 32), classes=3, **more):
    g = torch.Generator().manual_seed(0)
    y = (
        torch.randint(0, classes, (2 * n, *(s // 8 for s in size)), generator=g)
        .repeat_interleave(8, 1)
        .repeat_interleave(8, 2)
    )
    x = F.one_hot(y, 3).permute(0, 3, 1, 2).float() + 0.1 * torch.randn(2 * n, 3, *size, generator=g)
    y[:, :2] = ignored
    return segmentation((TensorDataset(x[:n], y[:n]), TensorDataset(x[n:], y[n:])), classes=['a', 'b', 'c'], **more)


def test_loss_by_hand():
    task = tiny()
    y, out = torch.stack([task.train[i][1] for i in range(3)]), torch.randn(3, 3, 24, 32)
    ok = y != ignored
    nll = -out.log_softmax(1).gather(1, y.clamp(max=2)[:, None])[:, 0]
    w = task.weights[y.clamp(max=2)] * ok
    torch.testing.assert_close(task.score(out, y), (nll * w).sum() / w.sum())
    torch.testing.assert_close(task.score(out, y), F.cross_entropy(out, y, task.weights, ignore_index=ignored))
    whole = torch.full_like(y, ignored)  # nothing counts
    z = out.requires_grad_()
    task.loss(z, whole).backward()
    assert float(task.loss(out, whole).detach()) == 0 and z.grad.isfinite().all()
    small = F.avg_pool2d(out.detach(), 2)  # logits of half the size are resized
    torch.testing.assert_close(
        task.score(small, y), task.score(F.interpolate(small, size=(24, 32), mode='bilinear', align_corners=False), y)
    )
    assert float(task.reward(F.one_hot(y.clamp(max=2), 3).permute(0, 3, 1, 2).float(), y)) == 1


def test_evaluation_is_over_all_pixels():
    task, net = tiny(), nn.Conv2d(3, 3, 1)
    found = task.evaluate(net, task.test)
    x, y = task.test.tensors
    m = matrix(net(x).argmax(1).flatten().tolist(), y.flatten().tolist(), 3)
    assert found['confusion'] == m.tolist() and found['miou'] == scores(m)['miou'] and found['n'] == 8 and net.training
    assert found['loss'] == pytest.approx(float(task.score(net(x), y).detach()), rel=1e-4)  # of all pixels together


# ---------------------------------------------------------------- pairs stay pairs


@pytest.mark.parametrize(
    'change',
    [
        dict(shift=3),
        dict(shift=0, flip=True),
        dict(crop=(16, 20), shift=2),
        dict(crop=(24, 8), flip=False),
        dict(shift=0, flip=False),
    ],
)
def test_images_and_labels_move_together(change):
    task = tiny(**change)
    y = torch.arange(5 * 24 * 32).view(5, 24, 32) % 200
    x = y[:, None].float().repeat(1, 3, 1, 1)
    a, b = task.augment(x, y, torch.Generator().manual_seed(1))
    inside = b != ignored
    assert (
        tuple(a.shape[2:]) == tuple(b.shape[1:]) == (change.get('crop') or (24, 32))
        and torch.equal(a[:, 0][inside], b[inside].float())
        and (a[:, 0][~inside] == 0).all()
    )
    again = task.augment(x, y, torch.Generator().manual_seed(1))
    assert torch.equal(a, again[0]) and torch.equal(b, again[1]) and inside.float().mean() > 0.7
    assert torch.equal(b, y) == (change == dict(shift=0, flip=False))
    if change.get('shift') == 3:  # each is one shift, perhaps flipped
        for one, moved in zip(y, b):
            p = F.pad(one, (3,) * 4, value=ignored)
            assert any(
                torch.equal(moved, q)
                for i in range(7)
                for j in range(7)
                for q in (p[i : i + 24, j : j + 32], p[i : i + 24, j : j + 32].flip(1))
            )


def test_batches_are_pairs_from_any_step():
    task = tiny()
    take = lambda start: [
        next(it) for it in [batches(task.train, 2, 3, start=start, augment=task.augment)] for _ in range(3)
    ]
    for (x, y), (u, v) in zip(take(0)[2:], take(2)):
        assert torch.equal(x, u) and torch.equal(y, v)
        seen = (y != ignored) & (x.abs().sum(1) > 0)
        assert (x.argmax(1)[seen] == y[seen]).float().mean() > 0.95  # the colour of a pixel tells its class


# ---------------------------------------------------------------- recipes


def picture(path, size=(24, 32), value=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(len(str(path)))
    Image.fromarray(
        rng.integers(0, 256, (*size, 3), np.uint8) if value is None else np.full(size, value, np.uint8)
    ).save(path)
    return path


def folders(root, n=6, labels=(0, 1, 2), size=(24, 32), names=('sky', 'road', 'car')):
    for i in range(n):
        picture(root / 'images' / f'{i}.jpg', size)
        m = np.zeros(size, np.uint8)
        for k, v in enumerate(labels):
            m[:, k :: len(labels)] = v
        (root / 'masks').mkdir(exist_ok=True)
        Image.fromarray(m).save(root / 'masks' / f'{i}.png')
    if names:
        (root / 'classes.txt').write_text('\n'.join(names))
    return root


def test_any_pair_of_folders(tmp_path):
    root = folders(tmp_path / 'a', 10, (0, 1, 2, 255))
    task = segmentation(root)
    assert (len(task.full), len(task.test), task.names, task.input_shape, task.name) == (
        8,
        2,
        ['sky', 'road', 'car'],
        (3, 24, 32),
        'a',
    )
    x, y = task.full[0]
    assert x.dtype == torch.float32 and y.unique().tolist() == [0, 1, 2, 255] and len(set(task.weights.tolist())) == 1
    of = lambda d: {f for f, _ in (d.dataset.files[i] for i in d.indices)}
    assert not of(task.train) & of(task.valid) and len(of(task.train) | of(task.valid)) == 8
    pair = segmentation((root / 'images', root / 'masks'), classes=['sky', 'road', 'car'])
    assert [str(f) for f in pair.test.files] == [str(f) for f in task.test.files]
    for part in ('train', 'val'):
        folders(tmp_path / 'b' / part, 4)
    (tmp_path / 'b' / 'classes.txt').write_text('x\ny\nz\n')
    assert (len(segmentation(tmp_path / 'b').full), len(segmentation(tmp_path / 'b').test)) == (4, 4)


def test_tested_at_the_size_of_the_mask(tmp_path):
    task = segmentation(folders(tmp_path / 'a', 10, size=(48, 64)), image_size=(24, 32))
    assert [tuple(t.shape) for t in task.train[0]] == [(3, 24, 32), (24, 32)] and [
        tuple(t.shape) for t in task.test[0]
    ] == [(3, 24, 32), (48, 64)]
    found = task.evaluate(nn.Conv2d(3, 3, 1), task.test)
    assert sum(map(sum, found['confusion'])) == 2 * 48 * 64


def hidden(*names):  # files taken away, one by one
    def change(root):
        for n in names:
            (root / n).unlink()

    return change


def put(name, value, size=(24, 32)):
    return lambda root: picture(root / name, size, value)


def text(name, content):
    return lambda root: (root / name).write_text(content)


@pytest.mark.parametrize(
    'change, what',
    [
        (put('masks/3.png', 7), r'masks/3\.png has label 7; the list of 3 classes knows labels 0 to 2, and 255'),
        (put('masks/3.png', None), r'masks/3\.png is a colour picture'),
        (
            put('masks/3.png', 1, (24, 31)),
            r'images/3\.jpg and its mask .*masks/3\.png differ in size: 32 x 24 and 31 x 24',
        ),
        (
            lambda root: (picture(root / 'images/3.jpg', (30, 32)), picture(root / 'masks/3.png', (30, 32), 1)),
            r'images/0\.jpg and .*images/3\.jpg differ in size.*give image_size',
        ),
        (hidden('masks/3.png'), r'images/3\.jpg has no mask in .*masks \(1 of 6'),
        (hidden('images/3.jpg'), r'masks/3\.png has no image in'),
        (text('classes.txt', 'sky\nroad\n'), r'masks/\d\.png has label 2; the list of 2 classes knows labels 0 to 1'),
        (text('classes.txt', 'sky\n'), r'classes\.txt names 1 classes; there are at least two'),
        (text('classes.txt', 'sky\nroad\nsky'), r"'sky' twice"),
        (hidden('classes.txt'), r'there is no class list .*classes\.txt'),
        (lambda root: [p.unlink() for p in (root / 'images').iterdir()], r'images holds no images'),
        (
            lambda root: [p.unlink() for n in range(3) for p in (root / f'images/{n}.jpg', root / f'masks/{n}.png')],
            r'holds 3 pairs; at least 5',
        ),
    ],
)
def test_one_clear_error(tmp_path, change, what):
    change(folders(tmp_path / 'a'))
    with pytest.raises(ValueError, match=what) as e:
        segmentation(tmp_path / 'a')
    assert e.value.__cause__ is None and '\n' not in str(e.value)


def test_pairs_that_cannot_be_read_are_left_out(tmp_path):
    "A mask that ends too early, an image that is none: one note that lists both; the rest is as without them."
    root = folders(tmp_path / 'a', 9)
    mask, image = root / 'masks' / '2.png', root / 'images' / '3.jpg'
    mask.write_bytes(mask.read_bytes()[:-30])
    image.write_text('no picture')
    with pytest.warns(LeftOut, match=r'2 left out: .*images/3\.jpg cannot be read.*masks/2\.png cannot be read'):
        task = segmentation(root)
    assert len(task.full) + len(task.test) == 7
    for name in ('masks/2.png', 'images/2.jpg', 'masks/3.png', 'images/3.jpg'):
        (root / name).unlink()
    assert segmentation(root).test.files == task.test.files
    bad = task.test.files[0][0]
    bad.write_text('gone')
    task.test.kept.clear()
    with pytest.raises(ValueError, match='none of 1 pairs'), pytest.warns(LeftOut, match='another pair takes its place'):
        task.test[0]


def data(x=torch.zeros(4, 3, 16, 16), y=torch.arange(4).remainder(2)[:, None, None].expand(4, 16, 16)):
    return TensorDataset(x, y), TensorDataset(x, y)


@pytest.mark.parametrize(
    'given, more, what',
    [
        ('nothing', {}, "give 'digit scenes'"),
        (data(), {}, 'need the names'),
        (data(), dict(classes=['a']), '2 to 254 classes'),
        (data(torch.zeros(4, 1, 16, 16)), dict(classes=['a', 'b']), r'float tensor \(3, H, W\)'),
        (data(y=torch.zeros(4, 16, 16)), dict(classes=['a', 'b']), 'int64'),
        (
            data(y=torch.full((4, 16, 16), 2)),
            dict(classes=['a', 'b']),
            'item 0 of the training data has label 2; there are 2 classes, 0 to 1',
        ),
        (data(y=torch.full((4, 16, 16), ignored)), dict(classes=['a', 'b']), 'every pixel'),
        (
            (data()[0], TensorDataset(torch.zeros(2, 3, 16, 20), torch.zeros(2, 16, 20, dtype=torch.long))),
            dict(classes=['a', 'b']),
            'differ in shape',
        ),
        (data(), dict(classes=['a', 'b'], crop=(20, 16)), 'a crop'),
        (data(), dict(classes=['a', 'b'], valid=1.0), 'valid is a share'),
        ('digit scenes', dict(image_size=(8, 8)), 'at least 16 pixels'),
        (
            data(y=torch.zeros(4, 16, 16, dtype=torch.long)),
            dict(classes=['a', 'b']),
            'no pixel of b; found only a, and at least two',
        ),
        (
            data(torch.zeros(3, 3, 16, 16), data()[0].tensors[1][:3]),
            dict(classes=['a', 'b']),
            'at least 2 images; found 1 and 2, 3 in all',
        ),
        (
            data(y=data()[0].tensors[1][:, :8]),
            dict(classes=['a', 'b']),
            r'item 0 of the training data has an image \(3, 16, 16\) and labels \(8, 16\)',
        ),
        ({}, {}, 'found nothing'),
        (dict(train=data()[0], classes=['a', 'b']), {}, 'has train, classes, and test or val; found train, classes'),
        (
            dict(train=data()[0], test=data()[0], classes=['a', 'b']),
            dict(classes=['a', 'c']),
            'say their own classes, a, b; found',
        ),
        (
            'digit scenes',
            dict(classes=['a', 'b']),
            r'digit scenes\) say their own classes, background, 0, 1, 4, 7; found',
        ),
        ('digit scenes', dict(image_size=(500, 500)), '24 x 24 to 400 x 210'),
    ],
)
def test_bad_data(given, more, what):
    with pytest.raises(ValueError, match=what):
        segmentation(given, **more)


def test_each_item_is_of_one_size():
    items = [(torch.zeros(3, 16, 16), torch.full((16, 16), i % 2)) for i in range(4)]
    large = [(x, y.repeat(2, 2)) for x, y in items]
    assert segmentation((items, large), classes=['a', 'b']).test[0][1].shape == (32, 32)
    for i, bad in ((3, large[3]), (2, (torch.zeros(3, 16, 20), torch.zeros(16, 20, dtype=torch.long)))):
        with pytest.raises(ValueError, match=f'item {i} of the training data has an image'):
            segmentation((items[:i] + [bad] + items[i + 1 :], items), classes=['a', 'b'])
    with pytest.raises(ValueError, match='item 1 of the test data has an image'):
        segmentation((items, [items[0], (torch.zeros(3, 16, 20), items[1][1])]), classes=['a', 'b'])


def test_masks_of_one_bit(tmp_path):
    root = folders(tmp_path / 'a', labels=(0, 1), names=('no', 'yes'))
    for p in (root / 'masks').iterdir():
        Image.open(p).point(lambda v: 255 * v).convert('1').save(p)
    assert Image.open(p).mode == '1' and segmentation(root).full[0][1][0, :4].tolist() == [0, 1, 0, 1]


def test_classes_without_pixels(tmp_path):
    with pytest.raises(ValueError, match='no pixel of yes, car; their label 255 means ignored; found only no'):
        segmentation(folders(tmp_path / 'a', labels=(0, 255), names=('no', 'yes', 'car')))
    with pytest.warns(UserWarning, match='no pixel of car$'):
        segmentation(folders(tmp_path / 'b', labels=(0, 1)))
    with pytest.raises(ValueError, match='at least 5'):
        segmentation(folders(tmp_path / 'c', 4))
    segmentation(folders(tmp_path / 'd', 5))


@pytest.mark.parametrize('kind', ['jpg', 'png', 'webp', 'tif'])
def test_images_are_turned_as_their_exif_says(tmp_path, kind):
    root, exif = folders(tmp_path / 'a'), Image.Exif()
    im = np.zeros((32, 24, 3), np.uint8)
    im[:16] = 255  # upright is 24 x 32, and its right half is white
    exif[0x112] = 6
    for i in range(6):
        (root / f'images/{i}.jpg').unlink()
        Image.fromarray(im).save(root / f'images/{i}.{kind}', exif=exif)
    x = segmentation(root).full[0][0]
    assert x.shape == (3, 24, 32) and x[:, :, 20:].min() > x[:, :, :12].max()
    for source in (root / f'images/0.{kind}', Image.open(root / f'images/0.{kind}')):
        assert read_image(source)[:, :, 20:].min() > 0.9
    picture(root / 'masks/3.png', (32, 24), 1)
    with pytest.raises(ValueError, match=r'masks/3\.png differ in size: 32 x 24 and 24 x 32'):
        segmentation(root)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_damaged_exif(tmp_path):
    root = folders(tmp_path / 'a')
    for i, exif in enumerate(
        (b'Exif\0\0', b'Exif\0\0none', b'Exif\0\0nothing at all', b'Exif\0\0II*\0\xff\xff\xff\xff')
    ):
        Image.new('RGB', (32, 24)).save(root / f'images/{i}.jpg', exif=exif)
    assert segmentation(root).full[0][0].shape == (3, 24, 32)
    for i in range(4):
        read_image(root / f'images/{i}.jpg')


def camvid_folder(root, parts=('train', 'val'), n=4):
    for p in parts:
        for i in range(n):
            picture(root / p / f'{i}.png', (18, 24))
            picture(root / f'{p}annot' / f'{i}.png', (18, 24), i if i < 2 else 11)
        (root / f'{p}.txt').write_text(
            ''.join(f'/SegNet/CamVid/{p}/{i}.png /SegNet/CamVid/{p}annot/{i}.png\n' for i in range(n))
        )
    return root


def test_camvid(tmp_path):
    root = camvid_folder(tmp_path / 'a')
    d = camvid.load(root)
    assert (
        set(d) == {'train', 'val', 'classes', 'palette'}
        and len(d['classes']) == 11 == len(d['palette'])
        and [int(d['val'][i][1].unique()) for i in range(3)] == [0, 1, ignored]
    )
    with pytest.warns(UserWarning, match='no pixel of pole, .*255 means ignored'):
        task, other = segmentation(root), segmentation(camvid_folder(root, ('test',)), classes=camvid.classes)
    assert (task.name, task.tested_on, task.classes) == ('CamVid', 'val', 11) and other.tested_on == 'test'
    with pytest.raises(ValueError, match=r'CamVid\) say their own classes, sky, '):
        segmentation(root, classes=['a', 'b'])
    (root / 'train.txt').write_text('train/0.png trainannot/9.png')
    with pytest.raises(ValueError, match=r'train\.txt, line 1: there is no file .*trainannot/9\.png'):
        camvid.load(root)
    (root / 'train.txt').unlink()
    assert len(camvid.load(root)['train']) == 4
    picture(root / 'trainannot' / '1.png', (18, 24), 12)
    with pytest.raises(
        ValueError, match=r'trainannot/1\.png has label 12; the list of 11 classes knows labels 0 to 10, and 11'
    ):
        segmentation(root)


def test_real_camvid(shared):
    task = segmentation(shared('data/camvid'))
    assert (len(task.full), task.classes, task.input_shape) == (367, 11, (3, 180, 240)) and task.tested_on in (
        'val',
        'test',
    )
    share = [0.176, 0.242, 0.010, 0.328, 0.047, 0.101, 0.012, 0.012, 0.061, 0.007, 0.003]
    assert torch.allclose(task.weights, 1 / (1.1 + torch.tensor(share)).log(), atol=0.05)


def test_cityscapes(tmp_path):
    root, ids = tmp_path / 'a', [7, 0, 33, 11, 255, 26, -1]
    for part in ('train', 'val'):
        for i in range(4):
            at = f'{part}/bonn/bonn_{i}'
            picture(root / 'leftImg8bit' / f'{at}_leftImg8bit.png', (16, 28))
            (root / f'gtFine/{part}/bonn').mkdir(parents=True, exist_ok=True)
            m = np.array(ids[:6])[np.arange(28) % 6].astype(np.uint8)[None].repeat(16, 0)
            Image.fromarray(m).save(root / 'gtFine' / f'{at}_gtFine_labelIds.png')
            picture(root / 'gtFine' / f'{at}_gtFine_color.png', (16, 28))
    with pytest.raises(ValueError, match='holds 4 images; the official part has 2975'):
        segmentation(root)
    d = cityscapes.load(root, None, count=False)
    assert d['train'][0][1][0, :6].tolist() == [0, ignored, 18, 2, ignored, 13] and len(d['classes']) == 19 == len(
        cityscapes.ids
    ) == len(d['palette'])
    assert (
        sorted(set(cityscapes.table[:34].tolist())) == [*range(19), ignored] and (cityscapes.table[34:255] == -1).all()
    )
    with pytest.warns(UserWarning, match='no pixel of sidewalk'):
        task = segmentation(d)
    assert task.tested_on == 'val' and task.classes == 19
    other = root / 'gtFine/train/bonn/bonn_0_gtFine_labelTrainIds.png'
    Image.fromarray(d['train'].mask(0)).save(other)
    cityscapes.load(root, None, count=False)
    picture(other, (16, 28), 3)
    with pytest.raises(ValueError, match='labelTrainIds.*does not hold what'):
        cityscapes.load(root, None, count=False)
    picture(root / 'gtFine/val/bonn/bonn_1_gtFine_labelIds.png', (16, 28), 40)
    other.unlink()
    with pytest.raises(ValueError, match='bonn_1_gtFine_labelIds.png has label 40'):
        segmentation(cityscapes.load(root, None, count=False))
    (root / 'gtFine/train/bonn/bonn_1_gtFine_labelIds.png').unlink()
    with pytest.raises(ValueError, match='bonn_1_leftImg8bit.png has no mask'):
        cityscapes.load(root, count=False)


def test_digit_scenes():
    a, b, other = digit_scenes.load(20, 6), digit_scenes.load(20, 6), digit_scenes.load(20, 6, seed=1)
    x, y = a['train'].tensors
    assert (
        torch.equal(x, b['train'].tensors[0])
        and torch.equal(y, b['train'].tensors[1])
        and not torch.equal(x, other['train'].tensors[0])
    )
    assert (
        x.shape == (20, 3, 64, 96)
        and y.shape == (20, 64, 96)
        and set(y.unique().tolist()) == {0, 1, 2, 3, 4, ignored}
        and a['classes'] == ['background', '0', '1', '4', '7']
    )
    assert 0.02 < ((y > 0) & (y < 5)).float().mean() < 0.3 and 0 < (y == ignored).float().mean() < 0.15


@pytest.mark.parametrize('size', [(180, 120), (200, 100), (400, 24), (24, 210), (400, 210)])
def test_digit_scenes_of_any_shape(size):
    assert digit_scenes.load(6, 6, image_size=size)['train'].tensors[1].shape == (6, *size)


# ---------------------------------------------------------------- pictures, and how many a second


class Bright(nn.Module):  # class 1 where the image is bright
    def __init__(self):
        super().__init__()
        self.p = nn.Parameter(torch.zeros(()))

    def forward(self, x):
        return torch.cat([-x[:, :1], x[:, :1]], 1) + self.p


def test_a_mask_at_the_size_of_the_image(tmp_path):
    im = np.zeros((50, 70, 3), np.uint8)
    im[:, 35:] = 255
    Image.fromarray(im).save(tmp_path / 'a.png')
    net = Bright()
    for source in (
        tmp_path / 'a.png',
        str(tmp_path / 'a.png'),
        Image.fromarray(im),
        torch.from_numpy(im).permute(2, 0, 1),
        torch.from_numpy(im).permute(2, 0, 1) / 255,
    ):
        mask = segment(net, source, (25, 35), (0.5,) * 3, (0.5,) * 3)
        assert (
            mask.dtype == torch.uint8
            and mask.shape == (50, 70)
            and (mask == torch.from_numpy(im[..., 0] > 0)).float().mean() > 0.97
        )
    assert (
        segment(net, Image.fromarray(im[..., 0]), (50, 70), (0.5,) * 3, (0.5,) * 3).float().mean() == 0.5
    )  # grey is read as colour
    assert coloured(torch.tensor([[0, 1, 255]]), [(1, 2, 3), (4, 5, 6)]).tolist() == [
        [[1, 2, 3], [4, 5, 6], [255, 255, 255]]
    ]
    assert np.asarray(overlay(Image.fromarray(im), mask, [(0, 0, 0), (0, 0, 255)]))[0, -1].tolist() == [115, 115, 255]
    (tmp_path / 'b.png').write_text('none')
    for bad, what in (
        (tmp_path / 'b.png', 'b.png cannot be read'),
        (tmp_path / 'c.png', 'no file'),
        (torch.zeros(1, 4, 4), r'\(3, H, W\)'),
        (torch.full((3, 4, 4), 2.0), '0 to 1'),
    ):
        with pytest.raises(ValueError, match=what):
            read_image(bad)


@pytest.mark.filterwarnings('ignore')
def test_frames_a_second_say_what_is_in_them():
    calls = []

    class Net(Bright):
        def forward(self, x):
            calls.append(tuple(x.shape))
            return super().forward(x)

    found = fps(Net(), (3, 16, 24), threads=1)
    assert (
        set(calls) == {(1, 3, 16, 24)}
        and len(calls) >= 120
        and found['runs'] == 100
        and found['warm_up'] == 20
        and found['size'] == [16, 24]
        and found['batch'] == 1
    )
    assert (
        found['argmax']
        and not found['resize']
        and found['threads'] == 1
        and found['precision'] == 'float32'
        and 'load_before' in found
        and found['median_ms'] <= found['p95_ms']
    )


# ---------------------------------------------------------------- from data to masks


class Cut(Exception):
    pass


size = 60, 84  # an eighth is 8 x 11, which neither 3 nor 6 divides


def scenes():
    return segmentation(digit_scenes.load(24, 8, image_size=size), name='digit scenes', batch_size=4)


def tiny_space():
    torch.manual_seed(0)
    return ssr_segmenter(
        5,
        size,
        channels=(20, 24),
        depths=(1, (1, 2)),
        dilations=(1, 2),
        cuts=(4, 0),
        grids=(1, 3, 6),
        branch=4,
        low=8,
        head=12,
    )


budget = dict(macs='2M')


@pytest.fixture(scope='module')
def run(tmp_path_factory):
    "A search that was cut off in the search and again in the training of what it found; the folder, what it found, and how often the loss was asked for."
    folder, calls, task = tmp_path_factory.mktemp('runs') / 'scenes', [], scenes()
    loss = task.loss

    def counted(*a):
        calls.append(1)
        if len(calls) in stops:
            raise Cut
        return loss(*a)

    task.loss = counted
    go = lambda: search.segmentation(
        task,
        **budget,
        space=tiny_space(),
        strategy=Regularized(epochs=3, batch_size=4, shrinks=2),
        retrain_epochs=2,
        device='cpu',
        threads=1,
        run_dir=folder,
        progress=False,
    )
    with pytest.MonkeyPatch.context() as m:
        m.setattr(end, 'fps', lambda model, shape, **k: fps(model, shape, **k, rounds=5, warm_up=1))
        stops = {3}
        with pytest.raises(Cut):
            go()
        stops = {3, 3 + 9 + 2}
        with pytest.raises(Cut):
            go()
        stops = set()
        found = go()
        seen = len(calls)
        assert go().arch == found.arch and len(calls) == seen  # what is finished is not done again
    return folder, found, seen


@pytest.mark.filterwarnings('ignore')
def test_a_supernet_serves_several_budgets(sh, tmp_path, unwritten):
    task = scenes()
    found = search.segmentation(
        task,
        macs='2M',
        space=tiny_space(),
        strategy=Evolution(
            Supernet(sandwich(1), batch_size=8), score='accuracy', population=8, parents=3, generations=2, finalists=3
        ),
        device='cpu',
        threads=1,
        run_dir=tmp_path / 'run',
        progress=False,
    )
    assert (
        found.costs['macs'] <= 2e6
        and set(found.metrics) == {'supernet', 'extracted'}
        and found.metrics['extracted']['n'] == 8
    )
    small, large = search.specialize(tmp_path / 'run', macs=['1.9M', '2.4M'], task=task, device='cpu')
    assert (
        small.costs['macs'] <= 1.9e6
        and large.costs['macs'] <= 2.4e6
        and small.use.segment(torch.rand(3, 45, 70)).shape == (45, 70)
    )
    picture(tmp_path / 'a.png', (45, 70))
    code, out, err = sh('segment', small.save(tmp_path / 'small'), tmp_path / 'a.png', '--out', tmp_path / 'out')
    assert code == 0 and (tmp_path / 'out' / 'masks' / 'a.png').exists(), err


def pixels(n=3):
    return [torch.rand(3, 45 + i, 70, generator=torch.Generator().manual_seed(i)) for i in range(n)]


@pytest.mark.filterwarnings('ignore')
def test_a_search_that_was_cut_off(run):
    folder, found, calls = run
    steps = 3 * (12 // 4) + 2 * (24 // 4)
    assert (
        steps + 2 <= calls <= 2 * steps
        and found.costs['macs'] <= 2e6
        and set(found.metrics) == {'supernet', 'extracted', 'retrained'}
        and found.figures['fps'] > 0
    )  # the steps since the last checkpoint, and the two that were cut off, are taken again
    for m in found.metrics.values():
        assert (
            m['n'] == 8
            and m['miou'] == pytest.approx(scores(torch.tensor(m['confusion']))['miou'])
            and len(m['iou']) == 5
        )
    last = found.history[-1]
    assert set(last['live']) == set(last['entropy_by']) and 'discrete' in last and 'forced' in last
    c = json.loads((folder / 'config.json').read_text())
    assert (
        c['task']['names'] == ['background', '0', '1', '4', '7']
        and c['task']['flip'] is False
        and c['space']['family'] == 'ssr_segmenter'
    )
    assert isinstance(search.space_of(c['space']), Segmenter)
    with pytest.raises(ValueError, match='give the task'):
        search.task_of(c)  # its data were objects


def test_onnx_says_the_same_at_a_size_that_nothing_divides(run):
    folder, found, _ = run
    session = onnxruntime.InferenceSession(str(folder / 'model.onnx'), providers=['CPUExecutionProvider'])
    x = torch.stack([scenes().test[i][0] for i in range(5)])
    said, ours = torch.from_numpy(session.run(None, {session.get_inputs()[0].name: x.numpy()})[0]), found.model(x)
    assert (
        said.shape == (5, 5, *size)
        and (said - ours).abs().max() < 1e-3
        and (said.argmax(1) == ours.argmax(1)).float().mean() >= 0.999
    )
    assert json.loads((folder / 'result.json').read_text())['figures']['agreement'] >= 0.999
    about = {p.key: p.value for p in onnx.load(folder / 'model.onnx').metadata_props}
    assert (
        about['task'] == 'semantic segmentation'
        and json.loads(about['names'])[1] == '0'
        and len(json.loads(about['mean'])) == 3
    )


def test_masks_of_a_run(run):
    folder, found, _ = run
    for x in pixels():
        mask = found.use.segment(x)
        assert (
            mask.dtype == torch.uint8
            and mask.shape == x.shape[1:]
            and torch.equal(mask, search.load(folder).use.segment(x))
        )
    with pytest.raises(ValueError, match='of a kind that is not here'):
        search.Found(found.model, {}, {}, {}, [], None).predict(pixels()[0])


def test_report_of_a_run(run, tmp_path):
    folder, found, _ = run
    facts = read(folder)
    assert 'course' in figures(facts) and [r[0] for r in class_table(facts).rows] == [
        'background',
        '0',
        '1',
        '4',
        '7',
        'mean',
    ]
    titles = [ax.get_title('left') for ax in figures(facts)['course'].axes]
    assert {'options left', 'entropy of the choices', 'expected cost / budget'} <= set(titles)
    lines = next(ax for ax in figures(facts)['course'].axes if ax.get_title('left') == 'options left').lines
    assert len(lines) == len(found.history[-1]['live'])
    text = page(facts)
    for words in (
        'What the network sees',
        'of its pixels found',
        'ONNX, pixels of the same class',
        'choices decided by force',
        'images a second',
    ):
        assert words in text
    assert text.count('data:image/png') >= 12
    other = tmp_path / 'other'
    shutil.copytree(folder, other)
    (other / 'examples.npz').write_bytes(b'x')
    with pytest.raises(ValueError, match='examples.npz is damaged'):
        page(read(other))


def test_a_budget_out_of_reach(tmp_path):
    with pytest.raises(ValueError, match='the smallest reaches'):
        search.segmentation(
            scenes(), macs=1000, space=tiny_space(), device='cpu', run_dir=tmp_path / 'a', progress=False
        )
    with pytest.raises(ValueError, match='needs a budget'):
        search.segmentation('digit scenes')
    assert not (tmp_path / 'a').exists()


def test_spaces_for_sizes():
    small = search.default_space(scenes())
    assert small.config['channels'] == [24, 48] and small.input_shape == (3, *size)
    task = scenes()
    task.input_shape = 3, 512, 1024
    assert search.default_space(task).config['channels'] == [64, 128]


# ---------------------------------------------------------------- the commands


@pytest.fixture
def sh(capsys):
    def call(*words):
        capsys.readouterr()
        with pytest.raises(SystemExit) as stop:
            cli.main([str(w) for w in words])
        return stop.value.code, *capsys.readouterr()

    return call


def test_masks_from_the_command_line(run, sh, tmp_path):
    folder = run[0]
    picture(tmp_path / 'in' / 'a.jpg', (50, 77))
    picture(tmp_path / 'in' / 'deep' / 'b.png', (61, 40))
    (tmp_path / 'in' / 'bad.png').write_text('no picture')
    code, out, err = sh('segment', folder, tmp_path / 'in', '--out', tmp_path / 'out')
    assert (
        code == 0
        and '2 masks and overlays, left out: 1' in out
        and err.count('\n') == 1
        and 'bad.png cannot be read' in err
    )
    files = {str(p.relative_to(tmp_path / 'out')) for p in (tmp_path / 'out').rglob('*') if p.is_file()}
    assert files == {'masks/a.png', 'masks/deep/b.png', 'overlays/a.png', 'overlays/deep/b.png'}
    with Image.open(tmp_path / 'out' / 'masks' / 'a.png') as im:
        assert im.mode == 'P' and np.array_equal(np.asarray(im), run[1].use.segment(tmp_path / 'in' / 'a.jpg').numpy())
    with Image.open(tmp_path / 'out' / 'overlays' / 'deep' / 'b.png') as im:
        assert im.size == (40, 61) and im.mode == 'RGB'
    (tmp_path / 'none').mkdir()
    picture(tmp_path / 'other' / 'a.png', (50, 77))
    for words, what in (
        ((tmp_path / 'in' / 'a.jpg', '--out', tmp_path / 'out'), 'exists already'),
        ((tmp_path / 'in' / 'bad.png', '--out', tmp_path / 'new'), 'none of 1 files can be used'),
        ((tmp_path / 'none', '--out', tmp_path / 'new'), 'no images'),
        ((tmp_path / 'in' / 'a.jpg', tmp_path / 'other' / 'a.png', '--out', tmp_path / 'new'), 'same name'),
    ):
        code, out, err = sh('segment', folder, *words)
        assert code == 2 and what in err and not (tmp_path / 'new').exists()


def test_a_search_from_the_command_line(sh, tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(
        search,
        'segmentation',
        lambda data, **more: asked.append((data, more)) or search.Found(None, {}, {}, {}, [], tmp_path),
    )
    (tmp_path / 'config.json').write_text('{}')
    assert (
        sh(
            'search',
            'segmentation',
            'digit scenes',
            '--macs',
            '8M',
            '--image-size',
            '180x240',
            '--epochs',
            3,
            '--threads',
            1,
            '-q',
        )[0]
        == 0
    )
    assert asked == [
        (
            'digit scenes',
            dict(
                macs='8M',
                image_size=(180, 240),
                strategy='regularized',
                epochs=3,
                seed=0,
                device='auto',
                run_dir=Path('runs/digit_scenes-regularized-8M-macs'),
                progress=False,
                threads=1,
            ),
        )
    ]
    for words, what in (([], 'needs a budget'), (['--macs', '1M', '--image-size', '5'], 'HEIGHTxWIDTH')):
        code, out, err = sh('search', 'segmentation', 'digit scenes', *words)
        assert code == 2 and what in err and err.count('\n') == 1


@pytest.mark.parametrize('n, apart', [(2, 100), (5, 80), (11, 50), (19, 40), (32, 30), (64, 20), (150, 15), (255, 10)])
def test_colours_of_classes_look_different(n, apart):
    "From one another and from white, by their distance in CIELAB; and the first are the same for any number."
    from nas_suite.tasks.segmentation.task import distinct, lab

    colours = torch.tensor([*distinct(n), (255, 255, 255)])
    assert torch.pdist(lab(colours)).min() >= apart and distinct(n) == distinct(255)[:n]


def test_cielab_of_known_colours():
    from nas_suite.tasks.segmentation.task import lab

    colours = torch.tensor([[255, 255, 255], [0, 0, 0], [255, 0, 0], [0, 255, 0], [0, 0, 255], [128, 128, 128]])
    known = [[100, 0, 0], [0, 0, 0], [53.24, 80.09, 67.20], [87.73, -86.18, 83.18], [32.30, 79.19, -107.86], [53.59, 0, 0]]
    torch.testing.assert_close(lab(colours), torch.tensor(known, dtype=torch.float64), atol=0.05, rtol=0)
