"""Data sets of Hugging Face's `datasets`, or a dict of those, one a part: pictures, masks and voices in their columns.

The package is not needed here: a data set is known by its `column_names` and `features`, and a feature by the name of
its class (Image, Audio, ClassLabel). Items are read when they are asked for.
Split: the parts of a dict where they are there; else a fifth of the rows (of masks), or of the speakers a quarter,
drawn by `seed`, is for testing. Speakers that are in several parts are put together first and drawn then."""
from collections.abc import Mapping
from pathlib import Path
from .pictures import Source, normal
from .segmentation_folders import of_pairs, split
from .speaker_folders import by_speaker, drawn_trials, make_trials

parts = dict(train='train', training='train', test='test', testing='test', val='valid', valid='valid',
             validation='valid', dev='valid')  # what people call them
_pictures = 'image', 'img', 'pixel_values', 'picture', 'photo'
_masks = 'mask', 'label', 'annotation', 'segmentation', 'labels', 'annotations', 'segmentation_mask', 'semantic'
_speakers = 'speaker', 'speaker_id', 'speaker_name', 'client_id', 'spk', 'spk_id', 'label', 'id'

# ---------------------------------------------------------------- what columns there are

def is_columns(data) -> bool:
    "Whether data are a table of Hugging Face's, by what they offer."
    return hasattr(data, 'column_names') and hasattr(data, 'features')

def kinds_of(data) -> dict:
    "The kind of each column: title -> name of the class of its feature."
    return {title: type(data.features[title]).__name__ for title in data.column_names}

def _first(data):
    "A data set, or the first one of a dict, a list or a tuple; None where there is none of columns."
    some = list(data.values()) if isinstance(data, dict) else data if isinstance(data, (list, tuple)) else [data]
    return some[0] if some and is_columns(some[0]) else None

def _of_kind(data, kind: str) -> list:
    "The titles of the columns of a kind."
    return [title for title, found in kinds_of(data).items() if found == kind]

def has_masks(data) -> bool:
    "Whether rows have two pictures, one of which may be the mask of the other."
    return (first := _first(data)) is not None and len(_of_kind(first, 'Image')) > 1

def has_voices(data) -> bool:
    "Whether rows have sound."
    return (first := _first(data)) is not None and bool(_of_kind(first, 'Audio'))

def _called(titles: list, known: tuple, otherwise):
    "The title that is first among known words, else another one."
    return next((word for word in known if word in titles), otherwise)

def _parts(data) -> dict:
    "Data sets by their part, all under None where there is one."
    if not isinstance(data, dict): return {None: data}
    if strange := [name for name in data if str(name).lower() not in parts]:
        raise ValueError(f"a dict of data has the parts train, test and perhaps valid; found {strange[0]}")
    return {parts[str(name).lower()]: one for name, one in data.items()}

# ---------------------------------------------------------------- pictures

class Item(Source):
    "A picture of a data set, read when it is asked for."
    def __init__(self, dataset, i: int, key): self.dataset, self.i, self.key = dataset, i, key
    def __str__(self): return f'item {self.i} of the data'
    def picture(self):
        "The picture as PIL has it, as it is. ValueError for what is none."
        from PIL import Image
        found = self.dataset[self.i][self.key]
        if isinstance(found, dict): found = found.get('path') or found.get('array')
        if isinstance(found, (str, Path)): return Image.open(found)
        if isinstance(found, Image.Image): return found.copy()  # whoever reads it closes it
        if hasattr(found, '__array__'): return Image.fromarray(_bytes(found, self))
        raise ValueError(f"{self} has no picture: it is a {type(found).__name__}")
    def read(self):
        "The picture in red, green and blue, upright."
        return normal(self.picture())

def _bytes(array, where):
    "An array as one of bytes, channels last. ValueError for another."
    import numpy as np
    array = np.asarray(array)
    found = f'{array.dtype} {array.shape}'
    if array.ndim == 3 and array.shape[0] in (1, 3) and array.shape[-1] not in (1, 3, 4):
        array = np.moveaxis(array, 0, -1)
    if array.ndim == 3 and array.shape[-1] == 1: array = array[..., 0]
    if array.dtype.kind == 'f' and array.size and 0 <= array.min() and array.max() <= 1:
        array = (255 * array).round().astype(np.uint8)
    if array.dtype == np.uint8 and array.ndim in (2, 3): return array
    raise ValueError(f"{where}: a picture is an array of bytes (H, W, 3), or of floats from 0 to 1; found {found}")

