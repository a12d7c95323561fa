"""Any pair of folders of images and masks, and a list of classes: `images/a.jpg` with `masks/a.png`, and `classes.txt` with the name of a class a line, the first for label 0.

Split: the folders `train` and `test` (or `val`) with `images` and `masks` in each where they are there; else a fifth of the pairs, drawn by `seed`, is for testing.
A mask is a picture with one channel of labels; 255 is ignored. Images are turned as their EXIF data say, masks are taken as they are. Pixels of images are normalised by ImageNet's mean and deviation. With `image_size` pairs are resized to it, the masks of the test part are not.
Checks: each image has a mask and each mask an image, both of one size; all pairs of one size where they are not resized; a file that is no picture, and a mask with a label that the list has no class for, is named when it is read."""
import struct
from pathlib import Path
import numpy as np, torch
from torch.utils.data import Dataset
from .image_folder import mean, std, suffixes

ignored = 255
_damaged = struct.error, KeyError, SyntaxError, TypeError, ValueError # what PIL raises for EXIF data that are none

def label_table(known: dict) -> np.ndarray: # known: label in a file -> class, or 255 for what is ignored
    "256 entries, label in a file -> class; -1 for a label that is unknown."
    table = np.full(256, -1, np.int16)
    table[list(known)] = list(known.values())
    return table

def _ranges(numbers) -> str:
    "Numbers as text: 0 to 10, 255."
    out = []
    for n in sorted(numbers):
        if out and n == out[-1][1] + 1: out[-1][1] = n
        else: out.append([n, n])
    return ', '.join(str(a) if a == b else f'{a} to {b}' for a,b in out)

def upright(im):
    "An image turned as its EXIF data say, where these can be read."
    from PIL import ImageOps
    try: return ImageOps.exif_transpose(im)
    except _damaged: return im

def _upright_size(im) -> tuple:
    "The size that `upright` gives, from the header alone."
    from PIL import Image
    try: return im.size[::-1] if im.format != 'TIFF' and Image.Image.getexif(im).get(0x112) in (5, 6, 7, 8) else im.size # PIL turns TIFF itself, and reads all of a PNG in its own getexif
    except _damaged: return im.size

def read(path, *args):
    "A picture as PIL reads it, whole; where a mode is given, an image of that mode, upright. ValueError naming a file that is missing or damaged."
    from PIL import Image, UnidentifiedImageError
    try:
        with Image.open(path) as im: im.load(); return upright(im).convert(*args) if args else im
    except FileNotFoundError: raise ValueError(f"there is no file {path}") from None
    except (UnidentifiedImageError, OSError, SyntaxError, Image.DecompressionBombError) as e: raise ValueError(f"{path} cannot be read as an image ({type(e).__name__})") from None

class Pairs(Dataset):
    "Images and masks on disk: items are (float image (3, H, W), labels (H, W)), 255 where a pixel is ignored."
    def __init__(self, files: list, table: np.ndarray, image_size: tuple = None, # files: (image, mask) pairs; image_size: (H, W) to resize to
                 whole: bool = False): # Are masks left at the size they have?
        from PIL import Image
        self.files, self.table, self.image_size, self.whole, self.kept = files, table, image_size, whole, {}
        sizes = []
        for a,b in files: # headers only
            for p in (a, b):
                try:
                    with Image.open(p) as im: sizes.append(_upright_size(im) if p is a else im.size)
                except FileNotFoundError: raise ValueError(f"there is no file {p}") from None
                except OSError as e: raise ValueError(f"{p} cannot be read as an image ({type(e).__name__})") from None
            if sizes[-2] != sizes[-1]: raise ValueError(f"{a} and its mask {b} differ in size: {'{} x {}'.format(*sizes[-2])} and {'{} x {}'.format(*sizes[-1])}")
            if image_size is None and sizes[-1] != sizes[0]: raise ValueError(f"{files[0][0]} and {a} differ in size, {'{} x {}'.format(*sizes[0])} and {'{} x {}'.format(*sizes[-1])}: give image_size=(height, width)")
        self.keep = 4 * sum(w * h if image_size is None else image_size[0] * image_size[1] for w,h in sizes[::2]) < 2**29 # so little fits into memory
    def __len__(self): return len(self.files)
    def mask(self, i) -> np.ndarray:
        "Classes (H, W), uint8, at the size the mask has. ValueError naming a mask that is none or has an unknown label."
        path = self.files[i][1]
        m = np.asarray(read(path))
        if m.dtype == bool: m = m.astype(np.uint8) # one bit a pixel
        if m.ndim != 2: raise ValueError(f"{path} is a colour picture; a mask has one channel, of labels")
        seen = np.unique(m)
        if bad := [int(k) for k in seen if k > 255 or k < 0 or self.table[k] < 0]:
            classes, out = sorted({int(c) for c in self.table if 0 <= c < ignored}), [k for k in range(256) if self.table[k] == ignored]
            raise ValueError(f"{path} has label {bad[0]}; the list of {len(classes)} classes knows labels {_ranges(k for k in range(256) if 0 <= self.table[k] < ignored)}, and {_ranges(out)} for what is ignored")
        return self.table[m].astype(np.uint8)
    def _read(self, i):
        from PIL import Image
        im, m = read(self.files[i][0], 'RGB'), Image.fromarray(self.mask(i))
        if self.image_size is not None:
            im = im.resize(self.image_size[::-1], Image.Resampling.BILINEAR)
            if not self.whole: m = m.resize(self.image_size[::-1], Image.Resampling.NEAREST)
        return torch.from_numpy(np.array(im)).permute(2, 0, 1), torch.from_numpy(np.array(m))
    def __getitem__(self, i):
        from torchvision.transforms.functional import normalize
        x, y = self.kept[i] if i in self.kept else self._read(i)
        if self.keep: self.kept[i] = x, y
        return normalize(x.float() / 255, mean, std), y.long()
    def counts(self) -> torch.Tensor:
        "Pixels of each label, (256,), over all masks, each of which is read."
        return sum(torch.from_numpy(np.bincount(self.mask(i).ravel(), minlength=256)) for i in range(len(self)))

