"""`owlore memory --study`: every trained method of a study on one model, as JSON and CSV."""

import pandas as pd
import pytest
from support.small_models import save_tiny, tiny_tokenizer
from support.studies import STUDY, write

from owlore.cli.main import main
from owlore.core.files import read_json, write_jsonl
from owlore.data import examples as data

ROWS = [
    {"prompt": "a", "completion": " b" * (1 + i % 3)}
    for i in range(8)  # 3, 5, 7, 3 … tokens
]


def test_a_step_is_as_long_as_the_longest_batch():
    examples = data.tokenise(ROWS, tiny_tokenizer(), 64)
    lengths = [len(example.input_ids) for example in examples]
    batches = [lengths[0:2], lengths[2:4], lengths[4:6], lengths[6:8]]
    assert data.longest_step(examples, 2, padding_free=False) == max(lengths)
    exact = max(sum(batch) for batch in batches) / 2
    assert exact <= data.longest_step(examples, 2, padding_free=True) < exact + 1


@pytest.fixture
def made(tmp_path):
    save_tiny(tmp_path / "model")
    write_jsonl(tmp_path / "data" / "mini" / "seed0.jsonl", ROWS)
    study = write(tmp_path / "study.yaml", STUDY)
    command = ["memory", "--study", study, "--name", "toy", "--model", tmp_path / "model"]
    command += ["--data", tmp_path / "data", "--output", tmp_path / "memory" / "toy.json"]
    assert main([str(part) for part in command]) == 0
    return tmp_path / "memory"


def test_every_trained_method_has_a_row_that_adds_up(made):
    found = read_json(made / "toy.json")
    assert found["model"] == "toy"
    assert [(row["track"], row["method"]) for row in found["rows"]] == [
        ("mini", "full"),
        ("mini", "owlore"),
    ]
    for row in found["rows"]:
        parts = ("weights", "gradients", "optimizer", "activations", "temporaries")
        assert sum(row[f"{part}_gib"] for part in parts) == pytest.approx(row["peak_gib"])
        assert row["micro_batch"] == 2
    full, owlore = found["rows"]
    assert owlore["peak_gib"] < full["peak_gib"]
    table = pd.read_csv(made / "toy.csv")
    assert table.to_dict("records") == [
        {
            key: pytest.approx(v) if isinstance(v, float) else v
            for key, v in row.items()
            if v is not None  # what was not asked has no column
        }
        for row in found["rows"]
    ]
