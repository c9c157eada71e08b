from __future__ import annotations

import csv
import gzip
import json
import logging

import pyarrow
import pyarrow.parquet
import pytest

from selfstudy.core.errors import DataError, UsageError
from selfstudy.tasks.loading import task
from selfstudy.tasks.reasoning import ReasoningTask
from selfstudy.tasks.table_task import TableTask

ROWS = [{"question": f'What is {n} plus {n}, in "words"\nor not?', "label": str(2 * n)} for n in range(60)]
BOXED = "Please reason step by step, and put your final answer within \\boxed{}."
QUERY = "prompt=question&answer=label"


def write(path, rows, kind):
    if kind == "jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    elif kind == "csv":
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, fieldnames=["question", "label"])
            writer.writeheader()
            writer.writerows(rows)
    else:
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    return path


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("chain10", "Did you mean 'chain100'"),
        ("countdwn-4", "Did you mean 'countdown'"),
        ("zzz", "Known: adult, arrays, "),
        ("chain100?stesp=3", "Did you mean 'steps'"),
        ("chain100?train=many", "whole number"),
        ("chain100?train", "needs a value"),
        ("chain100?train=3&train=4", "twice"),
        ("chain100?steps=a-b", "range such as 1-12"),
        ("chain100?steps=5-2", "rising"),
        ("chain100?train=-1", "zero or more"),
        ("chain100?steps=1&train=2000", "not enough distinct"),
        ("countdown-9", "2 to 8"),
        ("gsm8k?size=3", "no field 'size'"),
        ("gym:chain_sum?form=long", "must be text"),
        ("gym:products?size=0", "1 or more"),
        ("mathematics:x?level=hrad", "Did you mean 'hard'"),
        ("jsonl:", "needs a path"),
        ("csv:a.csv?config=b", "hf: tasks"),
        ("jsonl:a?verifier=mth", "Did you mean 'math'"),
        ("jsonl:a?max_steps=0", "1 or more"),
        ("jsonl:a?temperature=-1", "0 or more"),
        ("jsonl:a?temperature=warm", "must be a number"),
    ],
)
def test_specifications_that_cannot_be_right(spec, said):
    """Oracle: the message names the fault and what is allowed."""
    with pytest.raises(UsageError, match=said):
        task(spec)


@pytest.mark.parametrize("kind", ["jsonl", "csv", "parquet"])
def test_every_kind_of_file_gives_the_same_task(kind, tmp_path):
    """Oracle: the rows written; 70/10/20 % by hash; the specification in `name` makes the task again."""
    path = write(tmp_path / f"rows.{kind}", ROWS, kind)
    got = task(f"{kind}:{path}?{QUERY}")
    jsonl = task(f"jsonl:{write(tmp_path / 'same.jsonl', ROWS, 'jsonl')}?{QUERY}")
    assert got.fingerprint == jsonl.fingerprint == task(got.name).fingerprint
    assert {p.prompt for s in (got.train, got.validation, got.test) for p in s} == {
        row["question"] for row in ROWS
    }
    for problem in got.train:
        label = next(row["label"] for row in ROWS if row["question"] == problem.prompt)
        assert got.verify(problem, [f"The answer is {label}."])
        assert not got.verify(problem, ["The answer is -1."])
    assert got.dropped == {}


@pytest.mark.parametrize("kind", ["jsonl", "csv", "parquet"])
def test_a_column_of_labels_makes_a_table_of_examples(kind, tmp_path):
    """Oracle: with `label=` the columns of the file and its labels; empty, a table without any."""
    rows = [{"question": str(n), "label": "even" if n % 2 == 0 else "odd"} for n in range(90)]
    path = write(tmp_path / f"rows.{kind}", rows, kind)
    got = task(f"{kind}:{path}?label=label")
    assert isinstance(got, TableTask) and got.classes == ("even", "odd")
    assert isinstance(task(got.name), TableTask)
    without = task(f"{kind}:{path}?train=5&label=")
    assert isinstance(without, TableTask) and not without.classes and len(without.train) == 5
    with pytest.raises(UsageError, match=r"no column 'lable'. Did you mean 'label'"):
        task(f"{kind}:{path}?label=lable")
    with pytest.raises(UsageError, match="no field 'verifier'"):
        task(f"{kind}:{path}?label=label&verifier=math")
    with pytest.raises(UsageError, match="needs a path"):
        task(f"{kind}:?label=label")


