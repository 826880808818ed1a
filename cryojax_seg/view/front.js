// The page that shows a tomogram and takes strokes. It is one module without dependencies, and it
// fetches nothing. Python answers its messages (see session.py), which travel over a WebSocket on
// the local page and over the messages of a widget in a notebook.

const ROW_AXIS = [1, 0, 1]; // axis of the volume along the rows of the xy, xz and yz plane
const COLUMN_AXIS = [2, 2, 0];
const PLANES = ["xy", "xz", "yz"];
const AXES = ["z", "y", "x"];
const UNKNOWN = 255, EXCLUDED = 254; // labels as bytes
const CACHE_BYTES = 192e6;
const SIDE_BY_SIDE = 700; // pixels of width from which on all three planes are shown

const STYLE = `
:host { display: block; }
* { box-sizing: border-box; }
.root { --line: #3a3f47; --ink: #e8eaed; --muted: #a4abb6; --back: #1b1e23; --raised: #282c33;
  --accent: #7cc4ff; color: var(--ink); background: var(--back); font: 13px/1.4 system-ui, sans-serif;
  display: flex; flex-direction: column; height: 660px; border-radius: 6px; overflow: hidden;
  position: relative; outline: none; }
.root.page { height: 100dvh; border-radius: 0; }
.bar { display: flex; flex-wrap: wrap; gap: 4px 10px; align-items: center; padding: 6px 8px;
  border-bottom: 1px solid var(--line); }
.group { display: flex; gap: 2px; align-items: center; }
.title { font-weight: 600; max-width: 22em; overflow: hidden; text-overflow: ellipsis;
  white-space: nowrap; margin-right: 4px; }
button, select, input[type=text] { font: inherit; color: var(--ink); background: var(--raised);
  border: 1px solid var(--line); border-radius: 4px; padding: 4px 9px; min-height: 28px; }
button { cursor: pointer; white-space: nowrap; }
button:hover { border-color: #6b7480; }
button[aria-pressed=true] { background: #17466b; border-color: var(--accent); }
button:disabled { opacity: .45; cursor: default; }
:is(button, select, input):focus-visible, .root:not(.page):focus-visible .stage { outline: 2px solid var(--accent);
  outline-offset: 1px; }
label { color: var(--muted); display: flex; gap: 6px; align-items: center; }
output { color: var(--ink); font-variant-numeric: tabular-nums; }
input[type=range] { accent-color: var(--accent); min-width: 60px; height: 20px; margin: 0; }
.body { flex: 1; display: flex; min-height: 0; }
.left { flex: 1; min-width: 0; display: flex; flex-direction: column; }
.stage { flex: 1; min-height: 0; display: grid; gap: 2px; background: #000; position: relative; }
.pane { position: relative; min-width: 0; min-height: 0; overflow: hidden; background: #0b0c0e; }
.pane canvas { position: absolute; inset: 0; width: 100%; height: 100%; touch-action: none;
  display: block; }
.pane .name { position: absolute; left: 7px; top: 5px; pointer-events: none; color: #fff;
  text-shadow: 0 0 3px #000, 0 0 3px #000; font-variant-numeric: tabular-nums; }
.pane.active .name { color: var(--accent); }
.corner { padding: 8px 10px; color: var(--muted); overflow: hidden; background: var(--back);
  font-variant-numeric: tabular-nums; }
.slider { display: flex; gap: 8px; align-items: center; padding: 5px 8px; }
.slider .track { flex: 1; position: relative; padding-bottom: 7px; }
.slider input { width: 100%; display: block; }
.slider canvas { position: absolute; left: 0; bottom: 0; width: 100%; height: 7px;
  pointer-events: none; }
.slider output { min-width: 6.5em; }
.panel { width: 236px; flex: none; overflow: auto; border-left: 1px solid var(--line);
  padding: 8px 10px; display: flex; flex-direction: column; gap: 14px; }
.panel h2 { font-size: 12px; font-weight: 600; margin: 0 0 5px; color: var(--muted); }
.panel section > label { justify-content: space-between; margin: 3px 0; }
.panel section > label input[type=range] { flex: 0 1 120px; }
.classes { display: flex; flex-direction: column; gap: 2px; }
.classes button { display: flex; gap: 8px; align-items: center; text-align: left; width: 100%;
  background: none; border-color: transparent; }
.classes button:hover { border-color: var(--line); }
.classes button[aria-pressed=true] { background: #17466b; border-color: var(--accent); }
.classes .key { color: var(--muted); width: 1em; }
.classes .swatch { width: 14px; height: 14px; border-radius: 3px; flex: none; }
.classes .word { flex: 1; overflow: hidden; text-overflow: ellipsis; }
.classes .count { color: var(--muted); font-variant-numeric: tabular-nums; }
.add { display: flex; gap: 4px; margin-top: 5px; }
.add input { min-width: 0; flex: 1; }
.row { display: flex; gap: 4px; flex-wrap: wrap; margin: 4px 0; }
.hint { color: var(--muted); margin: 4px 0; }
.status { display: flex; gap: 14px; padding: 4px 8px; border-top: 1px solid var(--line);
  color: var(--muted); min-height: 27px; flex-wrap: wrap; font-variant-numeric: tabular-nums; }
.status .saved { margin-left: auto; }
.status .bad { color: #ffb4a2; }
.notice { background: #7a2413; color: #fff; padding: 6px 10px; }
.notice[hidden], [hidden] { display: none !important; }
.help { position: absolute; inset: 0; background: #000a; display: flex; align-items: center;
  justify-content: center; z-index: 5; padding: 12px; }
.help div { background: var(--back); border: 1px solid var(--line); border-radius: 8px; max-height: 100%;
  overflow: auto; padding: 14px 18px; max-width: 640px; }
.help h2 { margin: 0 0 8px; font-size: 15px; }
.help dl { display: grid; grid-template-columns: auto 1fr; gap: 3px 14px; margin: 0 0 12px; }
.help dt { white-space: nowrap; }
.help dd { margin: 0; color: var(--muted); }
kbd { font: 12px ui-monospace, monospace; background: var(--raised); border: 1px solid var(--line);
  border-radius: 3px; padding: 0 4px; color: var(--ink); }
.tabs { display: none; }
.narrow .tabs { display: flex; }
.narrow .body { flex-direction: column; overflow: auto; }
.narrow .left { flex: none; }
.narrow .stage { height: min(100vw, 62dvh); flex: none; }
.narrow .panel { width: auto; border-left: 0; border-top: 1px solid var(--line); overflow: visible; }
.narrow button { min-height: 36px; }
.narrow .title { display: none; }
.narrow .slider input { height: 30px; }
`;

/** Makes an element with properties and children. */
function h(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name in element && name !== "list") element[name] = value;
    else element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

const KEY_NAMES = { ArrowUp: "\u2191", ArrowDown: "\u2193", "1 wheel": "Wheel", "right drag": "Right drag",
  "Ctrl+z": "Ctrl+Z", "Ctrl+y": "Ctrl+Y" };
const clamp = (value, low, high) => Math.min(Math.max(value, low), high);
const compact = (n) => (n < 1000 ? `${n}` : n < 1e6 ? `${(n / 1e3).toPrecision(3)} k` :
  `${(n / 1e6).toPrecision(3)} M`);

/** Returns a length of 1, 2 or 5 times a power of ten that is at most this long. */
function roundLength(most) {
  const power = 10 ** Math.floor(Math.log10(most));
  return [5, 2, 1].map((n) => n * power).find((n) => n <= most);
}

function lengthText(nm) {
  return nm >= 1000 ? `${+(nm / 1000).toPrecision(3)} µm` : `${+nm.toPrecision(3)} nm`;
}

