"""A particle without symmetry, known at every pose."""

import jax.numpy as jnp
import numpy as np
import pytest

from cryojax_seg.core import MissingWedge


class Blobs:
    """A handful of Gaussians: exact at every pose, with no interpolation."""

    def __init__(self, seed=0, reach=4.5, sigma=1.8, count=7):
        rng = np.random.default_rng(seed)
        centres = rng.normal(size=(count, 3))
        lengths = np.linalg.norm(centres, axis=1, keepdims=True)
        self.centres = centres / lengths * reach * rng.uniform(0.3, 1, (count, 1))
        self.weights, self.sigma = rng.uniform(0.5, 1.5, count), sigma

    def __call__(self, edge, rotation=None, offset=(0, 0, 0)):
        centres = self.centres if rotation is None else self.centres @ np.asarray(rotation).T
        grid = np.stack(np.meshgrid(*[np.arange(edge) - edge // 2] * 3, indexing="ij"), -1)
        total = np.zeros((edge,) * 3)
        for centre, weight in zip(centres + np.asarray(offset), self.weights, strict=True):
            total += weight * np.exp(-np.square(grid - centre).sum(-1) / (2 * self.sigma**2))
        return total.astype(np.float32)


@pytest.fixture(scope="session")
def blobs():
    return Blobs()


@pytest.fixture(scope="session")
def wedge():
    return MissingWedge((-60.0, 60.0))


@pytest.fixture(scope="session")
def imaged():
    """Particles at given poses behind a wedge, with noise of a deviation relative to theirs."""

    def make(blobs, edge, rotations, offsets, wedge, noise=0.0, seed=0):
        clean = np.stack([blobs(edge, *pose) for pose in zip(rotations, offsets, strict=True)])
        white = np.random.default_rng(seed).normal(size=clean.shape) * noise * clean.std()
        transfer = np.asarray(wedge.transfer((edge,) * 3))
        spectra = np.fft.rfftn(clean + white, axes=(1, 2, 3)) * transfer
        return jnp.asarray(np.fft.irfftn(spectra, (edge,) * 3, axes=(1, 2, 3)), jnp.float32)

    return make
