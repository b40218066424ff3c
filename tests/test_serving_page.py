"""The page of the service, in a real browser, over a real server with a real small gallery."""

from __future__ import annotations

import base64
import os
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, unquote, urlsplit

import pytest

from reidkit.datasets.drawn import draw_dataset
from tests import serving_page
from tests.browser import CONTRASTS, Visit, open_browser, open_tab, wait_until
from tests.serving_page import HOSTILE, PEOPLE, Sites

if TYPE_CHECKING:
    from playwright.sync_api import Page, Route

PAGE = Path(__file__).parent.parent / "src" / "reidkit" / "serving" / "page"
DEVICES: dict[str, dict[str, Any]] = {
    "desk": {"viewport": {"width": 1280, "height": 900}},
    "phone": {
        "viewport": {"width": 360, "height": 780},
        "has_touch": True,
        "device_scale_factor": 2,
    },
}
REFUSED_KEY = "status of 401"
VIEWS = ("search", "people", "person/Bruno", "enrol", "gallery")

Look = Callable[..., Visit]


@dataclass(frozen=True)
class World:
    """Two services, a tab for each device that looks at them, and pictures to search with."""

    sites: Sites
    data: Path
    open_tab: Callable[[str], Visit]

    def query(self, person: str, number: int = 0) -> str:
        """Give a picture of a person that is not in the gallery."""
        identity = next(key for key, name in PEOPLE.items() if name == person)
        return str(sorted((self.data / "query").glob(f"{identity:04}_*"))[number])


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("page")
    with ExitStack() as stack:
        browser = stack.enter_context(open_browser())
        draw_dataset(folder / "drawn", people=len(PEOPLE), cameras=4, seed=3, workers=1)
        sites = stack.enter_context(serving_page.serve_galleries(folder))

        @cache
        def open_once(device: str) -> Visit:
            return stack.enter_context(open_tab(browser, **DEVICES[device]))

        yield World(sites, folder / "drawn", open_once)


@pytest.fixture
def look(world: World) -> Iterator[Look]:
    """Open pages; at the end each must have kept to its own host without an error."""
    seen: list[tuple[Visit, tuple[str, ...]]] = []

    def open_page(
        view: str = "",
        *,
        key: str | None = None,
        device: str = "desk",
        allowed: tuple[str, ...] = (),
    ) -> Visit:
        one = world.open_tab(device)
        one.start(world.sites.plain if key is None else world.sites.keyed, view)
        seen.append((one, (*allowed, REFUSED_KEY) if key is not None else allowed))
        if key:
            enter_key(one.page, world.sites.keys[key])
            one.page.wait_for_selector("#key-dialog", state="hidden")
        wait_until(
            one.page,
            "document.querySelector('#who').textContent !== ''"
            " || document.querySelector('dialog[open]') !== null",
        )
        return one

    yield open_page
    for one, allowed in seen:
        one.check(allowed)


def enter_key(page: Page, key: str) -> None:
    page.wait_for_selector("#key-dialog[open]")
    page.fill("#key", key)
    page.keyboard.press("Enter")


def search(page: Page, *pictures: str) -> None:
    if pictures:
        page.set_input_files("#search-files", list(pictures))
    with page.expect_response("**/v1/search"):
        page.click("#search-button")
    page.wait_for_selector("#results:not([aria-busy]) .outcome")


def found(page: Page) -> list[str]:
    return page.locator(".person h3 a").all_text_contents()


def wait_for_pictures(page: Page) -> None:
    """Wait until every crop that is in sight shows its picture."""
    wait_until(
        page,
        "[...document.querySelectorAll('.crop .frame')].filter((frame) => {"
        " const box = frame.getBoundingClientRect();"
        " return box.height > 0 && box.top < innerHeight && box.bottom > 0; })"
        ".every((frame) => frame.querySelector('img')?.naturalWidth > 0)",
    )


def keep_picture(page: Page, name: str) -> None:
    """Keep a picture of the page where that is asked for, as README shows it."""
    folder = os.environ.get("REIDKIT_SCREENSHOTS")
    if folder:
        page.mouse.move(0, 0)
        if page.evaluate("innerWidth") == 1280:
            page.set_viewport_size({"width": 1280, "height": 1180})
            wait_for_pictures(page)
        page.screenshot(path=Path(folder) / name)


