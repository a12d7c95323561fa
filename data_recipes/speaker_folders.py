"""Any folder of recordings in one folder a speaker: `anna/1.wav`, `ben/session2/2.flac`.

Split: the speakers of a trial list (VoxCeleb's form, `1 anna/1.wav anna/2.wav`: 1 for the same speaker, paths from
the
folder) are for testing, all others for training; without a list, a quarter of the speakers, drawn by `seed`, with
trials
drawn among their recordings.
Left out, with one warning that lists all: recordings that cannot be read, are empty or silent, speakers with a single
recording, files of other formats. Where all recordings are more than 1 GiB they are not read beforehand; one that turns
out to be damaged later is warned of, and another of its speaker takes its place.
Checks: at least two speakers in each part; every recording of the list is there and can be read."""
import random
from collections import Counter
from pathlib import Path
from .files import (
    Unreadable, faults, fields_of, files_below, folders_in, left_out, lines_of, other_files)

suffixes = '.wav', '.flac', '.ogg', '.opus', '.mp3', '.aiff', '.aif'
_words = {'1': True, 'target': True, '0': False, 'nontarget': False, 'imposter': False}

def _trial(fields: list):
    "Three fields of a trial list as (whether the same speaker, a, b), in either order; None for what is none."
    first, second, third = fields
    if first in _words: return _words[first], second, third
    if third in _words: return _words[third], first, second

def _trials_of(line: str) -> list:
    "The ways to read a line as a trial, likely ones first; more than three words may be one with something behind it."
    ways = [trial for fields in fields_of(line, 3) if (trial := _trial(fields)) is not None]
    words = line.split()
    if len(words) > 3 and (trial := _trial(words[:3])) is not None: ways.append(trial)
    return ways

def read_trials(path,
    root=None,  # The folder of the recordings, which is put before their paths
    below=None  # Where they are looked for, if a line can be read in several ways; default: root, or the list's folder
) -> list:
    """A trial list, `1 a b` or `a b target`, as (whether the same speaker, a, b); between them blanks, tabs or commas.
    ValueError with the line's number if one is not of this form."""
    trials, folder = [], Path(below or root or Path(path).parent)
    for number, line in lines_of(path):
        if not (ways := _trials_of(line)):
            raise ValueError(f"{path}, line {number}: a trial is `1 path path` or `path path target`; "
                             f"found {line[:80]!r}")
        there = (way for way in ways if all((folder/file).is_file() for file in way[1:]))
        same, *files = ways[0] if len(ways) == 1 else next(there, ways[0])
        trials.append((same, *(str(file if root is None else Path(root)/file) for file in files)))
    if not trials: raise ValueError(f"{path} has no trials")
    return trials

def by_speaker(speaker_of: dict) -> dict:
    "Recordings of each speaker: speaker -> list."
    found = {}
    for file, speaker in speaker_of.items():
        found.setdefault(speaker, []).append(file)
    return found

def make_trials(speaker_of: dict, n: int, seed: int = 0) -> list:
    "At most `n` pairs of recordings of the same speaker and as many of two speakers, drawn by `seed`: (same, a, b)."
    rng, of = random.Random(seed), by_speaker(speaker_of)
    same = [(True, a, b) for files in of.values() for i, a in enumerate(files) for b in files[i+1:]]
    same = rng.sample(same, min(n, len(same)))
    files, others = list(speaker_of), set()
    most = (len(files)**2 - sum(len(mine)**2 for mine in of.values())) // 2  # pairs of two speakers
    while len(others) < min(len(same), most):
        a, b = rng.sample(files, 2)
        if speaker_of[a] != speaker_of[b] and (b, a) not in others: others.add((a, b))
    return same + [(False, a, b) for a, b in sorted(others)]

def scan(root) -> dict:
    "Every recording under a folder, path -> speaker: the name of the folder right below it."
    root = Path(root)
    if not root.is_dir(): raise ValueError(f"{root} is not a folder")
    found = {str(file): folder.name for folder in folders_in(root) for file in files_below(folder, suffixes)}
    if not found: raise ValueError(f"{root} holds no recordings ({', '.join(suffixes)}) in folders, one a speaker")
    return found

