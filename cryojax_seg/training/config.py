"""Defines the settings of a training run as frozen dataclasses that load without JAX."""

import dataclasses
import math
import signal
from typing import Any, Literal, get_args

from cryojax_seg import units
from cryojax_seg.errors import Mendable
from cryojax_seg.text import shortened

RestorerMethod = Literal[
    "equivariant", "n2n", "deepdewedge", "isonet", "isonet2", "energy", "simulated"
]

Optimizer = Literal["adamw", "muon"]


class TrainingError(Mendable, RuntimeError):
    """Reports that training cannot start, continue or be resumed, and what to do."""

    def __init__(self, message: str, *parameters: str):
        super().__init__(shortened(message), *parameters)


class Interrupted(TrainingError):
    """Reports that a signal ended the training after everything was saved; it can be resumed.

    Attributes:
        signal: the signal.
        steps: the number of finished steps.
    """

    def __init__(self, signal: signal.Signals, steps: int):
        super().__init__(f"training was interrupted by {signal.name} after step {steps}")
        self.signal = signal
        self.steps = steps


def _require(ok: bool, message: str) -> None:
    if not ok:
        raise ValueError(message)


@dataclasses.dataclass(frozen=True)
class Augmentation:
    """Sets how often and how strongly patches are changed.

    Probabilities are per patch; 0 turns a change off. No change that is on by default changes the
    missing wedge. A rotated patch has a rotated wedge.

    >>> Augmentation(flip=False, noise=0.3).noise
    0.3
    """

    flip: bool = True
    """Flip by the symmetries of the tomogram's own missing wedge, and no others."""
    rotate90: float = 0.0
    """Probability of a random rotation of the cube (multiples of 90 degrees, exact)."""
    rotate: float = 0.0
    """Probability of a rotation by any angle up to `rotate_angle` (interpolated)."""
    rotate_angle: float = 20.0
    """Largest angle of `rotate`, degrees."""
    intensity: float = 0.5
    """Probability of a random gain, offset and linear brightness gradient."""
    intensity_strength: float = 0.1
    """Their standard deviation, in standard deviations of the tomogram."""
    noise: float = 0.0
    """Probability of added Gaussian noise that has the missing wedge of the patch."""
    noise_strength: float = 0.5
    """Largest standard deviation of that noise, in standard deviations of the tomogram."""
    blank: float = 0.0
    """Probability of up to three cuboids being set to 0; the labels stay."""
    narrow: float = 0.0
    """Probability that the tilt range is narrowed, and the patch filtered to match."""
    narrow_angles: tuple[float, float] = (40.0, 60.0)
    """Lowest and highest half tilt range after narrowing, degrees."""
    amplitude: float = 0.0
    """Probability of a random smooth radial gain on the Fourier amplitudes."""
    amplitude_strength: float = 0.3
    """Standard deviation of its logarithm."""

    def __post_init__(self):
        for name in ("rotate90", "rotate", "intensity", "noise", "blank", "narrow", "amplitude"):
            value = getattr(self, name)
            _require(0 <= value <= 1, f"augmentation {name} is a probability, got {value}")
        low, high = self.narrow_angles
        object.__setattr__(self, "narrow_angles", (low, high))
        _require(0 < low <= high <= 90, f"narrow_angles must satisfy 0 < low <= high <= 90: {self}")


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """Sets the parameters of one training run.

    Equal settings, data and seed give bit-identical parameters on one machine.

    >>> TrainConfig(steps=200, patch=32).patch_shape
    (32, 32, 32)
    """

    steps: int = 1000
    """Optimizer steps; the most of them if there is a limit in minutes."""
    minutes: float | int | None = None
    """Longest training, minutes. With it, the run ends earlier if the validation score rises no
    more (see `convergence.Trend`); None takes all steps."""
    batch: int = 2
    """Patches per step, of the annotated tomograms; 0 if all are of phantoms."""
    patch: int | tuple[int, int, int] = 48
    """Edge of the patches in voxels, for all axes or z, y, x; a multiple of the method's stride."""
    unannotated: int = 0
    """More patches per step, drawn anywhere in the tomograms, for objectives that need no labels
    (`losses.equivariant`)."""
    replay: int = 0
    """More patches per step, drawn from the replayed examples (see `training.train`), so that what
    a model learned from them before is not forgotten."""
    phantoms: int = 0
    """More patches per step, of simulated scenes that are imaged anew for each patch (see
    `training.Stream`)."""
    margin: int | None = None
    """Border of a patch that gives context but no loss, voxels. By default the method's halo if
    that is at most a quarter of the patch, which makes training exact at borders, else 0."""
    optimizer: Optimizer = "adamw"
    """Optimizer, see `optimizer.optimizer`. "muon" learns in fewer steps, but only networks."""
    learning_rate: float = 3e-3
    """Peak learning rate; 0.003 suits a network with AdamW, 0.01 with Muon."""
    trunk: float | int = 1.0
    """Factor of the learning rate of all but the last layers of a network; below 1, it keeps more
    of what it learned before."""
    warmup: float | int = 0.05
    """Steps in which the learning rate rises linearly; below 1, their fraction of all steps."""
    decay: float | int = 0.5
    """Fraction of the steps, the last ones, in which the learning rate falls along a cosine; 1
    lets it fall from its peak on. In between it is constant."""
    clip: float = 1.0
    """Largest norm of the gradient."""
    weight_decay: float = 1e-4
    """Decoupled weight decay of kernels; scalars and biases are not decayed."""
    ema: float = 0.99
    """Decay per step of the running mean of the parameters, which is what is validated and kept."""
    learn: tuple[str, ...] = ()
    """Names of the parameters (or sub-modules) that learn; none means all."""
    seed: int = 0
    """All randomness is a function of this and the step."""
    voxels_per_class: int = 32768
    """Annotated voxels per class and tomogram that patches are drawn around (without labels, voxels
    per tomogram)."""
    augmentation: Augmentation = dataclasses.field(default_factory=Augmentation)
    """Random changes of the patches."""
    precision: Literal["f32", "bf16"] = "f32"
    """Precision of the products of a network in training; parameters and losses stay float32."""
    validate_every: int = 100
    """Steps between validations, if there is validation data."""
    validate_start: bool = False
    """Whether the parameters that a run begins with are validated too, so that one that begins with
    a trained model never ends with a worse one."""
    keep_best: bool = True
    """Whether the parameters of the best validation are kept, and not the last ones."""
    patience: int = 0
    """Validations without improvement after which training stops; 0 never stops early."""
    checkpoint_every: int = 200
    """Steps between checkpoints, if there is a run folder."""
    keep: int = 3
    """Checkpoints that are kept."""
    tensorboard: bool = False
    """Also write TensorBoard files into the run folder (needs the extra `tensorboard`)."""

    def __post_init__(self):
        if not isinstance(self.patch, int):
            object.__setattr__(self, "patch", tuple(self.patch))
            _require(len(self.patch) == 3, f"patch needs one or three edges, got {self.patch}")
        object.__setattr__(self, "learn", tuple(self.learn))
        for name in ("steps", "validate_every", "checkpoint_every", "keep"):
            value = getattr(self, name)
            _require(value >= 1, f"{name} must be at least 1, got {value}")
        _require(min(self.patch_shape) >= 1, f"patch edges must be positive, got {self.patch}")
        units.check("learning_rate", self.learning_rate, units.LEARNING_RATE)
        _require(
            math.isfinite(self.learning_rate) and self.learning_rate > 0,
            f"learning_rate must be positive, got {self.learning_rate}",
        )
        _require(
            0 <= self.trunk < math.inf, f"trunk must be finite and at least 0, got {self.trunk}"
        )
        _require(
            0 <= self.warmup < math.inf,
            f"warmup is a fraction or a number of steps, got {self.warmup}",
        )
        _require(0 <= self.decay <= 1, f"decay is a fraction of the steps, got {self.decay}")
        _require(0 <= self.ema < 1, f"ema must be at least 0 and below 1, got {self.ema}")
        _require(
            self.minutes is None or 0 < self.minutes < math.inf,
            f"minutes must be positive, got {self.minutes}",
        )
        _require(self.clip > 0, f"clip must be positive, got {self.clip}")
        _require(self.unannotated >= 0, f"unannotated must be at least 0, got {self.unannotated}")
        _require(self.replay >= 0, f"replay must be at least 0, got {self.replay}")
        _require(self.phantoms >= 0, f"phantoms must be at least 0, got {self.phantoms}")
        least = 0 if self.phantoms else 1
        _require(self.batch >= least, f"batch must be at least {least}, got {self.batch}")
        _require(self.patience >= 0, f"patience must not be negative, got {self.patience}")
        _require(
            self.optimizer in get_args(Optimizer),
            f"optimizer is adamw or muon, got {self.optimizer!r}",
        )
        _require(
            self.precision in ("f32", "bf16"), f"precision is f32 or bf16, got {self.precision!r}"
        )
        _require(0 <= self.seed < 2**32, f"seed must be from 0 to 2**32 - 1, got {self.seed}")

    @property
    def patch_shape(self) -> tuple[int, int, int]:
        """Return the edges of a patch along z, y, x."""
        z, y, x = (self.patch,) * 3 if isinstance(self.patch, int) else self.patch
        return z, y, x

    @property
    def patches(self) -> int:
        """Return the number of all patches of a step.

        >>> TrainConfig(batch=2, replay=3).patches
        5
        """
        return self.batch + self.unannotated + self.replay + self.phantoms

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for JSON or YAML; `from_dict` reads them back."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "TrainConfig":
        """Invert `as_dict`: lists become tuples, and an unknown name raises a ValueError.

        >>> config = TrainConfig(steps=7, augmentation=Augmentation(noise=0.5))
        >>> TrainConfig.from_dict(config.as_dict()) == config
        True
        """
        values = dict(values)
        augmentation = values.pop("augmentation", {})
        if isinstance(augmentation, dict):
            augmentation = _build(Augmentation, augmentation, "augmentation.")
        return _build(cls, {**values, "augmentation": augmentation}, "")


def _build(cls: type, values: dict[str, Any], prefix: str) -> Any:
    known = {field.name for field in dataclasses.fields(cls)}
    unknown = sorted(set(values) - known)
    _require(
        not unknown,
        f"unknown training option {', '.join(prefix + name for name in unknown)}; "
        f"known are {', '.join(sorted(known))}",
    )
    return cls(**{k: tuple(v) if isinstance(v, list) else v for k, v in values.items()})


# Options that may differ when a run is resumed: they change how long it is and what is kept of it,
# but not what a step computes.
FREE = ("steps", "minutes", "validate_every", "patience", "checkpoint_every", "keep", "tensorboard")
