"""Features of a teacher that are kept: right, found again only where still right, and no larger than allowed."""

import copy
import logging

import pytest
import torch
from tiny_models import tiny_teacher

from distill_helpers import DistillationCollator, DistillationDataset, TextClassifier
from distill_helpers.models.architectures import ModelShape
from distill_helpers.models.batching import encode_texts
from distill_helpers.models.capture import capture_features
from distill_helpers.models.features import EMBEDDINGS
from distill_helpers.targets import cache as target_cache
from distill_helpers.targets.features import TeacherFeatures, pad_features, precompute_teacher_features, take_features

SHARD = 4
NAMES = (EMBEDDINGS, "hidden.3", "queries.1", "values.3")


@pytest.fixture(autouse=True)
def small_shards(monkeypatch):
    monkeypatch.setattr(target_cache, "SHARD_SIZE", SHARD)


@pytest.fixture(params=["bert", "llama"])
def teacher(request, small_tokenizer):
    return tiny_teacher(request.param, small_tokenizer)


@pytest.fixture
def bert(small_tokenizer):
    return tiny_teacher("bert", small_tokenizer)


@pytest.fixture(scope="module")
def texts(help_desk):
    """Three shards, the last of two; texts of all lengths, the longest of them truncated."""
    return [" ".join(text.split()[: 1 + 2 * i]) for i, text in enumerate(help_desk.train.texts[:10])]


def compute(teacher, texts, names=NAMES, **options):
    settings = {"device": "cpu", "progress": False, "storage_dtype": torch.float32, "batch_size": 3}
    return precompute_teacher_features(teacher, texts, names, **settings | options)


def count_calls(model):
    calls = []
    model.register_forward_hook(lambda *_: calls.append(1))
    return calls


def shards(cache):
    return sorted(cache.rglob("*.safetensors"))


def assert_equal(found, expected):
    assert found.tensors.keys() == expected.tensors.keys()
    assert all(torch.equal(found.tensors[name], expected.tensors[name]) for name in expected.tensors)
    assert found[1:] == expected[1:]


# The values


def test_they_are_the_features_of_each_text_alone(teacher, texts):
    found = compute(teacher, texts)
    starts = found.token_starts()
    for i, ids in enumerate(encode_texts(teacher.tokenizer, texts)):
        with torch.no_grad(), capture_features(teacher.model, NAMES) as alone:
            teacher.model(torch.tensor([ids]))
        rows = found.rows(starts, i)
        for name in NAMES:
            own = alone[name][0] if alone[name].dim() == 3 else alone[name][0].transpose(0, 1)
            torch.testing.assert_close(rows[f"teacher_features.{name}"], own, atol=1e-5, rtol=1e-4, msg=name)
        assert found.token_ids[i] == ids
    n_tokens = sum(map(len, found.token_ids))
    assert {name: tensor.shape[0] for name, tensor in found.tensors.items()} == dict.fromkeys(NAMES, n_tokens)
    assert found.shape == ModelShape(4, 32, 4)
    assert found.scaling == pytest.approx(8**-0.5)
    assert found.causal == (teacher.model.config.model_type == "llama")
    assert found.nbytes == n_tokens * sum(tensor[0].numel() for tensor in found.tensors.values()) * 4


def test_the_default_is_fp16_which_halves_the_size(bert, texts):
    exact = compute(bert, texts)
    half = precompute_teacher_features(bert, texts, NAMES, device="cpu", progress=False)
    assert {tensor.dtype for tensor in half.tensors.values()} == {torch.float16}
    assert half.nbytes == exact.nbytes / 2
    for name in NAMES:
        torch.testing.assert_close(half.tensors[name].float(), exact.tensors[name], rtol=1 / 1000, atol=1e-5)


def test_the_teacher_is_left_as_it_was(bert, texts):
    bert.model.train()
    before = copy.deepcopy(bert.model.state_dict())
    found = compute(bert, texts)
    assert bert.model.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in bert.model.state_dict().items())
    bert.model.eval()
    assert_equal(found, compute(bert, texts))  # without dropout all the same


def test_a_name_given_twice_is_one_feature(bert, texts):
    assert_equal(compute(bert, texts, ("hidden.3", "keys.0", "hidden.3")), compute(bert, texts, ("hidden.3", "keys.0")))


# Batches


