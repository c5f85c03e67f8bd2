"""The search: recipes from Optuna, one light Tune trial each, jobs to the pool, the best one kept.

Ray Tune and Optuna live here only. Import from the modules; this package's import is kept free of torch for the light
processes of the trials.
"""
