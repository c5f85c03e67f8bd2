"""MLflow's pages of an experiment: addresses that show it as model training, and what they say about it.

MLflow 3 shows an experiment for language models (traces, judges) unless the address says otherwise or the reader has
switched to "Model training". Its list of experiments passes no word about that on, whatever the experiment's tags say
(seen in 3.17). So the description, which every page of the experiment shows on top, begins with a link.
"""

from mlflow import MlflowClient
from mlflow.entities import Experiment

_VIEW = "workflowType=machine_learning"
_LOCAL = "http://127.0.0.1:5000"
"""Where ``mlflow ui`` serves."""
_KIND, _NOTE = "mlflow.experimentKind", "mlflow.note.content"
_CONTENT = (
    "A top-level run is a study; nested in it are trials, single-task models and repeats. To compare trials, filter by "
    "`tags.kind = 'trial'` and sort by `improvement`."
)
_EARLIER_NOTE = f"Studies of `mtl_search`. {_CONTENT}"
"""What earlier versions of this package wrote."""


def kind_tag() -> dict[str, str]:
    """The tag that says what an experiment is for. Other versions of MLflow choose the view by it."""
    return {_KIND: "custom_model_development"}


def describe_experiment(client: MlflowClient, experiment: Experiment) -> None:
    """Say what an experiment is for and what is in it; what its owner has said stays."""
    link = f"[open them under Model training](#{_runs(experiment.experiment_id)})"
    note = f"Studies of `mtl_search`: {link}, MLflow's switch at the top left. {_CONTENT}"
    for name, value in (kind_tag() | {_NOTE: note}).items():
        if experiment.tags.get(name, _EARLIER_NOTE) == _EARLIER_NOTE:
            client.set_experiment_tag(experiment.experiment_id, name, value)


def runs_page(uri: str, experiment_id: str) -> str | None:
    """Address of the page with an experiment's runs; None where only MLflow knows what shows it.

    Args:
        uri: MLflow's tracking URI. Where it is a database, the address is that of ``mlflow ui`` on this machine.
        experiment_id: The experiment's.
    """
    scheme, separator, _ = uri.partition("://")
    if not separator or scheme.startswith("databricks"):
        return None
    server = uri.rstrip("/") if scheme in ("http", "https") else _LOCAL
    return f"{server}/#{_runs(experiment_id)}"


def _runs(experiment_id: str) -> str:
    return f"/experiments/{experiment_id}/runs?{_VIEW}"
