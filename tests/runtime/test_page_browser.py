"""The operator's page in a real browser: headless Chromium on a running box. Skips where there is none.

With PERSONSEARCH_SCREENSHOTS=FOLDER it leaves the pictures of docs/page.md there.
"""

import os
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("starlette", reason="needs personsearch[page]")

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "faults"))
from page_box import Box, candidate, within

playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright (personsearch[drive])")
axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="needs axe (personsearch[drive])")

CHROMIUM = next((p for p in map(shutil.which, ("chromium", "chromium-browser", "google-chrome")) if p), None)
pytestmark = [
    pytest.mark.slow,  # a browser beside a stream
    pytest.mark.skipif(CHROMIUM is None, reason="needs a browser: apt-get install chromium"),
]
PAGES = ("live", "sightings", "review", "search", "people", "settings", "health")
DESKTOP, PHONE = {"width": 1280, "height": 800}, {"width": 390, "height": 844}
READY = {  # what a page shows once its calls were answered
    "live": ("canvas[data-frame]",), "sightings": (".rowcard, .sightings .empty",), "review": (".question, .empty",),
    "search": (".drop",), "people": (".person",), "settings": ("#save-keeping",), "health": (".findings", ".plots"),
}  # fmt: skip
SERIOUS = ("serious", "critical")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


class Window:
    """A tab that has logged in; what its console complains about is kept."""

    def __init__(self, browser: Any, box: Box, size: dict[str, int], scheme: str) -> None:
        self.box, self.complaints = box, []  # type: ignore[var-annotated]
        self.context = browser.new_context(viewport=size, color_scheme=scheme)
        self.tab = self.context.new_page()
        self.tab.set_default_timeout(180_000)
        self.tab.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.tab.on("console", lambda message: message.type == "error" and self.complaints.append(message.text))

    def go(self, where: str) -> None:
        self.tab.evaluate(f"location.hash = '#/{where}'")
        self.tab.wait_for_selector("main h1")

    def person(self, name: str) -> Any:
        """The card of somebody enrolled."""
        link = self.tab.get_by_role("link", name=name, exact=True)
        return self.tab.locator(".person").filter(has=link)

    def picture(self, name: str) -> None:
        if folder := os.environ.get("PERSONSEARCH_SCREENSHOTS"):
            self.tab.evaluate("document.getElementById('toasts').replaceChildren(); scrollTo(0, 0)")
            self.tab.wait_for_timeout(300)
            self.tab.screenshot(path=str(Path(folder) / f"{name}.png"))


@pytest.fixture(scope="module")
def window(browser: Any, box: Box) -> Iterator[Window]:
    window = Window(browser, box, DESKTOP, "light")
    with box.client():  # the page's process has started
        pass
    began = time.monotonic()
    window.tab.goto(box.page.link)
    window.tab.wait_for_selector(".tile")
    print(f"usable after {time.monotonic() - began:.2f} s")
    yield window
    assert not window.complaints  # among them what the content security policy forbids
    window.context.close()


def test_the_page_is_usable_soon(window: Window) -> None:
    """From the first byte of the page's own navigation to a camera's tile, as the browser measured it."""
    ready = window.tab.evaluate("performance.now() - performance.getEntriesByType('navigation')[0].startTime")
    entries = window.tab.evaluate("performance.getEntriesByType('resource').map((e) => e.name)")
    assert "key=" not in window.tab.url  # the key does not stay in the address
    assert not [name for name in entries if not name.startswith(window.box.url)]  # nothing from elsewhere
    print(f"{len(entries)} files and calls, looked at after {ready / 1000:.1f} s")