def give(page: Page, event: str, picture: str) -> None:
    """Paste or drop a picture file."""
    page.evaluate(
        """([kind, data]) => {
          const bytes = Uint8Array.from(atob(data), (character) => character.charCodeAt(0));
          const carried = new DataTransfer();
          carried.items.add(new File([bytes], "given.jpg", { type: "image/jpeg" }));
          const settings = { bubbles: true, cancelable: true };
          document.body.dispatchEvent(kind === "paste"
            ? new ClipboardEvent("paste", { ...settings, clipboardData: carried })
            : new DragEvent(kind, { ...settings, dataTransfer: carried }));
        }""",
        [event, base64.b64encode(Path(picture).read_bytes()).decode()],
    )


def test_a_chosen_picture_finds_its_person(world: World, look: Look) -> None:
    page = look(key="admin").page
    search(page, world.query("Bruno"))
    assert found(page)[0] == "Bruno"
    first = page.locator(".person").first
    assert first.locator(".verdict").inner_text().split() == ["✓", "same"]
    assert "Seen before: most likely Bruno" in page.inner_text(".outcome")
    assert "Seen before: most likely Bruno" in page.inner_text("#status")
    assert re.search(
        r"same from 0\.\d\d\d \(false accepts 0\.1 %\)", page.inner_text(".thresholds")
    )
    assert re.search(r"best 0\.\d{3}, mean 0\.\d{3} of \d+ crops", first.inner_text())
    assert first.locator(".scale .limit").count() == 2
    assert page.evaluate("document.activeElement.id") == "results-title"
    wait_for_pictures(page)
    assert first.locator("img").first.get_attribute("src", timeout=1000).startswith("blob:")  # type: ignore[union-attr]
    assert re.match(
        r"Bruno, (Entrance|Hall) \d, 2026-", first.locator("img").first.get_attribute("alt") or ""
    )
    keep_picture(page, "page-search.png")


def test_pictures_are_pasted_dropped_and_searched_with_together(world: World, look: Look) -> None:
    page = look().page
    for event in ("paste", "drop"):
        give(page, event, world.query("Chidi"))
        image = page.locator(".previews img")
        assert image.evaluate("image => image.decode().then(() => image.naturalWidth)") > 0
        search(page)
        assert found(page)[0] == "Chidi"
        page.click(".previews button")
    assert page.evaluate("window.revoked.length") >= 2
    page.click("#search-button")
    assert "picture first" in page.inner_text("#error")
    search(page, world.query("Anna"), world.query("Anna", 1))
    assert page.locator(".previews li").count() == 2
    assert found(page)[0] == "Anna"


def test_more_like_a_crop(world: World, look: Look) -> None:
    page = look().page
    search(page, world.query("Bruno"))
    wait_for_pictures(page)
    crop = page.locator(".person .crop").first.get_attribute("id")
    shown = page.locator(".person img[src]").evaluate_all("images => images.map((one) => one.src)")
    with page.expect_response("**/v1/search"):
        page.locator(".person .crop button").first.click()
    page.wait_for_selector("#results:not([aria-busy]) .outcome")
    assert "More like Bruno" in page.inner_text(".like")
    assert page.locator(f"#{crop}").count() == 0
    assert set(shown) <= set(page.evaluate("window.revoked"))


def test_filters_change_who_is_found(world: World, look: Look) -> None:
    page = look().page
    search(page, world.query("Bruno"))
    everybody = found(page)
    page.fill("#filter-camera", "Entrance 1")
    page.press("#filter-camera", "Enter")
    assert page.inner_text("#filter-cameras .chips bdi") == "Entrance 1"
    search(page)
    cameras = {
        text.split(" 0.")[0].split(" −")[0]
        for text in page.locator(".crop .camera").all_text_contents()[1:]
    }
    assert all(text.startswith("Entrance 1") for text in cameras)
    page.click("#clear-filters")
    page.fill("#filter-person", "Anna")
    search(page)
    assert found(page) == ["Anna"] != everybody
    page.click("#clear-filters")
    page.fill("#filter-until", "2020-01-01T00:00")
    search(page)
    assert found(page) == []
    assert "Nobody found" in page.inner_text(".outcome")
    page.click("#clear-filters")
    page.fill("#filter-since", "2020-01-01T00:00")
    page.fill("#filter-tag", "staff")
    page.fill("#filter-people", "1")
    search(page)
    assert len(found(page)) == 1
    assert all("staff" in text for text in page.locator(".person .tags").all_text_contents())


