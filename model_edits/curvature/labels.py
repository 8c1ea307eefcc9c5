"""The gradient of the loss at the logits: of the text's labels, or of labels that are sampled from the model.

The curvature of sampled labels y ~ p is an estimate of the true Fisher, E_y[g gᵀ] at every position, from few of its
terms: a single label gives one of the many directions that a position's gradient may take. Several labels a position,
each with a backward pass through the same graph, come nearer to the expectation. They are drawn in strata: of K labels
one has its cumulative probability in each K-th part of 0..1, so that together they are spread as the distribution is.

Source: Kunstner et al., "Limitations of the Empirical Fisher Approximation", arXiv 1905.12558 (both kinds of labels).
Shapes: k = draws, b = sequences, t = tokens, v = vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch


@dataclass(frozen=True, kw_only=True)
class Draws:
    """Which labels the gradients are of.

    Attributes:
        labels: ``sampled`` from the model (the true Fisher), or ``gold``, those of the text (the empirical Fisher).
        draws: labels for each position.
        seed: of the sampling.
    """

    labels: str = "sampled"
    draws: int = 1
    seed: int = 0

    def gradients(self, logits_btv: torch.Tensor, ids_bt: torch.Tensor, first: int) -> Iterator[torch.Tensor]:
        """By draw, the gradient p - onehot(label) of the summed cross-entropy, divided by the root of ``draws``.

        The sum over draws of the outer products of what is propagated back is so their mean. It is one tensor, which
        holds a draw until the next one is asked for.

        Args:
            logits_btv: of all ids but each sequence's last.
            ids_bt: the sequences.
            first: index of the first sequence in the corpus.
        """
        p_btv = logits_btv.detach().float().softmax(-1)
        if self.labels == "gold":
            label_kbt = ids_bt[None, :, 1:].to(p_btv.device)
        else:
            drawn = [sample_labels(p_tv, self.seed, first + b, self.draws) for b, p_tv in enumerate(p_btv)]
            label_kbt = torch.stack(drawn, 1)
        root = len(label_kbt) ** 0.5
        at_label = [p_btv.gather(-1, label_bt[..., None]) for label_bt in label_kbt]
        gradient_btv = p_btv.div_(root).to(logits_btv.dtype)
        for label_bt, p_bt1 in zip(label_kbt, at_label, strict=True):
            label_bt1 = label_bt[..., None]
            before_bt1 = gradient_btv.gather(-1, label_bt1)
            yield gradient_btv.scatter_(-1, label_bt1, ((p_bt1 - 1) / root).to(gradient_btv.dtype))
            gradient_btv.scatter_(-1, label_bt1, before_bt1)


SAMPLED = Draws()


def sample_labels(p_tv: torch.Tensor, seed: int, index: int, draws: int = 1) -> torch.Tensor:
    """Labels [k, t], ``draws`` for each position, from the model's distribution [t, v] by inverting its cumulative sum.

    Each is distributed as p; those of one position lie in different strata, in random order. The labels depend on the
    seed, the sequence's index and the number of draws alone, not on the batch size. NumPy keeps the generator's stream
    the same in all versions.
    """
    raw_tn = np.random.PCG64([index, seed]).random_raw(len(p_tv) * (draws + 1)).reshape(len(p_tv), draws + 1)
    stratum_tk = raw_tn[:, 1:].argsort(1)
    u_tk = (stratum_tk + (raw_tn[:, :1] >> np.uint64(11)) * 2.0**-53) / draws
    u_tk = u_tk.clip(max=1 - 2.0**-24)  # below 1 in float32 too
    cumulative_tv = p_tv.cumsum(-1)
    goal_tk = torch.from_numpy(u_tk).to(p_tv.device, p_tv.dtype) * cumulative_tv[:, -1:]
    return torch.searchsorted(cumulative_tv, goal_tk, right=True).clamp(max=p_tv.shape[-1] - 1).T
