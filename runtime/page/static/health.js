// Health: what the box does, as figures and plots of the last hour.
import { get } from "./api.js";
import { lines } from "./charts.js";
import { badge, h, span } from "./dom.js";

const CAUSES = { newer: "a newer one came", stale: "too old", rate: "max_fps", no_slot: "no room", bad: "unreadable", engine: "engine away", end: "end" };

export function show(main) {
  const body = h("div", { class: "health" });
  main.append(h("div", { class: "head" }, h("h1", {}, "Health")), body);
  let ended = false;

  async function load() {
    let state, samples;
    try {
      [state, { samples }] = await Promise.all([get("/api/state"), get("/api/history")]);
    } catch (error) {
      if (!ended) body.replaceChildren(h("p", { class: "empty" }, error.message));
      return;
    }
    if (!ended) body.replaceChildren(cards(state), cameraTable(state), plots(samples), doctor());
  }

  let findings = null; // of the doctor, asked now and then
  async function examine() {
    ({ findings } = await get("/api/doctor").catch(() => ({ findings })));
  }

  function doctor() {
    const kinds = { ok: ["fine", "good"], note: ["note", "warn"], problem: ["problem", "bad"] };
    return h("section", { class: "card", "aria-label": "Doctor" }, h("h2", {}, "What the doctor says"),
      findings === null ? h("p", { class: "loading" }, "Looking …") : h("ul", { class: "findings" }, ...(findings.length ? findings : [{ state: "ok", part: "machine", text: "nothing to complain about" }])
        .map((one) => h("li", {}, badge(...kinds[one.state]), " ", h("strong", {}, one.part), ` ${one.text}`))),
      h("p", { class: "note" }, "Machine, clock, disk and files. Engines, cameras and ports are tried by personsearch-doctor, with the stream stopped."));
  }

  const figure = (title, value, note = "", kind = "") => h("div", { class: `card figure ${kind}` }, h("h2", {}, title), h("p", { class: "value" }, value), h("p", { class: "note" }, note));

  function cards(state) {
    const { engine, latency, events, disk } = state;
    return h("div", { class: "figures" },
      figure("Engine", engine.state, `${engine.name || engine.reason}; ${engine.mean_ms} ms a batch, replaced ${engine.restarts} times`, engine.state === "ready" ? "good" : "bad"),
      figure("Latency", latency.p99_ms === null ? "–" : `${latency.p99_ms} ms`, latency.p50_ms === null ? "no frame was analysed yet" : `p99 from capture to event; median ${latency.p50_ms} ms`),
      figure("Events", events.sequence.toLocaleString(), events.failing ? `the disk refuses them: ${events.failing}`
        : events.kept_on_disk ? `kept ${events.keep_hours} h` : "kept while the stream runs (no journal.path)", events.failing ? "bad" : ""),
      figure("Disk", disk.free_mb === null ? "–" : `${(disk.free_mb / 1000).toFixed(1)} GB`, "free where events are kept", disk.free_mb !== null && disk.free_mb < 500 ? "bad" : ""),
      figure("Memory", `${Math.round(state.memory_mb)} MB`, "of the stream's own process"),
      figure("Running", span(state.up_s), `${state.people} enrolled; ${state.promise}`));
  }

  /** Of a camera whose people are described from another stream: how that one is. */
  function mainStream(detail) {
    if (!detail) return [];
    const { given = 0, ...others } = detail.views, asked = Object.values(others).reduce((sum, n) => sum + n, given);
    return [h("div", { title: detail.reason || "" }, "main stream ", badge(detail.state, detail.state === "online" ? "good" : detail.state === "starting" ? "" : "bad"),
      asked ? ` ${given} of ${asked} views` : "")];
  }

  function cameraTable(state) {
    const rows = state.cameras.map((camera) => {
      const dropped = Object.entries(camera.dropped || {}).filter(([, n]) => n);
      return h("tr", {}, h("th", { scope: "row" }, camera.name),
        h("td", {}, badge(camera.state, camera.state === "online" ? "good" : camera.state === "starting" ? "" : "bad"), " ", camera.cause || "", ...mainStream(camera.detail)),
        h("td", {}, state.up_s ? (camera.analysed / state.up_s).toFixed(1) : "–"),
        h("td", {}, dropped.map(([cause, n]) => `${n.toLocaleString()} ${CAUSES[cause] || cause}`).join(", ") || "none"),
        h("td", {}, `${camera.tracks ?? 0}`), h("td", {}, `${camera.failures ?? 0}`));
    });
    return h("section", { class: "card tablecard", tabindex: "0", "aria-label": "Cameras" }, h("table", {}, h("thead", {}, h("tr", {},
      ...["Camera", "State", "Frames/s", "Frames left out", "People", "Failures"].map((text) => h("th", { scope: "col" }, text)))), h("tbody", {}, ...rows)));
  }

  function plots(samples) {
    const at = (sample) => Date.parse(sample.time);
    const rate = (value) => samples.slice(1).map((sample, i) => {
      const seconds = (at(sample) - at(samples[i])) / 1000, change = value(sample) - value(samples[i]);
      return [at(sample), seconds > 0 && change >= 0 ? change / seconds : null];
    });
    const causes = [...new Set(samples.flatMap((sample) => Object.keys(sample.dropped)))];
    return h("div", { class: "plots" },
      ...[lines("From capture to event", "ms", [
        { name: "p99", values: samples.map((s) => [at(s), s.p99_ms]) }, { name: "median", values: samples.map((s) => [at(s), s.p50_ms]) }]),
      lines("Frames a second, all cameras", "", [
        { name: "captured", values: rate((s) => s.captured) }, { name: "analysed", values: rate((s) => s.analysed) }]),
      lines("Frames left out a second, by cause", "", causes.map((cause) => ({ name: CAUSES[cause] || cause, values: rate((s) => s.dropped[cause] || 0) }))),
      lines("Processor, cores", "", [{ name: "stream, engine and events", values: rate((s) => s.cpu_s) }]),
      ].map((plot) => h("div", { class: "card" }, plot)));
  }

  load();
  examine().then(load);
  const every = setInterval(() => document.hidden || load(), 5000), seldom = setInterval(() => document.hidden || examine(), 60e3);
  return () => { ended = true; clearInterval(every); clearInterval(seldom); };
}
