// One sighting: what was seen, and why it was named so, view beside view.
import { get, mayChange } from "./api.js";
import { strangers } from "./charts.js";
import { badge, h, percent, span, time, when } from "./dom.js";
import { copyLink, label, portrait } from "./sightings.js";

const number = (value, digits = 3) => (value === null || value === undefined ? "–" : Number(value).toFixed(digits));

export async function detail(main, id) {
  main.append(h("div", { class: "head" }, h("a", { class: "button", href: "#/sightings" }, "All sightings"),
    h("h1", {}, "Why")));
  let row, curves, why;
  try {
    [row, curves, why] = await Promise.all([get(`/api/sightings/${id}`), get("/api/curves"), get(`/api/sightings/${id}/why`)]);
  } catch (error) {
    main.append(h("p", { class: "empty" }, error.message));
    return;
  }
  const table = (pairs) => h("dl", {}, ...pairs.filter(Boolean).map(([term, text]) => [h("dt", {}, term), h("dd", {}, String(text))]));
  const who = row.name || row.previous;
  main.append(h("div", { class: "detail" },
    h("section", { class: "card" }, h("div", { class: "row" }, portrait(row, "big"),
      h("div", { class: "grow" }, h("h2", {}, label(row), row.kind === "candidate" && "?", " ", row.corrected && badge("corrected", "bad")), h("p", {}, row.words))),
    table(facts(row)),
    h("div", { class: "row" }, h("button", { onclick: copyLink }, "Copy link"),
      row.name && h("a", { class: "button", href: `#/sightings?person=${encodeURIComponent(row.name)}` }, `All of ${row.name}`),
      mayChange() && h("a", { class: "button", href: `#/search?row=${row.id}` }, "Find this person"),
      mayChange() && why.seen.length > 0 && h("a", { class: "button", href: `#/people?row=${row.id}${who ? `&name=${encodeURIComponent(who)}` : ""}` },
        who ? `Add views to ${who}` : "Enrol this person"))),
    row.evidence.similarity !== undefined && decision(row, curves, table), compared(row, why, who)));
}

function facts(row) {
  return [
    ["Seen", `${when(row.started)} to ${time(row.last_seen)} (${span(row.duration_s)})`],
    ["Cameras", row.stays.map((stay) => `${stay.camera} ${time(stay.started)}–${time(stay.ended)}`).join(", ")],
    row.zones.length && ["Zones", row.zones.join(", ")],
    row.change && ["Latest change", `${row.change}${row.reason ? `: ${row.reason}` : ""}`],
    row.previous && ["Said before", row.previous],
    row.count > 0 && ["Events", row.count],
    row.answer && ["Review", row.answer],
  ];
}

function decision(row, curves, table) {
  const evidence = row.evidence, curve = curves.curves.find((one) => one.camera === row.camera) || curves.curves[0];
  return h("section", { class: "card" }, h("h2", {}, "The decision"), table([
    ["Similarity", `${number(evidence.similarity)}, asked for ${number(evidence.threshold)}`],
    ["Margin", evidence.runner_up ? `${number(evidence.margin)} above ${evidence.runner_up}, the next best` : "nobody else is enrolled"],
    ["Rests on", `${evidence.views ?? "–"} frames (views), mean quality ${number(evidence.quality, 2)}`],
    evidence.log_likelihood_ratio !== null && ["Likelihood", `${odds(evidence.log_likelihood_ratio)} likelier if it is ${label(row)} than if not`],
  ]), strangers(curve, [["asked for", evidence.threshold, "threshold"], [label(row), evidence.similarity, "score"]]),
  h("p", { class: "note" }, `The curve says how many of all pairs of different people look at least so alike `
    + `(${curve.pairs.toLocaleString()} pairs; ${curve.camera ? `measured at ${curve.camera}` : "the model's own"}).`));
}

/** The views that were seen, and those enrolled, side by side, each pair with its cosine. */
function compared(row, why, who) {
  if (!why.seen.length) {
    return h("section", { class: "card" }, h("h2", {}, "Views"), h("p", { class: "note" },
      "The views of this sighting are not kept any more (page.keep_pictures_min; history: keeps them longer)."));
  }
  const shade = (value) => h("td", { class: "cosine", style: { "--strength": String(Math.max(0, Math.min(1, value))) } }, value.toFixed(2));
  const enrolled = (view, i) => h("th", { scope: "col" }, view.picture && mayChange()
    ? h("img", { src: `/api/portraits/${view.number}/${encodeURIComponent(who)}`, alt: "" }) : h("span", { class: "noview" }, i + 1), h("span", {}, view.source), h("span", {}, percent(view.quality)));
  return h("section", { class: "card wide" }, h("h2", {}, who ? `Seen, beside ${who} as enrolled` : "Seen"),
    h("div", { class: "pair" }, row.picture && h("figure", {}, h("img", { src: `/api/sightings/${row.id}/picture.jpg`, alt: "Seen here" }), h("figcaption", {}, "seen here")),
      ...why.like.map((id) => h("figure", {}, h("a", { href: `#/sightings/${id}` }, h("img", { src: `/api/sightings/${id}/picture.jpg`, alt: `Another sighting of ${who}` })),
        h("figcaption", {}, `${who}, another time`)))),
    why.enrolled.length > 0 && h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Similarity of each view" }, h("table", { class: "cosines" },
      h("caption", {}, `${why.seen.length} views seen (down) against ${why.enrolled.length} of ${why.of} enrolled (across): cosine, less each camera's mean`),
      h("thead", {}, h("tr", {}, h("td", {}), ...why.enrolled.map(enrolled))),
      h("tbody", {}, ...why.seen.map((view, i) => h("tr", {}, h("th", { scope: "row" }, `${view.source} ${percent(view.quality)}`), ...why.cosines[i].map(shade)))))),
    !why.enrolled.length && who && h("p", { class: "note" }, `${who} is not enrolled any more.`));
}

export function odds(llr) {
  const times = Math.exp(Math.abs(llr));
  const text = times > 1e6 ? "over a million times" : `${times < 10 ? times.toFixed(1) : Math.round(times).toLocaleString()} times`;
  return llr < 0 ? `1 / ${text}` : text;
}
