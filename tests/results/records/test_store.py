"""The store: found by name, filtered, removed; whole records whatever happens to those who write them."""

import json
import os
import subprocess
import sys
from pathlib import Path

import msgspec
import pandas as pd
import pytest

from memsplit.errors import UserError
from memsplit.harness.cli import main
from memsplit.results.records import record, schema
from memsplit.results.records.store import RecordFilter, Store
from memsplit.results.records.tables import ITEMS
from memsplit.tests.support.records import made
from memsplit.tests.support.running import memsplit

BASE = pd.DataFrame([("t", "logic", "acc", i, 1.0, 1, str(i), "") for i in range(4)], columns=ITEMS)
EDITED = BASE.assign(value=0.0)
OTHER = {
    **dict.fromkeys(("model", "weights", "suite", "fingerprint", "dtype", "code"), "other"),
    "arguments": schema.Arguments(split="test", seed=1),
    "reference": schema.Reference(model="m", weights="w"),
    "versions": {"memsplit": "1"},
}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    made(tmp_path, BASE, EDITED, spec="kfac-80:layers=2")
    made(tmp_path, BASE, EDITED, spec="kfac-50:layers=2", created="2026-01-02T00:00:00+00:00")
    chance = {("logic", "acc"): 0.5}
    made(
        tmp_path,
        BASE,
        EDITED,
        chance=chance,
        spec="svd-50",
        arguments={"split": "dev", "seed": 0, "limit": 3},
        model="other/model",
    )
    return Store(tmp_path)


def specs(store: Store, **wanted: str) -> set[str]:
    return {found.spec for found in store.records(RecordFilter(**wanted))}


def test_records_are_found_by_path_id_hash_and_spec(store: Store) -> None:
    found = store.find("kfac-50:layers=2")
    for name in (str(found.path), found.id, found.id[:-4], found.id[-12:], found.id[-12:-6], "kfac-50"):
        assert store.find(name) == found
    made(store.folder, EDITED, BASE, spec="kfac-50:layers=2")
    with pytest.raises(UserError, match=r"could be any of 2: expected the hash of one of \w{12} \(--split test, 2026"):
        store.find("kfac-50:layers=2")
    for spec in ("svd-90:layers=1", "svd-90:layers=2"):
        made(store.folder, EDITED, BASE, spec=spec)
    with pytest.raises(UserError, match=r"any of 2: .*\) svd-90:layers=\d, \w{12} \(.*\) svd-90:layers=\d$"):
        store.find("svd-90")
    with pytest.raises(UserError, match=r"no record 'kfac-5o' in .* did you mean 'kfac-50:layers=2'"):
        store.find("kfac-5o")
    with pytest.raises(UserError, match="holds none"):
        Store(store.folder / "none").find("kfac-50")


def test_filters(store: Store) -> None:
    assert [found.spec for found in store.records()] == ["kfac-80:layers=2", "svd-50", "kfac-50:layers=2"]
    assert specs(store, edit="kfac") == {"kfac-80:layers=2", "kfac-50:layers=2"}
    assert specs(store, edit="*-50") == {"svd-50", "kfac-50:layers=2"}
    assert specs(store, model="other/*") == specs(store, split="dev") == {"svd-50"}
    assert specs(store, suite="memsplit_audit") == specs(store, fingerprint="0") == set()
    assert len(specs(store, fingerprint="ff", suite="memsplit")) == 3


def test_what_is_removed_is_gone_and_nothing_else(store: Store) -> None:
    store.remove(store.find("svd-50").path)
    assert specs(store) == {"kfac-80:layers=2", "kfac-50:layers=2"}
    assert len(list(store.folder.iterdir())) == 4


def test_damage_is_told(store: Store) -> None:
    assert [whole for _, whole, _ in store.verify()] == [True] * 3
    items, text = store.find("svd-50").files()["items"], store.find("kfac-80").path
    items.write_bytes(b"x")
    text.write_text(text.read_text().replace('"seed": 0', '"seed": 1'))
    problems = {path.stem.rpartition("-")[0]: text for path, _, text in store.verify()}
    assert "damaged" in problems["svd-50"]
    assert "damaged" in problems["kfac-80"]
    assert problems["kfac-50"] == "whole"
    with pytest.raises(UserError, match=r"damaged.*delete it with memsplit runs remove"):
        store.records()
    readable, unreadable = store.readable()
    assert [found.spec for found in readable] == ["svd-50", "kfac-50:layers=2"]
    assert set(unreadable) == {text}
    store.remove(text)
    assert len(store.records()) == 2


