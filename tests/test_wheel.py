"""The wheel: what is in it, what it says of itself, and that it works where nothing else of this repository is."""

import json
import re
import shutil
import subprocess
import sys
import sysconfig
import tomllib
from email.message import Message
from email.parser import HeaderParser
from pathlib import Path
from zipfile import ZipFile

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "distill_helpers"
OFFLINE = ROOT / "tests" / "offline"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel that a front end such as pip makes: by setuptools' own hook, so that nothing is fetched."""
    # A copy: setuptools leaves `build` in the folder that it builds from, and takes what an older build left there.
    source, target = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    shutil.copytree(PACKAGE, source / PACKAGE.name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "LICENSE", "README.md"):
        shutil.copy(ROOT / name, source)
    for name in ("tests", "notebooks", "data"):  # they are there when somebody builds in a clone
        (source / name).symlink_to(ROOT / name)
    hook = "import sys; from setuptools import build_meta; build_meta.build_wheel(sys.argv[1])"
    subprocess.run([sys.executable, "-c", hook, target], cwd=source, check=True, capture_output=True)
    (built,) = target.iterdir()
    return built


@pytest.fixture(scope="module")
def metadata(wheel: Path) -> Message:
    with ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        return HeaderParser().parsestr(archive.read(name).decode())


def test_the_wheel_holds_the_package_without_the_course_and_nothing_else(wheel: Path) -> None:
    packaged = {
        path.relative_to(ROOT).as_posix()
        for pattern in ("*.py", "*.pyi", "py.typed", "prices.toml")
        for path in PACKAGE.rglob(pattern)
        if path.relative_to(PACKAGE).parts[0] != "course"
    }
    folder = f"distill_helpers-{PROJECT['version']}.dist-info"
    about = {f"{folder}/{name}" for name in ("METADATA", "RECORD", "WHEEL", "licenses/LICENSE", "top_level.txt")}
    assert wheel.name == f"distill_helpers-{PROJECT['version']}-py3-none-any.whl"
    assert set(ZipFile(wheel).namelist()) == packaged | about
    assert {
        "distill_helpers/py.typed",
        "distill_helpers/__init__.pyi",
        "distill_helpers/api/costs/prices.toml",
    } < packaged
    assert ZipFile(wheel).read(f"{folder}/licenses/LICENSE") == (ROOT / "LICENSE").read_bytes()


def test_the_wheel_says_what_it_is_and_what_it_needs(metadata: Message) -> None:
    assert metadata["License-Expression"] == "Apache-2.0"
    assert metadata["Requires-Python"] == PROJECT["requires-python"]
    # What only a clone can use is in dependency groups, which stay out of the metadata.
    assert set(metadata.get_all("Provides-Extra", [])) == set(PROJECT["optional-dependencies"])
    assert not {"course", "test", "bench"} & set(PROJECT["optional-dependencies"])


def test_the_page_of_the_package_reads_the_same_anywhere(metadata: Message) -> None:
    page = metadata.get_payload()
    assert page.strip() == (PACKAGE / "README.md").read_text(encoding="utf-8").strip()
    assert metadata["Description-Content-Type"] == "text/markdown"
    targets = re.findall(r"\]\(\s*([^)\s]+)", page) + re.findall(r"(?:src|href)=[\"']([^\"']+)", page)
    assert [target for target in targets if not target.startswith("https://")] == []


@pytest.mark.slow
def test_the_wheel_works_alone(wheel: Path, tmp_path: Path) -> None:
    """See support/own_project.py: fine-tunes a teacher on messages of its own and runs the example of the page."""
    site, project = tmp_path / "site", tmp_path / "project"
    project.mkdir()
    with ZipFile(wheel) as archive:
        archive.extractall(site)
    libraries = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    # -I hides the working directory and PYTHONPATH, -S this clone's editable install, which a .pth file brings.
    command = [sys.executable, "-I", "-S", ROOT / "tests/support/own_project.py", site, *libraries, OFFLINE]
    child = subprocess.run(command, cwd=project, capture_output=True, text=True, check=False)
    assert child.returncode == 0, child.stderr
    found = json.loads(child.stdout.splitlines()[-1])
    assert found["classes"] == ["network", "printing", "screen"]
    assert found["from elsewhere"] == []
    assert found["accuracy"]["teacher"] == 1.0
    assert found["accuracy"]["student"] >= 0.8
    # Nothing is written outside the folders that the example names.
    assert {path.name for path in project.iterdir()} == {
        ".targets",
        "distilled_model",
        "my-teacher",
        "test.csv",
        "train.csv",
    }
