"""CIFAR-10: 60,000 colour images of 32 x 32 in 10 classes.

Source: A. Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009, read by torchvision. No licence
is stated.
Split: the official 50,000 for training and 10,000 for testing. Pixels are normalised by the mean and deviation of the
training part.
Checks: torchvision's checksums of the files. Nothing is downloaded unless `download=True`."""
from pathlib import Path
import torch
from torch.utils.data import TensorDataset

classes = ('airplane', 'automobile', 'bird', 'cat', 'deer', 'dog', 'frog', 'horse', 'ship', 'truck')
mean, std = (.4914, .4822, .4465), (.2470, .2435, .2616)

def normalised(images) -> torch.Tensor:
    "uint8 images (N, 32, 32, 3) as normalised floats (N, 3, 32, 32)."
    x = torch.as_tensor(images).permute(0, 3, 1, 2).float().div_(255)
    return x.sub_(torch.tensor(mean)[:, None, None]).div_(torch.tensor(std)[:, None, None])

def _part(root, train: bool, download: bool) -> TensorDataset:
    "One of the two parts. ValueError where its files are not in `root`."
    from torchvision.datasets import CIFAR10
    try: found = CIFAR10(root, train=train, download=download)
    except RuntimeError:
        raise ValueError(f"CIFAR-10 is not in {Path(root).resolve()}: put cifar-10-python.tar.gz unpacked there, or "
                         f"call data_recipes.cifar10.load({str(root)!r}, download=True)") from None
    return TensorDataset(normalised(found.data), torch.tensor(found.targets))

def load(root='data/cifar10', download: bool = False):
    "(train, test): TensorDatasets of float images (3, 32, 32) and labels. ValueError if the files are not there."
    return _part(root, True, download), _part(root, False, download)
