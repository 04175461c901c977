"""MADE-UP SCORES FOR TESTS: per-question rows, summaries, MT-Bench judgments, contamination."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from support.results_proofs import (
    CATEGORIES,
    ENDED,
    GIT,
    PROMPTS,
    STARTED,
    VERSIONS,
    proven,
    read_of_questions,
    rows_hash,
)

from owlore.core.files import canonical_json, sha256_file, sha256_text, write_jsonl, write_receipt
from owlore.evaluate.metrics import CORRECT
from owlore.mtbench.ratings import summarise
from owlore.records.contamination import ContaminationJob, ContaminationRecord, Overlap
from owlore.records.evaluation import EvaluationJob, EvaluationRecord, TaskScore
from owlore.records.mtbench import AnswerJob, AnswersRecord, JudgedRecord, JudgeJob, JudgeUsed
from owlore.study.benchmarks import LM_EVAL
from owlore.study.config import Benchmark, Cell, Study


def samples_of(
    benchmark: Benchmark,
    level: float,
    questions: int,
    shared: np.random.Generator,
    own: np.random.Generator,
) -> pd.DataFrame:
    """Right or wrong for each question; `shared`, equal for all methods, makes some hard."""
    frames = []
    for name in sorted(benchmark.tasks):
        n = benchmark.tasks[name].limit or questions
        hardness = shared.normal(0, 1.2, n)
        latent = level - hardness + own.normal(0, 0.5, n)
        scores = own.normal(-5, 1, (n, 4))
        frames.append(
            pd.DataFrame(
                {
                    "task": name,
                    "doc_id": np.arange(n),
                    "doc_hash": [sha256_text(f"{name} {i}") for i in range(n)],
                    "cluster": [f"cluster {i // 2}" for i in range(n)],
                    "gold": 0,
                    "prediction": np.where(latent > 0, 0, 1),
                    "prediction_norm": np.where(latent > -0.1, 0, 1),
                    "correct": latent > 0,
                    "correct_norm": latent > -0.1,
                    "loglikelihoods": scores.tolist(),
                }
            )
        )
    return pd.concat(frames, ignore_index=True)


def write_evaluation(
    study: Study, root: Path, cell: Cell, name: str, samples: pd.DataFrame, weights: str
) -> None:
    """The samples of one benchmark, and the Record that they give."""
    folder = root / cell.path
    parquet = folder / "samples" / f"{name}.parquet"
    parquet.parent.mkdir(exist_ok=True)
    samples.to_parquet(parquet, index=False)
    benchmark = study.tracks[cell.track].lm_eval_benchmarks[name]
    tasks = {
        task: _task_score(benchmark, settings.metric, samples[samples["task"] == task])
        for task, settings in benchmark.tasks.items()
    }
    errors = [score.stderr for score in tasks.values() if score.stderr is not None]
    read = {"weights": weights, **read_of_questions(root, benchmark)}
    EvaluationRecord(
        benchmark=name,
        weights_sha256=weights,
        tasks=tasks,
        average=float(np.mean([score.value for score in tasks.values()])),
        average_stderr=math.sqrt(sum(error**2 for error in errors)) / len(errors),
        split=benchmark.split,
        seed=benchmark.seed,
        engine="plain",
        lm_eval_version="0.0.1",
        dtype="float32",
        started=STARTED,
        ended=ENDED,
        seconds=10.0,
        versions=VERSIONS,
        git=GIT,
        proof=proven(EvaluationJob.of(study, cell, name), "evaluate", read, folder, [parquet]),
    ).save(folder / f"{name}.json")


def _task_score(benchmark: Benchmark, metric: str, rows: pd.DataFrame) -> TaskScore:
    n = len(rows)
    scores: dict[str, Any] = {}
    choices = metric in ("acc", "acc_norm")
    for key in ("acc", "acc_norm") if choices else ("exact_match",):
        outcomes = rows[CORRECT[key]]
        scores[key] = float(outcomes.mean())
        scores[f"{key}_stderr"] = float(outcomes.astype(float).std(ddof=1) / math.sqrt(n))
    return TaskScore(
        metric=metric,
        value=scores[metric],
        stderr=scores[f"{metric}_stderr"],
        **scores,
        n=n,
        n_available=10 * n,
        num_fewshot=benchmark.num_fewshot,
        version=1.0,
        split=benchmark.split,
    )


def write_answers(study: Study, root: Path, cell: Cell, weights: str) -> str:
    """Answers to the cell's questions, their Record and receipt; return the hash."""
    folder = root / cell.path / "mtbench"
    job = AnswerJob.of(study, cell)
    rows = [
        {
            "question_id": 81 + place,
            "model_id": cell.method,
            "choices": [{"index": 0, "turns": [f"<b>Made-up</b> {place}", "It is & was."]}],
        }
        for place in range(job.questions)
    ]
    answers = folder / "answers.jsonl"
    write_jsonl(answers, rows)
    digest = sha256_text(canonical_json(rows))
    read = {"weights": weights, "questions": sha256_text("chosen questions")}
    AnswersRecord(
        model_id=job.model_id,
        weights_sha256=weights,
        answers=len(rows),
        answers_sha256=digest,
        proof=proven(job, "answer", read, folder, [answers]),
    ).save(folder / "answers.json")
    write_receipt(folder / "answers.sha256", digest)
    return digest


