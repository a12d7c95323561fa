"What every space and every strategy keeps to, whoever wrote it: a new one is tested by being listed here."
import json, math, pickle, random, re, sys
from copy import deepcopy
from pathlib import Path
import nbformat, pytest, torch
from torch.utils.data import TensorDataset
from nas_suite.choices import *
from nas_suite.costs import *
from nas_suite.extraction import *
from nas_suite.relaxation import modes
from nas_suite.spaces.mobile import proxyless
from nas_suite.strategies.gated import Gated
from nas_suite.tasks.classification import Classification
from nas_suite.training import load_checkpoint, seeded
sys.path.insert(0, str(Path(__file__).parent))
from spaces import Builder, fixed, rows, shaken

root, D = Path(__file__).parents[1], torch.float64

def tutorial():
    "The network that the tutorial makes searchable: a plain nn.Module."
    cells = [c.source for c in nbformat.read(root/'nbs/tutorials/01_your_own_network.ipynb', 4).cells if c.cell_type == 'code']
    code, = (c for c in cells if 'class Searchable' in c)
    exec(code[:code.index('torch.manual_seed')], names := dict(torch=torch, nn=torch.nn))
    space = names['Searchable'](3)
    space.input_shape = 1, 8, 8
    return space
def mobile(**more): return proxyless(**dict(classes=3, image_size=8, in_channels=1, stem=8, first=0, widths=(8,), depths=(3,), last=16, kernels=(3,), expands=(1, 2)) | more)
def drawn(seed, dims): # a random space of the core's tests, of what relaxation is defined for
    r = random.Random(seed)
    return Builder(lambda *o: o[r.randrange(len(o))], dims, 24, True).net()

# name -> how it is made, and how many networks are in it (counted by hand, or None)
SPACES = {
    'proxyless': (mobile, 2*3*3),
    'proxyless, wide': (lambda: mobile(in_channels=2, image_size=12, first=8, widths=(8, 12), depths=(2, 3), kernels=(3, 5, 7), expands=(1, 3), dropout=.2), 6*7*6*7*7),
    'proxyless, one path': (lambda: mobile(depths=(1,), expands=(2,)), 1),
    'proxyless, restricted': (lambda: restrict(mobile(), {'blocks.1*': ['zero', 'mb2_k3'], 'blocks.0*': 'mb1_k3'}), 1*2*3),
    'tutorial': (tutorial, 3*2*3*4),
    'everything': (fixed, 2 * 2 * ((2 + 1 + 1) - 1 + 0) if False else None),
    '1-d': (lambda: drawn(3, 1), None), '2-d': (lambda: drawn(5, 2), None), '1-d, other': (lambda: drawn(8, 1), None)}
