"""Collections that are killed, shared between processes, or not needed because factors are imported; their cache."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from memsplit.errors import UserError
from memsplit.harness.cli import main
from memsplit.harness.evaluation import factor_cache
from memsplit.harness.evaluation.editing import ModelEditor
from memsplit.harness.evaluation.factor_cache import Curvature
from memsplit.harness.models import loading, model_table
from memsplit.harness.models.loading import LoadedModel
from memsplit.model_edits import targets
from memsplit.model_edits.curvature import sums
from memsplit.model_edits.curvature.collect import FOLD, collect, collect_ekfac
from memsplit.model_edits.curvature.factors import Factors
from memsplit.model_edits.curvature.labels import Draws
from memsplit.model_edits.curvature.store import FactorStore
from memsplit.model_edits.curvature.sums import Partial, Sums

SMALL = ["--factor-tokens", "4096"]


class Killed(BaseException):
    pass


def killed_after(batches: list[torch.Tensor], n: int) -> Iterator[torch.Tensor]:
    yield from batches[:n]
    raise Killed


@pytest.fixture
def ids() -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randint(2, 500, (2, 12), generator=generator) for _ in range(3 * FOLD + 5)]


@pytest.mark.parametrize(("statistic", "every"), [("kfac", 0.0), ("ekfac", 0.0), ("kfac", 1e9)])
def test_a_killed_collection_goes_on_and_finds_the_same_to_the_bit(
    organism: LoadedModel,
    ids: list[torch.Tensor],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    statistic: str,
    every: float,
) -> None:
    """Killed softly, it keeps what it has; killed hard, what it wrote last."""
    found = targets.find(organism.model, [3], ["up"])
    path = tmp_path / "partial" / "c.safetensors"

    def run(batches: Any, partial: Partial | None) -> Factors:
        if statistic == "kfac":
            return collect(organism.model, found, batches, partial=partial)[found[0].name]
        kfac = collect(organism.model, found, ids[:4])
        return collect_ekfac(organism.model, found, kfac, batches, partial=partial)[found[0].name]

    expected = run(ids, None)
    monkeypatch.setattr(sums, "SAVE_EVERY_S", every)
    for n in (FOLD + 1, 2 * FOLD + 3):
        with pytest.raises(Killed):
            run(killed_after(ids, n), Partial(path))
    seen: list[int] = []
    add = Sums.add

    def counted(self: Sums, a_ni: torch.Tensor, g_no: torch.Tensor, *, again: bool = False) -> None:
        seen.append(len(g_no))
        add(self, a_ni, g_no, again=again)

    monkeypatch.setattr(Sums, "add", counted)
    again = run(ids, Partial(path))
    assert again.sha256 == expected.sha256
    assert (again.tokens, again.errors) == (expected.tokens, expected.errors)
    assert expected.errors
    assert len(seen) - (4 if statistic == "ekfac" else 0) == len(ids) - 2 * FOLD


def test_sums_that_cannot_be_kept_do_not_stop_a_collection(
    organism: LoadedModel, ids: list[torch.Tensor], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    found = targets.find(organism.model, [3], ["up"])
    (tmp_path / "file").write_text("no folder")
    partial = Partial(tmp_path / "file" / "c.safetensors")
    partial.every = 0
    factors = collect(organism.model, found, ids[:FOLD], partial=partial)
    assert factors[found[0].name].sha256 == collect(organism.model, found, ids[:FOLD])[found[0].name].sha256
    assert "cannot be kept" in caplog.text


def test_curvature_that_is_not_finite_is_refused(organism: LoadedModel, ids: list[torch.Tensor]) -> None:
    found = targets.find(organism.model, [3], ["up"])
    norm = organism.model.model.norm.weight
    before = norm.detach().clone()
    try:
        norm.data[0] = float("nan")
        with pytest.raises(UserError, match="is not finite"):
            collect(organism.model, found, ids[:1])
    finally:
        norm.data.copy_(before)


def test_a_damaged_partial_collection_is_refused(
    organism: LoadedModel, ids: list[torch.Tensor], tmp_path: Path
) -> None:
    found = targets.find(organism.model, [3], ["up"])
    partial = Partial(tmp_path / "c.safetensors")
    partial.every = 0
    collect(organism.model, found, ids[:FOLD], partial=partial)
    whole = partial.path.read_bytes()
    for damaged in (whole[:-9], whole[:-1] + bytes([whole[-1] ^ 1]), b""):
        partial.path.write_bytes(damaged)
        with pytest.raises(UserError, match="damaged"):
            collect(organism.model, found, ids[:FOLD], partial=partial)


def memsplit(*arguments: str, cache: Path, launcher: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "MEMSPLIT_CACHE": str(cache), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", *(launcher or ("memsplit",)), *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


LAUNCH = ("accelerate.commands.launch", "--multi_gpu", "--num_processes=2", "--num_machines=1", "--mixed_precision=no")


def test_two_processes_find_what_one_does(organism: LoadedModel, tmp_path: Path) -> None:
    edits = ["--edit", "kfac:layers=2-3,proj=up", "--edit", "ekfac-50:layers=3,proj=up"]
    one = memsplit("factors", "collect", *edits, *SMALL, cache=tmp_path / "one")
    edits += ["--device", "cpu"]
    launcher = (*LAUNCH, "--dynamo_backend=no", "--main_process_port=0", "-m", "memsplit")
    two = memsplit("factors", "collect", *edits, *SMALL, cache=tmp_path / "two", launcher=launcher)
    assert (one.returncode, two.returncode) == (0, 0), two.stderr[-3000:]
    stores = [FactorStore(tmp_path / name / "factors") for name in ("one", "two")]
    entries = [{entry.id: entry for entry in store.entries()} for store in stores]
    assert entries[0].keys() == entries[1].keys()
    assert sum(len(entry.files) for entry in entries[1].values()) == 3
    assert stores[1].orphans() == []
    for key, entry in entries[0].items():
        for matrix in entry.files:
            a, b = (store.load(entry.arguments, matrix) for store in stores)
            assert a.tokens == b.tokens == 32 * 127
            for name in ("aaT", "ggT"):
                tensor = a.moments[name]
                torch.testing.assert_close(b.moments[name], tensor, rtol=1e-4, atol=1e-6 * float(tensor.max()))
            if "fisher_oi" in b.moments:  # in the basis of two processes, which may be turned against that of one
                (target,) = (t for t in targets.find(organism.model, [3], ["up"]) if t.name == matrix)
                batches = Curvature(organism, 4096, stores[1]).batches("again")
                draws = Draws(draws=organism.entry.factor_draws)
                again = collect_ekfac(organism.model, [target], {matrix: b}, batches, draws=draws)[matrix].fisher_oi
                torch.testing.assert_close(again, b.fisher_oi, rtol=1e-3, atol=1e-6 * float(b.fisher_oi.max()))
        assert entries[1][key].arguments == entry.arguments


def test_several_processes_only_collect(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "0")
    assert main.main(["edits"]) == 2
    assert "several processes can only run" in capsys.readouterr().err


@pytest.fixture
def reference(organism: LoadedModel, tmp_path: Path) -> Path:
    """A file of the reference's format, of our own factors."""
    curvature = Curvature(organism, 1024, FactorStore(tmp_path / "own"))
    editor = ModelEditor(organism, 1024, curvature.store)
    (edit,) = editor.chain("kfac-80:layers=2-3,proj=gate+up")
    editor.collect_missing([edit])
    found = editor.matrices(edit)
    read = curvature.read(curvature.arguments(edit), found)
    content = {
        f"blk{t.layer}.{t.proj}": {"A": read[t.name].aaT, "G": 4 * read[t.name].ggT, "n_tokens": 1016} for t in found
    }
    torch.save(content, tmp_path / "kfac_factors_blk_2_3.pt")
    return tmp_path / "kfac_factors_blk_2_3.pt"


