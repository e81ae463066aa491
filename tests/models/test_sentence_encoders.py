"""Sentence encoders: embeddings of real messages, and folders that sentence-transformers and transformers read."""

import copy
import json

import pytest
import torch
import torch.nn.functional as F
from transformers import AutoModel, BertConfig, BertModel

from distill_helpers.models.loading import base_encoder_path
from distill_helpers.models.saved_structure import check_saved_structure
from distill_helpers.models.sentence_encoders import SentenceEncoder, load_sentence_encoder
from distill_helpers.models.sentence_transformers_folder import read_encoder_settings, write_encoder_settings
from distill_helpers.students.creation import create_student, cut_layers, narrow_student

WRITTEN = "sentence_transformers.models."


@pytest.fixture(scope="module")
def encoder(tokenizer):
    torch.manual_seed(0)
    model = BertModel(
        BertConfig(
            vocab_size=len(tokenizer),
            hidden_size=32,
            num_hidden_layers=3,
            num_attention_heads=4,
            intermediate_size=48,
            max_position_embeddings=64,
            initializer_range=0.2,
        )
    )
    return SentenceEncoder(model.eval(), tokenizer, pooling="mean", normalize=True)


@pytest.fixture
def saved(encoder, tmp_path):
    encoder.save(tmp_path / "encoder")
    return tmp_path / "encoder"


def rewrite(file, change):
    content = json.loads(file.read_text())
    change(content)
    file.write_text(json.dumps(content))


# Embeddings


def test_each_message_alone_has_the_embedding_that_it_has_in_any_batch(encoder, messages):
    alone = torch.cat([encoder.embed([message]) for message in messages])
    for batch_size in (1, 7, 64):
        assert torch.allclose(encoder.embed(messages, batch_size=batch_size), alone, atol=1e-5)
    assert torch.allclose(alone.norm(dim=1), torch.ones(len(messages)))
    assert (alone @ alone.T).fill_diagonal_(0).max() < 0.999, "all messages have one embedding; nothing was compared"


def test_the_side_of_the_tokenizer_makes_no_difference(encoder, messages):
    left = copy.deepcopy(encoder.tokenizer)
    left.padding_side = "left"
    assert torch.allclose(encoder._replace(tokenizer=left).embed(messages), encoder.embed(messages), atol=1e-5)


def test_the_embedding_is_the_mean_of_the_last_hidden_states(encoder, messages, saved):
    reference = AutoModel.from_pretrained(saved)
    inputs = encoder.tokenizer(messages[3], return_tensors="pt")
    with torch.inference_mode():
        mean = reference(**inputs).last_hidden_state[0].mean(dim=0)
    assert torch.allclose(encoder.embed([messages[3]])[0], F.normalize(mean, dim=0), atol=1e-6)


def test_embedding_leaves_the_model_in_its_mode_and_uses_no_dropout(encoder, messages):
    expected = encoder.embed(messages[:3])
    encoder.model.train()
    assert torch.equal(encoder.embed(messages[:3]), expected)
    assert encoder.model.training
    encoder.model.eval()


@pytest.mark.parametrize("texts", [["a mac", ""], ["a mac", "  "], ["a mac", None]])
def test_an_empty_text_is_refused_with_its_row(encoder, texts):
    with pytest.raises(ValueError, match="row 1"):
        encoder.embed(texts)


def test_half_precision_is_near_and_not_finite_is_refused_with_its_row(encoder, messages):
    half = encoder._replace(model=copy.deepcopy(encoder.model).bfloat16())
    near = half.embed(messages)
    assert near.dtype == torch.float32
    assert F.cosine_similarity(near, encoder.embed(messages)).min() > 0.99
    broken = encoder._replace(model=copy.deepcopy(encoder.model))
    broken.model.embeddings.word_embeddings.weight.data[encoder.tokenizer.convert_tokens_to_ids("z")] = float("inf")
    with pytest.raises(ValueError, match=r"row 1: the embedding is not finite"):
        broken.embed(["a", "z"])


def test_a_second_word_on_the_pooling_may_only_repeat_the_first(encoder):
    assert SentenceEncoder(encoder.model, encoder.tokenizer).pooling == "mean"
    assert copy.deepcopy(encoder).normalize
    with pytest.raises(ValueError, match=r"the model has pooling='mean' already, got 'cls'"):
        SentenceEncoder(encoder.model, encoder.tokenizer, pooling="cls")
    with pytest.raises(ValueError, match=r"the model has normalize=True already, got False"):
        SentenceEncoder(encoder.model, encoder.tokenizer, normalize=False)


def test_a_bare_encoder_needs_a_pooling(encoder):
    with pytest.raises(ValueError, match=r"pooling must be one of .*, got None; .* model card"):
        SentenceEncoder(BertModel(BertConfig(hidden_size=16, num_attention_heads=2)), encoder.tokenizer)


