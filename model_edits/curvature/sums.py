"""Running sums over positions, which a killed collection continues from and which several processes add up.

Shapes: n = positions of one batch, i = in, o = out.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import distributed

from ...files import replacing
from .. import tensor_file

Moments = Callable[[torch.Tensor, torch.Tensor], dict[str, tuple[torch.Tensor, torch.Tensor]]]
"""From the inputs a [n, i] and one draw of the gradients g [n, o] of one batch to pairs (left, right) by name, whose
products ``leftᵀ right`` are summed. In a collection from forward passes alone g is [n, 0]."""
OF_INPUTS = ("aaT", "aaT_diag")
"""Moments of the inputs alone, which are the same at every draw of the gradients."""
SAVE_EVERY_S = 60.0
"""Seconds between two writes of partial sums; more if one write takes over a twentieth of that."""
SPLIT_FROM = 1024
"""Order of a symmetric sum from which four products of parts are faster than one product of the whole."""
log = logging.getLogger("memsplit")


class Sums:
    """Sums of one matrix: in float32 on the model's device, regularly added to float64 totals on the CPU.

    Beside its total each sum has a *contrast*, to which every other addition comes with a minus: what the two halves of
    the positions differ by, and so the spread of the total.

    Args:
        of: the products that are summed.
        shapes: the shape of each sum, by name.
        device: device of the sums in float32.
        symmetric: whether every product is ``xᵀ x``; only the upper half is then computed.
    """

    def __init__(
        self, of: Moments, shapes: Mapping[str, tuple[int, int]], device: torch.device, *, symmetric: bool
    ) -> None:
        self.of = of
        self.running = {name: torch.zeros(shape, device=device) for name, shape in shapes.items()}
        self.totals = {name: torch.zeros(shape, dtype=torch.float64) for name, shape in shapes.items()}
        self.contrasts = {name: torch.zeros(shape) for name, shape in shapes.items()}
        self.positions = torch.zeros(2, dtype=torch.int64)
        self.new_positions = 0
        self.symmetric = symmetric

    def add(self, a_ni: torch.Tensor, g_no: torch.Tensor, *, again: bool = False) -> None:
        """Add one batch, or a further draw of the gradients of the batch before (``again``)."""
        for name, (left, right) in self.of(a_ni, g_no).items():
            if again and name in OF_INPUTS:
                continue
            if self.symmetric:
                _add_upper(self.running[name], left)
            else:
                self.running[name].addmm_(left.T, right)
        self.new_positions += 0 if again else len(a_ni)

    def fold(self, half: int) -> None:
        """Add the float32 sums to the totals, as part of the half 0 or 1 of all positions, and set them to zero."""
        for name, running in self.running.items():
            new = running.cpu()
            self.totals[name] += new
            self.contrasts[name].add_(new, alpha=-1 if half else 1)
            running.zero_()
        self.positions[half] += self.new_positions
        self.new_positions = 0

    def reduce(self) -> None:
        """Add up the totals of all processes, if there are several; every process then has the same totals."""
        if not distributed.is_initialized():
            return
        for total in (*self.totals.values(), *self.contrasts.values(), self.positions):
            shared = total.cuda() if distributed.get_backend() == "nccl" else total
            distributed.all_reduce(shared)
            total.copy_(shared)

    def mean(self, name: str) -> torch.Tensor:
        """A sum divided by the number of positions, float32; zero if there were none. The sum is given up for it."""
        del self.contrasts[name]
        return self._whole((self.totals.pop(name) / max(int(self.positions.sum()), 1)).float())

    def error(self, name: str) -> float | None:
        """The relative standard error of a sum: that of all its entries together, over its Frobenius norm.

        The difference of two independent halves is as large as the error of their sum. It comes from the choice of the
        text and from the draws of the gradients. ``None`` where one half has no positions, or the sum is zero.
        """
        first, second = self.positions.tolist()
        total = self._whole(self.totals[name])
        norm, tilt = float(total.norm()), (first - second) / max(first + second, 1)
        if not first or not second or not norm:
            return None
        spread = float((self._whole(self.contrasts[name]) - tilt * total).norm())
        return spread / norm / math.sqrt(1 - tilt**2)

    def _whole(self, sum_kk: torch.Tensor) -> torch.Tensor:
        return sum_kk.triu() + sum_kk.triu(1).T if self.symmetric else sum_kk


def _add_upper(sum_kk: torch.Tensor, x_nk: torch.Tensor) -> None:
    """Add the upper part of ``xᵀ x``, which is symmetric: 10 of 16 blocks are computed."""
    width = len(sum_kk) if len(sum_kk) < SPLIT_FROM else -(-len(sum_kk) // 4)
    for start in range(0, len(sum_kk), width):
        rows = slice(start, start + width)
        sum_kk[rows, start:].addmm_(x_nk[:, rows].T, x_nk[:, start:])


class Partial:
    """A file of the partial sums of a collection. Each process has its own, for its share of the batches.

    Args:
        path: path of the file, whose folder is created. Its name must depend on everything that the sums depend on.
    """

    def __init__(self, path: Path) -> None:
        rank, world = rank_and_world()
        self.path = path if world == 1 else path.with_suffix(f".{rank}-of-{world}{path.suffix}")
        self.last = time.monotonic()
        self.every = SAVE_EVERY_S

    def load(self, sums: Mapping[str, Sums]) -> int:
        """Read the sums from the file, and return the number of batches in them: 0 if there is no file.

        Raises:
            UserError: the file is damaged.
        """
        if not self.path.exists():
            return 0
        tensors, header = tensor_file.read(self.path, "partial collection", "delete it to start again")
        for name, tensor in self._tensors(sums).items():
            tensor.copy_(tensors[name])
        return int(header["done"])

    def save_when_due(self, sums: Mapping[str, Sums], done: int) -> None:
        """Write the totals, if the last write was long enough ago."""
        if time.monotonic() - self.last >= self.every:
            self.save(sums, done)

    def save(self, sums: Mapping[str, Sums], done: int) -> None:
        """Write the totals; a full disk is logged and does not stop the collection."""
        start = time.monotonic()
        try:
            with replacing(self.path) as partial:
                tensor_file.write(partial, self._tensors(sums), {"done": str(done)})
        except OSError as error:
            log.warning("the partial collection %s cannot be kept (%s); going on without", self.path, error)
        self.last = time.monotonic()
        self.every = max(SAVE_EVERY_S, 20 * (self.last - start))

    def delete(self) -> None:
        """Remove the file, if there is one."""
        self.path.unlink(missing_ok=True)

    @staticmethod
    def _tensors(sums: Mapping[str, Sums]) -> dict[str, torch.Tensor]:
        named: dict[str, torch.Tensor] = {}
        for matrix, s in sums.items():
            named |= {f"{matrix} {name}": total for name, total in s.totals.items()}
            named |= {f"{matrix} {name} contrast": contrast for name, contrast in s.contrasts.items()}
            named[f"{matrix} positions"] = s.positions
        return named


def from_first(tensor: torch.Tensor) -> torch.Tensor:
    """The tensor of the first process, in all processes."""
    if not distributed.is_initialized():
        return tensor
    shared = (tensor.cuda() if distributed.get_backend() == "nccl" else tensor).contiguous()
    distributed.broadcast(shared, 0)
    return shared.to(tensor.device)


def rank_and_world() -> tuple[int, int]:
    """The index of this process, and the number of processes."""
    return (distributed.get_rank(), distributed.get_world_size()) if distributed.is_initialized() else (0, 1)