def test_enrolled_then_found_then_erased(world: World, look: Look, tmp_path: Path) -> None:
    page = look("#enrol").page
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"no picture")
    page.click("#enrol-button")
    assert "Choose" in page.inner_text("#error")
    page.set_input_files("#enrol-files", [world.query("Dalia"), str(broken)])
    page.click("#enrol-button")
    assert "name" in page.inner_text("#error")
    page.fill("#enrol-person", "Zoë / 7")
    page.fill("#enrol-camera", "Gate 9")
    page.fill("#enrol-time", "2026-11-20T10:15:30")
    page.fill("#enrol-tag", "guest")
    page.click("#enrol-button")
    page.wait_for_selector("#enrolled .done")
    assert "1 picture of Zoë / 7 enrolled" in page.inner_text("#enrolled")
    assert "broken.jpg" in page.inner_text("#enrolled .refused")
    page.click("nav a[href='#search']")
    search(page, world.query("Dalia"))
    assert found(page)[0] == "Zoë / 7"
    card = page.locator(".person").first.inner_text()
    assert all(part in card for part in ("Gate 9", "2026-11-20", "10:15:30", "guest"))
    page.locator(".person h3 a").first.click()
    erase(page, "Zoë / 7")
    page.click("nav a[href='#search']")
    search(page)
    assert "Zoë / 7" not in found(page)
    page.goto(page.url.split("#")[0] + "#people")
    page.wait_for_selector(".list li")
    assert "Zoë / 7" not in page.inner_text(".list")


def erase(page: Page, name: str) -> None:
    """Erase the person whose page is open, and look at each step."""
    page.wait_for_selector("#erase-button:visible")
    page.focus("#erase-button")
    page.keyboard.press("Enter")
    dialog = page.locator("#erase-dialog")
    assert f"Erase {name}?" in dialog.inner_text()
    assert "1 crop of" in dialog.inner_text()
    assert "cannot be undone" in dialog.inner_text()
    assert page.evaluate("document.activeElement.id") == "erase-name"
    page.keyboard.press("Escape")
    assert not dialog.is_visible()
    assert page.evaluate("document.activeElement.id") == "erase-button"
    page.keyboard.press("Enter")
    page.keyboard.type(name[:-1])
    assert page.is_disabled("#erase-confirm")
    page.keyboard.type(name[-1])
    with page.expect_response(lambda response: response.request.method == "DELETE"):
        page.keyboard.press("Enter")
    wait_until(page, "document.querySelector('#status').textContent.includes('erased')")
    assert f"1 crop of {name} erased" in page.inner_text("#status")
    assert page.evaluate("document.activeElement.id") == "people-title"


def test_refused_pictures_are_named_with_reasons(look: Look, tmp_path: Path) -> None:
    page = look("#enrol", allowed=("status of 4",)).page
    (tmp_path / "broken.jpg").write_bytes(b"no picture")
    page.set_input_files("#enrol-files", str(tmp_path / "broken.jpg"))
    page.fill("#enrol-person", "Nobody")
    page.click("#enrol-button")
    page.wait_for_selector("#enrolled .refused")
    assert "broken.jpg" in page.inner_text("#enrolled .refused")
    assert page.inner_text("#error")


