"""Check that outputs do not lie where they would destroy something."""

import contextlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from cryojax_seg.io.files import FileError, PathLike, real_path


@contextlib.contextmanager
def folder_made(folder: Path) -> Iterator[None]:
    """Make a folder and its parents for a block; remove those that stay empty afterwards.

    >>> import tempfile
    >>> place = Path(tempfile.mkdtemp())
    >>> with folder_made(place / "a" / "b"):
    ...     (place / "a" / "b").is_dir()
    True
    >>> list(place.iterdir())
    []
    """
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):  # it is not empty
            for path in made:
                path.rmdir()


def check_places(outputs: Iterable[PathLike], inputs: Iterable[PathLike] = ()) -> None:
    """Refuse outputs that would replace an input or the current folder.

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
                raise FileError(f"{output}: is the input itself; choose another name", "output")
            if source.is_relative_to(target):
                raise FileError(
                    f"{output}: contains {path}, which is read; choose another name", "output"
                )
