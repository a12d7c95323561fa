"""Any folder of recordings in one folder a speaker: `anna/1.wav`, `ben/session2/2.flac`.

Split: the speakers of a trial list (VoxCeleb's form, `1 anna/1.wav anna/2.wav`: 1 for the same speaker, paths from the folder) are for testing, all others for training; without a list, a quarter of the speakers, drawn by `seed`, with
trials drawn among their recordings.
Checks: at least two speakers in each part, at least two recordings of each; every recording of the list is there; recordings are opened when they are read, and a file that is none is named then."""
import random
from pathlib import Path

suffixes = '.wav', '.flac', '.ogg', '.opus', '.mp3', '.aiff', '.aif'

def read_trials(path, root=None) -> list:
    "A trial list, `1 a b` or `a b target`, as (whether the same speaker, a, b); ValueError with the line's number if one is not of this form."
    words = {'1': True, 'target': True, '0': False, 'nontarget': False, 'imposter': False}
    out = []
    for i,line in enumerate(Path(path).read_text(encoding='utf-8').splitlines(), 1):
        if not (parts := line.split()): continue
        if len(parts) >= 3 and parts[0] in words: label, a, b = parts[:3]
        elif len(parts) >= 3 and parts[2] in words: a, b, label = parts[:3]
        else: raise ValueError(f"{path}, line {i}: a trial is `1 path path` or `path path target`; found {line[:80]!r}")
        out.append((words[label], *(str(p if root is None else Path(root)/p) for p in (a, b))))
    if not out: raise ValueError(f"{path} has no trials")
    return out

def make_trials(speaker_of: dict, n: int, seed: int = 0) -> list:
    "At most `n` pairs of recordings of the same speaker and as many of two speakers, drawn by `seed`: (same, a, b)."
    rng, by = random.Random(seed), {}
    for f,s in speaker_of.items(): by.setdefault(s, []).append(f)
    same = [(True, a, b) for fs in by.values() for i,a in enumerate(fs) for b in fs[i+1:]]
    same = rng.sample(same, min(n, len(same)))
    files, other = list(speaker_of), set()
    most = (len(files)**2 - sum(len(v)**2 for v in by.values())) // 2
    while len(other) < min(len(same), most):
        a, b = rng.sample(files, 2)
        if speaker_of[a] != speaker_of[b] and (b, a) not in other: other.add((a, b))
    return same + [(False, a, b) for a,b in sorted(other)]

def scan(root) -> dict:
    "Every recording under a folder, path -> speaker: the name of the folder right below it."
    root = Path(root)
    if not root.is_dir(): raise ValueError(f"{root} is not a folder")
    files = {str(f): d.name for d in sorted(root.iterdir()) if d.is_dir() and not d.name.startswith('.') for f in sorted(d.rglob('*')) if f.suffix.lower() in suffixes}
    if not files: raise ValueError(f"{root} holds no recordings ({', '.join(suffixes)}) in folders, one a speaker")
    return files

def load(root, trials=None, test: float = .25, seed: int = 0) -> dict:
    "dict(train: [(path, speaker)], trials: [(same, path, path)], speakers: {path of a trial: speaker})."
    root, files = Path(root), scan(root)
    by = {}
    for f,s in files.items(): by.setdefault(s, []).append(f)
    if trials is not None:
        pairs = read_trials(trials, root)
        asked = dict.fromkeys(p for _,a,b in pairs for p in (a, b))
        if missing := [p for p in asked if p not in files]: raise ValueError(f"{len(missing)} of {len(asked)} recordings of {trials} are not in {root}: {', '.join(missing[:3])}{', ...' if len(missing) > 3 else ''}")
        speakers = {p: files[p] for p in asked}
        if wrong := [(a, b) for same,a,b in pairs if same != (speakers[a] == speakers[b])]: raise ValueError(f"{trials} disagrees with the folders about who speaks, e.g. in {wrong[0][0]} and {wrong[0][1]}")
    else:
        names = sorted(by)
        random.Random(seed).shuffle(names)
        held = names[:max(2, round(test * len(names)))]
        speakers = {f: s for s in sorted(held) for f in by[s]}
        pairs = make_trials(speakers, 5000, seed)
    train = [(f, s) for f,s in files.items() if s not in set(speakers.values())]
    if len({s for _,s in train}) < 2: raise ValueError(f"{root} needs at least two speakers that are not in the trials; found {len({s for _,s in train})} of {len(by)}")
    if few := [s for s in {s for _,s in train} if len(by[s]) < 2]: raise ValueError(f"{root/sorted(few)[0]} needs at least two recordings; found one")
    return dict(train=train, trials=pairs, speakers=speakers)