def test_keys_are_asked_for_and_forgotten(world: World, look: Look) -> None:
    one = look(key="")
    page = one.page
    assert page.is_disabled("#search-button")
    assert page.evaluate("document.activeElement.id") == "key"
    enter_key(page, "rk_wrong")
    wait_until(page, "document.querySelector('#key-error').textContent !== ''")
    assert "does not know this key" in page.inner_text("#key-error")
    assert page.evaluate("[sessionStorage.length, localStorage.length, document.cookie]") == [
        0,
        0,
        "",
    ]
    enter_key(page, world.sites.keys["admin"])
    page.wait_for_selector("#key-dialog", state="hidden")
    assert page.inner_text("#who") == "admin"
    assert page.evaluate("[sessionStorage.length, localStorage.length, document.cookie]") == [
        1,
        0,
        "",
    ]
    search(page, world.query("Bruno"))
    page.reload()
    wait_until(page, "document.querySelector('#who').textContent === 'admin'")
    page.click("#forget-key")
    assert page.evaluate("sessionStorage.length") == 0
    assert page.locator("#key-dialog").is_visible()
    assert page.locator(".person").count() == 0
    assert page.is_disabled("#search-button")
    assert not any(world.sites.keys["admin"] in address for address in one.asked)


def test_roles_disable_what_a_key_may_not_do(look: Look) -> None:
    page = look("#enrol", key="search").page
    assert page.is_disabled("#enrol-button")
    assert page.is_disabled("#enrol-files")
    assert "may not do this: enrolling needs the role enrol" in page.inner_text("#enrol-reason")
    page.goto(page.url.split("#")[0] + "#person/Bruno")
    page.wait_for_selector("#erase-button:visible")
    assert page.is_disabled("#erase-button")
    assert "erasing needs the role erase" in page.inner_text("#erase-reason")
    page.click("nav a[href='#search']")
    assert page.is_enabled("#search-button")


def test_a_key_that_only_enrols_reads_nothing(look: Look) -> None:
    page = look("#enrol", key="enrol").page
    assert page.is_enabled("#enrol-button")
    page.click("nav a[href='#people']")
    wait_until(page, "document.querySelector('#status').textContent.includes('reading')")
    assert "reading the gallery needs the role search" in page.inner_text("#status")
    assert page.locator(".list li").count() == 0


def test_hostile_names_are_text(world: World, look: Look) -> None:
    page = look("#people").page
    page.wait_for_selector(".list li")
    page.get_by_role("link", name=HOSTILE).click()
    page.wait_for_selector("#person .crop")
    assert page.inner_text("#person-title") == HOSTILE
    page.click("#erase-button")
    assert page.inner_text("#erase-title") == f"Erase {HOSTILE}?"
    page.keyboard.press("Escape")
    page.click("nav a[href='#search']")
    search(page, world.query(HOSTILE))
    assert HOSTILE in found(page)
    assert page.locator("img[onerror], main script").count() == 0


def test_the_keyboard_alone_searches(world: World, look: Look) -> None:
    page = look().page

    def tab_to(wanted: str) -> None:
        for _ in range(80):
            page.keyboard.press("Tab")
            if page.evaluate("wanted => document.activeElement.matches(wanted)", wanted):
                assert page.evaluate(
                    "(() => { const at = document.activeElement;"
                    " const outline = getComputedStyle(at.closest('.drop') ?? at).outlineStyle;"
                    " return outline !== 'none' || at.closest('.mark') !== null; })()"
                )
                return
        pytest.fail(f"the keyboard does not reach {wanted}")

    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "skip"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "content"
    # Expected this early, as a key that comes just after that would open a window of the system.
    with page.expect_file_chooser() as chosen:
        tab_to("#search-files")
        page.keyboard.press("Space")
    chosen.value.set_files(world.query("Bruno"))
    tab_to("#search-button")
    page.keyboard.press("Enter")
    page.wait_for_selector("#results:not([aria-busy]) .outcome")
    assert page.evaluate("document.activeElement.id") == "results-title"
    tab_to(".person h3 a")
    tab_to(".crop button")
    tab_to(".mark")
    first = page.evaluate("document.activeElement.getAttribute('aria-label')")
    page.keyboard.press("ArrowRight")
    second = page.evaluate("document.activeElement.getAttribute('aria-label')")
    assert first != second
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.matches('.crop')")
    tab_to(".as-table summary")
    page.keyboard.press("Enter")
    table = page.locator(".person").first.locator("tbody tr")
    assert table.count() == page.locator(".person").first.locator(".mark").count()
    assert second.split(", ")[1] in table.nth(1).inner_text()


