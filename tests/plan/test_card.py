"""`owlore check --gpu-memory`: hours and memory of every cell, what is refused, what would fit."""

import re
from pathlib import Path

import pytest
import yaml
from support.small_models import save_tiny, tiny_llama
from support.studies import changed, write

from owlore.cli.main import main
from owlore.core.parsing import load_yaml
from owlore.memory import plan as memory_plan
from owlore.memory import simulate as simulation
from owlore.plan import card as card_plan
from owlore.study.config import load_study

TRAINING = {"per_device_train_batch_size": 8, "max_length": 128, "max_steps": 10}


@pytest.fixture
def study(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    save_tiny(tmp_path / "inputs" / "model")
    return write(tmp_path / "study.yaml", changed("training", TRAINING))


@pytest.fixture
def one_by_one(study) -> Path:
    """Micro-batches of one short sequence: nothing smaller can help."""
    small = {"per_device_train_batch_size": 1, "max_length": 16, "max_steps": 10}
    return write(study, changed("training", small))


def needed(study: Path, method: str, micro_batch: int | None = None) -> float:
    chosen = load_study(study).method(method, "mini", "toy")
    own = chosen.per_device_train_batch_size
    size = micro_batch or own
    steps = {"gradient_accumulation_steps": own // size}
    config, accumulated = tiny_llama().config, chosen.model_copy(update=steps)
    split = simulation.simulate(config, accumulated, size, chosen.max_length)
    return memory_plan.needed_gib(split["peak_gib"])


def test_a_card_that_holds_everything_gets_a_plan(study, capsys):
    assert main(["check", str(study), "--gpu-memory", "80", "--tflops", "2"]) == 0
    printed = capsys.readouterr().out
    rows = [line.split() for line in printed.splitlines() if line.split()[:2] == ["toy", "mini"]]
    assert [row[2] for row in rows] == ["full", "owlore"]
    assert [row[3] for row in rows] == ["8x128", "8x128"]
    assert [row[6] for row in rows] == ["yes", "yes"]
    assert "at an assumed 2 TFLOP/s sustained" in printed
    assert "10% of it for fragmentation, and 0.6 GiB for CUDA's context" in printed


def test_a_cell_that_cannot_fit_is_refused_and_those_that_would_are_named(one_by_one, capsys):
    card = (needed(one_by_one, "full") + needed(one_by_one, "owlore")) / 2
    assert needed(one_by_one, "owlore") < card < needed(one_by_one, "full")
    assert main(["check", str(one_by_one), "--gpu-memory", str(card)]) == 2
    out, err = capsys.readouterr()
    assert "nothing" in next(line for line in out.splitlines() if "full" in line and "1x16" in line)
    line = err.splitlines()[-1]
    assert re.search(r"do not hold toy/full \(needs .* micro-batch 1\); these would fit: ", line)
    assert "toy/owlore (micro-batch 1)" in line
    assert "`--write FILE.yaml`" in line


def test_the_written_study_fits(study, capsys):
    """Full fine-tuning fits with a smaller micro-batch only; the step stays as it was."""
    card = (needed(study, "full", 4) + needed(study, "full", 8)) / 2
    assert main(["check", str(study), "--gpu-memory", str(card), "--write", "fits.yaml"]) == 0
    written = load_study(Path("fits.yaml"))
    before, after = (s.method("full", "mini", "toy") for s in (load_study(study), written))
    assert after.per_device_train_batch_size == 4
    assert after.examples_per_step == before.examples_per_step
    assert written.method("owlore", "mini", "toy").examples_per_step == before.examples_per_step
    assert written.run == ["base", "full", "owlore"]
    assert main(["check", "fits.yaml", "--gpu-memory", str(card)]) == 0


def test_the_written_study_leaves_out_what_cannot_fit(one_by_one):
    card = (needed(one_by_one, "full") + needed(one_by_one, "owlore")) / 2
    command = ["check", str(one_by_one), "--gpu-memory", str(card), "--write", "fits.yaml"]
    assert main(command) == 0
    assert load_study(Path("fits.yaml")).run == ["base", "owlore"]


def test_nothing_that_fits_is_bad_input(study, capsys):
    assert main(["check", str(study), "--gpu-memory", "0.5", "--write", "fits.yaml"]) == 2
    assert "no method of the study fits 0.5 GiB" in capsys.readouterr().err
    assert not Path("fits.yaml").exists()


def test_overrides_of_the_shared_training_block_survive(study):
    block = load_yaml(study)
    block["training"]["overrides"] = [{"track": "mini", "values": {"max_steps": 3}}]
    study.write_text(yaml.safe_dump(block))
    card = (needed(study, "full", 4) + needed(study, "full", 8)) / 2
    assert main(["check", str(study), "--gpu-memory", str(card), "--write", "fits.yaml"]) == 0
    full = load_study(Path("fits.yaml")).method("full", "mini", "toy")
    assert (full.max_steps, full.per_device_train_batch_size) == (3, 4)


def test_a_shape_that_is_not_known_yet_says_what_to_do(study, capsys):
    hub = {"hub": "some/model", "revision": "unpinned"}
    write(study, changed("models.toy", hub, load_yaml(study)))
    assert main(["check", str(study), "--gpu-memory", "24"]) == 2
    err = capsys.readouterr().err
    assert "models.toy: its shape is not known before it is there: run `owlore run" in err


def test_a_7b_study_on_24_gib(tmp_path, capsys):
    """Full fine-tuning cannot; LoRA can, perhaps with a smaller micro-batch."""
    block = load_yaml(Path(__file__).parents[2] / "workflow" / "studies" / "llama2-7b.yaml")
    block["run"], block["tracks"] = ["full", "lora"], {"chat": block["tracks"]["chat"]}
    block["training"]["overrides"] = []
    study = write(tmp_path / "study.yaml", block)
    fits = tmp_path / "fits.yaml"
    command = ["check", str(study), "--gpu-memory", "24", "--cache", str(tmp_path / "cache")]
    assert main(command) == 2
    assert "24 GiB do not hold llama2-7b/full" in capsys.readouterr().err
    assert main([*command, "--write", str(fits)]) == 0
    assert load_study(fits).run == ["lora"]
    (lora,) = card_plan.make(load_study(fits), tmp_path, 24, tmp_path / "cache")
    assert lora.fits
