"""Projects a volume to a tilt series and back, by strip integrals or by Fourier slices.

The geometry is that of `core.wedge`, in voxels about the geometric centre ``(n - 1) / 2`` of every
axis. At tilt ``a`` about y a voxel at (z, x) projects to ``x' = x cos a + z sin a``; about x, a
voxel at (z, y) projects to ``y' = y cos a - z sin a``. The detector has the size of the (y, x) face
of the volume and does not move. What projects outside it is lost, and the density outside the
volume is 0.

Seen along the tilt axis a voxel is a unit square, so its projection is the trapezoid
``box(cos a) * box(sin a)``, and a detector bin of width 1 receives the integral of the trapezoid
over the bin (De Man & Basu 2002, with parallel rays). The trapezoid is at most sqrt 2 wide, so it
covers three bins; their weights sum to 1, depend on (z, x) only, and are the same for every y.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Float, Int

from cryojax_seg.core.plain import Shape, TiltAxis
from cryojax_seg.core.types import Array, Volume

Angles = Float[Array, " tilt"]
Images = Float[Array, "tilt y x"]

_BORDER = 3  # extra bins on each side of the detector, for projections that fall outside it


def orient(array: Array, tilt_axis: TiltAxis) -> Array:
    """Move the tilt axis last, so that rows are contiguous in memory; it is its own inverse."""
    return jnp.swapaxes(array, -1, -2) if tilt_axis == "y" else jnp.asarray(array)


def handedness(tilt_axis: TiltAxis) -> float:
    """Return the sign of z in the detector coordinate ``u' = u cos a + handedness z sin a``."""
    return 1.0 if tilt_axis == "y" else -1.0


def _trapezoid_integral(t: Array, cosine: Array, sine: Array) -> Array:
    """Return the integral up to `t` of ``box(cosine) * box(sine)``, whose area is 1."""
    wide, narrow = jnp.maximum(cosine, sine), jnp.minimum(cosine, sine)
    top = (wide - narrow) / 2  # half of its width
    distance = jnp.abs(t)
    ramp = jnp.clip(distance - top, 0, narrow)
    # At 0 and 90 degrees the flanks are vertical and `ramp` is 0, so any nonzero divisor works.
    flank = ramp - jnp.square(ramp) / (2 * jnp.where(narrow > 1e-6, narrow, 1.0))
    return 0.5 + jnp.sign(t) * (jnp.minimum(distance, top) + flank) / wide


def _bins_and_weights(
    angle: Array, depth: int, width: int
) -> tuple[Int[Array, "z u"], Float[Array, "3 z u"]]:
    """Return the first of the three bins that each voxel covers, and the weights of the three.

    Bins are counted from the start of the border.
    """
    angle = jnp.deg2rad(angle)
    cosine, sine = jnp.cos(angle), jnp.sin(angle)
    u, z = _centred(width, angle.dtype)[None, :], _centred(depth, angle.dtype)[:, None]
    position = u * cosine + z * sine + (width - 1) / 2
    nearest = jnp.round(position)
    edge = nearest - position - 0.5  # lower edge of the nearest bin, relative to the voxel
    below = _trapezoid_integral(edge, jnp.abs(cosine), jnp.abs(sine))
    upto = _trapezoid_integral(edge + 1, jnp.abs(cosine), jnp.abs(sine))
    weights = jnp.stack([below, upto - below, 1 - upto])
    first = nearest.astype(jnp.int32) - 1 + _BORDER
    return jnp.clip(first, 0, width + _BORDER), weights


def _centred(size: int, dtype) -> Float[Array, " n"]:
    return jnp.arange(size, dtype=dtype) - (size - 1) / 2


def _phase(cycles: Array) -> Array:
    return jax.lax.complex(jnp.cos(2 * jnp.pi * cycles), -jnp.sin(2 * jnp.pi * cycles))


