// Start: who is there, which page, and what all pages share.
import { get, listen, mayChange, me, onEvent, post, stopListening } from "./api.js";
import { h, icon, say, typing } from "./dom.js";
import * as health from "./health.js";
import * as live from "./live.js";
import * as people from "./people.js";
import * as review from "./review.js";
import * as search from "./search.js";
import * as settings from "./settings.js";
import * as sightings from "./sightings.js";

const PAGES = [
  ["live", "Live", live], ["sightings", "Sightings", sightings], ["review", "Review", review], ["search", "Search", search],
  ["people", "People", people], ["settings", "Settings", settings], ["health", "Health", health],
];
const OPERATORS = ["review", "search"]; // who only looks has no use for these
const main = document.getElementById("main");
let leave = null; // what the page that is shown has to end

function theme() {
  const stored = localStorage.getItem("theme");
  if (stored) document.documentElement.dataset.theme = stored;
}

function switchTheme() {
  const dark = document.documentElement.dataset.theme
    ? document.documentElement.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  localStorage.setItem("theme", dark ? "light" : "dark");
  theme();
}

function bar() {
  const nav = document.getElementById("nav"), tools = document.getElementById("tools");
  nav.replaceChildren(...PAGES.filter(([name]) => !OPERATORS.includes(name) || mayChange()).map(([name, label], i) =>
    h("a", { href: `#/${name}`, "data-page": name, title: `${label} (Alt+${i + 1})` }, icon(name), h("span", {}, label))));
  tools.replaceChildren(
    h("span", { class: "who", title: me.role }, me.name),
    h("button", { class: "quiet", "aria-label": "Dark or light", title: "Dark or light", onclick: switchTheme }, icon("theme")),
    h("button", { class: "quiet", "aria-label": "Log out", title: "Log out", onclick: logout }, icon("out")));
  document.getElementById("bar").hidden = false;
}

async function logout() {
  await post("/api/logout").catch(() => {});
  location.hash = "";
  await start();
}

function show() {
  if (me.name === null) return;
  const [path, query = ""] = location.hash.replace(/^#\//, "").split("?");
  const [name, ...rest] = path.split("/");
  const page = PAGES.find(([known]) => known === name && (mayChange() || !OPERATORS.includes(known))) || PAGES[0];
  for (const link of document.querySelectorAll("#nav a")) {
    if (link.dataset.page === page[0]) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  if (leave) leave();
  document.title = `${page[1]} – personsearch`;
  main.replaceChildren();
  main.className = `page-${page[0]}`;
  leave = page[2].show(main, rest.map(decodeURIComponent), new URLSearchParams(query)) || null;
}

function login() {
  if (leave) leave();
  leave = null;
  stopListening();
  document.getElementById("bar").hidden = true;
  document.title = "Log in – personsearch";
  main.className = "page-login";
  const wrong = h("p", { class: "wrong", role: "alert" });
  const enter = async (body) => {
    wrong.textContent = "";
    try {
      await post("/api/login", body);
      await start();
    } catch (error) {
      wrong.textContent = error.message;
    }
  };
  const fields = me.first
    ? [h("p", {}, "Nobody has a password yet. The stream's log shows a link with a key, which lets you in on this machine; ",
        "personsearch-page-password sets a password."),
      h("label", {}, "Key", h("input", { name: "key", autocomplete: "off", required: true }))]
    : [h("label", {}, "Name", h("input", { name: "name", autocomplete: "username", required: true, autocapitalize: "none" })),
      h("label", {}, "Password", h("input", { name: "password", type: "password", autocomplete: "current-password", required: true }))];
  const form = h("form", { class: "card login", onsubmit: (event) => {
    event.preventDefault();
    enter(Object.fromEntries(new FormData(form)));
  } }, h("img", { src: "/icon.svg", alt: "", width: 56, height: 56 }), h("h1", {}, "personsearch"), ...fields,
  h("button", { class: "primary" }, "Log in"), wrong);
  main.replaceChildren(form);
  form.querySelector("input").focus();
  const key = new URLSearchParams(location.hash.slice(1)).get("key");
  if (key && me.first) {
    history.replaceState(null, "", location.pathname); // the key does not stay in the address
    enter({ key });
  }
}

function trouble(text) {
  const line = document.getElementById("trouble");
  line.hidden = !text;
  line.textContent = text;
}

let gone = 0;
function heard(good) {
  clearTimeout(gone);
  if (good) trouble("");
  else gone = setTimeout(() => trouble("The box does not answer. It is asked again every two seconds."), 2500);
}

async function start() {
  theme();
  try {
    Object.assign(me, { name: null, role: null }, await get("/api/me"));
  } catch (error) {
    trouble(error.message);
    setTimeout(start, 2000);
    return;
  }
  trouble("");
  if (me.name === null) return login();
  bar();
  listen(heard);
  get("/api/state").then((state) => { document.getElementById("box").textContent = state.box; }).catch(() => {});
  show();
}

onEvent(({ event }) => {
  if (event.type === "settings" && event.state === "rejected") say(`The stream kept its old settings: ${event.reason}`, "bad");
  if (event.type === "camera" && event.state !== "online") say(`${event.camera}: ${event.state} ${event.cause || ""}`, "warn");
  if (event.type === "engine" && event.state !== "ready") say(`Engine: ${event.state}. ${event.reason || ""}`, "bad");
  if (event.type === "storage") say(event.state === "ok" ? "The disk takes events again." : `The disk refuses events: ${event.reason}`, "warn");
});
window.addEventListener("hashchange", () => { if (!/^#(main|key=)/.test(location.hash)) { show(); main.focus({ preventScroll: true }); } });
window.addEventListener("logged-out", start);
window.addEventListener("keydown", (event) => {
  if (event.altKey && /^[1-7]$/.test(event.key)) {
    event.preventDefault();
    document.querySelectorAll("#nav a")[Number(event.key) - 1]?.click();
  } else if (event.key === "?" && !typing(event)) say("Alt+1 to 7: pages. Live: b boxes, z zones, digits enlarge, Esc back. Review: y, n, o, u.");
});
start();
