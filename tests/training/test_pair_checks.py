"""What the trainers refuse, or warn of, before a teacher and a student have read anything."""

import copy
import warnings

import pytest
import torch
from peft import LoraConfig, get_peft_model
from tiny_models import NAMES, tiny_config, tiny_model
from training_runs import train
from transformers import TrainingArguments

from distill_helpers import DistillationCollator, DistillationConfig, DistillationDataset, DistillationTrainer
from distill_helpers.models.text_models import TextClassifier
from distill_helpers.training.pair_checks import check_live_pair, check_pair

SOFT, FEATURES = DistillationConfig(alpha=1.0), DistillationConfig(response_loss_weight=0.0, cosine_loss_weight=1.0)


@pytest.fixture
def pair(small_tokenizer):
    return tuple(TextClassifier(tiny_model(tiny_config("bert", 400, 1), seed), small_tokenizer) for seed in (0, 1))


def checked(teacher, student, config=SOFT, **options):
    """The lines of the warning."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        check_live_pair(teacher, student.model, student.tokenizer, config, **options)
    assert len(caught) <= 1
    return [line for warning in caught for line in str(warning.message).splitlines()]


def rename(classifier, names):
    classifier.model.config.id2label = dict(enumerate(names))


def test_a_sound_pair_passes_without_a_word(pair):
    assert checked(*pair) == []


def test_all_errors_come_together(pair):
    teacher, student = pair
    rename(student, reversed(NAMES))
    student.model.bfloat16()
    teacher.model.config.problem_type = "multi_label_classification"
    with pytest.raises(ValueError, match=r"(?s)error: label order: .*error: problem type: .*error: dtypes: .*bfloat16"):
        checked(teacher, student)


def test_the_trainers_run_a_teacher_without_dropout_and_leave_its_mode_alone(pair):
    pair[0].model.train()
    assert "dropout" in {finding.check for finding in check_pair(*pair)}
    assert checked(*pair) == []
    assert pair[0].model.training


def test_classes_without_names_are_a_warning_and_other_classes_an_error(pair):
    teacher, student = pair
    rename(teacher, ("LABEL_0", "LABEL_1", "LABEL_2"))
    (line,) = checked(teacher, student)
    assert line.startswith("label order: the teacher's classes are called LABEL_0 and so on, so nothing says")
    assert checked(teacher, student, warn=False) == []
    rename(teacher, ("Graphics", "WINDOWS ", "mac"))
    assert checked(teacher, student) == []
    rename(teacher, ("WINDOWS", "Graphics", "mac"))
    with pytest.raises(ValueError, match="in another order: class 0 is 'WINDOWS' for the teacher and 'graphics' for"):
        checked(teacher, student)
    rename(teacher, ("graphics", "windows", "linux"))
    with pytest.raises(ValueError, match=r"only one of them has \['linux'\]"):
        checked(teacher, student)


def test_without_soft_targets_classes_may_differ_but_not_be_permuted(pair):
    teacher, student = pair
    rename(teacher, ("a", "b"))
    teacher.model.config.problem_type = "multi_label_classification"
    assert checked(teacher, student, FEATURES) == []
    assert checked(teacher, student, DistillationConfig(alpha=0.0)) == []
    rename(teacher, reversed(NAMES))
    with pytest.raises(ValueError, match="the teacher has the student's classes in another order"):
        checked(teacher, student, FEATURES)


def test_names_that_only_differ_in_signs_stay_apart(pair):
    teacher, student = pair
    rename(student, ("c", "c++", "c#"))
    rename(teacher, ("c++", "c", "c#"))
    with pytest.raises(ValueError, match=r"class 0 is 'c\+\+' for the teacher and 'c' for"):
        checked(teacher, student)


def test_a_live_teacher_of_another_vocabulary_is_refused_and_cached_logits_are_not(pair, base_tokenizer):
    other = TextClassifier(tiny_model(tiny_config("bert", len(base_tokenizer), 1)), base_tokenizer)
    assert check_pair(other, pair[1]) == []
    with pytest.raises(ValueError, match=r"vocabularies: teacher and student have different vocabularies, .*cached"):
        checked(other, pair[1])
    check_live_pair(other, pair[1].model, None, SOFT)  # nothing is known of the student's tokens


def test_what_is_no_tokenizer_is_not_asked_for_tokens(pair):
    images = [TextClassifier(classifier.model, object()) for classifier in pair]
    check_live_pair(images[0], images[1].model, images[1].tokenizer, SOFT)
    rename(images[0], reversed(NAMES))
    with pytest.raises(ValueError, match="label order"):
        check_live_pair(images[0], images[1].model, images[1].tokenizer, SOFT)


def test_an_adapted_decoder_that_looks_for_another_padding_token_is_refused(small_tokenizer):
    def decoder(seed):
        return TextClassifier(tiny_model(tiny_config("llama", 400, 1), seed), small_tokenizer)

    teacher, student = decoder(0), decoder(1)
    lora = LoraConfig(task_type="SEQ_CLS", r=2, target_modules=["q_proj"])
    student = student._replace(model=get_peft_model(student.model, lora))
    assert checked(teacher, student) == []
    student.model.config.pad_token_id = 7
    with pytest.raises(ValueError, match=r"padding token: the student: the tokenizer pads with token 0.* looks for 7"):
        checked(teacher, student)


def test_ignored_checks_say_nothing(pair):
    rename(pair[0], reversed(NAMES))
    assert checked(*pair, ignored=("label order",)) == []


def test_both_trainers_refuse_before_they_write(make_classifier, make_sets, tmp_path):
    teacher, names = make_classifier(seed=1), make_classifier().label_names
    rename(teacher, [*names[:-1], "another"])
    with pytest.raises(ValueError, match=r"error: label order: .*only one of them has \['another'\]"):
        train(make_classifier(), make_sets(with_logits=False), tmp_path / "out", teacher=teacher)
    assert not (tmp_path / "out").exists()
    args = TrainingArguments(str(tmp_path / "out"), report_to="none", use_cpu=True)
    student, data = make_classifier(), make_sets(with_logits=False)[0]
    with pytest.raises(ValueError, match="error: label order"):
        DistillationTrainer(student.model, SOFT, args, teacher=teacher, train_dataset=data)
    frozen = copy.deepcopy(student.model).requires_grad_(False)
    with pytest.raises(ValueError, match="error: trainable weights"):
        DistillationTrainer(frozen, SOFT, args, teacher=make_classifier(seed=1), train_dataset=data)


@pytest.mark.slow
def test_a_training_warns_once(make_classifier, make_sets, tmp_path):
    teacher = make_classifier(seed=1)
    rename(teacher, [f"LABEL_{index}" for index in range(len(teacher.label_names))])
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        train(make_classifier(), make_sets(with_logits=False), tmp_path / "out", n_epochs=1, teacher=teacher)
    assert sum("the teacher's classes are called LABEL_0" in str(warning.message) for warning in caught) == 1


def test_a_text_longer_than_the_positions_is_refused_with_data_set_and_row(make_classifier, tmp_path):
    student = make_classifier()
    limit = student.model.config.max_position_embeddings
    tokenizer = copy.deepcopy(student.tokenizer)
    tokenizer.model_max_length = 10_000
    student = student._replace(tokenizer=tokenizer)
    texts = ["no sound", "no sound " * limit]
    long, short = (DistillationDataset(part, [0] * len(part), None, tokenizer) for part in (texts, texts[:1]))
    hard = DistillationConfig(alpha=0.0)
    for name, sets in {"train_dataset": (long, short), "val_dataset": (short, long)}.items():
        with pytest.raises(ValueError, match=rf"{name}, row 1: .*tokens, and the student has {limit} positions; pass"):
            train(student, sets, tmp_path / "out", hard)
    assert not (tmp_path / "out").exists()
    args = TrainingArguments(str(tmp_path), report_to="none", use_cpu=True)
    collator = DistillationCollator(tokenizer)
    with pytest.raises(ValueError, match="eval_dataset, row 1: "):
        DistillationTrainer(student.model, hard, args, train_dataset=short, eval_dataset=long, data_collator=collator)
    # A teacher with fewer positions than its student.
    teacher = make_classifier(seed=1)
    teacher.model.bert.embeddings.position_embeddings = torch.nn.Embedding(2, 32)
    with pytest.raises(ValueError, match=r"train_dataset, row 0: .* and the teacher has 2 positions"):
        train(student, (short, short), tmp_path / "out", teacher=teacher._replace(tokenizer=tokenizer))
