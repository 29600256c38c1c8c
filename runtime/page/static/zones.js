// Zones and lines drawn over a picture, and their editor: with the mouse, by touch, or typed.
import { mayChange } from "./api.js";
import { h, say } from "./dom.js";

/** Zones are shares of the upright picture: what is ignored is hatched, what lies outside the region is not looked at. */
export function zones(pen, { region, ignore, zones: polygons = [], lines = [] }, width, height) {
  pen.save();
  pen.lineWidth = Math.max(1, width / 640);
  for (const [x, y, w, h] of ignore) {
    pen.beginPath();
    pen.rect(x * width, y * height, w * width, h * height);
    pen.fillStyle = "rgba(239, 68, 68, 0.22)";
    pen.fill();
    pen.strokeStyle = "#ef4444";
    pen.setLineDash([5, 4]);
    pen.stroke();
    pen.save();
    pen.clip();
    pen.setLineDash([]);
    pen.strokeStyle = "rgba(239, 68, 68, 0.45)";
    pen.beginPath();
    for (let at = -h * height; at < w * width; at += width / 40) {
      pen.moveTo(x * width + at, (y + h) * height);
      pen.lineTo(x * width + at + h * height, y * height);
    }
    pen.stroke();
    pen.restore();
  }
  if (region) {
    const [x, y, w, h] = region;
    pen.setLineDash([8, 5]);
    pen.strokeStyle = "#38bdf8";
    pen.strokeRect(x * width, y * height, w * width, h * height);
  }
  pen.setLineDash([]);
  pen.font = `600 ${Math.round(12 * Math.max(1, width / 640))}px system-ui, sans-serif`;
  for (const { name, polygon, kind } of polygons) {
    path(pen, polygon, width, height);
    if (polygon.length > 2) pen.closePath();
    pen.strokeStyle = pen.fillStyle = COLOURS[kind] || COLOURS.watch;
    pen.stroke();
    pen.globalAlpha = 0.14;
    pen.fill();
    pen.globalAlpha = 1;
    tag(pen, name, polygon[0], width, height);
  }
  for (const { name, points, tell } of lines) {
    pen.strokeStyle = pen.fillStyle = COLOURS.line;
    path(pen, points, width, height);
    pen.stroke();
    if (points.length === 2) arrow(pen, points, width, height);
    tag(pen, tell === "both" || !tell ? name : `${name} (${tell})`, points[0], width, height);
  }
  pen.restore();
}

const COLOURS = { watch: "#4ade80", ignore: "#ef4444", entering: "#38bdf8", line: "#facc15" };

function path(pen, points, width, height) {
  pen.beginPath();
  points.forEach(([x, y], i) => (i ? pen.lineTo(x * width, y * height) : pen.moveTo(x * width, y * height)));
}

/** To the side that counts as `in`: the right one, looking from the first point to the second. */
function arrow(pen, [[ax, ay], [bx, by]], width, height) {
  const dx = (bx - ax) * width, dy = (by - ay) * height, long = Math.hypot(dx, dy) || 1;
  const mx = (ax + bx) / 2 * width, my = (ay + by) / 2 * height, size = width / 40, nx = -dy / long, ny = dx / long;
  pen.beginPath();
  pen.moveTo(mx, my);
  pen.lineTo(mx + nx * size, my + ny * size);
  pen.lineTo(mx + nx * size * 0.55 - dx / long * size * 0.35, my + ny * size * 0.55 - dy / long * size * 0.35);
  pen.moveTo(mx + nx * size, my + ny * size);
  pen.lineTo(mx + nx * size * 0.55 + dx / long * size * 0.35, my + ny * size * 0.55 + dy / long * size * 0.35);
  pen.stroke();
}

function tag(pen, text, [x, y], width, height) {
  if (!text) return;
  const left = Math.min(x * width + 4, width - pen.measureText(text).width - 4);
  pen.fillText(text, Math.max(2, left), Math.max(12, y * height - 5));
}

// --- the editor -----------------------------------------------------------------------------------------------------

const MODES = [["zone", "a zone (corner by corner)"], ["line", "a line"], ["ignore", "ignore people here (box)"], ["region", "look only here (box)"]];
const ZONE_KINDS = [["watch", "says who enters"], ["ignore", "ignores people"], ["entering", "tells only of who came in here"]];
const TELLS = [["both", "both ways"], ["in", "in"], ["out", "out"]];
const clamp = (value) => Math.round(1e4 * Math.max(0, Math.min(1, value))) / 1e4;

