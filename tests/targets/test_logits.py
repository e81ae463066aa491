"""Teacher targets: right, computed once, found again only where they are still right, and never lost to a kill."""

import copy
import logging

import pytest
import torch
from hypothesis import given, settings, strategies as st
from safetensors.torch import load_file, save_file
from transformers import BertTokenizer, ByT5Tokenizer

from distill_helpers import TextClassifier, precompute_teacher_logits
from distill_helpers.models.architectures import embedding_weight
from distill_helpers.targets import cache as target_cache

SHARD = 4


@pytest.fixture(autouse=True)
def small_shards(monkeypatch):
    monkeypatch.setattr(target_cache, "SHARD_SIZE", SHARD)


def make_teacher(make_classifier):
    """Weights so large that its logits differ between texts: fresh ones would give nearly the same for all."""
    teacher = make_classifier(seed=1)
    with torch.no_grad():
        for parameter in teacher.model.parameters():
            if parameter.dim() == 2:
                parameter.mul_(8)
    return teacher


@pytest.fixture
def teacher(make_classifier):
    return make_teacher(make_classifier)


@pytest.fixture(scope="module")
def texts(help_desk):
    """Three shards, the last of two; texts of all lengths, the longest of them truncated."""
    return [" ".join(text.split()[: 1 + 2 * i]) for i, text in enumerate(help_desk.train.texts[:10])]


def label(teacher, texts, **options):
    return precompute_teacher_logits(teacher, texts, **{"device": "cpu", "progress": False} | options)


def count_calls(model):
    """A list that grows by one with every forward pass."""
    calls = []
    model.register_forward_hook(lambda *_: calls.append(1))
    return calls


def folders(cache):
    return sorted(path.name for path in cache.iterdir())


def shards(cache):
    return sorted(cache.rglob("*.safetensors"))


# The values


def test_they_are_the_teachers_logits_of_each_text_alone(teacher, texts):
    expected = []
    for text in texts:
        inputs = teacher.tokenizer(text, return_tensors="pt", truncation=True, max_length=32)
        expected.append(teacher.model(**inputs).logits[0])
    logits = label(teacher, texts, batch_size=3)
    torch.testing.assert_close(logits, torch.stack(expected).detach(), atol=1e-5, rtol=0)
    assert torch.cdist(logits, logits).fill_diagonal_(1).min() > 0.01  # so a row in another's place would be seen
    assert (logits.dtype, logits.device.type, logits.shape) == (torch.float32, "cpu", (10, 5))
    assert not logits.requires_grad
    assert not logits.is_inference()  # such a tensor could not take part in a student's loss


def test_a_folder_is_loaded_with_its_own_tokenizer(teacher, texts, tmp_path):
    teacher.model.save_pretrained(tmp_path)
    teacher.tokenizer.save_pretrained(tmp_path)
    for name in (tmp_path, str(tmp_path)):
        logits = precompute_teacher_logits(name, texts, device="cpu", progress=False)
        assert torch.equal(logits, label(teacher, texts))


def test_a_bare_model_with_its_tokenizer_is_a_teacher_too(teacher, texts, tmp_path):
    expected = label(teacher, texts, cache_dir=tmp_path)
    calls = count_calls(teacher.model)
    assert torch.equal(label(teacher.model, texts, tokenizer=teacher.tokenizer), expected)
    assert len(calls) == 3
    # The way in is no part of the cache key.
    assert torch.equal(label(teacher.model, texts, tokenizer=teacher.tokenizer, cache_dir=tmp_path), expected)
    assert len(calls) == 3


def test_half_precision_is_a_choice_and_comes_back_in_fp32(teacher, texts):
    exact = label(teacher, texts)
    half = label(teacher, texts, dtype=torch.bfloat16)
    assert half.dtype == torch.float32
    assert not torch.equal(half, exact)
    torch.testing.assert_close(half, exact, atol=0.2, rtol=0)


def test_max_length_is_in_the_teachers_tokens(teacher, texts):
    # A text cut to six tokens is as good as one that has no more: [CLS], four pieces and [SEP].
    pieces = [teacher.tokenizer.tokenize(text)[:4] for text in texts]
    short = [teacher.tokenizer.convert_tokens_to_string(p) for p in pieces]
    assert all(teacher.tokenizer.tokenize(t) == p for t, p in zip(short, pieces, strict=True))
    cut = label(teacher, texts, max_length=6)
    torch.testing.assert_close(cut, label(teacher, short), atol=1e-5, rtol=0)
    assert not torch.allclose(cut, label(teacher, texts), atol=1e-4)