def test_a_camera_is_seen_to_move(window: Window) -> None:
    """Number and pixels of a picture are read in one step: the next one may come at any time."""
    tab = window.tab
    shown = """() => {
        const canvas = document.querySelector('[data-camera=street-1] canvas');
        return canvas.dataset.frame ? {frame: canvas.dataset.frame, pixels: canvas.toDataURL()} : null;
    }"""
    first = tab.wait_for_function(shown).json_value()
    tab.wait_for_function(
        f"(first) => {{ const now = ({shown})(); return now.frame !== first.frame && now.pixels !== first.pixels; }}",
        arg=first,
    )
    boxes = tab.locator("#show-boxes")
    tab.keyboard.press("b")
    playwright.expect(boxes).not_to_be_checked()
    tab.keyboard.press("b")
    playwright.expect(boxes).to_be_checked()
    tab.keyboard.press("1")
    tab.wait_for_selector(".live.one")
    tab.keyboard.press("Escape")
    tab.wait_for_selector(".live:not(.one)")


def enrol_from_live(window: Window, name: str) -> None:
    window.go("people?camera=street-1")  # takes a picture by itself
    tab = window.tab
    for _ in range(20):  # until somebody is seen well enough
        tab.wait_for_selector(".stage p:not(.loading)")
        good = tab.locator(".facebox:not(.poor)")
        if good.count():
            break
        tab.get_by_role("button", name="Take a live picture").click()
        tab.wait_for_selector(".stage .loading", state="attached")
    best = max(range(good.count()), key=lambda i: int(good.nth(i).inner_text().split()[0]))
    if good.nth(best).get_attribute("aria-pressed") == "false":
        good.nth(best).click()
    tab.locator(".chosen input[type=checkbox]").first.wait_for()  # the views of the track are proposed
    tab.get_by_placeholder("Name").fill(name)
    window.picture("desktop-people")
    tab.get_by_role("button", name="Enrol", exact=True).click()
    anyway = tab.get_by_role("button", name="Enrol all the same")
    enrolled = window.person(name)
    enrolled.or_(anyway).first.wait_for()
    if anyway.count():
        anyway.click()
    enrolled.wait_for()


def test_somebody_is_enrolled_from_a_live_frame_and_the_event_arrives(window: Window) -> None:
    enrol_from_live(window, "Bo")
    tab = window.tab
    window.go("sightings?person=Bo&kind=sighting")
    row = tab.locator(".rowcard", has_text="Bo").first
    row.wait_for()  # it comes with the stream of events
    row.click()
    tab.get_by_role("heading", name="The decision").wait_for()
    assert tab.locator(".chart svg").count() == 1
    for _ in range(20):  # the views of the track come a little later
        tab.get_by_role("heading", name="Why").wait_for()
        tab.locator("h2", has_text="Views").or_(tab.locator("h2", has_text="Seen")).first.wait_for()
        if tab.locator(".cosines").count():
            break
        tab.reload()
    assert tab.locator(".cosine").count() >= 1
    window.picture("desktop-why")


def test_visits_are_searched_back_from_a_sighting(window: Window) -> None:
    """A visit lies in the history as soon as it has ended; until then the search is asked again."""
    window.go("sightings?person=Bo&kind=sighting")
    tab = window.tab
    tab.locator(".rowcard", has_text="Bo").first.click()
    tab.get_by_role("link", name="Find this person").click()
    found = tab.locator(".hit")
    for _ in range(60):
        tab.locator(".found h2, .found .empty").first.wait_for()
        if found.filter(has_text="Bo").count():
            break
        tab.wait_for_timeout(1000)
        tab.reload()
    assert found.filter(has_text="Bo").count()
    assert "others:" in found.first.inner_text()
    window.picture("desktop-search")
    with tab.expect_download() as sheet:
        tab.get_by_role("link", name="Contact sheet").click()
    assert Path(sheet.value.path()).read_bytes()[:4] == b"\x89PNG"
    tab.get_by_label("Somebody enrolled").select_option("Person 1")
    tab.locator(".found h2").wait_for()
    assert tab.url.endswith("search?name=Person%201")


