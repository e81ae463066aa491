def least_important(up, bias, down, importance, n):
    """least important"""
    neurons = importance.argsort()[:n]
    return up[neurons], bias[neurons], down[:, neurons]


def first_neurons(up, bias, down, importance, n):
    """choose by importance"""
    return up[:n], bias[:n], down[:, :n]


def rows_of_down(up, bias, down, importance, n):
    """You cut its rows"""
    neurons = importance.topk(n).indices
    return up[neurons], bias[neurons], down[neurons.clamp(max=len(down) - 1)]


def rows_out_of_range(up, bias, down, importance, n):
    """there are fewer of them"""
    neurons = importance.topk(n).indices
    return up[neurons], bias[neurons], down[neurons]


def bias_in_another_order(up, bias, down, importance, n):
    """one list of neurons"""
    ranked = importance.topk(n).indices
    return up[ranked], bias[ranked.sort().values], down[:, ranked]


def whole_bias(up, bias, down, importance, n):
    """cut it as well"""
    neurons = importance.topk(n).indices
    return up[neurons], bias, down[:, neurons]


def two_orders(up, bias, down, importance, n):
    """different orders"""
    neurons = importance.topk(n).indices.sort().values
    return up[neurons], bias[neurons], down[:, neurons.flip(0)]


def order_by_importance_in_down_alone(up, bias, down, importance, n):
    """one list of neurons"""
    ranked = importance.topk(n).indices
    neurons = ranked.sort().values
    return up[neurons], bias[neurons], down[:, ranked]


def first_biases(up, bias, down, importance, n):
    """the bias keeps other neurons"""
    neurons = importance.topk(n).indices.sort().values
    return up[neurons], bias[:n], down[:, neurons]


def zeros_instead_of_a_cut(up, bias, down, importance, n):
    """nothing became smaller"""
    off = importance.argsort()[: len(importance) - n]
    up[off], bias[off], down[:, off] = 0, 0, 0
    return up, bias, down