# Bad input


def test_label_names_in_another_order_are_refused(teacher, texts):
    names = teacher.label_names
    assert label(teacher, texts, label_names=names).shape == (10, 5)
    assert label(teacher, texts, label_names=list(names)).shape == (10, 5)
    for wrong in (names[::-1], names[:4], (*names, "another")):
        with pytest.raises(ValueError, match="reorder your labels") as error:
            label(teacher, texts, label_names=wrong)
        assert str(names) in str(error.value)
        assert str(wrong) in str(error.value)


def test_a_bare_model_needs_its_tokenizer_and_gets_no_second_one(teacher, texts):
    with pytest.raises(
        ValueError, match=r"bare BertForSequenceClassification has no tokenizer.*teacher's own tokenizer"
    ):
        label(teacher.model, texts)
    with pytest.raises(ValueError, match="a TextClassifier has the teacher's own tokenizer already"):
        label(teacher, texts, tokenizer=teacher.tokenizer)


@pytest.mark.parametrize("bad", ["", "  \n", None])
def test_an_empty_text_is_refused_with_its_row(teacher, bad):
    with pytest.raises(ValueError, match="row 2: the text is empty"):
        label(teacher, ["one", "two", bad, "four"])


@pytest.mark.parametrize("nothing", [[], "one text instead of a list"])
def test_a_list_of_texts_is_needed(teacher, nothing):
    with pytest.raises(ValueError, match="non-empty list of texts"):
        label(teacher, nothing)


def test_other_bad_settings_are_refused(teacher, texts):
    with pytest.raises(ValueError, match="batch_size must be at least 1, got 0"):
        label(teacher, texts, batch_size=0)
    with pytest.raises(ValueError, match=r"max_length must be at least 3 .*, got 2"):
        label(teacher, texts, max_length=2)


def test_logits_that_are_not_finite_are_refused_with_the_row_and_not_kept(teacher, tmp_path):
    word = teacher.tokenizer("graphics", add_special_tokens=False)["input_ids"]
    with torch.no_grad():
        embedding_weight(teacher.model)[word[0]] = float("nan")
    with pytest.raises(ValueError, match="row 6: the teacher's logits are not finite"):
        label(teacher, ["a", "b", "c", "d", "e", "f", "graphics", "h"], cache_dir=tmp_path)
    assert [path.name for path in shards(tmp_path)] == ["00000.safetensors"]


def test_a_slow_tokenizer_has_no_fingerprint(make_classifier, texts, tmp_path):
    with pytest.raises(ValueError, match="ByT5Tokenizer is a slow tokenizer"):
        label(TextClassifier(make_classifier().model, ByT5Tokenizer()), texts, max_length=32, cache_dir=tmp_path)


# The cache


def test_the_second_call_does_not_run_the_teacher(teacher, texts, tmp_path):
    calls = count_calls(teacher.model)
    first = label(teacher, texts, cache_dir=tmp_path)
    assert len(calls) == 3
    assert torch.equal(label(teacher, texts, cache_dir=tmp_path), first)
    assert len(calls) == 3
    assert torch.equal(label(teacher, texts), first)  # nothing is kept unless it is asked for
    assert len(calls) == 6


@pytest.mark.parametrize("whole_shards", [1, 2])
def test_an_interrupted_run_goes_on_after_its_last_complete_shard(teacher, texts, tmp_path, whole_shards):
    expected = label(teacher, texts)
    calls = count_calls(teacher.model)

    def interrupt(*_):
        if len(calls) > whole_shards:
            raise KeyboardInterrupt

    handle = teacher.model.register_forward_hook(interrupt)
    with pytest.raises(KeyboardInterrupt):
        label(teacher, texts, cache_dir=tmp_path)
    handle.remove()
    assert len(shards(tmp_path)) == whole_shards
    calls.clear()
    assert torch.equal(label(teacher, texts, cache_dir=tmp_path), expected)
    assert len(calls) == 3 - whole_shards


