def translate(hard_weight, temperature, learning_rate):
    """Our (alpha, learning rate) for a loss hard_weight·CE + (1 − hard_weight)·KL without T², trained by SGD."""
    soft = (1 - hard_weight) / temperature**2
    scale = soft + hard_weight
    return soft / scale, learning_rate * scale