def test_the_repr_is_one_line_of_what_one_needs(encoder):
    assert repr(encoder) == (
        "SentenceEncoder(PooledBertModel, mean pooling, length 1, width 32,"
        f" {encoder.model.num_parameters():,} parameters, cpu)"
    )


# Folders


@pytest.mark.parametrize(("pooling", "normalize"), [("mean", False), ("mean", True), ("cls", False), ("cls", True)])
def test_a_saved_encoder_says_all_that_its_embeddings_depend_on(encoder, messages, tmp_path, pooling, normalize):
    bare = AutoModel.from_config(encoder.model.config, dtype=torch.float32).eval()
    made = SentenceEncoder(bare, encoder.tokenizer, pooling=pooling, normalize=normalize)
    made.save(tmp_path)
    back = load_sentence_encoder(tmp_path, device="cpu")
    assert (back.pooling, back.normalize) == (pooling, normalize)
    assert torch.equal(back.embed(messages), made.embed(messages))


def test_the_folder_is_that_of_the_encoder_with_the_modules_of_sentence_transformers(encoder, saved):
    config = json.loads((saved / "config.json").read_text())
    assert config["architectures"] == ["BertModel"]
    assert not {"id2label", "problem_type", "num_labels"} & set(config)
    modules = json.loads((saved / "modules.json").read_text())
    assert [(module["idx"], module["path"], module["type"]) for module in modules] == [
        (0, "", WRITTEN + "Transformer"),
        (1, "1_Pooling", WRITTEN + "Pooling"),
        (2, "2_Normalize", WRITTEN + "Normalize"),
    ]
    pooling = json.loads((saved / "1_Pooling" / "config.json").read_text())
    assert pooling["word_embedding_dimension"] == 32
    assert [name for name, on in pooling.items() if on is True] == ["pooling_mode_mean_tokens"]
    plain = AutoModel.from_pretrained(saved)
    assert all(torch.equal(tensor, plain.state_dict()[name]) for name, tensor in encoder.model.state_dict().items())


def test_the_installed_encoder_says_how_its_embeddings_are_made():
    settings = read_encoder_settings(base_encoder_path())
    assert settings[:4] == ("mean", True, 256, False)


