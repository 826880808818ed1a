"""``cryojax-seg annotate``: a page on this machine on which labels are painted."""

import dataclasses
import time
from pathlib import Path
from typing import Annotated, Any

from tyro.conf import Positional

from cryojax_seg.cli import console
from cryojax_seg.cli.arguments import Output, default
from cryojax_seg.cli.geometry import Contrast, TiltOptions, VoxelSize
from cryojax_seg.cli.projects import ProjectOptions, Publish
from cryojax_seg.runtime import signals


@dataclasses.dataclass(frozen=True)
class Annotate:
    """Paint labels of a tomogram on a page in the browser.

    The command prints a link for the browser of this machine, which works once, and serves the page
    until you press Ctrl-C. Labels are saved after each stroke, and the same command goes on with
    them.
    """

    tomogram: Positional[Path]
    """The tomogram: MRC, TIFF, OME-Zarr or another volume."""
    output: Output
    """MRC file of the labels, or OME-Zarr folder if the name ends in .zarr. If it exists, its
    labels are shown and can be changed."""
    classes: Annotated[
        tuple[str, ...], default("NAME ...", "those of the file, or foreground")
    ] = ()
    """Names of the labels 1, 2, ... in order."""
    labels: Annotated[Path | None, default("LABELS", "none")] = None
    """Labels to begin with while --output does not exist, such as a prediction to correct: a
    volume, an IMOD model or a mesh."""
    values: Annotated[tuple[int, ...], default("N ...", "1 2 ...")] = ()
    """Values in --labels of the labels 1, 2, ... in order, if they are others."""
    thickness: Annotated[float | None, default("ANGSTROM", "as the model says")] = None
    """Diameter in angstrom of tubes and points of an IMOD model, or thickness of the shell that a
    mesh becomes, in --labels."""
    publish: Publish = None
    """Also write the labels into a copick project when the page ends, instead of those that it
    wrote there before. Voxels that are not annotated are background there."""
    start: Annotated[Path, default("vote|none|MODEL", "vote")] = Path("vote")
    """What learns from your strokes and predicts slices: a linear vote, a built-in model such as
    membrane, or a model folder; none for nothing. The page can choose another one."""
    port: int = 0
    """Port to listen at on this machine. 0 takes one that is free. To paint on another machine,
    forward a port with the same number there by `ssh -L`."""
    open: bool = False
    """Open the page in the browser."""
    voxel_size: VoxelSize = None
    contrast: Contrast = "dark"
    """Whether structure is darker or brighter than its surroundings."""
    project: ProjectOptions = ProjectOptions()
    tilt: TiltOptions = TiltOptions()


def run(options: Annotate) -> None:
    """Run `Annotate`; a ValueError or OSError says in one line what is wrong."""
    if not 0 <= options.port < 65536:
        raise ValueError(f"--port {options.port}: a port is a number from 0 to 65535")
    try:
        from cryojax_seg import view

        serving = view.serving
    except ImportError as problem:
        raise ValueError(
            f"the page needs the package {problem.name}; pip install 'cryojax-seg[view]'"
        ) from None
    if options.labels is not None and not options.output.exists():
        view.begin_labels(
            options.output,
            options.labels,
            options.tomogram,
            options.classes,
            options.values,
            voxel_size=options.voxel_size,
            thickness=options.thickness,
        )
    session = view.annotation_session(
        options.tomogram,
        options.output,
        options.classes,
        voxel_size=options.voxel_size,
        contrast=options.contrast,
        wedge=options.tilt.wedge(),
        start=None if str(options.start) == "none" else options.start,
    )
    ended = False
    try:
        if options.publish is not None:
            _publication(options, session)  # refuses what cannot be written at the end
        with serving(session, options.port, _used) as link:
            print(link, flush=True)
            console.say("open this link in the browser of this machine; Ctrl-C ends the page")
            if options.open:
                import webbrowser

                webbrowser.open(link)
            while True:
                time.sleep(3600)
    except KeyboardInterrupt:
        ended = True  # as usual
    finally:
        saved = session.close()
    if not saved.complete:
        raise OSError(f"{options.output}: the last strokes are not saved: {saved.problem}")
    there = options.output.exists()
    if options.publish is not None and there:
        _publication(options, session).write_volume(options.output)
    console.say(f"the labels are saved in {options.output}" if there else "nothing was painted")
    if ended:  # a learner may still compute, for which Python's own exit would wait
        raise signals.Ended


def _publication(options: Annotate, session: Any) -> Any:
    """Return where the labels go in a copick project."""
    from cryojax_seg import io
    from cryojax_seg.core.names import label_names

    classes, runs = label_names(session.classes)[1:], options.project.run
    return io.publication(
        options.publish, ["segmentation"], runs, session.tomogram, classes, overwrite=True
    )


def _used(link: str) -> None:
    console.say(f"the link was used; another browser opens {link}")
