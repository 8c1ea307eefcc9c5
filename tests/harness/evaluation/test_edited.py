"""A model in memory under an edit: what it computes there, and that all of it is restored."""

import copy
from functools import partial
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
import transformers
from transformers import AutoModelForCausalLM

from memsplit.errors import UserError
from memsplit.harness.evaluation.editing import edited
from memsplit.harness.models.loading import LoadedModel
from memsplit.model_edits.curvature.store import FactorStore
from memsplit.model_edits.pretrained import load_model
from memsplit.tasks import packs
from memsplit.tests.support import tiny_models

TEXTS = [row["text"] for row in packs.find("olmo-tiny").rows("corpus")[:60]]
IDS = torch.tensor([[5, 6, 7, 8]])


@pytest.fixture
def model(organism: LoadedModel, untouched: None) -> Any:
    return organism.model


@pytest.fixture
def kfac(organism: LoadedModel, tmp_path: Path) -> dict[str, Any]:
    store = FactorStore(tmp_path)
    return {"tokenizer": organism.tokenizer, "corpus": TEXTS, "factor_tokens": 1024, "store": store}


@torch.no_grad()
def test_svd_needs_no_tokenizer_and_makes_the_truncated_matrices(model: Any) -> None:
    before = {name: p.clone() for name, p in model.named_parameters()}
    with edited(model, "svd-50:layers=3,proj=up") as same:
        assert same is model
        changed = {name for name, p in model.named_parameters() if not torch.equal(p, before[name])}
        assert changed == {"model.layers.3.mlp.up_proj.weight"}
        U, S, V = torch.linalg.svd(before["model.layers.3.mlp.up_proj.weight"].double(), full_matrices=False)
        energy = S.square().cumsum(0) / S.square().sum()
        n = int((energy < 0.5).sum()) + 1
        expected = (U[:, :n] * S[:n]) @ V[:n]
        torch.testing.assert_close(
            model.get_parameter("model.layers.3.mlp.up_proj.weight").double(), expected, rtol=0, atol=5e-5
        )
    assert all(torch.equal(p, before[name]) for name, p in model.named_parameters())


def test_an_exception_restores_too_and_is_passed_on(model: Any) -> None:
    before = model(IDS).logits
    with pytest.raises(KeyError, match="mine"), edited(model, "svd-50"):
        assert not torch.equal(model(IDS).logits, before)
        raise KeyError("mine")
    assert torch.equal(model(IDS).logits, before)


def test_factors_are_collected_from_the_texts_once_and_kept_by_their_content(
    model: Any, kfac: dict[str, Any], capfd: pytest.CaptureFixture[str]
) -> None:
    before = model(IDS).logits
    with edited(model, "kfac-60", **kfac):
        first = model(IDS).logits
    (entry,) = kfac["store"].entries()
    with edited(model, "kfac-60", **kfac):
        assert torch.equal(model(IDS).logits, first)
    assert kfac["store"].entries() == [entry]
    with edited(model, "kfac-60", **{**kfac, "corpus": TEXTS[::-1]}):
        assert not torch.equal(model(IDS).logits, first)
    assert len(kfac["store"].entries()) == 2
    assert not torch.equal(first, before)


def test_edits_within_edits_are_of_the_edited_weights(model: Any, kfac: dict[str, Any]) -> None:
    before = model(IDS).logits
    with edited(model, "svd-50:layers=2") as outer:
        one = outer(IDS).logits
        with edited(outer, "svd-50:layers=3") as inner:
            two = inner(IDS).logits
            with edited(inner, "kfac-60:layers=1", **kfac):
                assert not torch.equal(model(IDS).logits, two)
            with edited(inner, "svd-90:layers=0"), edited(inner, "kfac-60:layers=1", **kfac):
                assert len(kfac["store"].entries()) == 2  # other weights, other factors
            assert torch.equal(model(IDS).logits, two)
        assert torch.equal(model(IDS).logits, one)
    with edited(model, "svd-50:layers=2+svd-50:layers=3"):
        torch.testing.assert_close(model(IDS).logits, two, rtol=0, atol=5e-5)
    assert torch.equal(model(IDS).logits, before)


def test_a_model_in_training_stays_in_training(organism: LoadedModel) -> None:
    model = copy.deepcopy(organism.model).train()
    model.model.layers[0].eval()
    before = {name: module.training for name, module in model.named_modules()}
    with edited(model, "svd-50"):
        assert {name: module.training for name, module in model.named_modules()} == before


@pytest.mark.parametrize(
    ("spec", "given", "words"),
    [
        (
            "kfac-60",
            (),
            "'kfac' needs a tokenizer and a corpus: expected edited(model, 'kfac-60', tokenizer=…, corpus=…)",
        ),
        ("kfac-60", ("tokenizer",), "needs a corpus"),
        ("random:match=kfac-60", ("corpus",), "needs a tokenizer:"),
        ("finetune", (), "expected --pack"),
        ("kfca-60", (), "did you mean 'kfac'"),
        ("svd-60:layers=9", (), "layer 9 is out of range"),
    ],
)
def test_what_an_edit_lacks_is_said_in_one_line(
    model: Any, kfac: dict[str, Any], spec: str, given: tuple[str, ...], words: str
) -> None:
    with pytest.raises(UserError) as raised, edited(model, spec, **{name: kfac[name] for name in given}):
        pass
    assert words in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(("corpus", "words"), [("one text", "a list of texts"), ([1], "a list of texts")])
