def _right(width, inner, neurons):
    attention = 3 * (width * inner + inner) + inner * width + width
    return attention + 2 * width * neurons + neurons + width + 4 * width


def no_biases_and_no_norms(width, inner, neurons):
    """biases are missing, each linear layer has one, and so are the two norms"""
    return 4 * width * inner + 2 * width * neurons


def no_norms(width, inner, neurons):
    """two norms are missing"""
    return _right(width, inner, neurons) - 4 * width


def one_norm(width, inner, neurons):
    """there are two norms"""
    return _right(width, inner, neurons) - 2 * width


def three_matrices_of_attention(width, inner, neurons):
    """four linear layers"""
    return _right(width, inner, neurons) - width * inner - width


def up_without_down(width, inner, neurons):
    """two matrices, up and down"""
    return _right(width, inner, neurons) - width * neurons


def norms_but_no_biases(width, inner, neurons):
    """each of the six linear layers has one"""
    return 4 * width * inner + 2 * width * neurons + 4 * width


def both_biases_are_neurons(width, inner, neurons):
    """one of `width` going down"""
    return _right(width, inner, neurons) + neurons - width


def feed_forward_without_biases(width, inner, neurons):
    """feed-forward half has biases too"""
    return _right(width, inner, neurons) - neurons - width


def four_equal_matrices(width, inner, neurons):
    """its bias has that width"""
    return _right(width, inner, neurons) + inner - width


def all_heads(width, inner, neurons):
    """narrower than the layer"""
    return _right(width, width, neurons)


def twelve_widths_squared(width, inner, neurons):
    """expected"""
    return 12 * width**2
