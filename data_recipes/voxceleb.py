"""VoxCeleb1 and VoxCeleb2 (Nagrani et al., 2017; Chung et al., 2018): speech of celebrities from interviews, CC BY
4.0 for
the metadata; get it from its authors (robots.ox.ac.uk/~vgg/data/voxceleb). Nothing is downloaded here.

Layout, below one folder: `voxceleb1/idXXXXX/VIDEO/NNNNN.wav` (or `voxceleb1/wav/...`),
`voxceleb2/idXXXXX/VIDEO/NNNNN.wav`
(or `voxceleb2/wav/...`, `voxceleb2/dev/...`), the released m4a files converted to 16 kHz mono wav or flac; and the
official
lists as they are named there: `veri_test.txt` (O-original), `veri_test2.txt` (O-cleaned), `list_test_all.txt` and
`list_test_all2.txt` (E), `list_test_hard.txt` and `list_test_hard2.txt` (H).
Split: training on VoxCeleb2's development part (5,994 speakers), or on VoxCeleb1's for the lists O, whose 40 speakers
stand
apart; the lists E and H are of VoxCeleb1's training speakers, so training on those is refused.
Checks: that folders, lists and every recording of a list are there, what is missing is named; the number of trials,
since
mixing up the two O lists is a common mistake, and of speakers; that speakers do not overlap."""
from pathlib import Path
from .files import files_below, folders_in
from .speaker_folders import read_trials, suffixes

lists = {  # name -> file, and how many trials it has
    'O-original': ('veri_test.txt', 37720), 'O-cleaned': ('veri_test2.txt', 37611),
    'E-original': ('list_test_all.txt', 581480), 'E': ('list_test_all2.txt', 579818),
    'H-original': ('list_test_hard.txt', 552536), 'H': ('list_test_hard2.txt', 550894)}
people = dict(voxceleb1=1211, voxceleb2=5994)  # to train on

def _holds_speakers(folder: Path) -> bool:
    return folder.is_dir() and any(below.is_dir() and below.name.startswith('id') for below in folder.iterdir())

def _waves(root: Path, name: str) -> Path:
    "Where the folders idXXXXX of a part are."
    places = [root/name/below for below in ('wav', 'dev/wav', 'dev/aac', 'dev', '')]
    found = next(filter(_holds_speakers, places), None)
    if found is not None: return found
    raise ValueError(f"{root/name} has no folders idXXXXX of recordings (looked in {', '.join(map(str, places))})")

def _part_to_train_on(root: Path, trials: str, train) -> str:
    "voxceleb1 or voxceleb2; ValueError where its speakers are in the trials."
    if trials not in lists: raise ValueError(f"there is no trial list {trials!r}; the lists are {', '.join(lists)}")
    train = train or ('voxceleb2' if (root/'voxceleb2').is_dir() else 'voxceleb1')
    if train not in people: raise ValueError(f"training is on voxceleb1 or voxceleb2; found {train!r}")
    if train == 'voxceleb1' and not trials.startswith('O'):
        raise ValueError(f"the list {trials} is of VoxCeleb1's training speakers: train on voxceleb2")
    return train

def _list(root: Path, trials: str) -> Path:
    "Where a trial list is."
    name, _ = lists[trials]
    path = next((path for path in (root/name, root/'voxceleb1'/name, root/'lists'/name) if path.is_file()), None)
    if path is None: raise ValueError(f"the trial list {trials} is missing: {root/name}")
    return path

def _listed(path: Path, trials: str, waves: Path, count: bool) -> list:
    "The trials of a list: (same, path, path)."
    pairs, (_, n) = read_trials(path, waves), lists[trials]
    if count and len(pairs) != n:
        raise ValueError(f"{path} has {len(pairs)} trials; {trials} has {n}: another list may have its name")
    return pairs

def _as_converted(path: str):
    "A recording with the suffix that it has here; None where there is none."
    path = Path(path)
    return next((file for file in (path, *map(path.with_suffix, suffixes)) if file.is_file()), None)

def _recordings_below(folder: Path, without: set) -> list:
    "(path, speaker) of every recording, but for those of some speakers."
    found = []
    for speaker in folders_in(folder):
        if speaker.name in without: continue
        found += [(str(file), speaker.name) for file in files_below(speaker, suffixes)]
    return found

def load(
    root,
    trials: str = 'O-cleaned',
    train: str = None,      # The part to train on; default: voxceleb2 where there is one
    count: bool = True      # False: a part of the data will do, with another number of trials or speakers
) -> dict:
    "dict(train: [(path, speaker)], trials: [(same, path, path)], speakers: {path of a trial: speaker})."
    root = Path(root)
    train = _part_to_train_on(root, trials, train)
    if not root.is_dir(): raise ValueError(f"{root} is not a folder")
    path, one = _list(root, trials), _waves(root, 'voxceleb1')
    pairs = _listed(path, trials, one, count)
    here = {file: _as_converted(file) for file in dict.fromkeys(file for _, *both in pairs for file in both)}
    if missing := [file for file, found in here.items() if found is None]:
        some = ', '.join(missing[:3]) + (', ...' if len(missing) > 3 else '')
        raise ValueError(f"{len(missing)} of {len(here)} recordings of {trials} are missing: {some}")
    speakers = {str(found): found.relative_to(one).parts[0] for found in here.values()}
    base = one if train == 'voxceleb1' else _waves(root, 'voxceleb2')
    files = _recordings_below(base, set(speakers.values()) if train == 'voxceleb1' else set())
    _check(base, files, people[train] if count else None, train)
    return dict(train=files, trials=[(same, str(here[a]), str(here[b])) for same, a, b in pairs], speakers=speakers)

def _check(base: Path, files: list, wanted, train: str):
    "ValueError for no recordings, and for another number of speakers than is `wanted`."
    if not files:
        raise ValueError(f"{base} holds no recordings ({', '.join(suffixes)}): convert the released m4a files")
    n = len({speaker for _, speaker in files})
    if wanted in (None, n): return
    raise ValueError(f"{base} has recordings of {n} speakers for training; {train} has {wanted}: "
                     "load(..., count=False) trains on what is there")
