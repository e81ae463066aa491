"""What student and teacher write: on-policy batches, sequence-level completions; how a language model is judged."""

import math

import pytest
import torch

from distill_helpers.data.labelled_texts import IGNORE_INDEX
from distill_helpers.llm import (
    CompletionCollator,
    CompletionDataset,
    evaluate_language_model,
    on_policy_batch,
    teacher_completions,
)
from distill_helpers.llm.generation import continuations
from distill_helpers.llm.on_policy import completed
from distill_helpers.models.text_models import LanguageModel


@pytest.fixture(scope="module")
def batch(completions, language_tokenizer):
    return CompletionCollator(language_tokenizer)([completions[row] for row in (0, 3, 5)])


def test_the_student_goes_on_from_the_prompts(make_language_model, batch, completions):
    own = on_policy_batch(make_language_model(0), batch, max_new_tokens=6)
    assert set(own) == {"input_ids", "attention_mask", "labels"}
    for row, source in enumerate((0, 3, 5)):
        ids = own["input_ids"][row][own["attention_mask"][row].bool()].tolist()
        prompt = completions.token_ids[source][: completions.prompt_lengths[source]]
        labels = own["labels"][row][own["attention_mask"][row].bool()].tolist()
        assert ids[: len(prompt)] == prompt
        assert labels == [IGNORE_INDEX] * len(prompt) + ids[len(prompt) :]
        assert 1 <= len(ids) - len(prompt) <= 6


def test_samples_are_the_students_own_distribution(make_language_model, language_tokenizer):
    """No top-k, no top-p: the first token of many completions against the softmax."""
    student = make_language_model(0)
    prompt = [language_tokenizer.bos_token_id, 50, 60]
    written = completed(student, [prompt] * 4000, max_new_tokens=1, temperature=1.0)
    counts = torch.bincount(torch.tensor([ids[3] for ids in written]), minlength=student.model.config.vocab_size) / 4000
    with torch.no_grad():
        p = student.model(torch.tensor([prompt])).logits[0, -1].softmax(-1)
    assert (counts - p).abs().max() < 5 * math.sqrt(0.25 / 4000)
    assert (counts > 0).sum() > 51  # more than transformers' default of 50 candidates


def test_the_seed_decides_and_nothing_else_is_touched(make_language_model, batch):
    student = make_language_model(0)
    student.model.train()
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    # At temperature 1 most of the completions end at once, whatever the seed.
    one, same, other = (
        on_policy_batch(student, batch, max_new_tokens=6, temperature=4.0, seed=seed)["input_ids"] for seed in (1, 1, 2)
    )
    assert torch.equal(one, same)
    assert one.shape != other.shape or not torch.equal(one, other)
    assert student.model.training
    assert torch.equal(torch.rand(1), expected)


def test_a_completion_ends_with_its_end_token(make_language_model, batch, language_tokenizer):
    student = make_language_model(0)
    end = language_tokenizer.eos_token_id
    with torch.no_grad():  # one that ends at once
        student.model.get_output_embeddings().weight.zero_()
        hidden = student.model.base_model(torch.tensor([[2, 5]])).last_hidden_state[0, -1]
        student.model.get_output_embeddings().weight[end] = 20 * hidden
    own = on_policy_batch(student, batch, max_new_tokens=20)
    for row in range(3):
        labels = own["labels"][row][own["labels"][row] != IGNORE_INDEX].tolist()
        assert end not in labels[:-1]


@pytest.fixture
def prompts(pairs):
    return pairs[0]


def test_the_teacher_writes_what_it_would_write_alone(make_language_model, prompts):
    teacher = make_language_model(1)
    together = teacher_completions(teacher, prompts, max_new_tokens=5, batch_size=4, progress=False)
    for prompt, text in zip(prompts, together, strict=True):
        begun = ids = teacher.tokenizer(prompt)["input_ids"][:-1]  # without [SEP], which ends a text
        for _ in range(5):  # greedy, written out
            with torch.no_grad():
                ids = [*ids, int(teacher.model(torch.tensor([ids])).logits[0, -1].argmax())]
            if ids[-1] == teacher.tokenizer.eos_token_id:
                break
        finished = ids[-1] == teacher.tokenizer.eos_token_id
        assert prompt + text == teacher.tokenizer.decode(ids, skip_special_tokens=True)
        assert (len(ids) - len(begun) < 5) <= finished
        assert together.finished[together.index(text)] == finished


def test_writing_goes_on_where_it_was_interrupted(make_language_model, prompts, tmp_path, monkeypatch):
    teacher = make_language_model(1)
    options = {"max_new_tokens": 4, "temperature": 1.0, "batch_size": 3, "progress": False}
    whole = teacher_completions(teacher, prompts, **options)
    calls = []
    generate = type(teacher.model).generate

    def counted(self, *args, **kwargs):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return generate(self, *args, **kwargs)

    monkeypatch.setattr(type(teacher.model), "generate", counted)
    file = tmp_path / "written.jsonl"
    with pytest.raises(KeyboardInterrupt):
        teacher_completions(teacher, prompts, file=file, **options)
    with file.open("a") as out:
        out.write('{"key": "cut o')
    assert teacher_completions(teacher, prompts, file=file, **options) == whole
    assert len(calls) == 3 + 2
    with pytest.raises(ValueError, match="another model, examples or settings"):
        teacher_completions(teacher, prompts, file=file, seed=1, **options)


