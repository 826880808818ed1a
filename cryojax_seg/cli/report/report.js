"use strict";

// What is shown is kept in the address, so that a view can be sent to a colleague.
const state = { axis: "z", slice: 0, sort: "dice", down: 1, opacity: 0.6 };
const HUES = ["#2a78d6", "#1baf7a", "#eb6834", "#8a63d2", "#d99000", "#d9486b", "#1d9aa8", "#8b8f97", "#a0522d", "#5a8f29", "#c255b5"];
const hue = name => HUES[DATA.methods.findIndex(m => m.name === name) % HUES.length];
const COLUMNS = [
  ["name", "method"], ["dice", "Dice"], ["dice_by_group", "by group"], ["iou", "IoU"],
  ["precision", "precision"], ["recall", "recall"], ["surface_dice", "surface Dice"], ["ece", "ECE"],
  ["brier", "Brier"], ["training_seconds", "training, s"], ["parameters", "parameters"],
  ["voxels_per_second", "voxels/s"],
];
const FALLING = new Set(["ece", "brier", "training_seconds", "parameters"]); // less is better

const byId = id => document.getElementById(id);
function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children);
  return element;
}
const swatch = colour => make("span", { class: "swatch", style: `background:${colour}` });

function text(key, value) {
  if (value === null || value === undefined) return "–";
  if (key === "name") return value;
  if (Array.isArray(value)) return value.map(v => text("dice", v)).join(" ");
  if (key === "parameters") return value.toLocaleString("en");
  if (key === "training_seconds") return value.toFixed(1);
  if (key === "voxels_per_second") return value.toExponential(1);
  return value.toFixed(3);
}

function scores() {
  const table = byId("scores");
  const sign = state.down ? -1 : 1;
  const key = state.sort === "dice_by_group" ? "dice" : state.sort;
  const order = (a, b) => {
    if (a[key] === null || b[key] === null) return (a[key] === null) - (b[key] === null);
    return sign * (typeof a[key] === "string" ? a[key].localeCompare(b[key]) : a[key] - b[key]);
  };
  const head = make("tr");
  for (const [name, title] of COLUMNS) {
    const button = make("button", { type: "button" }, title);
    button.onclick = () => {
      state.down = state.sort === name ? 1 - state.down : Number(name !== "name" && !FALLING.has(name));
      state.sort = name;
      scores();
      byId("scores").querySelector("[aria-sort] button").focus();
      remember();
    };
    const sorted = name === state.sort ? { "aria-sort": state.down ? "descending" : "ascending" } : {};
    head.append(make("th", { scope: "col", ...sorted }, button));
  }
  const best = {};
  for (const [name] of COLUMNS) {
    const values = DATA.methods.map(m => m[name]).filter(v => typeof v === "number");
    if (values.length) best[name] = FALLING.has(name) ? Math.min(...values) : Math.max(...values);
  }
  const rows = [...DATA.methods].sort(order).map(method => make("tr", {}, ...COLUMNS.map(([name], i) => {
    const cell = make("td", DATA.methods.length > 1 && method[name] === best[name] ? { class: "best" } : {});
    cell.append(...(i ? [] : [swatch(hue(method.name))]), text(name, method[name]));
    return cell;
  })));
  table.replaceChildren(make("thead", {}, head), make("tbody", {}, ...rows));
}

function panels() {
  const all = DATA.pictures[state.axis];
  state.slice = Math.min(Math.max(0, state.slice | 0), all.length - 1);
  const picture = all[state.slice];
  byId("slider").max = all.length - 1;
  byId("slider").value = state.slice;
  const known = state.axis === "z" ? (picture.annotated ? ", annotated" : "") : "";
  byId("where").textContent = `${state.axis} = ${picture.index}${known}`;
  for (const button of byId("axes").children) button.setAttribute("aria-pressed", button.value === state.axis);
  const shown = [["tomogram", null], ...Object.entries(picture.overlays)];
  byId("panels").replaceChildren(...shown.map(([name, overlay]) => {
    const stack = make("div", { class: "stack" }, make("img", { src: picture.image, alt: `${name}, ${state.axis} = ${picture.index}` }));
    if (overlay) stack.append(make("img", { src: overlay, alt: "", style: `opacity:${state.opacity}` }));
    const title = name === "truth" ? "annotation" : name;
    return make("figure", { class: "panel" }, make("figcaption", {}, title), stack);
  }));
}

