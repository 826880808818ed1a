import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from cryojax_seg.core import MissingWedge, estimate_wedge

CUBE = [
    np.eye(3)[list(p)] * np.array(s)[:, None]
    for p in itertools.permutations(range(3))
    for s in itertools.product((1, -1), repeat=3)
]
# Compiled as a whole: operation by operation each is dozens of programs.
apply = jax.jit(MissingWedge.apply)
transfer = jax.jit(MissingWedge.transfer, static_argnums=(1, 2))
visibility = jax.jit(MissingWedge.visibility)
measured = jax.jit(MissingWedge._measured)
CUBE_ROTATIONS = [m for m in CUBE if np.linalg.det(m) > 0]


def tilted():
    return MissingWedge((-50.0, 62.0)).rotate(jnp.asarray(random_rotation(3)))


def random_rotation(seed):
    q, _ = np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))
    return (q * np.sign(np.linalg.det(q))).astype(np.float32)


def turn(volume, rotation):
    """Exact rotation of an odd cube about its central voxel by a signed permutation (zyx)."""
    n = volume.shape[0]
    index = np.indices(volume.shape).reshape(3, -1) - n // 2
    source = (rotation.T @ index).round().astype(int) + n // 2
    return volume[tuple(source)].reshape(volume.shape)


@pytest.mark.parametrize("shape", [(16, 16, 16), (15, 17, 9), (8, 12, 10), (7, 16, 12)])
@pytest.mark.parametrize(
    "wedge",
    [
        MissingWedge((-60.0, 60.0)),
        MissingWedge((-40.0, 60.0), "x"),
        MissingWedge((-60.0, 30.0)),
        tilted(),
    ],
    ids=["symmetric", "x", "asymmetric", "rotated"],
)
def test_filtering_is_a_projection(wedge, shape, key):
    """Twice is once and <Ax, y> = <x, Ay>: fails if the mask is not Hermitian (Nyquist planes)."""
    a, b = jax.random.normal(key, (2, *shape))
    once = apply(wedge, a)
    np.testing.assert_allclose(apply(wedge, once), once, atol=2e-6)
    np.testing.assert_allclose(
        jnp.vdot(once, b), jnp.vdot(a, apply(wedge, b)), rtol=2e-4, atol=1e-3
    )
    np.testing.assert_allclose(once.mean(), a.mean(), atol=1e-6)  # the zero frequency is measured
    full = np.fft.fftn(once) - np.fft.fftn(a) * full_mask(wedge, shape)
    assert np.abs(full).max() < 1e-3


def full_mask(wedge, shape):
    """The mask on the full grid by Hermitian symmetry of the half that transfer gives."""
    half = np.asarray(transfer(wedge, shape))
    mask = np.zeros(shape)
    mask[..., : half.shape[-1]] = half
    z, y, x = np.ogrid[tuple(slice(0, n) for n in shape)]
    mirrored = mask[-z % shape[0], -y % shape[1], -x % shape[2]]
    rest = np.arange(shape[2]) >= half.shape[-1]
    return np.where(rest, mirrored, mask)


def test_tilt_convention_is_pinned():
    """A sample tilted by +a about y by the right-hand rule is measured where k_z = k_x tan a."""
    n, angle = 33, 30.0
    mask = np.asarray(transfer(MissingWedge((angle - 2, angle + 2)), (n, n, n)))
    kx = 12
    found = [kz for kz in range(-16, 17) if mask[kz % n, 5, kx] > 0]
    assert found == [7]  # 12 tan 30 = 6.9, and -7 is not measured
    # The same about x: k_z = -k_y tan a.
    mask = np.asarray(transfer(MissingWedge((angle - 2, angle + 2), "x"), (n, n, n)))
    assert [kz for kz in range(-16, 17) if mask[kz % n, kx, 5] > 0] == [-7]


def test_a_projection_at_a_tilt_is_what_the_wedge_keeps():
    """Asymmetric phantom: the central section of the kept sector carries the projection."""
    n, angle = 33, 45.0
    rng = np.random.default_rng(1)
    volume = np.zeros((n, n, n), np.float32)
    volume[10:23, 10:23, 10:23] = rng.normal(size=(13, 13, 13))
    # Turned by +45 degrees about y: (x', z') = (x cos + z sin, z cos - x sin). The projection
    # along z' is a function of x' and its transform lives on (k_x, k_z) = k (cos, sin).
    c = np.arange(n) - n // 2
    z, x = np.meshgrid(c, c, indexing="ij")
    # At 45 degrees that line passes through the grid points k_x = k_z.
    along = np.exp(-2j * np.pi * 3 / n * (x + z))
    projection = (volume.sum(1) * along).sum()
    kept = apply(MissingWedge((angle - 10, angle + 10)), volume)
    lost = apply(MissingWedge((-angle - 10, -angle + 10)), volume)
    assert abs((np.asarray(kept).sum(1) * along).sum() - projection) < 1e-4 * abs(projection)
    assert abs((np.asarray(lost).sum(1) * along).sum()) < 1e-4 * abs(projection)


