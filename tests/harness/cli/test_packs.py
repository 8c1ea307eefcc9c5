"""What a pack holds and what is wrong with it, told by the command: each planted fault is found, and only it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import transformers
from hypothesis import given
from hypothesis import strategies as st

from memsplit.errors import UserError
from memsplit.harness.cli import main
from memsplit.harness.evaluation.request import fill_in
from memsplit.harness.models import model_table
from memsplit.harness.models.token_ids import first_ids
from memsplit.tasks import packs
from memsplit.tasks.dedup import RUN, Overlap, groups
from memsplit.tests.support import tiny_models

Rows = list[dict[str, Any]]
Files = dict[str, Rows]
words = st.lists(st.sampled_from("abc"), min_size=1, max_size=12)


def passage(text: list[str], cut: int = 0) -> dict[str, Any]:
    return {"prefix_text": " ".join(text[:cut]), "suffix_text": " " + " ".join(text[cut:])}


def runs(text: list[str]) -> set[tuple[str, ...]]:
    return {tuple(text[i : i + RUN]) for i in range(max(1, len(text) - RUN + 1))}


class TestOverlap:
    @given(st.lists(words, min_size=1, max_size=4), words)
    def test_is_the_share_of_runs(self, passages: list[list[str]], text: list[str]) -> None:
        shares = Overlap([passage(one) for one in passages]).shares({"text": " ".join(text)})
        expected = {i: len(runs(one) & runs(text)) / len(runs(one)) for i, one in enumerate(passages)}
        assert shares == {i: share for i, share in expected.items() if share}

    @given(words, words)
    def test_a_suffix_counts_alone(self, prefix: list[str], suffix: list[str]) -> None:
        row = passage(prefix + suffix, len(prefix))
        assert Overlap([row]).shares({"text": " ".join(suffix)}) == {0: 1.0}

    def test_ids_count_where_there_is_no_text(self) -> None:
        bare = {"prefix_text": "", "suffix_text": "", "prefix_ids": [*range(20)], "suffix_ids": [*range(20, 30)]}
        overlap = Overlap([bare])
        assert overlap.shares({"text": "some text", "ids": [*range(20, 40)]}) == {0: 1.0}
        assert overlap.shares({**bare, "prefix_ids": [9] * 20}) == {0: 1.0}
        assert overlap.shares({"text": "0 1 2 3 4 5 6"}) == {}

    @given(st.lists(st.lists(st.integers(0, 15), max_size=2), min_size=20, max_size=40))
    def test_groups_are_what_keys_join(self, keys: list[list[int]]) -> None:
        rows = [passage([f"{n}-{i}" for i in range(6)]) for n in range(len(keys))]
        expected: list[set[int]] = []
        for n, own in enumerate(keys):
            met = [group for group in expected if any(set(own) & set(keys[i]) for i in group)]
            expected = [group for group in expected if group not in met] + [set().union({n}, *met)]
        assert {frozenset(group) for group in groups(rows, keys)} == {frozenset(group) for group in expected}

    def test_groups_are_joined_through_others(self) -> None:
        rows = [passage([f"{n}-{i}" for i in range(20)], 10) for n in range(5)]
        rows[4] = {**rows[4], "suffix_text": rows[2]["suffix_text"]}
        assert groups(rows, [["x"], ["x", "y"], ["y"], ["z"], []]) == [[0, 1, 2, 4], [3]]


def line(words_: str, n: int) -> str:
    """A text of its own for each word and number."""
    return " ".join(f"{word}{n}x{i}" for i in range(12) for word in words_.split())


def sound() -> Files:
    """A small pack that nothing is wrong with."""
    splits = [("dev", 1), ("dev", 2), ("test", 3), ("test", 4)]

    def passages(kind: str) -> Rows:
        return [
            {
                "id": f"{kind}-{n}",
                "split": s,
                "prefix_text": line(f"{kind} in", n),
                "suffix_text": " " + line(f"{kind} out", n),
            }
            for s, n in splits
        ]

    facts = [{"id": f"f{n}", "split": s, "question": f"q{n}", "answer": "a", "relation": "r"} for s, n in splits]
    return {
        "memorized": passages("memorized"),
        "twins": passages("twin"),
        "quotes": passages("quote"),
        "clean": [{"id": f"c{n}", "split": s, "text": line("clean text", n)} for s, n in splits],
        "facts_closed": facts,
        "corpus": [{"text": line("corpus text", n)} for n in range(3)],
    }


def write(folder: Path, files: Files, **manifest: Any) -> Path:
    packs.write(folder, files, packs.Manifest(**manifest))
    return folder


def check(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> tuple[int, list[str]]:
    code = main.main(["pack", "check", *map(str, arguments)])
    return code, capsys.readouterr().out.splitlines()


def repeated(kind: str, n: int, **changes: Any) -> Callable[[Files], None]:
    """Adds a copy of a line."""
    return lambda files: files[kind].append({**files[kind][n], "id": "copy", **changes})


def changed(kind: str, n: int, **changes: Any) -> Callable[[Files], None]:
    return lambda files: files[kind].__setitem__(n, {**files[kind][n], **changes})


def with_memorized(kind: str, part: str) -> Callable[[Files], None]:
    """Puts what was memorized where it should not be."""

    def plant(files: Files) -> None:
        row, text = files["memorized"][1], files[kind][2]
        if "text" in text:
            text["text"] += " " + row[part].upper()
        else:
            text["suffix_text"] += row[part]

    return plant


PLANTED: list[tuple[Callable[[Files], None], list[str]]] = [
    (lambda files: None, []),
    (changed("twins", 1, id="twin-1"), ["twins.jsonl, line 2: its id 'twin-1' is that of line 1"]),
    (repeated("memorized", 0, split="test"), ["memorized.jsonl, line 5: asks the same as line 1, which is in dev"]),
    (repeated("memorized", 0), ["memorized.jsonl, line 5: asks the same as line 1"]),
    (repeated("facts_closed", 0, relation="s"), ["facts_closed.jsonl, line 5: asks the same as line 1"]),
    (repeated("clean", 3, split="dev"), ["clean.jsonl, line 5: asks the same as line 4, which is in test"]),
    (
        repeated("quotes", 0, split="test", prefix_text="other words"),
        ["quotes.jsonl, line 5: near to line 1, which is in dev: 100% of its runs of words or ids"],
    ),
    (repeated("quotes", 0, prefix_text="other words"), []),
    (with_memorized("corpus", "suffix_text"), ["corpus.jsonl, line 3: 100% of memorized.jsonl, line 2, stands in it"]),
    (with_memorized("clean", "suffix_text"), ["clean.jsonl, line 3: 100% of memorized.jsonl, line 2, stands in it"]),
    (with_memorized("twins", "suffix_text"), ["twins.jsonl, line 3: 100% of memorized.jsonl, line 2, stands in it"]),
    (with_memorized("quotes", "suffix_text"), []),
    (changed("clean", 0, text=3), ["clean.jsonl, line 1: expected a str 'text'"]),
    (
        changed("quotes", 0, suffix_text=""),
        ["quotes.jsonl, line 1: expected text in 'prefix_text' and 'suffix_text', or 'prefix_ids' and 'suffix_ids'"],
    ),
    (
        changed("quotes", 0, split="tset"),
        ["quotes.jsonl, line 1: unknown split 'tset': expected one of dev, test; did you mean 'test'?"],
    ),
    (
        changed("quotes", 0, split=1, prefix_ids=["x"], author="A"),
        [
            "quotes.jsonl, line 1: 'prefix_ids' is not a list of token ids",
            "quotes.jsonl, line 1: expected 'prefix_ids' and 'suffix_ids', or neither",
            "quotes.jsonl, line 1: expected a str 'split'",
        ],
    ),
    (changed("memorized", 0, dose=2**31 - 1), []),
    (
        changed("memorized", 0, dose=2**31),
        ["memorized.jsonl, line 1: 'dose' is not a whole number of times, 2147483647 at most"],
    ),
    (lambda files: files.update(clean=[]), ["clean.jsonl: has no line"]),
    (
        lambda files: files.update(memorised=[]),
        ["memorised.jsonl: is no file of a pack (did you mean memorized.jsonl?)"],
    ),
]


@pytest.mark.parametrize(("plant", "expected"), PLANTED)
def test_each_planted_problem_is_found(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], plant: Callable[[Files], None], expected: list[str]
) -> None:
    files = sound()
    plant(files)
    code, found = check(capsys, write(tmp_path / "pack", files))
    assert code == bool(expected)
    if not expected:
        assert len(found) == 1
        assert found[0].startswith("nothing is wrong with 2")
    else:
        assert [one.removeprefix(f"{tmp_path / 'pack'}/").split(": expected one of c")[0] for one in found] == sorted(
            expected
        )


def test_all_problems_are_told_in_their_order(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = sound()
    for plant, _ in (PLANTED[i] for i in (1, 4, 5)):
        plant(files)
    folder = write(
        tmp_path, files, families=("chain", "chian"), provenance={"sha256": {"clean.jsonl": "0", "gone.jsonl": "0"}}
    )
    with (folder / "corpus.jsonl").open("a") as file:
        file.write("{\n[]\n")
    code, found = check(capsys, folder)
    assert code == 1
    assert [one.removeprefix(f"{folder}/").split(" (")[0][:64] for one in found] == [
        "clean.jsonl: is not the file whose sha256 pack.json has",
        "clean.jsonl, line 5: asks the same as line 4, which is in test",
        "corpus.jsonl, line 4: not JSON",
        "corpus.jsonl, line 5: expected an object, found list",
        "facts_closed.jsonl, line 5: asks the same as line 1",
        "gone.jsonl: pack.json has its sha256, and it is not there",
        "pack.json: unknown family 'chian': expected one of add, addition",
        "twins.jsonl, line 2: its id 'twin-1' is that of line 1",
    ]
    (folder / "pack.json").write_text("{")
    assert any("pack.json: not JSON" in one for one in check(capsys, folder)[1])


@pytest.mark.parametrize("name", ["corpus.jsonl", "pack.json", "relations.json"])
def test_json_that_is_nested_too_deeply_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    folder = write(tmp_path / "pack", sound())
    fact = {"id": "f", "split": "dev", "subject": "s", "relation": "r", "answer": "a"}
    (folder / "facts.jsonl").write_text(json.dumps(fact))
    (folder / name).write_text('{"provenance": ' + '{"a":' * 200000)
    code, found = check(capsys, folder)
    assert code in (1, 2)
    assert len([one for one in found if f"/{name}" in one and "not JSON" in one]) == 1


@pytest.mark.parametrize("name", ["olmo-tiny", "world", "quotes"])
def test_the_packs_are_sound(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    model = ["--model", "olmo-tiny"] if name == "olmo-tiny" else []
    code, found = check(capsys, name, *model)
    assert code == 0, found


def test_a_model_is_asked_of_ids_and_lengths(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    memorized = packs.find("olmo-tiny").rows("memorized")[:6]
    memorized[1]["prefix_ids"] = memorized[1]["prefix_ids"][::-1]
    memorized[2]["suffix_text"] = "other words"
    memorized[3]["suffix_ids"] = [*memorized[3]["suffix_ids"], 10**6]
    memorized[4]["prefix_ids"] = memorized[4]["prefix_ids"] * 9
    memorized[5].update(prefix_text="", suffix_text="")
    clean = packs.find("olmo-tiny").rows("clean")[:2]
    clean[1]["text"] = "some more"
    quotes = [{"id": "q", "split": "dev", "prefix_text": "the lio", "suffix_text": "n"}]
    write(tmp_path, {"memorized": memorized, "clean": clean, "quotes": quotes})
    assert check(capsys, tmp_path)[0] == 0
    code, found = check(capsys, tmp_path, "--model", "olmo-tiny")
    assert code == 1
    assert [one.removeprefix(f"{tmp_path}/") for one in found] == [
        "clean.jsonl, line 2: its ids spell another text under olmo-tiny's tokenizer",
        "memorized.jsonl, line 2: its prefix_ids spell another text under olmo-tiny's tokenizer",
        "memorized.jsonl, line 3: its suffix_ids spell another text under olmo-tiny's tokenizer",
        "memorized.jsonl, line 4: has the id 1000000: olmo-tiny has 1147, from 0 on",
        "memorized.jsonl, line 5: has 624 tokens, which is left out: the context of olmo-tiny is 256",
        "memorized.jsonl, line 5: its prefix_ids spell another text under olmo-tiny's tokenizer",
        "1 of 1 passages of quotes.jsonl are cut earlier, before a token or white space at their cut",
    ]


def test_positions_that_are_for_padding_are_none_of_a_text(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """No weights are needed to tell that RoBERTa reads fewer tokens than its table has rows."""
    tokenizer = tiny_models.tokenizer()
    size = {"vocab_size": 400, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1}
    size |= {"num_attention_heads": 2, "max_position_embeddings": 30, "pad_token_id": 3}
    transformers.RobertaConfig(**size, is_decoder=True).save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    word = tokenizer("lamb", add_special_tokens=False)["input_ids"]
    rows = [{"ids": (word * 30)[:tokens], "id": f"{tokens}", "split": "dev"} for tokens in (25, 26)]
    start = len(first_ids(tokenizer))
    write(tmp_path / "pack", {"clean": [{**row, "text": tokenizer.decode(row["ids"])} for row in rows]})
    code, found = check(capsys, tmp_path / "pack", "--model", str(tmp_path / "model"))
    told = f"has {26 + start} tokens, which is left out: the context of {tmp_path / 'model'} is 26"
    assert (code, [line.partition(": ")[2] for line in found]) == (1, [told])


def test_one_file_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = sound()
    with_memorized("corpus", "suffix_text")(files)
    changed("twins", 1, id="twin-1")(files)
    folder = write(tmp_path, files)
    assert check(capsys, folder / "corpus.jsonl") == (0, ["nothing is wrong with 3 lines of 1 files"])
    assert check(capsys, folder / "twins.jsonl")[0] == 1
    assert main.main(["pack", "show", str(folder / "twins.jsonl")]) == 0
    assert " ".join(capsys.readouterr().out.split()) == "twins.jsonl 4 lines, 2 dev, 2 test"


def test_an_edit_is_told_what_to_forget_and_what_to_keep(tmp_path: Path) -> None:
    files = sound()
    entry = model_table.resolve("olmo-tiny", str(write(tmp_path, files)))
    assert fill_in("finetune", entry, 4)
    for kind in ("clean", "memorized"):
        pack = write(tmp_path / kind, {name: rows for name, rows in files.items() if name != kind})
        with pytest.raises(UserError, match=r"memorized\.jsonl and texts of its clean\.jsonl: expected --pack"):
            fill_in("finetune", model_table.resolve("olmo-tiny", str(pack)), 4)


@pytest.mark.parametrize("action", ["check", "show"])
def test_a_mistake_is_one_line_and_exit_code_2(tmp_path: Path, capsys: pytest.CaptureFixture[str], action: str) -> None:
    (tmp_path / "other.jsonl").write_text("{}\n")
    for name, said in (
        ("olmo-tny", "did you mean 'olmo-tiny'"),
        (str(tmp_path), "unknown pack"),
        (str(tmp_path / "other.jsonl"), "is no file of a pack"),
        ("", "unknown pack ''"),
    ):
        assert main.main(["pack", action, name]) == 2
        error = capsys.readouterr().err
        assert len(error.splitlines()) == 1
        assert said in error
    assert main.main(["pack", "check", "olmo-tiny", "--model", "olmo-tny"]) == 2
    assert "did you mean 'olmo-tiny'" in capsys.readouterr().err


def test_show_tells_what_a_pack_holds(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(["pack", "show", "olmo-tiny+world", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert [Path(facts["folder"]).name for facts in shown["folders"]] == ["olmo-tiny", "world"]
    assert shown["folders"][0]["provenance"] == {"made_by": "memsplit organism train", "seed": 0}
    assert "chain" in shown["folders"][0]["families"]
    memorized = shown["files"]["memorized"]
    assert memorized["ids"] == {"prefix_ids": [64, 64], "suffix_ids": [48, 48]}
    assert (memorized["lines"], memorized["splits"]) == (224, {"dev": 112, "test": 112})
    assert main.main(["pack", "show", "olmo-tiny"]) == 0
    text = capsys.readouterr().out
    for said in ("version: 2.0", "seed: 0", "224 lines, 112 dev, 112 test, 64 prefix_ids, 48 suffix_ids", "1600 lines"):
        assert said in text
    write(tmp_path, {"quotes": [{"id": "q"}]})
    assert main.main(["pack", "show", str(tmp_path)]) == 2
    assert "quotes.jsonl, line 1: expected a str 'split'" in capsys.readouterr().err
