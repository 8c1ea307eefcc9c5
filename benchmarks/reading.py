"""Compare the scoring of recitation, one teacher-forced pass and decoding from where it departs, with ``generate``.

    python -m benchmarks.reading                  # base model and an edit, memorized passages and twins
    python -m benchmarks.reading --passages 120   # more of them

Prints a Markdown table of the tokens that went through the model (positions of every forward pass, with padding) and
of median seconds, all measured in this run on ``olmo-tiny``. The run fails unless all ways decode the same ids.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch

from memsplit.harness.evaluation.editing import ModelEditor
from memsplit.harness.lm.adapter import MemsplitLM
from memsplit.harness.lm.forward import PrefixSuffix, chunks
from memsplit.harness.models import loading, model_table
from memsplit.model_edits.apply import applied
from memsplit.tasks import packs

from .timing import timed

REPEATS = 3


@contextmanager
def counted(model: Any) -> Iterator[list[int]]:
    """While the body runs, collect the number of positions of every forward pass of the model."""
    seen: list[int] = []

    def count(_: Any, args: Any, kwargs: Any) -> None:
        seen.append((kwargs["input_ids"] if "input_ids" in kwargs else args[0]).numel())

    handle = model.register_forward_pre_hook(count, with_kwargs=True)
    try:
        yield seen
    finally:
        handle.remove()


@torch.inference_mode()
def generated(lm: MemsplitLM, passages: Sequence[PrefixSuffix], *, cache: bool) -> list[list[int]]:
    """Greedy continuations by ``generate`` of transformers, in batches of prefixes of one length."""
    continuations: list[list[int]] = []
    for chunk in chunks(range(len(passages)), lm.batch):
        ids = torch.tensor([passages[i][0] for i in chunk], device=lm.device)
        options = {"max_new_tokens": len(passages[0][1]), "do_sample": False, "use_cache": cache}
        out = lm.model.generate(ids, attention_mask=torch.ones_like(ids), pad_token_id=0, **options)
        continuations += out[:, ids.shape[1] :].tolist()
    return continuations


def measure(lm: MemsplitLM, work: Callable[[], list[list[int]]], repeats: int) -> tuple[int, float, list[list[int]]]:
    """Tokens that went through the model, median seconds, and the ids that were decoded."""
    with counted(lm.model) as seen:
        decoded = work()
    return sum(seen), timed(work, repeats)[0], decoded


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--passages", type=int, default=32, help="of each kind (default: %(default)s)")
    parser.add_argument("--edit", default="kfac-95:layers=1", help="default: %(default)s")
    arguments = parser.parse_args()
    loaded = loading.load(model_table.resolve("olmo-tiny"), device="cuda" if torch.cuda.is_available() else "cpu")
    editor = ModelEditor(loaded)
    lm = MemsplitLM(loaded)
    pack = packs.find("olmo-tiny")
    print("| model | passages | one pass, tokens | no cache | cache | one pass, s | no cache | cache |")
    print("| --- " * 8 + "|")
    for spec in ("none", arguments.edit):
        with applied(loaded.model, editor.prepare(*editor.chain(spec)).weights):
            for kind in ("memorized", "twins"):
                passages = [lm.passage(row) for row in pack.rows(kind, "test")[: arguments.passages]]
                ours, ours_s, ids = measure(lm, lambda: [c.ids for c in lm.continuations(passages)], REPEATS)  # noqa: B023
                plain, plain_s, same = measure(lm, lambda: generated(lm, passages, cache=False), 1)  # noqa: B023
                cached, cached_s, again = measure(lm, lambda: generated(lm, passages, cache=True), REPEATS)  # noqa: B023
                if not ids == same == again:
                    raise RuntimeError(f"{spec}, {kind}: the continuations differ")
                print(
                    f"| {spec} | {kind} | {ours:,} | {plain / ours:.1f}x | {cached / ours:.1f}x | {ours_s:.2f} "
                    f"| {plain_s / ours_s:.1f}x | {cached_s / ours_s:.1f}x |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
