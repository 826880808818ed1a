"""Flush files to disk, and explain a full disk once, with the output and the free space."""

import contextlib
import errno
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from cryojax_seg.text import size_text

DISK_FULL = (errno.ENOSPC, errno.EFBIG, errno.EDQUOT)


class DiskFullError(OSError):
    """Reports that a disk is full; the message names the output and the free space.

    Attributes:
        reason: in the words of the system.
    """

    def __init__(self, number: int | None, target: str | os.PathLike[str], reason: str):
        free = size_text(shutil.disk_usage(Path(target).parent).free)
        super().__init__(number, f"cannot write {target}: {reason} ({free} free)")
        self.reason = reason

    @classmethod
    def renamed(cls, error: OSError, target: str | os.PathLike[str]) -> "DiskFullError":
        """Return the same error with the path that the user asked for instead of a part of it."""
        reason = error.reason if isinstance(error, cls) else str(error.strerror)
        return cls(error.errno, target, reason)


@contextlib.contextmanager
def disk_full_explained(target: Path) -> Iterator[None]:
    """Turn a full disk into a `DiskFullError` that names the output, in the outermost block."""
    try:
        yield
    except OSError as error:
        if error.errno not in DISK_FULL:
            raise
        raise DiskFullError.renamed(error, target) from None


def sync_tree(path: Path) -> None:
    """Flush a file, or a folder with its contents, to disk."""
    for inside in path.rglob("*") if path.is_dir() else ():
        sync(inside)
    sync(path)


def sync(path: Path) -> None:
    """Flush a file or a folder to disk if the system can."""
    try:
        handle = os.open(path, os.O_RDONLY)
    except OSError:
        if path.is_dir():
            return  # folders cannot be opened everywhere
        raise
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
