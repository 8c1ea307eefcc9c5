"""Collecting curvature, against a plain implementation that back-propagates through everything.

    python -m benchmarks.collection                          # a model that fits any machine
    python -m benchmarks.collection small tokens wide deep   # twice the tokens, the width, the layers
    python -m benchmarks.collection 1b 7b                    # the shapes of OLMo-2, bfloat16, on a GPU

Prints a Markdown table of medians, every row measured side by side in this run; the targets are gate and up of the last
quarter of the layers.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import transformers

from memsplit.model_edits import targets
from memsplit.model_edits.curvature.collect import collect

from .timing import timed

REPEATS = 3
BATCHES = 2
"""Batches a measurement, since a collection has a cost of its own."""
FACTOR_TOKENS = 20_000_000


@dataclass(frozen=True, kw_only=True)
class Shape:
    """A model's shape, and the batch that is timed."""

    hidden: int
    inner: int
    layers: int
    heads: int
    vocabulary: int
    sequences: int
    length: int = 512


SHAPES = {
    "small": Shape(hidden=512, inner=2048, layers=12, heads=8, vocabulary=32_000, sequences=4, length=256),
    "tokens": Shape(hidden=512, inner=2048, layers=12, heads=8, vocabulary=32_000, sequences=8, length=256),
    "wide": Shape(hidden=1024, inner=4096, layers=12, heads=8, vocabulary=32_000, sequences=4, length=256),
    "deep": Shape(hidden=512, inner=2048, layers=24, heads=8, vocabulary=32_000, sequences=4, length=256),
    "1b": Shape(hidden=2048, inner=8192, layers=16, heads=16, vocabulary=100_352, sequences=16),
    "7b": Shape(hidden=4096, inner=11008, layers=32, heads=32, vocabulary=100_352, sequences=8),
}


def build(shape: Shape, device: str) -> Any:
    """An OLMo-2 of this shape with random weights: float32 on a CPU, bfloat16 on a GPU."""
    config = transformers.Olmo2Config(
        vocab_size=shape.vocabulary,
        hidden_size=shape.hidden,
        intermediate_size=shape.inner,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        eos_token_id=1,
    )
    dtype = torch.float32 if device == "cpu" else torch.bfloat16
    with torch.device(device):
        return transformers.AutoModelForCausalLM.from_config(config, dtype=dtype).eval()


def plain(model: Any, found: Sequence[targets.Target], ids_bt: torch.Tensor) -> dict[str, torch.Tensor]:
    """As a first version would be: hooks, ``multinomial`` on a softmax, a loss, and ``backward`` with all gradients."""
    sums: dict[str, torch.Tensor] = {}
    inputs: dict[str, torch.Tensor] = {}
    hooks = []
    for target in found:
        module = model.get_submodule(target.name)

        def forward(_: Any, a: Any, __: Any, name: str = target.name) -> None:
            inputs[name] = a[0][:, :-1].detach().flatten(0, 1).float()

        def backward(_: Any, __: Any, g: Any, name: str = target.name) -> None:
            g_no = g[0][:, :-1].flatten(0, 1).float()
            for key, x in ((f"{name} A", inputs[name]), (f"{name} G", g_no)):
                sums[key] = sums.get(key, 0) + x.T @ x

        hooks += [module.register_forward_hook(forward), module.register_full_backward_hook(backward)]
    logits_nv = model(input_ids=ids_bt, use_cache=False).logits[:, :-1].flatten(0, 1).float()
    with torch.no_grad():
        labels_n = torch.multinomial(logits_nv.softmax(-1), 1).squeeze(1)
    torch.nn.functional.cross_entropy(logits_nv, labels_n, reduction="sum").backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
    model.zero_grad()
    for hook in hooks:
        hook.remove()
    return sums


def peak(device: str) -> float:
    """The machine's own matmul rate, FLOP/s, of the type that the model computes in."""
    n = 2048 if device == "cpu" else 8192
    a = torch.randn(n, n, device=device, dtype=torch.float32 if device == "cpu" else torch.bfloat16)
    timed(lambda: a @ a, 2)
    seconds = timed(lambda: a @ a, 5)[0]
    return 2.0 * n * n * n / seconds


def flops(model: Any, found: Sequence[targets.Target], tokens: int) -> float:
    """Multiply-adds times two that a collection cannot do without, attention's own products left out.

    The forward pass through every matrix, the backward pass from the head down to the lowest target's output, and the
    two moments of every target.
    """
    matrices = {name: p for name, p in model.named_parameters() if p.ndim == 2 and "embed" not in name}
    lowest = min(target.layer for target in found)
    forward: int = sum(p.numel() for p in matrices.values())
    back: int = sum(p.numel() for name, p in matrices.items() if "lm_head" in name or _layer(name) >= lowest)
    moments = sum(o * o + i * i for o, i in (target.matrix(model).shape for target in found))
    return 2.0 * tokens * (forward + back + moments)


def _layer(name: str) -> int:
    parts = name.split(".")
    return int(parts[2]) if parts[1] == "layers" else -1


def measure(names: Sequence[str]) -> None:
    """Print the table."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    rate = peak(device)
    print(f"{device}, matmul peak {rate / 1e12:.2f} TFLOP/s\n")
    print("| model | targets | plain, s | ours, s | plain / ours | tokens/s | share of peak | 20 M tokens |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    for name in names:
        shape = SHAPES[name]
        model = build(shape, device)
        quarter = range(shape.layers - shape.layers // 4, shape.layers)
        found = targets.find(model, quarter, ["gate", "up"])
        generator = torch.Generator().manual_seed(0)
        ids = torch.randint(shape.vocabulary, (shape.sequences, shape.length), generator=generator).to(device)
        ways = (
            lambda m=model, f=found, i=ids: [plain(m, f, i) for _ in range(BATCHES)],
            partial(collect, model, found, [ids] * BATCHES),
        )
        for way in ways:
            way()
        plain_s, ours_s = (timed(way, REPEATS)[0] for way in ways)
        tokens = ids.numel() * BATCHES
        share = flops(model, found, tokens) / ours_s / rate
        minutes = FACTOR_TOKENS / tokens * ours_s / 60
        print(
            f"| {name}: {shape.layers} × {shape.hidden} | {len(found)} matrices | {plain_s:.2f} | {ours_s:.2f} "
            f"| {plain_s / ours_s:.1f} | {tokens / ours_s:.0f} | {share:.0%} | {minutes:.0f} min |",
            flush=True,
        )
        del model, ways, found


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", metavar="MODEL", help=", ".join(SHAPES))
    measure(parser.parse_args().models or ["small"])
