"""Digit scenes: handwritten digits laid on parts of two photographs, with the class of every pixel known, for trying
things out where no data is at hand.

Source: this file, from what the scikit-learn package ships: real digits (see `digits`: UCI, CC BY 4.0) and the
photographs china.jpg (danielbuechele) and flower.jpg (vultilion), CC BY 2.0 (see
sklearn.datasets.load_sample_images).
A scene is a part of a photograph and one to three digits, larger than they were, each in a colour of its own, dark on
light or light on dark. Where a digit's ink is strong the pixel has its class, its soft edge is ignored (255), all
else is background.
Split: training scenes have the left two thirds of the photographs and the 1,297 training digits, test scenes the rest
of both. The same `seed` gives the same scenes."""
import numpy as np, torch
from torch.utils.data import TensorDataset
from . import digits as digits_recipe
from .image_folder import mean, std
from .segmentation_folders import ignored

palette = (
    (70, 70, 70), (63, 127, 224), (226, 149, 59), (185, 85, 143), (58, 165, 143), (138, 107, 214), (124, 154, 53),
    (210, 100, 63), (74, 163, 199), (160, 122, 88), (201, 162, 39))

def _resized(picture, width: int, height: int, how: str) -> np.ndarray:
    from PIL import Image
    return np.asarray(Image.fromarray(picture).resize((width, height), getattr(Image.Resampling, how)))

def _background(rng, photo, height: int, width: int) -> np.ndarray:
    "A part of a photograph, made as large as the scene."
    zoom = rng.uniform(1, min(photo.shape[0]/height, photo.shape[1]/width, 2.5))
    rows, columns = int(height*zoom), int(width*zoom)
    top, left = rng.integers(photo.shape[0] - rows + 1), rng.integers(photo.shape[1] - columns + 1)
    return _resized(photo[top:top + rows, left:left + columns], width, height, 'BILINEAR').astype(np.float32)

def _lay(rng, image, mask, ink, labels):
    "Lay a digit on an image and its class into the mask, both in place."
    height, width = mask.shape
    which, side = rng.integers(len(ink)), int(rng.integers(min(height, width)//2, min(height, width)*3//4 + 1))
    strength = _resized(ink[which], side, side, 'BICUBIC').clip(0, 1)
    top, left = rng.integers(height - side + 1), rng.integers(width - side + 1)
    part = slice(top, top + side), slice(left, left + side)
    darkest, lightest = (0, 90) if image[part].mean() > 110 else (150, 255)
    colour = rng.uniform(darkest, lightest, 3).astype(np.float32)
    image[part] = image[part]*(1 - strength[..., None]) + colour*strength[..., None]
    mask[part] = np.where(strength > .5, labels[which], np.where(strength > .25, ignored, mask[part]))

def _scene(rng, photo, ink, labels, size) -> tuple:
    "An image (H, W, 3) of values up to 255, and its mask (H, W)."
    image, mask = _background(rng, photo, *size), np.zeros(size, np.uint8)
    for _ in range(rng.integers(1, 4)):
        _lay(rng, image, mask, ink, labels)
    return image + rng.normal(0, 4, image.shape).astype(np.float32), mask

def _scenes(rng, photos, n: int, data: TensorDataset, digits, size) -> TensorDataset:
    "`n` scenes of photographs and digits."
    label_of = {digit: i + 1 for i, digit in enumerate(digits)}
    images, which = data.tensors
    mine = [i for i, digit in enumerate(which.tolist()) if digit in label_of]
    ink, labels = images[mine, 0].numpy(), [label_of[int(which[i])] for i in mine]
    drawn = [_scene(rng, photos[int(rng.integers(2))], ink, labels, size) for _ in range(n)]
    x, y = (torch.from_numpy(np.stack(part)) for part in zip(*drawn))
    x = x.permute(0, 3, 1, 2).clamp(0, 255) / 255
    x = (x - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[:, None, None]
    return TensorDataset(x.contiguous(), y.long())

def load(
    train: int = 320, test: int = 80, image_size: tuple = (64, 96),
    digits: tuple = (0, 1, 4, 7),   # Those that are classes
    seed: int = 0
) -> dict:
    """dict(train, test: TensorDatasets of float images (3, H, W) and labels (H, W); classes: background and the digits;
    palette; flip: False, for a mirrored digit is none)."""
    from sklearn.datasets import load_sample_images
    if not digits or not set(digits) <= set(range(10)): raise ValueError(f"digits are some of 0 to 9; found {digits!r}")
    if not 24 <= min(image_size) or image_size[0] > 400 or image_size[1] > 210:
        raise ValueError(f"scenes are 24 x 24 to 400 x 210 pixels; found {image_size!r}")
    photos, (seen, new) = load_sample_images().images, digits_recipe.load(seed)
    cut = photos[0].shape[1] * 2 // 3
    left, right = [photo[:, :cut] for photo in photos], [photo[:, cut:] for photo in photos]
    parts = (left, train, seen), (right, test, new)
    found = [_scenes(np.random.default_rng([seed, i]), *part, digits, image_size) for i, part in enumerate(parts)]
    return dict(train=found[0], test=found[1], classes=['background', *map(str, digits)],
                palette=palette[:len(digits) + 1], flip=False)
