def row(history):
    """counted from 0"""
    return history["eval_accuracy"].idxmax()


def last_of_equals(history):
    """take the earliest"""
    return history.sort_values("eval_accuracy", kind="stable")["epoch"].iloc[-1]


def last_epoch(history):
    """the last epoch"""
    return history["epoch"].iloc[-1]


def best_on_test(history):
    """choose nothing"""
    return history.loc[history["test_accuracy"].idxmax(), "epoch"]


def lowest_training_loss(history):
    """lowest training loss"""
    return history.loc[history["loss"].idxmin(), "epoch"]


def lowest_validation_loss(history):
    """lowest validation loss"""
    return history.loc[history["eval_loss"].idxmin(), "epoch"]


def accuracy_itself(history):
    """that is an accuracy"""
    return history["eval_accuracy"].max()
