// Settings: zones drawn on a still, thresholds as false names a day, undo. The file keeps its comments.
import { call, get, mayChange, post } from "./api.js";
import { strangers } from "./charts.js";
import { h, say } from "./dom.js";
import { zoneEditor } from "./zones.js";

const LOW = Math.log10(0.01), HIGH = 3; // of the slider: 0.01 to 1000 a day

export function show(main, [which]) {
  const body = h("div", { class: "settings" });
  main.append(h("div", { class: "head" }, h("h1", {}, "Settings"), h("p", { class: "summary" }, mayChange()
    ? "Changes are checked like --validate, written to the file with its comments, and taken over by the running stream."
    : "Viewers look; operators may change things.")), body);
  load();

  async function load() {
    try {
      const [settings, curves] = await Promise.all([get("/api/settings"), get("/api/curves")]);
      body.replaceChildren(cameras(settings), thresholds(settings, curves), keeping(settings), history(settings));
    } catch (error) {
      body.replaceChildren(h("p", { class: "empty" }, error.message));
    }
  }

  async function save(change) {
    try {
      const done = await call("PATCH", "/api/settings", change);
      say(done.changed ? `Written: ${done.changed}.` : "Nothing was different.", "good", done.changed && { label: "Undo", run: undo });
      await load();
    } catch (error) {
      say(error.message, "bad");
    }
  }

  async function undo() {
    try {
      say(`Taken back: ${(await post("/api/settings/undo")).undone}.`, "good");
    } catch (error) {
      say(error.message, "bad");
    }
    await load();
  }

  // --- cameras ----------------------------------------------------------------------------------------------------

  function cameras(settings) {
    const select = h("select", { "aria-label": "Camera" }, ...settings.cameras.map((camera) => h("option", { value: camera.name }, camera.name)));
    select.value = settings.cameras.some((camera) => camera.name === which) ? which : settings.cameras[0].name;
    const place = h("div");
    const choose = () => {
      which = select.value;
      place.replaceChildren(zoneEditor(settings.cameras.find((camera) => camera.name === which), (change) => save({ version: settings.version, cameras: { [which]: change } }), load));
    };
    select.addEventListener("change", choose);
    choose();
    return h("section", { class: "card", "aria-label": "Cameras" }, h("div", { class: "row" }, h("h2", {}, "Cameras"), select), place);
  }

  // --- thresholds ---------------------------------------------------------------------------------------------------

  function thresholds(settings, curves) {
    const match = settings.match, curve = curves.curves.find((one) => one.camera === which) || curves.curves[0];
    const out = h("output", { for: "budget" }), plot = h("div");
    const slider = h("input", { type: "range", id: "budget", min: LOW, max: HIGH, step: 0.05, value: Math.log10(match.false_names_per_day),
      disabled: !mayChange() || match.threshold !== null, "aria-describedby": "budget-words" });
    const exact = h("input", { type: "number", id: "budget-exact", min: 0.01, step: "any", value: match.false_names_per_day, disabled: !mayChange() || match.threshold !== null,
      "aria-label": "False names a camera and day" });
    const passers = h("input", { type: "number", id: "passers", min: 1, step: 1, value: match.passers_by_per_day, disabled: !mayChange() });
    const candidates = h("input", { type: "checkbox", checked: match.candidates, disabled: !mayChange() });
    const similarity = (wanted) => {
      const log = Math.log(wanted), rows = curve.targets;
      const i = Math.max(1, rows.findIndex(([target]) => Math.log(target) >= log));
      const [[a, b], [c, d]] = [rows[i - 1], rows[i]], share = clamp((log - Math.log(a)) / (Math.log(c) - Math.log(a)));
      return b + share * (d - b);
    };
    const update = () => {
      const wanted = Number(exact.value) || match.false_names_per_day, asked = match.threshold ?? similarity(wanted);
      out.textContent = match.threshold !== null ? `The file fixes a similarity of ${match.threshold}; remove match.threshold to set false names.`
        : `${word(wanted)} at one camera with ${passers.value} strangers a day and ${curves.people} enrolled: similarity ${asked.toFixed(2)}.`
          + (wanted < curve.least ? ` The calibration supports no less than ${curve.least} a day.` : "");
      plot.replaceChildren(strangers(curve, [["asked for", asked, "threshold"]]));
    };
    slider.addEventListener("input", () => { exact.value = Number((10 ** Number(slider.value)).toPrecision(2)); update(); });
    exact.addEventListener("input", () => { if (Number(exact.value) > 0) slider.value = Math.log10(Number(exact.value)); update(); });
    passers.addEventListener("input", update);
    update();
    const send = () => save({ version: settings.version, match: {
      ...(match.threshold === null && Number(exact.value) !== match.false_names_per_day ? { false_names_per_day: Number(exact.value) } : {}),
      ...(Number(passers.value) !== match.passers_by_per_day ? { passers_by_per_day: Number(passers.value) } : {}),
      ...(candidates.checked !== match.candidates ? { candidates: candidates.checked } : {}),
    } });
    return h("section", { class: "card", "aria-label": "Names" }, h("h2", {}, "How sure a name must be"),
      h("label", { for: "budget" }, "False names that you accept, a camera and day"),
      h("div", { class: "row" }, slider, exact), h("p", { id: "budget-words" }, out), plot,
      h("label", { class: "inline", for: "passers" }, "Strangers who come by a camera, a day ", passers),
      h("label", { class: "check" }, candidates, "Say best guesses below that, for review"),
      mayChange() && h("div", { class: "row" }, h("button", { class: "primary", onclick: send }, "Save")));
  }

  // --- how long things are kept -------------------------------------------------------------------------------------

  function keeping(settings) {
    const fields = KEEPING.filter(([section]) => section === "journal" || settings.kept[section]).map(([section, key, text, unit]) => {
      const value = settings.keeping[section][key], id = `keep-${section}-${key}`;
      const field = h("input", { type: "number", id, min: 0, step: "any", value, disabled: !mayChange() });
      return { section, key, value, field, row: h("label", { class: "inline keep", for: id }, h("span", {}, text), field, h("span", { class: "unit" }, unit)) };
    });
    const off = [["history", "visits for searching back (history.path)"], ["record", "video (record.folder)"], ["journal", "events over restarts (journal.path)"],
      ["audit", "the audit log (audit.path)"]].filter(([section]) => !settings.kept[section]).map(([, text]) => text);
    const send = () => {
      const change = {};
      for (const { section, key, value, field } of fields) if (Number(field.value) !== value) (change[section] ??= {})[key] = Number(field.value);
      save({ version: settings.version, keeping: change });
    };
    return h("section", { class: "card", "aria-label": "How long things are kept" }, h("h2", {}, "How long things are kept"), ...fields.map(({ row }) => row),
      off.length > 0 && h("p", { class: "note" }, `Not kept on this box: ${off.join(", ")}. Switching one on needs a restart.`),
      mayChange() && h("div", { class: "row" }, h("button", { class: "primary", id: "save-keeping", onclick: send }, "Save")));
  }

  function history(settings) {
    return h("section", { class: "card", "aria-label": "Changes" }, h("h2", {}, "Changes made here"),
      settings.undo.length ? h("ol", { reversed: true }, ...[...settings.undo].reverse().map((what) => h("li", {}, what)))
        : h("p", { class: "empty" }, "None yet."),
      mayChange() && settings.undo.length > 0 && h("button", { onclick: undo }, "Take the latest back"));
  }
  return null;
}

const KEEPING = [
  ["journal", "keep_hours", "Events", "hours"], ["journal", "max_mb", "… at most", "MB"], ["history", "keep_hours", "Visits for searching back", "hours"],
  ["record", "keep_hours", "Video", "hours"], ["record", "max_mb", "… at most", "MB"],
  ["retention", "expired_days", "People, after they expired", "days"], ["audit", "keep_days", "Audit log (0: for ever)", "days"],
];
const clamp = (value) => Math.max(0, Math.min(1, value));
const word = (wanted) => (wanted >= 1 ? `${Number(wanted.toPrecision(2))} false names a day` : `One false name in ${Math.round(1 / wanted)} days`);
