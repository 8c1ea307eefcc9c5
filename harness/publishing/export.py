"""Write an edited model as a Hugging Face folder, with a card that says what was done to it and what it scored."""

from __future__ import annotations

import math
from pathlib import Path

from huggingface_hub import ModelCard, ModelCardData
from safetensors import SafetensorError

from ...errors import UserError
from ...files import replacing_folder
from ...model_edits import delta_file, registry
from ...results.records import record
from ...results.records.schema import RecordContent
from ..evaluation.editing import ModelEditor, Prepared
from ..evaluation.request import Request
from ..models import loading
from . import publish

MADE = "made with memsplit"
"""What the card of every exported model says."""


def export(request: Request, *, record_path: Path | None = None, delta: bool = False) -> Path:
    """Write weights (safetensors), config, generation config, tokenizer and card to a folder, whole or not at all.

    The weights have the dtype that they were edited and scored in, so that the folder scores what the edit scored.

    Args:
        request: the model, its one edit, and the folder ``out``; a folder that is there is replaced.
        record_path: a record of this edit, whose figures go into the card.
        delta: write only the changed weights, for the edit ``delta:path=…``, and the card.

    Returns:
        The folder.

    Raises:
        UserError: the edit cannot be made, the record is of another edit or of other weights, or the folder cannot be
            written.
    """
    (edit,), out = request.edits, request.out
    content = record.read(record_path).content if record_path else None
    entry = request.entry
    loaded = loading.load(entry, device=request.device, dtype=request.dtype, parallelize=request.parallelize)
    editor = ModelEditor(loaded, request.factor_tokens)
    chain = editor.chain(edit)
    spec = registry.chain_text(chain)
    if content and (content.spec, content.weights) != (spec, loaded.weights):
        raise UserError(
            f"the record {record_path} is of {content.spec} on {content.model} ({content.weights[:12]}), "
            f"expected {spec} on {loaded.entry.name} ({loaded.weights[:12]})"
        )
    prepared = editor.prepare(*chain)
    if content and content.edited_weights != prepared.weights_hash:
        raise UserError(f"the record {record_path} is of other curvature than this edit's: see its factors")
    try:
        with replacing_folder(out) as partial:
            with editor.applied(prepared):
                if not delta:
                    loaded.model.save_pretrained(partial)
                    loaded.tokenizer.save_pretrained(partial)
            if delta:
                delta_file.write(partial / delta_file.NAME, loaded.model, prepared.weights, spec)
            card(loaded, prepared, content, out.name, delta=delta).save(partial / "README.md")
    except (OSError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"--out {str(out)!r} cannot be written to ({reason})") from error
    return out


def is_ours(folder: Path) -> bool:
    """Whether a folder may be replaced: it is empty, or was exported before."""
    card = folder / "README.md"
    return folder.is_dir() and (not any(folder.iterdir()) or (card.is_file() and MADE in card.read_text("utf-8")))


def card(
    loaded: loading.LoadedModel, prepared: Prepared, content: RecordContent | None, name: str, *, delta: bool
) -> ModelCard:
    """The model card; where there is the content of a record, with its figures and as eval results."""
    data = ModelCardData(
        model_name=name,
        base_model=None if Path(loaded.entry.pretrained).is_dir() else loaded.entry.pretrained,
        library_name="transformers",
        tags=["memsplit", "weight-edit"],
        eval_results=publish.eval_results(content) if content else None,
    )
    rows = "".join(f"| `{c.name}` | {c.kept} of {c.total} | {c.removed_norm:.4f} |\n" for c in prepared.changes)
    use = f"    memsplit-eval --model {loaded.entry.name} --edit delta:path={name}\n" if delta else ""
    text = f"""---
{data.to_yaml()}
---
# {name}

`{loaded.entry.name}` after the weight edit `{prepared.spec}`, {MADE}.

- base weights: `{loaded.weights}`{f", revision `{loaded.revision}`" if loaded.revision else ""}
- edited weights: `{prepared.weights_hash}`

{use}
| matrix | components kept | norm removed, of the matrix's |
| --- | --- | --- |
{rows}"""
    if content:
        text += f"\n## Figures\n\nSuite `{content.suite}` ({content.fingerprint}), record `{content.id}`.\n\n"
        text += "| axis | metric | base | edited |\n| --- | --- | --- | --- |\n"
        for axis, metrics in content.edited.items():
            for metric, value in metrics.items():
                text += f"| {axis} | {metric} | {_figure(content.base[axis][metric])} | {_figure(value)} |\n"
    return ModelCard(text, ignore_metadata_errors=False)


def _figure(value: float) -> str:
    return "none" if math.isnan(value) else f"{value:.4f}"
