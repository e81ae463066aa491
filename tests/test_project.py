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
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "distill_helpers"
FOLDERS = {f"{path.parent.name}/" for path in PACKAGE.glob("*/__init__.py")}


def pins(file: str) -> dict[str, str]:
    lines = [line.split("--hash")[0].strip() for line in (ROOT / file).read_text().splitlines()]
    found = [re.fullmatch(r"([\w.-]+)==(\S+)", line) for line in lines if line and not line.startswith("#")]
    assert all(found), f"{file}: every line must be a comment or name==version"
    return {canonicalize_name(match[1]): match[2] for match in found if match}


def requirements() -> dict[str, list[Requirement]]:
    """What pyproject.toml lists, by extra and by dependency group; what every installation needs has the name ""."""
    file = tomllib.loads((ROOT / "pyproject.toml").read_text())
    project = file["project"]
    listed = {"": project["dependencies"], **project["optional-dependencies"], **file["dependency-groups"]}
    return {name: [Requirement(line) for line in lines] for name, lines in listed.items()}


def accepted() -> dict[str, Requirement]:
    # The benchmark's peers get an environment of their own, and nothing in the course needs four bits.
    pinned = [listed for name, listed in requirements().items() if name not in ("bench", "qlora")]
    return {canonicalize_name(r.name): r for listed in pinned for r in listed}


def test_a_package_has_one_range_wherever_it_is_listed() -> None:
    ranges: dict[str, set[str]] = {}
    for requirement in (r for listed in requirements().values() for r in listed):
        ranges.setdefault(requirement.name, set()).add(str(requirement.specifier))
    assert {name: found for name, found in ranges.items() if len(found) > 1} == {}


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


@pytest.mark.parametrize("python", ["3.11.0", "3.12.0", "3.13.0"])
def test_every_pin_accepts_every_python_that_the_course_accepts(python: str) -> None:
    from importlib import metadata

    refused = [
        f"{distribution.name} {distribution.version} needs Python {needed}"
        for distribution in metadata.distributions()
        if (needed := distribution.metadata["Requires-Python"]) and not SpecifierSet(needed).contains(python)
    ]
    assert not refused


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


def test_readme_links_resolve() -> None:
    for page in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md"):
        for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", (ROOT / page).read_text()):
            assert (ROOT / target).exists(), f"{page} links {target}"


def listed_modules() -> list[str]:
    """The modules in CONTRIBUTING's tree, dotted and in its order; a folder alone stands for the modules inside it."""
    listed, folder = [], ""
    for line in re.findall(
        r"^  +(\S+)", (ROOT / "CONTRIBUTING.md").read_text().split("notebooks/source")[0], flags=re.M
    ):
        if line in FOLDERS:
            folder = line
        elif line.endswith("/"):
            inside = sorted((PACKAGE / folder / line).glob("*.py"))
            listed += [f"{folder}{line}{path.name}" for path in inside if path.name != "__init__.py"]
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
    # These two define what their folders share.
    defining = {"distill_helpers.course.exercises", "distill_helpers.course.widgets"}
    for name, path in MODULES.items():
        imported = imported_modules(path) - defining
        folder = name.rpartition(".")[0]
        if folder.startswith("distill_helpers.course."):  # the list names the folder, not the modules inside it
            imported = {module for module in imported if module.rpartition(".")[0] != folder}
        below = sorted(other for other in imported & set(order) if order[other] >= order[name])
        assert not below, f"{name} imports {below}, which CONTRIBUTING.md lists below it"
        # By the module that defines a name: what a package hands on is for its users, and would hide a circle.
        packages = sorted(module for module in imported if (PACKAGE / "/".join(module.split(".")[1:])).is_dir())
        assert not packages, f"{name} imports from the packages {packages}; name their modules"


def test_no_name_that_a_package_hands_on_is_the_name_of_a_module_beside_it() -> None:
    # Importing the module would put it in the place of the name.
    for stub in PACKAGE.rglob("__init__.pyi"):
        imports = [
            node for node in ast.parse(stub.read_text(encoding="utf-8")).body if isinstance(node, ast.ImportFrom)
        ]
        names = {alias.name for node in imports if node.module for alias in node.names}
        beside = {path.stem for path in stub.parent.glob("*.py")} | {
            path.parent.name for path in stub.parent.glob("*/*.pyi")
        }
        assert not names & beside, f"{stub.parent.name} hands on {sorted(names & beside)}"


def test_tests_lie_in_the_folders_of_the_package() -> None:
    own = {"browser", "benchmarks", "course/wrong_answers", "offline", "support"}
    for folder in {path.parent.relative_to(ROOT / "tests").as_posix() for path in (ROOT / "tests").rglob("*.py")}:
        assert folder in {".", *own} or (PACKAGE / folder).is_dir(), f"tests/{folder} mirrors no folder of the package"


# Imported under another name than pip's.
DISTRIBUTIONS = {"PIL": "pillow", "sklearn": "scikit-learn"}
# What each folder may import beside the standard library and what every installation has.
EXTRAS = {
    "api": {"api"},
    "api/review/widget.py": {"review"},
    "api/teachers/llama_server.py": {"local-server"},
    "data": {"hub"},
    "data/labelled_images.py": {"images"},
    "evaluation/plots.py": {"plot"},
    "models": {"lora"},
}
# Imported by another library, when the package asks it for what needs them.
INDIRECT = {
    "bitsandbytes": "PEFT, for students in four bits",
    "gguf": "transformers, for language models in a .gguf file",
}


