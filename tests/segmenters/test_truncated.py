"""The measured halo: the smallest that keeps the logits, and what tiles then differ by."""

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from cryojax_seg import io
from cryojax_seg.core import apply
from cryojax_seg.segmenters import LinearVote, Truncated, UNet, fit_halo

VOLUME = np.random.default_rng(0).normal(size=(40, 40, 40)).astype(np.float32)


def faded(radius: int, decay: float) -> LinearVote:
    """A vote whose weights fall with the distance, so that its tail can be left out."""
    vote = LinearVote(radius)
    far = np.abs(np.stack(np.meshgrid(*[np.arange(-radius, radius + 1)] * 3))).max(0)
    kernel = np.float32(decay) ** far / (2.0 * far + 1) ** 2
    vote.kernel[...] = jnp.asarray(kernel[..., None, None], jnp.float32)
    return vote


@pytest.mark.parametrize("tolerance", [0.3, 0.03])
def test_the_halo_is_the_smallest_that_will_do(tolerance):
    """What lies beyond a halo is cut off: here its effect is known for every halo."""
    vote = faded(5, 0.4)
    fitted, difference = fit_halo(vote, VOLUME, tolerance, core=16)
    assert 0 < fitted.halo < vote.halo and 0 < difference <= tolerance
    exact = apply(vote, VOLUME)
    apart = [np.abs(apply(Truncated(vote, h), VOLUME, 8) - exact).max() for h in range(6)]
    assert apart[fitted.halo] < 2 * tolerance  # probes see a part of the volume
    assert apart[fitted.halo - 1] > tolerance
    assert apart[5] == pytest.approx(0, abs=1e-5)


def test_a_network_needs_less_than_its_halo():
    net = UNet(2, 1, "space_to_depth", norm="none", rngs=nnx.Rngs(0))
    fitted, difference = fit_halo(net, VOLUME, 0.1, core=8)
    assert fitted.halo < net.halo and fitted.halo % net.stride == 0 and difference <= 0.1
    exact, tiled = apply(net, VOLUME), apply(fitted, VOLUME, 16)
    assert np.abs(tiled - exact).max() < 0.2


def test_a_halo_that_all_matters_stays():
    vote = LinearVote(2)
    vote.kernel[...] = jnp.ones_like(vote.kernel[...])
    assert fit_halo(vote, VOLUME, 1e-3, core=8) == (vote, 0.0)
    assert fit_halo(vote, VOLUME, 1e6, core=8)[0].halo == 0


def test_refusals_and_saving(tmp_path):
    with pytest.raises(ValueError, match="0 voxels or more"):
        Truncated(LinearVote(2), -1)
    with pytest.raises(ValueError, match="above 0"):
        fit_halo(LinearVote(2), VOLUME, 0.0)
    io.save_model(tmp_path / "model", Truncated(LinearVote(2), 1))
    assert io.load_model(tmp_path / "model")[0].halo == 1
