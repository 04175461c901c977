"""The plan of `owlore check`, by hand: cells, examples, grades, disk."""

import re

import pytest
from support.described import model_of
from support.studies import changed

from owlore.core.files import write_json, write_jsonl
from owlore.plan.check import describe
from owlore.study.config import check_study

GIB = 2**30


def plan_of(folder, study=None):
    """The lines of the plan by their first word."""
    text = describe(check_study(study or changed("seeds", [0, 1])), folder, folder / "resources")
    return dict(re.findall(r"^ *(\w+) +(.*)$", text, re.M))


def test_cells_and_examples_are_counted(tmp_path):
    plan = plan_of(tmp_path)
    assert plan["study"] == "tiny: valid"
    assert plan["tracks"] == "mini (commonsense)"
    assert plan["methods"] == "base, full, owlore"
    assert plan["seeds"] == "0, 1"
    # the base once, two methods by two seeds
    assert plan["cells"] == "5, 4 of them trained, 0 done so far"
    # 4 steps of 2 examples
    assert plan["training"].startswith("4 runs, 32 examples in all (tokens are known once")
    assert plan["judging"] == "none"


def test_what_is_done_is_counted(tmp_path):
    write_json(tmp_path / "mini/toy/full/seed1/finetune.json", {})
    write_json(tmp_path / "mini/toy/base/seed0/finetune.json", {})
    assert plan_of(tmp_path)["cells"] == "5, 4 of them trained, 2 done so far"


def test_tokens_are_a_guess_from_the_words_of_the_training_rows(tmp_path):
    for seed, words in ((0, 10), (1, 30)):
        rows = [{"prompt": "a " * (words - 1), "completion": " b"}] * 3
        write_jsonl(tmp_path / "data" / "mini" / f"seed{seed}.jsonl", rows)
    # 32 examples of 20 words at 1.5 tokens a word
    assert plan_of(tmp_path)["training"] == "4 runs, 32 examples in all, about 960 tokens"


@pytest.mark.parametrize(
    ("judge", "written"),
    [
        ({"provider": "transformers", "model": "base"}, "0.00"),
        # 2 turns of 10 questions of 5 cells at 300 tokens a grade
        ({"provider": "openai", "model": "m", "base_url": "https://j.invalid/v1"}, "0.03"),
    ],
)
def test_a_judge_reads_two_turns_a_question(judge, written, tmp_path):
    block = {"questions": 10, "max_new_tokens": 100, "judge": judge}
    study = changed("tracks.mini.mtbench", block, changed("seeds", [0, 1]))
    # 5 cells, 10 questions: 2 prompts of 1,000 tokens, one answer in the first turn, two after it
    assert plan_of(tmp_path, study)["judging"] == (
        f"100 grades; at most {5 * 10 * 2300 / 1e6:.2f} million tokens to read, about "
        f"{written} million to write"
    )


def test_disk_is_the_base_and_each_trained_cells_weights(tmp_path):
    assert "the need is known once the models are there" in plan_of(tmp_path)["disk"]
    model = model_of(bytes=2 * GIB, parameters=GIB // 2)
    model.save(tmp_path / "resources" / "models" / "toy" / "model.json")
    # 2 GiB, and 4 cells of half a giga of float32 weights; training: six times the base
    assert plan_of(tmp_path)["disk"].startswith(
        f"about {2 + 4 * 2:.1f} GiB of weights to keep, 12.0 GiB more while a cell trains; "
    )
    lora = {"trainable": "lora", "r": 2, "lora_alpha": 4, "learning_rate": 0.001}
    study = changed("methods.full", lora, changed("methods.owlore.precision", "bfloat16"))
    # one seed: an adapter is next to nothing, bfloat16 weights are half
    assert plan_of(tmp_path, study)["disk"].startswith("about 3.0 GiB of weights to keep")


def test_a_published_model_on_the_hub_is_known_before_it_is_fetched(tmp_path):
    hub = {"hub": "meta-llama/Llama-2-7b-hf", "revision": "0" * 40}
    disk = plan_of(tmp_path, changed("models.toy", hub))["disk"]
    parameters = 6_738_415_616
    assert disk.startswith(f"about {parameters * (2 + 2 * 4) / GIB:.1f} GiB of weights to keep")
