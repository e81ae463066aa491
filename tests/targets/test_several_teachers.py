"""Targets of several teachers: mixtures, geometric means, weights, and one teacher for each label."""

import pytest
import torch
from hypothesis import given, settings, strategies as st
from tiny_images import digits, tiny_vit

import distill_helpers as dh
from distill_helpers.losses.soft_targets import soft_target_divergence
from distill_helpers.targets.several_teachers import combine_teacher_logits, weights_by_label


def teachers(n=3, texts=4, classes=5, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(texts, classes, generator=generator) * 4 + 100 * k for k in range(n)]


@settings(deadline=None)
@given(seed=st.integers(0, 1000), temperature=st.sampled_from([0.5, 1.0, 4.0]))
def test_at_the_temperature_of_the_loss_it_is_the_mean_of_the_softened_probabilities(seed, temperature):
    logits = teachers(seed=seed)
    combined = combine_teacher_logits(logits, temperature=temperature, weights=[1, 2, 5])
    expected = sum(w * (z.double() / temperature).softmax(-1) for w, z in zip((1, 2, 5), logits, strict=True)) / 8
    torch.testing.assert_close((combined.double() / temperature).softmax(-1), expected, rtol=1e-4, atol=1e-6)


def test_the_mean_of_the_logits_does_not_see_a_teachers_level():
    logits = teachers()
    combined = combine_teacher_logits(logits, mean_of="logits").softmax(-1)
    shifted = combine_teacher_logits([logits[0] - 50, logits[1] + 7, logits[2]], mean_of="logits").softmax(-1)
    torch.testing.assert_close(combined, shifted)
    geometric = torch.stack([z.double().log_softmax(-1) for z in logits]).mean(0).softmax(-1)
    torch.testing.assert_close(combined.double(), geometric, rtol=1e-5, atol=1e-7)


def test_the_mixture_has_the_smallest_mean_divergence_from_the_teachers():
    logits = teachers(2)
    mixture = combine_teacher_logits(logits)

    def mean(target):
        return sum(float(soft_target_divergence(target, z).mean()) for z in logits) / 2

    for other in (*logits, combine_teacher_logits(logits, mean_of="logits"), mixture + torch.randn(4, 5) * 0.3):
        assert mean(mixture) < mean(other)


@pytest.mark.parametrize("mean_of", ["probabilities", "logits"])
def test_a_weight_of_zero_leaves_a_teacher_out(mean_of):
    logits = teachers(2)
    alone = combine_teacher_logits(logits, weights=[0, 3], mean_of=mean_of)
    torch.testing.assert_close(alone.softmax(-1), logits[1].softmax(-1))


def test_each_label_has_its_own_teacher():
    logits = teachers(3)
    weights = weights_by_label([0, 1, -100, 4], {0: 2, 1: [0, 1]}, n_teachers=3)
    combined = combine_teacher_logits(logits, weights=weights).softmax(-1)
    torch.testing.assert_close(combined[0], logits[2][0].softmax(-1))
    torch.testing.assert_close(combined[1], (logits[0][1].softmax(-1) + logits[1][1].softmax(-1)) / 2)
    shared = torch.stack([z.softmax(-1) for z in logits]).mean(0)
    torch.testing.assert_close(combined[2:], shared[2:])


def test_bad_input_is_refused_with_teacher_and_row():
    first, second = teachers(2)
    with pytest.raises(ValueError, match="two teachers or more, got the logits of 1"):
        combine_teacher_logits([first])
    with pytest.raises(ValueError, match=r"teacher 1 has logits \(4, 4\), teacher 0 \(4, 5\)"):
        combine_teacher_logits([first, second[:, :4]])
    broken = second.clone()
    broken[2, 1] = torch.nan
    with pytest.raises(ValueError, match="row 2: the teacher's logits are not finite; these are teacher 1's"):
        combine_teacher_logits([first, broken])
    for weights in ([1, -1], [0, 0], [1, float("nan")]):
        with pytest.raises(ValueError, match="row 0 of the weights"):
            combine_teacher_logits([first, second], weights=weights)
    with pytest.raises(ValueError, match=r"weights must be \(2,\) or \(4, 2\)"):
        combine_teacher_logits([first, second], weights=[1, 1, 1])
    with pytest.raises(ValueError, match="temperature must be positive, got 0"):
        combine_teacher_logits([first, second], temperature=0)
    with pytest.raises(ValueError, match="mean_of must be"):
        combine_teacher_logits([first, second], mean_of="votes")
    with pytest.raises(ValueError, match=r"label 1 has the teachers \[2\]; give it some of 0 to 1"):
        weights_by_label([0], {1: 2}, n_teachers=2)
    with pytest.raises(ValueError, match="-100 marks a text without a label"):
        weights_by_label([0], {-100: 1}, n_teachers=2)


