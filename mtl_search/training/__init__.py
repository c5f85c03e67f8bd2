"""Training one model in one process group: the loop, the step, evaluation, checkpoints. Plain PyTorch, knows no Ray.

Stands between the recipe and the numbers: ``stages`` carries out one stage of a recipe, ``loop`` its epochs, ``step``
its updates. Import from the modules; this package's import is kept free of torch for the processes that only pass
results on.
"""
