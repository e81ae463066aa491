"""Targets on disk: right, found again, resumed, read in parts, repaired."""

import pickle

import pytest
import torch

import distill_helpers.llm.token_target_store as store_module
from distill_helpers.llm import CompletionCollator, CompletionDataset, precompute_token_targets
from distill_helpers.llm.dense_targets import DenseTargets, HiddenTargets
from distill_helpers.llm.output_heads import last_hidden_states
from distill_helpers.llm.target_kinds import SampledTargets, TopKTargets
from distill_helpers.llm.token_level import completion_hidden_states, completion_labels


@pytest.fixture(scope="module")
def teacher(make_language_model):
    return make_language_model(1)


@pytest.fixture(scope="module")
def exact(teacher, completions):
    """Hidden states and logits of each sequence, read alone and without padding."""
    collate = CompletionCollator(completions.tokenizer)
    found = []
    with torch.no_grad():
        for row in range(len(completions)):
            batch = collate([completions[row]])
            labels = batch.pop("labels")
            hidden = completion_hidden_states(last_hidden_states(teacher.model, **batch), labels)
            found.append((hidden, completion_hidden_states(teacher.model(**batch).logits, labels)))
    return found


@pytest.fixture
def small_shards(monkeypatch):
    monkeypatch.setattr(store_module, "SHARD_BYTES", 4000)


def compute(teacher, completions, folder, kind, **changes):
    options = {"top_k": {"k": 6}, "sampled": {"draws": 7}}.get(kind, {})
    settings = {"cache_dir": folder, **options, "progress": False, "batch_size": 5, **changes}
    return precompute_token_targets(teacher, completions, kind, **settings)


