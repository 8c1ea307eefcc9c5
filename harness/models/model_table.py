"""The model table: names, where their weights are, and what an edit touches by default. Imports no torch.

Layers, projections, percent and token counts are chosen on the dev part only; ``docs/decisions.md`` has the sweeps.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...errors import UserError, unknown
from ...tasks import packs
from . import corpus

HOW = ("trust_remote_code", "dequantize")
"""The options, also those of :func:`resolve`, that say how the model and its reference are loaded."""
ORGANISMS = Path(__file__).parents[1] / "organism"


@dataclass(frozen=True, kw_only=True)
class ModelEntry:
    """A model's place and its defaults.

    Attributes:
        name: as the user gives it.
        pretrained: its hub id or folder.
        revision: branch, tag or commit of the hub's repository.
        trust_remote_code: whether code that comes with the model or its tokenizer is run.
        dequantize: whether weights that are quantized are dequantized when they are loaded.
        gguf_file: the file of the repository or folder that holds the model, if it is in GGUF.
        layers: the layers of an edit whose spec names none; ``None`` is the last quarter.
        proj: the projections of an edit whose spec names none; ``None`` is gate and up, or up alone without a gate.
        percent: by method, of a spec that gives none; by default the source work's headline setting.
        unseen: the name of its unseen counterpart, if it has one: the same model without the memorized passages.
        pack: its probe data, by name (see ``packs.find``).
        corpus: its calibration data, which factors are collected from (see ``corpus.find``).
        factor_tokens: how many tokens of the corpus they are collected from.
        factor_length: tokens a sequence.
        factor_draws: sampled labels for each of them.
        dtype: to compute in on an accelerator.
        summary: one line.
    """

    name: str
    pretrained: str
    revision: str | None = None
    trust_remote_code: bool = False
    dequantize: bool = False
    gguf_file: str | None = None
    layers: tuple[int, ...] | None = None
    proj: tuple[str, ...] | None = None
    percent: Mapping[str, float] = field(default_factory=lambda: {"kfac": 60})
    unseen: str | None = None
    pack: str = "world"
    corpus: str = "Salesforce/wikitext:wikitext-103-raw-v1:train:text"
    factor_tokens: int = 1_000_000
    factor_length: int = 512
    factor_draws: int = 1
    dtype: str = "auto"
    summary: str = ""


TINY = ModelEntry(
    name="olmo-tiny",
    pretrained=str(ORGANISMS / "olmo-tiny"),
    layers=(1, 2, 3),
    proj=("gate", "up"),
    percent={"kfac": 80},
    unseen="olmo-tiny-unseen",
    pack="olmo-tiny",
    corpus=corpus.PACK,
    factor_tokens=60_000,
    factor_length=128,
    factor_draws=4,
    dtype="float32",
    summary="1.9 M parameters, in the package; recites passages of its own world",
)
TABLE = (
    TINY,
    dataclasses.replace(
        TINY,
        name="olmo-tiny-unseen",
        pretrained=str(ORGANISMS / "olmo-tiny-unseen"),
        unseen=None,
        summary="the same, but trained without the passages: the floor that memory is measured from",
    ),
    ModelEntry(
        name="olmo-1b",
        pretrained="allenai/OLMo-2-0425-1B",
        pack="olmo-1b+world",
        corpus="allenai/dolmino-mix-1124:default:train:text",
        factor_tokens=20_000_000,
        dtype="bfloat16",
        summary="OLMo-2 1B, from the hub",
    ),
    ModelEntry(
        name="olmo-7b",
        pretrained="allenai/OLMo-2-1124-7B",
        pack="olmo-7b+world",
        corpus="allenai/dolmino-mix-1124:default:train:text",
        factor_tokens=20_000_000,
        dtype="bfloat16",
        summary="OLMo-2 7B, from the hub",
    ),
)


def resolve(
    name: str,
    pack: str | None = None,
    corpus_name: str | None = None,
    *,
    revision: str | None = None,
    trust_remote_code: bool = False,
    dequantize: bool = False,
) -> ModelEntry:
    """The entry of a table name, a local folder or GGUF file, or a hub id.

    Args:
        name: the model.
        pack: takes the place of the table's, and its corpus too where it has one.
        corpus_name: takes the place of the table's or the pack's corpus.
        revision: takes the place of the table's.
        trust_remote_code: whether code that comes with the model is run.
        dequantize: whether quantized weights are dequantized.

    Raises:
        UserError: no such model, with the nearest name; no such pack or corpus; or a revision of a local folder.
    """
    entry = dataclasses.replace(_named(name), trust_remote_code=trust_remote_code, dequantize=dequantize)
    if revision == "":
        raise UserError("bad revision '': expected a branch, tag or commit of the hub's repository")
    if revision is not None:
        if Path(entry.pretrained).is_dir():
            raise UserError(
                f"bad revision {revision!r}: {name!r} is a folder here, expected a hub id to have revisions"
            )
        entry = dataclasses.replace(entry, revision=revision)
    if pack is not None:
        has_corpus = packs.find(pack).has("corpus")
        entry = dataclasses.replace(entry, pack=pack, corpus=corpus.PACK if has_corpus else entry.corpus)
    if corpus_name is not None:
        corpus.find(corpus_name, entry.pack)
        entry = dataclasses.replace(entry, corpus=corpus_name)
    return entry


def _named(name: str) -> ModelEntry:
    for entry in TABLE:
        if entry.name == name:
            return entry
    path = Path(name).expanduser()
    if name.endswith(".gguf") and path.is_file():
        return ModelEntry(name=name, pretrained=str(path.parent), gguf_file=path.name)
    if name and path.is_dir():
        if not (path / "config.json").is_file():
            raise UserError(f"the folder {name!r} is no model: expected a config.json in it")
        return ModelEntry(name=name, pretrained=str(path))
    if not name.startswith((".", "/", "~")):
        owner, _, rest = name.partition("/")
        repository, _, file = rest.partition("/")
        if owner and repository and (not file or file.endswith(".gguf")):
            return ModelEntry(name=name, pretrained=f"{owner}/{repository}", gguf_file=file or None)
    expected = [*(entry.name for entry in TABLE), "a folder", "a GGUF file", "a hub id OWNER/NAME"]
    raise unknown("model", name, expected)


def place(entry: ModelEntry) -> str:
    """Where others find the model: its hub id or folder, ``memsplit`` for one that comes with the package."""
    return "memsplit" if Path(entry.pretrained).parent == ORGANISMS else entry.pretrained


def local_config(entry: ModelEntry) -> dict[str, Any] | None:
    """The model's ``config.json`` where it lies in a local folder, else ``None``.

    Raises:
        UserError: the file is not JSON.
    """
    path = Path(entry.pretrained) / "config.json"
    if not path.is_file():
        return None
    try:
        config: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is not JSON ({error})") from error
    if not isinstance(config, dict):
        raise UserError(f"{path} is no object: expected a model's configuration")
    return config


def layer_count(config: Mapping[str, Any]) -> int | None:
    """The number of layers that a config states, whatever its architecture calls it; ``None`` where it states none.

    Of a config that nests another one for text, that one's.
    """
    for nested in ("text_config", "decoder", "generator"):
        if isinstance(config.get(nested), Mapping):
            return layer_count(config[nested])
    for key in ("num_hidden_layers", "n_layer", "num_layers", "n_layers"):
        if isinstance(config.get(key), int):
            return int(config[key])
    return None


def default_layers(n_layers: int) -> tuple[int, ...]:
    """The last quarter of the layers, but at most three that end two before the last; for models without an entry.

    The source work edits a few late layers and none of the very last.
    """
    last = max(0, n_layers - 1 - n_layers // 12)
    first = max(0, last - max(0, min(3, n_layers // 4) - 1))
    return tuple(range(first, last + 1))
