"""``cryojax-seg view``: a tomogram and what belongs to it, in neuroglancer."""

import dataclasses
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional

from cryojax_seg.cli import console
from cryojax_seg.cli.arguments import default
from cryojax_seg.cli.geometry import VoxelSize


@dataclasses.dataclass(frozen=True)
class View:
    """Show a tomogram with labels, probabilities and particles in three dimensions.

    The command opens neuroglancer, which reads MRC and OME-Zarr without converting them, prints its
    link for the browser of this machine, and serves it until you press Ctrl-C.
    """

    tomogram: Positional[Path]
    """The tomogram."""
    labels: Annotated[Path | None, default("PATH", "none")] = None
    """Label volume on the grid of the tomogram. Labels are shown as meshes too."""
    probabilities: Annotated[tuple[Path, ...], default("PATH ...", "none")] = ()
    """Probability maps on its grid, one for each class but the background."""
    particles: Annotated[Path | None, default("TABLE", "none")] = None
    """Table of particles, such as `pick` writes."""
    classes: Annotated[tuple[str, ...], default("NAME ...", "those of the labels")] = ()
    """Names of the labels 1, 2, ... in order."""
    open: bool = False
    """Open the link in the browser."""
    voxel_size: VoxelSize = None


def run(options: View) -> None:
    """Run `View`; a ValueError or OSError says in one line what is wrong."""
    import time

    from cryojax_seg import view

    try:
        viewer = view.open_scene(
            options.tomogram,
            options.labels,
            options.probabilities,
            options.particles,
            options.classes,
            voxel_size=options.voxel_size,
        )
    except ImportError as problem:
        raise ValueError(
            f"the view needs the package {problem.name}; pip install 'cryojax-seg[view]'"
        ) from None
    print(viewer, flush=True)
    console.say("open this link in the browser of this machine; Ctrl-C ends the view")
    if options.open:
        import webbrowser

        webbrowser.open(str(viewer))
    try:
        while True:
            time.sleep(3600)
    except KeyboardInterrupt:
        console.say("the view has ended")
