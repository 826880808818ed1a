"""Combines a scene, its truth and its simulated tomogram into a phantom."""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from cryojax_seg.core.plain import Shape
from cryojax_seg.core.types import Key, Labels, Volume
from cryojax_seg.core.wedge import MissingWedge
from cryojax_seg.errors import ParameterError
from cryojax_seg.simulate import presets
from cryojax_seg.simulate.imaging import Imaged, Imaging
from cryojax_seg.simulate.render import Truth, render
from cryojax_seg.simulate.scene import Scene
from cryojax_seg.simulate.structures import Structure


@dataclasses.dataclass(frozen=True)
class Phantom:
    """Holds a simulated tomogram and its truth; arrays ``(z, y, x)``, structure bright.

    Attributes:
        scene: the objects in the volume.
        truth: the density without imaging, labels, instances, normals and distances.
        imaged: the reconstruction, its halves and its signal-to-noise ratio.
        wedge: missing wedge; None if everything was measured.

    >>> import jax
    >>> from cryojax_seg.simulate import Scene, WedgeImaging, simulate
    >>> empty = Scene((), (8, 8, 8), 10.0)
    >>> phantom = simulate(empty, WedgeImaging(sigma=1.0), jax.random.key(0))
    >>> phantom.density.shape, int(phantom.labels.max()), phantom.voxel_size
    ((8, 8, 8), 0, (10.0, 10.0, 10.0))
    """

    scene: Scene
    truth: Truth
    imaged: Imaged
    wedge: MissingWedge | None

    @property
    def density(self) -> Volume:
        """Return the noisy reconstruction."""
        return self.imaged.density

    @property
    def labels(self) -> Labels:
        """Return the labels, indices into `CLASSES`."""
        return self.truth.labels

    @property
    def voxel_size(self) -> tuple[float, float, float]:
        """Return the voxel size in angstrom along z, y, x."""
        size = self.scene.voxel_size
        return size, size, size

    @functools.cached_property
    def visibility(self) -> Volume:
        """Return the visibility of each membrane voxel, 0 to 1, and 0 without a membrane."""
        if self.wedge is None:
            return (self.truth.labels == 1).astype(jnp.float32)
        return jax.jit(Truth.visibility)(self.truth, self.wedge)


def simulate(scene: Scene, imaging: Imaging, key: Key) -> Phantom:
    """Render and image a scene; the same arguments give the same phantom on the same device.

    >>> import jax
    >>> from cryojax_seg.simulate import WedgeImaging, presets
    >>> scene = presets.vesicles(jax.random.key(0), (32, 32, 32), 10.0, crowding=0.0)
    >>> phantom = simulate(scene, WedgeImaging(snr=0.5), jax.random.key(1))
    >>> phantom.density.shape, round(float(phantom.imaged.snr), 3)
    ((32, 32, 32), 0.5)
    """
    truth = render(scene)
    imaged = _image(imaging, truth.density, truth.structures, scene.voxel_size, key)
    return Phantom(scene, truth, imaged, imaging.wedge)


_CROWDED = ("vesicles", "organelles", "cytoskeleton", "crowded", "contrast_drift", "varied")
_BARE = ("threshold_dilemma", "flat_bilayers")


def simulate_preset(
    preset: str,
    shape: Shape,
    voxel_size: float,
    imaging: Imaging,
    *,
    seed: int = 0,
    number: int = 0,
    crowding: float | None = None,
    species: Mapping[str, Structure] | None = None,
) -> Phantom:
    """Simulate one of a series of phantoms of a preset; the same arguments give the same phantom.

    Args:
        preset: name of a function of `presets`.
        shape: voxels along z, y, x.
        voxel_size: angstrom.
        imaging: how the scene is imaged.
        seed: of the series.
        number: of the phantom in the series.
        crowding: fraction of the free volume that macromolecules fill, 0 to 0.3; that of the
            preset by default.
        species: macromolecules to place, by name; those of the preset by default.

    Raises:
        ParameterError: for an unknown preset, for macromolecules in a preset that has none, and as
            the presets raise.

    >>> from cryojax_seg.simulate import WedgeImaging
    >>> simulate_preset("flat_bilayers", (20, 20, 20), 10.0, WedgeImaging(snr=1.0)).density.shape
    (20, 20, 20)
    """
    if preset not in (*_CROWDED, *_BARE):
        known = ", ".join((*_CROWDED, *_BARE))
        raise ParameterError(f"preset: there is no {preset}; known are {known}", "preset")
    given: dict[str, Any] = {"crowding": crowding} if crowding is not None else {}
    given |= {"species": dict(species)} if species else {}
    if given and preset in _BARE:
        raise ParameterError(f"the preset {preset} has no macromolecules", *given)
    keys = jax.random.split(jax.random.fold_in(jax.random.key(seed), number))
    scene = getattr(presets, preset)(keys[0], shape, voxel_size, **given)
    return simulate(scene, imaging, keys[1])


@jax.jit
def _image(imaging, density, mask, voxel_size, key):
    return imaging(density, mask, voxel_size, key)
