"""The page in a real browser, which people work with by keyboard."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from selfstudy.app.cli import main
from selfstudy.app.labelling import training
from selfstudy.core.index import METHODS
from selfstudy.data.image_sets import ImageSet
from selfstudy.data.items import Texts
from selfstudy.data.label_database import LabelDatabase
from selfstudy.data.oracles import NEW, Query

from . import asking
from .serving import Served

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is in the extra test")
CHROMIUM = shutil.which("chromium")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium")

Serve = Callable[..., Served]
WAIT = 60_000.0  # milliseconds
TEXTS = Texts("t", tuple(f"text number {n}" for n in range(9)), np.full(9, -1))


def query(size: int, classes: tuple[str, ...] = ("ham", "spam"), **more: object) -> Query:
    return Query(name="q", places=np.arange(size), classes=classes, **more)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def browser() -> Iterator[playwright.Browser]:
    with playwright.sync_playwright() as started:
        options = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
        yield started.chromium.launch(executable_path=CHROMIUM, args=options)


@pytest.fixture(autouse=True)
def endless_training(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "COMMAND", ("sh", "-c", "exec sleep 600"))


class Person:
    """Somebody at the page, in a browser of their own."""

    def __init__(self, browser: playwright.Browser, address: str, name: str) -> None:
        self.page = browser.new_context().new_page()
        self.page.set_default_timeout(WAIT)
        self.complaints: list[str] = []
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.goto(address)
        self.page.fill("#who", name)
        with self.page.expect_navigation():  # until the scripts of the page are there
            self.page.keyboard.press("Enter")

    @property
    def item(self) -> str:
        return self.page.get_attribute("#work", "data-item") or ""

    @property
    def text(self) -> str:
        return self.page.inner_text("#work pre.item")

    def press(self, *keys: str) -> None:
        """Press keys one after the other, each when the page has answered the one before."""
        for key in keys:
            before = self.page.query_selector("#work")
            self.page.keyboard.press(key)
            self.page.wait_for_function("one => !one.isConnected", arg=before)

    def sees(self, words: str) -> None:
        self.page.wait_for_selector(f"text={words}")

    def leave(self) -> None:
        self.page.context.close()


@pytest.fixture
def come(browser: playwright.Browser) -> Iterator[Callable[..., Person]]:
    """Let people come to a page; they leave when the test ends."""
    there: list[Person] = []

    def arrive(address: str, name: str) -> Person:
        there.append(Person(browser, address, name))
        return there[-1]

    yield arrive
    for person in there:
        assert person.complaints == []
        person.leave()


def test_a_query_by_keyboard(serve: Serve, come: Callable[..., Person]) -> None:
    """Oracle: the answers by hand: labels, a skip, "not sure", two undos; then training begins by itself."""
    page = serve(TEXTS, query(4))
    ann = come(page.address, "Ann")
    assert ann.page.url == f"http://127.0.0.1:{page.port}/", "the token does not stay in the address"
    ann.press("2")
    assert ann.text == "text number 1"
    ann.press("1", "u")
    assert ann.text == "text number 1", "undone, and there again"
    ann.press("s")
    assert ann.text == "text number 2"
    ann.press("n", "1")
    assert ann.text == "text number 1", "what was skipped comes last"
    ann.press("u", "2", "1")
    ann.sees("Training")
    assert page.answers() == [("Ann", 1, "spam"), ("Ann", 3, ""), ("Ann", 4, "spam"), ("Ann", 2, "ham")]
    ann.press("u")
    assert ann.text == "text number 1", "until the answers are taken they can be undone"


def test_two_people_at_the_same_item(serve: Serve, come: Callable[..., Person]) -> None:
    """Oracle: different items while there are two, then the same; both answers are kept."""
    page = serve(TEXTS, query(2), annotators=2)
    ann, bob = come(page.address, "Ann"), come(page.address, "Bob")
    assert (ann.text, bob.text) == ("text number 0", "text number 1")
    ann.press("1")
    assert ann.item == bob.item
    ann.press("1")
    ann.sees("Nothing is left for you")
    bob.press("2", "1")
    bob.sees("Training")
    ann.sees("Training")
    assert sorted(page.answers()) == [
        ("Ann", 1, "ham"),
        ("Ann", 2, "ham"),
        ("Bob", 1, "ham"),
        ("Bob", 2, "spam"),
    ]
    bob.sees("50 % of pairs are equal; Cohen's kappa 0.00 (2 people, 2 items)")
    with LabelDatabase(page.directory) as store, store.change():
        assert store.take(1) == ["ham", "ham"]


def test_html_is_shown_and_never_run(serve: Serve, come: Callable[..., Person]) -> None:
    """Oracle: the text as it is, and a variable that any of the scripts would set."""
    evil = "<script>window.ran=1</script><img src=x onerror='window.ran=1'>{{ 7*7 }}</pre><b id=bold>x</b>"
    texts = Texts("<b>t</b>", (evil, "x"), np.full(2, -1))
    page = serve(texts, query(2, ("<i onclick='window.ran=1'>ham</i>", "'\"><script>window.ran=1</script>")))
    ann = come(page.address, "<script>window.ran=1</script>")
    assert ann.text == evil
    assert "<i onclick=" in ann.page.inner_text("button[data-keys='1']")
    ann.press("2")
    assert (
        ann.page.evaluate("window.ran") is None and ann.page.query_selector("#bold, #work b, #work i") is None
    )
    (said,) = page.answers()
    assert said == ("<script>window.ran=1</script>", 1, "'\"><script>window.ran=1</script>")
    ran = (
        "const one = document.createElement('script'); one.text = 'window.ran = 1'; document.head.append(one)"
    )
    ann.page.evaluate(ran)
    assert ann.page.evaluate("window.ran") is None, "the policy stops a script that gets into the page"


def test_a_closed_browser_loses_nothing(serve: Serve, come: Callable[..., Person]) -> None:
    """Oracle: the answers, and the item that the same person and another one find afterwards."""
    page = serve(TEXTS, query(3))
    ann = come(page.address, "Ann")
    ann.press("2")
    ann.leave()
    ann, bob = come(page.address, "Ann"), come(page.address, "Bob")
    assert (ann.text, bob.text) == ("text number 1", "text number 2")
    ann.sees("yours: 1")
    assert page.answers() == [("Ann", 1, "spam")]


def test_new_classes_and_many(serve: Serve, come: Callable[..., Person]) -> None:
    """Oracle: the answers by hand: a new class typed and then a button, a name found by a part of it."""
    chances = np.full((4, 60), 0.001)
    chances[:, 41] = 0.941
    names = tuple(f"class {n}" for n in range(60))
    page = serve(TEXTS, query(4, names, guesses=chances, allow_new=True))
    ann = come(page.address, "Ann")
    assert ann.page.inner_text("button[data-keys='1']").split() == ["1", "class", "41", "94.1", "%"]
    ann.page.keyboard.press("g")
    assert ann.page.inner_text("button[data-keys='1']").split() == ["1", "class", "41"], "the guess is hidden"
    ann.press("1")
    ann.page.keyboard.press("/")
    ann.page.keyboard.type("ass 17")
    ann.page.wait_for_selector("#found button")
    ann.press("Enter")
    ann.page.fill("#new", "unheard of")
    ann.press("Enter")
    ann.page.fill("#new", " Unheard  OF ")
    ann.press("Enter")
    assert [answer for _, _, answer in page.answers()] == ["class 41", "class 17", *[NEW + "unheard of"] * 2]


def test_after_a_new_class_the_keys_label_again(serve: Serve, come: Callable[..., Person]) -> None:
    """Oracle: the answers by hand; keys pressed after a name was typed are not written into the field."""
    page = serve(TEXTS, query(3, allow_new=True))
    ann = come(page.address, "Ann")
    ann.page.fill("#new", "eggs")
    ann.press("Enter")
    ann.page.wait_for_function("document.activeElement === document.body")
    ann.press("2", "1")
    assert [answer for _, _, answer in page.answers()] == [NEW + "eggs", "spam", "ham"]


def test_images_are_shown_from_their_files(serve: Serve, come: Callable[..., Person], tmp_path: Path) -> None:
    """Oracle: the size of the photograph, of which the run sees 8 x 6 pixels."""
    Image.new("RGB", (300, 200), "red").save(tmp_path / "large.png")
    images = ImageSet("i", np.zeros((1, 3, 8, 6), dtype=np.uint8), np.full(1, -1))
    ann = come(serve(images, query(1), files=(tmp_path / "large.png",)).address, "Ann")
    ann.page.wait_for_function("document.querySelector('img').naturalWidth === 300")
    assert ann.page.query_selector("img.small") is None


def test_images_are_confirmed(serve: Serve, come: Callable[..., Person]) -> None:
    """Oracle: the size of the image that the browser has decoded, and the answers by hand."""
    images = ImageSet("i", np.zeros((3, 1, 8, 6), dtype=np.uint8), np.full(3, -1))
    page = serve(images, query(3, confirm=np.array([0, 1, 1])))
    ann = come(page.address, "Ann")
    ann.sees("Is this ham?")
    ann.page.wait_for_function("document.querySelector('img').naturalWidth === 6")
    ann.press("y", "n", "0")
    assert [answer for _, _, answer in page.answers()] == ["yes", "no", ""]


def test_a_failed_training_can_be_tried_again(
    serve: Serve, come: Callable[..., Person], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Oracle: the last line of what it said; a second try with another command goes on."""
    monkeypatch.setattr(training, "COMMAND", ("sh", "-c", "echo no more memory; exit 4"))
    page = serve(TEXTS, query(1))
    ann = come(page.address, "Ann")
    ann.press("1")
    ann.sees("no more memory")
    monkeypatch.setattr(training, "COMMAND", ("sh", "-c", "exec sleep 600"))
    ann.page.click("text=Try again")
    ann.sees("Training")


