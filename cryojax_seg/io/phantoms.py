"""Phantoms as folders of files: the tomogram, its halves, and everything that is true about it."""

import dataclasses
import hashlib
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cryojax_seg.core.particles import Particles
from cryojax_seg.core.tomogram import Tomogram
from cryojax_seg.errors import ParameterError
from cryojax_seg.io.files import FileError, PathLike, atomic_folder, existing_file
from cryojax_seg.io.label_card import LabelCard
from cryojax_seg.io.locks import held, lock_path
from cryojax_seg.io.mrc import write_mrc
from cryojax_seg.io.particles import write_particles
from cryojax_seg.io.places import check_places, folder_made
from cryojax_seg.io.plain import read_json_object
from cryojax_seg.io.volume import read_tomogram

if TYPE_CHECKING:
    from cryojax_seg.simulate import Imaging, MapDensity, Phantom

_VOLUMES = ("tomogram", "even", "odd", "labels", "instances")
_FILES = (*(f"{name}.mrc" for name in _VOLUMES), "particles.star", "truth.json")
_log = logging.getLogger("cryojax_seg.io")


def write_phantom(
    folder: PathLike,
    phantom: "Phantom",
    *,
    imaging: "Imaging | None" = None,
    facts: Mapping[str, Any] | None = None,
    overwrite: bool = False,
) -> None:
    """Write a phantom as a folder of files, completely or not at all.

    Writes ``tomogram.mrc``, its halves ``even.mrc`` and ``odd.mrc`` (structure dark),
    ``labels.mrc`` (indices into `simulate.CLASSES`), ``instances.mrc``, ``particles.star`` (the
    macromolecules) and ``truth.json``.

    Args:
        folder: the folder to write.
        phantom: as `simulate.simulate` returns it.
        imaging: how it was imaged, kept in ``truth.json``.
        facts: plain values kept in ``truth.json`` as well.
        overwrite: replace an earlier phantom.

    Raises:
        FileError: if the folder exists, or holds other files.

    >>> import tempfile
    >>> import jax
    >>> from cryojax_seg.simulate import Scene, WedgeImaging, simulate
    >>> phantom = simulate(Scene((), (8, 8, 8), 10.0), WedgeImaging(sigma=1.0), jax.random.key(0))
    >>> folder = Path(tempfile.mkdtemp()) / "empty"
    >>> write_phantom(folder, phantom)
    >>> sorted(path.name for path in folder.iterdir())[-2:]
    ['tomogram.mrc', 'truth.json']
    """
    from importlib.metadata import version

    from cryojax_seg import simulate

    folder = Path(folder)
    like = Tomogram(np.zeros(phantom.scene.shape, np.float32), phantom.voxel_size)
    with atomic_folder(folder, overwrite, _FILES) as temporary:
        for name in ("density", "even", "odd"):
            dark = -np.asarray(getattr(phantom.imaged, name))
            file = temporary / f"{'tomogram' if name == 'density' else name}.mrc"
            write_mrc(file, dark, like)
        card = LabelCard(tuple(simulate.CLASSES[1:]))
        write_mrc(temporary / "labels.mrc", np.asarray(phantom.labels, np.int8), like, card=card)
        instances = np.asarray(phantom.truth.instances)
        smallest = np.int16 if instances.max() < 2**15 else np.int32
        write_mrc(temporary / "instances.mrc", instances.astype(smallest), like)
        write_particles(temporary / "particles.star", _macromolecules(phantom, folder.name))
        how: Any = imaging
        truth = {
            **(facts or {}),
            "snr": float(phantom.imaged.snr),
            "contrast_sigma": float(phantom.imaged.snr) ** 0.5,
            "wedge": phantom.wedge and dataclasses.asdict(phantom.wedge.as_numbers()),
            "imaging": how and {"kind": type(how).__name__} | dataclasses.asdict(how),
            "classes": simulate.CLASSES,
            "objects": simulate.measurements(phantom.scene),
            "notes": phantom.scene.notes,
            "versions": {"cryojax_seg": version("cryojax-seg"), "jax": version("jax")},
        }
        (temporary / "truth.json").write_text(json.dumps(truth, indent=1, default=float) + "\n")


