def from_samples(answers, words):
    named = [answer.strip(" .").lower() for answer in answers]
    counts = [named.count(word.lower()) for word in words]
    n = sum(counts)
    probabilities = [count / n for count in counts]
    errors = [(p * (1 - p) / n) ** 0.5 for p in probabilities]
    return probabilities, 1 - n / len(answers), errors
