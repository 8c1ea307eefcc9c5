"""The edits there are: one line beside each class, or an entry point in the group ``memsplit.edits``."""

from __future__ import annotations

import abc
import dataclasses
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeVar, get_args, get_origin, get_type_hints

from ..errors import UserError, unknown
from .spec import EditSpec, number
from .targets import format_layers, parse_layers, parse_proj

if TYPE_CHECKING:
    import torch

    from .curvature.factors import Factors
    from .material import Material

ENTRY_POINTS = "memsplit.edits"
COMMON = ("percent", "dial", "layers", "proj")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a method made of one weight.

    Attributes:
        weight: the new weight.
        kept: components kept.
        total: components there were.
    """

    weight: torch.Tensor
    kept: int
    total: int

    @classmethod
    def of(cls, weight: torch.Tensor, new: torch.Tensor, kept: int) -> Outcome:
        """Of keeping ``kept`` of as many components as there are weights: all or none of them to the last bit."""
        if kept in (0, weight.numel()):
            new = weight if kept else new.new_zeros(new.shape)
        return cls(weight=new, kept=kept, total=weight.numel())


@dataclasses.dataclass(frozen=True, kw_only=True)
class Edit(abc.ABC):
    """Base of all edits: the fields are the configuration, checked when built.

    A method adds its own fields (``int``, ``float``, ``str`` or ``Literal``); each is a key of the spec. Most methods
    look at one matrix at a time: see :class:`MatrixEdit`.

    Attributes:
        percent: what is kept of the method's budget (``budget``), 0 to 100; ``None`` where it has none.
        dial: what would be removed is multiplied by this; 0 removes it.
        layers: layers to edit; ``None`` is the model table's.
        proj: projections to edit; ``None`` is the model table's.
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    source: ClassVar[str] = ""
    budget: ClassVar[str | None] = None
    needs_factors: ClassVar[bool] = False
    needs_passages: ClassVar[bool] = False
    control: ClassVar[bool] = False
    """Whether it is what others are measured against: it removes as much, but not what they choose."""
    version: ClassVar[int] = 1
    """Of what it computes: raised with every change that changes its weights (``tests/golden`` holds them)."""
    targeted: ClassVar[bool] = True
    """Whether it edits the matrices of ``layers`` and ``proj``; else it finds its own, or none."""

    percent: float | None = None
    dial: float = 0.0
    layers: tuple[int, ...] | None = None
    proj: tuple[str, ...] | None = None

    @abc.abstractmethod
    def new_weights(self, model: torch.nn.Module, material: Material) -> Iterator[tuple[str, Outcome]]:
        """Each edited weight's name with its outcome, one at a time; the model is left as it is.

        The name is a parameter's, and the weight of its shape; or a matrix's of ``material.targets``, [out, in].

        Raises:
            UserError: the edit does not fit the model, or a file that it needs is missing or broken.
        """

    def factor_options(self) -> dict[str, str]:
        """How the factors that it needs are to be collected: ``{"labels": …}``; empty for the defaults."""
        return {}

    def needs_percent(self) -> bool:
        """Whether the edit cannot be made without a percent."""
        return self.budget is not None

    @property
    def spec(self) -> EditSpec:
        """The one spec of this edit; what equals a default is left out."""
        options = {}
        for field in self.option_fields():
            value = getattr(self, field.name)
            if value != field.default:
                options[field.name] = number(value) if isinstance(value, float) else str(value)
        if self.layers is not None:
            options["layers"] = format_layers(self.layers)
        if self.proj is not None:
            options["proj"] = "+".join(self.proj)
        return EditSpec(name=self.name, percent=self.percent, options=tuple(sorted(options.items())), dial=self.dial)

    @classmethod
    def usage(cls) -> dict[str, str]:
        """The method's keys, each with what it takes and, in brackets, its default."""
        keys = {"layers": "0+2-3 [the model's]", "proj": "gate+up [the model's]"} if cls.targeted else {}
        hints = get_type_hints(cls)
        for field in cls.option_fields():
            takes = "|".join(map(str, _options(hints[field.name])))
            default = "" if field.default is None else f" [{field.default}]"
            keys[field.name] = takes + (" (required)" if field.default is dataclasses.MISSING else default)
        return keys

    @classmethod
    def option_fields(cls) -> list[dataclasses.Field[Any]]:
        """The method's own keys."""
        return [field for field in dataclasses.fields(cls) if field.name not in COMMON]


class MatrixEdit(Edit):
    """Base of the edits that make each matrix anew from itself and its curvature."""

    @abc.abstractmethod
    def new_weight(self, weight: torch.Tensor, factors: Factors | None, name: str) -> Outcome:
        """The matrix after this edit; ``weight`` is left as it is.

        Args:
            weight: [out, in], float32 or wider.
            factors: the matrix's curvature where the method ``needs_factors``.
            name: the matrix's name, for seeding.
        """

    def new_weights(self, model: torch.nn.Module, material: Material) -> Iterator[tuple[str, Outcome]]:
        """Every target, one after the other; one without any curvature is left as it is, where that is needed."""
        for target in material.targets:
            weight, factors = target.matrix(model), None
            if self.needs_factors:
                factors = material.factors[target.name]
                if not factors.known:
                    yield target.name, Outcome.of(weight, weight, weight.numel())
                    continue
                factors = factors.to(weight.dtype)
            yield target.name, self.new_weight(weight, factors, target.name)


