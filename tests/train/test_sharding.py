"""Training on several processes (torchrun, gloo, FSDP2) is training on one, up to rounding."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import torch
from safetensors.torch import load_file
from support.cells import command, method, stopped_at_step

from owlore.core.errors import BadInput
from owlore.records.finetune import FinetuneJob
from owlore.study.method import Layers
from owlore.train import loop as training
from owlore.train import sharding, stage

RUN = Path(__file__).parents[1] / "support" / "sharded_run.py"
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
LONG = {
    "max_steps": 20,
    "interval_steps": 7,
    "checkpoint_steps": 50,
}  # two switches after the first
# Name: ranks, method, changes. "owlore" has matrices that are projected from either side.
CASES = {
    "owlore": (2, "owlore", LONG),
    "owlore-accumulated": (
        2,
        "owlore-keep",
        {**LONG, "per_device_train_batch_size": 2, "gradient_accumulation_steps": 2}
        | {"padding_free": False, "moments": "rotate", "weight_decay": 0.1},
    ),
    "lisa-uneven": (
        3,
        "lisa",
        {**LONG, "gamma": 2, "per_device_train_batch_size": 3, "gradient_checkpointing": True},
    ),
    "lora": (2, "lora", {"max_steps": 20, "checkpoint_steps": 50, "r": 4, "lora_dropout": 0}),
}


def environment() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}


def on_one(inputs: Path, output: Path, chosen) -> dict:
    torch.set_num_threads(1)
    scores = inputs / "outliers.json" if chosen.needs_outliers else None
    job = FinetuneJob(method=chosen, seed=0)
    stage.run(job, stage.Inputs(inputs / "model", inputs / "train.jsonl", scores), output)
    return json.loads((output / "finetune.json").read_text())


def on_many(inputs: Path, output: Path, chosen, ranks: int) -> dict:
    """Run `owlore finetune` under torchrun, with sharded_run.py looking on."""
    arguments = command(inputs, output, chosen)[4:]
    line = [*TORCHRUN, f"--nproc-per-node={ranks}", str(RUN), "cell", *arguments]
    done = subprocess.run(line, capture_output=True, text=True, env=environment())
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("steps done") == 1, "only the first rank speaks"
    return json.loads((output / "finetune.json").read_text())


def trained_weights(folder: Path) -> dict[str, torch.Tensor]:
    (file,) = (folder / "model").glob("*.safetensors")
    return load_file(file)


def history(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "history.jsonl").read_text().splitlines()]


def assert_same_losses(one: Path, many: Path) -> None:
    expected, found = history(one), history(many)
    assert [row["loss"] for row in found] == pytest.approx(
        [row["loss"] for row in expected], abs=1e-5
    )
    assert [row["active_layers"] for row in found] == [row["active_layers"] for row in expected]


def assert_same_weights(one: Path, many: Path) -> None:
    """Nearly all entries agree tightly, and none differs by more than Adam can have moved it.

    Ranks add up a gradient in another order. Adam divides by the gradient's own size, so where the
    exact gradient is zero and rounding alone is left, the order decides even on the sign: on which
    entries that falls, and how often, follows from the CPU's kernels. A step moves an entry by
    about the learning rate at most, so two runs end within twice the sum of the rates.
    """
    expected, found = trained_weights(one), trained_weights(many)
    assert expected.keys() == found.keys()
    bound = 2 * sum(row["learning_rate"] for row in history(one))
    off = entries = 0
    for key, weight in expected.items():
        torch.testing.assert_close(found[key], weight, atol=bound, rtol=0)
        loose = (found[key] - weight).abs() > 1e-4 + 1e-4 * weight.abs()
        off, entries = off + int(loose.sum()), entries + weight.numel()
    # One entry in a thousand: a shard or a layer that trained otherwise is far more.
    assert off <= entries / 1000, f"{off} of {entries} entries differ"


@pytest.mark.arithmetic
@pytest.mark.parametrize("case", CASES)
def test_several_ranks_train_as_one_process(case, inputs, tmp_path):
    ranks, name, changes = CASES[case]
    chosen = method(name, **changes)
    one = on_one(inputs, tmp_path / "one", chosen)
    many = on_many(inputs, tmp_path / "many", chosen, ranks)
    assert_same_losses(tmp_path / "one", tmp_path / "many")
    assert one["switches"] == (3 if isinstance(chosen, Layers) else 0)
    assert one["ranks"] == 1 and many["ranks"] == ranks
    same = ("tokens", "examples", "steps", "layer_activations", "switches", "trainable_parameters")
    for key in (*same, "total_parameters", "projector_refreshes"):
        assert many[key] == one[key], key
    assert_same_weights(tmp_path / "one", tmp_path / "many")

    own = [json.loads((tmp_path / f"many/rank{rank}.json").read_text()) for rank in range(ranks)]
    assert all(each["dtensors"] for each in own)
    assert sum(each["rows"] for each in own) == one["total_parameters"]
    assert max(each["optimizer_bytes"] for each in own) == many["optimizer_bytes"]
    share = 0.6 if ranks == 2 else 0.4
    for key in ("optimizer_bytes", "decoder_optimizer_bytes"):
        assert many[key] <= share * one[key], key
    for kind in ("weights", "gradients"):
        assert many["memory_bytes"][kind] <= share * one["memory_bytes"][kind], kind


def test_torchrun_with_one_process_changes_nothing(inputs, tmp_path):
    chosen = method("owlore")
    line = [*TORCHRUN, "--nproc-per-node=1", "-m", "owlore"]
    line += command(inputs, tmp_path / "torchrun", chosen)[3:]
    subprocess.run(line, check=True, capture_output=True, env=environment())
    found = json.loads((tmp_path / "torchrun" / "finetune.json").read_text())
    assert found["weights_sha256"] == on_one(inputs, tmp_path / "one", chosen)["weights_sha256"]


def test_mixed_precision_survives_switches(inputs, tmp_path):
    plain = method("owlore", **{**LONG, "interval_steps": 3})
    mixed = plain.model_copy(update={"mixed_precision": "bfloat16"})
    on_one(inputs, tmp_path / "one", plain)
    many = on_many(inputs, tmp_path / "many", mixed, 2)
    awake = many["layer_activations"]
    assert many["switches"] == 7 and sum(steps > 0 for steps in awake) > 1
    expected = [row["loss"] for row in history(tmp_path / "one")]
    found = [row["loss"] for row in history(tmp_path / "many")]
    assert found == pytest.approx(expected, abs=0.1) and found != pytest.approx(expected, abs=1e-5)
    before = load_file(inputs / "model" / "model.safetensors")
    after = load_file(tmp_path / "many" / "model" / "model.safetensors")
    assert {weight.dtype for weight in after.values()} == {torch.float32}
    for layer, steps in enumerate(awake):
        key = f"model.layers.{layer}.mlp.up_proj.weight"
        assert torch.equal(before[key], after[key]) == (steps == 0), key


@pytest.mark.parametrize("name", ["owlore-keep", "dora"])
def test_a_run_of_one_process_goes_on_with_two(name, inputs, tmp_path, monkeypatch):
    chosen = method(name, max_steps=12, checkpoint_steps=6)
    on_one(inputs, tmp_path / "whole", chosen)
    with stopped_at_step(8, monkeypatch):
        on_one(inputs, tmp_path / "cut", chosen)
    found = on_many(inputs, tmp_path / "cut", chosen, 2)
    assert found["resumed_from_step"] == 6 and found["ranks"] == 2
    assert_same_losses(tmp_path / "whole", tmp_path / "cut")


def test_a_killed_rank_stops_the_others_and_one_process_goes_on(inputs, tmp_path):
    chosen = method("owlore", max_steps=24, interval_steps=5, checkpoint_steps=4)
    on_one(inputs, tmp_path / "whole", chosen)
    line = command(inputs, tmp_path / "cut", chosen, ranks=2)
    process = subprocess.Popen(
        line, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=environment()
    )
    marker = tmp_path / "cut" / "checkpoints" / "checkpoint-4" / training.STATE_FILE
    deadline = time.monotonic() + 240
    while not marker.exists():
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)
    workers = psutil.Process(process.pid).children()
    assert len(workers) == 2
    (second,) = (each for each in workers if each.environ()["RANK"] == "1")
    second.send_signal(signal.SIGKILL)
    _, errors = process.communicate(timeout=120)
    assert process.returncode != 0
    assert re.search("owlore finetune: rank 0: .*another rank has (stopped|ended)", errors), errors
    assert "Signal 9 (SIGKILL) received by PID" in errors, "torchrun's own summary"
    assert not any(each.is_running() and each.status() != "zombie" for each in workers)
    assert not (tmp_path / "cut" / "finetune.json").exists()
    found = on_one(inputs, tmp_path / "cut", chosen)
    assert found["resumed_from_step"] >= 4 and found["ranks"] == 1
    assert_same_losses(tmp_path / "whole", tmp_path / "cut")


def test_no_rank_outlives_a_killed_torchrun(inputs, tmp_path):
    line = command(inputs, tmp_path / "cell", method("full", max_steps=100000), ranks=2)
    process = subprocess.Popen(line, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 240
    while not list((tmp_path / "cell" / "checkpoints").glob("checkpoint-*")):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)
    workers = psutil.Process(process.pid).children()
    process.kill()
    process.wait()
    _, alive = psutil.wait_procs(workers, timeout=10)
    assert len(workers) == 2 and not alive


@pytest.mark.parametrize("name", ["owlore-master", "lora"])
def test_bfloat16_weights_on_shards(name, inputs, tmp_path):
    chosen = method(name)
    if name == "lora":
        chosen = method(name, precision="bfloat16", lora_dropout=0)
    on_one(inputs, tmp_path / "one", chosen)
    on_many(inputs, tmp_path / "many", chosen, 2)
    expected, found = ([row["loss"] for row in history(tmp_path / run)] for run in ("one", "many"))
    assert found == pytest.approx(expected, abs=0.1)
    one, many = (trained_weights(tmp_path / run) for run in ("one", "many"))
    assert {k: w.dtype for k, w in one.items()} == {k: w.dtype for k, w in many.items()}


@pytest.mark.arithmetic
def test_the_sharded_optimizer_follows_the_plain_one():
    line = [*TORCHRUN, "--nproc-per-node=3", str(RUN), "optimizer"]
    done = subprocess.run(line, capture_output=True, text=True, env=environment())
    assert done.returncode == 0, done.stdout + done.stderr


def test_bad_input_is_one_line_from_all_ranks(inputs, tmp_path):
    line = command(inputs, tmp_path, method("owlore", per_device_train_batch_size=3), ranks=2)
    done = subprocess.run(line, capture_output=True, text=True, env=environment())
    assert done.returncode != 0
    lines = [line for line in done.stderr.splitlines() if line.startswith("owlore finetune:")]
    assert (
        len(lines) == 1 and "3 examples a step: allowed are multiples of the ranks, 2" in lines[0]
    )
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("ranks", "name", "changes", "message"),
    [
        (2, "full", {"precision": "bfloat16-lean"}, r"method\.precision: bfloat16-lean: not on"),
        (3, "full", {}, r"4 examples a step: allowed are multiples of the ranks, 3"),
        (1, "full", {"mixed_precision": "bfloat16"}, r"method\.mixed_precision: bfloat16: only on"),
    ],
)
def test_what_does_not_fit_the_ranks(ranks, name, changes, message, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", str(ranks))
    with pytest.raises(BadInput, match=message):
        sharding.check(method(name, **changes))


def test_mixed_precision_wants_wide_weights():
    with pytest.raises(BadInput, match="mixed_precision is only allowed with precision: float32"):
        method("full", mixed_precision="bfloat16", precision="bfloat16")


@pytest.mark.parametrize("size", [1, 2, 3, 4, 6])
@pytest.mark.parametrize("accumulation", [1, 4, 6])
@pytest.mark.parametrize("ranks", [1, 2, 3, 4])
def test_a_step_is_cut_without_remainder(size, accumulation, ranks):
    chosen = method(
        "full", per_device_train_batch_size=size, gradient_accumulation_steps=accumulation
    )
    if chosen.examples_per_step % ranks:
        return
    part, micro_batches = sharding.shares(chosen, ranks)
    assert part * micro_batches * ranks == chosen.examples_per_step and part <= size
    if size % ranks == 0:
        assert micro_batches == accumulation, "the first micro-batch holds the same examples"
