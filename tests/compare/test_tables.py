"""Tables: the CSV holds the inputs, the printed ones mark and warn honestly (numbers made up)."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from support.results_studies import MINI_TRACK, made_up_study, paper_like_study
from support.results_tree import write_made_up_results

from owlore.compare.comparisons import difference, discordance, level, trained_tasks
from owlore.compare.results import Group, load
from owlore.compare.table_formats import Table, to_latex, to_markdown
from owlore.compare.tables import make_tables, write_tables
from owlore.mtbench.ratings import by_turn
from owlore.stats.paired import equivalence_p, holm

NAMES = {"commonsense", "mmlu", "gsm8k", "mtbench", "contamination", "efficiency", "memory"}
NAMES |= {"significance", "claims", "mtbench_differences"}
GROUP = Group("mini", "tiny_model")


def tables_of(study, root: Path) -> dict[str, Table]:
    return {table.name: table for table in make_tables(load(study, root))}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory):
    root, study = tmp_path_factory.mktemp("one"), made_up_study()
    write_made_up_results(study, root)
    write_tables(load(study, root))
    return study, root, load(study, root)


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory):
    """Three seeds, two models, and a second track with MT-Bench alone."""
    root = tmp_path_factory.mktemp("many")
    chat = {key: MINI_TRACK[key] for key in ("train", "mtbench")}
    study = made_up_study(
        seeds=[0, 1, 2],
        run=["base", "full", "owlore"],
        models={"m1": {"path": "a"}, "m_2": {"path": "b"}},
        tracks={"mini": MINI_TRACK, "chat": chat},
    )
    write_made_up_results(study, root)
    return study, root, load(study, root)


def read(root: Path, name: str) -> pd.DataFrame:
    return pd.read_csv(root / "tables" / f"{name}.csv", keep_default_na=True)


def test_every_table_in_every_format_with_every_method(made):
    study, root, _ = made
    assert {path.name for path in (root / "tables").iterdir()} == {
        f"{name}.{ending}" for name in NAMES for ending in ("csv", "md", "tex")
    }
    for name in ("commonsense", "mmlu", "mtbench", "efficiency"):
        assert list(read(root, name)["method"]) == study.run
        for ending in ("md", "tex"):
            text = (root / "tables" / f"{name}.{ending}").read_text()
            assert all(method in text for method in study.run)


def test_csv_holds_the_inputs_exactly(made):
    _, root, results = made
    for benchmark in ("commonsense", "mmlu"):
        rows = read(root, benchmark).set_index("method")
        for entry in results.cells:
            row, scored = rows.loc[entry.cell.method], entry.scores[benchmark]
            assert row["average"] == scored.average
            assert row["average_stderr"] == scored.average_stderr
            for task, score in scored.tasks.items():
                assert row[task] == score.value
                assert row[f"{task}_stderr"] == score.stderr
                assert row[f"{task}_n"] == score.n
    judged = read(root, "mtbench").set_index("method")
    costs = read(root, "efficiency").set_index("method")
    for entry in results.cells:
        scores, finetune = entry.judged[""].scores, entry.finetune
        assert judged.loc[entry.cell.method, "overall"] == scores.overall
        assert judged.loc[entry.cell.method, "failed"] == scores.failed
        for key in ("seconds", "optimizer_bytes", "trainable_parameters", "checkpoint_bytes"):
            assert costs.loc[entry.cell.method, key] == getattr(finetune, key)
    assert np.isnan(costs.loc["base", "peak_bytes"])
    simulated = read(root, "memory").set_index("method")["peak_gib"]
    for method, peak in simulated.items():
        assert costs.loc[method, "simulated_peak_gib"] == peak


def test_printed_numbers_are_the_csv_rounded(made):
    _, root, results = made
    text = (root / "tables" / "commonsense.md").read_text()
    score = results.of(GROUP, "owlore")[0].scores["commonsense"]
    printed = f"{100 * score.average:.1f} ± {100 * score.average_stderr:.1f}"
    line = next(line for line in text.splitlines() if line.startswith("| owlore |"))
    assert printed in line


PARTS = {"all", "trained", "untrained"}


def test_significance_is_the_stats_with_holm_inside_each_family(made):
    study, root, results = made
    rows = read(root, "significance")
    assert set(zip(rows["method"], rows["reference"], strict=True)) == {
        (method, reference)
        for reference in ("base", "full", "owlore")
        for method in study.run
        if method not in ("base", reference)
    }
    assert set(rows["tasks"]) == PARTS | set(MINI_TRACK["commonsense"]["tasks"])
    for (benchmark, part, reference), family in rows.groupby(["benchmark", "tasks", "reference"]):
        trained, controls = trained_tasks(study, "mini", benchmark)
        tasks = {"all": None, "trained": trained, "untrained": controls}.get(part, [part])
        compared = []
        for _, row in family.iterrows():
            pair = (row["method"], reference)
            paired = difference(results, GROUP, benchmark, *pair, tasks=tasks)
            compared.append(paired)
            assert row["difference"] == paired.difference
            assert (row["low"], row["high"]) == (paired.low, paired.high)
            counts = discordance(results, GROUP, benchmark, *pair, 0, tasks)
            assert (row["only_method"], row["only_reference"], row["p_mcnemar"]) == counts
        if part not in PARTS:  # a task: no verdict, no family
            assert family[["p_holm", "verdict", "family"]].isna().all(axis=None)
            continue
        assert list(family["p_holm"]) == holm([paired.p_value for paired in compared])
        assert set(family["size"]) == {len(compared)}
        assert set(family["family"]) == {f"{benchmark}, {part} tasks, against {reference}"}
        equal = [equivalence_p(paired, 0.01) for paired in compared]
        assert list(family["p_equivalence"]) == equal
        assert list(family["p_equivalence_holm"]) == holm(equal)
        for row in family.to_dict("records"):
            shown = "better" if row["difference"] > 0 else "worse"
            shown = shown if row["p_holm"] < 0.05 else "undecided"
            close = row["p_equivalence_holm"] < 0.05
            assert row["verdict"] == ("equivalent" if close else shown)
    assert "mtbench" not in set(rows["benchmark"])  # a plumbing check is not tested


def test_the_family_is_named_with_its_size(made):
    _, root, _ = made
    text = (root / "tables" / "significance.md").read_text()
    assert "6 comparisons against base, 5 comparisons against full" in text
    assert "5 comparisons against owlore" in text
    assert "less than 1 point apart" in text
    scores = (root / "tables" / "commonsense.md").read_text()
    assert "Holm over the 21 pairs of methods" in scores


def test_the_margin_comes_from_the_study(tmp_path: Path):
    study = made_up_study(run=["base", "full"], comparison={"equivalence_margin": 60})
    write_made_up_results(study, tmp_path, skill={"base": 0.4, "full": 0.4})
    rows = tables_of(study, tmp_path)["significance"].records
    assert {row["verdict"] for row in rows if row["verdict"]} == {"equivalent"}
    assert {row["margin"] for row in rows if row["verdict"]} == {0.6}


def test_seeds_are_not_pooled_for_mcnemar(many):
    _, _, results = many
    table = next(table for table in make_tables(results) if table.name == "significance")
    together = [record for record in table.records if record["seeds"] == "0 1 2"]
    alone = [record for record in table.records if record["seeds"] in ("0", "1", "2")]
    assert len(alone) == 3 * len(together) > 0
    assert all(record["p_mcnemar"] is None for record in together)
    assert all(record["p_mcnemar"] is not None and record["p_holm"] is None for record in alone)
    verdicts = [record for record in together if record["verdict"]]
    assert {record["tasks"] for record in verdicts} == PARTS
    assert len(table.rows) == len(verdicts)
    for row, record in zip(table.rows, verdicts, strict=True):
        mine = ("track", "model", "benchmark", "tasks", "method", "reference")
        ours = [one for one in alone if all(one[key] == record[key] for key in mine)]
        pairs = "; ".join(f"{one['only_method']} / {one['only_reference']}" for one in ours)
        assert pairs in [value.text for value in row]
    assert any("cover questions and training seeds (3)" in note for note in table.notes)


def test_several_seeds_models_and_tracks(many):
    study, _, results = many
    tables = {table.name: table for table in make_tables(results)}
    accuracy = tables["commonsense"]
    assert [column.label for column in accuracy.columns][:2] == ["model", "method"]
    assert len(accuracy.rows) == len(study.models) * len(study.run)
    assert [column.label for column in tables["mtbench"].columns][:3] == [
        "track",
        "model",
        "method",
    ]
    record = next(r for r in accuracy.records if (r["model"], r["method"]) == ("m_2", "owlore"))
    group = Group("mini", "m_2")
    entries = results.of(group, "owlore")
    values = [entry.scores["commonsense"].average for entry in entries]
    assert record["average"] == pytest.approx(np.mean(values))
    assert record["average_seed_sd"] == pytest.approx(np.std(values, ddof=1))
    assert record["seeds"] == "0 1 2"
    base = next(r for r in accuracy.records if (r["model"], r["method"]) == ("m_2", "base"))
    assert base["average_seed_sd"] is None
    row = accuracy.rows[accuracy.records.index(record)]
    found = level(results, group, "commonsense", "owlore")
    assert (record["average_low"], record["average_high"]) == (found.low, found.high)
    reach = 100 * (found.high - found.difference)
    spread = 100 * record["average_seed_sd"]
    assert row[-1].text == f"{100 * record['average']:.1f} ± {reach:.1f} (sd {spread:.1f})"
    alone = level(results, group, "commonsense", "base")
    assert (base["average_low"], base["average_high"]) == (alone.low, alone.high)
    assert any("half of the 95 % interval over questions and seeds" in n for n in accuracy.notes)
    assert len(tables["efficiency"].records) == len(study.cells())


def test_error_over_questions_with_seeds_is_that_of_the_questions_mean(many):
    _, root, results = many
    table = next(table for table in make_tables(results) if table.name == "mmlu")
    record = next(r for r in table.records if (r["model"], r["method"]) == ("m1", "full"))
    means = np.mean(
        [
            pd.read_parquet(root / f"mini/m1/full/seed{seed}/samples/mmlu.parquet")["correct"]
            for seed in (0, 1, 2)
        ],
        axis=0,
    )
    assert record["average_stderr"] == pytest.approx(means.std(ddof=1) / np.sqrt(len(means)))


def test_bold_only_for_a_clear_winner(tmp_path: Path):
    study = made_up_study(run=["base", "full", "owlore"])
    write_made_up_results(study, tmp_path / "tied", skill={"base": 0.4, "full": 0.4, "owlore": 0.4})
    write_made_up_results(study, tmp_path / "won", skill={"base": -3, "full": 0, "owlore": 4})
    tied = tables_of(study, tmp_path / "tied")["commonsense"]
    assert "**" not in to_markdown(tied)
    assert "textbf" not in to_latex(tied)
    assert {row[-1].mark for row in tied.rows} == {"tie"}
    assert to_markdown(tied).count(" = |") >= 3
    won = tables_of(study, tmp_path / "won")["commonsense"]
    assert [row[-1].mark for row in won.rows] == ["", "", "best"]
    line = next(x for x in to_markdown(won).splitlines() if x.startswith("| owlore"))
    assert line.endswith("** |")
    assert "\\textbf{" in to_latex(won)


def test_what_the_study_has_not_is_said(tmp_path: Path):
    track = {key: MINI_TRACK[key] for key in ("train", "commonsense")}
    study = made_up_study(run=["lora"], tracks={"mini": track})
    write_made_up_results(study, tmp_path, memory=False)
    write_tables(load(study, tmp_path))
    for name, said in (
        ("mmlu", "No track of this study is scored on mmlu"),
        ("mtbench", "No track of this study is scored on mtbench"),
        ("memory", "No memory was simulated"),
        ("significance", "no base model"),
    ):
        for ending in ("csv", "md", "tex"):
            assert said in (tmp_path / "tables" / f"{name}.{ending}").read_text()
    assert "peak GiB (simulated)" not in (tmp_path / "tables" / "efficiency.md").read_text()


def test_footnotes_tell_what_the_reader_must_know(made):
    _, root, _ = made
    for ending in ("md", "tex"):
        scores = (root / "tables" / f"commonsense.{ending}").read_text()
        assert "lm-eval 0.0.1, 0-shot, test split" in scores
        assert "1 training seed (0)" in scores
        assert "(n = 80)" in scores
        assert "Not comparable with the paper" in scores
        judge = (root / "tables" / f"mtbench.{ending}").read_text()
        assert "Judge: " in judge
        assert "plumbing check" in judge
        assert "Not comparable with the paper" in judge
        assert (
            "conditional on this one seed"
            in (root / "tables" / f"significance.{ending}").read_text()
        )


def test_a_real_judge_on_the_papers_model_is_tested_and_marked(tmp_path: Path):
    study = paper_like_study(run=["base", "full", "owlore"])
    write_made_up_results(study, tmp_path, skill={"owlore": 30})
    tables = tables_of(study, tmp_path)
    assert any(record["benchmark"] == "mtbench" for record in tables["significance"].records)
    assert [row[1].mark for row in tables["mtbench"].rows] == ["", "", "best"]
    for row, record in zip(tables["mtbench"].rows, tables["mtbench"].records, strict=True):
        assert row[1].text == f"{record['overall']:.2f} ± {record['overall_reach']:.2f}"
    for name in ("commonsense", "mmlu", "mtbench"):
        assert not any("Not comparable" in note for note in tables[name].notes)
        assert not any("plumbing" in note for note in tables[name].notes)


FURTHER = {"provider": "openai", "model": "judge-b", "base_url": "https://judge.invalid/v1"}


@pytest.fixture(scope="module")
def twice_judged(tmp_path_factory: pytest.TempPathFactory):
    """A plumbing check as headline; a real judge, three judgings each, besides."""
    root = tmp_path_factory.mktemp("judges")
    judges = {"real": {**FURTHER, "judgings": 3}}
    mtbench = {**MINI_TRACK["mtbench"], "questions": 16, "further_judges": judges}
    study = made_up_study(
        run=["base", "full", "owlore"], tracks={"mini": {**MINI_TRACK, "mtbench": mtbench}}
    )
    write_made_up_results(study, root, skill={"owlore": 3})
    return load(study, root)


def test_judges_are_never_mixed(twice_judged):
    results = twice_judged
    tables = {table.name: table for table in make_tables(results)}
    table = tables["mtbench"]
    labels = [column.label for column in table.columns]
    assert labels[:2] == ["judge", "method"]
    assert "sd of judgings" in labels
    assert [record["judge"] for record in table.records] == [""] * 3 + ["real"] * 3
    assert [row[0].text for row in table.rows][::3] == ["headline (base)", "real (judge-b)"]
    for record in table.records:
        (entry,) = results.of(GROUP, record["method"])
        scores = entry.judged[record["judge"]].scores
        assert record["overall"] == scores.overall
        assert record["judgings_sd"] == scores.judgings_sd
        assert record["judge_model"] == scores.judge.model
        for key in ("date", "prompt_version", "prompts_sha256", "reference_set"):
            assert record[key] == getattr(scores, key)
    marks = [row[labels.index("overall")].mark for row in table.rows]
    assert marks == ["", "", "", "", "", "best"]  # nothing is marked by a plumbing check
    for name in ("mtbench", "mtbench_differences"):
        notes = " ".join(tables[name].notes)
        assert "Headline judge: base model <as judge>" in notes
        assert "Judge real: judge-b; judge prompts single-v1 (sha256 " in notes
        assert "reference answers gpt-4" in notes
        assert "graded 2026-01-01" in notes
        assert "plumbing check" in notes


def test_mtbench_differences_are_paired_question_by_question(twice_judged):
    results = twice_judged
    write_tables(results)
    rows = read(results.root, "mtbench_differences")
    pairs = [("full", "base"), ("owlore", "base"), ("owlore", "full")]
    assert list(zip(rows["method"], rows["reference"], strict=True)) == pairs * 2
    real, plumbing = rows[rows["judge"] == "real"], rows[rows["judge"].isna()]
    for _, row in real.iterrows():
        paired = difference(results, GROUP, "mtbench/real", row["method"], row["reference"])
        assert row["overall_difference"] == paired.difference
        assert (row["overall_low"], row["overall_high"]) == (paired.low, paired.high)
        assert row["overall_n"] == paired.n
        scores = {}
        for name in (row["method"], row["reference"]):
            judgments = results.of(GROUP, name)[0].judged["real"].judgments
            scores[name] = by_turn(judgments)
        found = {
            turn: scores[row["method"]][turn] - other
            for turn, other in scores[row["reference"]].items()
            if other is not None and scores[row["method"]][turn] is not None
        }
        writing = [d for (q, _), d in found.items() if (q - 81) % 8 == 0]
        assert row["writing_difference"] == pytest.approx(np.mean(writing))
        second = [d for (_, turn), d in found.items() if turn == 2]
        assert row["turn_2_difference"] == pytest.approx(np.mean(second))
        means = [
            np.mean([found[key] for key in ((q, 1), (q, 2)) if key in found])
            for q in range(81, 97)
            if {(q, 1), (q, 2)} & found.keys()
        ]
        assert row["better"] == sum(m > 1e-9 for m in means)
        assert row["worse"] == sum(m < -1e-9 for m in means)
        assert row["better"] + row["same"] + row["worse"] == len(means)
    by_base = real[real["reference"] == "base"]
    assert list(by_base["p_holm"]) == holm(list(by_base["overall_p"]))
    assert plumbing["overall_difference"].notna().all()
    assert plumbing[["overall_low", "p_holm", "verdict"]].isna().all(axis=None)


def test_writing_twice_gives_the_same_bytes(made, tmp_path: Path):
    study, root, _ = made
    write_made_up_results(study, tmp_path)
    write_tables(load(study, tmp_path))
    for path in (root / "tables").iterdir():
        assert (tmp_path / "tables" / path.name).read_bytes() == path.read_bytes()
