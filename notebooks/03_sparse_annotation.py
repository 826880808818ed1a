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
# # Your own tomogram, three slices
#
# You annotate three slices of one tomogram and want labels of all of it, with probabilities that mean what they say.
# The files here are simulated so that the notebook runs anywhere; put your own paths into the second cell.

# %%
import tempfile
from pathlib import Path

import jax
import matplotlib.pyplot as plt
import numpy as np
from flax import nnx
from matplotlib.colors import to_rgba

from cryojax_seg import core, evaluate, io, segmenters, simulate, training

folder = Path(tempfile.mkdtemp())
scene = simulate.presets.vesicles(jax.random.key(5), (64, 112, 112), voxel_size=10.0, crowding=0.02)
phantom = simulate.simulate(scene, simulate.WedgeImaging(snr=0.4), jax.random.key(6))
truth = (np.asarray(phantom.labels) == 1).astype(np.int8)
painted = np.full(truth.shape, 255, np.uint8)  # 255: nobody looked here
painted[[14, 32, 50]] = truth[[14, 32, 50]]
io.write_mrc(folder / "tomogram.mrc", -np.asarray(phantom.density), voxel_size=phantom.voxel_size)
io.write_mrc(folder / "labels.mrc", painted, voxel_size=phantom.voxel_size)

# %% [markdown]
# ## Read and look
#
# Reconstructions come with dark structure; inside the package structure is bright. The missing wedge can be read off
# the power spectrum if you do not know your tilt range.

# %%
tomogram = io.read_tomogram(folder / "tomogram.mrc")
annotation = io.read_labels(folder / "labels.mrc", tomogram)
volume = core.normalize(tomogram.density, contrast="dark")
wedge = core.estimate_wedge(volume)
print(tomogram.voxel_size, wedge, f"{100 * (annotation.weights > 0).mean():.1f} % annotated")
figure, axes = plt.subplots(1, 3, figsize=(12, 4.2), constrained_layout=True)
for axis, z in zip(axes, (14, 32, 50), strict=True):
    axis.imshow(volume[z], cmap="gray_r")
    axis.contour(
        annotation.labels[z] * (annotation.weights[z] > 0),
        [0.5],
        colors="tab:orange",
        linewidths=0.8,
    )
    axis.set(title=f"slice {z}", xticks=[], yticks=[])

# %% [markdown]
# ## Train
#
# Two slices teach, one is held back to say how good the answer is and how sure it should be.

# %%
example = training.Example(volume, annotation.labels, annotation.weights, wedge, name="my tomogram")
learned, held_out = training.split_annotation(example, fraction=0.34)
print(
    "learning from",
    np.flatnonzero(learned.weights.any((1, 2))),
    "held out",
    np.flatnonzero(held_out.weights.any((1, 2))),
)
network = segmenters.UNet(16, 1, "space_to_depth", classes=("membrane",), rngs=nnx.Rngs(0))
config = training.TrainConfig(steps=300, patch=40, ema=0.97)
network = training.train(network, [learned], config, progress=False).operator
network = segmenters.fit_normalization(network, volume)


# %% [markdown]
# ## Does a probability of 0.8 mean 8 voxels of 10?
#
# A network trained on two slices is too sure of itself. One number, the temperature, is fitted to the slice it did
# not learn from. Labels stay as they are.

# %%
calibrated = segmenters.fit_temperature(network, [held_out])
probability = {
    name: np.asarray(core.probabilities(core.apply(s, volume)))
    for name, s in {"as trained": network, "calibrated": calibrated}.items()
}
print(f"temperature {float(calibrated.temperature):.2f}")
figure, axis = plt.subplots(figsize=(4.4, 4.2), constrained_layout=True)
for name, p in probability.items():
    curve = evaluate.reliability(
        p, truth.astype(int)
    )  # against the whole truth, which you do not have
    some = curve.weight > 50
    error = evaluate.expected_calibration_error(p, truth.astype(int))
    axis.plot(curve.confidence[some], curve.accuracy[some], "o-", label=f"{name}, ECE {error:.3f}")
axis.plot([0.5, 1], [0.5, 1], "k:")
axis.set(xlabel="confidence", ylabel="accuracy")
_ = axis.legend()
# %% [markdown]
# ## The labels, and the slice to annotate next
#
# The slice with the most undecided voxels is the one whose annotation would teach most.

# %%
labels = np.asarray(core.labels(core.apply(calibrated, volume)))
score = evaluate.overlap(labels, truth.astype(int), 1.0 * (annotation.weights == 0))["foreground"]
p = np.clip(probability["calibrated"][..., 0], 1e-6, 1 - 1e-6)
entropy = -(p * np.log2(p) + (1 - p) * np.log2(1 - p)).mean((1, 2))
entropy[[14, 32, 50]] = 0
print(
    f"slices nobody looked at: Dice {score.dice:.2f}  precision {score.precision:.2f}  recall {score.recall:.2f}"
)
print("annotate next: slice", int(entropy.argmax()))
assert score.dice > 0.5
figure, axes = plt.subplots(1, 3, figsize=(12, 4.2), constrained_layout=True)
z = 23
axes[0].imshow(volume[z], cmap="gray_r")
axes[1].imshow(p[z], cmap="magma", vmin=0, vmax=1)
axes[2].imshow(volume[z], cmap="gray_r")
tint = np.zeros((*labels[z].shape, 4))
tint[labels[z] > 0] = to_rgba("tab:orange", 0.55)
axes[2].imshow(tint, interpolation="nearest")
axes[2].contour(truth[z], [0.5], colors="tab:blue", linewidths=0.9)
for axis, title in zip(
    axes, ("tomogram", "probability", "found (orange), true (blue)"), strict=True
):
    axis.set(title=title, xticks=[], yticks=[])

# %% [markdown]
# ## Keep it
#
# The labels have the grid of the tomogram, so any viewer overlays them; the model can be used on other tomograms,
# here or with `cryojax-seg segment`.

# %%
io.write_mrc(folder / "membrane.mrc", labels.astype(np.int8), like=tomogram)
io.save_model(folder / "model", calibrated)
again, card = io.load_model(folder / "model")
assert (np.asarray(core.labels(core.apply(again, volume))) == labels).all()
