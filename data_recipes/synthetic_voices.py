"""Synthetic voices: speech-like sounds that a program makes, for trying things out where no recordings are at hand. Nobody speaks in them, and no figure on them says how well a network tells people apart.

Source: this file. A voice is a pitch, a length of the vocal tract, formants of its own, a spectral tilt, breath and a speed; an utterance is a row of syllables, a hiss and a vowel each, by a source and four resonances (Klatt, 1980, in small),
with a microphone and noise of its own. Licence: that of this package.
Split: a quarter of the voices each for validation and for testing; trials are drawn by `seed`."""
import math, numpy as np, torch
from scipy.signal import lfilter
from .speaker_folders import make_trials

rate = 16000
_vowels = np.array([[730, 1090, 2440, 3400], [270, 2290, 3010, 3600], [300, 870, 2240, 3300], [530, 1840, 2480, 3500], [570, 840, 2410, 3350], [440, 1020, 2240, 3400], [660, 1720, 2410, 3450]])

def _resonate(x, f, bandwidth):
    r, w = math.exp(-math.pi*bandwidth/rate), 2*math.pi*f/rate
    return lfilter([1 - 2*r*math.cos(w) + r*r], [1, -2*r*math.cos(w), r*r], x)

def _voice(rng):
    return dict(f0=math.exp(rng.normal(math.log(150), .3)), range=rng.uniform(.04, .2), tract=rng.uniform(.84, 1.18), formants=1 + rng.normal(0, .035, 4), bandwidth=rng.uniform(.7, 1.6),
                tilt=rng.uniform(.8, .97), breath=rng.uniform(.01, .12), speed=rng.uniform(3.5, 6.), hiss=rng.uniform(2500, 5500))

def _utterance(v, rng, seconds):
    out, at = np.zeros(int(seconds*rate) + rate), int(.05*rate)
    while at < int(seconds*rate):
        n = int(rate / v['speed'] * rng.uniform(.75, 1.3))
        h = int(n * rng.uniform(0, .35))
        if h > 80: out[at:at+h] += .15 * np.hanning(h) * _resonate(rng.normal(size=h), v['hiss'] * rng.uniform(.85, 1.15), 900)
        m = n - h
        pitch = v['f0'] * math.exp(rng.normal(0, v['range'])) * np.linspace(1, math.exp(rng.normal(-.05, v['range'])), m) * (1 + .01*rng.normal(size=m))
        phase = np.cumsum(pitch / rate)
        pulses = np.diff(np.floor(phase), prepend=0.)
        y = lfilter([1 - v['tilt']], [1, -v['tilt']], pulses * 8 + v['breath'] * rng.normal(size=m))
        for f,b in zip(_vowels[rng.integers(len(_vowels))] * v['formants'] / v['tract'] * (1 + rng.normal(0, .02, 4)), (60, 90, 120, 160)): y = _resonate(y, f, b * v['bandwidth'])
        edge = min(m//2, int(.02*rate)); window = np.ones(m); window[:edge] = np.linspace(0, 1, edge); window[m-edge:] = np.linspace(1, 0, edge)
        out[at+h:at+n] += y * window * rng.uniform(.6, 1.)
        at += n + int(rng.uniform(0, .08)*rate)
    y = out[:int(seconds*rate)]
    y = lfilter([1, rng.uniform(-.5, .3)], [1, rng.uniform(-.2, .2)], y) # the microphone
    y = y / (np.abs(y).max() + 1e-9) * rng.uniform(.2, .8)
    return (y + 10**(-rng.uniform(20, 40)/20) * y.std() * rng.normal(size=len(y))).astype('float32')

def load(voices: int = 48, utterances: int = 12, seed: int = 0) -> dict:
    "dict(train: [(name, voice)], valid, trials: [(same, name, name)], speakers: {name: voice}, waves: {name: tensor of samples at 16 kHz})."
    if voices < 12 or utterances < 2: raise ValueError(f"at least 12 voices of 2 utterances are needed; found {voices} of {utterances}")
    waves, by = {}, {}
    for s in range(voices):
        rng = np.random.default_rng([seed, s])
        v, name = _voice(rng), f'voice{s:03}'
        for u in range(utterances):
            waves[f'{name}/{u:02}'] = torch.from_numpy(_utterance(v, rng, rng.uniform(1.5, 3.)))
            by.setdefault(name, []).append(f'{name}/{u:02}')
    names, q = list(by), voices // 4
    test, valid = names[-q:], names[-2*q:-q]
    of = lambda part: {f: s for s in part for f in by[s]}
    return dict(train=[(f, s) for s in names[:-2*q] for f in by[s]], valid=make_trials(of(valid), 1500, seed), trials=make_trials(of(test), 1500, seed), speakers=of(valid) | of(test), waves=waves)
