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
# # See, paint, correct
#
# A model labels your tomogram, you paint where it is wrong, and it follows the brush. This needs
# `pip install 'cryojax-seg[view]'`. The tomogram is simulated so that the notebook runs anywhere; put your own path
# into the third cell. So that it also runs without hands, strokes that somebody painted on the page are replayed.

# %%
import json
import tempfile
from pathlib import Path

import jax
import matplotlib.pyplot as plt
import numpy as np

from cryojax_seg import evaluate, inference, io, simulate, view

folder = Path(tempfile.mkdtemp())
scene = simulate.presets.vesicles(jax.random.key(5), (64, 112, 112), voxel_size=10.0, crowding=0.02)
phantom = simulate.simulate(scene, simulate.WedgeImaging(snr=0.4), jax.random.key(6))
truth = (np.asarray(phantom.labels) == 1).astype(np.int32)
io.write_mrc(folder / "tomogram.mrc", -np.asarray(phantom.density), voxel_size=phantom.voxel_size)

# %% [markdown]
# ## See
#
# The built-in model `membrane` predicts at once, the slices that you look at first. `start="vote"` would begin without
# any model. Press `?` in the view for its keys: B paints, the digits choose a class, 0 is background, N goes to the
# slice where annotation is worth most. Labels are saved after each stroke.

# %%
painted = view.annotate(
    folder / "tomogram.mrc", ["membrane"], folder / "labels.mrc", start="membrane"
)
painted

# %%
assert painted.wait(240)
before = painted.prediction()


def dice(labels):
    return evaluate.overlap(labels.astype(np.int32), truth)["foreground"].dice


print(f"as the model was trained: Dice {dice(before):.3f}")

# %% [markdown]
# ## Paint and correct
#
# These strokes went along membranes that the model had missed, and across some that are none. Each is a message that
# the page sends.

# %%
strokes = json.loads(Path("notebooks/03_strokes.json").read_text())
receive = painted.session.connect(lambda message, data: None)
for stroke in strokes:
    receive(stroke)
assert painted.wait(240)
after = painted.prediction()
counts = painted.session.painting.counts()
print(len(strokes), "strokes,", counts)
print(painted.session.learning()["text"].partition(" in ")[0])
print(f"after the strokes: Dice {dice(after):.3f}")
assert dice(after) > dice(before)

# %%
z = strokes[0]["index"]
volume, labels = painted.session.volume(), painted.session.painting.plane((0, z))
figure, axes = plt.subplots(1, 3, figsize=(12, 4.2), constrained_layout=True)
for axis in axes:
    axis.imshow(volume[z : z + 1][0], cmap="gray_r", origin="lower")
    axis.set(xticks=[], yticks=[])
for axis, found, title in zip(axes, (before, after), ("before", "after"), strict=False):
    axis.contour(truth[z], [0.5], colors="tab:blue", linewidths=0.8)
    axis.contour(found[z], [0.5], colors="tab:orange", linewidths=0.8)
    axis.set(title=f"{title}: found (orange), true (blue)")
axes[2].imshow(np.ma.masked_less(labels, 0), cmap="coolwarm", vmin=0, vmax=1, origin="lower")
_ = axes[2].set(title="strokes: membrane (red), background (blue)")

# %% [markdown]
# ## Where to paint next
#
# Slices are ranked by the entropy of their calibrated probabilities, and boxes of slices as well. N and Shift+N go
# there.

# %%
told = []
receive = painted.session.connect(lambda message, data: told.append(message))
receive({"type": "suggest"})
painted.wait(60)
while not any(message["type"] == "suggestions" for message in told):
    painted.wait(1)
(answer,) = (message for message in told if message["type"] == "suggestions")
print(*(item["text"] for item in answer["items"][:3]), sep="\n")
print(answer["boxes"][0]["text"], answer["boxes"][0]["box"])

# %% [markdown]
# ## Keep it
#
# Save the model here or on the page, and use it for other tomograms, also with `cryojax-seg segment`. The labels are
# an `Example`, to train all of a network on.

# %%
told.clear()
receive({"type": "learn", "action": "save"})
assert painted.close_session().complete
model = inference.load(folder / "labels.model")
again = inference.segment(model, folder / "tomogram.mrc")
print(f"the saved model, with its average over flips: Dice {dice(again):.3f}")
example = painted.example()
assert example.weights.sum() == sum(counts.values())
