import math


def soft_label(tokens, words):
    masses = [0.0] * len(words)
    for token, logprob in tokens:
        begun = [i for i, word in enumerate(words) if word.lower().startswith(token.strip().lower())]
        if len(begun) == 1:
            masses[begun[0]] += math.exp(logprob)
    return [mass / sum(masses) for mass in masses], 1 - sum(masses)
