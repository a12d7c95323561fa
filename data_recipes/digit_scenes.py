"""Digit scenes: handwritten digits laid on parts of two photographs, with the class of every pixel known, for trying things out where no data is at hand.

Source: this file, from what the scikit-learn package ships: real digits (see `digits`: UCI, CC BY 4.0) and the photographs china.jpg (danielbuechele) and flower.jpg (vultilion), CC BY 2.0 (see sklearn.datasets.load_sample_images).
A scene is a part of a photograph and one to three digits, larger than they were, each in a colour of its own, dark on light or light on dark. Where a digit's ink is strong the pixel has its class, its soft edge is ignored (255), all else is background.
Split: training scenes have the left two thirds of the photographs and the 1,297 training digits, test scenes the rest of both. The same `seed` gives the same scenes."""
import numpy as np, torch
from torch.utils.data import TensorDataset
from . import digits as digits_recipe
from .image_folder import mean, std
from .segmentation_folders import ignored

palette = ((70, 70, 70), (63, 127, 224), (226, 149, 59), (185, 85, 143), (58, 165, 143), (138, 107, 214), (124, 154, 53), (210, 100, 63), (74, 163, 199), (160, 122, 88), (201, 162, 39))

def _scene(rng, photo, ink, labels, size):
    from PIL import Image
    h, w = size
    zoom = rng.uniform(1, min(photo.shape[0]/h, photo.shape[1]/w, 2.5))
    ch, cw = int(h*zoom), int(w*zoom)
    top, left = rng.integers(photo.shape[0] - ch + 1), rng.integers(photo.shape[1] - cw + 1)
    image = np.asarray(Image.fromarray(photo[top:top + ch, left:left + cw]).resize((w, h), Image.Resampling.BILINEAR)).astype(np.float32)
    mask = np.zeros((h, w), np.uint8)
    for _ in range(rng.integers(1, 4)):
        k, side = rng.integers(len(ink)), int(rng.integers(min(h, w)//2, min(h, w)*3//4 + 1))
        a = np.asarray(Image.fromarray(ink[k]).resize((side, side), Image.Resampling.BICUBIC)).clip(0, 1)
        y, x = rng.integers(h - side + 1), rng.integers(w - side + 1)
        part, dark = (slice(y, y + side), slice(x, x + side)), image[y:y + side, x:x + side].mean() > 110
        colour = rng.uniform(*((0, 90) if dark else (150, 255)), 3).astype(np.float32)
        image[part] = image[part]*(1 - a[..., None]) + colour*a[..., None]
        mask[part] = np.where(a > .5, labels[k], np.where(a > .25, ignored, mask[part]))
    return image + rng.normal(0, 4, image.shape).astype(np.float32), mask

def load(train: int = 320, test: int = 80, image_size: tuple = (64, 96), digits: tuple = (0, 1, 4, 7), seed: int = 0) -> dict: # digits: those that are classes
    "dict(train, test: TensorDatasets of float images (3, H, W) and labels (H, W); classes: background and the digits; palette; flip: False)."
    from sklearn.datasets import load_sample_images
    if not digits or not set(digits) <= set(range(10)): raise ValueError(f"digits are some of 0 to 9; found {digits!r}")
    if not 24 <= min(image_size) or image_size[0] > 400 or image_size[1] > 210: raise ValueError(f"scenes are 24 x 24 to 400 x 210 pixels; found {image_size!r}")
    photos, found = load_sample_images().images, []
    cut = photos[0].shape[1] * 2 // 3
    for part,n,(x,y) in zip((0, 1), (train, test), (d.tensors for d in digits_recipe.load(seed))):
        at = {d: i + 1 for i,d in enumerate(digits)}
        mine = [i for i,c in enumerate(y.tolist()) if c in at]
        ink, labels = x[mine, 0].numpy(), [at[int(y[i])] for i in mine]
        rng = np.random.default_rng([seed, part])
        scenes = [_scene(rng, p[:, :cut] if part == 0 else p[:, cut:], ink, labels, image_size) for p in (photos[int(rng.integers(2))] for _ in range(n))]
        images = torch.from_numpy(np.stack([s[0] for s in scenes])).permute(0, 3, 1, 2).clamp(0, 255) / 255
        images = (images - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[:, None, None]
        found.append(TensorDataset(images.contiguous(), torch.from_numpy(np.stack([s[1] for s in scenes])).long()))
    return dict(train=found[0], test=found[1], classes=['background', *map(str, digits)], palette=palette[:len(digits) + 1], flip=False) # a mirrored digit is none