def test_an_evaluation_is_known_by_all_that_decides_it(store: Store) -> None:
    found = store.find("kfac-50")
    evaluation, recipes = found.content.evaluation, {found.spec: found.content.recipe_hash}
    assert store.of(evaluation, recipes) == {found.spec: found}
    for field in msgspec.structs.fields(schema.Evaluation):
        other = msgspec.structs.replace(evaluation, **{field.name: OTHER[field.name]})
        assert store.of(other, recipes) == {}, field.name
    for recipe in ("other weights", None):
        assert store.of(evaluation, {found.spec: recipe}) == {}


@pytest.mark.parametrize("how", ["kill", "room"])
def test_a_writer_that_dies_or_finds_no_room_leaves_whole_records_only(tmp_path: Path, how: str) -> None:
    """Each writer gets one step further than the one before it, until one finishes."""
    folder = tmp_path / "store"
    made(folder, BASE, EDITED, spec="svd-50")
    script = Path(__file__).parents[2] / "support" / "killing.py"
    command = [sys.executable, str(script), str(folder), how]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    *ends, last = done.stdout.split()
    assert last == "finished"
    assert set(ends) == {"killed" if how == "kill" else "refused"}
    assert len(ends) >= 8
    store = Store(folder)
    assert specs(store) == {"svd-50", "kfac-80"}
    assert [whole for _, whole, _ in store.verify()] == [True] * 2
    assert bool(store.orphans()) == (how == "kill")
    young = store.orphans()
    assert main.main(["runs", "remove", "--partial", "--store", str(folder)]) == 0
    assert store.orphans() == young  # a writer may be at work on what is so young
    for path in store.orphans():
        os.utime(path, (0, 0))
    assert main.main(["runs", "remove", "--partial", "--store", str(folder)]) == 0
    assert not store.orphans()
    assert specs(store) == {"svd-50", "kfac-80"}


def test_no_record_is_there_before_its_writer_has_finished(tmp_path: Path) -> None:
    script = Path(__file__).parents[2] / "support" / "killing.py"
    code = f"import sys; sys.argv = ['', {str(tmp_path)!r}, 'kill']; exec(open({str(script)!r}).read().replace('range(1000)', 'range(8)'))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["killed"] * 8
    assert Store(tmp_path).records() == []
    assert Store(tmp_path).orphans()


def test_writers_at_the_same_time_lose_nothing(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from memsplit.tests.results.records.test_store import *\n"
        "for i in range(12): made(Path(sys.argv[1]), BASE, EDITED, spec=f'svd-{i + 1}')\n"
        "made(Path(sys.argv[1]), BASE, EDITED, spec=f'kfac-{sys.argv[2]}')\n"
    )
    writers = [subprocess.Popen([sys.executable, "-c", code, str(tmp_path), str(i + 1)]) for i in range(3)]
    assert [writer.wait() for writer in writers] == [0, 0, 0]
    store = Store(tmp_path)
    assert specs(store) == {*(f"svd-{i + 1}" for i in range(12)), *(f"kfac-{i + 1}" for i in range(3))}
    assert all(whole for _, whole, _ in store.verify())
    assert len(store.paths()) == 15
    assert not store.orphans()


