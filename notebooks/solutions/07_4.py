import statistics


def paired_difference(full, without):
    differences = [without[seed] - full[seed] for seed in full if seed in without]
    return statistics.mean(differences), statistics.stdev(differences) / len(differences) ** 0.5
