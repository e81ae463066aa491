"""Manifests: how a shipped model was made, and the hashes that show that it is still the same model."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping, Sequence
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

from distill_helpers.data.installed_files import file_sha256

__all__ = ["read_manifest", "write_manifest"]

_FILE = "manifest.json"


def write_manifest(
    folder: Path, *, command: str, seed: int, label_names: Sequence[str], measured: Mapping[str, float]
) -> None:
    """Write `manifest.json`: command, seed, versions, measured figures, and the SHA-256 of every weight file.

    Args:
        folder: holds the model's `*.safetensors`.
        command: what one types to make the model again.
        seed: the seed that the command used.
        label_names: the classes, in the order of the logits.
        measured: the figures of the model *as stored*, by name.
    """
    content = {
        "command": command,
        "seed": seed,
        "label_names": list(label_names),
        "measured": {name: round(value, 4) for name, value in measured.items()},
        # PEFT is an extra: a model without adapters is made without it.
        "versions": {"python": platform.python_version()}
        | {name: metadata.version(name) for name in ("torch", "transformers", "peft") if find_spec(name)},
        "sha256": {path.name: file_sha256(path) for path in sorted(folder.glob("*.safetensors"))},
    }
    (folder / _FILE).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def read_manifest(folder: Path) -> dict:
    """The manifest of a folder, after its weights were checked.

    Raises:
        FileNotFoundError: there is no manifest, or a weight file that the manifest names is missing.
        ValueError: a weight file has another hash.
    """
    content = json.loads((folder / _FILE).read_text(encoding="utf-8"))
    for name, expected in content["sha256"].items():
        found = file_sha256(folder / name)
        if found != expected:
            raise ValueError(
                f"{folder / name} has sha256 {found}, its manifest says {expected}; make it again with"
                f" `{content['command']}`, or restore it with git"
            )
    return content
