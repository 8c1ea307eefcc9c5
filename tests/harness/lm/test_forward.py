"""Token statistics, likelihoods and probes against plain loops, brute force and other implementations."""

import dataclasses
import functools
import itertools
import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from lm_eval.api.instance import Instance
from transformers import GPT2Config, GPT2LMHeadModel, Olmo2Config, Olmo2ForCausalLM

from memsplit.errors import UserError
from memsplit.harness.evaluation.editing import ModelEditor
from memsplit.harness.lm import probes
from memsplit.harness.lm.adapter import MemsplitLM
from memsplit.harness.lm.forward import PrefixSuffix, answers, likelihoods, teacher_forced
from memsplit.harness.models.loading import LoadedModel
from memsplit.model_edits.apply import applied
from memsplit.tasks import packs
from memsplit.tasks.recitation import Sampling

VOCABULARY = 4


@pytest.fixture(scope="module")
def small() -> Any:
    """A random model of few words, whose continuations can all be listed."""
    torch.manual_seed(3)
    config = Olmo2Config(
        vocab_size=VOCABULARY, hidden_size=8, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2,
        max_position_embeddings=32, pad_token_id=0, eos_token_id=None, initializer_range=1.5,
    )  # fmt: skip
    return Olmo2ForCausalLM(config).eval()


def plain_log_p(model: Any, ids: list[int], k: int) -> np.ndarray:
    """Log-probabilities of all tokens at place k, from those before it alone."""
    return _next_log_p(model, tuple(ids[:k]))


@functools.cache
@torch.no_grad()
def _next_log_p(model: Any, ids: tuple[int, ...]) -> np.ndarray:
    return np.asarray(model(torch.tensor([ids])).logits[0, -1].double().log_softmax(-1).numpy())


def test_teacher_forced_statistics_equal_a_token_by_token_loop(organism: LoadedModel) -> None:
    rows = packs.find("olmo-tiny").rows("twins", "test")[:3]
    passages = [(row["prefix_ids"][i:], row["suffix_ids"][: 20 + i]) for i, row in enumerate(rows)]
    sampling = Sampling(temperature=0.7, top_k=9)
    for (prefix, suffix), stats in zip(
        passages, teacher_forced(organism.model, passages, batch=2, sampling=sampling), strict=True
    ):
        ids = prefix + suffix
        assert stats.ids.tolist() == ids
        assert len(stats.log_p) == len(ids) - 1
        for k in (1, len(prefix) - 1, len(prefix), len(ids) - 1):
            log_p = plain_log_p(organism.model, ids, k)
            order = np.argsort(-log_p, kind="stable")
            rank = int(np.flatnonzero(order == ids[k])[0])
            tempered = np.exp(log_p[order[:9]] / 0.7)
            log_q = log_p[ids[k]] / 0.7 - math.log(tempered.sum()) if rank < 9 else -math.inf
            mean = (np.exp(log_p) * log_p).sum()
            assert stats.greedy[k - 1] == order[0]
            assert stats.rank[k - 1] == rank
            assert stats.log_p[k - 1] == pytest.approx(log_p[ids[k]], abs=1e-4)
            assert stats.log_q[k - 1] == pytest.approx(log_q, abs=1e-4)
            assert stats.mean[k - 1] == pytest.approx(mean, abs=1e-4)
            deviation = math.sqrt((np.exp(log_p) * (log_p - mean) ** 2).sum())
            assert stats.deviation[k - 1] == pytest.approx(deviation, abs=1e-3)
        assert len(stats.suffix(stats.rank)) == len(suffix)


def test_the_statistics_of_a_suffix_are_those_of_its_passage(small: Any) -> None:
    passages: list[PrefixSuffix] = [([1, 2, 3], [3, 0, 1]), ([0], [2, 2]), ([3, 1], [1, 2, 0, 0])]
    whole = teacher_forced(small, passages, batch=2)
    alone = teacher_forced(small, passages, batch=3, suffix_alone=True)
    for (prefix, suffix), a, b in zip(passages, whole, alone, strict=True):
        assert b.start == 1
        assert b.ids.tolist() == [prefix[-1], *suffix]
        for name in ("greedy", "rank", "log_p", "log_q", "mean", "deviation"):
            of_suffix = a.suffix(getattr(a, name))
            assert len(of_suffix) == len(suffix)
            assert b.suffix(getattr(b, name)) == pytest.approx(of_suffix, abs=1e-6)


