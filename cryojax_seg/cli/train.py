"""``cryojax-seg train``: a segmenter from annotated tomograms."""

import contextlib
import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cryojax_seg.cli import console
from cryojax_seg.cli.arguments import check_resume, flat, named, plain
from cryojax_seg.cli.train_options import Train
from cryojax_seg.training import methods, settings

if TYPE_CHECKING:
    from cryojax_seg.training import Fitted

NOTHING = 0.05  # mean Dice below which a model is no use


def run(options: Train) -> None:
    """Run `Train`; a ValueError or OSError says in one line what is wrong."""
    several = options.several_processes
    where = (several.coordinator, several.processes, several.process)
    if where == (None, None, None) and not several.distributed:
        _check(options)
        _train(options)
        return
    from cryojax_seg import runtime
    from cryojax_seg.runtime import processes

    runtime.join(*where)
    processes.on_primary(lambda: _check(options))  # what it looks for, the first will write
    with contextlib.nullcontext() if processes.is_primary() else processes.silence():
        _train(options)


def _train(options: Train) -> None:
    """Hold the run folder before anything in it is touched, then train and save."""
    from cryojax_seg.runtime.processes import on_primary
    from cryojax_seg.training import rundir

    with contextlib.ExitStack() as stack:
        held = rundir.exclusive(options.output)

        def hold() -> None:
            stack.enter_context(held)
            _check_folder(options)

        on_primary(hold)
        _train_in(rundir.Held(options.output), options)


def _train_in(run: Any, options: Train) -> None:
    """Train and save in a folder that is held."""
    from cryojax_seg import inference, runtime, training

    runtime.keep_compiled()
    runtime.keep_memory()
    data = training.read_examples(
        options.tomograms, options.labels, **flat(options.volume), **flat(options.annotation)
    )
    given = _settings(options)
    restorer, start = given.pop("restorer"), given.pop("start")
    paths, volume = given.pop("unlabelled"), flat(options.volume)
    fitted = training.fit_model(
        data,
        run,
        method=options.method,
        start=start and _model(start, options.method),
        validation=options.validation,
        hold_out=_index(options),
        unlabelled=training.read_unlabelled(paths, **volume) if paths else None,
        restorer=restorer and inference.load_restorer(restorer)[0],
        resume=options.resume,
        overwrite=options.overwrite,
        provenance=_recorded(options),
        **given,
    )
    _show(options, fitted)
    if fitted.interrupted is not None:
        raise SystemExit(128 + fitted.interrupted)


def _settings(options: Train) -> dict[str, Any]:
    """Return what the options say of the training, by the names of the library."""
    given = flat(options.network) | flat(options.training)
    given |= {"steps": options.steps, "minutes": options.length.limit()}
    given |= {name: getattr(options.held_out, name) for name in ("validate_every", "patience")}
    words = named(given["augment"], "augment", "NAME=P", "noise=0.3")
    try:
        return given | {"augment": {name: float(value) for name, value in words.items()}}
    except ValueError:
        raise ValueError("--augment needs probabilities: NAME=P, such as noise=0.3") from None


def _recorded(options: Train) -> dict[str, Any]:
    """Return the options as plain values, where the name of a built-in model stays a name."""
    from cryojax_seg.inference import built_in_name

    values = plain(options)
    for name in ("start", "restorer"):
        model = getattr(options.training, name)
        if model is not None:
            values[name] = built_in_name(model) or values[name]
    return values


def _index(options: Train) -> int | None:
    """Return the index of the tomogram that is held out; None for no such choice."""
    if options.held_out.hold_out is None:
        return None
    paths = [os.path.realpath(path) for path in options.tomograms]
    try:
        return paths.index(os.path.realpath(options.held_out.hold_out))
    except ValueError:
        raise ValueError(
            f"--hold-out {options.held_out.hold_out}: name one of the tomograms to learn from"
        ) from None


def _model(folder: Path, method: str | None) -> Any:
    """Return the segmenter and the card in a folder; a method of your own may be imported."""
    from cryojax_seg import inference, io

    module, own, _ = methods.parts(method or "")[0].partition(":")
    try:
        model = inference.load(folder, (module,) if own else ())
    except io.ForeignModuleError as error:
        raise io.FileError(f"{error}: --method {error.name}") from None
    return model.segmenter, model.card


