"""ImageNet (ILSVRC 2012): 1,281,167 images for training and 50,000 for validation in 1,000 classes.

Source: image-net.org, for research and after registration: this recipe reads an official download and never fetches
one.
Layout: `train/n01440764/*.JPEG` and `val/n01440764/*.JPEG` (the validation images sorted into class folders, as the
usual
script does).
Split: the official one; the validation part is the test set. Checks: 1,000 class folders of the same names in both
parts."""
from pathlib import Path
from .files import folders_in
from .image_folder import load as _load

def load(root, image_size: int = 224):
    "(train, test): data sets of float images (3, image_size, image_size) and labels."
    root = Path(root)
    for part in ('train', 'val'):
        if not (root/part).is_dir(): raise ValueError(f"{root} needs the folders train and val; {part} is missing")
        n = len(folders_in(root/part))
        if n != 1000:
            raise ValueError(f"{root/part} has {n} class folders; ImageNet has 1000 (are the validation images sorted "
                             "into class folders?)")
    return _load(root, image_size)
