"""Faults planted on purpose are noticed. `python tests/support/breakage.py` prints by which tests."""

import shutil
from pathlib import Path

import pytest
from breakage import FAULTS, ROOT, Fault, failing_tests, plant


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_the_place_of_a_fault_is_found(fault: Fault, tmp_path: Path) -> None:
    file = ROOT / "distill_helpers" / fault.file
    (tmp_path / fault.file).parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(file, tmp_path / fault.file)
    plant(fault, tmp_path)
    assert (tmp_path / fault.file).read_text() != file.read_text()
    with pytest.raises(ValueError, match="stands 0 times"):
        plant(Fault("none", fault.file, "not in any file", "", fault.test), tmp_path)
    assert "::" in fault.test, "name the test itself: the others of its file may take minutes"


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_a_fault_is_noticed(fault: Fault) -> None:
    assert failing_tests(fault, most=1)
