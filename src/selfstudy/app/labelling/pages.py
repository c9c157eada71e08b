"""The HTML of the labelling page: whole, and the parts of it that are swapped."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from uuid import uuid4

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from selfstudy.app.labelling.choices import LONGEST_NAME, UNSURE, choices, found
from selfstudy.app.labelling.desk import Desk
from selfstudy.app.labelling.results import result
from selfstudy.app.labelling.showing import show
from selfstudy.app.labelling.state import HEIGHT, WIDTH, People, learning_curve
from selfstudy.app.labelling.training import FAILED, FINISHED, IDLE, TRAINING, Trainer
from selfstudy.app.labelling.writer import Writer
from selfstudy.data import label_answers
from selfstudy.data.label_database import LabelDatabase

TEMPLATES = Path(__file__).parent / "pages"


class Pages:
    """The HTML of one run.

    Args:
        directory: of the run.
        store: its labels.
        task: of the run, with its pool.
    """

    def __init__(self, directory: Path, store: LabelDatabase, task: Any) -> None:
        self.directory, self.store, self.task = directory, store, task
        self.desk, self.trainer, self.people = Desk(store), Trainer(directory, store), People(store)
        self.writer = Writer(directory)
        self._templates = Environment(
            loader=FileSystemLoader(TEMPLATES),
            autoescape=True,
            undefined=StrictUndefined,
            auto_reload=False,  # else each page would look at its files again
        )
        self._templates.globals.update(
            longest=LONGEST_NAME,
            unsure=UNSURE,
            width=WIDTH,
            height=HEIGHT,
            idle=IDLE,
            training=TRAINING,
            failed=FAILED,
            finished=FINISHED,
        )

    def file(self, place: int) -> Path | None:
        """Return the file of its own that an item has."""
        return self.task.files[place] if self.task.files else None

    def html(self, template: str, /, **values: Any) -> str:
        """Return a filled template."""
        return self._templates.get_template(f"{template}.html").render(values)

    def whole(self, who: str) -> str:
        """Return the page of a person."""
        return self.html(
            "page", who=who, title=self.directory.resolve().name, **self._work(who, ""), **self._status()
        )

    def work(self, who: str, said: str = "") -> str:
        """Return the part with the item, and what there is to say about the last answer."""
        return self.html("work", who=who, **self._work(who, said))

    def status(self) -> str:
        """Return the part beside it."""
        return self.html("status", **self._status())

    def names(self, begun: str) -> str:
        """Return the classes that are searched for by a part of their name."""
        asked = label_answers.open_query(self.store)
        return self.html("names", found=found(asked, begun[:LONGEST_NAME]) if asked else [])

    def _work(self, who: str, said: str) -> dict[str, Any]:
        given = self.desk.item_for(who) if who else None
        if given is None:
            asked = label_answers.open_query(self.store)
            ended = result(self.directory) if self.trainer.state == FINISHED else None
            return {
                "given": None,
                "asked": asked,
                "trainer": self.trainer,
                "request": uuid4().hex,
                "said": said,
                "ended": ended,
            }
        asked, item = given
        offered = choices(asked, item)
        return {
            "given": item,
            "asked": asked,
            "offered": offered,
            "many": item.confirm is None and len(asked.classes) > len(offered),
            "shown": show(self.task.pool, item.place, self.file(item.place)),
            "name": self.task.ids[item.place],
            "request": uuid4().hex,
            "said": said,
            "mine": self.store.count("SELECT COUNT(*) FROM answers WHERE annotator = ?", who),
        }

    def _status(self) -> dict[str, Any]:
        return {
            "state": self.trainer.state,
            "every": self.store.count("SELECT COUNT(*) FROM answers"),
            "taken": self.store.count("SELECT COUNT(*) FROM queries WHERE taken"),
            "curve": learning_curve(self.directory / "metrics.jsonl"),
            "agreed": self.people.agreement(),
            "annotators": self.store.annotators,
        }
