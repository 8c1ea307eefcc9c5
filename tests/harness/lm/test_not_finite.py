"""What a model without finite logits is told: no text, no distance from the base, no ranking."""

import copy
import math
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from transformers import Olmo2Config, Olmo2ForCausalLM

from memsplit.harness.lm import probes
from memsplit.harness.lm.forward import PrefixSuffix, likelihoods, teacher_forced
from memsplit.tasks import measured
from memsplit.tasks.recitation import Generation, Sampling, process_results

SIZE = {"vocab_size": 12, "hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}
TEXTS = [[1, 2, 3, 4], [5, 6, 7]]


@pytest.fixture
def models() -> tuple[Any, Any]:
    """A model, and the same with a word that is nan."""
    torch.manual_seed(0)
    base = Olmo2ForCausalLM(Olmo2Config(**SIZE, pad_token_id=0, bos_token_id=1, eos_token_id=1)).eval()
    broken = copy.deepcopy(base)
    with torch.no_grad():
        broken.lm_head.weight[9] = torch.nan
    return base, broken


@pytest.mark.parametrize("side", ["edited", "base"])
def test_a_distance_from_or_to_nan_is_nan(models: tuple[Any, Any], side: str) -> None:
    base, broken = models
    edited, before = (broken, base) if side == "edited" else (base, broken)
    weights = {"lm_head.weight": before.lm_head.weight.data}
    for found in likelihoods(edited, TEXTS, batch=2, base=weights):
        assert math.isnan(found.kl)
        assert math.isnan(found.ndcg)
        assert math.isnan(found.nats) == (side == "edited")


def test_a_word_that_cannot_follow_adds_nothing_to_the_distance(models: tuple[Any, Any]) -> None:
    base, edited = models[0], copy.deepcopy(models[0])
    head = base.lm_head.weight.data.clone()
    with torch.no_grad():
        for model in (base, edited):
            model.lm_head = torch.nn.Linear(8, 12)
            model.lm_head.weight.copy_(head)
            model.lm_head.bias.zero_()
            model.lm_head.bias[9] = -torch.inf
        edited.lm_head.weight[3] += 1
    found = likelihoods(edited, TEXTS, batch=2, base={"lm_head.weight": head})
    with torch.no_grad():
        p, q = (m(torch.tensor(TEXTS[:1])).logits[0, :-1].double().log_softmax(-1) for m in (base, edited))
    possible = torch.arange(12) != 9
    expected = float((p.exp() * (p - q))[:, possible].sum())
    assert expected > 0
    assert found[0].kl == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("top_k", [0, 3, 40])
def test_of_a_passage_that_nan_is_asked_for_nothing_is_known(models: tuple[Any, Any], top_k: int) -> None:
    """No comparison with nan is true, so that a gold token would be the first choice."""
    _, broken = models
    passages = [([1], [2, 3, 0]), ([5, 0], [0])]
    for stats in teacher_forced(broken, passages, batch=2, sampling=Sampling(top_k=top_k)):
        assert (stats.rank == 12).all()
        doc: dict[str, Any] = {}
        measured.leave(doc, Generation(ids=[2], gold=[2], passage="text", stats=stats))
        figures = process_results(doc, ["text"])
        assert {"strict", "loose", "levenshtein", "token_accuracy", "log_prob", "p_z", "mia_loss"} <= figures.keys()
        assert np.isnan(list(figures.values())).all()


class Alone:
    """What a probe is given of a model."""

    batch = 2
    start: ClassVar[list[int]] = []

    def __init__(self, model: Any) -> None:
        self.model = model

    def passage(self, row: probes.Row) -> PrefixSuffix:
        return list(row["prefix"]), list(row["suffix"])

    def ends(self) -> set[int]:
        return set()


@pytest.mark.parametrize("probe", probes.PROBES)
def test_no_probe_of_nan_has_a_figure(models: tuple[Any, Any], probe: str) -> None:
    other = {"prefix": [7, 8], "suffix": [2, 3]}
    rows = [{"prefix": [1, 4], "suffix": [2, 3, 6], "others": [other]}]
    for model, is_known in zip(models, (True, False), strict=True):
        (figures,) = probes.PROBES[probe](Alone(model), rows)
        assert figures
        assert np.isnan(list(figures.values())).all() != is_known
        assert np.isfinite(list(figures.values())).all() == is_known
