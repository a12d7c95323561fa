"""Pictures with a label, as people have them, in one form: class -> pictures, for each part.

* a folder of class folders (`image_folder`), or a list of several, whose classes are put together;
* a table (.csv, .tsv) with a column of paths and one of labels, and perhaps one that says the part;
* a data set of Hugging Face's `datasets`, or a dict of those: columns of pictures and of labels. The package is not
  needed here: a data set is known by its `column_names` and `features`;
* a data set of torchvision, or any other with `len(data)` and `data[i]` that gives (picture, label), its pictures those
  of PIL, arrays of bytes, or paths;
* a dict of parts, `train`, `test` and perhaps `valid`, or a tuple (train, test), of any of these.
Where there is no part to test with, a fifth of each class, drawn by `seed`, is. Streams are refused: a search goes over
its data in orders of its own."""
import csv
from pathlib import Path
import torch
from .columns import Item, is_columns, kinds_of, parts
from .files import faults, left_out, text_of
from .image_folder import Images, drawn, folder_parts, noted_transparency
from .pictures import opened, size_of

_paths = 'path', 'file', 'filename', 'file_name', 'filepath', 'image', 'img', 'picture', 'name'
_labels = 'label', 'labels', 'class', 'class_name', 'classname', 'category', 'target', 'fine_label', 'species', 'y'
_splits = 'split', 'part', 'set', 'subset', 'fold'

# ---------------------------------------------------------------- tables

def _column(titles: list, known: tuple, path, what: str):
    "The number of the column that is called as one of some words. ValueError where none is."
    for word in known:
        if word in titles: return titles.index(word)
    raise ValueError(f"{path} needs a column of {what}, called {', '.join(known[:4])} or the like; "
                     f"found {', '.join(titles)}")

def _rows(path: Path) -> tuple:
    "The titles of a table, and its rows with their numbers."
    text = text_of(path)
    first = next((line for line in text.splitlines() if line.strip()), '')
    mark = max('\t,;', key=first.count)
    lines = enumerate(csv.reader(text.splitlines(), delimiter=mark), 1)
    rows = [(number, [field.strip() for field in row]) for number, row in lines if any(row)]
    if len(rows) < 2: raise ValueError(f"{path} has no rows")
    titles = [title.lower() for title in rows[0][1]]
    if not set(titles) & {*_paths, *_labels} and len(titles) == 2: return ['path', 'label'], rows  # there are none
    return titles, rows[1:]

def of_table(path) -> dict:
    "Class -> pictures of each part of a table, None for the part where it says none."
    path = Path(path)
    titles, rows = _rows(path)
    at, label = _column(titles, _paths, path, 'paths'), _column(titles, _labels, path, 'labels')
    part = next((titles.index(word) for word in _splits if word in titles), None)
    found = {}
    for number, row in rows:
        place = f'{path}, line {number}'
        if len(row) != len(titles):
            raise ValueError(f"{place}: there are {len(titles)} columns; found {len(row)} fields")
        if not row[label]: raise ValueError(f"{place} has no label")
        file = path.parent/row[at]
        if not file.is_file(): raise ValueError(f"{place}: there is no file {file}")
        where = None if part is None else parts.get(row[part].lower())
        if part is not None and where is None:
            raise ValueError(f"{place}: a part is one of {', '.join(parts)}; found {row[part]!r}")
        found.setdefault(where, {}).setdefault(row[label], []).append(file)
    return _usable(path, found)

def _usable(path: Path, found: dict) -> dict:
    "A table's pictures that can be read, classes in the order of their names; one warning lists the others."
    bad = faults([file for of in found.values() for files in of.values() for file in files], opened)
    left_out(path, list(bad.values()))
    used = {part: {name: [file for file in of[name] if file not in bad] for name in sorted(of, key=_by_number)}
            for part, of in found.items()}
    return {part: {name: files for name, files in of.items() if files} for part, of in used.items()}

def _by_number(label: str) -> tuple:
    "Labels that are numbers in the order of these, and before others."
    return not label.isdecimal(), int(label) if label.isdecimal() else 0, label

# ---------------------------------------------------------------- data sets

def check_no_stream(data):
    "ValueError for what can only be gone through from its beginning."
    is_stream = isinstance(data, torch.utils.data.IterableDataset)
    if not is_stream and hasattr(data, '__len__') and hasattr(data, '__getitem__'): return
    kind = type(data).__name__
    raise ValueError(f"the data are a stream ({kind}), and a search goes over its data in orders of its own: give a "
                     "data set with len(data) and data[i], or write its items to a folder first")

def _of_columns(data) -> dict:
    "Class -> pictures of a data set of Hugging Face's."
    titles = list(data.column_names)
    kinds = kinds_of(data)
    image = next((title for title in titles if kinds[title] == 'Image'), None)
    if image is None: image = titles[_column(titles, _paths, 'the data set', 'pictures')]
    label = next((title for title in titles if kinds[title] == 'ClassLabel'), None)
    if label is None: label = titles[_column(titles, _labels, 'the data set', 'labels')]
    names = getattr(data.features[label], 'names', None)
    return _by_class(data, image, list(data[label]), names)

