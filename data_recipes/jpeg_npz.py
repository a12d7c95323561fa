"""JPEG CIFAR-10: CIFAR-10 as lossy JPEG images (quality about 75) in one .npz file; results on it are not results on
CIFAR-10.

Format: image i of a split is `jpeg_prefix + <split>_jpeg[offset[i]:offset[i+1]] + jpeg_suffix`, its label
`<split>_label[i]`; splits `train` and `test`, in a fixed shuffled order, so that any prefix is a random subset.
Source: a public JPEG copy of CIFAR-10; no licence is stated.
Checks: the arrays that must be there, and the size of each image."""
import io, zipfile, zlib
import numpy as np, torch
from pathlib import Path
from torch.utils.data import TensorDataset
from .cifar10 import classes, normalised  # noqa: F401 (its classes are CIFAR-10's)

def _decoded(jpeg: bytes) -> np.ndarray:
    "A picture (H, W, 3) of bytes."
    from PIL import Image
    return np.asarray(Image.open(io.BytesIO(jpeg)).convert('RGB'))

def _part(file, path, split: str, n) -> TensorDataset:
    "The first `n` images of a split."
    needed = [f'{split}_jpeg', f'{split}_offset', f'{split}_label', 'jpeg_prefix', 'jpeg_suffix']
    if missing := [name for name in needed if name not in file]:
        raise ValueError(f"{path} lacks {', '.join(missing)}; it has {', '.join(file)}")
    raw, offset, label, head, tail = (file[name] for name in needed)
    n = len(label) if n is None else min(n, len(label))
    images = [_decoded(head.tobytes() + raw[offset[i]:offset[i+1]].tobytes() + tail.tobytes()) for i in range(n)]
    if bad := [i for i, image in enumerate(images) if image.shape != (32, 32, 3)]:
        raise ValueError(f"image {bad[0]} of {split} in {path} is {images[bad[0]].shape}, not (32, 32, 3)")
    return TensorDataset(normalised(np.stack(images)), torch.tensor(label[:n].astype(np.int64)))

def load(path, train: int = None, test: int = None):
    "(train, test): TensorDatasets of float images (3, 32, 32) and labels, of at most `train` and `test` images."
    if not Path(path).exists(): raise ValueError(f"there is no file {path}")
    try:
        with np.load(path, allow_pickle=False) as file:
            return _part(file, path, 'train', train), _part(file, path, 'test', test)
    except (OSError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(f"{path} is no .npz file, or is damaged ({error})") from None
