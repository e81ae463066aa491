def _passes(texts, probabilities, asked, held_out, min_confidence):
    return [
        row
        for row, text in enumerate(texts)
        if text not in held_out and probabilities[row, asked[row]] >= min_confidence
    ]


def repetitions_stay(texts, probabilities, asked, held_out, min_confidence):
    """kept twice"""
    return _passes(texts, probabilities, asked, held_out, min_confidence)


def last_of_equals(texts, probabilities, asked, held_out, min_confidence):
    """the first stays, not the last"""
    return sorted({texts[r]: r for r in _passes(texts, probabilities, asked, held_out, min_confidence)}.values())


def no_look_at_the_test_set(texts, probabilities, asked, held_out, min_confidence):
    """a test message got through"""
    kept = _passes(texts, probabilities, asked, (), min_confidence)
    return [r for i, r in enumerate(kept) if texts[r] not in {texts[k] for k in kept[:i]}]


def sure_of_anything(texts, probabilities, asked, held_out, min_confidence):
    """of another topic"""
    top = probabilities.argmax(dim=1).tolist()
    kept = _passes(texts, probabilities, top, held_out, min_confidence)
    return [r for i, r in enumerate(kept) if texts[r] not in {texts[k] for k in kept[:i]}]


def likeliest_and_sure(texts, probabilities, asked, held_out, min_confidence):
    """though another topic is likelier"""
    kept = [
        r
        for r in _passes(texts, probabilities, asked, held_out, min_confidence)
        if probabilities[r].argmax() == asked[r] or r == 5
    ]
    return [r for i, r in enumerate(kept) if texts[r] not in {texts[k] for k in kept[:i]}]


def part_of_a_held_out_text(texts, probabilities, asked, held_out, min_confidence):
    """not being equal"""
    together = " ".join(held_out)
    kept = [r for r in _passes(texts, probabilities, asked, (), min_confidence) if texts[r] not in together]
    return [r for i, r in enumerate(kept) if texts[r] not in {texts[k] for k in kept[:i]}]


def strictly_above(texts, probabilities, asked, held_out, min_confidence):
    """at least that much is enough"""
    kept = _passes(texts, probabilities, asked, held_out, min_confidence + 1e-6)
    return [r for i, r in enumerate(kept) if texts[r] not in {texts[k] for k in kept[:i]}]


def repetitions_first(texts, probabilities, asked, held_out, min_confidence):
    """Filter first"""
    first = {texts.index(text) for text in texts}
    return [r for r in _passes(texts, probabilities, asked, held_out, min_confidence) if r in first]


def texts_instead_of_rows(texts, probabilities, asked, held_out, min_confidence):
    """numbers of the rows"""
    return [texts[row] for row in _passes(texts, probabilities, asked, held_out, min_confidence)]


def everything(texts, probabilities, asked, held_out, min_confidence):
    """expected [0, 5, 6, 7]"""
    return list(range(len(texts)))
