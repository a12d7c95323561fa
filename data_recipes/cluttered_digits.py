"""Cluttered digits: one handwritten digit in a picture of 32 x 32 pixels, bent, somewhere, among pieces of others.

Source: scikit-learn's digits (see `digits`: UCI, CC BY 4.0); nothing is downloaded.
How a picture is made: a digit of 8 x 8 pixels becomes 18 to 26 pixels large, is rotated by up to 15 degrees, sheared
by up to .2, bent by a smooth random displacement (elastic distortion) and laid anywhere that it fits. Two pieces of
other digits, 3 to 5 of their 8 pixels high and wide, are enlarged and rotated likewise and laid anywhere. Where inks
meet, the stronger counts. Contrast is .6 to 1, and noise with a standard deviation of .1 is added.
Split: originals as `digits` divides them, 1,297 for training and 500 for testing; pieces are of the same part, so that
nothing of a test digit is in a training picture. `origins` says which original each training picture is of, so that
these can be divided by it. The same `seed` gives the same pictures."""
import math, torch
from einops import rearrange
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import TensorDataset
from . import digits as digits_recipe

classes = digits_recipe.classes
size = 32            # Pixels of a picture's side
mean, std = .15, .3  # By which pictures of values from 0 to 1 are normalised

def _uniform(n: int, low: float, high: float, generator) -> Tensor:
    return low + (high - low) * torch.rand(n, generator=generator)

def _turned(n: int, room, generator) -> tuple:
    "Positions x and y, (n, size, size) each, of all pixels from a random centre on, rotated and sheared."
    angle, shear = _uniform(n, -1, 1, generator) * math.radians(15), _uniform(n, -.2, .2, generator)
    across, down = (_uniform(n, -1, 1, generator) * room for _ in range(2))
    line = torch.arange(size) - (size - 1) / 2
    cosine, sine, shear, across, down = (
        rearrange(each, 'n -> n 1 1') for each in (angle.cos(), angle.sin(), shear, across, down))
    x, y = rearrange(line, 'w -> 1 1 w') - across, rearrange(line, 'h -> 1 h 1') - down
    x, y = cosine*x + sine*y, cosine*y - sine*x
    return x + shear*y, y

def _laid(ink: Tensor, side: Tensor, bend: float, room, generator) -> Tensor:
    "Digits (n, 8, 8), or pieces of them, laid `side` (n,) pixels large into empty pictures: (n, size, size)."
    places = torch.stack(_turned(len(ink), room, generator), -1) * rearrange(2 / side, 'n -> n 1 1 1')
    if bend:
        coarse = bend * torch.randn(len(ink), 2, 6, 6, generator=generator)
        smooth = F.interpolate(coarse, (size, size), mode='bicubic', align_corners=True)
        places = places + rearrange(smooth, 'n xy h w -> n h w xy')
    laid = F.grid_sample(rearrange(ink, 'n h w -> n 1 h w'), places, mode='bicubic', align_corners=False)
    return rearrange(laid, 'n 1 h w -> n h w').clamp(0, 1)

def _pieces(ink: Tensor, generator) -> Tensor:
    "Of each digit (n, 8, 8) a random part of 3 to 5 pixels in height and width; all else is empty."
    def kept():  # which of 8 lines, (n, 8)
        extent = torch.randint(3, 6, (len(ink),), generator=generator)
        first = (torch.rand(len(ink), generator=generator) * (9 - extent)).long()
        line, first, extent = torch.arange(8)[None], first[:, None], extent[:, None]
        return (line >= first) & (line < first + extent)
    return ink * rearrange(kept(), 'n h -> n h 1') * rearrange(kept(), 'n w -> n 1 w')

def _pictures(data: TensorDataset, each: int, pieces: int, noise: float, seed: int) -> tuple:
    "`each` pictures of every digit: images (n, 1, size, size), labels and originals, (n,) each."
    generator = torch.Generator().manual_seed(seed)
    ink, labels = rearrange(data.tensors[0], 'n 1 h w -> n h w'), data.tensors[1]
    origins = torch.arange(len(ink)).repeat_interleave(each)
    def sides(): return _uniform(len(origins), 18, 26, generator)
    side = sides()
    picture = _laid(ink[origins], side, .08, (size - side) / 2, generator)
    for _ in range(pieces):
        others = ink[torch.randint(len(ink), (len(origins),), generator=generator)]
        piece = _laid(_pieces(others, generator), sides(), 0, size / 2, generator)
        picture = torch.maximum(picture, piece)
    picture = picture * rearrange(_uniform(len(origins), .6, 1, generator), 'n -> n 1 1')
    picture = picture + noise * torch.randn(picture.shape, generator=generator)
    return rearrange((picture - mean) / std, 'n h w -> n 1 h w'), labels[origins], origins

def load(each: int = 2, pieces: int = 2, noise: float = .1, seed: int = 0) -> dict:
    """dict(train, test: TensorDatasets of float images (1, 32, 32) and labels, `each` of every digit; origins: the
    number of the digit that each training picture is of)."""
    if each < 1: raise ValueError(f"there is at least one picture of each digit; found {each=}")
    parts = digits_recipe.load(seed)
    made = [_pictures(part, each, pieces, noise, 2*seed + i) for i, part in enumerate(parts)]
    train, test = (TensorDataset(images, labels) for images, labels, _ in made)
    return dict(train=train, test=test, origins=made[0][2])
