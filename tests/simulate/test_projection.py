import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cryojax_seg.simulate.projection import back_project, fourier_project, misalign, project

ANGLES = np.array([0.0, 17.0, -33.0, 45.0, 62.0, -90.0], np.float32)
projected = jax.jit(project, static_argnames="tilt_axis")
fourier_projected = jax.jit(fourier_project, static_argnames="tilt_axis")
back_projected = jax.jit(back_project, static_argnames=("shape", "tilt_axis"))


def centred(shape):
    return np.meshgrid(*[np.arange(n) - (n - 1) / 2 for n in shape], indexing="ij", sparse=True)


def gaussian(shape, centre, sigma):
    distance = sum((c - at) ** 2 for c, at in zip(centred(shape), centre, strict=True))
    return np.exp(-distance / (2 * sigma**2)).astype(np.float32)


def smooth_phantom(shape):
    blobs = [
        (1.0, (2.0, -4.0, 6.0), 3.0),
        (0.7, (-3.0, 6.0, -7.0), 2.5),
        (0.5, (4.0, 5.0, 1.0), 2.2),
    ]
    return sum(np.float32(weight) * gaussian(shape, at, s) for weight, at, s in blobs)


@pytest.mark.parametrize("tilt_axis", ["y", "x"])
@pytest.mark.parametrize("shape", [(8, 12, 10), (15, 9, 7)])
def test_back_projection_is_the_adjoint(shape, tilt_axis, x64):
    """<P v, i> = <v, P^T i> to 1e-12, for thin and deep volumes and every kind of angle."""
    rng = np.random.default_rng(0)
    angles = rng.uniform(-90, 90, 9)
    angles[:4] = 0, 45, -90, 90
    volume, images = rng.normal(size=shape), rng.normal(size=(9, *shape[1:]))
    one = jnp.vdot(projected(volume, angles, tilt_axis), images)
    other = jnp.vdot(volume, back_projected(images, angles, shape, tilt_axis))
    assert abs(one - other) < 1e-12 * np.linalg.norm(volume) * np.linalg.norm(images)


def test_a_gaussian_ball_projects_to_a_gaussian():
    """At ``x' = x cos a + z sin a``, within 0.3 % of the peak.

    A shadow has the variance ``(cos^2 + sin^2 + 1) / 12`` of its three boxes, which the image of
    the ball gains across the tilt axis; but at 0 and 90 degrees voxels fall on bins.
    """
    shape, centre, sigma = (32, 28, 36), (3.0, -2.0, 4.0), 3.0
    images = projected(gaussian(shape, centre, sigma), ANGLES)
    _, y, x = centred(shape)
    for image, angle in zip(np.asarray(images), np.deg2rad(ANGLES), strict=True):
        at = centre[2] * np.cos(angle) + centre[0] * np.sin(angle)
        across = sigma**2 + (1 / 6 if abs(np.sin(2 * angle)) > 1e-3 else 0)
        expected = sigma**2 * np.sqrt(2 * np.pi / across)
        expected *= np.exp(
            -((y[0] - centre[1]) ** 2) / 2 / sigma**2 - (x[0] - at) ** 2 / 2 / across
        )
        np.testing.assert_allclose(image, expected, atol=0.003 * expected.max())


def test_an_ellipsoid_projects_to_its_chord_lengths():
    """About x, in the mean within 1 % of the longest chord: the rim of a voxel body is rough."""
    radii, n, fine = (7.0, 11.0, 9.0), 32, 4
    z, y, x = centred((n * fine,) * 3)
    body = (z / radii[0]) ** 2 + (y / radii[1]) ** 2 + (x / radii[2]) ** 2 < fine**2
    volume = body.reshape(n, fine, n, fine, n, fine).mean((1, 3, 5)).astype(np.float32)
    _, y, x = centred((n, n, n))
    for image, angle in zip(projected(volume, ANGLES, "x"), np.deg2rad(ANGLES), strict=True):
        # The ray at y' runs along (z, y) = (cos a, sin a): |p + t d| = 1 in units of the radii.
        start = np.array([-np.sin(angle), np.cos(angle)])[:, None] * y[0, :, 0]
        start = start / np.array(radii[:2])[:, None]
        d = np.array([np.cos(angle), np.sin(angle)]) / np.array(radii[:2])
        a, b = d @ d, d @ start
        rest = (start**2).sum(0)[:, None] + (x[0] / radii[2]) ** 2 - 1
        chord = 2 * np.sqrt(np.maximum(b[:, None] ** 2 - a * rest, 0)) / a
        assert np.abs(np.asarray(image) - chord).mean() < 0.01 * chord.max()


@pytest.mark.parametrize("tilt_axis", ["y", "x"])
def test_a_projection_keeps_the_mass(tilt_axis):
    volume = smooth_phantom((20, 36, 36))
    sums = np.asarray(projected(volume, ANGLES, tilt_axis)).sum((1, 2), dtype=np.float64)
    np.testing.assert_allclose(sums, volume.sum(dtype=np.float64), rtol=2e-4)


