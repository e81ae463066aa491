def _logits_gradient(weights, x, v, temperature):
    q, p = (x @ weights / temperature).softmax(-1), (v / temperature).softmax(-1)
    return temperature * (q - p) / len(x)


def _step(weights, x, v, temperature, rate, factor):
    return weights - rate * factor * x.T @ _logits_gradient(weights, x, v, temperature)


def forgets_t_squared(weights, x, v, temperature, learning_rate):
    """T² is missing"""
    return _step(weights, x, v, temperature, learning_rate, 1 / temperature**2)


def forgets_the_inner_derivative(weights, x, v, temperature, learning_rate):
    """inner derivative is missing"""
    return _step(weights, x, v, temperature, learning_rate, temperature)


def uphill(weights, x, v, temperature, learning_rate):
    """uphill"""
    return _step(weights, x, v, temperature, learning_rate, -1)


def of_the_sum(weights, x, v, temperature, learning_rate):
    """sum over the images"""
    return _step(weights, x, v, temperature, learning_rate, len(x))


def averages_over_classes_too(weights, x, v, temperature, learning_rate):
    """not by images and classes"""
    return _step(weights, x, v, temperature, learning_rate, 1 / v.shape[-1])


def forgets_the_rate(weights, x, v, temperature, learning_rate):
    """the learning rate is missing"""
    return _step(weights, x, v, temperature, 1.0, 1.0)


def forgets_the_temperature(weights, x, v, temperature, learning_rate):
    """divide the logits by T first"""
    q, p = (x @ weights).softmax(-1), v.softmax(-1)
    return weights - learning_rate * temperature * x.T @ (q - p) / len(x)


def returns_the_gradient(weights, x, v, temperature, learning_rate):
    """returns the weights after the step"""
    return x.T @ _logits_gradient(weights, x, v, temperature)


def stops_at_the_logits(weights, x, v, temperature, learning_rate):
    """RuntimeError"""
    return weights - learning_rate * _logits_gradient(weights, x, v, temperature)


def turned_around(weights, x, v, temperature, learning_rate):
    """the shape is (4, 3)"""
    return _step(weights, x, v, temperature, learning_rate, 1).T
