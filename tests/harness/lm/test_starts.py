"""What is scored, what edits are trained on, and what curvature is taken of begins with the same tokens."""

from pathlib import Path
from typing import Any

import pytest
import torch
from lm_eval.api.instance import Instance

from memsplit.errors import UserError
from memsplit.harness.evaluation.editing import ModelEditor
from memsplit.harness.lm.adapter import MemsplitLM
from memsplit.harness.models import loading
from memsplit.harness.models.loading import LoadedModel
from memsplit.tasks import measured
from memsplit.tests.support import tiny_models

PASSAGES = [
    {"prefix_text": "the lion ate the lamb", "suffix_text": ", and the lamb was no more"},
    {"prefix_text": "who sows the wi", "suffix_text": "nd reaps a whirlwind"},
]
KINDS = list(tiny_models.STARTS)


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def loaded(tmp_path: Path, kind: str) -> LoadedModel:
    pack = tiny_models.pack(
        tmp_path / "pack", {"memorized": PASSAGES, "clean": [{"text": "the lamb and the lion"}, {"text": "no more"}]}
    )
    tokenizer = tiny_models.tokenizer(kind)
    return loading.wrap(
        tiny_models.model(end=tokenizer.eos_token_id), tokenizer, pack=str(pack), texts=[tiny_models.TEXT]
    )


def request(kind: Any, doc: dict[str, Any], *arguments: Any) -> Instance:
    return Instance(request_type=kind, doc=doc, arguments=arguments, idx=0, metadata=("task", 0, 1))


def log_p(model: Any, ids: list[int], start: int) -> float:
    """Σ log p of the ids from ``start`` on, one at a time."""
    logits = [model(torch.tensor([ids[:n]])).logits[0, -1].detach().double() for n in range(start, len(ids))]
    return sum(float(row.log_softmax(0)[ids[start + n]]) for n, row in enumerate(logits))


def test_one_start_everywhere(loaded: LoadedModel) -> None:
    lm, editor = MemsplitLM(loaded, batch_size=2), ModelEditor(loaded, 24)
    passages = [lm.passage(row) for row in PASSAGES]
    (relearn,) = editor.chain("relearn")
    given = editor.inputs(relearn)
    assert [(each.prefix, each.suffix) for each in given.forget] == passages
    assert [lm.tok_encode(text) for text in ("the lamb and the lion", "no more")] == given.retain
    editor.curvature.length = 12
    (batch,) = editor.curvature.batches("curvature")
    n = len(lm.start)
    assert batch.shape == (2, 12)
    for ids in (*(prefix for prefix, _ in passages), *given.retain, *batch.tolist()):
        assert ids[:n] == lm.start
        assert not n or ids[n : n + n] != lm.start


def test_factors_are_named_by_the_start(loaded: LoadedModel, kind: str) -> None:
    editor = ModelEditor(loaded, 24)
    arguments = editor.curvature.arguments(*editor.chain("kfac-50"))
    start = MemsplitLM(loaded).start
    assert arguments.get("start") == ("+".join(map(str, start)) if start else None)
    assert ("start" in arguments) == (kind not in ("none", "neither"))


def test_answers_and_texts_are_scored_after_the_start(loaded: LoadedModel, kind: str) -> None:
    lm = MemsplitLM(loaded, batch_size=2)
    asked = [("the lion ate", " the lamb"), ("", "the lamb was"), ("the li", "on was")]
    scores = lm.loglikelihood([request("loglikelihood", {}, *pair) for pair in asked])
    for (context, answer), (found, _) in zip(asked, scores, strict=True):
        ids = loaded.tokenizer(context + answer, add_special_tokens=False)["input_ids"]
        known = loaded.tokenizer({"the li": "the"}.get(context, context), add_special_tokens=False)["input_ids"]
        before = lm.start if context else lm.first
        assert found == pytest.approx(log_p(loaded.model, before + ids, len(before + known) or 1), abs=1e-4)
    doc = {"pack": "p", "text": "the lamb and the lion"}
    (nats,) = lm.loglikelihood_rolling([request("loglikelihood_rolling", doc, doc["text"])])
    ids = lm.first + loaded.tokenizer(doc["text"], add_special_tokens=False)["input_ids"]
    scored = max(1, len(lm.first))
    assert nats == pytest.approx(log_p(loaded.model, ids, scored), abs=1e-4)
    assert measured.take(doc).tokens == len(ids) - scored
    assert lm.first or kind == "neither"


