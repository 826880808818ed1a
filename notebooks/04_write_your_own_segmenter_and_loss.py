# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#       format_version: '1.3'
#       jupytext_version: 1.19.6
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Write your own segmenter and loss
#
# A segmenter is a class with `halo`, `stride`, `classes` and a pure `__call__`; a loss is a function of logits, labels
# and weights. Twenty lines each, and everything else applies: training, exact tiles, calibration, scores against
# visibility, and the scenes of the experiments.

# %%
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
from flax import nnx
from matplotlib.colors import to_rgba

from cryojax_seg import core, evaluate, losses
from cryojax_seg.core.convolution import conv3d

sys.path.insert(0, str(Path.cwd()))  # the checkout, for its experiments

# %% [markdown]
# ## A segmenter in twenty lines
#
# The mean density of a small ball and of the three shells around it, and a tiny network that decides what they mean:
# the same answer however the sample is turned. It says how far it looks (`halo`); what it learns are `nnx.Param`.


# %%
class CentreSurround(core.Segmenter):
    """Let a tiny network compare the middle of a neighbourhood with the shells around it."""

    halo: int = 4
    stride: int = 1
    classes: tuple[str, ...] = ("membrane",)

    def __init__(self, hidden: int = 8, classes=("membrane",), *, rngs: nnx.Rngs):
        self.classes = tuple(classes)
        self.mix = nnx.Param(jax.random.normal(rngs.params(), (self.halo, hidden)))
        self.bias = nnx.Param(jnp.zeros(hidden))
        self.vote = nnx.Param(jax.random.normal(rngs.params(), (hidden, len(classes))) / hidden)
        self.threshold = nnx.Param(jnp.zeros(len(classes)))

    def __call__(self, volume):
        offsets = np.indices((2 * self.halo + 1,) * 3) - self.halo
        distance = np.sqrt(np.square(offsets).sum(0))[..., None]
        shells = np.floor(distance) == np.arange(self.halo)  # the ball and three shells
        kernel = (shells / shells.sum((0, 1, 2))).astype(np.float32)
        means = conv3d(volume[..., None], jnp.asarray(kernel)[..., None, :])
        hidden = jax.nn.gelu(means @ self.mix[...] + self.bias[...])
        return hidden @ self.vote[...] - self.threshold[...]


# %% [markdown]
# ## A loss in twenty lines
#
# The generalized cross-entropy of Zhang & Sabuncu (2018, equation 6), `(1 - p_label^q) / q`: between cross-entropy
# (`q` near 0) and the mean absolute error (`q = 1`), it gives up on voxels that look mislabelled, as hand-drawn
# borders are. Weights enter the sums and never the logits; a voxel of weight 0 may hold anything.


# %%
def generalized_cross_entropy(q: float = 0.7):
    def loss(logits, labels, weights):
        known = weights > 0
        z = jnp.where(known[..., None], logits, 0.0)
        y = jnp.where(known, labels, 0)
        if z.shape[-1] == 1:
            right = jax.nn.log_sigmoid(jnp.where(y > 0, z[..., 0], -z[..., 0]))
        else:
            right = jnp.take_along_axis(jax.nn.log_softmax(z), y[..., None], -1)[..., 0]
        total = weights.sum()
        return (weights * (1 - jnp.exp(q * right)) / q).sum() / jnp.where(total > 0, total, 1.0)

    return loss


# %% [markdown]
# ## They keep the promises
#
# The contract, tried on the new class: tiles equal the whole, nothing beyond the halo matters, and gradients are
# finite. The loss ignores what nobody annotated.

# %%
noise = np.random.default_rng(0).normal(size=(20, 24, 28)).astype(np.float32)
mine = CentreSurround(rngs=nnx.Rngs(0))
tiled, whole = (core.apply(mine, noise, tile) for tile in (8, None))
np.testing.assert_allclose(tiled, whole, atol=1e-5)

far = jnp.asarray(noise).at[0, 0, 0].set(jnp.nan)
assert np.isfinite(mine(far)[mine.halo + 1 :]).all()

gradient = jax.grad(lambda s: s(jnp.zeros((12, 12, 12))).sum())(mine)
assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))

z, y, w = jnp.array([[0.3], [jnp.nan]]), jnp.array([1, 0]), jnp.array([1.0, 0.0])
assert np.isfinite(jax.grad(lambda v: generalized_cross_entropy()(v, y, w))(z)).all()

# %% [markdown]
# ## And take part in everything
#
# Experiments and `cryojax-seg compare` take a segmenter of one's own by the name Python would import it under. Save
# the class in `mine.py` and run, for example
#
#     PYTHONPATH=. python experiments/method_comparison.py --methods vote unet mine:CentreSurround
#     PYTHONPATH=. cryojax-seg compare tomogram.mrc --labels labels.mrc --methods vote,mine:CentreSurround -o out
#
# and a loss of one's own behind an `@`, for any method: a function of logits, labels and weights, or an objective of
# segmenter and batch. With `robust = generalized_cross_entropy(0.7)` in `mine.py`:
#
#     PYTHONPATH=. python experiments/method_comparison.py --methods unet unet@mine:robust mine:CentreSurround@mine:robust
#     PYTHONPATH=. python experiments/wedge_losses.py --variants plain insist mine:robust
#     PYTHONPATH=. cryojax-seg train tomogram.mrc --labels labels.mrc --method unet@mine:robust -o run
#
# Here is how experiments train their methods, on the scenes they share: beside a linear vote, each with Dice alone,
# and with the new loss added.

# %%
from experiments.fitting import train_method  # noqa: E402
from experiments.scenes import example, logits, phantom  # noqa: E402

scenes = [example(phantom(seed, 64, 0.5)) for seed in (0, 1)]
unseen = phantom(1000, 64, 0.5)
truth = np.asarray(unseen.labels == 1, np.int32)
both = losses.combine(losses.dice, generalized_cross_entropy())
goals = {"Dice": losses.dice, "Dice + generalized": both}
answers = {}
for method in ("vote", "__main__:CentreSurround"):
    for name, loss in goals.items():
        segmenter, seconds = train_method(
            method, ("membrane",), scenes, 0, steps=120, patch=28, goal=losses.supervised(loss)
        )
        answers[method, name] = logits(segmenter, unseen)
        found = np.asarray(core.labels(answers[method, name]))
        score = evaluate.overlap(found, truth)["foreground"]
        seen = (found == 1, truth == 1, np.asarray(unseen.visibility))
        low = evaluate.recall_by_visibility(*seen, (0, 0.3, 1))[0]
        print(
            f"{method:24s} {name:20s} Dice {score.dice:.2f}  precision {score.precision:.2f}",
            end="  ",
        )
        print(f"recall {score.recall:.2f}, at low visibility {low.recall:.2f}")
        assert score.dice > 0.2

# %%
figure, axes = plt.subplots(1, 4, figsize=(14, 3.8), constrained_layout=True)
z = 32
density = np.asarray(unseen.density)[z]
panels = {"tomogram": None, "truth": truth[z]}
panels |= {m: np.asarray(core.labels(answers[m, "Dice + generalized"]))[z] for m, _ in answers}
for axis, (name, labels) in zip(axes, panels.items(), strict=True):
    axis.imshow(density, cmap="gray")
    if labels is not None:
        tint = np.zeros((*labels.shape, 4))
        tint[labels > 0] = to_rgba("tab:orange", 0.55)
        axis.imshow(tint, interpolation="nearest")
    axis.set(title=name, xticks=[], yticks=[])
