// Live: a grid of cameras; the browser draws boxes, names and zones over each picture.
import { get, mayChange, onEvent } from "./api.js";
import { badge, h, icon, time, typing } from "./dom.js";
import { rowCard } from "./sightings.js";
import { zones } from "./zones.js";

const COLOURS = { recognised: "#22c55e", possible: "#f59e0b", unknown: "#e2e8f0" };
const shown = { boxes: localStorage.getItem("boxes") !== "no", zones: localStorage.getItem("zones") !== "no" };

export function show(main, [large]) {
  const grid = h("div", { class: "grid" }), latest = h("div", { class: "latest" });
  const tiles = new Map(); // camera -> Tile
  const toggle = (key, label, letter) => h("label", { class: "check", title: `Key ${letter}` },
    h("input", { type: "checkbox", checked: shown[key], id: `show-${key}`, onchange: (event) => {
      shown[key] = event.target.checked;
      localStorage.setItem(key, shown[key] ? "yes" : "no");
      for (const tile of tiles.values()) tile.draw();
    } }), label);
  const summary = h("p", { class: "summary" });
  main.append(
    h("div", { class: "head" }, h("h1", {}, "Live"), summary,
      h("div", { class: "row" }, large && h("a", { class: "button", href: "#/live" }, "All cameras"),
        toggle("boxes", "Boxes and names", "b"), toggle("zones", "Zones", "z"))),
    h("div", { class: `live ${large ? "one" : ""}` }, grid,
      h("section", { class: "side", "aria-label": "Latest sightings" }, h("h2", {}, "Latest"), latest)));

  let socket = null, closed = false, retry = 0;
  const visible = new Set();
  const watcher = new IntersectionObserver((entries) => {
    for (const entry of entries) visible[entry.isIntersecting ? "add" : "delete"](entry.target.dataset.camera);
    ask();
  }, { rootMargin: "100px" });
  const ask = () => {
    if (socket?.readyState !== WebSocket.OPEN) return;
    const widths = [...visible].map((name) => tiles.get(name)?.canvas.clientWidth || 0);
    const width = Math.ceil(Math.max(0, ...widths) * devicePixelRatio);
    socket.send(JSON.stringify({ cameras: document.hidden ? [] : [...visible], width })); // nobody looks: nothing is encoded
  };
  const connect = () => {
    socket = new WebSocket(`${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/api/live`);
    socket.binaryType = "arraybuffer";
    socket.onopen = ask;
    socket.onmessage = async ({ data }) => {
      const length = new DataView(data).getUint32(0, true);
      const head = JSON.parse(new TextDecoder().decode(new Uint8Array(data, 4, length)));
      try {
        await tiles.get(head.camera)?.picture(head, new Blob([new Uint8Array(data, 4 + length)], { type: "image/jpeg" }));
      } finally {
        if (socket.readyState === WebSocket.OPEN) socket.send("ok");
      }
    };
    socket.onclose = ({ code }) => {
      if (closed) return;
      if (code === 4401) window.dispatchEvent(new Event("logged-out"));
      else retry = setTimeout(connect, 1000);
    };
  };

  const look = async () => {
    let state;
    try {
      state = await get("/api/state");
    } catch {
      return;
    }
    if (closed) return;
    const names = state.cameras.map((camera) => camera.name).filter((name) => !large || name === large);
    for (const [name, tile] of tiles) if (!names.includes(name)) { tile.root.remove(); tiles.delete(name); visible.delete(name); }
    state.cameras.forEach((camera, index) => {
      if (!names.includes(camera.name)) return;
      if (!tiles.has(camera.name)) {
        const tile = new Tile(camera.name, index + 1, large);
        tiles.set(camera.name, tile);
        grid.append(tile.root);
        watcher.observe(tile.root);
      }
      tiles.get(camera.name).state(camera);
    });
    const online = state.cameras.filter((camera) => camera.state === "online").length;
    const engine = state.engine.state === "ready" ? `engine ready, ${Math.round(state.latency.p99_ms || 0)} ms to an event (p99)`
      : `engine ${state.engine.state}`;
    const disk = state.events.failing ? `the disk refuses events: ${state.events.failing}`
      : state.disk.free_mb === null ? "" : `${(state.disk.free_mb / 1000).toFixed(1)} GB free`;
    summary.textContent = [`${online} of ${state.cameras.length} cameras online`, engine, disk, `${state.people} enrolled`].filter(Boolean).join(", ");
  };

  const keys = (event) => {
    if (typing(event)) return;
    if (event.key === "b" || event.key === "z") document.getElementById(event.key === "b" ? "show-boxes" : "show-zones").click();
    else if (event.key === "Escape" && large) location.hash = "#/live";
    else if (/^[1-9]$/.test(event.key) && !large) [...tiles.values()][Number(event.key) - 1]?.enlarge();
  };
  const refresh = (rows) => latest.replaceChildren(...(rows.length ? rows.slice(0, 8).map(rowCard)
    : [h("p", { class: "empty" }, "Nobody was named yet.")]));
  let rows = [];
  get("/api/sightings?count=8").then((answer) => { rows = answer.rows; refresh(rows); }).catch(() => {});
  const stopEvents = onEvent(({ event, row }) => {
    if (event.type === "camera") look();
    if (!row) return;
    rows = [row, ...rows.filter((known) => known.id !== row.id)].slice(0, 8);
    refresh(rows);
  });
  document.addEventListener("visibilitychange", ask);
  window.addEventListener("resize", ask);
  window.addEventListener("keydown", keys);
  connect();
  look();
  const every = setInterval(() => document.hidden || look(), 5000);
  return () => {
    closed = true;
    clearInterval(every);
    clearTimeout(retry);
    stopEvents();
    watcher.disconnect();
    socket.close();
    document.removeEventListener("visibilitychange", ask);
    window.removeEventListener("resize", ask);
    window.removeEventListener("keydown", keys);
  };
}

