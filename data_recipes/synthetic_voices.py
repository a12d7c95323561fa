"""Synthetic voices: speech-like sounds that a program makes, for trying things out where no recordings are at hand.
Nobody
speaks in them, and no figure on them says how well a network tells people apart.

Source: this file. A voice is a pitch, a length of the vocal tract, formants of its own, a spectral tilt, breath and a
speed;
an utterance is a row of syllables, a hiss and a vowel each, by a source and four resonances (Klatt, 1980, in small),
with a
microphone and noise of its own. Licence: that of this package.
Split: a quarter of the voices each for validation and for testing; trials are drawn by `seed`."""
import math, numpy as np, torch
from scipy.signal import lfilter
from .speaker_folders import make_trials

rate = 16000
_vowels = np.array([  # formants, Hz
    [730, 1090, 2440, 3400], [270, 2290, 3010, 3600], [300, 870, 2240, 3300], [530, 1840, 2480, 3500],
    [570, 840, 2410, 3350], [440, 1020, 2240, 3400], [660, 1720, 2410, 3450]])
_bandwidths = 60, 90, 120, 160  # Hz

def _resonate(x, frequency, bandwidth):
    "What a resonance makes of a sound."
    radius, angle = math.exp(-math.pi*bandwidth/rate), 2*math.pi*frequency/rate
    feedback = [1, -2*radius*math.cos(angle), radius*radius]
    return lfilter([1 - 2*radius*math.cos(angle) + radius*radius], feedback, x)

def _voice(rng) -> dict:
    "What makes a voice, drawn."
    return dict(
        pitch=math.exp(rng.normal(math.log(150), .3)), range=rng.uniform(.04, .2), tract=rng.uniform(.84, 1.18),
        formants=1 + rng.normal(0, .035, 4), bandwidth=rng.uniform(.7, 1.6), tilt=rng.uniform(.8, .97),
        breath=rng.uniform(.01, .12), speed=rng.uniform(3.5, 6.), hiss=rng.uniform(2500, 5500))

def _hiss(voice, rng, n):
    "A consonant of `n` samples."
    return .15 * np.hanning(n) * _resonate(rng.normal(size=n), voice['hiss'] * rng.uniform(.85, 1.15), 900)

def _source(voice, rng, n):
    "The sound of the vocal folds, `n` samples: pulses at a pitch that moves, and breath."
    height, end = math.exp(rng.normal(0, voice['range'])), math.exp(rng.normal(-.05, voice['range']))
    pitch = voice['pitch'] * height * np.linspace(1, end, n) * (1 + .01*rng.normal(size=n))
    pulses = np.diff(np.floor(np.cumsum(pitch / rate)), prepend=0.)
    return lfilter([1 - voice['tilt']], [1, -voice['tilt']], pulses * 8 + voice['breath'] * rng.normal(size=n))

def _fade(n):
    "1, but rising from 0 and falling to it within 20 ms at the ends."
    edge, window = min(n//2, int(.02*rate)), np.ones(n)
    window[:edge] = np.linspace(0, 1, edge)
    window[n-edge:] = np.linspace(1, 0, edge)
    return window

def _vowel(voice, rng, n):
    "A vowel of `n` samples."
    sound = _source(voice, rng, n)
    formants = _vowels[rng.integers(len(_vowels))] * voice['formants'] / voice['tract'] * (1 + rng.normal(0, .02, 4))
    for frequency, bandwidth in zip(formants, _bandwidths):
        sound = _resonate(sound, frequency, bandwidth * voice['bandwidth'])
    return sound * _fade(n) * rng.uniform(.6, 1.)

def _through_a_microphone(sound, rng):
    "A sound as it is recorded: coloured, at some level, with noise."
    sound = lfilter([1, rng.uniform(-.5, .3)], [1, rng.uniform(-.2, .2)], sound)
    sound = sound / (np.abs(sound).max() + 1e-9) * rng.uniform(.2, .8)
    return (sound + 10**(-rng.uniform(20, 40)/20) * sound.std() * rng.normal(size=len(sound))).astype('float32')

def _utterance(voice, rng, seconds):
    "Syllable after syllable."
    out, at, end = np.zeros(int(seconds*rate) + rate), int(.05*rate), int(seconds*rate)
    while at < end:
        n = int(rate / voice['speed'] * rng.uniform(.75, 1.3))
        hiss = int(n * rng.uniform(0, .35))
        if hiss > 80: out[at:at+hiss] += _hiss(voice, rng, hiss)
        out[at+hiss:at+n] += _vowel(voice, rng, n - hiss)
        at += n + int(rng.uniform(0, .08)*rate)
    return _through_a_microphone(out[:end], rng)

def load(voices: int = 48, utterances: int = 12, seed: int = 0) -> dict:
    """dict(train: [(name, voice)], valid, trials: [(same, name, name)], speakers: {name: voice},
    waves: {name: tensor of samples at 16 kHz})."""
    if voices < 12 or utterances < 2:
        raise ValueError(f"at least 12 voices of 2 utterances are needed; found {voices} of {utterances}")
    waves, of = {}, {f'voice{i:03}': [] for i in range(voices)}
    for i, (name, mine) in enumerate(of.items()):
        rng = np.random.default_rng([seed, i])
        voice = _voice(rng)
        mine += [f'{name}/{j:02}' for j in range(utterances)]
        waves |= {file: torch.from_numpy(_utterance(voice, rng, rng.uniform(1.5, 3.))) for file in mine}
    names, quarter = list(of), voices // 4
    def speakers(part): return {file: name for name in part for file in of[name]}
    train, valid, test = (speakers(part) for part in (names[:-2*quarter], names[-2*quarter:-quarter], names[-quarter:]))
    return dict(train=list(train.items()), valid=make_trials(valid, 1500, seed), trials=make_trials(test, 1500, seed),
                speakers=valid | test, waves=waves)
