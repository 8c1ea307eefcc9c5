"""Decoding and beam search of models that carry other state than keys and values, against whole passes alone."""

import copy
import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
import transformers
from lm_eval.api.instance import Instance

from memsplit.harness.lm import decoding, probes, stepping
from memsplit.harness.lm.adapter import MemsplitLM
from memsplit.harness.lm.forward import PrefixSuffix
from memsplit.harness.models import loading
from memsplit.model_edits.apply import applied
from memsplit.tasks.recitation import Sampling
from memsplit.tests.support import tiny_models

VOCABULARY = 8
SPECIAL = {"vocab_size": VOCABULARY, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 1}
SMALL = {**SPECIAL, "hidden_size": 16, "num_hidden_layers": 2, "initializer_range": 0.8}
HEADS = {**SMALL, "intermediate_size": 16, "num_attention_heads": 2, "num_key_value_heads": 1}
MAMBA2 = {"expand": 1, "head_dim": 8, "num_heads": 2, "n_groups": 1, "chunk_size": 4, "state_size": 4}
OF_JAMBA = {"num_experts": 2, "use_mamba_kernels": False, "attn_layer_offset": 1, "attn_layer_period": 2}
MODELS: dict[str, tuple[dict[str, Any], str | None]] = {
    "Olmo2": (HEADS, "past_key_values"),
    "Mamba": ({**SMALL, "state_size": 4}, "cache_params"),
    "Mamba2": ({**SMALL, **MAMBA2}, "cache_params"),
    "Rwkv": ({**SMALL, "attention_hidden_size": 16}, None),
    "Jamba": ({**HEADS, **OF_JAMBA}, "past_key_values"),
    "OpenAIGPT": ({**SPECIAL, "n_embd": 16, "n_layer": 2, "n_head": 2, "initializer_range": 0.8}, None),
}
"""The settings of each, and the name of the state that it carries.

RWKV's is right for one text alone: in a batch, transformers adds each text's last place to every text.
"""
PROMPTS = [[3, 4, 5, 6, 7, 0, 1], [2, 3, 4], [2], [1, 1, 0, 2, 6], [5, 3]]
LENGTHS = [9, 5, 12, 1, 7]


@pytest.fixture(params=MODELS)
def model(request: pytest.FixtureRequest) -> Any:
    torch.manual_seed(7)
    config = getattr(transformers, f"{request.param}Config")(**MODELS[request.param][0])
    model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
    for name, parameter in model.named_parameters():
        if parameter.ndim > 1 and "A_log" not in name:
            torch.nn.init.normal_(parameter, std=0.5)  # else what came before hardly matters
    return model


@torch.no_grad()
def plain(model: Any, prompt: list[int], length: int) -> list[int]:
    """By whole passes over one text, which know of no state."""
    ids = list(prompt)
    for _ in range(length):
        ids.append(int(model(torch.tensor([ids]), use_cache=False).logits[0, -1].argmax()))
    return ids[len(prompt) :]


@pytest.mark.parametrize("batch", [1, 2, 5])
def test_texts_of_unequal_length_are_continued_as_one_by_one(model: Any, batch: int) -> None:
    expected = [plain(model, prompt, length) for prompt, length in zip(PROMPTS, LENGTHS, strict=True)]
    assert decoding.greedy(model, PROMPTS, LENGTHS, ends=[], batch=batch) == expected
    end = expected[0][4]
    found = decoding.greedy(model, PROMPTS, LENGTHS, ends=[end], batch=batch)
    for ids, whole in zip(found, expected, strict=True):
        assert ids == whole[: len(ids)]
        assert len(ids) == len(whole) or end in ids


def test_what_each_model_carries(model: Any, request: pytest.FixtureRequest) -> None:
    kind = request.node.callspec.params["model"]
    assert stepping.carried(model) == MODELS[kind][1]


def test_beams_change_places_with_all_of_their_state(model: Any) -> None:
    """With beams enough, the bound is the summed probability of all continuations near the suffix."""
    sampling = Sampling(temperature=0.9, top_k=5)
    passages: list[PrefixSuffix] = [([3, 1, 2, 7], [5, 6, 3]), ([0, 4, 4, 2], [2, 2, 4])]
    bounds = probes.beam_bound(model, passages, VOCABULARY**3, 2, sampling)
    for (prefix, suffix), bound in zip(passages, bounds, strict=True):
        every = list(itertools.product(range(VOCABULARY), repeat=3))
        q = probabilities(model, prefix, every, sampling)
        exact = sum(p for tokens, p in zip(every, q, strict=True) if near(tokens, tuple(suffix)))
        assert 0 < exact < 1
        assert bound == pytest.approx(exact, rel=1e-4)


def near(a: tuple[int, ...], b: tuple[int, ...], edits: int = 2) -> bool:
    """By the recursion that defines the edit distance."""
    if not a or not b:
        return len(a) + len(b) <= edits
    if a[0] == b[0]:
        return near(a[1:], b[1:], edits)
    return edits > 0 and any(near(*rest, edits - 1) for rest in ((a[1:], b), (a, b[1:]), (a[1:], b[1:])))


@torch.no_grad()
def probabilities(
    model: Any, prefix: list[int], continuations: list[tuple[int, ...]], sampling: Sampling
) -> list[float]:
    """Of sampling each, from whole passes."""
    rows = torch.tensor([[*prefix, *tokens] for tokens in continuations])
    logits = model(rows, use_cache=False).logits[:, len(prefix) - 1 : -1].double() / sampling.temperature
    least = logits.topk(sampling.top_k, dim=-1).values[..., -1:]
    log_q = logits.masked_fill(logits < least, -torch.inf).log_softmax(-1)
    found: list[float] = log_q.gather(2, rows[:, len(prefix) :, None]).sum((1, 2)).exp().tolist()
    return found