def third_party_imports(path: Path) -> set[str]:
    """The distributions that a module imports, anywhere in it, for a type alone included."""
    roots = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            roots |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            roots.add(node.module.split(".")[0])
    roots -= {"distill_helpers", *sys.stdlib_module_names}
    return {canonicalize_name(DISTRIBUTIONS.get(root, root)) for root in roots}


def folders_of(name: str) -> list[str]:
    return [folder.as_posix() for folder in Path(name).parents]


def packaged_modules() -> list[Path]:
    return [path for path in PACKAGE.rglob("*.py") if path.relative_to(PACKAGE).parts[0] != "course"]


def test_the_package_imports_what_it_requires_and_requires_what_it_imports() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    listed = {name: {canonicalize_name(r.name) for r in found} for name, found in requirements().items()}
    used: set[str] = set()
    for path in packaged_modules():
        name = path.relative_to(PACKAGE).as_posix()
        extras = set().union(*(found for place, found in EXTRAS.items() if place in {name, *folders_of(name)}))
        imported = third_party_imports(path)
        missing = imported - listed[""].union(*(listed[extra] for extra in extras))
        assert not missing, f"{name} imports {sorted(missing)}, which pyproject.toml does not list for it"
        used |= imported
    of_users = set().union(*(listed[name] for name in ("", *project["optional-dependencies"])))
    assert of_users - used == INDIRECT.keys()


def test_an_error_about_a_missing_package_names_the_extra_that_brings_it() -> None:
    listed, seen = requirements(), set()
    for path in packaged_modules():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "require_package":
                (extra,) = (ast.literal_eval(keyword.value) for keyword in node.keywords if keyword.arg == "extra")
                if isinstance(node.args[0], ast.Constant):  # elsewhere the packages of a loop
                    name = node.args[0].value
                    assert DISTRIBUTIONS.get(name, name) in {r.name for r in listed[extra]}, path
                seen.add(extra)
    assert seen == {"api", "gguf", "hub", "images", "local-server", "lora", "plot", "review"}


def test_both_pages_name_every_extra_and_begin_with_the_same_example() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    pages = [(folder / "README.md").read_text(encoding="utf-8") for folder in (ROOT, PACKAGE)]
    for extra, listed in project["optional-dependencies"].items():
        packages = ", ".join(Requirement(line).name for line in listed)
        assert f"| `{extra}` | {packages} |" in pages[1]
        assert f"`{extra}`" in pages[0]
    first = [re.findall(r"```python\n(.*?)```", page, flags=re.S)[0] for page in pages]
    assert first[0] == first[1]


def test_versions_and_licence_are_the_same_everywhere() -> None:
    file = tomllib.loads((ROOT / "pyproject.toml").read_text())
    project, citation = file["project"], yaml.safe_load((ROOT / "CITATION.cff").read_text())
    (version,) = re.findall(r'^__version__ = "(.*)"$', (PACKAGE / "__init__.py").read_text(), flags=re.M)
    (released, *_) = re.findall(r"^## \[(\d\S*)\] - (\S+)$", (ROOT / "CHANGELOG.md").read_text(), flags=re.M)
    assert project["version"] == version == citation["version"] == released[0]
    assert str(citation["date-released"]) == released[1]
    assert project["license"] == citation["license"] == "Apache-2.0"
    assert "Version 2.0, January 2004" in (ROOT / "LICENSE").read_text()


def test_the_workflow_tests_the_oldest_and_the_newest_python_and_can_change_nothing() -> None:
    file = tomllib.loads((ROOT / "pyproject.toml").read_text())
    classifier = "Programming Language :: Python :: 3."
    minors = [int(c.removeprefix(classifier)) for c in file["project"]["classifiers"] if c.startswith(classifier)]
    assert file["project"]["requires-python"] == f">=3.{min(minors)}"
    assert file["tool"]["ruff"]["target-version"] == f"py3{min(minors)}"
    text = (ROOT / ".github/workflows/tests.yml").read_text()
    workflow = yaml.safe_load(text)
    assert workflow["permissions"] == {"contents": "read"}
    (job,) = workflow["jobs"].values()
    assert job["strategy"]["matrix"]["python"] == [f"3.{min(minors)}", f"3.{max(minors)}"]
    used = re.findall(r"uses: (\S+)", text)
    assert used
    assert all(re.fullmatch(r"actions/[\w-]+@[0-9a-f]{40}", action) for action in used), "a tag can be moved"
    assert {"'test'", "'test-fast'"} <= set(re.findall(r"'[\w-]+'", job["steps"][-1]["run"]))


def test_the_changelog_says_where_each_module_is_now() -> None:
    rows = re.findall(r"^\| `(\S+)` \| (.*) \|$", (ROOT / "CHANGELOG.md").read_text(), flags=re.M)
    assert len(rows) > 60
    for old, new in rows:
        now = re.findall(r"`(\S+)`", new)
        assert now
        assert f"distill_helpers.{old}" not in {f"distill_helpers.{name}" for name in now}
        for name in now:
            assert f"distill_helpers.{name}" in MODULES, f"CHANGELOG.md sends readers of {old} to {name}"
