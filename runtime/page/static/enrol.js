// Enrolling: people chosen in pictures, from what a camera sees now, or from a sighting; view by view.
import { post } from "./api.js";
import { pictureSources, showPeople } from "./choosing.js";
import { h, percent, say } from "./dom.js";

/** The card; `known()` gives the names there are, `onDone` is called when somebody was enrolled. */
export function enrolCard(query, known, onDone) {
  const chosen = []; // {key, suggestion, text, views: [{source, quality, on}]}
  const form = h("form", { class: "enrolform" });
  const sources = pictureSources((found) => showPeople(sources.stage, found, "Who is to be enrolled? Choose the person.",
    (i, button) => choose(found, i, button)), query.get("camera") || "");

  function choose(found, i, button) {
    const key = `${found.picture} ${i}`, at = chosen.findIndex((choice) => choice.key === key);
    button.setAttribute("aria-pressed", String(at < 0));
    if (at >= 0) {
      chosen.splice(at, 1);
      draw();
    } else suggest(key, { picture: found.picture, person: i }, [found.camera || "picture", ...found.people[i].complaints].join(", "));
  }

  /** Which views the box has: of somebody before a camera several of the track, the best of which are proposed. */
  async function suggest(key, choice, text) {
    const kept = { key, text, suggestion: "", views: [], warnings: [] };
    chosen.push(kept);
    draw();
    try {
      const { suggestion, views, warnings } = await post("/api/views", choice);
      Object.assign(kept, { suggestion, warnings, views: views.map((view) => ({ ...view, on: true })) });
    } catch (error) {
      chosen.splice(chosen.indexOf(kept), 1);
      say(error.message, "bad");
    }
    draw();
  }

  function draw(warnings = []) {
    if (!chosen.length) return form.replaceChildren();
    const typed = form.querySelector("input[name=name]")?.value || query.get("name") || "";
    const name = h("input", { name: "name", value: typed, required: true, maxlength: 200, list: "known", autocomplete: "off", placeholder: "Name" });
    const views = chosen.flatMap((choice) => choice.views), count = views.filter((view) => view.on).length;
    const line = (choice) => h("li", {}, `${choice.text}: `,
      ...(choice.suggestion ? choice.views.map((view, i) => h("label", { class: "check", title: `a view from ${view.source}` },
        h("input", { type: "checkbox", checked: view.on, "aria-label": `View ${i + 1} of ${choice.text}, quality ${percent(view.quality)}`,
          onchange: (event) => { view.on = event.target.checked; draw(); } }), percent(view.quality)))
        : [h("span", { class: "words" }, "looking at it …")]),
      h("button", { type: "button", class: "link", onclick: () => { chosen.splice(chosen.indexOf(choice), 1); draw(); } }, "leave out"));
    const noted = [...new Set([...warnings, ...(warnings.length ? [] : chosen.flatMap((choice) => choice.warnings))])];
    form.replaceChildren(...[
      h("p", {}, `${count} of ${views.length} view${views.length === 1 ? "" : "s"} chosen; further pictures may be added.`),
      h("ul", { class: "chosen" }, ...chosen.map(line)),
      views.length > 1 && h("p", { class: "note" }, "From a camera its best views of the person are proposed, by quality; several from different sides help."),
      h("label", {}, "Name", name), h("datalist", { id: "known" }, ...known().map((one) => h("option", { value: one }))),
      noted.length > 0 && h("div", { class: "warning", role: "alert" }, h("ul", {}, ...noted.map((text) => h("li", {}, text)))),
      h("div", { class: "row" },
        h("button", { class: "primary", disabled: !count || chosen.some((choice) => !choice.suggestion) }, warnings.length ? "Enrol all the same" : "Enrol"),
        h("button", { type: "button", onclick: clear }, "Cancel")),
    ].filter(Boolean));
    form.onsubmit = async (event) => {
      event.preventDefault();
      const wanted = chosen.map(({ suggestion, views: own }) => ({ suggestion, only: own.flatMap((view, i) => (view.on ? [i] : [])) }));
      await enrol(name.value, wanted.filter(({ only }) => only.length), warnings.length > 0);
    };
    if (!warnings.length && document.activeElement === document.body) name.focus();
  }

  function clear() {
    chosen.length = 0;
    sources.stage.replaceChildren();
    draw();
  }

  async function enrol(name, views, confirm) {
    try {
      const done = await post("/api/people", { name, views, confirm });
      say(`${done.name} is enrolled with ${done.views} view${done.views === 1 ? "" : "s"}; the cameras know within two seconds.`, "good");
      clear();
      onDone();
    } catch (error) {
      if (error.status === 409) draw(error.answer.warnings);
      else say(error.message, "bad");
    }
  }

  if (query.get("row")) {
    sources.stage.append(h("p", {}, h("img", { class: "fromrow", src: `/api/sightings/${query.get("row")}/picture.jpg`, alt: "Who was seen",
      onerror: (event) => event.target.remove() })));
    suggest(query.get("row"), { row: query.get("row") }, "sighting");
  }
  return h("section", { class: "card enrol", "aria-label": "Enrol somebody" }, h("h2", {}, "Enrol somebody"), sources.root, sources.stage, form);
}
