"""What options mean: a study, weights, tasks, a judge, methods with their sizes, a device."""

import argparse
import json

import pytest
import torch
import yaml
from support.described import cell_of
from support.small_models import save_tiny
from support.studies import STUDY, changed, write

from owlore.cli import options
from owlore.core.errors import BadInput
from owlore.core.files import write_json
from owlore.sources.models import Weights, weights_sha256
from owlore.study.config import check_study


def given(**values):
    return argparse.Namespace(**values)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return save_tiny(tmp_path_factory.mktemp("model"))


def test_a_study_is_yaml_or_the_workflows_json(tmp_path):
    study = check_study(STUDY)
    write_json(tmp_path / "study.json", study.model_dump(mode="json"))
    for file in (write(tmp_path / "study.yaml", STUDY), tmp_path / "study.json"):
        chosen = given(study=file, results=tmp_path / "results")
        assert options.study_and_root(chosen) == (study, tmp_path / "results" / "tiny")


def test_weights_are_a_model_an_adapter_or_a_cells(model, tmp_path):
    plain = given(cell_file=None, model=model, adapter=None)
    assert options.weights_of(plain) == Weights(model, None, weights_sha256(model))
    adapter = save_tiny(tmp_path / "adapter")
    (adapter / "other.safetensors").write_bytes((adapter / "model.safetensors").read_bytes())
    adapted = given(cell_file=None, model=model, adapter=adapter)
    assert options.weights_of(adapted) == Weights(model, adapter, weights_sha256(adapter))

    file = tmp_path / "finetune.json"
    cell_of(model_dir=str(model), weights_sha256="ab").save(file)
    chosen = given(cell_file=file, model=tmp_path / "base", adapter=None)
    assert options.weights_of(chosen) == Weights(model, None, "ab"), "its own, whole"
    cell_of(model_dir=str(model), weights_sha256="ab", adapter=True).save(file)
    assert options.weights_of(chosen) == Weights(tmp_path / "base", model, "ab"), (
        "an adapter on the base"
    )
    cell_of(model_dir=str(tmp_path / "purged")).save(file)
    with pytest.raises(BadInput, match=rf"weights are gone from .*purged; .*-R finetune {file}"):
        options.weights_of(chosen)


def test_tasks_are_a_benchmark_with_its_defaults():
    short = given(benchmark=None, tasks="boolq,piqa", limit=7, num_fewshot=2)
    block = {"tasks": {"boolq": {"limit": 7}, "piqa": {"limit": 7}}, "num_fewshot": 2}
    assert options.benchmark_of(short) == options.benchmark_of(given(benchmark=json.dumps(block)))


def test_without_a_judge_the_base_model_judges(tmp_path):
    local = {"provider": "transformers", "model": "base"}
    assert options.mtbench_of(given(spec=None)).judge.model_dump(exclude_defaults=True) == local
    other = {**local, "model": "elsewhere"}
    (tmp_path / "judge.yaml").write_text(yaml.safe_dump(other))
    spec = json.dumps({"questions": 4, "judge": local})
    made = options.mtbench_of(given(spec=spec, judge=str(tmp_path / "judge.yaml")))
    assert (made.questions, made.judge.model) == (4, "elsewhere"), "--judge before the spec's"
    assert options.mtbench_of(given(spec=spec, judge=None)).judge.model == "base"


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ('{"a": ', "--flag: not JSON"),
        ("no-such.yaml", "no-such.yaml: no such file"),
        ("list.yaml", "--flag: list.yaml: expected a mapping of keys"),
    ],
)
def test_what_is_neither_yaml_nor_json_is_named(source, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "list.yaml").write_text("[1, 2]")
    with pytest.raises(BadInput, match=message):
        options.yaml_or_json("--flag", source)


SIZES = {"checkpointing": None, "accumulation": None, "precision": None, "state": None}
SIZES |= {"micro_batch": None, "seqlen": None, "study": None, "method": None, "model_name": None}


def test_methods_come_with_the_sizes_asked_for(tmp_path):
    study = write(tmp_path / "study.yaml", changed("training.max_length", 48))
    asked = options.asked_methods(given(**{**SIZES, "study": study}))
    assert [(one.name, one.micro_batch, one.seqlen) for one in asked] == [
        ("full", 2, 48),
        ("owlore", 2, 48),
    ], "the base model trains nothing"
    changes = {"precision": "bfloat16", "state": "keep", "accumulation": 3, "checkpointing": True}
    full, owlore = options.asked_methods(
        given(**{**SIZES, **changes, "study": study, "micro_batch": 5, "seqlen": 9})
    )
    for one in (full, owlore):
        assert (one.micro_batch, one.seqlen) == (5, 9)
        assert one.method.precision == "bfloat16"
        assert one.method.gradient_accumulation_steps == 3 and one.method.gradient_checkpointing
    assert owlore.method.state == "keep"


def test_a_method_of_the_command_line_is_named_by_its_file(tmp_path):
    block = {"trainable": "all", "learning_rate": 0.1, "max_length": 32}
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(block))
    asked = options.asked_methods(
        given(**{**SIZES, "method": [str(tmp_path / "mine.yaml"), json.dumps(block)]})
    )
    assert [one.name for one in asked] == ["mine", "method"]
    assert asked[0].method == asked[1].method == options.method_of(json.dumps(block))
    with pytest.raises(BadInput, match="--method: needed here, or --study"):
        options.asked_methods(given(**SIZES))


def test_auto_is_a_gpu_where_there_is_one(monkeypatch):
    for there in (True, False):
        monkeypatch.setattr(torch.cuda, "is_available", lambda there=there: there)
        assert options.device_of("auto") == ("cuda" if there else "cpu")
        assert options.device_of("cpu") == "cpu"


def test_threads_are_pinned_for_torch_and_for_what_it_starts(monkeypatch):
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    for name in (*names, "OMP_WAIT_POLICY"):
        monkeypatch.setenv(name, "before")  # so that it is put back
    before = torch.get_num_threads()
    try:
        options.use_threads(1)
        assert torch.get_num_threads() == 1
        assert [options.os.environ[name] for name in names] == ["1"] * 3
        assert options.os.environ["OMP_WAIT_POLICY"] == "before", "the user's choice stays"
    finally:
        torch.set_num_threads(before)


def test_a_missing_option_and_an_unknown_name_are_named():
    with pytest.raises(BadInput, match=r"^--base-model: needed here$"):
        options.needed(given(base_model=None), "base_model")
    assert options.needed(given(base_model="x"), "base_model") == "x"
    with pytest.raises(BadInput, match=r"^--track: 'maxi': allowed mini, chat$"):
        options.known("--track", "maxi", {"mini": 1, "chat": 2})
    with pytest.raises(BadInput, match=r"allowed none$"):
        options.known("--only", "wn", {})