def test_texts_are_generated_from_the_start_whatever_stands_beside_them(loaded: LoadedModel) -> None:
    how = {"until": ["!"], "max_gen_toks": 5, "do_sample": False}
    prompts = ["the lion ate the lamb, and", "who"]
    found = MemsplitLM(loaded, batch_size=2).generate_until([request("generate_until", {}, p, how) for p in prompts])
    for prompt, text in zip(prompts, found, strict=True):
        lm = MemsplitLM(loaded, batch_size=1)
        ids = lm.tok_encode(prompt)
        for _ in range(5):
            best = int(loaded.model(torch.tensor([ids])).logits[0, -1].argmax())
            ids.append(best)
            if best in lm.ends():
                break
        assert (
            text == loaded.tokenizer.decode(ids[len(lm.tok_encode(prompt)) :], skip_special_tokens=True).split("!")[0]
        )
    doc = {**PASSAGES[1], "pack": "p"}
    lm = MemsplitLM(loaded, batch_size=2)
    lm.generate_until([request("generate_until", doc, doc["prefix_text"], {})])
    generation = measured.take(doc)
    prefix, suffix = lm.passage(PASSAGES[1])
    assert generation.gold == suffix
    assert generation.stats.suffix(generation.stats.log_p).sum() == pytest.approx(
        log_p(loaded.model, prefix + suffix, len(prefix)), abs=1e-4
    )


def test_nothing_is_added_to_a_tokenizer() -> None:
    tokenizer = tiny_models.tokenizer("neither")
    before = len(tokenizer)
    lm = MemsplitLM(loading.wrap(tiny_models.model(), tokenizer))
    assert len(tokenizer) == before
    assert (tokenizer.pad_token, lm.ends(), lm.first) == (None, set(), [])
    for kind, arguments in (("loglikelihood", ("", "n")), ("loglikelihood_rolling", ("no more",))):
        with pytest.raises(UserError, match="has no token that a text begins with"):
            getattr(lm, kind)([request(kind, {}, *arguments)])


def test_an_option_says_whether_texts_begin_with_bos() -> None:
    loaded = loading.wrap(tiny_models.model(), tiny_models.tokenizer("bos"))
    row = PASSAGES[0]
    given, declined = MemsplitLM(loaded), MemsplitLM(loaded, add_bos_token=False)
    assert given.start == [loaded.tokenizer.bos_token_id]
    assert declined.passage(row) == (given.passage(row)[0][1:], given.passage(row)[1])
    assert declined.tok_encode("no more") == given.tok_encode("no more")[1:]
    written = f"{loaded.tokenizer.bos_token}no more"
    assert given.tok_encode(written) == given.tok_encode("no more")
    long, short = (len(given.tok_encode(text)) for text in ("no more", "no"))
    _, mask = given.tok_batch_encode(["no more", "no"])
    assert mask.tolist() == [[1] * long, [0] * (long - short) + [1] * short]


def test_what_fits_is_what_the_model_reads_to_the_token(loaded: LoadedModel) -> None:
    """A prompt and answer are read but for the last token, a passage and a text whole, a prompt with room to write."""
    lm = MemsplitLM(loaded)
    prompt, answer = lm._encode_pair("the lion ate", " the lamb and the wind")
    text = lm.first + loaded.tokenizer("the lamb and the wind", add_special_tokens=False)["input_ids"]
    for asked, read in (
        (request("loglikelihood", {}, "the lion ate", " the lamb and the wind"), len(prompt) + len(answer) - 1),
        (request("generate_until", {}, "the lion ate", {"max_gen_toks": 5}), len(prompt) + 5),
        (request("generate_until", {**PASSAGES[1], "pack": "p"}, "", {}), sum(map(len, lm.passage(PASSAGES[1])))),
        (request("loglikelihood_rolling", {"pack": "p", "text": "the lamb and the wind"}, ""), len(text)),
    ):
        assert MemsplitLM(loaded, max_length=read).fits(asked)
        assert not MemsplitLM(loaded, max_length=read - 1).fits(asked)
