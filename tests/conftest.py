"Seeds, and the real data that is not on every machine."
import os, random
from pathlib import Path
import numpy as np, pytest, torch

@pytest.fixture(autouse=True)
def seeds(): random.seed(0); np.random.seed(0); torch.manual_seed(0)

@pytest.fixture
def shared():
    "Function: a path inside the shared data; skips, naming it, where it is absent."
    root = Path(os.environ.get('NAS_SUITE_SHARED', Path(__file__).parents[2]/'shared'))
    def find(name):
        if not (path := root/name).exists(): pytest.skip(f"needs the shared data {name} (set NAS_SUITE_SHARED to its folder)")
        return path
    return find
