"""Which role each linear map of a block plays: by what it reads and writes, and among maps of equal shape by its name.

An MLP is a module whose maps lead from the hidden width to an inner one and back: one map in (up), or two of equal
shape (gate and up), or one of twice the inner width that holds both; and one out (down). An attention is a module
with maps named for query, key and value, or with one that holds them together; what is left and named as an output,
or is left alone, is its output map (o). A module that holds a convolution is neither: it mixes positions otherwise.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple

from ..lazy import torch
from ..target_names import SETS
from .linear_maps import LinearMap, holds_convolution

MLP, ATTENTION = SETS
SHARED = "shared_"
"""Prefix of the roles of an expert that reads every position, beside experts that do not."""
_NAMES = {
    **dict.fromkeys(("q", "query", "q_attn"), "q"),
    **dict.fromkeys(("k", "key"), "k"),
    **dict.fromkeys(("v", "value"), "v"),
    **dict.fromkeys(("o", "out", "output", "dense", "c"), "o"),
    **dict.fromkeys(("qkv", "query_key_value", "c_attn"), "qkv"),
}
"""What attention maps are called, without ``W`` before and ``_proj`` or ``_linear`` behind."""
_DOWN = ("down", "output", "fc2", "fc_out", "c_proj", "w2", "4h_to_h")
"""Parts of the names of down projections, where shapes do not tell them."""
_HEADS, _BLOCKS, _QUARTERS, _KEY_VALUE = "heads", "blocks", "quarters", "key_value"
_LAYOUTS = {
    **dict.fromkeys(("phi3", "mpt", "gpt2", "openai", "dbrx"), _BLOCKS),
    **dict.fromkeys(("gpt_neox", "gpt_neox_japanese", "bloom", "falcon", "persimmon", "gpt_bigcode"), _HEADS),
    "codegen": _QUARTERS,
    "jetmoe": _KEY_VALUE,
}
"""How the rows of query, key and value lie in a map that holds them together, by the model's source in transformers.

``blocks``: all of query, all of key, all of value. ``heads``: the same for each key head in turn, whose queries may be
several. ``quarters``: in each of four parts query, value, key. ``key_value``: all of key, all of value. The map of
another model is not divided.
"""


class Rows(NamedTuple):
    """Rows of a matrix, and outputs of its map: in each group of ``group`` in turn, those from ``start`` to ``stop``.

    Attributes:
        group: rows of a group, which divides the number of all rows.
        start: the first row within a group.
        stop: the first row after it.
    """

    group: int
    start: int
    stop: int

    def of(self, W_oi: torch.Tensor) -> torch.Tensor:
        """These rows of a matrix [out, in], as [groups, rows, in]: a view."""
        return W_oi.view(-1, self.group, W_oi.shape[1])[:, self.start : self.stop]

    def outputs(self, y_no: torch.Tensor) -> torch.Tensor:
        """These columns of outputs [n, out]."""
        return y_no.reshape(*y_no.shape[:-1], -1, self.group)[..., self.start : self.stop].flatten(-2)


class Role(NamedTuple):
    """What a map is for.

    Attributes:
        map: the map.
        part_of: ``mlp``, ``attn`` or, for any other linear map, empty.
        roles: its role; two or three with their rows if it holds several; none where none can be told.
    """

    map: LinearMap
    part_of: str = ""
    roles: tuple[tuple[str, Rows | None], ...] = ()


def roles_of(block: torch.nn.Module, maps: Sequence[LinearMap], config: Any, hidden: int) -> list[Role]:
    """The role of every map of a block, in the order of the maps.

    Args:
        block: the block.
        maps: all of its linear maps.
        config: the text decoder's configuration.
        hidden: width of what the blocks pass on.
    """
    inside: dict[str, list[LinearMap]] = {}
    for each in maps:
        inside.setdefault(each.container, []).append(each)
    found: dict[str, Role] = {}
    attentions = [
        path
        for path, members in inside.items()
        if _is_attention(path, members) and not holds_convolution(block.get_submodule(path))
    ]
    for path in attentions:
        members = [each for each in maps if _within(each.container, path)]
        found |= _attention(block.get_submodule(path), path, members, config)
    left = {path: members for path, members in inside.items() if not any(_within(path, a) for a in attentions)}
    mlps = {path: roles for path, members in left.items() if (roles := _mlp(block, path, members, maps, hidden))}
    if len(mlps) > 1:
        mlps.pop("", None)
    has_experts = any(role.map.experts for roles in mlps.values() for role in roles) or any(
        part.isdigit() for path in mlps for part in path.split(".")
    )
    for path, roles in mlps.items():
        shared = has_experts and "shared" in path and not any(role.map.experts for role in roles)
        found |= {role.map.path: _shared(role) if shared else role for role in roles}
    return [found.get(each.path, Role(each)) for each in maps]


def _within(path: str, container: str) -> bool:
    return path == container or path.startswith(f"{container}.")


def _name(each: LinearMap) -> str:
    """What an attention map's name says: ``q``, ``k``, ``v``, ``o``, ``qkv`` or, beginning so, ``kv``; or nothing."""
    text = each.leaf.removesuffix("_proj").removesuffix("_linear")
    text = text[1:] if text[:1] in ("W", "w") and text[1:] in _NAMES else text
    return "kv" if text.startswith("kv") else _NAMES.get(text, "")


