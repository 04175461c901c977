"""The folder of embedded questions, built from small archives in the real formats."""

from collections import Counter

import pytest
from support.archives import (
    tiny_wordnet,
    write_evals,
    write_mtbench,
    write_wordnet,
)

from owlore.core.errors import BadInput
from owlore.core.files import read_json, read_jsonl, sha256_file
from owlore.data.pools import require_files
from owlore.questions import stage as questions
from owlore.questions.evals_data import context_of
from owlore.questions.splits import SPLITS
from owlore.records.questions import QuestionsJob
from owlore.study.config import check_study

ARCHIVES = {"wn": "wordnet", "evals": "evals", "mt": "mtbench"}


def study_of(folder, files=None, seed=0, **left_out):
    """A study on the archives that lie in a folder."""
    archives = {
        name: {"filename": path.name, "sha256": sha256_file(path)}
        for name in ARCHIVES
        for path in folder.glob(f"{'mtbench' if name == 'mt' else name}-*")
    }
    block = {"wordnet": {"archive": "wn"}, "evals": "evals", "mtbench": "mt", **left_out}
    return check_study(
        {
            "study": "tiny",
            "seeds": [0],
            "run": ["base"],
            "archives": archives,
            "models": {"m": {"path": "m"}},
            "questions": {"seed": seed, "files": files or {}, **block},
            "tracks": {"t": {"train": {"wordnet_category": 1}}},
            "methods": {"base": {"trainable": "none"}},
        }
    )


def build(study, archives, output):
    questions.run(QuestionsJob.of(study), archives, output)


@pytest.fixture(scope="module")
def archives(tmp_path_factory):
    folder = tmp_path_factory.mktemp("archives")
    write_wordnet(folder, tiny_wordnet())
    write_evals(folder)
    write_mtbench(folder)
    return folder


@pytest.fixture(scope="module")
def built(archives, tmp_path_factory):
    output = tmp_path_factory.mktemp("built") / "questions"
    build(study_of(archives), archives, output)
    return output


