"""Breaks the package on purpose, one fault at a time, and shows which tests notice.

    python tests/support/breakage.py

Each fault is planted in a copy of the package, and the test that has to notice it runs against the copy.
"""

from __future__ import annotations

import contextlib
import io
import json
import multiprocessing
import os
import shutil
import sys
import tempfile
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Fault:
    """`old` stands once in `file`, below `distill_helpers`; `test` notices it, as pytest names it below `tests`.

    While you look for that test, `test` may be a whole file.
    """

    name: str
    file: str
    old: str
    new: str
    test: str


def read_faults() -> tuple[Fault, ...]:
    """The faults of `faults/*.toml`, one file for each folder of the package."""
    files = sorted((Path(__file__).parent / "faults").glob("*.toml"))
    return tuple(Fault(**entry) for file in files for entry in tomllib.loads(file.read_text(encoding="utf-8"))["fault"])


FAULTS = read_faults()


def plant(fault: Fault, package: Path) -> None:
    """Write the fault into a copy of the package. Raises ValueError where its place is not found exactly once."""
    file = package / fault.file
    text = file.read_text(encoding="utf-8")
    if text.count(fault.old) != 1:
        raise ValueError(f"{fault.name}: {fault.old!r} stands {text.count(fault.old)} times in {fault.file}")
    file.write_text(text.replace(fault.old, fault.new), encoding="utf-8")


def failing_tests(fault: Fault, most: int = 3) -> list[str]:
    """The names of the tests that fail with the fault, until the first `most`."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder)
        for name in ("distill_helpers", "tests", "data", "notebooks"):
            shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
        for name in ("conftest.py", "pyproject.toml"):
            shutil.copy(ROOT / name, copy)
        plant(fault, copy / "distill_helpers")
        options = ["-q", "-p", "no:cacheprovider", "-p", "no:xdist", f"--maxfail={most}", "-m", "not alone"]
        verdict = copy / "verdict.json"
        process = _FORKS.Process(target=_run_tests, args=(copy, [*options, f"tests/{fault.test}"], verdict))
        process.start()
        process.join()
        if not verdict.exists():
            raise RuntimeError(f"{fault.name}: the tests ended with {process.exitcode} and without a verdict")
        code, failed, said = json.loads(verdict.read_text(encoding="utf-8"))
    if code not in (0, 1):  # 0: all passed; 1: some test failed; the others are no verdict
        raise RuntimeError(f"{fault.name}: pytest ended with {code}\n{said[-2000:]}")
    return failed


# Most of a test run's time would be the import of these libraries. A server imports them once and forks for each fault;
# the package itself it does not know.
_FORKS = multiprocessing.get_context("forkserver")
_IMPORTED = "torch peft pandas scipy.stats sklearn.linear_model matplotlib.pyplot transformers.trainer"
_IMPORTED += " openai anthropic pytest hypothesis nbval.plugin"
_IMPORTED += "".join(f" transformers.models.{name}.modeling_{name}" for name in ("bert", "gpt2", "llama", "qwen3"))
_FORKS.set_forkserver_preload(_IMPORTED.split())


class _Failures:
    """A plug-in of pytest that notes which tests failed."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def pytest_runtest_logreport(self, report: Any) -> None:
        if report.failed:
            self.names.append(report.nodeid.removeprefix("tests/"))


def _run_tests(copy: Path, arguments: list[str], verdict: Path) -> None:
    import pytest

    os.chdir(copy)
    os.environ["PYTHONPATH"] = str(copy)  # for the processes that tests start
    sys.path.insert(0, str(copy))
    failures, said = _Failures(), io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        code = pytest.main(arguments, plugins=[failures])
    verdict.write_text(json.dumps([int(code), failures.names, said.getvalue()]), encoding="utf-8")


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
