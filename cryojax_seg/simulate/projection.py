"""From a volume to its tilt series and back: strip integrals, their adjoint, and Fourier slices.

Geometry as in `core.wedge`, in voxels about the geometric centre ``(n - 1) / 2`` of every axis. At
tilt ``a`` about y a voxel at (z, x) falls on the detector at ``x' = x cos a + z sin a``; about x,
a voxel at (z, y) falls at ``y' = y cos a - z sin a``. The detector is as large as the volume's
(y, x) face and at rest; what falls beside it is not seen, and around the volume there is nothing.

A voxel is a unit square seen from the side, so its shadow is ``box(cos a) * box(sin a)`` (a
trapezoid), and what a detector bin of width 1 sees of it is the integral of the trapezoid over the
bin (De Man & Basu 2002, with parallel rays). The shadow is at most sqrt 2 wide, so three bins
share it; their weights sum to 1, depend on (z, x) only, and are the same for every y.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Float, Int

from cryojax_seg.core.types import Array, Shape, TiltAxis, Volume

Angles = Float[Array, " tilt"]
Images = Float[Array, "tilt y x"]

_BORDER = 3  # empty bins on each side of the detector, for shadows that fall beside it


def orient(array: Array, tilt_axis: TiltAxis) -> Array:
    """Puts the tilt axis last, where rows lie together in memory; its own inverse."""
    return jnp.swapaxes(array, -1, -2) if tilt_axis == "y" else jnp.asarray(array)


def handedness(tilt_axis: TiltAxis) -> float:
    """Sign of the depth in the detector coordinate: ``u' = u cos a + handedness z sin a``."""
    return 1.0 if tilt_axis == "y" else -1.0


def _trapezoid_integral(t: Array, cosine: Array, sine: Array) -> Array:
    """Integral up to `t` of ``box(cosine) * box(sine)``, of area 1; the widths are positive."""
    wide, narrow = jnp.maximum(cosine, sine), jnp.minimum(cosine, sine)
    top = (wide - narrow) / 2  # half of its width
    distance = jnp.abs(t)
    ramp = jnp.clip(distance - top, 0, narrow)
    # At 0 and 90 degrees the flanks are vertical and `ramp` is 0: any divisor but 0 does.
    flank = ramp - jnp.square(ramp) / (2 * jnp.where(narrow > 1e-6, narrow, 1.0))
    return 0.5 + jnp.sign(t) * (jnp.minimum(distance, top) + flank) / wide


def _shadows(
    angle: Array, depth: int, width: int
) -> tuple[Int[Array, "z u"], Float[Array, "3 z u"]]:
    """The first of the three bins each voxel reaches, counted with the border, and the weights."""
    angle = jnp.deg2rad(angle)
    cosine, sine = jnp.cos(angle), jnp.sin(angle)
    u, z = _centred(width, angle.dtype)[None, :], _centred(depth, angle.dtype)[:, None]
    position = u * cosine + z * sine + (width - 1) / 2
    nearest = jnp.round(position)
    edge = nearest - position - 0.5  # of the nearest bin, seen from the voxel
    below = _trapezoid_integral(edge, jnp.abs(cosine), jnp.abs(sine))
    upto = _trapezoid_integral(edge + 1, jnp.abs(cosine), jnp.abs(sine))
    weights = jnp.stack([below, upto - below, 1 - upto])
    first = nearest.astype(jnp.int32) - 1 + _BORDER
    return jnp.clip(first, 0, width + _BORDER), weights


def _centred(size: int, dtype) -> Float[Array, " n"]:
    return jnp.arange(size, dtype=dtype) - (size - 1) / 2


def _phase(cycles: Array) -> Array:
    return jax.lax.complex(jnp.cos(2 * jnp.pi * cycles), -jnp.sin(2 * jnp.pi * cycles))


def _turns(angles: Angles, dtype, tilt_axis: TiltAxis) -> Float[Array, " tilt"]:
    return jnp.asarray(angles, dtype) * handedness(tilt_axis)


def project(volume: Volume, angles: Angles, tilt_axis: TiltAxis = "y") -> Images:
    """Integrals of a volume along the beam at each tilt, in density times voxels.

    Differentiable in the volume and in the angles; `back_project` is its exact adjoint. Holds one
    tilt at a time beside its result.

    Args:
        volume: ``(z, y, x)`` with cubic voxels.
        angles: degrees.
        tilt_axis: "y" or "x".

    >>> images = project(jnp.ones((4, 8, 8)), jnp.array([0.0, 60.0]))
    >>> images.shape, float(images[0, 2, 3])
    ((2, 8, 8), 4.0)
    """
    rows = orient(volume, tilt_axis)
    depth, width, length = rows.shape

    @jax.checkpoint
    def one(angle):
        first, weights = _shadows(angle, depth, width)
        image = jnp.zeros((width + 2 * _BORDER, length), rows.dtype)
        for k in range(3):
            image = image.at[first + k].add(weights[k][:, :, None] * rows)
        return image[_BORDER:-_BORDER]

    images = jax.lax.map(one, _turns(angles, rows.dtype, tilt_axis))
    return orient(images, tilt_axis)


