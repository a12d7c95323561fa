"""JPEG CIFAR-10: CIFAR-10 as lossy JPEG images (quality about 75) in one .npz file; results on it are not results on CIFAR-10.

Format: image i of a split is `jpeg_prefix + <split>_jpeg[offset[i]:offset[i+1]] + jpeg_suffix`, its label `<split>_label[i]`; splits `train` and `test`, in a fixed
shuffled order, so that any prefix is a random subset. Source: a public JPEG copy of CIFAR-10; no licence is stated.
Checks: the arrays that must be there, and the size of each image."""
import io
import numpy as np, torch
from pathlib import Path
from torch.utils.data import TensorDataset
from .cifar10 import classes, normalised

def load(path, train: int = None, test: int = None):
    "(train, test): TensorDatasets of float images (3, 32, 32) and labels; `train` and `test` limit the numbers of images."
    from PIL import Image
    if not Path(path).exists(): raise ValueError(f"there is no file {path}")
    z = np.load(path, allow_pickle=False)
    def part(split, n):
        need = [f'{split}_jpeg', f'{split}_offset', f'{split}_label', 'jpeg_prefix', 'jpeg_suffix']
        if missing := [k for k in need if k not in z]: raise ValueError(f"{path} lacks {', '.join(missing)}; it has {', '.join(z)}")
        raw, offset, label = (z[k] for k in need[:3])
        head, tail = z['jpeg_prefix'].tobytes(), z['jpeg_suffix'].tobytes()
        n = len(label) if n is None else min(n, len(label))
        images = [np.asarray(Image.open(io.BytesIO(head + raw[offset[i]:offset[i+1]].tobytes() + tail)).convert('RGB')) for i in range(n)]
        if bad := [i for i,im in enumerate(images) if im.shape != (32, 32, 3)]: raise ValueError(f"image {bad[0]} of {split} in {path} is {images[bad[0]].shape}, not (32, 32, 3)")
        return TensorDataset(normalised(np.stack(images)), torch.tensor(label[:n].astype(np.int64)))
    return part('train', train), part('test', test)