def test_a_phone_needs_no_sideways_scrolling(world: World, look: Look) -> None:
    page = look(key="admin", device="phone").page
    search(page, world.query("Bruno"))
    wait_for_pictures(page)
    keep_picture(page, "page-phone.png")
    small: list[str] = []
    for view in VIEWS:
        open_view(page, view)
        assert page.evaluate("document.documentElement.scrollWidth") <= 360, view
        small += page.evaluate(
            """() => [...document.querySelectorAll(
              "button, nav a, input, summary, .list a, h3 a, .drop label")]
              .filter((one) => one.checkVisibility() && !one.matches(".spoken"))
              .filter((one) => one.getBoundingClientRect().height < 44)
              .map((one) => one.outerHTML.slice(0, 90))"""
        )
    assert not small


def open_view(page: Page, view: str) -> None:
    """Open a view and wait for what it loads."""
    page.evaluate("view => { location.hash = view; }", view)
    loaded = {"people": ".list li", "person/Bruno": "#person .crop", "gallery": ".figures"}
    page.wait_for_selector(loaded.get(view, f"#view-{view} form"))


def test_texts_stand_out(world: World, look: Look) -> None:
    page = look(key="admin").page
    page.emulate_media(color_scheme="dark")
    search(page, world.query("Bruno"))
    wait_for_pictures(page)
    keep_picture(page, "page-dark.png")
    check_contrasts(page)


def check_contrasts(page: Page) -> None:
    """Refuse a text of any view that is hard to read in light or dark colours."""
    page.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
    for view in VIEWS:
        open_view(page, view)
        for scheme in ("light", "dark"):
            page.emulate_media(color_scheme=scheme)
            ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
            assert (ground == "rgb(255, 255, 255)") == (scheme == "light")
            contrasts = page.evaluate(CONTRASTS)
            assert len(contrasts) > 10
            assert not [found for found in contrasts if found[0] < 4.5]


def test_without_thresholds_nothing_is_called_the_same(world: World, look: Look) -> None:
    page = look().page
    search(page, world.query("Bruno"))
    assert "nothing can be said of “same”" in page.inner_text("#uncalibrated")
    assert page.locator(".verdict.same, .outcome.same, .scale .limit").count() == 0
    assert page.inner_text(".outcome .says") == f"Most alike: {found(page)[0]}"
    wait_for_pictures(page)
    open_view(page, "gallery")
    assert "nothing can be said of “same”" in page.inner_text("#statistics")
    check_contrasts(page)


def test_problems_are_told_in_words(world: World, look: Look) -> None:
    failures = ("status of 404", "status of 429", "status of 503", "status of 413", "ERR_FAILED")
    page = look("#person/Nobody", allowed=failures).page
    assert read_error(page) == "Nobody is named 'Nobody'."
    page.click("nav a[href='#search']")
    page.set_input_files("#search-files", world.query("Bruno"))
    refusal: dict[str, Any] = {
        "headers": {"Retry-After": "7", "Content-Type": "application/problem+json"},
        "body": '{"title": "No", "detail": "the queue is <b>full</b>"}',
    }
    page.route("**/v1/search", lambda route: route.fulfill(**refusal))
    for status, words in ((429, "Too many requests"), (503, "is busy"), (413, "too large")):
        refusal["status"] = status
        page.click("#search-button")
        said = read_error(page)
        assert words in said
        assert "<b>full</b>" in said
        assert ("Try again in 7 s." in said) == (status != 413)
    page.route("**/v1/search", lambda route: route.abort())
    page.click("#search-button")
    assert read_error(page) == "The service cannot be reached."


def read_error(page: Page) -> str:
    """Wait for the error that the page tells."""
    wait_until(page, "document.querySelector('#error').textContent !== ''")
    return page.inner_text("#error")


def answer_with(score: float) -> dict[str, Any]:
    """Give an answer of the service with one person whose scores are just below a threshold."""
    match = {"crop": 1, "score": score, "camera": "2", "time": None, "source": "", "tags": []}
    one = {"person": "ann", "verdict": "unknown", "best": score, "mean": score, "crops": 1}
    limits = {"same": 0.99799, "unsure": 0.997, "same_far": 0.01, "unsure_far": 0.1}
    return {
        "verdict": "unknown",
        "reason": "the best score is too low",
        "people": [one | {"matches": [match]}],
        "thresholds": limits | {"kind": "identification"},
        "searched": 1,
    }


