"""What the cluster profiles plan, and that the Kubernetes job starts what is there: dry runs."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from support.workspace import REPOSITORY

pytestmark = pytest.mark.workflow
PROFILES = REPOSITORY / "workflow" / "profiles"
STUDY = str(REPOSITORY / "workflow" / "studies" / "reduced.yaml")


def plan(folder: Path, *arguments: str) -> str:
    """The printed plan for a folder in which nothing is done yet."""
    command = [sys.executable, "-m", "owlore", "run", "-n", *arguments, "--directory", str(folder)]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def resources(printed: str, rule: str) -> dict[str, str]:
    """What a rule's first planned job asks for."""
    job = re.split(rf"\nrule {rule}:\n", printed)[1]
    return dict(one.split("=") for one in re.search(r"resources: (.*)", job)[1].split(", "))


@pytest.mark.parametrize(("profile", "gpus"), [("slurm", "1"), ("slurm-cpu", "0")])
def test_slurm_jobs_have_limits_and_gpus(profile, gpus, tmp_path):
    printed = plan(tmp_path, "--workflow-profile", str(PROFILES / profile), "--configfile", STUDY)
    for rule in ("score_outliers", "train", "evaluate", "answer", "judge"):
        wanted = resources(printed, rule)
        assert wanted["gpu"] == gpus, rule
        assert int(wanted["mem_mb"]) >= 2500 and int(wanted["runtime"]) >= 240, rule
    assert resources(printed, "questions")["runtime"] == "60"
    assert "gpu" not in resources(printed, "questions")


def test_the_two_slurm_profiles_differ_in_gpus_only():
    with_gpus, without = (
        yaml.safe_load((PROFILES / name / "profile.yaml").read_text())
        for name in ("slurm", "slurm-cpu")
    )
    del with_gpus["resources"]
    for rule in without["set-resources"].values():
        assert rule.pop("gpu", 0) == 0
    assert with_gpus == without


def test_the_kubernetes_job_starts_the_workflow_within_its_limits(tmp_path):
    job = yaml.safe_load((PROFILES / "kubernetes" / "job.yaml").read_text())
    (pod,) = job["spec"]["template"]["spec"]["containers"]
    _, started = pod["args"][0].split(".venv/bin/owlore run ")
    words = shlex.split(started.replace("$STUDY", STUDY))
    assert int(resources(plan(tmp_path, *words), "train")["mem_mb"]) == 3500

    profile = yaml.safe_load((PROFILES / "kubernetes" / "profile.yaml").read_text())
    counted = dict(one.split("=") for one in profile["resources"])
    asked = pod["resources"]["requests"]
    assert profile["cores"] == int(asked["cpu"])
    assert counted["gpu"] == asked["nvidia.com/gpu"] == pod["resources"]["limits"]["nvidia.com/gpu"]
    assert int(counted["mem_mb"]) * 10**6 < int(asked["memory"].removesuffix("Gi")) * 2**30
    assert {mount["name"] for mount in pod["volumeMounts"]} == {
        volume["name"] for volume in job["spec"]["template"]["spec"]["volumes"]
    }
