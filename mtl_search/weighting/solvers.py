"""Solvers: what a method needs beyond the package's own dependencies, checked where the study file is checked."""

from importlib.util import find_spec

from mtl_search.errors import ConfigError, Problem


def require(variant: str, *packages: str) -> None:
    """Refuse a variant whose solver is not installed.

    Raises:
        ConfigError: A package is missing.
    """
    missing = [package for package in packages if find_spec(package) is None]
    if missing:
        install = f"pip install 'mtl_search[solvers]' ({', '.join(missing)} missing)"
        rule = f"needs the packages of the extra `solvers`: {install}"
        raise ConfigError([Problem(f"weighting.{variant}", rule)])