def test_without_a_column_of_labels_a_file_is_a_list_of_problems(tmp_path):
    """Oracle: the type; a field that only ends in "label" names no labels."""
    path = write(tmp_path / "rows.csv", ROWS, "csv")
    assert isinstance(task(f"csv:{path}?{QUERY}"), ReasoningTask)
    with pytest.raises(UsageError, match="no field 'mylabel'"):
        task(f"csv:{path}?mylabel=label")
    with pytest.raises(UsageError, match="no field 'label'"):
        task("hf:owner/name?label=price")


def test_numbers_and_gzip(tmp_path):
    """Oracle: answers given as numbers in JSON, 4 and 6.0, read as texts; gzip changes nothing."""
    rows = [{"prompt": f"q{n}", "answer": n if n % 2 else float(n)} for n in range(40)]
    path = tmp_path / "rows.jsonl.gz"
    path.write_bytes(gzip.compress("".join(json.dumps(row) + "\n" for row in rows).encode()))
    got = task(f"jsonl:{path}?verifier=exact")
    for problem in got.train:
        assert got.verify(problem, [f"The answer is {problem.prompt[1:]}."])


def test_a_test_file_of_its_own(tmp_path):
    """Oracle: its questions are the test split; a training row with one of them is dropped and counted."""
    path = write(tmp_path / "a.jsonl", ROWS, "jsonl")
    other = write(tmp_path / "b.jsonl", [*ROWS[:3], {"question": "new?", "label": "1"}], "jsonl")
    got = task(f"jsonl:{path}?{QUERY}&test={other}")
    assert [p.prompt for p in got.test] == [row["question"] for row in ROWS[:3]] + ["new?"]
    assert len(got.train) + len(got.validation) == 57
    assert got.dropped == {"also in the test split": 3}


def test_solutions_preamble_and_instruction(tmp_path):
    """Oracle: by hand."""
    rows = [{"prompt": f"q{n}", "answer": "4", "steps": "2+2=4\n\nThe answer is 4."} for n in range(20)]
    path = write(tmp_path / "a.jsonl", rows, "jsonl")
    (tmp_path / "shots.txt").write_text("Question: a\nAnswer:\nThe answer is 1.\n")
    got = task(
        f"jsonl:{path}?solution=steps&preamble={tmp_path / 'shots.txt'}&instruction=Be%20brief%20%26%20right."
    )
    problem = got.train[0]
    assert got.oracle.solution(problem) == ("2+2=4", "The answer is 4.")
    assert (
        got.prompt(problem)
        == f"Question: a\nAnswer:\nThe answer is 1.\n\nQuestion: {problem.prompt}\nAnswer:\n"
    )
    assert got.prompt(problem, chat=True) == f"{problem.prompt}\nBe brief & right."
    assert task(got.name).prompt(problem, chat=True) == got.prompt(problem, chat=True)
    with pytest.raises(DataError, match="preamble"):
        task(f"jsonl:{path}?preamble={tmp_path / 'none.txt'}")


def test_bad_rows_are_counted_by_reason_and_dropped(tmp_path, caplog):
    """Oracle: 8 bad rows of 48, counted by hand."""
    rows = [json.dumps({"prompt": f"q{n}", "answer": str(n)}) for n in range(40)]
    bad = [
        "",
        "{not json",
        '["a list"]',
        '{"prompt": "q1", "answer": "1"}',
        '{"prompt": "no answer"}',
        '{"prompt": "null", "answer": null}',
        '{"answer": "5"}',
        '{"prompt": "odd", "answer": "???"}',
    ]
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join([*rows[:5], *bad, *rows[5:]]) + "\n\n")
    with caplog.at_level(logging.WARNING):
        got = task(f"jsonl:{path}")
    assert got.dropped == {
        "empty": 1,
        "unparsable": 2,
        "duplicated": 1,
        "without an answer": 2,
        "without a question": 1,
        "with an answer that cannot be verified": 1,
    }
    assert len(caplog.records) == 1 and "8 of 48 rows" in caplog.text
    assert len(got.train) + len(got.validation) + len(got.test) == 40


def test_too_many_bad_rows_are_an_error(tmp_path):
    """Oracle: 11 of 51 rows are over 20 %; the first is in line 4."""
    rows = [json.dumps({"prompt": f"q{n}", "answer": str(n)}) for n in range(40)]
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join([*rows[:3], *["{"] * 11, *rows[3:]]))
    with pytest.raises(DataError, match=r"11 of 51 rows.*11 unparsable.*line 4"):
        task(f"jsonl:{path}")


def test_bad_csv_rows(tmp_path):
    """Oracle: a short row, a long row, a blank line; line numbers count line breaks within quotes."""
    lines = [
        "prompt,answer",
        '"two\nlines",2',
        *(f"q{n},{n}" for n in range(20)),
        "short",
        "long,1,2",
        "",
        "last,3",
    ]
    path = tmp_path / "rows.csv"
    path.write_text("\n".join(lines))
    assert task(f"csv:{path}").dropped == {"unparsable": 2, "empty": 1}
    path.write_text("\n".join([*lines[:2], *["short"] * 3, *lines[2:4]]))
    with pytest.raises(DataError, match=r"3 of 6 rows.*line 4"):
        task(f"csv:{path}")


