"""Shows tomograms, and takes the labels that are painted on them.

The same page runs in a notebook (`show`, `annotate`) and as a local web page (`serving`).
Sub-modules load when first used; `__init__.pyi` lists the names.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
