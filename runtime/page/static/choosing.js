// A picture, and the people in it to choose from: for enrolling and for searching.
import { get, post } from "./api.js";
import { h, percent, say } from "./dom.js";

/** Where pictures come from: a file that is dropped or chosen, or what a camera sees now. `onPicture` gets each one as
 * the box describes it. Gives {root, stage, take}; `stage` is where a picture is shown. */
export function pictureSources(onPicture, startWith = "") {
  const stage = h("div", { class: "stage" });
  const file = h("input", { type: "file", accept: "image/*", multiple: true, id: "file", class: "hidden" });
  const drop = h("label", { class: "drop", for: "file" }, h("strong", {}, "Drop a picture here"), h("span", {}, "or choose one from this device"), file);
  const camera = h("select", { "aria-label": "Camera" });
  const still = h("button", { type: "button", onclick: () => take(() => post("/api/stills", { camera: camera.value })) }, "Take a live picture");

  async function take(ask) {
    stage.replaceChildren(h("p", { class: "loading" }, "Looking for people … (the first picture takes a few seconds)"));
    try {
      onPicture(await ask());
    } catch (error) {
      stage.replaceChildren();
      say(error.message, "bad");
    }
  }

  const upload = (files) => { for (const one of files) take(() => post("/api/pictures", one)); };
  file.addEventListener("change", () => { upload([...file.files]); file.value = ""; });
  for (const kind of ["dragover", "dragenter"]) drop.addEventListener(kind, (event) => { event.preventDefault(); drop.classList.add("over"); });
  for (const kind of ["dragleave", "drop"]) drop.addEventListener(kind, () => drop.classList.remove("over"));
  drop.addEventListener("drop", (event) => { event.preventDefault(); upload([...event.dataTransfer.files]); });
  get("/api/state").then((state) => {
    const names = state.cameras.map((one) => one.name);
    camera.append(...names.map((name) => h("option", { value: name }, name)));
    if (names.includes(startWith)) {
      camera.value = startWith;
      still.click();
    }
  }).catch(() => {});
  const root = h("div", { class: "sources" }, drop, h("div", { class: "fromcamera" }, h("strong", {}, "From a camera"), camera, still));
  return { root, stage, take };
}

/** Show a picture with its people as buttons; `onChoose(number, button)` when one is pressed. One alone is chosen at once. */
export function showPeople(stage, found, question, onChoose) {
  const image = h("img", { src: `/api/pictures/${found.picture}`, alt: `A picture with ${found.people.length} people` });
  const boxes = found.people.map((person, i) => {
    const [x, y, w, hh] = person.box;
    const text = `Person ${i + 1}, quality ${percent(person.quality)}${person.complaints.length ? `: ${person.complaints.join(", ")}` : ""}`;
    const button = h("button", { type: "button", class: `facebox ${person.quality < 0.12 ? "poor" : ""}`, title: text, "aria-label": text, "aria-pressed": "false",
      style: { left: `${100 * x}%`, top: `${100 * y}%`, width: `${100 * w}%`, height: `${100 * hh}%` },
      onclick: () => onChoose(i, button) }, h("span", {}, percent(person.quality)));
    return button;
  });
  stage.replaceChildren(h("p", {}, found.people.length ? question : "Nobody was found in this picture."),
    h("div", { class: "picture" }, image, ...boxes));
  if (found.people.length === 1) boxes[0].click();
}
