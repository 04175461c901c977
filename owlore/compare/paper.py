"""What the paper's abstract claims, and what this study has to say about it.

The paper (arXiv 2405.18380): averages "up to 1.1 %" (commonsense), "3.0 %" (MMLU) and "10 %"
(MT-Bench) above the baselines, and "LLaMa2-7B with only 21GB of memory". Only the abstract is used.
What it did and claims for each benchmark is in `owlore.study.benchmarks`. A study that ran
something else gets "not comparable", with the reason, never a verdict.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import Any

from owlore.compare.comparisons import baselines_of, difference, judged, owlore_of
from owlore.compare.results import Group, Results
from owlore.stats.paired import PairedDifference
from owlore.study.benchmarks import FAMILIES, Gain, PaperQuestions, PaperTasks
from owlore.study.config import Benchmark, MTBench, Study

# The abstract's models: our studies' names for them, and their names on the hub.
PAPER_MODELS = {
    "llama2-7b": "meta-llama/Llama-2-7b-hf",
    "llama3-8b": "meta-llama/Meta-Llama-3-8B",
    "mistral-7b": "mistralai/Mistral-7B-v0.1",
}
CLAIMED_GB = 21
MEMORY_CLAIM = "LLaMA2-7B can be fine-tuned with 21 GB of memory"

SUPPORTED, NOT_SUPPORTED, NOT_COMPARABLE = "supported", "not supported", "not comparable"


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

    @property
    def group(self) -> Group:
        """The track and model that it is held against."""
        return Group(self.track, self.model)

    def record(self) -> dict[str, Any]:
        """The claim as a flat row."""
        return {field.name: getattr(self, field.name) for field in fields(self)}


def comparable(study: Study, benchmark: str, model: str | None = None) -> tuple[bool, str]:
    """Say whether scores of this study may be read beside the paper's, and if not, why.

    True needs the paper's models (by their hub name, or a local copy under our studies' name), and
    the benchmark as a whole: the eight commonsense tasks or MMLU, 5-shot, test split, every
    question; or the 80 questions of MT-Bench with a GPT-4 judge. The paper's metric (acc or
    acc_norm), its baselines' settings and its judge's version are not known to us, so True means
    "the same exercise", no more. A benchmark that the paper does not have is never comparable.

    Args:
        study: the study.
        benchmark: name of a family of `FAMILIES`.
        model: look at this model alone, not at all of the study's.
    """
    reasons = other_models(study, [model] if model is not None else list(study.models))
    exercise = FAMILIES[benchmark].exercise
    if exercise is None:
        reasons.append(f"the paper does not have {benchmark}")
    blocks = [getattr(track, benchmark) for track in study.tracks.values()]
    departures = [_departure(exercise, block) for block in blocks if block is not None]
    reasons += dict.fromkeys(filter(None, departures))
    return not reasons, "; ".join(reasons)


def other_models(study: Study, models: Iterable[str]) -> list[str]:
    """One reason for each of `models` that the paper does not have."""
    return [
        f"the model {name} is not one of the paper's"
        for name in models
        if study.models[name].hub not in PAPER_MODELS.values()
        and not (study.models[name].path and name in PAPER_MODELS)
    ]


def _departure(
    exercise: PaperTasks | PaperQuestions | None, block: Benchmark | MTBench
) -> str | None:
    """What first sets a track's block apart from the paper's exercise; None if nothing known."""
    if isinstance(exercise, PaperQuestions) and isinstance(block, MTBench):
        return _other_judging(exercise, block)
    if isinstance(exercise, PaperTasks) and isinstance(block, Benchmark):
        return _other_tasks(exercise, block)
    return None  # the paper has no exercise to depart from


def _other_judging(exercise: PaperQuestions, block: MTBench) -> str | None:
    judge = block.judge
    if not judge.comparable or not judge.model.startswith(exercise.judge):
        return f"the judge ({judge.provider}: {judge.model}) is not {exercise.judge_name}"
    if block.questions != exercise.questions:
        return f"{block.questions} of MT-Bench's {exercise.questions} questions"
    return None


def _other_tasks(exercise: PaperTasks, block: Benchmark) -> str | None:
    if not exercise.asks(set(block.tasks)):
        return exercise.other_tasks
    if block.num_fewshot != exercise.num_fewshot:
        return f"{block.num_fewshot}-shot, not {exercise.num_fewshot}-shot"
    if any(task.limit is not None for task in block.tasks.values()):
        return "only a part of the questions (limit)"
    if block.split != "test":
        return f"the {block.split} split, not the test split"
    return None


def claims(results: Results) -> list[Claim]:
    """Hold each claim of the abstract against each track and model of the study."""
    gains = [
        _gain_claim(results, group, family.name, family.gain)
        for family in FAMILIES.values()
        if family.gain is not None
        for group in results.scored(family.name)
    ]
    return gains + [_memory_claim(results, group) for group in results.groups]


def _gain_claim(results: Results, group: Group, benchmark: str, gain: Gain) -> Claim:
    """OwLore minus the best baseline on the benchmark's average.

    The best baseline is picked after the fact, which favours it: a difference found against it is
    there against the others too.
    """
    study, family = results.study, FAMILIES[benchmark]
    ours, baselines = owlore_of(study), baselines_of(study)

    def claim(verdict: str, reason: str, **measured: Any) -> Claim:
        nothing = dict.fromkeys(("baseline", "measured", "low", "high"))
        where = {"claim": gain.wording, "track": group.track, "model": group.model, "method": ours}
        return Claim(**where | nothing | measured, unit=gain.unit, verdict=verdict, reason=reason)

    if ours is None or not baselines:
        lack = "the paper's method" if ours is None else "a baseline"
        return claim(NOT_COMPARABLE, f"the study does not run {lack}")
    same, reason = comparable(study, benchmark, group.model)
    if family.scored_by == "judge" and not judged(results, group):
        return claim(NOT_COMPARABLE, f"{reason}; its scores are a plumbing check")
    scores = {name: _average(results, group, benchmark, name) for name in baselines}
    if any(math.isnan(score) for score in scores.values()):
        return claim(NOT_COMPARABLE, "the judge scored nothing of a baseline")
    best = max(baselines, key=lambda name: scores[name])
    paired = difference(results, group, benchmark, ours, best)
    # Points, or per cent of the baseline's score, which is then taken as a fixed number.
    scale = 100 / scores[best] if gain.unit == "%" else family.scale.factor
    measured: dict[str, Any] = {
        "baseline": best,
        "measured": _number(scale * paired.difference),
        "low": _number(scale * paired.low),
        "high": _number(scale * paired.high),
    }
    if not same:
        return claim(NOT_COMPARABLE, reason, **measured)
    verdict, reason = _verdict(paired, scale, gain.amount, gain.unit)
    only = "; conditional on one training seed" if paired.seeds == 1 else ""
    return claim(verdict, reason + only, **measured)


def _average(results: Results, group: Group, benchmark: str, method: str) -> float:
    """Mean over seeds of the headline (accuracy: a fraction); nan if a judge gave none."""
    scores = [entry.headline(benchmark) for entry in results.of(group, method)]
    return sum(scores) / len(scores)


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
    study, model = results.study, group.model
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
        claim=MEMORY_CLAIM,
        track=group.track,
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
        entry.finetune.peak_bytes
        for entry in results.of(group, method)
        if entry.finetune.device != "cpu" and entry.finetune.peak_bytes is not None
    ]
    if measured:
        return float(max(measured)), "measured"
    simulated = simulated_peak(results, group, method)
    return (None, "") if simulated is None else (simulated * 2**30, "simulated")


def simulated_peak(results: Results, group: Group, method: str) -> float | None:
    """Simulated peak in GiB of a method on a track, if memory/<model>.json has it."""
    simulation = results.memory.get(group.model)
    for row in simulation.rows if simulation is not None else ():
        if (row.method, row.track) == (method, group.track):
            return row.peak_gib
    return None


def _number(value: float) -> float | None:
    """None in place of nan: nothing can be said."""
    return None if math.isnan(value) else value