@contextmanager
def forward_replaced(model: Any, **changed: Any) -> Iterator[Any]:
    """A copy of the model, one argument of whose forward pass is always this."""
    copied = copy.deepcopy(model)
    forward = copied.forward

    def other(input_ids: Any = None, use_cache: bool | None = None, past_key_values: Any = None, **options: Any) -> Any:
        given = {"input_ids": input_ids, "use_cache": use_cache, "past_key_values": past_key_values, **options}
        return forward(**{**given, **changed})

    copied.forward = other
    yield copied


@pytest.mark.parametrize("model", ["Olmo2"], indirect=True)
def test_a_state_that_is_swallowed_is_not_relied_on(model: Any, caplog: pytest.LogCaptureFixture) -> None:
    """As by a model that takes an argument of any name, and forgets."""
    with forward_replaced(model, past_key_values=None) as forgetful:
        assert stepping.carried(forgetful) is None
        assert "whole passes" in caplog.text
        expected = [plain(model, prompt, length) for prompt, length in zip(PROMPTS, LENGTHS, strict=True)]
        assert decoding.greedy(forgetful, PROMPTS, LENGTHS, ends=[], batch=3) == expected


@pytest.mark.parametrize("model", ["Olmo2"], indirect=True)
def test_a_model_of_which_nothing_can_be_told_carries_nothing(model: Any) -> None:
    """A head of zeros agrees with anything; so does no number."""
    for value in (0.0, torch.nan):
        with forward_replaced(model, past_key_values=None) as forgetful:
            torch.nn.init.constant_(forgetful.lm_head.weight, value)
            assert stepping.carried(forgetful) is None


@pytest.mark.parametrize("model", ["Olmo2"], indirect=True)
def test_the_state_is_that_of_the_weights_before_any_edit(model: Any) -> None:
    loaded = loading.wrap(model, tiny_models.tokenizer())
    lm = MemsplitLM(loaded, batch_size=2)
    with applied(model, {"lm_head.weight": torch.full_like(model.lm_head.weight, torch.nan)}):
        lm.continuations([([3, 4], [5, 6])])
        assert stepping.carried(model) == "past_key_values"


class TestTexts:
    """Prompts of other people's tasks, of unequal length, asked together of a model that carries no state."""

    PROMPTS = ("the lion ate the lamb, and", "who", "who sows the wind reaps", "the")

    def asked(self, model: Any, **how: Any) -> list[str]:
        lm = MemsplitLM(loading.wrap(model, tiny_models.tokenizer()), batch_size=len(self.PROMPTS))
        requests = [
            Instance(request_type="generate_until", doc={}, arguments=(prompt, dict(how)), idx=0)
            for prompt in self.PROMPTS
        ]
        return lm.generate_until(requests)

    @pytest.fixture
    def rwkv(self) -> Any:
        torch.manual_seed(7)
        size = {**MODELS["Rwkv"][0], "vocab_size": 400}
        model = transformers.RwkvForCausalLM(transformers.RwkvConfig(**size)).eval()
        for parameter in model.parameters():
            if parameter.ndim > 1:
                torch.nn.init.normal_(parameter, std=0.5)
        return model

    def expected(self, model: Any, length: int) -> list[str]:
        tokenizer = tiny_models.tokenizer()
        prompts = [tokenizer(prompt)["input_ids"] for prompt in self.PROMPTS]
        return [tokenizer.decode(plain(model, ids, length)) for ids in prompts]

    def test_they_are_continued_as_one_by_one(self, rwkv: Any) -> None:
        rwkv.generation_config.eos_token_id = []
        assert self.asked(rwkv, until=[], max_gen_toks=40) == self.expected(rwkv, 40)

    def test_they_end_at_their_stops_and_ends(self, rwkv: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        whole = self.expected(rwkv, 40)
        stop = whole[0][20:22]
        decoded: list[int] = []
        greedy = decoding.greedy

        def counted(model: Any, prompts: list[list[int]], *given: Any, **options: Any) -> list[list[int]]:
            decoded.append(len(prompts))
            return greedy(model, prompts, *given, **options)

        monkeypatch.setattr(decoding, "greedy", counted)
        rwkv.generation_config.eos_token_id = []
        assert self.asked(rwkv, until=[stop], max_gen_toks=40) == [text.split(stop)[0] for text in whole]
        assert decoded[0] == len(self.PROMPTS)
        assert decoded[-1] < len(self.PROMPTS)
        ids = plain(rwkv, tiny_models.tokenizer()(self.PROMPTS[1])["input_ids"], 40)
        rwkv.generation_config.eos_token_id = ids[5]
        found = self.asked(rwkv, until=[], max_gen_toks=40)[1]
        assert found.startswith(tiny_models.tokenizer().decode(ids[: ids.index(ids[5])]))
        assert len(found) < len(whole[1])

    def test_what_is_drawn_is_drawn_for_each_prompt_alone(self, rwkv: Any) -> None:
        """From one token, so that it is known."""
        rwkv.generation_config.eos_token_id = None
        found = self.asked(rwkv, until=["~"], max_gen_toks=6, do_sample=True, top_k=1, temperature=1.0)
        assert found == [text.split("~")[0] for text in self.expected(rwkv, 6)]