@pytest.mark.parametrize("side", ["right", "left"])
def test_a_batch_holds_what_the_teacher_says_of_the_same_batch(teacher, texts, side):
    tokenizer = copy.deepcopy(teacher.tokenizer)
    tokenizer.padding_side = side
    cached = compute(teacher, texts)
    data = DistillationDataset(texts, None, None, tokenizer, teacher_features=cached)
    batch = DistillationCollator(tokenizer)([data[i] for i in (0, 9, 4)])
    found = take_features(batch)
    assert set(batch) == {"input_ids", "attention_mask", "labels"}  # the student sees nothing else
    assert (found.scaling, found.causal) == (pytest.approx(cached.scaling), cached.causal)
    with torch.no_grad(), capture_features(teacher.model, NAMES) as live:
        teacher.model.base_model(
            input_ids=batch["input_ids"],
            attention_mask=batch["attention_mask"],
            # A text of its own has the positions 0, 1, …, on whichever side it is padded.
            position_ids=(batch["attention_mask"].cumsum(-1) - 1).clamp(min=0),
        )
    real = batch["attention_mask"].bool()
    for name in NAMES:
        assert found[name].shape == live[name].shape
        own, others = (x if x.dim() == 3 else x.transpose(1, 2) for x in (found[name], live[name]))
        torch.testing.assert_close(own[real], others[real], atol=1e-5, rtol=1e-4, msg=name)
        assert (own[~real] == 0).all()


def test_a_batch_without_features_has_none():
    batch = {"input_ids": torch.zeros(1, 2), "labels": torch.zeros(1)}
    assert take_features(batch) is None
    assert set(batch) == {"input_ids", "labels"}
    assert pad_features([batch], "right") == {}


def test_cached_features_can_take_part_in_a_loss(bert, texts):
    features = compute(bert, texts)
    items = [features.rows(features.token_starts(), i) for i in range(2)]
    state = pad_features(items, "right")["teacher_features.hidden.3"]
    student = torch.randn_like(state).requires_grad_()
    torch.nn.functional.cosine_similarity(student, state, dim=-1).sum().backward()
    assert student.grad.abs().sum() > 0


# Other texts, other tokens


def test_features_of_other_texts_or_tokens_are_refused(bert, base_tokenizer, texts):
    features = compute(bert, texts)
    with pytest.raises(ValueError, match=r"row 3: the student reads \d+ tokens, and the teacher's features are of \d+"):
        DistillationDataset([*texts[:3], *texts[4:], "more"], None, None, bert.tokenizer, teacher_features=features)
    with pytest.raises(ValueError, match="9 texts, but teacher_features of 10"):
        DistillationDataset(texts[:9], None, None, bert.tokenizer, teacher_features=features)
    with pytest.raises(ValueError, match="11 texts, but teacher_features of 10"):
        DistillationDataset([*texts, "more"], None, None, bert.tokenizer, teacher_features=features)
    with pytest.raises(ValueError, match=r"row 0.*use the same texts, the teacher's tokenizer and the same max_length"):
        DistillationDataset(texts, None, None, base_tokenizer, teacher_features=features)
    with pytest.raises(ValueError, match=r"row \d.*the same max_length"):
        DistillationDataset(texts, None, None, bert.tokenizer, max_length=6, teacher_features=features)
    assert len(DistillationDataset(texts, None, None, bert.tokenizer, teacher_features=features)) == 10


# Size and range


def test_the_size_is_refused_before_any_work_and_stated(bert, texts, tmp_path):
    size = compute(bert, texts).nbytes
    calls = count_calls(bert.model)
    with pytest.raises(ValueError, match=r"[\d,]+ tokens × 4 features take .* more than max_bytes .* run live"):
        compute(bert, texts, max_bytes=size - 1, cache_dir=tmp_path)
    assert len(calls) <= 1  # the trial on one text
    assert list(tmp_path.iterdir()) == []
    assert compute(bert, texts, max_bytes=size).nbytes == size


