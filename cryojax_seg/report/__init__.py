"""Writes reports as HTML files with SVG charts, and pictures. Sub-modules load when first used."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
