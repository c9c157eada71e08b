"""The pages: every example runs, every link leads somewhere, the site is built.

A page is executed from top to bottom in an empty directory. Blocks with a title are written as files, Python
is executed (and compared, where it shows results), and so is every `selfstudy` command. What follows a
command in a console block must be what it says, `...` standing for anything.
"""

from __future__ import annotations

import csv
import doctest
import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from selfstudy.app.cli import main
from selfstudy.core.index import METHODS
from selfstudy.data.made_texts import messages

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    *sorted(path for path in DOCS.rglob("*.md") if path.parent.name != "generated"),
]
USERS_TASK = '"jsonl:mine.jsonl?prompt=q&answer=a&verifier=math"'
SERVED = '"openai:http://127.0.0.1:8000/v1?model=NAME"'
TORCHRUN = "torchrun --nproc-per-node 8 -m selfstudy"
GROUP = "needs GPUs; two processes have tests of their own"
NOT_RUN = {
    "make demo": "takes minutes; the demo has tests of its own",
    "make test": "runs this test",
    "make lint": "makes an environment from the network",
    "make docs": "makes an environment from the network; the site is built by a test below",
    "source .venv/bin/activate": "belongs to a shell",
    "python -m selfstudy.tasks.build_tiny": "takes minutes on all cores",
    f"selfstudy fit rest-mcts --task {USERS_TASK} --model path/to/model": "its dry run is executed",
    f"selfstudy evaluate --task gsm8k --model {SERVED} --solver majority": "needs a server",
    f"{TORCHRUN} fit rest-mcts --task gsm8k --model owner/name --out runs/big": GROUP,
    f"{TORCHRUN} resume runs/big": GROUP,
    "export ACCELERATE_USE_FSDP=true FSDP_VERSION=2 FSDP_AUTO_WRAP_POLICY=TRANSFORMER_BASED_WRAP": GROUP,
    "export ACCELERATE_MIXED_PRECISION=bf16": GROUP,
    f"{TORCHRUN} fit rest-em --task gsm8k --model owner/name --out runs/sharded": GROUP,
    "selfstudy label runs/reviews": "serves until it is stopped; the page has tests of its own",
}
FENCE = re.compile(r"^```(\w+)(?: title=\"([^\"]+)\")?\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"(?<!`)\[[^\]]*\]\(([^)\s]+)\)")


class Block(NamedTuple):
    """One fenced block."""

    language: str
    title: str
    text: str


def blocks(page: Path) -> list[Block]:
    return [Block(*found) for found in FENCE.findall(page.read_text(encoding="utf-8"))]


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


# Examples.


@pytest.fixture
def empty_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Work in an empty directory that Python imports from; leave the index and the modules as they were."""
    methods, modules = dict(METHODS), set(sys.modules)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    # A test has one core, as others run beside it; comparing in several processes has tests of its own.
    monkeypatch.setattr("selfstudy.app.comparing.cores", lambda: 1)
    yield tmp_path
    METHODS.clear()
    METHODS.update(methods)
    for name in set(sys.modules) - modules:
        if getattr(sys.modules[name], "__file__", None) and str(tmp_path) in str(sys.modules[name].__file__):
            del sys.modules[name]


def users_things(folder: Path) -> None:
    """Put what the README takes for granted into `folder`: problems and reviews, a model that reads words."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    from selfstudy.models.language.model import LanguageModel

    rows = [{"q": f"What is {n} and {n + 1}?", "a": str(2 * n + 1)} for n in range(40)]
    (folder / "mine.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    reviews = messages()["train"].only(slice(300))
    with (folder / "reviews.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["body", "stars"])
        for place, text in enumerate(reviews.texts):
            writer.writerow([text, reviews.labels[place] + 1 if place < 60 else ""])
    letters = {chr(code): i for i, code in enumerate([10, *range(32, 127)])}
    tokenizer = Tokenizer(models.WordLevel({**letters, "<eos>": len(letters)}))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    tokenizer.decoder = decoders.Fuse()
    config = LlamaConfig(
        vocab_size=len(letters) + 1,
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        bos_token_id=None,
        eos_token_id=len(letters),
    )
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<eos>")
    LanguageModel("mine", LlamaForCausalLM(config), fast).save(folder / "path" / "to" / "model")


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page)], ids=name_of)
def test_the_examples_run(page: Path, empty_directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Oracle: the page itself: commands end without error, and say what the page says that they say."""
    if page.name == "README.md":
        users_things(empty_directory)
    variables: dict[str, Any] = {"__name__": "example"}
    for block in blocks(page):
        if block.title:
            (empty_directory / block.title).write_text(block.text)
        elif block.language == "python":
            run_python(block.text, variables, name_of(page))
        elif block.language in ("sh", "console"):
            for command, expected in commands(block):
                run_command(command, expected, capsys)


def run_python(text: str, variables: dict[str, Any], name: str) -> None:
    if ">>>" not in text:
        exec(compile(text, name, "exec"), variables)
        return
    test = doctest.DocTestParser().get_doctest(text, variables, name, name, 0)
    said: list[str] = []
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    runner.run(test, out=said.append, clear_globs=False)
    variables.update(test.globs)
    assert not runner.failures, "".join(said)


def commands(block: Block) -> Iterator[tuple[str, str]]:
    """Yield each command with what the page says that it says."""
    if block.language == "sh":
        for line in block.text.splitlines():
            if command := line.partition("  #")[0].strip():
                yield command, ""
        return
    for part in re.split(r"^\$ ", block.text, flags=re.MULTILINE)[1:]:
        command, _, expected = part.partition("\n")
        yield command, expected


def run_command(command: str, expected: str, capsys: pytest.CaptureFixture[str]) -> None:
    if command in NOT_RUN:
        return
    program, *arguments = shlex.split(command)
    assert program == "selfstudy", f"{command!r} is neither executed nor listed in NOT_RUN"
    capsys.readouterr()
    try:
        code = main(arguments)
    except SystemExit as ended:  # argparse's --help
        code = int(ended.code or 0)
    said = capsys.readouterr()
    wrong = expected.startswith("selfstudy: ")
    assert bool(code) == wrong, f"{command}: {code}\n{said.err}"
    pattern = ".*".join(re.escape(" ".join(part.split())) for part in expected.split("..."))
    told = " ".join((said.out + said.err).split())
    assert re.search(pattern, told), f"{command} said:\n{told}\nand not:\n{expected}"


def test_what_is_not_run_is_in_the_pages() -> None:
    """Oracle: the commands of all pages; an entry that no page has is out of date."""
    found = {command for page in PAGES for block in blocks(page) if block.language in ("sh", "console")
             for command, _ in commands(block)}  # fmt: skip
    assert set(NOT_RUN) <= found


def test_a_wrong_example_is_found(empty_directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Oracle: four wrong examples, one of each kind."""
    with pytest.raises(AssertionError):
        run_python(">>> 1 + 1\n3\n", {}, "wrong")
    with pytest.raises(AssertionError):
        run_command("selfstudy show nothing", "", capsys)
    with pytest.raises(AssertionError):
        run_command("selfstudy show nothing", "selfstudy: All is well.", capsys)
    with pytest.raises(AssertionError):
        run_command("rm something", "", capsys)


# Links.


def expanded(page: Path) -> str:
    """Return a page with its snippets, without its code."""
    text = re.sub(
        r"^--8<-- \"(.+)\"$", lambda m: (DOCS / m[1]).read_text(), page.read_text(), flags=re.MULTILINE
    )
    return re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)


def anchors(page: Path) -> set[str]:
    heads = re.findall(r"^#+ (.+)$", expanded(page), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head).strip().lower().replace(" ", "-") for head in heads}


@pytest.mark.parametrize("page", [*PAGES, ROOT / "LOG.md", ROOT / "CHANGELOG.md"], ids=name_of)
def test_links_lead_somewhere(page: Path) -> None:
    """Oracle: the files of the repository and the headings in them."""
    broken = []
    for link in LINK.findall(expanded(page)):
        path, _, anchor = link.partition("#")
        if path.startswith(("http:", "https:")):
            continue
        target = (page.parent / path).resolve() if path else page
        if not target.is_file() or (anchor and anchor not in anchors(target)):
            broken.append(link)
    assert not broken


def test_every_method_has_its_page_and_recipe() -> None:
    """Oracle: the index of methods."""
    shown = (ROOT / "mkdocs.yml").read_text()
    for slug in METHODS:
        assert (DOCS / "methods" / f"{slug}.md").is_file() and (DOCS / "recipes" / f"{slug}.yaml").is_file()
        assert f"methods/{slug}.md" in shown


# The site.


def test_the_site_is_built(tmp_path: Path) -> None:
    """Oracle: mkdocs in strict mode, where it is installed."""
    pytest.importorskip("material", reason="mkdocs-material is in the extra docs")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env={**os.environ})
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "methods" / "rest-mcts" / "index.html").is_file()