def test_the_size_is_that_of_the_dtype(bert, texts):
    size = compute(bert, texts).nbytes
    with pytest.raises(ValueError, match="more than max_bytes"):
        compute(bert, texts, max_bytes=size // 2)
    assert compute(bert, texts, max_bytes=size // 2, storage_dtype=torch.float16).nbytes == size // 2


@pytest.mark.slow
def test_the_size_stands_in_the_progress_bar(bert, texts, capfd):
    compute(bert, texts * 50, ("hidden.3",), progress=True, batch_size=250)
    said = capfd.readouterr().err
    n_tokens = sum(map(len, encode_texts(bert.tokenizer, texts * 50)))
    assert f"Teacher features ({n_tokens * 32 * 4 / 2**20:.0f} MiB)" in said
    assert "500/500" in said


def test_values_that_fp16_cannot_hold_are_refused_and_not_kept(bert, texts, tmp_path):
    with torch.no_grad():
        bert.model.bert.encoder.layer[3].attention.self.value.bias[5] = 70000.0
    with pytest.raises(ValueError, match=r"values\.3 has values that torch\.float16 can't hold; pass torch\.bfloat16"):
        compute(bert, texts, storage_dtype=torch.float16, cache_dir=tmp_path)
    assert shards(tmp_path) == []
    for dtype in (torch.bfloat16, torch.float32):
        assert compute(bert, texts, storage_dtype=dtype).tensors["values.3"].max() > 60000


def test_bad_input_is_refused(bert, texts):
    with pytest.raises(ValueError, match="name the features to keep"):
        compute(bert, texts, ())
    with pytest.raises(ValueError, match=r"has no 'hidden\.4'; it has 4 layers"):
        compute(bert, texts, ("hidden.4",))
    with pytest.raises(ValueError, match="row 1: the text is empty"):
        compute(bert, ["one", " "])
    with pytest.raises(ValueError, match="batch_size must be at least 1, got 0"):
        compute(bert, texts, batch_size=0)


def test_a_folder_and_a_bare_model_with_its_tokenizer_are_teachers_too(bert, texts, tmp_path):
    expected = compute(bert, texts)
    assert_equal(compute(bert.model, texts, tokenizer=bert.tokenizer), expected)
    bert.model.save_pretrained(tmp_path)
    bert.tokenizer.save_pretrained(tmp_path)
    assert_equal(compute(tmp_path, texts), expected)
    with pytest.raises(ValueError, match="bare BertForSequenceClassification has no tokenizer"):
        compute(bert.model, texts)
    with pytest.raises(ValueError, match="leave out tokenizer="):
        compute(bert, texts, tokenizer=bert.tokenizer)


def test_the_repr_is_one_line_with_the_sizes(bert, texts):
    features = compute(bert, texts[:2], ("hidden.3", "keys.0"))
    n_tokens = sum(map(len, features.token_ids))
    shown = f"TeacherFeatures(2 texts, {n_tokens} tokens, hidden.3, keys.0, torch.float32, {features.nbytes:,} bytes)"
    assert repr(features) == shown


# The cache


def test_the_second_call_runs_the_teacher_on_one_text_alone(bert, texts, tmp_path):
    calls = count_calls(bert.model)
    first = compute(bert, texts, cache_dir=tmp_path)
    assert len(calls) == 1 + 2 + 2 + 1  # the trial, and batches of three in shards of four
    calls.clear()
    assert_equal(compute(bert, texts, cache_dir=tmp_path), first)
    assert len(calls) == 1
    assert_equal(first, compute(bert, texts))


def test_an_interrupted_run_goes_on_after_its_last_complete_shard(bert, texts, tmp_path):
    expected = compute(bert, texts)
    calls = count_calls(bert.model)

    def interrupt(*_):
        if len(calls) > 4:  # in the second shard
            raise KeyboardInterrupt

    handle = bert.model.register_forward_hook(interrupt)
    with pytest.raises(KeyboardInterrupt):
        compute(bert, texts, cache_dir=tmp_path)
    handle.remove()
    assert [path.name for path in shards(tmp_path)] == ["00000.safetensors"]
    calls.clear()
    assert_equal(compute(bert, texts, cache_dir=tmp_path), expected)
    assert len(calls) == 1 + 2 + 1


@pytest.mark.parametrize("victim", [0, 1, 2])
def test_a_shard_that_is_missing_is_made_again(bert, texts, tmp_path, victim):
    expected = compute(bert, texts, cache_dir=tmp_path)
    path = shards(tmp_path)[victim]
    content = path.read_bytes()
    path.unlink()
    calls = count_calls(bert.model)
    assert_equal(compute(bert, texts, cache_dir=tmp_path), expected)
    assert len(calls) == 1 + (1 if victim == 2 else 2)
    assert path.read_bytes() == content


def flip_a_byte(path):
    content = bytearray(path.read_bytes())
    content[-100] ^= 0x40
    path.write_bytes(content)


DAMAGES = {"a flipped bit": flip_a_byte, "cut short": lambda path: path.write_bytes(path.read_bytes()[:-30])}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())
def test_a_damaged_shard_is_reported_and_made_again(bert, texts, tmp_path, caplog, damage):
    expected = compute(bert, texts, cache_dir=tmp_path)
    victim = shards(tmp_path)[1]
    damage(victim)
    with caplog.at_level(logging.WARNING, logger="distill_helpers"):
        assert_equal(compute(bert, texts, cache_dir=tmp_path), expected)
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert str(victim) in caplog.text
    caplog.clear()
    assert_equal(compute(bert, texts, cache_dir=tmp_path), expected)
    assert not caplog.records


def other_weights(teacher):
    model = copy.deepcopy(teacher.model)
    with torch.no_grad():
        model.bert.encoder.layer[0].output.dense.weight[3, 5] += 1e-3
    return TextClassifier(model, teacher.tokenizer)


def in_bfloat16(teacher):
    return TextClassifier(copy.deepcopy(teacher.model).bfloat16(), teacher.tokenizer)


CHANGES = {
    "names": lambda teacher, texts: (teacher, texts, {"names": ("hidden.2",)}),
    "fewer names": lambda teacher, texts: (teacher, texts, {"names": NAMES[:2]}),
    "storage_dtype": lambda teacher, texts: (teacher, texts, {"storage_dtype": torch.bfloat16}),
    "computing precision": lambda teacher, texts: (in_bfloat16(teacher), texts, {}),
    "max_length": lambda teacher, texts: (teacher, texts, {"max_length": 8}),
    "a text": lambda teacher, texts: (teacher, [*texts[:-1], "another"], {}),
    "weights": lambda teacher, texts: (other_weights(teacher), texts, {}),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_other_features_have_another_key(bert, texts, tmp_path, change):
    compute(bert, texts, cache_dir=tmp_path)
    teacher, other_texts, options = change(bert, texts)
    found = compute(teacher, other_texts, cache_dir=tmp_path, **options)
    assert len(list(tmp_path.iterdir())) == 2
    assert_equal(found, compute(teacher, other_texts, **options))


def test_the_order_of_names_and_the_batch_size_do_not_change_the_key(bert, texts, tmp_path):
    first = compute(bert, texts, cache_dir=tmp_path)
    again = compute(bert, texts, NAMES[::-1], cache_dir=tmp_path, batch_size=8)
    assert len(list(tmp_path.iterdir())) == 1
    assert_equal(again, first)


def test_features_and_logits_may_share_a_folder(bert, texts, tmp_path):
    from distill_helpers import precompute_teacher_logits

    logits = precompute_teacher_logits(bert, texts, device="cpu", cache_dir=tmp_path, progress=False)
    found = compute(bert, texts, cache_dir=tmp_path)
    assert logits.shape == (10, 3)
    assert len(list(tmp_path.iterdir())) == 2
    assert_equal(compute(bert, texts, cache_dir=tmp_path), found)


def test_starts_and_rows_fit_together():
    features = TeacherFeatures(
        {"hidden.0": torch.arange(6.0)[:, None]}, [[1, 2], [3], [4, 5, 6]], ModelShape(1, 1, 1), 0.5, True
    )
    starts = features.token_starts()
    assert starts == [0, 2, 3]
    assert [features.rows(starts, i)["teacher_features.hidden.0"].flatten().tolist() for i in range(3)] == [
        [0, 1],
        [2],
        [3, 4, 5],
    ]
    batch = pad_features([features.rows(starts, i) for i in range(3)], "left")
    assert batch["teacher_features.hidden.0"][:, :, 0].tolist() == [[0, 0, 1], [0, 0, 2], [3, 4, 5]]
    assert take_features(batch).causal


@pytest.mark.parametrize("side", ["left", "right"])
def test_features_depend_neither_on_dropout_nor_on_the_side_of_padding(make_classifier, side):
    teacher, texts = make_classifier(seed=1), ["no sound", "the screen stays black after the update"]
    options = {"storage_dtype": torch.float32, "device": "cpu", "progress": False}
    expected = precompute_teacher_features(teacher, texts, ["hidden.1"], batch_size=1, **options)
    model, tokenizer = make_classifier(seed=1, dropout=0.5)
    tokenizer = copy.deepcopy(tokenizer)
    tokenizer.padding_side = side
    found = precompute_teacher_features(TextClassifier(model.train(), tokenizer), texts, ["hidden.1"], **options)
    torch.testing.assert_close(found.tensors["hidden.1"], expected.tensors["hidden.1"], atol=1e-5, rtol=0)
    assert model.training