def test_answers_after_one_prompt_are_read_in_one_sequence(small: Any) -> None:
    asked: list[PrefixSuffix] = [([1, 2], [k]) for k in range(VOCABULARY)]
    asked += [([1, 2], [3, 0]), ([1], [2, 3]), ([3, 0, 2, 1, 1, 2], [1])]
    rows: list[int] = []
    handle = small.register_forward_pre_hook(
        lambda _, args, kwargs: rows.append(len(kwargs["input_ids"])), with_kwargs=True
    )
    try:
        found = answers(small, asked, batch=2, longest=4)
    finally:
        handle.remove()
    assert sum(rows) == 3  # [1, 2], [1, 2, 3] and the last four of [3, 0, 2, 1, 1, 2]
    for (prompt, answer), (nats, greedy) in zip(asked, found, strict=True):
        ids = (prompt + answer)[-5:]
        of_each = [plain_log_p(small, ids, k) for k in range(len(ids) - len(answer), len(ids))]
        assert nats == pytest.approx(sum(log_p[token] for log_p, token in zip(of_each, answer, strict=True)), abs=1e-5)
        assert greedy == all(int(log_p.argmax()) == token for log_p, token in zip(of_each, answer, strict=True))


@torch.no_grad()
def test_an_answer_may_end_one_token_after_the_context() -> None:
    """Of positions that are a table: whatever is read beyond it fails."""
    torch.manual_seed(0)
    settings = {"vocab_size": 16, "n_embd": 8, "n_layer": 1, "n_head": 2, "n_positions": 6}
    model = GPT2LMHeadModel(GPT2Config(**settings, bos_token_id=0, eos_token_id=0)).eval()
    prompt, answer = [1, 2, 3, 4], [5, 6, 7]
    log_p = model(torch.tensor([[*prompt, *answer[:-1]]])).logits[0].log_softmax(1)
    expected = sum(float(log_p[place, token]) for place, token in zip((3, 4, 5), answer, strict=True))
    for given in (prompt, [9, 9, *prompt]):
        assert answers(model, [(given, answer)], batch=1, longest=6)[0][0] == pytest.approx(expected, abs=1e-5)
    assert teacher_forced(model, [(prompt, answer)], batch=1)[0].log_p[3:].sum() == pytest.approx(expected, abs=1e-5)
    with pytest.raises(UserError, match="an answer has 7 tokens: expected 6 at most"):
        answers(model, [([1], [2] * 7)], batch=1, longest=6)


def test_statistics_depend_on_neither_batch_nor_order(organism: LoadedModel) -> None:
    rows = packs.find("olmo-tiny").rows("memorized", "test")[:5]
    passages: list[PrefixSuffix] = [
        (row["prefix_ids"][i:], row["suffix_ids"][: 48 - 3 * i]) for i, row in enumerate(rows)
    ]
    one, many = (
        teacher_forced(organism.model, passages, batch=1),
        teacher_forced(organism.model, passages[::-1], batch=4)[::-1],
    )
    for a, b in zip(one, many, strict=True):
        assert np.array_equal(a.rank, b.rank)
        assert np.allclose(a.log_p, b.log_p, atol=1e-5)


def continuations(model: Any, prefix: list[int], length: int, sampling: Sampling) -> dict[tuple[int, ...], float]:
    """The probability of every continuation that sampling can emit, token by token."""
    found = {}
    for tokens in itertools.product(range(VOCABULARY), repeat=length):
        q = 1.0
        for k, token in enumerate(tokens):
            log_p = plain_log_p(model, [*prefix, *tokens], len(prefix) + k) / sampling.temperature
            drawn = np.argsort(-log_p, kind="stable")[: sampling.top_k]
            q *= np.exp(log_p[token]) / np.exp(log_p[drawn]).sum() if token in drawn else 0.0
        found[tokens] = float(q)
    return found


def distance(a: tuple[int, ...], b: tuple[int, ...]) -> int:
    if not a or not b:
        return len(a) + len(b)
    return min(distance(a[1:], b) + 1, distance(a, b[1:]) + 1, distance(a[1:], b[1:]) + (a[0] != b[0]))