class Tile {
  constructor(camera, number, large) {
    this.camera = camera;
    this.head = this.image = null;
    this.canvas = h("canvas", { role: "img", "aria-label": `${camera}: no picture yet`, width: 640, height: 360 });
    this.badge = h("span");
    this.words = h("p", { class: "words" }, "Waiting for a picture …");
    this.when = h("span", { class: "when" });
    this.root = h("article", { class: "tile", "data-camera": camera, "aria-label": `Camera ${camera}` },
      h("header", {}, h("h2", {}, camera), this.badge, this.when),
      h("div", { class: "screen" }, this.canvas,
        h("div", { class: "over" },
          mayChange() && h("a", { class: "round", href: `#/people?camera=${encodeURIComponent(camera)}`, title: "Enrol somebody from this picture",
            "aria-label": `Enrol somebody from ${camera}` }, icon("add")),
          !large && h("button", { class: "round", title: `Enlarge (${number})`, "aria-label": `Enlarge ${camera}`,
            onclick: () => this.enlarge() }, icon("large")))),
      this.words);
  }

  enlarge() {
    location.hash = `#/live/${encodeURIComponent(this.camera)}`;
  }

  state(camera) {
    const good = camera.state === "online";
    this.badge.replaceChildren(badge(good ? "online" : `${camera.state}${camera.cause ? `: ${camera.cause}` : ""}`,
      good ? "good" : camera.state === "starting" ? "" : "bad"));
    this.badge.title = camera.reason || "";
    if (!good && camera.state !== "starting") this.words.textContent = camera.reason || `The camera has ${camera.state}.`;
  }

  async picture(head, blob) {
    const image = await createImageBitmap(blob);
    this.image?.close();
    this.image = image;
    this.head = head;
    this.draw();
    const named = head.people.filter((person) => person.person);
    const text = named.map((p) => `${p.state === "possible" ? "possibly " : ""}${p.person}`).join(", ");
    const count = head.people.length;
    this.words.textContent = `${count === 0 ? "Nobody in sight" : count === 1 ? "One person" : `${count} people`}${text ? `: ${text}` : ""}`;
    this.canvas.setAttribute("aria-label", `${this.camera}: ${this.words.textContent}`);
    this.when.textContent = time(head.time);
    this.canvas.dataset.frame = head.frame;
  }

  draw() {
    const { image, head, canvas } = this;
    if (!image) return;
    const [x0, y0, w0, h0] = head.shows;
    const width = Math.round(image.width / w0), height = Math.round(image.height / h0); // of the whole upright picture
    if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
    const pen = canvas.getContext("2d");
    pen.fillStyle = "#0f172a";
    pen.fillRect(0, 0, width, height);
    pen.drawImage(image, x0 * width, y0 * height, image.width, image.height);
    if (shown.zones) zones(pen, head.zones, width, height);
    if (!shown.boxes) return;
    const unit = Math.max(1, width / 640);
    for (const person of [...head.people].sort((a, b) => rank(a) - rank(b))) box(pen, person, width, height, unit);
  }
}

/** How many times likelier what was seen is if it is this person than if it is a stranger. */
function times(llr) {
  const ratio = Math.exp(llr);
  return ratio > 1e6 ? "1M+" : ratio > 1e3 ? `${Math.round(ratio / 1e3)}k` : ratio.toPrecision(2).replace(/\.0$/, "");
}

const rank = (person) => ["unknown", "possible", "recognised"].indexOf(person.state);

function box(pen, person, width, height, unit) {
  const [x, y, w, h] = person.box, colour = COLOURS[person.state];
  pen.lineWidth = (person.state === "unknown" ? 1.25 : 2.5) * unit;
  pen.strokeStyle = colour;
  pen.setLineDash(person.state === "possible" ? [6 * unit, 4 * unit] : []);
  pen.strokeRect(x * width, y * height, w * width, h * height);
  pen.setLineDash([]);
  if (!person.person) return;
  const text = `${person.person}${person.state === "possible" ? "?" : ""}  ×${times(person.log_likelihood_ratio)}`;
  pen.font = `600 ${13 * unit}px system-ui, sans-serif`;
  const wide = pen.measureText(text).width + 10 * unit, tall = 19 * unit;
  const left = Math.max(0, Math.min(x * width, width - wide)), top = Math.max(0, y * height - tall);
  pen.fillStyle = colour;
  pen.fillRect(left, top, wide, tall);
  pen.fillStyle = "#0b1220";
  pen.fillText(text, left + 5 * unit, top + 14 * unit);
}
