"""Segments by a residual 3D U-Net with an exact halo."""

from collections.abc import Sequence
from typing import Literal

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Float

from cryojax_seg.core import Segmenter
from cryojax_seg.core.convolution import depth_to_space, space_to_depth
from cryojax_seg.core.loss import Objective, combine, cross_entropy, dice
from cryojax_seg.core.segmenter import LastLayer, check_divisible
from cryojax_seg.core.types import Array, Logits, Volume
from cryojax_seg.losses.objective import deep_supervision as at_every_scale
from cryojax_seg.segmenters.blocks import Down, Linear, ResidualBlock, Up, initialize, unet_halo

_DEEPEST = 16  # deeper than any volume is wide, in powers of two
STEMS = ("none", "space_to_depth")
Preset = Literal["fast", "standard", "large"]


class UNet(Segmenter):
    """Applies a residual 3D U-Net (Ronneberger et al. 2015) with summed skips (Lee et al. 2017).

    Level i works on ``width * 2**i`` channels at ``1 / 2**i`` of the resolution with one residual
    block of two 3x3x3 convolutions on the way down and one on the way up.

    Args:
        width: channels of the finest level.
        depth: number of times that the resolution is halved.
        stem: ``"space_to_depth"`` turns blocks of 2x2x2 voxels into 8 channels first and back
            last: about 8 times less work per voxel at the same width.
        deep_supervision: adds logits at the coarser levels, see `logits_at_scales`.
        norm: see `normalization.Normalization`. With ``"instance"`` and ``"batch"`` the network is
            for training only, until `fit_normalization` freezes its statistics: see
            `core.operator.is_local`.
        classes: class names; one is a sigmoid, several a softmax.
        rngs: source of the initial kernels.

    Raises:
        ValueError: for arguments without meaning; on a call, for a volume whose axes are not
            multiples of `stride`.

    >>> net = UNet(width=2, depth=1, norm="none", rngs=nnx.Rngs(0))
    >>> net.halo, net.stride, net(jnp.zeros((8, 8, 8))).shape
    (9, 2, (8, 8, 8, 1))
    """

    def __init__(
        self,
        width: int = 16,
        depth: int = 2,
        stem: str = "none",
        deep_supervision: bool = False,
        norm: str = "instance",
        classes: Sequence[str] = ("foreground",),
        *,
        rngs: nnx.Rngs,
    ):
        if width < 1 or not 0 <= depth <= _DEEPEST:
            raise ValueError(
                f"a U-Net needs width >= 1 and depth 0 to {_DEEPEST}, got {width} and {depth}"
            )
        if stem not in STEMS:
            raise ValueError(f"stem {stem!r} is not one of {', '.join(STEMS)}")
        self.width, self.depth, self.stem = width, depth, stem
        self.deep_supervision = deep_supervision
        self.classes = tuple(classes)
        self.halo = unet_halo(depth, stem != "none")
        self.stride = 2 ** (depth + (stem != "none"))
        widths = [width * 2**i for i in range(depth + 1)]
        block = 8 if stem == "space_to_depth" else 1
        inputs = [block, *widths[1:]]
        self.encoder = nnx.List(
            [ResidualBlock(i, o, norm) for i, o in zip(inputs, widths, strict=True)]
        )
        steps = list(zip(widths[:-1], widths[1:], strict=True))
        self.down = nnx.List([Down(fine, coarse) for fine, coarse in steps])
        self.up = nnx.List([Up(coarse, fine) for fine, coarse in steps])
        self.decoder = nnx.List([ResidualBlock(fine, fine, norm) for fine, _ in steps])
        heads = max(depth, 1) if deep_supervision else 1
        outputs = block * len(self.classes)
        self.heads = nnx.List([Linear(w, outputs) for w in widths[:heads]])
        initialize(self, rngs)

    @property
    def norm(self) -> str:
        return self.encoder[0].second.norm.kind

    def default_loss(self) -> Objective:
        """Return cross-entropy plus Dice, at every scale with `deep_supervision`."""
        if self.deep_supervision:
            return at_every_scale(combine(cross_entropy, dice))
        return super().default_loss()

    def last_layers(self) -> tuple[LastLayer, ...]:
        return tuple(LastLayer(head.kernel, head.bias) for head in self.heads)

    def _features(self, volume: Volume) -> list[Array]:
        """Return the decoded features, finest level first."""
        check_divisible(volume.shape, self.stride)
        x = jnp.asarray(volume)[..., None]
        x = self.encoder[0](space_to_depth(x) if self.stem != "none" else x)
        skips = []
        for down, encode in zip(self.down, self.encoder[1:], strict=True):
            skips.append(x)
            x = encode(down(x))
        decoded = [x]
        for up, decode, skip in list(zip(self.up, self.decoder, skips, strict=True))[::-1]:
            x = decode(skip + up(x))
            decoded.append(x)
        return decoded[::-1]

    def _head(self, head: Linear, x: Array) -> Array:
        logits = head(x)
        return depth_to_space(logits) if self.stem != "none" else logits

    def __call__(self, volume: Volume) -> Logits:
        return self._head(self.heads[0], self._features(volume)[0])

    def logits_at_scales(self, volume: Volume) -> tuple[Float[Array, "_ _ _ class"], ...]:
        """Return the logits of the decoder levels, finest first, each half the size of the last.

        Without `deep_supervision` only the finest level has logits.
        """
        features = self._features(volume)
        return tuple(self._head(h, x) for h, x in zip(self.heads, features, strict=False))


def unet_preset(name: Preset, classes: Sequence[str], *, rngs: nnx.Rngs) -> UNet:
    """Return a U-Net of one of three sizes.

    - ``"fast"``: 16 channels of blocks of 2x2x2 voxels, one level: 0.09 million parameters, for a
      few slices and for whole tomograms on a CPU.
    - ``"standard"``: 32 channels of such blocks, two levels: 1.6 million parameters.
    - ``"large"``: 32 channels of voxels, three levels: for a GPU.

    Raises:
        ValueError: for another name.

    >>> unet_preset("fast", ("membrane",), rngs=nnx.Rngs(0)).stem
    'space_to_depth'
    """
    match name:
        case "fast":
            return UNet(16, 1, "space_to_depth", classes=classes, rngs=rngs)
        case "standard":
            return UNet(32, 2, "space_to_depth", classes=classes, rngs=rngs)
        case "large":
            return UNet(32, 3, classes=classes, rngs=rngs)
    raise ValueError(f"unknown preset {name!r}; there are fast, standard and large")
