"""Trains the models that learn from simulated scenes alone.

    python experiments/pretrain.py --model membrane --size fast --minutes 60 --out membrane-fast
    python experiments/pretrain.py ... --minutes 120 --resume   # another sitting of an hour
    python experiments/pretrain.py --model microtubule --start membrane-fast/model --seed 1 ...
    python experiments/pretrain.py ... --species ../shared/data/polnet_templates/mrcs_10A \\
        --proteins ../shared/data/polnet_templates/mb_mrcs_10A --membranes ../shared/data/autophagy
    python experiments/pretrain.py --tiny                       # a minute, for the tests

A U-Net learns from a stream of scenes of the preset ``varied`` at voxels of 9 to 11 angstrom, which
are rendered once and imaged anew for every patch (`training.Randomisation`). It is scored and
calibrated on scenes of another seed under usual conditions. Densities and shapes of published data
may enter the scenes: they are read when a model is trained, and its card names them. The folder
holds the run, and in `model` the model with its card.
"""

import dataclasses
import functools
import math
import pathlib
import sys
import time
from typing import Literal

import numpy as np
import tyro

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from cryojax_seg import core, evaluate, io, runtime, training
from cryojax_seg.segmenters import fit_halo
from cryojax_seg.simulate import presets
from cryojax_seg.simulate.populate import default_species
from cryojax_seg.training import methods, starting
from cryojax_seg.training.calibrating import Known, calibrate, known
from cryojax_seg.training.imaging import Range
from cryojax_seg.training.settings import resized
from experiments import datasets
from experiments.common import environment

MODELS = {
    "membrane": ("membrane",),
    "microtubule": ("microtubule",),
    "cell": ("background", "membrane", "microtubule", "actin", "macromolecule"),
}
VOXEL = 10.0  # angstrom


@dataclasses.dataclass(frozen=True)
class Size:
    """Describes the networks of a size."""

    method: str
    """name of the method that trains such a network"""
    patches: int
    """patches per step"""
    patch: int
    """edge of a patch, voxels"""


# Both are 16 channels wide behind a space-to-depth stem, half of what `train --method unet` has, so
# that three of each fit into the package: 0.09 and 0.40 million parameters. The standard one sees
# 47 voxels far instead of 19, and so learns from larger patches.
SIZES = {"fast": Size("unet-fast", 4, 32), "standard": Size("unet", 2, 48)}
WIDTH = 16


@dataclasses.dataclass(frozen=True)
class Config:
    """Train a model on simulated scenes."""

    model: Literal["membrane", "microtubule", "cell"] = "membrane"
    """classes of the model"""
    size: Literal["fast", "standard"] = "fast"
    """size of the network"""
    minutes: float = 60.0
    """minutes of training in all sittings"""
    out: pathlib.Path = pathlib.Path("pretrained")
    """folder of the run and its model"""
    resume: bool = False
    """go on with the run in that folder"""
    start: pathlib.Path | None = None
    """model to begin with, at a third of the learning rate; its classes may be others"""
    seed: int = 0
    """seed of the network, the scenes and the patches"""
    precision: Literal["f32", "bf16"] = "f32"
    """precision of the products of the network; bf16 is faster on processors that multiply it"""
    patches: int | None = None
    """patches per step; by default those of the size"""
    patch: int | None = None
    """edge of a patch, voxels; by default that of the size"""
    edge: int = 112
    """edge of a scene, voxels"""
    scenes: int = 24
    """scenes from which patches are drawn at a time"""
    every: int = 200
    """steps after which a new scene replaces the oldest one"""
    held_out: int = 3
    """scenes of another seed that hold each class, for the scores and the calibration"""
    cache: pathlib.Path | None = None
    """folder in which rendered scenes are kept; by default `scenes` beside the output, so that
    models trained beside each other share them"""
    species: pathlib.Path | None = None
    """folder of MRC densities of macromolecules, which join those of the simulation"""
    proteins: pathlib.Path | None = None
    """folder of MRC densities of membrane proteins, see `datasets.membrane_proteins`"""
    membranes: pathlib.Path | None = None
    """folder of label volumes, whose shapes the membranes of a fifth of the scenes have"""
    recorded: float = 0.1
    """share of scenes that a simulated tilt series images as a whole"""
    tiny: bool = False
    """a few steps on small scenes"""


