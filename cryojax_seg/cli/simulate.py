"""``cryojax-seg simulate``: tomograms with a truth, as many as wanted."""

import dataclasses
import hashlib
import time
from pathlib import Path
from typing import Annotated, Any, Literal

from tyro.conf import Positional, arg

from cryojax_seg.cli import console
from cryojax_seg.cli.arguments import Output, Overwrite, Resume

Preset = Literal[
    "vesicles",
    "organelles",
    "cytoskeleton",
    "crowded",
    "contrast_drift",
    "threshold_dilemma",
    "flat_bilayers",
]
_VOLUMES = ("tomogram", "even", "odd", "labels", "instances")
FILES = (*(f"{name}.mrc" for name in _VOLUMES), "particles.star", "truth.json")
WITH_CROWD = ("vesicles", "organelles", "cytoskeleton", "crowded", "contrast_drift")


@dataclasses.dataclass(frozen=True)
class Simulate:
    """Make tomograms of known structures, with everything that is true about them.

    Writes a folder for each, PRESET-000 and so on, with tomogram.mrc, its halves even.mrc and
    odd.mrc (dark = dense), labels.mrc (0 background, 1 membrane, 2 lumen, 3 microtubule, 4 actin,
    5 macromolecule), instances.mrc, particles.star and truth.json.
    """

    preset: Positional[Preset]
    """Kind of sample to simulate."""
    output: Output
    """Folder for the tomograms."""
    shape: Annotated[tuple[int, int, int], arg(metavar="Z Y X")] = (64, 128, 128)
    """Size of the volume in voxels."""
    voxel_size: Annotated[float, arg(metavar="ANGSTROM")] = 10.0
    """Voxel size in angstrom."""
    snr: float = 0.1
    """Signal-to-noise ratio inside the structures: variance of the signal over that of the noise.
    Real tomograms have 0.02 to 1."""
    tier: Literal["wedge", "tilt_series"] = "wedge"
    """wedge: the missing wedge and coloured noise, in milliseconds. tilt_series: projections,
    contrast transfer, thickness, radiation damage, electrons and a reconstruction."""
    tilt_range: Annotated[tuple[float, float], arg(metavar="LO HI")] = (-60.0, 60.0)
    """Lowest and highest tilt in degrees."""
    tilt_step: float = 3.0
    """Degrees between tilts (tilt_series only)."""
    tilt_axis: Literal["y", "x"] = "y"
    """Axis the sample is tilted about."""
    crowding: Annotated[float | None, arg(help_behavior_hint="(default: of the preset)")] = None
    """Fraction of the free volume that macromolecules fill, 0 to 0.3."""
    maps: Annotated[tuple[Path, ...], arg(metavar="MAP ...")] = ()
    """Density maps (MRC) of macromolecules to place instead of ribosomes, proteasomes and small
    proteins. What exceeds Otsu's threshold is taken for solid protein."""
    count: int = 1
    """How many tomograms."""
    seed: int = 0
    """Seed of the first; the same seed gives the same tomograms."""
    resume: Resume = False
    overwrite: Overwrite = False


def run(options: Simulate) -> None:
    """Does what `Simulate` says; a ValueError or OSError tells what is wrong in one line."""
    _check(options)
    from cryojax_seg import io

    folders = [options.output / f"{options.preset}-{i:03d}" for i in range(options.count)]
    io.check_places(folders, options.maps)
    lock = io.lock_path(options.output / options.preset)
    with io.folder_made(options.output), io.held(lock, folders[0]) as lock:
        _simulate(options, [folder.name for folder in folders], bool(lock.former))


def _simulate(options: Simulate, names: list[str], killed: bool) -> None:
    """Makes those tomograms that are not there, or all, in a folder that is held."""
    there = [name for name in names if (options.output / name).exists()]
    # Where some are there and some are not, a call with the same options was interrupted.
    begun = bool(there) and (killed or len(there) < len(names)) and not options.overwrite
    if options.resume or begun:
        _check_same(options, there)
        names = [name for name in names if name not in there]
        if begun:
            console.say(f"{len(there)} of {len(there) + len(names)} are done already")
    elif there and not options.overwrite:
        raise ValueError(
            f"{options.output / there[0]}: exists already; choose another --output, --resume to "
            "keep what is finished or --overwrite it"
        )
    start = time.monotonic()
    with console.progress(len(names), "simulating") as advance:
        for name in names:
            _one(options, int(name.rsplit("-", 1)[1]), options.output / name)
            advance()
    console.say(f"{len(names)} tomograms in {options.output}, {time.monotonic() - start:.0f} s")


def _check(options: Simulate) -> None:
    """Everything that can be refused before JAX is loaded."""
    if options.count < 1:
        raise ValueError(f"--count must be 1 or more, got {options.count}")
    if min(options.shape) < 1:
        raise ValueError(f"--shape must be three sizes of 1 or more, got {options.shape}")
    for name in ("voxel_size", "snr", "tilt_step"):
        value = getattr(options, name)
        if not 0 < value < float("inf"):
            raise ValueError(f"--{name.replace('_', '-')} must be above 0, got {value:g}")
    low, high = options.tilt_range
    if not -90 <= low < high <= 90:
        raise ValueError(
            f"--tilt-range must be two angles within -90 to 90, lowest first, got {low:g} {high:g}"
        )
    if options.crowding is not None and not 0 <= options.crowding <= 0.3:
        raise ValueError(f"--crowding must be within 0 to 0.3, got {options.crowding:g}")
    if options.crowding is not None and options.preset not in WITH_CROWD:
        raise ValueError(f"--crowding: the preset {options.preset} has no macromolecules")
    if options.maps and options.preset not in WITH_CROWD:
        raise ValueError(f"--maps: the preset {options.preset} has no macromolecules")


