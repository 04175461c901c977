"""The hub path for real: owlore's commands against a small hub on loopback (`hub_server`)."""

import json
from collections.abc import Iterator
from typing import Any

import pandas as pd
import pytest
from safetensors.torch import load_file
from support import hub_repositories as made
from support.hub_desk import Desk, Ran
from support.hub_server import Hub, commit_of
from support.small_models import save_tiny

from owlore.core.files import read_jsonl
from owlore.data.training_formats import training_row

OWLORE = made.OWLORE.removeprefix("datasets/")
TOKEN = "hf_OnlyTheHubMayKnowThis"
UNKNOWN = "0123456789" * 4
TASKS = {
    "boolq": "aps/super_glue",
    "piqa": "baber/piqa",
    "social_iqa": "lighteval/siqa",
    "hellaswag": "Rowan/hellaswag",
    "winogrande": "allenai/winogrande",
    "arc_easy": "allenai/ai2_arc",
    "arc_challenge": "allenai/ai2_arc",
    "openbookqa": "allenai/openbookqa",
    "mmlu_abstract_algebra": "cais/mmlu",
    "mmlu_anatomy": "cais/mmlu",
    "gsm8k": "openai/gsm8k",
}
UNPINNED = "openbookqa"


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    folder = tmp_path_factory.mktemp("desk")
    save_tiny(folder / "model")
    repositories = [
        *made.datasets(TOKEN),
        made.owlore_dataset(),
        made.model(folder / "source", TOKEN),
    ]
    with Hub(repositories) as hub:
        yield Desk(hub, folder)


@pytest.fixture(scope="module")
def scored(desk: Desk) -> Ran:
    pinned = {name: commit_of(f"{path} old") for name, path in TASKS.items()}
    return desk.evaluate({**pinned, UNPINNED: None}, "all.json", token=TOKEN)


def test_all_nine_families_are_scored_at_their_pinned_commits(desk: Desk, scored: Ran) -> None:
    assert scored.code == 0, scored.err
    record = json.loads((desk.folder / "all.json").read_text())
    rows = pd.read_parquet(desk.folder / "samples/all.parquet")
    for name, path in TASKS.items():
        result = record["tasks"][name]
        age = "new" if name == UNPINNED else "old"
        assert result["revision"] == commit_of(f"{path} {age}")
        assert result["num_fewshot"] == 2
        make, configurations, splits, _ = made.DATASETS[path]
        split = splits.split()[-1]
        configuration = {"arc_challenge": "ARC-Challenge", "mmlu_anatomy": "anatomy"}.get(
            name, configurations[0]
        )
        docs = made.tables(path, age)[configuration, split]
        assert (result["n"], result["split"]) == (len(docs), split)
        own = rows[rows["task"] == name]
        if make is made.gsm8k:
            assert own["target"].tolist() == [doc["answer"] for doc in docs]
        else:
            assert own["gold"].tolist() == [gold(doc) for doc in docs]


def gold(doc: dict[str, Any]) -> int:
    """A made-up row's answer, told by its values alone."""
    if "answerKey" in doc:
        return "ABCD".index(doc["answerKey"])
    first = 1 if "answerA" in doc or "option1" in doc else 0  # counted from one
    return int(doc["label"] if "label" in doc else doc["answer"]) - first


def test_nothing_but_the_pinned_commits_is_asked_for(scored: Ran) -> None:
    for name, path in TASKS.items():
        asked = {request.revision for request in scored.asked(f"datasets/{path}")}
        if name != UNPINNED:
            assert asked == {commit_of(f"{path} old")}
    data = [r for r in scored.asked("datasets/baber/piqa") if r.method == "GET" and r.file]
    assert {"default/train.parquet", "default/validation.parquet"} <= {r.file for r in data}


def test_the_token_goes_to_the_hub_and_nowhere_else(desk: Desk, scored: Ran) -> None:
    sent = [r for r in scored.asked("datasets/lighteval/siqa") if r.status == 200]
    assert sent and {request.authorization for request in sent} == {f"Bearer {TOKEN}"}
    assert TOKEN not in scored.out + scored.err
    for path in desk.folder.rglob("*"):
        assert not path.is_file() or TOKEN.encode() not in path.read_bytes(), path


@pytest.mark.parametrize(
    ("tasks", "more", "reason"),
    [
        (
            {"piqa": UNKNOWN},
            {"home": "empty"},
            f"tasks: piqa: baber/piqa has no commit {UNKNOWN} on http://127",
        ),
        (
            {"social_iqa": commit_of("lighteval/siqa old")},
            {"home": "empty"},
            "tasks: social_iqa: lighteval/siqa is gated: set HF_TOKEN to a token that has access",
        ),
        (  # the cache has another commit, which `datasets` would take
            {"boolq": commit_of("aps/super_glue new")},
            {"HF_HUB_OFFLINE": "1"},
            f"aps/super_glue: commit {commit_of('aps/super_glue new')} is wanted",
        ),
        (
            {"piqa": commit_of("baber/piqa old")},
            {"home": "empty", "HF_HUB_OFFLINE": "1"},
            "cannot be reached, and the cache does not have baber/piqa",
        ),
    ],
)
def test_what_the_hub_refuses_is_told_in_one_line(
    desk: Desk,
    scored: Ran,
    tasks: dict[str, str | None],
    more: dict[str, str],
    reason: str,
) -> None:
    refused = desk.evaluate(tasks, **more)
    assert reason in refused.refusal()
    assert not (desk.folder / "refused.json").exists()


