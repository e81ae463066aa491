"""The examples in the docstrings run, and every public name of the top level has one."""

import doctest
import importlib
import inspect

import pytest
import torch

import distill_helpers as dh

#: What an example may use without importing it; the docstring of the package says so.
NAMES = {"torch": torch, "dh": dh}

PUBLIC = sorted(
    name for name in dh.__all__ if inspect.isfunction(getattr(dh, name)) or inspect.isclass(getattr(dh, name))
)


def examples() -> list[doctest.DocTest]:
    """The examples of every module but the course's, whose functions the notebooks show."""
    finder = doctest.DocTestFinder(exclude_empty=True)
    modules = [importlib.import_module(name) for name in sorted(MODULES)]
    found = [test for module in modules for test in finder.find(module, globs=dict(NAMES)) if test.examples]
    return sorted(found, key=lambda test: test.name)


def modules_of(package: str) -> list[str]:
    """The dotted names of a package's modules, the package itself included."""
    import pkgutil

    module = importlib.import_module(package)
    inside = [info for info in pkgutil.iter_modules(module.__path__, f"{package}.") if "course" not in info.name]
    return [package] + [name for info in inside for name in (modules_of(info.name) if info.ispkg else [info.name])]


MODULES = modules_of("distill_helpers")


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
