"""Cityscapes (Cordts et al., 2016): street scenes of 1024 x 2048 in 19 classes; get it from its authors (cityscapes-dataset.com), whose terms allow non-commercial use. Nothing is downloaded here.

Layout: the official one, `leftImg8bit/train/CITY/*_leftImg8bit.png` with `gtFine/train/CITY/*_gtFine_labelIds.png`, and so with `val`.
Split: the official 2,975 for training and 500 for validation, which is what is tested on: labels of the official test part are not public.
Labels: 34 ids become 19 classes by the authors' table (id -> trainId), all others are ignored. Where `*_labelTrainIds.png` lie beside the masks, the first of each part is compared with what the table gives.
Checks: those of `segmentation_folders`; the number of images where `count` is left on."""
from pathlib import Path
import numpy as np
from .segmentation_folders import Pairs, ignored, label_table, paired, read

classes = ('road', 'sidewalk', 'building', 'wall', 'fence', 'pole', 'traffic light', 'traffic sign', 'vegetation', 'terrain', 'sky', 'person', 'rider', 'car', 'truck', 'bus', 'train', 'motorcycle', 'bicycle')
palette = ((128, 64, 128), (244, 35, 232), (70, 70, 70), (102, 102, 156), (190, 153, 153), (153, 153, 153), (250, 170, 30), (220, 220, 0), (107, 142, 35), (152, 251, 152), (70, 130, 180), (220, 20, 60), (255, 0, 0), (0, 0, 142), (0, 0, 70), (0, 60, 100), (0, 80, 100), (0, 0, 230), (119, 11, 32))
ids = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33) # of the classes, in their order
table = label_table({k: ignored for k in [*range(34), 255]} | {k: c for c,k in enumerate(ids)})

def is_here(root) -> bool:
    "Whether a folder has this layout."
    return (Path(root)/'leftImg8bit').is_dir() or (Path(root)/'gtFine').is_dir()

def load(root, image_size: tuple = (512, 1024), # None: as they are
         count: bool = True) -> dict:
    "dict(train, val: data sets of (float image (3, H, W), labels (H, W)); classes, palette); `count=False` takes a part of the data."
    root, parts = Path(root), {}
    for part,n in (('train', 2975), ('val', 500)):
        images, masks = root/'leftImg8bit'/part, root/'gtFine'/part
        for p in (images, masks):
            if not p.is_dir(): raise ValueError(f"{root} needs the folder {p.relative_to(root)}, which is missing")
        a, b = ({str(f.relative_to(d))[:-len(end)]: f for f in sorted(d.glob(f'*/*{end}'))} for d,end in ((images, '_leftImg8bit.png'), (masks, '_gtFine_labelIds.png')))
        if not a: raise ValueError(f"{images} holds no images CITY/*_leftImg8bit.png")
        if alone := sorted(set(a) ^ set(b)): raise ValueError(f"{a.get(alone[0]) or b[alone[0]]} has no {'mask' if alone[0] in a else 'image'} in {masks if alone[0] in a else images}")
        if count and len(a) != n: raise ValueError(f"{images} holds {len(a)} images; the official part has {n}: count=False takes them as they are")
        files = [(a[k], b[k]) for k in sorted(a)]
        parts[part] = Pairs(files, table, image_size, whole=part != 'train')
        other = Path(str(files[0][1]).replace('labelIds', 'labelTrainIds'))
        if other.is_file() and not np.array_equal(np.asarray(read(other)), parts[part].mask(0)): raise ValueError(f"{other} does not hold what {files[0][1].name} says by the authors' table: one of the two was made otherwise")
    return dict(parts, classes=list(classes), palette=palette)
