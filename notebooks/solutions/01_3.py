import math


def most_telling(logits, labels, temperatures):
    def received(temperature):
        log_p = (logits / temperature).log_softmax(dim=-1) / math.log(2)
        return math.log2(logits.shape[1]) + log_p.gather(1, labels[:, None]).mean()

    best = max(temperatures, key=received)
    return best, received(best)