def back_project(images: Images, angles: Angles, shape: Shape, tilt_axis: TiltAxis = "y") -> Volume:
    """Smears each image back along its beam: the adjoint of `project`, weights and all.

    Args:
        images: ``(tilt, y, x)``, as large as the volume's face.
        angles: degrees.
        shape: (z, y, x) of the volume.
        tilt_axis: "y" or "x".

    Raises:
        ValueError: the images are not as large as the volume's face.

    >>> back_project(jnp.ones((2, 8, 8)), jnp.array([0.0, 20.0]), (4, 8, 8))[2, 4, 4].item()
    2.0
    """
    if images.shape[1:] != tuple(shape[1:]):
        raise ValueError(f"images of {images.shape[1:]} do not fit the volume's face {shape[1:]}")
    rows = orient(images, tilt_axis)
    _, width, length = rows.shape
    border = jnp.pad(rows, ((0, 0), (_BORDER, _BORDER), (0, 0)))

    @jax.checkpoint
    def add(total, tilt):
        image, angle = tilt
        first, weights = _shadows(angle, shape[0], width)
        return total + sum(weights[k][:, :, None] * image[first + k] for k in range(3)), None

    start = jnp.zeros((shape[0], width, length), rows.dtype)
    turns = _turns(angles, rows.dtype, tilt_axis)
    return orient(jax.lax.scan(add, start, (border, turns))[0], tilt_axis)


def fourier_project(volume: Volume, angles: Angles, tilt_axis: TiltAxis = "y") -> Images:
    """`project` through the central slice theorem, of the density between the voxels' centres.

    The plane across the tilt axis is padded twofold and transformed, and read along the line at
    each tilt by cubic interpolation (Keys 1981). Voxels are band-limited samples here and squares
    in `project`: the two agree on what is smooth on the scale of a voxel. Differentiable in the
    volume and in the angles; a cube takes 16 times its memory.

    >>> ball = jnp.zeros((8, 8, 8)).at[3:5, 3:5, 3:5].set(1.0)
    >>> round(float(fourier_project(ball, jnp.array([0.0]))[0, 3, 3]), 3)
    2.0
    """
    rows = orient(volume, tilt_axis)
    depth, width, length = rows.shape
    size = 2 * max(depth, width)
    rows = jnp.pad(rows, ((0, size - depth), (0, size - width), (0, 0)))
    rows = jnp.roll(rows, (-(depth // 2), -(width // 2)), (0, 1))  # smooth phases
    spectrum = jnp.fft.fft2(rows, axes=(0, 1))
    k = jnp.fft.rfftfreq(size, dtype=rows.dtype)
    # Half a voxel where an even axis has its centre between two voxels.
    beside_u, beside_z = width // 2 - (width - 1) / 2, depth // 2 - (depth - 1) / 2

    def taps(position):
        first = jnp.floor(position) - 1
        at = [first + i for i in range(4)]
        return [((i.astype(jnp.int32)) % size, _keys(position - i)) for i in at]

    def one(angle):
        angle = jnp.deg2rad(angle)
        cosine, sine = jnp.cos(angle), jnp.sin(angle)
        line = jnp.zeros((k.size, length), spectrum.dtype)
        for z, weight_z in taps(k * sine * size):
            for u, weight_u in taps(k * cosine * size):
                line += (weight_z * weight_u)[:, None].astype(line.dtype) * spectrum[z, u]
        shift = beside_u * cosine + beside_z * sine + (width - 1) / 2
        return jnp.fft.irfft(line * _phase(k * shift)[:, None], size, axis=0)[:width]

    images = jax.lax.map(one, _turns(angles, rows.dtype, tilt_axis))
    return orient(images, tilt_axis)


def _keys(t: Array) -> Array:
    """The cubic convolution kernel with a = -1/2, for ``|t| <= 2``."""
    t = jnp.abs(t)
    near = (1.5 * t - 2.5) * jnp.square(t) + 1
    far = ((-0.5 * t + 2.5) * t - 4) * t + 2
    return jnp.where(t < 1, near, far)


def _shear(images: Images, offsets: Float[Array, "tilt y"]) -> Images:
    """Moves each row along x by its own offset, by phases; mirrored at the ends of the row."""
    width = images.shape[-1]
    mirrored = jnp.concatenate([images, jnp.flip(images, -1)], -1)
    k = jnp.fft.rfftfreq(2 * width, dtype=images.dtype)
    phases = _phase(offsets[:, :, None] * k[None, None, :])
    return jnp.fft.irfft(jnp.fft.rfft(mirrored) * phases, 2 * width)[..., :width]


def misalign(
    images: Images, shifts: Float[Array, "tilt 2"], rotations: Float[Array, " tilt"]
) -> Images:
    """Turns each image about its centre and then shifts it, as a drifting stage does.

    A rotation is three shears (Unser, Thevenaz & Yaroslavsky 1995), each exact for band-limited
    images: nothing is blurred. Edges are mirrored, so shifts should be small against the image.

    Args:
        images: ``(tilt, y, x)``.
        shifts: how far the content moves along y and x, voxels.
        rotations: degrees, from x towards y.

    >>> image = jnp.zeros((1, 9, 9)).at[0, 4, 4].set(1.0)
    >>> moved = misalign(image, jnp.array([[2.0, -1.0]]), jnp.array([0.0]))
    >>> round(float(moved[0, 6, 3]), 4)
    1.0
    """
    images = jnp.asarray(images)
    shifts = jnp.asarray(shifts, images.dtype)
    angle = jnp.deg2rad(jnp.asarray(rotations, images.dtype))[:, None]
    y, x = (_centred(n, images.dtype)[None, :] for n in images.shape[1:])
    slant = -jnp.tan(angle / 2)
    images = _shear(images, slant * y)
    upright = jnp.swapaxes(images, 1, 2)
    images = jnp.swapaxes(_shear(upright, jnp.sin(angle) * x + shifts[:, :1]), 1, 2)
    return _shear(images, slant * (y - shifts[:, :1]) + shifts[:, 1:])