def write_phantoms(
    output: PathLike,
    name: str,
    count: int,
    make: Callable[[int], "Phantom"],
    *,
    imaging: "Imaging | None" = None,
    config: Mapping[str, Any] | None = None,
    inputs: Sequence[PathLike] = (),
    resume: bool = False,
    overwrite: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> int:
    """Make phantoms and write each into a folder NAME-000, NAME-001, ... of `output`.

    A call with the same configuration goes on after one that was interrupted.

    Args:
        output: the folder of folders.
        name: first part of the names of the folders.
        count: how many phantoms there shall be.
        make: returns the phantom of a number, from 0.
        imaging: how they are imaged, kept in ``truth.json``.
        config: plain values that decide about the content, kept in ``truth.json``.
        inputs: files that `make` reads, which count by their content.
        resume: keep the phantoms that are there if they were made with the same configuration.
        overwrite: replace those that are there.
        progress: called with the phantoms that are done and those there are to make.

    Returns:
        how many phantoms were made.

    Raises:
        FileError: if a folder exists already, or was made with another configuration.
        ParameterError: if count is not positive.

    >>> import tempfile
    >>> import jax
    >>> from cryojax_seg.simulate import Scene, WedgeImaging, simulate
    >>> noise = WedgeImaging(sigma=1.0)
    >>> def make(number):
    ...     return simulate(Scene((), (8, 8, 8), 10.0), noise, jax.random.key(number))
    >>> folder = tempfile.mkdtemp()
    >>> write_phantoms(folder, "empty", 2, make), write_phantoms(folder, "empty", 3, make)
    (2, 1)
    """
    if count < 1:
        raise ParameterError(f"count must be 1 or more, got {count}", "count")
    output = Path(output)
    stated = {**(config or {}), "inputs": [_fingerprint(path) for path in inputs]}
    stated = json.loads(json.dumps(stated))
    names = [f"{name}-{number:03d}" for number in range(count)]
    check_places([output / one for one in names], inputs)
    lock = lock_path(output / name)
    with folder_made(output), held(lock, output / names[0]) as lock:
        missing = _unfinished(output, names, stated, bool(lock.former), resume, overwrite)
        report = progress or (lambda done, count: None)
        report(0, len(missing))
        for done, one in enumerate(missing, 1):
            number = names.index(one)
            facts = {"config": stated, "number": number}
            write_phantom(
                output / one, make(number), imaging=imaging, facts=facts, overwrite=overwrite
            )
            report(done, len(missing))
    return len(missing)


def _unfinished(
    output: Path, names: list[str], config: Any, killed: bool, resume: bool, overwrite: bool
) -> list[str]:
    """Return the phantoms to make; those that are kept must have the same configuration."""
    there = [name for name in names if (output / name).exists()]
    # Where some are there and some are not, a call with the same configuration was interrupted.
    begun = bool(there) and (killed or len(there) < len(names)) and not overwrite
    if not resume and not begun:
        if there and not overwrite:
            raise FileError(
                f"{output / there[0]}: exists already; choose another output, resume to keep what "
                "is finished, or overwrite it",
                *("output", "resume", "overwrite"),
            )
        return names
    for name in there:
        path = output / name / "truth.json"
        if not path.is_file() or read_json_object(path, 2**28).get("config") != config:
            raise FileError(
                f"{path.parent}: was not made with these options; choose another output or "
                "overwrite it",
                *("output", "overwrite"),
            )
    if begun:
        _log.info(f"{len(there)} of {len(names)} are done already")
    return [name for name in names if name not in there]


def _fingerprint(path: PathLike) -> tuple[str, str]:
    # By content, as a file may be named by another path when the work goes on.
    file = existing_file(Path(path))
    return file.stem, hashlib.sha256(file.read_bytes()).hexdigest()


def _macromolecules(phantom: "Phantom", tomogram: str) -> Particles:
    """Return the macromolecules of a phantom, in voxels."""
    from cryojax_seg import simulate

    found = simulate.particles(phantom.scene)
    return Particles(
        np.array([p.centre for p in found]).reshape(-1, 3) / phantom.scene.voxel_size,
        np.array([np.eye(3) if p.rotation is None else p.rotation for p in found]),
        columns={
            "rlnTomoName": [tomogram] * len(found),
            "rlnParticleName": [p.name.replace(" ", "_") for p in found],
        },
        voxel_size=float(phantom.scene.voxel_size),
    )


def read_density_maps(paths: Sequence[PathLike]) -> dict[str, "MapDensity"]:
    """Read densities of macromolecules, in units of protein, by the names of their files.

    The 99th percentile above Otsu's threshold is taken for the density of solid protein. Maps that
    were computed from atoms at 10 angstrom voxels then have 1.1 to 1.3 times the mass of their
    complexes (beta-galactosidase, 20S proteasome, apoferritin); the mean above that threshold would
    give 1.7 times the mass. The envelope is at 0.4 times the density of protein, as that of
    `GaussianComplex`.

    Raises:
        FileError: naming a file that is no density, or has no voxel size.

    >>> import tempfile
    >>> ball = np.square(np.indices((9, 9, 9)) - 4).sum(0) < 9
    >>> file = Path(tempfile.mkdtemp()) / "ball.mrc"
    >>> write_mrc(file, 7 * ball.astype(np.float32), voxel_size=10.0)
    >>> list(read_density_maps([file]))
    ['ball']
    """
    from skimage.filters import threshold_otsu

    from cryojax_seg.simulate import MapDensity

    found = {}
    for path in map(Path, paths):
        read = read_tomogram(path)
        values = np.asarray(read.density, np.float32)
        try:
            within = values[values > threshold_otsu(values)]
            unit = float(np.percentile(within, 99)) if within.size else 1.0
            size = read.require_voxel_size()
            found[path.stem] = MapDensity.from_map(values / unit, size, level=0.4)
        except FileError:
            raise
        except ValueError as error:
            raise FileError(f"{path}: {error}") from None
    return found
