"""COCO's annotations: a JSON file of images, categories and objects, whose outlines become masks.

Source: the format of "Microsoft COCO: Common Objects in Context", T.-Y. Lin et al., 2014; many tools write it. Found
are `annotations/instances_train*.json` and `..._val*.json` with images in `train*`, `val*` or `images` (as COCO's own),
a `_annotations.coco.json` or `annotations.json` in each of `train` and `valid`, `val` or `test` (as Roboflow's), or one
JSON file in the folder or in `annotations`: a fifth of its images, drawn by `seed`, is for testing.
Classes: background, and the categories by their numbers. Outlines are polygons or run lengths, as lists or as COCO's
compressed texts. Where objects overlap, the smaller one is in front. Crowds are ignored.
Checks: each image is there; each object is of a known image and category."""
import json
from pathlib import Path
import numpy as np
from .files import text_of
from .segmentation_folders import Pairs, label_table, readable_images, split

ignored = 255

# ---------------------------------------------------------------- outlines

def _lengths(text: str) -> list:
    "The run lengths of a compressed text: groups of five bits, from the third on differences to the one before last."
    found, at = [], 0
    while at < len(text):
        value, shift, more = 0, 0, True
        while more:
            code = ord(text[at]) - 48
            value |= (code & 31) << shift
            shift, at, more = shift + 5, at + 1, bool(code & 32)
        if code & 16: value -= 1 << shift
        found.append(value + (found[-2] if len(found) > 2 else 0))
    return found

def _of_runs(runs: dict, size: tuple) -> np.ndarray:
    "Whether each pixel (H, W) is of an object, from lengths of runs, column by column, the first of those outside."
    height, width = runs.get('size', size)
    lengths = _lengths(runs['counts']) if isinstance(runs['counts'], str) else runs['counts']
    values = np.repeat(np.arange(len(lengths)) % 2 == 1, lengths)
    if len(values) == height * width: return values.reshape(width, height).T
    raise ValueError(f"run lengths are of {len(values)} pixels, not of {height} x {width}")

def _of_polygons(polygons: list, size: tuple) -> np.ndarray:
    "Whether each pixel (H, W) is of an object, from lists x, y, x, y, ..."
    from PIL import Image, ImageDraw
    picture = Image.new('1', size[::-1])
    for polygon in polygons:
        if len(polygon) >= 6: ImageDraw.Draw(picture).polygon([float(value) for value in polygon], fill=1)
    return np.asarray(picture)

def object_mask(annotation: dict, size: tuple) -> np.ndarray:
    "Whether each pixel (H, W) of an image is of an object."
    outline = annotation.get('segmentation') or []
    return _of_runs(outline, size) if isinstance(outline, dict) else _of_polygons(outline, size)

class Annotated(Pairs):
    "Images and the outlines of their objects: items as of `Pairs`; the second of `files` is (H, W, objects)."
    def _sizes(self):
        "The size (width, height) of each image, as the annotations say."
        return [(mask[1], mask[0]) for _, mask in self.files]

    def mask(self, i) -> np.ndarray:
        "Classes (H, W), uint8."
        height, width, objects = self.files[i][1]
        found, shown = np.zeros((height, width), np.uint8), []
        for annotation, label in objects: shown.append((object_mask(annotation, (height, width)), label))
        for inside, label in sorted(shown, key=lambda pair: -pair[0].sum()): found[inside] = label
        return found

# ---------------------------------------------------------------- files

def _json(path: Path) -> dict:
    "The content of a file of annotations. ValueError for what is none."
    try: found = json.loads(text_of(path))
    except json.JSONDecodeError as error: raise ValueError(f"{path} is no JSON ({error})") from None
    if isinstance(found, dict) and {'images', 'annotations', 'categories'} <= set(found): return found
    raise ValueError(f"{path} holds no annotations as COCO's: it needs images, annotations and categories")

