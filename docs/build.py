"Build the site in _docs/: notebooks become Sphinx pages; fails on any warning, and if README.md is behind nbs/index.ipynb."

import os, shutil, subprocess, sys, tarfile, tempfile
from pathlib import Path

root = Path(__file__).resolve().parents[1]
mathjax = root / 'docs' / '_static' / 'mathjax'


def vendor():
    "MathJax beside the site, so that it works offline; without npm the pages fetch it."
    if (mathjax / 'es5' / 'tex-chtml-full.js').exists() or not shutil.which('npm'):
        return
    with tempfile.TemporaryDirectory() as tmp:
        if subprocess.run(
            ['npm', 'pack', '--silent', '--pack-destination', tmp, 'mathjax@3.2.2'], cwd=tmp, capture_output=True
        ).returncode:
            return
        with tarfile.open(next(Path(tmp).glob('mathjax-*.tgz'))) as t:
            keep = [
                m
                for m in t.getmembers()
                if m.name == 'package/es5/tex-chtml-full.js'
                or m.name.startswith('package/es5/output/chtml/fonts/woff-v2/')
            ]
            for m in keep:
                m.name = m.name.removeprefix('package/')
            t.extractall(mathjax, keep, filter='data')


def main():
    os.chdir(root)
    readme = root / 'README.md'
    before = readme.read_text(encoding='utf-8') if readme.exists() else ''
    vendor()
    subprocess.run([sys.executable, 'docs/stage.py', 'docs/_build/src'], check=True, stdout=subprocess.DEVNULL)
    if readme.read_text(encoding='utf-8') != before:
        sys.exit('README.md was behind nbs/index.ipynb: it is written anew, look at it and commit it')
    sys.exit(
        subprocess.run(
            [
                sys.executable,
                '-m',
                'sphinx',
                '-q',
                '-W',
                '--keep-going',
                '-j',
                '2',
                '-c',
                'docs',
                '-b',
                'html',
                'docs/_build/src',
                '_docs',
            ]
        ).returncode
    )


if __name__ == '__main__':
    main()