def _show(options: Train, fitted: "Fitted") -> None:
    """Print how good the model is and what to do next."""
    folder, result = options.output, fitted.result
    if fitted.scores is not None:
        ratios = {n: (s.dice, s.iou, s.precision, s.recall) for n, s in fitted.scores.items()}
        rows = [(name, *map(console.number, values)) for name, values in ratios.items()]
        console.table("held-out annotation", ("class", "Dice", "IoU", "precision", "recall"), rows)
        _show_calibration(fitted)
    step = f"step {result.steps}"
    if fitted.config.minutes is None:
        step += f" of {fitted.config.steps}"
    print(f"model: {folder / 'model'} ({result.stopped}, {step})")
    if fitted.interrupted is not None:
        console.say(f"interrupted; {folder} is kept; the same command with --resume goes on")
    elif fitted.dice is not None and fitted.dice < NOTHING:
        console.warn(
            f"this model finds next to nothing of the held-out annotation (Dice {fitted.dice:.3f})."
            " Check that the labels lie on the structure and that --contrast is right; then try "
            "more --steps, more annotated slices or another --method (see cryojax-seg compare)"
        )
    else:
        method = fitted.card.provenance["method"]
        module, own, _ = methods.parts(method)[0].partition(":")
        allow = f" --allow-module {module}" if own else ""
        print(f"next:  cryojax-seg segment {folder} TOMOGRAM -o LABELS.mrc{allow}")
    if fitted.interrupted is None:
        _show_more(folder, fitted)


def _show_calibration(fitted: "Fitted") -> None:
    """Print what was fitted to the held-out annotation, and what that changed."""
    found = fitted.calibration
    if found is None:
        return
    print(f"calibration: {found}")
    if found.thresholds is not None and fitted.scores is not None:
        pairs = zip(fitted.scores, found.thresholds, strict=True)
        values = ", ".join(f"{name} {threshold:.3g}" for name, threshold in pairs)
        former, now = map(console.number, found.dice)
        print(f"thresholds: {values}; mean Dice {former} before, {now} after")


def _show_more(folder: Path, fitted: "Fitted") -> None:
    """Print whether more steps would help, and the command that takes them."""
    trend, config = fitted.result.trend, fitted.config
    if trend is not None:
        verdict = "it is not known whether more steps would help"
        if trend.flat or trend.rises:
            verdict = f"more steps would {'help' if trend.rises else 'hardly help'}"
        print(f"trend: validation Dice rose by {trend} before the learning rate fell; {verdict}")
    if config.minutes is None:
        longer = f"--steps {2 * fitted.result.steps}"
    else:
        longer = f"--minutes {2 * config.minutes:g}"
    file = shlex.quote(str(folder / "config.yaml"))
    print(f"more:  {console.PROGRAM} train --config {file} --resume {longer}")


def _check(options: Train) -> None:
    """Refuse options that are wrong before JAX is loaded and anything is read."""
    if not options.tomograms:
        raise ValueError("no tomogram given; see cryojax-seg train --help")
    try:
        methods.known(options.method or methods.USUAL)
    except ValueError as error:
        raise ValueError(f"--method: {error}") from None
    if len(options.labels) != len(options.tomograms):
        raise ValueError(
            f"{len(options.tomograms)} tomogram(s) and {len(options.labels)} label file(s); "
            "--labels needs one for each tomogram, in the same order"
        )
    if options.training.joint or options.training.unlabelled:
        options.volume.wedge(required=True)
    _check_unlabelled(options)
    if options.validation is not None and not 0 <= options.validation < 1:
        raise ValueError(
            f"--validation must be a fraction from 0 to below 1, got {options.validation}"
        )
    if options.length.until_converged and options.validation == 0:
        raise ValueError("--until-converged needs held-out annotation; --validation is 0")
    if options.held_out.hold_out is not None and options.validation is not None:
        raise ValueError("--validation and --hold-out exclude each other")
    if _index(options) is not None and len(options.tomograms) < 2:
        raise ValueError("--hold-out leaves no tomogram to learn from")
    known = settings.Settings.__annotations__
    given = {name: value for name, value in _settings(options).items() if name in known}
    settings.check(options.method or methods.USUAL, **given)
    check_resume(options)
    _check_folder(options)


def _check_unlabelled(options: Train) -> None:
    """Refuse a tomogram that is given both with labels and without."""
    own = {os.path.realpath(path) for path in options.tomograms}
    for path in options.training.unlabelled:
        if os.path.realpath(path) in own:
            raise ValueError(f"--unlabelled {path}: has labels already; leave it out here")


def _check_folder(options: Train) -> None:
    """Refuse a run folder that does not agree with the options."""
    from cryojax_seg import inference, io
    from cryojax_seg.training import rundir

    models = (options.training.restorer, options.training.start)
    read = [inference.model_folder(model) for model in models if model is not None]
    inputs = [*options.tomograms, *options.labels, *options.training.unlabelled, *read]
    io.check_places([options.output], inputs)
    rundir.check_folder(options.output, resume=options.resume, overwrite=options.overwrite)
