"""The set-up files agree with each other and with what is imported."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]


def pins(file: str) -> dict[str, str]:
    lines = [line.split("--hash")[0].strip() for line in (ROOT / file).read_text().splitlines()]
    found = [re.fullmatch(r"([\w.-]+)==(\S+)", line) for line in lines if line and not line.startswith("#")]
    assert all(found), f"{file}: every line must be a comment or name==version"
    return {canonicalize_name(match[1]): match[2] for match in found if match}


def accepted() -> dict[str, Requirement]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    # The benchmark's peers get an environment of their own, and nothing in the course needs four bits.
    pinned = [extra for name, extra in extras.items() if name not in ("bench", "qlora")]
    listed = project["dependencies"] + [r for extra in pinned for r in extra]
    return {canonicalize_name(r.name): r for r in map(Requirement, listed)}


def test_pins_are_what_pyproject_accepts() -> None:
    assert pins("requirements.txt").keys() == accepted().keys()
    for name, version in pins("requirements.txt").items():
        assert accepted()[name].specifier.contains(version), f"{name}=={version} is outside pyproject's range"


def test_constraints_contain_the_pins() -> None:
    constraints = pins("constraints.txt")
    for name, version in pins("requirements.txt").items():
        assert constraints[name] == version


def test_conda_environment_has_the_same_pins() -> None:
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    (nested,) = [entry["pip"] for entry in environment["dependencies"] if isinstance(entry, dict)]
    assert dict(line.split("==") for line in nested) == pins("requirements.txt")


def test_installed_versions_are_the_pins() -> None:
    from importlib import metadata

    for name, version in (pins("requirements.txt") | pins("data/wheels.txt")).items():
        assert metadata.version(name).split("+")[0] == version


def test_wheels_carry_hashes() -> None:
    lines = [line for line in (ROOT / "data/wheels.txt").read_text().splitlines() if "==" in line]
    assert len(lines) == 3
    assert all(re.search(r"--hash=sha256:[0-9a-f]{64}$", line) for line in lines)


def test_make_without_a_target_lists_every_target() -> None:
    makefile = (ROOT / "Makefile").read_text()
    (phony,) = re.findall(r"^\.PHONY: (.*)$", makefile, flags=re.M)
    listed = subprocess.run(["make", "-s"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for target in phony.split():
        assert f"make {target} " in listed


def test_ci_calls_the_readmes_test_command() -> None:
    assert (ROOT / ".ci/run").read_text().rstrip().endswith("\nmake test")
    assert "\nmake test " in (ROOT / "README.md").read_text()


@pytest.mark.parametrize("module", ["distill_helpers", "distill_helpers.course.results"])
def test_importing_needs_no_optional_package(module: str) -> None:
    optional = {"wandb", "jupytext", "optuna", "tabulate", "openai", "anthropic"}
    code = f"import sys, {module}; print(sorted({optional} & set(sys.modules)))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_nothing_outside_course_imports_course() -> None:
    package = ROOT / "distill_helpers"
    for path in set(package.rglob("*.py")) - set((package / "course").rglob("*.py")):
        assert "distill_helpers.course" not in re.sub(r'""".*?"""', "", path.read_text(), flags=re.S), path.name


def test_readme_links_resolve() -> None:
    for page in ("README.md", "CONTRIBUTING.md"):
        for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", (ROOT / page).read_text()):
            assert (ROOT / target).exists(), f"{page} links {target}"


def test_modules_named_in_contributing_exist_and_none_is_left_out() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text()
    for path in (ROOT / "distill_helpers").rglob("*.py"):
        if path.name != "__init__.py":
            assert path.name in text, f"CONTRIBUTING.md leaves {path.name} out"
    for name in re.findall(r"^  +(\w+\.py)", text, flags=re.M):
        assert list((ROOT / "distill_helpers").rglob(name)), f"CONTRIBUTING.md names {name}, which is gone"
