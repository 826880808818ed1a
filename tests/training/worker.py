"""A tiny training run, shared by the tests that need it in another process.

``python worker.py RUN`` trains there (resuming if it can) and prints the result as JSON.
"""

import hashlib
import json
import sys
from pathlib import Path

import jax
import numpy as np

from cryojax_seg.core import MissingWedge
from cryojax_seg.segmenters import LinearVote
from cryojax_seg.training import Augmentation, Example, TrainConfig, split_annotation, train


def example(name="toy", seed=0):
    """A bright box in noise, four annotated slices."""
    rng = np.random.default_rng(seed)
    labels = np.zeros((16, 20, 18), np.int32)
    labels[:, 5:12, 4:13] = 1
    volume = (1.5 * labels + rng.normal(size=labels.shape)).astype(np.float32)
    weights = np.zeros(labels.shape, np.float32)
    weights[[2, 6, 10, 14]] = 1.0
    return Example(volume, labels, weights, MissingWedge((-60.0, 60.0)), name=name)


def config(**changes):
    values = {
        "steps": 40,
        "batch": 4,
        "patch": 8,
        "learning_rate": 0.2,
        "validate_every": 10,
        "checkpoint_every": 3,
        "augmentation": Augmentation(rotate90=0.5),
    }
    return TrainConfig(**(values | changes))


def run(folder=None, resume=False, validate=True, **changes):
    given, held_out = split_annotation(example(), 0.25)
    return train(
        LinearVote(radius=1),
        [given],
        config(**changes),
        validation=[held_out] if validate else (),
        replayed=[example("phantom", 1)] if changes.get("replay") else (),
        run=folder,
        resume=resume,
        progress=False,
    )


def digest(result):
    """What must be equal, bit for bit, between an interrupted run and one that was not."""
    leaves = jax.tree.leaves(result.operator)
    return {
        "parameters": hashlib.sha256(b"".join(np.asarray(v).tobytes() for v in leaves)).hexdigest(),
        "losses": [line["loss"] for line in result.history],
        "steps": [line["step"] for line in result.history],
        "score": result.score,
        "stopped": result.stopped,
    }


if __name__ == "__main__":
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else None
    resume = folder is not None and (folder / "run.json").exists()
    print(json.dumps(digest(run(folder, resume, validate=folder is not None))))
