"""Cityscapes (Cordts et al., 2016): street scenes of 1024 x 2048 in 19 classes; get it from its authors
(cityscapes-dataset.com), whose terms allow non-commercial use. Nothing is downloaded here.

Layout: the official one, `leftImg8bit/train/CITY/*_leftImg8bit.png` with `gtFine/train/CITY/*_gtFine_labelIds.png`,
and so with `val`.
Split: the official 2,975 for training and 500 for validation, which is what is tested on: labels of the official test
part are not public.
Labels: 34 ids become 19 classes by the authors' table (id -> trainId), all others are ignored. Where
`*_labelTrainIds.png` lie beside the masks, the first of each part is compared with what the table gives.
Checks: those of `segmentation_folders`; the number of images where `count` is left on."""
from pathlib import Path
import numpy as np
from .files import is_hidden
from .pictures import as_it_is
from .segmentation_folders import Pairs, ignored, label_table, readable

known = {  # id -> class, colour
    7: ('road', (128, 64, 128)), 8: ('sidewalk', (244, 35, 232)), 11: ('building', (70, 70, 70)),
    12: ('wall', (102, 102, 156)), 13: ('fence', (190, 153, 153)), 17: ('pole', (153, 153, 153)),
    19: ('traffic light', (250, 170, 30)), 20: ('traffic sign', (220, 220, 0)), 21: ('vegetation', (107, 142, 35)),
    22: ('terrain', (152, 251, 152)), 23: ('sky', (70, 130, 180)), 24: ('person', (220, 20, 60)),
    25: ('rider', (255, 0, 0)), 26: ('car', (0, 0, 142)), 27: ('truck', (0, 0, 70)), 28: ('bus', (0, 60, 100)),
    31: ('train', (0, 80, 100)), 32: ('motorcycle', (0, 0, 230)), 33: ('bicycle', (119, 11, 32))}
ids, classes, palette = tuple(known), *(tuple(part) for part in zip(*known.values()))
table = label_table({label: ignored for label in [*range(34), 255]} | {label: i for i, label in enumerate(ids)})

def is_here(root) -> bool:
    "Whether a folder has this layout."
    return (Path(root)/'leftImg8bit').is_dir() or (Path(root)/'gtFine').is_dir()

def _named(folder: Path, ending: str) -> dict:
    "Files of all cities by their names without an ending."
    return {str(file.relative_to(folder))[:-len(ending)]: file for file in sorted(folder.glob(f'*/*{ending}'))
            if not is_hidden(file, folder)}

def _files(root: Path, part: str) -> list:
    "The (image, mask) pairs of a part. ValueError naming a folder or a file that is missing."
    images, masks = root/'leftImg8bit'/part, root/'gtFine'/part
    for folder in (images, masks):
        if not folder.is_dir():
            raise ValueError(f"{root} needs the folder {folder.relative_to(root)}, which is missing")
    seen, true = _named(images, '_leftImg8bit.png'), _named(masks, '_gtFine_labelIds.png')
    if not seen: raise ValueError(f"{images} holds no images CITY/*_leftImg8bit.png")
    if alone := sorted(set(seen) - set(true)): raise ValueError(f"{seen[alone[0]]} has no mask in {masks}")
    if alone := sorted(set(true) - set(seen)): raise ValueError(f"{true[alone[0]]} has no image in {images}")
    return [(seen[name], true[name]) for name in sorted(seen)]

def _check_table(pairs: Pairs):
    "ValueError where the authors' own conversion of the first mask lies beside it and says something else."
    mask = pairs.files[0][1]
    theirs = Path(str(mask).replace('labelIds', 'labelTrainIds'))
    if not theirs.is_file() or np.array_equal(np.asarray(as_it_is(theirs)), pairs.mask(0)): return
    raise ValueError(f"{theirs} does not hold what {mask.name} says by the authors' table: one of the two was made "
                     "otherwise")

def load(
    root,
    image_size: tuple = (512, 1024),  # None: as they are
    count: bool = True                # False: a part of the data will do
) -> dict:
    "dict(train, val: data sets of (float image (3, H, W), labels (H, W)); classes, palette)."
    root, parts = Path(root), {}
    for part, n in dict(train=2975, val=500).items():
        files = _files(root, part)
        if count and len(files) != n:
            raise ValueError(f"{root/'leftImg8bit'/part} holds {len(files)} images; the official part has {n}: "
                             "count=False takes them as they are")
        parts[part] = Pairs(readable(files), table, image_size, whole=part != 'train')
        _check_table(parts[part])
    return dict(parts, classes=list(classes), palette=palette)
