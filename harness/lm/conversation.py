"""Turns of a conversation, as a tokenizer's chat template writes them.

lm-eval asks for an answer that must be generated whole (its output type ``loglikelihood``) by what follows a plain
prompt, with a space before it and perhaps the end of its line. No turn has either: an answer in a turn stands between
what the template puts before it and the end of the turn.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime, tzinfo
from typing import Any

from jinja2 import TemplateError
from transformers.utils import chat_template_utils

from ...errors import UserError

ANSWER = "memsplit0answer"
"""Stands for an answer, to see what a template puts around one."""


class OneDay(datetime):
    """It is always 26 July 2024, the day that Llama's own templates write where they are told none."""

    @classmethod
    def now(cls, tz: tzinfo | None = None) -> OneDay:
        """That day's beginning."""
        return cls(2024, 7, 26, tzinfo=tz)


@contextmanager
def applying(name: str) -> Iterator[None]:
    """Apply chat templates; those that write today's date write one day's, so that questions are the same every day.

    transformers has no option for the day: of what a template is given it passes on plain data alone, and no function.

    Args:
        name: the model's, for errors.

    Raises:
        UserError: a template cannot be applied.
    """
    clock = chat_template_utils.datetime
    chat_template_utils.datetime = OneDay
    try:
        yield
    except (TemplateError, ValueError, TypeError, KeyError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(f"the chat template of {name!r} cannot be applied: {reason}") from error
    finally:
        chat_template_utils.datetime = clock


def around(tokenizer: Any, options: Mapping[str, Any], name: str) -> tuple[str, str]:
    """What a chat template puts between its prompt and an answer, as in earlier turns, and after an answer.

    White space at the end of a turn is no part of it: what is generated ends before it.

    Args:
        tokenizer: has the template.
        options: the template's.
        name: the model's, for errors.

    Raises:
        UserError: the template cannot be applied, its prompt is not how an earlier answer begins (it may open a
            thought), or it puts nothing after an answer.
    """
    render = functools.partial(tokenizer.apply_chat_template, tokenize=False, **options)
    question, answer = {"role": "user", "content": "?"}, {"role": "assistant", "content": ANSWER}
    with applying(name):
        prompt = render([question], add_generation_prompt=True)
        earlier = render([question, answer, question], add_generation_prompt=True)
        last = render([question, answer], add_generation_prompt=False)
    before, found, _ = earlier.removeprefix(prompt).partition(ANSWER)
    _, ends, end = last.rpartition(ANSWER)
    if not (earlier.startswith(prompt) and found and ends and end):
        raise UserError(
            f"the chat template of {name!r} does not put an answer between its prompt and an end of the turn: expected "
            "tasks without answers that must be generated whole, such as arithmetic's, or no --chat-template"
        )
    return before, end.rstrip() or end


@contextmanager
def whole_answers(task: Any, before: str, end: str) -> Iterator[None]:
    """Let a task of lm-eval's ask for whole answers as they stand in turns, and show those of its examples bare.

    Args:
        task: of the output type ``loglikelihood``.
        before: what stands between the prompt and an answer (see :func:`around`).
        end: what follows it.
    """
    config, examples = task.config, task.fewshot_cfg
    plain, shown = config.doc_to_target, examples.doc_to_target

    def bare(doc: Mapping[str, Any], target: Any) -> str:
        return str(task.doc_to_target(doc, target)).strip()

    config.doc_to_target = lambda doc: before + bare(doc, plain) + end
    examples.doc_to_target = lambda doc: bare(doc, shown)
    try:
        yield
    finally:
        config.doc_to_target, examples.doc_to_target = plain, shown
