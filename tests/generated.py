"""Do the notebooks and the package agree? Cleans and exports a copy of the tree and compares, so that it works on an uncommitted tree too."""

import filecmp, os, shutil, subprocess, sys, tempfile
from pathlib import Path

root = Path(__file__).resolve().parents[1]


def differing(a: Path, b: Path, pattern: str) -> list:
    "Files that are not the same in both folders."
    names = {
        p.relative_to(d)
        for d in (a, b)
        for p in d.rglob(pattern)
        if '__pycache__' not in p.parts and '.ipynb_checkpoints' not in p.parts
    }
    return sorted(
        str(n)
        for n in names
        if not ((a / n).exists() and (b / n).exists() and filecmp.cmp(a / n, b / n, shallow=False))
    )


def main():
    with tempfile.TemporaryDirectory() as tmp:
        copy = Path(tmp) / 'tree'
        shutil.copytree(
            root,
            copy,
            ignore=shutil.ignore_patterns(
                '.venv*', '.git', '_docs', '_proc', '_build', 'runs', '__pycache__', 'node_modules', 'results'
            ),
        )
        env = dict(os.environ, PATH=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
        for command in ('nbdev-clean', 'nbdev-export'):
            subprocess.run([command], cwd=copy, env=env, check=True, stdout=subprocess.DEVNULL)
        dirty, behind = (
            differing(root / 'nbs', copy / 'nbs', '*.ipynb'),
            differing(root / 'nas_suite', copy / 'nas_suite', '*.py'),
        )
    if dirty:
        print('notebooks not clean (make format):', *dirty)
    if behind:
        print('package behind its notebooks (make format):', *behind)
    sys.exit(bool(dirty or behind))


if __name__ == '__main__':
    main()
