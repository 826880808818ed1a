"""What every reader and writer shares: refusals, warnings, and writes that are all or nothing."""

import contextlib
import errno
import os
import platform
import re
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

from cryojax_seg.text import shortened

PathLike = str | os.PathLike[str]

_DISK_FULL = (errno.ENOSPC, errno.EFBIG, errno.EDQUOT)


class FileError(ValueError):
    """A file is refused; the message names it and says what to do, on one line of bounded length.

    >>> len(str(FileError("a.star: the word " + 10**6 * "x" + " is no number")))
    500
    """

    def __init__(self, message: str):
        super().__init__(shortened(message))


class BusyError(FileError):
    """Another process is writing the file; later it may be done, or free again."""


class HeaderWarning(UserWarning):
    """A file was read, but what it says about itself is suspicious."""


def existing_file(path: PathLike) -> Path:
    """The path of a readable, non-empty regular file, or a FileError that says what is there."""
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
    """Refuses to hold more bytes than this machine has, before anything is allocated."""
    try:
        total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):  # not a POSIX machine: a fixed, generous bound
        total = 2**36
    if nbytes > total:
        raise FileError(
            f"{path}: needs {size_text(nbytes)} in memory and this machine has "
            f"{size_text(total)}; {advice}"
        )


def size_text(nbytes: int) -> str:
    """A number of bytes for people.

    >>> size_text(3 * 2**30)
    '3.0 GiB'
    >>> size_text(1024)
    '1024 bytes'
    """
    for unit, size in (("TiB", 2**40), ("GiB", 2**30), ("MiB", 2**20)):
        if nbytes >= size:
            return f"{nbytes / size:.1f} {unit}"
    return f"{nbytes} bytes"


@contextlib.contextmanager
def atomic_write(path: PathLike, overwrite: bool = True) -> Iterator[Path]:
    """Writes a file completely or not at all.

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
def atomic_folder(path: PathLike, overwrite: bool = False) -> Iterator[Path]:
    """Like `atomic_write`, for a folder of files: yields an empty temporary folder beside it.

    An existing folder is moved aside and removed only after the new one is in place.
    """
    target = target_path(path, overwrite)
    if target.exists() and not target.is_dir():
        raise FileError(f"{path}: exists and is not a folder; choose another name")
    temporary = _temporary(target)
    try:
        with disk_full_explained(target):
            temporary.mkdir()
            yield temporary
            publish_folder(temporary, target, overwrite)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def former_folder(path: PathLike) -> Path:
    """Where `atomic_folder` keeps the former folder for the instant between two renames."""
    path = Path(path)
    return path.with_name(f".former-{path.name}")


def partial_path(target: Path) -> Path:
    """Where a volume that is written part by part lies until it is complete.

    >>> partial_path(Path("a/b.mrc")).name
    '.b.mrc.partial'
    """
    return target.with_name(f".{target.name}.partial")


def _exists(path: Path) -> str:
    return f"{path}: exists already; choose another name or allow overwriting (--overwrite)"


def target_path(path: PathLike, overwrite: bool) -> Path:
    """The real path, so that a link is written through, after the checks that need no writing."""
    target = Path(os.path.realpath(path))
    if not target.parent.is_dir():
        raise FileError(f"{path}: there is no folder {target.parent}; make it first")
    if not os.access(target.parent, os.W_OK):
        raise FileError(f"{path}: no permission to write into {target.parent}")
    if target.exists() and not overwrite:
        raise FileError(_exists(Path(path)))
    return target


def _temporary(target: Path) -> Path:
    """A name in the same folder; what dead processes of this machine left there is removed."""
    host = re.sub(r"[^A-Za-z0-9]", "", platform.node())[:24]
    # The end of the name keeps the suffix, which some writers take the format from.
    tail = target.name[-150:]
    for stale in target.parent.glob(f".tmp-{host}-*"):
        match = re.fullmatch(rf"\.tmp-{host}-(\d+)-{re.escape(tail)}", stale.name)
        if match and not _alive(int(match[1])):
            shutil.rmtree(stale, ignore_errors=True) if stale.is_dir() else stale.unlink(True)
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
    """Renames a complete file; without `overwrite` a file that appeared meanwhile is refused."""
    if not overwrite:
        try:
            os.link(temporary, target)  # unlike a rename, refuses an existing file atomically
            return
        except FileExistsError:
            raise FileError(_exists(target)) from None
        except OSError:
            if target.exists():
                raise FileError(_exists(target)) from None
    os.replace(temporary, target)


def publish_folder(temporary: Path, target: Path, overwrite: bool) -> None:
    """Renames a complete folder; with `overwrite` in the place of the one that is there."""
    for entry in temporary.iterdir():
        sync(entry)
    sync(temporary)
    former = former_folder(target)
    if target.exists():
        if not overwrite:
            raise FileError(_exists(target))
        shutil.rmtree(former, ignore_errors=True)
        target.rename(former)
    try:
        temporary.rename(target)
    except OSError:
        if former.exists():
            former.rename(target)
        raise
    sync(target.parent)
    shutil.rmtree(former, ignore_errors=True)


def sync(path: Path) -> None:
    """Flushes a file or a folder to disk, where the system can."""
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


@contextlib.contextmanager
def disk_full_explained(target: Path) -> Iterator[None]:
    """Adds to the error of a full disk what was being written and how much is free."""
    try:
        yield
    except OSError as error:
        if error.errno not in _DISK_FULL:
            raise
        free = size_text(shutil.disk_usage(target.parent).free)
        message = f"cannot write {target}: {error.strerror} ({free} free); nothing was changed"
        raise OSError(error.errno, message) from error
