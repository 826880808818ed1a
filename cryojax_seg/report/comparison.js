"use strict";

// What is shown is kept in the address, so that a view can be sent to a colleague.
const state = { axis: "z", slice: 0, sort: "dice", down: 1, opacity: 0.6 };
const hue = name => DATA.hues[name];
const ALL = [
  ["name", "method"], ["dice", "Dice"], ["dice_by_group", "by group"], ["iou", "IoU"],
  ["precision", "precision"], ["recall", "recall"], ["surface_dice", "surface Dice"], ["ece", "ECE"],
  ["brier", "Brier"], ["training_seconds", "training, s"], ["parameters", "parameters"],
  ["voxels_per_second", "voxels/s"], ["seconds", "time, s"],
];
const known = value => value !== null && value !== undefined;
const COLUMNS = ALL.filter(([key]) => DATA.methods.some(method => known(method[key])));
const FALLING = new Set(["ece", "brier", "training_seconds", "parameters", "seconds"]); // less is better

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
  if (key === "training_seconds" || key === "seconds") return value.toFixed(1);
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
