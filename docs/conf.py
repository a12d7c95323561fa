import configparser, os, sys
from pathlib import Path

root = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(root))
ini = configparser.ConfigParser(delimiters=['='])
ini.read(root / 'settings.ini')
c = ini['DEFAULT']
project, version, release, author = c['title'], c['version'], c['version'], c['author']
copyright = c['copyright']
extensions = [
    'myst_nb',
    'sphinx.ext.autodoc',
    'sphinx.ext.napoleon',
    'sphinx.ext.viewcode',
    'sphinx.ext.mathjax',
    'sphinx_design',
    'sphinx_copybutton',
]
nb_execution_mode = 'off'
nb_merge_streams = True
myst_enable_extensions = ['amsmath', 'dollarmath', 'colon_fence', 'attrs_inline', 'attrs_block', 'deflist', 'tasklist']
myst_heading_anchors = 3
autodoc_typehints = 'description'
autodoc_typehints_description_target = 'documented_params'
autodoc_preserve_defaults = True
add_module_names = False
toc_object_entries_show_parents = 'hide'
if (root / 'docs' / '_static' / 'mathjax').exists():
    mathjax_path = 'mathjax/es5/tex-chtml-full.js'  # else Sphinx's default address
html_theme = os.environ.get('THEME', 'pydata_sphinx_theme')
html_title = project
html_static_path = [str(root / 'docs' / '_static')]
html_css_files = ['site.css']
exclude_patterns = ['_build', '**.ipynb_checkpoints', 'notebooks']  # those are for downloading
html_show_sourcelink = False
html_sidebars = {page: [] for page in ('index', 'three_ways', 'how_to', 'results')}
if html_theme == 'pydata_sphinx_theme':
    html_theme_options = dict(
        show_toc_level=2,
        navigation_with_keys=False,
        secondary_sidebar_items=['page-toc'],
        header_links_before_dropdown=6,
        show_prev_next=True,
        search_as_you_type=True,
    )


def docments_params(app, what, name, obj, options, lines):
    "Carry nbdev docments (the comment beside each parameter) into the reference"
    from fastcore.docments import docments

    try:
        d = docments(obj, full=True)
    except Exception:
        return
    out = []
    for k, v in d.items():
        if k == 'self' or not v.get('docment'):
            continue
        out.append(f":returns: {v['docment']}" if k == 'return' else f":param {k}: {v['docment']}")
    if out:
        lines += ['', *out, '']


def patched_source(app, modname):
    "Give viewcode the lines of `@patch` methods too: written at module level, documented on their class"
    import ast
    from sphinx.pycode import ModuleAnalyzer

    try:
        an = ModuleAnalyzer.for_module(modname)
        an.analyze()
    except Exception:
        return None
    tags = dict(an.tags)
    for f in ast.parse(an.code).body:
        if not isinstance(f, (ast.FunctionDef, ast.AsyncFunctionDef)):
            continue
        if not any('patch' in ast.unparse(d) for d in f.decorator_list) or not f.args.args:
            continue
        ann = f.args.args[0].annotation
        if ann is None:
            continue
        for cls in [ast.unparse(e) for e in ann.elts] if isinstance(ann, ast.Tuple) else ast.unparse(ann).split('|'):
            start = min([f.lineno, *(d.lineno for d in f.decorator_list)])
            tags[f'{cls.strip()}.{f.name}'] = ('def', start, f.end_lineno)
            tags.pop(f.name, None)
    return an.code, tags


suppress_warnings = ['myst.header']  # a page without sections has its entries right below the title
default_role = 'py:obj'


def setup(app):
    app.connect('autodoc-process-docstring', docments_params)
    app.connect('viewcode-find-source', patched_source)
