// Review: best guesses below the threshold and names that surprise, one at a time, one key each; what answers did.
import { call, get, onEvent, post } from "./api.js";
import { likelihood, strangers } from "./charts.js";
import { badge, h, say, typing, when } from "./dom.js";

export function show(main) {
  const body = h("div", { class: "review" }), count = h("p", { class: "summary", role: "status" });
  const beside = h("div", { class: "detail after" });
  main.append(h("div", { class: "head" }, h("h1", {}, "Review"), count), body, beside);
  let rows = [], people = [], given = {}, recent = [], waiting = 0, learned = null, curves = null, busy = false;

  async function load() {
    try {
      const [answer, everybody, state] = await Promise.all([get("/api/review"), get("/api/people"), get("/api/state")]);
      curves ??= await get("/api/curves");
      learned = await get("/api/review/effect");
      ({ rows, recent, waiting, answered: given } = answer);
      people = everybody.people.map((person) => person.name);
      draw(state.candidates);
    } catch (error) {
      say(error.message, "bad");
    }
  }

  function draw(candidates = true) {
    const last = recent[0];
    count.textContent = `${waiting} waiting; answered ${given.yes || 0} yes, ${given.no || 0} no, ${given.name || 0} somebody else`;
    beside.replaceChildren(effectCard(), recentCard());
    if (!rows.length) {
      body.replaceChildren(h("div", { class: "card empty" }, h("p", {}, "Nothing waits for an answer."),
        !candidates && h("p", {}, "The stream does not say best guesses (match.candidates is off): only names that surprise come here."),
        !candidates && h("button", { class: "primary", onclick: switchOn }, "Say best guesses from now on")));
    } else {
      const row = rows[0], e = row.evidence;
      const curve = curves.curves.find((one) => one.camera === row.camera) || curves.curves[0];
      const who = h("select", { "aria-label": "Who it is", id: "who" }, h("option", { value: "" }, "That is …"),
        ...people.filter((name) => name !== row.guess).map((name) => h("option", { value: name }, name)));
      who.addEventListener("change", () => who.value && decide("name", who.value));
      body.replaceChildren(h("div", { class: "card question" },
        h("div", { class: "pair" }, face(row, "Seen now"), ...row.like.map((id) => face({ id, picture: true }, `Said to be ${row.guess}`))),
        h("div", { class: "ask" }, h("h2", {}, `Is this ${row.guess}?`), h("p", {}, badge(row.why, row.kind === "candidate" ? "" : "warn")),
          h("p", {}, `${row.camera}, ${when(row.last_seen)}. ${e.similarity === undefined ? "" : `Similarity ${e.similarity.toFixed(2)}, asked for ${e.threshold.toFixed(2)}; `}${row.views} views. `,
            h("a", { href: `#/sightings/${row.id}` }, "Why")),
          h("div", { class: "row answers" },
            h("button", { class: "primary", onclick: () => decide("yes") }, "Yes ", h("kbd", {}, "y")),
            h("button", { onclick: () => decide("no") }, "No ", h("kbd", {}, "n")), who,
            last && h("button", { class: "quiet", onclick: () => undo() }, "Undo ", h("kbd", {}, "u"))),
          h("p", { class: "note" }, "Yes adds these views to the person; no keeps them as not this person, who is then not named so any more; o chooses somebody else. All can be undone."),
          e.similarity !== undefined && strangers(curve, [["asked for", e.threshold, "threshold"], [row.guess, e.similarity, "score"]]))));
    }
  }

  /** What all answers so far say about the likelihood that names rest on. */
  function effectCard() {
    const { genuine, impostor, named, wrong, slope, error, before, after, points } = learned;
    const words = slope === null ? `A slope can be fitted from five answers of each kind on (${genuine} yes, ${impostor} no so far).`
      : `Slope ${slope.toFixed(2)} ± ${error.toFixed(2)}: ${Math.abs(slope - 1) < 2 * error ? "as the calibration says, within the error"
        : slope < 1 ? "the calibration claims too much; measure your cameras with personsearch-calibrate" : "the calibration is too careful"}.`;
    return h("section", { class: "card" }, h("h2", {}, "What the answers say"),
      h("p", {}, `${genuine} pairs of one person, ${impostor} of different people; ${wrong} of ${named} names that were looked at were wrong.`),
      likelihood(before, after, points), h("p", { class: "note" }, words,
        " Answers are chosen cases, so they tell the slope of the curve, not its height; names go on resting on the calibration."));
  }

  function recentCard() {
    const told = (a) => (a.answer === "yes" ? `${a.said}: yes` : a.answer === "no" ? `not ${a.said}` : `${a.person}, not ${a.said}`);
    return h("section", { class: "card" }, h("h2", {}, "Answered lately"), recent.length
      ? h("ul", { class: "recent" }, ...recent.slice(0, 8).map((a) => h("li", {}, h("span", { class: "grow" }, `${told(a)} (${a.camera}, ${when(a.time * 1000)}${a.views ? `, ${a.views} views` : ""})`),
        h("button", { class: "link", "aria-label": `Undo: ${told(a)}`, onclick: () => undo(a.row) }, "undo"))))
      : h("p", { class: "empty" }, "Nothing yet. Answers can be taken back, also after a restart."));
  }

  const face = (row, text) => h("figure", {}, row.picture
    ? h("img", { src: `/api/sightings/${row.id}/picture.jpg`, alt: text }) : h("span", { class: "nopicture" }, "no picture"), h("figcaption", {}, text));

  async function decide(answer, name = "") {
    if (busy || !rows.length) return;
    busy = true;
    const row = rows[0];
    try {
      const done = await post(`/api/review/${row.id}`, { answer, name });
      const words = !done.views ? "Put away." : answer === "no" ? `${done.views} views are kept as not ${row.guess}.` : `${done.views} views added to ${name || row.guess}.`;
      say([words, done.outcome].filter(Boolean).join(" "), "", { label: "Undo", run: () => undo(row.id) });
    } catch (error) {
      say(error.message, "bad");
    }
    busy = false;
    await load();
  }

  async function undo(row = recent[0]?.row) {
    if (!row) return;
    try {
      const { outcome } = await post(`/api/review/${row}/undo`);
      say(["Taken back.", outcome].filter(Boolean).join(" "));
    } catch (error) {
      say(error.message, "bad");
    }
    await load();
  }

  async function switchOn() {
    try {
      const { version } = await get("/api/settings");
      await call("PATCH", "/api/settings", { version, match: { candidates: true } });
      say("Best guesses are said from now on.");
      setTimeout(load, 1500);
    } catch (error) {
      say(error.message, "bad");
    }
  }

  const keys = (event) => {
    if (typing(event)) return;
    if (event.key === "y") decide("yes");
    else if (event.key === "n") decide("no");
    else if (event.key === "u") undo();
    else if (event.key === "o" || event.key === "b") document.getElementById("who")?.focus();
    else return;
    event.preventDefault();
  };
  window.addEventListener("keydown", keys);
  let due = 0;
  const stop = onEvent(({ row }) => {
    if (row && !due) due = setTimeout(() => { due = 0; if (rows.length < 2 && document.activeElement?.id !== "who") load(); }, 2000);
  });
  load();
  return () => { stop(); clearTimeout(due); window.removeEventListener("keydown", keys); };
}