def test_labels_that_no_key_can_match_are_refused_with_their_row():
    for labels in ([0, "mac"], [0, 1.0], [0, None], [0, True]):
        with pytest.raises(ValueError, match=r"row 1: the label .* is no class index"):
            weights_by_label(labels, {0: 1}, n_teachers=2)
    with pytest.raises(ValueError, match="the key of specialists 'mac' is no class index"):
        weights_by_label([0], {"mac": 1}, n_teachers=2)
    expected = weights_by_label([0, 1], {0: 1}, n_teachers=2)
    assert torch.equal(weights_by_label(torch.tensor([0, 1]), {0: 1}, n_teachers=2), expected)


# Other tasks


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
def test_each_label_of_several_has_the_mean_of_its_own_probabilities(temperature):
    logits = [z % 7 - 3 for z in teachers()]
    combined = combine_teacher_logits(logits, task="multi_label", temperature=temperature, weights=[1, 2, 5])
    expected = sum(w * (z.double() / temperature).sigmoid() for w, z in zip((1, 2, 5), logits, strict=True)) / 8
    torch.testing.assert_close((combined.double() / temperature).sigmoid(), expected, rtol=1e-5, atol=1e-7)
    of_logits = combine_teacher_logits(logits, task="multi_label", mean_of="logits")
    torch.testing.assert_close(of_logits, torch.stack(logits).mean(0))


def test_a_shift_of_all_logits_is_a_change_of_every_label():
    sure, unsure = torch.full((1, 3), 4.0), torch.zeros(1, 3)
    combined = combine_teacher_logits([sure, unsure], task="multi_label")
    torch.testing.assert_close(combined.sigmoid(), (sure.sigmoid() + 0.5) / 2)
    assert combined.min() > 0.5  # the softmax of both teachers is the same
    extreme = combine_teacher_logits([sure * 100, sure * 100], task="multi_label")
    torch.testing.assert_close(extreme, sure * 100)


def test_scores_have_a_plain_mean():
    scores = [torch.tensor([[1.0], [10.0]]), torch.tensor([[3.0], [30.0]])]
    assert combine_teacher_logits(scores, task="regression").flatten().tolist() == [2.0, 20.0]
    by_row = combine_teacher_logits(scores, task="regression", weights=torch.tensor([[3.0, 1.0], [0.0, 1.0]]))
    assert by_row.flatten().tolist() == [1.5, 30.0]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"task": "regression", "mean_of": "probabilities"}, "mean_of must be 'scores' for task='regression'"),
        ({"task": "regression", "temperature": 2.0}, r"scores have no temperature, got 2\.0"),
        ({"task": "multi_label", "mean_of": "scores"}, "mean_of must be 'probabilities' or 'logits'"),
        ({"mean_of": "scores"}, "mean_of must be 'probabilities' or 'logits' for task='single_label'"),
        ({"task": "token_classification"}, "got 'token_classification'; concatenate the words of all texts"),
        ({"task": "ranking"}, "task must be one of"),
        ({"temperature": float("inf")}, "temperature must be positive"),
    ],
)
def test_a_mean_that_the_task_does_not_have_is_refused(options, words):
    with pytest.raises(ValueError, match=words):
        combine_teacher_logits(teachers(2), **options)


def test_a_single_column_of_classes_is_refused():
    with pytest.raises(ValueError, match="single column, whose softmax is always 1; pass task='regression'"):
        combine_teacher_logits([torch.zeros(2, 1), torch.ones(2, 1)])


# From the teachers' own task


def texts_of(help_desk, n=12):
    return help_desk.train.texts[:n]


def of_task(make_classifier, task, seed, names=("urgent", "billing", "other")):
    """A classifier of texts with another task, and weights so large that its logits differ between texts."""
    base = make_classifier(seed=seed)
    model = dh.create_transformer(names, len(base.tokenizer), hidden_size=16, n_layers=1, task=task, seed=seed)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 2:
                parameter.mul_(8)
    return dh.TextClassifier(model, base.tokenizer)


def combined(several, inputs, **options):
    return dh.precompute_combined_logits(several, inputs, device="cpu", progress=False, **options)


@pytest.mark.parametrize("task", ["single_label", "multi_label", "regression"])
def test_the_teachers_task_decides_the_mean(make_classifier, help_desk, task):
    several, texts = [of_task(make_classifier, task, seed) for seed in (1, 2)], texts_of(help_desk)
    logits = [dh.predict_logits(teacher, texts, max_length=32) for teacher in several]
    activation = {"single_label": lambda z: z.softmax(-1), "multi_label": torch.sigmoid}.get(task, lambda z: z)
    result = combined(several, texts, max_length=32, weights=[1, 3])
    torch.testing.assert_close(activation(result), (activation(logits[0]) + 3 * activation(logits[1])) / 4)