@pytest.mark.parametrize("edits", [0, 1, 2])
def test_the_near_verbatim_bound_is_exact_with_beams_enough_and_below_with_fewer(small: Any, edits: int) -> None:
    sampling = Sampling(temperature=0.8, top_k=3)
    passages: list[PrefixSuffix] = [([1, 2, 3], [3, 0, 1]), ([0, 3, 1], [2, 2, 1])]
    few = probes.beam_bound(small, passages, 2, edits, sampling)
    enough = probes.beam_bound(small, passages, VOCABULARY**3, edits, sampling)
    all_stats = teacher_forced(small, passages, batch=2, sampling=sampling)
    for (prefix, suffix), low, found, stats in zip(passages, few, enough, all_stats, strict=True):
        probable = continuations(small, prefix, 3, sampling)
        assert sum(probable.values()) == pytest.approx(1)
        assert math.exp(stats.log_pz) == pytest.approx(probable[tuple(suffix)], abs=1e-7)
        exact = sum(q for tokens, q in probable.items() if distance(tokens, tuple(suffix)) <= edits)
        assert found == pytest.approx(exact, abs=1e-7)
        assert math.exp(stats.log_pz) - 1e-9 <= low <= exact + 1e-9


def test_nothing_is_sampled_after_an_end_token(small: Any) -> None:
    sampling, suffix = Sampling(top_k=0), (2, 3, 3)
    bound = probes.beam_bound(small, [([3, 2], list(suffix))], VOCABULARY**3, 1, sampling, ends=[0])[0]
    probable = continuations(small, [3, 2], 3, Sampling(top_k=VOCABULARY))
    emitted = {tokens: q for tokens, q in probable.items() if 0 not in tokens[:-1]}
    exact = sum(q for tokens, q in emitted.items() if tokens[-1] != 0 and distance(tokens, suffix) <= 1)
    assert bound == pytest.approx(exact, abs=1e-7)
    assert bound < probes.beam_bound(small, [([3, 2], list(suffix))], VOCABULARY**3, 1, sampling)[0]


def test_a_passage_begins_with_the_start_token_that_the_tokenizer_gives(organism: LoadedModel) -> None:
    from tokenizers.processors import TemplateProcessing
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(organism.entry.pretrained)
    row = packs.find("olmo-tiny").rows("memorized", "test")[0]
    plain = MemsplitLM(organism)
    assert plain.start == []
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single=f"{tokenizer.eos_token} $A", special_tokens=[(tokenizer.eos_token, tokenizer.eos_token_id)]
    )
    lm = MemsplitLM(dataclasses.replace(organism, tokenizer=tokenizer))
    assert lm.start == [tokenizer.eos_token_id]
    assert lm.passage(row) == (lm.start + row["prefix_ids"], row["suffix_ids"])
    text = {"prefix_text": row["prefix_text"], "suffix_text": row["suffix_text"]}
    assert lm.passage(text)[0][:2] == [*lm.start, row["prefix_ids"][0]]
    shifted = probes.position(lm, [{**row, "prefix_ids": row["prefix_ids"][-22:]}])
    assert set(shifted[0]) == {"longest_prefix", "position_strict"}


def test_position_stress_is_the_best_of_all_prompts(organism: LoadedModel, editor: ModelEditor) -> None:
    rows = packs.find("olmo-tiny").rows("memorized", "test")[:2] + packs.find("olmo-tiny").rows("twins", "test")[:1]
    rows = [{**row, "prefix_ids": row["prefix_ids"][-23:], "suffix_ids": row["suffix_ids"][:22]} for row in rows]
    with applied(organism.model, editor.prepare(*editor.chain("kfac-99:layers=2")).weights):
        found = probes.position(MemsplitLM(organism), rows)
        for row, figures in zip(rows, found, strict=True):
            prefix, suffix = row["prefix_ids"], row["suffix_ids"]
            prompts = [(prefix + suffix[:i], suffix[i:]) for i in range(21)]
            prompts += [(prefix[-i:], suffix) for i in range(20, 23)]
            runs = []
            for prompt, rest in prompts:
                ids = list(prompt)
                while len(ids) - len(prompt) < len(rest) and ids[len(prompt) :] == rest[: len(ids) - len(prompt)]:
                    ids.append(int(plain_log_p(organism.model, ids, len(ids)).argmax()))
                runs.append(
                    next(
                        (k for k, (a, b) in enumerate(zip(ids[len(prompt) :], rest, strict=False)) if a != b), len(rest)
                    )
                )
            assert figures["longest_prefix"] == pytest.approx(max(runs) / len(suffix))
            whole = any(run == len(suffix) for run in runs)
            assert figures["position_strict"] == whole


