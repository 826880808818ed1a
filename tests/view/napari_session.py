"""Opens files in a real napari, segments and learns by its widgets, and saves; for test_napari.

    python napari_session.py FOLDER

FOLDER holds t.mrc and labels.mrc. What happened is printed as JSON, and pictures are left there.
"""

import json
import sys
import time
from pathlib import Path


def until(app, condition, seconds=120):
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise SystemExit("this took too long")
        app.processEvents()
        time.sleep(0.02)


def main(folder):
    import napari
    import numpy as np
    from qtpy.QtWidgets import QApplication

    viewer = napari.Viewer(show=True)
    app, told = QApplication.instance(), {}
    (image,) = viewer.open(folder / "t.mrc", plugin="cryojax-seg")
    (painted,) = viewer.open(folder / "labels.mrc", plugin="cryojax-seg")
    told["layers"] = [type(image).__name__, type(painted).__name__]
    told["scale"] = [float(s) for s in image.scale], str(image.units[0])
    told["values"] = np.unique(painted.data).tolist()

    def run(title, **values):
        _, widget = viewer.window.add_plugin_dock_widget("cryojax-seg", title)
        for name, value in values.items():
            getattr(widget, name).value = value
        before = len(viewer.layers)
        widget()
        until(app, lambda: len(viewer.layers) > before)
        return viewer.layers[-1]

    found = run("Segment", image=image, model="membrane-fast", probabilities=True)
    told["segmented"] = found.name, int((found.data == 1).sum()), [float(s) for s in found.scale]
    maps = [layer for layer in viewer.layers if "probability" in layer.name]
    told["maps"] = [(layer.name, list(layer.contrast_limits)) for layer in maps]
    for layer in maps:
        layer.visible = False
    picture(viewer, folder / "segment.png", app)
    found.visible = False
    learned = run(
        "Learn from this Labels layer",
        image=image,
        painted=painted,
        save_into=folder / "learned.model",
    )
    told["learned"] = learned.name, int((learned.data == 1).sum())
    picture(viewer, folder / "learn.png", app)
    told["saved"] = learned.save(str(folder / "saved.mrc"), plugin="cryojax-seg")
    viewer.close()
    print(json.dumps(told))


def picture(viewer, path, app):
    for _ in range(20):
        app.processEvents()
        time.sleep(0.05)
    viewer.screenshot(path, canvas_only=False, flash=False)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
