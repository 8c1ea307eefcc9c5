"""Questions on rivers, which ``tasks/rivers_longer.yaml`` names."""

from __future__ import annotations

import itertools
from typing import Any

import datasets

LENGTHS_KM = {"Nile": 6650, "Volga": 3530, "Danube": 2850, "Rhine": 1230, "Elbe": 1090, "Seine": 780}


def longer(**_: object) -> dict[str, datasets.Dataset]:
    """Which of two rivers is longer, for all pairs; lm-eval gives the task's metadata as keywords."""
    rows: list[dict[str, Any]] = [
        {"prompt": f"Of the {a} and the {b}, the longer one is the", "choices": [a, b], "gold": int(a_km < b_km)}
        for (a, a_km), (b, b_km) in itertools.permutations(LENGTHS_KM.items(), 2)
    ]
    return {"test": datasets.Dataset.from_list(rows)}
