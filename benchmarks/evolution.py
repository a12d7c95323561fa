"""Evolution by a predictor and a latency table, population 100 and 500 generations: seconds, and the predicted score beside the algorithm as published (one architecture at a time) at equal evaluations; and the area under the Pareto front
beside random search's."""

import argparse, random, statistics, tempfile, time, torch
from machine import machine, write
from nas_suite.choices import largest, sample, smallest, structure
from nas_suite.latency import table
from nas_suite.spaces.mobile import ofa_mobilenet_v3
from nas_suite.strategies.evolution import AccuracyPredictor, evolve, hypervolume, pareto, random_search

a = argparse.ArgumentParser(description=__doc__)
a.add_argument('--seeds', type=int, default=5)
a.add_argument('--generations', type=int, default=500)
a = a.parse_args()
torch.set_num_threads(1)
machine(threads=1)
space = ofa_mobilenet_v3(classes=10, image_size=32, dropout=0.0)
s = structure(space)
clock = table(space, (3, 32, 32), threads=1, rounds=8, calibrate=4, cache=tempfile.mkdtemp(), progress=False)
# what the predictor learns from: a landscape in which bigger is better, less and less so, and neighbours interact
g = torch.Generator().manual_seed(0)
own = [torch.randn(len(c), generator=g) + torch.linspace(0, 2, len(c)) for c in s.choices]


def landscape(rows):
    return sum(v[rows[:, d]] for d, v in enumerate(own)).double()


rows = sample(space, 500, torch.Generator().manual_seed(1))
predictor = AccuracyPredictor(space)
print('predictor', predictor.fit(rows, landscape(rows)))
low, high = clock(smallest(space)), clock(largest(space))
budget = low + 0.4 * (high - low)


class Published:
    "The published algorithm: rejection, one architecture at a time, no removal of duplicates."

    def __init__(self, seed):
        self.r, self.count = random.Random(seed), 0

    def draw(self, k):
        c = s.choices[k]
        return self.r.choice(range(len(c)))

    def fits(self, row):
        return float(clock.batch(torch.tensor([row]))[0]) <= budget

    def scored(self, rows):
        self.count += len(rows)
        return list(zip(predictor(torch.tensor(rows)).tolist(), rows))

    def random(self):
        while True:
            row = [self.draw(k) for k in range(len(s.names))]
            if self.fits(row):
                return row

    def mutant(self, row):
        while True:
            new = [self.draw(k) if self.r.random() < 0.1 else v for k, v in enumerate(row)]
            if self.fits(new):
                return new

    def child(self, a, b):
        while True:
            new = [self.r.choice(p) for p in zip(a, b)]
            if self.fits(new):
                return new

    def run(self, population=100, generations=500, parents=25):
        people = self.scored([self.random() for _ in range(population)])
        for _ in range(generations):
            best = sorted(people, key=lambda p: -p[0])[:parents]
            new = [self.mutant(self.r.choice(best)[1]) for _ in range(population // 2)] + [
                self.child(self.r.choice(best)[1], self.r.choice(best)[1]) for _ in range(population // 2)
            ]
            people = best + self.scored(new)
        return max(people)[0]


out = []
for seed in range(a.seeds):
    t = time.perf_counter()
    _, value, _ = evolve(space, predictor, [clock], [budget], generations=a.generations, seed=seed)
    ours = time.perf_counter() - t
    evaluations = 100 + 75 * a.generations
    p = Published(seed)
    t = time.perf_counter()
    theirs = p.run(generations=round((evaluations - 100) / 100))
    slow = time.perf_counter() - t
    _, lucky = random_search(space, predictor, [clock], [budget], n=evaluations, seed=seed)
    out.append(
        dict(
            seed=seed,
            seconds=ours,
            score=float(value[0, 0]),
            published_seconds=slow,
            published=theirs,
            random=float(lucky[0]),
            evaluations=evaluations,
            published_evaluations=p.count,
        )
    )
    print({k: round(v, 3) for k, v in out[-1].items()}, flush=True)
t = time.perf_counter()
_, value, spent = pareto(space, predictor, [clock], generations=100, seed=0)
t = time.perf_counter() - t
many = sample(space, 100 * 101, torch.Generator().manual_seed(7))
v, c = predictor(many), clock.batch(many)
worst = float(v.min()), high
ratio = hypervolume(value, spent[:, 0], *worst) / hypervolume(v, c, *worst)
print(f'Pareto front of {len(value)} networks in {t:.1f} s: hypervolume {ratio:.3f} x that of as many random networks')
print(
    f"one budget: {statistics.median(r['seconds'] for r in out):.1f} s, {statistics.median(r['published_seconds'] / r['seconds'] for r in out):.0f} x as fast as one at a time; score better or equal in {sum(r['score'] >= r['published'] for r in out)} of {len(out)} seeds"
)
out.append(dict(seed='front', seconds=t, score=ratio))
write('evolution', out)
