def layer_parameters(width, neurons):
    attention = 4 * (width * width + width)
    feed_forward = (width * neurons + neurons) + (neurons * width + width)
    norms = 2 * (width + width)
    return attention + feed_forward + norms
