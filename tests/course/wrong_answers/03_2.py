def _norms(z, v, temperature):
    g = ((z / temperature).softmax(-1) - (v / temperature).softmax(-1)) / temperature
    apart = (z - z.mean(-1, keepdim=True)) - (v - v.mean(-1, keepdim=True))
    return g.norm(dim=-1), apart.norm(dim=-1) / z.shape[-1]


def upside_down(z, v, temperature):
    """the other way round"""
    exact, limit = _norms(z, v, temperature)
    return limit / (temperature**2 * exact)


def forgets_the_means(z, v, temperature):
    """subtract the mean"""
    exact, _ = _norms(z, v, temperature)
    return temperature**2 * exact / ((z - v).norm(dim=-1) / z.shape[-1])


def forgets_the_classes(z, v, temperature):
    """1/N"""
    exact, limit = _norms(z, v, temperature)
    return temperature**2 * exact / (limit * z.shape[-1])


def forgets_t_squared(z, v, temperature):
    """multiplied by T²"""
    exact, limit = _norms(z, v, temperature)
    return exact / limit


def forgets_the_inner_derivative(z, v, temperature):
    """one factor T too many"""
    exact, limit = _norms(z, v, temperature)
    return temperature**3 * exact / limit


def one_number(z, v, temperature):
    """one share for each row"""
    exact, limit = _norms(z, v, temperature)
    return temperature**2 * exact.norm() / limit.norm()
