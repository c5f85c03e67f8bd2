"""Outliving: where a study's results may lie that runs as a Ray job, whose working folder goes when it ends.

Asked before a job is submitted, and by the driver in the job, whoever submitted it.
"""

from pathlib import Path

from mtl_search.config.study_config import StudyConfig
from mtl_search.errors import NOTHING, Problem

_GONE = "in a Ray job: what lies in its working folder is gone when it ends"


def job_path_problems(config: StudyConfig, uri: str | None) -> list[Problem]:
    """Rules that a study's places break as a job.

    Args:
        config: The study file.
        uri: MLflow's address as written in the study file or the job's environment; None where neither says one.
    """
    problems = []
    if "://" not in config.storage and not Path(config.storage).expanduser().is_absolute():
        rule = f"must be a URL, or the full path of a folder that all nodes share, {_GONE}"
        problems.append(Problem("storage", rule, config.storage))
    if uri is None:
        rule = (
            "must name an MLflow server (http://...) or a database (sqlite:////full/path/mlflow.db), here or as "
            f"MLFLOW_TRACKING_URI in the cluster's environment, {_GONE}"
        )
        problems.append(Problem("tracking.uri", rule, NOTHING))
    elif _relative(uri):
        problems.append(Problem("tracking.uri", f"must be a server, or hold a full path, {_GONE}", uri))
    return problems


def _relative(uri: str) -> bool:
    """Whether what an MLflow address means depends on the working folder."""
    scheme, separator, rest = uri.partition("://")
    if not separator:
        return not Path(uri.removeprefix("file:")).expanduser().is_absolute() and uri != "databricks"
    return scheme.startswith("sqlite") and not rest.startswith("//")
