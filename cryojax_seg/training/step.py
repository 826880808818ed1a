"""Defines a training step as a pure function of a state and the data."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jax.sharding import NamedSharding, PartitionSpec

from cryojax_seg.core.operator import LocalOperator
from cryojax_seg.core.pytrees import register_pytree
from cryojax_seg.core.segmenter import Segmenter
from cryojax_seg.losses import Objective
from cryojax_seg.segmenters import in_bfloat16
from cryojax_seg.training.augment import augment
from cryojax_seg.training.config import TrainConfig, TrainingError
from cryojax_seg.training.optimizer import optimizer
from cryojax_seg.training.samples import Samples
from cryojax_seg.training.sampling import draw
from cryojax_seg.training.schedule import learning_rate, phases

Arrays = dict[str, jax.Array]
Metrics = dict[str, jax.Array]
Step = Callable[["TrainState", Samples], tuple["TrainState", Metrics]]


@register_pytree
@dataclasses.dataclass(frozen=True)
class TrainState:
    """Holds everything that changes during training, as a pytree of named arrays.

    Returned by `make_step`'s step. All randomness is ``fold_in(key(seed), step)``, so a restored
    state continues bit for bit.

    Attributes:
        params: learned arrays by path.
        fixed: the other arrays of the operator.
        opt_state: the state of the optimizer.
        ema: the running mean of `params`.
        step: int32, the number of finished steps.
        seed: uint32, the seed of all random numbers.
        phases: int32 ``[risen, falls, ends]``, the steps at which the learning rate has risen,
            begins to fall and has fallen, see `schedule.Phases`.
    """

    params: Any
    fixed: Any
    opt_state: Any
    ema: Any
    step: Any
    seed: Any
    phases: Any


def learnable(names: tuple[str, ...]) -> Any:
    """Return the nnx filter for parameters of these names, or in sub-modules of these names.

    No names means every parameter. A parameter stored as ``log_softness`` is found as ``softness``.
    """
    if not names:
        return nnx.Param
    found = [nnx.PathContains(n) for name in names for n in (name, f"log_{name}")]
    return nnx.All(nnx.Param, nnx.Any(*found))


@dataclasses.dataclass(frozen=True)
class Parts:
    """Holds an operator as named arrays, with a function that rebuilds it.

    Attributes:
        params: learned arrays by path.
        fixed: the other arrays by path.
        rebuild: function from both to the operator.
        last: paths of the arrays of the last layers, see `core.Segmenter.last_layers`.
    """

    params: Arrays
    fixed: Arrays
    rebuild: Callable[[Arrays, Arrays], LocalOperator]
    last: frozenset[str] = frozenset()


def take_apart(operator: LocalOperator, learn: Any = nnx.Param) -> Parts:
    """Split an operator into the arrays an nnx filter selects and the rest.

    The arrays are copies, so that training may donate them.

    Raises:
        TrainingError: if the filter selects nothing; the message lists the parameters.
    """
    graph, *states = nnx.split(operator, learn, ...)
    flat = [jax.tree_util.tree_flatten_with_path(state) for state in states]

    def name(path) -> str:
        return "/".join(str(key.key) for key in path if hasattr(key, "key"))

    names = [[name(path) for path, _ in leaves] for leaves, _ in flat]
    if not names[0]:
        everything = nnx.state(operator, nnx.Param)
        there = [name(path) for path, _ in jax.tree_util.tree_flatten_with_path(everything)[0]]
        raise TrainingError(
            f"nothing to learn: {type(operator).__name__} has the parameters "
            f"{', '.join(there) or '(none)'}, and none of them was selected"
        )
    params, fixed = [
        {n: jnp.array(leaf) for n, (_, leaf) in zip(ns, leaves, strict=True)}
        for ns, (leaves, _) in zip(names, flat, strict=True)
    ]

    def rebuild(params: Arrays, fixed: Arrays) -> LocalOperator:
        values = [
            jax.tree.unflatten(tree, [source[n] for n in ns])
            for source, ns, (_, tree) in zip((params, fixed), names, flat, strict=True)
        ]
        return nnx.merge(graph, *values)

    layers = operator.last_layers() if isinstance(operator, Segmenter) else ()
    ends = {id(variable) for layer in layers for variable in layer}
    found = {
        "/".join(str(part) for part in path)
        for path, node in nnx.iter_graph(operator)
        if id(node) in ends
    }
    return Parts(params, fixed, rebuild, frozenset(found))


def initial_state(parts: Parts, config: TrainConfig) -> TrainState:
    """Return the state before the first step."""
    return TrainState(
        params=parts.params,
        fixed=parts.fixed,
        opt_state=optimizer(config).init(parts.params),
        ema=jax.tree.map(jnp.array, parts.params),
        step=jnp.zeros((), jnp.int32),
        seed=jnp.asarray(config.seed, jnp.uint32),
        phases=jnp.asarray(phases(config), jnp.int32),
    )


def step_key(seed: jax.Array, step: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return the keys for sampling and augmentation of a step."""
    by_sample, by_augment = jax.random.split(jax.random.fold_in(jax.random.key(seed), step))
    return by_sample, by_augment


