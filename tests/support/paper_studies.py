"""The paper's studies in the small: the same YAML, toys of the same architecture, local files.

What is swapped: models, training pools, questions, calibration text and judge; what is shrunk:
examples, steps, lengths, ranks and gamma. All else, such as every method's other settings, is the
study's own.
"""

import hashlib
import random
from pathlib import Path
from typing import Any

import lm_eval
from support import hub_repositories as made
from support.scoring import WORDS
from support.small_models import save_tiny, tiny_llama, tiny_mistral

from owlore.core.files import write_jsonl
from owlore.core.parsing import load_yaml

STUDIES = Path(__file__).resolve().parents[2] / "workflow" / "studies"
PAPER = ("llama2-7b", "llama3-8b", "mistral-7b", "ablation")
STEPS = 2
SHRUNK = {"rank": 4, "gamma": 2, "interval_steps": 1, "update_proj_gap": 2, "r": 2}
SHRUNK |= {"max_steps": STEPS, "per_device_train_batch_size": 2, "max_length": 64}
SHRUNK |= {"gradient_accumulation_steps": 1, "checkpoint_steps": 1}
# task → the maker of its rows, and the splits that lm-eval reads
TASKS = {
    "boolq": (made.boolq, "train validation"),
    "piqa": (made.piqa, "train validation"),
    "social_iqa": (made.social_iqa, "train validation"),
    "hellaswag": (made.hellaswag, "train validation"),
    "winogrande": (made.winogrande, "train validation"),
    "arc_easy": (made.arc, "train test"),
    "arc_challenge": (made.arc, "train test"),
    "openbookqa": (made.openbookqa, "train test"),
    "gsm8k": (made.gsm8k, "train test"),
}


def small_study(name: str, folder: Path, archive: Path | None) -> dict[str, Any]:
    """Write the inputs of a study's toy into `folder`; return the study.

    Args:
        name: one of PAPER.
        folder: where the study will run; paths in it are relative to that.
        archive: MT-Bench's, in the real form, where the study asks it.
    """
    study = load_yaml(STUDIES / f"{name}.yaml")
    study["seeds"] = study["seeds"][:1]
    for model in study["models"]:
        toy = tiny_mistral() if "mistral" in model else tiny_llama(tie_word_embeddings=False)
        save_tiny(folder / "inputs" / model, toy)
        study["models"][model] = {"path": f"inputs/{model}"}
    pools = study["questions"].pop("hub")
    study["questions"]["files"] = {pool: f"inputs/{pool}.json" for pool in pools}
    for pool in pools:
        save_pool(folder / "inputs" / f"{pool}.json")
    save_questions(folder / "inputs" / "questions")
    write_jsonl(folder / "inputs" / "text.jsonl", [{"text": sentence(i)} for i in range(40)])
    study["calibration"] |= {"text": "inputs/text.jsonl", "samples": 2, "seqlen": 16}
    for track in study["tracks"].values():
        track["train"] = dict.fromkeys(track["train"], 4)
        for benchmark in ("commonsense", "mmlu", "gsm8k"):
            if benchmark in track:
                track[benchmark] |= {"data_dir": "inputs/questions", "num_fewshot": 1}
                track[benchmark]["max_length"] = 512
                for task in track[benchmark]["tasks"].values():
                    task["limit"] = 2
        if "mtbench" in track:
            judge = {"provider": "transformers", "model": "base"}
            track["mtbench"] |= {"questions": 2, "max_new_tokens": 4, "judge": judge}
    if "archives" in study:
        assert archive is not None
        digest = hashlib.sha256(archive.read_bytes()).hexdigest()
        (wanted,) = study["archives"].values()
        wanted |= {"filename": archive.name, "sha256": digest}
    for block in (study["training"], *study["methods"].values()):
        block |= {key: SHRUNK[key] for key in block.keys() & SHRUNK.keys()}
        for override in block.get("overrides", []):
            override["values"] |= {k: SHRUNK[k] for k in override["values"].keys() & SHRUNK.keys()}
    return study


def sentence(number: int) -> str:
    return " ".join(random.Random(number).choices(WORDS, k=8))


def save_pool(file: Path) -> None:
    """Training rows in LMFlow's form, as the authors' files are."""
    instances = [{"text": sentence(number)} for number in range(6)]
    write_jsonl(file, [{"type": "text_only", "instances": instances}])


def subjects() -> list[str]:
    files = (Path(lm_eval.__file__).parent / "tasks" / "mmlu" / "default").glob("mmlu_*.yaml")
    return sorted(file.stem.removeprefix("mmlu_") for file in files)


def save_questions(folder: Path) -> None:
    for task, (make, splits) in TASKS.items():
        for split in splits.split():
            write_jsonl(folder / f"{task}_{split}.jsonl", made.rows(make, 5, f"{task} {split}"))
    for split in ("dev", "test"):
        found = [
            {**row, "subject": subject}
            for subject in subjects()
            for row in made.rows(made.mmlu, 2, f"{subject} {split}")
        ]
        write_jsonl(folder / f"mmlu_{split}.jsonl", found)