function legend() {
  const names = [[1, "found"], [2, "missed"], [3, "false"]];
  DATA.classes.forEach((name, i) => names.push([4 + i % (DATA.colours.length - 4), name]));
  byId("legend").replaceChildren(...names.map(([i, name]) => make("li", {}, swatch(DATA.colours[i]), name)));
}

function svg(tag, attributes, ...children) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children);
  return element;
}

// Curves of [x, y] or [x, y, low, high] in the unit square.
function chart(id, curves, across, up, diagonal) {
  const [left, top, side, wide] = [46, 10, 300, 420];
  const x = v => left + v * wide, y = v => top + (1 - v) * side;
  const root = svg("svg", { viewBox: `0 0 ${left + wide + 14} ${top + side + 44}`, role: "img", "aria-label": `${up} against ${across}` });
  for (const v of [0, 0.25, 0.5, 0.75, 1]) {
    root.append(svg("line", { class: "grid", x1: x(0), x2: x(1), y1: y(v), y2: y(v) }));
    root.append(svg("text", { x: left - 8, y: y(v) + 4, "text-anchor": "end" }, String(v)));
    root.append(svg("text", { x: x(v), y: top + side + 18, "text-anchor": "middle" }, String(v)));
  }
  root.append(svg("text", { x: x(0.5), y: top + side + 38, "text-anchor": "middle" }, across));
  root.append(svg("text", { x: 12, y: y(0.5), "text-anchor": "middle", transform: `rotate(-90 12 ${y(0.5)})` }, up));
  if (diagonal) root.append(svg("line", { class: "ideal", x1: x(0), y1: y(0), x2: x(1), y2: y(1) }));
  for (const [name, points] of Object.entries(curves)) {
    const colour = hue(name);
    root.append(svg("polyline", { fill: "none", stroke: colour, "stroke-width": 2, points: points.map(p => `${x(p[0])},${y(p[1])}`).join(" ") }));
    for (const [a, b, low, high] of points) {
      if (low !== undefined) root.append(svg("line", { stroke: colour, x1: x(a), x2: x(a), y1: y(low), y2: y(high) }));
      root.append(svg("circle", { cx: x(a), cy: y(b), r: 3.5, fill: colour }, svg("title", {}, `${name}: ${b.toFixed(3)} at ${a.toFixed(2)}`)));
    }
  }
  const names = Object.keys(curves).map(name => make("li", {}, swatch(hue(name)), name));
  byId(id).replaceChildren(root, make("ul", { class: "legend" }, ...names));
}

function remember() {
  history.replaceState(null, "", `#${new URLSearchParams(state)}`);
}

function recall() {
  const stored = new URLSearchParams(location.hash.slice(1));
  if (stored.get("axis") in DATA.pictures) state.axis = stored.get("axis");
  if (COLUMNS.some(([name]) => name === stored.get("sort"))) state.sort = stored.get("sort");
  for (const key of ["slice", "down", "opacity"]) {
    const value = Number.parseFloat(stored.get(key));
    if (Number.isFinite(value)) state[key] = value;
  }
  byId("opacity").value = state.opacity;
  scores();
  panels();
}

document.title = DATA.title;
byId("title").textContent = DATA.title;
byId("summary").textContent =
  `${DATA.shape.join(" × ")} voxels (z, y, x); classes: ${DATA.classes.join(", ")}; groups of slices: ` +
  DATA.groups.map(g => g.join(" ")).join(" | ");
byId("options").textContent = JSON.stringify(DATA.options, null, 2);
byId("recall-note").textContent = DATA.recall_note;
for (const axis of Object.keys(DATA.pictures)) {
  const button = make("button", { type: "button", value: axis }, axis);
  button.onclick = () => {
    const here = state.slice / Math.max(1, DATA.pictures[state.axis].length - 1);
    state.axis = axis;
    state.slice = Math.round(here * (DATA.pictures[axis].length - 1));
    panels();
    remember();
  };
  byId("axes").append(button);
}
byId("slider").oninput = event => { state.slice = Number(event.target.value); panels(); remember(); };
byId("opacity").oninput = event => { state.opacity = Number(event.target.value); panels(); remember(); };
window.onhashchange = recall;
state.slice = Math.max(0, DATA.pictures.z.findIndex(p => p.annotated));
legend();
recall();
if (Object.keys(DATA.recall).length) chart("recall", DATA.recall, "visibility", "recall", false);
chart("reliability", DATA.reliability, "confidence", "accuracy", true);
