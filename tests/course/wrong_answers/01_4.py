def _errors(logits, labels, digit, bias, group=None):
    raised = logits.clone()
    raised[:, digit] += bias
    wrong = raised.argmax(dim=-1) != labels
    if group is not None:
        wrong = wrong[(labels == digit) == group]
    return int(wrong.sum())


def in_place(validation, test, digit, biases):
    """changes the logits that it was given"""
    counts = []
    for bias in biases:
        validation[0][:, digit] += bias
        counts.append(int((validation[0].argmax(-1) != validation[1]).sum()))
    best = biases[counts.index(min(counts))]
    return best, _errors(*test, digit, best)


def chosen_on_test(validation, test, digit, biases):
    """the test images chose"""
    best = min(biases, key=lambda bias: _errors(*test, digit, bias))
    return best, _errors(*test, digit, best)


def on_the_digit_alone(validation, test, digit, biases):
    """and many on the others"""
    best = min(biases, key=lambda bias: _errors(*validation, digit, bias, group=True))
    return best, _errors(*test, digit, best)


def on_the_others_alone(validation, test, digit, biases):
    """fewest errors on the other digits"""
    best = min(biases, key=lambda bias: _errors(*validation, digit, bias, group=False))
    return best, _errors(*test, digit, best)


def reported_on_validation(validation, test, digit, biases):
    """report the errors on the test images"""
    best = min(biases, key=lambda bias: _errors(*validation, digit, bias))
    return best, _errors(*validation, digit, best)


def a_share(validation, test, digit, biases):
    """not a share"""
    best = min(biases, key=lambda bias: _errors(*validation, digit, bias))
    return best, _errors(*test, digit, best) / len(test[1])


def lowered(validation, test, digit, biases):
    """lowers the digit's logit"""
    best = min(biases, key=lambda bias: _errors(*validation, digit, bias))
    return best, _errors(*test, digit, -best)


def its_place(validation, test, digit, biases):
    """not its place in the list"""
    counts = [_errors(*validation, digit, bias) for bias in biases]
    best = counts.index(min(counts))
    return best, _errors(*test, digit, biases[best])