/** Shows one tomogram. `transport` has `send(message)` and calls `receive` and `connected`. */
export class Viewer {
  constructor(host, transport, { page = false } = {}) {
    this.transport = transport;
    this.page = page;
    this.state = null;
    this.saves = { requested: 0, written: 0 };
    this.position = [0, 0, 0];
    this.active = 0;
    this.tool = "move";
    this.value = 1;
    this.size = 6; // nm, diameter of the brush and thickness of lines
    this.opacity = 0.55;
    this.show = { labels: true, prediction: true, probability: true };
    this.contrast = { black: 0, white: 255 };
    this.view = null; // { zoom: pixels per nm, centre: [z, y, x] in voxels }
    this.cache = new Map();
    this.bytes = 0;
    this.pending = new Set();
    this.outdated = new Set(); // slices that have changed since they were asked for
    this.learning = null;
    this.suggestions = [];
    this.boxes = [];
    this.box = null; // the suggested box that is shown
    this.held = new Set(); // keys
    this.build(host);
    transport.receive = (message, bytes) => this.receive(message, bytes);
    transport.connected = (yes, text) => this.connection(yes, text);
  }

  // ---- the page ------------------------------------------------------------------------------

  build(host) {
    host.setAttribute("data-lm-suppress-shortcuts", "true"); // keys are ours, not JupyterLab's
    const shadow = host.shadowRoot ?? host.attachShadow({ mode: "open" });
    const sheet = new CSSStyleSheet();
    sheet.replaceSync(STYLE);
    shadow.adoptedStyleSheets = [sheet];
    const on = (element, kind, listener, options) => {
      element.addEventListener(kind, listener, options);
      return element;
    };
    const press = (text, title, action) => on(h("button", { type: "button", title }, text),
      "click", () => { action(); this.root.focus({ preventScroll: true }); });

    this.tools = {};
    for (const [name, text, title] of [
      ["move", "Move", "Drag to pan, click to move the crosshair (M)"],
      ["brush", "Brush", "Paint the chosen class (B)"],
      ["erase", "Erase", "Remove annotation (E)"],
      ["fill", "Fill", "Fill a closed region of one label (F)"],
      ["line", "Line", "Click points of a smooth line, Enter ends it (L)"],
    ]) this.tools[name] = press(text, title, () => this.choose(name));
    this.sizeInput = on(h("input", { type: "range", min: 0, max: 40, step: 1, value: 12,
      title: "Diameter of the brush and thickness of lines ([ and ])" }), "input",
      () => this.setSize(+this.sizeInput.value));
    this.sizeText = h("output");
    this.undoButton = press("Undo", "Undo the last change of this slice (U)", () => this.change("undo"));
    this.redoButton = press("Redo", "Redo (Shift+U)", () => this.change("redo"));
    this.completeButton = press("Slice is complete",
      "Everything that is not painted on this slice becomes background (C)",
      () => this.change("complete"));
    this.pasteButton = press("Copy prediction", "Copy the prediction of this slice to correct it (K)",
      () => this.change("paste"));
    this.endButton = press("End line", "End the line (Enter)", () => this.endLine());
    this.tabs = PLANES.map((name, axis) => press(name, `Show the ${name} plane`, () => this.activate(axis)));
    this.title = h("span", { className: "title" });
    this.editing = h("span", { className: "group" }, ...["brush", "erase", "fill", "line"].map(
      (name) => this.tools[name]));
    this.editingMore = h("span", { className: "group" }, this.endButton, this.undoButton,
      this.redoButton, this.completeButton, this.pasteButton);
    this.sizeLabel = h("label", {}, "Size", this.sizeInput, this.sizeText);
    const bar = h("div", { className: "bar", role: "toolbar", "aria-label": "Tools" }, this.title,
      h("span", { className: "group tabs" }, ...this.tabs),
      h("span", { className: "group" }, this.tools.move), this.editing, this.sizeLabel,
      this.editingMore,
      h("span", { className: "group" }, press("Fit", "Show the whole slice (R)", () => this.fit()),
        press("?", "Keyboard shortcuts (?)", () => this.toggleHelp())));

    this.panes = PLANES.map((name, axis) => {
      const canvas = h("canvas", { role: "img", "aria-label": `${name} plane` });
      const label = h("span", { className: "name" });
      const element = h("div", { className: "pane" }, canvas, label);
      const pane = { axis, canvas, label, element, context: canvas.getContext("2d"), base: null,
        composed: null, preview: [], hover: null };
      this.listen(pane, on);
      return pane;
    });
    this.corner = h("div", { className: "corner" });
    this.stage = h("div", { className: "stage" }, this.panes[0].element, this.panes[2].element,
      this.panes[1].element, this.corner);

    this.slider = on(h("input", { type: "range", min: 0, max: 0, step: 1, "aria-label": "Slice" }),
      "input", () => this.go(this.active, +this.slider.value));
    this.marks = h("canvas");
    this.sliceText = h("output");
    const slider = h("div", { className: "slider" }, this.sliceText,
      h("div", { className: "track" }, this.slider, this.marks));

    this.classList = h("div", { className: "classes", role: "group", "aria-label": "Classes" });
    this.className = on(h("input", { type: "text", placeholder: "New class", "aria-label": "Name of a new class",
      maxLength: 60 }), "keydown", (event) => { if (event.key === "Enter") this.addClass(); });
    const addButton = press("Add", "Add this class", () => this.addClass());
    this.classSection = h("section", {}, h("h2", {}, "Classes"), this.classList,
      this.addRow = h("div", { className: "add" }, this.className, addButton));
    const range = (value, action) => on(h("input", { type: "range", min: 0, max: 255, step: 1, value }),
      "input", (event) => action(+event.target.value));
    this.black = range(0, (v) => this.setContrast(v, Math.max(this.contrast.white, v + 1)));
    this.white = range(255, (v) => this.setContrast(Math.min(this.contrast.black, v - 1), v));
    this.opacityInput = range(this.opacity * 255, (v) => { this.opacity = v / 255; this.recompose(); });
    this.layerRow = h("div", { className: "row" });
    const look = h("section", {}, h("h2", {}, "Look"),
      h("label", {}, "Black", this.black), h("label", {}, "White", this.white),
      h("label", {}, "Overlay", this.opacityInput), this.layerRow,
      h("div", { className: "row" }, press("Reset contrast", "Contrast as it was at first (X)",
        () => this.resetContrast())));
    this.learnSection = this.buildLearning(press, on);
    const panel = h("div", { className: "panel" }, this.classSection, this.learnSection, look);

    this.notice = h("div", { className: "notice", role: "alert", hidden: true });
    this.where = h("span");
    this.told = h("span", { role: "status" });
    this.saved = h("span", { className: "saved" });
    this.help = null;
    this.root = h("div", { className: `root${this.page ? " page" : ""}`, tabIndex: 0 }, bar, this.notice,
      h("div", { className: "body" }, h("div", { className: "left" }, this.stage, slider), panel),
      h("div", { className: "status" }, this.where, this.told, this.saved));
    shadow.replaceChildren(this.root);
    const keys = this.page ? window : this.root;
    on(keys, "keydown", (event) => this.key(event));
    on(keys, "keyup", (event) => { this.held.delete(event.key); this.cursor(); });
    this.observer = new ResizeObserver(() => this.layout());
    this.observer.observe(this.root);
    this.tell("Waiting for the tomogram");
    this.updateTools();
  }

