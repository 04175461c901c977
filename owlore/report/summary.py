"""The answer in plain words: sentences computed from the tables, careful about what they claim.

A difference is called one, and two methods equally good, only where the significance table does
(paired, Holm, 5 %). "No difference shown" is never turned into "equal".
"""

from collections.abc import Callable
from typing import Any, NamedTuple

from owlore.compare.comparisons import base_of, full_of, judged, owlore_of, standing
from owlore.compare.paper import comparable, other_models
from owlore.compare.results import Group, Results
from owlore.compare.significance_table import significance_table
from owlore.compare.table_formats import interval, number, signed
from owlore.records.finetune import FinetuneRecord
from owlore.study.benchmarks import FAMILIES, LM_EVAL

QUESTION = (
    "Does fine-tuning a few decoder layers at a time, drawn by their outlier scores and with "
    "low-rank gradients (OwLore), reach the accuracy of full fine-tuning and of other "
    "memory-efficient methods, and what does it cost?"
)


class Cost(NamedTuple):
    """A cost of a training, and how a sentence has it: by `unit`, with `suffix`."""

    name: str
    of: Callable[[FinetuneRecord], float | None]
    unit: int
    digits: int
    suffix: str


PEAK = Cost("peak memory", lambda cell: cell.peak_bytes, 2**30, 2, " GiB")
STATE = Cost("optimizer state", lambda cell: cell.optimizer_bytes, 2**20, 0, " MiB")
TIME = Cost("training time", lambda cell: cell.seconds, 1, 0, " s")


def answer(results: Results) -> list[dict[str, Any]]:
    """Return one block a track and model: `title`, `headline`, and `sentences`."""
    records = significance_table(results).records
    return [
        {
            "title": f"{group.model}, track {group.track}",
            "headline": _headline(results, group, records),
            "sentences": [
                *_scores(results, group, records),
                *_cost(results, group),
                _caveat(results, group.model),
            ],
        }
        for group in results.groups
    ]


def limits(results: Results) -> list[str]:
    """Return what the numbers of this study cannot tell."""
    study = results.study
    sentences = []
    for name in FAMILIES:
        same, reason = comparable(study, name)
        if results.scored(name) and not same:
            sentences.append(f"Not the paper's experiment, {name}: {reason}.")
    if len(study.seeds) == 1:
        sentences.append(
            "One training seed: intervals cover the choice of questions, not the luck of training. "
            "Another seed may change the order of methods that are close."
        )
    else:
        sentences.append(
            f"{len(study.seeds)} training seeds: intervals cover the choice of questions and of "
            "seeds. So few seeds tell little about their spread, which makes the intervals wide."
        )
    sentences.append(
        "“No difference shown” means that these questions are too few to tell; it does not mean "
        "that two methods are equal."
    )
    sentences.append(
        "Each method ran with the settings under “Every cell”, one learning rate each. A method "
        "whose settings suit it less looks worse than it is."
    )
    if any(not judged(results, group) for group in results.scored("mtbench")):
        sentences.append(
            "MT-Bench ran as a plumbing check: its judge is too small to grade, so its scores say "
            "nothing about the methods."
        )
    for track, checked in results.contamination.items():
        for name, tasks in checked.benchmarks.items():
            flagged = sum(task.flagged for task in tasks.values())
            n = sum(task.n for task in tasks.values())
            if flagged:
                sentences.append(
                    f"{flagged} of {n} questions of {name} are in the training rows of track "
                    f"{track}, wholly or in part. The table of such questions has the scores "
                    "without them."
                )
    if any(entry.finetune.device == "cpu" and entry.finetune.steps for entry in results.cells):
        sentences.append(
            "Peak memory on a CPU is what torch's allocator hands out. A GPU's kernels have other "
            "work space, and a GPU shows more: context and fragmentation."
        )
    return sentences


def _headline(results: Results, group: Group, records: list[dict[str, Any]]) -> str:
    """One sentence on the first benchmark that was scored and tested."""
    ours, benchmark = owlore_of(results.study), _first_scored(results, group)
    if ours is None:
        return "This study does not run OwLore; the tables compare what it runs."
    if benchmark is None:
        return "No accuracy was scored here, so there is no answer on accuracy."
    names = {base_of(results.study): "the base model", full_of(results.study): "full fine-tuning"}
    parts = []
    for reference, name in names.items():
        record = _record(records, group, benchmark, ours, reference)
        if record is not None:
            verdict = {
                "better": "scores higher than",
                "worse": "scores lower than",
                "equivalent": f"is as good (less than {_margin(results)} apart) as",
                "undecided": "cannot be told apart from",
            }[record["verdict"]]
            parts.append(f"{verdict} {name}")
    if not parts:
        return f"OwLore has nothing to be compared with on {benchmark}."
    return f"On {benchmark}, OwLore {' and '.join(parts)}{_memory_clause(results, group)}."


