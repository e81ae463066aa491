"""Breaks the package on purpose, one fault at a time, and shows which tests notice.

    python tests/support/breakage.py

Each fault is planted in a copy of the package; the tests of the module that it is in run against the copy.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Fault:
    """`old` stands once in `file`, below `distill_helpers`; `tests` are where it has to be noticed."""

    name: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]


def read_faults() -> tuple[Fault, ...]:
    """The faults of `faults/*.toml`, one file for each folder of the package."""
    files = sorted((Path(__file__).parent / "faults").glob("*.toml"))
    return tuple(
        Fault(**entry | {"tests": tuple(entry["tests"])})
        for file in files
        for entry in tomllib.loads(file.read_text(encoding="utf-8"))["fault"]
    )


FAULTS = read_faults()


def plant(fault: Fault, package: Path) -> None:
    """Write the fault into a copy of the package. Raises ValueError where its place is not found exactly once."""
    file = package / fault.file
    text = file.read_text(encoding="utf-8")
    if text.count(fault.old) != 1:
        raise ValueError(f"{fault.name}: {fault.old!r} stands {text.count(fault.old)} times in {fault.file}")
    file.write_text(text.replace(fault.old, fault.new), encoding="utf-8")


def failing_tests(fault: Fault) -> list[str]:
    """The names of the tests that fail with the fault, until the first three."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder)
        for name in ("distill_helpers", "tests", "data", "notebooks"):
            shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
        for name in ("conftest.py", "pyproject.toml"):
            shutil.copy(ROOT / name, copy)
        plant(fault, copy / "distill_helpers")
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--maxfail=3", "-m", "not slow"]
        result = subprocess.run(
            [*command, *(f"tests/{name}" for name in fault.tests)],
            cwd=copy,
            env=os.environ | {"PYTHONPATH": str(copy)},
            capture_output=True,
            text=True,
            check=False,
        )
        if result.returncode not in (0, 1):  # 1: some test failed; anything else is not a verdict
            raise RuntimeError(f"{fault.name}: pytest ended with {result.returncode}\n{result.stdout[-2000:]}")
    return re.findall(r"^FAILED tests/(\S+)", result.stdout, flags=re.M)


def main() -> None:
    unnoticed = []
    print("| fault | module | noticed by |\n|---|---|---|")
    for fault in FAULTS:
        failed = failing_tests(fault)
        print(
            f"| {fault.name} | `{fault.file}` | {', '.join(f'`{name}`' for name in failed) or '**nothing**'} |",
            flush=True,
        )
        if not failed:
            unnoticed.append(fault.name)
    if unnoticed:
        sys.exit(f"no test notices: {', '.join(unnoticed)}")


if __name__ == "__main__":
    main()
