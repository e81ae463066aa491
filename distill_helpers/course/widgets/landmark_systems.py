"""Widgets of notebook 07: a student's parameters by its shape, and the written messages that the filters keep."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from torch import Tensor

from distill_helpers.course.figures import COLOURS, figure, figure_html, html_table
from distill_helpers.llm.message_filters import filter_messages
from distill_helpers.llm.synthetic_data import SyntheticMessage

__all__ = ["PUBLISHED", "Shape", "parameter_counts", "render_filters", "render_student"]

#: Rows of BERT's embeddings that are not in the vocabulary: positions, and two token types.
_POSITIONS, _TOKEN_TYPES = 512, 2


class Shape(NamedTuple):
    """An encoder of the BERT family: layers, width, attention heads, feed-forward neurons in a layer, vocabulary."""

    layers: int
    width: int
    heads: int
    feed_forward: int
    vocabulary: int


_BERT_VOCABULARY = 30_522

#: The encoders of the table of systems, and the course's teacher, which has the shape of MiniLM with half its layers.
PUBLISHED: dict[str, Shape] = {
    "BERT-base": Shape(12, 768, 12, 3072, _BERT_VOCABULARY),
    "DistilBERT, 6-layer MiniLM": Shape(6, 768, 12, 3072, _BERT_VOCABULARY),
    "MiniLM 12 × 384": Shape(12, 384, 12, 1536, _BERT_VOCABULARY),
    "our teacher": Shape(6, 384, 12, 1536, _BERT_VOCABULARY),
    "TinyBERT, 4 layers": Shape(4, 312, 12, 1200, _BERT_VOCABULARY),
}

#: Where each name stands in the picture, so that none covers another: its alignment, and whether it is above its point.
_LABELS = {
    "BERT-base": ("left", True),
    "DistilBERT, 6-layer MiniLM": ("right", True),
    "MiniLM 12 × 384": ("left", True),
    "our teacher": ("center", False),
    "TinyBERT, 4 layers": ("right", True),
}

#: The range of each size that `render_student` draws.
_LIMITS = {"layers": (1, 24), "width": (48, 1008), "feed_forward": (48, 4080), "vocabulary": (1_000, 60_000)}


def parameter_counts(shape: Shape) -> tuple[int, int]:
    """Count the parameters in the embeddings and in the layers of a BERT of this shape, without pooler and head.

    Raises:
        ValueError: a size below 1, or a width that is not a multiple of the heads.
    """
    for name, size in shape._asdict().items():
        if size < 1:
            raise ValueError(f"{name} must be at least 1, got {size}")
    if shape.width % shape.heads:
        raise ValueError(f"width {shape.width} is not a multiple of heads {shape.heads}")
    width, neurons = shape.width, shape.feed_forward
    embeddings = (shape.vocabulary + _POSITIONS + _TOKEN_TYPES) * width + 2 * width  # and a norm
    attention = 4 * (width * width + width)  # queries, keys, values, output: the heads only divide them
    feed_forward = 2 * width * neurons + neurons + width
    return embeddings, shape.layers * (attention + feed_forward + 4 * width)  # and two norms


def render_student(layers: int, width: int, heads: int, feed_forward: int, vocabulary: int) -> str:
    """Show a student's parameters beside those of the published encoders: a picture and a table.

    Args:
        layers: 1 to 24.
        width: 48 to 1,008, a multiple of `heads`.
        heads: attention heads in a layer.
        feed_forward: neurons in a layer, 48 to 4,080.
        vocabulary: word pieces, 1,000 to 60,000.

    Raises:
        ValueError: a size out of range, or a width that is not a multiple of the heads.
    """
    shape = Shape(layers, width, heads, feed_forward, vocabulary)
    for name, (least, most) in _LIMITS.items():
        if not least <= (size := getattr(shape, name)) <= most:
            raise ValueError(f"{name} must be from {least} to {most}, got {size}")
    embeddings, in_layers = parameter_counts(shape)
    total = embeddings + in_layers
    lines = [("embeddings", embeddings), ("layers", in_layers), ("both", total)]
    bert, teacher = (_with_sum(PUBLISHED[name]) for name in ("BERT-base", "our teacher"))
    rows = [
        (name, f"{count:,}", f"{100 * count / of_bert:.0f}%", f"{100 * count / of_teacher:.0f}%")
        for (name, count), of_bert, of_teacher in zip(lines, bert, teacher, strict=True)
    ]
    return (
        _sizes_picture(shape)
        + html_table(("part", "parameters", "of BERT-base's", "of our teacher's"), rows)
        + f"<p>Embeddings are {100 * embeddings / total:.0f}% of this student. Pooler and head are not counted."
        + f" Attention heads add nothing: the {heads} here divide the same {width} channels, {width // heads} each.</p>"
    )


def render_filters(
    min_confidence: float,
    max_similarity: float,
    min_words: int,
    *,
    messages: Sequence[SyntheticMessage],
    logits: Tensor,
    names: Sequence[str],
    known: Mapping[str, Sequence[str]],
) -> str:
    """Show how many messages each rule of `filter_messages` removes, and every message with its verdict.

    Args:
        min_confidence: the least probability, in [0, 1], that the teacher must give the topic that was asked for.
        max_similarity: cosine, in (0, 1], from which two messages count as the same.
        min_words: length of the shortest message that may stay, at least 1.
        messages, logits, names, known: see `filter_messages`; logits are (messages, classes).

    Raises:
        ValueError: see `filter_messages`.
    """
    found = filter_messages(
        messages,
        logits,
        names,
        known=known,
        min_words=min_words,
        max_similarity=max_similarity,
        min_confidence=min_confidence,
    )
    rules = [(rule, row.removed, row.left) for rule, row in found.table.iterrows()]
    kept, lines = set(found.rows), []
    for row, (message, probabilities) in enumerate(zip(messages, logits.double().softmax(-1), strict=True)):
        asked = float(probabilities[list(names).index(message.topic)])
        lines.append(
            f"<tr><td style='white-space:nowrap'>{'✓ kept' if row in kept else '✗ dropped'}</td>"
            f"<td>{html.escape(message.topic)}</td><td>{asked:.2f}</td>"
            f"<td style='text-align:left'>{html.escape(message.text)}</td></tr>"
        )
    columns = ("verdict", "asked for", "teacher's probability", "message")
    head = "".join(f"<th scope='col' style='text-align:left'>{name}</th>" for name in columns)
    return (
        f"<p><b>{len(kept)} of {len(messages)} messages are kept</b>: {min_words} words or more, no other message"
        f" with a cosine of {max_similarity:.2f} or more, and a probability of {min_confidence:.2f} or more for the"
        f" topic.</p>"
        + html_table(("rule", "removed", "left"), rules)
        + f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(lines)}</tbody></table>"
    )


def _with_sum(shape: Shape) -> tuple[int, int, int]:
    embeddings, in_layers = parameter_counts(shape)
    return embeddings, in_layers, embeddings + in_layers


def _sizes_picture(shape: Shape) -> str:
    million = 1e6
    embeddings, in_layers, total = _with_sum(shape)
    share = 100 * total / _with_sum(PUBLISHED["BERT-base"])[2]
    fig, axes = figure(f"{total / million:.1f} million parameters, {share:.0f}% of BERT-base", height=3.4)
    for name, published in PUBLISHED.items():
        other_embeddings, other_layers, _ = (count / million for count in _with_sum(published))
        colour, marker = (COLOURS[2], "s") if name == "our teacher" else (COLOURS[0], "o")
        axes.plot(other_layers, other_embeddings, marker, color=colour, markersize=6)
        sideways, above = _LABELS[name]
        axes.annotate(
            name,
            (other_layers, other_embeddings),
            xytext=(0, 8 if above else -15),
            textcoords="offset points",
            ha=sideways,
            fontsize=8,
        )
    axes.plot(in_layers / million, embeddings / million, "*", color=COLOURS[4], markersize=15, label="this student")
    for scale in (axes.set_xscale, axes.set_yscale):
        scale("log")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter("{x:g}")
        axis.set_minor_formatter("")
    axes.set_xlim(min(0.3, 0.7 * in_layers / million), max(300.0, 1.4 * in_layers / million))
    axes.set_ylim(min(0.9, 0.7 * embeddings / million), max(60.0, 1.4 * embeddings / million))
    axes.set_xlabel("parameters in the layers (millions)")
    axes.set_ylabel("in the embeddings (millions)")
    axes.legend(frameon=False, loc="upper left", fontsize=8)
    return figure_html(
        fig,
        f"Parameters in the embeddings against parameters in the layers, on logarithmic scales, of this student and of"
        f" five known encoders. This student has {in_layers / million:.1f} million in its layers and"
        f" {embeddings / million:.1f} million in its embeddings, {share:.0f} per cent of BERT-base together.",
    )
