"""The files for clusters: that they can be read, and that the program takes what they say."""

import os
import re
import shlex
import subprocess
from pathlib import Path

import pytest
import yaml

from keras_tl import cli
from keras_tl.exit_codes import BAD_INPUT, FAILED_CHECK, SERIOUS, TRY_AGAIN
from keras_tl.place_options import place_of
from keras_tl.training.resume import TERMINATED

FILES = Path(__file__).parents[2] / "docs" / "how-to" / "several-devices"


def placed(command, values):
    """Where a command of the command line trains."""
    for name, value in values.items():
        command = command.replace(f'"${name}"', value)
    words = shlex.split(command)
    assert words[:2] == ["keras-tl", "train"]
    return place_of(cli._parser().parse_args(words[1:]))


def test_slurm():
    path = FILES / "keras-tl.slurm"
    subprocess.run(["bash", "-n", str(path)], check=True)
    [command] = re.findall(r"exec (keras-tl .*?)'", path.read_text(), re.S)
    place = placed(
        command.replace("\\\n", " "),
        {"DATA": "photos", "OUT": "run", "WORKERS": "a:1,b:1", "SLURM_PROCID": "1"},
    )
    assert (place.strategy, place.workers, place.worker_index) == ("multiworker", ("a:1", "b:1"), 1)


# Stand for Slurm's own. This srun runs what it is given once, as task 1.
SRUN = """#!/bin/bash
while [[ $1 == --* ]]; do echo "srun $1"; shift; done
SLURM_PROCID=1 "$@"
"""
SCONTROL = """#!/bin/bash
if [ "$1" = show ]; then echo a; echo b; else echo "scontrol $*"; fi
"""
KERAS_TL = """#!/bin/bash
echo "keras-tl $*"
exit "$CODE"
"""


@pytest.mark.parametrize(
    ("code", "again"),
    [
        (0, False),
        (FAILED_CHECK, False),
        (BAD_INPUT, False),
        (SERIOUS, False),
        (TRY_AGAIN, True),
        (TERMINATED, True),
    ],
)
def test_slurm_begins_again_where_that_helps(code, again, tmp_path):
    for name, text in {"srun": SRUN, "scontrol": SCONTROL, "keras-tl": KERAS_TL}.items():
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    job = {"SLURM_JOB_ID": "7", "SLURM_JOB_NODELIST": "[a-b]", "SLURM_CPUS_PER_TASK": "8"}
    given = {"DATA": "the photos", "OUT": "run", "CODE": str(code)}
    path = {"PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"}
    script = ["bash", str(FILES / "keras-tl.slurm")]
    done = subprocess.run(script, env=path | job | given, capture_output=True, text=True)
    assert done.returncode == code, done.stderr
    assert done.stdout.splitlines() == [
        "srun --cpus-per-task=8",
        "srun --kill-on-bad-exit=1",
        "keras-tl train the photos --out run --strategy multiworker"
        " --workers a:12345,b:12345 --worker-index 1",
        *["scontrol requeue 7"] * again,
    ]


def test_kubernetes():
    service, job = yaml.safe_load_all((FILES / "keras-tl.yaml").read_text())
    spec = job["spec"]
    pod = spec["template"]["spec"]
    [container] = pod["containers"]
    command = container["args"][0].removeprefix("exec ")
    place = placed(command, {"JOB_COMPLETION_INDEX": str(spec["completions"] - 1)})
    assert spec["parallelism"] == spec["completions"] == len(place.workers)
    assert pod["subdomain"] == service["metadata"]["name"]
    assert service["spec"]["selector"] == {"job-name": job["metadata"]["name"]}
    names = [f"{job['metadata']['name']}-{i}.{pod['subdomain']}" for i in range(len(place.workers))]
    assert [worker.rpartition(":")[0] for worker in place.workers] == names
    [rule] = spec["podFailurePolicy"]["rules"]
    assert rule["action"] == "FailJob"
    given_up = rule["onExitCodes"]
    assert (given_up["containerName"], given_up["operator"]) == (container["name"], "In")
    # What is lost or told to end goes on, as often as `backoffLimit` says.
    assert given_up["values"] == [BAD_INPUT, SERIOUS]
    assert pod["restartPolicy"] == "Never"
    mounted = {mount["mountPath"] for mount in container["volumeMounts"]}
    assert mounted == {"/data"}
