"""A real `mlflow server` on loopback in place of the study's own database."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.loopback import serving
from support.tracked import STUDY, write_results

from owlore.core.files import read_json
from owlore.tracking import stage as tracking
from owlore.tracking.store import MlflowClient, ViewType


@pytest.fixture(scope="module")
def uri(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("server")

    def command(port: int) -> list[str]:
        return [
            *(sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1"),
            *("--port", str(port), "--workers", "1"),
            *("--backend-store-uri", f"sqlite:///{folder / 'store.db'}"),
            *("--artifacts-destination", str(folder / "artifacts")),
        ]

    with serving(command, folder / "log", folder) as port:
        yield f"http://127.0.0.1:{port}"


def test_a_study_goes_to_the_server_that_is_named(
    uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    root = tmp_path / "results" / "made-up"
    write_results(root)

    tracking.rebuild(STUDY, root)
    receipt = read_json(root / "receipts" / "init.json")
    assert receipt["tracking"] == "server"
    assert not list(root.glob("mlflow/*.db"))  # no database of its own

    client = MlflowClient(tracking_uri=uri)
    runs = client.search_runs([receipt["experiment_id"]])
    by_name = {run.info.run_name: run for run in runs}
    assert len(by_name) == len(runs) == 15
    for cell in STUDY.cells():
        stored = read_json(tracking.receipt_path(root, cell.path))
        run = client.get_run(stored["run_id"])
        scored = read_json(root / cell.path / "mmlu.json")["average"]
        assert run.data.metrics["mmlu_average"] == pytest.approx(scored)
    page = client.download_artifacts(
        by_name["study made-up"].info.run_id, "report/index.html", str(tmp_path)
    )
    assert Path(page).read_bytes() == (root / "report" / "index.html").read_bytes()

    tracking.rebuild(STUDY, root)
    assert len(client.search_runs([receipt["experiment_id"]], run_view_type=ViewType.ALL)) == 15
