"Package metadata, all of it read from settings.ini (the file nbdev reads too)."

from configparser import ConfigParser
from pathlib import Path
from setuptools import find_packages, setup

ini = ConfigParser(delimiters=['='])
ini.read('settings.ini', encoding='utf-8')
cfg = ini['DEFAULT']
extras = {
    k.removesuffix('_requirements'): cfg[k].split() for k in cfg if k.endswith('_requirements') and k != 'requirements'
}
scripts = [s for s in cfg.get('console_scripts', '').splitlines() if s.strip()]
setup(
    name=cfg['lib_name'],
    version=cfg['version'],
    description=cfg['description'],
    keywords=cfg['keywords'].split(),
    author=cfg['author'],
    author_email=cfg['author_email'],
    license='Apache-2.0',
    long_description=Path('README.md').read_text(encoding='utf-8') if Path('README.md').exists() else '',
    long_description_content_type='text/markdown',
    packages=find_packages(include=[cfg['lib_path'], cfg['lib_path'] + '.*', 'data_recipes']),
    include_package_data=True,
    install_requires=cfg['requirements'].split(),
    extras_require=extras,
    classifiers=[
        'Programming Language :: Python :: 3',
        'License :: OSI Approved :: Apache Software License',
        'Natural Language :: ' + cfg['language'].title(),
    ],
    entry_points={'console_scripts': scripts, 'nbdev': [f"{cfg['lib_name']}={cfg['lib_path']}._modidx:d"]},
)
