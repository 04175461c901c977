"""Drawing a track's training rows from its pools."""

import json
from collections import Counter

import pytest

from owlore.cli.main import main
from owlore.core.errors import BadInput
from owlore.core.files import read_jsonl, write_jsonl
from owlore.data.mixture import training_rows
from owlore.records.data import DataJob
from owlore.study.config import check_study


def study(**train):
    return check_study(
        {
            "study": "s",
            "seeds": [0],
            "run": ["base"],
            "models": {"m": {"path": "m"}},
            "questions": {"files": {"pool": train.pop("file")}},
            "tracks": {"t": {"train": train}},
            "methods": {"base": {"trainable": "none"}},
        }
    )


@pytest.fixture
def pool(tmp_path):
    file = tmp_path / "pool.jsonl"
    rows = [{"prompt": f"p{i}", "completion": f" c{i}"} for i in range(20)]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(file)


def test_draws_are_seeded_and_without_repeats(pool, tmp_path):
    chosen = study(file=pool, pool=8)
    rows = training_rows(DataJob.of(chosen, "t", 0), tmp_path)
    assert len({row["prompt"] for row in rows}) == 8
    assert rows == training_rows(DataJob.of(chosen, "t", 0), tmp_path)
    assert rows != training_rows(DataJob.of(chosen, "t", 1), tmp_path)


def test_a_pool_that_is_too_small_or_missing_is_named(pool, tmp_path):
    with pytest.raises(BadInput, match=r"tracks\.t\.train\.pool: 21: the pool has 20 rows"):
        training_rows(DataJob.of(study(file=pool, pool=21), "t", 0), tmp_path)
    with pytest.raises(BadInput, match=r"tracks\.t\.train\.other: no such pool"):
        training_rows(DataJob.of(study(file=pool, other=1), "t", 0), tmp_path)


def test_embedded_questions_become_prompt_and_answer(tmp_path):
    file = tmp_path / "pool.jsonl"
    file.write_text('{"question": "wet?", "choices": ["sand", "water"], "answer": 1}\n')
    (row,) = training_rows(DataJob.of(study(file=str(file), pool=1), "t", 0), tmp_path)
    assert row == {"prompt": "Question: wet?\nAnswer:", "completion": " water", "source": "pool"}


def test_another_pool_changes_no_draw_of_the_first(pool, tmp_path):
    """The embedded pool comes from the questions' folder; each pool is drawn by its own name."""
    rows = [{"prompt": f"q{i}", "completion": " d"} for i in range(9)]
    write_jsonl(tmp_path / "other_train.jsonl", rows)
    alone = training_rows(DataJob.of(study(file=pool, pool=8), "t", 3), tmp_path)
    both = training_rows(DataJob.of(study(file=pool, pool=8, other=5), "t", 3), tmp_path)
    assert Counter(row["source"] for row in both) == {"pool": 8, "other": 5}
    assert {row["prompt"] for row in both if row["source"] == "pool"} == {
        row["prompt"] for row in alone
    }
    assert [row["source"] for row in both] != sorted(row["source"] for row in both)


def test_a_whole_pool_can_be_asked_for(pool, tmp_path):
    rows = training_rows(DataJob.of(study(file=pool, pool=20), "t", 0), tmp_path)
    assert sorted(row["prompt"] for row in rows) == sorted(f"p{i}" for i in range(20))


def test_a_jobs_text_draws_as_the_study_does_whatever_order_its_pools_have(tmp_path):
    """A Job's text is sorted; rows lie as the study's file has its pools."""
    for name in ("zebra", "ant"):
        rows = [{"prompt": f"{name} {i}", "completion": " c"} for i in range(9)]
        write_jsonl(tmp_path / f"{name}_train.jsonl", rows)
    chosen = study(file="unused.jsonl", zebra=5, ant=4)
    expected = training_rows(DataJob.of(chosen, "t", 0), tmp_path)
    file = tmp_path / "study.json"
    file.write_text(json.dumps(chosen.model_dump(mode="json")))
    job = DataJob.of(chosen, "t", 0)
    assert list(DataJob.of_text(job.text()).train) == ["ant", "zebra"]
    command = ["data", "--study", file, "--track", "t", "--seed", 0, "--job", job.text()]
    command += ["--questions", tmp_path, "--output", tmp_path / "rows.jsonl"]
    assert main([str(part) for part in command]) == 0
    assert read_jsonl(tmp_path / "rows.jsonl") == expected
    turned = study(file="unused.jsonl", ant=4, zebra=5)
    assert DataJob.of(turned, "t", 0).text() == job.text(), "another order is not drawn again"
