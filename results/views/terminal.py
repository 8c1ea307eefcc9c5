"""Tables on a terminal: the comparison, and what its items could show."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from itertools import groupby

import pandas as pd
from rich.box import HORIZONTALS
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from ..records.axes import MINOR
from ..records.record import Record
from ..records.schema import Change, Interval, Key, Risk, Sides
from ..statistics.compare import Comparison, marked
from ..statistics.paired import OF_MEMORY, SPLIT_SCORE
from ..statistics.selection import Bounds, Row
from .format import TITLES, bounded, decimals, p_value, signed, within

SAMPLES_SHOWN = (1, 100, 10_000)
MEMBERSHIP = (
    ("auroc", "AUROC"),
    ("auroc_two_sided", "AUROC, better direction"),
    ("tpr_at_fpr", "TPR at 1 % FPR"),
    ("tpr_two_sided", "TPR at 1 % FPR, better direction"),
)
PROMPT_SHOWN = 160
"""Characters of a prompt that are shown, its last."""
_UNKNOWN = {
    **dict.fromkeys(OF_MEMORY, "the base holds no memory of the passages"),
    "recitation_removed": "the base recites nothing",
    "split_score": "one of its parts is not known",
}
"""Why a summary metric is not known, by its name."""
CHANGE = "change [95 % interval]"


def console(width: int | None = None) -> Console:
    """A terminal on which text is what it is: names and specs may hold what rich takes for markup."""
    return Console(width=width, markup=False, highlight=False)


def as_text(shown: RenderableType, width: int = 120) -> str:
    """What a console of that width would show, without colours."""
    sink = io.StringIO()
    Console(file=sink, width=width, color_system=None, markup=False, highlight=False).print(shown)
    return sink.getvalue()


def ruled(title: str | None, first: str, columns: Sequence[str] = ()) -> Table:
    """An empty table: the column ``first``, and columns of numbers."""
    table = Table(title=title, title_justify="left", title_style="bold", box=HORIZONTALS, padding=(0, 1, 0, 0))
    table.add_column(first)
    for column in columns:
        table.add_column(column, justify="right")
    return table


def comparison(
    title: str, changes: Mapping[Key, Change], summary: Mapping[str, Interval], *, all_metrics: bool = False
) -> Group:
    """Axis by axis: base, edited, change with its interval and p; then the summary metrics.

    Args:
        title: above.
        changes: the table's rows.
        summary: below.
        all_metrics: show the minor metrics of recitation too.
    """
    rows = _rows(changes, all_metrics)
    return Group(_table(title, ["base", "edited", CHANGE, "p (Holm)"], rows), *summary_lines(summary))


def summary_lines(summary: Mapping[str, Interval]) -> list[Text]:
    """One line a summary metric; where there is no split score for want of attacks, a line says so."""
    lines = [
        Text(f"{text:<34}" + _interval(name, summary[name]), style="bold" if name == "split_score" else "")
        for name, text in TITLES.items()
        if name in summary
    ]
    if "erased" in summary and "stays_erased" not in summary:
        lines.insert(0, Text(f"{TITLES['split_score']:<34}-  (known after attacks: --attacks)", style="bold"))
    return lines


def left_out(record: Record) -> list[Text]:
    """One line on the items that were left out, of base and edit alike; none where there are none."""
    tasks = [
        f"{n} of {task.n + n} items of {name}" for name, task in record.content.tasks.items() if (n := task.left_out)
    ]
    return [Text(f"left out, longer than the model's context: {', '.join(tasks)}")] if tasks else []


def memory(record: Record) -> list[Table]:
    """What each attack brought back, and the memory of each dose; no table where there is nothing for it."""
    tables = []
    if record.attacks:
        table = ruled("after an attack on the edited model", "attack", ["erased [95 % interval]", "strict"])
        for attack in record.attacks:
            table.add_row(attack.spec, bounded(attack.erased), decimals(attack.strict))
        tables.append(table)
    if record.by_group:
        columns = ["memory_base", "memory", "erased"]
        table = ruled("memory by dose", "passages", ["base, bits a token", "edited", "erased [95 % interval]"])
        for group, summary in record.by_group.items():
            *bits, erased = (summary[name] for name in columns)
            table.add_row(group, *(decimals(figure.value) for figure in bits), bounded(erased))
        tables.append(table)
    return tables


def against(one: Comparison, *, all_metrics: bool = False) -> Group:
    """Axis by axis one edit against another; then the summary metrics of both, and their difference.

    Args:
        one: what was compared.
        all_metrics: show the minor metrics of recitation too.
    """
    first, other = one.first.label, one.other.label
    table = ruled(None, "against the base", ["first", "other", "other - first [95 % interval]"])
    for name, title in TITLES.items():
        if name in one.summary:
            *both, difference = one.summary[name]
            table.add_row(title, *(decimals(figure.value) for figure in both), signed(difference))
    title = f"first: {first}\nother: {other}"
    changes = _table(title, ["first", "other", CHANGE, "p (Holm)"], _rows(one.changes, all_metrics))
    return Group(changes, *([table] if one.summary else []), *map(Text, one.left_out))


def flips(flipped: pd.DataFrame, first: str, other: str, shown: int) -> Text:
    """The items that one got right and the other wrong: gold, and both answers with what differs from it marked.

    Marks are ``⟦ ⟧`` and, on a terminal, colour.

    Args:
        flipped: of ``compare.flips``.
        first: what the first is called.
        other: what the other is called.
        shown: items at most, of each task and direction.
    """
    text = Text()
    for (task, lost), rows in flipped.groupby(["task", flipped["before"] > flipped["after"]], sort=False):
        text.append(
            f"{task}: {len(rows)} {'right before, wrong after' if lost else 'wrong before, right after'}\n", "bold"
        )
        for row in rows.head(shown).itertuples():
            text.append(f"  item {row.item}: {_shortened(row.prompt) or 'not kept'}\n", "dim")
            if not row.gold:
                continue
            text.append(f"    gold   {''.join(row.gold)}\n")
            for label, answer in (("first", row.first), ("other", row.other)):
                text.append(f"    {label}  ")
                for part, differs in marked(answer, row.gold):
                    text.append(f"⟦{part}⟧" if differs else part, "bold red" if differs else "")
                text.append("\n")
        if len(rows) > shown:
            text.append(f"  and {len(rows) - shown} more\n", "dim")
    return text if text else Text(f"no item flipped between {first} and {other}\n")


def _shortened(prompt: str) -> str:
    """The prompt's end on one line."""
    line = " ".join(prompt.split())
    return line if len(line) <= PROMPT_SHOWN else f"… {line[-PROMPT_SHOWN:]}"


