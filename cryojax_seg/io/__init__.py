"""Read and write volumes, annotations, particles and saved models; refuse damaged files clearly.

Sub-modules load when first used; `__init__.pyi` lists the names.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
