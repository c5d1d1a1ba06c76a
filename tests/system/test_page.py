"""The page in a browser, on a real server: what a person does first, at a desk and on a phone."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
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
    page.click("summary:has-text('More')")
    page.fill("#guidance", "0")
    painted(page, "a small blue heart")
    jobs = page.request.get(f"{base}/v1/jobs").json()["jobs"]
    assert jobs[0]["request"]["guidance"] == 0


def test_a_job_is_canceled_from_the_queue_and_a_deletion_undone(browser: Browser, base: str):
    page, _ = opened(browser, base)
    page.click("summary:has-text('More')")
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


def test_a_picture_begins_from_another_and_is_compared_with_it(browser: Browser, base: str):
    page, said = opened(browser, base, viewport={"width": 1280, "height": 900})
    painted(page, "a large yellow star")
    page.click("text=Begin from it")
    page.wait_for_selector("#strength")
    painted(page, "a large blue star")
    job = page.request.get(f"{base}/v1/jobs").json()["jobs"][0]
    assert job["request"]["init"] and job["request"]["strength"] == 0.6
    page.click(".gallery [aria-label='Compare with the picture shown'] >> nth=0")
    page.wait_for_selector(".compare img[alt='a large yellow star']")
    page.fill(".compare input", "20")
    clip = page.locator(".compare img >> nth=1").get_attribute("style")
    assert clip is not None and "20%" in clip
    assert violations(page) == [] and said == []
    shot(page, "compare")
    page.click("text=End the comparison")
    page.click("[aria-label='Begin from noise']")
    page.wait_for_selector("#strength", state="detached")
    page.click("[aria-label=Good]")
    page.wait_for_selector("[aria-label=Good][aria-pressed=true]")
    assert page.request.get(f"{base}/v1/ratings").json()["ratings"][-1]["value"] == 1


def test_a_grid_of_two_lists(browser: Browser, base: str):
    page, said = opened(browser, base, viewport={"width": 1280, "height": 1100})
    page.fill("#prompt", "a small red moon")
    page.fill("#seed", "3")
    page.click("summary:has-text('Grid')")
    page.fill("#list-Across", "2, 4, 8")
    page.fill("#list-Down", "1, 3")
    page.click("text=Paint 6 pictures")
    page.wait_for_function("document.querySelectorAll('.sheet img').length == 6", timeout=60_000)
    jobs = page.request.get(f"{base}/v1/jobs").json()["jobs"][:6]
    made = {(job["request"]["steps"], job["request"]["guidance"]) for job in jobs}
    assert made == {(steps, guidance) for steps in (2, 4, 8) for guidance in (1, 3)}
    assert {job["request"]["seed"] for job in jobs} == {3}
    assert violations(page) == [] and said == []
    shot(page, "grid")
    page.reload()
    page.wait_for_function("document.querySelectorAll('.sheet img').length == 6")
    page.click("[aria-label='Close the grid']")
    page.wait_for_selector(".sheet", state="detached")


def test_who_may_sees_the_server(browser: Browser, base: str):
    page, said = opened(browser, base, viewport={"width": 1280, "height": 900})
    painted(page, "a large orange square")
    page.click("summary:has-text('Server')")
    page.wait_for_selector(".server th:has-text('paint scenes-t2i 64x64')")
    said_of_it = page.inner_text(".server dl")
    assert "ready" in said_of_it and "Within the time told" in said_of_it
    assert violations(page) == [] and said == []
    shot(page, "server")


def test_with_keys_on_one_signs_in_and_the_key_is_kept_nowhere(browser: Browser, tmp_path: Path):
    made = subprocess.run(
        [sys.executable, "-m", "diptych", "keys", "add", "ann", "--data", str(tmp_path)],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    key = made.stdout.strip()
    with served(tmp_path, "--host", "0.0.0.0", key=key) as (base, _):
        base = base.replace("0.0.0.0", "127.0.0.1")
        page, _ = opened(browser, base)
        page.fill("#key", "dpt_wrong")
        page.click("text=Sign in")
        page.wait_for_selector("[role=alert]:has-text('key')")
        page.fill("#key", key)
        assert violations(page) == []
        page.click("text=Sign in")
        painted(page, "a green heart")
        page.click("text=Caption")
        page.wait_for_selector(".reading dd:has-text('heart')")
        kept = page.evaluate("JSON.stringify(localStorage) + document.cookie + location.href")
        assert key not in kept and "dpt_" not in kept
        assert page.locator("summary:has-text('Server')").count() == 0, "a user is no operator"
        fresh, _ = opened(browser, base)
        assert fresh.locator("#key").count() == 1, "another browser is nobody"


def test_one_talks_with_a_model_that_chats(browser: Browser, tmp_path: Path):
    """Its words are nonsense, as it was never trained; the second turn knows of the first."""
    from tests.tiny_vlm import folder

    model = folder("smolvlm", tmp_path / "vlm")
    with served(tmp_path / "data", "--model", f"talker=read:{model}") as (base, _):
        page, said = opened(browser, base)
        painted(page, "a red heart")
        page.select_option("[aria-label='Who reads']", "talker")
        for words in ("what is it?", "and its color?"):
            page.fill("[placeholder='Talk about it']", words)
            page.keyboard.press("Enter")
            page.wait_for_selector(f".reading dt:has-text('{words}')")
            page.wait_for_function(
                "[...document.querySelectorAll('.reading dd')].every(one => one.innerText != '…')",
                timeout=60_000,
            )
        assert page.locator(".reading dd.warn").count() == 0 and said == []


def test_it_can_be_used_on_a_phone(browser: Browser, base: str):
    page, said = opened(browser, base, viewport={"width": 360, "height": 780}, has_touch=True)
    painted(page, "a large green star")
    wide = page.evaluate("document.documentElement.scrollWidth")
    assert wide <= 360
    assert violations(page) == [] and said == []
    shot(page, "phone-light")
    page.emulate_media(color_scheme="dark")
    shot(page, "phone-dark")