def test_todays_form_of_sentence_transformers_is_read(tmp_path):
    # As version 6.2 writes it.
    (tmp_path / "1_Pooling").mkdir()
    (tmp_path / "2_Normalize").mkdir()
    kinds = ("base.modules.transformer.Transformer", "sentence_transformer.modules.pooling.Pooling")
    kinds += ("base.modules.normalize.Normalize",)
    paths = ("", "1_Pooling", "2_Normalize")
    modules = [
        {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.{kind}"}
        for i, (path, kind) in enumerate(zip(paths, kinds, strict=True))
    ]
    (tmp_path / "modules.json").write_text(json.dumps(modules))
    pooling = {"embedding_dimension": 32, "pooling_mode": "cls", "include_prompt": True}
    (tmp_path / "1_Pooling" / "config.json").write_text(json.dumps(pooling))
    transformer = {"transformer_task": "feature-extraction", "module_output_name": "token_embeddings"}
    (tmp_path / "sentence_bert_config.json").write_text(json.dumps(transformer))
    prompts = {"prompts": {"query": "", "document": ""}, "default_prompt_name": None}
    (tmp_path / "config_sentence_transformers.json").write_text(json.dumps(prompts))
    assert read_encoder_settings(tmp_path)[:4] == ("cls", True, None, False)


def test_an_older_folder_keeps_its_transformer_below(encoder, tmp_path):
    encoder.save(tmp_path / "0_Transformer")
    (tmp_path / "0_Transformer" / "modules.json").unlink()
    (tmp_path / "0_Transformer" / "sentence_bert_config.json").write_text('{"max_seq_length": 6}')
    write_encoder_settings(tmp_path, "cls", False, 32)
    rewrite(tmp_path / "modules.json", lambda modules: modules[0].update(path="0_Transformer"))
    back = load_sentence_encoder(tmp_path, device="cpu")
    assert (back.pooling, back.normalize, back.tokenizer.model_max_length) == ("cls", False, 6)
    assert torch.equal(back.embed(["a b c d e f g h"]), back.embed(["a b c d e z"], max_length=6))


REFUSED = {
    "a Dense layer": (
        "modules.json",
        lambda m: m.append({"path": "", "type": WRITTEN + "Dense"}),
        r"with the module Dense.*encode",
    ),
    "code of its own": ("modules.json", lambda m: m[1].update(type="custom.Pooling"), "with the module custom.Pooling"),
    "no pooling": ("modules.json", lambda m: m.__delitem__(slice(1, None)), "with the modules Transformer,"),
    "modules in another order": ("modules.json", lambda m: m.reverse(), "Normalize, Pooling, Transformer"),
    "a path outside": ("modules.json", lambda m: m[1].update(path="../other"), "not inside"),
    "another pooling": (
        "1_Pooling/config.json",
        lambda p: p.update(pooling_mode_mean_tokens=False, pooling_mode_max_tokens=True),
        "the pooling is max",
    ),
    "two poolings": (
        "1_Pooling/config.json",
        lambda p: p.update(pooling_mode_cls_token=True),
        "the pooling is cls and mean",
    ),
    "no pooling at all": (
        "1_Pooling/config.json",
        lambda p: p.update(pooling_mode_mean_tokens=False),
        "the pooling is missing",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_not_known_is_refused(saved, case):
    file, change, message = REFUSED[case]
    rewrite(saved / file, change)
    with pytest.raises(ValueError, match=message):
        load_sentence_encoder(saved, device="cpu")


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        (
            "config_sentence_transformers.json",
            '{"prompts": {"q": "query: "}, "default_prompt_name": "q"}',
            "prompt 'q'",
        ),
        ("sentence_bert_config.json", '{"transformer_task": "fill-mask"}', "transformer_task is 'fill-mask'"),
        ("modules.json", "[", "can't be read"),
        ("modules.json", "{}", "holds a dict in place of a list"),
    ],
)
def test_settings_that_change_the_embeddings_are_refused(saved, file, content, message):
    (saved / file).write_text(content)
    with pytest.raises(ValueError, match=message):
        load_sentence_encoder(saved, device="cpu")


def test_a_folder_that_lower_cases_needs_a_tokenizer_that_does(saved, monkeypatch):
    (saved / "sentence_bert_config.json").write_text('{"do_lower_case": true}')
    load_sentence_encoder(saved, device="cpu")  # BERT's tokenizer lower-cases by itself
    rewrite(saved / "tokenizer_config.json", lambda settings: settings.update(do_lower_case=False))
    with pytest.raises(ValueError, match="lower-cases its texts, and its tokenizer does not"):
        load_sentence_encoder(saved, device="cpu")


def test_what_contradicts_the_folder_is_refused_and_a_folder_that_does_not_say_needs_a_word(saved):
    with pytest.raises(ValueError, match=r"says pooling='mean', got 'cls'"):
        load_sentence_encoder(saved, pooling="cls", device="cpu")
    with pytest.raises(ValueError, match=r"says normalize=True, got False"):
        load_sentence_encoder(saved, normalize=False, device="cpu")
    (saved / "modules.json").unlink()
    with pytest.raises(ValueError, match=r"has no modules.json.*pass pooling='mean' or pooling='cls'"):
        load_sentence_encoder(saved, device="cpu")
    assert load_sentence_encoder(saved, pooling="cls", device="cpu").pooling == "cls"


def test_weights_that_the_files_lack_are_refused_unless_no_embedding_depends_on_them(encoder, saved):
    from safetensors.torch import load_file, save_file

    weights = load_file(saved / "model.safetensors")
    assert not any(name.startswith("pooler.") for name in weights)  # and the folder was loaded all the same
    del weights["encoder.layer.1.output.dense.bias"]
    save_file(weights, saved / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match=r"lacks 1 weights of .*: they would be random"):
        load_sentence_encoder(saved, device="cpu")


def test_layers_that_the_configuration_leaves_out_are_noticed(saved):
    rewrite(saved / "config.json", lambda config: config.update(num_hidden_layers=2))
    with pytest.raises(ValueError, match="holds weights of layers that its configuration leaves out"):
        load_sentence_encoder(saved, device="cpu")


def test_a_name_that_is_not_here_and_an_adapter_are_refused(encoder, tmp_path):
    with pytest.raises(OSError, match="neither a folder nor a model in the local cache"):
        load_sentence_encoder("nobody/nothing")
    (tmp_path / "adapter_config.json").write_text("{}")
    with pytest.raises(ValueError, match="adapter"):
        load_sentence_encoder(tmp_path)


# Students


def test_students_of_an_encoder_are_encoders_with_its_pooling(encoder, messages, tmp_path):
    students = {
        "cut": cut_layers(encoder, [0, 2]),
        "narrow": narrow_student(encoder, hidden_size=16, n_layers=2),
        "new": create_student(encoder, messages, vocab_size=300, hidden_size=16, max_length=40),
    }
    for name, student in students.items():
        assert isinstance(student, SentenceEncoder)
        assert (student.pooling, student.normalize, student.model.config.num_hidden_layers) == ("mean", True, 2)
        check_saved_structure(student.model)
        student.save(tmp_path / name)
        back = load_sentence_encoder(tmp_path / name, device="cpu")
        assert torch.allclose(back.embed(messages, max_length=40), student.embed(messages, max_length=40), atol=1e-6)
    assert [student.width for student in students.values()] == [32, 16, 16]