E = TypeVar("E", bound=type[Edit])
_EDITS: dict[str, type[Edit]] = {}


def register_edit(name: str) -> Callable[[E], E]:
    """Register the class below under ``name``.

    Raises:
        ValueError: the name is taken by another class.
    """

    def register(cls: E) -> E:
        if _EDITS.get(name, cls) is not cls:
            raise ValueError(f"edit {name!r} is registered already, by {_EDITS[name].__qualname__}")
        cls.name = name
        _EDITS[name] = cls
        return cls

    return register


def edits() -> Mapping[str, type[Edit]]:
    """Every edit by name: those built in and those of installed packages, in the order of their names.

    Raises:
        UserError: a package's edit cannot be imported, is no edit, or has a name that is taken.
    """
    return {name: find_edit(name) for name in edit_names()}


def edit_names() -> list[str]:
    """The names of every edit, sorted; nothing of other packages is imported."""
    from . import methods  # noqa: F401 (registers them)

    return sorted({*_EDITS, *(entry.name for entry in entry_points(group=ENTRY_POINTS))})


def find_edit(name: str) -> type[Edit]:
    """The edit of a name.

    Raises:
        UserError: there is none, with the nearest name; or it cannot be imported, is no edit, or its name is taken.
    """
    known = edit_names()
    if name not in known:
        raise unknown("edit", name, known)
    for entry in entry_points(group=ENTRY_POINTS, name=name):
        registered = _EDITS.get(name)
        if registered is None or f"{registered.__module__}:{registered.__qualname__}" != entry.value:
            _register(entry)
    return _EDITS[name]


def _register(entry: EntryPoint) -> None:
    whose = f"the edit {entry.name!r} of the package {entry.dist.name if entry.dist else entry.value!r}"
    try:
        cls = entry.load()
        if not (isinstance(cls, type) and issubclass(cls, Edit)):
            raise UserError(f"{whose} is no subclass of memsplit.model_edits.registry.Edit")
        register_edit(entry.name)(cls)
    except _UNUSABLE as error:
        raise UserError(f"{whose} cannot be used: {error}") from error


_UNUSABLE = (ImportError, AttributeError, SyntaxError, NameError, TypeError, ValueError, RuntimeError, OSError)
"""What importing somebody's module may raise."""


def chain_text(steps: Iterable[Edit]) -> str:
    """The one text of edits that are applied from left to right."""
    return "+".join(str(step.spec) for step in steps)


def build(spec: EditSpec, percent: Mapping[str, float] | None = None) -> Edit:
    """The edit of a spec.

    Args:
        spec: what to build.
        percent: the model table's percent by method, for a spec that gives none.

    Raises:
        UserError: unknown method or key, or a value that does not fit.
    """
    cls = find_edit(spec.name)
    values: dict[str, Any] = {"dial": spec.dial, "percent": spec.percent}
    if cls.budget is None and spec.percent is not None:
        raise UserError(f"bad edit '{spec}': {spec.name!r} takes no percent, found {number(spec.percent)!r}")
    if cls.budget is not None and spec.percent is None:
        values["percent"] = (percent or {}).get(spec.name)
    hints = get_type_hints(cls)
    keys = {field.name for field in cls.option_fields()} | ({"layers", "proj"} if cls.targeted else set())
    for key, text in spec.options:
        if key not in keys:
            expected = unknown("key", key, keys) if keys else f"{spec.name!r} takes no keys, found {key!r}"
            raise UserError(f"bad edit '{spec}': {expected}")
        values[key] = _value(spec, key, text, hints[key])
    for field in cls.option_fields():
        if field.default is dataclasses.MISSING and field.name not in values:
            raise UserError(f"bad edit '{spec}': {field.name}=… expected, as in {spec.name}:{field.name}=…")
    edit = cls(**values)
    if edit.percent is None and edit.needs_percent():
        raise UserError(f"bad edit '{spec}': a percent expected, as in {spec.name}-50 (the model's table gives none)")
    return edit


def _value(spec: EditSpec, key: str, text: str, hint: Any) -> Any:
    if key in ("layers", "proj"):
        try:
            return parse_layers(text) if key == "layers" else parse_proj(text)
        except UserError as error:
            raise UserError(f"bad edit '{spec}': {error}") from error
    options = _options(hint)
    if get_origin(hint) is Literal:
        if text not in options:
            raise UserError(f"bad edit '{spec}': {unknown(key, text, options)}")
        return text
    try:
        return _TYPES[options[0]](text)
    except ValueError:
        raise UserError(f"bad edit '{spec}': {text!r} found, expected {key}={options[0]}") from None


def _int(text: str) -> int:
    if not re.fullmatch("[0-9]{1,18}", text):
        raise ValueError(text)
    return int(text)


_TYPES: dict[str, Callable[[str], Any]] = {"int": _int, "float": float, "str": str}


def _options(hint: Any) -> list[str]:
    """What a key of this type takes: the words of a ``Literal``, or the type's name."""
    if get_origin(hint) is Literal:
        return list(get_args(hint))
    kinds = [kind for kind in get_args(hint) or (hint,) if kind is not type(None)]
    return [kind.__name__ for kind in kinds]
