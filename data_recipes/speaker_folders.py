"""Any folder of recordings in one folder a speaker: `anna/1.wav`, `ben/session2/2.flac`.

Split: the speakers of a trial list (VoxCeleb's form, `1 anna/1.wav anna/2.wav`: 1 for the same speaker, paths from
the
folder) are for testing, all others for training; without a list, a quarter of the speakers, drawn by `seed`, with
trials
drawn among their recordings.
Checks: at least two speakers in each part, at least two recordings of each; every recording of the list is there;
recordings are opened when they are read, and a file that is none is named then."""
import random
from pathlib import Path

suffixes = '.wav', '.flac', '.ogg', '.opus', '.mp3', '.aiff', '.aif'
_words = {'1': True, 'target': True, '0': False, 'nontarget': False, 'imposter': False}

def _trial(words: list):
    "A line of a trial list as (whether the same speaker, a, b), in either order; None for what is none."
    if len(words) < 3: return None
    if words[0] in _words: return _words[words[0]], words[1], words[2]
    if words[2] in _words: return _words[words[2]], words[0], words[1]

def read_trials(path, root=None) -> list:
    """A trial list, `1 a b` or `a b target`, as (whether the same speaker, a, b).
    ValueError with the line's number if one is not of this form."""
    trials = []
    for number, line in enumerate(Path(path).read_text(encoding='utf-8').splitlines(), 1):
        if not (words := line.split()): continue
        if (found := _trial(words)) is None:
            raise ValueError(f"{path}, line {number}: a trial is `1 path path` or `path path target`; "
                             f"found {line[:80]!r}")
        same, *files = found
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
    root, found = Path(root), {}
    if not root.is_dir(): raise ValueError(f"{root} is not a folder")
    for folder in sorted(root.iterdir()):
        if not folder.is_dir() or folder.name.startswith('.'): continue
        found |= {str(file): folder.name for file in sorted(folder.rglob('*')) if file.suffix.lower() in suffixes}
    if not found: raise ValueError(f"{root} holds no recordings ({', '.join(suffixes)}) in folders, one a speaker")
    return found

def _of_a_list(path, root: Path, files: dict) -> tuple:
    "Trials of a list, and the speaker of each of their recordings."
    pairs = read_trials(path, root)
    asked = dict.fromkeys(file for _, *both in pairs for file in both)
    if missing := [file for file in asked if file not in files]:
        some = ', '.join(missing[:3]) + (', ...' if len(missing) > 3 else '')
        raise ValueError(f"{len(missing)} of {len(asked)} recordings of {path} are not in {root}: {some}")
    speakers = {file: files[file] for file in asked}
    if wrong := [(a, b) for same, a, b in pairs if same != (speakers[a] == speakers[b])]:
        raise ValueError(f"{path} disagrees with the folders about who speaks, e.g. in {wrong[0][0]} and {wrong[0][1]}")
    return pairs, speakers

def _drawn(of: dict, share: float, seed: int) -> tuple:
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
    root, files = Path(root), scan(root)
    of = by_speaker(files)
    pairs, speakers = _drawn(of, test, seed) if trials is None else _of_a_list(trials, root, files)
    tested = set(speakers.values())
    train = [(file, speaker) for file, speaker in files.items() if speaker not in tested]
    left = {speaker for _, speaker in train}
    if len(left) < 2:
        raise ValueError(f"{root} needs at least two speakers that are not in the trials; "
                         f"found {len(left)} of {len(of)}")
    if few := sorted(speaker for speaker in left if len(of[speaker]) < 2):
        raise ValueError(f"{root/few[0]} needs at least two recordings; found one")
    return dict(train=train, trials=pairs, speakers=speakers)
