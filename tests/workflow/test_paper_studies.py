"""The paper's studies: what is marked, what is pinned, dry runs, and real runs on toys."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from support.archives import save_mtbench
from support.paper_studies import PAPER, STEPS, STUDIES, small_study
from support.scoring import index_only

from owlore.cli.main import main
from owlore.core.files import read_json
from owlore.study.config import Study, check_study, load_study

REPOSITORY = STUDIES.parents[1]
NINE = ["base", "full", "lora", "galore", "lisa", "owlore", "owlore-full-rank"]
NINE += ["lisa-lowrank", "lisa-decrease"]
ALL = sorted(path.stem for path in STUDIES.glob("*.yaml"))
FOLDERS = ["super_glue/boolq", "piqa", "siqa", "hellaswag", "winogrande", "arc", "openbookqa"]
FOLDERS += ["gsm8k", "mmlu/default"]


@pytest.fixture(scope="module")
def archive(tmp_path_factory) -> Path:
    file = tmp_path_factory.mktemp("mtbench") / "archives" / "mtbench-1-py3-none-any.whl"
    save_mtbench(file)
    return file


@pytest.mark.parametrize("name", PAPER[:3])
def test_a_paper_study_has_its_tracks_and_the_nine_methods(name):
    study = load_study(STUDIES / f"{name}.yaml")
    assert study.run == NINE
    assert list(study.tracks) == ["commonsense", "mmlu", "chat", "math"]
    benchmarks = [track.benchmarks for track in study.tracks.values()]
    assert benchmarks == [["commonsense"], ["mmlu"], ["mtbench"], ["gsm8k"]]
    assert len(study.tracks["commonsense"].commonsense.tasks) == 8


@pytest.mark.parametrize("name", PAPER[:3])
def test_every_setting_of_training_says_whose_it_is(name):
    """From `training:` to the base-lines that are marked as a whole."""
    text = (STUDIES / f"{name}.yaml").read_text()
    training = text[text.index("\ntraining:") : text.index("\n  lisa-lowrank:")]
    for line in training.splitlines():
        if re.match(r"  (  )?(?!trainable|projection)\w+: [\w.-]+", line):
            assert re.search(r"# .*(published|ours)", line), line
    for method in ("lisa-lowrank", "lisa-decrease", "owlore-lean"):
        assert re.search(rf"\n  {method}: +# ours", text)


def test_the_published_values_of_owlore():
    """facts: run_owlore_low_rank.sh, and rank 128 of the paper's text."""
    study = load_study(STUDIES / "llama2-7b.yaml")
    owlore, lisa = study.method("owlore"), study.method("lisa")
    assert (owlore.gamma, owlore.interval_steps, owlore.rank) == (5, 50, 128)
    assert (owlore.sampling, owlore.scale, owlore.update_proj_gap) == ("outlier", 1.0, 100)
    assert (lisa.sampling, lisa.gamma, lisa.interval_steps) == ("uniform", 2, 3)
    for method in (owlore, lisa):
        assert (method.learning_rate, method.examples_per_step) == (3e-4, 16)
        assert (method.precision, method.gradient_checkpointing) == ("bfloat16", True)
        assert (method.max_length, method.lr_scheduler_type) == (512, "linear")


def test_the_ablation_differs_in_one_thing_at_a_time():
    study = load_study(STUDIES / "ablation.yaml")

    def settings(name: str) -> dict:
        return study.method(name).model_dump()

    def differ(one: str, other: str) -> set[str]:
        a, b = settings(one), settings(other)
        return {key for key in a if a[key] != b[key]}

    projection = {"projection", "rank", "update_proj_gap"}
    for law in ("uniform", "outlier", "decrease"):
        assert differ(f"{law}-full-rank", f"{law}-low-rank") == projection
    for kind in ("full-rank", "low-rank"):
        assert differ(f"uniform-{kind}", f"outlier-{kind}") == {"sampling"}
        assert differ(f"decrease-{kind}", f"outlier-{kind}") == {"sampling"}
        assert differ(f"outlier-{kind}", f"outlier-{kind}-keep") == {"state"}
        assert differ(f"outlier-{kind}", f"outlier-{kind}-frozen") == {"train_embeddings"}


