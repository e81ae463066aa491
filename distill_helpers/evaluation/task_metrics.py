"""The figures of tasks other than one class for each text: several labels, scores, and classes of tokens.

`measures.classification_metrics` has those of one class for each text. Entities, which span several tokens, are left to
a library such as seqeval: token figures count a half-found entity as half right.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from itertools import combinations

import numpy as np
import torch
from torch import Tensor

from distill_helpers.data.labelled_texts import IGNORE_INDEX
from distill_helpers.evaluation.measures import classification_metrics, expected_calibration_error

__all__ = ["multi_label_metrics", "regression_metrics", "token_classification_metrics"]


def multi_label_metrics(
    logits: Tensor,
    labels: Sequence[Sequence[float]] | np.ndarray | Tensor,
    teacher_logits: Tensor | None = None,
    *,
    threshold: float = 0.5,
) -> dict[str, float]:
    """F1, subset accuracy, binary cross-entropy and ECE of a multi-label model. A text has a label if σ(z) ≥ threshold.

    Args:
        logits: (texts, labels).
        labels: 0, 1, or `IGNORE_INDEX` where a label is unknown; (texts, labels). Unknown labels are left out.
        teacher_logits: of the same shape as `logits`. They add `agreement`, the share of equal decisions.
        threshold: in (0, 1).

    Returns:
        `micro_f1` over all decisions, `macro_f1` as the mean over labels (0 for a label that neither is there nor is
        given), `subset_accuracy` as the share of texts all of whose labels are right (NaN if no text has all its labels
        known), `bce` in nats for each label, and `ece`, the mean over labels of the `expected_calibration_error` of yes
        and no.

    Raises:
        ValueError: shapes that differ, no text, logits that are not finite, labels other than 0 and 1 with their place,
            a label that is known of no text, or a threshold outside (0, 1).

    Example:
        >>> logits = torch.tensor([[3.0, -2.0], [1.0, 1.0], [-2.0, 2.0]])
        >>> row = dh.evaluation.multi_label_metrics(logits, [[1, 0], [1, 0], [0, 1]])
        >>> {name: round(figure, 2) for name, figure in row.items()}
        {'micro_f1': 0.86, 'macro_f1': 0.83, 'subset_accuracy': 0.67, 'bce': 0.34, 'ece': 0.23}
    """
    from sklearn.metrics import f1_score

    if not 0 < threshold < 1:
        raise ValueError(f"threshold must lie in (0, 1), got {threshold!r}; it is compared with probabilities")
    given = _matrix(labels)
    if logits.dim() != 2 or logits.numel() == 0 or given.shape != tuple(logits.shape):
        raise ValueError(
            "need logits (texts, labels) and one 0 or 1 for each of them, got the shapes"
            f" {tuple(logits.shape)} and {given.shape}"
        )
    _check_finite(logits)
    known = given != IGNORE_INDEX
    if (wrong := np.argwhere(known & (given != 0) & (given != 1))).size:
        row, column = wrong[0]
        raise ValueError(
            f"row {row}, column {column}: label {given[row, column]:g} is neither 0 nor 1, and not {IGNORE_INDEX} for"
            " unknown"
        )
    if (unknown := np.flatnonzero(~known.any(axis=0))).size:
        raise ValueError(f"label {unknown[0]} is known of no text, so it has no figures; leave its column out")
    probabilities = logits.double().sigmoid().cpu().numpy()
    given_yes, said_yes = given == 1, probabilities >= threshold
    both_answers = np.stack([1 - probabilities, probabilities], axis=-1)
    f1, ece = [], []
    for column in range(given.shape[1]):
        rows = known[:, column]
        f1.append(f1_score(given_yes[rows, column], said_yes[rows, column], zero_division=0))
        ece.append(expected_calibration_error(both_answers[rows, column], given_yes[rows, column].astype(int)))
    complete = known.all(axis=1)
    right = (given_yes == said_yes)[complete].all(axis=1)
    # From logits: the logarithm of a probability that was rounded to 0 or 1 would be infinite.
    targets = torch.from_numpy(given_yes).double()
    nats = torch.nn.functional.binary_cross_entropy_with_logits(logits.double().cpu(), targets, reduction="none")
    row_of_figures = {
        "micro_f1": float(f1_score(given_yes[known], said_yes[known], zero_division=0)),
        "macro_f1": float(np.mean(f1)),
        "subset_accuracy": float(right.mean()) if complete.any() else float("nan"),
        "bce": float(nats[torch.from_numpy(known)].mean()),
        "ece": float(np.mean(ece)),
    }
    if teacher_logits is not None:
        _check_same_shape(logits, teacher_logits)
        teacher_yes = teacher_logits.double().sigmoid().cpu().numpy() >= threshold
        row_of_figures["agreement"] = float((teacher_yes == said_yes).mean())
    return row_of_figures


def regression_metrics(
    scores: Tensor,
    labels: Sequence[float] | Sequence[Sequence[float]] | np.ndarray | Tensor,
    teacher_scores: Tensor | None = None,
    *,
    groups: Sequence[Hashable] | None = None,
) -> dict[str, float]:
    """Squared and absolute error and correlations of scores; the quality of the ranking too, if there are groups.

    Args:
        scores: (texts,) or (texts, columns), the outputs of a model.
        labels: the true scores, as many.
        teacher_scores: the teacher's, as many. They add `teacher_mse` and `teacher_spearman`: how faithful the student
            is.
        groups: for a reranker, the query of each text. They add `pairwise_accuracy`, the share of pairs of one query
            with different labels that the scores put in the right order (equal scores count a half), and `ndcg`, the
            mean over queries that have texts with different labels.

    Returns:
        `mse`, `mae`, `pearson` and `spearman`, each a mean over the columns, and what was asked for. A correlation is
        NaN if all the model's scores are equal.

    Raises:
        ValueError: shapes that differ, fewer than two texts, scores or labels that are not finite (with their row), or
            a column whose labels are all equal. With groups also: several columns, a negative label, or no pair to
            compare.

    Example:
        >>> scores = torch.tensor([0.1, 0.4, 0.9, 0.3])
        >>> row = dh.evaluation.regression_metrics(scores, [0.0, 1.0, 2.0, 0.0], groups=["q1", "q1", "q1", "q1"])
        >>> {name: round(figure, 2) for name, figure in row.items()}
        {'mse': 0.42, 'mae': 0.53, 'pearson': 0.95, 'spearman': 0.95, 'pairwise_accuracy': 1.0, 'ndcg': 1.0}
    """
    said, given = _matrix(scores), _matrix(labels)
    if said.ndim == 1:
        said = said[:, None]
    if given.ndim == 1:
        given = given[:, None]
    if said.ndim != 2 or said.shape != given.shape or len(said) < 2:
        raise ValueError(
            "need two or more texts and one label for each score, got the shapes"
            f" {tuple(scores.shape)} and {_matrix(labels).shape}"
        )
    for name, values in (("score", said), ("label", given)):
        if (wrong := np.argwhere(~np.isfinite(values))).size:
            row = wrong[0][0]
            raise ValueError(f"row {row}: the {name} {values[row]} is not finite; drop the row or fix it")
    if (constant := np.flatnonzero(np.ptp(given, axis=0) == 0)).size:
        raise ValueError(
            f"all labels of column {constant[0]} are {given[0, constant[0]]:g}, so no correlation can be computed; are"
            " these the true scores?"
        )
    row_of_figures = {
        "mse": float(np.square(said - given).mean()),
        "mae": float(np.abs(said - given).mean()),
        "pearson": column_correlation("pearsonr", said, given),
        "spearman": column_correlation("spearmanr", said, given),
    }
    if teacher_scores is not None:
        _check_same_shape(scores, teacher_scores)
        teacher = _matrix(teacher_scores).reshape(said.shape)
        row_of_figures["teacher_mse"] = float(np.square(said - teacher).mean())
        row_of_figures["teacher_spearman"] = column_correlation("spearmanr", said, teacher)
    return row_of_figures if groups is None else row_of_figures | _ranking_metrics(said, given, groups)


def token_classification_metrics(
    logits: Tensor | Sequence[Tensor],
    labels: Tensor | Sequence[Sequence[int]],
    teacher_logits: Tensor | Sequence[Tensor] | None = None,
) -> dict[str, float]:
    """`classification_metrics` over all tokens that have a label. Classes are those of tokens, "O" included.

    Args:
        logits: (texts, length, classes), or for each text (its length, classes).
        labels: (texts, length), or for each text its list. `IGNORE_INDEX` marks what does not count: padding, special
            tokens, and the pieces of a word after its first. Whatever the logits are there, they are not looked at.
        teacher_logits: as `logits`. They add `agreement`.

    Raises:
        ValueError: numbers of texts or tokens that differ (with the row), or no label at all; and as
            `classification_metrics`.

    Example:
        >>> logits = torch.tensor([[[2.0, 0.0], [0.0, 2.0], [9.0, 9.0]]])  # one text, whose last token is padding
        >>> row = dh.evaluation.token_classification_metrics(logits, [[0, 1, dh.IGNORE_INDEX]])
        >>> {name: round(figure, 2) for name, figure in row.items()}
        {'accuracy': 1.0, 'macro_f1': 1.0, 'nll': 0.13, 'ece': 0.12}
    """
    flat = [torch.as_tensor(row) for row in labels]
    if any(row.dim() != 1 for row in flat):
        raise ValueError("labels must have the shape (texts, length), or be a list for each text")
    present = [row != IGNORE_INDEX for row in flat]
    given = torch.cat([row[kept] for row, kept in zip(flat, present, strict=True)]) if flat else torch.tensor([])
    if len(given) == 0:
        raise ValueError(f"no token has a label other than {IGNORE_INDEX}, so there is nothing to measure")
    if given.is_floating_point():
        raise ValueError(f"labels must be class indices, got {given.dtype}")
    student = _labelled_tokens("logits", logits, present)
    if (wrong := given[(given < 0) | (given >= student.shape[1])]).numel():
        raise ValueError(f"label {int(wrong[0])} is neither one of the {student.shape[1]} classes nor {IGNORE_INDEX}")
    teacher = None if teacher_logits is None else _labelled_tokens("teacher_logits", teacher_logits, present)
    return classification_metrics(student, given.tolist(), teacher)


def _labelled_tokens(name: str, logits: Tensor | Sequence[Tensor], present: list[Tensor]) -> Tensor:
    if len(logits) != len(present):
        raise ValueError(f"{len(logits)} texts in {name} and {len(present)} in the labels; each text needs both")
    for row, (of_text, kept) in enumerate(zip(logits, present, strict=True)):
        if of_text.dim() != 2 or len(of_text) != len(kept):
            raise ValueError(
                f"row {row}: {name} of shape {tuple(of_text.shape)} and {len(kept)} labels; pass logits of the shape"
                " (tokens, classes)"
            )
    return torch.cat([of_text[kept.to(of_text.device)].cpu() for of_text, kept in zip(logits, present, strict=True)])


def _ranking_metrics(said: np.ndarray, given: np.ndarray, groups: Sequence[Hashable]) -> dict[str, float]:
    from sklearn.metrics import ndcg_score

    if len(groups) != len(said) or said.shape[1] != 1:
        raise ValueError(
            f"a ranking needs one score and one group for each text, got scores {said.shape} and {len(groups)} groups"
        )
    if (given < 0).any():
        row = int(np.argwhere(given < 0)[0][0])
        raise ValueError(f"row {row}: the label {given[row, 0]:g} is negative, and NDCG adds up gains of at least 0")
    rows_of: dict[Hashable, list[int]] = {}
    for row, group in enumerate(groups):
        rows_of.setdefault(group, []).append(row)
    order: list[float] = []
    ndcg: list[float] = []
    for rows in rows_of.values():
        pairs = [(i, j) for i, j in combinations(rows, 2) if given[i, 0] != given[j, 0]]
        order += [0.5 + 0.5 * float(np.sign((said[i, 0] - said[j, 0]) * (given[i, 0] - given[j, 0]))) for i, j in pairs]
        if pairs:  # where all labels are equal, every order is the best
            ndcg.append(float(ndcg_score([given[rows, 0]], [said[rows, 0]])))
    if not order:
        raise ValueError("no group has two texts with different labels, so there is no order to judge")
    return {"pairwise_accuracy": float(np.mean(order)), "ndcg": float(np.mean(ndcg))}


def column_correlation(name: str, said: np.ndarray, given: np.ndarray) -> float:
    """The correlation of scipy.stats with this name, a mean over the columns; NaN where either side is constant."""
    from scipy import stats

    columns = [
        getattr(stats, name)(a, b).statistic if np.ptp(a) and np.ptp(b) else np.nan
        for a, b in zip(said.T, given.T, strict=True)
    ]
    return float(np.mean(columns))


def _matrix(values: Sequence[float] | Sequence[Sequence[float]] | np.ndarray | Tensor) -> np.ndarray:
    values = values.detach().double().cpu().numpy() if isinstance(values, Tensor) else values
    return np.asarray(values, dtype=np.float64)


def _check_finite(logits: Tensor) -> None:
    if not logits.isfinite().all():
        raise ValueError("the logits are not finite; a model that returns NaN cannot be evaluated")


def _check_same_shape(student: Tensor, teacher: Tensor) -> None:
    if student.shape != teacher.shape:
        raise ValueError(
            "student and teacher need outputs of the same texts and columns, got the shapes"
            f" {tuple(student.shape)} and {tuple(teacher.shape)}"
        )
