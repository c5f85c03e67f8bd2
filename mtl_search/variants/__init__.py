"""Variants: how a name in a study file becomes a class, and a class an object."""