def risk(sides: Sides[Risk]) -> Table:
    """What can be extracted before and after: the share of passages that samples bring out, and membership signals."""
    base, edited = sides.base, sides.edit
    table = ruled("extraction risk", "", ["base", "edited"])
    for axis, curves in base.discoverable.items():
        table.add_row(f"{axis}, out in n samples", style="bold")
        for n in SAMPLES_SHOWN:
            both = (curves, edited.discoverable[axis])
            table.add_row(f"  n = {n:,}", *(decimals(side["p=0.5"][f"n={n}"]) for side in both))
    for name, title in MEMBERSHIP:
        told = {signal: values[name] for signal, values in base.membership.items() if name in values}
        if told:
            table.add_row(f"members told: {title}", style="bold")
        for signal, before in told.items():
            intervals = (before, edited.membership[signal][name])
            table.add_row(f"  {signal.removeprefix('mia_')}", *map(within, intervals))
    return table


def power(title: str, changes: Mapping[Key, Change], needed: Mapping[Key, int | None], difference: float) -> Table:
    """Axis by axis: items (in clusters), change, the smallest detectable one, clusters needed for ``difference``."""
    rows = {
        key: [
            str(c.n) if c.n == c.clusters else f"{c.n} in {c.clusters}",
            signed(c),
            decimals(c.detectable),
            str(needed[key] or "-"),
        ]
        for key, c in changes.items()
    }
    return _table(title, ["items", CHANGE, "detectable", f"needed\nfor {difference:g}"], rows)


def sweep(title: str, rows: Sequence[Row], bounds: Bounds, marks: Mapping[str, str] | None = None) -> Table:
    """Edits with the metrics that the choice depends on; dim where a bound is missed.

    Args:
        title: above.
        rows: the edits, in order.
        bounds: what a chosen one must hold to.
        marks: a word on some, by spec.
    """
    table = ruled(title, "edit")
    table.columns[0].overflow = "fold"
    for column in ("split score\n[95 % interval]", "stays\nerased", "reasoning", "fluency", "removed"):
        table.add_column(column, justify="right", no_wrap=True)
    for row in rows:
        cells = [decimals(row.metric(name)) for name in ("stays_erased", *SPLIT_SCORE[1:], "recitation_removed")]
        score = row.summary["split_score"]
        word = (marks or {}).get(row.spec)
        table.add_row(
            row.spec + (f"\n  {word}" if word else ""),
            within(score),
            *cells,
            style="" if bounds.hold(row) else "dim",
        )
    return table


def duration(seconds: float) -> str:
    """``35 s``, ``2 min``, ``3 h 20 min``."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"


def _rows(changes: Mapping[Key, Change], all_metrics: bool) -> dict[Key, list[str]]:
    return {
        key: [decimals(c.base), decimals(c.edited), signed(c), p_value(c.p_holm)]
        for key, c in changes.items()
        if all_metrics or key[1] not in MINOR
    }


def _table(title: str, columns: Sequence[str], rows: Mapping[Key, Sequence[str]]) -> Table:
    table = ruled(title, "metric", columns)
    for axis, of_axis in groupby(rows.items(), key=lambda row: row[0][0]):
        table.add_row(axis.replace("_", " "), style="bold")
        for (_, metric), cells in of_axis:
            table.add_row(f"  {metric}", *cells)
    return table


def _interval(name: str, value: Interval) -> str:
    if math.isnan(value.value):
        return f"-  ({_UNKNOWN.get(name, 'the base is no better than guessing')})"
    return within(value).replace(" [", "  [")
