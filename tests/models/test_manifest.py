"""Manifests: what they say of a model, and that they notice weights that are not its own."""

import json

import pytest

from distill_helpers.data.installed_files import file_sha256
from distill_helpers.models.manifest import read_manifest, write_manifest

COMMAND = "python -m scripts.make_the_model --seed 3"


@pytest.fixture
def folder(tmp_path, make_classifier):
    make_classifier(hidden_size=16, n_layers=1).model.save_pretrained(tmp_path)
    write_manifest(
        tmp_path, command=COMMAND, seed=3, label_names=("x", "y"), measured={"accuracy": 0.876543, "nll": 1 / 3}
    )
    return tmp_path


def test_what_was_written_is_read(folder):
    manifest = read_manifest(folder)
    assert (manifest["command"], manifest["seed"], manifest["label_names"]) == (COMMAND, 3, ["x", "y"])
    assert manifest["measured"] == {"accuracy": 0.8765, "nll": 0.3333}
    assert manifest["sha256"] == {"model.safetensors": file_sha256(folder / "model.safetensors")}
    assert set(manifest["versions"]) == {"python", "torch", "transformers", "peft"}


def test_a_manifest_without_the_extra_for_adapters(folder, monkeypatch):
    monkeypatch.setattr("distill_helpers.models.manifest.find_spec", lambda name: name != "peft")
    write_manifest(folder, command=COMMAND, seed=3, label_names=("x", "y"), measured={})
    assert set(read_manifest(folder)["versions"]) == {"python", "torch", "transformers"}


def test_every_weight_file_is_hashed(folder):
    (folder / "more.safetensors").write_bytes(b"weights of another shard")
    write_manifest(folder, command=COMMAND, seed=3, label_names=("x", "y"), measured={})
    assert set(read_manifest(folder)["sha256"]) == {"model.safetensors", "more.safetensors"}
    (folder / "more.safetensors").write_bytes(b"Weights of another shard")
    with pytest.raises(ValueError, match=r"more\.safetensors"):
        read_manifest(folder)


@pytest.mark.parametrize("position", [0, 1000, -1])
def test_one_flipped_byte_is_noticed_and_the_command_named(folder, position):
    path = folder / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[position] ^= 0x01
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"model\.safetensors has sha256") as error:
        read_manifest(folder)
    assert f"`{COMMAND}`" in str(error.value)


def test_a_missing_weight_file_is_noticed(folder):
    (folder / "model.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match=r"model\.safetensors"):
        read_manifest(folder)


def test_a_folder_without_manifest_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"manifest\.json"):
        read_manifest(tmp_path)


def test_the_file_is_json_for_people(folder):
    text = (folder / "manifest.json").read_text(encoding="utf-8")
    assert text.endswith("}\n")
    assert text == json.dumps(json.loads(text), indent=2) + "\n"
