"""The model and the data sets of a run in MLflow 3: results are linked to both, so that models are ranked by a score.

    MlflowClient().search_logged_models([ID], order_by=[{"field_name": "metrics.zero_shot_top1", "ascending": False}])

A model here is an entry with the run's parameters and results; its weights are added by choice. MLflow reads all points
of a model each time, so curves stay with the run.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence

from mlflow import MlflowClient
from mlflow.entities import (
    Dataset,
    DatasetInput,
    InputTag,
    LoggedModel,
    LoggedModelOutput,
    LoggedModelStatus,
    Metric,
)
from mlflow.exceptions import MlflowException

from flipscale.track.content import Content, DataSetUsed
from flipscale.track.rows import model_name

MODEL_TYPE = "open_clip"

DATA_SET_SOURCE = "flipscale"
"""The kind of source that a data set has in MLflow: its words are ours."""

CONTEXT_TAG = "mlflow.data.context"

_AT_ONCE = 50
"""Runs whose models are looked up in one call."""


def model_tags(content: Content) -> dict[str, str]:
    """The tags of a run's model: those of its run that describe what it is."""
    kept = ("flipscale.study", "flipscale.cell", "mlflow.source.git.commit")
    return {"flipscale.id": content.key} | {name: content.tags[name] for name in kept if name in content.tags}


def log_model(client: MlflowClient, experiment_id: str, run_id: str, content: Content, marks: Mapping[str, str]) -> str:
    """Make the model of a run, link it and the data sets to the run, and return its id. 4 calls with `finish_model`."""
    model = client.create_logged_model(
        experiment_id,
        name=model_name(content.name),
        source_run_id=run_id,
        tags={**model_tags(content), **marks},
        params=dict(content.params),
        model_type=MODEL_TYPE,
    )
    model_id = str(model.model_id)
    try:
        client.log_inputs(run_id, [_input(used) for used in content.data_sets])
    except MlflowException:
        # Two runs made the same data set at once, which MLflow refuses one of them; by now it is there.
        client.log_inputs(run_id, [_input(used) for used in content.data_sets])
    try:
        client.log_outputs(run_id, [LoggedModelOutput(model_id, content.points.last_step)])
    except MlflowException:
        # MLflow refuses an output that is there: the answer to a first call was lost.
        if model_id not in output_ids(client, run_id):
            raise
    return model_id


def finish_model(client: MlflowClient, model_id: str) -> None:
    """Say that the model is complete."""
    client.finalize_logged_model(model_id, LoggedModelStatus.READY)


def metrics_of(content: Content, model_id: str | None) -> list[Metric]:
    """All points of a run; its results belong to its model and to the data set that each was measured on."""
    metrics = []
    for number, (name, value, time, step) in enumerate(content.points.rows()):
        if model_id is None or number >= content.finals:
            metrics.append(Metric(name, value, time, step))
            continue
        used = content.tested_on.get(name)
        on = {"dataset_name": used.name, "dataset_digest": used.digest} if used else {}
        metrics.append(Metric(name, value, time, step, model_id=model_id, **on))
    return metrics


def output_ids(client: MlflowClient, run_id: str) -> list[str]:
    """The models of a run."""
    outputs = client.get_run(run_id).outputs
    return [str(output.model_id) for output in outputs.model_outputs] if outputs else []


def delete_models_of(client: MlflowClient, experiment_id: str, run_ids: Iterable[str]) -> None:
    """Delete the models of runs that are deleted: MLflow would go on finding them."""
    ids = list(run_ids)
    for start in range(0, len(ids), _AT_ONCE):
        listed = ", ".join(f"'{run_id}'" for run_id in ids[start : start + _AT_ONCE])
        for model in _search(client, experiment_id, f"source_run_id IN ({listed})"):
            client.delete_logged_model(model.model_id)


def delete_lost_models(
    client: MlflowClient, experiment_id: str, marks: Mapping[str, str], known: Sequence[str]
) -> None:
    """Delete the models with these marks that are not known here, as the answer to the call that made them was lost."""
    words = " AND ".join(f"tags.`{name}` = '{value}'" for name, value in marks.items())
    for model in _search(client, experiment_id, words):
        if model.model_id not in known:
            client.delete_logged_model(model.model_id)


def _search(client: MlflowClient, experiment_id: str, words: str) -> Iterator[LoggedModel]:
    token = None
    while True:
        page = client.search_logged_models([experiment_id], filter_string=words, max_results=50, page_token=token)
        yield from page
        token = page.token
        if not token:
            return


def _input(used: DataSetUsed) -> DatasetInput:
    data_set = Dataset(used.name, used.digest, DATA_SET_SOURCE, used.about)
    return DatasetInput(data_set, [InputTag(CONTEXT_TAG, used.used_for)])
