"""The contract of an edit: the base classes of all methods.

Shapes: a weight is [out, in]; a are a layer's inputs, g the gradients of the loss at its outputs.
"""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Iterator
from typing import Any, ClassVar, Literal, NamedTuple, get_type_hints

from ..errors import UserError
from .curvature.factors import Factors
from .inputs import EditInputs
from .lazy import torch
from .option_values import accepted
from .spec import EditSpec, number
from .target_names import format_layers

COMMON = ("percent", "dial", "layers", "proj")
"""The fields that every edit has."""
Statistic = Literal["kfac", "ekfac", "aaT_diag"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class EditedWeight:
    """A new weight, and how many of its components the edit kept.

    Attributes:
        weight: the new weight.
        kept: number of components kept.
        total: number of components before the edit.
    """

    weight: torch.Tensor
    kept: int
    total: int

    @classmethod
    def of_mask(cls, weight: torch.Tensor, new: torch.Tensor, kept: int) -> EditedWeight:
        """``new``, made by an ablation mask that keeps ``kept`` of as many components as ``weight`` has entries.

        Where the mask keeps all components or none, the new weight is ``weight`` itself or zero, without rounding.
        """
        if kept in (0, weight.numel()):
            new = weight if kept else new.new_zeros(new.shape)
        return cls(weight=new, kept=kept, total=weight.numel())


class TrainingCost(NamedTuple):
    """How many tokens an edit reads if its training does not stop early, padding not included.

    Attributes:
        trained: tokens of forward and backward passes.
        scored: tokens of forward passes alone.
    """

    trained: int = 0
    scored: int = 0

    @property
    def forward_tokens(self) -> int:
        """Tokens whose forward passes take as long: a backward pass takes about as long as two forward passes."""
        return 3 * self.trained + self.scored


@dataclasses.dataclass(frozen=True, kw_only=True)
class Edit(abc.ABC):
    """Base class of all edits. The fields of an instance are its configuration.

    A method adds its own fields, of type ``int``, ``float``, ``str`` or a ``Literal`` of words; each is a key of the
    spec. A method that computes each matrix by itself derives from :class:`MatrixEdit`, or from :class:`CurvatureEdit`
    if it needs curvature.

    Attributes:
        percent: how much of the method's ``budget`` is kept, 0 to 100; ``None`` if the method has no budget.
        dial: factor that multiplies what the edit removes; 0 removes it, 1 is the base model.
        layers: layers to edit; ``None`` stands for the model table's (see ``everywhere``).
        proj: projections to edit; ``None`` stands for the model table's (see ``everywhere``).
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    """One line for listings."""
    source: ClassVar[str] = ""
    """The publication of the method."""
    version: ClassVar[int] = 1
    """Version of what the edit computes: raised with every change of its weights (``tests/golden/edits.json``)."""
    budget: ClassVar[str | None] = None
    """What PERCENT is a percentage of; ``None`` if the spec takes no percent."""
    statistic: ClassVar[Statistic | None] = None
    """The curvature statistic that the edit needs: ``kfac`` (E[a aᵀ] and E[g gᵀ]), ``ekfac`` (``kfac`` and the
    curvature of each component) or ``aaT_diag`` (E[a²], from forward passes alone)."""
    needs_forget_set: ClassVar[bool] = False
    """Whether the edit is given memorized sequences and other text, to train on."""
    control: ClassVar[bool] = False
    """Whether the edit is a control: what it removes is chosen at random, as much as another edit removes."""
    attack: ClassVar[bool] = False
    """Whether the edit tries to bring back what an edit before it in a chain has removed."""
    idempotent: ClassVar[bool] = False
    """Whether the edit, with its default options, changes nothing when it is applied a second time."""
    targeted: ClassVar[bool] = True
    """Whether the edit changes the matrices that ``layers`` and ``proj`` name; if not, it takes neither key."""
    everywhere: ClassVar[bool] = False
    """Whether a targeted edit changes every linear map of the model's layers where its spec gives neither ``layers``
    nor ``proj``. Where it gives one of them, the other is the model table's."""

    percent: float | None = None
    dial: float = 0.0
    layers: tuple[int, ...] | None = None
    proj: tuple[str, ...] | None = None

    @abc.abstractmethod
    def new_weights(self, model: torch.nn.Module, inputs: EditInputs) -> Iterator[tuple[str, EditedWeight]]:
        """The new weights, one at a time, each with its name. The model is not changed.

        A name is that of a target in ``inputs.targets``, whose weight is [out, in], or that of a parameter, whose
        weight has the parameter's shape.

        Raises:
            UserError: the edit does not fit the model, or a file that it needs is missing or broken.
        """

    @property
    def share(self) -> float:
        """The share of the budget that is kept, 0 to 1: ``percent`` divided by 100.

        Raises:
            UserError: there is no percent, or it is not between 0 and 100.
        """
        if self.percent is None or not 0 <= self.percent <= 100:
            raise UserError(f"bad edit '{self.spec}': expected a percent from 0 to 100, as in {self.name}-50")
        return self.percent / 100

    @property
    def on_all(self) -> bool:
        """Whether the edit's matrices are every linear map of the model's layers."""
        return self.everywhere and not (self.layers or self.proj)

    def training_cost(self, inputs: EditInputs) -> TrainingCost | None:
        """What training on these inputs reads; ``None`` if it is not known beforehand. Factors are not used."""
        return None if self.needs_forget_set else TrainingCost()

    def factor_options(self) -> dict[str, str | int]:
        """Arguments of the factors beside model and text: ``statistic``, and the labels of the gradients."""
        return {} if self.statistic in (None, "kfac") else {"statistic": str(self.statistic)}

    def needs_percent(self) -> bool:
        """Whether the edit cannot be computed without a percent."""
        return self.budget is not None

    @property
    def spec(self) -> EditSpec:
        """The canonical spec of this edit, without the values that equal a default."""
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
        """The keys of the method's spec, each with the values it accepts and, in brackets, its default."""
        default = "every linear map" if cls.everywhere else "the model's"
        keys = {"layers": f"such as 0+2-3 [{default}]", "proj": f"gate+up [{default}]"} if cls.targeted else {}
        hints = get_type_hints(cls)
        for field in cls.option_fields():
            values = "|".join(map(str, accepted(hints[field.name])))
            default = "" if field.default is None else f" [{field.default}]"
            keys[field.name] = values + (" (required)" if field.default is dataclasses.MISSING else default)
        return keys

    @classmethod
    def option_fields(cls) -> list[dataclasses.Field[Any]]:
        """The fields that the method adds to those of every edit."""
        return [field for field in dataclasses.fields(cls) if field.name not in COMMON]


class MatrixEdit(Edit):
    """Base class of edits that compute each new matrix from the matrix alone."""

    @abc.abstractmethod
    def new_weight(self, weight: torch.Tensor, name: str) -> EditedWeight:
        """The new matrix. ``weight`` is not changed.

        Args:
            weight: the matrix [out, in], float32 or wider.
            name: the matrix's name, from which a random choice takes its seed.
        """

    def new_weights(self, model: torch.nn.Module, inputs: EditInputs) -> Iterator[tuple[str, EditedWeight]]:
        """The new weight of every target."""
        for target in inputs.targets:
            yield target.name, self.new_weight(target.matrix(model), target.name)


class CurvatureEdit(Edit):
    """Base class of edits that compute each new matrix from the matrix and its curvature."""

    statistic: ClassVar[Statistic | None] = "kfac"

    @abc.abstractmethod
    def new_weight(self, weight: torch.Tensor, factors: Factors, name: str) -> EditedWeight:
        """The new matrix. ``weight`` is not changed.

        Args:
            weight: the matrix [out, in], float32 or wider.
            factors: the matrix's curvature, with what ``statistic`` names.
            name: the matrix's name, from which a random choice takes its seed.
        """

    def new_weights(self, model: torch.nn.Module, inputs: EditInputs) -> Iterator[tuple[str, EditedWeight]]:
        """The new weight of every target; an expert that saw no token has no curvature and is not changed."""
        for target in inputs.targets:
            weight, factors = target.matrix(model), inputs.factors[target.name]
            if factors.known:
                yield target.name, self.new_weight(weight, factors.to(weight.dtype), target.name)
            else:
                yield target.name, EditedWeight.of_mask(weight, weight, weight.numel())
