def soft_step(weights, x, v, temperature, learning_rate):
    """One step of SGD on T² · mean KL for a student with the logits x @ weights: the new weights, (pixels, classes)."""
    q, p = (x @ weights / temperature).softmax(-1), (v / temperature).softmax(-1)
    at_logits = temperature**2 * (q - p) / temperature / len(x)  # line 3, times T², and the mean over the images
    return weights - learning_rate * x.T @ at_logits