def test_killed_started_again_and_trained(
    tmp_path: Path,
    come: Callable[..., Person],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Oracle: one answer an item, all that were given, after SIGKILL in the middle of a query."""
    monkeypatch.setitem(METHODS, "asking", asking.ENTRY)
    monkeypatch.chdir(tmp_path)
    rows = "".join(f"the {'good' if n % 2 else 'bad'} one {n},{['no', 'yes'][n % 2]}\n" for n in range(20))
    (tmp_path / "r.csv").write_text(f"text,label\n{rows}open one,\nopen two,\nopen three,\n")
    task = "csv:r.csv?text=text&label=label"
    assert main(["fit", "asking", "--task", task, "--out", "run", "--rounds", "1"]) == 6
    assert capsys.readouterr().err.endswith("selfstudy: 3 labels are asked for: selfstudy label run\n")

    def start(*more: str) -> tuple[subprocess.Popen[str], str]:
        command = [sys.executable, asking.__file__, "label", "run", *more]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert process.stdout is not None
        return process, process.stdout.readline().removeprefix("Label here: ").strip()

    first, address = start()
    ann = come(address, "Ann")
    ann.press("2", "1")
    assert main(["label", "run"]) == 2
    assert "A labelling page of run is open already" in capsys.readouterr().err
    first.kill()
    first.communicate()
    ann.page.keyboard.press("2")
    ann.sees("The server does not answer")
    second, again = start("--port", address.split(":")[2].split("/")[0])
    assert again == address, "an open page goes on working"
    ann.press("2")
    ann.sees("Finished")
    ann.sees("accuracy")
    second.terminate()
    said, wrong = second.communicate()
    assert (second.returncode, wrong) == (0, "") and "Stopped. The labels are in" in said
    with LabelDatabase(tmp_path / "run") as store:
        found = store.run("SELECT item, answer FROM answers ORDER BY item").fetchall()
        assert [(row["item"], row["answer"]) for row in found] == [(1, "yes"), (2, "no"), (3, "yes")]
        assert store.count("SELECT COUNT(*) FROM events") == 3
    labels = json.loads((tmp_path / "run" / "stages" / "labels-round-0" / "stage.json").read_text())["value"]
    assert labels == ["yes", "no", "yes"]
    assert main(["label", "run"]) == 2 and "is finished" in capsys.readouterr().err
    assert main(["label", "run", "--export", "labels.csv"]) == 0
    assert (tmp_path / "labels.csv").read_text().count("Ann") == 3