  buildLearning(press, on) {
    this.methodSelect = on(h("select", { "aria-label": "Method" }), "change",
      () => this.send({ type: "learn", action: "method", method: this.methodSelect.value }));
    this.pauseButton = press("Pause", "Pause or go on (P)", () => this.togglePause());
    this.saveButton = press("Save model", "Save the model as a folder beside the labels",
      () => this.send({ type: "learn", action: "save" }));
    this.nextButton = press("Next slice", "Go to the slice that is worth most (N)", () => this.next());
    this.boxButton = press("Next box", "Go to the box that is worth most (Shift+N)", () => this.next("box"));
    this.learnText = h("p", { className: "hint" });
    this.diceText = h("p", { className: "hint" });
    return h("section", { hidden: true }, h("h2", {}, "Learning"),
      h("div", { className: "row" }, this.methodSelect, this.pauseButton),
      this.learnText, this.diceText,
      h("div", { className: "row" }, this.nextButton, this.boxButton, this.saveButton));
  }

  listen(pane, on) {
    const { canvas } = pane;
    pane.pointers = new Map();
    on(canvas, "pointerdown", (event) => this.down(pane, event));
    on(canvas, "pointermove", (event) => this.move(pane, event));
    on(canvas, "pointerup", (event) => this.up(pane, event));
    on(canvas, "pointercancel", (event) => this.up(pane, event, true));
    on(canvas, "pointerleave", () => { pane.hover = null; this.where.textContent = ""; this.draw(pane); });
    on(canvas, "dblclick", () => { if (this.tool === "line") this.endLine(); });
    on(canvas, "contextmenu", (event) => event.preventDefault());
    on(canvas, "wheel", (event) => this.wheel(pane, event), { passive: false });
  }

  /** Arranges the planes for the width that there is. */
  layout() {
    const width = this.root.clientWidth;
    const narrow = width < SIDE_BY_SIDE;
    this.root.classList.toggle("narrow", narrow);
    this.panes.forEach((pane) => { pane.element.hidden = narrow && pane.axis !== this.active; });
    this.corner.hidden = narrow;
    if (this.state) {
      const nm = this.extent();
      const [w, hgt] = [this.stage.clientWidth, this.stage.clientHeight];
      if (narrow) {
        this.stage.style.gridTemplate = "1fr / 1fr";
      } else {
        const side = clamp(w * nm[0] / (nm[0] + nm[2]), 90, w * 0.38);
        const bottom = clamp(hgt * nm[0] / (nm[0] + nm[1]), 80, hgt * 0.38);
        this.stage.style.gridTemplate = `1fr ${Math.round(bottom)}px / 1fr ${Math.round(side)}px`;
      }
      if (!this.view || !this.touched) this.fit();
    }
    for (const pane of this.panes) this.resize(pane);
    this.drawMarks();
  }

  resize(pane) {
    const ratio = window.devicePixelRatio || 1;
    const { canvas } = pane;
    const [width, height] = [canvas.clientWidth, canvas.clientHeight];
    if (!width || !height) return;
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(height * ratio);
    pane.ratio = ratio;
    this.draw(pane);
  }

  // ---- messages ------------------------------------------------------------------------------

  send(message) {
    if (!this.transport.send(message)) {
      this.tell("This is not connected, so nothing was sent", true);
      return false;
    }
    return true;
  }

  connection(yes, text) {
    this.notice.hidden = yes;
    if (yes) {
      this.pending.clear();
      this.outdated.clear();
      this.saves = { requested: 0, written: 0 }; // the program may be another one
      this.send({ type: "hello" });
    } else {
      this.notice.textContent = text;
      for (const pane of this.panes) { pane.preview = []; this.draw(pane); }
    }
  }

  receive(message, bytes) {
    switch (message.type) {
      case "state": return this.begin(message);
      case "plane": return this.arrived(message, bytes);
      case "changed":
        this.forget("labels");
        this.progress(message);
        return this.request();
      case "saved": return this.showSaved(message);
      case "error": {
        for (const pane of this.panes) { pane.preview = []; this.draw(pane); }
        return this.tell(message.text, true);
      }
      case "told": return this.tell(message.text);
      case "learning": return this.showLearning(message);
      case "predicted":
        this.forget("prediction", message.slices);
        return this.request();
      case "suggestions":
        this.suggestions = message.items;
        this.boxes = message.boxes;
        this.drawMarks();
        if (this.wantsNext && message.items.length) this.next(this.wantsNext);
        else if (this.wantsNext) this.tell("Paint a class and background first, then slices can be compared");
        this.wantsNext = null;
        return undefined;
    }
    return undefined;
  }

  begin(state) {
    const first = this.state === null;
    this.state = state;
    const [z, y, x] = state.shape;
    if (first) {
      this.position = [z >> 1, y >> 1, x >> 1];
      this.contrast = { ...state.window };
      this.black.value = this.contrast.black;
      this.white.value = this.contrast.white;
      const voxel = Math.min(...this.voxel());
      this.sizes = Array.from({ length: 41 }, (_, k) => voxel * 2 ** (k / 4 - 0.5));
      const wanted = Math.max(6, 3 * voxel);
      this.setSize(this.sizes.findIndex((size) => size >= wanted * 0.999));
      if (state.editable) this.choose("brush");
    } else {
      this.forget("image");
      this.forget("labels");
      this.forget("prediction");
    }
    this.title.textContent = state.title;
    this.title.title = state.file ? `${state.title}, labels in ${state.file}` : state.title;
    for (const element of [this.editing, this.editingMore, this.sizeLabel, this.addRow]) {
      element.hidden = !state.editable;
    }
    this.pasteButton.hidden = !state.layers.includes("prediction");
    this.learnSection.hidden = !state.learning;
    if (state.learning) this.showLearning(state.learning);
    this.tell("");
    this.buildLayers();
    this.progress(state);
    this.classSection.hidden = !state.layers.some((layer) => layer !== "image");
    this.activate(this.active);
    this.layout();
    this.request();
  }

  progress(message) {
    if (message.annotated) this.annotated = message.annotated;
    this.suggestions = []; // they were made without this change
    this.boxes = [];
    if (message.counts) this.counts = message.counts;
    if (message.saved) this.showSaved(message.saved);
    this.buildClasses();
    this.drawMarks();
  }

  /** Shows whether all is on disk. The numbers only grow, so smaller ones were told too late. */
  showSaved({ requested, written, problem }) {
    if (requested < this.saves.requested || written < this.saves.written) return;
    this.saves = { requested, written };
    const file = this.state?.file, complete = requested === written;
    this.saved.classList.toggle("bad", Boolean(problem));
    this.saved.textContent = problem ? `Not saved, the strokes are kept in memory: ${problem}` :
      !this.state?.editable ? "" : !file ? "Labels are in memory only" :
        !complete ? "Saving" : `${this.annotated?.length ? "Saved in" : "Labels go into"} ${file}`;
  }

  tell(text, bad = false) {
    this.told.textContent = text;
    this.told.classList.toggle("bad", bad);
    clearTimeout(this.timer);
    if (bad) this.timer = setTimeout(() => this.tell(""), 8000);
  }

  // ---- slices --------------------------------------------------------------------------------

  voxel() { return this.state.voxel_nm ?? [1, 1, 1]; }

  extent() { return this.state.shape.map((n, axis) => n * this.voxel()[axis]); }

  size2d(axis) { return [this.state.shape[ROW_AXIS[axis]], this.state.shape[COLUMN_AXIS[axis]]]; }

  shown() {
    const layers = ["image"];
    for (const layer of this.state.layers) {
      const kind = layer.split(":")[0];
      if (kind !== "image" && this.show[kind]) layers.push(layer);
    }
    return layers;
  }

  key3(layer, axis, index) { return `${layer}/${axis}/${index}`; }