def _by_class(data, key, labels: list, names: list = None) -> dict:
    "Class -> items of a data set, classes in the order of their labels."
    found = {name: [] for name in names or sorted(set(labels), key=lambda label: (isinstance(label, str), label))}
    for i, label in enumerate(labels):
        name = names[int(label)] if names else label
        found[name].append(Item(data, i, key))
    return {str(name): items for name, items in found.items() if items}

def _of_dataset(data) -> dict:
    "Class -> pictures of a data set of (picture, label)."
    check_no_stream(data)
    if not len(data): raise ValueError("the data set is empty")
    if is_columns(data): return _of_columns(data)
    item = data[0]
    if not isinstance(item, (tuple, list)) or len(item) != 2:
        raise ValueError(f"an item of the data is (picture, label); found {type(item).__name__}")
    labels = getattr(data, 'targets', None)
    labels = [data[i][1] for i in range(len(data))] if labels is None else labels
    names = getattr(data, 'classes', None)
    labels = [label if isinstance(label, str) else int(label) for label in labels]
    are_numbers = all(isinstance(label, int) for label in labels)
    return _by_class(data, 0, labels, list(names) if names and are_numbers else None)

def has_pictures(data) -> bool:
    "Whether the items of a data set are pictures to be prepared, not tensors that are."
    if is_columns(data): return True
    check_no_stream(data)
    if not len(data): return False
    item = data[0]
    return isinstance(item, (tuple, list)) and len(item) == 2 and not isinstance(item[0], torch.Tensor)

# ---------------------------------------------------------------- all of them

def _one(data, seed: int) -> dict:
    "Class -> pictures of each part of what is not a dict; None for a part that is yet to be divided."
    if not isinstance(data, (str, Path)): return {None: _of_dataset(data)}
    path = Path(data)
    if path.is_dir(): return folder_parts(path, seed)
    if path.is_file() and path.suffix.lower() in ('.csv', '.tsv', '.txt'): return of_table(path)
    raise ValueError(f"there is no folder and no table (.csv, .tsv) {data}")

def _whole(data, seed: int) -> dict:
    "Class -> all pictures of something that is one part."
    if isinstance(data, (str, Path)) and Path(data).is_dir(): return folder_parts(Path(data), seed, whole=True)[None]
    return _joined(_one(data, seed).values())

def _joined(several) -> dict:
    "Class -> pictures of several."
    found = {}
    for each in several:
        for name, pictures in each.items(): found.setdefault(name, []).extend(pictures)
    return found

def _several(data: list, seed: int) -> dict:
    "Class -> pictures of each part of several folders, tables or data sets together."
    each = [_one(one, seed) for one in data]
    there = dict.fromkeys(part for one in each for part in one)
    return {part: _joined(one[part] for one in each if part in one) for part in there}

def _named(data: dict, seed: int) -> dict:
    "Class -> pictures of each part of a dict of parts."
    if strange := [name for name in data if str(name).lower() not in parts]:
        found = ', '.join(map(str, strange))
        raise ValueError(f"a dict of data has the parts train, test and perhaps valid; found {found}")
    return {parts[str(name).lower()]: _whole(one, seed) for name, one in data.items()}

def all_parts(data, seed: int = 0) -> dict:
    "Class -> pictures of each part: train, test, perhaps valid."
    if isinstance(data, dict): found = _named(data, seed)
    elif isinstance(data, tuple) and len(data) == 2: found = _named(dict(zip(('train', 'test'), data)), seed)
    elif isinstance(data, list): found = _several(data, seed)
    else: found = _one(data, seed)
    if 'test' not in found and 'valid' in found: found['test'] = found.pop('valid')
    if None in found or 'test' not in found:
        both = drawn(_joined([found.pop(None, {}), found.pop('train', {})]), seed)
        found = dict(found, train=both[0]) | ({} if 'test' in found else dict(test=both[1]))
        if not found['test']: raise ValueError("there is no class with two pictures, one of which could be tested with")
    if 'train' not in found: raise ValueError("there is no part to train with")
    return found

def usual_size(pictures: list) -> int:
    "The size that suits pictures: the median of their shorter sides, in steps of 16, from 32 to 128."
    some = pictures[::max(1, len(pictures) // 100)]
    shorter = sorted(min(size_of(picture)) for picture in some)
    return min(128, max(32, shorter[len(shorter) // 2] // 16 * 16))

def load(data, image_size: int = None, seed: int = 0) -> dict:
    "dict(train, test, perhaps valid: data sets of float images (3, size, size), labels); the size is theirs if None."
    found = all_parts(data, seed)
    names = list(found['train'])
    if len(names) < 2:
        raise ValueError(f"classification needs at least two classes; found {len(names)}: {', '.join(names)}")
    for part, of in found.items():
        if strange := [name for name in of if name not in found['train']]:
            raise ValueError(f"the {part} data have the class {strange[0]}, which the training data have no picture of")
    size = image_size or usual_size([one for mine in found['train'].values() for one in mine])
    def images(of):
        files = [one for name in names for one in of.get(name, [])]
        return Images(files, [label for label, name in enumerate(names) for _ in of.get(name, [])], names, size)
    every = [one for of in found.values() for mine in of.values() for one in mine]
    noted_transparency([one for one in every if not isinstance(one, Item)])
    return {part: images(of) for part, of in found.items()}
