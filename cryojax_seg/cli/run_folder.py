"""The folder of a run of ``cryojax-seg train``: what may be in it, and its options."""

from typing import Any

from cryojax_seg.cli.arguments import plain


def check(options: Any) -> None:
    """What the run folder holds, and whether that agrees with what is asked."""
    from cryojax_seg import io
    from cryojax_seg.training import rundir

    output, restorer = options.output, options.restorer
    restorers = () if restorer is None else (restorer,)
    io.check_places([output], [*options.tomograms, *options.labels, *restorers])
    used = rundir.is_used(output)
    if used and not options.resume and not options.overwrite:
        raise ValueError(
            f"{output}: holds files already; choose another --output, --resume that run, or "
            "--overwrite it"
        )
    if options.resume and not used:
        raise ValueError(f"{output}: there is no run to --resume")
    if used:
        rundir.check_model_folder(output)


def begin(options: Any) -> None:
    """The options, in the run folder."""
    import yaml

    from cryojax_seg import io
    from cryojax_seg.training import rundir

    if options.overwrite:
        rundir.clear(options.output)
    with io.atomic_write(options.output / "config.yaml") as file:
        file.write_text(yaml.safe_dump(plain(options), sort_keys=False))
