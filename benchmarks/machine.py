"What every benchmark prints first: the machine, and who else is using it."

import os, torch
from nas_suite.latency import environment


def machine(**settings) -> dict:
    "Print and return the machine and the settings of a run."
    env = environment(**settings)
    for k, v in env.items():
        if not isinstance(v, (dict, list)):
            print(f'{k:>16}  {v}')
    print()
    return env


def write(name: str, rows: list):
    "Write rows (dicts) to benchmarks/results/<name>.csv."
    import csv
    from pathlib import Path

    path = Path(__file__).parent / 'results' / f'{name}.csv'
    path.parent.mkdir(exist_ok=True)
    keys = list(dict.fromkeys(k for r in rows for k in r))
    with open(tmp := path.with_suffix('.tmp'), 'w', newline='') as f:
        w = csv.DictWriter(f, keys)
        w.writeheader()
        w.writerows(rows)
    os.replace(tmp, path)
    print(f'written: benchmarks/results/{name}.csv')


def kept_bytes(f, aside=()) -> int:
    "Bytes of distinct storages that `f` keeps for backward, those of the tensors `aside` left out."
    own, seen = {p.untyped_storage().data_ptr() for p in aside}, {}

    def pack(t):
        seen[t.untyped_storage().data_ptr()] = t.untyped_storage().nbytes()
        return t

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        f()
    return sum(n for p, n in seen.items() if p not in own)
