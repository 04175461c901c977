"""A changed default is noticed; a new key is not a change."""

import copy

import pytest

from owlore.core.files import read_json
from owlore.records import defaults
from owlore.records.base import Job

COMMITTED = read_json(defaults.FILE)


def test_no_default_has_changed_without_a_new_version_of_its_job():
    assert defaults.changed(COMMITTED, defaults.now()) == []


def test_the_committed_file_is_up_to_date():
    assert defaults.now() == COMMITTED, "run: python -m owlore.records.defaults"


def test_every_job_of_the_package_is_in_the_table():
    def below(kind):
        return {kind, *(inner for sub in kind.__subclasses__() for inner in below(sub))}

    ours = {job for job in below(Job) if job.__module__.startswith("owlore.records.")}
    assert ours - {Job} == set(defaults.JOBS)


@pytest.mark.parametrize(
    ("job", "key"),
    [
        ("FinetuneJob", "Layers.law"),
        ("FinetuneJob", "Full.adam_beta2"),
        ("EvaluationJob", "Benchmark.max_length"),
        ("EvaluationJob", "Task.metric"),
        ("OutliersJob", "Calibration.threshold"),
        ("JudgeJob", "JudgeJob.reference_set"),
    ],
)
def test_a_changed_default_needs_a_new_version(job, key):
    after = copy.deepcopy(defaults.now())
    assert key in after[job]["defaults"]
    after[job]["defaults"][key] = "another"
    (told,) = defaults.changed(COMMITTED, after)
    assert told.startswith(f"{job}: {key}: ")
    after[job]["version"] += 1
    assert defaults.changed(COMMITTED, after) == []


def test_a_new_key_needs_none():
    after = copy.deepcopy(defaults.now())
    after["FinetuneJob"]["defaults"]["Layers.unit"] = "layer"
    assert defaults.changed(COMMITTED, after) == []
