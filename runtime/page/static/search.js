// Search: a picture, a sighting or somebody enrolled in; visits of the history out, the most alike first.
import { get, post } from "./api.js";
import { pictureSources, showPeople } from "./choosing.js";
import { h, span, when } from "./dom.js";

const SINCE = [["", "Any time"], ["1", "Last hour"], ["6", "Last 6 hours"], ["24", "Last day"], ["168", "Last week"]];

export function show(main, _path, query) {
  const out = h("section", { class: "found", "aria-label": "Visits found", "aria-live": "polite" });
  const since = h("select", { "aria-label": "Since" }, ...SINCE.map(([value, text]) => h("option", { value }, text)));
  const camera = h("select", { "aria-label": "In camera" }, h("option", { value: "" }, "All cameras"));
  const person = h("select", { "aria-label": "Somebody enrolled" }, h("option", { value: "" }, "Somebody enrolled …"));
  let whom = null, asked = 0;
  const sources = pictureSources((found) => showPeople(sources.stage, found, "Whom to search for? Choose the person.", (i, button) => {
    for (const other of sources.stage.querySelectorAll(".facebox")) other.setAttribute("aria-pressed", "false");
    button.setAttribute("aria-pressed", "true");
    search({ picture: found.picture, person: i });
  }));
  main.append(h("div", { class: "head" }, h("h1", {}, "Search"), h("p", { class: "summary" }, "Who passed, and where else was that person? A search is on record.")),
    h("div", { class: "columns searching" },
      h("section", { class: "card", "aria-label": "Whom to search for" }, sources.root, h("div", { class: "row" }, person, since, camera), sources.stage), out));
  for (const field of [since, camera]) field.addEventListener("change", () => whom && search(whom));
  person.addEventListener("change", () => {
    if (!person.value) return;
    history.replaceState(null, "", `#/search?name=${encodeURIComponent(person.value)}`);
    sources.stage.replaceChildren();
    search({ name: person.value });
  });
  get("/api/state").then((state) => camera.append(...state.cameras.map((c) => h("option", { value: c.name }, c.name)))).catch(() => {});
  get("/api/people").then(({ people }) => {
    person.append(...people.map((p) => h("option", { value: p.name }, p.name)));
    person.value = query.get("name") || "";
  }).catch(() => {});

  async function search(given) {
    whom = given;
    const mine = ++asked;
    out.replaceChildren(h("p", { class: "loading" }, "Searching …"));
    const from = since.value ? new Date(Date.now() - Number(since.value) * 3600e3).toISOString() : "";
    try {
      const found = await post("/api/search", { ...given, since: from, cameras: camera.value ? [camera.value] : [] });
      if (mine === asked) draw(found);
    } catch (error) {
      if (mine === asked) out.replaceChildren(h("div", { class: "card empty" }, h("p", {}, error.message)));
    }
  }

  function draw(found) {
    const cameras = Object.keys(found.searched).length;
    const words = found.hits.length ? `The ${found.hits.length} most alike of ${found.visits.toLocaleString()} visits to ${cameras} camera${cameras === 1 ? "" : "s"}`
      : `No visit found (${found.visits.toLocaleString()} searched).`;
    out.replaceChildren(h("div", { class: "row" }, h("h2", { class: "grow" }, words),
      found.hits.length > 0 && h("a", { class: "button", href: `/api/searches/${found.search}/sheet.png`, download: "visits.png" }, "Contact sheet")),
    found.left_out && h("p", { class: "warning" }, found.left_out),
    h("p", { class: "note" }, "“1 in 900”: so many visits of other people to that camera have one that looks so alike. “Others”: how many such are to be expected among all that were searched; above 1 it is as likely chance as not."),
    h("ol", { class: "sheet" }, ...found.hits.map((hit, i) => tile(found, hit, i))));
  }

  function tile(found, hit, i) {
    const chance = hit.expected_false < 0.1 ? "good" : hit.expected_false < 1 ? "warn" : "bad";
    const seconds = (Date.parse(hit.to) - Date.parse(hit.from)) / 1000;
    return h("li", { class: "hit" },
      hit.picture ? h("img", { src: `/api/searches/${found.search}/${i}.jpg`, alt: `Visit ${i + 1} at ${hit.camera}`, loading: "lazy" })
        : h("span", { class: "nopicture" }, "no picture kept"),
      h("strong", {}, hit.name || hit.stranger || hit.camera), h("span", {}, `${hit.camera}, ${when(hit.from)} for ${span(seconds)}`),
      h("span", { class: "words" }, `similarity ${hit.similarity.toFixed(2)}; ${hit.somebody_else}`),
      h("span", { class: `chance ${chance}` }, `others: ${hit.expected_false < 0.001 ? "under 0.001" : hit.expected_false < 10 ? Number(hit.expected_false.toPrecision(2)) : Math.round(hit.expected_false)}`),
      h("span", { class: "row" }, hit.known && h("a", { href: `#/sightings/${hit.sighting}`, "aria-label": `Sighting of visit ${i + 1}` }, "sighting"),
        h("a", { href: `#/search?row=${hit.sighting}`, "aria-label": `Search on with visit ${i + 1}` }, "search on")));
  }

  if (query.get("row")) {
    sources.stage.append(h("p", {}, h("img", { class: "fromrow", src: `/api/sightings/${query.get("row")}/picture.jpg`, alt: "Whom is searched for",
      onerror: (event) => event.target.remove() }), ` the sighting ${query.get("row")}`));
    search({ row: query.get("row") });
  } else if (query.get("name")) search({ name: query.get("name") });
  return null;
}
