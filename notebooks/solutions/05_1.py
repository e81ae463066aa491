def best_epoch(history):
    row = history["eval_accuracy"].idxmax()  # the first of equals
    return int(history.loc[row, "epoch"])
