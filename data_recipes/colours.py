"""Masks whose colours are classes: a table of colours, and what a mask says by it.

A table is given as a dict, name -> (r, g, b), or read from a file with a class a line, in any of the usual forms:
`road 128 64 128`, `road,128,64,128` (below a line of titles, as `class_dict.csv`), `road #804080`,
`road:128,64,128::` (as CVAT's `labelmap.txt`; lines that begin with # are notes there). The first line is class 0. A
class that is called void, ignore, ignored or unlabelled is no class: its pixels are ignored.
Colours that are near one another but not in the table are an error that names them: a mask was saved as JPEG, or the
table is of other data."""
import re
from pathlib import Path
import numpy as np
from .files import lines_of
from .pictures import as_it_is, normal

ignored = 255
names_of_files = 'class_dict.csv', 'labelmap.txt', 'colours.txt', 'colors.txt', 'classes.txt'
_alike = re.compile('colou?r|palette|legend|class|label', re.IGNORECASE)
_void = 'void', 'ignore', 'ignored', 'unlabelled', 'unlabeled'
_numbers = r'(?P<r>\d+)[\s,;]+(?P<g>\d+)[\s,;]+(?P<b>\d+)'
_line = re.compile(rf'(?P<name>.+?)[\s,:;]+(?:#(?P<hex>[0-9a-f]{{6}})|{_numbers})[\s:,;]*', re.ASCII | re.IGNORECASE)

def _colour(name: str, value) -> tuple:
    "A colour as three bytes. ValueError that names the class of one that is none."
    try: found = tuple(int(part) for part in value)
    except (TypeError, ValueError): found = ()
    if len(found) == 3 and all(0 <= part <= 255 for part in found): return found
    raise ValueError(f"a colour is (r, g, b), each from 0 to 255; that of {name} is {value!r}")

def _of_line(text: str):
    "A line as a class and its colour; None for what is none."
    found = _line.fullmatch(text)
    if not found: return None
    if found['hex']: return found['name'].strip(), tuple(bytes.fromhex(found['hex']))
    return found['name'].strip(), tuple(int(found[part]) for part in 'rgb')

def read_colours(path) -> dict:
    "The colours in a file, name -> (r, g, b); {} if it names none. ValueError for a line that is not as the others."
    lines = [(number, text) for number, text in lines_of(path) if not text.startswith('#')]
    rows = [(number, text, _of_line(text)) for number, text in lines]
    if not any(row for *_, row in rows): return {}
    if rows[0][2] is None and not re.search(r'\d', rows[0][1]): rows = rows[1:]  # titles
    for number, text, row in rows:
        if row is not None: continue
        raise ValueError(f"{path}, line {number}: a class and its colour, `road 128 64 128`; found {text[:60]!r}")
    return table_given({name: colour for *_, (name, colour) in rows})

def table_given(colours) -> dict:
    "A table, name -> (r, g, b), given as such or in a file. ValueError for one with a colour twice, or with none."
    if not isinstance(colours, dict):
        found = read_colours(colours)
        if not found: raise ValueError(f"{colours} names no colours: a class and its colour a line, `road 128 64 128`")
        return found
    table = {str(name): _colour(name, colour) for name, colour in colours.items()}
    seen = {}
    for name, colour in table.items():
        if colour in seen: raise ValueError(f"{seen[colour]} and {name} have the same colour {colour}")
        seen[colour] = name
    if len(classes_of(table)) > 1: return table
    raise ValueError(f"there are at least two classes with a colour; found {', '.join(table) or 'none'}")

def _files_in(folder: Path) -> list:
    "Files of a folder that may be a table of colours: those of known names, then others that are called alike."
    known = [folder/name for name in names_of_files]
    others = (path for path in sorted(folder.iterdir()) if path.suffix.lower() in ('.csv', '.tsv', '.txt'))
    return known + [path for path in others if path not in known and _alike.search(path.stem)]

def found_in(folder):
    "The table of colours in a folder; None where there is none."
    for path in _files_in(Path(folder)):
        if path.is_file() and (table := read_colours(path)): return table
    return None

def classes_of(table: dict) -> list:
    "The names of the classes of a table: all but what is ignored."
    return [name for name in table if name.lower() not in _void]

def palette_of(table: dict) -> list:
    "The colours of the classes."
    return [table[name] for name in classes_of(table)]

def labels_of(path, table: dict) -> np.ndarray:
    "The classes (H, W) of a coloured mask, uint8. ValueError naming a colour that the table does not have."
    pixels = np.asarray(normal(as_it_is(path), 'RGB', str(path))).astype(np.int32)
    keys = pixels[..., 0] << 16 | pixels[..., 1] << 8 | pixels[..., 2]
    classes = classes_of(table)
    known = {(r << 16 | g << 8 | b): classes.index(name) if name in classes else ignored
             for name, (r, g, b) in table.items()}
    different, where = np.unique(keys, return_inverse=True)
    if strange := [key for key in different.tolist() if key not in known]:
        one = tuple(strange[0] >> shift & 255 for shift in (16, 8, 0))
        hint = ': a mask that was saved as JPEG has colours of its own' if len(strange) > 20 else ''
        raise ValueError(f"{path} has the colour {one}, which the table of {len(table)} colours does not have "
                         f"({len(strange)} colours are like that){hint}")
    return np.array([known[key] for key in different.tolist()], np.uint8)[where].reshape(keys.shape)
