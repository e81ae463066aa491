"""The drawings at the head of the notebooks: one module for each, which computes what it draws.

    python -m distill_helpers.course.drawings

writes them as SVG files into `notebooks/drawings`, each named like its notebook.
"""
