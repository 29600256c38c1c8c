// People: who is enrolled, what is noted of them, merging, taking back, and forgetting.
import { call, get, mayChange, post } from "./api.js";
import { badge, confirmed, dialog, download, h, percent, say, when } from "./dom.js";
import { enrolCard } from "./enrol.js";

export function show(main, _path, query) {
  const list = h("div", { class: "people", role: "list" }), count = h("p", { class: "summary" });
  const back = h("button", { hidden: true, onclick: undo });
  let people = [];
  main.append(h("div", { class: "head" }, h("h1", {}, "People"), count, mayChange() && back),
    h("div", { class: "columns" }, mayChange() && enrolCard(query, () => people.map((person) => person.name), load),
      h("section", { "aria-label": "Enrolled" }, h("h2", {}, "Enrolled"), list)));

  async function load() {
    let latest;
    try {
      ({ people, undo: latest } = await get("/api/people"));
    } catch (error) {
      list.replaceChildren(h("p", { class: "empty" }, error.message));
      return;
    }
    count.textContent = `${people.length} ${people.length === 1 ? "person" : "people"}`;
    back.hidden = !latest;
    if (latest) back.replaceChildren(`Undo: ${latest.people.slice(0, 2).join(", ")} ${latest.kind}`);
    list.replaceChildren(...(people.length ? people.map(personCard) : [h("p", { class: "empty" }, "Nobody is enrolled yet.")]));
  }

  function personCard(person) {
    const best = Math.max(...person.views.map((view) => view.quality));
    const sources = [...new Set(person.views.map((view) => view.source))].join(", ");
    const more = [
      person.negative_views.length && `${person.negative_views.length} views that are somebody else`,
      person.merged.length && `with ${person.merged.map((other) => other.name).join(", ")}`, person.note,
    ].filter(Boolean);
    const act = (label, run, kind = "") => h("button", { class: kind, onclick: run, "aria-label": `${label} ${person.name}` }, label);
    return h("div", { class: "person", role: "listitem" },
      h("div", { class: "what" }, h("a", { href: `#/sightings?person=${encodeURIComponent(person.name)}` }, h("strong", {}, person.name)), " ",
        ...person.labels.map((label) => badge(label)),
        person.expires && badge(person.expired ? `expired ${person.expires}` : `until ${person.expires}`, person.expired ? "bad" : "warn"),
        h("span", { class: "words" }, `${person.views.length} view${person.views.length === 1 ? "" : "s"} (${sources}), best quality ${percent(best)}`),
        more.length > 0 && h("span", { class: "words" }, more.join("; ")),
        h("span", { class: "bars", "aria-hidden": "true" }, ...person.views.slice(0, 20).map((view) =>
          h("span", { title: `${view.source}: ${percent(view.quality)}`, style: { height: `${Math.max(8, 100 * view.quality)}%` } })))),
      mayChange() && h("div", { class: "row" }, act("Edit", () => edit(person)),
        person.views.some((view) => view.picture) && act("Pictures", () => pictures(person)),
        h("a", { class: "button", href: `#/search?name=${encodeURIComponent(person.name)}`, "aria-label": `Search for ${person.name}` }, "Search"),
        act("Merge", () => merge(person)), act("Remove", () => remove(person), "danger"), act("Forget", () => forget(person), "danger")));
  }

  /** What views were made of, where that was kept (enroll.py --keep-crops); who looks is on record. */
  function pictures(person) {
    const kept = [...person.views.entries()].filter(([, view]) => view.picture);
    dialog(`Pictures of ${person.name}`, h("div", { class: "pair" }, ...kept.map(([number, view]) => h("figure", {},
      h("img", { src: `/api/portraits/${number}/${encodeURIComponent(person.name)}`, alt: `View ${number + 1} of ${person.name}` }),
      h("figcaption", {}, [view.source, view.time && when(view.time * 1000), percent(view.quality)].filter(Boolean).join(", "))))));
  }

  /** Do it, say so, and show people anew; true if it went well. */
  async function done(ask, words) {
    try {
      const answer = await ask();
      say(words(answer), "", { label: "Undo", run: undo });
      load();
      return true;
    } catch (error) {
      say(error.message, "bad");
      return false;
    }
  }

  async function undo() {
    try {
      const { kind, names } = await post("/api/people/undo");
      say(`Taken back: ${names.join(", ")} ${kind}.`);
    } catch (error) {
      say(error.message, "bad");
    }
    load();
  }

  function edit(person) {
    const field = (name, label, value, more = {}) => h("label", {}, label, h("input", { name, value, ...more }));
    const box = dialog(`Edit ${person.name}`, h("form", { onsubmit: async (event) => {
      event.preventDefault();
      const given = Object.fromEntries(new FormData(event.target));
      const labels = given.labels.split(",").map((label) => label.trim()).filter(Boolean), change = {};
      if (given.name !== person.name) change.name = given.name;
      if (labels.join() !== person.labels.join()) change.labels = labels;
      if (given.note !== person.note) change.note = given.note;
      if (given.expires !== (person.expires || "")) change.expires = given.expires;
      if (!Object.keys(change).length || await done(() => call("PATCH", `/api/people/${encodeURIComponent(person.name)}`, change),
        ({ name }) => `${name} is changed.`)) box.close();
    } }, field("name", "Name", person.name, { required: true, maxlength: 200 }),
    field("labels", "Labels, with commas between", person.labels.join(", ")), field("note", "Note", person.note, { maxlength: 2000 }),
    field("expires", "Last day on which the person is looked for", person.expires || "", { type: "date" }),
    person.merged.length > 0 && h("p", {}, "Also enrolled as ", ...person.merged.flatMap((other) => [other.name, " ",
      h("button", { type: "button", class: "link", onclick: async () => {
        if (await done(() => post("/api/people/unmerge", { name: other.name }), ({ names }) => `${names.join(" and ")} are two people again.`)) box.close();
      } }, "take apart")])),
    h("div", { class: "row end" }, h("button", { class: "primary" }, "Save"))));
  }

  function merge(person) {
    const others = people.filter((other) => other.name !== person.name);
    const which = h("select", { "aria-label": "Who is the same person" }, ...others.map((other) => h("option", { value: other.name }, other.name)));
    if (!others.length) return say("Nobody else is enrolled.");
    const box = dialog(`${person.name} is the same person as …`, h("form", { onsubmit: async (event) => {
      event.preventDefault();
      if (await done(() => post("/api/people/merge", { into: person.name, other: which.value }),
        ({ name }) => `They are one person now, called ${name}.`)) box.close();
    } }, which, h("p", { class: "note" }, `Both are called ${person.name} from now on, with the views of both. They can be taken apart again at any time.`),
    h("div", { class: "row end" }, h("button", { class: "primary" }, "Merge"))));
  }

  async function remove(person) {
    const text = `Takes ${person.name} and ${person.views.length} views out of the gallery. It can be taken back for 30 days; Forget erases for good.`;
    if (await confirmed(`Remove ${person.name}?`, text, "Remove")) {
      await done(() => call("DELETE", `/api/people/${encodeURIComponent(person.name)}`), () => `${person.name} is removed.`);
    }
  }

  async function forget(person) {
    const path = `/api/forget/${encodeURIComponent(person.name)}`;
    let will;
    try {
      will = await get(path);
    } catch (error) {
      return say(error.message, "bad");
    }
    const typed = h("input", { required: true, autocomplete: "off" });
    const button = h("button", { class: "danger" }, "Erase for good");
    const box = dialog(`Forget ${person.name}?`, h("p", {}, "This erases for good, everywhere on this box:"), h("ul", {}, ...words(will).map((text) => h("li", {}, text))),
      h("details", {}, h("summary", {}, "What no program can reach"), h("ul", {}, ...will.not_reached.map((text) => h("li", {}, text)))),
      h("form", { onsubmit: async (event) => {
        event.preventDefault();
        button.disabled = true;
        button.textContent = "Erasing …";
        try {
          const { receipt, words: told } = await post(path, { confirm: typed.value });
          box.close();
          showReceipt(receipt, told);
          load();
        } catch (error) {
          say(error.message, "bad");
          button.disabled = false;
          button.textContent = "Erase for good";
        }
      } }, h("label", {}, `Type the name to confirm: ${person.name}`, typed), h("div", { class: "row end" }, button)));
    typed.focus();
  }

  function showReceipt(receipt, told) {
    const text = JSON.stringify(receipt, null, 1);
    dialog(receipt.complete ? "Forgotten" : "Not complete yet", h("p", {}, told), h("pre", { class: "receipt", tabindex: "0" }, text),
      h("div", { class: "row end" }, h("button", { class: "primary", onclick: () => download(`receipt-${receipt.person}.json`, text, "application/json") }, "Save the receipt")));
  }

  load();
  return null;
}

/** What forgetting would erase. */
function words(will) {
  const some = (n, one, several = `${one}s`) => n > 0 && `${n.toLocaleString()} ${n === 1 ? one : several}`;
  const { gallery } = will;
  return [
    some(gallery.views, "view"), some(gallery.pictures, "picture"), some(gallery.negative_views, "view of somebody else", "views of somebody else"),
    some(gallery.negative_views_of_others, "person whose negative views show this one", "people whose negative views show this one"),
    some(gallery.merged_records, "merged record"), some(will.undo_log.changes, "change in the undo log", "changes in the undo log"),
    some(will.events, "event"), some(will.reviews, "answer of a review", "answers of reviews"), some(will.history || 0, "visit of the history", "visits of the history"),
    some(will.recordings || 0, "recorded sighting"), "the key of backups, so that they cannot be read for this person", "what this page has in its memory",
  ].filter(Boolean);
}
