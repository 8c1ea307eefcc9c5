"""``--chat-template``: questions are turns of a conversation, as lm-eval makes them; passages and prose never are."""

from pathlib import Path
from typing import Any

import pytest
from lm_eval.evaluator import evaluate
from lm_eval.models.huggingface import HFLM

from memsplit.errors import UserError
from memsplit.harness.evaluation import scoring
from memsplit.harness.evaluation.request import Request
from memsplit.harness.evaluation.runner import run
from memsplit.harness.lm.adapter import MemsplitLM
from memsplit.harness.models import loading, model_table
from memsplit.results.records.score_cache import ScoreStore
from memsplit.tasks import suite
from memsplit.tests.support import tiny_models
from memsplit.tests.support.running import in_process, refused

TEMPLATE = (
    "<b>{% for m in messages %}<m>{{ m['role'] }}\n{{ m['content'] }}<s>\n{% endfor %}"
    "{% if add_generation_prompt %}<m>assistant\n{% endif %}"
)
TRIMMED = TEMPLATE.replace("m['content']", "m['content'] | trim")
LLAMA_2 = (
    "{% for m in messages %}{% if m['role'] == 'user' %}<m>[INST] {{ m['content'] | trim }} [/INST]"
    "{% else %} {{ m['content'] | trim }} <s>{% endif %}{% endfor %}"
)
LINES = (
    "{% for m in messages %}{{ m['role'] }}: {{ m['content'] | trim }}\n\n{% endfor %}"
    "{% if add_generation_prompt %}assistant: {% endif %}"
)
THOUGHT_AT_LAST = TEMPLATE.replace(
    "{{ m['content'] }}", "{% if loop.last and m['role'] == 'assistant' %}<think></think>{% endif %}{{ m['content'] }}"
)
QUESTIONS = ("memsplit_logic_order", "memsplit_logic_boolean", "memsplit_facts_closed")
WHOLE = "memsplit_arithmetic_add"
TEXTS = ("memsplit_recitation", "memsplit_twins", "memsplit_fluency")
PASSAGES = [
    {"prefix_text": "the lion ate", "suffix_text": " the lamb"},
    {"prefix_text": "who sows", "suffix_text": " wind"},
]
PACK: dict[str, list[dict[str, Any]]] = {
    "memorized": PASSAGES,
    "twins": PASSAGES,
    "clean": [{"text": "no more, and the lamb was a lion"}],
    "facts_closed": [{"question": "The lion ate the", "answer": "lamb", "relation": "food", "fact": 1}],
}


def instruct(path: Path, template: str | None = TEMPLATE) -> Path:
    """A model with a BOS token and a chat template."""
    tiny_models.folder(path, "bos", context=1024)
    tokenizer = tiny_models.tokenizer("bos")
    tokenizer.chat_template = template
    tokenizer.save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> loading.LoadedModel:
    return loading.load(model_table.resolve(str(instruct(tmp_path_factory.mktemp("model") / "m"))), device="cpu")


def speaking(loaded: loading.LoadedModel, template: str) -> MemsplitLM:
    loaded.tokenizer.chat_template = template
    return MemsplitLM(loaded, chat=True)


def tasks(pack: str) -> dict[str, Any]:
    own = suite.own().tasks
    return {
        **scoring.load_tasks([own[name] for name in (*QUESTIONS[:2], WHOLE)], "world", "test"),
        **scoring.load_tasks([own[name] for name in (QUESTIONS[2], *TEXTS)], pack, "test"),
    }


@pytest.fixture
def pack(tmp_path: Path) -> str:
    return str(tiny_models.pack(tmp_path / "pack", PACK))


def scorer(model: Path, pack: str, *, chat: bool) -> scoring.Scorer:
    lm = MemsplitLM(loading.load(model_table.resolve(str(model)), device="cpu"), chat=chat, batch_size=4)
    own = suite.own().tasks
    parts = [own[name] for name in (*QUESTIONS, WHOLE, *TEXTS)]
    return scoring.Scorer(lm, parts, tasks(pack), limit=2, store=ScoreStore(model / "scores"))


def test_questions_are_asked_as_lm_eval_asks_them_and_texts_as_ever(tmp_path: Path, pack: str) -> None:
    model = instruct(tmp_path / "model")
    chat, plain = (scorer(model, pack, chat=given) for given in (True, False))
    loaded = chat.lm
    stock = HFLM(pretrained=loaded.model, tokenizer=loaded.tokenizer, batch_size=4)
    expected = tasks(pack)
    asked = {"tasks": {name: expected[name] for name in QUESTIONS}}
    found = evaluate(stock, asked, limit=2, bootstrap_iters=0, apply_chat_template=True, fewshot_as_multiturn=True)
    hashed = [request.args for request in chat.tasks[WHOLE].instances]
    items = chat.score("w", "base").items
    assert [request.args for request in chat.tasks[WHOLE].instances] == hashed
    for name in QUESTIONS:
        sent = [request.args for request in chat.tasks[name].instances]
        assert sent == [request.args for request in expected[name].instances]
        assert sent != [request.args for request in plain.tasks[name].instances]
        assert chat.fingerprints[name] != plain.fingerprints[name]
        mean = items[(items["task"] == name) & items["metric"].isin(suite.own().tasks[name].metrics.values())]["value"]
        assert mean.mean() == pytest.approx(found["results"][name]["acc,none"])
    turns = chat.tasks["memsplit_logic_order"].instances[0].args[0].split("<m>")
    assert [turn.partition("\n")[0] for turn in turns] == ["<b>", *["user", "assistant"] * 5]
    ids = loaded._encode_pair(*chat.tasks[QUESTIONS[0]].instances[0].args)[0]
    assert ids.count(loaded.tokenizer.bos_token_id) == 1
    for name in TEXTS:
        assert chat.fingerprints[name] == plain.fingerprints[name]
        args = [str(request.args) for request in chat.tasks[name].instances]
        assert args == [str(request.args) for request in plain.tasks[name].instances]
        assert not any("<m>" in each for each in args)
    assert chat.fingerprint != plain.fingerprint
    assert {part.task for part in plain.missing("w")} == {*QUESTIONS, WHOLE}
    plain_items = plain.score("w", "base").items
    texts = [each[each["task"].isin(TEXTS)].reset_index(drop=True) for each in (items, plain_items)]
    assert texts[0].equals(texts[1])