def _looks_so(path: Path) -> bool:
    "Whether the beginning of a file is that of annotations; whole files may be large."
    with open(path, 'rb') as file: head = file.read(2**16)
    if not head.lstrip()[:1] == b'{': return False
    if path.stat().st_size < 2**24:
        try: return {'images', 'annotations', 'categories'} <= set(json.loads(path.read_bytes()))
        except (ValueError, TypeError): return False
    return any(f'"{word}"'.encode() in head for word in ('images', 'annotations', 'licenses'))

def _parts(folder: Path) -> list:
    "Pairs of a file of annotations and the folders its images may be in: of training, and perhaps of testing."
    own = {name: found[0] for name in ('train', 'valid', 'val', 'test')
           if (found := [path for path in sorted((folder/name).glob('*.json')) if _looks_so(path)])}
    held = next((own[name] for name in ('test', 'valid', 'val') if name in own), None)
    if 'train' in own and held: return [(path, [path.parent, path.parent/'images']) for path in (own['train'], held)]
    files = [path for where in (folder, folder/'annotations') for path in sorted(where.glob('*.json'))]
    places = [path for path in files if _looks_so(path)]
    def of(word): return next((path for path in places if word in path.stem.lower()), None)
    train, test = of('train'), of('val') or of('test')
    chosen = [train, test] if train and test and train != test else places[:1]
    below = [path for path in (folder/'images', folder, *sorted(folder.iterdir())) if path.is_dir()]
    return [(path, [*below, *(inner for place in below[:1] for inner in sorted(place.iterdir()) if inner.is_dir())])
            for path in chosen]

def is_here(folder) -> bool:
    "Whether a folder has annotations as COCO's."
    return bool(_parts(Path(folder)))

def _image(places: list, name: str, path: Path) -> Path:
    "The file of an image. ValueError where it is in none of the places."
    for place in places:
        for below in (name, Path(name).name):
            if (place/below).is_file(): return place/below
    raise ValueError(f"{path} names the image {name}, which is not in {places[0]} or the folders beside it")

def _classes(path: Path, facts: dict) -> dict:
    "Number of a category -> its name."
    found = {row['id']: str(row['name']) for row in sorted(facts['categories'], key=lambda row: row['id'])}
    if found and len(found) < ignored - 1: return found
    raise ValueError(f"{path} has {len(found)} categories; there are 1 to {ignored - 2}")

def _pairs(path: Path, places: list, numbers: dict) -> list: # numbers: name of a category -> class
    "Images and what is on them, of those with an object."
    facts = _json(path)
    named, of = _classes(path, facts), {}
    for annotation in facts['annotations']:
        if annotation.get('category_id') not in named:
            raise ValueError(f"{path}: object {annotation.get('id')} is of category {annotation.get('category_id')}, "
                             "which is not among the categories")
        label = ignored if annotation.get('iscrowd') else numbers[named[annotation['category_id']]]
        of.setdefault(annotation['image_id'], []).append((annotation, label))
    if strange := set(of) - {row['id'] for row in facts['images']}:
        one = sorted(strange, key=str)[0]
        raise ValueError(f"{path}: there are objects of image {one}, which is not among the images")
    return [(_image(places, row['file_name'], path), (int(row['height']), int(row['width']), of[row['id']]))
            for row in facts['images'] if row['id'] in of]

def load(folder, names=None, image_size: tuple = None, seed: int = 0, table: dict = None) -> dict:
    "dict(train, test, classes), as of `segmentation_folders.load`."
    folder = Path(folder)
    found = _parts(folder)
    categories = _classes(found[0][0], _json(found[0][0]))
    classes = ['background', *dict.fromkeys(name for name in categories.values() if name.lower() != 'background')]
    numbers = {name: max(0, classes.index(name)) if name in classes else 0 for name in categories.values()}
    parts = [_pairs(path, places, numbers) for path, places in found]
    if len(parts) == 1: parts = split(parts[0], seed, folder)
    train, test = (readable_images(part, folder) for part in parts)
    labels = label_table({label: label for label in range(len(classes))} | {ignored: ignored})
    return dict(train=Annotated(train, labels, image_size), test=Annotated(test, labels, image_size, whole=True),
                classes=classes)
