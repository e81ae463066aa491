import torch


def _answers(first_logits, second_logits):
    return first_logits.argmax(-1), second_logits.argmax(-1)


def _agree(first_logits, second_logits):
    first, second = _answers(first_logits, second_logits)
    return (first == second).double().mean()


def _shares(first_logits, second_logits):
    n_messages, n_classes = first_logits.shape
    return [torch.bincount(a, minlength=n_classes) / n_messages for a in _answers(first_logits, second_logits)]


def _luck(first_logits, second_logits):
    s, t = _shares(first_logits, second_logits)
    return (s * t).sum()


def _beyond(agree, luck):
    return 0.0 if luck == 1 else (agree - luck) / (1 - luck)


def whole_agreement(first_logits, second_logits):
    """some of it is luck"""
    return _agree(first_logits, second_logits)


def luck_alone(first_logits, second_logits):
    """the agreement by luck"""
    return _luck(first_logits, second_logits)


def difference(first_logits, second_logits):
    """not yet divided"""
    return _agree(first_logits, second_logits) - _luck(first_logits, second_logits)


def divided_by_luck(first_logits, second_logits):
    """and not by c"""
    luck = _luck(first_logits, second_logits)
    return (_agree(first_logits, second_logits) - luck) / luck


def equally_frequent(first_logits, second_logits):
    """only if every class is named equally often"""
    return _beyond(_agree(first_logits, second_logits), 1 / first_logits.shape[1])


def one_models_shares(first_logits, second_logits):
    """one model's shares, squared"""
    s, _ = _shares(first_logits, second_logits)
    return _beyond(_agree(first_logits, second_logits), (s * s).sum())


def mean_probabilities(first_logits, second_logits):
    """the shares are those of the answers"""
    p, q = (logits.softmax(-1).mean(0) for logits in (first_logits, second_logits))
    return _beyond(_agree(first_logits, second_logits), (p * q).sum())


def in_percent(first_logits, second_logits):
    """in percent"""
    return 100 * _beyond(_agree(first_logits, second_logits), _luck(first_logits, second_logits))


def disagreement(first_logits, second_logits):
    """1 minus it"""
    return (1 - _agree(first_logits, second_logits)) / (1 - _luck(first_logits, second_logits))


def zero_by_zero(first_logits, second_logits):
    """0 / 0"""
    luck = _luck(first_logits, second_logits)
    return (_agree(first_logits, second_logits) - luck) / (1 - luck)


def nothing_left_is_perfect(first_logits, second_logits):
    """that proves nothing"""
    luck = _luck(first_logits, second_logits)
    return 1.0 if luck == 1 else (_agree(first_logits, second_logits) - luck) / (1 - luck)


def never_below_zero(first_logits, second_logits):
    """is below 0"""
    return max(0.0, float(_beyond(_agree(first_logits, second_logits), _luck(first_logits, second_logits))))