def test_tilting_about_x_is_tilting_about_y_mirrored():
    rng = np.random.default_rng(1)
    volume = rng.normal(size=(9, 12, 10)).astype(np.float32)
    about_x = projected(volume, ANGLES, "x")
    about_y = projected(np.ascontiguousarray(volume.swapaxes(1, 2)), -ANGLES, "y")
    np.testing.assert_array_equal(about_x, about_y.swapaxes(1, 2))


def test_what_falls_beside_the_detector_is_not_seen():
    volume = np.zeros((41, 4, 9), np.float32)
    volume[0] = volume[-1] = 1
    assert np.abs(projected(volume, np.array([50.0, -90.0], np.float32))).max() == 0
    seen = back_projected(np.ones((1, 4, 9), np.float32), np.array([90.0], np.float32), (41, 4, 9))
    assert np.flatnonzero(seen[:, 0, 0]).tolist() == list(range(16, 25))


def test_images_of_another_size_are_refused():
    with pytest.raises(ValueError, match="do not fit"):
        back_project(jnp.ones((1, 4, 5)), jnp.zeros(1), (3, 5, 4))


@pytest.mark.parametrize("tilt_axis", ["y", "x"])
def test_fourier_slices_agree_with_strip_integrals(tilt_axis):
    """Correlation at least 0.9998 on a smooth phantom, and the same mass to 0.5 %."""
    volume = smooth_phantom((20, 33, 36))
    real = np.asarray(projected(volume, ANGLES, tilt_axis), np.float64)
    fourier = np.asarray(fourier_projected(volume, ANGLES, tilt_axis), np.float64)
    for one, other in zip(real, fourier, strict=True):
        assert np.corrcoef(one.ravel(), other.ravel())[0, 1] > 0.9998
        assert abs(one.sum() - other.sum()) < 5e-3 * one.sum()


def test_a_fourier_slice_of_a_gaussian_is_exact():
    """Within 0.3 % of the peak, also from behind (beyond 90 degrees)."""
    shape, centre, sigma = (24, 20, 33), (3.0, -2.0, 4.0), 2.5
    angles = np.array([0.0, 31.0, -64.0, 149.0], np.float32)
    images = fourier_projected(gaussian(shape, centre, sigma), angles)
    _, y, x = centred(shape)
    for image, angle in zip(np.asarray(images), np.deg2rad(angles), strict=True):
        at = centre[2] * np.cos(angle) + centre[0] * np.sin(angle)
        expected = np.exp(-((y[0] - centre[1]) ** 2 + (x[0] - at) ** 2) / 2 / sigma**2)
        expected *= sigma * np.sqrt(2 * np.pi)
        np.testing.assert_allclose(image, expected, atol=0.003 * expected.max())


def test_gradients_reach_volume_images_and_angles(x64, key, check_gradients):
    shape = (5, 4, 6)
    angles = jnp.array([3.0, -41.3, 66.0])
    volume = jax.random.normal(key, shape, jnp.float64)
    images = jax.random.normal(key, (3, 4, 6), jnp.float64)

    def loss(volume, images, angles):
        return (
            jnp.sum(jnp.sin(project(volume, angles)))
            + jnp.sum(jnp.square(fourier_project(volume, angles)))
            + jnp.sum(jnp.cos(back_project(images, angles, shape, "x")))
        )

    check_gradients(loss, volume, images, angles)


@pytest.mark.parametrize("function", [project, fourier_project])
def test_gradients_are_finite_at_every_angle(function, key):
    volume = jax.random.normal(key, (6, 4, 8))
    angles = jnp.array([0.0, 45.0, -45.0, 90.0, -90.0])
    gradient = jax.jit(jax.grad(lambda a: jnp.sum(jnp.square(function(volume, a)))))(angles)
    assert np.isfinite(gradient).all()


def test_an_image_turns_and_then_moves():
    """A blob goes where the rotation from x towards y and the shift take it, within 0.5 %."""
    shape, sigma = (32, 40), 2.0
    y, x = centred(shape)

    def blob(at):
        return np.exp(-((y - at[0]) ** 2 + (x - at[1]) ** 2) / 2 / sigma**2)

    start = np.array([4.0, 7.0])
    images = np.stack([blob(start)] * 3).astype(np.float32)
    shifts = np.array([[0.0, 0.0], [1.4, -2.3], [-0.6, 1.7]], np.float32)
    rotations = np.array([0.0, 0.0, 12.0], np.float32)
    moved = jax.jit(misalign)(images, shifts, rotations)
    np.testing.assert_allclose(moved[0], images[0], atol=1e-5)
    np.testing.assert_allclose(moved[1], blob(start + shifts[1]), atol=0.002)
    c, s = np.cos(np.deg2rad(12)), np.sin(np.deg2rad(12))
    turned = np.array([4 * c + 7 * s, 7 * c - 4 * s])
    np.testing.assert_allclose(moved[2], blob(turned + shifts[2]), atol=0.005)


def test_gradients_of_misalignment(x64, key, check_gradients):
    images = jax.random.normal(key, (2, 6, 5), jnp.float64)
    shifts, rotations = jnp.array([[0.3, -0.2], [1.1, 0.4]]), jnp.array([2.0, -1.0])

    def loss(images, shifts, rotations):
        return jnp.sum(jnp.sin(misalign(images, shifts, rotations)))

    check_gradients(loss, images, shifts, rotations)
