"""Adapters whose base is in memory: saved as one whole model, or refused; never loaded into another base in silence.

`test_loading.py` has adapters on bases that were saved.
"""

import copy

import pytest
import torch
from peft import LoraConfig, PromptTuningConfig, get_peft_model
from training_runs import train

from distill_helpers.models.adapters import check_can_be_merged, merged_copy
from distill_helpers.models.loading import load_text_classifier
from distill_helpers.models.text_models import TextClassifier, predict_logits
from distill_helpers.students.creation import cut_layers, narrow_student

TEXTS = ["my screen stays black", "no sound", "where is my parcel"]
LORA = {"task_type": "SEQ_CLS", "r": 4, "target_modules": ["query", "value"], "init_lora_weights": False}


def adapted(classifier, seed=0):
    torch.manual_seed(seed)
    return classifier._replace(model=get_peft_model(classifier.model, LoraConfig(**LORA)).eval())


def save(classifier, folder):
    classifier.model.save_pretrained(folder)
    classifier.tokenizer.save_pretrained(folder)


def test_a_merged_copy_gives_the_logits_of_the_adapted_model_which_stays_as_it_is(make_classifier):
    student = adapted(make_classifier())
    before = copy.deepcopy(student.model.state_dict())
    expected = predict_logits(student, TEXTS)
    whole = merged_copy(student.model)
    assert type(whole).__name__ == "BertForSequenceClassification"
    torch.testing.assert_close(predict_logits(TextClassifier(whole, student.tokenizer), TEXTS), expected)
    assert all(torch.equal(value, before[name]) for name, value in student.model.state_dict().items())
    assert torch.equal(predict_logits(student, TEXTS), expected)


@pytest.mark.slow
def test_a_trained_student_whose_base_was_never_saved_is_loaded_from_its_folder_alone(
    make_classifier, make_sets, tmp_path
):
    result = train(adapted(make_classifier()), make_sets(), tmp_path / "out", learning_rate=1e-2)
    loaded = load_text_classifier(tmp_path / "out", device="cpu")
    assert loaded.label_names == result.classifier.label_names
    logits = predict_logits(result.classifier, TEXTS)
    torch.testing.assert_close(predict_logits(loaded, TEXTS), logits, atol=1e-5, rtol=0)
    assert (predict_logits(make_classifier(), TEXTS) - logits).abs().max() > 0.01
    assert (tmp_path / "out" / "adapter" / "adapter_model.safetensors").is_file()


def test_what_cannot_be_saved_whole_is_refused_before_anything_is_written(make_classifier, make_sets, tmp_path):
    prompts = PromptTuningConfig(task_type="SEQ_CLS", num_virtual_tokens=2)
    by_prompts = make_classifier()._replace(model=get_peft_model(make_classifier().model, prompts))
    inside, quantised = make_classifier(), adapted(make_classifier())
    inside.model.add_adapter(LoraConfig(**LORA))
    quantised.model.get_base_model().is_quantized = True
    for student, message in (
        (by_prompts, "adapter is PROMPT_TUNING, which can't be merged"),
        (inside, r"wrap the model with `peft\.get_peft_model`"),
        (quantised, "base is quantised, and merging the adapter would round"),
    ):
        with pytest.raises(ValueError, match=message):
            train(student, make_sets(), tmp_path / "out")
    assert not (tmp_path / "out").exists()
    for student in (make_classifier(), adapted(make_classifier())):
        check_can_be_merged(student.model)


@pytest.mark.parametrize(
    "make", [lambda teacher: cut_layers(teacher, [0]), lambda teacher: narrow_student(teacher, hidden_size=16)]
)
def test_the_adapter_of_a_student_does_not_name_its_teacher_as_the_base(make_classifier, tmp_path, make):
    save(make_classifier(), tmp_path / "teacher")
    student = adapted(make(load_text_classifier(tmp_path / "teacher", device="cpu")))
    save(student, tmp_path / "adapter")
    with pytest.raises(FileNotFoundError, match="names no base model"):
        load_text_classifier(tmp_path / "adapter", label_names=student.label_names, device="cpu")


def test_an_adapter_with_fewer_layers_than_its_base_is_refused(make_classifier, tmp_path):
    save(make_classifier(), tmp_path / "teacher")
    student = adapted(cut_layers(make_classifier(), [0]))
    student.model.peft_config["default"].base_model_name_or_path = str(tmp_path / "teacher")
    save(student, tmp_path / "adapter")
    with pytest.raises(ValueError, match="was not trained on this base, which has layers that the adapter lacks"):
        load_text_classifier(tmp_path / "adapter", label_names=student.label_names, device="cpu")
