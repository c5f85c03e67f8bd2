"""Analysis of a finished or running study: overview, Pareto front, importance, next commands."""
