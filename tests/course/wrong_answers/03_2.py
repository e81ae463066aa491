import torch


def _shares(z, v, temperatures, classes=None, centred=True, power=1):
    apart = z - v
    if centred:
        apart = apart - apart.mean(-1, keepdim=True)
    limit = apart.norm(dim=-1) / (classes or z.shape[-1])
    return torch.stack(
        [t**power * ((z / t).softmax(-1) - (v / t).softmax(-1)).norm(dim=-1) / limit for t in temperatures]
    )


def _from_here_on(near, temperatures):
    high, still = torch.full(near.shape[1:], torch.inf), torch.ones(near.shape[1:], dtype=torch.bool)
    for t, here in zip(reversed(temperatures), reversed(near), strict=True):
        still = still & here
        high = torch.where(still, t, high)
    return high


def first_that_is_near(z, v, temperatures, tolerance):
    """at every higher temperature too"""
    near = (_shares(z, v, temperatures) - 1).abs() <= tolerance
    return torch.tensor(temperatures)[near.int().argmax(dim=0)]


def sees_no_overshoot(z, v, temperatures, tolerance):
    """overshoots its limit"""
    return _from_here_on(_shares(z, v, temperatures) >= 1 - tolerance, temperatures)


def sees_the_overshoot_alone(z, v, temperatures, tolerance):
    """stays below its limit"""
    return _from_here_on(_shares(z, v, temperatures) <= 1 + tolerance, temperatures)


def forgets_the_means(z, v, temperatures, tolerance):
    """subtract the mean"""
    return _from_here_on((_shares(z, v, temperatures, centred=False) - 1).abs() <= tolerance, temperatures)


def five_classes(z, v, temperatures, tolerance):
    """N is the number of classes"""
    return _from_here_on((_shares(z, v, temperatures, classes=5) - 1).abs() <= tolerance, temperatures)


def forgets_the_classes(z, v, temperatures, tolerance):
    """the limit has a 1/N"""
    return _from_here_on((_shares(z, v, temperatures, classes=1) - 1).abs() <= tolerance, temperatures)


def forgets_t_squared(z, v, temperatures, tolerance):
    """multiplied by T²"""
    return _from_here_on((_shares(z, v, temperatures, power=-1) - 1).abs() <= tolerance, temperatures)


def one_for_the_batch(z, v, temperatures, tolerance):
    """one temperature for each row"""
    shares = _shares(z, v, temperatures).mean(dim=1, keepdim=True)
    return _from_here_on((shares - 1).abs() <= tolerance, temperatures)[0]


def a_share_instead(z, v, temperatures, tolerance):
    """expected"""
    return _shares(z, v, temperatures)[-1]
