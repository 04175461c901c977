"""What is known of each benchmark family, in one table: `FAMILIES`.

    FAMILIES["mmlu"].headline    # "average", the key in mmlu.json
    FAMILIES["mmlu"].metric      # "mmlu_average", as MLflow names it

To add a family that lm-eval scores, add its row: a track of a study then takes a block of that
name, and tables, targets, figures and MLflow have it. Nothing else names the families.
"""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Scale:
    """The unit that scores have in files, and how people are shown them."""

    unit: str
    factor: float  # printed = factor × score
    digits: int  # printed decimals


FRACTION = Scale("fraction", 100.0, 1)
POINTS_OF_10 = Scale("points of 10", 1.0, 2)


@dataclass(frozen=True)
class PaperTasks:
    """The paper's lm-eval exercise: every question of the test split of these tasks.

    `names` are lm-eval's, with spaces between them. A task that lm-eval splits by subject counts
    as well if a study names all of its subjects: so many tasks `<name>_…`.
    """

    names: str
    other_tasks: str  # what is said of a study that has other ones
    subjects: int | None = None
    num_fewshot: int = 5  # the published commands; the same for all

    def asks(self, tasks: set[str]) -> bool:
        """Whether these are the tasks, whole or subject by subject."""
        by_subject = all(task.startswith(f"{self.names}_") for task in tasks)
        return tasks == set(self.names.split()) or (by_subject and len(tasks) == self.subjects)


@dataclass(frozen=True)
class PaperQuestions:
    """The paper's judged exercise: how many questions, and how its judge's name begins."""

    questions: int
    judge: str
    judge_name: str


@dataclass(frozen=True)
class Gain:
    """What the abstract claims above the baselines: points, or % of the baseline's score."""

    amount: float
    unit: Literal["points", "%"]
    wording: str


@dataclass(frozen=True)
class Family:
    """One benchmark family; the defaults are those of one that lm-eval scores.

    `exercise` is None where the paper does not have the family, `gain` where its abstract claims
    nothing of it.
    """

    name: str  # its block in a track, its target, its table, and `<name>.json` of a cell
    title: str  # of its table
    scored_by: Literal["lm-eval", "judge"] = "lm-eval"
    headline: str = "average"  # key of the score that stands for all in `<name>.json`
    scale: Scale = FRACTION
    margin: Literal["equivalence_margin", "mtbench_margin"] = "equivalence_margin"
    exercise: PaperTasks | PaperQuestions | None = None
    gain: Gain | None = None

    @property
    def metric(self) -> str:
        """The headline's name in MLflow."""
        return f"{self.name}_{self.headline}"


FAMILIES = {
    family.name: family  # in the order of tables and targets
    for family in (
        Family(
            "commonsense",
            title="Commonsense accuracy",
            exercise=PaperTasks(
                "boolq piqa social_iqa hellaswag winogrande arc_easy arc_challenge openbookqa",
                other_tasks="the tasks are not the paper's eight",
            ),
            gain=Gain(
                1.1, "points", "OwLore's commonsense average is up to 1.1 % above the baselines"
            ),
        ),
        Family(
            "mmlu",
            title="MMLU accuracy",
            exercise=PaperTasks(
                "mmlu", other_tasks="the tasks are not MMLU's 57 subjects", subjects=57
            ),
            gain=Gain(3.0, "points", "OwLore's MMLU score is up to 3.0 % above the baselines"),
        ),
        Family(
            "gsm8k",
            title="GSM8K accuracy",
            exercise=PaperTasks("gsm8k", other_tasks="the task is not gsm8k"),
        ),
        Family(
            "mtbench",
            title="MT-Bench scores",
            scored_by="judge",
            headline="overall",
            scale=POINTS_OF_10,
            margin="mtbench_margin",
            exercise=PaperQuestions(80, judge="gpt-4", judge_name="GPT-4"),
            gain=Gain(10.0, "%", "OwLore's MT-Bench score is up to 10 % above the baselines"),
        ),
    )
}
LM_EVAL = tuple(name for name, family in FAMILIES.items() if family.scored_by == "lm-eval")
