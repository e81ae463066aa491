"""The set-up files agree with each other and with what is imported; CONTRIBUTING.md agrees with the package."""

import ast
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
PACKAGE = ROOT / "distill_helpers"
FOLDERS = {f"{path.parent.name}/" for path in PACKAGE.glob("*/__init__.py")}


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


def test_readme_links_resolve() -> None:
    for page in ("README.md", "CONTRIBUTING.md"):
        for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", (ROOT / page).read_text()):
            assert (ROOT / target).exists(), f"{page} links {target}"


def listed_modules() -> list[str]:
    """The modules in CONTRIBUTING's tree, dotted and in its order; a folder alone stands for the modules inside it."""
    listed, folder = [], ""
    for line in re.findall(
        r"^  +(\S+)", (ROOT / "CONTRIBUTING.md").read_text().split("notebooks/source")[0], flags=re.M
    ):
        if line.endswith("/"):
            folder = line if line in FOLDERS else "course/" + line
            inside = sorted((PACKAGE / folder).glob("*.py")) if folder not in FOLDERS else []
            listed += [f"{folder}{path.name}" for path in inside if path.name != "__init__.py"]
        elif line.endswith(".py"):
            listed.append(folder + line)
    return [f"distill_helpers.{name.removesuffix('.py').replace('/', '.')}" for name in listed]


def imported_modules(path: Path) -> set[str]:
    """The package's modules that a module imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("distill_helpers"):
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names if alias.name.startswith("distill_helpers")}
    return found


MODULES = {
    ".".join(("distill_helpers", *path.relative_to(PACKAGE).with_suffix("").parts)): path
    for path in PACKAGE.rglob("*.py")
    if path.name != "__init__.py"
}


def test_contributing_lists_every_module_once() -> None:
    assert sorted(listed_modules()) == sorted(MODULES)


def test_modules_import_only_what_stands_above_them() -> None:
    order = {name: number for number, name in enumerate(listed_modules())}
    for name, path in MODULES.items():
        if name.startswith("distill_helpers.course."):
            continue
        imported = imported_modules(path)
        below = sorted(other for other in imported & set(order) if order[other] >= order[name])
        assert not below, f"{name} imports {below}, which CONTRIBUTING.md lists below it"
        # By the module that defines a name: what a package hands on is for its users, and would hide a circle.
        packages = sorted(module for module in imported if (PACKAGE / "/".join(module.split(".")[1:])).is_dir())
        assert not packages, f"{name} imports from the packages {packages}; name their modules"


def test_tests_lie_in_the_folders_of_the_package() -> None:
    own = {"api/recorded", "browser", "benchmarks", "course/wrong_answers", "offline", "support"}
    for folder in {path.parent.relative_to(ROOT / "tests").as_posix() for path in (ROOT / "tests").rglob("*.py")}:
        assert folder in {".", *own} or (PACKAGE / folder).is_dir(), f"tests/{folder} mirrors no folder of the package"