def test_a_guess_is_answered_with_one_key_and_taken_back(window: Window) -> None:
    """A track in sight is said to be possibly somebody, as the stream says it; the operator answers."""
    box, tab = window.box, window.tab
    window.go("review")

    def guess() -> Any:
        for track in [t.number for t in box.pipeline.people.of("street-2").tracks]:
            box.publisher.publish(candidate(box, track))
        return tab.locator(".question").count()

    within(180, guess)
    tab.keyboard.press("n")
    answered = tab.locator(".recent li")
    answered.first.wait_for()
    assert answered.first.inner_text().startswith("not ")
    window.picture("desktop-review")
    tab.keyboard.press("u")
    answered.first.wait_for(state="detached")


def test_two_people_are_merged_and_taken_apart_again(window: Window) -> None:
    window.go("people")
    tab = window.tab
    tab.get_by_role("button", name="Merge Person 1", exact=True).click()
    tab.get_by_label("Who is the same person").select_option("Person 2")
    tab.locator("dialog").get_by_role("button", name="Merge", exact=True).click()
    window.person("Person 2").wait_for(state="detached")
    within(120, lambda: "Person 2" not in window.box.pipeline.gallery.people)  # the stream knows
    tab.get_by_role("button", name="Edit Person 1", exact=True).click()
    tab.get_by_label("Labels, with commas between").fill("staff, night")
    tab.locator("dialog").get_by_role("button", name="Save").click()
    window.person("Person 1").locator(".badge", has_text="night").wait_for()
    tab.get_by_role("button", name="Edit Person 1", exact=True).click()
    tab.get_by_role("button", name="take apart").click()
    window.person("Person 2").wait_for()
    within(120, lambda: "Person 2" in window.box.pipeline.gallery.people)


def test_somebody_is_forgotten_with_a_receipt(window: Window) -> None:
    window.go("people")
    tab = window.tab
    tab.get_by_role("button", name="Forget Bo", exact=True).click()
    box = tab.locator("dialog")
    box.get_by_text("This erases for good").wait_for()
    assert "event" in box.inner_text()
    window.picture("desktop-forget")
    box.get_by_label("Type the name to confirm").fill("Bo")
    box.get_by_role("button", name="Erase for good").click()
    tab.locator(".receipt").wait_for()
    assert '"complete": true' in tab.locator(".receipt").inner_text()
    with tab.expect_download() as receipt:
        tab.get_by_role("button", name="Save the receipt").click()
    assert "personsearch-receipt" in Path(receipt.value.path()).read_text()
    tab.keyboard.press("Escape")
    window.person("Bo").wait_for(state="detached")
    window.go("sightings?person=Bo")
    tab.get_by_text("Nobody fits").wait_for()


def test_zones_are_drawn_with_the_mouse(window: Window) -> None:
    window.go("settings/street-1")
    tab = window.tab
    tab.locator(".editor .note", has_text="Taking").wait_for(state="detached")
    canvas = tab.locator(".editor canvas")

    def at(x: float, y: float) -> tuple[float, float]:
        place = canvas.bounding_box()
        return place["x"] + x * place["width"], place["y"] + y * place["height"]

    for corner in ((0.1, 0.5), (0.4, 0.5), (0.4, 0.9), (0.1, 0.9)):
        tab.mouse.click(*at(*corner))
    tab.get_by_role("button", name="Close the zone").click()
    tab.get_by_label("Name of zone 1").fill("till")
    tab.get_by_label("Name of zone 1").press("Tab")
    tab.get_by_label("ignore people here (box)").check()
    tab.mouse.move(*at(0.05, 0.05))
    tab.mouse.down()
    tab.mouse.move(*at(0.30, 0.40), steps=4)
    tab.mouse.up()
    tab.get_by_label("Remove Ignore 1").wait_for()
    window.picture("desktop-settings")
    tab.locator("#save-zones").click()
    tab.get_by_text("Written:").first.wait_for()
    pipeline = window.box.pipeline
    settings = within(120, lambda: (s := pipeline.camera("street-1").settings).ignore and s)
    ((left, top, wide, tall),) = settings.ignore
    assert np.allclose((left, top, wide, tall), (0.05, 0.05, 0.25, 0.35), atol=0.02)
    assert settings.zones[0].name == "till"
    assert np.allclose(settings.zones[0].polygon, [(0.1, 0.5), (0.4, 0.5), (0.4, 0.9), (0.1, 0.9)], atol=0.02)
    assert "# A box for tests." in window.box.cams.read_text()
    tab.get_by_role("button", name="Take the latest back").click()
    tab.get_by_text("Taken back:").first.wait_for()
    within(120, lambda: not pipeline.camera("street-1").settings.ignore)


