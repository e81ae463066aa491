def not_normalised(soft, temperature):
    """do not sum to 1"""
    return soft**temperature


def softened_again(soft, temperature):
    """softens the label a second time"""
    power = soft ** (1 / temperature)
    return power / power.sum(dim=-1, keepdim=True)


def probabilities_as_logits(soft, temperature):
    """takes probabilities for logits"""
    return (temperature * soft).softmax(dim=-1)


def one_sum_for_all(soft, temperature):
    """its own sum"""
    power = soft**temperature
    return power / power.sum()


def always_four(soft, temperature):
    """at t = 1 nothing may change"""
    power = soft**4
    return power / power.sum(dim=-1, keepdim=True)
