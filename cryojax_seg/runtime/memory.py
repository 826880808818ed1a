"""Memory that is used again instead of being given back."""

import ctypes
import platform

# Parameters of glibc's mallopt, from malloc.h.
_TRIM_THRESHOLD, _MMAP_MAX, _ARENA_MAX = -1, -4, -8


def keep_memory() -> bool:
    """Lets this process keep the memory that large arrays leave, for the next ones.

    By default glibc gives it back to the system and asks for it again, page by page, at each call
    of a compiled program: a training step on a CPU takes up to twice as long. What is kept is not
    there for other processes, so what streams large volumes within a bound does without. Call it
    before the first computation. Without effect where the C library is another.

    Returns:
        whether it had an effect.

    >>> keep_memory() in (True, False)
    True
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    settings = ((_MMAP_MAX, 0), (_TRIM_THRESHOLD, 2**31 - 1), (_ARENA_MAX, 1))
    return all([mallopt(parameter, value) == 1 for parameter, value in settings])
