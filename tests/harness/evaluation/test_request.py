"""A request refuses in one line what it cannot mean, and runs nothing."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from memsplit.errors import UserError
from memsplit.harness.common import runtime
from memsplit.harness.evaluation.request import Request, resolve


def request(**given: Any) -> Request:
    return Request(**{"model": "olmo-tiny", "edits": ["kfac"], **given})


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"edits": "none"}, "bad edits 'none': expected a list of texts, as in edits=['none']"),
        ({"edits": [1]}, "bad edits [1]: expected a list of texts, as in edits=['kfac-80']"),
        ({"edits": None}, "bad edits None: expected a list of texts, as in edits=['kfac-80']"),
        (
            {"tasks": "memsplit_fluency"},
            "bad tasks 'memsplit_fluency': expected a list of texts, as in tasks=['memsplit_fluency']",
        ),
        ({"model": None}, "bad model None: expected a name"),
        ({"pack": Path("x")}, "bad pack PosixPath('x'): expected a name"),
        ({"limit": "8"}, "bad limit '8': expected a whole number above 0, or None"),
        ({"limit": -1}, "bad limit -1: expected a whole number above 0, or None"),
        ({"limit": 0}, "bad limit 0: expected a whole number above 0, or None"),
        ({"limit": True}, "bad limit True: expected a whole number above 0, or None"),
        ({"limit": 8.0}, "bad limit 8.0: expected a whole number above 0, or None"),
        ({"batch_size": 0}, "bad batch_size 0: expected a whole number above 0"),
        ({"batch_size": None}, "bad batch_size None: expected a whole number above 0"),
        ({"factor_tokens": 0}, "bad factor_tokens 0: expected a whole number above 0, or None"),
        ({"seed": -1}, "bad seed -1: expected a whole number, 0 or more"),
        ({"resume": "yes"}, "bad resume 'yes': expected True or False"),
        ({"out": ""}, "bad out '': expected a folder's path"),
        ({"out": 3}, "bad out 3: expected a folder's path"),
        ({"device": "gpu"}, "unknown device 'gpu': expected one of cpu, cuda, cuda:0, mps; did you mean 'cuda'?"),
        ({"device": "cpuu"}, "unknown device 'cpuu': expected one of cpu, cuda, cuda:0, mps; did you mean 'cpu'?"),
        ({"device": 0}, "unknown device '0': expected one of cpu, cuda, cuda:0, mps"),
        ({"suite": "memsplt"}, "unknown suite 'memsplt'"),
        ({"split": "tset"}, "unknown split 'tset'"),
        ({"dtype": "float3"}, "unknown dtype 'float3'"),
        ({"suite": None}, "bad suite None: expected a name"),
        ({"suite": ["memsplit"]}, "bad suite ['memsplit']: expected a name"),
        ({"split": 5}, "bad split 5: expected a name"),
        ({"out": "a\0b"}, "bad out 'a\\x00b': expected a folder's path"),
        ({"limit": 10**30}, f"bad limit {10**30}: expected a whole number above 0 and below 2**63, or None"),
        ({"seed": 2**63}, f"bad seed {2**63}: expected a whole number, 0 or more and below 2**63"),
    ],
)
def test_a_bad_value_is_refused_in_one_line(given: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as raised:
        request(**given)
    assert str(raised.value).startswith(message)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"model": "olmo-tny"}, "did you mean 'olmo-tiny'"),
        ({"reference": "olmo-tny"}, "did you mean 'olmo-tiny'"),
        ({"edits": ["kfca-50"]}, "did you mean 'kfac'"),
        ({"edits": ["kfac-50:layers=9"]}, "layer 9 is out of range"),
        ({"tasks": ["memsplit_twin"]}, "did you mean 'memsplit_twins'"),
        ({"factor_tokens": 5}, "expected at least 128"),
        ({"corpus": "nowhere"}, "unknown corpus"),
    ],
)
def test_what_does_not_fit_the_model_is_refused_before_it_is_loaded(given: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        resolve(request(**given))


def test_a_whole_number_of_numpy_is_one() -> None:
    asked = request(limit=np.int64(3), seed=np.uint8(4))
    assert (type(asked.limit), asked.limit, type(asked.seed), asked.seed) == (int, 3, int, 4)


def test_values_take_one_form() -> None:
    made = request(edits=["none", "kfac"], tasks=iter(["memsplit_twins"]), out="here", device="cuda:3")
    assert (made.edits, made.tasks, made.out) == (("none", "kfac"), ("memsplit_twins",), Path("here"))
    assert hash(made) == hash(
        request(edits=("none", "kfac"), tasks=["memsplit_twins"], out=Path("here"), device="cuda:3")
    )


def test_the_device_is_cuda_if_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    for there, expected in ((False, "cpu"), (True, "cuda")):
        monkeypatch.setattr(torch.cuda, "is_available", lambda there=there: there)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
        assert runtime.device(None) == expected
    assert runtime.device("cuda:1") == "cuda:1"
    with pytest.raises(UserError, match="unknown device 'cuda:2'"):
        runtime.device("cuda:2")
