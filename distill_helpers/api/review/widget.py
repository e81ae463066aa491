"""The review sheet as a widget: pure functions that render a sheet as HTML, and buttons that judge and render again."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING

from distill_helpers.api.review.sheet import RIGHT, UNSURE, WRONG, ReviewSheet
from distill_helpers.data.installed_files import require_package

if TYPE_CHECKING:
    import ipywidgets

__all__ = ["render_item", "render_progress", "review_widget"]


def render_progress(sheet: ReviewSheet) -> str:
    """The progress of the review as HTML: how many items are judged, and how accurate the answers are so far."""
    counts = sheet.counts()
    done = len(sheet.items) - counts.pop("open")
    tally = ", ".join(f"{count} {name}" for name, count in counts.items())
    text = f"{done} of {len(sheet.items)} judged: {tally}."
    if counts[RIGHT] + counts[WRONG]:
        share, low, high, *_ = sheet.accuracy()
        text += f" Right: {share:.0%} (95%: {low:.0%} to {high:.0%})."
    return f"<p role='status'>{text}</p>"


def render_item(sheet: ReviewSheet, row: int | None, note: str = "") -> str:
    """An item as HTML.

    Args:
        sheet: the review sheet.
        row: the item's index; None says that every item is judged.
        note: a message to the reviewer.
    """
    if row is None:
        return "<p>Every answer is judged. Thank you.</p>"
    item, verdict = sheet.items[row], sheet.verdict(row)
    before = ""
    if verdict is not None:
        right = f"; right is {html.escape(verdict.label)}" if verdict.verdict == WRONG and verdict.label else ""
        before = f"<p>Your verdict so far: {verdict.verdict}{right}.</p>"
    alert = f"<p role='alert'>{html.escape(note)}</p>" if note else ""
    return (
        f"<section class='mathjax_ignore tex2jax_ignore' aria-label='answer {row + 1} of {len(sheet.items)}'>"
        f"<blockquote style='white-space: pre-wrap'>{html.escape(item.input_text)}</blockquote>"
        f"<p style='white-space: pre-wrap'>The teacher says: <b>{html.escape(item.shown)}</b></p>"
        f"{before}{alert}</section>"
    )


def review_widget(sheet: ReviewSheet) -> ipywidgets.VBox:
    """Show a review sheet in a notebook. Judge by mouse, or by keyboard: Tab moves on, Space and Enter press a button.

        sheet = ReviewSheet("verdicts.jsonl", review_items(records, label_names), label_names)
        review_widget(sheet)

    The widget begins with the first open item. If a label is wrong, choose the right one from the list. "Back" shows
    the item before, whose verdict can be replaced.

    Raises:
        ModuleNotFoundError: ipywidgets is not installed; the extra `review` brings it.
    """
    require_package("ipywidgets", "The review widget", extra="review")
    import ipywidgets  # not above: without the extra the rest of the module works

    progress, shown = ipywidgets.HTML(), ipywidgets.HTML()
    right, wrong, unsure, back = (
        ipywidgets.Button(description=name, button_style=style, tooltip=tip)
        for name, style, tip in (
            ("Right", "success", "The teacher's answer is right"),
            ("Wrong", "danger", "The teacher's answer is wrong; if there is a list, choose the right label first"),
            ("Unsure", "", "I can't tell whether the answer is right"),
            ("Back", "", "Show the answer before this one"),
        )
    )
    choice = ipywidgets.Dropdown(description="Right is")
    place: dict[str, int | None] = {"row": sheet.next_open()}

    def show(note: str = "") -> None:
        row = place["row"]
        progress.value, shown.value = render_progress(sheet), render_item(sheet, row, note)
        right.disabled = wrong.disabled = unsure.disabled = row is None
        if row is not None and sheet.label_names is not None:
            others = [name for name in sheet.label_names if name != sheet.items[row].shown]
            # Setting new options selects the first of them.
            choice.options = [("choose a label", None), *((name, name) for name in others)]

    def judge(verdict: str, label: str | None = None) -> None:
        row = place["row"]
        if row is None:
            return
        sheet.judge(row, verdict, label)
        place["row"] = sheet.next_open(after=row)
        show()

    def judge_wrong(_: object) -> None:
        if sheet.label_names is not None and choice.value is None:
            show("Choose the right label in the list, then press Wrong.")
        else:
            judge(WRONG, choice.value if sheet.label_names is not None else None)

    def go_back(_: object) -> None:
        row = place["row"]
        place["row"] = len(sheet.items) - 1 if row is None else max(0, row - 1)
        show()

    right.on_click(lambda _: judge(RIGHT))
    unsure.on_click(lambda _: judge(UNSURE))
    wrong.on_click(judge_wrong)
    back.on_click(go_back)
    show()
    verdicts = [right, wrong, unsure, back] if sheet.label_names is None else [right, choice, wrong, unsure, back]
    return ipywidgets.VBox([progress, shown, ipywidgets.HBox(verdicts)])
