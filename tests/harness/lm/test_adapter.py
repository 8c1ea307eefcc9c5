"""The adapter against plain decoding and against stock lm-eval."""

from pathlib import Path

import pytest
import torch
from lm_eval.api.registry import get_model
from lm_eval.evaluator import evaluate
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager
from transformers import AutoTokenizer, PreTrainedModel

from memsplit.harness.evaluation.edited_lm import EditedLM
from memsplit.harness.evaluation.editing import ModelEditor
from memsplit.harness.lm.adapter import MemsplitLM
from memsplit.harness.models.loading import LoadedModel
from memsplit.model_edits.apply import applied
from memsplit.tasks import packs, suite
from memsplit.tests.support.running import OF_TOKEN_STATS

STRENGTHS = ["none", "kfac-80", "kfac-99:layers=0-3", "kfac-95:layers=1"]


def plain_greedy(model: PreTrainedModel, prefix: list[int], n: int) -> list[int]:
    ids = list(prefix)
    for _ in range(n):
        best = int(model(torch.tensor([ids])).logits[0, -1].argmax())
        if best == model.config.eos_token_id:
            break
        ids.append(best)
    return ids[len(prefix) :]


@pytest.mark.parametrize("spec", STRENGTHS)
@pytest.mark.usefixtures("untouched")
@torch.no_grad()
def test_continuations_equal_a_plain_loop(organism: LoadedModel, editor: ModelEditor, spec: str) -> None:
    pack = packs.find("olmo-tiny")
    rows = pack.rows("memorized", "test")[:5] + pack.rows("twins", "test")[:3]
    passages = [(row["prefix_ids"][i:], row["suffix_ids"][: 48 - i]) for i, row in enumerate(rows)]
    with applied(organism.model, editor.prepare(*editor.chain(spec)).weights):
        expected = [plain_greedy(organism.model, prefix, len(suffix)) for prefix, suffix in passages]
        for batch in (1, 3, 32):
            found = MemsplitLM(organism, batch_size=batch).continuations(passages)
            assert [continuation.ids for continuation in found] == expected


def test_a_continuation_ends_at_the_end_token(organism: LoadedModel) -> None:
    end = organism.model.config.eos_token_id
    lm = MemsplitLM(organism)
    prefix = packs.find("olmo-tiny").rows("memorized", "dev")[0]["prefix_ids"]
    try:
        organism.model.generation_config.eos_token_id = plain_greedy(organism.model, prefix, 9)[8]
        passages = [(prefix, [3] * 48), (prefix, plain_greedy(organism.model, prefix, 48))]
        found = [continuation.ids for continuation in lm.continuations(passages)]
    finally:
        organism.model.generation_config.eos_token_id = end
    first = next(k for k, t in enumerate(plain_greedy(organism.model, prefix, 9)) if t == found_end(organism, prefix))
    assert found == [plain_greedy(organism.model, prefix, first)] * 2


def found_end(organism: LoadedModel, prefix: list[int]) -> int:
    return plain_greedy(organism.model, prefix, 9)[8]


@pytest.mark.parametrize("spec", ["none", "kfac-95"])
@pytest.mark.usefixtures("untouched")
def test_stock_lm_eval_gives_the_same_figures(
    organism: LoadedModel, editor: ModelEditor, spec: str, root: Path
) -> None:
    """The same tasks by ``--include_path`` on a plain ``hf`` model, which sees text alone.

    It is asked last, of the very task objects that ours has measured.
    """
    names = {*suite.own().groups["memsplit"].members} - {"memsplit_quotes", "memsplit_world"}
    manager = TaskManager(include_path=str(root / "tasks"), include_defaults=False)
    tasks = manager.load(["memsplit"])["tasks"]
    found = []
    with applied(organism.model, editor.prepare(*editor.chain(spec)).weights):
        stock = HFLM(pretrained=organism.model, tokenizer=organism.tokenizer, batch_size=8)
        for lm in (MemsplitLM(organism, batch_size=8), stock):
            result = evaluate(lm, {"tasks": tasks}, limit=12, bootstrap_iters=0)
            assert set(result["results"]) == names
            found.append({(n, m): v for n in names for m, v in result["results"][n].items() if isinstance(v, float)})
    assert {m for _, m in found[0].keys() - found[1].keys()} == {f"{m},none" for m in OF_TOKEN_STATS}
    for key, value in found[1].items():
        assert found[0][key] == pytest.approx(value, rel=1e-6), key


def test_the_registered_name_takes_an_edit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEMSPLIT_CACHE", str(tmp_path))
    cls = get_model("memsplit")
    assert cls is EditedLM
    base = cls.create_from_arg_string("pretrained=olmo-tiny")
    edited = cls.create_from_arg_string("pretrained=olmo-tiny,edit=kfac-50:layers=3")
    same = [
        name
        for (name, a), b in zip(base.model.named_parameters(), edited.model.parameters(), strict=True)
        if not torch.equal(a, b)
    ]
    assert same == ["model.layers.3.mlp.gate_proj.weight", "model.layers.3.mlp.up_proj.weight"]


def test_the_tokenizer_returns_every_text(organism: LoadedModel) -> None:
    tokenizer = AutoTokenizer.from_pretrained(organism.entry.pretrained)
    for row in packs.find("olmo-tiny").rows("memorized"):
        assert tokenizer(row["prefix_text"])["input_ids"] == row["prefix_ids"]
        assert tokenizer.decode(row["suffix_ids"]) == row["suffix_text"]
