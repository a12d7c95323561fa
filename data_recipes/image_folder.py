"""Any folder of images in class folders: `cats/1.jpg`, `dogs/2.png`.

Split: the folders `train` and `test` (or `val`) where they are there, and `val` beside `test` is what networks are
chosen by; else a fifth of each class, drawn by `seed`, is for testing.
Images are read as `pictures` says: any mode, upright, what is transparent on white. They are resized so that the short
side is `image_size` and cut in the middle; pixels are normalised by ImageNet's mean and deviation.
Left out, with one warning that lists all: images that cannot be read, classes with too few images to split, files of
other formats. Where all images are more than 1 GiB they are not read beforehand; one that turns out to be damaged later
is warned of, and another of its class takes its place.
Checks: at least two classes, the same classes in both parts."""
from bisect import bisect_right
from collections import Counter
from pathlib import Path
import torch
from torch.utils.data import ConcatDataset, Dataset, Subset
from .files import (
    faults, files_below, first_usable, folders_in, left_out, noted_transparency, other_files)
from .pictures import opened, suffixes

mean, std = (.485, .456, .406), (.229, .224, .225)

def cut(picture, size: tuple):
    "The middle of a PIL image or a tensor (C, H, W), resized so that it just covers `size` (h, w)."
    from torchvision.transforms import functional as T
    height, width = size
    if height == width: return T.center_crop(T.resize(picture, height, antialias=True), [height, width])
    _, h, w = T.get_dimensions(picture)
    scale = max(height/h, width/w)
    covering = [max(height, round(h*scale)), max(width, round(w*scale))]
    return T.center_crop(T.resize(picture, covering, antialias=True), [height, width])

class Images(Dataset):
    "Images on disk: items are (float image (3, size, size), label)."
    def __init__(self, files: list, labels: list, classes: list, image_size: int):
        self.files, self.labels, self.classes, self.image_size = files, labels, classes, image_size
        self.bad = set()  # Numbers of those that could not be read

    def __len__(self): return len(self.files)

    def picture(self, i):
        "One picture as PIL has it. ValueError that names one that cannot be read."
        return opened(self.files[i])

    def ready(self, picture) -> torch.Tensor:
        "A PIL image as an input."
        from torchvision.transforms import functional as T
        return T.normalize(T.to_tensor(cut(picture, [self.image_size]*2)), mean, std)

    def __getitem__(self, i): return self.through(i, self.ready)

    def through(self, i, ready) -> tuple:
        "An item whose image is made by `ready`, a function of a PIL image."
        label = self.labels[i]
        others = (j for j, other in enumerate(self.labels) if other == label)
        image = first_usable((j for both in ([i], others) for j in both), lambda j: ready(self.picture(j)),
                             self.bad, "another image of its class takes its place")
        if image is not None: return image, label
        raise ValueError(f"no image of the class {self.classes[label]} can be read, e.g. {self.files[i]}")

def picture_through(dataset, i: int, ready):
    "Item `i` of a data set of files, or of parts of some, its image made by `ready` of the picture; None of others."
    if isinstance(dataset, Subset): return picture_through(dataset.dataset, dataset.indices[i], ready)
    if isinstance(dataset, ConcatDataset):
        part = bisect_right(dataset.cumulative_sizes, i)
        return picture_through(dataset.datasets[part], i - (0, *dataset.cumulative_sizes)[part], ready)
    return dataset.through(i, ready) if isinstance(dataset, Images) else None

# ---------------------------------------------------------------- what is in a folder

def _scan(folder: Path) -> dict:
    "The images of each class: name of a folder -> files."
    return {below.name: files_below(below, suffixes) for below in folders_in(folder)}

def _of_other_formats(folder: Path) -> list:
    "What there is to say of files in class folders that are not read."
    kinds = Counter(path.suffix for below in folders_in(folder) for path in other_files(below, suffixes))
    return [f"{n} files {kind}, a format that is not read" for kind, n in sorted(kinds.items())]

