"""What all recipes of folders and lists share: files that a person put there, texts in any encoding, lists whose paths
may have blanks in them, and one note for all that is left out."""
import csv, hashlib, warnings
from concurrent.futures import ThreadPoolExecutor
from itertools import combinations
from pathlib import Path

checked = 2**30  # Bytes: so much is read from end to end before anything is computed; of more, files as they are used
_of_machines = '__MACOSX', '@eaDir', '$RECYCLE.BIN', 'lost+found'  # folders that no person made

class Unreadable(ValueError):
    "A file that cannot be used, and which one it is."

class LeftOut(UserWarning):
    "Something of the data cannot be used, or had to be changed."

# ---------------------------------------------------------------- files

def is_hidden(path: Path, below=None) -> bool:
    "Whether a name on the way to a file, from a folder on, begins with a dot or is one that machines give."
    parts = path.parts if below is None else path.relative_to(below).parts
    return any(part.startswith('.') or part in _of_machines for part in parts)

def files_below(folder, suffixes: tuple = ()) -> list:
    "Files below a folder, sorted, of some suffixes (default: any), but for those that programs leave behind."
    folder = Path(folder)
    found = (path for path in folder.rglob('*') if not suffixes or path.suffix.lower() in suffixes)
    return sorted(path for path in found if not is_hidden(path, folder) and path.is_file())

def folders_in(folder) -> list:
    "The folders right below a folder, sorted, but for those that programs leave behind."
    found = (path for path in Path(folder).iterdir() if not is_hidden(path, folder))
    return sorted(path for path in found if path.is_dir())

def other_files(folder, suffixes: tuple) -> list:
    "Files below a folder that are not of these suffixes, but for texts, tables and what programs leave behind."
    silent = '', '.txt', '.csv', '.tsv', '.json', '.xml', '.md', '.db', '.ini', '.py', '.ipynb'
    return [path for path in files_below(folder) if path.suffix.lower() not in (*suffixes, *silent)]

def digest_of(names) -> str:
    "What tells some names from others, in any order."
    return hashlib.sha256('\n'.join(sorted(map(str, names))).encode('utf-8', 'surrogatepass')).hexdigest()[:16]

# ---------------------------------------------------------------- what is left out

def left_out(folder, reasons: list):  # a text for each
    "One warning that lists all that is left out of a folder."
    if reasons: warnings.warn(f"{folder}: {len(reasons)} left out: {'; '.join(reasons)}", LeftOut, stacklevel=3)

def noted_transparency(files: list):
    "A warning for pictures that are transparent; of many, evenly spaced ones are looked at."
    from .pictures import transparent
    if found := transparent(files[::max(1, len(files) // 1000)]):
        warnings.warn(f"{len(found)} images may be transparent, e.g. {found[0]}: they are laid on white", LeftOut,
                      stacklevel=3)

def faults(files: list, read) -> dict:
    "Files that cannot be read from end to end, with the reason: path -> text. None is looked at where they are many."
    if sum(path.stat().st_size for path in map(Path, files)) > checked: return {}
    def fault(path):
        try: read(path)
        except Unreadable as error: return str(error)
    with ThreadPoolExecutor(4) as several: said = several.map(fault, files)
    return {path: text for path, text in zip(files, said) if text is not None}

def first_usable(items, read, bad: set, instead: str, fault=Unreadable, warned=LeftOut):
    """What `read` makes of the first item that can be used, or None; where it raises a `fault`, a warning of a class
    says so once, and the item is kept in `bad`."""
    for item in items:
        if item in bad: continue
        try: return read(item)
        except fault as error:
            bad.add(item)
            warnings.warn(f"{error}; {instead}", warned, stacklevel=3)

# ---------------------------------------------------------------- texts and lists

def text_of(path) -> str:
    "A text in UTF-8 or UTF-16, or else as Windows writes it in the west. ValueError for a file that is not there."
    path = Path(path)
    if not path.is_file(): raise ValueError(f"there is no file {path}")
    raw = path.read_bytes()
    if raw[:2] in (b'\xff\xfe', b'\xfe\xff'): return raw.decode('utf-16', 'replace')
    try: return raw.decode('utf-8-sig')
    except UnicodeDecodeError: return raw.decode('cp1252', 'replace')

def lines_of(path) -> list:
    "Lines of a list that are not empty, with their numbers: (number, text)."
    lines = enumerate(text_of(path).splitlines(), 1)
    return [(number, line.strip()) for number, line in lines if line.strip()]

def _separated(line: str, separator: str) -> list:
    "The fields of a line between separators, quotes around them taken away."
    row = next(csv.reader([line], delimiter=separator, skipinitialspace=True), [])
    return [field.strip() for field in row if field.strip()]

def fields_of(line: str, n: int) -> list:
    """The ways to read a line as `n` fields, likely ones first: between tabs or quotes there is one; blanks and commas
    may be in paths too, so that there are several."""
    if '\t' in line: return [fields] if len(fields := _separated(line, '\t')) == n else []
    if '"' in line:
        ways = (_separated(line, mark) for mark in ' ,;')
        return [fields for fields in ways if len(fields) == n and '"' not in ''.join(fields)]
    words = line.split()
    ways = [words, *(_separated(line, mark) for mark in ',;')]
    if n < len(words) <= 40:
        cuts = (zip((0, *ends), (*ends, len(words))) for ends in combinations(range(1, len(words)), n - 1))
        ways += [[' '.join(words[a:b]) for a, b in cut] for cut in cuts]
    return [fields for i, fields in enumerate(ways) if len(fields) == n and fields not in ways[:i]]
