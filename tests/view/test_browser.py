"""Somebody opens the page in a browser, paints, undoes, and finds the labels again.

These need Chromium; Debian's package is found by its name.
"""

import contextlib
import os
import shutil
import signal
import time
from pathlib import Path

import numpy as np
import pytest

from cryojax_seg import io
from cryojax_seg.view.excluded import read_excluded

# Where pictures of the pages go, for somebody to look at; nowhere unless a folder is named.
SHOTS = Path(os.environ["CRYOJAX_SEG_SHOTS"]) if "CRYOJAX_SEG_SHOTS" in os.environ else None
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium; install it to test pages"),
    # Playwright's own transport is not closed where a test ends by an exception.
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]


@pytest.fixture(scope="module")
def launch():
    """Starts browsers with flags; all end with the module."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with playwright.sync_playwright() as driver, contextlib.ExitStack() as stack:

        def start(*flags):
            opened = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", *flags])
            stack.callback(opened.close)
            return opened

        yield start


@pytest.fixture(scope="module")
def browser(launch):
    return launch()


def until(condition, seconds=60):
    """Waits for a condition, and returns what it is true with."""
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, "this took too long"
        time.sleep(0.05)
    return found


class Page:
    """A page of the browser, with errors collected."""

    def __init__(self, browser, link, **how):
        self.context = browser.new_context(**how)
        self.page = self.context.new_page()
        self.errors = []
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.goto(link)
        until(lambda: self.evaluate("() => Boolean(window.viewer?.panes.some((p) => p.composed))"))

    def evaluate(self, code, *arguments):
        return self.page.evaluate(code, *arguments)

    def place(self, row, column, axis=0):
        """Where a voxel is in the window."""
        x, y = self.evaluate(
            "([axis, row, column]) => viewer.toScreen(viewer.panes[axis], row, column)",
            [axis, row, column],
        )
        box = self.evaluate(
            "(axis) => viewer.panes[axis].canvas.getBoundingClientRect().toJSON()", axis
        )
        return box["x"] + x, box["y"] + y

    def colour(self, row, column, axis=0):
        """What the canvas shows there: red, green, blue."""
        return self.evaluate(
            """([axis, row, column]) => {
              const pane = viewer.panes[axis], [x, y] = viewer.toScreen(pane, row, column);
              const at = [x * pane.ratio, y * pane.ratio].map(Math.round);
              return [...pane.context.getImageData(...at, 1, 1).data].slice(0, 3);
            }""",
            [axis, row, column],
        )

    def orange(self, row, column, axis=0):
        red, _, blue = self.colour(row, column, axis)
        return red > blue + 40

    def stroke(self, *points, axis=0):
        self.page.mouse.move(*self.place(*points[0], axis))
        self.page.mouse.down()
        for point in points[1:]:
            self.page.mouse.move(*self.place(*point, axis), steps=4)
        self.page.mouse.up()

    def press(self, text):
        self.page.get_by_role("button", name=text, exact=True).click()

    def text(self, selector):
        return self.page.locator(selector).inner_text()

    def saved(self):
        until(lambda: self.text(".saved").startswith("Saved"))

    def close(self):
        assert self.errors == []
        self.context.close()


# Nothing learns where no prediction is looked at, since that keeps a processor busy meanwhile.
STILL = ("--start", "none")
WIDE = {"viewport": {"width": 1280, "height": 800}}
PHONE = {
    "viewport": {"width": 390, "height": 844},
    "has_touch": True,
    "is_mobile": True,
    "device_scale_factor": 2,
}


def test_strokes_are_seen_undone_and_found_again(serve, browser, tomogram_file):
    labels = tomogram_file.with_name("painted.mrc")
    served = serve("painted.mrc", "--classes", "membrane", "microtubule")
    page = Page(browser, served.links[0], **WIDE)
    assert page.page.url == served.address + "/"  # the token is gone from the address
    assert not page.orange(20, 20)
    page.stroke((20, 10), (20, 30))
    until(lambda: page.orange(20, 20))
    page.saved()
    assert (io.read_labels(labels).labels[6, 20, 10:31] == 1).all()
    page.stroke((40, 10), (40, 30))
    until(lambda: page.orange(40, 20))
    page.press("Undo")
    until(lambda: not page.orange(40, 20))
    assert page.orange(20, 20)
    page.page.keyboard.press("Shift+U")
    until(lambda: page.orange(40, 20))
    page.page.keyboard.press("2")
    page.page.keyboard.press("l")
    for point in ((10, 50), (20, 60), (10, 70)):
        page.page.mouse.click(*page.place(*point))
    page.page.keyboard.press("Enter")
    until(lambda: page.evaluate("() => viewer.counts[2] > 50"))
    page.page.keyboard.press("e")
    page.stroke((20, 20), (20, 21))
    until(lambda: not page.orange(20, 20))
    page.press("Slice is complete")
    until(lambda: page.evaluate("() => viewer.counts[0] > 4000"))
    page.saved()
    before = io.read_labels(labels)
    served.end(signal.SIGKILL)
    until(lambda: "has ended" in page.text(".notice"))
    page.stroke((50, 10), (50, 30))  # nothing pretends to be painted
    until(lambda: not page.orange(50, 20))
    page.close()

    again = serve("painted.mrc")
    page = Page(browser, again.links[0], **WIDE)
    until(lambda: page.orange(40, 20))
    assert page.evaluate("() => viewer.state.names") == ["background", "membrane", "microtubule"]
    assert page.evaluate("() => viewer.annotated") == [6]
    page.close()
    assert again.end(signal.SIGINT) == 0
    after = io.read_labels(labels)
    np.testing.assert_array_equal(before.labels, after.labels)
    np.testing.assert_array_equal(before.weights, after.weights)


def test_a_browser_without_webgl_paints_into_ome_zarr(serve, launch, tomogram_file):
    """Nothing of the page needs WebGL, and "ignore" strokes are found again."""
    labels = tomogram_file.with_name("painted.zarr")
    served = serve("painted.zarr", "--classes", "membrane", *STILL)
    plain = launch("--disable-gpu", "--disable-webgl", "--disable-webgl2", "--disable-3d-apis")
    page = Page(plain, served.links[0], **WIDE)
    for kind in ("webgl", "webgl2", "experimental-webgl"):
        code = "(kind) => document.createElement('canvas').getContext(kind) === null"
        assert page.evaluate(code, kind), kind
    page.stroke((20, 10), (20, 30))
    until(lambda: page.orange(20, 20))
    page.page.keyboard.press("i")
    page.stroke((40, 10), (40, 30))
    until(lambda: page.evaluate("() => viewer.cache.get('labels/0/6')?.data?.includes(254)"))
    page.page.screenshot(path=SHOTS / "without-webgl.png") if SHOTS else None
    page.saved()
    before = io.read_labels(labels)
    assert (before.labels[6, 20, 10:31] == 1).all()
    assert len(read_excluded(labels, before.labels.shape)) > 5  # a run for each row of the stroke
    served.end(signal.SIGKILL)
    page.close()

    again = serve("painted.zarr", *STILL)
    page = Page(plain, again.links[0], **WIDE)
    until(lambda: page.orange(20, 20))
    page.press("Slice is complete")
    until(lambda: page.evaluate("() => viewer.counts[0] > 4000"))
    page.saved()
    page.close()
    assert again.end(signal.SIGINT) == 0
    after = io.read_labels(labels)
    assert not after.weights[6, 40, 10:31].any() and after.weights[6, 50].all()
    np.testing.assert_array_equal(after.labels, before.labels)


def test_slices_zoom_contrast_and_help(serve, browser, volume):
    served = serve("looked.mrc", *STILL)
    page = Page(browser, served.links[0], **WIDE)
    mouse, keyboard = page.page.mouse, page.page.keyboard
    mouse.move(*page.place(30, 40))
    mouse.wheel(0, -100)
    until(lambda: page.text(".pane.active .name") == "xy z 7")
    keyboard.press("ArrowDown")
    until(lambda: page.text(".pane.active .name") == "xy z 6")
    # What is shown is the volume: dark where the shell is, in every plane.
    shell = volume[1]
    for axis, plane in ((0, shell[6]), (1, shell[:, 30]), (2, shell[:, :, 40].T)):
        until(lambda axis=axis: page.evaluate("(a) => Boolean(viewer.panes[a].composed)", axis))
        inside = [page.colour(int(r), int(c), axis)[0] for r, c in np.argwhere(plane)[::7]]
        outside = [page.colour(int(r), int(c), axis)[0] for r, c in np.argwhere(~plane)[::41]]
        assert np.mean(inside) < np.mean(outside) - 50, axis
    # Of a large file a coarse slice comes first, and the page says so until the rest is there.
    kept = page.evaluate(
        """() => {
          const told = { type: "plane", layer: "image", axis: 2, index: 40 };
          const key = "image/2/40", whole = viewer.cache.get(key).data;
          const coarse = whole.slice().fill(9);
          viewer.receive({ ...told, coarse: true }, coarse);
          const kept = viewer.cache.get(key).data === whole;
          viewer.cache.delete(key);
          viewer.pending.add(key);
          viewer.receive({ ...told, coarse: true }, coarse);
          window.finish = () => viewer.receive(told, whole);
          return kept;
        }"""
    )
    name = page.page.locator(".pane .name", has_text="yz")
    until(lambda: name.inner_text() == "yz x 40 coarse while it is read")
    assert kept and page.colour(20, 9, 2) == page.colour(1, 3, 2)
    page.evaluate("() => window.finish()")
    until(lambda: name.inner_text() == "yz x 40")
    inside = [page.colour(int(r), int(c), 2)[0] for r, c in np.argwhere(shell[:, :, 40].T)[::7]]
    assert np.mean(inside) < np.mean(outside) - 50
    keyboard.press("m")
    mouse.click(*page.place(25, 56))  # moves the crosshair, so the other planes follow
    until(lambda: page.evaluate("() => viewer.position") == [6, 25, 56])
    before = page.evaluate("() => viewer.view.zoom")
    held = page.evaluate("() => viewer.toVoxel(viewer.panes[0], 200, 200)")
    box = page.page.locator(".pane canvas").first.bounding_box()
    mouse.move(box["x"] + 200, box["y"] + 200)
    keyboard.down("Control")
    mouse.wheel(0, -300)
    keyboard.up("Control")
    until(lambda: page.evaluate("() => viewer.view.zoom") > 1.5 * before)
    now = page.evaluate("() => viewer.toVoxel(viewer.panes[0], 200, 200)")
    np.testing.assert_allclose(now, held, atol=1e-6)  # what is under the pointer stays there
    keyboard.press("r")
    until(lambda: page.evaluate("() => viewer.view.zoom") == before)
    dark = page.evaluate("() => viewer.contrast")
    mouse.move(*page.place(30, 40))
    mouse.down(button="right")
    mouse.move(*page.place(30, 60), steps=5)
    mouse.up(button="right")
    assert page.evaluate("() => viewer.contrast") != dark
    keyboard.press("x")
    assert page.evaluate("() => viewer.contrast") == dark
    assert page.evaluate("() => viewer.state.editable && viewer.annotated.length") == 0
    keyboard.press("?")
    assert "smaller brush" in page.text(".help")
    keyboard.press("Escape")
    assert page.page.locator(".help").count() == 0
    page.page.locator("input[type=text]").fill("actin")
    page.press("Add")  # keys in the field were no shortcuts
    until(lambda: page.evaluate("() => viewer.state.names.length") == 3)
    assert "actin" in page.text(".classes")
    page.close()


def test_fingers_paint_and_zoom_on_a_phone(serve, browser):
    served = serve("touched.mrc", "--classes", "membrane", *STILL)
    page = Page(browser, served.links[0], **PHONE)
    assert page.page.locator(".pane:visible").count() == 1
    assert page.evaluate("() => document.documentElement.scrollWidth") <= 390
    touch = page.context.new_cdp_session(page.page)

    def fingers(kind, *points):
        at = [{"x": x, "y": y, "id": n} for n, (x, y) in enumerate(points)]
        touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": at})

    fingers("touchStart", page.place(20, 20))
    for column in range(21, 40):
        fingers("touchMove", page.place(20, column))
    fingers("touchEnd")
    until(lambda: page.orange(20, 30))
    count = until(lambda: page.evaluate("() => viewer.counts[1]"))
    before = page.evaluate("() => viewer.view.zoom")
    (x, y) = page.place(30, 40)
    fingers("touchStart", (x - 30, y))
    fingers("touchStart", (x - 30, y), (x + 30, y))
    for step in range(1, 11):
        fingers("touchMove", (x - 30 - 3 * step, y), (x + 30 + 3 * step, y))
    fingers("touchEnd")
    zoom = until(lambda: page.evaluate("() => viewer.view.zoom"))
    assert abs(zoom / before - 2) < 0.1
    page.press("xz")
    until(lambda: page.text(".pane.active:visible .name") == "xz y 30")
    assert page.evaluate("() => viewer.counts[1]") == count  # two fingers paint nothing
    page.close()


def test_two_pages_see_each_other(serve, browser):
    served = serve("shared.mrc", *STILL)
    one = Page(browser, served.links[0], **WIDE)
    until(lambda: len(served.links) > 1)
    other = Page(browser, served.links[1], **WIDE)
    one.stroke((20, 10), (20, 30))
    until(lambda: other.orange(20, 20))
    one.close()
    other.close()


def test_the_prediction_follows_the_strokes(serve, browser, volume):
    served = serve("learned.mrc", "--classes", "shell")
    page = Page(browser, served.links[0], **WIDE)
    page.stroke((25, 56), (26, 56), (24, 56))
    page.stroke((41, 40), (41, 42))
    page.page.keyboard.press("0")
    page.stroke((25, 30), (25, 46))
    page.stroke((52, 10), (52, 70))
    find = """() => {
      const data = viewer.cache.get("prediction/0/6")?.data;
      return data ? [...data] : null;
    }"""
    found = np.array(until(lambda: page.evaluate(find))).reshape(volume[1].shape[1:]) == 1
    until(lambda: "learned from" in page.text(".panel"))
    shell = volume[1][6]
    assert found[shell].mean() > 0.5 and found[~shell].mean() < 0.2
    before = page.evaluate("() => viewer.counts[1]")
    page.press("Copy prediction")
    until(lambda: page.evaluate("() => viewer.counts[1]") > before + 100)
    page.press("Next slice")
    until(lambda: page.evaluate("() => viewer.position[0]") != 6)
    page.close()


def test_a_built_in_model_is_chosen_on_the_page(serve, browser, volume):
    served = serve("started.mrc", "--classes", "membrane")
    page = Page(browser, served.links[0], **WIDE)
    select = page.page.get_by_label("Method")
    until(lambda: "membrane-fast" in select.inner_text())
    select.select_option("membrane-fast")
    until(lambda: "as it was trained" in page.text(".panel"))  # without any stroke
    count = """() => viewer.cache.get("prediction/0/6")?.data?.reduce((n, v) => n + (v === 1), 0)"""
    before = until(lambda: page.evaluate(count))
    page.stroke((25, 56), (26, 56), (24, 56))
    page.page.keyboard.press("0")
    page.stroke((52, 10), (52, 70))
    until(lambda: "The last layer of membrane-fast learned" in page.text(".panel"))
    until(lambda: page.evaluate(count) not in (None, before))
    page.page.keyboard.press("Shift+N")
    box = until(lambda: page.evaluate("() => viewer.box?.box"))
    assert box[0] < box[2] <= 60 and box[1] < box[3] <= 80
    at = until(
        lambda: (
            page.evaluate("() => viewer.position[0]") != 6
            and page.evaluate("() => viewer.view.centre")
        )
    )
    assert at[1:] == [(box[0] + box[2] - 1) / 2, (box[1] + box[3] - 1) / 2]
    page.page.screenshot(path=SHOTS / "box.png") if SHOTS else None
    page.close()
