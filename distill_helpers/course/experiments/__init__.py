"""The experiments behind the notebooks: one module and one log in `data/results` for each of them.

    python -m distill_helpers.course.experiments [NAME ...]

makes the runs that are missing from the logs, and the tables: of all experiments, or of the named ones. An experiment
is a module of this folder with a `LOG`, which names its log, and a `main`. A module that reads the log of another one
says so in `NEEDS`, and is run after that one. So a new experiment is found without being listed anywhere.
"""
