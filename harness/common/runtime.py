"""What a process computes on, and how quiet its libraries are.

torch, transformers and accelerate are imported inside the functions that need them. The checks of names need none, so
that a command that is refused does not wait for them.
"""

from __future__ import annotations

import logging
import os
import platform
import re
import warnings
from datetime import timedelta
from pathlib import Path

from ...errors import UserError, unknown

LARGER = "a device with more memory, a narrower --dtype or a smaller model"
"""What helps where one sequence is too much for the memory."""
AUTO_BATCH = "auto"
"""The batch size that adapts itself to the memory (see ``lm.memory``)."""
DTYPES = ("auto", "float32", "bfloat16", "float16")
DEVICES = ("cpu", "cuda", "cuda:0", "mps")
"""Examples of device names; any number may follow ``cuda:``."""
LIBRARIES = ("accelerate", "datasets", "huggingface_hub", "lm_eval", "peft", "torch", "transformers")
"""Libraries whose warnings and log lines would disturb our own progress and errors."""


def check_dtype(name: str | None) -> None:
    """Raise ``UserError`` unless the name is one of :data:`DTYPES` or ``None``."""
    if name not in (None, *DTYPES):
        raise unknown("dtype", str(name), DTYPES)


def check_device(name: str | None) -> None:
    """Raise ``UserError`` unless the name is a device's or ``None``; this machine need not have the device."""
    if name is None or (isinstance(name, str) and re.fullmatch(r"cpu|mps|cuda(:\d+)?", name)):
        return
    if name == "gpu":
        raise UserError(f"unknown device 'gpu': expected one of {', '.join(DEVICES)}; did you mean 'cuda'?")
    raise unknown("device", str(name), DEVICES)


def device(name: str | None) -> str:
    """The device to compute on: ``name``, or without one ``cuda`` if this machine has it, else ``cpu``.

    Raises:
        UserError: this machine has no such device.
    """
    check_device(name)
    import torch

    here = ["cpu", *(["mps"] if torch.backends.mps.is_available() else [])]
    if torch.cuda.is_available():
        here += ["cuda", *(f"cuda:{i}" for i in range(torch.cuda.device_count()))]
    chosen = name or ("cuda" if "cuda" in here else "cpu")
    if chosen not in here:
        raise unknown("device", chosen, here)
    return chosen


def hardware(chosen: str) -> dict[str, str | int]:
    """What figures may differ by in their last bits: device, machine, threads, and the names of CPU and accelerator.

    Args:
        chosen: the device that is computed on.
    """
    import torch

    found: dict[str, str | int] = {
        "device": chosen,
        "machine": platform.machine(),
        "threads": torch.get_num_threads(),
        "processor": f"{processor()}, {torch.backends.cpu.get_cpu_capability()}",
    }
    if chosen.startswith("cuda"):
        found["accelerator"] = torch.cuda.get_device_name(chosen)
    return found


def processor(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """The CPU's name, with the numbers that tell models of one name apart, as virtual machines have them.

    Args:
        cpuinfo: Linux's description; without it or a name in it, what Python knows.
    """
    try:
        lines = cpuinfo.read_text(encoding="utf-8", errors="replace").split("\n\n")[0].splitlines()
    except OSError:
        lines = []
    fields = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    numbers = [f"{key.split()[-1]} {fields[key]}" for key in ("cpu family", "model", "stepping") if fields.get(key)]
    name = fields.get("model name") or platform.processor() or platform.machine()
    return ", ".join([name, *numbers])


def processes() -> int:
    """How many processes a launcher (``accelerate launch``, ``torchrun``) has started for this command."""
    text = os.environ.get("WORLD_SIZE", "")
    return int(text) if text.isdecimal() and "RANK" in os.environ else 1


def init_distributed(chosen: str, *, parallelize: bool) -> str:
    """Join the other processes of a launcher, if there are any, and return this process's device.

    Args:
        chosen: the device that the user named.
        parallelize: whether the model is to be spread over all devices.

    Raises:
        UserError: several processes, and a model that is spread over all devices.
    """
    if processes() == 1:
        return chosen
    if parallelize:
        raise UserError("--parallelize spreads one process over all devices: expected one process, or no such option")
    from accelerate import PartialState

    return str(PartialState(cpu=chosen == "cpu", timeout=timedelta(days=30)).device)


def quiet() -> None:
    """Silence the warnings, log lines and progress bars of :data:`LIBRARIES`; all other warnings are still shown.

    Call it within ``warnings.catch_warnings()`` where the filters are to be as before afterwards.
    """
    warnings.filterwarnings("ignore", module=rf"({'|'.join(LIBRARIES)})(\.|$)")
    import transformers

    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)
    logging.getLogger("datasets").setLevel(logging.CRITICAL)
