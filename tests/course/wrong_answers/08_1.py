import math


def _masses(tokens, words, begins):
    masses = [0.0] * len(words)
    for token, logprob in tokens:
        for i, word in enumerate(words):
            if begins(token.strip().lower(), word.lower()):
                masses[i] += math.exp(logprob)
    return masses


def _begins(token, word):
    return word.startswith(token)


def not_normalised(tokens, words):
    """do not sum to 1"""
    masses = _masses(tokens, words, _begins)
    return masses, 1 - sum(masses)


def logarithms(tokens, words):
    """take exp first"""
    logs = [0.0] * len(words)
    for token, logprob in tokens:
        for i, word in enumerate(words):
            if _begins(token.strip().lower(), word.lower()):
                logs[i] += logprob
    return logs, 0.26


def one_spelling(tokens, words):
    """the same word"""
    masses = [0.0] * len(words)
    for token, logprob in tokens:
        for i, word in enumerate(words):
            if word.startswith(token.strip()):
                masses[i] += math.exp(logprob)
    return [mass / sum(masses) for mass in masses], 1 - sum(masses)


def whole_words_only(tokens, words):
    """begins Unix"""
    masses = _masses(tokens, words, lambda token, word: token == word)
    return [mass / sum(masses) for mass in masses], 1 - sum(masses)


def longer_words_too(tokens, words):
    """is another word"""
    masses = _masses(tokens, words, lambda token, word: word.startswith(token) or token.startswith(word))
    return [mass / sum(masses) for mass in masses], 1 - sum(masses)


def mass_on_the_words(tokens, words):
    """that is what fell on the words"""
    masses = _masses(tokens, words, _begins)
    return [mass / sum(masses) for mass in masses], sum(masses)


def listed_tokens_only(tokens, words):
    """did not list"""
    masses = _masses(tokens, words, _begins)
    listed = sum(math.exp(logprob) for _, logprob in tokens)
    return [mass / sum(masses) for mass in masses], listed - sum(masses)
