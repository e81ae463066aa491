"""Widgets of notebook 06: where a head of the teacher looks, and which layer follows which."""

from __future__ import annotations

import html

import torch
from torch import Tensor

from distill_helpers.course.figures import COLOURS, figure, figure_html, html_table, plain
from distill_helpers.losses.layer_maps import LAYER_MAPS, layer_map
from distill_helpers.models.architectures import ModelShape
from distill_helpers.models.batching import encode_texts, pad_batch, to_device
from distill_helpers.models.capture import capture_features
from distill_helpers.models.text_models import TextClassifier

__all__ = ["MAPS", "MOST_LAYERS", "attention_shares", "entry_pairs", "render_attention", "render_layer_map"]

#: The number of tokens for which the picture has room, [CLS] and [SEP] included.
_MOST_TOKENS = 28

#: The package's maps, and the two formulas of the source article, which count the embeddings as a layer.
MAPS = (*LAYER_MAPS, "article: uniform", "article: last")
MOST_LAYERS = 12


def attention_shares(attention: Tensor) -> dict[str, float]:
    """Compute where one head looks, as a mean over the queries.

    Args:
        attention: (queries, keys) of one message that begins with [CLS] and ends with [SEP].

    Returns:
        The shares of `[CLS]`, `[SEP]`, `itself`, `the previous token`, `the next token` and `other tokens`, which sum
        to 1. A key that belongs to two of these counts for the first one.
    """
    n = len(attention)
    key, query = torch.arange(n)[None, :], torch.arange(n)[:, None]
    places = {
        "[CLS]": (key == 0).expand(n, n),
        "[SEP]": (key == n - 1).expand(n, n),
        "itself": key == query,
        "the previous token": key == query - 1,
        "the next token": key == query + 1,
        "other tokens": torch.ones(n, n, dtype=torch.bool),
    }
    left = torch.ones(n, n, dtype=torch.bool)
    shares = {}
    for name, place in places.items():
        shares[name] = float(attention.double()[place & left].sum() / n)
        left &= ~place
    return shares


def render_attention(message: str, layer: int, head: int, *, model: TextClassifier) -> str:
    """Show one head's attention over a message: a picture, and a table of where the head looks, in per cent.

    Args:
        message: the first 28 word pieces are shown; an empty message leads to a request to type one.
        layer, head: from 0.
        model: an encoder whose tokenizer puts [CLS] before a message and [SEP] after it.

    Raises:
        ValueError: a layer or a head that does not exist.
    """
    shape = ModelShape.of(model.model)
    for name, value, count in (("layer", layer, shape.n_layers), ("head", head, shape.n_heads)):
        if not 0 <= value < count:
            raise ValueError(f"{name} must be from 0 to {count - 1}, got {value}")
    if not message.strip():  # a reader who clears the box sees this, not an error
        return "<p>Type a message.</p>"
    token_ids = encode_texts(model.tokenizer, [message], _MOST_TOKENS)
    batch = to_device(pad_batch(token_ids, model.tokenizer), model.model.device)
    with torch.no_grad(), capture_features(model.model, [f"queries.{layer}", f"keys.{layer}"]) as features:
        model.model(**batch)
        attention = features.attention(layer, batch["attention_mask"])[0, head].cpu()
    tokens = [str(token) for token in model.tokenizer.convert_ids_to_tokens(token_ids[0])]
    shares = attention_shares(attention)
    most = max(shares, key=lambda name: shares[name])
    title = f"Layer {layer}, head {head}: {100 * shares[most]:.0f}% on {most}"
    rows = [(name, f"{100 * share:.0f}%") for name, share in shares.items()]
    bits = float(torch.special.entr(attention.double()).sum(dim=-1).mean()) / torch.log(torch.tensor(2.0)).item()
    at_most = torch.log2(torch.tensor(float(len(tokens)))).item()
    return (
        f"{_attention_picture(attention, tokens, title, shares)}"
        f"{html_table(('looks at', 'share'), rows)}"
        f"<p>{len(tokens)} tokens; entropy {bits:.1f} of at most {at_most:.1f} bits a query.</p>"
    )


def _attention_picture(attention: Tensor, tokens: list[str], title: str, shares: dict[str, float]) -> str:
    size = 2.2 + 0.19 * len(tokens)
    fig, axes = figure(title, width=size, height=size)
    axes.imshow(attention.numpy(), cmap="Greys", vmin=0, vmax=1)
    places = range(len(tokens))
    labels = [plain(token) for token in tokens]
    axes.set_xticks(places, labels, rotation=90, fontsize=8)
    axes.set_yticks(places, labels, fontsize=8)
    axes.set_xlabel("key: the token that is looked at (white 0, black 1)")
    axes.set_ylabel("query: the token that looks")
    said = ", ".join(f"{100 * share:.0f}% on {name}" for name, share in shares.items())
    return figure_html(fig, f"Attention from each of {len(tokens)} tokens to each. {title}. All: {said}.")


