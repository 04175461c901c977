"""Bad input: exit code 2, one line naming the key, the value and what is allowed; no file made."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from support.small_models import save_tiny
from support.studies import STUDY, changed, write

from owlore.cli.main import main

# Dotted path, bad value, what the line must say. Every case has another cause.
STUDY_CASES = [
    ("study", ..., "study: this key is required"),
    ("study", "a/b", "study: 'a/b'"),
    ("seeds", [], "seeds: []"),
    ("seeds", [-1], "seeds.0: -1"),
    ("seeds", [1, 1], "seeds: [1, 1] names something twice"),
    ("run", ["base", "ful"], "'ful' is not in methods (did you mean full?)"),
    ("sed", [0], "sed: unknown key (did you mean"),
    ("models.toy", {}, "models.toy: give exactly one of archive, path, hub"),
    ("models.toy", {"hub": "org/name"}, "hub and revision go together"),
    (
        "models.toy",
        {"hub": "org/name", "revision": "main"},
        "models.toy.revision: 'main'",
    ),
    (
        "models.toy",
        {"archive": "smol", "gguf": "x.gguf"},
        "archive 'smol' is not in archives",
    ),
    (
        "archives",
        {"wn": {"filename": "wn.tar.gz", "sha256": "abc"}},
        "archives.wn.sha256: 'abc'",
    ),
    ("tracks.mini.train", {}, "tracks.mini.train: {}"),
    ("tracks.mini.train.pool", 0, "tracks.mini.train.pool: 0"),
    ("tracks.mini.commonsense.tasks", {}, "tracks.mini.commonsense.tasks: {}"),
    (
        "tracks.mini.commonsense.tasks.wordnet_antonym.metric",
        "f1",
        "metric: 'f1': Input should be 'acc', 'acc_norm', 'exact_match' or 'exact_match_flexible'",
    ),
    ("tracks.mini.commonsense.num_shots", 5, "num_shots: unknown key (did you mean num_fewshot?)"),
    (
        "tracks.mini.mtbench",
        {"judge": {"provider": "openai", "model": "gpt-4"}},
        "base_url is needed with provider: openai",
    ),
    (
        "tracks.mini.mtbench",
        {"judge": {"provider": "transformers", "model": "base", "judgings": 3}},
        "judgings is for provider: openai; a local judge is deterministic",
    ),
    (
        "tracks.mini.mtbench",
        {"judge": {"provider": "openai", "model": "m", "base_url": "https://me:sk-1@host/v1"}},
        "tracks.mini.mtbench.judge: base_url holds a name or key: name its variable in api_key_env",
    ),
    (
        "tracks.mini.mtbench",
        {
            "judge": {"provider": "transformers", "model": "base"},
            "further_judges": {"a/b": {"provider": "transformers", "model": "base"}},
        },
        "tracks.mini.mtbench.further_judges.a/b",
    ),
    (
        "tracks.mini.mtbench",
        {"questions": 81, "judge": {"provider": "transformers", "model": "base"}},
        "tracks.mini.mtbench.questions: 81: Input should be less than or equal to 80",
    ),
    ("calibration", {"threshold": 0}, "calibration.threshold: 0: Input should be greater than 0"),
    ("methods.full", {"trainable": "most"}, "'all', 'lora' or 'layers'"),
    ("methods.full.learning_rate", ..., "learning_rate is needed with trainable: all"),
    ("methods.full.learning_rate", "fast", "methods.full: learning_rate: 'fast'"),
    ("methods.full.learning_rate", -1e-4, "learning_rate: -0.0001"),
    ("methods.full.gamma", 2, "gamma is only allowed with trainable: layers"),
    ("methods.full.rank", 4, "rank is only allowed with projection: low-rank"),
    ("methods.full.lora_alpha", 4, "lora_alpha is only allowed with trainable: lora"),
    ("methods.owlore.gamma", ..., "gamma is needed with trainable: layers"),
    ("methods.owlore.gamma", 2.5, "gamma: 2.5"),
    ("methods.owlore.rank", ..., "rank is needed with projection: low-rank"),
    ("methods.owlore.sampling", "random", "sampling: 'random': Input should be 'uniform'"),
    ("methods.owlore.law", "poisson", "law: 'poisson': Input should be 'successive' or 'marginal'"),
    ("methods.owlore.gama", 2, "methods.owlore: gama: unknown key (did you mean gamma?)"),
    (
        "methods.full.overrides",
        [{"track": "maxi", "values": {"max_steps": 2}}],
        "overrides[0].track: 'maxi' is not in tracks (allowed: mini)",
    ),
    (
        "methods.full.overrides",
        [{"track": "mini", "values": {"max_steps": 0}}],
        "methods.full: max_steps: 0",
    ),
    ("training.max_steps", 0, "max_steps: 0: Input should be greater than or equal to 1"),
]


def one_line(capsys: pytest.CaptureFixture[str]) -> str:
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.count("\n") == 1, printed.err
    return printed.err


def assert_refused(arguments, capsys, *parts):
    assert main([str(argument) for argument in arguments]) == 2
    line = one_line(capsys)
    for part in parts:
        assert part in line


@pytest.mark.parametrize(
    ("path", "value", "message"), STUDY_CASES, ids=[f"{c[0]}={c[1]!r}"[:60] for c in STUDY_CASES]
)
def test_a_study_that_is_wrong(path, value, message, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "study.yaml", changed(path, value))
    assert_refused(["check", "study.yaml"], capsys, "study.yaml: ", message)
    assert [file.name for file in tmp_path.iterdir()] == ["study.yaml"], "no file is made"


def test_the_unchanged_study_is_valid(tmp_path, capsys):
    assert main(["check", str(write(tmp_path / "study.yaml", STUDY))]) == 0
    assert "cells      3, 2 of them trained" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("study: [", "not YAML"),
        ("- a\n- b\n", "expected a mapping of keys, got list"),
        ("", "expected a mapping of keys, got NoneType"),
        ("study: a\nstudy: b\n", "key 'study' is given twice"),
        ("study: \x00", "not YAML"),
    ],
)
def test_files_that_are_no_study(text, message, tmp_path, capsys):
    (tmp_path / "study.yaml").write_text(text)
    assert_refused(["check", tmp_path / "study.yaml"], capsys, message)


def test_a_study_that_is_not_there(tmp_path, capsys):
    assert_refused(["check", tmp_path / "no.yaml"], capsys, "no.yaml: no such file")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return save_tiny(tmp_path_factory.mktemp("checkpoint"))


def train_arguments(checkpoint: Path, folder: Path, rows: list[dict], **method) -> list:
    (folder / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    block = {"trainable": "all", "learning_rate": 0.001, "max_length": 64, **method}
    return [
        *("finetune", "--model", checkpoint, "--data", folder / "train.jsonl"),
        *("--method", json.dumps(block), "--output", folder / "cell"),
    ]


GOOD_ROWS = [{"prompt": "a", "completion": " b"}]
LAYERS = {"trainable": "layers", "interval_steps": 2, "gamma": 1}


@pytest.mark.parametrize(
    ("rows", "method", "message"),
    [
        (
            GOOD_ROWS,
            {**LAYERS, "sampling": "uniform", "gamma": 5},
            "method.gamma: 5: the model has 4",
        ),
        (GOOD_ROWS, {"projection": "low-rank", "rank": 64}, "method.rank: 64: at most"),
        (GOOD_ROWS, {"trainable": "lora", "r": 64, "lora_alpha": 1}, "method.r: 64: at most"),
        (GOOD_ROWS, {"max_length": 4096}, "method.max_length: 4096: the model's window is 512"),
        (GOOD_ROWS, {**LAYERS, "sampling": "outlier"}, "--outliers: sampling: outlier needs"),
        ([], {}, "the training file has no rows"),
        ([{"words": "x"}], {}, "row 1: expected text in prompt and completion"),
        (
            [{"prompt": "a", "completion": "b" * 80}],
            {},
            "row 1 has 82 tokens, max_length allows 64",
        ),
    ],
)
def test_training_that_cannot_work(rows, method, message, checkpoint, tmp_path, capsys):
    assert_refused(train_arguments(checkpoint, tmp_path, rows, **method), capsys, message)
    assert not (tmp_path / "cell").exists()


def test_a_model_without_decoder_layers(tmp_path, capsys):
    (tmp_path / "config.json").write_text("{}")
    arguments = train_arguments(tmp_path, tmp_path, GOOD_ROWS)
    assert_refused(arguments, capsys, f"model: {tmp_path}")


def test_a_vocabulary_that_does_not_fit(tmp_path, capsys):
    from support.small_models import tiny_llama

    save_tiny(tmp_path / "small", tiny_llama(vocab_size=64))
    capsys.readouterr()
    arguments = train_arguments(tmp_path / "small", tmp_path, GOOD_ROWS)
    assert_refused(arguments, capsys, "is outside the model's vocabulary")


def test_scores_of_another_model(checkpoint, tmp_path, capsys):
    scores = tmp_path / "scores.json"
    scores.write_text(json.dumps({"layers": [{"outlier_ratio": 0.1}] * 3}))
    arguments = train_arguments(checkpoint, tmp_path, GOOD_ROWS, **LAYERS, sampling="outlier")
    assert_refused([*arguments, "--outliers", scores], capsys, "3 layers, the model has 4")
    scores.write_text("{}")
    assert_refused([*arguments, "--outliers", scores], capsys, "not a file of outlier scores")


def test_a_full_disk_is_noticed_before_training(checkpoint, tmp_path, capsys, monkeypatch):
    from collections import namedtuple

    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr("owlore.core.files.shutil.disk_usage", lambda path: usage(1, 1, 10))
    arguments = train_arguments(checkpoint, tmp_path, GOOD_ROWS)
    assert_refused(arguments, capsys, "0.0 GiB free on disk, this job needs")
    assert not (tmp_path / "cell").exists()


def test_names_that_are_not_in_the_study(tmp_path, capsys):
    study = write(tmp_path / "study.yaml", STUDY)
    common = ["--study", study, "--output", tmp_path / "out"]
    data = ["data", *common, "--seed", 0, "--track"]
    assert_refused([*data, "maxi"], capsys, "--track: 'maxi': allowed mini")
    assert_refused(["model", *common, "--name", "llama"], capsys, "--name: 'llama': allowed toy")
    assert_refused(["assets", *common, "--only", "wn"], capsys, "--only: 'wn': allowed none")


def test_flags_are_refused_by_the_real_command(tmp_path):
    """The installed program itself: exit code, one line, no traceback."""
    for arguments, message in [
        (["finetune", "--model", "x"], "required: --output"),
        (["finetune", "--model", "x", "--output", "y"], "--method: needed here"),
        (["outliers", "--samples", "0"], "argument --samples: 0: must be at least 1"),
        (["nonsense"], "invalid choice: 'nonsense'"),
        (["check", "missing.yaml"], "missing.yaml: no such file"),
    ]:
        done = subprocess.run(
            [sys.executable, "-m", "owlore", *arguments],
            capture_output=True,
            text=True,
            cwd=tmp_path,
        )
        assert done.returncode == 2
        assert message in done.stderr and done.stderr.count("\n") == 1
        assert "Traceback" not in done.stderr
    assert not list(tmp_path.iterdir())