/** `save(change)` gets what /api/settings takes for this camera; `discard()` shows the file's own again. */
export function zoneEditor(camera, save, discard) {
  const state = structuredClone({ region: camera.region, ignore: camera.ignore, zones: camera.zones, lines: camera.lines });
  let mode = "zone", image = null, shows = [0, 0, 1, 1], from = null, drawn = null, corners = [];
  const canvas = h("canvas", { width: 960, height: 540, tabindex: "0", role: "img",
    "aria-label": `Still of ${camera.name}; draw with the mouse, or type numbers below` });
  const rows = h("div", { class: "zones" }), note = h("p", { class: "note" });
  const finish = h("button", { hidden: true, onclick: close }, "Close the zone");

  function paint() {
    const pen = canvas.getContext("2d"), { width, height } = canvas;
    pen.fillStyle = "#0f172a";
    pen.fillRect(0, 0, width, height);
    if (image) pen.drawImage(image, shows[0] * width, shows[1] * height, shows[2] * width, shows[3] * height);
    const now = { ...state, ignore: [...state.ignore], zones: [...state.zones], lines: [...state.lines] };
    if (drawn && mode === "ignore") now.ignore.push(drawn);
    if (drawn && mode === "region") now.region = drawn;
    if (corners.length && mode === "zone") now.zones.push({ name: "", polygon: corners, kind: "watch" });
    if (corners.length && mode === "line") now.lines.push({ name: "", points: corners, tell: "both" });
    zones(pen, now, width, height);
    finish.hidden = corners.length < 3;
  }

  const part = (name, what, value, change) => h("input", { type: "number", min: 0, max: 1, step: "any", value: Number(value.toFixed(3)), "aria-label": `${name}: ${what}`,
    title: what, disabled: !mayChange(), onchange: (event) => { change(clamp(Number(event.target.value))); paint(); } });
  const line = (name, fields, remove, title = h("span", {}, name)) => h("div", { class: "zone", role: "group", "aria-label": name }, title, ...fields,
    mayChange() && h("button", { class: "quiet", "aria-label": `Remove ${name}`, onclick: () => { remove(); table(); } }, "✕"));
  const box = (name, values, remove) => line(name, ["x", "y", "width", "height"].map((what, i) => part(name, what, values[i], (v) => { values[i] = v; })), remove);
  const choice = (name, known, value, change) => h("select", { "aria-label": name, disabled: !mayChange(), value, onchange: (event) => { change(event.target.value); paint(); } },
    ...known.map(([key, text]) => h("option", { value: key, selected: key === value }, text)));
  const named = (what, i, area) => h("input", { class: "name", value: area.name, pattern: "[A-Za-z0-9_-]{1,64}", "aria-label": `Name of ${what} ${i + 1}`, disabled: !mayChange(),
    onchange: (event) => { area.name = event.target.value.trim(); paint(); } });
  const points = (name, all) => h("details", {}, h("summary", {}, `${all.length} points`), ...all.map((point, i) => h("span", { class: "point" },
    part(name, `x of point ${i + 1}`, point[0], (v) => { point[0] = v; }), part(name, `y of point ${i + 1}`, point[1], (v) => { point[1] = v; }))));

  function table() {
    rows.replaceChildren(
      ...state.zones.map((zone, i) => line(`Zone ${zone.name}`, [choice(`Kind of zone ${zone.name}`, ZONE_KINDS, zone.kind, (v) => { zone.kind = v; }), points(`Zone ${zone.name}`, zone.polygon)],
        () => state.zones.splice(i, 1), named("zone", i, zone))),
      ...state.lines.map((one, i) => line(`Line ${one.name}`, [choice(`Line ${one.name} tells`, TELLS, one.tell, (v) => { one.tell = v; }), points(`Line ${one.name}`, one.points)],
        () => state.lines.splice(i, 1), named("line", i, one))),
      ...(state.region ? [box("Look only here", state.region, () => { state.region = null; })] : []),
      ...state.ignore.map((zone, i) => box(`Ignore ${i + 1}`, zone, () => state.ignore.splice(i, 1))));
    if (!rows.children.length) rows.append(h("p", { class: "empty" }, "Nothing is drawn: the whole picture counts."));
    paint();
  }

  const free = (word) => {
    const taken = [...state.zones, ...state.lines].map((area) => area.name);
    let i = 1;
    while (taken.includes(`${word}-${i}`)) i++;
    return `${word}-${i}`;
  };
  function close() {
    if (mode === "zone" && corners.length > 2) state.zones.push({ name: free("zone"), polygon: corners, kind: "watch" });
    corners = [];
    table();
  }
  const at = (event) => {
    const place = canvas.getBoundingClientRect();
    return [clamp((event.clientX - place.left) / place.width), clamp((event.clientY - place.top) / place.height)];
  };
  if (mayChange()) {
    canvas.addEventListener("pointerdown", (event) => { from = at(event); canvas.setPointerCapture(event.pointerId); event.preventDefault(); });
    canvas.addEventListener("pointermove", (event) => {
      if (!from || mode === "zone") return;
      const to = at(event);
      if (mode === "line") corners = [from, to];
      else drawn = [Math.min(from[0], to[0]), Math.min(from[1], to[1]), clamp(Math.abs(to[0] - from[0])), clamp(Math.abs(to[1] - from[1]))];
      paint();
    });
    canvas.addEventListener("pointerup", (event) => {
      const to = at(event), far = from && Math.hypot(to[0] - from[0], to[1] - from[1]) > 0.02;
      if (mode === "zone" && from) {
        if (corners.length > 2 && Math.hypot(to[0] - corners[0][0], to[1] - corners[0][1]) < 0.03) close();
        else corners.push(to);
      } else if (mode === "line") {
        if (far) state.lines.push({ name: free("line"), points: [from, to], tell: "both" });
        corners = [];
      } else if (drawn && drawn[2] > 0.01 && drawn[3] > 0.01) {
        if (mode === "ignore") state.ignore.push(drawn);
        else state.region = drawn;
      }
      from = drawn = null;
      table();
    });
    canvas.addEventListener("keydown", (event) => {
      if (event.key === "Enter") close();
      else if (event.key === "Escape") { corners = []; paint(); }
    });
  }

  async function still() {
    note.textContent = "Taking a picture …";
    try {
      const response = await fetch(`/api/cameras/${encodeURIComponent(camera.name)}/still.jpg`);
      if (!response.ok) throw new Error((await response.json()).error);
      shows = response.headers.get("X-Shows").split(",").map(Number);
      image = await createImageBitmap(await response.blob());
      const wide = Math.min(1280, Math.round(image.width / shows[2]));
      Object.assign(canvas, { width: wide, height: Math.round(wide * (image.height / shows[3]) / (image.width / shows[2])) });
      note.textContent = camera.region ? "What lies outside the region is not decoded, and dark here." : "";
    } catch (error) {
      note.textContent = error.message;
    }
    paint();
  }
  table();
  still();
  const limit = h("input", { type: "number", min: 0, step: 0.5, value: camera.max_fps, id: "max-fps", disabled: !mayChange() });
  const radio = ([value, text]) => h("label", { class: "check" }, h("input", { type: "radio", name: "mode", value, checked: value === mode,
    onchange: () => { mode = value; corners = []; paint(); } }), text);
  const send = () => {
    if (corners.length) return say("A zone is not closed yet: press its first corner again, or Close the zone.", "warn");
    return save({ ...state, max_fps: Number(limit.value) });
  };
  return h("div", { class: "editor" }, h("p", { class: "words" }, camera.url, camera.detail_url ? `; people are described from ${camera.detail_url}` : ""), h("div", { class: "screen" }, canvas), note,
    mayChange() && h("div", { class: "row", role: "radiogroup", "aria-label": "Drawing means" }, h("span", {}, "Drawing means:"), ...MODES.map(radio), finish,
      h("button", { onclick: still }, "New picture")), rows,
    h("label", { class: "inline", for: "max-fps" }, "Analyse at most ", limit, " frames a second (0: no limit)"),
    mayChange() && h("div", { class: "row" }, h("button", { class: "primary", id: "save-zones", onclick: send }, "Save zones"), h("button", { onclick: discard }, "Discard")));
}
