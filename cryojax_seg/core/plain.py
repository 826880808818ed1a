"""Defines names for types that need no JAX, so that a header is read without it."""

from typing import Literal

Shape = tuple[int, ...]  # (z, y, x)
TiltAxis = Literal["y", "x"]
Contrast = Literal["dark", "bright"]  # of structure, against its surroundings