def test_the_record_has_it(tmp_path: Path, pack: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEMSPLIT_CACHE", str(tmp_path / "cache"))
    model = str(instruct(tmp_path / "model"))
    names = ["memsplit_facts_closed", "memsplit_recitation", "memsplit_twins"]
    found = {}
    for chat in (True, False):
        asked = Request(
            model=model, pack=pack, edits=["none"], tasks=names, chat_template=chat, device="cpu", out=tmp_path / "out"
        )
        found[chat] = run(asked).records[0].content
    assert (found[True].arguments.chat_template, "--chat-template" in found[True].command) == (True, True)
    assert "--chat-template" not in found[False].command
    assert found[True].fingerprint != found[False].fingerprint
    assert found[True].weights == found[False].weights


@pytest.mark.parametrize(
    ("template", "words"),
    [
        (None, ["has no chat template", "no --chat-template"]),
        ("{{ raise_exception('no such role') }}", ["cannot be applied: no such role"]),
        ("{{ messages | nonsense }}", ["cannot be applied", "nonsense"]),
        ("{{ messages[0]['content'] + 1 }}", ["cannot be applied"]),
    ],
)
def test_what_cannot_be_put_into_turns_is_refused(
    template: str | None, words: list[str], tmp_path: Path, pack: str
) -> None:
    model = instruct(tmp_path / "model", template)
    asked = ("--pack", pack, "--tasks", "memsplit_facts_closed", "--edit", "none", "--chat-template")
    refused(in_process("eval", "--model", model, *asked, cache=tmp_path / "cache"), [str(model), *words])


def test_a_template_of_texts_alone_is_never_applied(tmp_path: Path, pack: str) -> None:
    model = instruct(tmp_path / "model", "{{ raise_exception('applied') }}")
    lm = MemsplitLM(loading.load(model_table.resolve(str(model)), device="cpu"), chat=True)
    assert [lm.turns(task) for name, task in tasks(pack).items() if name in TEXTS] == [False] * 3
    with pytest.raises(UserError, match="applied"):
        lm.apply_chat_template([{"role": "user", "content": "who?"}])


def whole() -> Any:
    return scoring.load_tasks([suite.own().tasks[WHOLE]], "world", "test")[WHOLE]


@pytest.mark.parametrize(
    ("template", "opened", "before", "end"),
    [
        (TEMPLATE, "<m>assistant\n", "", "<s>"),
        (TRIMMED, "<m>assistant\n", "", "<s>"),
        (THOUGHT_AT_LAST, "<m>assistant\n", "", "<s>"),
        (LLAMA_2, "[/INST]", " ", " <s>"),
        (LINES, "assistant: ", "", "\n\n"),
    ],
)
def test_an_answer_that_must_be_whole_is_asked_for_as_the_examples_show_it(
    template: str, opened: str, before: str, end: str, loaded: loading.LoadedModel
) -> None:
    task = whole()
    scoring.build_requests(task, speaking(loaded, template), 2)
    for request in task.instances:
        prompt, answer = request.args
        assert prompt.endswith(opened)
        assert answer == f"{before}{request.doc['answer']}{end}"
        for example in task.dataset["train"]:
            assert f"{opened}{before}{example['answer']}{end}" in prompt
        assert task.doc_to_target(request.doc) == f" {request.doc['answer']}\n"


@pytest.mark.parametrize(
    "template",
    [
        TEMPLATE.replace("assistant\n{% endif %}", "assistant\n<think>{% endif %}"),
        "{% for m in messages %}{{ m['content'] }}{% endfor %}",
        "{% for m in messages if m['role'] == 'user' %}{{ m['content'] }}\n{% endfor %}",
    ],
)
def test_where_nothing_tells_a_whole_answer_none_is_graded(template: str, loaded: loading.LoadedModel) -> None:
    with pytest.raises(UserError, match=r"template of '.*' does not put an answer between .*: expected .* --chat-temp"):
        scoring.build_requests(whole(), speaking(loaded, template), 2)


def test_a_template_that_writes_the_day_asks_the_same_every_day(loaded: loading.LoadedModel) -> None:
    lm = speaking(loaded, "{{ strftime_now('%d %m %Y') }} {{ messages[0]['content'] }}")
    assert lm.apply_chat_template([{"role": "user", "content": "who?"}]) == "26 07 2024 who?"
