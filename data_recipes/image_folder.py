"""Any folder of images in class folders: `cats/1.jpg`, `dogs/2.png`.

Split: the folders `train` and `test` (or `val`) where they are there; else a fifth of each class, drawn by `seed`, is
for testing.
Images are resized so that the short side is `image_size` and cut in the middle; pixels are normalised by ImageNet's
mean and deviation.
Checks: at least two classes, at least two images in each, the same classes in both parts; a file that is no image is
named when it is read."""
from pathlib import Path
import torch
from torch.utils.data import Dataset

suffixes = '.jpg', '.jpeg', '.png', '.bmp', '.webp', '.ppm', '.tif', '.tiff'
mean, std = (.485, .456, .406), (.229, .224, .225)

def opened(path, mode: str = 'RGB'):
    "A file as a PIL image of a mode. ValueError naming a file that is missing or no image."
    from PIL import Image, UnidentifiedImageError
    try:
        with Image.open(path) as image: return image.convert(mode)
    except FileNotFoundError: raise ValueError(f"there is no file {path}") from None
    except (UnidentifiedImageError, OSError) as error:
        raise ValueError(f"{path} cannot be read as an image ({type(error).__name__})") from None

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

    def __len__(self): return len(self.files)

    def __getitem__(self, i):
        from torchvision.transforms import functional as T
        image = cut(opened(self.files[i]), [self.image_size]*2)
        return T.normalize(T.to_tensor(image), mean, std), self.labels[i]

def _scan(folder: Path) -> dict:
    "The images of each class: name of a folder -> files."
    classes = sorted(below.name for below in folder.iterdir() if below.is_dir() and not below.name.startswith('.'))
    if len(classes) < 2:
        raise ValueError(f"{folder} needs at least two folders of images, one a class; found {len(classes)}")
    found = {}
    for name in classes:
        found[name] = sorted(file for file in (folder/name).rglob('*') if file.suffix.lower() in suffixes)
        if len(found[name]) < 2:
            raise ValueError(f"{folder/name} needs at least two images ({', '.join(suffixes)}); "
                             f"found {len(found[name])}")
    return found

def _drawn(files: list, generator) -> tuple:
    "Four fifths of the files to train with, and a fifth to test with, at least one."
    order = torch.randperm(len(files), generator=generator).tolist()
    n = max(1, len(order)//5)
    return [files[i] for i in sorted(order[n:])], [files[i] for i in sorted(order[:n])]

def _split(folder: Path, seed: int) -> tuple:
    "The images of each class to train with, and those to test with."
    held = next((folder/name for name in ('test', 'val') if (folder/name).is_dir()), None)
    if not (folder/'train').is_dir() or held is None:
        parts = {name: _drawn(files, torch.Generator().manual_seed(seed + 1009*k))
                 for k, (name, files) in enumerate(_scan(folder).items())}
        return tuple({name: both[part] for name, both in parts.items()} for part in (0, 1))
    train, test = _scan(folder/'train'), _scan(held)
    if other := sorted(set(train) ^ set(test)):
        raise ValueError(f"{folder/'train'} and {held} hold different classes: {other}")
    return train, test

def load(folder, image_size: int = 64, seed: int = 0):
    "(train, test): data sets of float images (3, image_size, image_size) and labels."
    folder = Path(folder)
    if not folder.is_dir(): raise ValueError(f"{folder} is not a folder")
    def images(of):
        files = [file for mine in of.values() for file in mine]
        labels = [label for label, mine in enumerate(of.values()) for _ in mine]
        return Images(files, labels, list(of), image_size)
    train, test = _split(folder, seed)
    return images(train), images(test)