def _margin(results: Results) -> str:
    margin = results.study.comparison.equivalence_margin
    return f"{margin:g} {'point' if margin == 1 else 'points'}"


def _memory_clause(results: Results, group: Group) -> str:
    full, ours = full_of(results.study), owlore_of(results.study)
    if full is None or ours is None:
        return ""
    ratio = _ratio(results, group, ours, full)
    if ratio is None:
        return ""
    return f"; its peak memory was {number(100 * ratio, 0, ' %').text} of full fine-tuning's"


def _ratio(results: Results, group: Group, ours: str, full: str) -> float | None:
    peaks = [_mean(results, group, name, PEAK) for name in (ours, full)]
    return None if peaks[0] is None or not peaks[1] else peaks[0] / peaks[1]


def _scores(results: Results, group: Group, records: list[dict[str, Any]]) -> list[str]:
    """For each benchmark: OwLore against base and full, then who is best."""
    study, sentences = results.study, []
    ours, references = owlore_of(study), (base_of(study), full_of(study))
    for benchmark in LM_EVAL:
        if group not in results.scored(benchmark):
            continue
        parts = []
        for reference in references:
            record = _record(records, group, benchmark, ours, reference)
            if record is None or reference is None:
                continue
            told = {"better": "higher", "worse": "lower", "undecided": "no difference shown"}
            told["equivalent"] = f"less than {_margin(results)} apart"
            low_high = interval(record["low"], record["high"], 100).text
            parts.append(
                f"{reference} {_percent(results, group, benchmark, reference)} "
                f"({signed(record['difference'], 100).text} points, 95 % interval {low_high}: "
                f"{told[record['verdict']]})"
            )
        start = f"{benchmark}: "
        if ours is not None and parts:
            start += f"{ours} {_percent(results, group, benchmark, ours)}; {'; '.join(parts)}. "
        sentences.append(start + _best(results, group, benchmark))
    return sentences


def _best(results: Results, group: Group, benchmark: str) -> str:
    marks = standing(results, group, benchmark)
    marked = [method for method, mark in marks.items() if mark]
    if "best" in marks.values():
        return f"{marked[0]} is better than every other method."
    if not marked:
        return "Only one method ran."
    return f"No method beats all others; the best cannot be told apart among {', '.join(marked)}."


def _cost(results: Results, group: Group) -> list[str]:
    """Peak, optimizer state and time of OwLore beside full fine-tuning's."""
    study = results.study
    ours, full = owlore_of(study), full_of(study)
    if ours is None or full is None:
        return []
    parts = []
    for cost in (PEAK, STATE, TIME):
        values = [_mean(results, group, method, cost) for method in (ours, full)]
        texts = [
            number(value / cost.unit, cost.digits, cost.suffix).text
            for value in values
            if value is not None
        ]
        if len(texts) == len(values):
            parts.append(f"{cost.name} {' against '.join(texts)}")
    devices = {entry.finetune.device for entry in results.of(group, ours)}
    where = ", ".join(sorted(devices))
    return [f"Cost on {where}, {ours} against {full}: {'; '.join(parts)}."] if parts else []


def _caveat(results: Results, model: str) -> str:
    """What keeps the reader from carrying the answer too far."""
    study = results.study
    foreign = other_models(study, [model])
    paper = f" Not comparable with the paper: {foreign[0]}." if foreign else ""
    if len(study.seeds) == 1:
        return f"All of this is conditional on one training seed.{paper}"
    return f"Intervals cover questions and {len(study.seeds)} training seeds.{paper}"


def _first_scored(results: Results, group: Group) -> str | None:
    return next((name for name in LM_EVAL if group in results.scored(name)), None)


def _record(
    records: list[dict[str, Any]],
    group: Group,
    benchmark: str,
    method: str | None,
    reference: str | None,
) -> dict[str, Any] | None:
    """The row for all seeds together, the one that carries a verdict."""
    wanted = (*group, benchmark, method, reference)
    keys = ("track", "model", "benchmark", "method", "reference")
    for record in records:
        if record["verdict"] and tuple(record[key] for key in keys) == wanted:
            return record
    return None


def _percent(results: Results, group: Group, benchmark: str, method: str) -> str:
    scores = [entry.headline(benchmark) for entry in results.of(group, method)]
    return number(100 * sum(scores) / len(scores), 1, " %").text


def _mean(results: Results, group: Group, method: str, cost: Cost) -> float | None:
    """Mean over the seeds; None where it was not measured for one of them."""
    values = [cost.of(entry.finetune) for entry in results.of(group, method)]
    measured = [value for value in values if value is not None]
    return sum(measured) / len(measured) if len(measured) == len(values) else None