  /** Marks slices of a layer as out of date; of a prediction perhaps only some slices along z. */
  forget(layer, slices) {
    const old = (key) => {
      const [name, axis, index] = key.split("/");
      return name === layer && !(slices && axis === "0" && !slices.includes(+index));
    };
    for (const [key, entry] of this.cache) if (old(key)) entry.stale = true;
    for (const key of this.pending) if (old(key)) this.outdated.add(key);
  }

  /** Asks for what the visible planes lack, and then for their neighbours. */
  request() {
    if (!this.state) return;
    for (const pane of this.panes) {
      if (pane.element.hidden) continue;
      const index = this.position[pane.axis];
      for (const layer of this.shown()) this.want(layer, pane.axis, index);
      this.compose(pane);
    }
  }

  want(layer, axis, index) {
    if (index < 0 || index >= this.state.shape[axis]) return;
    const key = this.key3(layer, axis, index);
    const known = this.cache.get(key);
    if ((known && !known.stale) || this.pending.has(key)) return;
    const busy = [...this.pending].filter((other) => other.startsWith(`${layer}/${axis}/`)).length;
    if (busy >= 2) return; // asked again when one of them arrives
    if (this.transport.send({ type: "plane", layer, axis, index })) {
      this.pending.add(key);
      if (known) known.stale = false; // what comes now is newer
    }
  }

  arrived(message, bytes) {
    const key = this.key3(message.layer, message.axis, message.index);
    const coarse = Boolean(message.coarse); // the whole slice follows
    const old = this.cache.get(key);
    if (coarse && old && !old.coarse) return;
    if (!coarse) this.pending.delete(key);
    this.bytes += (bytes?.length ?? 0) - (old?.data?.length ?? 0);
    this.cache.delete(key);
    this.cache.set(key, { data: bytes, undo: message.undo ?? 0, redo: message.redo ?? 0,
      coarse, stale: coarse || this.outdated.delete(key) });
    for (const [name, entry] of this.cache) {
      if (this.bytes < CACHE_BYTES && this.cache.size < 2000) break;
      this.bytes -= entry.data?.length ?? 0;
      this.cache.delete(name);
    }
    const pane = this.panes[message.axis];
    if (message.layer === "labels" && message.index === this.position[message.axis]) {
      pane.preview = pane.preview.filter((stroke) => !stroke.sent);
      this.updateTools();
    }
    this.request();
    if (message.layer === "image" && !coarse && this.direction && message.axis === this.active) {
      const ahead = this.position[message.axis] + this.direction;
      for (const layer of this.shown()) this.want(layer, message.axis, ahead);
    }
  }

  recompose() {
    for (const pane of this.panes) { pane.composed = null; this.compose(pane); }
  }

  /** Mixes density and labels of a plane into pixels, once all of them are there. */
  compose(pane) {
    if (!this.state || pane.element.hidden) return;
    const { axis } = pane, index = this.position[axis];
    const layers = this.shown().map((layer) => [layer, this.cache.get(this.key3(layer, axis, index))]);
    if (layers.some(([, entry]) => !entry)) return this.draw(pane);
    const same = pane.composed && pane.composed.index === index &&
      layers.every(([layer, entry]) => pane.composed.from.get(layer) === entry) &&
      pane.composed.from.size === layers.length;
    if (same) return this.draw(pane);
    pane.composed = { index, from: new Map(layers) };
    const [rows, columns] = this.size2d(axis);
    if (!pane.base || pane.base.width !== columns || pane.base.height !== rows) {
      pane.base = h("canvas", { width: columns, height: rows });
      pane.pixels = pane.base.getContext("2d").createImageData(columns, rows);
    }
    const of = Object.fromEntries(layers.map(([layer, entry]) => [layer, entry.data]));
    this.mix(pane.pixels.data, of, rows, columns);
    pane.base.getContext("2d").putImageData(pane.pixels, 0, 0);
    return this.draw(pane);
  }

  mix(pixels, of, rows, columns) {
    const { black, white } = this.contrast;
    const grey = Uint8ClampedArray.from({ length: 256 }, (_, v) => 255 * (v - black) / (white - black));
    const words = new Uint32Array(pixels.buffer);
    const table = Uint32Array.from(grey, (v) => 0xff000000 | (v << 16) | (v << 8) | v);
    const { image, labels, prediction } = of;
    for (let i = 0; i < words.length; i++) words[i] = table[image[i]];
    const colours = this.state.colours;
    const blend = (i, [r, g, b], alpha) => {
      const k = 4 * i;
      pixels[k] += (r - pixels[k]) * alpha;
      pixels[k + 1] += (g - pixels[k + 1]) * alpha;
      pixels[k + 2] += (b - pixels[k + 2]) * alpha;
    };
    for (const [layer, data] of Object.entries(of)) {
      if (!layer.startsWith("probability:") || !data) continue;
      const colour = colours[+layer.split(":")[1] - 1] ?? [255, 255, 255];
      for (let i = 0; i < data.length; i++) if (data[i]) blend(i, colour, this.opacity * data[i] / 255);
    }
    if (prediction) {
      for (let i = 0; i < prediction.length; i++) {
        const value = prediction[i];
        if (value === 0 || value === UNKNOWN || (labels && labels[i] < EXCLUDED)) continue;
        const column = i % columns;
        const edge = (column > 0 && prediction[i - 1] !== value) ||
          (column < columns - 1 && prediction[i + 1] !== value) ||
          (i >= columns && prediction[i - columns] !== value) ||
          (i < words.length - columns && prediction[i + columns] !== value);
        blend(i, colours[value - 1] ?? [255, 255, 255], this.opacity * (edge ? 0.95 : 0.45));
      }
    }
    if (!labels) return;
    for (let i = 0; i < labels.length; i++) {
      const value = labels[i];
      if (value === UNKNOWN) continue;
      const checked = (((i % columns) >> 1) + ((i / columns) >> 1)) & 1;
      if (value === 0) { if (this.state.editable) blend(i, [70, 90, 150], this.opacity * 0.55); }
      else if (value === EXCLUDED) blend(i, checked ? [150, 150, 150] : [0, 0, 0], this.opacity * 0.8);
      else blend(i, colours[value - 1] ?? [255, 255, 255], this.opacity);
    }
  }

  // ---- drawing -------------------------------------------------------------------------------

  /** Returns the pixels of the screen per voxel along columns and rows. */
  scale(axis) {
    return [this.view.zoom * this.voxel()[COLUMN_AXIS[axis]], this.view.zoom * this.voxel()[ROW_AXIS[axis]]];
  }

  /** Returns where the centre of a voxel is on the screen; rows run upwards. */
  toScreen(pane, row, column) {
    const [sx, sy] = this.scale(pane.axis);
    const { clientWidth: w, clientHeight: hgt } = pane.canvas;
    return [w / 2 + (column - this.view.centre[COLUMN_AXIS[pane.axis]]) * sx,
      hgt / 2 - (row - this.view.centre[ROW_AXIS[pane.axis]]) * sy];
  }

  toVoxel(pane, x, y) {
    const [sx, sy] = this.scale(pane.axis);
    const { clientWidth: w, clientHeight: hgt } = pane.canvas;
    return [this.view.centre[ROW_AXIS[pane.axis]] - (y - hgt / 2) / sy,
      this.view.centre[COLUMN_AXIS[pane.axis]] + (x - w / 2) / sx];
  }

  fit() {
    if (!this.state) return;
    const nm = this.extent();
    const pane = this.root.classList.contains("narrow") ? this.panes[this.active] : this.panes[0];
    const { clientWidth: w, clientHeight: hgt } = pane.canvas;
    if (!w || !hgt) return;
    this.view = {
      zoom: Math.min(w / nm[COLUMN_AXIS[pane.axis]], hgt / nm[ROW_AXIS[pane.axis]]),
      centre: this.state.shape.map((n) => (n - 1) / 2),
    };
    this.touched = false;
    this.drawAll();
  }

