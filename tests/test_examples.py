"""The examples in the docstrings run, and every public name of the top level has one."""

import doctest
import importlib
import inspect
import pkgutil
import re

import pytest
import torch

import distill_helpers as dh

#: What an example may use without importing it; the docstring of the package says so.
NAMES = {"torch": torch, "dh": dh}

PUBLIC = sorted(
    name for name in dh.__all__ if inspect.isfunction(getattr(dh, name)) or inspect.isclass(getattr(dh, name))
)


# The course has none: the notebooks show its functions.
MODULES = ["distill_helpers"] + [
    module.name
    for module in pkgutil.walk_packages(dh.__path__, "distill_helpers.")
    if not module.name.startswith("distill_helpers.course")
]


def examples() -> list[doctest.DocTest]:
    """The examples of all modules."""
    finder = doctest.DocTestFinder(exclude_empty=True)
    modules = [importlib.import_module(name) for name in MODULES]
    found = [test for module in modules for test in finder.find(module, globs=dict(NAMES)) if test.examples]
    return sorted(found, key=lambda test: test.name)


def test_every_name_on_the_packages_page_is_public() -> None:
    named = set(re.findall(r"`(\w+)[`(]", dh.__doc__ or "")) - {"Trainer", "help"}
    assert "prediction_task" in named
    assert named <= set(dh.__all__)


@pytest.mark.parametrize("name", PUBLIC)
def test_a_public_name_has_an_example(name: str) -> None:
    assert ">>> " in (inspect.getdoc(getattr(dh, name)) or ""), f"dh.{name} has no example in its docstring"


@pytest.mark.parametrize("example", examples(), ids=lambda example: example.name.removeprefix("distill_helpers."))
def test_an_example_runs(example: doctest.DocTest, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    report: list[str] = []
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    runner.run(example, out=report.append)
    assert not runner.failures, "".join(report)
