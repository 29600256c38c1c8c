// Plots as SVG, with the same figures in words for those who do not see them.
import { h } from "./dom.js";

const WIDE = 460, TALL = 150, LEFT = 44, BOTTOM = 22;

/** Lines over time. series: [{name, values: [[ms, number or null]], kind}]; the vertical axis begins at 0. */
export function lines(title, unit, series) {
  const points = series.flatMap((one) => one.values).filter(([, value]) => value !== null && Number.isFinite(value));
  const root = h("figure", { class: "chart" }, h("figcaption", {}, title));
  if (points.length < 2) {
    root.append(h("p", { class: "empty" }, "Not enough samples yet; there is one every five seconds."));
    return root;
  }
  const from = Math.min(...points.map(([t]) => t)), to = Math.max(...points.map(([t]) => t));
  const most = nice(Math.max(...points.map(([, value]) => value), 1e-9));
  const x = (t) => LEFT + (WIDE - LEFT - 8) * (t - from) / Math.max(1, to - from);
  const y = (value) => TALL - BOTTOM - (TALL - BOTTOM - 10) * value / most;
  const words = series.map((one) => `${one.name} ${text(last(one.values))} ${unit}`).join(", ");
  const plot = h("svg", { viewBox: `0 0 ${WIDE} ${TALL}`, role: "img", "aria-label": `${title}: ${words}` });
  for (const share of [0, 0.5, 1]) {
    plot.append(h("line", { x1: LEFT, x2: WIDE - 8, y1: y(share * most), y2: y(share * most), class: "rule" }),
      h("text", { x: LEFT - 6, y: y(share * most) + 4, class: "tick end" }, text(share * most)));
  }
  const clock = (t) => new Date(t).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
  plot.append(h("text", { x: x(to), y: TALL - 6, class: "tick end" }, clock(to)));
  if (clock(from) !== clock(to)) plot.append(h("text", { x: x(from), y: TALL - 6, class: "tick" }, clock(from)));
  series.forEach((one, i) => {
    let part = [];
    const flush = () => {
      if (part.length > 1) plot.append(h("polyline", { points: part.join(" "), class: `line l${i % 6}` }));
      part = [];
    };
    for (const [t, value] of one.values) {
      if (value === null || !Number.isFinite(value)) flush();
      else part.push(`${x(t).toFixed(1)},${y(value).toFixed(1)}`);
    }
    flush();
  });
  root.append(plot, h("p", { class: "legend" }, ...series.map((one, i) =>
    h("span", { class: `l${i % 6}` }, `${one.name} ${text(last(one.values))} ${unit}`))));
  return root;
}

const last = (values) => values.findLast(([, value]) => value !== null && Number.isFinite(value))?.[1] ?? 0;
const text = (value) => (value >= 100 ? Math.round(value).toLocaleString() : value >= 10 ? value.toFixed(0) : Number(value.toPrecision(2)).toString());

function nice(value) {
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 5, 10].find((step) => step * power >= value) * power;
}