  drawAll() { for (const pane of this.panes) this.draw(pane); }

  draw(pane) {
    if (pane.waiting) return;
    pane.waiting = true;
    requestAnimationFrame(() => { pane.waiting = false; this.paint(pane); });
  }

  paint(pane) {
    const { context, canvas, ratio } = pane;
    if (!this.state || !this.view || !ratio || pane.element.hidden) return;
    const [w, hgt] = [canvas.clientWidth, canvas.clientHeight];
    const [sx, sy] = this.scale(pane.axis);
    const [rows, columns] = this.size2d(pane.axis);
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.clearRect(0, 0, canvas.width, canvas.height);
    const [left, top] = this.toScreen(pane, rows - 0.5, -0.5);
    if (pane.base) {
      context.imageSmoothingEnabled = Math.max(sx, sy) * ratio < 2;
      context.imageSmoothingQuality = "high";
      context.setTransform(sx * ratio, 0, 0, -sy * ratio, left * ratio, (top + rows * sy) * ratio);
      context.drawImage(pane.base, 0, 0);
    }
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    const right = left + columns * sx, bottom = top + rows * sy;
    this.crosshair(pane, context, [left, top, right, bottom]);
    if (pane.axis === 0 && this.box?.index === this.position[0]) this.drawBox(pane, context);
    for (const stroke of pane.preview) this.drawStroke(pane, context, stroke);
    if (this.line && this.line.pane === pane) {
      const points = pane.hover ? [...this.line.points, pane.hover] : this.line.points;
      this.drawStroke(pane, context, { points, value: this.value, kind: "line" });
      context.fillStyle = "#fff";
      for (const point of this.line.points) {
        const [x, y] = this.toScreen(pane, ...point);
        context.fillRect(x - 2, y - 2, 4, 4);
      }
    }
    if (pane.hover && this.state.editable && ["brush", "erase"].includes(this.tool)) {
      const [x, y] = this.toScreen(pane, ...pane.hover);
      for (const [colour, width] of [["#000a", 3], ["#fff", 1]]) {
        context.strokeStyle = colour;
        context.lineWidth = width;
        context.beginPath();
        context.arc(x, y, Math.max(this.size / 2 * this.view.zoom, 2), 0, 2 * Math.PI);
        context.stroke();
      }
    }
    this.scaleBar(context, w, hgt);
    const index = this.position[pane.axis];
    const coarse = this.cache.get(this.key3("image", pane.axis, index))?.coarse;
    const name = `${PLANES[pane.axis]}  ${AXES[pane.axis]} ${index}${coarse ? "  coarse while it is read" : ""}`;
    if (pane.label.textContent !== name) pane.label.textContent = name;
    pane.element.classList.toggle("active", pane.axis === this.active);
  }

  crosshair(pane, context, [left, top, right, bottom]) {
    if (this.root.classList.contains("narrow")) return;
    const [x, y] = this.toScreen(pane, this.position[ROW_AXIS[pane.axis]], this.position[COLUMN_AXIS[pane.axis]]);
    context.strokeStyle = "#7cc4ff66";
    context.lineWidth = 1;
    context.beginPath();
    context.moveTo(left, y); context.lineTo(right, y);
    context.moveTo(x, top); context.lineTo(x, bottom);
    context.stroke();
  }

  drawBox(pane, context) {
    const [top, left, bottom, right] = this.box.box;
    const [x0, y0] = this.toScreen(pane, bottom - 0.5, left - 0.5);
    const [x1, y1] = this.toScreen(pane, top - 0.5, right - 0.5);
    context.strokeStyle = "#f0e442";
    context.lineWidth = 1.5;
    context.setLineDash([6, 4]);
    context.strokeRect(x0, y0, x1 - x0, y1 - y0);
    context.setLineDash([]);
  }

  drawStroke(pane, context, { points, value, kind }) {
    const colour = value === UNKNOWN ? [255, 255, 255] : value === EXCLUDED ? [120, 120, 120] :
      value === 0 ? [70, 90, 150] : this.state.colours[value - 1] ?? [255, 255, 255];
    context.strokeStyle = `rgba(${colour.join(",")},${kind === "line" ? 0.5 : this.opacity})`;
    context.lineWidth = Math.max(this.size * this.view.zoom, 1.5);
    context.lineCap = context.lineJoin = "round";
    context.beginPath();
    points.forEach((point, i) => {
      const [x, y] = this.toScreen(pane, ...point);
      if (i === 0) context.moveTo(x, y);
      context.lineTo(x, y);
    });
    context.stroke();
  }

  scaleBar(context, w, hgt) {
    const known = this.state.voxel_nm !== null;
    const nm = roundLength(Math.min(110, w / 3) / this.view.zoom);
    const length = nm * this.view.zoom;
    const text = known ? lengthText(nm) : `${nm} voxels`;
    context.font = "12px system-ui, sans-serif";
    context.textAlign = "center";
    const [x, y] = [w - 12 - length, hgt - 12];
    context.fillStyle = "#000a";
    context.fillRect(x - 6, y - 19, length + 12, 27);
    context.fillStyle = "#fff";
    context.fillRect(x, y, length, 3);
    context.fillText(text, x + length / 2, y - 5);
  }

  drawMarks() {
    if (!this.state) return;
    const ratio = window.devicePixelRatio || 1, canvas = this.marks;
    const width = canvas.clientWidth;
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(7 * ratio);
    const context = canvas.getContext("2d");
    const n = this.state.shape[this.active];
    const at = (index) => (8 + (width - 16) * (n > 1 ? index / (n - 1) : 0.5)) * ratio;
    const mark = (index, colour, height) => {
      context.fillStyle = colour;
      context.fillRect(at(index) - ratio, (7 - height) * ratio, 2 * ratio, height * ratio);
    };
    if (this.active !== 0) return;
    for (const { index } of this.suggestions) mark(index, "#f0e442", 4);
    for (const index of this.annotated ?? []) mark(index, "#7cc4ff", 7);
  }

  // ---- what is chosen ------------------------------------------------------------------------

  choose(tool) {
    if (tool !== "move" && !this.state?.editable) return;
    if (this.line) { this.line = null; this.drawAll(); }
    this.tool = tool;
    this.updateTools();
    this.cursor();
  }

  updateTools() {
    for (const [name, button] of Object.entries(this.tools)) {
      button.setAttribute("aria-pressed", String(name === this.tool));
    }
    this.tabs.forEach((tab, axis) => tab.setAttribute("aria-pressed", String(axis === this.active)));
    this.endButton.hidden = !this.line;
    const entry = this.state && this.cache.get(this.key3("labels", this.active, this.position[this.active]));
    this.undoButton.disabled = !entry?.undo;
    this.redoButton.disabled = !entry?.redo;
  }

  cursor() {
    const pan = this.tool === "move" || this.held.has(" ");
    for (const pane of this.panes) {
      pane.canvas.style.cursor = pan ? "grab" : ["brush", "erase"].includes(this.tool) ? "none" : "crosshair";
    }
  }

  setSize(step) {
    if (!this.sizes) return;
    const index = clamp(step, 0, this.sizes.length - 1);
    this.size = this.sizes[index];
    this.sizeInput.value = index;
    this.sizeText.textContent = `${this.size.toPrecision(2)} nm`;
    this.drawAll();
  }

  setContrast(black, white) {
    this.contrast = { black: clamp(Math.round(black), -200, 254), white: clamp(Math.round(white), 1, 455) };
    if (this.contrast.white <= this.contrast.black) this.contrast.white = this.contrast.black + 1;
    this.black.value = this.contrast.black;
    this.white.value = this.contrast.white;
    this.recompose();
  }

