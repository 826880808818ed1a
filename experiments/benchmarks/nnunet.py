"""Restates nnU-Net's recipe of training in PyTorch.

Source: Isensee et al. 2021 (doi:10.1038/s41592-020-01008-z) and the defaults of nnU-Net 2: its
planner, `nnUNetTrainer`, and the plain-conv U-Net. Left out: its files, its cross-validation, and
what no volume here needs (anisotropic voxels, tomograms too large for the memory of a GPU).
Augmentation follows the order and the numbers of nnU-Net 2, with linear interpolation.
"""

import itertools
import math

import numpy as np
import torch
from scipy import ndimage
from scipy.spatial.transform import Rotation
from torch import nn
from torch.nn import functional

from cryojax_seg.training import Example
from experiments.benchmarks.rivals import BiasedBlock, Pyramid
from experiments.recipe import Data, mean_dice

BATCH = 2
RATE, MOMENTUM, DECAY, CLIP = 1e-2, 0.99, 3e-5, 12.0
FOREGROUND = 1  # patches of a batch around a voxel of a class: 33 % of two, rounded up
SMALLEST = 4  # voxels, edge of the coarsest level
Shape = tuple[int, ...]


def planned(shape: Shape) -> tuple[Shape, Shape]:
    """Return the patch and the channels of the levels for tomograms of a shape, as nnU-Net plans.

    The patch is the whole tomogram, extended to a multiple of the network's stride; the resolution
    is halved while edges stay at least 4 voxels.

    >>> planned((100, 100, 100))
    ((112, 112, 112), (32, 64, 128, 256, 320))
    >>> planned((64, 96, 96))
    ((64, 96, 96), (32, 64, 128, 256, 320))
    """
    depth, edge = 0, min(shape)
    while edge >= 2 * SMALLEST:
        depth, edge = depth + 1, math.ceil(edge / 2)
    stride = 2**depth
    patch = tuple(math.ceil(n / stride) * stride for n in shape)
    return patch, tuple(min(32 * 2**level, 320) for level in range(depth + 1))


