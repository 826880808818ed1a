"""Where outputs must not lie."""

import os
from collections.abc import Iterable
from pathlib import Path

from cryojax_seg.io.files import FileError, PathLike, real_path


def check_places(outputs: Iterable[PathLike], inputs: Iterable[PathLike] = ()) -> None:
    """Refuses outputs with which something that is needed could be lost.

    Args:
        outputs: files and folders that a command writes as wholes.
        inputs: files and folders that it reads.

    Raises:
        FileError: if an output is an input or contains one, or is the current folder or contains
            it.

    >>> check_places(["."], ["a.mrc"])
    Traceback (most recent call last):
    cryojax_seg.io.files.FileError: .: is the current folder or contains it; name another for the...
    """
    read = [(path, real_path(path)) for path in inputs]
    for output in outputs:
        target = real_path(output)
        if Path.cwd().is_relative_to(target):
            raise FileError(
                f"{output}: is the current folder or contains it; name another for the output"
            )
        for path, source in read:
            if source == target or (
                source.exists() and target.exists() and os.path.samefile(source, target)
            ):
                raise FileError(f"{output}: is the input itself; choose another name (--output)")
            if source.is_relative_to(target):
                raise FileError(
                    f"{output}: contains {path}, which is read; choose another name (--output)"
                )
