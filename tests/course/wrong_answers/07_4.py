import statistics


def _differences(full, without):
    return [without[seed] - full[seed] for seed in full if seed in without]


def _error(values):
    return statistics.stdev(values) / len(values) ** 0.5


def full_minus_without(full, without):
    """the sign"""
    differences = _differences(full, without)
    return -statistics.mean(differences), _error(differences)


def all_seeds(full, without):
    """have no partner"""
    mean = statistics.mean(without.values()) - statistics.mean(full.values())
    return mean, _error(_differences(full, without))


def by_position(full, without):
    """Pair them by their numbers"""
    differences = [b - a for a, b in zip(full.values(), without.values(), strict=True)]
    return statistics.mean(differences), _error(differences)


def two_separate_spreads(full, without):
    """take the differences first"""
    seeds = [seed for seed in full if seed in without]
    errors = [_error([scores[seed] for seed in seeds]) for scores in (full, without)]
    return statistics.mean(_differences(full, without)), sum(error**2 for error in errors) ** 0.5


def standard_deviation(full, without):
    """divide by the root of their number"""
    differences = _differences(full, without)
    return statistics.mean(differences), statistics.stdev(differences)


def population_spread(full, without):
    """divides by n − 1"""
    differences = _differences(full, without)
    return statistics.mean(differences), statistics.pstdev(differences) / len(differences) ** 0.5


def mean_alone(full, without):
    """return two numbers"""
    return statistics.mean(_differences(full, without))
