"""Any other weights of the same architecture: a fine-tune, an earlier step, somebody's unlearned model."""

from __future__ import annotations

import difflib
import logging
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...errors import UserError
from ..architecture.context import context_length
from ..inputs import EditInputs
from ..lazy import torch
from ..pretrained import load_model
from ..registry import Edit, EditedWeight, register_edit

TOKENS, LONGEST = 128, 1024
"""Random tokens on which a checkpoint's own model and the base with its weights must give the same logits: beyond the
largest window of attention that either names, and in all at most."""
_WINDOW = "window|chunk|layer_types"
ADDED = 256
"""Rows of embeddings, at most, that a resize for added tokens leaves: a token or two, and up to a round number."""
log = logging.getLogger("memsplit")


@register_edit("checkpoint")
@dataclass(frozen=True, kw_only=True)
class Checkpoint(Edit):
    """Replaces every weight of the model by that of another checkpoint.

    Attributes:
        path: a folder or hub id.
        revision: branch, tag or commit of the hub's repository.
    """

    summary = "the weights of another checkpoint of the same architecture: a folder or hub id"
    targeted = False

    path: str
    revision: str | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "path", checked_path(self.path, "config.json"))

    def new_weights(self, model: torch.nn.Module, inputs: EditInputs) -> Iterator[tuple[str, EditedWeight]]:
        """Every parameter; an embedding's rows of tokens that the base does not have are left out."""
        where = {"revision": self.revision} if self.revision else {}
        where |= {"device_map": "auto"} if hasattr(model, "hf_device_map") else {}
        other = load_model(self.path, "checkpoint", dtype=next(model.parameters()).dtype, **where)
        weights = _without_added_tokens(model, other, self.path)
        check_names(model, weights, self.path)
        _check_function(model, other, weights, self.path)
        return replaced(model, weights, self.path)


def _without_added_tokens(model: Any, other: Any, path: str) -> dict[str, torch.Tensor]:
    """The other model's parameters, those of embeddings and head with as many rows as the model's embeddings have.

    A checkpoint of fewer rows, or of more than :data:`ADDED` more, is left as it is.
    """
    rows, its_rows = (m.get_input_embeddings().weight.shape[0] for m in (model, other))
    weights = dict(other.named_parameters(remove_duplicate=False))
    if not rows < its_rows <= rows + ADDED:
        return weights
    log.warning("%r has %d more tokens than the base: they are left out", path, its_rows - rows)
    tables = [table for table in (other.get_input_embeddings(), other.get_output_embeddings()) if table is not None]
    cut = {id(parameter) for table in tables for parameter in table.parameters()}
    return {name: weight[:rows] if id(weight) in cut else weight for name, weight in weights.items()}


def _check_function(model: Any, other: Any, weights: Mapping[str, torch.Tensor], path: str) -> None:
    """Whether the model computes with these weights what the checkpoint's own model does.

    Shapes do not tell it: a base of another rotary frequency or normalization would compute something else with the
    same weights, and most other keys of a configuration change nothing. A window of attention shows beyond it alone,
    so that the text is longer than the windows of both, up to :data:`LONGEST`; what may show beyond that is told.

    Raises:
        UserError: the checkpoint's logits are not finite, or those of the two differ (see :func:`_differ`).
    """
    own, its = (each.config.get_text_config().to_dict() for each in (model, other))
    window = max([0, *_windows(own), *_windows(its)])
    context = min(context_length(each.config, each) or LONGEST + 1 for each in (model, other))
    n = min(context, LONGEST, window + TOKENS if window < LONGEST else TOKENS)
    vocabulary = model.get_input_embeddings().weight.shape[0]
    ids = torch.randint(vocabulary, (1, n), generator=torch.Generator().manual_seed(0)).to(model.device)
    if _differ(model, other, weights, ids, path):
        raise UserError(
            f"{path!r} is of another architecture: its weights give other logits in the base; "
            f"the configurations differ in {_differing(model.config.to_dict(), other.config.to_dict())}"
        )
    hidden = "rope" if n > window else f"rope|{_WINDOW}"
    unseen = [{k: v for k, v in config.items() if re.search(hidden, k) and k[0] != "_"} for config in (own, its)]
    if n < context and unseen[0] != unseen[1]:
        told = _differing(*unseen)
        log.warning("%r gives the base's logits on %d tokens; on longer texts these may matter: %s", path, n, told)


def _windows(config: Mapping[str, Any]) -> list[int]:
    """The lengths that a configuration has under names of windows."""
    found = (value for key, value in config.items() if re.search(_WINDOW, key))
    return [value for value in found if isinstance(value, int) and not isinstance(value, bool)]


