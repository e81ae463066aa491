def clean(texts, probabilities, asked, held_out, min_confidence):
    kept, seen = [], set()
    for row, text in enumerate(texts):
        if text in held_out or probabilities[row, asked[row]] < min_confidence or text in seen:
            continue
        seen.add(text)
        kept.append(row)
    return kept
