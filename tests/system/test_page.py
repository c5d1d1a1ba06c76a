"""The page in a browser, on a real server: what a person does first, at a desk and on a phone."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from tests.system.server import served

ROOT = Path(__file__).parents[2]
CHROMIUM = shutil.which("chromium")
AXE = ROOT / "web" / "node_modules" / "axe-core" / "axe.min.js"
FLAGS = ("--no-sandbox", "--disable-gpu", "--disable-background-networking",
         "--disable-component-update", "--disable-sync", "--no-first-run")  # fmt: skip
# Where these are kept for people to look at; by default nowhere that lasts.
SHOTS = os.environ.get("DIPTYCH_SHOTS", "")

pytestmark = pytest.mark.skipif(
    CHROMIUM is None and not os.environ.get("DIPTYCH_NEED_CHROMIUM"),
    reason="no Chromium here: apt-get install chromium",
)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with served(tmp_path_factory.mktemp("data")) as (address, _):
        yield address


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as play:
        opened = play.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
        yield opened
        opened.close()


def opened(browser: Browser, base: str, **more: object) -> tuple[Page, list[str]]:
    """The page, and what its console complains of."""
    page = browser.new_context(bypass_csp=True, **more).new_page()  # pyright: ignore
    said: list[str] = []
    page.on("console", lambda one: said.append(one.text) if one.type == "error" else None)
    page.on("pageerror", lambda error: said.append(str(error)))
    page.goto(base)
    page.wait_for_selector("button.main")
    return page, said


def painted(page: Page, prompt: str) -> None:
    page.fill("#prompt", prompt)
    page.keyboard.press("Control+Enter")
    page.wait_for_selector(f".stage img[alt='{prompt}']:not(.preview)", timeout=60_000)


def violations(page: Page) -> list[str]:
    page.add_script_tag(path=str(AXE))
    found = page.evaluate("async () => (await axe.run()).violations")
    return [f"{one['id']}: {one['nodes'][0]['html'][:120]}" for one in found]


def shot(page: Page, name: str) -> None:
    if SHOTS:
        page.screenshot(path=str(Path(SHOTS) / f"{name}.png"), full_page=True)


def test_words_become_a_picture_and_the_picture_words(browser: Browser, base: str):
    page, said = opened(browser, base, viewport={"width": 1280, "height": 900})
    painted(page, "a large red circle above a small blue square")
    page.click("text=Caption")
    page.wait_for_selector(".reading dd:has-text('circle')")
    page.fill("[placeholder='Ask about it']", "what color is the circle?")
    page.keyboard.press("Enter")
    page.wait_for_selector(".reading dd:has-text('red')")
    assert violations(page) == [] and said == []
    shot(page, "desk-light")
    page.emulate_media(color_scheme="dark")
    assert violations(page) == []
    shot(page, "desk-dark")
    # A reload and the picture is there still: it is the server's.
    page.reload()
    page.wait_for_selector(".gallery img")
    assert page.input_value("#prompt") == "a large red circle above a small blue square"


def test_unknown_words_are_marked_before_anything_is_painted(browser: Browser, base: str):
    page, _ = opened(browser, base)
    page.fill("#prompt", "a purple zebra")
    assert "zebra" in page.inner_text("#prompt-note")
    assert page.is_disabled("button.main")


def test_a_dropped_picture_gives_its_recipe_back(browser: Browser, base: str, tmp_path: Path):
    page, _ = opened(browser, base)
    page.fill("#seed", "77")
    painted(page, "two red hearts")
    path = tmp_path / "saved.png"
    source = page.get_attribute(".stage img", "src")
    path.write_bytes(page.request.get(base + str(source)).body())
    page.fill("#prompt", "something else")
    page.fill("#seed", "")
    page.set_input_files("input[type=file]", str(path))
    page.click("text=Use this recipe")
    assert page.input_value("#prompt") == "two red hearts"
    assert page.input_value("#seed") == "77"


def test_a_guidance_of_nothing_is_none_and_not_the_models(browser: Browser, base: str):
    page, _ = opened(browser, base)
    page.click("summary")
    page.fill("#guidance", "0")
    painted(page, "a small blue heart")
    jobs = page.request.get(f"{base}/v1/jobs").json()["jobs"]
    assert jobs[0]["request"]["guidance"] == 0


def test_a_job_is_canceled_from_the_queue_and_a_deletion_undone(browser: Browser, base: str):
    page, _ = opened(browser, base)
    page.click("summary")
    page.fill("#steps", "200")
    page.fill("#prompt", "a black moon")
    page.click("button.main")
    page.click(".queue >> text=Pause")
    page.wait_for_selector(".queue >> text=Go on")
    assert page.request.get(f"{base}/v1/queue").json()["paused"] is True
    page.click(".queue >> text=Go on")
    page.wait_for_selector(".queue >> text=Pause")
    page.click(".queue [aria-label=Cancel]")
    page.wait_for_selector(".queue", state="detached")
    page.fill("#steps", "4")
    painted(page, "a pink cross")
    before = page.locator(".gallery li").count()
    page.click(".gallery [aria-label=Delete] >> nth=0")
    page.wait_for_function(f"document.querySelectorAll('.gallery li').length < {before}")
    page.click("text=Undo")
    page.wait_for_function(f"document.querySelectorAll('.gallery li').length == {before}")


def test_it_can_be_used_on_a_phone(browser: Browser, base: str):
    page, said = opened(browser, base, viewport={"width": 360, "height": 780}, has_touch=True)
    painted(page, "a large green star")
    wide = page.evaluate("document.documentElement.scrollWidth")
    assert wide <= 360
    assert violations(page) == [] and said == []
    shot(page, "phone-light")
    page.emulate_media(color_scheme="dark")
    shot(page, "phone-dark")