def test_the_prior_is_the_mean_over_other_prefixes(small: Any) -> None:
    lm: Any = SimpleNamespace(model=small, batch=4, passage=lambda row: (row["prefix_ids"], row["suffix_ids"]))
    others = [{"prefix_ids": [0, 3], "suffix_ids": [1]}, {"prefix_ids": [2], "suffix_ids": [1]}]
    row = {"prefix_ids": [1, 2, 3], "suffix_ids": [3, 0, 1], "others": others}
    figures = probes.prior(lm, [row])[0]

    def log_p(prefix: list[int]) -> float:
        ids = [*prefix, 3, 0, 1]
        return float(sum(plain_log_p(small, ids, k)[ids[k]] for k in range(len(prefix), len(ids))))

    prior = math.log((math.exp(log_p([0, 3])) + math.exp(log_p([2]))) / 2)
    assert figures["prior_log_ratio"] == pytest.approx((log_p([1, 2, 3]) - prior) / 3, abs=1e-5)
    beyond = math.exp(log_p([1, 2, 3])) - math.exp(prior)  # few words are all drawn by a top-k of 40
    assert figures["p_z_beyond_prior"] == pytest.approx(max(0.0, beyond), abs=1e-6)


def test_likelihoods_and_distances_to_the_base(organism: LoadedModel, editor: ModelEditor) -> None:
    from scipy.stats import entropy
    from sklearn.metrics import ndcg_score

    ids = packs.find("olmo-tiny").rows("clean", "test")[0]["ids"][:30]
    texts = [[0, *ids], [0, *ids[:7]]]
    base = organism.model(torch.tensor([texts[0]])).logits[0, :-1].double().log_softmax(-1).detach()
    still = likelihoods(organism.model, texts, batch=2, base={})
    with applied(organism.model, editor.prepare(*editor.chain("kfac-50:layers=1")).weights) as before:
        moved = likelihoods(organism.model, texts, batch=2, base=before)
        edited = organism.model(torch.tensor([texts[0]])).logits[0, :-1].double().log_softmax(-1).detach()
    gold = torch.tensor(ids)[:, None]
    assert still[0].nats == pytest.approx(float(base.gather(1, gold).sum()), rel=1e-5)
    assert moved[0].nats == pytest.approx(float(edited.gather(1, gold).sum()), rel=1e-5)
    assert (still[0].tokens, still[0].kl, still[0].ndcg) == (30, 0, 30)
    assert moved[0].kl == pytest.approx(
        float(entropy(base.exp().numpy(), edited.exp().numpy(), axis=1).sum()), rel=1e-3
    )
    worth = np.zeros(base.shape)
    np.put_along_axis(worth, base.topk(10).indices.numpy(), np.arange(10, 0, -1.0)[None], 1)
    expected = sum(ndcg_score(w[None], e[None], k=10) for w, e in zip(worth, edited.numpy(), strict=True))
    assert moved[0].ndcg == pytest.approx(expected, rel=1e-4)
    assert moved[1].nats == pytest.approx(float(edited[:7].gather(1, gold[:7]).sum()), rel=1e-5)


def test_figures_depend_on_neither_batch_nor_order(organism: LoadedModel) -> None:
    pack = packs.find("olmo-tiny")
    facts = pack.rows("facts_open", "test")[:5]
    passages = [  # of unequal lengths, so that batches are padded on either side
        {**row, "prefix_ids": row["prefix_ids"][3 * i :], "suffix_ids": row["suffix_ids"][: 20 + i]}
        for i, row in enumerate(pack.rows("twins", "test")[:5])
    ]
    asked = [
        *(instance("loglikelihood", row, row["question"], f" {row['answer']}") for row in facts),
        *(instance("loglikelihood", row, row["question"], " nowhere") for row in facts),
    ]
    continued = [
        *(instance("generate_until", row, row["prefix_text"], {}) for row in passages),
        *(instance("generate_until", row, row["question"], {"until": ["."], "max_gen_toks": 4}) for row in facts),
    ]
    found = []
    for batch in (1, 3):
        lm = MemsplitLM(organism, batch_size=batch)
        found.append([*lm.loglikelihood(asked), *lm.generate_until(continued)])
        found.append([*lm.loglikelihood(asked[::-1])[::-1], *lm.generate_until(continued[::-1])[::-1]])
    for other in found[1:]:
        for a, b in zip(found[0], other, strict=True):
            assert a == (pytest.approx(b, abs=1e-4) if isinstance(b, tuple) else b)


def instance(kind: Any, row: dict[str, Any], *arguments: Any) -> Instance:
    return Instance(request_type=kind, doc=row, arguments=arguments, idx=0)
