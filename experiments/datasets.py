"""Reads real volumes for experiments and tests from a folder that is not part of the project.

The environment variable ``CRYOJAX_SEG_DATA`` names the folder. Without it, ``../shared/data``
beside the working directory or beside the checkout is used if it exists. The folder should contain:

- ``cylindra_mt/``: two microtubules in vitreous ice, ``13pf_MT.tif`` and ``14pf_MT.tif``, and
  ``centreline_nm_zyx.json``, from the test data of hanjinliu/cylindra (BSD-3-Clause).
- ``autophagy/``: four label volumes ``*_labels.tif`` of the membranes of yeast autophagosomes,
  1.408 nm voxels, from Anna-Bieber/autophagy-tomo-analysis (MIT).
- ``polnet_templates/``: densities of proteins at 10 angstrom voxels, computed from PDB models:
  ``mrcs_10A/`` and, with the membrane across z in the middle of the box, ``mb_mrcs_10A/``, from
  anmartinezs/polnet (Apache-2.0).
"""

import dataclasses
import os
from pathlib import Path

import numpy as np

from cryojax_seg.core.tomogram import Tomogram
from cryojax_seg.io import read_density_maps, read_json_object, read_tomogram
from cryojax_seg.simulate.maps import MapDensity, of_one_size
from cryojax_seg.simulate.varied_labels import LabelledMembranes, surface_points

VARIABLE = "CRYOJAX_SEG_DATA"
MICROTUBULES = ("13pf", "14pf")
AUTOPHAGY_VOXEL = 14.08  # angstrom


class MissingData(FileNotFoundError):
    """A real volume is missing; the message says where it was looked for."""


def folder(name: str) -> Path:
    """Return the folder of one data set.

    Raises:
        MissingData: if it is not there.
    """
    given = os.environ.get(VARIABLE)
    beside = Path("..") / "shared" / "data"
    places = [Path(given)] if given else [beside, Path(__file__).resolve().parents[1] / beside]
    for place in places:
        if (place / name).is_dir():
            return place / name
    raise MissingData(
        f"the data set {name} is not in {' or '.join(str(p) for p in places)}; set {VARIABLE} to "
        f"a folder that holds {name}/ (see experiments/datasets.py)"
    )


@dataclasses.dataclass(frozen=True)
class Microtubule:
    """Holds a tomogram with one microtubule and points on its axis, ``(n, 3)`` voxels (zyx)."""

    tomogram: Tomogram
    centreline: np.ndarray


def microtubule(name: str) -> Microtubule:
    """Read the microtubule "13pf" or "14pf": 1.052 nm voxels, density bright.

    The points are the published ones, in nanometres on file.

    Raises:
        MissingData: if the data set is not on this machine.
    """
    path = folder("cylindra_mt")
    published = read_json_object(path / "centreline_nm_zyx.json")
    voxel = published["voxel_nm"]
    tomogram = read_tomogram(path / f"{name}_MT.tif", voxel_size=10 * voxel)
    return Microtubule(tomogram, np.asarray(published[name], float) / voxel)


def _files(path: Path, pattern: str, unlike: str = "") -> list[Path]:
    found = [p for p in sorted(path.glob(pattern)) if not (unlike and unlike in p.name)]
    if not found:
        raise MissingData(f"{path}: holds no file {pattern}")
    return found


def densities(path: Path) -> dict[str, MapDensity]:
    """Read the densities of macromolecules in a folder such as ``polnet_templates/mrcs_10A``.

    Files ``*_hold.mrc`` hold coarser copies, which are left out.

    Raises:
        MissingData: if there are none.
    """
    return of_one_size(read_density_maps(_files(path, "*.mrc", "_hold")))


def membrane_proteins(path: Path) -> dict[str, MapDensity]:
    """Read membrane proteins in a folder such as ``polnet_templates/mb_mrcs_10A``.

    Raises:
        MissingData: if there are none.
    """
    return of_one_size(read_density_maps(_files(path, "*_mbz_align_shift.mrc")))


def labelled_membranes(path: Path) -> LabelledMembranes:
    """Read the shapes of membranes in a folder of label volumes such as ``autophagy``.

    Raises:
        MissingData: if there are none.
    """
    found = {}
    for file in _files(path, "*_labels.tif"):
        labels = np.asarray(read_tomogram(file, voxel_size=AUTOPHAGY_VOXEL).density)
        found[file.name.removesuffix("_labels.tif")] = surface_points(labels, AUTOPHAGY_VOXEL)
    return LabelledMembranes(found)
