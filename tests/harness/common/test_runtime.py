"""What a record says that it was computed on."""

from pathlib import Path

import torch

from memsplit.harness.common import runtime

XEON = """processor\t: 0
vendor_id\t: GenuineIntel
cpu family\t: 6
model\t\t: 143
model name\t: Intel(R) Xeon(R) Processor
stepping\t: 8
flags\t\t: fpu avx2

processor\t: 1
model\t\t: 7
model name\t: another
"""


def test_processors_of_one_name_are_told_apart(tmp_path: Path) -> None:
    """A virtual machine often calls all its processors alike; the first of several counts."""
    file = tmp_path / "cpuinfo"
    file.write_text(XEON)
    assert runtime.processor(file) == "Intel(R) Xeon(R) Processor, family 6, model 143, stepping 8"


def test_a_machine_without_a_name_still_has_one(tmp_path: Path) -> None:
    (tmp_path / "arm").write_bytes(b"processor : 0\nBogoMIPS : \xff\n")
    for file in ("arm", "none"):
        assert runtime.processor(tmp_path / file)


def test_hardware_names_the_processor_and_its_instructions() -> None:
    found = runtime.hardware("cpu")
    assert found.keys() == {"device", "machine", "threads", "processor"}
    assert str(found["processor"]).startswith(runtime.processor())
    assert str(found["processor"]).endswith(torch.backends.cpu.get_cpu_capability())
