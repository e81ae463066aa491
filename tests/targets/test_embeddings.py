"""A teacher's embeddings: kept on disk, projected on their principal components, and learnt by a student."""

import copy

import pytest
import torch
import torch.nn.functional as F
from transformers import BertConfig, BertModel

from distill_helpers.evaluation.embeddings import similarity_rank_correlation
from distill_helpers.losses.distillation_config import DistillationConfig
from distill_helpers.losses.distillation_loss import DistillationLoss
from distill_helpers.models.sentence_encoders import SentenceEncoder
from distill_helpers.targets.embeddings import fit_pca, precompute_teacher_embeddings, project
from distill_helpers.training.dataset import DistillationCollator, DistillationDataset

AS_EMBEDDINGS = DistillationConfig(task="regression", temperature=1.0, alpha=1.0)


@pytest.fixture(scope="module")
def texts(help_desk):
    return [" ".join(text.split()[:12]) for text in help_desk.validation.texts[:60]]


def make_encoder(tokenizer, *, seed=0, normalize=False, width=32, dropout=0.0):
    torch.manual_seed(seed)
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=width,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=48,
        max_position_embeddings=32,
        initializer_range=0.2,
        hidden_dropout_prob=dropout,
        attention_probs_dropout_prob=dropout,
    )
    return SentenceEncoder(BertModel(config).eval(), tokenizer, pooling="mean", normalize=normalize)


@pytest.fixture(scope="module")
def teacher(small_tokenizer):
    return make_encoder(small_tokenizer)


@pytest.fixture(scope="module")
def embeddings(teacher, texts):
    return teacher.embed(texts)


def precompute(teacher, texts, **options):
    return precompute_teacher_embeddings(teacher, texts, device="cpu", progress=False, **options)


# Computed once


def test_the_cache_gives_back_what_the_teacher_said(teacher, texts, embeddings, tmp_path, monkeypatch):
    assert torch.equal(precompute(teacher, texts, cache_dir=tmp_path), embeddings)
    assert len(list(tmp_path.rglob("*.safetensors"))) == 1
    monkeypatch.setattr(type(teacher.model), "forward", None)
    assert torch.equal(precompute(teacher, texts, cache_dir=tmp_path), embeddings)


def test_pooling_and_length_are_a_part_of_the_key(small_tokenizer, texts, tmp_path):
    bare = BertModel(make_encoder(small_tokenizer).model.config).eval()
    made = [
        SentenceEncoder(bare, small_tokenizer, pooling=pooling, normalize=normalize)
        for pooling in ("mean", "cls")
        for normalize in (False, True)
    ]
    results = [precompute(encoder, texts, cache_dir=tmp_path) for encoder in made]
    assert len(list(tmp_path.iterdir())) == 4
    assert all(torch.equal(result, encoder.embed(texts)) for result, encoder in zip(results, made, strict=True))


def test_a_folder_is_loaded_with_its_own_pooling(teacher, texts, embeddings, tmp_path):
    teacher.save(tmp_path)
    assert torch.equal(precompute(tmp_path, texts), embeddings)


def test_a_teacher_in_half_precision_gives_single_precision(teacher, texts, embeddings):
    half = teacher._replace(model=copy.deepcopy(teacher.model))
    found = precompute(half, texts, dtype=torch.bfloat16)
    assert found.dtype == torch.float32
    assert half.model.dtype == torch.bfloat16
    assert F.cosine_similarity(found, embeddings).min() > 0.99


def test_a_classifier_does_not_say_how_its_embeddings_are_made(make_classifier, texts):
    with pytest.raises(TypeError, match=r"the teacher is a TextClassifier.*SentenceEncoder\(model, tokenizer"):
        precompute(make_classifier(), texts)


def test_an_empty_text_is_refused_with_its_row(teacher):
    with pytest.raises(ValueError, match="row 1"):
        precompute(teacher, ["a mac", " "])


# Principal components


def test_the_components_are_those_of_a_singular_value_decomposition(embeddings):
    pca = fit_pca(embeddings, 5)
    centred = (embeddings - embeddings.mean(dim=0)).double()
    _, singular, directions = torch.linalg.svd(centred, full_matrices=False)
    found = torch.from_numpy(pca.components_)
    assert torch.allclose((found @ directions[:5].T).abs(), torch.eye(5, dtype=torch.double), atol=1e-6)
    share = (singular[:5].square().sum() / singular.square().sum()).item()
    assert pca.explained_variance_ratio_.sum() == pytest.approx(share)


def test_the_projection_keeps_the_origin_and_with_it_the_cosines(embeddings):
    shifted = embeddings + 3 * embeddings.std()  # embeddings of text do not have their centre at the origin
    pca = fit_pca(shifted, 12)
    narrow = project(pca, shifted)
    assert narrow.shape == (len(embeddings), 12)
    assert narrow.dtype == torch.float32
    assert torch.allclose(narrow.double(), shifted.double() @ torch.from_numpy(pca.components_).T, atol=1e-5)
    centred = torch.from_numpy(pca.transform(shifted.double().numpy()))
    kept, lost = (similarity_rank_correlation(candidate, shifted) for candidate in (narrow, centred))
    assert kept > lost


def test_all_components_are_a_rotation(embeddings):
    full = project(fit_pca(embeddings, 32), embeddings)
    assert torch.allclose(full @ full.T, embeddings @ embeddings.T, atol=1e-4)
    assert similarity_rank_correlation(full, embeddings) == pytest.approx(1.0)


def test_the_result_has_length_one_where_it_is_asked_for(embeddings):
    pca = fit_pca(embeddings, 4)
    unit = project(pca, embeddings, normalize=True)
    assert torch.allclose(unit, F.normalize(project(pca, embeddings), dim=1), atol=1e-6)