def _usable(folder: Path, least: int) -> tuple:
    "The images of each class that can be used, of classes with enough of them; and what is to be said of the others."
    found = _scan(folder)
    if len(found) < 2:
        raise ValueError(f"{folder} needs at least two folders of images, one a class; found {len(found)}")
    bad = faults([file for files in found.values() for file in files], opened)
    reasons, used = [*bad.values(), *_of_other_formats(folder)], {}
    for name, files in found.items():
        files = [file for file in files if file not in bad]
        if len(files) >= least: used[name] = files
        else: reasons.append(f"{folder/name} needs at least {_images(least)}; found {len(files)}")
    return used, reasons

def _images(n: int) -> str: return 'one image' if n == 1 else 'two images'

def _drawn(files: list, generator) -> tuple:
    "Four fifths of the files to train with, and a fifth to test with, at least one."
    order = torch.randperm(len(files), generator=generator).tolist()
    n = max(1, len(order)//5)
    return [files[i] for i in sorted(order[n:])], [files[i] for i in sorted(order[:n])]

def _given(folder: Path, held: Path) -> tuple:
    "Both parts as the folder has them, without classes that one of them has no image of; and what is left out."
    (train, some), (test, more) = _usable(folder/'train', 1), _usable(held, 1)
    here, there = _scan(folder/'train'), _scan(held)
    if other := sorted(set(here) ^ set(there)):
        raise ValueError(f"{folder/'train'} and {held} hold different classes: {other}")
    both = [name for name in train if name in test]
    return {name: train[name] for name in both}, {name: test[name] for name in both}, some + more

def _split(folder: Path, seed: int) -> tuple:
    "The images of each class to train with, those to test with, and what is left out."
    held = next((folder/name for name in ('test', 'val') if (folder/name).is_dir()), None)
    if (folder/'train').is_dir() and held is not None: return _given(folder, held)
    used, reasons = _usable(folder, 2)
    drawn = {name: _drawn(files, torch.Generator().manual_seed(seed + 1009*k))
             for k, (name, files) in enumerate(used.items())}
    return *({name: both[part] for name, both in drawn.items()} for part in (0, 1)), reasons

def drawn(of: dict, seed: int) -> tuple:
    "Each class's pictures to train with, and those to test with; of: class -> pictures. One alone is to train with."
    both = {name: _drawn(files, torch.Generator().manual_seed(seed + 1009*k)) if len(files) > 1 else (files, [])
            for k, (name, files) in enumerate(of.items())}
    return tuple({name: pair[part] for name, pair in both.items() if pair[part]} for part in (0, 1))

def _valid_folder(folder: Path):
    "The folder of what networks are chosen by, beside one to test with; None where there is none."
    if not all((folder/name).is_dir() for name in ('train', 'test')): return None
    return next((folder/name for name in ('val', 'valid', 'validation') if (folder/name).is_dir()), None)

def folder_parts(folder, seed: int = 0, whole: bool = False) -> dict:
    "Class -> images of each part, train, test, perhaps valid; all under None where it is one part, or is to be."
    folder = Path(folder)
    is_divided = (folder/'train').is_dir() and any((folder/name).is_dir() for name in ('test', 'val')) and not whole
    if not is_divided:
        used, reasons = _usable(folder, 1 if whole else 2)
        left_out(folder, reasons)
        return {None: used}
    train, test, reasons = _split(folder, seed)
    found = dict(train=train, test=test)
    if held := _valid_folder(folder):
        found['valid'], more = _usable(held, 1)
        if strange := sorted(set(found['valid']) - set(train)):
            raise ValueError(f"{held} has the class {strange[0]}, which {folder/'train'} has no image of")
        reasons += more
    left_out(folder, reasons)
    return found

def load(folder, image_size: int = 64, seed: int = 0):
    "(train, test): data sets of float images (3, image_size, image_size) and labels."
    folder = Path(folder)
    if not folder.is_dir(): raise ValueError(f"{folder} is not a folder")
    train, test, reasons = _split(folder, seed)
    if len(train) < 2:
        why = f": {'; '.join(reasons)}" if reasons else ''
        raise ValueError(f"{folder} needs at least two folders of images, one a class; found {len(train)}{why}")
    left_out(folder, reasons)
    noted_transparency([file for part in (train, test) for files in part.values() for file in files])
    def images(of):
        files = [file for mine in of.values() for file in mine]
        labels = [label for label, mine in enumerate(of.values()) for _ in mine]
        return Images(files, labels, list(of), image_size)
    return images(train), images(test)
