"""Records of earlier versions are written anew with what their items allow, and nothing else."""

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from memsplit.harness.cli import main
from memsplit.results.records import record, tables
from memsplit.results.records.record import Record
from memsplit.results.records.schema import Interval, Results
from memsplit.results.records.store import Store
from memsplit.results.statistics.migrate import migrate
from memsplit.tests.results.statistics.test_memory import N, gap, passages
from memsplit.tests.support.records import made

BASE = np.concatenate([np.linspace(0, 1, N), np.linspace(4, 6, N)])
EDIT = np.concatenate([np.linspace(2, 3, N), np.linspace(4, 6, N)])
OLD = {name: Interval(value=0.9, low=0.8, high=1.0) for name in ("recitation_removed", "split_score")}


def old(folder: Path, items: tuple[pd.DataFrame, pd.DataFrame] = (passages(BASE), passages(EDIT))) -> Record:
    return made(folder, *items, answers=None, summary=OLD)


def test_the_split_score_of_old_has_another_name(tmp_path: Path) -> None:
    found = old(tmp_path)
    assert found.summary == {"recitation_removed": OLD["recitation_removed"], "silence_score": OLD["split_score"]}
    assert record.read(found.path).summary == found.summary


def test_memory_is_made_of_the_items_and_all_else_stays(tmp_path: Path) -> None:
    before = old(tmp_path)
    after, unknown = migrate(Store(tmp_path), before)
    assert after.summary["erased"].value == pytest.approx(1 - gap(EDIT) / gap(BASE))
    assert not {"split_score", "silence_score", "stays_erased"} & after.summary.keys()
    assert (
        unknown == "memory against twins alone, for it has no unseen counterpart; no split score, for it has no attacks"
    )
    for name in Results.__struct_fields__:
        if name not in ("summary", "by_group"):
            assert getattr(after.content, name) == getattr(before.content, name) or name == "base"
    assert Store(tmp_path).paths() == [after.path]
    assert after.verify().startswith("whole")
    pd.testing.assert_frame_equal(tables.items(after, "edit"), passages(EDIT))
    assert after.by_group.keys() == {"dose 0", "dose 1"}
    assert migrate(Store(tmp_path), after)[0] is after


def test_what_no_item_says_stays_unknown(tmp_path: Path) -> None:
    strict = tuple(items[items["metric"] == "strict"] for items in (passages(BASE), passages(EDIT)))
    after, unknown = migrate(Store(tmp_path), old(tmp_path, (strict[0], strict[1])))
    assert after.summary.keys() == {"recitation_removed"}
    assert unknown.startswith("no memory, for it has no code lengths")


def test_a_figure_that_is_not_known_is_no_change(tmp_path: Path) -> None:
    """A record whose base holds no memory is left as it is, and not removed in favour of itself."""
    once, _ = migrate(Store(tmp_path), old(tmp_path, (passages(np.ones(2 * N)), passages(EDIT))))
    assert math.isnan(once.summary["erased"].value)
    again, _ = migrate(Store(tmp_path), once)
    assert Store(tmp_path).paths() == [again.path]
    assert again.verify().startswith("whole")


def test_on_the_command_line_damaged_records_are_named_and_left(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = old(tmp_path)
    (tmp_path / "broken.json").write_text("{")
    assert main.main(["runs", "migrate", "--store", str(tmp_path)]) == 1
    said = capsys.readouterr()
    assert f"{before.id}: now " in said.out
    assert "broken.json" in said.err
    assert (tmp_path / "broken.json").exists()
    (tmp_path / "broken.json").unlink()
    assert main.main(["runs", "migrate", "--store", str(tmp_path)]) == 0
    assert "as it was" in capsys.readouterr().out
    assert main.main(["runs", "migrate", "--store", str(tmp_path / "nowhere")]) == 0
    assert "no records in" in capsys.readouterr().out
