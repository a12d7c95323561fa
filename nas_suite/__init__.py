__version__ = "0.1.0"

import importlib

# where the words that most programs need come from; imported when first asked for, so that `import nas_suite` is light
_words = dict(
    Space='choices', Option='choices', one_of='choices', count='choices', sample='choices', largest='choices',
    smallest='choices', selected='choices', restrict='choices', check='extraction', extract='extraction',
    cost_of='costs', macs='costs', params='costs')

__all__ = ['search', *_words] # `search` is a module, and so is `nas_suite.choices`

def __getattr__(name: str):
    if name == 'search': return importlib.import_module('nas_suite.search')
    if name not in _words: raise AttributeError(f"module 'nas_suite' has no attribute {name!r}")
    globals()[name] = getattr(importlib.import_module(f'nas_suite.{_words[name]}'), name)
    return globals()[name]

def __dir__() -> list: return sorted({*globals(), *__all__})