@pytest.mark.parametrize("batch_size", [1, 5, 100])
def test_each_sequence_gets_its_own_targets(teacher, completions, exact, tmp_path, small_shards, batch_size):
    options = {"storage_dtype": torch.float32, "batch_size": batch_size}
    hidden = compute(teacher, completions, tmp_path, "hidden", **options)
    dense = compute(teacher, completions, tmp_path, "dense", **options)
    top_k = compute(teacher, completions, tmp_path, "top_k", temperature=2.0, **options)
    assert len(hidden.files) > 2
    for row, (states, logits) in enumerate(exact):
        assert isinstance(hidden[row], HiddenTargets)
        torch.testing.assert_close(hidden[row].hidden, states, rtol=1e-4, atol=1e-5)
        assert isinstance(dense[row], DenseTargets)
        torch.testing.assert_close(dense[row].logits.softmax(1), logits.softmax(1), rtol=1e-3, atol=1e-6)
        expected = TopKTargets.of(logits, 6, 2.0, storage_dtype=torch.float32)
        assert isinstance(top_k[row], TopKTargets)
        assert top_k[row].temperature == 2.0
        torch.testing.assert_close(top_k[row].log_probs, expected.log_probs, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(top_k[row].log_tail, expected.log_tail, rtol=1e-4, atol=1e-4)
    assert len(hidden) == len(completions)


def test_texts_without_a_prompt_get_their_own_targets_too(teacher, language_tokenizer, help_desk, tmp_path):
    """They have different lengths; padding on the left must not shift the rows."""
    texts = [text[: 20 + 10 * row] for row, text in enumerate(help_desk.train.texts[:5])]
    data = CompletionDataset.from_texts(texts, language_tokenizer, max_length=30)
    store = compute(teacher, data, tmp_path, "hidden", storage_dtype=torch.float32)
    for row, ids in enumerate(data.token_ids):
        with torch.no_grad():
            hidden = last_hidden_states(teacher.model, input_ids=torch.tensor([ids]))[0, :-1]
        torch.testing.assert_close(store[row].hidden, hidden, rtol=1e-4, atol=1e-5)
    again = compute(teacher, data, tmp_path, "hidden", storage_dtype=torch.float32)
    assert again.n_bytes == store.n_bytes
    batch = CompletionCollator(language_tokenizer)([data.with_targets(store)[row] for row in range(5)])
    assert len(batch["teacher_targets"]) == len(completion_labels(batch["labels"]))


def test_draws_follow_the_teacher_and_the_seed(teacher, completions, exact, tmp_path):
    first = compute(teacher, completions, tmp_path / "a", "sampled", draws=2000)
    again = compute(teacher, completions, tmp_path / "b", "sampled", draws=2000)
    other = compute(teacher, completions, tmp_path / "a", "sampled", draws=2000, seed=1)
    assert isinstance(first[0], SampledTargets)
    assert torch.equal(first[0].token_ids, again[0].token_ids)
    assert not torch.equal(first[0].token_ids, other[0].token_ids)
    counts = torch.zeros_like(exact[0][1]).scatter_add_(
        1, first[0].token_ids.long(), torch.ones(first[0].token_ids.shape)
    )
    assert (counts / 2000 - exact[0][1].softmax(1)).abs().max() < 0.05


def test_an_interrupted_run_goes_on_behind_its_last_whole_shard(
    teacher, completions, tmp_path, small_shards, monkeypatch
):
    read = store_module.last_hidden_states
    calls = []

    def failing(model, **batch):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return read(model, **batch)

    monkeypatch.setattr(store_module, "last_hidden_states", failing)
    options = {"storage_dtype": torch.float32, "batch_size": 1}
    with pytest.raises(KeyboardInterrupt):
        compute(teacher, completions, tmp_path, "hidden", **options)
    done = sorted(tmp_path.rglob("*.safetensors"))
    calls[:] = [0] * 10
    store = compute(teacher, completions, tmp_path, "hidden", **options)
    per_shard = [len(range(a, b)) for a, b in zip(store._first, [*store._first[1:], len(completions)], strict=True)]
    assert 1 <= len(done) < len(store.files)
    assert len(calls) - 10 == sum(per_shard[len(done) :])
    calls[:] = [0] * 10
    compute(teacher, completions, tmp_path, "hidden", **options)
    assert len(calls) == 10  # all of it was there


def test_a_damaged_shard_is_computed_again(teacher, completions, exact, tmp_path, small_shards, caplog):
    store = compute(teacher, completions, tmp_path, "hidden", storage_dtype=torch.float32)
    content = bytearray(store.files[1].read_bytes())
    content[-5] ^= 255
    store.files[1].write_bytes(content)
    again = compute(teacher, completions, tmp_path, "hidden", storage_dtype=torch.float32)
    assert "damaged" in caplog.text
    for row, (states, _) in enumerate(exact):
        torch.testing.assert_close(again[row].hidden, states, rtol=1e-4, atol=1e-5)


def test_other_settings_other_folder(teacher, make_language_model, completions, tmp_path):
    for changes in ({}, {"k": 5}, {"temperature": 2.0}, {"storage_dtype": torch.float32}, {"vocab_size": 100}):
        compute(teacher, completions, tmp_path, "top_k", **changes)
    compute(make_language_model(2), completions, tmp_path, "top_k")
    compute(teacher, completions, tmp_path, "hidden")
    assert len(list(tmp_path.iterdir())) == 7


def test_a_default_that_is_written_out_is_the_same_folder(teacher, completions, tmp_path):
    for options in ({}, {"draws": 50}, {"draws": 51}):
        precompute_token_targets(teacher, completions, "sampled", cache_dir=tmp_path, progress=False, **options)
    assert len(list(tmp_path.iterdir())) == 2


def test_bytes_per_token_are_those_of_the_files(teacher, completions, tmp_path):
    n_tokens = sum(completions.n_tokens)
    for kind, own in {"hidden": 2 * 32, "top_k": 6 * 6 + 4, "sampled": 7 * 4 + 4, "dense": 2 * 400}.items():
        store = compute(teacher, completions, tmp_path, kind)
        assert own <= store.bytes_per_token <= own + 1000 / n_tokens
        assert store.n_bytes == pytest.approx(store.bytes_per_token * n_tokens)
    assert repr(store) == (
        f"TokenTargetStore(DenseTargets of 12 sequences, {n_tokens} tokens, {store.bytes_per_token:.0f} bytes each)"
    )


def test_a_batch_carries_the_rows_of_its_labels(teacher, completions, exact, tmp_path):
    store = compute(teacher, completions, tmp_path, "dense", storage_dtype=torch.float32)
    data = completions.with_targets(store)
    batch = CompletionCollator(data.tokenizer)([data[row] for row in (4, 3, 9)])
    logits = torch.cat([exact[row][1] for row in (4, 3, 9)])
    torch.testing.assert_close(batch["teacher_targets"].logits.softmax(1), logits.softmax(1), rtol=1e-3, atol=1e-6)


def test_a_store_goes_to_the_workers_of_a_data_loader(teacher, completions, tmp_path):
    store = compute(teacher, completions, tmp_path, "hidden")
    opened = store[0].hidden
    assert torch.equal(pickle.loads(pickle.dumps(store))[0].hidden, opened)


def test_what_cannot_be_kept_is_refused(teacher, make_language_model, completions, tmp_path):
    for kind, changes, message in (
        ("logits", {}, "unknown kind 'logits'"),
        ("top_k", {"k": 0}, "k must lie in"),
        ("sampled", {"draws": 0}, "at least 1"),
        ("top_k", {"temperature": -1.0}, "temperature"),
        ("top_k", {"batch_size": 0}, "batch_size"),
    ):
        with pytest.raises(ValueError, match=message):
            compute(teacher, completions, tmp_path, kind, **changes)
    for kind, changes, message in (
        ("hidden", {"k": 5}, "kind 'hidden' have no option 'k'; their options: none"),
        ("top_k", {"draws": 5}, "kind 'top_k' have no option 'draws'; their options: k"),
    ):
        with pytest.raises(TypeError, match=message):
            compute(teacher, completions, tmp_path, kind, **changes)
    assert not list(tmp_path.iterdir())
    broken = make_language_model(3)
    with torch.no_grad():
        broken.model.base_model.norm.weight[0] = float("inf")
    with pytest.raises(ValueError, match="sequences 0 to 4 are not finite"):
        compute(broken, completions, tmp_path, "hidden")
    store = compute(teacher, completions, tmp_path, "hidden")
    shorter = type(completions)(completions.token_ids[:5], completions.prompt_lengths[:5], completions.tokenizer)
    with pytest.raises(ValueError, match="compute them for this dataset"):
        shorter.with_targets(store)


def test_prompts_of_other_lengths_are_other_targets(teacher, completions, tmp_path):
    longer = [
        length + (length + 2 < len(ids))
        for length, ids in zip(completions.prompt_lengths, completions.token_ids, strict=True)
    ]
    other = CompletionDataset(completions.token_ids, longer, completions.tokenizer)
    for data in (completions, other):
        store = compute(teacher, data, tmp_path, "hidden")
        assert [len(store[row]) for row in range(len(data))] == data.n_tokens
    assert len(list(tmp_path.iterdir())) == 2


def test_the_same_number_of_tokens_elsewhere_is_another_folder(teacher, language_tokenizer, tmp_path):
    ids = [5, 6, 7, 8, 9, 10]
    one, other = (CompletionDataset([ids, ids], lengths, language_tokenizer) for lengths in ([2, 4], [4, 2]))
    stores = [compute(teacher, data, tmp_path, "hidden", storage_dtype=torch.float32) for data in (one, other)]
    assert stores[0].files != stores[1].files
    assert torch.equal(stores[0][0].hidden[2:], stores[1][0].hidden)


@pytest.fixture
def repeated(completions):
    """One sequence many times, so that only the draws can differ."""
    ids, prompt = completions.token_ids[0], completions.prompt_lengths[0]
    return CompletionDataset([ids] * 8, [prompt] * 8, completions.tokenizer)


def test_each_shard_is_drawn_anew(teacher, repeated, tmp_path, small_shards):
    store = compute(teacher, repeated, tmp_path, "sampled", draws=21)
    assert len(store.files) > 2
    assert len({str(store[row].token_ids.tolist()) for row in range(8)}) == 8


@pytest.mark.parametrize("batch_size", [1, 3, 100])
def test_draws_do_not_depend_on_the_batch_size(teacher, completions, tmp_path, small_shards, batch_size):
    stores = [
        compute(teacher, completions, tmp_path / str(n), "sampled", batch_size=n, draws=9) for n in (5, batch_size)
    ]
    for row in range(len(completions)):
        assert torch.equal(stores[0][row].token_ids, stores[1][row].token_ids)


def test_a_resumed_run_has_the_draws_of_one_that_was_not_interrupted(
    teacher, completions, tmp_path, small_shards, monkeypatch
):
    whole = compute(teacher, completions, tmp_path / "whole", "sampled", batch_size=1, draws=21)
    assert len(whole.files) > 3
    read, calls = store_module.last_hidden_states, []

    def failing(model, **batch):
        calls.append(1)
        if len(calls) == 5:
            raise KeyboardInterrupt
        return read(model, **batch)

    monkeypatch.setattr(store_module, "last_hidden_states", failing)
    with pytest.raises(KeyboardInterrupt):
        compute(teacher, completions, tmp_path / "resumed", "sampled", batch_size=1, draws=21)
    assert list((tmp_path / "resumed").rglob("*.safetensors"))
    resumed = compute(teacher, completions, tmp_path / "resumed", "sampled", batch_size=1, draws=21)
    for row in range(len(completions)):
        assert torch.equal(resumed[row].token_ids, whole[row].token_ids)


def test_rows_that_changed_after_the_opening_are_refused(teacher, completions, tmp_path, small_shards):
    store = compute(teacher, completions, tmp_path, "top_k")
    intact = store[11].log_probs.clone()
    last = pickle.loads(pickle.dumps(store))  # a worker, which opens the file later
    content = bytearray(store.files[0].read_bytes())
    content[-5] ^= 1
    store.files[0].write_bytes(content)
    refused = 0
    for row in range(len(store)):
        for opened in (store, last):
            try:
                opened[row]
            except ValueError as error:
                assert f"sequence {row} in {store.files[0]} have changed" in str(error)  # noqa: PT017
                refused += 1
    assert refused == 2
    again = compute(teacher, completions, tmp_path, "top_k")
    assert torch.equal(again[11].log_probs, intact)


def test_chunks_are_the_same_rows():
    rows = torch.arange(23.0)[:, None]
    for lengths in ([23], [1] * 23, [10, 13], [4, 4, 15]):
        chunks = list(store_module._chunks(iter(rows.split(lengths)), 4))
        assert [len(chunk) for chunk in chunks] == [4] * 5 + [3]
        assert torch.equal(torch.cat(chunks), rows)
    assert [len(chunk) for chunk in store_module._chunks(iter(rows[:8].split(2)), 4)] == [4, 4]
