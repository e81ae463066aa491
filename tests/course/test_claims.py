"""The claims of the article that this course started from: each stands in the errata as claim, truth, evidence."""

import re

import pytest

from distill_helpers.course.folders import ROOT, SOURCES, notebook_names

#: The notebook, words of the claim, words of what is true.
CLAIMS = [
    ("00_start_here", "1,500 → 150 dollars", r"0\.003"),
    ("00_start_here", "30 times cheaper", "different ratios"),
    ("01_dark_knowledge", r"0\.62 confident", r"0\.9865"),
    ("01_dark_knowledge", "3–8%", "no source"),
    ("01_dark_knowledge", "consistently", "too strong"),
    ("02_temperature", "3–6", "unsupported"),
    ("02_temperature", "sensitive", "unsupported"),
    ("02_temperature", "information", "adds none"),
    ("03_t_squared", "gradients are 1/T² smaller", "limit only"),
    ("03_t_squared", r"KL\(T\) ≈ KL\(1\)/T²", "false in general"),
    ("03_t_squared", "restores", "roughly"),
    ("04_distillation_loss", r"KL\(student‖teacher\)", r"KL\(teacher‖student\)"),
    ("04_distillation_loss", "0.5.*0.9", "Hinton"),
    ("04_distillation_loss", "learning rate", "5e-4"),
    ("04_distillation_loss", "concise", "mode seeking"),
    ("04_distillation_loss", "architecture", "label space|vocabulary"),
    ("05_response_distillation", "last epoch", "best on validation"),
    ("05_response_distillation", "512", "tokenise once"),
    ("05_response_distillation", "leaks", "selects"),
    ("06_feature_distillation", "layer k follows", "followed by nobody"),
    ("06_feature_distillation", "all token positions", "mask it"),
    ("06_feature_distillation", "average over the heads", "hides"),
    ("06_feature_distillation", "True by default", "identical weights"),
    ("06_feature_distillation", "syntax", "unsupported"),
    ("06_feature_distillation", r"90%\+", "no source"),
    ("06_feature_distillation", "start with response", "sound advice"),
    ("06_feature_distillation", "intermediate_layers = True is usually better", "not here"),
    ("07_landmark_systems", "DistilBERT.*97%.*40%", "right"),
    ("07_landmark_systems", "1, 3, 5, 7, 9, 11", "0, 2, 4, 7, 9, 11"),
    ("07_landmark_systems", r"response \+ intermediate", "last hidden"),
    ("07_landmark_systems", "crucial", "random"),
    ("07_landmark_systems", "never freeze", "too strong"),
    ("07_landmark_systems", "BERT-large.*96.8%", "BERT-base"),
    ("07_landmark_systems", "syntax", "unsupported"),
    ("07_landmark_systems", r"MiniLM.*99%\+.*50%", "Transformer parameters"),
    ("07_landmark_systems", "Phi-2.*10 to 40", "misleading"),
    ("07_landmark_systems", "Mistral 7B", "no teacher"),
    ("08_api_distillation", "cannot have logits", "outdated"),
    ("08_api_distillation", "85–92%", "no source"),
    ("08_api_distillation", r"0\.005 and 0\.015 dollars", "stale"),
    ("08_api_distillation", "500 to 5,000 dollars", "inconsistent"),
    ("08_api_distillation", "empty answer", "failure is a record"),
    ("08_api_distillation", "resumed", "only what is missing|asks everything again"),
    ("08_api_distillation", "asyncio.gather", "does not wait"),
    ("09_language_models", "padding", "prompt must not count"),
    ("09_language_models", "argmax", "neither data nor a sampled"),
    ("09_language_models", "T = 4", "T = 1"),
    ("09_language_models", "at once", "8.4 GB"),
    ("09_language_models", "label smoothing", "rises"),
    ("09_language_models", "QLoRA", "neither"),
    ("09_language_models", "another vocabulary", "compare tokenizers"),
]


ERRATA = ROOT / "notebooks" / "errata.md"


def rows(name: str) -> list[list[str]]:
    """The lines of the table in the section of the errata that links to the notebook."""
    table = ERRATA.read_text(encoding="utf-8").split(f"({name}.ipynb)\n")[1].split("\n## ")[0]
    return [[cell.strip() for cell in line.split(" | ")] for line in re.findall(r"(?m)^\|(.*)\|$", table)]


WITH_CLAIMS = sorted({name for name, _, _ in CLAIMS})


def test_the_errata_have_a_section_for_each_notebook_with_claims_which_links_to_them() -> None:
    assert re.findall(r"(?m)^## .*\((\w+)\.ipynb\)$", ERRATA.read_text(encoding="utf-8")) == WITH_CLAIMS
    linking = [name for name in notebook_names() if "(errata.md)" in (SOURCES / f"{name}.py").read_text("utf-8")]
    assert linking == WITH_CLAIMS


@pytest.mark.parametrize("name", WITH_CLAIMS)
def test_every_row_has_claim_truth_and_evidence(name: str) -> None:
    head, _, *body = rows(name)
    assert head == ["it says", "true is", "evidence"]
    assert body
    for row in body:
        assert len(row) == 3, row
        assert all(len(cell) > 3 for cell in row), row


@pytest.mark.parametrize("name", WITH_CLAIMS)
def test_the_sections_that_the_errata_name_are_in_the_notebook(name: str) -> None:
    headings = re.findall(r"(?m)^# #+ (.*)$", (SOURCES / f"{name}.py").read_text("utf-8"))
    for *_, evidence in rows(name)[2:]:
        for section in re.findall(r"(?<!\*)\*([^*]+)\*(?!\*)", evidence):
            assert any(section in heading for heading in headings), section


@pytest.mark.parametrize(("name", "claim", "truth"), CLAIMS, ids=lambda value: str(value)[:30])
def test_a_claim_stands_in_the_errata_with_the_truth(name: str, claim: str, truth: str) -> None:
    assert any(re.search(claim, row[0]) and re.search(truth, row[1]) for row in rows(name)[2:])
