def _from(counts, n_answers, total=None):
    n = sum(counts)
    probabilities = [count / (total or n) for count in counts]
    return probabilities, 1 - n / n_answers, [(p * (1 - p) / n) ** 0.5 for p in probabilities]


def _counts(answers, words, clean=lambda text: text.strip(" .").lower()):
    return [sum(clean(answer) == clean(word) for answer in answers) for word in words]


def probabilities_alone(answers, words):
    """return three things"""
    return _from(_counts(answers, words), len(answers))[0]


def not_normalised(answers, words):
    """do not sum to 1"""
    return _from(_counts(answers, words), len(answers), total=len(answers))


def one_case(answers, words):
    """the case does not matter"""
    return _from(_counts(answers, words, lambda text: text.strip(" .")), len(answers))


def with_full_stops(answers, words):
    """'mac.' and 'Unix.' name a word"""
    return _from(_counts(answers, words, lambda text: text.strip().lower()), len(answers))


def as_they_are(answers, words):
    """' Mac' names a word"""
    return _from(_counts(answers, words, str.lower), len(answers))


def beginnings(answers, words):
    """is another word"""
    counts = [sum(answer.strip(" .").lower().startswith(word.lower()) for answer in answers) for word in words]
    return _from(counts, len(answers))


def named_share(answers, words):
    """named a word"""
    probabilities, off, errors = _from(_counts(answers, words), len(answers))
    return probabilities, 1 - off, errors


def number_off(answers, words):
    """a share, not a count"""
    probabilities, off, errors = _from(_counts(answers, words), len(answers))
    return probabilities, off * len(answers), errors


def of_all_answers(answers, words):
    """only eight answers"""
    probabilities, off, _ = _from(_counts(answers, words), len(answers))
    return probabilities, off, [(p * (1 - p) / len(answers)) ** 0.5 for p in probabilities]


def of_one_sample(answers, words):
    """single sample"""
    probabilities, off, _ = _from(_counts(answers, words), len(answers))
    return probabilities, off, [(p * (1 - p)) ** 0.5 for p in probabilities]


def variances(answers, words):
    """take its root"""
    probabilities, off, errors = _from(_counts(answers, words), len(answers))
    return probabilities, off, [error**2 for error in errors]
