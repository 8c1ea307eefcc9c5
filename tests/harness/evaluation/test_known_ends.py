"""Edits of which it is known what they erase: nothing, or all, or what a few steps of training bring back."""

from collections.abc import Iterator
from dataclasses import dataclass

import pytest
import torch

from memsplit.harness.evaluation import runner
from memsplit.harness.evaluation.request import Request
from memsplit.harness.models.loading import LoadedModel
from memsplit.harness.models.model_table import ORGANISMS
from memsplit.model_edits import registry
from memsplit.model_edits.inputs import EditInputs
from memsplit.model_edits.registry import Edit, EditedWeight
from memsplit.results.records.record import Record

UNSEEN = f"checkpoint:path={ORGANISMS / 'olmo-tiny-unseen'}"
EDITS = ("none", "forbid", UNSEEN, "finetune")


@pytest.fixture(scope="module")
def records(organism: LoadedModel, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Record]]:
    every = organism.tokenizer.convert_tokens_to_ids("Ġevery")
    padding = organism.tokenizer.pad_token_id

    @dataclass(frozen=True, kw_only=True)
    class Forbid(Edit):
        """Makes 'every' as unlikely as padding, which no text holds, so that few passages are recited any more."""

        summary = "forbid the word 'every'"
        targeted = False

        def new_weights(self, model: torch.nn.Module, inputs: EditInputs) -> Iterator[tuple[str, EditedWeight]]:
            weight = model.get_parameter("lm_head.weight").detach().clone()
            weight[every] = weight[padding]
            yield "lm_head.weight", EditedWeight(weight=weight, kept=0, total=0)

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MEMSPLIT_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setattr(registry, "_EDITS", dict(registry._EDITS))
        registry.register_edit("forbid")(Forbid)
        request = Request(
            model="olmo-tiny",
            edits=EDITS,
            tasks=("memsplit_recitation", "memsplit_twins"),
            attacks=["relearn:batch=10"],
            limit=64,
            device="cpu",
            out=tmp_path_factory.mktemp("out"),
        )
        yield {found.spec: found for found in runner.run(request).records}


def test_what_takes_nothing_away_stays_at_0(records: dict[str, Record]) -> None:
    assert records["none"].summary["erased"].value == 0
    for spec in ("none", "forbid"):
        assert abs(records[spec].summary["stays_erased"].value) < 0.1
    assert records["forbid"].summary["recitation_removed"].value > 0.75


def test_the_weights_that_never_saw_the_passages_stay_at_1(records: dict[str, Record]) -> None:
    summary = records[UNSEEN].summary
    for name in ("erased", "stays_erased"):
        assert summary[name].low <= 1 <= summary[name].high
        assert summary[name].value == pytest.approx(1, abs=0.05)


def test_what_is_only_hidden_comes_back(records: dict[str, Record]) -> None:
    summary = records["finetune:layers=1-3,proj=gate+up"].summary
    assert summary["erased"].value - summary["stays_erased"].value >= 0.5