# ---------------------------------------------------------------- masks

def _pairs(data) -> list:
    "The pictures of a data set, each with its mask."
    titles = _of_kind(data, 'Image')
    picture = _called(titles, _pictures, titles[0])
    others = [title for title in titles if title != picture]
    mask = _called(others, _masks, others[0])
    return [(Item(data, i, picture), Item(data, i, mask)) for i in range(len(data))]

def masks(data, classes=None, image_size: tuple = None, seed: int = 0, table: dict = None) -> dict:
    "As `segmentation_folders.load`, of a data set with a picture and a mask a row, or of a dict of parts."
    found = {part: _pairs(one) for part, one in _parts(data).items()}
    held = found.get('test', found.get('valid'))
    if 'train' in found and held is not None: return of_pairs(found['train'], held, classes, image_size, table)
    train, test = split([pair for one in found.values() for pair in one], seed, 'the data set')
    return of_pairs(train, test, classes, image_size, table)

# ---------------------------------------------------------------- voices

class Voices(Mapping):
    "Recordings of data sets by their names, read when they are asked for: as `read_wave` takes them."
    def __init__(self, places: dict): self.places = places  # name -> (data set, number, title)
    def __len__(self): return len(self.places)
    def __iter__(self): return iter(self.places)
    def __getitem__(self, name):
        dataset, i, title = self.places[name]
        found = dataset[i][title]
        if hasattr(found, 'get_all_samples'):  # a decoder, as newer versions give
            samples = found.get_all_samples()
            return dict(array=samples.data.numpy(), sampling_rate=samples.sample_rate)
        if not isinstance(found, dict) or found.get('array') is not None: return found
        return _decoded(found, name)

def _decoded(found: dict, name: str):
    "What is not decoded, as of Audio(decode=False): its bytes, or its path."
    import io, soundfile
    if found.get('bytes') is None: return found['path']
    try: samples, rate = soundfile.read(io.BytesIO(found['bytes']), dtype='float32', always_2d=True)
    except (soundfile.LibsndfileError, OSError, RuntimeError) as error:
        raise ValueError(f"{name} cannot be read as a recording ({type(error).__name__})") from None
    return dict(array=samples.T, sampling_rate=rate)

def _who(data) -> list:
    "The speaker of each row, as text. ValueError where no column says it."
    titles = list(data.column_names)
    title = _called(titles, _speakers, None)
    if title is None:
        raise ValueError(f"the data set needs a column of speakers, called {', '.join(_speakers[:4])} or the like; "
                         f"found {', '.join(titles)}")
    names = getattr(data.features[title], 'names', None)
    return [names[int(label)] if names else str(label) for label in data[title]]

def _together(found: dict) -> bool:
    "Whether there is no part to test with that has speakers of its own."
    return 'test' not in found or bool(set(found.get('train', {}).values()) & set(found['test'].values()))

def voices(data, seed: int = 0) -> dict:
    "As `speaker_folders.load`, and `waves`, of a data set with sound and a speaker a row, or of a dict of parts."
    places, found = {}, {}
    for part, one in _parts(data).items():
        title, mine = _of_kind(one, 'Audio')[0], found.setdefault(part, {})
        for i, who in enumerate(_who(one)):
            name = f'{part} {i}' if part else f'row {i}'
            places[name], mine[name] = (one, i, title), who
    if _together(found):
        every = {name: who for mine in found.values() for name, who in mine.items()}
        trials, tested = drawn_trials(by_speaker(every), .25, seed)
    else:
        every, tested = found['train'] | found.get('valid', {}) | found['test'], found['test']
        trials = make_trials(tested, 5000, seed)
    apart = set(tested.values())
    train = [(name, who) for name, who in every.items() if who not in apart]
    return dict(train=train, trials=trials, speakers=tested, waves=Voices(places))
