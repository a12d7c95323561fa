"Data sets as the recipes read them, and the classification task."

import numpy as np, pytest, torch
from PIL import Image
from torch.nn import functional as F
from torch.utils.data import TensorDataset
from data_recipes import cifar10, digits, image_folder, imagenet, jpeg_npz
from nas_suite.tasks.classification import classification, halves


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
    (folder(tmp_path / 'd') / 'ant' / '0.png').write_bytes(b'no image')
    train, test = image_folder.load(tmp_path / 'd')
    part = train if any(f.name == '0.png' and f.parent.name == 'ant' for f in train.files) else test
    with pytest.raises(ValueError, match='ant/0.png'):
        [part[i] for i in range(len(part))]


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


def test_task_of_each_form_of_data(tmp_path):
    for data, shape, classes in (
        ('digits', (1, 8, 8), 10),
        (folder(tmp_path / 'a'), (3, 64, 64), 2),
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
