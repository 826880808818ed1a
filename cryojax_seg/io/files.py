"""Define the errors and warnings of all readers, and writes that complete or leave nothing."""

import contextlib
import errno
import fnmatch
import os
import platform
import re
import shutil
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

from cryojax_seg.errors import Mendable, ParameterError
from cryojax_seg.io.disk import disk_full_explained, sync, sync_tree
from cryojax_seg.text import shortened, size_text

PathLike = str | os.PathLike[str]


class FileError(ParameterError):
    """Reports that a file is refused; one line of bounded length names it and says what to do.

    Where a parameter of the call mends it, `parameters` names that one.

    >>> len(str(FileError("a.star: the word " + 10**6 * "x" + " is no number")))
    500
    """

    def __init__(self, message: str, *parameters: str):
        super().__init__(shortened(message), *parameters)


class BusyError(FileError):
    """Another process is writing the file; try again later.

    >>> raise BusyError("labels.mrc: another process is writing it")
    Traceback (most recent call last):
    cryojax_seg.io.files.BusyError: labels.mrc: another process is writing it
    """


class HeaderWarning(Mendable, UserWarning):
    """Warns that a file was read whose header is suspicious.

    >>> HeaderWarning("t.mrc: voxel size unknown; give voxel_size", "voxel_size").parameters
    ('voxel_size',)
    """


def existing_file(path: PathLike) -> Path:
    """Return the path of a readable, non-empty regular file, or raise a FileError."""
    path = Path(path)
    try:
        mode = path.stat().st_mode
    except ValueError:
        raise FileError(f"{path}: is not the name of a file") from None
    except OSError as error:  # also a name that is too long, or a circle of links
        link = "is a link that leads nowhere" if os.path.islink(path) else "no such file"
        known = isinstance(error, FileNotFoundError)
        why = "" if known else f" ({error.strerror})"
        raise FileError(f"{path}: {link}{why}; check the spelling and the current folder") from None
    if stat.S_ISDIR(mode):
        raise FileError(f"{path}: is a folder, a file is needed")
    if not stat.S_ISREG(mode):  # reading a pipe or a device might never end
        raise FileError(f"{path}: is a pipe, a device or a socket; a file is needed")
    if not os.access(path, os.R_OK):
        raise FileError(f"{path}: no permission to read it")
    if path.stat().st_size == 0:
        raise FileError(f"{path}: is empty (0 bytes); copy it again")
    return path


def check_memory(
    path: PathLike,
    nbytes: int,
    advice: str = "decompress it so that it can be memory-mapped, or bin or crop it first",
) -> None:
    """Raise a FileError if an array needs more bytes than this machine has; allocate nothing.

    >>> check_memory("small.mrc", 1024)
    >>> check_memory("huge.mrc", 2**60)
    Traceback (most recent call last):
    cryojax_seg.io.files.FileError: huge.mrc: needs 1048576.0 TiB in memory and this machine has ...
    """
    try:
        total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):  # not a POSIX machine: a fixed, generous bound
        total = 2**36
    if nbytes > total:
        raise FileError(
            f"{path}: needs {size_text(nbytes)} in memory and this machine has "
            f"{size_text(total)}; {advice}"
        )


@contextlib.contextmanager
def atomic_write(path: PathLike, overwrite: bool = True) -> Iterator[Path]:
    """Write a file completely or not at all.

    Yields the path of a temporary file in the same folder, with the same suffix. When the block
    ends the file is flushed to disk and renamed to `path`; when it raises, the temporary is
    removed and whatever was at `path` is untouched. A temporary left by a killed process is
    removed by the next write to the same path.

    Args:
        path: where the file shall be; its folder must exist.
        overwrite: replace an existing file; otherwise it is refused, also if it appears while
            this one is being written.

    Raises:
        FileError: if the folder is missing or not writable, or the file exists.
        OSError: if the disk is full; it names the path and the free space.

    >>> import tempfile
    >>> target = Path(tempfile.mkdtemp()) / "note.txt"
    >>> with atomic_write(target) as temporary:
    ...     _ = temporary.write_text("done")
    >>> target.read_text(), len(list(target.parent.iterdir()))
    ('done', 1)
    """
    target = target_path(path, overwrite)
    if target.exists() and not target.is_file():
        raise FileError(f"{path}: exists and is not a file; choose another name")
    temporary = _temporary(target)
    try:
        with disk_full_explained(target):
            yield temporary
            if not temporary.is_file():
                raise FileError(f"{path}: nothing was written")
            sync(temporary)
            publish_file(temporary, target, overwrite)
            sync(target.parent)
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def atomic_folder(
    path: PathLike, overwrite: bool = False, own: Sequence[str] = ()
) -> Iterator[Path]:
    """Write a folder completely or not at all; yield an empty temporary folder to fill.

    An existing folder is moved aside and removed only after the new one is in place.

    Args:
        path: where the folder shall be.
        overwrite: replace an existing folder, if it holds nothing but what `own` names.
        own: see `check_own`.

    >>> import tempfile
    >>> target = Path(tempfile.mkdtemp()) / "notes"
    >>> with atomic_folder(target) as temporary:
    ...     _ = (temporary / "note.txt").write_text("done")
    >>> [path.name for path in target.iterdir()]
    ['note.txt']
    """
    target = target_path(path, overwrite)
    if target.exists() and not target.is_dir():
        raise FileError(f"{path}: exists and is not a folder; choose another name")
    check_own(target, own)
    temporary = _temporary(target)
    try:
        with disk_full_explained(target):
            temporary.mkdir()
            yield temporary
            check_own(target, own)
            publish_folder(temporary, target, overwrite)
    finally:
        remove(temporary)


