"""Encodes slices of volumes as data URLs, which a page shows without any other file."""

import base64
import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image

EDGE = 384  # pixels of a picture, at most


def grey_range(volume: Any) -> tuple[float, float]:
    """Return the densities that become black and white: all but half a percent on each side.

    >>> low, high = grey_range(np.arange(1000.0).reshape(10, 10, 10))
    >>> round(low), round(high)
    (5, 994)
    """
    step = max(1, volume.shape[0] // 24)
    some = np.asarray(volume[::step], np.float32).ravel()
    some = some[np.isfinite(some)]
    some = some[:: max(1, some.size // 10**6)]
    if not some.size:
        return 0.0, 1.0
    low, high = np.percentile(some, (0.5, 99.5)).tolist()
    return low, high if high > low else low + 1e-6


def as_grey(image: np.ndarray, low: float, high: float) -> np.ndarray:
    """Return an image as bytes between these two densities.

    >>> as_grey(np.array([[-1.0, 0.5, 2.0]]), 0.0, 1.0).tolist()
    [[0, 127, 255]]
    """
    values = np.nan_to_num(np.asarray(image, np.float32), nan=low, posinf=high, neginf=low)
    return np.clip((values - low) / (high - low) * 255, 0, 255).astype(np.uint8)


def small(image: np.ndarray, edge: int = EDGE) -> np.ndarray:
    """Return every n-th pixel of an image, so that it is at most this wide."""
    step = -(-max(image.shape[:2]) // edge)
    return np.ascontiguousarray(image[::step, ::step].astype(np.uint8))


def address(image: Image.Image, kind: str, **options: Any) -> str:
    """Return an image as a data URL."""
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(buffer.getvalue()).decode()}"


def jpeg(image: np.ndarray, edge: int = EDGE) -> str:
    """Return a picture of bytes, grey or with three colours, as a data URL.

    >>> jpeg(np.zeros((4, 4), np.uint8))[:22]
    'data:image/jpeg;base64'
    """
    return address(Image.fromarray(small(image, edge)), "JPEG", quality=82)


def png(codes: np.ndarray, palette: Sequence[str], edge: int = EDGE) -> str:
    """Return a picture of indices into a palette as a data URL; 0 is transparent.

    >>> png(np.ones((4, 4), np.uint8), ("#000000", "#ff0000"))[:21]
    'data:image/png;base64'
    """
    image = Image.fromarray(small(codes, edge)).convert("P")
    values = [v for colour in palette for v in rgb(colour)]
    image.putpalette(values + [0] * (768 - len(values)))
    return address(image, "PNG", transparency=0, optimize=True)


def rgb(colour: str) -> tuple[int, int, int]:
    """Return the parts of a colour such as "#1baf7a".

    >>> rgb("#1baf7a")
    (27, 175, 122)
    """
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return red, green, blue
