"""What ``cryojax-seg restore`` writes: the restored volume, and how sure it is."""

import dataclasses
from typing import Any

from cryojax_seg.cli import console
from cryojax_seg.cli.segment import cure

SPREAD = "spread.mrc"


def apply(
    restorer: Any, tomogram: Any, volume: Any, sources: list[Any], options: Any, patch: int,
    digest: str, outputs: Any,
) -> None:  # fmt: skip
    """Writes the mean of the restored sources, tile by tile, on the scale of the tomogram."""
    import numpy as np

    from cryojax_seg import core, io
    from cryojax_seg.inference.planning import BASE, spared_by_memory
    from cryojax_seg.segmenters import fit_normalization

    fitted = fit_normalization(restorer, sources[0], patch=patch)
    memory = options.memory * 2**30 - BASE
    tiling = core.plan_tiles(fitted, sources[0].shape, memory, density)
    if spared := cure(spared_by_memory(fitted, tiling, density)):
        console.say(f"{tiling.waste:.2f} voxels computed for each of the tomogram{spared}")
    description = {"model": digest, "tiling": dataclasses.asdict(tiling)}
    volumes = [(options.output, np.float32)]
    with io.TileJob(description, volumes, tiling.shape, tomogram, True, outputs) as job:
        streams = [
            core.apply_tiles(fitted, source, tiling, density, job.done) for source in sources
        ]
        with console.progress(tiling.count, options.output.name, job.done) as advance:
            for parts in zip(*streams, strict=True):
                mean = sum(block for _, block in parts) / len(parts)
                where = parts[0][0]
                job.write(where, [volume.restored(where, mean)])
                advance()


def write_draws(
    restorer: Any, tomogram: Any, volume: Any, wedge: Any, options: Any, patch: int,
    outputs: Any,
) -> None:  # fmt: skip
    """Writes the mean of several answers, and their spread beside the model."""
    import numpy as np

    from cryojax_seg import core, io
    from cryojax_seg.inference.planning import BASE
    from cryojax_seg.restore import draws
    from cryojax_seg.segmenters import fit_normalization

    fitted: Any = fit_normalization(restorer, volume, patch=patch)
    tiling = core.plan_tiles(fitted, volume.shape, options.memory * 2**30 - BASE)
    whole = np.asarray(volume[:, :, :])  # its wedge is filled with noise as a whole
    mean, deviation = draws(fitted, whole, wedge, options.draws, options.seed, tiling)
    deviation[volume.missing(np.s_[:, :, :])] = 0
    spread = outputs.place(options.output.with_suffix(".run") / SPREAD)
    io.write_mrc(spread, deviation / abs(volume.intensity.gain), tomogram, overwrite=True)
    volumes = [(options.output, np.float32)]
    with io.TileJob({}, volumes, mean.shape, tomogram, True, outputs) as job:
        everywhere = (slice(None),) * 3
        job.write(everywhere, [volume.restored(everywhere, mean)])


def density(logits: Any) -> Any:
    """The one channel of a restorer."""
    return logits[..., 0]
