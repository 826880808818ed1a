"""Keeps compiled programs from one run to the next."""

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path

_ENTRY, _TIME, _MARK, _LOCK = "-cache", "-atime", ".checked", ".lockfile"  # JAX's, but the mark
_WRITING = 2.0  # seconds that writing an entry may take
MAX_BYTES = 2**30
MIN_SECONDS = 0.3  # of compilation; what compiles faster is hardly worth a file


def keep_compiled(folder: str | os.PathLike[str] | None = None) -> Path | None:
    """Let JAX reuse programs that it compiled in earlier runs.

    Call it before the first computation. The least recently used programs are removed when the
    folder exceeds one GiB; several processes may share it. If a folder is already set
    (``JAX_COMPILATION_CACHE_DIR``) or the cache is off (``JAX_ENABLE_COMPILATION_CACHE=false``),
    nothing changes except that incomplete entries are removed.

    Args:
        folder: the folder of the programs; by default ``cryojax-seg/compiled`` in the user's cache
            folder.

    Returns:
        the folder in use; None if programs are not kept, because the cache is off or the folder is
        not writable.

    >>> import tempfile
    >>> import jax
    >>> before = jax.config.jax_compilation_cache_dir
    >>> folder = keep_compiled(tempfile.mkdtemp())
    >>> folder is None or folder.is_dir()
    True
    >>> jax.config.update("jax_compilation_cache_dir", before)
    """
    import jax
    import platformdirs

    if not jax.config.jax_enable_compilation_cache:  # pyright: ignore
        return None
    chosen: str | None = jax.config.jax_compilation_cache_dir  # pyright: ignore
    if chosen is not None:
        if "://" not in chosen:
            remove_torn(Path(chosen))
        return Path(chosen)
    if folder is None:
        folder = platformdirs.user_cache_path("cryojax-seg") / "compiled"
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:  # no home, or a full or read-only disk: then it is only slower
        return None
    if not os.access(folder, os.W_OK):
        return None
    remove_torn(folder, bounded=True)
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_compilation_cache_max_size", MAX_BYTES)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", MIN_SECONDS)
    return folder


def remove_torn(folder: Path, bounded: bool = False) -> None:
    """Remove compiled programs that a killed process wrote in part.

    JAX would warn of them in every later run, and compile them again without keeping them. Only
    entries written since the last call are read.

    Args:
        folder: JAX's cache; it may be absent.
        bounded: whether JAX limits its size, so that each program has a file with its time and
            writers hold a lock. Without a lock, new entries may still be in the course of writing,
            and stay.

    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> _ = (folder / "a-cache").write_bytes(b"torn"), (folder / "a-atime").touch()
    >>> remove_torn(folder, bounded=True)
    >>> [path.name for path in folder.glob("a*")]
    []
    """
    mark, now = folder / _MARK, time.time()
    with _alone(folder, bounded) as alone, contextlib.suppress(OSError):
        if not alone:
            return
        since = mark.stat().st_mtime - _WRITING if mark.exists() else 0.0
        for entry in folder.glob(f"*{_ENTRY}"):
            changed, timed = (
                entry.stat().st_mtime,
                entry.with_name(entry.name.removesuffix(_ENTRY) + _TIME),
            )
            fresh = not bounded and changed > now - _WRITING
            lost = bounded and not timed.exists()
            if lost or (changed >= since and not fresh and not _is_whole(entry)):
                entry.unlink(missing_ok=True)
                timed.unlink(missing_ok=True)
        mark.touch()
        os.utime(mark, (now, now))


@contextlib.contextmanager
def _alone(folder: Path, bounded: bool) -> Iterator[bool]:
    """Hold the lock of the cache, and yield whether no other process writes to it."""
    import filelock

    if not folder.is_dir() or not bounded:
        yield folder.is_dir()
        return
    lock = filelock.FileLock(folder / _LOCK)
    try:
        lock.acquire(timeout=0)
    except (filelock.Timeout, OSError):  # another time
        yield False
        return
    try:
        yield True
    finally:
        lock.release()


def _is_whole(entry: Path) -> bool:
    """Return whether a compressed program can be unpacked."""
    try:
        from jax._src.compilation_cache import decompress_executable
    except ImportError:  # it is not public: then JAX itself must see to it
        return True
    try:
        decompress_executable(entry.read_bytes())
    except FileNotFoundError:  # another process removed it
        return True
    except Exception:  # as each of the compressions that JAX knows has it
        return False
    return True
