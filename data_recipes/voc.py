"""PASCAL VOC's layout: `JPEGImages/a.jpg`, `SegmentationClass/a.png`, and lists of names in `ImageSets/Segmentation`.

Source: the PASCAL Visual Object Classes Challenge 2012, M. Everingham et al.; the layout is also what CVAT and others
write. The folder is the one with `SegmentationClass` in it, or one above it (`VOCdevkit/VOC2012`).
Split: the lists `train` and `val`; without them a fifth of the pairs, drawn by `seed`, is for testing.
Classes: those of `labelmap.txt` (with their colours), of `classes.txt`, of `classes=`, or else VOC's own 21. The border
of objects, 255, is ignored. Pictures are prepared as in `segmentation_folders`."""
from pathlib import Path
from . import colours
from .files import text_of
from .pictures import suffixes
from .segmentation_folders import of_pairs, split

classes = ('background', 'aeroplane', 'bicycle', 'bird', 'boat', 'bottle', 'bus', 'car', 'cat', 'chair', 'cow',
           'dining table', 'dog', 'horse', 'motorbike', 'person', 'potted plant', 'sheep', 'sofa', 'train', 'monitor')

def _root(folder):
    "The folder with `SegmentationClass` in it; None where there is none."
    folder = Path(folder)
    places = [folder, *sorted(folder.glob('VOC20*')), *sorted(folder.glob('VOCdevkit/VOC20*'))]
    return next((place for place in places if (place/'SegmentationClass').is_dir()), None)

def is_here(folder) -> bool:
    "Whether a folder is of this layout."
    return _root(folder) is not None

def _images(root: Path) -> Path:
    return next((root/name for name in ('JPEGImages', 'images', 'Images') if (root/name).is_dir()), root/'JPEGImages')

def _pair(root: Path, name: str, where) -> tuple:
    "The image and the mask of a name. ValueError for one that is not there."
    mask = root/'SegmentationClass'/f'{name}.png'
    there = [path for suffix in suffixes if (path := _images(root)/f'{name}{suffix}').is_file()]
    if there and mask.is_file(): return there[0], mask
    raise ValueError(f"{where} names {name}, which has no {'mask' if there else 'image'} in {root}")

def _listed(root: Path, part: str) -> list:
    "The pairs of a list; none where there is no list."
    path = root/'ImageSets'/'Segmentation'/f'{part}.txt'
    if not path.is_file(): return []
    return [_pair(root, line.split()[0], path) for line in text_of(path).splitlines() if line.strip()]

def load(folder, names=None, image_size: tuple = None, seed: int = 0, table: dict = None) -> dict:
    "dict(train, test, classes, perhaps palette), as of `segmentation_folders.load`."
    root = _root(folder)
    train, test = _listed(root, 'train'), _listed(root, 'val')
    if not (train and test):
        masks = sorted((root/'SegmentationClass').glob('*.png'))
        train, test = split([_pair(root, mask.stem, root/'SegmentationClass') for mask in masks], seed, root)
    table = table or colours.found_in(root)
    if names is None and table is None: names = root/'classes.txt' if (root/'classes.txt').is_file() else list(classes)
    return of_pairs(train, test, names, image_size, table)