def test_scores_are_told_from_thresholds(world: World, look: Look) -> None:
    page = look().page
    page.route("**/v1/search", lambda route: route.fulfill(json=answer_with(0.997985)))
    search(page, world.query("Bruno"))
    assert "same from 0.997990 " in page.inner_text(".thresholds")
    assert "best 0.997985, mean" in page.inner_text(".person")
    assert page.inner_text(".person .crop .camera").split()[:2] == ["camera", "2"]
    assert "The best score is too low." in page.inner_text(".outcome")


def test_an_answer_goes_with_its_pictures_and_errors_are_seen(world: World, look: Look) -> None:
    page = look(device="phone", allowed=("status of 503",)).page
    search(page, world.query("Bruno"))
    page.set_input_files("#search-files", world.query("Anna"))
    assert page.locator(".outcome").count() == 0
    search(page)
    page.route("**/v1/search", lambda route: route.fulfill(status=503, json={"detail": "x"}))
    page.locator(".person .crop button").last.click()
    assert read_error(page)
    assert page.locator(".outcome").count() == 0
    page.evaluate("scrollTo(0, 500)")
    top, bottom = page.evaluate(
        "(() => { const box = document.querySelector('#error').getBoundingClientRect();"
        " return [box.top, box.bottom]; })()"
    )
    assert 0 <= top < bottom <= 780


def describe_person(name: str, crops: int) -> dict[str, Any]:
    """Describe a person as the service does."""
    return {"name": name, "crops": crops, "cameras": ["2"], "first": None, "last": None}


def open_person(page: Page, name: str) -> None:
    """Open a person's page."""
    page.evaluate("name => { location.hash = 'person/' + encodeURIComponent(name); }", name)
    page.wait_for_selector("#erase-button:visible")
    assert "camera 2" in page.inner_text("#person .lead")


def test_names_cannot_hide(look: Look) -> None:
    page = look().page

    def answer(route: Route) -> None:
        name = unquote(route.request.url.partition("/persons/")[2].partition("?")[0])
        crop = {"crop": 1, "id": 1, "camera": "2", "time": None, "tags": []}
        route.fulfill(json={"person": describe_person(name, 1), "crops": [crop], "next": None})

    page.route("**/v1/persons/*", answer)
    for name, shown, typed in (
        ("\u202eevil", "[U+202E]evil", "evil"),
        ("double  space", "double  space", "double space"),
        ("\u200b", "[U+200B]", "[U+200B]"),
        ("n" * 200, "n" * 39 + "…", "n" * 200),
    ):
        open_person(page, name)
        assert page.locator("#person .crop").count() == 1
        assert not page.is_visible("#person-more")
        page.click("#erase-button")
        assert page.inner_text("#erase-title") == f"Erase {shown}?"
        page.fill("#erase-name", "other")
        assert page.is_disabled("#erase-confirm")
        page.fill("#erase-name", typed)
        assert page.is_enabled("#erase-confirm")
        page.keyboard.press("Escape")


def test_many_crops_come_in_parts(look: Look) -> None:
    page = look().page

    def answer(route: Route) -> None:
        asked = parse_qs(urlsplit(route.request.url).query)
        assert asked["limit"] == ["200"]
        after = int(asked.get("after", ["0"])[0])
        crops: list[dict[str, Any]] = [
            {"crop": i, "id": i, "camera": "2", "time": None, "tags": []}
            for i in range(after + 1, min(after + 200, 450) + 1)
        ]
        following = crops[-1]["id"] if crops[-1]["id"] < 450 else None
        person = describe_person("Many", 450)
        route.fulfill(json={"person": person, "crops": crops, "next": following})

    page.route("**/v1/persons/*", answer)
    page.route("**/picture", lambda route: route.fulfill(status=200, body=b""))
    open_person(page, "Many")
    for count in (200, 400, 450):
        wait_until(page, f"document.querySelectorAll('#person .crop').length === {count}")
        assert page.is_visible("#person-more") == (count < 450)
        if count < 450:
            page.click("#person-more")


