"""Keeps freed memory for reuse."""

import ctypes
import platform

# Parameters of glibc's mallopt, from malloc.h.
_TRIM_THRESHOLD, _MMAP_MAX, _ARENA_MAX = -1, -4, -8


def keep_memory(most: int = 2**31 - 1) -> bool:
    """Let this process keep the memory of freed large arrays for the next ones.

    By default glibc returns it to the system and requests it again, page by page, at each call of a
    compiled program: a training step on a CPU takes up to twice as long. Other processes cannot use
    the memory that is kept, so give a smaller limit where large volumes are streamed within a
    memory limit. Call it before the first computation. It has no effect with other C libraries.

    Args:
        most: free bytes at the end of the heap that are kept, below 2**31.

    Returns:
        whether it had an effect.

    >>> keep_memory() in (True, False)
    True
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    settings = ((_MMAP_MAX, 0), (_TRIM_THRESHOLD, most), (_ARENA_MAX, 1))
    return all([mallopt(parameter, value) == 1 for parameter, value in settings])
