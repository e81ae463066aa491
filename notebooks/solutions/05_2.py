def fair_difference(runs):
    longest = runs[runs["epochs"] == runs["epochs"].max()]
    mean = longest.groupby(["arm", "learning_rate"])[["validation", "test"]].mean()
    accuracy = {arm: mean.loc[arm, "test"][mean.loc[arm, "validation"].idxmax()] for arm in ("soft", "hard")}
    return 100 * (accuracy["soft"] - accuracy["hard"])
