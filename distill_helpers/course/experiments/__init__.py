"""The experiments behind the notebooks: one module each, one log each in `data/results`.

    python -m distill_helpers.course.experiments.NAME

makes the runs that are missing from its log, and its table.
"""
