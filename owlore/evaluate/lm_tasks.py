"""lm-eval tasks by name: the embedded ones of `tasks/`, and all that lm-eval brings along.

Where the questions come from:

- embedded tasks (`wordnet_category`, …) read `<data_dir>/<task>_<split>.jsonl`, rows of question,
  choices, answer (an index) and cluster; few-shot examples come from `<task>_train.jsonl`;
- lm-eval's own tasks (`arc_easy`, `mmlu`, …) read the hub, or with `data_dir` either files
  `<task>_<split>.jsonl` or `.parquet` with the hub's columns (for MMLU one `mmlu_<split>.jsonl`
  with a `subject` column) or hub-shaped folders named like the data set (`ai2_arc`).

Prompts, choices and metrics are lm-eval's in every case. Few-shot examples never come from the
questions that are scored.
"""

from pathlib import Path
from typing import Any

from datasets import Dataset
from lm_eval.api.task import ConfigurableTask
from lm_eval.tasks import TaskManager
from lm_eval.tasks._yaml_loader import load_yaml

from owlore.core.errors import BadInput
from owlore.core.files import read_jsonl, read_parquet
from owlore.core.parsing import near
from owlore.evaluate.metrics import metrics_of
from owlore.sources import hub
from owlore.study.config import EMBEDDED, Benchmark

TASKS = Path(__file__).parent / "tasks"


def load_tasks(benchmark: Benchmark, data_dir: Path | None) -> dict[str, list[Any]]:
    """Load a benchmark's tasks, few-shot settings applied.

    Returns:
        For each name of the benchmark its lm-eval `Task` objects: one, or all members if the name
        is a group such as `mmlu`. `task.config.metadata["split"]` is the split they really read.

    Raises:
        BadInput: an unknown name, a missing file, a malformed row, a metric that the task does not
            have, or too few examples outside the scored questions for `num_fewshot`.
    """
    manager = TaskManager(
        include_path=str(TASKS),
        include_defaults=not EMBEDDED.issuperset(benchmark.tasks),  # indexing them takes seconds
        metadata={"data_dir": str(data_dir), "split": benchmark.split},
    )
    loaded = {}
    for name, wanted in benchmark.tasks.items():
        if name not in manager.task_index:
            all_of_them = f"embedded: {', '.join(sorted(EMBEDDED))}; lm-eval's: `lm-eval ls tasks`"
            meant = near(name, manager.all_tasks, otherwise=all_of_them)
            raise BadInput(f"tasks: {name}: unknown task ({meant})")
        _check_group(name, manager, wanted.metric)
        if name in EMBEDDED:
            if data_dir is None:
                raise BadInput(f"data_dir: the task {name} needs the folder of {name}_*.jsonl")
            tasks = [manager.load([name])["tasks"][name]]
        elif data_dir is not None:
            tasks = [
                _from_folder(member, manager, benchmark, data_dir)
                for member in members(name, manager)
            ]
        else:
            tasks = [
                _from_hub(member, manager, benchmark, wanted.revision)
                for member in members(name, manager)
            ]
        groups = _groups(name, manager)
        for task in tasks:
            _note(task, group=groups.get(task.task_name))
            _check(task, wanted.metric)
            _set_fewshot(task, benchmark)
        loaded[name] = tasks
    return loaded


def read_questions(
    data_dir: str, task: str, split: str = "test", **_: Any
) -> dict[str, list[dict[str, Any]] | Dataset]:
    """Read an embedded task's questions; the YAML files of `tasks/` name this function.

    Returns:
        The split "evaluated" with the rows of `split`, and "train" with the few-shot examples.

    Raises:
        BadInput: a file is missing or empty, or a row is not a question.
    """
    folder = Path(data_dir)
    path = folder / f"{task}_{split}.jsonl"
    train = folder / f"{task}_train.jsonl"
    return {
        "evaluated": Dataset.from_list(_questions(path)),
        "train": _questions(train) if train.exists() else [],
    }


