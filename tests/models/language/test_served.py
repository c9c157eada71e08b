"""Models behind a server: what is sent, how replies are read, what failures do, what is charged and kept."""

from __future__ import annotations

import pickle
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from tokenizers.processors import TemplateProcessing

import selfstudy
from selfstudy.core.budget import Budget, Meter
from selfstudy.core.errors import BudgetSpent, MachineError, UsageError
from selfstudy.models.language import served_requests
from selfstudy.models.language.backends import open_sampler
from selfstudy.models.language.sampling import Completion, Request
from selfstudy.models.language.served import ServedModel
from selfstudy.models.language.tiny import character_tokenizer
from selfstudy.search.mcts import TreeSearch
from selfstudy.search.reasoning import ConstantValue, ReasoningDomain
from selfstudy.search.solvers import greedy_solver, tree_solver, voting_solver

from .scripted_server import DROP, SILENCE, ScriptedServer, reply

Open = Callable[..., ScriptedServer]


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(served_requests, "FIRST_WAIT", 0.001)


@pytest.fixture
def serve() -> Iterator[Open]:
    """Start servers that end with the test."""
    with ExitStack() as stack:
        yield lambda script, **options: stack.enter_context(ScriptedServer(script, **options))


def model_at(server: ScriptedServer, fields: str = "") -> ServedModel:
    return selfstudy.model(f"openai:{server.url}?timeout=10&{fields}")


def asks(*prompts: str, **fields: Any) -> list[Request]:
    return [
        Request(**{"prompt": prompt, "key": i, "max_tokens": 8, **fields}) for i, prompt in enumerate(prompts)
    ]


def echo(body: dict[str, Any], _: int) -> Any:
    return reply(body["prompt"].upper())


# What is sent, and what comes back.


def test_a_request_in_the_words_of_the_interface(serve: Open) -> None:
    """Oracle: the fields of OpenAI's completions, by hand."""
    server = serve(echo)
    request = Request(
        prompt="ab", key=2**40 + 7, max_tokens=5, temperature=0.5, top_p=0.9, stop=("\n", "END")
    )
    open_sampler(model_at(server)).sample([request])
    path, headers, body = server.asked[0]
    assert path == "/v1/completions" and "authorization" not in {name.lower() for name in headers}
    assert body == {
        "model": "small",
        "prompt": "ab",
        "max_tokens": 5,
        "temperature": 0.5,
        "top_p": 0.9,
        "seed": 7,
        "stop": ["\n", "END"],
    }


def test_a_request_for_a_whole_answer(serve: Open) -> None:
    """Oracle: the fields of OpenAI's chat completions, by hand; a prompt becomes a message as it is."""
    answer = {"message": {"role": "assistant", "content": "Yes.\nEND of it"}, "finish_reason": "stop"}
    logprobs = {"content": [{"token": "Yes", "logprob": -0.5}, {"token": ".", "logprob": -1.5}]}
    content = {
        "choices": [answer | {"logprobs": logprobs}],
        "usage": {"prompt_tokens": 9, "completion_tokens": 6},
    }
    server = serve(lambda *_: content)
    model = model_at(server, "chat=true&logprobs=true&model=other")
    assert model.chat and model.prompt("Why?") == "Why?" and model.name == "other"
    (completion,) = open_sampler(model).sample(asks("Why?", stop=("END",)))
    assert completion == Completion("Yes.\n", (-1,) * 6, (-0.5, -1.5), "stop")
    path, _, body = server.asked[0]
    assert path == "/v1/chat/completions" and body["messages"] == [{"role": "user", "content": "Why?"}]
    assert body["logprobs"] is True and "prompt" not in body


@pytest.mark.parametrize(
    ("said", "stop", "text", "finish"),
    [
        (reply("a\n"), ("\n",), "a", "stop"),  # transformers leaves the stop string in
        (reply("a\nb\n"), ("b", "\n"), "a", "stop"),
        (reply("a"), ("\n",), "a", "stop"),  # llama.cpp cuts it out, and does not say which
        (reply("a", stop_reason="\n"), ("\n",), "a", "stop"),  # vLLM
        (reply("a", stop_reason=None), ("\n",), "a", "end"),
        (reply("a", matched_stop=2), ("\n",), "a", "end"),  # SGLang: an end token
        (reply("a"), (), "a", "end"),
        (reply("a", finish=None), (), "a", "end"),
        (reply("a", finish="length"), ("\n",), "a", "length"),
        (reply("a", finish="content_filter"), (), "a", "length"),
        (reply(""), ("\n",), "", "stop"),
    ],
)
def test_why_a_completion_ended(
    serve: Open, said: dict, stop: tuple[str, ...], text: str, finish: str
) -> None:
    """Oracle: what vLLM, SGLang, llama.cpp and transformers say in each case."""
    (completion,) = open_sampler(model_at(serve(lambda *_: said))).sample(asks("p", stop=stop))
    assert (completion.text, completion.finish) == (text, finish)


