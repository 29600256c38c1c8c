// Sightings: a list of any length, a timeline, why a decision was taken, and files to take away.
import { get, onEvent } from "./api.js";
import { badge, dialog, h, say, span, time, when } from "./dom.js";
import { detail } from "./why.js";

const TALL = 84; // of a row, pixels: only those in sight are elements
const PART = 500;
const FILTERS = ["person", "camera", "kind", "since", "text"];
const KINDS = { sighting: "Sightings", match: "Named", candidate: "Possible" };

export const label = (row) => row.name || (row.stranger ? row.stranger : "Stranger");
const initials = (row) => label(row).split(/\s+/).map((word) => [...word][0]).slice(0, 2).join("").toUpperCase();

export function portrait(row, size = "") {
  const circle = h("span", { class: `portrait ${size}`, "aria-hidden": "true" }, initials(row));
  if (row.picture) {
    const image = h("img", { src: `/api/sightings/${row.id}/picture.jpg`, alt: "", loading: "lazy" });
    image.onerror = () => image.remove();
    circle.append(image);
  }
  return circle;
}

/** A row as a link, for the list and for the side of Live. */
export function rowCard(row) {
  const zones = row.zones.length ? ` (${row.zones.join(", ")})` : "";
  return h("a", { class: "rowcard", href: `#/sightings/${row.id}` }, portrait(row),
    h("span", { class: "what" },
      h("strong", {}, label(row), row.kind === "candidate" && "?"), " ",
      row.kind === "candidate" && badge("possible", "warn"), row.corrected && badge("corrected", "bad"), row.answer && badge(row.answer === "no" ? "reviewed: no" : "reviewed", row.answer === "no" ? "bad" : "good"),
      h("span", { class: "words" }, row.words)),
    h("span", { class: "where" }, h("span", {}, `${row.cameras.join(", ")}${zones}`),
      h("time", { datetime: row.started }, when(row.last_seen))));
}

export function show(main, [id], query) {
  if (id) {
    detail(main, id);
    return null;
  }
  const filters = Object.fromEntries(FILTERS.map((key) => [key, query.get(key) || ""]));
  let view = query.get("view") || "list", rows = [], more = false, loading = false, newer = 0;
  const body = h("div", { class: "sightings" }), count = h("p", { class: "summary", role: "status" });
  const names = h("datalist", { id: "names" });
  const search = () => {
    const chosen = new URLSearchParams(Object.entries(filters).filter(([key, value]) => value && key !== "since"));
    if (filters.since) chosen.set("since", new Date(Date.now() - Number(filters.since) * 3600e3).toISOString());
    return chosen;
  };
  const address = () => {
    const chosen = new URLSearchParams(Object.entries({ ...filters, view: view === "list" ? "" : view }).filter(([, value]) => value));
    history.replaceState(null, "", `#/sightings${chosen.size ? `?${chosen}` : ""}`);
    for (const link of main.querySelectorAll("a[data-export]")) link.href = `/api/export/sightings.${link.dataset.export}?${search()}`;
  };
  const field = (key, element) => {
    element.value = filters[key];
    element.addEventListener(element.tagName === "SELECT" ? "change" : "input", () => {
      filters[key] = element.value.trim();
      address();
      clearTimeout(field.timer);
      field.timer = setTimeout(load, 250);
    });
    return element;
  };
  const cameras = h("select", { "aria-label": "Camera" }, h("option", { value: "" }, "All cameras"));
  const views = h("div", { class: "tabs", role: "group", "aria-label": "View" },
    ...[["list", "List"], ["person", "By person"], ["camera", "By camera"]].map(([value, text]) =>
      h("button", { "aria-pressed": String(view === value), onclick: (event) => {
        view = value;
        for (const button of views.children) button.setAttribute("aria-pressed", String(button === event.target));
        address();
        draw();
      } }, text)));
  main.append(
    h("div", { class: "head" }, h("h1", {}, "Sightings"), count, views),
    h("div", { class: "filters", role: "search" },
      field("person", h("input", { placeholder: "Person", "aria-label": "Person", list: "names", type: "search" })), names,
      field("camera", cameras),
      field("kind", h("select", { "aria-label": "Kind" }, h("option", { value: "" }, "All kinds"),
        ...Object.entries(KINDS).map(([value, text]) => h("option", { value }, text)))),
      field("since", h("select", { "aria-label": "Since" }, ...[["", "Any time"], ["0.25", "Last 15 minutes"], ["1", "Last hour"],
        ["24", "Last day"], ["168", "Last week"]].map(([value, text]) => h("option", { value }, text)))),
      field("text", h("input", { placeholder: "Search", "aria-label": "Text", type: "search" })),
      h("button", { onclick: copyLink }, "Copy link"),
      h("a", { class: "button", "data-export": "csv", download: "sightings.csv" }, "CSV"),
      h("a", { class: "button", "data-export": "json", download: "sightings.json" }, "JSON")), body);
  address();
  get("/api/people").then(({ people }) => names.append(...people.map((p) => h("option", { value: p.name })))).catch(() => {});
  get("/api/state").then((state) => {
    cameras.append(...state.cameras.map((c) => h("option", { value: c.name }, c.name)));
    cameras.value = filters.camera;
  }).catch(() => {});

  async function load(onward = false) {
    if (loading && onward) return;
    loading = true;
    try {
      const answer = await get(`/api/sightings?${search()}&count=${PART}&from=${onward ? rows.length + newer : 0}`);
      const known = new Set(onward ? rows.map((row) => row.id) : []);
      rows = onward ? [...rows, ...answer.rows.filter((row) => !known.has(row.id))] : answer.rows;
      if (!onward) newer = 0;
      more = answer.more;
      draw();
    } catch (error) {
      say(error.message, "bad");
    } finally {
      loading = false;
    }
  }

  let list = null;
  function draw() {
    count.textContent = `${rows.length}${more ? "+" : ""} ${rows.length === 1 ? "visit" : "visits"}`;
    if (!rows.length) {
      list = null;
      body.replaceChildren(h("p", { class: "empty" }, "Nobody fits. Visits appear here as soon as somebody is named."));
    } else if (view === "list") {
      if (!list) {
        list = virtual(() => rows, () => more && load(true));
        body.replaceChildren(list.root);
      }
      list.draw();
    } else {
      list = null;
      body.replaceChildren(timeline(rows, view));
    }
  }

  const fits = (row) => (!filters.person || [row.name, row.person, row.stranger].includes(filters.person))
    && (!filters.camera || row.cameras.includes(filters.camera)) && (!filters.kind || row.kind === filters.kind)
    && (!filters.text || `${row.name} ${row.stranger} ${row.cameras.join(" ")} ${row.zones.join(" ")}`.toLowerCase().includes(filters.text.toLowerCase()));
  let due = 0;
  const stop = onEvent(({ row }) => {
    if (!row || !fits(row)) return;
    const before = rows.length;
    rows = [row, ...rows.filter((known) => known.id !== row.id)];
    newer += rows.length - before;
    if (!due) due = setTimeout(() => { due = 0; draw(); }, 300); // a busy box says many a second
  });
  load();
  return () => { stop(); clearTimeout(due); };
}