def _questions(path: Path) -> list[dict[str, Any]]:
    rows = _rows(path)
    for number, row in enumerate(rows, start=1):
        question, choices, answer = (row.get(key) for key in ("question", "choices", "answer"))
        well_formed = (
            isinstance(question, str)
            and isinstance(choices, list)
            and all(isinstance(choice, str) and choice for choice in choices)
            and isinstance(answer, int)
            and 0 <= answer < len(choices)
        )
        if not well_formed:
            raise BadInput(
                f"{path}: row {number}: expected question (text), choices (texts, none empty) and "
                "answer (an index of choices)"
            )
    columns = ("question", "choices", "answer")
    return [
        {key: row[key] for key in columns} | {"cluster": str(row.get("cluster") or "")}
        for row in rows
    ]


def _rows(path: Path) -> list[dict[str, Any]]:
    rows = read_parquet(path) if path.suffix == ".parquet" else read_jsonl(path)
    if not rows:
        raise BadInput(f"{path}: the file has no questions")
    return rows


def _from_folder(
    name: str, manager: TaskManager, benchmark: Benchmark, data_dir: Path
) -> ConfigurableTask:
    """Build one of lm-eval's own tasks over local copies of its data."""
    config = load_yaml(manager.task_index[name].yaml_path)
    hub_name = str(config.get("dataset_path"))
    folder = data_dir / hub_name.rsplit("/", 1)[-1]
    subject = config.get("dataset_name") if hub_name == "cais/mmlu" else None
    stem = name if subject is None else "mmlu"
    split = benchmark.split
    path = _file(data_dir, stem, split)
    if split == "test" and path is None:
        split = "validation"  # several data sets keep the answers of their test split private
        path = _file(data_dir, stem, split)

    if path is not None:
        shots = _file(data_dir, stem, config.get("fewshot_split") or "train")
        rows = {
            "evaluated": _of_subject(path, subject),
            "shots": _of_subject(shots, subject) if shots else [],
        }
        config |= {
            "custom_dataset": lambda **_: {
                key: Dataset.from_list(value) for key, value in rows.items()
            },
            "dataset_kwargs": None,
            "training_split": "shots",
            "validation_split": None,
            "test_split": "evaluated",
            "fewshot_split": "shots",
        }
    elif folder.is_dir():
        config["dataset_path"] = str(folder)
    else:
        raise BadInput(
            f"data_dir: {data_dir}: no {stem}_{benchmark.split}.jsonl or .parquet, no folder "
            f"{folder.name} for the task {name}"
        )
    for key in ("tag", "group"):
        config.pop(key, None)
    task = ConfigurableTask(config=config)
    if path is not None:
        _note(task, split=split)
    else:
        _choose_split(task, benchmark.split)
    return task


def _file(data_dir: Path, stem: str, split: str) -> Path | None:
    """Return a split's file, JSON lines before Parquet, if there is one."""
    paths = [data_dir / f"{stem}_{split}{suffix}" for suffix in (".jsonl", ".parquet")]
    return next((path for path in paths if path.exists()), None)


def _of_subject(path: Path, subject: str | None) -> list[dict[str, Any]]:
    rows = [row for row in _rows(path) if subject is None or row.get("subject") == subject]
    if not rows:
        raise BadInput(f"{path}: no row has the subject {subject}")
    return rows


def _from_hub(
    name: str, manager: TaskManager, benchmark: Benchmark, revision: str | None
) -> ConfigurableTask:
    """Build one of lm-eval's own tasks over its data set on the hub, at a pinned commit or main."""
    config = load_yaml(manager.task_index[name].yaml_path)
    for key in ("tag", "group"):
        config.pop(key, None)
    path = str(config.get("dataset_path"))
    if revision is not None:
        config["dataset_kwargs"] = (config.get("dataset_kwargs") or {}) | {"revision": revision}
    with hub.explained(f"tasks: {name}", path, revision):
        task = ConfigurableTask(config=config)
        read = next(iter(task.dataset.values()))
        if revision is not None:
            hub.require_commit(read, revision)
    _choose_split(task, benchmark.split)
    _note(task, revision=hub.commit(read))
    return task


