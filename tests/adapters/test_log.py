"""Progress in Prefect never stops a training: a server that fails is told once, and log lines go on."""

import uuid

import httpx
import pytest

from adapters import log


@pytest.mark.parametrize("fails", ["create_progress_artifact", "update_progress_artifact"])
def test_a_server_that_cannot_be_reached_is_told_once_and_the_work_goes_on(monkeypatch, caplog, fails):
    """Prefect's server is a seam here: its two calls are stubs, one of which fails as a dead server does."""
    calls = []

    def call(name, result):
        def answer(*_, **__):
            calls.append(name)
            if name == fails:
                raise httpx.ConnectError("All connection attempts failed")
            return result

        monkeypatch.setattr(log, name, answer)

    call("create_progress_artifact", uuid.UUID(int=1))
    call("update_progress_artifact", None)
    monkeypatch.setattr(log.TaskRunContext, "get", lambda: object())
    monkeypatch.setattr(log, "logger", lambda: log.logging.getLogger("kellet"))
    caplog.set_level("INFO", logger="kellet")
    report = log.progress("policy", artifact_every=0.0, line_every=0.0)
    for done in range(1, 4):
        report(done, 3, {})
    assert calls.count(fails) == 1
    assert caplog.text.count("progress is no longer shown in Prefect (All connection attempts failed)") == 1
    assert caplog.text.count("policy 3/3") == 1