class TestCommand:
    def run(self, store: Store, capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
        code = main.main(["runs", *arguments, "--store", str(store.folder)])
        out, err = capsys.readouterr()
        return code, out, err

    def test_list(self, store: Store, capsys: pytest.CaptureFixture[str]) -> None:
        code, out, _ = self.run(store, capsys, "list", "--edit", "kfac")
        assert code == 0
        assert [line.split()[-1] for line in out.splitlines()] == ["kfac-80:layers=2", "kfac-50:layers=2"]
        assert out.startswith(store.find("kfac-80").id[-12:])
        found = json.loads(self.run(store, capsys, "list", "--split", "dev", "--json")[1])
        assert [(one["spec"], one["limit"], one["logic_kept"]) for one in found] == [("svd-50", 3, -1.0)]
        assert "no records" in self.run(Store(store.folder / "none"), capsys, "list")[1]

    def test_show(self, store: Store, capsys: pytest.CaptureFixture[str]) -> None:
        code, out, _ = self.run(store, capsys, "show", "kfac-80")
        assert code == 0
        for word in ("command: memsplit-eval --edit kfac-80:layers=2", "m.weight: 20 of 100", "p (Holm)", "-1.000"):
            assert word in out
        (content,) = json.loads(self.run(store, capsys, "show", "kfac-80", "--json")[1])
        assert {**content, **json.loads(store.find("kfac-80").path.read_text())} == content
        store.find("kfac-80").files()["items"].write_bytes(b"x")
        code, out, err = self.run(store, capsys, "show", "kfac-80")
        assert (code, out) == (2, "")
        assert "damaged" in err

    def test_remove(self, store: Store, capsys: pytest.CaptureFixture[str]) -> None:
        assert self.run(store, capsys, "remove", "--edit", "kfac", "--dry-run")[1].count("would delete") == 2
        assert self.run(store, capsys, "remove")[0] == 2
        assert self.run(store, capsys, "remove", "--all", "--edit", "kfac")[0] == 2
        assert self.run(store, capsys, "remove", "kfac-80", "nothing")[0] == 2
        assert len(store.paths()) == 3
        assert self.run(store, capsys, "remove", "kfac-80", "--split", "dev")[1].count("deleted") == 2
        assert specs(store) == {"kfac-50:layers=2"}
        assert self.run(store, capsys, "remove", "--all")[0] == 0
        assert not store.paths()

    def test_verify(self, store: Store, capsys: pytest.CaptureFixture[str]) -> None:
        code, out, _ = self.run(store, capsys, "verify")
        assert (code, out.count(": whole")) == (0, 3)
        store.find("svd-50").files()["items"].unlink()
        code, out, _ = self.run(store, capsys, "verify")
        assert (code, out.count(": whole"), out.count("cannot be read")) == (1, 2, 1)


def test_an_evaluation_that_is_killed_is_resumed_to_the_same_records(tmp_path: Path) -> None:
    job = ["eval", "--tasks", "memsplit_logic_chain", "--limit", "4"]
    edits = ["--edit", "svd-80", "--edit", "svd-50"]
    whole = memsplit(*job, *edits, "--out", tmp_path / "whole", cache=tmp_path / "cache")
    assert whole.returncode == 0, whole.stderr
    out, cache = tmp_path / "cut", tmp_path / "cut-cache"
    script = (
        "import os, signal, sys; from memsplit.harness.cli import main\n"
        "from memsplit.harness.evaluation import runner, scoring\n"
        "def dying(function, left=[2]):\n"
        "    def call(*a, **k):\n"
        "        found = function(*a, **k); left[0] -= 1\n"
        "        if left[0] == 0: os.kill(os.getpid(), signal.SIGKILL)\n"
        "        return found\n"
        "    return call\n"
        "scoring.evaluate = dying(scoring.evaluate); runner.record.write = dying(runner.record.write)\n"
        "for _ in range(9):\n"
        "    child = os.fork()\n"
        "    if child == 0: os._exit(main.main(sys.argv[1:]))\n"
        "    status = os.waitpid(child, 0)[1]; print(status, file=sys.stderr)\n"
        "    if status == 0: break\n"
    )
    environment = {**os.environ, "MEMSPLIT_CACHE": str(cache), "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-c", script, *job, *edits, "--resume", "--out", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=True)
    *killed, last = (line for line in done.stderr.splitlines() if line.isdecimal())
    assert (set(killed), last) == ({"9"}, "0"), done.stderr
    assert len(killed) >= 2
    assert all(whole for _, whole, _ in Store(out).verify())
    found = [
        {p.stem: record.stable(json.loads(p.read_text())) for p in Store(tmp_path / f).paths()}
        for f in ("whole", "cut")
    ]
    assert found[0] == found[1]
    again = memsplit(*job, *edits, "--resume", "--json", "--out", out, cache=tmp_path / "other-cache")
    assert again.returncode == 0, again.stderr
    assert not (tmp_path / "other-cache").exists()
    specs_found = [edit["spec"] for edit in json.loads(again.stdout)["edits"]]
    assert specs_found == ["svd-80:layers=1-3,proj=gate+up", "svd-50:layers=1-3,proj=gate+up"]


def test_an_edit_that_has_changed_is_not_resumed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A spec that names a file is another edit where the file is another."""
    monkeypatch.setenv("MEMSPLIT_CACHE", str(tmp_path / "cache"))
    delta, out = str(tmp_path / "delta"), str(tmp_path / "out")
    job = ["eval", "--tasks", "memsplit_logic_chain", "--limit", "4", "--resume", "--json", "--out", out]
    found = []
    for percent in (50, 90, None):
        if percent:
            assert main.main(["export", "--edit", f"svd-{percent}", "--delta", "--force", "--out", delta]) == 0
        capsys.readouterr()
        assert main.main([*job, "--edit", f"delta:path={delta}"]) == 0
        found.append(json.loads(capsys.readouterr().out)["edits"][0]["record"])
    assert found[0] != found[1] == found[2]
