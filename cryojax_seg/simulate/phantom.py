"""A small labelled cell of signed distances, as a tilt series with a missing wedge shows it.

Vesicles and a gently waved sheet of lipid bilayer, a hollow tube of the size of a microtubule and
round macromolecules. The geometry is exact, so labels, normals and visibilities are too. What is
not simulated: projections, the contrast transfer function and dose.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from cryojax_seg.core.types import Key, Labels, Scalar, Shape, Volume
from cryojax_seg.core.wedge import MissingWedge

KINDS = ("membrane", "microtubule", "macromolecule")
Points = Float[Array, "... 3"]
Distances = Float[Array, "..."]
Vector = Float[Array, "3"]

# Voxels. With voxels of 10 angstrom: a bilayer 40 angstrom between its leaflets, a microtubule of
# 13 protofilaments (mean radius of the wall 105 angstrom), complexes 100 angstrom across.
VOXEL_SIZE = (10.0, 10.0, 10.0)
LEAFLETS, LEAFLET_SIGMA = 4.0, 1.0
TUBE_RADIUS, TUBE_SIGMA = 10.5, 1.6
BLOB_RADIUS = 5.0
WAVE, WAVELENGTH = 3.0, 40.0
GAP, FAR = 5.0, 1e4  # GAP is kept free between any two objects; FAR is nowhere


@dataclasses.dataclass(frozen=True)
class Phantom:
    """A simulated tomogram and everything that is true about it; arrays ``(z, y, x)``.

    Attributes:
        density: what a reconstruction would show: structure dark, wedge missing, noise added.
        labels: 0 background, then 1, 2, 3 for the entries of `KINDS`.
        visibility: at membrane voxels `MissingWedge.visibility` of the local normal, 0 elsewhere.
        clean: the bright density before wedge and noise.
        wedge: the missing wedge of the acquisition.
        snr: as asked for in `phantom`.
        voxel_size: angstrom.
    """

    density: Volume
    labels: Labels
    visibility: Volume
    clean: Volume
    wedge: MissingWedge
    snr: float
    voxel_size: tuple[float, float, float] = VOXEL_SIZE


def sphere(points: Points, centre: Vector, radius: float | Scalar) -> Distances:
    """Signed distance (voxels) to a sphere, negative inside."""
    offset = points - jnp.broadcast_to(centre, points.shape)
    # The small constant gives the distance a finite gradient at the centre.
    return jnp.sqrt(jnp.square(offset).sum(-1) + 1e-12) - radius


def tube(
    points: Points, centre: Vector, direction: Vector, radius: float | Scalar = TUBE_RADIUS
) -> Distances:
    """Signed distance (voxels) to an endless cylinder around a line of unit direction."""
    offset = points - jnp.broadcast_to(centre, points.shape)
    squared = jnp.square(offset).sum(-1) - jnp.square(offset @ direction)
    return jnp.sqrt(jnp.maximum(squared, 1e-12)) - radius


def waved_sheet(
    points: Points,
    centre: Vector,
    frame: Float[Array, "3 3"],
    amplitude: float = WAVE,
    wavelength: float = WAVELENGTH,
) -> Distances:
    """Signed distance (voxels, to first order in the slope) to a plane waved in two directions.

    The rows of `frame` are the unit normal and two unit vectors in the plane.
    """
    offset = points - jnp.broadcast_to(centre, points.shape)
    height, *plane = (offset @ frame[i] for i in range(3))
    phases = [2 * jnp.pi * p / wavelength for p in plane]
    slope = jnp.pi * amplitude / wavelength
    steepness = sum(jnp.square(slope * jnp.cos(p)) for p in phases)
    waves = 0.5 * amplitude * sum(jnp.sin(p) for p in phases)
    return (height - waves) / jnp.sqrt(1 + steepness)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class _Scene:
    """What is where. Balls are rows (z, y, x, radius); places not taken lie far outside."""

    sheet: tuple[Vector, Float[Array, "3 3"]]
    tube: tuple[Vector, Vector]
    vesicles: Float[Array, "n 4"]
    blobs: Float[Array, "m 4"]


def _nearest(distances: list[Distances]) -> Distances:
    """The signed distance of smallest size; far away if there is none."""

    def nearer(a, b):
        return jnp.where(jnp.abs(a) < jnp.abs(b), a, b)

    return functools.reduce(nearer, distances, jnp.full_like(distances[0], FAR))


def _distances(scene: _Scene, points: Points) -> tuple[Distances, Distances, Distances]:
    """Signed distances to the nearest membrane, tube wall and macromolecule."""
    vesicles = [sphere(points, ball[:3], ball[3]) for ball in scene.vesicles]
    blobs = [sphere(points, ball[:3], ball[3]) for ball in scene.blobs]
    return (
        _nearest([waved_sheet(points, *scene.sheet), *vesicles]),
        tube(points, *scene.tube),
        _nearest(blobs),
    )


def _balls(key: Key, size: Vector, count: int, radii: tuple[float, float], clearance):
    """Balls at random places that keep clear of everything there is and of each other."""
    places, sizes = jax.random.split(key)
    tries = 40 * count
    centres = jax.random.uniform(places, (tries, 3)) * size[None]
    radius = jax.random.uniform(sizes, (tries,), minval=radii[0], maxval=radii[1])
    room = clearance(centres) - radius

    def place(state, candidate):
        balls, number = state
        centre, radius, room = candidate
        gaps = sphere(balls[:, :3], centre, radius) - balls[:, 3]
        fits = (number < count) & (jnp.minimum(room, gaps.min()) > GAP)
        ball = jnp.where(fits, jnp.append(centre, radius), balls[number])
        return (balls.at[number].set(ball), jnp.where(fits, number + 1, number)), None

    nowhere = jnp.full((count, 4), -FAR).at[:, 3].set(0.0)
    return jax.lax.scan(place, (nowhere, 0), (centres, radius, room))[0][0]


def _scene(key: Key, shape: Shape, kinds: tuple[str, ...]) -> _Scene:
    """A sheet with a tube along it, vesicles where there is room, macromolecules between."""
    sheet_key, vesicle_key, blob_key = jax.random.split(key, 3)
    size, edge = jnp.asarray(shape, jnp.float32), float(min(shape))
    # A sheet that faces the beam is all but lost in the wedge: this one is steep.
    tilt, turn, course = jax.random.uniform(sheet_key, (3,))
    tilt, turn = jnp.deg2rad(50 + 40 * tilt), 2 * jnp.pi * turn
    flat = jnp.stack([jnp.zeros(()), jnp.sin(turn), jnp.cos(turn)])
    level = jnp.stack([jnp.zeros(()), -jnp.cos(turn), jnp.sin(turn)])
    normal = jnp.cos(tilt) * jnp.eye(3)[0] + jnp.sin(tilt) * flat
    frame = jnp.stack([normal, level, jnp.cross(normal, level)])
    nowhere = jnp.full(3, -FAR)
    centre = size / 2 - 0.3 * edge * normal if "membrane" in kinds else nowhere
    course = jnp.deg2rad(30 * course - 15)
    direction = jnp.cos(course) * frame[1] + jnp.sin(course) * frame[2]
    beside = size / 2 - (0.3 * edge - TUBE_RADIUS - 2 * GAP) * normal  # on the side of the middle
    tube_centre = beside if "microtubule" in kinds else nowhere

    blocks = float(np.prod(shape)) / 32**3
    vesicles = max(1, round(blocks / 3)) if "membrane" in kinds else 1
    blobs = max(1, round(blocks)) if "macromolecule" in kinds else 1
    nothing = jnp.full((1, 4), -FAR).at[:, 3].set(0.0)
    scene = _Scene((centre, frame), (tube_centre, direction), nothing, nothing)

    def clearance(scene):
        return lambda points: functools.reduce(
            jnp.minimum, [jnp.abs(d) for d in _distances(scene, points)]
        )

    if "membrane" in kinds:
        radii = (0.13 * edge, 0.24 * edge)
        balls = _balls(vesicle_key, size, vesicles, radii, clearance(scene))
        scene = dataclasses.replace(scene, vesicles=balls)
    if "macromolecule" in kinds:
        radii = (0.8 * BLOB_RADIUS, BLOB_RADIUS)
        balls = _balls(blob_key, size, blobs, radii, clearance(scene))
        scene = dataclasses.replace(scene, blobs=balls)
    return scene


def phantom(
    key: Key,
    shape: Shape = (64, 64, 64),
    snr: float = 0.5,
    wedge: MissingWedge | None = None,
    kinds: tuple[str, ...] = KINDS,
) -> Phantom:
    """A random labelled phantom, the same for the same key.

    Signal and noise both pass through the wedge, as they do in a reconstruction: what was not
    measured has neither.

    Args:
        key: random key.
        shape: voxels along z, y, x; each at least 16.
        snr: mean square of the measured signal in the labelled voxels over the variance of the
            noise; 0.1 to 1 is usual.
        wedge: what was measured; None for tilts of -60 to 60 degrees about y.
        kinds: which of `KINDS` exist.

    Raises:
        ValueError: for a small shape, an unknown kind or an `snr` that is not above 0.

    >>> import jax
    >>> p = phantom(jax.random.key(0), (16, 24, 24), kinds=("membrane",))
    >>> p.density.shape, sorted(set(p.labels.ravel().tolist()))
    ((16, 24, 24), [0, 1])
    """
    if min(shape) < 16:
        raise ValueError(f"a phantom needs at least 16 voxels along each axis, got {shape}")
    if not snr > 0:
        raise ValueError(f"the signal-to-noise ratio must be above 0, got {snr}")
    if not kinds or not set(kinds) <= set(KINDS):
        raise ValueError(f"kinds must be some of {', '.join(KINDS)}; got {kinds}")
    wedge = MissingWedge((-60.0, 60.0)) if wedge is None else wedge
    density, labels, clean, normals = _simulate(key, shape, snr, wedge, kinds)
    visibility = np.zeros(shape, np.float32)
    where = np.asarray(labels) == 1
    visibility[where] = np.asarray(jax.jit(MissingWedge.visibility)(wedge, normals[where]))
    return Phantom(density, labels, jnp.asarray(visibility), clean, wedge, snr)


@functools.partial(jax.jit, static_argnames=("shape", "kinds"))
def _simulate(key: Key, shape: Shape, snr: float | Scalar, wedge: MissingWedge, kinds):
    scene_key, noise_key = jax.random.split(key)
    scene = _scene(scene_key, shape, kinds)
    axes = [jnp.arange(n, dtype=jnp.float32) for n in shape]
    points = jnp.stack(jnp.meshgrid(*axes, indexing="ij"), axis=-1)
    membrane, wall, body = _distances(scene, points)

    def peak(distance, sigma):
        return jnp.exp(-jnp.square(distance / sigma) / 2)

    half = LEAFLETS / 2
    clean = peak(membrane - half, LEAFLET_SIGMA) + peak(membrane + half, LEAFLET_SIGMA)
    clean += peak(wall, TUBE_SIGMA) + jax.nn.sigmoid(-body / 0.7)
    labels = jnp.where(body <= 0, 3, 0)
    labels = jnp.where(jnp.abs(wall) <= 1.2 * TUBE_SIGMA, 2, labels)
    labels = jnp.where(jnp.abs(membrane) <= half + LEAFLET_SIGMA, 1, labels).astype(jnp.int32)

    measured = wedge.apply(clean)
    noise = wedge.apply(jax.random.normal(noise_key, shape))
    inside = (labels > 0).astype(measured.dtype)
    signal = jnp.sum(inside * jnp.square(measured)) / jnp.maximum(inside.sum(), 1.0)
    noise = noise * jnp.sqrt(signal / snr) / jnp.std(noise)
    # The normal of a surface is the gradient of its distance.
    normals = jax.grad(lambda p: _distances(scene, p)[0].sum())(points)
    length = jnp.sqrt(jnp.square(normals).sum(-1, keepdims=True) + 1e-12)
    return -(measured + noise), labels, clean, normals / length
