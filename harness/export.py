"""Write an edited model as a Hugging Face folder, with a card that says what was done to it and what it scored."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from ..errors import UserError
from ..files import replacing_folder
from ..model_edits.apply import applied
from ..results import record
from . import loading, models
from .editing import Prepared, Workshop


def export(
    model: str,
    edit: str,
    out: Path,
    *,
    device: str,
    dtype: str | None = None,
    pack: str | None = None,
    factor_tokens: int | None = None,
    record_path: Path | None = None,
) -> Path:
    """Write weights (safetensors), config, generation config, tokenizer and card to ``out``, whole or not at all.

    The weights are of the type that they were edited and scored in, so that the folder scores what the edit scored.

    Args:
        model: as for ``memsplit eval``.
        edit: the spec.
        out: the folder; takes the place of one that is there.
        device: where to compute.
        dtype: as for ``memsplit eval``.
        pack: as for ``memsplit eval``.
        factor_tokens: as for ``memsplit eval``.
        record_path: a record of this edit, whose figures go into the card.

    Raises:
        UserError: the edit cannot be made, the record is of other weights, or the folder cannot be written.
    """
    loaded = loading.load(models.resolve(model, pack), device=device, dtype=dtype)
    workshop = Workshop(loaded, factor_tokens)
    prepared = workshop.prepare(*workshop.chain(edit))
    content = record.read(record_path)[0] if record_path else None
    if content is not None and content["edited_weights"] != prepared.weights_hash:
        raise UserError(
            f"the record {record_path} is of {content['spec']} on other weights ({content['edited_weights'][:12]}), "
            f"expected {prepared.spec} ({prepared.weights_hash[:12]})"
        )
    try:
        with replacing_folder(out) as partial, applied(loaded.model, prepared.weights):
            loaded.model.save_pretrained(partial)
            loaded.tokenizer.save_pretrained(partial)
            card(loaded, prepared, content, out.name).save(partial / "README.md")
    except OSError as error:
        raise UserError(f"--out {str(out)!r} cannot be written to ({error.strerror or error})") from error
    return out


def card(loaded: loading.LoadedModel, prepared: Prepared, content: Mapping[str, Any] | None, name: str) -> ModelCard:
    """The model card; with a record, its figures and an eval-results block."""
    data = ModelCardData(
        model_name=name,
        base_model=None if Path(loaded.entry.pretrained).is_dir() else loaded.entry.pretrained,
        library_name="transformers",
        tags=["memsplit", "weight-edit"],
        eval_results=_results(content) if content else None,
    )
    rows = "".join(f"| `{c.name}` | {c.kept} of {c.total} | {c.removed_norm:.4f} |\n" for c in prepared.changes)
    text = f"""---
{data.to_yaml()}
---
# {name}

`{loaded.entry.name}` after the weight edit `{prepared.spec}`, made with memsplit.

- base weights: `{loaded.weights}`{f", revision `{loaded.revision}`" if loaded.revision else ""}
- edited weights: `{prepared.weights_hash}`

| matrix | components kept | norm removed, of the matrix's |
| --- | --- | --- |
{rows}"""
    if content:
        text += f"\n## Figures\n\nSuite `{content['suite']}` ({content['fingerprint']}), record `{content['id']}`.\n\n"
        text += "| axis | metric | base | edited |\n| --- | --- | --- | --- |\n"
        for axis, metrics in content["axes"].items():
            for metric, value in metrics.items():
                text += f"| {axis} | {metric} | {content['base'][axis][metric]:.4f} | {value:.4f} |\n"
    return ModelCard(text, ignore_metadata_errors=False)


def _results(content: Mapping[str, Any]) -> list[EvalResult]:
    return [
        EvalResult(
            task_type="text-generation",
            dataset_type="memsplit",
            dataset_name=f"memsplit {content['suite']}",
            dataset_config=axis,
            dataset_revision=content["fingerprint"],
            metric_type=metric,
            metric_value=value,
        )
        for axis, metrics in content["axes"].items()
        for metric, value in metrics.items()
    ]
