"""What the paper's abstract claims, and what this study has to say about it.

The paper (arXiv 2405.18380): averages "up to 1.1 %" (commonsense), "3.0 %" (MMLU) and "10 %"
(MT-Bench) above the baselines, and "LLaMa2-7B with only 21GB of memory". Only the abstract is used.
A study that ran something else gets "not comparable", with the reason, never a verdict.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import Any

from owlore.compare.comparisons import Group, baselines_of, difference, judged, owlore_of
from owlore.compare.results import Results
from owlore.stats.paired import PairedDifference
from owlore.study.config import Benchmark, Study, Track

# The abstract's models: our studies' names for them, and their names on the hub.
PAPER_MODELS = {
    "llama2-7b": "meta-llama/Llama-2-7b-hf",
    "llama3-8b": "meta-llama/Meta-Llama-3-8B",
    "mistral-7b": "mistralai/Mistral-7B-v0.1",
}
PAPER_TASKS = {
    *("boolq", "piqa", "social_iqa", "hellaswag"),
    *("winogrande", "arc_easy", "arc_challenge", "openbookqa"),
}
PAPER_FEWSHOT = 5  # the published commands; the same for both benchmarks
PAPER_QUESTIONS = 80
CLAIMED = {"commonsense": 1.1, "mmlu": 3.0, "mtbench": 10.0}
CLAIMED_GB = 21
MMLU_SUBJECTS = 57

SUPPORTED, NOT_SUPPORTED, NOT_COMPARABLE = "supported", "not supported", "not comparable"
WORDING = {
    "commonsense": "OwLore's commonsense average is up to 1.1 % above the baselines",
    "mmlu": "OwLore's MMLU score is up to 3.0 % above the baselines",
    "mtbench": "OwLore's MT-Bench score is up to 10 % above the baselines",
    "memory": "LLaMA2-7B can be fine-tuned with 21 GB of memory",
}


@dataclass(frozen=True)
class Claim:
    """One claim held against one track and model.

    `measured`, `low` and `high` (95 %) are in `unit`; None where nothing was measured.
    """

    claim: str
    track: str
    model: str
    method: str | None
    baseline: str | None
    measured: float | None
    low: float | None
    high: float | None
    unit: str
    verdict: str
    reason: str

    def record(self) -> dict[str, Any]:
        """The claim as a flat row."""
        return {field.name: getattr(self, field.name) for field in fields(self)}


def comparable(study: Study, benchmark: str, model: str | None = None) -> tuple[bool, str]:
    """Say whether scores of this study may be read beside the paper's, and if not, why.

    True needs the paper's models (by their hub name, or a local copy under our studies' name), and
    the benchmark as a whole: the eight commonsense tasks or MMLU, 5-shot, test split, every
    question; or the 80 questions of MT-Bench with a GPT-4 judge. The paper's metric (acc or
    acc_norm), its baselines' settings and its judge's version are not known to us, so True means
    "the same exercise", no more.

    Args:
        study: the study.
        benchmark: commonsense, mmlu or mtbench.
        model: look at this model alone, not at all of the study's.
    """
    reasons = other_models(study, [model] if model is not None else list(study.models))
    tracks = [track for track in study.tracks.values() if benchmark in track.benchmarks]
    reasons += dict.fromkeys(filter(None, (_other_exercise(track, benchmark) for track in tracks)))
    return not reasons, "; ".join(reasons)


def other_models(study: Study, models: Iterable[str]) -> list[str]:
    """One reason for each of `models` that the paper does not have."""
    return [
        f"the model {name} is not one of the paper's"
        for name in models
        if study.models[name].hub not in PAPER_MODELS.values()
        and not (study.models[name].path and name in PAPER_MODELS)
    ]


def _other_exercise(track: Track, benchmark: str) -> str:
    """What first sets a track's benchmark apart from the paper's; empty if nothing known does."""
    if benchmark == "mtbench":
        spec = track.mtbench
        assert spec is not None
        if not spec.judge.comparable or not spec.judge.model.startswith("gpt-4"):
            return f"the judge ({spec.judge.provider}: {spec.judge.model}) is not GPT-4"
        if spec.questions != PAPER_QUESTIONS:
            return f"{spec.questions} of MT-Bench's {PAPER_QUESTIONS} questions"
        return ""
    settings: Benchmark | None = getattr(track, benchmark)
    assert settings is not None
    tasks = set(settings.tasks)
    if benchmark == "gsm8k" and tasks != {"gsm8k"}:
        return "the task is not gsm8k"
    if benchmark == "commonsense" and tasks != PAPER_TASKS:
        return "the tasks are not the paper's eight"
    subjects = len(tasks) == MMLU_SUBJECTS and all(task.startswith("mmlu_") for task in tasks)
    if benchmark == "mmlu" and tasks != {"mmlu"} and not subjects:
        return "the tasks are not MMLU's 57 subjects"
    if settings.num_fewshot != PAPER_FEWSHOT:
        return f"{settings.num_fewshot}-shot, not {PAPER_FEWSHOT}-shot"
    if any(task.limit is not None for task in settings.tasks.values()):
        return "only a part of the questions (limit)"
    if settings.split != "test":
        return f"the {settings.split} split, not the test split"
    return ""


def claims(results: Results) -> list[Claim]:
    """Hold each claim of the abstract against each track and model of the study."""
    found = [
        _accuracy_claim(results, group, benchmark)
        for benchmark in CLAIMED
        for group in results.scored(benchmark)
    ]
    return found + [_memory_claim(results, group) for group in results.groups]


def _accuracy_claim(results: Results, group: Group, benchmark: str) -> Claim:
    """OwLore minus the best baseline on the benchmark's average.

    The best baseline is picked after the fact, which favours it: a difference found against it is
    there against the others too.
    """
    study, (track, model) = results.study, group
    ours, baselines = owlore_of(study), baselines_of(study)
    unit = "%" if benchmark == "mtbench" else "points"

    def claim(verdict: str, reason: str, **measured: Any) -> Claim:
        nothing = dict.fromkeys(("baseline", "measured", "low", "high"))
        where = {"claim": WORDING[benchmark], "track": track, "model": model, "method": ours}
        return Claim(**where | nothing | measured, unit=unit, verdict=verdict, reason=reason)

    if ours is None or not baselines:
        lack = "the paper's method" if ours is None else "a baseline"
        return claim(NOT_COMPARABLE, f"the study does not run {lack}")
    same, reason = comparable(study, benchmark, model)
    if benchmark == "mtbench" and not judged(results, group):
        return claim(NOT_COMPARABLE, f"{reason}; its scores are a plumbing check")
    scores = {name: _average(results, group, benchmark, name) for name in baselines}
    if any(math.isnan(score) for score in scores.values()):
        return claim(NOT_COMPARABLE, "the judge scored nothing of a baseline")
    best = max(baselines, key=lambda name: scores[name])
    paired = difference(results, group, benchmark, ours, best)
    # Points of accuracy; for MT-Bench per cent of the baseline's score, taken as a fixed number.
    scale = 100 / scores[best] if benchmark == "mtbench" else 100.0
    measured: dict[str, Any] = {
        "baseline": best,
        "measured": _number(scale * paired.difference),
        "low": _number(scale * paired.low),
        "high": _number(scale * paired.high),
    }
    if not same:
        return claim(NOT_COMPARABLE, reason, **measured)
    verdict, reason = _verdict(paired, scale, CLAIMED[benchmark], unit)
    only = "; conditional on one training seed" if paired.seeds == 1 else ""
    return claim(verdict, reason + only, **measured)


def _average(results: Results, group: Group, benchmark: str, method: str) -> float:
    """Mean over seeds of the printed average (accuracy: a fraction); nan if a judge gave none."""
    key = "overall" if benchmark == "mtbench" else "average"
    values = [entry.benchmarks[benchmark][key] for entry in results.of(*group, method)]
    return math.nan if None in values else sum(values) / len(values)


def _verdict(paired: PairedDifference, scale: float, claimed: float, unit: str) -> tuple[str, str]:
    """Supported: better than the best baseline, and the claimed gain is within the interval."""
    low, high = scale * paired.low, scale * paired.high
    if not low > 0:
        return NOT_SUPPORTED, "the 95 % interval does not exclude zero"
    if high < claimed:
        return NOT_SUPPORTED, f"better, but the 95 % interval ends below {claimed} {unit}"
    return SUPPORTED, f"the 95 % interval excludes zero and reaches {claimed} {unit}"


def _memory_claim(results: Results, group: Group) -> Claim:
    """OwLore's peak: measured if it ran on a GPU, else simulated if that was done."""
    study, (track, model) = results.study, group
    ours = owlore_of(study)
    peak, how = (None, "") if ours is None else _peak(results, group, ours)
    source = study.models[model]
    gigabytes = None if peak is None else peak / 1e9
    verdict, reason = NOT_COMPARABLE, ""
    if source.hub != PAPER_MODELS["llama2-7b"] and not (source.path and model == "llama2-7b"):
        reason = f"the model {model} is not LLaMA2-7B"
    elif gigabytes is None:
        reason = "no peak memory of the paper's method was measured on a GPU or simulated"
    elif gigabytes <= CLAIMED_GB:
        verdict, reason = SUPPORTED, f"{how} peak; 1 GB = 10^9 bytes"
    else:
        verdict, reason = NOT_SUPPORTED, f"{how} peak; 1 GB = 10^9 bytes"
        if peak is not None and peak / 2**30 <= CLAIMED_GB:
            reason += f"; it would be if GB means GiB ({peak / 2**30:.1f} GiB)"
    return Claim(
        claim=WORDING["memory"],
        track=track,
        model=model,
        method=ours,
        baseline=None,
        measured=gigabytes,
        low=None,
        high=None,
        unit=f"GB, {how}" if how else "GB",
        verdict=verdict,
        reason=reason,
    )


def _peak(results: Results, group: Group, method: str) -> tuple[float | None, str]:
    """Peak bytes and how they were found; a CPU's kernels have other work space than a GPU's."""
    measured = [
        entry.finetune["peak_bytes"]
        for entry in results.of(*group, method)
        if entry.finetune["device"] != "cpu" and entry.finetune["peak_bytes"] is not None
    ]
    if measured:
        return float(max(measured)), "measured"
    simulated = simulated_peak(results, group, method)
    return (None, "") if simulated is None else (simulated * 2**30, "simulated")


def simulated_peak(results: Results, group: Group, method: str) -> float | None:
    """Simulated peak in GiB of a method on a track, if memory/<model>.json has it."""
    track, model = group
    for row in results.memory.get(model, {}).get("rows", []):
        if (row["method"], row["track"]) == (method, track):
            return float(row["peak_gib"])
    return None


def _number(value: float) -> float | None:
    """None in place of nan: nothing can be said."""
    return None if math.isnan(value) else value
