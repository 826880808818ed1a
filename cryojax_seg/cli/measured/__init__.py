"""The parts of ``cryojax-seg measure``: what is measured of each class, tables, files, report."""