def test_imported_factors_edit_as_those_collected(
    organism: LoadedModel,
    reference: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The reference's gradients may have another scale: no component's rank depends on it."""
    spec = "kfac-80:layers=2-3,proj=gate+up"
    monkeypatch.setenv("MEMSPLIT_CACHE", str(tmp_path / "imported"))
    command = ["factors", "import", str(reference), "--edit", spec, "--factor-tokens", "1024"]
    assert main.main(command) == 0
    assert capsys.readouterr().out.count(".safetensors") == 4
    prepared = []
    for folder in ("imported/factors", "own"):
        editor = ModelEditor(organism, 1024, FactorStore(tmp_path / folder))
        prepared.append(editor.prepare(*editor.chain(spec)))
    assert [c.kept for c in prepared[0].changes] == [c.kept for c in prepared[1].changes]
    assert len(prepared[0].factors[0]["imported"]) == 4
    assert prepared[1].factors[0]["imported"] == {}
    assert main.main(["factors", "show"]) == 0
    assert "imported from" in capsys.readouterr().out
    assert main.main(command) == 2
    assert "is there already" in capsys.readouterr().err
    assert main.main([*command[:3], "--edit", "ekfac-50"]) == 2
    assert "needs more than the file holds" in capsys.readouterr().err


def test_factors_of_another_kind_are_refused(
    reference: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MEMSPLIT_CACHE", str(tmp_path / "cache"))
    eye = torch.eye(3)

    for name, content, message in (
        ("a.pt", {"blk2.up": {"A": eye, "G": eye, "n_tokens": 3}}, "is 3 x 3, expected 384 x 192"),
        ("b.pt", {"blk9.up": {"A": eye}}, "no 'blk2.up': expected some of blk9.up"),
        ("c.pt", {"blk2.up": {"A": eye}}, "expected A, G and n_tokens"),
        ("d.pt", {"blk2.up": {"A": eye * float("nan"), "G": eye, "n_tokens": 1}}, "not symmetric and finite"),
        ("e.pt", [1], "no dictionary"),
        ("f.pt", Path(), "no file of tensors and plain values alone"),
    ):
        torch.save(content, tmp_path / name)
        assert main.main(["factors", "import", str(tmp_path / name), "--edit", "kfac:layers=2,proj=up"]) == 2
        assert message in capsys.readouterr().err
    assert main.main(["factors", "import", str(tmp_path / "none.pt")]) == 2
    assert "No such file" in capsys.readouterr().err
    assert not (tmp_path / "cache").exists()


def test_the_cache_can_be_listed_verified_and_pruned(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MEMSPLIT_CACHE", str(tmp_path))

    def run(*arguments: str) -> tuple[int, list[str]]:
        code = main.main(["factors", *arguments])
        return code, capsys.readouterr().out.splitlines()

    assert run("list") == (0, [f"nothing in {tmp_path / 'factors'}"])
    store = FactorStore(tmp_path / "factors")
    common: dict[str, str | int] = {"weights": "w", "labels": "sampled", "corpus": "c"}
    for tokens in (1, 2):
        store.save({**common, "tokens": tokens}, "m", Factors({"aaT": torch.eye(2), "ggT": torch.eye(3)}, 7))
    kept, old = (store.path({**common, "tokens": tokens}, "m") for tokens in (1, 2))
    os.utime(old, (0, 0))
    partial = store.partial(common, ["m"])
    partial.parent.mkdir()
    partial.write_bytes(b"x")
    listed = run("list")[1]
    assert [line[:12] for line in listed[:2]] == [kept.parent.name[:12], old.parent.name[:12]]
    assert "1 tokens of c" in listed[0]
    assert len(listed) == 3
    shown = run("show", kept.parent.name[:6])[1]
    assert "    m: 3 x 2, mass 6, 7 positions" in shown
    assert run("verify")[0] == 0
    whole = old.read_bytes()
    old.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    code, lines = run("verify")
    assert code == 1
    assert sum("damaged" in line for line in lines) == 1
    old.write_bytes(whole[:20])
    assert "damaged" in run("list")[1][0]
    assert run("verify")[0] == 1
    assert main.main(["factors", "prune"]) == 2
    assert main.main(["factors", "show", "zz"]) == 2
    os.utime(old, (0, 0))
    assert run("prune", "--older-than", "30", "--dry-run")[1] == [f"would delete {old.parent.name[:12]} (0.0 MB)"]
    assert old.exists()
    run("prune", "--older-than", "30")
    assert not old.parent.exists()
    assert kept.exists()
    run("prune", "--partial")
    assert not partial.exists()
    run("prune", kept.parent.name)
    assert run("list")[1] == [f"nothing in {tmp_path / 'factors'}"]


def test_labels_have_a_seed_and_a_number_that_name_the_factors(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the spec or the option; ``list`` and ``show`` say so, and how far the moments are from settled."""
    monkeypatch.setenv("MEMSPLIT_CACHE", str(tmp_path))
    monkeypatch.setattr("memsplit.model_edits.curvature.collect.FOLD", 1)
    small = ["factors", "collect", *SMALL]
    of = "layers=3,proj=up"

    def collected(*arguments: str) -> str:
        assert main.main([*small, *arguments]) == 0
        return capsys.readouterr().out.strip()

    seeded = collected("--edit", f"kfac-80:draws=1,{of}", "--label-seed", "5")
    assert seeded == collected("--edit", f"kfac-60:draws=1,label_seed=5,{of}")
    assert seeded == collected("--edit", f"random-80:draws=1,label_seed=5,{of}", "--label-seed", "6")
    assert seeded != collected("--edit", f"kfac-80:draws=1,{of}")
    collected("--edit", f"wanda-50:{of}", "--label-seed", "5")
    stored = FactorStore(tmp_path / "factors")
    drawn = {entry.arguments.get("seed"): entry for entry in stored.entries()}
    assert drawn.keys() == {None, 0, 5}
    ggT = [stored.load(drawn[seed].arguments, "model.layers.3.mlp.up_proj").ggT for seed in (0, 5)]
    assert not torch.equal(*ggT)
    assert main.main(["factors", "list"]) == 0
    listed = capsys.readouterr().out
    assert "sampled labels of seed 5, " in listed
    assert main.main(["factors", "show"]) == 0
    shown = capsys.readouterr().out
    assert shown.count("384 x 192, mass") == 2
    assert len(re.findall("standard error of aaT [0-9.]+%, standard error of ggT [0-9.]+%", shown)) == 2
    assert "192 inputs" in shown
    assert main.main([*small, "--label-seed", "-1"]) == 2
    assert main.main([*small, "--edit", "kfac-80:labels=gold,draws=2"]) == 2


def test_a_model_may_be_spread_over_devices(organism: LoadedModel, tmp_path: Path) -> None:
    """One CPU is all devices here: the same weights, the same edit."""
    spread = loading.load(model_table.resolve("olmo-tiny"), device="cpu", parallelize=True)
    assert spread.weights == organism.weights
    hashes = []
    for loaded in (organism, spread):
        editor = ModelEditor(loaded, 256, FactorStore(tmp_path / str(loaded is spread)))
        hashes.append(editor.prepare(*editor.chain("kfac-80")).weights_hash)
    assert hashes[0] == hashes[1]


def test_many_matrices_are_collected_in_passes_that_fit_into_memory(
    organism: LoadedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    passes: list[int] = []

    def counted(model: Any, targets: Any, *args: Any, **kwargs: Any) -> Any:
        passes.append(len(targets))
        return collect(model, targets, *args, **kwargs)

    monkeypatch.setattr(factor_cache, "collect", counted)
    found = []
    for memory in (1 << 40, 3 << 20):
        monkeypatch.setattr(factor_cache, "PASS_MEMORY", memory)
        shop = ModelEditor(organism, 1024, FactorStore(tmp_path / str(memory)))
        (edit,) = shop.chain("kfac-80:layers=1-3,proj=gate+up")
        shop.collect_missing([edit])
        read = shop.curvature.read(shop.curvature.arguments(edit), shop.matrices(edit))
        found.append({name: read[name] for name in read})
    assert passes[0] == 6
    assert len(passes) > 2
    assert sum(passes[1:]) == 6
    for name, factors in found[0].items():
        assert torch.equal(factors.aaT, found[1][name].aaT)
        assert torch.equal(factors.ggT, found[1][name].ggT)
