"""What the package copick does in `test_copick.py`, in a process of its own.

It is run by the Python of the tests if the extra `copick` is installed there, else by the one that
the environment variable CRYOJAX_SEG_COPICK names.
"""

import json
import sys
from pathlib import Path

import numpy as np

OBJECTS = [
    {"name": "membrane", "is_particle": False, "label": 3, "color": [0, 255, 0, 255]},
    {"name": "ribosome", "is_particle": True, "label": 7, "color": [255, 0, 0, 255]},
]


def turned() -> np.ndarray:
    """A transformation of x, y, z: a third of a turn that exchanges axes, and a shift."""
    matrix = np.eye(4)
    matrix[:3, :3] = [[0, 0, 1], [1, 0, 0], [0, 1, 0]]
    matrix[:3, 3] = [1.0, 2.0, 3.0]
    return matrix


def make(folder: Path) -> None:
    """Write a project with everything that is read."""
    import copick
    import trimesh

    config = {"name": "test", "version": "1.0.0", "pickable_objects": OBJECTS}
    config |= {
        "overlay_root": f"local://{folder}/overlay",
        "static_root": f"local://{folder}/static",
    }
    config |= {"overlay_fs_args": {"auto_mkdir": True}, "static_fs_args": {"auto_mkdir": True}}
    written = config | {"overlay_root": config["static_root"], "static_root": None}
    (folder / "config.json").write_text(json.dumps({"config_type": "filesystem", **config}))
    (folder / "writer.json").write_text(json.dumps({"config_type": "filesystem", **written}))
    root = copick.from_file(str(folder / "writer.json"))
    for number, name in enumerate(("TS_01", "TS_02", "other")):
        run = root.new_run(name)
        volume = np.arange(4 * 6 * 8, dtype=np.float32).reshape(4, 6, 8) + number
        run.new_voxel_spacing(10.0).new_tomogram("wbp").from_numpy(volume)
        labels = np.zeros((4, 6, 8), np.uint8)
        labels[1:3, 2:4, 3:7], labels[2, 1, 5] = 3, 7
        several = run.new_segmentation(10.0, "truth", "0", is_multilabel=True, user_id="gt")
        several.from_numpy(labels)
        one = run.new_segmentation(10.0, "membrane", "1", user_id="me")
        one.from_numpy((labels == 3).astype(np.uint8))
        numbered = run.new_segmentation(10.0, "ribosome", "1", user_id="me", is_instance=True)
        numbered.from_numpy(np.where(labels == 3, 2, labels == 7))
        picks = run.new_picks("ribosome", "2", "me")
        picks.meta.voxel_spacing, picks.meta.run_name = 10.0, name
        where = np.array([[10.0, 20.0, 30.0], [40.0, 50.0, 20.0]])
        mesh = run.new_mesh("membrane", "6", "me")
        mesh.mesh = trimesh.Scene(trimesh.creation.box(bounds=[[25, 15, 5], [65, 35, 25]]))
        mesh.store()
        picks.from_numpy(where, np.stack([np.eye(4), turned()]), scores=np.array([0.5, 0.9]))


def croissant(folder: Path) -> None:
    """Export the project as a Croissant manifest."""
    import copick
    from copick.ops.croissant import export_croissant

    root, place = copick.from_file(str(folder / "writer.json")), str(folder / "static")
    export_croissant(root, place, base_url=f"file://{place}")


def check(folder: Path) -> None:
    """Print what copick reads of the project as JSON."""
    import copick

    root = copick.from_file(str(folder / "config.json"))
    found = {}
    for run in root.runs:
        for one in run.segmentations:
            volume = one.numpy()
            values, counts = np.unique(volume, return_counts=True)
            key = f"{run.name}/{one.name}:{one.user_id}/{one.session_id}@{one.voxel_size:g}"
            pairs = zip(values.tolist(), counts.tolist(), strict=True)
            found[f"{key}?{one.segmentation_type}"] = [list(volume.shape), dict(pairs)]
        for space in run.voxel_spacings:
            for one in space.tomograms:
                volume = one.numpy()
                shown = [*volume.shape, float(volume.mean()), float(volume[0, 0, 1])]
                found[f"{run.name}/{one.tomo_type}@{space.voxel_size:g}"] = shown
        for one in run.picks:
            where, turns = one.full_positions(), one.numpy()[1][:, :3, :3]
            key = f"{run.name}/{one.pickable_object_name}:{one.user_id}/{one.session_id}"
            found[key] = [where.tolist(), turns.tolist(), one.scores().tolist()]
        for one in run.meshes:
            (geometry,) = one.mesh.geometry.values()
            key = f"{run.name}/{one.pickable_object_name}:{one.user_id}/{one.session_id}"
            found[f"{key} mesh"] = [geometry.vertices.tolist(), geometry.faces.tolist()]
    print(json.dumps(found))


if __name__ == "__main__":
    {"make": make, "check": check, "croissant": croissant}[sys.argv[1]](Path(sys.argv[2]))