def test_a_model_is_fetched_at_its_pinned_commit(desk: Desk) -> None:
    old = commit_of("llama old")
    done = desk.fetch_model(old, "fetched", token=TOKEN)
    assert done.code == 0, done.err
    described = json.loads((desk.folder / "fetched/model.json").read_text())
    assert described["source"] == {"hub": "tiny/llama", "revision": old}
    assert {request.revision for request in done.asked(made.MODEL)} == {old}
    weights, original = (
        load_file(desk.folder / name / "model.safetensors") for name in ("fetched", "source")
    )
    assert weights.keys() == original.keys()
    assert all(weights[name].equal(original[name]) for name in original)
    assert TOKEN not in done.out + done.err


@pytest.mark.parametrize(
    ("revision", "token", "reason"),
    [
        (commit_of("llama old"), None, "tiny/llama is gated: set HF_TOKEN"),
        (commit_of("llama old"), "hf_of_somebody_else", "the token in HF_TOKEN has no access"),
        (UNKNOWN, TOKEN, f"tiny/llama has no commit {UNKNOWN}"),
        (commit_of("llama new"), TOKEN, "does not appear to have a file named"),
    ],
)
def test_a_model_that_cannot_be_fetched_is_told_in_one_line(
    desk: Desk, revision: str, token: str, reason: str
) -> None:
    refused = desk.fetch_model(revision, token=token, home="models")
    line = refused.refusal()
    assert line.startswith("owlore model: models: hub: ") and reason in line
    assert TOKEN not in refused.out + refused.err
    assert not (desk.folder / "refused/model.json").exists()


@pytest.mark.parametrize(
    ("path", "name"), [("allenai/ai2_arc", "ARC-Challenge"), ("lighteval/siqa", None)]
)
def test_a_pool_is_a_split_at_its_pinned_commit(desk: Desk, path: str, name: str | None) -> None:
    old = commit_of(f"{path} old")
    source = {"path": path, "name": name, "split": "validation", "revision": old}
    done = desk.draw(source, "pool.jsonl", token=TOKEN, home="pools")
    assert done.code == 0, done.err
    assert {request.revision for request in done.asked(f"datasets/{path}")} == {old}
    drawn = read_jsonl(desk.folder / "pool.jsonl")
    rows = made.tables(path, "old")[name or "default", "validation"]
    expected = [{**training_row(row, "row"), "source": "pool"} for row in rows]
    assert sorted(drawn, key=str) == sorted(expected, key=str)
    assert TOKEN not in done.out + done.err


def test_a_pool_is_a_file_of_the_published_data(desk: Desk) -> None:
    source = {"path": OWLORE, "file": "merge/merged_json.json", "revision": commit_of("owlore old")}
    done = desk.draw(source, "file.jsonl", home="pools")
    assert done.code == 0, done.err
    texts = [row["text"] for row in read_jsonl(desk.folder / "file.jsonl")]
    assert len(set(texts)) == 4 and all(text.startswith("old text") for text in texts)
    assert {request.revision for request in done.asked(made.OWLORE)} == {commit_of("owlore old")}
    again = desk.draw(source, "again.jsonl", home="pools", HF_HUB_OFFLINE="1")
    assert again.code == 0 and again.requests == []
    assert read_jsonl(desk.folder / "again.jsonl") == read_jsonl(desk.folder / "file.jsonl")


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ({"path": "baber/piqa", "revision": UNKNOWN}, f"baber/piqa has no commit {UNKNOWN}"),
        (
            {"path": "lighteval/siqa", "revision": commit_of("lighteval/siqa old")},
            "lighteval/siqa is gated: set HF_TOKEN",
        ),
        (
            {"path": "nobody/nothing", "revision": UNKNOWN},
            "nobody/nothing is not on http://127.0.0.1",
        ),
        (
            {"path": OWLORE, "file": "merge/no.json", "revision": commit_of("owlore old")},
            f"{OWLORE}: it has no file merge/no.json",
        ),
        (
            {"path": "baber/piqa", "split": "tset", "revision": commit_of("baber/piqa old")},
            'baber/piqa: Unknown split "tset"',
        ),
        (
            {"path": "openai/gsm8k", "name": "socratic"}
            | {"revision": commit_of("openai/gsm8k old")},
            "openai/gsm8k: BuilderConfig 'socratic' not found. Available: ['main']",
        ),
    ],
)
def test_a_pool_that_cannot_be_read_is_told_in_one_line(
    desk: Desk, source: dict[str, Any], reason: str
) -> None:
    line = desk.draw(source, home="empty").refusal()
    assert line.startswith("owlore data: questions.hub.pool: ") and reason in line
    assert not (desk.folder / "refused.jsonl").exists()


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ({"path": "baber/piqa"}, "questions.hub.pool.revision: this key is required"),
        ({"path": "baber/piqa", "revision": "main"}, "questions.hub.pool.revision: 'main'"),
        (
            {"path": OWLORE, "revision": UNKNOWN, "file": "a.json", "split": "test"},
            "file is read whole",
        ),
    ],
)
def test_a_pool_is_pinned(desk: Desk, source: dict[str, Any], reason: str) -> None:
    refused = desk.draw(source)
    assert reason in refused.refusal() and refused.requests == []