  resetContrast() { this.setContrast(this.state.window.black, this.state.window.white); }

  buildClasses() {
    const { names, colours, editable } = this.state;
    const rows = names.map((name, value) => ({ name, value, key: value < 10 ? `${value}` : "",
      colour: value ? `rgb(${(colours[value - 1] ?? [255, 255, 255]).join(",")})` : "rgb(70,90,150)",
      count: this.counts?.[value] }));
    if (editable) {
      rows.push({ name: "ignore", value: EXCLUDED, key: "i", colour: "repeating-conic-gradient(#999 0 25%, #222 0 50%) 0 / 6px 6px" });
    }
    this.classList.replaceChildren(...rows.filter((row) => editable || row.value).map((row) => {
      const swatch = h("span", { className: "swatch" });
      swatch.style.background = row.colour;
      const button = h("button", { type: "button", title: row.value === EXCLUDED ?
        "Paint what shall never be trained on (I)" : row.value ? `Paint ${row.name} (${row.key})` :
          "Paint what is none of the classes (0)" },
        h("span", { className: "key" }, editable ? row.key : ""), swatch, h("span", { className: "word" }, row.name),
        h("span", { className: "count" }, row.count ? compact(row.count) : ""));
      button.setAttribute("aria-pressed", String(editable && row.value === this.value));
      button.disabled = !editable;
      if (!editable) button.style.opacity = 1;
      button.addEventListener("click", () => { this.pick(row.value); this.root.focus({ preventScroll: true }); });
      return button;
    }));
  }

  pick(value) {
    this.value = value;
    if (this.tool === "move" || this.tool === "erase") this.choose("brush");
    this.buildClasses();
  }

  addClass() {
    const name = this.className.value.trim();
    if (!name) return this.className.focus();
    if (this.send({ type: "add_class", name })) {
      this.className.value = "";
      this.value = this.state.names.length; // it becomes the last one
    }
    return undefined;
  }

  buildLayers() {
    const kinds = [...new Set(this.state.layers.map((layer) => layer.split(":")[0]))].filter((kind) => kind !== "image");
    const texts = { labels: "Labels", prediction: "Prediction", probability: "Probabilities" };
    this.layerRow.replaceChildren(...kinds.map((kind) => {
      const button = h("button", { type: "button", title: `Show or hide (${kind === "labels" ? "O" : "T"})` }, texts[kind]);
      button.setAttribute("aria-pressed", String(this.show[kind]));
      button.addEventListener("click", () => this.toggle(kind));
      return button;
    }));
  }

  toggle(kind) {
    this.show[kind] = !this.show[kind];
    this.buildLayers();
    this.request();
    this.recompose();
  }

  activate(axis) {
    this.active = axis;
    if (this.state) {
      this.slider.max = this.state.shape[axis] - 1;
      this.slider.value = this.position[axis];
      this.sliceText.textContent = `${AXES[axis]} ${this.position[axis]} of ${this.state.shape[axis]}`;
    }
    if (this.root.classList.contains("narrow") && this.panes[axis].element.hidden) {
      this.layout();
      this.fit();
      this.request();
    }
    this.updateTools();
    this.drawMarks();
    this.drawAll();
  }

  go(axis, index) {
    const next = clamp(Math.round(index), 0, this.state.shape[axis] - 1);
    if (next === this.position[axis]) return;
    this.direction = Math.sign(next - this.position[axis]);
    if (this.line && this.line.pane.axis === axis) this.line = null;
    this.panes[axis].preview = [];
    this.position[axis] = next;
    if (axis === this.active) {
      this.slider.value = next;
      this.sliceText.textContent = `${AXES[axis]} ${next} of ${this.state.shape[axis]}`;
    }
    this.request();
    this.updateTools();
    this.drawAll();
    clearTimeout(this.lookTimer);
    this.lookTimer = setTimeout(() => {
      if (this.state.learning) this.transport.send({ type: "look", planes: this.position.map((i, a) => [a, i]) });
    }, 80);
  }

  // ---- pointers ------------------------------------------------------------------------------

  down(pane, event) {
    if (!this.state || !this.view) return;
    this.root.focus({ preventScroll: true });
    pane.canvas.setPointerCapture(event.pointerId);
    const at = [event.offsetX, event.offsetY];
    pane.pointers.set(event.pointerId, at);
    if (pane.axis !== this.active) this.activate(pane.axis);
    if (pane.pointers.size === 2) { // two fingers pan and zoom; the stroke of the first was none
      pane.preview = pane.preview.filter((stroke) => stroke.sent);
      const touches = [...pane.pointers.values()];
      this.drag = { kind: "pinch", before: touches.map((p) => [...p]) };
      return this.draw(pane);
    }
    const voxel = this.toVoxel(pane, ...at);
    const tool = this.tool;
    if (event.button === 2 || event.altKey) this.drag = { kind: "contrast", at, start: { ...this.contrast } };
    else if (event.button === 1 || this.held.has(" ") || tool === "move") {
      this.drag = { kind: "pan", at, centre: [...this.view.centre], moved: false };
    } else if (tool === "brush" || tool === "erase") {
      const stroke = { points: [voxel], value: tool === "erase" ? UNKNOWN : this.value, kind: tool };
      pane.preview.push(stroke);
      this.drag = { kind: "stroke", stroke };
    } else if (tool === "fill") {
      this.drag = { kind: "fill", voxel };
    } else if (tool === "line") {
      if (!this.line || this.line.pane !== pane) this.line = { pane, points: [] };
      this.line.points.push(voxel);
      this.drag = { kind: "none" };
      this.updateTools();
    }
    return this.draw(pane);
  }

  move(pane, event) {
    if (!this.state || !this.view) return;
    const at = [event.offsetX, event.offsetY];
    const voxel = this.toVoxel(pane, ...at);
    pane.hover = event.pointerType === "touch" ? null : voxel;
    this.describe(pane, voxel);
    const drag = pane.pointers.has(event.pointerId) ? this.drag : null;
    if (drag?.kind === "pinch") this.pinch(pane, event.pointerId, at);
    pane.pointers.has(event.pointerId) && pane.pointers.set(event.pointerId, at);
    if (drag?.kind === "stroke") {
      const events = event.getCoalescedEvents?.() ?? [];
      for (const part of events.length ? events : [event]) {
        drag.stroke.points.push(this.toVoxel(pane, part.offsetX, part.offsetY));
      }
    } else if (drag?.kind === "pan") {
      const [sx, sy] = this.scale(pane.axis);
      const [dx, dy] = [at[0] - drag.at[0], at[1] - drag.at[1]];
      drag.moved ||= Math.hypot(dx, dy) > 3;
      if (drag.moved) {
        this.view.centre[COLUMN_AXIS[pane.axis]] = drag.centre[COLUMN_AXIS[pane.axis]] - dx / sx;
        this.view.centre[ROW_AXIS[pane.axis]] = drag.centre[ROW_AXIS[pane.axis]] + dy / sy;
        this.touched = true;
        return this.drawAll();
      }
    } else if (drag?.kind === "contrast") {
      const { black, white } = drag.start, span = white - black;
      const middle = (black + white) / 2 + (at[1] - drag.at[1]) * 0.5;
      const wide = Math.max(span * Math.exp((at[0] - drag.at[0]) / 200), 2);
      this.setContrast(middle - wide / 2, middle + wide / 2);
    }
    return this.draw(pane);
  }

