"""How many eigenvectors the components that kfac keeps touch, on a model's own curvature.

    python -m benchmarks.touched MODEL [--corpus NAME] [--factor-tokens N] [--edit SPEC]

Prints a Markdown table: a partial eigensolver of the larger factor can pay only where this share is small.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from memsplit.harness.evaluation import editing
from memsplit.harness.models import loading, model_table
from memsplit.model_edits.curvature.store import FactorStore
from memsplit.model_edits.selection import keep_products

MASSES = (0.4, 0.6, 0.8)


def measure(model: str, corpus: str | None, factor_tokens: int | None, spec: str) -> None:
    """Print the table."""
    loaded = loading.load(model_table.resolve(model, None, corpus), device="cpu")
    print("| matrix | larger factor | " + " | ".join(f"touched at {mass:.0%}" for mass in MASSES) + " |")
    print("| --- | --- |" + " --- |" * len(MASSES))
    with tempfile.TemporaryDirectory() as folder:
        editor = editing.ModelEditor(loaded, factor_tokens, FactorStore(Path(folder)))
        (edit,) = editor.chain(spec)
        editor.collect_missing([edit])
        curvature, found = editor.curvature, editor.matrices(edit)
        read = curvature.read(curvature.arguments(edit), found)
        for target in found:
            basis = read[target.name].eigenbasis
            spectra = sorted((basis.lam_o, basis.mu_i), key=len)
            touched = [int((keep_products(spectra[1], spectra[0], mass) > 0).sum()) for mass in MASSES]
            n = len(spectra[1])
            print(f"| {target.name} | {n} | " + " | ".join(f"{count / n:.0%}" for count in touched) + " |")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="as for memsplit-eval")
    parser.add_argument("--corpus")
    parser.add_argument("--factor-tokens", type=int)
    parser.add_argument("--edit", default="kfac-60", help="whose matrices (default: %(default)s)")
    arguments = parser.parse_args()
    measure(arguments.model, arguments.corpus, arguments.factor_tokens, arguments.edit)