def _is_attention(path: str, members: Sequence[LinearMap]) -> bool:
    names = {_name(each) for each in members}
    return not ("cross" in path or "encoder" in path) and ({"q", "k", "v"} <= names or bool({"qkv", "kv"} & names))


def _attention(module: Any, path: str, members: Sequence[LinearMap], config: Any) -> dict[str, Role]:
    """The roles of an attention's maps, by their paths: its own, and those of experts within; not of a router there."""
    members = [each for each in members if each.container == path or each.experts]
    named = {each.path: _name(each) for each in members}
    nameless = [each for each in members if not each.experts and not named[each.path]]
    if "o" not in named.values() and len(nameless) == 1:
        named[nameless[0].path] = "o"
    found = {}
    width = next((each.fan_in for each in members if named[each.path] == "o"), 0)
    for each in members:
        name = named[each.path] or ("q" if each.experts and "q" not in named.values() else "")
        roles: tuple[tuple[str, Rows | None], ...] = ((name, None),) if name in ("q", "k", "v", "o") else ()
        if name in ("qkv", "kv"):
            roles = _divided(module, each, width, config)
        found[each.path] = Role(each, ATTENTION, roles)
    return found


def _divided(module: Any, fused: LinearMap, query: int, config: Any) -> tuple[tuple[str, Rows | None], ...]:
    """The rows of query (``query`` of them in all), key and value; nothing where their layout is not known."""
    layout = _LAYOUTS.get(type(module).__module__.rpartition(".")[2].removeprefix("modeling_"))
    size, key = fused.fan_out, (fused.fan_out - query) // 2
    if layout == _KEY_VALUE:
        return ("k", Rows(size, 0, size // 2)), ("v", Rows(size, size // 2, size))
    if layout == _QUARTERS:
        part = size // 12
        return tuple((name, Rows(size // 4, n * part, (n + 1) * part)) for n, name in ((0, "q"), (2, "k"), (1, "v")))
    if layout == _HEADS:
        head = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        size, key = size // max(key // head, 1), head
    if layout is None or key < 1 or fused.fan_out % size:
        return ()
    return (
        ("q", Rows(size, 0, size - 2 * key)),
        ("k", Rows(size, size - 2 * key, size - key)),
        ("v", Rows(size, size - key, size)),
    )


def _mlp(
    block: torch.nn.Module, path: str, members: Sequence[LinearMap], maps: Sequence[LinearMap], hidden: int
) -> list[Role]:
    """The roles of a module's maps if it is an MLP, else nothing."""
    if holds_convolution(block.get_submodule(path)) or len({each.experts for each in members}) > 1:
        return []
    if path and any(each.experts and each.container.startswith(f"{path}.") for each in maps):
        return []
    members = _upright(members, hidden)
    down = [each for each in members if each.fan_out == hidden and _leads_out(each, hidden)]
    into = [each for each in members if each.fan_in == hidden and each not in down]
    if len(down) != 1 or len(into) != len(members) - 1:
        return []
    inner, widths = down[0].fan_in, [each.fan_out for each in into]
    roles: list[Role] = []
    if widths == [inner]:
        roles = [Role(into[0], MLP, (("up", None),))]
    elif widths == [2 * inner]:
        halves = (Rows(2, 0, 1), Rows(2, 1, 2)) if into[0].interleaved else _halves(inner, into[0].leaf)
        roles = [Role(into[0], MLP, (("gate", halves[0]), ("up", halves[1])))]
    elif widths == [inner, inner] and (gate := _gate(into)):
        roles = [Role(each, MLP, (("gate" if each is gate else "up", None),)) for each in into]
    return [*roles, Role(down[0], MLP, (("down", None),))] if roles else []


def _upright(members: Sequence[LinearMap], hidden: int) -> Sequence[LinearMap]:
    """Stacked maps, read as [experts, in, out] where only so they are an MLP with fused gates, unless they say how."""
    if not members[0].experts or members[0].declared:
        return members
    turned = [dataclasses.replace(m, fan_in=m.fan_out, fan_out=m.fan_in, transposed=not m.transposed) for m in members]
    fits = [
        {(hidden, 2 * down.fan_in), (down.fan_in, hidden)} == {(m.fan_in, m.fan_out) for m in each}
        for each in (members, turned)
        for down in each
    ]
    half = len(fits) // 2
    return turned if any(fits[half:]) and not any(fits[:half]) else members


def _leads_out(each: LinearMap, hidden: int) -> bool:
    """Whether a map that writes the hidden width reads another one, or is called a down projection."""
    return each.fan_in != hidden or any(part in each.leaf for part in _DOWN)


def _halves(inner: int, leaf: str) -> tuple[Rows, Rows]:
    """The rows of gate and up: gate above up, unless the name has them the other way round."""
    above, below = Rows(2 * inner, 0, inner), Rows(2 * inner, inner, 2 * inner)
    return (below, above) if "up_gate" in leaf else (above, below)


def _gate(into: Sequence[LinearMap]) -> LinearMap | None:
    """Which of two maps of equal shape is the gate: that with the word in its name, or Llama's ``w1`` beside ``w3``."""
    named = [each for each in into if "gate" in each.leaf]
    if not named and {each.leaf for each in into} == {"w1", "w3"}:
        named = [each for each in into if each.leaf == "w1"]
    return named[0] if len(named) == 1 else None


def _shared(role: Role) -> Role:
    return role._replace(roles=tuple((SHARED + name, rows) for name, rows in role.roles))