  pinch(pane, id, at) {
    const others = [...pane.pointers.entries()].filter(([other]) => other !== id).map(([, p]) => p);
    if (!others.length) return;
    const [other] = others, before = pane.pointers.get(id);
    const middle = (a, b) => [(a[0] + b[0]) / 2, (a[1] + b[1]) / 2];
    const apart = (a, b) => Math.max(Math.hypot(a[0] - b[0], a[1] - b[1]), 1);
    const from = middle(before, other), to = middle(at, other);
    const held = this.toVoxel(pane, ...from);
    this.zoomTo(this.view.zoom * apart(at, other) / apart(before, other));
    const now = this.toVoxel(pane, ...to);
    this.view.centre[ROW_AXIS[pane.axis]] += held[0] - now[0];
    this.view.centre[COLUMN_AXIS[pane.axis]] += held[1] - now[1];
    this.drawAll();
  }

  up(pane, event, cancelled = false) {
    const drag = this.drag;
    pane.pointers.delete(event.pointerId);
    if (!this.state || pane.pointers.size || !drag) return;
    this.drag = null;
    const plane = { axis: pane.axis, index: this.position[pane.axis] };
    if (drag.kind === "stroke") {
      const { stroke } = drag;
      stroke.sent = true;
      const message = { type: "stroke", ...plane, points: thinned(stroke.points), radius_nm: this.size / 2,
        value: signed(stroke.value) };
      if (cancelled || !this.send(message)) pane.preview = pane.preview.filter((one) => one !== stroke);
    } else if (drag.kind === "fill" && !cancelled) {
      this.send({ type: "fill", ...plane, point: drag.voxel, value: signed(this.value) });
    } else if (drag.kind === "pan" && !drag.moved && this.tool === "move") {
      const [row, column] = this.toVoxel(pane, ...drag.at);
      this.go(ROW_AXIS[pane.axis], row);
      this.go(COLUMN_AXIS[pane.axis], column);
    }
    this.draw(pane);
  }

  describe(pane, [row, column]) {
    const [r, c] = [Math.round(row), Math.round(column)];
    const [rows, columns] = this.size2d(pane.axis);
    if (r < 0 || c < 0 || r >= rows || c >= columns) { this.where.textContent = ""; return; }
    const at = [...this.position];
    at[ROW_AXIS[pane.axis]] = r;
    at[COLUMN_AXIS[pane.axis]] = c;
    const labels = this.cache.get(this.key3("labels", pane.axis, this.position[pane.axis]))?.data;
    const value = labels ? labels[r * columns + c] : UNKNOWN;
    const word = value === UNKNOWN ? "" : value === EXCLUDED ? "ignored" : this.state.names[value] ?? `label ${value}`;
    this.where.textContent = `z ${at[0]}  y ${at[1]}  x ${at[2]}  ${word}`;
    if (this.state.voxel_nm) {
      this.corner.textContent = at.map((v, axis) => `${AXES[axis]} ${lengthText(v * this.voxel()[axis])}`).join("\n");
      this.corner.style.whiteSpace = "pre";
    }
  }

  wheel(pane, event) {
    if (!this.state || !this.view) return;
    event.preventDefault();
    const delta = event.deltaY || event.deltaX;
    if (event.ctrlKey || event.metaKey) {
      const held = this.toVoxel(pane, event.offsetX, event.offsetY);
      this.zoomTo(this.view.zoom * Math.exp(-delta * (Math.abs(delta) < 20 ? 0.01 : 0.002)));
      const now = this.toVoxel(pane, event.offsetX, event.offsetY);
      this.view.centre[ROW_AXIS[pane.axis]] += held[0] - now[0];
      this.view.centre[COLUMN_AXIS[pane.axis]] += held[1] - now[1];
      return this.drawAll();
    }
    if (pane.axis !== this.active) this.activate(pane.axis);
    this.wheeled = (this.wheeled ?? 0) + (event.deltaMode === 1 ? 40 * delta : delta);
    const steps = Math.abs(delta) >= 50 ? Math.sign(delta) : Math.trunc(this.wheeled / 40);
    if (!steps) return undefined;
    this.wheeled = 0;
    return this.go(pane.axis, this.position[pane.axis] - steps * (event.shiftKey ? 5 : 1));
  }

  zoomTo(zoom) {
    const nm = Math.max(...this.extent());
    this.view.zoom = clamp(zoom, 40 / nm, 60 / Math.min(...this.voxel()));
    this.touched = true;
  }

  endLine() {
    const line = this.line;
    this.line = null;
    this.updateTools();
    if (!line) return;
    const points = line.points.filter((p, i) => i === 0 || Math.hypot(p[0] - line.points[i - 1][0],
      p[1] - line.points[i - 1][1]) > 0.5); // a double click gives its point twice
    if (points.length > 1) {
      line.pane.preview.push({ points, value: this.value, kind: "line", sent: true });
      this.send({ type: "line", axis: line.pane.axis, index: this.position[line.pane.axis], points,
        thickness_nm: this.size, value: signed(this.value) });
    }
    this.drawAll();
  }

  change(kind, how = {}) {
    if (!this.state?.editable) return;
    this.send({ type: kind, axis: this.active, index: this.position[this.active], ...how });
  }

  // ---- learning ------------------------------------------------------------------------------

  showLearning(message) {
    this.learning = { ...this.learning, ...message };
    const { method, methods, paused, text, dice } = this.learning;
    this.methodSelect.replaceChildren(...(methods ?? []).map((name) => h("option", { value: name, selected: name === method }, name)));
    this.methodSelect.value = method;
    this.pauseButton.textContent = paused ? "Go on" : "Pause";
    this.learnText.textContent = text ?? "";
    this.diceText.textContent = dice ?? "";
    this.methodSelect.hidden = (methods ?? []).length < 2;
    this.saveButton.hidden = !this.learning.saves;
  }

  togglePause() {
    if (this.learning) this.send({ type: "learn", action: this.learning.paused ? "resume" : "pause" });
  }

  /** Goes to the "slice" or the "box" that is worth most. */
  next(kind = "slice") {
    const list = kind === "box" ? this.boxes : this.suggestions;
    const ahead = list.find((one) => one.index !== this.position[0] || one.box && one.box !== this.box?.box);
    this.wantsNext = null;
    if (!ahead) { // ask anew, as what was painted since changes the order
      if (this.send({ type: "suggest" })) this.wantsNext = kind;
      this.tell("Slices are compared");
      return;
    }
    list.splice(list.indexOf(ahead), 1);
    this.box = ahead.box ? ahead : null;
    this.activate(0);
    if (ahead.box) {
      const [top, left, bottom, right] = ahead.box;
      const { clientWidth: w, clientHeight: hgt } = this.panes[0].canvas, [, y, x] = this.voxel();
      this.view.centre[1] = (top + bottom - 1) / 2;
      this.view.centre[2] = (left + right - 1) / 2;
      this.zoomTo(Math.min(w / ((right - left) * x), hgt / ((bottom - top) * y)) / 2);
    }
    this.go(0, ahead.index);
    this.drawAll();
    this.tell(ahead.text ?? "");
    this.drawMarks();
  }

  // ---- keys ----------------------------------------------------------------------------------

