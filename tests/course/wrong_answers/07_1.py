def no_biases_and_no_norms(width, neurons):
    """biases are missing, each linear layer has one, and so are the two norms"""
    return 4 * width**2 + 2 * width * neurons


def no_norms(width, neurons):
    """two norms are missing"""
    return 4 * (width**2 + width) + 2 * width * neurons + neurons + width


def one_norm(width, neurons):
    """there are two norms"""
    return 4 * (width**2 + width) + 2 * width * neurons + neurons + width + 2 * width


def three_matrices_of_attention(width, neurons):
    """four linear layers"""
    return 3 * (width**2 + width) + 2 * width * neurons + neurons + width + 4 * width


def up_without_down(width, neurons):
    """two matrices, up and down"""
    return 4 * (width**2 + width) + width * neurons + neurons + width + 4 * width


def norms_but_no_biases(width, neurons):
    """each of the six linear layers has one"""
    return 4 * width**2 + 2 * width * neurons + 4 * width


def both_biases_are_neurons(width, neurons):
    """one of `width` going down"""
    return 4 * (width**2 + width) + 2 * (width * neurons + neurons) + 4 * width


def feed_forward_without_biases(width, neurons):
    """feed-forward half has biases too"""
    return 4 * (width**2 + width) + 2 * width * neurons + 4 * width


def twelve_widths_squared(width, neurons):
    """expected"""
    return 12 * width**2