def write_judged(
    study: Study,
    root: Path,
    cell: Cell,
    name: str,
    level: float,
    weights: str,
    answers: str,
    random: np.random.Generator,
) -> None:
    """Judgments by one of the track's judges, and the Record that they give."""
    settings = study.tracks[cell.track].mtbench
    assert settings is not None
    judge, folder = settings.judges[name], root / cell.path
    rows = []
    places = [(place, turn) for place in range(settings.questions) for turn in (1, 2)]
    for judging in range(judge.judgings):
        for place, turn in places:
            score = -1.0 if random.random() < 0.05 else float(random.integers(2, 8)) + level
            rows.append(
                {
                    "question_id": 81 + place,
                    "model": folder.name,
                    "judge": [judge.model, "single-v1"],
                    "user_prompt": "made up",
                    "judgment": f"[[{score}]]",
                    "score": score,
                    "turn": turn,
                    "judging": judging,
                    "tstamp": 0.0,
                }
            )
    judgments = folder / "mtbench" / name / "judgments.jsonl"
    write_jsonl(judgments, rows)
    asked = [
        {"question_id": 81 + place, "category": CATEGORIES[place % 8]}
        for place in range(settings.questions)
    ]
    scores = folder / (f"mtbench/{name}/mtbench.json" if name else "mtbench.json")
    read = {
        "weights": weights,
        "answers": answers,
        "questions": sha256_file(root / "questions" / "mtbench" / "question.jsonl"),
        "prompts": PROMPTS,
        "references": sha256_text(settings.reference_set),
    }
    label = judge.model if judge.comparable else "base model <as judge> (plumbing check)"
    JudgedRecord(
        judge=JudgeUsed(provider=judge.provider, model=judge.model, label=label),
        comparable=judge.comparable,
        weights_sha256=weights,
        reference_set=settings.reference_set,
        prompt_version="single-v1",
        prompts_sha256=PROMPTS,
        date="2026-01-01",
        **summarise(rows, asked),
        max_new_tokens=settings.max_new_tokens,
        started=STARTED,
        ended=ENDED,
        seconds=5.0,
        versions=VERSIONS,
        git=GIT,
        proof=proven(JudgeJob.of(study, cell, name), "judge", read, scores.parent, [judgments]),
    ).save(scores)


def write_contamination(study: Study, root: Path, track: str, questions: int) -> None:
    """Three flagged questions in the first task of each lm-eval benchmark, none in the others."""
    wanted = study.tracks[track]
    hashes = {f"seed{seed}": rows_hash(track, seed) for seed in study.seeds}
    read = {f"data/{name}": sha256 for name, sha256 in hashes.items()}
    benchmarks: dict[str, dict[str, Overlap]] = {}
    for name in wanted.benchmarks:
        block = wanted.lm_eval_benchmarks.get(name)
        if block is not None:
            sizes = {task: settings.limit or questions for task, settings in block.tasks.items()}
            for key, sha256 in read_of_questions(root, block).items():
                read[f"{key}/{name}"] = sha256
        else:
            assert wanted.mtbench is not None
            sizes = {name: wanted.mtbench.questions}
        benchmarks[name] = {
            task: overlap(n, [0, 2, 5] if name in LM_EVAL and not place else [])
            for place, (task, n) in enumerate(sizes.items())
        }
    folder = root / "contamination"
    ContaminationRecord(
        track=track,
        training_rows=480,
        training_sha256=hashes,
        benchmarks=benchmarks,
        versions={"owlore": "0.0"},
        proof=proven(ContaminationJob.of(study, track), "check_overlap", read, folder),
    ).save(folder / f"{track}.json")


def overlap(n: int, doc_ids: list[int]) -> Overlap:
    """What a check writes of one task whose flagged questions are exact copies, save the last."""
    flagged = len(doc_ids)
    exact = max(flagged - 1, 0)
    share = flagged / n
    return Overlap(n=n, exact=exact, ngram13=flagged, flagged=flagged, share=share, doc_ids=doc_ids)
