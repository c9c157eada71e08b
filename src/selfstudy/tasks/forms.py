"""How problems are put to a model, and how its text is read: one mechanism for every reasoning task."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from selfstudy.data.walks import WORDS, Returns

_MARKER = re.compile(r"answer\s+is\s*:?\s*|final\s+answer\s*:\s*", re.IGNORECASE)
_BOXED = re.compile(r"\\boxed\s*\{")
_NUMBER = re.compile(r"\$?\\?\s*(-?\d[\d,]*(?:\.\d+)?)\$?(?:\s*\\?%|\s+[A-Za-z]{2,}.*)?")


def has_marker(question: str, steps: Sequence[str]) -> bool:
    r"""Tell whether the last step states an answer: `answer is ...` or a closed `\boxed{...}`."""
    return bool(steps) and _marked(steps[-1]) is not None


def marked_answer(question: str | None, steps: Sequence[str]) -> str | None:
    r"""Return the answer that the last marker states, in a plain form, or None.

    >>> marked_answer(None, ["3 + 5 = 8", "The answer is $8."])
    '8'
    >>> marked_answer(None, [r"so \boxed{\frac{1}{2}}"])
    '\\frac{1}{2}'
    """
    for step in reversed(steps):
        found = _marked(step)
        if found is not None:
            return plain_answer(found)
    return None


def plain_answer(text: str) -> str:
    """Take units, currency, thousands commas and the full stop off an answer that is a number.

    >>> [plain_answer(text) for text in ("1,250 apples.", "$8", "8.50", "x = 3")]
    ['1250', '8', '8.50', 'x = 3']
    """
    text = text.strip().strip("*").rstrip(".").strip()
    if len(text) > 2 and text[0] == text[-1] == "$":
        text = text[1:-1].strip()
    number = _NUMBER.fullmatch(text)
    return number[1].replace(",", "") if number else text


def _marked(step: str) -> str | None:
    boxed = list(_BOXED.finditer(step))
    if boxed:
        return _braced(step, boxed[-1].end())
    markers = list(_MARKER.finditer(step))
    return (step[markers[-1].end() :].strip() or None) if markers else None


def _braced(text: str, start: int) -> str | None:
    depth = 1
    for end in range(start, len(text)):
        depth += {"{": 1, "}": -1}.get(text[end], 0)
        if depth == 0:
            return text[start:end].strip() or None
    return None


def hinted_question(question: str, hint: str) -> str:
    r"""Return a question in words with a hint below.

    >>> hinted_question("What is 2+3?", "Count on from 3.")
    'What is 2+3?\nHint: Count on from 3.'
    """
    return f"{question}\nHint: {hint}"


def tells_answer(question: str, answer: str, hint: str) -> bool:
    """Tell whether a hint holds the answer as a word of its own, commas in numbers and case aside.

    >>> [tells_answer("", "1250", text) for text in ("It is 1,250.", "It is 11250", "over 1250.5")]
    [True, False, False]
    """
    plain = [re.sub(r"(?<=\d),(?=\d{3})", "", " ".join(text.lower().split())) for text in (answer, hint)]
    return re.search(rf"(?<![\w.]){re.escape(plain[0])}(?!\w|\.\w)", plain[1]) is not None


@dataclass(frozen=True, kw_only=True)
class SolutionForm:
    """The form of a task's prompts and solutions. A solution is lines; each line is a step."""

    preamble: str = ""
    """Worked examples that a plain language model reads first."""
    template: str = "{question}"
    """The prompt of a plain language model, after the preamble."""
    instruction: str = ""
    """What a chat model is told after the question; it gets neither preamble nor template."""
    stop: tuple[str, ...] = ()
    """Strings that end a whole solution."""
    ended: Callable[[str, Sequence[str]], bool] = has_marker
    """Tells from (question, steps) whether the text is a finished solution, by its form alone."""
    answer: Callable[[str | None, Sequence[str]], str | None] = marked_answer
    """Extracts the answer from (question or None, steps)."""
    indented: bool = False
    """Whether the blanks before a line belong to it, as in Python; else they are taken off."""
    closing: str = ""
    """The line that closes a solution; what follows is not read. Without one the whole text counts."""
    asks: Callable[[str], bool] = bool
    """Tells whether a text is a question of this kind, where a model writes its own."""
    room: Callable[[str], int] | None = None
    """Most tokens of a solution, by the question; None gives every question as many."""
    returns: Returns | None = None
    """How a solution says that it goes back to an earlier step; None where it cannot."""
    guided: Callable[[str, str], str] | None = None
    """Makes from (question, answer) a question that shows its answer and asks how it is reached; None: there
    is no way to ask so."""
    hinted: Callable[[str, str], str] = hinted_question
    """Makes from (question, hint) the question with its hint."""
    tells: Callable[[str, str, str], bool] = tells_answer
    """Tells from (question, answer, hint) whether the hint gives the answer away."""

    def lines(self, text: str) -> tuple[str, ...]:
        r"""Split a text into the lines that are not blank, without the blanks around them.

        >>> SolutionForm(indented=True).lines("if a:\n\n    b \n")
        ('if a:', '    b')
        """
        lines = (line.rstrip() for line in text.split("\n"))
        return tuple(line if self.indented else line.strip() for line in lines if line)

    def prompt(self, question: str, *, chat: bool = False, hint: str | None = None) -> str:
        """Return the text for a plain model, or for a chat model the user's message."""
        if hint is not None:
            question = self.hinted(question, hint)
        if chat:
            return f"{question}\n{self.instruction}" if self.instruction else question
        return self.preamble + self.template.replace("{question}", question)


