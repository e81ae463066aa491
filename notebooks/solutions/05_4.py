def gain_over_seeds(new, old):
    gain = 100 * (new - old)
    return gain.mean(), gain.std()  # std divides by n − 1