/** A list of which only the rows in sight exist. */
function virtual(rows, onEnd) {
  const inside = h("div", { class: "inside", role: "list" });
  const root = h("div", { class: "virtual", tabindex: "0", "aria-label": "Visits, newest first", role: "region" }, inside);
  const cache = new Map();
  const draw = () => {
    const all = rows(), top = root.scrollTop, tall = root.clientHeight || 600;
    inside.style.height = `${all.length * TALL}px`;
    const first = Math.max(0, Math.floor(top / TALL) - 6), last = Math.min(all.length, Math.ceil((top + tall) / TALL) + 6);
    const wanted = new Map();
    for (let i = first; i < last; i++) wanted.set(all[i].id, i);
    for (const [id, item] of cache) if (!wanted.has(id)) { item.root.remove(); cache.delete(id); }
    for (const [id, i] of wanted) {
      const row = all[i];
      let item = cache.get(id);
      if (!item || item.row !== row) {
        const fresh = h("div", { class: "item", role: "listitem" }, rowCard(row));
        if (item) item.root.replaceWith(fresh);
        else inside.append(fresh);
        item = { root: fresh, row };
        cache.set(id, item);
      }
      item.root.style.transform = `translateY(${i * TALL}px)`;
      item.root.setAttribute("aria-posinset", i + 1);
      item.root.setAttribute("aria-setsize", all.length);
    }
    if (last > all.length - 40) onEnd();
  };
  root.addEventListener("scroll", () => requestAnimationFrame(draw));
  requestAnimationFrame(draw); // once it has a size
  return { root, draw };
}

/** Bars of stays, a line for each person or camera. */
function timeline(rows, by) {
  const bars = rows.flatMap((row) => row.stays.map((stay) => ({ row, key: by === "camera" ? stay.camera : label(row), stay })));
  const from = Math.min(...bars.map((bar) => Date.parse(bar.stay.started)));
  const to = Math.max(...bars.map((bar) => Date.parse(bar.stay.ended)), from + 60e3);
  const keys = [...new Set(bars.map((bar) => bar.key))].sort((a, b) => a.localeCompare(b));
  const at = (iso) => 100 * (Date.parse(iso) - from) / (to - from);
  const ticks = [0, 0.25, 0.5, 0.75, 1].map((share) =>
    h("span", { style: { left: `${100 * share}%` } }, time(new Date(from + share * (to - from)).toISOString()).slice(0, 8)));
  return h("div", { class: "timeline" },
    ...keys.map((key) => h("div", { class: "lane" }, h("span", { class: "key" }, key),
      h("div", { class: "track" }, ...bars.filter((bar) => bar.key === key).map(({ row, stay }) => {
        const text = `${label(row)} at ${stay.camera}, ${when(stay.started)} for ${span((Date.parse(stay.ended) - Date.parse(stay.started)) / 1000)}`;
        return h("a", { class: `stay ${row.kind}`, href: `#/sightings/${row.id}`, title: text, "aria-label": text,
          style: { left: `${at(stay.started)}%`, width: `max(6px, ${at(stay.ended) - at(stay.started)}%)` } });
      })))),
    h("div", { class: "lane axis", "aria-hidden": "true" }, h("span", { class: "key" }), h("div", { class: "track" }, ...ticks)));
}

export function copyLink() {
  const text = location.href;
  // Over plain HTTP browsers give no clipboard: then the link is shown, selected.
  if (navigator.clipboard) navigator.clipboard.writeText(text).then(() => say("The link is copied."));
  else {
    const field = h("input", { value: text, readonly: true, "aria-label": "Link" });
    dialog("Link to what is shown", field);
    field.select();
  }
}