INSTRUCTION = (
    "Solve the problem step by step, one step per line, without blank lines. "
    'End with a line of the form "The answer is 8."'
)
TEMPLATE = "Question: {question}\nAnswer:\n"
STOP = ("\n\n", "Question:")

WORD_PROBLEMS = """\
Question: Mia had 12 stickers. She gave 4 away and then bought 7 more. How many stickers does she have now?
Answer:
After giving 4 away she has 12 - 4 = 8 stickers.
After buying 7 more she has 8 + 7 = 15 stickers.
The answer is 15.

Question: A baker fills 6 boxes with 9 rolls each. How many rolls are that?
Answer:
There are 6 * 9 = 54 rolls.
The answer is 54.

Question: Tom read 48 pages in 3 days, the same number each day. How many pages does he read in 5 days?
Answer:
Each day he reads 48 / 3 = 16 pages.
In 5 days he reads 16 * 5 = 80 pages.
The answer is 80.

"""


def text_form(*, preamble: str = "", instruction: str = INSTRUCTION) -> SolutionForm:
    """Return the form of tasks in words: question and answer, steps on lines, the answer marked."""
    return SolutionForm(
        preamble=preamble,
        template=TEMPLATE,
        instruction=instruction,
        stop=STOP,
        guided=guided_question,
        returns=WORDS,
    )


def guided_question(question: str, answer: str) -> str:
    r"""Return a question in words with its answer beside it.

    >>> guided_question("What is 2+3?", "5")
    'What is 2+3?\n(The answer is 5. Show the steps that lead to it.)'
    """
    return f"{question}\n(The answer is {answer}. Show the steps that lead to it.)"


def worked_examples(solved: Sequence[tuple[str, Sequence[str]]]) -> str:
    r"""Return a preamble of questions with the lines of their solutions.

    >>> worked_examples([("2+3=?", ["The answer is 5."])])
    'Question: 2+3=?\nAnswer:\nThe answer is 5.\n\n'
    """
    return "".join(
        TEMPLATE.replace("{question}", question) + "\n".join(lines) + "\n\n" for question, lines in solved
    )
