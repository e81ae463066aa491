"""Labels in sentences of many languages: found as words, in every Unicode form, the longest of those that overlap."""

import unicodedata

import pytest

from distill_helpers.api.labels.answer_parsing import label_named_in, label_reader

RETURNS = ("返品", "配送")


@pytest.mark.parametrize(
    ("text", "names", "label"),
    [
        ("这是退款问题", ("退款", "物流"), 0),
        ("答案：物流。", ("退款", "物流"), 1),
        ("退款还是物流", ("退款", "物流"), None),
        ("「返品」です", RETURNS, 0),
        ("返品です。", RETURNS, 0),
        ("これは配送についての質問です", RETURNS, 1),
        ("これはりんごです", ("りんご", "みかん"), 0),
        ("注文をキャンセルします", ("キャンセル", "配送"), 0),
        ("カードの件", ("カー", "カード"), 1),
        ("カードの件", ("カー", "配送"), None),  # inside another word, like "cat" in "category"
        ("ｷｬﾝｾﾙです", ("キャンセル", "配送"), 0),  # half-width
        ("นี่คือการคืนเงินครับ", ("คืนเงิน", "จัดส่ง"), 0),
        ("환불입니다", ("환불", "배송"), 0),
        ("배송은 언제", ("환불", "배송"), 1),
        ("미환불", ("환불", "배송"), None),
        ("Macです", ("Mac", "Windows"), 0),
        ("这是Mac问题", ("Mac", "Windows"), 0),
        ("Mac입니다", ("Mac", "Windows"), 0),
        ("वापसी के बारे में", ("वापस", "वापसी"), 1),
        ("वापसी के बारे में", ("वापस", "भुगतान"), None),  # a vowel sign belongs to its word
        ("a category", ("cat", "dog"), None),
        ("the cat.", ("cat", "dog"), 0),
        ("Rückgabeantrag", ("Rückgabe", "Kauf"), None),
    ],
)
def test_words_of_every_script(text, names, label) -> None:
    assert label_named_in(text, names) == label
    for form in ("NFC", "NFD", "NFKC", "NFKD"):
        assert label_named_in(unicodedata.normalize(form, text), names) == label
        assert label_named_in(text, [unicodedata.normalize(form, name) for name in names]) == label


@pytest.mark.parametrize(
    ("text", "names", "label"),
    [
        ("退款进度", ("退款", "退款进度"), 1),
        ("我要查退款进度。", ("退款", "进度", "退款进度"), 2),
        ("我要退款", ("退款", "退款进度"), 0),
        ("退款进度和退款", ("退款", "退款进度"), None),
        ("退款项查询", ("退款", "款项查询"), 1),  # the longest, not the first
        ("It is C++.", ("C", "C++"), 1),
    ],
)
def test_of_names_that_overlap_the_longest_counts(text, names, label) -> None:
    assert label_named_in(text, names) == label
    assert label_named_in(text, names[::-1]) == (None if label is None else len(names) - 1 - label)


@pytest.mark.parametrize(
    ("text", "names", "label"),
    [
        ("It is RÉCLAMATION.", ("réclamation", "facture"), 0),
        ("reclamation", ("réclamation", "facture"), None),  # an accent is a difference
        ("die STRASSE", ("Straße", "Haus"), 0),
        ("die Straße", ("STRASSE", "Haus"), 0),
        ("sa ist hier", ("ßa", "b"), None),
        ("aus ßa", ("sa", "b"), None),  # not from the middle of a letter on
        ("ＭＡＣ！", ("Mac", "PC"), 0),
        ("Ma\u00adc", ("Mac", "PC"), 0),
        ("\ufeffMac\u200b", ("Mac", "PC"), 0),
        ("👍 ok", ("👍\ufe0f", "👎"), 0),
        ("İADE istiyorum", ("iade", "kargo"), 0),
        ("İADE istiyorum".lower(), ("İade", "kargo"), 0),
        ("kırık", ("KIRIK", "kargo"), 0),
        ("kırık", ("kirik", "kırık"), 1),  # the labels differ in nothing else
        ("kirik", ("kirik", "kırık"), 0),
    ],
)
def test_forms_and_cases_make_no_difference(text, names, label) -> None:
    assert label_named_in(text, names) == label


@pytest.mark.parametrize(
    ("text", "label"),
    [("是", 0), ("是。", 0), ("答案: 否！", 1), ("不是", None), ("是否", None), ("选A", None), ("OK, 是", 0)],
)
def test_names_of_one_character_stand_alone(text, label) -> None:
    assert label_named_in(text, ("是", "否")) == label


@pytest.mark.parametrize(("text", "label"), [("选A。", 0), ("Bです", 1), ("答案是B", 1), ("A question", None)])
def test_letters_beside_other_scripts(text, label) -> None:
    assert label_named_in(text, ("x", "y"), answers="AB") == label


@pytest.mark.parametrize("names", [("Ｍac", "Mac"), ("e\u0301", "é"), ("Straße", "STRASSE")])
def test_names_that_differ_in_form_alone_are_refused(names) -> None:
    with pytest.raises(ValueError, match="stands for two labels"):
        label_named_in("x", names)


def test_beginnings_of_answers_in_every_script() -> None:
    """As tokens are read."""
    reader = label_reader(("退款", "物流"))
    assert reader.read("「退款」".encode()).labels == {0}
    assert reader.read("退款问题".encode()).labels == {0}
    assert reader.read("「".encode()[:2]) == (frozenset({0, 1}), False)
    assert label_reader(("환불", "배송")).read("환불입니다".encode()).labels == {0}
    accented = label_reader(("réclamation", "facture"))
    assert accented.read(unicodedata.normalize("NFD", "Réclamation").encode()) == (frozenset({0}), True)
