"""Logits of needed positions alone, against those of all positions, for a model of a large vocabulary.

    python -m memsplit.benchmarks.logits                     # a random model of Gemma-3-270M's shape
    python -m memsplit.benchmarks.logits --model FOLDER      # another
    python -m memsplit.benchmarks.logits --items 64 --batch-size 32

Prints a Markdown table: answers after prompts (by lm-eval's ``HFLM`` against ours), the statistics of whole passages
and of their suffixes, and prose's distance from a base model. Each cell is measured by a process of its own, which
says how far its memory rose above the loaded model's (peak resident memory, or that allocated on a GPU).
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import multiprocessing
import resource
import time
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any
from unittest import mock

import torch
import transformers
from lm_eval.models.huggingface import HFLM

from memsplit.harness.lm.adapter import MemsplitLM
from memsplit.harness.lm.forward import likelihoods, teacher_forced
from memsplit.harness.models import loading, model_table
from memsplit.model_edits.architecture import logits

PROMPT, ANSWER, PREFIX, SUFFIX, PROSE = 60, 4, 64, 48, 256
"""Tokens of an item's parts."""


def shaped_as_gemma() -> Any:
    """A random model of the shape of google/gemma-3-270m."""
    config = transformers.Gemma3TextConfig(
        vocab_size=262_144, hidden_size=640, intermediate_size=2048, num_hidden_layers=18, num_attention_heads=4,
        num_key_value_heads=1, head_dim=256, query_pre_attn_scalar=256,
    )  # fmt: skip
    return transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()


class Work:
    """The pieces of work, on random ids.

    Args:
        loaded: a causal language model; what its tokenizer is makes no difference.
        items: sequences of each.
        batch: sequences a forward pass.
    """

    def __init__(self, loaded: loading.LoadedModel, items: int, batch: int) -> None:
        self.loaded, self.model, self.batch = loaded, loaded.model, batch
        generator = torch.Generator().manual_seed(0)
        size = (items, max(PROMPT + ANSWER, PREFIX + SUFFIX, PROSE))
        self.rows = torch.randint(logits.vocabulary(self.model), size, generator=generator).tolist()
        self.passages = [(row[:PREFIX], row[PREFIX : PREFIX + SUFFIX]) for row in self.rows]

    def stock_answers(self) -> None:
        """Likelihoods of answers, as lm-eval's model for transformers computes them."""
        self._answers(HFLM(pretrained=self.model, tokenizer=self.loaded.tokenizer, batch_size=self.batch))

    def answers(self) -> None:
        """Likelihoods of answers, as ours computes them."""
        self._answers(MemsplitLM(self.loaded, batch_size=self.batch))

    def _answers(self, lm: Any) -> None:
        asked = [((f"{i}", ""), row[:PROMPT], row[PROMPT : PROMPT + ANSWER]) for i, row in enumerate(self.rows)]
        lm._loglikelihood_tokens(asked, disable_tqdm=True)

    def passage(self) -> None:
        """The statistics of whole passages."""
        teacher_forced(self.model, self.passages, batch=self.batch)

    def suffix(self) -> None:
        """The statistics of suffixes."""
        teacher_forced(self.model, self.passages, batch=self.batch, suffix_alone=True)

    def prose(self) -> None:
        """Likelihoods, and the distance from a base model, whose last norm is another."""
        name, norm = [(n, p) for n, p in self.model.named_parameters() if p.ndim == 1][-1]
        rows = [row[:PROSE] for row in self.rows[: len(self.rows) // 4]]
        likelihoods(self.model, rows, batch=self.batch, base={name: norm.detach() + 0.1})


WORK: dict[str, tuple[int, Callable[[Work], None], Callable[[Work], None]]] = {
    "answers after prompts": (PROMPT + ANSWER, Work.stock_answers, Work.answers),
    "passages": (PREFIX + SUFFIX, Work.passage, Work.passage),
    "suffixes": (PREFIX + SUFFIX, Work.passage, Work.suffix),
    "prose against the base": (PROSE // 4, Work.prose, Work.prose),
}
"""By name the tokens an item, the work on all logits, and the work on those that are needed."""


@contextlib.contextmanager
def all_logits() -> Iterator[None]:
    """While the body runs, every pass computes the logits of all its positions, however many they are."""
    with mock.patch.object(logits, "chooses", return_value=False), mock.patch.object(logits, "AT_ONCE", 1 << 62):
        yield


def peak() -> float:
    """The most memory that was in use so far, GiB."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 2**30
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def measured(arguments: argparse.Namespace, name: str, needed: bool, end: Connection) -> None:
    """Send the seconds of a piece of work, and by how many GiB its peak lies above the loaded model."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    loaded = loading.load(model_table.resolve(str(arguments.model or "olmo-tiny")), device=device)
    if not arguments.model:
        loaded = dataclasses.replace(loaded, model=shaped_as_gemma().to(device))
    model, work = loaded.model, Work(loaded, arguments.items, arguments.batch_size)
    with contextlib.nullcontext() if needed else all_logits():
        logits.chooses(model)
        before, start = peak(), time.perf_counter()
        _, on_all, on_needed = WORK[name]
        with torch.inference_mode():
            (on_needed if needed else on_all)(work)
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        end.send((time.perf_counter() - start, peak() - before))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, help="a checkpoint (default: random weights in Gemma-3-270M's shape)")
    parser.add_argument("--items", type=int, default=64, help="sequences of each kind (default: %(default)s)")
    parser.add_argument("--batch-size", type=int, default=32, help="sequences a forward pass (default: %(default)s)")
    arguments = parser.parse_args()
    print("| work | tokens a second: all logits | needed | times | GiB above the model: all logits | needed |")
    print("|" + " --- |" * 6)
    context = multiprocessing.get_context("spawn")
    for name, (tokens, *_) in WORK.items():
        found = []
        for needed in (False, True):
            ours, theirs = context.Pipe(duplex=False)
            process = context.Process(target=measured, args=(arguments, name, needed, theirs))
            process.start()
            theirs.close()
            found.append(ours.recv())
            process.join()
        (slow_s, much), (fast_s, little) = found
        speeds = [arguments.items * tokens / seconds for seconds in (slow_s, fast_s)]
        cells = [f"{speed:,.0f}" for speed in speeds]
        print(f"| {name} | {' | '.join(cells)} | {slow_s / fast_s:.1f} | {much:.2f} | {little:.2f} |", flush=True)


if __name__ == "__main__":
    main()