def test_log_probabilities_of_texts(serve: Open) -> None:
    """Oracle: the numbers in the reply; nothing where the server gives none."""
    given = reply("ab", logprobs={"tokens": ["a", "b"], "token_logprobs": [-1, -0.25]})
    server = serve(lambda body, _: given if body.get("logprobs") == 1 else reply("ab"))
    assert open_sampler(model_at(server, "logprobs=true")).sample(asks("p"))[0].logprobs == (-1.0, -0.25)
    assert open_sampler(model_at(server)).sample(asks("p"))[0].logprobs == ()


def test_requests_are_on_their_way_together_and_no_more_than_allowed(serve: Open) -> None:
    """Oracle: a barrier that opens for three at once only, and a count of those inside; order as asked."""
    inside, most, lock, barrier = [0], [0], threading.Lock(), threading.Barrier(3, timeout=10)

    def script(body: dict[str, Any], _: int) -> Any:
        with lock:
            inside[0] += 1
            most[0] = max(most[0], inside[0])
        barrier.wait()
        with lock:
            inside[0] -= 1
        return echo(body, _)

    prompts = [f"p{i}" for i in range(9)]
    completions = open_sampler(model_at(serve(script), "concurrency=3")).sample(asks(*prompts))
    assert [completion.text for completion in completions] == [prompt.upper() for prompt in prompts]
    assert most == [3]


def test_the_chat_template_of_a_local_folder(serve: Open, tmp_path: Path) -> None:
    """Oracle: the template by hand; a BOS that the server's tokenizer adds itself is not sent twice."""
    tokenizer = character_tokenizer()
    tokenizer.add_special_tokens({"bos_token": "<s>"})
    tokenizer.chat_template = "{{ bos_token }}+{{ messages[0]['content'] }}:"
    tokenizer.save_pretrained(tmp_path / "plain")
    bos = ("<s>", tokenizer.bos_token_id)
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(single="<s> $A", special_tokens=[bos])
    tokenizer.save_pretrained(tmp_path / "adding")
    model = model_at(serve(echo), f"tokenizer={tmp_path / 'plain'}&context=12")
    assert model.chat and model.prompt("1") == "<s>+1:" and model.encode_all(["12"]) == [[1, 2]]
    assert [c.finish for c in open_sampler(model).sample(asks("1" * 11, "1" * 12))] == ["end", "context"]
    assert model_at(serve(echo), f"tokenizer={tmp_path / 'adding'}").prompt("1") == "+1:"
    with pytest.raises(UsageError, match="tokenizer=FOLDER"):
        model_at(serve(echo)).encode_all(["12"])


# Failures.


@pytest.mark.parametrize(
    ("failure", "kind"),
    [
        ((429, {"Retry-After": "0"}, {"error": {"message": "slow down"}}), "429 too many requests"),
        ((500, {}, {"error": "no"}), "errors of the server"),
        ((503, {"Retry-After": "Thu, 01 Jan 1970 00:00:00 GMT"}, {}), "errors of the server"),
        (DROP, "dropped connections"),
        (b"", "empty replies"),
        ({"choices": [], "usage": {}}, "empty replies"),
        (reply("") | {"choices": [{"text": None}]}, "empty replies"),
        (b"<html>busy</html>", "unreadable replies"),
        (b'{"choices": [{"te', "unreadable replies"),
        (b"[1, 2]", "unreadable replies"),
        (b"[" * 100_000, "unreadable replies"),
        (reply("", logprobs={"token_logprobs": [-0.5, float("nan")]}), "unreadable replies"),
        ({"object": "error"}, "unreadable replies"),
        (SILENCE, "timeouts"),
    ],
    ids=str,
)
def test_a_failure_that_passes(serve: Open, failure: Any, kind: str) -> None:
    """Oracle: the second and third request fail; all completions are there, and two failures are counted."""
    server = serve(lambda body, number: failure if number in (1, 2) else echo(body, number))
    model = selfstudy.model(f"openai:{server.url}?timeout=0.2&concurrency=1")
    completions = open_sampler(model).sample(asks("a", "b", "c"))
    assert [completion.text for completion in completions] == ["A", "B", "C"]
    assert model.sent == {"requests": 5, kind: 2}
    assert [body["seed"] for _, _, body in server.asked] == [0, 1, 1, 1, 2]