def entry_pairs(n_student: int, n_teacher: int, mapping: str) -> list[tuple[int, int]]:
    """Make the pairs (student's entry, teacher's entry) of `hidden_states`, whose entry 0 is the embeddings' output.

    Args:
        n_student, n_teacher: layers, from 1 to 12.
        mapping: one of `MAPS`. The package's maps pair the embeddings with each other, and layer i is entry i + 1.

    Raises:
        ValueError: numbers out of range, an unknown map, or a map that the package refuses for these numbers.
    """
    for name, value in (("n_student", n_student), ("n_teacher", n_teacher)):
        if not 1 <= value <= MOST_LAYERS:
            raise ValueError(f"{name} must be from 1 to {MOST_LAYERS}, got {value}")
    if mapping not in MAPS:
        raise ValueError(f"unknown map {mapping!r}; choose one of {list(MAPS)}")
    if mapping in LAYER_MAPS:
        return [(0, 0), *((s + 1, t + 1) for s, t in layer_map(mapping, n_student, n_teacher))]
    student_entries, teacher_entries = n_student + 1, n_teacher + 1
    if mapping == "article: uniform":
        return [(entry, entry * teacher_entries // student_entries) for entry in range(student_entries)]
    return [(entry, entry + teacher_entries - student_entries) for entry in range(student_entries)]


def render_layer_map(n_student: int, n_teacher: int, mapping: str) -> str:
    """Show both models' entries with a line for each pair, and say what is wrong with the map, if anything.

    If the package refuses the map, its error message is shown instead.

    Args:
        n_student, n_teacher: layers, from 1 to 12.
        mapping: one of `MAPS`.

    Raises:
        ValueError: numbers out of range or an unknown map.
    """
    try:
        pairs = entry_pairs(n_student, n_teacher, mapping)
    except ValueError as error:
        entry_pairs(n_student, n_student, mapping)  # raises again if a number is out of range or the map unknown
        entry_pairs(n_teacher, n_teacher, mapping)
        return f"<p><b>Refused.</b> {html.escape(str(error))}</p>"
    fault = _fault(pairs, n_teacher)
    rows = [(_name(s), _name(t), f"{s} → {t}") for s, t in pairs]
    table = html_table(("student's", "follows the teacher's", "entries"), rows, caption=f"map: {mapping}")
    return f"{_map_picture(pairs, n_student, n_teacher, fault)}<p><b>{fault}.</b></p>{table}"


def _name(entry: int) -> str:
    if entry < 0:
        return f"entry {entry}: does not exist, Python counts from the end"
    return "embeddings" if entry == 0 else f"layer {entry - 1}"


def _fault(pairs: list[tuple[int, int]], n_teacher: int) -> str:
    """Say what is wrong with a map, the gravest fault first."""
    if any(teacher < 0 for _, teacher in pairs):
        return "Negative entries: Python counts them from the teacher's end"
    if pairs[0][1] != 0:
        return f"The embeddings follow the teacher's layer {pairs[0][1] - 1}"
    if pairs[-1][1] != n_teacher:
        return f"Nobody follows the teacher's last layer, {n_teacher - 1}"
    return "Embeddings follow embeddings, the last layer the last"


def _map_picture(pairs: list[tuple[int, int]], n_student: int, n_teacher: int, fault: str) -> str:
    fig, axes = figure(fault, width=7.5, height=2.6)
    for row, count in ((0, n_student), (1, n_teacher)):
        followed = {0: {s for s, _ in pairs}, 1: {t % (n_teacher + 1) for _, t in pairs}}[row]
        for entry in range(count + 1):
            filled = COLOURS[0] if entry in followed else "white"
            axes.plot(entry, row, "s" if entry == 0 else "o", color=COLOURS[0], markerfacecolor=filled, markersize=11)
    for student, teacher in pairs:
        axes.plot([student, teacher % (n_teacher + 1)], [0.08, 0.92], color="#444444", linewidth=1.2)
    names = ["emb.", *(str(i) for i in range(max(n_student, n_teacher)))]
    axes.set_xticks(range(len(names)), names)
    axes.set_yticks([0, 1], ["student", "teacher"])
    axes.set_ylim(-0.4, 1.4)
    axes.set_xlabel("layer, from 0 (square: embeddings, entry 0 of hidden_states)")
    axes.set_ylabel("model")
    said = ", ".join(f"{_name(s)} to {_name(t)}" for s, t in pairs)
    return figure_html(fig, f"Student's entries below, teacher's above, a line for each pair. {fault}. Pairs: {said}.")