def _signed_angles(angles: Angles, dtype, tilt_axis: TiltAxis) -> Float[Array, " tilt"]:
    return jnp.asarray(angles, dtype) * handedness(tilt_axis)


def project(volume: Volume, angles: Angles, tilt_axis: TiltAxis = "y") -> Images:
    """Return the integrals of a volume along the beam at each tilt, in density times voxels.

    It is differentiable in the volume and in the angles, and `back_project` is its exact adjoint.
    Beside the result, memory holds one tilt at a time.

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
        first, weights = _bins_and_weights(angle, depth, width)
        image = jnp.zeros((width + 2 * _BORDER, length), rows.dtype)
        for k in range(3):
            image = image.at[first + k].add(weights[k][:, :, None] * rows)
        return image[_BORDER:-_BORDER]

    images = jax.lax.map(one, _signed_angles(angles, rows.dtype, tilt_axis))
    return orient(images, tilt_axis)


def back_project(images: Images, angles: Angles, shape: Shape, tilt_axis: TiltAxis = "y") -> Volume:
    """Back-project images along the beam, as the exact adjoint of `project`.

    Args:
        images: ``(tilt, y, x)``, of the size of the volume's (y, x) face.
        angles: degrees.
        shape: (z, y, x) of the volume.
        tilt_axis: "y" or "x".

    Raises:
        ValueError: if the images do not have the size of the volume's face.

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
        first, weights = _bins_and_weights(angle, shape[0], width)
        return total + sum(weights[k][:, :, None] * image[first + k] for k in range(3)), None

    start = jnp.zeros((shape[0], width, length), rows.dtype)
    signed = _signed_angles(angles, rows.dtype, tilt_axis)
    return orient(jax.lax.scan(add, start, (border, signed))[0], tilt_axis)


def fourier_project(volume: Volume, angles: Angles, tilt_axis: TiltAxis = "y") -> Images:
    """Project a volume by the central slice theorem, as a check of `project`.

    Planes perpendicular to the tilt axis are padded twofold and Fourier transformed; each tilt is
    read along a line by cubic interpolation (Keys 1981). Voxels are band-limited samples here and
    squares in `project`, so the two agree for densities that are smooth on the scale of a voxel.
    It is differentiable in the volume and in the angles; a cube takes 16 times its memory.

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
    # The centre of an even axis lies between two voxels, half a voxel from the origin of the FFT.
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

    images = jax.lax.map(one, _signed_angles(angles, rows.dtype, tilt_axis))
    return orient(images, tilt_axis)


def _keys(t: Array) -> Array:
    """Return the cubic convolution kernel with a = -1/2, for ``|t| <= 2``."""
    t = jnp.abs(t)
    near = (1.5 * t - 2.5) * jnp.square(t) + 1
    far = ((-0.5 * t + 2.5) * t - 4) * t + 2
    return jnp.where(t < 1, near, far)


def _shear(images: Images, offsets: Float[Array, "tilt y"]) -> Images:
    """Shift each row along x by its own offset in Fourier space; mirror rows at their ends."""
    width = images.shape[-1]
    mirrored = jnp.concatenate([images, jnp.flip(images, -1)], -1)
    k = jnp.fft.rfftfreq(2 * width, dtype=images.dtype)
    phases = _phase(offsets[:, :, None] * k[None, None, :])
    return jnp.fft.irfft(jnp.fft.rfft(mirrored) * phases, 2 * width)[..., :width]


def misalign(
    images: Images, shifts: Float[Array, "tilt 2"], rotations: Float[Array, " tilt"]
) -> Images:
    """Rotate each image about its centre and then shift it, as a drifting stage does.

    A rotation is three shears (Unser, Thevenaz & Yaroslavsky 1995), each exact for band-limited
    images, so that nothing is blurred. Edges are mirrored, so shifts should be small compared with
    the image.

    Args:
        images: ``(tilt, y, x)``.
        shifts: shift of the content along y and x, voxels.
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