def make_step(
    parts: Parts,
    objective: Objective,
    config: TrainConfig,
    margin: int = 0,
    mesh: jax.sharding.Mesh | None = None,
) -> Step:
    """Compile the step ``(state, samples) -> (state, metrics)``, which donates the old state.

    A step whose loss, gradient or new parameters are not finite leaves the state unchanged, so that
    the state is always finite, and sets ``metrics["finite"]`` to False. The metrics also contain
    ``loss``, ``norm`` (of the gradient before clipping), ``rate`` (the learning rate) and ``step``.
    With a mesh, patches are divided over its devices and the state is the same on all.

    Args:
        parts: the parts of the operator, from `take_apart`.
        objective: function ``objective(operator, batch) -> scalar``.
        config: settings of the training.
        margin: border of a patch without loss, in voxels.
        mesh: mesh of devices, from `runtime.data_mesh`; None for one device.

    >>> import numpy as np
    >>> from cryojax_seg.segmenters import GlobalThreshold
    >>> from cryojax_seg.training import Example
    >>> from cryojax_seg.training.samples import prepare
    >>> config, segmenter = TrainConfig(steps=2, patch=8, batch=1), GlobalThreshold(0.5)
    >>> labels = np.zeros((8, 8, 8), int)
    >>> labels[:, 4:8] = 1
    >>> example = Example(labels.astype(np.float32), labels)
    >>> samples = prepare([example], segmenter.classes, (8, 8, 8))
    >>> parts = take_apart(segmenter)
    >>> step = make_step(parts, segmenter.default_loss(), config)
    >>> state, metrics = step(initial_state(parts, config), samples)
    >>> int(state.step), bool(metrics["finite"])
    (1, True)
    """
    transform = optimizer(config)

    def step(state: TrainState, samples: Samples) -> tuple[TrainState, Metrics]:
        by_sample, by_augment = step_key(state.seed, state.step)
        batch, flips = draw(
            samples,
            by_sample,
            config.batch,
            config.patch_shape,
            margin,
            config.unannotated,
            config.replay,
            config.phantoms,
        )
        if mesh is not None:
            shared = NamedSharding(mesh, PartitionSpec("data"))
            batch, flips = jax.lax.with_sharding_constraint((batch, flips), shared)
        batch = augment(batch, by_augment, flips, config.augmentation)
        keys = jax.random.split(jax.random.fold_in(by_augment, 1), batch.volume.shape[0])
        batch = dataclasses.replace(batch, key=keys)

        def loss_of(params: Arrays) -> Any:
            segmenter = parts.rebuild(params, state.fixed)
            segmenter = in_bfloat16(segmenter) if config.precision == "bf16" else segmenter
            return objective(segmenter, batch)

        loss, gradient = jax.value_and_grad(loss_of)(state.params)
        with jax.numpy_dtype_promotion("standard"):  # optax counts in integers and divides
            found: Any = transform.update(gradient, state.opt_state, state.params)
        rate = learning_rate(config, state.phases, state.step)
        updates, opt_state = found
        rates = {n: rate if n in parts.last else config.trunk * rate for n in updates}
        updates = {n: rates[n].astype(value.dtype) * value for n, value in updates.items()}
        params: Any = optax.apply_updates(state.params, updates)
        norm = optax.tree.norm(gradient)
        finite = jnp.isfinite(loss) & jnp.isfinite(norm) & jnp.isfinite(optax.tree.norm(params))
        # A running mean that forgets its start: the decay grows to its value over the first steps.
        count = state.step.astype(jnp.float32)
        decay = jnp.minimum(config.ema, (1.0 + count) / (10.0 + count))
        ema = jax.tree.map(
            lambda old, new: old + (1 - decay).astype(old.dtype) * (new - old), state.ema, params
        )
        new = dataclasses.replace(
            state, params=params, opt_state=opt_state, ema=ema, step=state.step + 1
        )
        metrics = {
            "step": state.step + 1,
            "loss": loss,
            "norm": norm,
            "rate": rate,
            "finite": finite,
        }
        return jax.tree.map(lambda a, b: jnp.where(finite, a, b), new, state), metrics

    if mesh is None:
        return jax.jit(step, donate_argnums=0)
    # Outputs are whole on every device, because a process can neither log nor save a part of one.
    whole = NamedSharding(mesh, PartitionSpec())
    return jax.jit(step, donate_argnums=0, out_shardings=whole)
