"""Let one process at a time write an output, by a lock file that names its holder."""

import contextlib
import os
import platform
from collections.abc import Iterator
from pathlib import Path

import filelock

from cryojax_seg.io.files import BusyError, PathLike, partial_path

_HOST = f" host {platform.node()}"


def lock_path(target: Path) -> Path:
    """Return the path of the lock file of an output.

    >>> lock_path(Path("a/b.mrc")).name
    '.b.mrc.partial.lock'
    """
    partial = partial_path(target)
    return partial.with_name(f"{partial.name}.lock")


class Lock:
    """Holds a lock file until `release`.

    The file names process and machine for people; what counts is an advisory lock of the system,
    which ends with the process. So the lock of a dead process is taken over, and its number is
    never trusted. The file is removed only while the lock is held: whoever has opened it meanwhile
    sees that it has no name any more, and tries again.

    Args:
        path: the lock file; its folder must exist.
        name: of what is locked, for messages.
        other_machines: whether the lock of a process on another machine is taken over. Where the
            system's locks do not reach from one machine to another, that process may live.

    Attributes:
        former: who left the lock file without cleaning up; empty if nobody did.

    Raises:
        BusyError: if another process holds the lock; it says who.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "lock"
    >>> lock = Lock(path, "the output")
    >>> lock.release()
    >>> path.exists()
    False
    """

    def __init__(self, path: Path, name: PathLike, other_machines: bool = True):
        self._path, self._named = path, True
        self._lock = filelock.FileLock(path)
        try:
            self._lock.acquire(timeout=0)
        except filelock.Timeout:
            raise BusyError(
                f"{name}: another process is writing it ({_holder(path) or 'unknown'}); wait for "
                "it or stop it"
            ) from None
        self.former = _holder(path)
        if self.former and not other_machines and not self.former.endswith(_HOST):
            self._lock.release()
            raise BusyError(
                f"{name}: locked by a process on another machine ({self.former}); if that has "
                f"ended, remove {path}"
            )
        with contextlib.suppress(OSError):  # a full disk, or a system that locks the content too
            path.write_text(f"pid {os.getpid()}{_HOST}")

    def remove(self) -> None:
        """Remove the file; the lock is still held but no longer visible."""
        if not self._named:
            return  # what is there now belongs to another process
        self._named = False
        try:
            self._path.unlink(missing_ok=True)
        except OSError:  # Windows keeps what is open; then at least nobody seems to hold it
            with contextlib.suppress(OSError):
                self._path.write_text("")

    def release(self) -> None:
        """Remove the file and release the lock; a second call changes nothing."""
        if self._lock.is_locked:
            self.remove()
            self._lock.release()


@contextlib.contextmanager
def held(path: Path, name: PathLike, other_machines: bool = True) -> Iterator[Lock]:
    """Hold a `Lock` while a block runs.

    >>> import tempfile
    >>> output = Path(tempfile.mkdtemp()) / "labels.mrc"
    >>> with held(lock_path(output), output):
    ...     lock_path(output).exists()
    True
    >>> lock_path(output).exists()
    False
    """
    lock = Lock(path, name, other_machines)
    try:
        yield lock
    finally:
        lock.release()


def _holder(path: Path) -> str:
    try:
        return path.read_bytes()[:4096].decode(errors="replace").strip()
    except OSError:
        return ""
