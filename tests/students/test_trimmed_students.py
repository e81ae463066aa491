"""Students of teachers with all kinds of tokenizers: their embeddings are the teacher's, and they train."""

import pytest
import torch
from architectures_table import own_classifier
from tiny_models import distances
from trained_tokenizers import messages

import distill_helpers as dh
from distill_helpers.models.architectures import embedding_weight

TEACHERS = ["BERT", "RoBERTa", "DeBERTa-v2", "ModernBERT", "GPT-2", "Llama", "Qwen3", "Gemma 3"]


@pytest.mark.parametrize("name", TEACHERS)
@pytest.mark.slow
def test_each_row_of_the_students_embedding_comes_from_the_teachers_row_of_the_same_token(name):
    teacher = own_classifier(name)
    student = dh.create_student(teacher, messages(), vocab_size=400, hidden_size=32)
    tokens = student.tokenizer.convert_ids_to_tokens(range(len(student.tokenizer)))
    rows = embedding_weight(teacher.model)[teacher.tokenizer.convert_tokens_to_ids(tokens)].detach()
    found = embedding_weight(student.model).detach()
    assert found.shape == (400, 32)
    torch.testing.assert_close(distances(found), distances(rows), atol=1e-4, rtol=1e-4)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:the student has not learned")
@pytest.mark.parametrize("name", TEACHERS)
def test_a_student_trains_one_step_and_is_loaded_again(name, tmp_path):
    teacher = own_classifier(name)
    texts, labels = list(messages()[:8]), [0, 1, 2, 0, 1, 2, 0, 1]
    logits = dh.precompute_teacher_logits(teacher, texts, max_length=32, device="cpu", progress=False)
    student = dh.create_student(teacher, texts, vocab_size=350, hidden_size=32, max_length=32)
    data = dh.DistillationDataset(texts, labels, logits, student.tokenizer)
    result = dh.train_student_with_distillation(
        student, data, data, n_epochs=1, batch_size=8, warmup_ratio=0, output_dir=tmp_path, device="cpu", progress=False
    )
    before, after = embedding_weight(student.model), embedding_weight(result.model)
    changed = (before != after).any(dim=1)
    in_use = {i for ids in dh.encode_texts(student.tokenizer, texts) for i in ids} - {student.tokenizer.pad_token_id}
    assert changed[sorted(in_use)].all()
    loaded = dh.load_text_classifier(tmp_path, device="cpu")
    assert torch.equal(dh.predict_logits(loaded, texts), dh.predict_logits(result.classifier, texts))


def test_the_first_token_trains_where_another_one_pads():
    student = dh.create_student(own_classifier("GPT-2"), messages(), vocab_size=400, hidden_size=16)
    pad = student.tokenizer.pad_token_id
    assert pad == 399  # GPT-2's only special token is its last
    assert student.model.get_input_embeddings().padding_idx == student.model.config.pad_token_id == pad
    batch = torch.tensor([[0, 5, 7, pad]])
    student.model(batch, attention_mask=torch.tensor([[1, 1, 1, 0]])).logits.sum().backward()
    gradient = embedding_weight(student.model).grad
    assert gradient[[0, 5, 7]].abs().sum(dim=1).min() > 0
    assert gradient[pad].abs().sum() == 0
