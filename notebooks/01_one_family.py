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
# # One family, from a threshold to a U-Net
#
# Every method here is the same kind of object: a local function `p_r = f({I_(r+delta)})` with a declared halo, the distance that it looks.
# A threshold looks at one voxel, a filter at the curvature of the density around it, a linear vote at a cube of
# neighbours, a U-Net at everything within 20 voxels and more. This notebook trains one of each on three slices of
# a noisy phantom with a missing wedge, and compares them.

# %%
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
from flax import nnx
from matplotlib.colors import to_rgba

from cryojax_seg import core, evaluate, losses, segmenters, simulate, training


def show(axis, density, labels=None, title=""):
    """Draw a slice, and labels over it."""
    axis.imshow(
        density, cmap="gray", vmin=np.percentile(density, 1), vmax=np.percentile(density, 99)
    )
    if labels is not None:
        tint = np.zeros((*labels.shape, 4))
        tint[labels > 0] = to_rgba("tab:orange", 0.55)
        axis.imshow(tint, interpolation="nearest")
    axis.set(title=title, xticks=[], yticks=[])


scene = simulate.presets.vesicles(jax.random.key(3), (64, 112, 112), voxel_size=10.0)
phantom = simulate.simulate(scene, simulate.WedgeImaging(snr=0.5), jax.random.key(4))
volume = core.normalize(np.asarray(phantom.density), contrast="bright")
truth = (np.asarray(phantom.labels) == 1).astype(np.int32)  # membranes
volume.shape, truth.mean().round(3)

# %% [markdown]
# ## Annotate three slices
#
# Weight 0 means that nobody looked there: those voxels have no influence on the loss.

# %%
weights = np.zeros_like(volume)
weights[[16, 32, 48]] = 1
example = training.Example(volume, truth, weights, phantom.wedge, name="phantom")

# %% [markdown]
# ## Four members of the family
#
# `halo` is how far a method sees. A threshold learns two numbers, the U-Net some hundred thousand; the line that trains
# them is the same. Filters minimise the Dice loss alone: with cross-entropy a handful of parameters learns that the
# safest answer to noise is no.

# %%
quick = training.TrainConfig(steps=100, patch=32, learning_rate=0.03, ema=0.9)
slow = training.TrainConfig(steps=300, patch=40, ema=0.97)
overlap = losses.supervised(losses.dice)
family = {
    "threshold": (segmenters.otsu(volume), quick, overlap),
    "sheet filter": (segmenters.SheetFilter((1.5,)), quick, overlap),
    "linear vote": (segmenters.LinearVote(radius=3), quick, overlap),
    "U-Net": (segmenters.UNet(16, 1, "space_to_depth", rngs=nnx.Rngs(0)), slow, None),
}
trained = {
    name: training.train(start, [example], config, objective=goal, progress=False).operator
    for name, (start, config, goal) in family.items()
}
trained = {name: segmenters.fit_normalization(s, volume) for name, s in trained.items()}
{name: segmenter.halo for name, segmenter in trained.items()}

# %%
logits = {name: core.apply(segmenter, volume) for name, segmenter in trained.items()}
unseen = 1 - weights
scores = {
    name: evaluate.overlap(np.asarray(core.labels(value)), truth, unseen, ("membrane",))["membrane"]
    for name, value in logits.items()
}
for name, score in scores.items():
    print(f"{name:12s} Dice {score.dice:.2f}", end="  ")
    print(f"precision {score.precision:.2f}  recall {score.recall:.2f}")
assert scores["threshold"].dice < scores["linear vote"].dice < scores["U-Net"].dice

# %%
figure, axes = plt.subplots(2, 3, figsize=(12, 8), constrained_layout=True)
z = 24  # as far from the annotated slices as can be
panels = {"tomogram": None, "truth": truth[z]}
panels |= {name: np.asarray(core.labels(value)[z]) for name, value in logits.items()}
for axis, (name, labels) in zip(axes.flat, panels.items(), strict=True):
    show(axis, volume[z], labels, name)

# %% [markdown]
# ## The same answer tile by tile
#
# A local function needs no blending: each tile is read with its halo, and the tiles fit.

# %%
vote = trained["linear vote"]
difference = float(np.abs(core.apply(vote, volume, tile=16) - logits["linear vote"]).max())
assert difference < 1e-4
difference

# %% [markdown]
# ## Everything is differentiable
#
# A segmenter is a pytree, so plain `jax.grad` gives the gradient with respect to every parameter: here, how the mean
# logit answers to the threshold.

# %%
gradient = jax.grad(lambda s: s(jnp.asarray(volume)).mean())(trained["threshold"])
float(gradient.threshold[...])
