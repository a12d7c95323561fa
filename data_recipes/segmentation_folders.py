"""Any pair of folders of images and masks, and a list of classes: `images/a.jpg` with `masks/a.png`, and
`classes.txt` with the name of a class a line, the first for label 0.

Split: the folders `train` and `test` (or `val`) with `images` and `masks` in each where they are there; else a fifth
of the pairs, drawn by `seed`, is for testing.
A mask is a picture with one channel of labels; 255 is ignored. Masks in colour need a table of colours, given or a file
of the folder, whose order is that of the labels (`colours`). Masks that hold nothing but 0 and 255 are of two classes,
which is said. Images are read as `pictures` says: any mode, upright,
what is transparent on white; masks are taken as they are. Pixels of images are normalised by ImageNet's mean and
deviation. With `image_size` pairs are resized to it, the masks of the test part are not.
Left out, with one warning that lists all: pairs of which the image or the mask cannot be read. Where all images are
more than 1 GiB they are not read beforehand; one that turns out to be damaged later is warned of, and another pair
takes its place.
Checks: each image has a mask and each mask an image, both of one size; all pairs of one size where they are not
resized; a mask with a label that the list has no class for is named when it is read."""
import warnings
from pathlib import Path
import numpy as np, torch
from torch.utils.data import Dataset
from . import colours
from .files import LeftOut, faults, files_below, first_usable, left_out, noted_transparency, text_of
from .image_folder import mean, std
from .pictures import as_it_is, opened, size_of, suffixes

ignored = 255

def label_table(known: dict) -> np.ndarray:  # known: label in a file -> class, or 255 for what is ignored
    "256 entries, label in a file -> class; -1 for a label that is unknown."
    table = np.full(256, -1, np.int16)
    table[list(known)] = list(known.values())
    return table

def _ranges(numbers) -> str:
    "Numbers as text: 0 to 10, 255."
    ranges = []
    for number in sorted(numbers):
        if ranges and number == ranges[-1][1] + 1: ranges[-1][1] = number
        else: ranges.append([number, number])
    return ', '.join(str(first) if first == last else f'{first} to {last}' for first, last in ranges)

# ---------------------------------------------------------------- pictures

def _by(size: tuple) -> str: return f'{size[0]} x {size[1]}'

def _sizes(files: list, resized: bool) -> list:
    "The size of each pair. ValueError for a pair of two sizes, and for pairs of different sizes that are not resized."
    sizes = []
    for image, mask in files:
        size, other = size_of(image), size_of(mask, turned=False)
        if size != other:
            raise ValueError(f"{image} and its mask {mask} differ in size: {_by(size)} and {_by(other)}")
        sizes.append(size)
        if resized or size == sizes[0]: continue
        raise ValueError(f"{files[0][0]} and {image} differ in size, {_by(sizes[0])} and {_by(size)}: "
                         "give image_size=(height, width)")
    return sizes

def _of_grey(labels: np.ndarray, path) -> np.ndarray:
    "The one channel of a mask that has several alike. ValueError for one in colour."
    channels = labels[..., :3] if labels.shape[-1] > 2 else labels[..., :1]
    if (channels == channels[..., :1]).all(): return channels[..., 0]
    raise ValueError(f"{path} is a colour picture: say what its colours are, by colours={{name: (r, g, b)}} or a file "
                     "with a class and its colour a line (class_dict.csv); or give masks with one channel, of labels")

def _check_grey(path):
    "ValueError for a mask in colour."
    labels = np.asarray(as_it_is(path))
    if labels.ndim == 3: _of_grey(labels, path)