@pytest.mark.parametrize("axis", ["y", "x"])
def test_kept_fraction_is_that_of_the_angles(axis):
    """In a ball of frequencies the kept fraction is exactly (high - low) / 180."""
    wedge = MissingWedge((-42.0, 60.0), axis)
    rng = np.random.default_rng(0)
    k = jnp.asarray(rng.normal(size=(3, 200_000)), jnp.float32)
    assert abs(float(measured(wedge, *k).mean()) - 102 / 180) < 0.004


@pytest.mark.parametrize("rotation", CUBE_ROTATIONS[1::4], ids=str)
def test_rotating_sample_and_wedge_together_rotates_the_answer(rotation, key):
    volume = np.asarray(jax.random.normal(key, (11, 11, 11)))
    wedge = MissingWedge((-40.0, 61.0))
    turned = apply(wedge.rotate(rotation.astype(np.float32)), turn(volume, rotation))
    np.testing.assert_allclose(turned, turn(np.asarray(apply(wedge, volume)), rotation), atol=3e-6)


def test_symmetries_are_exactly_the_flips_that_commute(key):
    volume = np.asarray(jax.random.normal(key, (11, 11, 11)))
    for wedge in (
        MissingWedge((-60.0, 60.0)),
        MissingWedge((-40.0, 60.0)),
        MissingWedge((-40.0, 60.0), "x"),
        tilted(),
    ):
        kept = wedge.symmetries()
        for count in range(4):
            for axes in itertools.combinations(range(3), count):
                flipped = np.flip(apply(wedge, np.flip(volume, axes)), axes)
                difference = np.abs(flipped - apply(wedge, volume)).max()
                assert (difference < 1e-5) == (axes in kept), (wedge, axes, difference)


def test_rotation_by_identity_changes_nothing():
    wedge = MissingWedge((-50.0, 60.0))
    np.testing.assert_array_equal(
        transfer(wedge.rotate(jnp.eye(3)), (9, 12, 10)), transfer(wedge, (9, 12, 10))
    )


def test_anisotropic_voxels_scale_the_frequencies():
    """Voxels twice as long along z halve k_z: the wedge closes in voxel units."""
    wedge = MissingWedge((-45.0, 45.0))
    stretched = np.asarray(transfer(wedge, (32, 8, 32), (2.0, 1.0, 1.0)))
    steep = MissingWedge((-np.rad2deg(np.arctan(2)), np.rad2deg(np.arctan(2))))
    assert np.abs(stretched - np.asarray(transfer(steep, (32, 8, 32)))).mean() < 0.01


@pytest.mark.parametrize("wedge", [MissingWedge((-60.0, 60.0)), MissingWedge((-35.0, 50.0), "x")])
def test_visibility_is_the_mean_of_the_wedge_over_the_spectrum(wedge):
    """Against 400 000 random frequencies of the same Gaussian spectrum (error below 0.003)."""
    rng = np.random.default_rng(4)
    normals = rng.normal(size=(6, 3))
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    normals = np.concatenate([normals, np.eye(3), -np.eye(3)]).astype(np.float32)
    thickness, extent = 1.5, 7.0
    for normal, value in zip(normals, visibility(wedge, normals, extent, thickness), strict=True):
        k = rng.normal(size=(400_000, 3)) / (np.sqrt(8) * np.pi * extent)
        t = rng.normal(size=(400_000, 1)) / (np.sqrt(8) * np.pi * thickness)
        k += (t - (k @ normal)[:, None]) * normal
        truth = float(measured(wedge, *k.T.astype(np.float32)).mean())
        assert abs(float(value) - truth) < 0.004