def test_each_teachers_cache_is_kept(make_classifier, help_desk, tmp_path):
    several, texts = [of_task(make_classifier, "single_label", seed) for seed in (1, 2, 3)], texts_of(help_desk)
    first = combined(several[:2], texts, max_length=32, cache_dir=tmp_path)
    assert len(list(tmp_path.iterdir())) == 2
    calls = []
    for teacher in several:
        teacher.model.register_forward_hook(lambda module, *_: calls.append(module))
    again = combined(several[:2], texts, max_length=32, cache_dir=tmp_path, mean_of="logits", weights=[1, 0])
    assert calls == []
    torch.testing.assert_close(again.softmax(-1), dh.predict_logits(several[0], texts, max_length=32).softmax(-1))
    calls.clear()
    combined(several, texts, max_length=32, cache_dir=tmp_path)
    assert set(map(id, calls)) == {id(several[2].model)}
    assert not torch.equal(first, again)


def test_teachers_of_images_are_combined_too(tmp_path):
    several, (images, labels) = [tiny_vit(seed=1), tiny_vit(seed=2)], digits(6)
    weights = weights_by_label(labels, {label: label % 2 for label in range(10)}, n_teachers=2)
    result = combined(several, images, weights=weights, cache_dir=tmp_path)
    logits = [dh.predict_image_logits(teacher, images) for teacher in several]
    expected = torch.stack([logits[label % 2][row] for row, label in enumerate(labels)])
    torch.testing.assert_close(result.softmax(-1), expected.softmax(-1))
    with pytest.raises(ValueError, match="images have no max_length"):
        combined(several, images, max_length=8)


def test_teachers_that_can_not_be_averaged_are_refused_before_any_work(make_classifier, help_desk):
    texts = texts_of(help_desk)
    one, multi, scores = (of_task(make_classifier, task, 1) for task in ("single_label", "multi_label", "regression"))
    reordered = of_task(make_classifier, "single_label", 2, names=("billing", "urgent", "other"))
    for teacher in (one, multi, scores, reordered):
        teacher.model.register_forward_hook(lambda *_: pytest.fail("a teacher has worked"))
    with pytest.raises(ValueError, match="the task of teacher 1 is multi_label, that of teacher 0 single_label"):
        combined([one, multi], texts)
    with pytest.raises(ValueError, match=r"teacher 1 has the classes .*billing.*same order"):
        combined([one, reordered], texts)
    with pytest.raises(TypeError, match="teacher 1 is a ImageClassifier, teacher 0 a TextClassifier"):
        combined([one, tiny_vit()], texts)
    with pytest.raises(TypeError, match="teacher 0 is a str"):
        combined(["folder", "other"], texts)
    with pytest.raises(ValueError, match="two teachers or more, got 1"):
        combined([one], texts)
    with pytest.raises(ValueError, match="mean_of must be 'scores'"):
        combined([scores, scores], texts, mean_of="logits")
    with pytest.raises(ValueError, match="row 0 of the weights"):
        combined([one, one], texts, weights=[0, 0])


@pytest.mark.slow
def test_a_student_learns_from_several_teachers_through_data_set_and_trainer(make_classifier, help_desk, tmp_path):
    part = help_desk.train.subset(range(0, 2496, 52))
    several = [make_classifier(seed=seed) for seed in (1, 2)]
    logits = combined(several, part.texts, max_length=32, temperature=2.0)
    student = make_classifier(seed=3)
    data = dh.DistillationDataset(part.texts, part.labels, logits, student.tokenizer)
    result = dh.train_student_with_distillation(
        student,
        data,
        data,
        dh.DistillationConfig(alpha=1.0, temperature=2.0),
        n_epochs=2,
        output_dir=tmp_path,
        device="cpu",
        progress=False,
    )
    mixture = sum((dh.predict_logits(t, part.texts, max_length=32).double() / 2).softmax(-1) for t in several) / 2
    student_log = (dh.predict_logits(result.classifier, part.texts, max_length=32).double() / 2).log_softmax(-1)
    expected = 4 * (mixture * (mixture.log() - student_log)).sum(-1).mean()
    best = result.history.loc[result.history["eval_accuracy"].idxmax()]
    losses = result.history["eval_loss"].tolist()
    assert min(abs(float(expected) - loss) for loss in losses) < 1e-4 * abs(best["eval_loss"]) + 1e-6