class NnUNet:
    """Trains nnU-Net's network by its recipe.

    Args:
        data: what is learned; voxels of weight 0 have nnU-Net's ignore label.
        seed: seed of the parameters, patches and changes.
        edge: longest edge of the patches, voxels; None plans as nnU-Net does.
    """

    def __init__(self, data: Data, seed: int, edge: int | None = None):
        torch.manual_seed(seed)
        self.rng = np.random.default_rng(seed)
        shape = np.min([e.volume.shape for e in data.examples], 0)
        self.patch, widths = planned(tuple(min(int(n), edge or int(n)) for n in shape))
        self.outputs = max(len(data.classes), 2)
        heads = max(len(widths) - 2, 1)  # the coarsest level of the decoder has no loss
        self.net = Pyramid(widths, BiasedBlock, BiasedBlock, heads, self.outputs)
        self.net.apply(_initialize)
        self.optimizer = torch.optim.SGD(
            self.net.parameters(), RATE, MOMENTUM, weight_decay=DECAY, nesterov=True
        )
        self.cases = [_Case(example, self.patch) for example in data.examples]

    def step(self, progress: float) -> float:
        """Take a step at this share of the training, and return the loss."""
        volume, labels, known = map(torch.cat, zip(*map(self._drawn, range(BATCH)), strict=True))
        factors = np.array([0.5**level for level in range(len(self.net.heads))])
        loss = torch.zeros(())
        for factor, logits in zip(factors / factors.sum(), self.net.at_scales(volume), strict=True):
            sizes = logits.shape[2:]
            at_scale = [functional.interpolate(v, sizes, mode="nearest") for v in (labels, known)]
            loss = loss + float(factor) * _loss(logits, *at_scale)
        self.optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.net.parameters(), CLIP)
        for group in self.optimizer.param_groups:
            group["lr"] = RATE * (1 - progress) ** 0.9
        self.optimizer.step()
        return float(loss.detach())

    def _drawn(self, number: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        case = self.cases[self.rng.integers(len(self.cases))]
        volume, labels, known = case.cut(self.rng, number >= BATCH - FOREGROUND)
        volume, labels, known = _moved(self.rng, volume, labels, known)
        volume = _changed(self.rng, volume[0, 0].numpy())
        parts = torch.from_numpy(volume)[None, None], labels, known
        axes = [axis for axis in (2, 3, 4) if self.rng.random() < 0.5]
        volume, labels, known = (part.flip(axes) for part in parts)
        return volume, labels, known

    def score(self, data: Data) -> list[float]:
        return [mean_dice(self.labels(e.volume), e, data.classes) for e in data.tests]

    def labels(self, volume: np.ndarray) -> np.ndarray:
        """Return the labels by Gaussian windows that overlap by half, averaged over eight flips."""
        (padded,) = _padded(self.patch, volume)
        window = np.ones(self.patch, np.float32)
        for axis, n in enumerate(self.patch):
            profile = np.exp(-0.5 * ((np.arange(n) - (n - 1) / 2) / (n / 8)) ** 2)
            window *= profile.reshape([-1 if a == axis else 1 for a in range(3)])
        weight = torch.from_numpy(np.maximum(window, 1e-6))
        total, norm = torch.zeros((self.outputs, *padded.shape)), torch.zeros(padded.shape)
        source = torch.from_numpy(padded)
        for origin in itertools.product(*map(_origins, padded.shape, self.patch)):
            where = tuple(slice(o, o + n) for o, n in zip(origin, self.patch, strict=True))
            total[(slice(None), *where)] += weight * self._averaged(source[where])
            norm[where] += weight
        crop = tuple(slice(n) for n in volume.shape)
        return (total / norm).argmax(0).numpy()[crop]

    @torch.inference_mode()
    def _averaged(self, patch: torch.Tensor) -> torch.Tensor:
        """Return the mean of the logits over all flips, ``(class, z, y, x)``."""
        flips = [axes for n in range(4) for axes in itertools.combinations((2, 3, 4), n)]
        given = patch[None, None]
        answers = (self.net(given.flip(axes)).flip(axes)[0] for axes in flips)
        return sum(answers, torch.zeros(())) / len(flips)


class _Case:
    """Holds a tomogram, and the voxels around which its patches are cut."""

    def __init__(self, example: Example, patch: Shape):
        volume, labels, known = example.volume, example.labels, example.weights > 0
        padded = _padded(patch, volume, np.where(known, labels, 0), known)
        self.arrays = [a.astype(np.float32) for a in padded]
        self.patch, self.shape = patch, padded[0].shape
        values = np.where(padded[2], padded[1], 0)
        found = (np.flatnonzero(values == c) for c in range(1, int(values.max()) + 1))
        self.classes = [voxels for voxels in found if voxels.size]
        self.known = np.flatnonzero(padded[2])

    def cut(self, rng: np.random.Generator, foreground: bool) -> list[torch.Tensor]:
        """Return volume, labels and known voxels of a patch, ``(1, 1, z, y, x)`` each."""
        among = self.known
        if foreground and self.classes:
            among = self.classes[rng.integers(len(self.classes))]
        centre = np.unravel_index(among[rng.integers(among.size)], self.shape)
        edges = np.array(self.patch)
        origin = np.clip(np.array(centre) - edges // 2, 0, np.array(self.shape) - edges)
        where = tuple(slice(o, o + n) for o, n in zip(origin, self.patch, strict=True))
        return [torch.from_numpy(array[where])[None, None] for array in self.arrays]


def _padded(patch: Shape, *arrays: np.ndarray) -> list[np.ndarray]:
    """Extend arrays by zeros, which are not annotated, so that a patch fits in."""
    more = [(0, max(edge - n, 0)) for edge, n in zip(patch, arrays[0].shape, strict=True)]
    return [np.pad(array, more) for array in arrays]


def _origins(size: int, edge: int) -> list[int]:
    """Return the origins of windows that overlap by at least half.

    >>> _origins(100, 40)
    [0, 20, 40, 60]
    """
    steps = math.ceil((size - edge) / (edge / 2))
    return [round(o) for o in np.linspace(0, size - edge, steps + 1)]


def _initialize(module: nn.Module) -> None:
    if isinstance(module, nn.Conv3d | nn.ConvTranspose3d):
        nn.init.kaiming_normal_(module.weight, a=0.01)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def _loss(logits: torch.Tensor, labels: torch.Tensor, known: torch.Tensor) -> torch.Tensor:
    """Return cross-entropy minus the soft Dice of each patch and class without the background."""
    labels = labels[:, 0].long()
    entropy = functional.cross_entropy(logits, labels, reduction="none")
    entropy = (entropy * known[:, 0]).sum() / known.sum().clamp(min=1)
    p = torch.softmax(logits, 1)[:, 1:] * known
    target = functional.one_hot(labels, logits.shape[1]).movedim(-1, 1)[:, 1:] * known
    both, sizes = (p * target).sum((2, 3, 4)), (p + target).sum((2, 3, 4))
    return entropy - ((2 * both + 1e-5) / (sizes + 1e-5)).mean()


def _moved(rng: np.random.Generator, *arrays: torch.Tensor) -> list[torch.Tensor]:
    """Rotate by up to 30 degrees about each axis and scale, each with probability 0.2."""
    angles = rng.uniform(-30, 30, 3) if rng.random() < 0.2 else np.zeros(3)
    scale = rng.uniform(0.7, 1.4) if rng.random() < 0.2 else 1.0
    if scale == 1.0 and not angles.any():
        return list(arrays)
    half = np.array(arrays[0].shape[:1:-1]) / 2  # x, y, z, as grids have them
    turn = Rotation.from_euler("xyz", angles, degrees=True).as_matrix()
    matrix = scale * turn * half[None, :] / half[:, None]
    theta = torch.tensor(np.c_[matrix, np.zeros(3)][None], dtype=torch.float32)
    grid = functional.affine_grid(theta, list(arrays[0].shape), align_corners=False)
    modes = ("bilinear", *("nearest" for _ in arrays[1:]))
    return [
        functional.grid_sample(array, grid, mode, align_corners=False)
        for array, mode in zip(arrays, modes, strict=True)
    ]


def _factor(rng: np.random.Generator, low: float, high: float) -> float:
    """Draw a factor that is below 1 as often as above."""
    return rng.uniform(low, 1) if rng.random() < 0.5 else rng.uniform(1, high)


def _changed(rng: np.random.Generator, v: np.ndarray) -> np.ndarray:
    """Change the densities of a patch as nnU-Net does, in its order and with its probabilities."""
    if rng.random() < 0.1:
        v = v + rng.normal(0, rng.uniform(0, 0.1), v.shape)
    if rng.random() < 0.2 * 0.5:
        v = ndimage.gaussian_filter(v, rng.uniform(0.5, 1, 3))
    if rng.random() < 0.15:
        v = v * _factor(rng, 0.75, 1.25)
    if rng.random() < 0.15:
        mean, ends = v.mean(), (v.min(), v.max())
        v = np.clip((v - mean) * _factor(rng, 0.75, 1.25) + mean, *ends)
    if rng.random() < 0.25 * 0.5:
        v = _coarser(v, rng.uniform(0.5, 1))
    for sign, probability in ((-1, 0.1), (1, 0.3)):
        if rng.random() < probability:
            v = sign * _gamma(sign * v, _factor(rng, 0.7, 1.5))
    return np.ascontiguousarray(v, np.float32)


def _coarser(v: np.ndarray, factor: float) -> np.ndarray:
    """Sample a patch at this fraction of its resolution, and interpolate it back."""
    given = torch.from_numpy(np.ascontiguousarray(v, np.float32))[None, None]
    sizes = [max(round(n * factor), 1) for n in v.shape]
    coarse = functional.interpolate(given, sizes, mode="nearest")
    return functional.interpolate(coarse, v.shape, mode="trilinear")[0, 0].numpy()


def _gamma(v: np.ndarray, gamma: float) -> np.ndarray:
    """Raise densities between their ends to a power, and restore their mean and spread."""
    low, span = v.min(), max(np.ptp(v), 1e-7)
    changed = ((v - low) / span) ** gamma * span + low
    return (changed - changed.mean()) / max(changed.std(), 1e-7) * v.std() + v.mean()