def test_a_corpus_is_a_list_of_texts(model: Any, corpus: Any, words: str) -> None:
    with pytest.raises(UserError, match=words), edited(model, "kfac-60", corpus=corpus):
        pass


def test_only_models_of_transformers_are_taken() -> None:
    module: Any = torch.nn.Linear(2, 2)
    with pytest.raises(UserError, match="bad model of type Linear"), edited(module, "svd-50"):
        pass


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"spec": None}, "bad edit None: expected a spec"),
        ({"spec": ["svd-50"]}, r"bad edit \['svd-50'\]: expected a spec"),
        ({"tokenizer": "olmo-tiny"}, "bad tokenizer of type str"),
        ({"corpus": 5}, "bad corpus: expected a list of texts"),
        ({"factor_tokens": "8"}, "bad factor_tokens '8'"),
        ({"factor_tokens": 0}, "bad factor_tokens 0"),
        ({"store": "folder"}, "bad store 'folder': expected a FactorStore"),
    ],
)
def test_a_value_of_the_wrong_kind_is_said_in_one_line(
    model: Any, kfac: dict[str, Any], given: dict[str, Any], words: str
) -> None:
    with pytest.raises(UserError, match=words), edited(model, **{"spec": "kfac-60", **kfac, **given}):
        pass


def test_texts_may_come_one_by_one_and_gradients_be_off(model: Any, kfac: dict[str, Any]) -> None:
    logits = []
    for corpus in (TEXTS, iter(TEXTS)):
        given: dict[str, Any] = {**kfac, "corpus": corpus}
        with torch.inference_mode(), edited(model, "kfac-60", **given):
            logits.append(model(IDS).logits)
    assert torch.equal(*logits)


def test_a_model_without_a_head_is_refused(model: Any) -> None:
    with pytest.raises(UserError, match="expected a causal language model"), edited(model.model, "svd-50"):
        pass


def test_an_adapter_that_is_not_merged_is_refused(tmp_path: Path) -> None:
    """An edit would change the weights beneath it alone; merged, it is the model's own."""
    lora = partial(peft.LoraConfig, target_modules=["up_proj"], init_lora_weights=False)
    added = tiny_models.model()
    added.add_adapter(lora())
    within = peft.get_peft_model(tiny_models.model(), lora())
    for model in (added, within.base_model.model):
        with (
            pytest.raises(
                UserError, match=r"an adapter that is not merged, in model\.layers\.0\.mlp\.up_proj: merge it"
            ),
            edited(model, "svd-50:proj=up"),
        ):
            pass
    merged = within.merge_and_unload()
    before = merged.get_parameter("model.layers.1.mlp.up_proj.weight").clone()
    with edited(merged, "svd-50:proj=up"):
        assert not torch.equal(merged.get_parameter("model.layers.1.mlp.up_proj.weight"), before)
    folder = tiny_models.folder(tmp_path / "base")
    peft.get_peft_model(AutoModelForCausalLM.from_pretrained(folder), lora()).save_pretrained(str(tmp_path / "adapter"))
    with pytest.raises(UserError, match="an adapter that is not merged"):
        load_model(str(tmp_path / "adapter"))


def test_edits_that_are_left_in_the_wrong_order_are_told(organism: LoadedModel) -> None:
    """The later one would put the earlier one's weights back, and nobody would know."""
    model = copy.deepcopy(organism.model)
    first, second = edited(model, "svd-60:layers=3,proj=up"), edited(model, "svd-90:layers=3,proj=up")
    first.__enter__()
    second.__enter__()
    with pytest.raises(RuntimeError, match="in the order in which they were entered"):
        first.__exit__(None, None, None)


class TestAnyModel:
    """What is checked of a model from a file is checked of one in memory."""

    def test_weights_that_are_not_finite_are_refused(self) -> None:
        broken = tiny_models.model()
        torch.nn.init.constant_(broken.get_parameter("model.norm.weight"), torch.nan)
        with pytest.raises(UserError, match=r"the weights of 'model' are not finite: model\.norm\.weight"):
            edited(broken, "svd-50").__enter__()

    def test_a_model_that_reads_ahead_is_refused(self) -> None:
        size = {"vocab_size": 40, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2}
        model = transformers.BertLMHeadModel(transformers.BertConfig(**size, num_attention_heads=2))
        with pytest.raises(UserError, match="no causal language model"):
            edited(model, "svd-50").__enter__()

    def test_a_matrix_without_a_decomposition_is_one_line(self) -> None:
        chain = "noise:size=1e39,layers=0,proj=up+svd-50:layers=0,proj=up"
        with pytest.raises(UserError, match=r"'svd-50:layers=0,proj=up' cannot be made: a matrix .* no decomposition"):
            edited(tiny_models.model(), chain).__enter__()

    def test_an_edit_that_reaches_no_logit_is_told(self, caplog: pytest.LogCaptureFixture) -> None:
        model = tiny_models.model()
        torch.nn.init.zeros_(model.get_parameter("model.layers.0.mlp.down_proj.weight"))
        with edited(model, "svd-50:layers=0,proj=up"):
            assert "svd-50:layers=0,proj=up changes weights, but no logit" in caplog.text
