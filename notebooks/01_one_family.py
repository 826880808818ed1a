# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # One family, from a threshold to a U-Net
#
# Every method here is the same kind of object: a local function `p_r = f({I_(r+delta)})` with a declared reach.
# A threshold looks at one voxel, a filter at the curvature of the density around it, a linear vote at a cube of
# neighbours, a U-Net at everything within 20 voxels and more. This notebook trains one of each on three slices of
# a noisy phantom with a missing wedge, and compares them.

# %%
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
from flax import nnx

from cryojax_seg import core, evaluate, losses, segmenters, simulate, training

scene = simulate.presets.vesicles(jax.random.key(3), (48, 64, 64), voxel_size=10.0, crowding=0.0)
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
weights[[12, 24, 36]] = 1
example = training.Example(volume, truth, weights, phantom.wedge, name="phantom")

# %% [markdown]
# ## Four members of the family
#
# `halo` is how far a method sees. A threshold learns two numbers, the U-Net tens of thousands; the line that trains
# them is the same. Filters minimise the Dice loss alone: with cross-entropy a handful of parameters learns that the
# safest answer to noise is no.

# %%
quick = training.TrainConfig(steps=100, patch=32, learning_rate=0.03, ema=0.9)
slow = training.TrainConfig(steps=150, patch=24, ema=0.97)
overlap = losses.supervised(losses.dice)
family = {
    "threshold": (segmenters.otsu(volume), quick, overlap),
    "sheet filter": (segmenters.SheetFilter((1.5,)), quick, overlap),
    "linear vote": (segmenters.LinearVote(radius=3), quick, overlap),
    "U-Net": (segmenters.UNet(width=8, rngs=nnx.Rngs(0)), slow, None),
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
z = 18
panels = {"noisy slice": volume[z], "truth": truth[z]}
panels |= {name: core.labels(value)[z] for name, value in logits.items()}
for axis, (name, image) in zip(axes.flat, panels.items(), strict=True):
    axis.imshow(image, cmap="gray")
    axis.set(title=name, xticks=[], yticks=[])

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