  keys() {
    const step = (n) => () => this.go(this.active, this.position[this.active] + n);
    const index = () => this.sizes.indexOf(this.size);
    const zoom = (factor) => () => { this.zoomTo(this.view.zoom * factor); this.drawAll(); };
    const edit = this.state?.editable, learn = Boolean(this.learning);
    return [
      ["Slices and view", [
        [["ArrowUp", "."], "go to the next slice", step(1)],
        [["ArrowDown", ","], "go to the slice before", step(-1)],
        [["PageUp"], "go on by ten slices", step(10)],
        [["PageDown"], "go back by ten slices", step(-10)],
        [["1 wheel"], "go through the slices; with Ctrl, zoom", null],
        [["+", "="], "zoom in", zoom(1.25)],
        [["-"], "zoom out", zoom(0.8)],
        [["r"], "show the whole slice", () => this.fit()],
        [["right drag"], "change the contrast", null],
        [["x"], "reset the contrast", () => this.resetContrast()],
        [["o"], "show or hide the labels", () => this.toggle("labels")],
        [["t"], "show or hide the prediction", () => { this.toggle("prediction"); this.toggle("probability"); }],
        [["m"], "move: drag pans, a click moves the crosshair", () => this.choose("move")],
        [["Space + drag"], "pan with any tool", null],
        [["?"], "show or hide this help", () => this.toggleHelp()],
      ]],
      ["Painting", edit ? [
        [["b"], "brush", () => this.choose("brush")],
        [["e"], "eraser", () => this.choose("erase")],
        [["f"], "fill a closed region", () => this.choose("fill")],
        [["l"], "line through points; Enter or a double click ends it", () => this.choose("line")],
        [["Enter"], "end the line", () => this.endLine()],
        [["Escape"], "drop the line", () => { this.line = null; this.updateTools(); this.drawAll(); }],
        [["["], "smaller brush", () => this.setSize(index() - 1)],
        [["]"], "larger brush", () => this.setSize(index() + 1)],
        [["1 ... 9"], "choose a class; 0 is background", null],
        [["i"], "ignore: what is painted is never trained on", () => this.pick(EXCLUDED)],
        [["c"], "this slice is complete: the rest of it is background", () => this.change("complete")],
        [["u", "Ctrl+z"], "undo on this slice", () => this.change("undo")],
        [["Shift+U", "Ctrl+y"], "redo on this slice", () => this.change("redo")],
      ] : []],
      ["Learning", learn ? [
        [["k"], "copy the prediction of this slice, to correct it", () => this.change("paste")],
        [["Shift+K"], "copy it without specks and holes", () => this.change("paste", { clean: true })],
        [["n"], "go to the slice where annotation is worth most", () => this.next()],
        [["Shift+N"], "go to the box where annotation is worth most", () => this.next("box")],
        [["p"], "pause learning, or go on", () => this.togglePause()],
      ] : []],
    ].filter(([, rows]) => rows.length);
  }

  key(event) {
    const target = event.composedPath()[0];
    if (!this.state || target.matches?.("input[type=text], select, textarea")) return;
    if (event.key === "Escape" && this.help) return this.toggleHelp();
    const control = event.ctrlKey || event.metaKey;
    if (event.key === " ") { this.held.add(" "); this.cursor(); if (!target.matches?.("button")) event.preventDefault(); return undefined; }
    if (target.matches?.("input[type=range]") && event.key.startsWith("Arrow")) return undefined;
    if (event.key === "Enter" && target.matches?.("button") && !this.line) return undefined;
    if (/^[0-9]$/.test(event.key) && !control) {
      if (this.state.editable && +event.key < this.state.names.length) this.pick(+event.key);
      return undefined;
    }
    const letter = event.key.length === 1 ? event.key.toLowerCase() : event.key;
    const name = control ? (event.shiftKey && letter === "z" ? "Ctrl+y" : `Ctrl+${letter}`) :
      event.shiftKey && /^[a-z]$/.test(letter) ? `Shift+${letter.toUpperCase()}` : letter;
    for (const [, rows] of this.keys()) {
      for (const [names, , action] of rows) {
        if (action && names.includes(name)) { event.preventDefault(); event.stopPropagation(); return action(); }
      }
    }
    return undefined;
  }

  toggleHelp() {
    if (this.help) { this.help.remove(); this.help = null; return; }
    const close = h("button", { type: "button" }, "Close");
    const parts = this.keys().flatMap(([title, rows]) => [h("h2", {}, title), h("dl", {}, ...rows.flatMap(([names, text]) => [
      h("dt", {}, ...names.flatMap((name, i) => [i ? " or " : "", h("kbd", {}, KEY_NAMES[name] ?? (name.length === 1 ? name.toUpperCase() : name))])),
      h("dd", {}, text)]))]);
    this.help = h("div", { className: "help", role: "dialog", "aria-label": "Keyboard shortcuts" },
      h("div", {}, ...parts, h("p", { className: "hint" }, "On a touch screen one finger paints, two fingers pan and zoom."), close));
    const shut = () => { this.toggleHelp(); this.root.focus({ preventScroll: true }); };
    close.addEventListener("click", shut);
    this.help.addEventListener("click", (event) => { if (event.target === this.help) shut(); });
    this.root.append(this.help);
    close.focus();
  }
}

/** Returns labels as Python has them: -1 is not annotated, -2 excluded. */
function signed(value) { return value > 127 ? value - 256 : value; }

/** Returns the points of a stroke without those that hardly differ from the one before. */
function thinned(points) {
  const kept = [points[0]];
  points.forEach((point, i) => {
    const last = kept[kept.length - 1];
    if (i === points.length - 1 || Math.hypot(point[0] - last[0], point[1] - last[1]) >= 0.3) kept.push(point);
  });
  return kept.map(([row, column]) => [+row.toFixed(2), +column.toFixed(2)]);
}

/** Carries messages over a WebSocket: text, or 4 bytes of length, the message and its bytes. */
class Socket {
  constructor(address) {
    this.address = address;
    this.ever = false;
    this.open();
  }

  open() {
    const socket = new WebSocket(this.address);
    socket.binaryType = "arraybuffer";
    this.socket = socket;
    socket.onopen = () => { this.ever = true; this.connected?.(true); };
    socket.onmessage = ({ data }) => {
      if (typeof data === "string") return this.receive?.(JSON.parse(data), null);
      const length = new DataView(data).getUint32(0);
      const text = new TextDecoder().decode(new Uint8Array(data, 4, length));
      return this.receive?.(JSON.parse(text), new Uint8Array(data, 4 + length));
    };
    socket.onclose = (event) => {
      this.connected?.(false, event.code === 4000 ? event.reason : this.ever ?
        "The program has ended or cannot be reached. What was saved is safe; start it again and open the link that it prints." :
        "The program cannot be reached. Open the link that it printed last.");
      if (event.code !== 4000) setTimeout(() => this.open(), 2000);
    };
  }

  send(message) {
    if (this.socket.readyState !== WebSocket.OPEN) return false;
    this.socket.send(JSON.stringify(message));
    return true;
  }
}

/** Carries messages as those of a widget in a notebook. */
class Widget {
  constructor(model) {
    this.model = model;
    model.on("msg:custom", this.listener = (message, buffers) => {
      const data = buffers?.[0];
      const bytes = !data ? null : data instanceof ArrayBuffer ? new Uint8Array(data) :
        new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
      this.receive?.(message, bytes);
    });
  }

  send(message) { this.model.send(message); return true; }

  close() { this.model.off("msg:custom", this.listener); }
}

/** Is called by anywidget. */
function render({ model, el }) {
  const transport = new Widget(model);
  const viewer = new Viewer(el, transport);
  transport.connected(true);
  return () => { transport.close(); viewer.observer.disconnect(); };
}

export default { render };

if (document.documentElement.dataset.cryojaxSeg === "page") {
  const sheet = new CSSStyleSheet();
  sheet.replaceSync("html, body { margin: 0; height: 100%; background: #1b1e23; }");
  document.adoptedStyleSheets = [sheet];
  history.replaceState(null, "", "/"); // the link works once, so it need not be remembered
  const host = document.createElement("main");
  document.body.append(host);
  const scheme = location.protocol === "https:" ? "wss" : "ws";
  window.viewer = new Viewer(host, new Socket(`${scheme}://${location.host}/messages`), { page: true });
}
