"""The store of one study: its folder, its lease, its copy in a bucket, Optuna's trials."""
