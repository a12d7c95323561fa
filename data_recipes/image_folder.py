"""Any folder of images in class folders: `cats/1.jpg`, `dogs/2.png`.

Split: the folders `train` and `test` (or `val`) where they are there; else a fifth of each class, drawn by `seed`, is for testing.
Images are resized so that the short side is `image_size` and cut in the middle; pixels are normalised by ImageNet's mean and deviation.
Checks: at least two classes, at least two images in each, the same classes in both parts; a file that is no image is named when it is read."""
from pathlib import Path
import torch
from torch.utils.data import Dataset

suffixes = '.jpg', '.jpeg', '.png', '.bmp', '.webp', '.ppm', '.tif', '.tiff'
mean, std = (.485, .456, .406), (.229, .224, .225)

def opened(path, mode: str = 'RGB'):
    "A file as a PIL image of a mode. ValueError naming a file that is missing or no image."
    from PIL import Image, UnidentifiedImageError
    try:
        with Image.open(path) as im: return im.convert(mode)
    except FileNotFoundError: raise ValueError(f"there is no file {path}") from None
    except (UnidentifiedImageError, OSError) as e: raise ValueError(f"{path} cannot be read as an image ({type(e).__name__})") from None

def cut(picture, size: tuple):
    "The middle of a PIL image or a tensor (C, H, W), resized so that it just covers `size` (h, w)."
    from torchvision.transforms import functional as T
    height, width = size
    if height == width: return T.center_crop(T.resize(picture, height, antialias=True), [height, width])
    _, h, w = T.get_dimensions(picture)
    scale = max(height/h, width/w)
    return T.center_crop(T.resize(picture, [max(height, round(h*scale)), max(width, round(w*scale))], antialias=True), [height, width])

class Images(Dataset):
    "Images on disk: items are (float image (3, size, size), label)."
    def __init__(self, files: list, labels: list, classes: list, image_size: int):
        self.files, self.labels, self.classes, self.image_size = files, labels, classes, image_size
    def __len__(self): return len(self.files)
    def __getitem__(self, i):
        from torchvision.transforms import functional as T
        return T.normalize(T.to_tensor(cut(opened(self.files[i]), [self.image_size]*2)), mean, std), self.labels[i]

def _scan(folder: Path):
    classes = sorted(d.name for d in folder.iterdir() if d.is_dir() and not d.name.startswith('.'))
    if len(classes) < 2: raise ValueError(f"{folder} needs at least two folders of images, one a class; found {len(classes)}")
    files = {c: sorted(f for f in (folder/c).rglob('*') if f.suffix.lower() in suffixes) for c in classes}
    if few := [c for c in classes if len(files[c]) < 2]: raise ValueError(f"{folder/few[0]} needs at least two images ({', '.join(suffixes)}); found {len(files[few[0]])}")
    return classes, files

def load(folder, image_size: int = 64, seed: int = 0):
    "(train, test): data sets of float images (3, image_size, image_size) and labels."
    folder = Path(folder)
    if not folder.is_dir(): raise ValueError(f"{folder} is not a folder")
    held = next((folder/n for n in ('test', 'val') if (folder/n).is_dir()), None)
    if (folder/'train').is_dir() and held is not None:
        classes, a = _scan(folder/'train'); other, b = _scan(held)
        if classes != other: raise ValueError(f"{folder/'train'} and {held} hold different classes: {sorted(set(classes) ^ set(other))}")
    else:
        classes, files = _scan(folder)
        a, b = {}, {}
        for k,c in enumerate(classes):
            order = torch.randperm(len(files[c]), generator=torch.Generator().manual_seed(seed + 1009*k)).tolist()
            n = max(1, len(order)//5)
            a[c], b[c] = ([files[c][i] for i in sorted(part)] for part in (order[n:], order[:n]))
    make = lambda d: Images([f for c in classes for f in d[c]], [k for k,c in enumerate(classes) for _ in d[c]], classes, image_size)
    return make(a), make(b)