@pytest.mark.parametrize("name", PAPER)
def test_an_unpinned_study_is_planned_but_does_not_run(name, capsys, tmp_path):
    file = STUDIES / f"{name}.yaml"
    assert main(["check", str(file)]) == 0
    assert f"not pinned yet, `owlore pin {file}` does it" in capsys.readouterr().out
    track = next(iter(load_study(file).tracks))
    data = ["data", "--study", file, "--track", track, "--seed", 1, "--output", tmp_path / "x"]
    assert main([str(part) for part in data]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "revision: unpinned: run `owlore pin" in line
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize("name", ALL)
def test_dry_run(name, tmp_path):
    """The DAG of every study can be built in an empty folder, with the calibration text there."""
    text = load_study(STUDIES / f"{name}.yaml").calibration.text
    if text != "embedded":
        (tmp_path / text).parent.mkdir(parents=True)
        (tmp_path / text).write_text("{}\n")
    workflow = [sys.executable, "-m", "snakemake", "-n", "--quiet", "rules", "--cores", "1"]
    workflow += ["--snakefile", REPOSITORY / "workflow" / "Snakefile"]
    workflow += ["--configfile", STUDIES / f"{name}.yaml"]
    done = subprocess.run(workflow, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert not (tmp_path / "results").exists()


def test_an_unpinned_study_stops_the_workflow(tmp_path):
    text = (STUDIES / "ablation.yaml").read_text()
    (tmp_path / "study.yaml").write_text(text)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "c4.jsonl").write_text("{}\n")
    workflow = [sys.executable, "-m", "snakemake", "outliers", "--cores", "1", "--snakefile"]
    workflow += [REPOSITORY / "workflow" / "Snakefile", "--configfile", "study.yaml"]
    done = subprocess.run(workflow, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode != 0
    assert "revision: unpinned: run `owlore pin" in done.stdout + done.stderr
    assert not (tmp_path / "resources" / "models").exists()


class Desk:
    """A toy study in a folder, and its stages run one after another in this process."""

    def __init__(self, name: str, folder: Path, archive: Path):
        self.folder = folder
        block = small_study(name, folder, archive)
        (folder / "study.yaml").write_text(yaml.safe_dump(block, sort_keys=False))
        self.study: Study = check_study(block)
        (self.model,) = self.study.models

    def owlore(self, *arguments: object) -> None:
        assert main([str(argument) for argument in arguments]) == 0

    def prepare(self, archive: Path) -> None:
        model = f"resources/models/{self.model}"
        of_study = ["--study", "study.yaml"]
        self.owlore("model", *of_study, "--name", self.model, "--output", model)
        archives = ["--archives", archive.parent, "--output", "questions"]
        self.owlore("questions", *of_study, *archives)
        for track in self.study.tracks:
            output = f"data/{track}/seed111.jsonl"
            self.owlore("data", *of_study, "--track", track, "--seed", 111, "--output", output)
        calibration = ["--text", "inputs/text.jsonl", "--samples", 2, "--seqlen", 16]
        self.owlore("outliers", "--model", model, *calibration, "--output", "outliers.json")

    def train(self, track: str, method: str) -> dict:
        chosen = self.study.method(method, track, self.model)
        output = Path("cells") / track / method
        command = ["finetune", "--model", f"resources/models/{self.model}"]
        command += ["--data", f"data/{track}/seed111.jsonl", "--method", chosen.model_dump_json()]
        self.owlore(*command, "--outliers", "outliers.json", "--device", "cpu", "--output", output)
        return read_json(output / "finetune.json")


@pytest.fixture
def desk(request, tmp_path, monkeypatch, archive) -> Desk:
    monkeypatch.chdir(tmp_path)
    made = Desk(request.param, tmp_path, archive)
    made.prepare(archive)
    return made


@pytest.mark.parametrize("desk", PAPER, indirect=True)
def test_every_method_trains_for_real_on_a_toy_of_the_same_architecture(desk: Desk):
    track = next(iter(desk.study.tracks))
    hashes = {}
    for method in desk.study.run:
        if method == "base":
            continue
        done = desk.train(track, method)
        assert done["steps"] == STEPS
        assert done["weights_sha256"] != done["base_sha256"]
        assert torch.isfinite(torch.tensor(done["final_loss"]))
        hashes[method] = done["weights_sha256"]
    architecture = read_json(Path(f"resources/models/{desk.model}/model.json"))["architecture"]
    assert architecture == ("MistralForCausalLM" if "mistral" in desk.model else "LlamaForCausalLM")
    assert len(set(hashes.values())) > len(hashes) / 2, "methods that differ train differently"


@pytest.mark.parametrize("desk", PAPER[:3], indirect=True)
def test_every_track_trains_and_is_scored_on_its_benchmark(desk: Desk, monkeypatch):
    index_only(monkeypatch, *FOLDERS)
    model = f"resources/models/{desk.model}"
    for name, track in desk.study.tracks.items():
        assert desk.train(name, "owlore")["steps"] == STEPS
        cell = ["--model", model, "--cell-file", f"cells/{name}/owlore/finetune.json"]
        for benchmark in ("commonsense", "mmlu", "gsm8k"):
            spec = getattr(track, benchmark)
            if spec is None:
                continue
            places = ["--output", f"{name}.json", "--samples", "samples", "--device", "cpu"]
            settings = ["--benchmark", spec.model_dump_json()]
            settings += ["--data-dir", spec.data_dir]
            desk.owlore("evaluate", *cell, *settings, *places)
            scored = read_json(Path(f"{name}.json"))
            assert set(scored["tasks"]) == set(spec.tasks)
            assert all(task["n"] == 2 for task in scored["tasks"].values())
            assert scored["dtype"] == "bfloat16"
        if track.mtbench is not None:
            spec = ["--spec", track.mtbench.model_dump_json(), "--device", "cpu"]
            asked = ["--questions", "questions/mtbench/question.jsonl"]
            desk.owlore("answer", *cell, *asked, *spec, "--output", "answers.jsonl")
            files = ["--prompts", "questions/mtbench/judge_prompts.jsonl"]
            files += ["--references", "questions/mtbench/reference_answer/gpt-4.jsonl"]
            files += ["--answers", "answers.jsonl", "--base-model", model]
            desk.owlore("judge", *asked, *files, *spec, "--output", "judgments.jsonl")
            rows = [json.loads(line) for line in Path("judgments.jsonl").read_text().splitlines()]
            assert len(rows) == 4  # two questions of two turns
