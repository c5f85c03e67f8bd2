"""Validation: a study file is loaded and checked, across its sections and against its data."""
