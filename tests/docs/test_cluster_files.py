"""The files for clusters: that they can be read, and that the program takes what they say."""

import re
import shlex
import subprocess
from pathlib import Path

import yaml

from keras_tl import cli
from keras_tl.place_options import place_of

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
    mounted = {mount["mountPath"] for mount in container["volumeMounts"]}
    assert mounted == {"/data"}
