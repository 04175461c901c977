"""Pinning: the hub's newest commits, and nothing else of the study."""

import os
import subprocess
import sys

from support.hub_server import Hub
from support.paper_studies import STUDIES

from owlore.plan import pin as pinning
from owlore.study.config import load_study


def test_pinning_writes_the_hubs_newest_commits_and_nothing_else(tmp_path, monkeypatch):
    import huggingface_hub
    from support import hub_repositories as made

    data, model = made.owlore_dataset(), made.model(tmp_path / "model")
    text = (STUDIES / "llama2-7b.yaml").read_text()
    text = text.replace("meta-llama/Llama-2-7b-hf", model.name.removeprefix("models/"))
    file = tmp_path / "study.yaml"
    file.write_text(text)
    with Hub([data, model]) as hub:
        environment = hub.environment(tmp_path / "home", None)
        done = subprocess.run(
            [sys.executable, "-m", "owlore", "pin", str(file)],
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
        )
    assert done.returncode == 0, done.stderr
    newest = {name: list(made_.commits)[-1] for name, made_ in (("d", data), ("m", model))}
    expected = text.replace(
        "tiny/llama, revision: unpinned", f"tiny/llama, revision: {newest['m']}"
    ).replace("json, revision: unpinned", f"json, revision: {newest['d']}")
    assert file.read_text() == expected
    assert pinning.unpinned(load_study(file)) == []
    assert huggingface_hub.constants.ENDPOINT not in done.stdout
    again = subprocess.run(
        [sys.executable, "-m", "owlore", "pin", str(file)], capture_output=True, text=True
    )
    assert again.returncode == 0 and "nothing is unpinned" in again.stdout
