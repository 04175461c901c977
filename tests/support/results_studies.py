"""Studies to make up results for: the embedded study's shape, and one with the paper's tasks."""

from typing import Any

from owlore.study.config import Study, check_study

METHODS: dict[str, dict[str, Any]] = {
    "base": {"trainable": "none"},
    "full": {"trainable": "all", "learning_rate": 5e-5},
    "lora": {"trainable": "lora", "r": 8, "lora_alpha": 16, "learning_rate": 5e-4},
    "galore": {"trainable": "all", "projection": "low-rank", "rank": 8, "learning_rate": 2e-4},
    "lisa": {"trainable": "layers", "sampling": "uniform"},
    "owlore": {"trainable": "layers", "sampling": "outlier", "projection": "low-rank", "rank": 8},
    "owlore-full-rank": {"trainable": "layers", "sampling": "outlier"},
}
for _name in ("lisa", "owlore", "owlore-full-rank"):
    METHODS[_name] |= {"gamma": 3, "interval_steps": 5, "learning_rate": 1e-4}

MINI_TRACK: dict[str, Any] = {
    "train": {"wordnet_category": 100},
    "commonsense": {
        "tasks": {
            "wordnet_category": {"limit": 80},
            "social_iqa_mini": {"metric": "acc_norm", "limit": 80},
            "quartz_mini": {"metric": "acc_norm", "limit": 40},
        }
    },
    "mmlu": {"tasks": {"mmlu_mini": {"limit": 57}}},
    "mtbench": {"questions": 8, "judge": {"provider": "transformers", "model": "base"}},
}

PAPER_TASKS = [
    "boolq",
    "piqa",
    "social_iqa",
    "hellaswag",
    "winogrande",
    "arc_easy",
    "arc_challenge",
    "openbookqa",
]
PAPER_TRACK: dict[str, Any] = {
    "train": {"commonsense": 100},
    "commonsense": {"num_fewshot": 5, "tasks": {name: {} for name in PAPER_TASKS}},
    "mmlu": {"num_fewshot": 5, "tasks": {"mmlu": {}}},
    "mtbench": {
        "judge": {"provider": "openai", "model": "gpt-4", "base_url": "https://judge.invalid/v1"}
    },
}


def made_up_study(**changes: Any) -> Study:
    """A study over made-up results; `changes` replace its top-level keys."""
    value: dict[str, Any] = {
        "study": "made-up",
        "description": "Made-up numbers for tests.",
        "seeds": [0],
        "run": list(METHODS),
        "models": {"tiny_model": {"path": "models/tiny"}},
        "tracks": {"mini": MINI_TRACK},
        "training": {"max_steps": 30},
        "methods": METHODS,
    }
    return check_study(value | changes)


def paper_like_study(**changes: Any) -> Study:
    """A study with the paper's model and tasks (its results here are made up all the same)."""
    models = {"llama2-7b": {"hub": "meta-llama/Llama-2-7b-hf", "revision": "0" * 40}}
    return made_up_study(**({"models": models, "tracks": {"paper": PAPER_TRACK}} | changes))