def swapped_vocabulary(tokenizer):
    vocabulary = tokenizer.get_vocab()
    vocabulary["a"], vocabulary["e"] = vocabulary["e"], vocabulary["a"]
    return BertTokenizer(vocab=vocabulary, model_max_length=32)


def with_attribute(tokenizer, name, value):
    tokenizer = copy.deepcopy(tokenizer)
    setattr(tokenizer, name, value)
    return tokenizer


def with_one_element_changed(model):
    model = copy.deepcopy(model)
    with torch.no_grad():
        model.bert.encoder.layer[1].output.dense.weight[3, 5] += 1e-3
    return model


def with_activation(model, name):
    config = copy.deepcopy(model.config)
    config.hidden_act = name
    other = type(model)(config).eval()
    other.load_state_dict(model.state_dict())
    return other


def boundary_moved(texts):
    first, *rest = texts[1].split()
    return [f"{texts[0]} {first}", " ".join(rest), *texts[2:]]


CHANGES = {
    "one element of the weights": lambda m, k, t: (with_one_element_changed(m), k, t, {}),
    "activation, the weights being equal": lambda m, k, t: (with_activation(m, "relu"), k, t, {}),
    "vocabulary, the size being equal": lambda m, k, t: (m, swapped_vocabulary(k), t, {}),
    "side of truncation": lambda m, k, t: (m, with_attribute(k, "truncation_side", "left"), t, {}),
    "a text": lambda m, k, t: (m, k, [*t[:-1], "another text"], {}),
    "order of the texts": lambda m, k, t: (m, k, t[::-1], {}),
    "boundary between two texts": lambda m, k, t: (m, k, boundary_moved(t), {}),
    "max_length": lambda m, k, t: (m, k, t, {"max_length": 8}),
    "dtype": lambda m, k, t: (copy.deepcopy(m), k, t, {"dtype": torch.bfloat16}),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_another_teacher_text_or_setting_never_gets_the_old_logits(teacher, texts, tmp_path, change):
    before = label(teacher, texts, cache_dir=tmp_path)
    model, tokenizer, other_texts, options = change(*teacher, texts)
    changed = TextClassifier(model, tokenizer)
    after = label(changed, other_texts, cache_dir=tmp_path, **options)
    assert torch.equal(after, label(changed, other_texts, **options))
    assert not torch.equal(after, before)  # the change does matter
    assert len(folders(tmp_path)) == 2


def test_a_folder_that_was_moved_has_the_same_key(teacher, texts, tmp_path):
    cache, first, second = (tmp_path / name for name in ("cache", "first", "second"))
    teacher.model.save_pretrained(first)
    teacher.tokenizer.save_pretrained(first)
    options = {"device": "cpu", "progress": False, "cache_dir": cache}
    precompute_teacher_logits(first, texts, **options)
    written = [path.stat().st_mtime_ns for path in shards(cache)]
    first.rename(second)
    precompute_teacher_logits(second, texts, **options)
    label(teacher, texts, cache_dir=cache)  # nor does it matter whether it was loaded before
    assert len(folders(cache)) == 1
    assert [path.stat().st_mtime_ns for path in shards(cache)] == written


def test_the_side_of_padding_changes_neither_logits_nor_key(teacher, texts, tmp_path):
    before = label(teacher, texts, batch_size=3)
    left = TextClassifier(teacher.model, with_attribute(teacher.tokenizer, "padding_side", "left"))
    torch.testing.assert_close(label(left, texts, batch_size=3), before, atol=1e-6, rtol=0)
    label(teacher, texts, cache_dir=tmp_path)
    label(left, texts, cache_dir=tmp_path)
    assert len(folders(tmp_path)) == 1


def test_what_the_tokenizer_was_asked_before_does_not_change_the_key(teacher, texts, tmp_path):
    tokenizer = copy.deepcopy(teacher.tokenizer)
    teacher = TextClassifier(teacher.model, tokenizer)
    label(teacher, texts, cache_dir=tmp_path)
    tokenizer(texts, truncation=True, max_length=5, padding="max_length")
    label(teacher, texts, cache_dir=tmp_path)
    tokenizer(texts, truncation=False)
    label(teacher, texts, cache_dir=tmp_path)
    assert len(folders(tmp_path)) == 1


def test_batch_size_and_place_in_memory_do_not_change_the_key(teacher, texts, tmp_path):
    label(teacher, texts, cache_dir=tmp_path, batch_size=2)
    copied = TextClassifier(copy.deepcopy(teacher.model), copy.deepcopy(teacher.tokenizer))
    label(copied, tuple(texts), cache_dir=tmp_path)
    assert len(folders(tmp_path)) == 1


def flip_last_byte(path):
    content = bytearray(path.read_bytes())
    content[-1] ^= 0x40
    path.write_bytes(content)


def replace_logits(path):
    with_checksum_of_the_old = {"sha256": target_cache._checksum(path, load_file(path))}
    save_file({"logits": torch.zeros(SHARD, 5)}, path, metadata=with_checksum_of_the_old)


def drop_a_row(path):
    logits = load_file(path)["logits"][1:].contiguous()
    save_file({"logits": logits}, path, metadata={"sha256": target_cache._checksum(path, {"logits": logits})})


DAMAGES = {
    "a flipped bit": flip_last_byte,
    "cut short": lambda path: path.write_bytes(path.read_bytes()[:-30]),
    "cut in its header": lambda path: path.write_bytes(path.read_bytes()[:20]),
    "empty": lambda path: path.write_bytes(b""),
    "zeros": lambda path: path.write_bytes(bytes(path.stat().st_size)),
    "no safetensors": lambda path: path.write_bytes(b"<html>Not found</html>" * 20),
    "another checksum": replace_logits,
    "no checksum": lambda path: save_file({"logits": torch.zeros(SHARD, 5)}, path),
    "another name": lambda path: save_file({"values": torch.zeros(SHARD, 5)}, path),
    "a row too few": drop_a_row,
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())
def test_a_damaged_shard_is_reported_and_made_again(teacher, texts, tmp_path, caplog, damage):
    expected = label(teacher, texts, cache_dir=tmp_path)
    calls = count_calls(teacher.model)
    victim = shards(tmp_path)[1]
    damage(victim)
    with caplog.at_level(logging.WARNING, logger="distill_helpers"):
        assert torch.equal(label(teacher, texts, cache_dir=tmp_path), expected)
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert str(victim) in caplog.text
    assert "labelling these texts again" in caplog.text
    assert len(calls) == 1  # that shard alone
    assert torch.equal(label(teacher, texts, cache_dir=tmp_path), expected)
    assert len(calls) == 1  # and it is whole now


@pytest.fixture(scope="module")
def whole_shard(make_classifier, texts, tmp_path_factory):
    cache, teacher = tmp_path_factory.mktemp("cache"), make_teacher(make_classifier)
    logits = label(teacher, texts[:3], cache_dir=cache)
    (path,) = shards(cache)
    return teacher, cache, path, path.read_bytes(), logits


@given(data=st.data())
@settings(deadline=None, max_examples=40)
@pytest.mark.slow
def test_no_flipped_bit_anywhere_in_a_shard_changes_a_logit(whole_shard, texts, data):
    teacher, cache, path, content, expected = whole_shard
    bit = data.draw(st.integers(0, 8 * len(content) - 1))
    damaged = bytearray(content)
    damaged[bit // 8] ^= 1 << bit % 8
    path.write_bytes(damaged)
    assert torch.equal(label(teacher, texts[:3], cache_dir=cache), expected)


def test_a_shard_left_half_written_by_a_kill_is_ignored(teacher, texts, tmp_path):
    expected = label(teacher, texts, cache_dir=tmp_path)
    path = shards(tmp_path)[1]
    content = path.read_bytes()
    path.unlink()
    path.with_suffix(".4711.tmp").write_bytes(content[: len(content) // 2])
    assert torch.equal(label(teacher, texts, cache_dir=tmp_path), expected)
    assert path.read_bytes() == content


def test_nothing_but_whole_shards_is_left_behind(teacher, texts, tmp_path):
    label(teacher, texts, cache_dir=tmp_path / "made" / "here")
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert sorted(path.name for path in files) == [f"0000{i}.safetensors" for i in range(3)]


def test_a_teacher_in_training_mode_is_labelled_without_dropout(make_classifier, texts):
    expected = label(make_classifier(seed=1), texts)
    teacher = make_classifier(seed=1, dropout=0.5)
    teacher.model.train()
    torch.testing.assert_close(label(teacher, texts), expected, atol=1e-6, rtol=0)
    assert teacher.model.training
