"Keyword spotting: which of a few words is said in a second? A task of log-mel inputs that is not speaker verification, and that nobody registered."

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import TensorDataset
from torchmetrics.classification import MulticlassAccuracy
from nas_suite.spaces.tdnn import efficient_tdnn
from nas_suite.tasks.base import Metric, Task, Use, seeded_weights
from nas_suite.tasks.speaker import LogMel, read_wave, wrapped

rate, seconds = 4000, 0.4


def spoken(words: list, n: int, seed: int) -> TensorDataset:
    "Made-up words: each is two tones one after the other, with noise. Samples (n, rate * seconds) and the word's number."
    generator = torch.Generator().manual_seed(seed)
    label, time = torch.arange(n) % len(words), torch.arange(int(rate * seconds)) / rate
    low, high = 200.0 + 150 * label[:, None], 1400.0 - 200 * label[:, None]
    tone = torch.where(time < seconds / 2, low, high) * (1 + 0.02 * torch.randn(n, 1, generator=generator))
    wave = torch.sin(2 * torch.pi * tone * time) + 0.1 * torch.randn(n, len(time), generator=generator)
    return TensorDataset(wave, label)


class Keywords(Task):
    "Which word is said: data sets of (samples (n,), the word's number), accuracy over words."

    name, metric = 'keywords', Metric('accuracy')

    def __init__(self, words=('down', 'left', 'up'), n: int = 24, bands: int = 8):
        self.words, self.batch_size = list(words), 8
        self.train, self.valid, self.test = (spoken(self.words, n, seed) for seed in range(3))
        self.front = LogMel(bands, rate, low=60.0, high=1900.0)
        self.input_shape = bands, self.front.frames(int(rate * seconds))

    def prepare(self, x: Tensor, y: Tensor, generator=None) -> tuple:
        "Samples (B, n) to features (B, bands, T)."
        with torch.no_grad():
            return self.front.to(x.device)(x), y

    def augment(self, x, y, generator):
        "Each word a little louder or softer, and moved in time."
        loud = 1 + 0.3 * torch.randn(len(x), 1, generator=generator).to(x.device)
        return self.prepare(torch.roll(loud * x, int(torch.randint(-40, 40, (), generator=generator)), 1), y)

    def loss(self, output, target):
        return F.cross_entropy(output, target)

    def meter(self):
        return MulticlassAccuracy(len(self.words), average='micro')

    def facts(self):
        return super().facts() | dict(words=self.words, bands=self.front.config['bands'], rate=rate)

    @classmethod
    def from_facts(cls, facts, data=None):
        return cls(facts['words'], facts['train'], facts['bands'])

    def default_space(self, budget, shared=False, seed=0):
        sizes = dict(widths=(8, 16), last=(8, 12), kernels=(1, 3), depths=(1, 2), scale=4, attention=4)
        with seeded_weights(seed):
            return efficient_tdnn(self.input_shape[0], len(self.words), frames=self.input_shape[1], **sizes)

    @classmethod
    def use(cls, model, facts):
        return Spotter(model, facts)


class Spotter(Use):
    "Hears which word is said."

    def predict(self, raw) -> dict:  # raw: a path, or samples (n,)
        wave, _ = read_wave(raw, self.facts['rate'])
        n = int(self.facts['rate'] * seconds)
        front = LogMel(self.facts['bands'], self.facts['rate'], low=60.0, high=1900.0)
        with torch.inference_mode():
            logits = self.model.eval()(front(wrapped(wave, n)[None, :n]))[0]
        at = int(logits.argmax())
        return dict(word=self.facts['words'][at], probability=float(logits.softmax(0)[at]))

    def say(self, answer):
        return f"{answer['word']} ({100 * answer['probability']:.0f} %)"
