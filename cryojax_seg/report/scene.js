"use strict";

// Slices and projections with outlines and numbers, and surfaces that can be turned.
const AXES = ["z", "y", "x"];
const VIEW = { z: "xy slice", y: "xz slice", x: "yz slice" };
const shown = {};
const byId = id => document.getElementById(id);
function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children);
  return element;
}

function stack(picture, title) {
  const box = make("div", { class: "stack smooth" }, make("img", { src: picture.image, alt: title }));
  box.append(make("img", { src: picture.overlay, alt: "", class: "outline" }));
  for (const [text, hue, x, y] of picture.marks) {
    if (text) box.append(make("span", { class: "mark", style: `left:${x}%;top:${y}%;color:${colour(hue)}` }, text));
  }
  return box;
}
const colour = hue => SCENE.colours[(hue - 1) % SCENE.colours.length];

function show(axis, place) {
  const all = SCENE.slices[axis];
  shown[axis] = Math.min(Math.max(0, place | 0), all.length - 1);
  const picture = all[shown[axis]], panel = byId(`panel-${axis}`);
  panel.querySelector("figcaption").textContent = `${VIEW[axis]}, ${axis} = ${picture.at}`;
  panel.querySelector(".stack").replaceWith(stack(picture, `${axis} = ${picture.at}`));
  panel.querySelector("input").value = shown[axis];
}

function nearest(axis, index) {
  const away = SCENE.slices[axis].map(p => Math.abs(p.at - index));
  return away.indexOf(Math.min(...away));
}

function slices() {
  for (const axis of AXES) {
    const last = SCENE.slices[axis].length - 1;
    const slider = make("input", { type: "range", min: 0, max: last, "aria-label": `${axis} of the ${VIEW[axis]}` });
    slider.oninput = () => show(axis, slider.value);
    const panel = make("figure", { class: "panel", id: `panel-${axis}` }, make("figcaption"), make("div", { class: "stack" }), slider);
    byId("slices").append(panel);
    show(axis, Math.floor(last / 2));
  }
  for (const axis of AXES) {
    const title = `projection along ${axis}`;
    const picture = SCENE.slices[`${axis}p`][0];
    byId("projections").append(make("figure", { class: "panel" }, make("figcaption", {}, title), stack(picture, title)));
  }
  for (const [id, name] of [["outlines", "plain"], ["numbers", "bare"]]) {
    byId(id).onchange = event => document.body.classList.toggle(name, !event.target.checked);
  }
  for (const link of document.querySelectorAll("a[data-at]")) {
    link.onclick = () => {
      const at = link.dataset.at.split(" ").map(Number);
      AXES.forEach((axis, i) => show(axis, nearest(axis, at[i])));
      if (surface) surface.pick(link.dataset.name);
    };
  }
}

const bytes = text => Uint8Array.from(atob(text), c => c.charCodeAt(0)).buffer;
const VERTEX = `#version 300 es
in vec3 place; uniform mat3 turn; uniform vec3 middle; uniform vec2 size; out vec3 at;
void main() {
  at = turn * (place - middle);
  gl_Position = vec4(at.xy * size, at.z * 0.3, 1.0);
}`;
const FRAGMENT = `#version 300 es
precision highp float;
in vec3 at; uniform vec3 hue; out vec4 shade;
void main() {
  vec3 normal = normalize(cross(dFdx(at), dFdy(at)));
  float light = 0.3 + 0.7 * abs(dot(normal, normalize(vec3(0.3, 0.4, 0.86))));
  shade = vec4(hue * light, 1.0);
}`;

