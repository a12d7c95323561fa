"Searches killed at a random moment, gone on with, and compared bit for bit: a few of what benchmarks/crash.py does for many."

import os, subprocess, sys
from pathlib import Path

root = Path(__file__).parents[1]

# neither .pt2 nor ONNX is written, which takes seconds a search: test_search.py kills one that writes both
WITHOUT_FORMATS = '''
import sys
sys.path.insert(0, sys.argv.pop(1))
import crash
from nas_suite.front import export, search
search.tried = lambda *_: export.Written()
export._attempt = lambda *_: None
crash.main()
'''


def test_a_killed_search_ends_as_if_nothing_had_been():
    "The joint search and the supernet; test_search.py kills the gated one."
    env = os.environ | dict(OMP_NUM_THREADS='1', PYTHONPATH=str(root))
    what = ['-c', WITHOUT_FORMATS, root / 'benchmarks', '2', '--first', '10', '--into', '']
    done = subprocess.run([sys.executable, *map(str, what)], env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert '2 of 2 searches ended as if nothing had been; 2 were killed before their end' in done.stdout
