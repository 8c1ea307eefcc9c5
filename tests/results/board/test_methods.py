"""Which edits are one method, which are strengths of it, and which are draws of one strength."""

import re
from pathlib import Path
from typing import Any

import pytest

from memsplit.model_edits import registry
from memsplit.results.board.methods import BASELINES, DRAWN, STRENGTHS, Place, baseline, is_control
from memsplit.tests.support.board_records import made

KFAC = {"labels": "sampled", "select": "top", "rank": "mass", "layers": [2, 3], "proj": ["up"]}


def place(folder: Path, spec: str, steps: list[dict[str, Any]] | None = None, **changed: Any) -> Place:
    given: dict[str, Any] = {"steps": steps} if steps else {}
    return Place.of(made(folder, spec, attacks=False, **given, **changed))


@pytest.mark.parametrize(
    ("spec", "method", "strength", "label", "draw"),
    [
        ("none", "none", "none", "", ()),
        ("kfac-80:layers=2-3,proj=up", "kfac:layers=2-3,proj=up", "kfac-80:layers=2-3,proj=up", "80 %", ()),
        ("kfac-80:layers=2,proj=up@0.5", "kfac:layers=2,proj=up", "kfac-80:layers=2,proj=up@0.5", "80 % @0.5", ()),
        ("kfac-80:label_seed=1,labels=gold", "kfac:labels=gold", "kfac-80:labels=gold", "80 %", ("label_seed=1",)),
        ("bsn-70:lr=100,seed=2", "bsn", "bsn-70:lr=100", "70 % lr=100", ("seed=2",)),
        ("random:match=kfac-80,seed=1", "random", "random:match=kfac-80", "match=kfac-80", ("seed=1",)),
        ("noise:proj=up,size=0.5", "noise:proj=up", "noise:proj=up,size=0.5", "size=0.5", ()),
        ("quantize:bits=4", "quantize", "quantize:bits=4", "bits=4", ()),
        ("magnitude-0:proj=up", "magnitude-0:proj=up", "magnitude-0:proj=up", "", ()),
        ("finetune:loss=ga", "finetune:loss=ga", "finetune:loss=ga", "", ()),
        ("kfac-80:seed=1+svd-90@0.5", "kfac+svd", "kfac-80+svd-90@0.5", "80 % + 90 % @0.5", ("seed=1",)),
    ],
)
def test_words_make_a_method_numbers_a_strength_and_seeds_a_draw(
    tmp_path: Path, spec: str, method: str, strength: str, label: str, draw: tuple[str, ...]
) -> None:
    short = re.sub("[:,](layers|proj)=[^:,@]*", "", method)
    assert place(tmp_path, spec) == Place(method=method, short=short, strength=strength, label=label, draw=draw)


def test_a_plus_in_a_value_begins_no_step(tmp_path: Path) -> None:
    found = place(
        tmp_path,
        "kfac-95:proj=gate+up+svd-90",
        [{"name": "kfac", "percent": 95.0, "dial": 0.0, **KFAC}, {"name": "svd", "percent": 90.0, "dial": 0.0}],
    )
    assert (found.method, found.short, found.label) == ("kfac:proj=gate+up+svd", "kfac+svd", "95 % + 90 %")


def test_a_number_in_words_is_a_word_where_the_option_is_a_text(tmp_path: Path) -> None:
    for path in ("100", "200"):
        step = {"name": "checkpoint", "percent": None, "dial": 0.0, "path": path}
        assert place(tmp_path, f"checkpoint:path={path}", [step]).method == f"checkpoint:path={path}"


def test_other_curvature_is_another_method(tmp_path: Path) -> None:
    arguments = {"model": "olmo-tiny", "split": "test", "seed": 0}
    methods = [
        place(tmp_path, "kfac-80", arguments={**arguments, **more}).method
        for more in ({}, {"factor_tokens": 1024}, {"corpus": "c.txt"})
    ]
    assert methods == ["kfac", "kfac (1024 factor tokens)", "kfac (c.txt)"]


def test_what_is_no_spec_is_a_method_by_itself(tmp_path: Path) -> None:
    found = place(tmp_path, "kfac <b>|80", [{"name": "kfac"}, {"name": "svd"}])
    text = "kfac <b>|80+svd"
    assert found == Place(method=text, short=text, strength=text, label="", draw=())


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("random-50", "random"),
        ("noise:match=kfac-80", "noise"),
        ("quantize:bits=2", "quantize"),
        ("magnitude-0", "deletion"),
        ("magnitude-0@0.5", None),
        ("magnitude-10", None),
        ("kfac-80+quantize:bits=2", None),
        ("none", None),
    ],
)
def test_baselines(tmp_path: Path, spec: str, expected: str | None) -> None:
    record = made(tmp_path, spec, attacks=False)
    assert baseline(record) == expected
    assert is_control(record) == (expected is not None or spec == "none")
    assert expected is None or expected in BASELINES


def test_every_seed_of_a_built_in_edit_is_a_draw() -> None:
    options = [field.name for name in registry.edit_names() for field in registry.find_edit(name).option_fields()]
    assert {name for name in options if "seed" in name} <= set(DRAWN)
    assert set(STRENGTHS) <= set(options)
