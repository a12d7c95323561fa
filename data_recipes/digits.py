"""Handwritten digits: 1,797 real 8 x 8 grey images of 10 classes, inside the scikit-learn package.

Source: test part of "Optical Recognition of Handwritten Digits", E. Alpaydin and C. Kaynak, UCI Machine Learning
Repository (CC BY 4.0).
Split: 1,297 for training and 500 for testing, stratified, fixed by `seed`. Pixels: 0..16, divided by 16.
Checks: the number of images and classes."""
import torch
from torch.utils.data import TensorDataset

classes = tuple('0123456789')

def load(seed: int = 0, test: int = 500):
    "(train, test): TensorDatasets of float images (1, 8, 8) and labels."
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split
    found = load_digits()
    images, labels = found.images, found.target
    if images.shape != (1797, 8, 8) or len(set(labels)) != 10:
        raise ValueError(f"scikit-learn's digits are 1797 images of 8 x 8 and 10 classes; found {images.shape}, "
                         f"{len(set(labels))} classes")
    parts = train_test_split(range(len(labels)), test_size=test, stratify=labels, random_state=seed)
    x, y = torch.tensor(images / 16, dtype=torch.float32)[:, None], torch.tensor(labels)
    return tuple(TensorDataset(x[part], y[part]) for part in parts)