def _config(options: Simulate) -> dict[str, Any]:
    """What decides about the content of each tomogram."""
    from cryojax_seg.io.files import existing_file

    left_out = ("output", "count", "resume", "overwrite")
    config = {k: v for k, v in dataclasses.asdict(options).items() if k not in left_out}
    # By content, as a file may be named by another path when the command goes on.
    config["maps"] = [
        [path.stem, hashlib.sha256(path.read_bytes()).hexdigest()]
        for path in map(existing_file, options.maps)
    ]
    return {k: list(v) if isinstance(v, tuple) else v for k, v in config.items()}


def _check_same(options: Simulate, names: list[str]) -> None:
    """Refuses to continue in a folder that another configuration made."""
    from cryojax_seg import io

    for name in names:
        path = options.output / name / "truth.json"
        if not path.is_file() or io.read_json_object(path, 2**28).get("config") != _config(options):
            raise ValueError(
                f"{path.parent}: was not made with these options; choose another --output or "
                "--overwrite it"
            )


def _one(options: Simulate, number: int, folder: Path) -> None:
    import json

    import jax
    import numpy as np

    from cryojax_seg import core, io, runtime
    from cryojax_seg import simulate as s

    runtime.keep_compiled()
    runtime.keep_memory()
    scene_key, noise_key = jax.random.split(
        jax.random.fold_in(jax.random.key(options.seed), number)
    )
    imaging = _imaging(options)
    phantom = s.simulate(_scene(options, scene_key), imaging, noise_key)
    for note in phantom.scene.notes:
        console.warn(f"{folder.name}: {note}")
    like = core.Tomogram(np.asarray(phantom.density), phantom.voxel_size)
    with io.atomic_folder(folder, options.overwrite, FILES) as temporary:
        for name in ("density", "even", "odd"):
            dark = -np.asarray(getattr(phantom.imaged, name))
            file = temporary / f"{'tomogram' if name == 'density' else name}.mrc"
            io.write_mrc(file, dark, like)
        io.write_mrc(temporary / "labels.mrc", np.asarray(phantom.labels, np.int8), like)
        instances = np.asarray(phantom.truth.instances)
        smallest = np.int16 if instances.max() < 2**15 else np.int32
        io.write_mrc(temporary / "instances.mrc", instances.astype(smallest), like)
        _write_particles(temporary / "particles.star", folder.name, phantom)
        truth = {
            "config": _config(options),
            "number": number,
            "snr": float(phantom.imaged.snr),
            "wedge": phantom.wedge and dataclasses.asdict(phantom.wedge.as_numbers()),
            "imaging": {"kind": type(imaging).__name__} | dataclasses.asdict(imaging),
            "classes": s.CLASSES,
            "objects": s.measurements(phantom.scene),
            "notes": phantom.scene.notes,
            "versions": {"cryojax_seg": _version(), "jax": jax.__version__},
        }
        (temporary / "truth.json").write_text(json.dumps(truth, indent=1, default=float) + "\n")


def _version() -> str:
    from importlib.metadata import version

    return version("cryojax-seg")


def _scene(options: Simulate, key):
    from cryojax_seg.simulate import presets

    crowd: dict[str, Any] = {"species": _species(options.maps)} if options.maps else {}
    if options.crowding is not None:
        crowd["crowding"] = options.crowding
    size = (key, options.shape, options.voxel_size)
    match options.preset:
        case "vesicles":
            return presets.vesicles(*size, **crowd)
        case "organelles":
            return presets.organelles(*size, **crowd)
        case "cytoskeleton":
            return presets.cytoskeleton(*size, **crowd)
        case "crowded":
            return presets.crowded(*size, **crowd)
        case "contrast_drift":
            return presets.contrast_drift(*size, **crowd)
        case "threshold_dilemma":
            return presets.threshold_dilemma(*size)
        case "flat_bilayers":
            return presets.flat_bilayers(*size)


def _species(maps: tuple[Path, ...]):
    """Density maps in units of protein."""
    import numpy as np
    from skimage.filters import threshold_otsu

    from cryojax_seg import io
    from cryojax_seg.simulate import MapDensity

    found = {}
    for path in maps:
        read = io.read_tomogram(path)
        values = np.asarray(read.density, np.float32)
        try:
            level = float(threshold_otsu(values))
            unit = float(values[values > level].mean())
            found[path.stem] = MapDensity.from_map(
                values / unit, read.require_voxel_size(), level / unit
            )
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from None
    return found


def _imaging(options: Simulate):
    from cryojax_seg import simulate as s
    from cryojax_seg.core import MissingWedge

    if options.tier == "wedge":
        wedge = MissingWedge(options.tilt_range, options.tilt_axis)
        return s.WedgeImaging(snr=options.snr, wedge=wedge)
    low, high = options.tilt_range
    scheme = s.TiltScheme.every(options.tilt_step, low, high, tilt_axis=options.tilt_axis)
    return s.TiltSeriesImaging(s.Acquisition(scheme=scheme), options.snr)


def _write_particles(path: Path, tomogram: str, phantom) -> None:
    """The macromolecules, in voxels."""
    import numpy as np

    from cryojax_seg import core, io
    from cryojax_seg.simulate import particles

    found = particles(phantom.scene)
    table = core.Particles(
        np.array([p.centre for p in found]).reshape(-1, 3) / phantom.scene.voxel_size,
        np.array([np.eye(3) if p.rotation is None else p.rotation for p in found]),
        columns={
            "rlnTomoName": [tomogram] * len(found),
            "rlnParticleName": [p.name.replace(" ", "_") for p in found],
        },
        voxel_size=float(phantom.scene.voxel_size),
    )
    io.write_particles(path, table)