def _differ(model: Any, other: Any, weights: Mapping[str, torch.Tensor], ids: torch.Tensor, path: str) -> bool:
    """Whether the logits of a text differ by a thousandth of their spread, by their norms.

    Both models compute on the first one's device, with its kind of attention. Where the logits are not the same to the
    last bit, those of types narrower than float32 are computed again in float32, so that rounding counts for nothing;
    if the device's memory does not hold that, they may differ by a twentieth.

    Raises:
        UserError: the other model's logits are not finite.
    """
    if not hasattr(other, "hf_device_map"):
        other.to(model.device)
    other.set_attn_implementation(model.config._attn_implementation)
    allowed = 1e-3
    found, expected = _both(model, other, weights, ids)
    if torch.equal(found, expected):
        return False
    if not bool(expected.isfinite().all()):
        raise UserError(f"the logits of {path!r} are not finite: expected a model that computes numbers")
    if model.dtype.itemsize < 4:
        try:
            found, expected = _both(model, other, weights, ids, wide=True)
        except torch.OutOfMemoryError:
            allowed = 0.05
    spread = _norm(expected.float() - expected.mean(dtype=torch.float64))
    return not _norm(found.float() - expected.float()) <= allowed * spread


def _both(
    model: Any, other: Any, weights: Mapping[str, torch.Tensor], ids: torch.Tensor, *, wide: bool = False
) -> tuple[torch.Tensor, torch.Tensor]:
    """The logits of a text in the model with these weights, and in the other one, of the tokens that both have.

    Args:
        model: the base, which is left as it is.
        other: the checkpoint's own model, likewise.
        weights: the other model's, with as many rows of embeddings as the base has.
        ids: the text.
        wide: compute in float32.
    """
    from ..apply import applied  # which imports torch

    its = dict(other.named_parameters(remove_duplicate=False))
    if wide:
        its = {name: weight.float() if weight.is_floating_point() else weight for name, weight in its.items()}
    cut = {name: its[name][: weight.shape[0]] if weight.ndim else its[name] for name, weight in weights.items()}
    put = {name: weight.detach().to(model.get_parameter(name).device) for name, weight in cut.items()}
    logits = []
    for each, given in ((model, put), (other, its)):
        with applied(each, {name: weight.detach() for name, weight in given.items()}):
            logits.append(each(ids, use_cache=False).logits.cpu())
    vocabulary = model.get_input_embeddings().weight.shape[0]
    return logits[0][..., :vocabulary], logits[1][..., :vocabulary]


def _norm(difference: torch.Tensor) -> float:
    return float(torch.linalg.vector_norm(difference, dtype=torch.float64))


def _differing(own: Mapping[str, Any], its: Mapping[str, Any]) -> str:
    """The keys that differ, each with its values."""
    keys = [key for key in sorted(own.keys() | its.keys()) if not key.startswith("_") and own.get(key) != its.get(key)]
    return ", ".join(f"{key} ({its.get(key)}, not {own.get(key)})" for key in keys)[:300] or "nothing that they tell"


def checked_path(path: str, *files: str) -> str:
    """The path, with ``~`` expanded, if it is a folder or may be a hub id. Nothing is loaded.

    Args:
        path: a folder or hub id.
        files: patterns of files, of each of which the folder must hold at least one.

    Raises:
        UserError: the path is neither, or the folder lacks a file.
    """
    path = str(Path(path).expanduser()) if path.startswith("~") else path
    here = Path(path)
    if here.is_dir():
        for pattern in files:
            if not any(here.glob(pattern)):
                raise UserError(f"bad path {path!r}: it holds no {pattern}")
    elif here.exists() or here.parent.is_dir() or not re.fullmatch(r"[\w-][\w.-]*/[\w.-]+", path):
        near = difflib.get_close_matches(here.name, [p.name for p in here.parent.glob("*") if p.is_dir()], n=1)
        hint = f"; did you mean {str(here.with_name(near[0]))!r}?" if near else ""
        raise UserError(f"bad path {path!r}: expected a folder that is there, or a hub id OWNER/NAME{hint}")
    return path


def check_names(model: torch.nn.Module, other: Mapping[str, torch.Tensor], path: str) -> None:
    """Whether ``other`` has the model's parameters.

    Further names of a parameter (see ``apply.other_names``) may be there or not: an output head that is the embeddings
    in the model may be one of its own in ``other``.

    Raises:
        UserError: a name or shape differs.
    """
    own = dict(model.named_parameters())
    every = dict(model.named_parameters(remove_duplicate=False))
    for name in sorted((own.keys() - other.keys()) | (other.keys() - every.keys())):
        whose = "the model" if name in own else repr(path)
        raise UserError(f"{path!r} is of another architecture: only {whose} has {name}")
    for name in (name for name in every if name in other):
        found, expected = tuple(other[name].shape), tuple(every[name].shape)
        if found != expected:
            raise UserError(f"{path!r} is of another architecture: {name} is {found}, expected {expected}")


def replaced(
    model: torch.nn.Module, other: Mapping[str, torch.Tensor], path: str
) -> Iterator[tuple[str, EditedWeight]]:
    """The parameters of ``other`` in place of the model's; weights that are equal count as kept.

    Raises:
        UserError: as :func:`check_names`.
    """
    check_names(model, other, path)
    for name, weight in model.named_parameters(remove_duplicate=False):
        if name in other:
            new = other[name].detach().to(weight.device)
            yield name, EditedWeight(weight=new, kept=int((new == weight).sum()), total=weight.numel())
