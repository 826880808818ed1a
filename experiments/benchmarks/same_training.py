"""Trains a U-Net of this package in PyTorch, with the patches, loss and schedule of `train`."""

import jax
import jax.numpy as jnp
import numpy as np
import torch
from torch.nn import functional

from cryojax_seg import training
from cryojax_seg.segmenters import UNet
from cryojax_seg.training.augment import augment
from cryojax_seg.training.samples import prepare
from cryojax_seg.training.sampling import draw
from cryojax_seg.training.schedule import learning_rate
from cryojax_seg.training.step import step_key
from experiments.benchmarks.budget import phases_at
from experiments.benchmarks.rivals import SameUNet
from experiments.recipe import Data, score


class SameNetwork:
    """Trains a U-Net from the same parameters with the same batches, which JAX draws and changes.

    With ``muon`` the recipe is that of `train`: `torch.optim.Muon` for the kernels, which takes
    them as the same matrices and scales its updates alike, AdamW for the rest, and the running mean
    of the parameters. Without, it is AdamW as PyTorch has it, and the last parameters.
    """

    def __init__(self, net: UNet, data: Data, settings: training.TrainConfig, muon: bool):
        self.unet, self.net, self.settings, self.muon = net, SameUNet(net), settings, muon
        self.steps, leaves = 0, self.net.leaves
        if muon:
            kernels = [leaf for leaf in leaves if leaf.ndim > 1]
            others = [leaf for leaf in leaves if leaf.ndim == 1]
            decay, scaling = settings.weight_decay, "match_rms_adamw"
            self.optimizers = [
                torch.optim.Muon(kernels, weight_decay=decay, adjust_lr_fn=scaling),
                torch.optim.AdamW(others, weight_decay=0.0),
            ]
        else:
            self.optimizers = [torch.optim.AdamW(leaves)]
        self.mean = [leaf.detach().clone() for leaf in leaves]
        samples = prepare(data.examples, data.classes, settings.patch_shape)

        def batch(samples, step):
            by_sample, by_augment = step_key(jnp.uint32(settings.seed), step)
            drawn, flips = draw(samples, by_sample, settings.batch, settings.patch_shape)
            drawn = augment(drawn, by_augment, flips, settings.augmentation)
            return drawn.volume, drawn.labels, drawn.weights

        compiled = jax.jit(batch).lower(samples, np.int32(0)).compile()
        self.batch = lambda step: [
            torch.from_numpy(np.array(part)) for part in compiled(samples, np.int32(step))
        ]

    def step(self, progress: float) -> float:
        """Take a step at this share of the training, and return the loss."""
        volume, labels, weights = self.batch(self.steps)
        loss = cross_entropy_and_dice(self.net(volume[:, None]), labels.long(), weights)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.net.leaves, self.settings.clip)
        plan = phases_at(self.settings, self.steps, progress)
        rate = float(learning_rate(self.settings, plan, self.steps))
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = rate
            optimizer.step()
            optimizer.zero_grad()
        if self.muon:
            decay = min(self.settings.ema, (1 + self.steps) / (10 + self.steps))
            torch._foreach_lerp_(self.mean, [v.detach() for v in self.net.leaves], 1 - decay)
        self.steps += 1
        return float(loss.detach())

    def score(self, data: Data) -> list[float]:
        """Return the Dice of the parameters, which our network applies."""
        self.net.write_back(self.mean if self.muon else self.net.leaves)
        return score(self.unet, data)


def cross_entropy_and_dice(
    logits: torch.Tensor, labels: torch.Tensor, weights: torch.Tensor
) -> torch.Tensor:
    """Return the default loss of segmenters (`core.loss`).

    Args:
        logits: ``(batch, class, z, y, x)``.
        labels: int64 ``(batch, z, y, x)``.
        weights: the same shape.
    """
    classes = logits.shape[1]
    if classes == 1:
        target = (labels > 0).to(logits.dtype)[:, None]
        p = torch.sigmoid(logits)
        surprise = functional.binary_cross_entropy_with_logits(logits, target, reduction="none")
        surprise = surprise[:, 0]
    else:
        target = functional.one_hot(labels, classes).movedim(-1, 1)
        p = torch.softmax(logits, 1)
        surprise = functional.cross_entropy(logits, labels, reduction="none")
    known, voxels = weights[:, None], (0, 2, 3, 4)
    both = (known * p * target).sum(voxels)
    sizes = (known * p).sum(voxels) + (known * target).sum(voxels)
    entropy = (weights * surprise).sum() / weights.sum()
    return entropy + (1 - (2 * both + 1) / (sizes + 1)).mean()