@pytest.mark.parametrize(
    ("content", "query", "said"),
    [
        (b"", "", "no rows"),
        (b"\n\n", "", "no rows"),
        ('{"prompt": "\xe9", "answer": "1"}'.encode("latin1"), "", "0xe9 in line 1"),
        (b'{"prompt": "q", "answer": "1"}\n' * 30, "", "29 duplicated"),
        (
            b"".join(b'{"prompt": "q", "answer": "%s"}\n' % answer for answer in (b"1", b"1.0", b"2")),
            "",
            "1 questions of .* different answers .'q': '1' and '2'",
        ),
        (
            b'{"question": "q", "answer": "1"}\n',
            "prompt=qestion",
            "no column 'qestion'. Did you mean 'question'",
        ),
        (b'{"prompt": "q", "anser": "1"}\n', "", "no column 'answer'. Did you mean 'anser'"),
        (b'{"prompt": "q", "answer": "1"}\n', "", "none of them falls into"),
        (b'{"prompt": ["q"], "answer": "1"}\n', "", "1 unparsable"),
        (b"1\n2\n3\n", "", "3 unparsable"),
        (b'{"prompt": "q", "answer": "1"}\n', "solution=steps", "no column 'steps'"),
    ],
)
def test_files_that_cannot_be_used(content, query, said, tmp_path):
    """Oracle: the message names the fault."""
    path = tmp_path / "rows.jsonl"
    path.write_bytes(content)
    with pytest.raises(DataError, match=said):
        task(f"jsonl:{path}?{query}")


@pytest.mark.parametrize("kind", ["jsonl", "csv", "parquet"])
def test_missing_files_folders_and_other_kinds(kind, tmp_path):
    """Oracle: the message names the fault."""
    with pytest.raises(DataError, match="There is no file"):
        task(f"{kind}:{tmp_path}/none")
    with pytest.raises(DataError, match="is a folder"):
        task(f"{kind}:{tmp_path}")
    (tmp_path / "rows").write_bytes(b"\x1f\x8b\x00PAR0 neither text nor table \xff\xfe")
    with pytest.raises(DataError, match=r"not UTF-8|not a Parquet"):
        task(f"{kind}:{tmp_path}/rows")
    (tmp_path / "rows.gz").write_bytes(gzip.compress(b"abc" * 1000)[:-9])
    with pytest.raises(DataError, match=r"not a whole gzip|not a Parquet"):
        task(f"{kind}:{tmp_path}/rows.gz")


def test_a_folder_in_the_layout_of_the_hub(tmp_path, monkeypatch):
    """Oracle: the JSON lines task of the same rows, with the hub's test split."""
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    (tmp_path / "set" / "data").mkdir(parents=True)
    write(tmp_path / "set" / "data" / "train-00000-of-00001.parquet", ROWS[:50], "parquet")
    write(tmp_path / "set" / "data" / "test-00000-of-00001.parquet", ROWS[50:], "parquet")
    got = task(f"hf:{tmp_path / 'set'}?{QUERY}")
    train, test = (
        write(tmp_path / "a.jsonl", ROWS[:50], "jsonl"),
        write(tmp_path / "b.jsonl", ROWS[50:], "jsonl"),
    )
    assert got.fingerprint == task(f"jsonl:{train}?{QUERY}&test={test}").fingerprint
    assert got.verify(
        got.train[0],
        [f"The answer is {ROWS[[r['question'] for r in ROWS].index(got.train[0].prompt)]['label']}."],
    )
    with pytest.raises(DataError, match=r"no split 'trian'. Did you mean 'train'"):
        task(f"hf:{tmp_path / 'set'}?{QUERY}&split=trian")
    with pytest.raises(DataError, match="no column 'prompt'"):
        task(f"hf:{tmp_path / 'set'}?answer=label")
    with pytest.raises(DataError, match="cannot be found"):
        task(f"hf:{tmp_path / 'nothing'}")


