"""Which teacher layer each student layer learns from.

Layers are counted from 0. The embeddings are not counted: they are a pair of their own and never part of a map. Papers
and `output_hidden_states` count the embeddings as entry 0, and published maps and code go wrong by one for that reason.
"""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["LAYER_MAPS", "LayerMap", "alternating_layers", "check_layer_mapping", "layer_map"]

#: Pairs (student layer, teacher layer).
LayerMap = tuple[tuple[int, int], ...]

#: The maps that have a name.
LAYER_MAPS = ("uniform", "last", "alternating")


def layer_map(mapping: str | Sequence[tuple[int, int]], n_student: int, n_teacher: int) -> LayerMap:
    """The pairs (student layer, teacher layer) of a mapping.

    Args:
        mapping: a name, or the pairs themselves, in which a student layer may be left out. The names:

            * "uniform" takes every k-th teacher layer, so that the last student layer learns from the last teacher
              layer. This is TinyBERT's g(m) = k·m (arXiv 1909.10351, section 4.2), which is k·(m + 1) − 1 when layers
              are counted from 0. The ratio k of the numbers of layers must be a whole number.
            * "last" takes the teacher's last `n_student` layers.
            * "alternating" takes DistilBERT's evenly spaced layers, both ends included (`alternating_layers`).
        n_student, n_teacher: numbers of layers.

    Returns:
        The pairs in the order of the student's layers. For 6 of 12 layers, the teacher layers are 1, 3, 5, 7, 9, 11
        (uniform), 6 to 11 (last), or 0, 2, 4, 7, 9, 11 (alternating).

    Raises:
        ValueError: an unknown name, a student deeper than the teacher, a uniform map without a whole k, or pairs that
            name a layer that does not exist or a student layer twice.

    Example:
        >>> dh.layer_map("uniform", 3, 6)
        ((0, 1), (1, 3), (2, 5))
    """
    check_layer_mapping(mapping)
    if not isinstance(mapping, str):
        for student, teacher in mapping:
            if not (0 <= student < n_student and 0 <= teacher < n_teacher):
                raise ValueError(
                    f"the pair ({student}, {teacher}) does not exist: the student has layers 0 to {n_student - 1}, the"
                    f" teacher 0 to {n_teacher - 1}; the embeddings are not counted"
                )
        return tuple(sorted((int(student), int(teacher)) for student, teacher in mapping))
    if not 1 <= n_student <= n_teacher:
        raise ValueError(
            f"{n_student} student layers can't be mapped to {n_teacher} teacher layers by name; give explicit pairs"
        )
    if mapping == "alternating":
        return tuple(enumerate(alternating_layers(n_student, n_teacher)))
    if mapping == "last":
        return tuple((i, n_teacher - n_student + i) for i in range(n_student))
    if n_teacher % n_student:
        raise ValueError(
            f"a uniform map needs a whole ratio of teacher to student layers, and {n_teacher} / {n_student} is none;"
            " use 'last', 'alternating' or explicit pairs"
        )
    k = n_teacher // n_student
    return tuple((i, k * (i + 1) - 1) for i in range(n_student))


def alternating_layers(n_student: int, n_teacher: int) -> list[int]:
    """The evenly spaced teacher layers, first and last included, from which DistilBERT starts its student.

    6 of 12 layers are 0, 2, 4, 7, 9, 11, as in the paper's own code (transformers research projects,
    `distillation/scripts/extract_distilbert.py`). A single layer is the first one.

    Raises:
        ValueError: fewer than one layer, or more than the teacher has.

    Example:
        >>> dh.alternating_layers(3, 6)
        [0, 2, 5]
    """
    if not 1 <= n_student <= n_teacher:
        raise ValueError(f"{n_student} of {n_teacher} layers can't be chosen; ask for 1 to {n_teacher}")
    if n_student == 1:
        return [0]
    # A half rounds down (2.5 → 2), as in the published choice of 3 of 6 layers.
    return [(2 * i * (n_teacher - 1) + n_student - 2) // (2 * (n_student - 1)) for i in range(n_student)]


def check_layer_mapping(mapping: str | Sequence[tuple[int, int]]) -> None:
    """Raise ValueError unless `mapping` is the name of a map, or pairs in which no student layer stands twice."""
    if isinstance(mapping, str):
        if mapping not in LAYER_MAPS:
            raise ValueError(f"unknown layer mapping {mapping!r}; choose one of {list(LAYER_MAPS)} or give pairs")
        return
    pairs = list(mapping)
    if not pairs or any(len(pair) != 2 for pair in pairs):
        raise ValueError(f"a layer mapping consists of pairs (student layer, teacher layer), got {mapping!r}")
    students = [student for student, _ in pairs]
    if len(set(students)) != len(students):
        raise ValueError(f"a student layer stands twice in {mapping!r}; it can learn from one teacher layer only")
