"""Records: read back as written, and refused when damaged."""

from pathlib import Path

import pandas as pd
import pytest

from memsplit.errors import UserError
from memsplit.results import record, stats


def test_a_record_is_read_back_and_damage_is_seen(tmp_path: Path) -> None:
    table = pd.DataFrame([("a", "x", "m", i, 1.0 - i, 1, str(i), "") for i in range(2)], columns=stats.COLUMNS)
    path = record.write(tmp_path / "new", "r", {"spec": "none", "value": float("nan"), "seconds": 1.0}, table)
    content, found = record.read(path)
    assert content["value"] is None
    pd.testing.assert_frame_equal(found, table)
    assert record.write(tmp_path / "new", "r", {"spec": "none", "value": float("nan"), "seconds": 2.0}, table) == path
    assert sorted(p.suffix for p in path.parent.iterdir()) == [".json", ".parquet"]
    path.with_suffix(".parquet").write_bytes(b"x")
    with pytest.raises(UserError, match="damaged"):
        record.read(path)
