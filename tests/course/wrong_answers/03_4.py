def _ours(soft, hard, rate):
    return soft / (soft + hard), rate * (soft + hard)


def the_same(hard_weight, temperature, learning_rate):
    """ours has"""
    return 1 - hard_weight, learning_rate


def does_not_swap(hard_weight, temperature, learning_rate):
    """weight of the hard labels"""
    return _ours(hard_weight / temperature**2, 1 - hard_weight, learning_rate)


def multiplies(hard_weight, temperature, learning_rate):
    """the wrong way"""
    return _ours((1 - hard_weight) * temperature**2, hard_weight, learning_rate)


def keeps_the_rate(hard_weight, temperature, learning_rate):
    """the scale of the whole loss"""
    return _ours((1 - hard_weight) / temperature**2, hard_weight, 1)[0], learning_rate


def divides_the_rate(hard_weight, temperature, learning_rate):
    """do not divide"""
    alpha, scale = _ours((1 - hard_weight) / temperature**2, hard_weight, 1)
    return alpha, learning_rate / scale


def leaves_the_sum(hard_weight, temperature, learning_rate):
    """sum to 1 again"""
    return (1 - hard_weight) / temperature**2, _ours((1 - hard_weight) / temperature**2, hard_weight, learning_rate)[1]
