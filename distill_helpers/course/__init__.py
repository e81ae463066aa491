"""What only the notebooks need: figures, widgets, the recipes of the shipped models, the runs behind the tables.

Nothing outside this folder imports it.
"""