function surfaces() {
  const data = SCENE.surfaces, canvas = byId("surface");
  if (!data || !canvas) return null;
  const gl = canvas.getContext("webgl2", { antialias: true, preserveDrawingBuffer: true });
  if (!gl) {
    canvas.replaceWith(make("p", {}, "This browser does not draw in 3D (no WebGL 2)."));
    return null;
  }
  const program = gl.createProgram();
  for (const [kind, text] of [[gl.VERTEX_SHADER, VERTEX], [gl.FRAGMENT_SHADER, FRAGMENT]]) {
    const shader = gl.createShader(kind);
    gl.shaderSource(shader, text);
    gl.compileShader(shader);
    gl.attachShader(program, shader);
  }
  gl.linkProgram(program);
  gl.useProgram(program);
  gl.bindBuffer(gl.ARRAY_BUFFER, gl.createBuffer());
  gl.bufferData(gl.ARRAY_BUFFER, bytes(data.vertices), gl.STATIC_DRAW);
  gl.bindBuffer(gl.ELEMENT_ARRAY_BUFFER, gl.createBuffer());
  gl.bufferData(gl.ELEMENT_ARRAY_BUFFER, bytes(data.triangles), gl.STATIC_DRAW);
  const place = gl.getAttribLocation(program, "place");
  gl.enableVertexAttribArray(place);
  gl.vertexAttribPointer(place, 3, gl.UNSIGNED_SHORT, true, 0, 0);
  gl.enable(gl.DEPTH_TEST);
  const uniform = name => gl.getUniformLocation(program, name);
  const middle = data.shape.map(n => n / 2);
  gl.uniform3fv(uniform("middle"), middle);
  const reach = Math.hypot(...middle);
  const hidden = new Set();
  let across = -0.6, up = -0.9, zoom = 0.95, picked = null;

  function draw() {
    const width = canvas.clientWidth, height = canvas.clientHeight, dense = window.devicePixelRatio || 1;
    canvas.width = width * dense;
    canvas.height = height * dense;
    gl.viewport(0, 0, canvas.width, canvas.height);
    gl.clearColor(0, 0, 0, 0);
    gl.clear(gl.COLOR_BUFFER_BIT | gl.DEPTH_BUFFER_BIT);
    const [c, s, d, t] = [Math.cos(across), Math.sin(across), Math.cos(up), Math.sin(up)];
    // Turned about z, then about the horizontal axis of the picture; columns of the matrix.
    gl.uniformMatrix3fv(uniform("turn"), false, [c, s * d, s * t, -s, c * d, c * t, 0, -t, d]);
    const least = Math.min(width, height);
    gl.uniform2f(uniform("size"), zoom * least / width / reach, zoom * least / height / reach);
    for (const part of data.parts) {
      if (hidden.has(part.hue)) continue;
      const rgb = [1, 3, 5].map(i => parseInt(colour(part.hue).slice(i, i + 2), 16) / 255);
      const faint = picked && picked !== part.name ? 0.35 : 1;
      gl.uniform3fv(uniform("hue"), rgb.map(v => v * faint + 0.5 * (1 - faint)));
      gl.drawElements(gl.TRIANGLES, part.count, gl.UNSIGNED_INT, 4 * part.start);
    }
  }
  const fingers = new Map();
  canvas.onpointerdown = event => { canvas.setPointerCapture(event.pointerId); fingers.set(event.pointerId, event); };
  canvas.onpointerup = canvas.onpointercancel = event => fingers.delete(event.pointerId);
  canvas.onpointermove = event => {
    const before = fingers.get(event.pointerId);
    if (!before) return;
    if (fingers.size === 1) {
      across += (event.clientX - before.clientX) / 120;
      up += (event.clientY - before.clientY) / 120;
    } else {
      const other = [...fingers.values()].find(f => f.pointerId !== event.pointerId);
      const apart = e => Math.hypot(e.clientX - other.clientX, e.clientY - other.clientY);
      zoom *= apart(event) / Math.max(apart(before), 1);
    }
    fingers.set(event.pointerId, event);
    draw();
  };
  canvas.addEventListener("wheel", event => {
    event.preventDefault();
    zoom = Math.min(20, Math.max(0.3, zoom * Math.exp(-event.deltaY / 500)));
    draw();
  }, { passive: false });
  canvas.onkeydown = event => {
    const turns = { ArrowLeft: [-0.1, 0], ArrowRight: [0.1, 0], ArrowUp: [0, -0.1], ArrowDown: [0, 0.1] }[event.key];
    if (!turns) return;
    event.preventDefault();
    across += turns[0];
    up += turns[1];
    draw();
  };
  for (const box of document.querySelectorAll("input[data-hue]")) {
    const change = () => { hidden[box.checked ? "delete" : "add"](Number(box.dataset.hue)); };
    box.onchange = () => { change(); draw(); };
    change();
  }
  new ResizeObserver(draw).observe(canvas);
  byId("all").onclick = () => { picked = null; zoom = 0.95; draw(); };
  return { pick(name) { picked = data.parts.some(p => p.name === name) ? name : null; draw(); } };
}

const surface = surfaces();
slices();