def test_the_server_says_how_long_to_wait(serve: Open) -> None:
    """Oracle: the clock: no less than Retry-After, where a pause of our own would be a thousandth."""
    slow = (429, {"Retry-After": "0.3"}, {})
    server = serve(lambda body, number: slow if number == 0 else echo(body, number))
    start = time.monotonic()
    open_sampler(model_at(server)).sample(asks("a"))
    assert time.monotonic() - start >= 0.3


def test_pauses_double_and_are_spread(monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: half to one and a half times 1, 2, 4, ... seconds, at most 60; the same for a key."""
    monkeypatch.setattr(served_requests, "FIRST_WAIT", 1.0)
    pauses = [[served_requests._pause(key, attempt, 0.0) for attempt in range(9)] for key in range(50)]
    for row in pauses:
        assert all(0.5 * 2**n <= pause <= 1.5 * 2**n for n, pause in enumerate(row[:5]))
        assert row[8] == 60.0
    assert len({row[0] for row in pauses}) == 50 and pauses[3][2] == served_requests._pause(3, 2, 0.0)
    assert served_requests._pause(0, 0, 7.0) == 7.0 and served_requests._pause(0, 0, 1e6) == 60.0


def test_a_failure_that_stays_loses_nothing(serve: Open, tmp_path: Path) -> None:
    """Oracle: requests by prompt: what was answered is charged and kept, and not asked for again."""
    broken = [True]

    def script(body: dict[str, Any], number: int) -> Any:
        return (
            (500, {}, {"error": {"message": "out of memory"}})
            if body["prompt"] == "c" and broken
            else echo(body, 0)
        )

    server = serve(script)
    spec = f"openai:{server.url}?retries=2&concurrency=1"
    meter = Meter()
    with pytest.raises(MachineError, match=r"failed 3 times .* 500 'out of memory'"):
        open_sampler(selfstudy.model(spec).keeping(tmp_path), meter).sample(asks("a", "b", "c", "d"))
    assert meter.snapshot()["generated_tokens"] == 4
    broken.clear()
    (file,) = tmp_path.glob("*.jsonl")
    with file.open("a") as lines:
        lines.write('{"request": "cut off by a ki')
    meter = Meter()
    again = open_sampler(selfstudy.model(spec).keeping(tmp_path), meter).sample(asks("a", "b", "c", "d"))
    assert [completion.text for completion in again] == ["A", "B", "C", "D"]
    assert [body["prompt"] for _, _, body in server.asked] == ["a", "b", "c", "c", "c", "c", "d"]
    spent = meter.snapshot()
    assert (spent["generated_tokens"], spent["prompt_tokens"]) == (8, 12), "kept or drawn, all is charged"
    other = open_sampler(selfstudy.model(spec + "&model=x").keeping(tmp_path)).sample(asks("a"))
    assert other[0].text == "A" and len(server.asked) == 8, "another model's answers are not taken"
    assert open_sampler(selfstudy.model(spec).keeping(tmp_path)).sample(asks("d", key=3)) == again[3:]


def test_what_comes_after_a_failure_is_counted_and_kept(serve: Open, tmp_path: Path) -> None:
    """Oracle: the first request is refused while the second is on its way, whose two tokens were paid."""
    asked = threading.Event()

    def script(body: dict[str, Any], number: int) -> Any:
        if body["prompt"] == "refused":
            asked.wait(10)
            return 400, {}, {"error": {"message": "bad temperature"}}
        asked.set()
        return echo(body, number)

    meter, model = Meter(), model_at(serve(script)).keeping(tmp_path)
    with pytest.raises(UsageError, match="bad temperature"):
        open_sampler(model, meter).sample(asks("refused", "good"))
    assert meter.snapshot()["generated_tokens"] == 2
    assert open_sampler(model).sample(asks("refused", "good")[1:])[0].text == "GOOD"
    assert model.sent["requests"] == 2


def test_one_that_fails_for_good_ends_the_others_waiting(
    serve: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Oracle: the clock: one would wait a minute for the server, another is refused meanwhile."""
    waiting = threading.Event()

    def script(body: dict[str, Any], _: int) -> Any:
        if body["prompt"] == "busy":
            waiting.set()
            return 429, {"Retry-After": "60"}, {}
        waiting.wait(10)
        return 400, {}, {"error": {"message": "bad temperature"}}

    start = time.monotonic()
    with pytest.raises(UsageError, match="refused a request with 400: 'bad temperature'"):
        open_sampler(model_at(serve(script))).sample(asks("busy", "refused"))
    assert time.monotonic() - start < 30


def test_a_prompt_longer_than_the_context(serve: Open) -> None:
    """Oracle: the words of OpenAI, llama.cpp and vLLM; it ends that completion alone, as in this process."""
    said = [
        {"error": {"message": "too long", "code": "context_length_exceeded"}},
        {"error": {"message": "the request exceeds", "type": "exceed_context_size_error"}},
        {"message": "This model's maximum context length is 4 tokens."},
    ]
    server = serve(
        lambda body, n: (400, {}, said[int(body["prompt"])]) if body["prompt"].isdigit() else echo(body, n)
    )
    completions = open_sampler(model_at(server)).sample(asks("0", "1", "2", "a"))
    assert [c.finish for c in completions] == ["context"] * 3 + ["end"]
    assert completions[0] == Completion("", (), (), "context")


@pytest.mark.parametrize(
    "usage", [{}, {"usage": reply("", prompt=-3)["usage"]}, {"usage": reply("", tokens=-2)["usage"]}], ids=str
)
def test_no_usage_is_refused(serve: Open, usage: dict[str, Any]) -> None:
    """Oracle: nothing can be counted, so the run ends and says so; nothing is guessed, or given back."""
    server = serve(lambda *_: {"choices": [{"text": "a", "finish_reason": "stop"}], **usage})
    meter = Meter()
    with pytest.raises(MachineError, match="does not say how many tokens"):
        open_sampler(model_at(server), meter).sample(asks("a"))
    assert len(server.asked) == 1 and meter.snapshot()["generated_tokens"] == 0


def test_a_server_that_has_moved(serve: Open) -> None:
    """Oracle: the message names where the list of models is sent on to."""
    server = serve(echo, models=(307, {"Location": "https://elsewhere/v1/models"}))
    with pytest.raises(UsageError, match="sends requests on to 'https://elsewhere/v1/models'"):
        model_at(server)


# Who may ask, and for what.


def test_a_key_from_the_environment(serve: Open, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Oracle: the header; the key is in no representation, pickle or file."""
    server = serve(echo)
    monkeypatch.setenv("SOME_KEY", "sk-secret")
    model = model_at(server, "key_variable=SOME_KEY").keeping(tmp_path)
    open_sampler(model).sample(asks("a"))
    assert {name.lower(): value for name, value in server.asked[0][1].items()}[
        "authorization"
    ] == "Bearer sk-secret"
    written = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert b"secret" not in written + pickle.dumps(model) + repr(model).encode()
    monkeypatch.delenv("SOME_KEY")
    with pytest.raises(UsageError, match="'SOME_KEY' that should hold the server's key is not set"):
        model_at(server, "key_variable=SOME_KEY")


@pytest.mark.parametrize("status", [401, 403])
def test_a_wrong_key(serve: Open, status: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: the message names the variable; it comes with the model, or with the first request."""
    monkeypatch.setenv("SOME_KEY", "sk-wrong")
    refused = (status, {}, {"error": {"message": "Incorrect API key sk-wr...ng"}})
    with pytest.raises(UsageError, match="does not accept the key in SOME_KEY"):
        model_at(serve(echo, models=status), "model=m&key_variable=SOME_KEY")
    with pytest.raises(UsageError, match="does not accept a request without a key"):
        open_sampler(model_at(serve(lambda *_: refused))).sample(asks("a"))


def test_nobody_there() -> None:
    """Oracle: a port that was free a moment ago."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    with pytest.raises(MachineError, match=f"No server answers at http://127.0.0.1:{port}/v1"):
        selfstudy.model(f"openai:http://127.0.0.1:{port}/v1?model=m")


def test_which_model(serve: Open) -> None:
    """Oracle: the list of the server: one is taken, of many a name is asked for, an unknown one is told."""
    many = serve(
        lambda *_: (404, {}, {"error": {"message": "The model `qwen` does not exist."}}),
        models=[{"id": "qwen-small", "max_model_len": 32}, {"id": "llama"}],
    )
    assert model_at(serve(echo)).name == "small"
    assert model_at(many, "model=qwen-small").context == 32
    assert model_at(many, "model=qwen-small&context=16").context == 16
    assert model_at(many, "model=llama").context is None
    with pytest.raises(UsageError, match=r"needs the name of a model: .* lists llama, qwen-small"):
        model_at(many)
    with pytest.raises(UsageError, match=r"no model 'qwen-smal'. Did you mean 'qwen-small'"):
        open_sampler(model_at(many, "model=qwen-smal")).sample(asks("a"))
    with pytest.raises(UsageError, match="needs the name of a model"):
        model_at(serve(echo, models=404))


@pytest.mark.parametrize(
    ("chat", "hint"), [("false", "/completions, try chat=true"), ("true", "try chat=false")]
)
def test_no_such_endpoint(serve: Open, chat: str, hint: str) -> None:
    """Oracle: 404 for a model that is listed."""
    server = serve(lambda *_: (404, {}, {"detail": "Not Found"}))
    with pytest.raises(UsageError, match=f"refused a request with 404: 'Not Found'. If it has no .*{hint}"):
        open_sampler(model_at(server, f"chat={chat}")).sample(asks("a"))


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("openai:127.0.0.1:8000", "The address '127.0.0.1:8000' of a server is none"),
        ("openai:http://me:secret@127.0.0.1/v1", "holds a password"),
        ("openai:http://127.0.0.1/v1?concurrency=0", "concurrency is 0; it must be above 0"),
        ("openai:http://127.0.0.1/v1?timeout=-1", "timeout is -1.0; it must be above 0"),
        ("openai:http://127.0.0.1/v1?retries=-1", "retries is -1; it must not be negative"),
        ("openai:http://127.0.0.1/v1?chat=true&tokenizer=x", "Give one of the two"),
        ("openai:http://127.0.0.1/v1?api_key=sk-1", "no field 'api_key'"),
    ],
)
def test_settings_that_cannot_be(spec: str, said: str) -> None:
    """Oracle: the message; nothing is asked of any server, and a password is not repeated."""
    with pytest.raises(UsageError, match=said) as raised:
        selfstudy.model(spec)
    assert "secret" not in str(raised.value)


# Budgets.


def lengths(body: dict[str, Any], _: int) -> Any:
    """Draw as many tokens as the prompt's number says, at most those that are allowed."""
    wanted, most = int(body["prompt"]), body["max_tokens"]
    return reply("x", prompt=2, tokens=min(wanted, most), finish="stop" if wanted <= most else "length")


def spent_at(
    server: ScriptedServer, budget: str, concurrency: int
) -> tuple[dict[str, float], list[int] | str]:
    meter = Meter(Budget.parse(budget))
    model = model_at(server, f"concurrency={concurrency}&input_price=1e6&output_price=2e6")
    try:
        drawn: Any = [len(c.tokens) for c in open_sampler(model, meter).sample(asks("3", "5", "1", "8", "4"))]
    except BudgetSpent as error:
        drawn = str(error).partition(" is spent")[0]
    units = ("generated_tokens", "prompt_tokens", "cost")
    return {unit: meter.snapshot()[unit] for unit in units}, drawn


@pytest.mark.parametrize(
    ("budget", "tokens", "prompts", "drawn"),
    [
        ("", 21, 10, [3, 5, 1, 8, 4]),
        ("tokens=21", 21, 10, [3, 5, 1, 8, 4]),
        ("tokens=20", 20, 10, "The budget of 20 generated tokens"),
        ("tokens=18", 18, 10, "The budget of 18 generated tokens"),
        ("tokens=17", 17, 8, "The budget of 17 generated tokens"),
        ("tokens=8", 8, 4, "The budget of 8 generated tokens"),
        ("tokens=2", 2, 2, "The budget of 2 generated tokens"),
        # A prompt of one byte is taken for 33 tokens until the server has counted it.
        ("cost=83", 21, 10, [3, 5, 1, 8, 4]),
        ("cost=82", 20, 10, "The budget of 82 cost"),
        ("prompt-tokens=38", 9, 6, "The budget of 38 prompt tokens"),
    ],
)
def test_a_budget_ends_sampling_wherever_requests_overlap(
    serve: Open, budget: str, tokens: int, prompts: int, drawn: Any
) -> None:
    """Oracle: one request after the other, by hand; no limit is passed, whoever is first."""
    for concurrency in (1, 5):
        spent, outcome = spent_at(serve(lengths), budget, concurrency)
        assert (spent["generated_tokens"], spent["prompt_tokens"], outcome) == (tokens, prompts, drawn)
        assert spent["cost"] == 1.0 * prompts + 2.0 * tokens


def test_a_completion_cut_by_the_budget_is_not_kept(serve: Open, tmp_path: Path) -> None:
    """Oracle: with more budget it is drawn anew, and has all its tokens."""
    model = model_at(serve(lengths)).keeping(tmp_path)
    with pytest.raises(BudgetSpent):
        open_sampler(model, Meter(Budget(generated_tokens=6))).sample(asks("3", "5"))
    again = open_sampler(model).sample(asks("3", "5"))
    assert [len(completion.tokens) for completion in again] == [3, 5] and model.sent["requests"] == 3


# With the rest.


def test_solvers_and_searches(serve: Open) -> None:
    """Oracle: a server that solves chains line by line, as /completions would go on from any beginning."""
    task = selfstudy.task("chain100?steps=2&train=0&validation=0&test=6")

    def script(body: dict[str, Any], _: int) -> Any:
        from selfstudy.data.chains import solve

        question, *done = body["prompt"].split("\n") if "\n" in body["prompt"] else [body["prompt"]]
        head, _, first = question.partition(":")
        lines = solve(head + ":")
        written = [line for line in [first, *done] if line]
        rest = "".join(line + "\n" for line in lines[len(written) :])
        return reply(rest, finish="length", tokens=len(rest))

    model = model_at(serve(script))
    guess = ConstantValue()
    for solver in (
        greedy_solver(model, task),
        voting_solver(model, task, samples=2, vote="majority", seed=0, temperature=1.0),
        tree_solver(model, task, guess, TreeSearch(iterations=8), seed=0, temperature=1.0),
    ):
        assert task.evaluate(solver).accuracy == 1.0


def test_searches_need_more_than_whole_answers(serve: Open) -> None:
    """Oracle: chat=true is refused before anything is asked."""
    server = serve(echo)
    model = model_at(server, "chat=true")
    task = selfstudy.task("chain100?steps=2&train=1&validation=0&test=1")
    with pytest.raises(UsageError, match="gives whole answers only"):
        tree_solver(model, task, ConstantValue(), TreeSearch(), seed=0, temperature=1.0)
    with pytest.raises(UsageError, match="gives whole answers only"):
        ReasoningDomain(task, task.train, model, ConstantValue(), Meter(), temperature=1.0)
    assert not server.asked


def test_methods_that_train_say_what_to_do(serve: Open, tmp_path: Path) -> None:
    """Oracle: the message, before any request and without a directory."""
    server = serve(echo)
    with pytest.raises(UsageError, match=r"'rest-em' trains its model.*no weights here.*selfstudy evaluate"):
        selfstudy.fit(
            "rest-em",
            task="chain100?steps=2&train=2&validation=0&test=1",
            model=f"openai:{server.url}",
            out=tmp_path / "run",
        )
    assert not server.asked and not (tmp_path / "run").exists()


def test_a_served_model_goes_to_another_process(serve: Open) -> None:
    """Oracle: pickled and read back it asks the same server, under the same name."""
    server = serve(echo)
    here = model_at(server, "context=7")
    open_sampler(here).sample(asks("a"))
    model = pickle.loads(pickle.dumps(here))
    assert (model.name, model.context) == ("small", 7)
    assert open_sampler(model).sample(asks("a"))[0].text == "A"


def test_requests_that_cannot_be(serve: Open) -> None:
    """Oracle: as in this process; nothing is sent."""
    server = serve(echo)
    sampler = open_sampler(model_at(server))
    for wrong in ({"temperature": -1.0}, {"max_tokens": -1}, {"stop": ("",)}):
        with pytest.raises(UsageError):
            sampler.sample(asks("a", **wrong))
    assert sampler.sample(asks("a", max_tokens=0)) == [Completion("", (), (), "length")] and not server.asked