def test_a_forgotten_key_leaves_nothing(world: World, look: Look) -> None:
    page = look(key="admin").page
    page.set_input_files("#search-files", world.query("Bruno"))
    open_view(page, "person/Bruno")
    held: list[Route] = []

    def hold(route: Route) -> None:
        held.append(route)

    page.route("**/v1/persons?*", hold)
    page.click("nav a[href='#people']")
    while not held:
        page.wait_for_timeout(20)
    page.click("#forget-key")
    page.wait_for_timeout(50)
    assert page.locator(".list li, .previews li, .crop").count() == 0
    assert page.evaluate("location.hash") == "#search"
    assert "Bruno" not in page.evaluate("document.title + document.body.textContent")
    page.keyboard.press("Escape")
    wait_until(page, "document.activeElement.id === 'enter-key'")


def test_people_are_listed_by_pages_and_names(look: Look) -> None:
    page = look().page
    names = [f"P{number:02}" for number in range(60)]

    def answer(route: Route) -> None:
        asked = dict(part.split("=") for part in route.request.url.split("?")[1].split("&"))
        rest = [
            name
            for name in names
            if name > asked.get("after", "") and asked.get("named", "") in name
        ]
        shown = rest[: int(asked["limit"])]
        persons: list[dict[str, Any]] = [
            {"name": name, "crops": 1, "cameras": [], "first": None, "last": None} for name in shown
        ]
        route.fulfill(
            json={"persons": persons, "next": shown[-1] if len(rest) > len(shown) else None}
        )

    page.route("**/v1/persons?*", answer)
    page.click("nav a[href='#people']")
    page.wait_for_selector(".list li")
    seen: list[str] = []
    for number in (1, 2, 3):
        wait_until(page, f"document.querySelector('#people-page').textContent === 'page {number}'")
        seen += page.locator(".list a").all_text_contents()
        if number < 3:
            page.click("#people-next")
    assert seen == names
    assert page.is_disabled("#people-next")
    page.click("#people-previous")
    wait_until(page, "document.querySelector('#people-page').textContent === 'page 2'")
    assert page.locator(".list a").first.text_content() == "P25"
    page.fill("#people-named", "P5")
    page.keyboard.press("Enter")
    wait_until(page, "document.querySelectorAll('.list li').length === 10")


def test_the_gallery_is_described(look: Look) -> None:
    page = look("#gallery", key="search").page
    page.wait_for_selector(".figures")
    figures = dict(
        zip(
            page.locator(".figures dt").all_text_contents(),
            page.locator(".figures .value").all_text_contents(),
            strict=True,
        )
    )
    assert figures["People"] == str(len(PEOPLE))
    assert figures["Cameras"] == "4"
    assert figures["On disk"].endswith("iB")
    said = page.inner_text("#statistics")
    assert all(
        part in said for part in ("exact", "✓ same", "? unsure", "0.1 %", "1 %", "numbers each")
    )
    assert re.search(r"\b[0-9a-f]{64}\b", said)


def test_responsible_use_is_a_page_of_the_service(look: Look) -> None:
    page = look().page
    page.click("footer summary")
    assert "does not know who anybody" in page.inner_text("footer")
    page.click("footer a")
    page.wait_for_selector("h1")
    assert page.inner_text("h1") == "Responsible use"
    assert page.evaluate("getComputedStyle(document.querySelector('main')).maxWidth") != "none"


def test_the_page_names_all_its_modules() -> None:
    named = re.findall(r'(?:href|src)="/page/(\w+\.js)"', (PAGE / "index.html").read_text())
    assert sorted(named) == sorted(path.name for path in PAGE.glob("*.js"))


def test_files_keep_to_the_strict_policy() -> None:
    for path in PAGE.iterdir():
        text = path.read_text()
        outside = re.findall(r"https?://[^\s\"'`]+", text)
        assert set(outside) <= {"http://www.w3.org/2000/svg"}, path.name
        assert "innerHTML" not in text
        assert "eval(" not in text
        if path.suffix == ".html":
            assert not re.search(r"<style|style=|<script(?![^>]* src=)|\son\w+=", text), path.name