@functools.cache
def kinds(
    species: pathlib.Path | None, proteins: pathlib.Path | None, membranes: pathlib.Path | None
) -> tuple[functools.partial, ...]:
    """Return the functions that build scenes, used in turn."""
    known = {}
    if species is not None:
        known["species"] = {**default_species(), **datasets.densities(species)}
    if proteins is not None:
        known["proteins"] = datasets.membrane_proteins(proteins)
    drawn = functools.partial(presets.varied, **known)
    if membranes is None:
        return (drawn,)
    real = functools.partial(drawn, membranes=datasets.labelled_membranes(membranes))
    return (
        *[drawn] * 4,
        real,
    )  # voxel sizes are used in turn too, so their numbers share no factor


def stream_of(config: Config, seed: int) -> training.Stream:
    """Return the scenes of a seed."""
    cache = config.out.absolute().parent / "scenes" if config.cache is None else config.cache
    content = kinds(config.species, config.proteins, config.membranes)
    scenes = training.Scenes(
        (config.edge,) * 3, kinds=content, seed=seed, cache=cache, recorded=config.recorded
    )
    return training.Stream(MODELS[config.model], scenes, config.scenes, config.every)


def held_out(config: Config) -> list[training.Example]:
    """Return scenes of another seed under usual conditions.

    Under those of the training some scenes show nothing at all, and which ones do is chance.
    """
    stream = stream_of(dataclasses.replace(config, recorded=0.0), config.seed + 1000)
    usual = dataclasses.replace(
        stream.ranges,
        contrast=Range(0.6, 1.5),
        lowest=Range(-65.0, -50.0),
        highest=Range(50.0, 65.0),
        complete=0.0,
        missing_tilts=0.0,
        b_factor=Range(0.0, 500.0),
        flavours=(0.7, 0.1, 0.1, 0.1),
        blank=0.0,
    )
    stream = dataclasses.replace(stream, ranges=usual)
    counts = np.zeros(max(len(MODELS[config.model]), 2), int)  # of none, and of each class
    found = []
    for number in range(2 if config.tiny else 20 * config.held_out):
        example = stream.example(number)
        inside = np.bincount(example.labels.ravel(), minlength=len(counts)) > 500
        inside[0] = not inside[1:].any()
        if (inside & (counts < config.held_out)).any():
            counts += inside
            found.append(example)
        if (counts[1:] >= config.held_out).all():
            break
    return found


def settings(config: Config) -> training.TrainConfig:
    """Return the settings of the training."""
    size = SIZES[config.size]
    usual = methods.defaults(size.method)
    steps = 4 if config.tiny else round(2000 * config.minutes)  # more than there is time for
    return training.TrainConfig(
        steps=steps,
        minutes=None if config.tiny else config.minutes,
        batch=0,
        phantoms=size.patches if config.patches is None else config.patches,
        patch=size.patch if config.patch is None else config.patch,
        precision=config.precision,
        optimizer=usual.optimizer,
        learning_rate=usual.learning_rate,
        trunk=1.0 if config.start is None else starting.TRUNK,
        warmup=100,
        ema=0.998,
        seed=config.seed,
        validate_every=2 if config.tiny else 500,
        keep_best=False,  # what is drawn anew for every step cannot be learned by heart
        checkpoint_every=500,
    )


