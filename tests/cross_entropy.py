"The cross-entropy method as a strategy of somebody who knows the contract alone: nobody registers it."

import torch
from nas_suite.choices import canonical, decode, encode, structure
from nas_suite.strategies.black_box import BlackBox
from nas_suite.strategies.steps import fitting
from nas_suite.training import seeded


class CrossEntropy(BlackBox):
    "Probabilities of each choice's options, moved towards what the best of each batch have (Rubinstein, 1999)."

    def __init__(self, epochs=40, evaluations=200, batch=20, elite=0.25, smoothing=0.7):
        super().__init__(epochs, evaluations, batch)
        self.elite, self.smoothing = elite, smoothing
        self.check(elite=0 < elite <= 1, smoothing=0 < smoothing <= 1)

    def begin(self, space, limits, seed):
        super().begin(space, limits, seed)
        self.structure, self.generator = structure(space), seeded(seed, 'cross entropy')
        self.probs = [choice.alive.double() / choice.alive.sum() for choice in self.structure.choices]
        self.inside = fitting(space, limits)  # a network within all limits: what is too dear is mended towards it

    def ask(self, n):
        columns = [torch.multinomial(p, 10 * n, replacement=True, generator=self.generator) for p in self.probs]
        rows = canonical(self.structure, torch.stack(columns, 1))
        there = rows[self.fits(rows)][:n]
        return decode(self.structure, torch.cat([there, self.mended(rows[~self.fits(rows)][: n - len(there)])]))

    def tell(self, archs, scores):
        rows, scores = encode(self.structure, archs), torch.tensor(scores)
        n = max(1, round(self.elite * len(rows)))
        best = rows[scores.argsort(descending=True, stable=True)[:n]]
        best = best[scores.sort(descending=True).values[:n] > -torch.inf]
        if not len(best):
            return
        for d, old in enumerate(self.probs):
            found = torch.bincount(best[:, d], minlength=len(old)) / len(best)
            self.probs[d] = self.smoothing * found + (1 - self.smoothing) * old

    def fits(self, rows):
        within = [cost.batch(rows) <= most for cost, most in self.limits]
        return torch.stack(within).all(0) if within else torch.ones(len(rows), dtype=torch.bool)

    def mended(self, rows):
        "Choices become those of the network inside the limits, one at a time in a random order, until a row fits."
        if self.inside is None:
            return rows[:0]
        for d in torch.randperm(rows.shape[1], generator=self.generator).tolist():
            dear = ~self.fits(rows)
            rows = rows.clone()
            rows[dear, d] = self.inside[0, d]
            rows = canonical(self.structure, rows)
        return rows[self.fits(rows)]
