"""The contamination table: scores with and without the flagged questions, and its guards."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from support.results_scores import overlap as made_up
from support.results_studies import MINI_TRACK, made_up_study
from support.results_tree import write_made_up_results

from owlore.compare.contamination_table import contamination_table
from owlore.compare.results import load
from owlore.compare.table_formats import to_markdown
from owlore.core.errors import OwloreError
from owlore.core.files import read_json, write_json
from owlore.report.summary import limits

SEEDS = [0, 1]


@pytest.fixture
def scored(tmp_path: Path):
    """Two seeds; MT-Bench has a flagged question too, and all of MMLU is flagged."""
    study = made_up_study(seeds=SEEDS, run=["base", "full", "owlore"])
    write_made_up_results(study, tmp_path)
    path = tmp_path / "contamination" / "mini.json"
    found = read_json(path)
    found["benchmarks"]["mtbench"]["mtbench"] = made_up(8, [82]).model_dump()
    found["benchmarks"]["mmlu"]["mmlu_mini"] = made_up(57, list(range(57))).model_dump()
    write_json(path, found)
    return study, tmp_path, found["benchmarks"]


def test_the_table_has_the_scores_on_the_clean_subset(scored) -> None:
    study, root, checked = scored
    results = load(study, root)
    table = contamination_table(results)
    assert [row[1].text for row in table.rows] == [
        *MINI_TRACK["commonsense"]["tasks"],
        *("mmlu_mini", "mtbench"),
    ]
    for record in table.records:
        benchmark, task = record["benchmark"], record["task"]
        found = checked[benchmark][task]
        for key in ("n", "exact", "ngram13", "flagged", "share"):
            assert record[key] == found[key]
        for method in study.run:
            full, clean = [], []
            for seed in [0] if method == "base" else SEEDS:
                folder = root / f"mini/tiny_model/{method}/seed{seed}"
                if benchmark == "mtbench":
                    rows = pd.read_json(folder / "mtbench" / "judgments.jsonl", lines=True)
                    rows = rows[rows["score"] >= 0].rename(columns={"question_id": "doc_id"})
                    correct = rows["score"]
                else:
                    rows = pd.read_parquet(folder / f"samples/{benchmark}.parquet")
                    rows = rows[rows["task"] == task]
                    metric = study.tracks["mini"].model_dump()[benchmark]["tasks"][task]["metric"]
                    correct = rows["correct_norm" if metric == "acc_norm" else "correct"]
                full.append(correct.mean())
                clean.append(correct[~rows["doc_id"].isin(found["doc_ids"])].mean())
            assert record[f"{method}_full"] == pytest.approx(np.mean(full))
            if benchmark == "mmlu":
                assert record[f"{method}_clean"] is None
            else:
                assert record[f"{method}_clean"] == pytest.approx(np.mean(clean))
    first, second, _, mmlu, judged = table.rows
    shown = table.records[0]
    assert first[-1].text == f"{100 * shown['owlore_full']:.1f} / {100 * shown['owlore_clean']:.1f}"
    assert [value.text for value in first[2:6]] == ["80", "2", "3", "3.8"]
    assert [value.text for value in second[2:]] == ["80", "0", "0", "0.0", "–", "–", "–"]
    assert mmlu[-1].text.endswith(" / –")
    assert judged[-1].text.count(".") == 2
    assert "480 (mini)" in to_markdown(table)
    assert any("57 of 57 questions of mmlu are in the training rows" in x for x in limits(results))


def test_a_track_without_benchmarks_has_no_table(tmp_path: Path) -> None:
    study = made_up_study(run=["full"], tracks={"mini": {"train": MINI_TRACK["train"]}})
    write_made_up_results(study, tmp_path)
    assert "No track" in to_markdown(contamination_table(load(study, tmp_path)))


@pytest.mark.parametrize(
    ("keys", "value", "message"),
    [
        (["training_sha256", "seed1"], "f" * 64, "trained on; `snakemake"),
        (["benchmarks", "commonsense", "quartz_mini", "n"], 39, "commonsense: not a check of the"),
        (
            ["benchmarks", "mmlu", "mmlu_mini", "doc_ids"],
            [57],
            "mmlu: not a check of the questions",
        ),
        (["benchmarks"], {}, "commonsense: not a check of the questions"),
    ],
)
def test_a_check_of_something_else_is_refused(scored, keys, value, message: str) -> None:
    study, root, _ = scored
    path = root / "contamination" / "mini.json"
    found = place = read_json(path)
    for key in keys[:-1]:
        place = place[key]
    place[keys[-1]] = value
    write_json(path, found)
    with pytest.raises(OwloreError, match=message):
        load(study, root)