def check_recording(path):
    "Unreadable, a ValueError, that names a recording that cannot be read, is empty, or silent."
    import numpy as np, soundfile
    try: samples, _ = soundfile.read(str(path), dtype='float32')
    except (soundfile.LibsndfileError, OSError, RuntimeError) as error:
        raise Unreadable(f"{path} cannot be read as a recording ({type(error).__name__})") from None
    if not samples.size: raise Unreadable(f"{path} is empty")
    if not np.isfinite(samples).all(): raise Unreadable(f"{path} has samples that are no numbers")
    if np.abs(samples).max() < 1e-7: raise Unreadable(f"{path} is silent")

def _usable(root: Path, asked: set) -> dict:
    "Recordings that can be used, path -> speaker; the others are warned of. Those that a list asks for all stay."
    files = scan(root)
    bad = faults([file for file in files if file not in asked], check_recording)
    of = by_speaker({file: speaker for file, speaker in files.items() if file not in bad})
    alone = {speaker for speaker, mine in of.items() if len(mine) < 2 and not asked & set(mine)}
    kinds = Counter(path.suffix for folder in folders_in(root) for path in other_files(folder, suffixes))
    reasons = list(bad.values())
    reasons += [f"{root/speaker} needs at least two recordings; found one" for speaker in sorted(alone)]
    reasons += [f"{n} files {kind}, a format that is not read" for kind, n in sorted(kinds.items())]
    left_out(root, reasons)
    used = {file: speaker for file, speaker in files.items() if file not in bad and speaker not in alone}
    if not used: raise ValueError(f"none of {len(files)} recordings in {root} can be used, e.g. {reasons[0]}")
    return used

def _of_a_list(path, root: Path, pairs: list, files: dict) -> dict:
    "The speaker of each recording of a list of trials. ValueError for one that is not there, or of another speaker."
    asked = dict.fromkeys(file for _, *both in pairs for file in both)
    if missing := [file for file in asked if file not in files]:
        some = ', '.join(missing[:3]) + (', ...' if len(missing) > 3 else '')
        raise ValueError(f"{len(missing)} of {len(asked)} recordings of {path} are not in {root}: {some}")
    speakers = {file: files[file] for file in asked}
    if wrong := [(a, b) for same, a, b in pairs if same != (speakers[a] == speakers[b])]:
        raise ValueError(f"{path} disagrees with the folders about who speaks, e.g. in {wrong[0][0]} and {wrong[0][1]}")
    return speakers

def drawn_trials(of: dict, share: float, seed: int) -> tuple:
    "Trials among a share of the speakers, and the speaker of each of their recordings."
    names = sorted(of)
    random.Random(seed).shuffle(names)
    held = names[:max(2, round(share * len(names)))]
    speakers = {file: speaker for speaker in sorted(held) for file in of[speaker]}
    return make_trials(speakers, 5000, seed), speakers

def load(
    root,
    trials=None,        # A list; default: they are drawn
    test: float = .25,  # Share of the speakers that trials are drawn of
    seed: int = 0
) -> dict:
    "dict(train: [(path, speaker)], trials: [(same, path, path)], speakers: {path of a trial: speaker})."
    root = Path(root)
    pairs = [] if trials is None else read_trials(trials, root)
    files = _usable(root, {file for _, *both in pairs for file in both})
    of = by_speaker(files)
    if trials is None: pairs, speakers = drawn_trials(of, test, seed)
    else: speakers = _of_a_list(trials, root, pairs, files)
    tested = set(speakers.values())
    train = [(file, speaker) for file, speaker in files.items() if speaker not in tested]
    left = {speaker for _, speaker in train}
    if len(left) < 2:
        raise ValueError(f"{root} needs at least two speakers that are not in the trials; "
                         f"found {len(left)} of {len(of)}")
    return dict(train=train, trials=pairs, speakers=speakers)