def test_word_problems_from_the_data_folder(tmp_path, monkeypatch):
    """Oracle: made-up rows in the layout of the data folder, with answers by hand; odd ones take two."""
    rows = {
        "gsm8k/train": [
            {
                "question": f"Add {n}?",
                "answer": f"It is {n}+1=<<{n}+1={n + 1}>>{n + 1}.\n"
                + "Sure.\n" * (n % 2)
                + f"#### {n + 1:,}",
            }
            for n in range(1990, 2030)
        ],
        "gsm8k/test": [{"question": "One?", "answer": "One.\n#### 1"}],
        "math500/test": [{"prompt": f"Halve $1$.\n{BOXED}", "answer": "\\frac12"}],
        "math_word_problems/mawps_test": [
            {"input": f"Add {n}?", "target": float(n), "type": ("addsub", "singleop")[n % 2], "idx": n}
            for n in range(40)
        ],
        "math_word_problems/svamp_test": [
            {"Body": f"There are {n}", "Question": "How many?", "Answer": float(n)} for n in range(40)
        ],
    }
    for name, content in rows.items():
        path = tmp_path / f"{name}.jsonl.gz"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(gzip.compress("".join(json.dumps(row) + "\n" for row in content).encode()))
    monkeypatch.setenv("SELFSTUDY_DATA", str(tmp_path))
    gsm = task("gsm8k")
    problem = next(p for p in gsm.train if int(p.prompt[4:8]) % 2 == 0)
    short = task("gsm8k?most_steps=1")
    assert (
        short.train == tuple(p for p in gsm.train if int(p.prompt[4:8]) % 2 == 0) and short.test == gsm.test
    )
    assert task("gsm8k?most_steps=2").train == gsm.train and short.name == "gsm8k?most_steps=1"
    assert [p.prompt for p in gsm.test] == ["One?"] and len(gsm.train) + len(gsm.validation) == 40
    n = int(problem.prompt.split()[1].rstrip("?"))
    assert gsm.oracle.solution(problem) == (f"It is {n}+1={n + 1}.", f"The answer is {n + 1}.")
    assert gsm.verify(problem, [f"The answer is {n + 1:,} apples."])
    assert gsm.prompt(problem).endswith(f"\n\nQuestion: {problem.prompt}\nAnswer:\n") and gsm.stop == (
        "\n\n",
        "Question:",
    )
    halves = task("math500")
    assert halves.test[0].prompt == "Halve $1$." and "boxed" in halves.prompt(halves.test[0], chat=True)
    assert halves.evaluate(lambda problems, meter: [("so", "\\boxed{0.5}")]).accuracy == 1
    kinds = task("mawps?kinds=addsub")
    assert {int(p.prompt.split()[1].rstrip("?")) % 2 for p in kinds.train + kinds.test} == {0}
    with pytest.raises(UsageError, match="no kind 'addsubs'"):
        task("mawps?kinds=addsubs")
    assert any(
        p.prompt == "There are 3, How many?"
        for p in sum((getattr(task("svamp"), s) for s in ("train", "validation", "test")), ())
    )


def test_missing_word_problems_say_where_to_get_them(monkeypatch, tmp_path):
    """Oracle: the message names the variable, the file and the hub's id; nothing is fetched here."""
    import datasets

    def unreachable(*_, **__):
        raise ConnectionError("no network")

    monkeypatch.setattr(datasets, "load_dataset", unreachable)
    monkeypatch.delenv("SELFSTUDY_DATA", raising=False)
    with pytest.raises(DataError, match=r"SELFSTUDY_DATA(?s:.*)openai/gsm8k(?s:.*)no network"):
        task("gsm8k")
    with pytest.raises(DataError, match=r"mawps_test.jsonl.gz"):
        task("mawps")
    monkeypatch.setenv("SELFSTUDY_DATA", str(tmp_path / "none"))
    with pytest.raises(DataError, match="no folder"):
        task("mawps")


@pytest.mark.parametrize("verifier", ["chain", "countdown"])
def test_own_data_in_the_form_of_a_built_in_task(verifier, tmp_path):
    """Oracle: the built-in task's reference solutions, on a file of its problems."""
    built_in = task(
        "chain100?steps=3&train=60&validation=5&test=5" if verifier == "chain" else "countdown-3?train=60"
    )
    rows = [
        {"prompt": p.prompt, "answer": built_in.answer(built_in.oracle.solution(p))} for p in built_in.train
    ]
    held_out = [
        {"prompt": "99+2:", "answer": "01"} if verifier == "chain" else {"prompt": "2 3=6:", "answer": "6"}
    ]
    files = write(tmp_path / "rows.jsonl", rows, "jsonl"), write(tmp_path / "test.jsonl", held_out, "jsonl")
    got = task(f"jsonl:{files[0]}?verifier={verifier}&test={files[1]}")
    by_id = {problem.id: problem for problem in built_in.train}
    for problem in got.train:
        lines = built_in.oracle.solution(by_id[problem.id])
        assert got.verify(problem, lines) and got.is_end(problem, lines)
        assert not got.verify(problem, lines[:-1])
