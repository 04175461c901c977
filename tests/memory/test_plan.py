"""`owlore memory` as a user runs it: which methods fit my card, without weights and a GPU."""

import json
import time
from pathlib import Path

import pandas as pd
import pytest
import torch
from support.small_models import tiny_llama
from support.studies import STUDY, write

from owlore.cli.main import main
from owlore.core.files import read_json
from owlore.memory import plan as memory_plan
from owlore.memory import simulate as simulation
from owlore.study.method import parse_method

FULL = {"trainable": "all", "learning_rate": 0.001}
OWLORE = {"trainable": "layers", "sampling": "outlier", "gamma": 1, "interval_steps": 2}
OWLORE |= {"projection": "low-rank", "rank": 4, "learning_rate": 0.001}


@pytest.fixture
def shape(tmp_path) -> Path:
    tiny_llama().config.save_pretrained(tmp_path / "toy")
    return tmp_path / "toy"


def run(*arguments: object) -> int:
    return main(["memory", *map(str, arguments)])


@pytest.mark.parametrize("file", ["", "config.json"])
def test_one_method_of_a_model_by_its_configuration_alone(shape, file, tmp_path, capsys):
    output = tmp_path / "new" / "out.json"
    sizes = ["--micro-batch", 2, "--seqlen", 16]
    assert (
        run("--model", shape / file, "--method", json.dumps(FULL), *sizes, "--output", output) == 0
    )
    written = read_json(output)
    expected = simulation.simulate(tiny_llama().config, parse_method(FULL, "full"), 2, 16)
    assert {key: written[key] for key in expected} == expected
    assert (written["model"], written["micro_batch"], written["seqlen"]) == ("toy", 2, 16)
    assert written["rows"] == [{key: written[key] for key in written["rows"][0]}]
    assert written["versions"]["torch"] == torch.__version__
    assert f"{expected['peak_gib']:.2f}" in capsys.readouterr().out


def test_all_methods_of_a_study_and_what_fits(shape, tmp_path, capsys):
    study, output = write(tmp_path / "study.yaml", STUDY), tmp_path / "out.json"
    arguments = ["--model", shape, "--study", study, "--micro-batch", 8, "--seqlen", 128]
    assert run(*arguments, "--output", output) == 0
    peaks = {row["method"]: row["peak_gib"] for row in read_json(output)["rows"]}
    assert list(peaks) == ["full", "owlore"]
    between = memory_plan.needed_gib(sum(peaks.values()) / 2)
    capsys.readouterr()
    assert run(*arguments, "--gpu-memory", between, "--output", output) == 0
    printed = capsys.readouterr().out
    assert f"These fit {between:g} GiB: owlore. A card must hold" in printed
    assert "10% of it for fragmentation, and 0.6 GiB for CUDA's context" in printed
    table = pd.read_csv(output.with_suffix(".csv"))
    assert table["fits"].tolist() == [False, True]
    assert table["peak_gib"].tolist() == pytest.approx(list(peaks.values()))
    figure = output.with_suffix(".svg").read_text()
    assert figure.startswith("<?xml") and "<svg" in figure
    again = output.with_suffix(".svg").read_bytes()
    assert run(*arguments, "--gpu-memory", between, "--output", output) == 0
    assert output.with_suffix(".svg").read_bytes() == again


@pytest.mark.parametrize(
    ("option", "key"),
    [
        (["--checkpointing"], {"gradient_checkpointing": True}),
        (["--precision", "bfloat16"], {"precision": "bfloat16"}),
        (["--state", "keep"], {"state": "keep"}),
        (["--accumulation", 3], {"gradient_accumulation_steps": 3}),
    ],
    ids=str,
)
def test_an_option_is_as_good_as_the_methods_own_key(shape, option, key, tmp_path):
    output = tmp_path / "out.json"
    sizes = ["--micro-batch", 2, "--seqlen", 64, "--output", output]
    assert run("--model", shape, "--method", json.dumps(OWLORE), *option, *sizes) == 0
    changed = parse_method({**OWLORE, **key}, "owlore")
    plain = parse_method(OWLORE, "owlore")
    expected = simulation.simulate(tiny_llama().config, changed, 2, 64)
    assert read_json(output)["peak_gib"] == expected["peak_gib"]
    assert expected != simulation.simulate(tiny_llama().config, plain, 2, 64)


def test_what_was_simulated_before_is_remembered_by_all_that_matters(shape, tmp_path, monkeypatch):
    asked = []
    simulate = simulation.simulate
    monkeypatch.setattr(
        simulation, "simulate", lambda *given: asked.append(given) or simulate(*given)
    )

    def times(**changes: object) -> int:
        block = {**OWLORE, **changes}
        sizes = ["--micro-batch", 2, "--seqlen", 16, "--cache", tmp_path / "cache"]
        before = len(asked)
        run(
            "--model", shape, "--method", json.dumps(block), *sizes, "--output", tmp_path / "o.json"
        )
        return len(asked) - before

    assert times() == 1
    assert times() == 0
    assert times(learning_rate=0.5, max_steps=9, sampling="uniform") == 0, "nothing to memory"
    for changes in ({"rank": 5}, {"gamma": 2}, {"precision": "bfloat16"}, {"refresh": "svd"}):
        assert times(**changes) == 1
    monkeypatch.setattr(memory_plan.code, "of", lambda module: {"optim/adamw.py": "edited"})
    assert times() == 1, "other code, another key"


def test_a_published_shape_is_simulated_in_time(tmp_path):
    started = time.process_time()
    sizes = ["--micro-batch", 4, "--seqlen", 512, "--checkpointing", "--precision", "bfloat16"]
    lora = json.dumps({"trainable": "lora", "r": 8, "lora_alpha": 16, "learning_rate": 0.001})
    assert (
        run("--model", "llama2-7b", "--method", lora, *sizes, "--output", tmp_path / "o.json") == 0
    )
    assert time.process_time() - started < 120
    # 12.55 GiB, and in float32, as peft has it, 20 million of the adapter
    assert read_json(tmp_path / "o.json")["weights_gib"] == pytest.approx(12.626, abs=0.001)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--model", "no-such"],
            "--model: no-such: allowed: a checkpoint folder, a config.json, ll",
        ),
        (["--model", "llama2-7b"], "--method: needed here, or --study"),
        (["--model", "llama2-7b", "--method", '{"trainable": "al"}'], "method: trainable: 'al'"),
        (
            ["--model", "llama2-7b", "--method", json.dumps(FULL), "--precision", "int8"],
            "method: precision: 'int8'",
        ),
    ],
)
def test_bad_input_is_one_line(arguments, message, tmp_path, capsys):
    assert run(*arguments, "--output", tmp_path / "out.json") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line
    assert not (tmp_path / "out.json").exists()