@pytest.mark.parametrize("width", [0, 33])
def test_a_width_that_the_teacher_does_not_have_is_refused(embeddings, width):
    with pytest.raises(ValueError, match=f"between 1 and the teacher's 32, got {width}"):
        fit_pca(embeddings, width)


def test_what_cannot_be_projected_is_refused(embeddings):
    with pytest.raises(ValueError, match="5 embeddings have at most 5 components, and width is 6"):
        fit_pca(embeddings[:5], 6)
    broken = embeddings.clone()
    broken[7, 2] = float("nan")
    pca = fit_pca(embeddings, 4)
    for call in (lambda: fit_pca(broken, 4), lambda: project(pca, broken)):
        with pytest.raises(ValueError, match="row 7: the embedding is not finite"):
            call()
    with pytest.raises(ValueError, match="fitted on embeddings of width 32, got width 30"):
        project(pca, embeddings[:, :30])
    with pytest.raises(ValueError, match="got ndarray"):
        fit_pca(embeddings.numpy(), 4)
    pca.whiten = True
    with pytest.raises(ValueError, match="whiten=True"):
        project(pca, embeddings)


# The loss


def test_the_loss_is_the_mse_loss_of_sentence_transformers(embeddings):
    generator = torch.Generator().manual_seed(1)
    student = torch.randn(embeddings.shape, generator=generator, requires_grad=True)
    loss = DistillationLoss(AS_EMBEDDINGS)(student, embeddings)["total_loss"]
    # sentence_transformers.losses.MSELoss: torch.nn.MSELoss over the embeddings of a batch.
    expected = torch.nn.MSELoss()(student, embeddings)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-6)
    (gradient,) = torch.autograd.grad(loss, student, retain_graph=True)
    (reference,) = torch.autograd.grad(expected, student)
    assert torch.allclose(gradient, reference, rtol=1e-6, atol=1e-9)


def test_of_unit_vectors_the_loss_is_the_cosine_distance(embeddings):
    student = F.normalize(torch.randn(embeddings.shape, generator=torch.Generator().manual_seed(1)), dim=1)
    loss = DistillationLoss(AS_EMBEDDINGS)(student, F.normalize(embeddings, dim=1))["total_loss"]
    cosine = F.cosine_similarity(student, embeddings).mean()
    assert loss.item() == pytest.approx((2 / 32 * (1 - cosine)).item(), rel=1e-5)


# Training


def gradient_step(student, texts, targets, make_loss):
    model = copy.deepcopy(student.model).train()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    data = DistillationDataset(texts, None, targets, student.tokenizer, task="regression")
    batch = DistillationCollator(student.tokenizer)([data[i] for i in range(len(data))])
    make_loss(model, batch).backward()
    optimizer.step()
    return model


def test_a_step_on_our_loss_is_a_step_on_the_formula(small_tokenizer, texts, embeddings):
    student = make_encoder(small_tokenizer, seed=1)
    loss = DistillationLoss(AS_EMBEDDINGS)

    def ours(model, batch):
        logits = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
        return loss(logits, batch["teacher_logits"])["total_loss"]

    def formula(model, batch):
        hidden = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).last_hidden_state
        real = batch["attention_mask"][..., None].float()
        pooled = (hidden * real).sum(dim=1) / real.sum(dim=1)
        return torch.nn.functional.mse_loss(pooled, batch["teacher_logits"])

    one, other = (gradient_step(student, texts, embeddings, make_loss) for make_loss in (ours, formula))
    moved = 0.0
    for name, tensor in one.state_dict().items():
        assert torch.allclose(tensor, other.state_dict()[name], atol=1e-6), name
        moved = max(moved, (tensor - student.model.state_dict()[name]).abs().max().item())
    assert moved > 1e-3


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:the student has not learned")  # by its squared error; the order is what counts
def test_a_student_learns_to_order_texts_as_its_teacher_does(help_desk, tmp_path):
    from distill_helpers.models.loading import base_encoder_path
    from distill_helpers.models.sentence_encoders import load_sentence_encoder
    from distill_helpers.students.creation import create_student
    from distill_helpers.training.train_student import train_student_with_distillation

    parts = (help_desk.train.texts[:400], help_desk.validation.texts[:100])
    train, validation = ([" ".join(text.split()[:12]) for text in part] for part in parts)
    teacher = load_sentence_encoder(base_encoder_path(), device="cpu")
    targets = [precompute(teacher, part) for part in (train, validation)]
    pca = fit_pca(targets[0], 16)
    student = create_student(teacher, train, vocab_size=1000, hidden_size=16, max_length=32)
    before = similarity_rank_correlation(student.embed(validation), targets[1])
    sets = [
        DistillationDataset(part, None, project(pca, target, normalize=True), student.tokenizer, task="regression")
        for part, target in zip((train, validation), targets, strict=True)
    ]
    result = train_student_with_distillation(
        student, *sets, AS_EMBEDDINGS, n_epochs=8, learning_rate=1e-2, output_dir=tmp_path, device="cpu", progress=False
    )
    after = similarity_rank_correlation(result.classifier.embed(validation), targets[1])
    assert after > before + 0.15, (before, after)
    back = load_sentence_encoder(tmp_path, device="cpu")
    assert (back.pooling, back.normalize, back.width) == ("mean", True, 16)
    assert torch.allclose(back.embed(validation), result.classifier.embed(validation), atol=1e-6)
    card = (tmp_path / "README.md").read_text(encoding="utf-8")
    assert "sentence encoder" in card
    assert "pipeline_tag: sentence-similarity" in card
    assert "LABEL" not in card