def command_of(config: Config) -> str:
    """Return the command that trains the model again, after that of the model it began with."""
    own = "python experiments/pretrain.py "
    own += f"--model {config.model} --size {config.size} --minutes {config.minutes:g}"
    own += "" if config.precision == "f32" else f" --precision {config.precision}"
    for option in ("species", "proteins", "membranes"):
        folder = getattr(config, option)
        own += "" if folder is None else f" --{option} {folder.name}"
    if config.start is None:
        return f"{own} --seed {config.seed}"
    former = io.load_model(config.start)[1].provenance.get("command", config.start.name)
    return f"{former}; {own} --seed {config.seed} --start the model before"


def precisions(held: Known) -> dict[str, float | None]:
    """Return the average precision of each class but the background."""
    found = np.asarray(core.probabilities(held.logits[:, None, None]))[:, 0, 0]
    scores = {}
    for value, name in enumerate(core.label_names(held.classes)[1:], 1):
        likely = found[:, value if found.shape[-1] > 1 else 0]
        one = evaluate.rank(likely, held.labels == value)
        scores[name] = None if one is None else one.average_precision
    return scores


def main(config: Config) -> None:
    """Train, score and save a model."""
    runtime.keep_compiled()
    runtime.keep_memory()
    if config.tiny:
        small = {"patch": 16, "edge": 40, "patches": 2, "scenes": 2, "held_out": 1}
        config = dataclasses.replace(config, **small)
    start = time.perf_counter()
    validation = held_out(config)
    print(f"{len(validation)} held-out scenes: {time.perf_counter() - start:.0f} s", flush=True)
    classes, plan, method = MODELS[config.model], settings(config), SIZES[config.size].method
    if config.start is None:
        network = methods.build(method, classes, validation[0].volume, config.seed)
        network = resized(network, width=WIDTH, seed=config.seed)
        network = training.with_prior(network, validation)
    else:
        network = starting.begin(io.load_model(config.start)[0], classes, config.seed)
    stream = stream_of(config, config.seed)
    result = training.train(
        network,
        [],
        plan,
        validation=validation,
        stream=stream,
        run=config.out,
        resume=config.resume,
    )
    operator, halo = result.operator, None
    (patch, *_) = plan.patch_shape
    if operator.halo >= patch // 2:
        halo = fit_halo(operator, validation[0].measured)[0].halo
    held = known(operator, validation, patch, halo)
    calibrated, overlaps = calibrate(operator, held)
    operator = calibrated.on(operator)
    average = precisions(held)
    scores = {
        f"held-out scenes, {name}": {"Dice": one.dice, "average precision": average[name]}
        for name, one in overlaps.items()
    }
    print(calibrated)
    for name, one in scores.items():
        print(name, {key: value and round(value, 3) for key, value in one.items()})
    seconds = math.fsum(line["seconds"] for line in result.history)
    sizes, ranges, fitted = stream.scenes.voxel_sizes, stream.ranges, calibrated.recalibration
    card = io.ModelCard(
        voxel_size=(VOXEL, VOXEL, VOXEL),
        contrast="dark",
        patch=patch,
        halo=halo,
        voxel_sizes=(min(sizes), max(sizes)),
        tilt_ranges=(
            (ranges.lowest.high, ranges.highest.low),
            (ranges.lowest.low, ranges.highest.high),
        ),
        temperature=None if fitted is None else fitted.temperature,
        shifts=None if fitted is None else fitted.shifts,
        thresholds=calibrated.thresholds,
        provenance={
            "method": method,
            "command": command_of(config),
            "environment": environment(),
            "config": {
                name: value.name if isinstance(value, pathlib.Path) else str(value)
                for name, value in dataclasses.asdict(config).items()
            },
            "kinds": list(dict.fromkeys(stream.scenes.describe()["kinds"])),
            "steps": result.steps,
            "minutes": round(seconds / 60, 1),
            "scenes": stream.seen(result.steps),
            "ranges": dataclasses.asdict(ranges),
            "scores": scores,
        },
    )
    io.save_model(config.out / "model", operator, card, overwrite=True)
    print(f"wrote {config.out / 'model'}: {result.steps} steps, {result.stopped}")


if __name__ == "__main__":
    main(tyro.cli(Config))