def test_visibility_is_the_energy_fraction_of_a_real_sheet():
    """Against a discrete transform; the coarse grid of the transform makes 0.04 of difference."""
    n, extent, thickness = 96, 6.0, 1.5
    wedge = MissingWedge((-60.0, 60.0))
    normals = np.array([[0.5, 0.5, 0.7071], [0.866, 0.3, 0.4], [0.2, 0.1, 0.9747]], np.float32)
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    mask = np.asarray(transfer(wedge, (n, n, n)))
    z, y, x = np.meshgrid(
        *[np.arange(n, dtype=np.float32) - n // 2] * 3, indexing="ij", sparse=True
    )
    for normal, value in zip(normals, visibility(wedge, normals, extent, thickness), strict=True):
        across = (z * normal[0] + y * normal[1] + x * normal[2]) ** 2
        along = z**2 + y**2 + x**2 - across
        power = (
            np.abs(np.fft.rfftn(np.exp(-across / 2 / thickness**2 - along / 2 / extent**2))) ** 2
        )
        power[..., 1 : n // 2] *= 2
        assert abs(float(value) - (power * mask).sum() / power.sum()) < 0.04


def test_visibility_depends_on_the_tilt_axis_not_on_the_beam_angle():
    """Two sheets at 60 degrees to the beam: one is seen, the other is not."""
    s, c = np.sin(np.pi / 3), np.cos(np.pi / 3)
    toward_x, toward_y = jnp.array([[c, 0.0, s], [c, s, 0.0]], jnp.float32)
    wedge = MissingWedge((-60.0, 60.0))
    assert visibility(wedge, toward_x, extent_angstrom=180.0) > 0.9
    assert visibility(wedge, toward_y, extent_angstrom=180.0) < 0.3


def test_visibility_ignores_the_sign_of_the_normal(key):
    normals = jax.random.normal(key, (50, 3))
    normals = normals / jnp.linalg.norm(normals, axis=1, keepdims=True)
    wedge = MissingWedge((-40.0, 60.0))
    seen = [visibility(wedge, n) for n in (normals, -normals)]
    np.testing.assert_allclose(*seen, atol=2e-5)


def test_gradients(x64, key):
    normals = jax.random.normal(key, (4, 3), jnp.float64)
    normals = normals / jnp.linalg.norm(normals, axis=1, keepdims=True)

    @jax.jit
    def seen(tilt_range, extent):
        return MissingWedge(tilt_range).visibility(normals, extent)

    check_grads(seen, (jnp.array([-50.0, 60.0]), jnp.array(8.0)), order=1, rtol=1e-4)
    volume = jax.random.normal(key, (8, 9, 10), jnp.float64)

    @jax.jit
    def filtered(tilt_range, softness):
        return MissingWedge(tilt_range, "y", softness).apply(volume)

    check_grads(filtered, (jnp.array([-50.0, 60.0]), jnp.array(0.05)), order=1, rtol=1e-4)
    flat = jnp.eye(3)  # along the axes
    slope = jax.jit(jax.grad(lambda t: MissingWedge(t).visibility(flat).sum()))
    gradient = slope(jnp.array([-60.0, 60.0]))
    assert jnp.isfinite(gradient).all()


def test_jit_and_vmap_over_wedges(key):
    volume = jax.random.normal(key, (8, 8, 8))
    ranges = jnp.array([[-60.0, 60.0], [-30.0, 50.0]])
    many = jax.jit(jax.vmap(lambda r: MissingWedge(r).apply(volume)))(ranges)
    for got, one in zip(many, ranges, strict=True):
        np.testing.assert_allclose(got, MissingWedge(one).apply(volume), atol=1e-6)


@pytest.mark.parametrize("angles", [(60.0, -60.0), (-100.0, 60.0), (0.0, 0.0), (1.0, 2.0, 3.0)])
def test_impossible_tilt_ranges_are_refused(angles):
    with pytest.raises(ValueError, match="tilt_range"):
        MissingWedge(angles)


@pytest.mark.parametrize("wedge", [MissingWedge((-42.0, 62.0)), MissingWedge((-60.0, 48.0), "x")])
def test_the_spectrum_shows_the_wedge(wedge):
    rng = np.random.default_rng(3)
    noise = rng.normal(size=(40, 56, 64)).astype(np.float32)
    found = estimate_wedge(np.asarray(apply(wedge, noise)))
    assert found.tilt_axis == wedge.tilt_axis
    np.testing.assert_allclose(found.tilt_range, wedge.tilt_range, atol=3.5)
    assert estimate_wedge(noise) is None


def test_without_a_wedge_everything_is_visible():
    everything = MissingWedge((-90.0, 90.0))
    normals = np.concatenate([np.eye(3), [[0.6, 0.0, 0.8], [-0.6, 0.48, 0.64]]]).astype(np.float32)
    np.testing.assert_allclose(everything.visibility(normals), 1.0, atol=1e-5)
    np.testing.assert_array_equal(everything.transfer((8, 8, 8)), 1.0)
