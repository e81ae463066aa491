def _accuracy(runs, arm, epochs, rate, figure="test"):
    rows = runs[(runs["arm"] == arm) & (runs["epochs"] == epochs) & (runs["learning_rate"] == rate)]
    return rows[figure].mean()


def the_short_budget(runs):
    """at the short budget"""
    return 100 * (_accuracy(runs, "soft", 60, 1e-2) - _accuracy(runs, "hard", 60, 1e-2))


def the_hard_labels_learning_rate_for_both(runs):
    """the soft labels choose for themselves"""
    return 100 * (_accuracy(runs, "soft", 240, 1e-3) - _accuracy(runs, "hard", 240, 1e-3))


def the_soft_labels_learning_rate_for_both(runs):
    """the hard labels choose for themselves"""
    return 100 * (_accuracy(runs, "soft", 240, 1e-2) - _accuracy(runs, "hard", 240, 1e-2))


def chosen_by_test(runs):
    """the test accuracy chose"""
    longest = runs[runs["epochs"] == 240]
    best = longest.groupby(["arm", "learning_rate"])["test"].mean().groupby("arm").max()
    return 100 * (best["soft"] - best["hard"])


def everything(runs):
    """over all budgets"""
    mean = runs.groupby("arm")["test"].mean()
    return 100 * (mean["soft"] - mean["hard"])


def all_learning_rates(runs):
    """over all learning rates"""
    mean = runs[runs["epochs"] == 240].groupby("arm")["test"].mean()
    return 100 * (mean["soft"] - mean["hard"])


def on_validation(runs):
    """on the validation messages"""
    return 100 * (_accuracy(runs, "soft", 240, 1e-2, "validation") - _accuracy(runs, "hard", 240, 1e-3, "validation"))


def own_best_budgets(runs):
    """compare them at the longest"""
    return 100 * (_accuracy(runs, "soft", 240, 1e-2) - _accuracy(runs, "hard", 60, 1e-2))


def the_wrong_sign(runs):
    """soft minus hard"""
    return 100 * (_accuracy(runs, "hard", 240, 1e-3) - _accuracy(runs, "soft", 240, 1e-2))


def shares(runs):
    """a point is a hundredth"""
    return _accuracy(runs, "soft", 240, 1e-2) - _accuracy(runs, "hard", 240, 1e-3)


def as_words(runs):
    """number"""
    return "soft labels win"