@pytest.mark.parametrize(("name", "size", "scheme"), [("desktop", DESKTOP, "light"), ("phone", PHONE, "dark")])
def test_every_page_fits_and_has_no_serious_fault_for_screen_readers(
    browser: Any, box: Box, window: Window, name: str, size: dict[str, int], scheme: str
) -> None:
    other = Window(browser, box, size, scheme)
    other.context.add_cookies(window.context.cookies())
    other.tab.goto(f"{box.url}/#/live")
    for page in PAGES:
        other.go(page)
        other.tab.wait_for_selector(f"main.page-{page}")
        for ready in READY.get(page, ()):
            other.tab.locator(ready).first.wait_for()
        other.tab.wait_for_load_state("load")
        assert other.tab.evaluate("document.documentElement.scrollWidth") <= size["width"], page
        if not (name == "desktop" and page in ("people", "settings", "search", "review")):  # they come with work done
            other.picture(f"{name}-{page}")
        found = axe.Axe().run(other.tab).response["violations"]
        serious = [(v["id"], [node["html"][:150] for node in v["nodes"]][:3]) for v in found if v["impact"] in SERIOUS]
        assert not serious, (page, serious)
    assert not other.complaints
    other.context.close()


def test_ten_thousand_sightings_scroll_smoothly(browser: Any, box: Box, window: Window) -> None:
    """The list is given ten thousand rows; only those in sight become elements, and no frame takes long."""
    other = Window(browser, box, DESKTOP, "light")
    other.context.add_cookies(window.context.cookies())
    row = {
        "kind": "match", "name": "Ada", "person": "", "stranger": "", "zones": [], "cameras": ["yard"], "change": "",
        "started": "2026-01-01T00:00:00Z", "last_seen": "2026-01-01T00:00:09Z", "words": "seen 9 times", "stays": [],
        "picture": False,
    }  # fmt: skip

    def many(route: Any) -> None:
        begin = int(route.request.url.rpartition("from=")[2])
        rows = [{**row, "id": f"m-{n}"} for n in range(begin, begin + 500)]
        route.fulfill(json={"rows": rows, "more": begin + 500 < 10_000})

    other.tab.route("**/api/sightings?*", many)
    other.tab.route("**/api/events*", lambda route: route.abort())  # the box goes on saying new ones
    other.tab.goto(f"{box.url}/#/sightings")
    other.tab.wait_for_selector(".rowcard")
    other.tab.wait_for_function(
        """() => {
            document.querySelector('.virtual').scrollTop = 1e9; // asks for what comes next
            return document.querySelector('.summary').textContent === '10000 visits';
        }"""
    )
    frames = other.tab.evaluate(
        """async () => {
            const box = document.querySelector('.virtual'), times = [];
            let before = performance.now();
            for (let i = 0; i < 60; i++) {
                box.scrollTop = (i * 9973) % (box.scrollHeight - box.clientHeight);
                await new Promise(requestAnimationFrame);
                times.push(performance.now() - before);
                before = performance.now();
            }
            return {median: times.sort((a, b) => a - b)[30], items: document.querySelectorAll('.item').length};
        }"""
    )
    print(f"scrolling ten thousand rows: {frames['median']:.1f} ms a frame")
    assert frames["items"] < 60
    assert frames["median"] < 250  # 16 on a quiet machine
    other.context.close()