/** The curve of strangers (share of pairs at least so alike, logarithmic), with marks [[label, similarity, kind]]. */
export function strangers(curve, marks) {
  const points = curve.impostor, least = Math.log10(points.at(-1)[1]) - 0.3;
  const values = [...points.map(([s]) => s), ...marks.map(([, s]) => s)].filter(Number.isFinite);
  const from = Math.min(0, ...values), to = Math.max(0.7, ...values) + 0.03;
  const x = (s) => LEFT + (WIDE - LEFT - 8) * (s - from) / (to - from);
  const y = (rate) => 14 + (TALL - BOTTOM - 18) * Math.log10(rate) / least;
  const words = marks.map(([label, s]) => `${label} ${s?.toFixed(2)}`).join(", ");
  const plot = h("svg", { viewBox: `0 0 ${WIDE} ${TALL}`, role: "img", "aria-label": `Curve of strangers; ${words}` });
  for (let power = 0; power > least; power -= 1) {
    plot.append(h("line", { x1: LEFT, x2: WIDE - 8, y1: y(10 ** power), y2: y(10 ** power), class: "rule" }),
      h("text", { x: LEFT - 6, y: y(10 ** power) + 4, class: "tick end" }, power === 0 ? "all" : `1:10${power < -1 ? superscript(-power) : ""}`));
  }
  plot.append(h("polyline", { points: points.map(([s, rate]) => `${x(s).toFixed(1)},${y(rate).toFixed(1)}`).join(" "), class: "line l0" }));
  marks.forEach(([label, s, kind], i) => {
    if (!Number.isFinite(s)) return;
    const near = marks.some(([, other]) => other > s && x(other) - x(s) < 110); // its label would run over the other line
    const right = x(s) > WIDE * 0.7 || near;
    plot.append(h("line", { x1: x(s), x2: x(s), y1: 4, y2: TALL - BOTTOM, class: `mark ${kind}` }),
      h("text", { x: x(s) + (right ? -5 : 5), y: 14 + 15 * i, class: `tick ${right ? "end" : ""} ${kind}` }, `${label} ${s.toFixed(2)}`));
  });
  plot.append(h("text", { x: LEFT, y: TALL - 6, class: "tick" }, `similarity ${from.toFixed(1)}`),
    h("text", { x: WIDE - 8, y: TALL - 6, class: "tick end" }, to.toFixed(2)));
  return h("figure", { class: "chart" }, plot);
}

/** The log likelihood ratio over the similarity, before and after the answers, which are dots: [[similarity, llr, yes]]. */
export function likelihood(before, after, points) {
  const ratios = [...before, ...after].map(([, llr]) => llr), low = Math.min(-4, ...ratios), high = Math.max(8, ...ratios);
  const x = (s) => LEFT + (WIDE - LEFT - 8) * s / 0.9, y = (llr) => 8 + (TALL - BOTTOM - 12) * (high - llr) / (high - low);
  const yes = points.filter(([, , right]) => right).length;
  const plot = h("svg", { viewBox: `0 0 ${WIDE} ${TALL}`, role: "img",
    "aria-label": `Likelihood over similarity; ${yes} answers yes, ${points.length - yes} no` });
  for (const [llr, text] of [[Math.log(1000), "×1000"], [0, "even"], [-Math.log(1000), "1:1000"]]) {
    if (llr < low || llr > high) continue;
    plot.append(h("line", { x1: LEFT, x2: WIDE - 8, y1: y(llr), y2: y(llr), class: "rule" }), h("text", { x: LEFT - 6, y: y(llr) + 4, class: "tick end" }, text));
  }
  const draw = (line, kind) => plot.append(h("polyline", { points: line.map(([s, llr]) => `${x(s).toFixed(1)},${y(llr).toFixed(1)}`).join(" "), class: `line ${kind}` }));
  draw(before, "l0");
  if (after.length) draw(after, "l1");
  for (const [s, , right] of points) plot.append(h("circle", { cx: x(Math.max(0, Math.min(0.9, s))), cy: right ? 12 : TALL - BOTTOM - 6, r: 3.5, class: `dot ${right ? "yes" : "no"}` }));
  plot.append(h("text", { x: LEFT, y: TALL - 6, class: "tick" }, "similarity 0"), h("text", { x: WIDE - 8, y: TALL - 6, class: "tick end" }, "0.9"));
  return h("figure", { class: "chart" }, plot, h("p", { class: "legend" }, h("span", { class: "l0" }, "calibration"), after.length > 0 && h("span", { class: "l1" }, "with the answers"),
    h("span", { class: "l2" }, "yes (above)"), h("span", { class: "l4" }, "no (below)")));
}

const superscript = (n) => [...String(n)].map((d) => "⁰¹²³⁴⁵⁶⁷⁸⁹"[d]).join("");
