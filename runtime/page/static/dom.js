// Small helpers: elements, words for times and numbers, messages. Nothing here sets HTML from text.

/** An element: `h("p", {class: "x", onclick: f}, "text", child)`. `null` and `false` children are left out. */
export function h(tag, attributes = {}, ...children) {
  const svg = SVG_TAGS.has(tag);
  const element = svg ? document.createElementNS("http://www.w3.org/2000/svg", tag) : document.createElement(tag);
  for (const [key, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else if (key === "style") for (const [name, part] of Object.entries(value)) name.startsWith("--") ? element.style.setProperty(name, part) : (element.style[name] = part); // CSSOM: inline style attributes are forbidden
    else if (key === "value" && !svg) element.value = value;
    else if (key === "checked" || key === "disabled" || key === "selected") element[key] = true;
    else element.setAttribute(key, value === true ? "" : value);
  }
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}
const SVG_TAGS = new Set(["svg", "path", "line", "polyline", "rect", "circle", "g", "text"]);

export function icon(name) {
  const shape = h("svg", { viewBox: "0 0 24 24", class: "icon", "aria-hidden": "true", focusable: "false" });
  for (const d of ICONS[name].split("|")) shape.append(h("path", { d }));
  return shape;
}
const ICONS = {
  live: "M3 7a2 2 0 0 1 2-2h9a2 2 0 0 1 2 2v10a2 2 0 0 1-2 2H5a2 2 0 0 1-2-2z|M16 10l5-3v10l-5-3",
  sightings: "M4 6h16|M4 12h16|M4 18h10",
  review: "M20 6 9 17l-5-5",
  search: "M11 4a7 7 0 1 0 0 14 7 7 0 0 0 0-14z|M16 16l5 5",
  people: "M12 12a4 4 0 1 0 0-8 4 4 0 0 0 0 8z|M4 21a8 7 0 0 1 16 0",
  settings: "M4 7h10|M18 7h2|M16 5v4|M4 17h2|M10 17h10|M8 15v4",
  health: "M3 12h4l3-8 4 16 3-8h4",
  theme: "M12 3a9 9 0 1 0 0 18z|M12 3a9 9 0 0 1 0 18",
  out: "M10 5H5v14h5|M14 8l4 4-4 4|M18 12H9",
  large: "M4 9V4h5|M20 9V4h-5|M4 15v5h5|M20 15v5h-5",
  add: "M12 5v14|M5 12h14",
};

export const time = (iso) => new Date(iso).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", second: "2-digit" });
export function when(iso) {
  const moment = new Date(iso), today = new Date();
  return moment.toDateString() === today.toDateString()
    ? time(iso)
    : `${moment.toLocaleDateString([], { day: "numeric", month: "short" })} ${time(iso)}`;
}
export function span(seconds) {
  if (seconds < 90) return `${Math.max(1, Math.round(seconds))} s`;
  return seconds < 5400 ? `${Math.round(seconds / 60)} min` : `${(seconds / 3600).toFixed(1)} h`;
}
export const percent = (share) => `${Math.round(100 * share)} %`;

/** A short message that goes away by itself; screen readers hear it. `action` is {label, run}. */
export function say(text, kind = "", action = null) {
  const toast = h("div", { class: `toast ${kind}` }, h("span", {}, text));
  if (action) toast.append(h("button", { class: "link", onclick: () => { toast.remove(); action.run(); } }, action.label));
  const toasts = document.getElementById("toasts");
  while (toasts.children.length >= 3) toasts.firstChild.remove();
  toasts.append(toast);
  setTimeout(() => toast.remove(), kind === "bad" ? 9000 : 5000);
}

export function badge(text, kind = "") {
  return h("span", { class: `badge ${kind}` }, text);
}

/** A dialog in the middle; gives it, open. Escape and the button close it. */
export function dialog(title, ...content) {
  const box = h("dialog", { "aria-label": title },
    h("div", { class: "dialog-head" }, h("h2", {}, title),
      h("button", { class: "quiet", "aria-label": "Close", onclick: () => box.close() }, "✕")), ...content);
  box.addEventListener("close", () => box.remove());
  document.body.append(box);
  box.showModal();
  return box;
}

/** Ask before something that cannot be taken back. */
export function confirmed(title, text, label) {
  return new Promise((resolve) => {
    const box = dialog(title, h("p", {}, text), h("div", { class: "row end" },
      h("button", { onclick: () => box.close() }, "Cancel"),
      h("button", { class: "danger", onclick: () => { resolve(true); box.close(); } }, label)));
    box.addEventListener("close", () => resolve(false));
  });
}

/** Give a text to the browser as a file. */
export function download(name, text, kind) {
  const link = h("a", { href: URL.createObjectURL(new Blob([text], { type: kind })), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

export const typing = (event) =>
  event.ctrlKey || event.metaKey || event.altKey || /^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName);
