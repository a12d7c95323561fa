"""VoxCeleb1 and VoxCeleb2 (Nagrani et al., 2017; Chung et al., 2018): speech of celebrities from interviews, CC BY 4.0 for the metadata; get it from its authors (robots.ox.ac.uk/~vgg/data/voxceleb). Nothing is downloaded here.

Layout, below one folder: `voxceleb1/idXXXXX/VIDEO/NNNNN.wav` (or `voxceleb1/wav/...`), `voxceleb2/idXXXXX/VIDEO/NNNNN.wav` (or `voxceleb2/wav/...`, `voxceleb2/dev/...`), the released m4a files converted to 16 kHz mono wav or flac; and the official
lists as they are named there: `veri_test.txt` (O-original), `veri_test2.txt` (O-cleaned), `list_test_all.txt` and `list_test_all2.txt` (E), `list_test_hard.txt` and `list_test_hard2.txt` (H).
Split: training on VoxCeleb2's development part (5,994 speakers), or on VoxCeleb1's for the lists O, whose 40 speakers stand apart; the lists E and H are of VoxCeleb1's training speakers, so training on those is refused.
Checks: that folders, lists and every recording of a list are there, what is missing is named; the number of trials, since mixing up the two O lists is a common mistake, and of speakers; that speakers do not overlap."""
from pathlib import Path
from .speaker_folders import read_trials, suffixes

lists = {'O-original': ('veri_test.txt', 37720), 'O-cleaned': ('veri_test2.txt', 37611), 'E-original': ('list_test_all.txt', 581480), 'E': ('list_test_all2.txt', 579818),
         'H-original': ('list_test_hard.txt', 552536), 'H': ('list_test_hard2.txt', 550894)}
people = dict(voxceleb1=1211, voxceleb2=5994) # to train on

def _waves(root, name):
    places = [root/name/p for p in ('wav', 'dev/wav', 'dev/aac', 'dev', '')]
    found = next((p for p in places if p.is_dir() and any(d.is_dir() and d.name.startswith('id') for d in p.iterdir())), None)
    if found is None: raise ValueError(f"{root/name} has no folders idXXXXX of recordings (looked in {', '.join(str(p) for p in places)})")
    return found

def load(root, trials: str = 'O-cleaned', train: str = None, count: bool = True) -> dict:
    "dict(train: [(path, speaker)], trials: [(same, path, path)], speakers: {path of a trial: speaker}); `train` is voxceleb2 where there is one, `count=False` takes a part: another number of trials or speakers."
    root = Path(root)
    if trials not in lists: raise ValueError(f"there is no trial list {trials!r}; the lists are {', '.join(lists)}")
    train = train or ('voxceleb2' if (root/'voxceleb2').is_dir() else 'voxceleb1')
    if train not in ('voxceleb1', 'voxceleb2'): raise ValueError(f"training is on voxceleb1 or voxceleb2; found {train!r}")
    if train == 'voxceleb1' and not trials.startswith('O'): raise ValueError(f"the list {trials} is of VoxCeleb1's training speakers: train on voxceleb2")
    if not root.is_dir(): raise ValueError(f"{root} is not a folder")
    name, n = lists[trials]
    path = next((p for p in (root/name, root/'voxceleb1'/name, root/'lists'/name) if p.is_file()), None)
    if path is None: raise ValueError(f"the trial list {trials} is missing: {root/name}")
    one = _waves(root, 'voxceleb1')
    pairs = read_trials(path, one)
    if count and len(pairs) != n: raise ValueError(f"{path} has {len(pairs)} trials; {trials} has {n}: another list may have its name")
    asked = dict.fromkeys(p for _,a,b in pairs for p in (a, b))
    other = {p: next((q for q in (Path(p), *(Path(p).with_suffix(s) for s in suffixes)) if q.is_file()), None) for p in asked} # converted files may end otherwise
    if missing := [p for p,q in other.items() if q is None]: raise ValueError(f"{len(missing)} of {len(asked)} recordings of {trials} are missing: {', '.join(missing[:3])}{', ...' if len(missing) > 3 else ''}")
    pairs = [(same, str(other[a]), str(other[b])) for same,a,b in pairs]
    speakers = {str(q): q.relative_to(one).parts[0] for q in other.values()}
    base = one if train == 'voxceleb1' else _waves(root, 'voxceleb2')
    tested = set(speakers.values())
    files = [(str(f), d.name) for d in sorted(base.iterdir()) if d.is_dir() and not (train == 'voxceleb1' and d.name in tested) for f in sorted(d.rglob('*')) if f.suffix.lower() in suffixes]
    if not files: raise ValueError(f"{base} holds no recordings ({', '.join(suffixes)}): convert the released m4a files")
    if count and (n := len({s for _,s in files})) != people[train]: raise ValueError(f"{base} has recordings of {n} speakers for training; {train} has {people[train]}: load(..., count=False) trains on what is there")
    return dict(train=files, trials=pairs, speakers=speakers)
