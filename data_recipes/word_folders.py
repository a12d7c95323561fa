"""Any folder of recordings with a folder a word: `yes/1.wav`, `no/2.flac`; among them Google's Speech Commands as they
are unpacked, whose `testing_list.txt` and `validation_list.txt` are kept to. And made-up words, for trying things out
where no recordings are at hand: two tones one after the other, which nobody says.

Split without lists: a fifth of who speaks is for testing, drawn by `seed`. Speech Commands' names say who speaks
(`1a2b_nohash_0.wav`); of recordings whose names do not it is a fifth of each word.
Left out, with one warning that lists all: recordings that cannot be used, folders whose names begin with `_` (noise).
Checks: at least two words, each with a recording for training."""
import random, torch
from pathlib import Path
from torch.utils.data import TensorDataset
from .files import files_below, folders_in, left_out, lines_of

suffixes = '.wav', '.flac', '.ogg', '.opus', '.mp3', '.aiff', '.aif'
lists = dict(test='testing_list.txt', valid='validation_list.txt')

def speaker_of(path) -> str:
    "Who speaks in a recording, as Speech Commands' names say; else the recording itself."
    name, mark, _ = Path(path).stem.partition('_nohash_')
    return name if mark else str(path)

def is_here(folder) -> bool:
    "Whether a folder says of itself that it holds words: by lists of parts, or by a folder of noise."
    folder = Path(folder)
    return (folder/lists['test']).is_file() or (folder/'_background_noise_').is_dir()

def _by_list(folder: Path, found: list) -> dict:
    "Recordings of each part, by the lists that there are."
    named = {part: {line.strip() for _, line in lines_of(folder/name)} if (folder/name).is_file() else set()
             for part, name in lists.items()}
    def part_of(path):
        name = path.relative_to(folder).as_posix()
        return next((part for part in named if name in named[part]), 'train')
    parts = dict(train=[], valid=[], test=[])
    for path, label in found: parts[part_of(path)].append((path, label))
    return parts

def _drawn(speakers, rng, share: float) -> set:
    "A share of who speaks, one at least."
    speakers = sorted(speakers)
    rng.shuffle(speakers)
    return set(speakers[:max(1, round(share * len(speakers)))])

def _by_speaker(found: list, seed: int, share: float) -> dict:
    "Recordings of each part: a share of who speaks is for testing; of recordings that do not say it, a share a word."
    rng, who = random.Random(seed), [(speaker_of(path), label) for path, label in found]
    known = {speaker for speaker, _ in who if Path(speaker).suffix not in suffixes}
    unknown = {label: {speaker for speaker, one in who if one == label and speaker not in known} for _, label in who}
    new = _drawn(known, rng, share) if known else set()
    for label in sorted(unknown): new |= _drawn(unknown[label], rng, share) if unknown[label] else set()
    return dict(train=[one for one, (speaker, _) in zip(found, who) if speaker not in new], valid=[],
                test=[one for one, (speaker, _) in zip(found, who) if speaker in new])

def load(folder, seed: int = 0, share: float = .2) -> dict:
    "dict(words, train, valid, test: lists of (path, number of the word); valid is empty where no list says it)."
    folder = Path(folder)
    if not folder.is_dir(): raise ValueError(f"there is no folder {folder}")
    folders = [path for path in folders_in(folder) if not path.name.startswith('_')]
    words = [path.name for path in folders if files_below(path, suffixes)]
    left_out(folder, [f'{path.name}: no recordings' for path in folders if path.name not in words])
    if len(words) < 2:
        raise ValueError(f"{folder} is to have a folder of recordings for each of two words or more; found "
                         f"{len(words)}")
    found = [(path, label) for label, word in enumerate(words) for path in files_below(folder/word, suffixes)]
    parts = _by_list(folder, found) if (folder/lists['test']).is_file() else _by_speaker(found, seed, share)
    for part in 'train', 'test':
        if lacking := [word for label, word in enumerate(words) if label not in {one for _, one in parts[part]}]:
            raise ValueError(f"{folder}: no recording of {lacking[0]!r} is for {part}ing")
    return dict(words=words) | parts

made_up_words = 'down', 'left', 'right', 'up'

def made_up(n: int, seed: int = 0, rate: int = 16000, seconds: float = 1.) -> TensorDataset:
    "`n` made-up recordings (n, rate * seconds), and the number of the word of each."
    generator, length = torch.Generator().manual_seed(seed), int(rate * seconds)
    label, time = torch.arange(n) % len(made_up_words), torch.arange(length) / rate
    begin = .1 + .3 * torch.rand(n, 1, generator=generator)
    low, high = 250. + 150 * (label[:, None] // 2), 600. + 250 * (label[:, None] % 2)
    pitch = torch.where(time < begin + .2, low, high) * (1 + .05 * torch.randn(n, 1, generator=generator))
    loud = ((time > begin) & (time < begin + .45)).float()
    tone = loud * torch.sin(2 * torch.pi * pitch * time)
    return TensorDataset(tone + .3 * torch.randn(n, length, generator=generator), label)