def seen_in(files: list, most: int = 200) -> set:
    "The labels in masks; of many, evenly spaced ones are looked at. Those that cannot be read are left to others."
    found = set()
    for _, mask in files[::max(1, len(files) // most)]:
        try: labels = np.asarray(as_it_is(mask))
        except ValueError: continue
        found |= set(np.unique(labels.astype(np.int32) if labels.dtype == bool else labels).tolist())
        if len(found - {0, ignored}): break
    return found

def palette_in(mask) -> list | None:
    "The colours (r, g, b) that a mask shows its labels in; None where it has none."
    colours = as_it_is(mask).getpalette()
    return None if not colours else [tuple(colours[3*i:3*i + 3]) for i in range(len(colours) // 3)]

# ---------------------------------------------------------------- pairs of them

class Pairs(Dataset):
    "Images and masks on disk: items are (float image (3, H, W), labels (H, W)), 255 where a pixel is ignored."
    def __init__(self,
        files: list,                # (image, mask) pairs
        table,                      # As of `label_table`; or of colours, as of `colours.table_given`
        image_size: tuple = None,   # (H, W) to resize to
        whole: bool = False         # Are masks left at the size they have?
    ):
        self.files, self.table, self.image_size, self.whole, self.kept = files, table, image_size, whole, {}
        self.bad = set()            # Numbers of those that could not be read
        sizes = self._sizes()
        pixels = sum(width * height for width, height in (sizes if image_size is None else [image_size]*len(sizes)))
        self.keep = 4 * pixels < 2**29  # so little fits into memory

    def _sizes(self) -> list:
        "The size (width, height) of each pair. ValueError for what does not fit together."
        return _sizes(self.files, self.image_size is not None)

    def __len__(self): return len(self.files)

    def mask(self, i) -> np.ndarray:
        "Classes (H, W), uint8, at the size the mask has. ValueError naming one that is none or has an unknown label."
        path = self.files[i][1]
        if isinstance(self.table, dict): return colours.labels_of(path, self.table)
        labels = np.asarray(as_it_is(path))
        if labels.dtype == bool: labels = labels.astype(np.uint8)  # one bit a pixel
        if labels.ndim != 2: labels = _of_grey(labels, path)
        seen = np.unique(labels).tolist()
        bad = [label for label in seen if not 0 <= label <= 255 or self.table[label] < 0]
        if bad: raise ValueError(f"{path} has label {bad[0]}; {self._known()}")
        return self.table[labels].astype(np.uint8)

    def _known(self) -> str:
        "What labels there are, in words."
        used = [label for label in range(256) if 0 <= self.table[label] < ignored]
        out = [label for label in range(256) if self.table[label] == ignored]
        classes = {int(self.table[label]) for label in used}
        return (f"the list of {len(classes)} classes knows labels {_ranges(used)}, and {_ranges(out)} for what is "
                "ignored")

    def _read(self, i) -> tuple:
        "Bytes (3, H, W) of an image and labels (H, W) of its mask, resized."
        from PIL import Image
        image, mask = opened(self.files[i][0]), Image.fromarray(self.mask(i))
        if self.image_size is not None:
            size = self.image_size[::-1]
            image = image.resize(size, Image.Resampling.BILINEAR)
            if not self.whole: mask = mask.resize(size, Image.Resampling.NEAREST)
        return torch.from_numpy(np.array(image)).permute(2, 0, 1), torch.from_numpy(np.array(mask))

    def __getitem__(self, i):
        from torchvision.transforms.functional import normalize
        order = (*range(i, len(self)), *range(i))
        found = first_usable(order, self._once, self.bad, "another pair takes its place")
        if found is None: raise ValueError(f"none of {len(self)} pairs can be read, e.g. {self.files[i][0]}")
        x, y = found
        return normalize(x.float() / 255, mean, std), y.long()

    def _once(self, i) -> tuple:
        "What `_read` says, from memory where it is kept."
        found = self.kept[i] if i in self.kept else self._read(i)
        if self.keep: self.kept[i] = found
        return found

    def counts(self) -> torch.Tensor:
        "Pixels of each label, (256,), over all masks, each of which is read."
        masks = (self.mask(i).ravel() for i in range(len(self)))
        return sum(torch.from_numpy(np.bincount(mask, minlength=256)) for mask in masks)

def _named(folder: Path, ending: str = '') -> dict:
    "Pictures below a folder by their paths from there, without suffix and ending."
    if not folder.is_dir(): raise ValueError(f"{folder} is not a folder")
    found = {}
    for file in files_below(folder, suffixes):
        if not file.stem.endswith(ending): continue
        name = str(file.relative_to(folder).with_suffix('')).removesuffix(ending)
        if name in found: raise ValueError(f"{found[name]} and {file} have the same name")
        found[name] = file
    return found

def paired(images, masks, ending: str = '') -> list:  # ending: what a mask's name has more than its image's
    "Images and masks of the same name below two folders, as (image, mask). ValueError naming one that stands alone."
    images, masks = Path(images), Path(masks)
    seen, true = _named(images), _named(masks, ending)
    if not seen: raise ValueError(f"{images} holds no images ({', '.join(suffixes)})")
    if alone := sorted(set(seen) - set(true)):
        raise ValueError(f"{seen[alone[0]]} has no mask in {masks} ({len(alone)} of {len(seen)} images have none)")
    if alone := sorted(set(true) - set(seen)):
        raise ValueError(f"{true[alone[0]]} has no image in {images} ({len(alone)} of {len(true)} masks have none)")
    return [(seen[name], true[name]) for name in sorted(seen)]

def readable_images(pairs: list, folder) -> list:
    "The pairs whose image can be read, with one warning that lists the others; where they are many, all of them."
    bad = faults([image for image, _ in pairs], opened)
    left_out(folder, list(bad.values()))
    return [pair for pair in pairs if pair[0] not in bad]

def readable(pairs: list) -> list:
    "The pairs of which both can be read, with one warning that lists the others; where they are many, all of them."
    bad = faults([image for image, _ in pairs], opened) | faults([mask for _, mask in pairs], as_it_is)
    left_out(Path(pairs[0][0]).parent, list(bad.values()))
    used = [pair for pair in pairs if not bad.keys() & set(pair)]
    noted_transparency([image for image, _ in used])
    return used

# ---------------------------------------------------------------- classes, and a folder as a whole

def _read_classes(path: Path) -> list:
    "The lines of a class list."
    if not path.is_file():
        raise ValueError(f"there is no class list {path}: write the name of a class a line, the first for label 0")
    names = [line.strip() for line in text_of(path).splitlines() if line.strip()]
    if len(names) < 2: raise ValueError(f"{path} names {len(names)} classes; there are at least two")
    return names

def class_list(classes) -> list:
    "Names of classes, given as such or in a file with one a line."
    names = _read_classes(Path(classes)) if isinstance(classes, (str, Path)) else list(map(str, classes))
    where = f'{classes}: ' if isinstance(classes, (str, Path)) else ''
    if not 2 <= len(names) < ignored:
        raise ValueError(f"{where}there are 2 to {ignored - 1} classes; found {len(names)}")
    if twice := sorted(name for name in names if names.count(name) > 1):
        raise ValueError(f"{where}each class has a name of its own; found {twice[0]!r} twice")
    return names

def split(pairs: list, seed: int, folder=None) -> list:
    "Four fifths of the pairs to train with, and a fifth to test with."
    if len(pairs) < 5:
        raise ValueError(f"{folder or pairs[0][0].parent} holds {len(pairs)} pairs; at least 5 are needed, "
                         "4 of them to train with")
    order = torch.randperm(len(pairs), generator=torch.Generator().manual_seed(seed)).tolist()
    n = max(1, len(order)//5)
    return [[pairs[i] for i in sorted(part)] for part in (order[n:], order[:n])]

def _parts(root: Path, seed: int) -> list:
    "Pairs to train and to test with."
    if not root.is_dir(): raise ValueError(f"{root} is not a folder")
    held = next((root/name for name in ('test', 'val') if (root/name).is_dir()), None)
    if not (root/'train').is_dir() or held is None: return split(readable(paired(root/'images', root/'masks')), seed)
    return [readable(paired(part/'images', part/'masks')) for part in (root/'train', held)]

def _two_classes(files: list, names) -> bool:
    "Whether masks are of two classes, 0 and 255; it is said."
    if names is not None and len(names) != 2 or seen_in(files) != {0, ignored}: return False
    said = names or ['background', 'foreground']
    text = f"the masks hold nothing but 0 and 255: 0 is read as {said[0]}, 255 as {said[1]}"
    warnings.warn(text, LeftOut, stacklevel=4)
    return True

def of_pairs(train: list, test: list, classes=None, image_size: tuple = None, table: dict = None) -> dict:
    "dict(train, test, classes, perhaps palette) of pairs (image, mask); classes: names or a file; table: of colours."
    if table is not None:
        names = colours.classes_of(table)
        known = class_list(classes) if classes is not None else names
        if known != names:
            raise ValueError(f"the colours are of the classes {', '.join(names)}; found {', '.join(known)}")
        more = dict(palette=colours.palette_of(table))
    else:
        names, more = None if classes is None else class_list(classes), {}
        two = _two_classes(train + test, names)
        if names is None and not two:
            raise ValueError(f"nobody says what the labels of {train[0][1]} mean: give the names of the classes")
        names = names or ['background', 'foreground']
        table = label_table({0: 0, ignored: 1} if two else {i: i for i in range(len(names))} | {ignored: ignored})
        palette = palette_in(train[0][1])
        if palette and len(palette) >= len(names): more = dict(palette=palette[:len(names)])
    return dict(train=Pairs(train, table, image_size), test=Pairs(test, table, image_size, whole=True),
                classes=names, **more)

def load(
    root,           # A folder with images, masks and classes.txt, or a pair (folder of images, folder of masks)
    classes=None,   # Names in the order of labels, or a file with one a line; default: classes.txt
    image_size: tuple = None, seed: int = 0,
    table: dict = None # Of colours, name -> (r, g, b); default: a file of the folder that has one
) -> dict:
    "dict(train, test: data sets of (float image (3, H, W), labels (H, W)); classes: their names; perhaps palette)."
    if isinstance(root, (tuple, list)):
        train, test = split(readable(paired(*root)), seed)
        if classes is None and table is None and seen_in(train) != {0, ignored}:
            raise ValueError("a pair of folders needs its classes: give their names, or a file with one a line")
    else:
        root = Path(root)
        train, test = _parts(root, seed)
        if table is None: table = colours.found_in(root)
        if classes is None and table is None and (root/'classes.txt').is_file(): classes = root/'classes.txt'
        if classes is None and table is None and seen_in(train) != {0, ignored}:
            _check_grey(train[0][1])
            _read_classes(root/'classes.txt')
    return of_pairs(train, test, classes, image_size, table)