def check_own(folder: Path, own: Sequence[str]) -> None:
    """Raise a FileError that names the first foreign file in a folder.

    Args:
        folder: that shall be replaced; it may be absent.
        own: patterns of the files that its writer writes, relative to it, such as ``meshes/*.ply``.

    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> (folder / "thesis.txt").touch()
    >>> check_own(folder, ["*.mrc"])
    Traceback (most recent call last):
    cryojax_seg.io.files.FileError: ...: holds thesis.txt, which was not written by ...
    """
    for place, folders, files in os.walk(folder):
        links = [name for name in folders if os.path.islink(os.path.join(place, name))]
        for name in sorted(files + links):
            inside = Path(place, name).relative_to(folder)
            if not any(_matches(inside, pattern) for pattern in own):
                raise FileError(
                    f"{folder}: holds {inside}, which was not written by this command and would be "
                    "lost; move it away, or choose another name"
                )


def _matches(inside: Path, pattern: str) -> bool:
    parts, wanted = inside.parts, pattern.split("/")
    return len(parts) == len(wanted) and all(map(fnmatch.fnmatchcase, parts, wanted))


def remove(path: Path) -> None:
    """Remove a file, or a folder with its contents; do nothing if it is absent."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def real_path(path: PathLike) -> Path:
    """Return the absolute path without links; raise a FileError for a link that leads to itself.

    >>> real_path("/").is_absolute()
    True
    """
    try:
        os.stat(path)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise FileError(
                f"{path}: is a symbolic link that leads to itself; remove it, or choose another"
            ) from None
    return Path(os.path.realpath(path))


def former_folder(path: PathLike) -> Path:
    """Return the path at which `atomic_folder` keeps the former folder between two renames."""
    path = Path(path)
    return path.with_name(f".former-{path.name}")


def partial_path(target: Path) -> Path:
    """Return the path of a volume that is written part by part until it is complete.

    >>> partial_path(Path("a/b.mrc")).name
    '.b.mrc.partial'
    """
    return target.with_name(f".{target.name}.partial")


def exists_already(path: Path) -> FileError:
    """Return the error that refuses to replace a file or folder.

    >>> exists_already(Path("a.mrc"))
    FileError('a.mrc: exists already; choose another name or allow overwriting')
    """
    return FileError(
        f"{path}: exists already; choose another name or allow overwriting", "overwrite"
    )


def target_path(path: PathLike, overwrite: bool) -> Path:
    """Return the real path of an output after checks that write nothing."""
    target = real_path(path)
    if not target.parent.is_dir():
        raise FileError(f"{path}: there is no folder {target.parent}; make it first")
    if not os.access(target.parent, os.W_OK):
        raise FileError(f"{path}: no permission to write into {target.parent}")
    if target.exists() and not overwrite:
        raise exists_already(Path(path))
    return target


def open_fresh(path: Path) -> BinaryIO:
    """Open a new file for writing.

    What has that name is not emptied but loses it: after a kill it may be another name of a
    finished file.
    """
    remove(path)
    return open(path, "xb")


def _temporary(target: Path) -> Path:
    """Return a temporary name in the same folder; remove leftovers of dead processes."""
    host = re.sub(r"[^A-Za-z0-9]", "", platform.node())[:24]
    # The end of the name keeps the suffix, which some writers take the format from.
    tail = target.name[-150:]
    for stale in target.parent.glob(f".tmp-{host}-*"):
        match = re.fullmatch(rf"\.tmp-{host}-(\d+)-{re.escape(tail)}", stale.name)
        # A process that had the number of this one is dead too, and what it left may be another
        # name of a finished file: to open it for writing would empty that.
        if match and (int(match[1]) == os.getpid() or not _alive(int(match[1]))):
            remove(stale)
    return target.with_name(f".tmp-{host}-{os.getpid()}-{tail}")


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def publish_file(temporary: Path, target: Path, overwrite: bool) -> None:
    """Rename a complete file; without `overwrite`, refuse to replace a file that appeared."""
    if not overwrite:
        try:
            os.link(temporary, target)  # unlike a rename, refuses an existing file atomically
        except OSError:
            # A killed process may have given it the name already, and not taken the first away.
            if target.exists() and not os.path.samefile(temporary, target):
                raise exists_already(target) from None
        else:
            temporary.unlink()
            return
    os.replace(temporary, target)
    temporary.unlink(missing_ok=True)  # a rename leaves both where they are one file


def publish_folder(temporary: Path, target: Path, overwrite: bool) -> None:
    """Rename a complete folder; with `overwrite`, replace the one that is there."""
    sync_tree(temporary)
    former = former_folder(target)
    if target.exists():
        if not overwrite:
            raise exists_already(target)
        remove(former)
        target.rename(former)
    try:
        temporary.rename(target)
    except OSError:
        if former.exists():
            former.rename(target)
        raise
    sync(target.parent)
    remove(former)