def test_bad_numbers_are_refused(make_language_model, prompts):
    teacher = make_language_model(1)
    for changes in ({"batch_size": 0}, {"temperature": -1.0}, {"max_new_tokens": 0}):
        with pytest.raises(ValueError, match=next(iter(changes))):
            teacher_completions(teacher, prompts, progress=False, **changes)
    with pytest.raises(ValueError, match="empty"):
        teacher_completions(teacher, [""], progress=False)


@pytest.mark.parametrize("batch_size", [1, 5])
def test_measures_are_those_of_the_definitions(make_language_model, completions, batch_size):
    student, teacher = make_language_model(0), make_language_model(1, hidden_size=48)
    figures = evaluate_language_model(student, completions, teacher, batch_size=batch_size)
    surprises, of_teacher, kl, reverse, overlap, same = [], [], [], [], [], []
    for ids, prompt in zip(completions.token_ids, completions.prompt_lengths, strict=True):
        with torch.no_grad():
            log_q, log_p = (m.model(torch.tensor([ids])).logits[0].double().log_softmax(-1) for m in (student, teacher))
        for t in range(prompt, len(ids)):
            q, p = log_q[t - 1], log_p[t - 1]
            surprises.append(-q[ids[t]])
            of_teacher.append(-p[ids[t]])
            kl.append((p.exp() * (p - q)).sum())
            reverse.append((q.exp() * (q - p)).sum())
            overlap.append(float(torch.minimum(p.exp(), q.exp()).sum()))
            same.append(float(q.argmax() == p.argmax()))
    assert figures["tokens"] == len(surprises)
    assert figures["perplexity"] == pytest.approx(math.exp(sum(surprises) / len(surprises)), rel=1e-4)
    assert figures["teacher_perplexity"] == pytest.approx(math.exp(sum(of_teacher) / len(surprises)), rel=1e-4)
    assert figures["forward_kl"] == pytest.approx(float(sum(kl)) / len(kl), rel=1e-4)
    assert figures["reverse_kl"] == pytest.approx(float(sum(reverse)) / len(kl), rel=1e-4)
    assert 1 - figures["total_variation"] == pytest.approx(sum(overlap) / len(kl), rel=1e-4)
    assert figures["agreement"] == pytest.approx(sum(same) / len(same))
    assert set(evaluate_language_model(student, completions)) == {"perplexity", "tokens"}


def test_a_teacher_with_other_tokens_is_no_measure(make_language_model, completions, base_tokenizer):
    student = make_language_model(0)
    with pytest.raises(ValueError, match="different tokenizers"):
        evaluate_language_model(student, completions, LanguageModel(student.model, base_tokenizer))
    assert isinstance(completions, CompletionDataset)


def test_what_was_cut_is_known_before_and_after_an_interruption(make_language_model, prompts, tmp_path):
    teacher = make_language_model(1)
    read = [ids[:-1] for ids in teacher.tokenizer(prompts)["input_ids"]]
    free = continuations(teacher, read, max_new_tokens=12, temperature=0)
    teacher.model.generation_config.eos_token_id = [free[0][3], free[5][4]]  # two end after a few tokens
    options = {"progress": False, "file": tmp_path / "written.jsonl", "max_new_tokens": 6}
    texts = teacher_completions(teacher, prompts, **options)
    again = teacher_completions(teacher, prompts, **options)
    assert again.finished == texts.finished
    assert 0 < texts.finished.count(True) < len(prompts)
    longer = teacher_completions(teacher, prompts, **options | {"max_new_tokens": 40, "file": None})
    for text, finished, whole in zip(texts, texts.finished, longer, strict=True):
        assert whole.startswith(text)
        assert not finished or whole == text


@pytest.mark.parametrize(
    "other", [{"temperature": 2.0}, {"batch_size": 4}, {"max_new_tokens": 5}, {"seed": 1}], ids=str
)
def test_a_file_of_other_settings_is_refused(make_language_model, prompts, tmp_path, other):
    teacher, options = make_language_model(1), {"temperature": 1.0, "batch_size": 3, "max_new_tokens": 3}
    file = tmp_path / "written.jsonl"
    teacher_completions(teacher, prompts, file=file, progress=False, **options)
    with pytest.raises(ValueError, match="another model, examples or settings"):
        teacher_completions(teacher, prompts, file=file, progress=False, **options | other)


def test_each_batch_is_drawn_anew(make_language_model, prompts):
    options = {"max_new_tokens": 6, "temperature": 4.0, "batch_size": 1, "progress": False}
    texts = teacher_completions(make_language_model(1), [prompts[0]] * 6, **options)
    assert len(set(texts)) > 1


def test_a_data_set_of_another_tokenizer_is_refused(make_language_model, completions, base_tokenizer):
    data = CompletionDataset(completions.token_ids, completions.prompt_lengths, base_tokenizer)
    with pytest.raises(ValueError, match="data set was tokenised with another tokenizer"):
        evaluate_language_model(make_language_model(0), data)
