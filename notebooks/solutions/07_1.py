def layer_parameters(width, inner, neurons):
    attention = 3 * (width * inner + inner) + (inner * width + width)
    feed_forward = (width * neurons + neurons) + (neurons * width + width)
    norms = 2 * (width + width)
    return attention + feed_forward + norms