def contents(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_the_folder_has_the_files_of_the_contract_and_a_true_manifest(built, archives):
    families = ("wordnet_category", "wordnet_antonym", "wordnet_definition", "social_iqa_mini")
    expected = {f"{family}_{split}.jsonl" for family in families for split in SPLITS}
    expected |= {"quartz_mini_test.jsonl", "mmlu_mini_test.jsonl", "calibration.jsonl"}
    expected |= {"mtbench/question.jsonl", "mtbench/judge_prompts.jsonl"}
    expected |= {f"mtbench/reference_answer/gpt-4{date}.jsonl" for date in ("", "-0125-preview")}
    assert contents(built).keys() == expected | {
        "questions.json",
        "questions.sha256",
        "WORDNET_LICENSE",
    }
    manifest = read_json(built / "questions.json")
    assert manifest["files"].keys() == expected
    for name, entry in manifest["files"].items():
        assert entry["sha256"] == sha256_file(built / name)
        assert entry["rows"] == len(read_jsonl(built / name)) > 0
    study = study_of(archives)
    assert manifest["archives"] == {name: study.archives[name].sha256 for name in ARCHIVES}
    assert "keep this notice" in (built / "WORDNET_LICENSE").read_text()


def test_all_rows_are_well_formed(built):
    for name in contents(built):
        if name.endswith(("train.jsonl", "validation.jsonl", "test.jsonl")):
            for row in read_jsonl(built / name):
                assert list(row) == ["question", "choices", "answer", "cluster"]
                assert 0 <= row["answer"] < len(row["choices"]) == len(set(row["choices"]))
                assert not row["question"].startswith("Question:")
                assert all(text and text == text.strip() for text in row["choices"])


def test_the_same_archives_and_seed_give_the_same_bytes(built, archives, tmp_path):
    build(study_of(archives), archives, tmp_path / "again")
    assert contents(tmp_path / "again") == contents(built)
    build(study_of(archives, seed=1), archives, tmp_path / "other")
    other = contents(tmp_path / "other")
    for name in ("wordnet_category_train.jsonl", "mmlu_mini_test.jsonl", "calibration.jsonl"):
        assert other[name] != contents(built)[name]


def test_what_the_study_leaves_out_is_absent_and_removed_from_an_earlier_build(
    built, archives, tmp_path
):
    build(study_of(archives), archives, tmp_path)
    (tmp_path / "mine.txt").write_text("not ours")
    build(study_of(archives, wordnet=None, mtbench=None), archives, tmp_path)
    kept = {"mine.txt", "questions.json", "calibration.jsonl", "WORDNET_LICENSE"}
    kept.add("questions.sha256")
    kept |= {f"social_iqa_mini_{split}.jsonl" for split in SPLITS}
    kept |= {"quartz_mini_test.jsonl", "mmlu_mini_test.jsonl"}
    assert contents(tmp_path).keys() == kept
    build(study_of(archives, evals=None, wordnet=None), archives, tmp_path / "chat")
    assert all(name.startswith(("mtbench/", "questions")) for name in contents(tmp_path / "chat"))


def test_a_failed_build_leaves_no_manifest(archives, tmp_path, monkeypatch):
    build(study_of(archives), archives, tmp_path)
    monkeypatch.setattr(questions, "write_jsonl", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        build(study_of(archives, seed=1), archives, tmp_path)
    assert not (tmp_path / "questions.json").exists()


def test_a_large_file_is_cut_between_clusters_and_the_manifest_says_so(
    archives, tmp_path, monkeypatch
):
    monkeypatch.setattr(questions, "MAX_BYTES", 2000)
    build(study_of(archives), archives, tmp_path)
    rows = read_jsonl(tmp_path / "quartz_mini_test.jsonl")
    assert (tmp_path / "quartz_mini_test.jsonl").stat().st_size <= 2000
    assert set(Counter(row["cluster"] for row in rows).values()) == {2}
    dropped = read_json(tmp_path / "questions.json")["dropped"]["quartz_mini_test"]
    assert dropped == {"beyond_max_bytes": 100 - len(rows)}


def test_bad_input_is_named_before_anything_is_written(archives, tmp_path):
    output = tmp_path / "out"
    with pytest.raises(BadInput, match=r"questions\.files\.pool: .*absent\.jsonl: no such file"):
        require_files(study_of(archives, files={"pool": "absent.jsonl"}).questions)
    with pytest.raises(BadInput, match=r"evals.*no such file"):
        build(study_of(archives), tmp_path, output)
    write_mtbench(tmp_path, questions=79)
    study = study_of(tmp_path, wordnet=None, evals=None)
    with pytest.raises(BadInput, match="79 rows, MT-Bench has 80"):
        build(study, tmp_path, output)
    path = next(tmp_path.glob("mtbench-*"))
    path.write_bytes(path.read_bytes() + b"x")
    with pytest.raises(BadInput, match="expected sha256"):
        build(study, tmp_path, output)
    assert not (output / "questions.json").exists()


def test_mtbench_files_are_copied_as_they_are(built):
    rows = read_jsonl(built / "mtbench" / "question.jsonl")
    assert rows[0] == {"question_id": 81, "file": "question"}
    references = read_jsonl(built / "mtbench" / "reference_answer" / "gpt-4.jsonl")
    assert {row["file"] for row in references} == {"reference_answer/gpt-4"}


def test_calibration_text_is_long_paragraphs_of_both_sources_on_the_train_side(built):
    rows = read_jsonl(built / "calibration.jsonl")
    assert all(100 <= len(row["text"].split()) <= 200 for row in rows[:-1])
    text = "\n".join(row["text"] for row in rows).lower()
    contexts = {
        split: {context_of(row["question"]).lower() for row in part}
        for split in SPLITS
        for part in [read_jsonl(built / f"social_iqa_mini_{split}.jsonl")]
    }
    assert sum(context in text for context in contexts["train"]) > 10
    assert not any(context in text for context in contexts["test"] | contexts["validation"])
    words = {
        split: {row["cluster"] for row in read_jsonl(built / f"wordnet_definition_{split}.jsonl")}
        for split in SPLITS
    }
    assert sum(f"{word}: " in text for word in words["train"]) > 10
    assert not any(f"{word}: " in text for word in words["test"] | words["validation"])


def test_calibration_text_stops_at_its_number_of_words(archives, tmp_path, monkeypatch):
    monkeypatch.setattr(questions, "CALIBRATION_WORDS", 600)
    build(study_of(archives), archives, tmp_path)
    rows = read_jsonl(tmp_path / "calibration.jsonl")
    assert 600 <= sum(len(row["text"].split()) for row in rows) <= 640