def _choose_split(task: Any, split: str) -> None:
    """Make a task with the hub's splits score `split`, or what it has instead of a test split."""
    if split == "validation":
        if "validation" not in task.dataset:
            raise BadInput(f"split: validation: the task {task.task_name} has no such split")
        task.set_config("test_split", "validation")
    _note(task, split=task.config.test_split or task.config.validation_split)


def _note(task: Any, **facts: Any) -> None:
    """Write into a task's metadata what a result has to tell."""
    task.set_config("metadata", (task.config.metadata or {}) | facts)


def _check(task: Any, metric: str) -> None:
    name = task.task_name
    have = metrics_of(task)
    if task.OUTPUT_TYPE not in ("multiple_choice", "generate_until") or not have:
        raise BadInput(
            f"tasks: {name}: a {task.OUTPUT_TYPE} task without acc or exact_match; it is not scored"
        )
    if metric not in have:
        known = ", ".join(sorted(have))
        raise BadInput(f"tasks: {name}: metric: {metric}: this task has {known}")


def _set_fewshot(task: Any, benchmark: Benchmark) -> None:
    """Apply `num_fewshot`, except to tasks whose definition fixes zero, as lm-eval does."""
    if task.config.num_fewshot != 0:
        task.set_config("num_fewshot", benchmark.num_fewshot)
    task.set_fewshot_seed(benchmark.seed)
    shots = task.config.num_fewshot
    if shots == 0:
        return
    config = task.config
    scored = config.test_split or config.validation_split
    source = task.fewshot_cfg.split or config.training_split or config.validation_split or scored
    if task.fewshot_cfg.samples is None and source == scored:
        raise BadInput(
            f"num_fewshot: {shots}: {task.task_name} has no examples but the scored questions"
        )
    if shots > len(task.sampler.df):
        raise BadInput(
            f"num_fewshot: {shots}: {task.task_name} has {len(task.sampler.df)} examples outside "
            "the scored questions"
        )


def _check_group(name: str, manager: TaskManager, metric: str) -> None:
    """Refuse groups whose score is not the mean over all their questions."""
    entry = manager.task_index[name]
    some = ", ".join(members(name, manager)[:8])
    if entry.kind.name == "TAG":
        raise BadInput(f"tasks: {name}: a tag, not a task; name its tasks ({some}, …)")
    if entry.kind.name == "GROUP":
        blocks = entry.cfg.get("aggregate_metric_list") or []
        weighted = {
            block["metric"]: block.get("weight_by_size", True)
            for block in ([blocks] if isinstance(blocks, dict) else blocks)
        }
        if not weighted.get(metric):
            raise BadInput(
                f"tasks: {name}: metric: {metric}: not averaged over the questions of this group; "
                f"name its tasks ({some}, …)"
            )


def _groups(name: str, manager: TaskManager) -> dict[str, str]:
    """Return the subgroup of each member of a group of groups: MMLU's subjects have four."""
    entry = manager.task_index[name]
    if entry.kind.name != "GROUP":
        return {}
    return {
        member: child.removeprefix(f"{name}_")
        for child in entry.cfg["task"]
        if isinstance(child, str)
        and child in manager.task_index
        and manager.task_index[child].kind.name == "GROUP"
        for member in members(child, manager)
    }


def members(name: str, manager: TaskManager) -> list[str]:
    """Return the names of the tasks behind the name of a task, tag or group."""
    entry = manager.task_index[name]
    if entry.kind.name == "TAG":
        return sorted(entry.tags)
    if entry.kind.name != "GROUP":
        return [name]
    found: list[str] = []
    for member in entry.cfg["task"]:
        known = isinstance(member, str) and member in manager.task_index
        found += members(member, manager) if known else [str(member)]
    return found
