"""How a model hands measurements of an item to the function that scores it, beside the text that lm-eval passes on.

lm-eval passes a request's document to the model, and the same document, with the model's text or number, to the task's
``process_results``. A model that knows more than the text (token ids, probabilities) leaves it in the document.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

_KEY = "measured"


class Rows(list[dict[str, Any]]):
    """The documents of a task, each one object however often the task is iterated (a data set makes new ones).

    Args:
        rows: documents with the same keys.
    """

    def __init__(self, rows: Iterable[dict[str, Any]]) -> None:
        super().__init__(rows)
        self.features = dict.fromkeys(self[0]) if self else {}
        """lm-eval looks up the names of a task's columns here."""


def leave(doc: dict[str, Any], measured: object) -> None:
    """Leave a measurement in the document."""
    doc[_KEY] = measured


def take(doc: dict[str, Any]) -> Any:
    """Remove and return the document's measurement, so that no other model's score is made of it; else ``None``."""
    return doc.pop(_KEY, None)
