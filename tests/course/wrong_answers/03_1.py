def forgets_t_squared(z, v, temperature):
    """T² is missing"""
    return ((z / temperature).softmax(-1) - (v / temperature).softmax(-1)) / temperature / len(z)


def forgets_the_inner_derivative(z, v, temperature):
    """inner derivative is missing"""
    return temperature**2 * ((z / temperature).softmax(-1) - (v / temperature).softmax(-1)) / len(z)


def uphill(z, v, temperature):
    """the sign"""
    return temperature * ((v / temperature).softmax(-1) - (z / temperature).softmax(-1)) / len(z)


def of_the_sum(z, v, temperature):
    """sum over the rows"""
    return temperature * ((z / temperature).softmax(-1) - (v / temperature).softmax(-1))


def averages_over_classes_too(z, v, temperature):
    """not by rows and classes"""
    return temperature * ((z / temperature).softmax(-1) - (v / temperature).softmax(-1)) / z.numel()


def forgets_the_temperature(z, v, temperature):
    """divide the logits by T first"""
    return temperature * (z.softmax(-1) - v.softmax(-1)) / len(z)
