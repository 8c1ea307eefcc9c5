"""The comparison on a terminal."""

from __future__ import annotations

from collections.abc import Mapping

from rich.console import Group
from rich.table import Table
from rich.text import Text

from .stats import Figures, Interval

TITLES = {
    "recitation_removed": "recitation removed",
    "logic_kept": "logic kept",
    "split_score": "split score",
    "perplexity_ratio": "perplexity ratio",
}


def comparison(
    title: str,
    base: Figures,
    edited: Figures,
    changes: Mapping[tuple[str, str], Interval],
    summary: Mapping[str, Interval],
) -> Group:
    """Axis by axis: base, edited, change with its interval; then the summary figures."""
    table = Table(title=title, title_justify="left", title_style="bold")
    for column, side in (("axis", "left"), ("metric", "left"), ("base", "right"), ("edited", "right")):
        table.add_column(column, justify="right" if side == "right" else "left")
    table.add_column("change [95 % interval]", justify="right")
    for axis, metrics in base.items():
        for i, (metric, value) in enumerate(metrics.items()):
            change = changes[axis, metric]
            interval = f"{change.value:+.3f} [{change.low:+.3f}, {change.high:+.3f}]"
            name = axis.replace("_", " ") if i == 0 else ""
            table.add_row(name, metric, f"{value:.3f}", f"{edited[axis][metric]:.3f}", interval)
        table.add_section()
    lines = [
        Text(
            f"{TITLES[name]:<20}{i.value:.3f}  [{i.low:.3f}, {i.high:.3f}]",
            style="bold" if name == "split_score" else "",
        )
        for name, i in summary.items()
    ]
    return Group(table, *lines)
