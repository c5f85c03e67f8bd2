"""The warm pool: worker groups that outlive trials, the job queue that feeds them, jobs. Ray Train lives here only.

Stands between the search, which hands out recipes, and ``training``, which carries them out. Import from the modules;
this package's import is kept free of torch for the light processes that only pass messages.
"""
