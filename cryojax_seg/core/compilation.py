"""Compiled programs, kept from one run to the next."""

import os
from pathlib import Path

MAX_BYTES = 2**30
MIN_SECONDS = 0.3  # of compilation; what compiles faster is hardly worth a file


def keep_compiled(folder: str | os.PathLike[str] | None = None) -> Path | None:
    """Lets JAX find again what it compiled in an earlier run.

    Call it before the first computation. The least recently used programs go when the folder holds
    more than a GiB; several processes may share it. Where somebody has already chosen a folder
    (``JAX_COMPILATION_CACHE_DIR``) or turned the cache off (``JAX_ENABLE_COMPILATION_CACHE=false``)
    nothing changes.

    Args:
        folder: by default ``cryojax-seg/compiled`` in the user's cache folder.

    Returns:
        the folder in use; None if programs are not kept, because that is turned off or the folder
        cannot be written to.
    """
    import jax
    import platformdirs

    if not jax.config.jax_enable_compilation_cache:  # pyright: ignore
        return None
    chosen: str | None = jax.config.jax_compilation_cache_dir  # pyright: ignore
    if chosen is not None:
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
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_compilation_cache_max_size", MAX_BYTES)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", MIN_SECONDS)
    return folder
