"""Combines a scene, its truth and its simulated tomogram into a phantom."""

import dataclasses
import functools

import jax
import jax.numpy as jnp

from cryojax_seg.core.types import Key, Labels, Volume
from cryojax_seg.core.wedge import MissingWedge
from cryojax_seg.simulate.imaging import Imaged, Imaging
from cryojax_seg.simulate.render import Truth, render
from cryojax_seg.simulate.scene import Scene


@dataclasses.dataclass(frozen=True)
class Phantom:
    """Simulated tomogram and its truth; arrays ``(z, y, x)``, structure bright.

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


@functools.partial(jax.jit, static_argnames="voxel_size")
def _image(imaging, density, mask, voxel_size, key):
    return imaging(density, mask, voxel_size, key)
