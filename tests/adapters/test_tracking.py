"""Metrics reach MLflow in batches, under names that it takes."""

from mlflow import MlflowClient

from adapters import tracking


def test_metrics_go_out_in_few_calls(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    client = MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    run = client.create_run(client.create_experiment("e")).info.run_id
    calls = []
    original = client.log_batch
    monkeypatch.setattr(client, "log_batch", lambda *args, **more: calls.append(1) or original(*args, **more))
    steps = [{"iteration": i, **{f"m{j}": i * j for j in range(30)}, "none": None} for i in range(100)]
    tracking.log_metrics(client, run, steps)
    assert len(calls) == 3
    history = client.get_metric_history(run, "m2")
    assert [(point.step, point.value) for point in history] == [(i, 2 * i) for i in range(100)]


def test_a_metric_named_by_words_is_logged_under_what_mlflow_takes_of_them(tmp_path):
    client = MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    run = client.create_run(client.create_experiment("e")).info.run_id
    tracking.log_metrics(client, run, [{"data/reasons.also a training prompt (case, white space left out)": 3}])
    assert client.get_run(run).data.metrics == {"data/reasons.also a training prompt case white space left out": 3.0}