def paired(images, masks, ending: str = '') -> list:
    "Images and masks of the same name below two folders, as (image, mask); `ending` is what a mask's name has more. ValueError naming one that stands alone."
    images, masks = Path(images), Path(masks)
    def found(folder, more=''):
        if not folder.is_dir(): raise ValueError(f"{folder} is not a folder")
        out = {}
        for f in sorted(folder.rglob('*')):
            if f.suffix.lower() not in suffixes or not f.stem.endswith(more): continue
            name = str(f.relative_to(folder).with_suffix(''))[:len(str(f.relative_to(folder).with_suffix(''))) - len(more)]
            if name in out: raise ValueError(f"{out[name]} and {f} have the same name")
            out[name] = f
        return out
    a, b = found(images), found(masks, ending)
    if not a: raise ValueError(f"{images} holds no images ({', '.join(suffixes)})")
    if alone := sorted(set(a) - set(b)): raise ValueError(f"{a[alone[0]]} has no mask in {masks} ({len(alone)} of {len(a)} images have none)")
    if alone := sorted(set(b) - set(a)): raise ValueError(f"{b[alone[0]]} has no image in {images} ({len(alone)} of {len(b)} masks have none)")
    return [(a[n], b[n]) for n in sorted(a)]

def class_list(classes) -> list:
    "Names of classes, given as such or in a file with one a line."
    if isinstance(classes, (str, Path)):
        path = Path(classes)
        if not path.is_file(): raise ValueError(f"there is no class list {path}: write the name of a class a line, the first for label 0")
        classes = [l.strip() for l in path.read_text(encoding='utf-8').splitlines() if l.strip()]
        if len(classes) < 2: raise ValueError(f"{path} names {len(classes)} classes; there are at least two")
    classes = list(map(str, classes))
    if not 2 <= len(classes) < ignored: raise ValueError(f"there are 2 to {ignored - 1} classes; found {len(classes)}")
    if len(set(classes)) < len(classes): raise ValueError(f"each class has a name of its own; found {sorted(c for c in classes if classes.count(c) > 1)[0]!r} twice")
    return classes

def load(root, # A folder with images, masks and classes.txt, or a pair (folder of images, folder of masks)
         classes=None, # Names in the order of labels, or a file with one a line; default: classes.txt
         image_size: tuple = None, seed: int = 0) -> dict:
    "dict(train, test: data sets of (float image (3, H, W), labels (H, W)); classes: their names)."
    if isinstance(root, (tuple, list)):
        if classes is None: raise ValueError("a pair of folders needs its classes: give their names, or a file with one a line")
        parts = [paired(*root)]
    else:
        root = Path(root)
        if not root.is_dir(): raise ValueError(f"{root} is not a folder")
        held = next((root/n for n in ('test', 'val') if (root/n).is_dir()), None)
        parts = [paired(p/'images', p/'masks') for p in ([root/'train', held] if (root/'train').is_dir() and held is not None else [root])]
    names = class_list(root/'classes.txt' if classes is None else classes)
    if len(parts) == 1:
        pairs = parts[0]
        if len(pairs) < 5: raise ValueError(f"{pairs[0][0].parent} holds {len(pairs)} pairs; at least 5 are needed, 4 of them to train with")
        order = torch.randperm(len(pairs), generator=torch.Generator().manual_seed(seed)).tolist()
        n = max(1, len(order)//5)
        parts = [[pairs[i] for i in sorted(part)] for part in (order[n:], order[:n])]
    table = label_table({k: k for k in range(len(names))} | {ignored: ignored})
    return dict(train=Pairs(parts[0], table, image_size), test=Pairs(parts[1], table, image_size, whole=True), classes=names)
