def corrected_errors(validation, test, digit, biases):
    def errors(logits, labels, bias):
        raised = logits.clone()
        raised[:, digit] += bias
        return int((raised.argmax(dim=-1) != labels).sum())

    best = min(biases, key=lambda bias: errors(*validation, bias))
    return best, errors(*test, best)
