# /// script
# requires-python = ">=3.11"
# dependencies = ["hyperqueue", "pyyaml"]
# ///
"""Trains plans on real engines, and compares every table with that of one process.

    apt-get install slurm-wlm munge parallel
    pip install hyperqueue pyyaml
    python tests/engines/run.py target/release/basislab [PART ...]     # parts whose names begin so; all by default

Slurm's daemons and HyperQueue's server run in a temporary folder, on loopback, and are gone at the end. The commands of
docs/clusters.md are run as they stand there.
"""
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback

try:
    import hyperqueue as _
    import yaml
except ImportError:
    sys.exit("needs packages: pip install hyperqueue pyyaml")

import services
from services import until

for tool in ["sbatch", "slurmctld", "munged", "parallel"]:
    if not shutil.which(tool, path=services.PATH):
        sys.exit(f"needs {tool}: apt-get install slurm-wlm munge parallel")

HERE = pathlib.Path(__file__).resolve().parent
PAGE = (HERE / "../../docs/clusters.md").read_text()
TABLES = ["steps.csv", "evals.csv", "residual.csv", "dimensions.csv", "dimension_steps.csv", "summary.csv", "verdicts.csv"]
passed, failures = 0, []
wanted = sys.argv[2:]


def check(what, holds, detail=""):
    """Counts a check; the first one of a part that fails ends the part."""
    global passed
    if not holds:
        raise AssertionError(f"{what}: {detail}")
    passed += 1
    print(f"ok: {what}", flush=True)


def part(what, function, *arguments):
    """Runs a part of the checks; those that follow run even if it fails."""
    if not any(what.startswith(word) for word in wanted or [what]):
        return
    begun = time.monotonic()
    try:
        function(*arguments)
    except Exception as error:
        traceback.print_exc()
        failures.append(f"{what}: {error}")
        print(f"FAILED: {what}: {error}", flush=True)
    print(f"-- {what}: {time.monotonic() - begun:.0f} s", flush=True)


def run(command, folder, env, code=0):
    """Runs a command that must end with this code (None: with any); gives what it printed."""
    shell = isinstance(command, str)
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", command] if shell else command,
        cwd=folder, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=240,
    )
    if code is not None and done.returncode != code:
        raise AssertionError(f"{command} ended with {done.returncode}, expected {code}:\n{done.stdout}")
    return done.stdout


def commands(*sections):
    """The indented lines of sections of the page."""
    found = []
    for section in sections:
        text = re.search(rf"^## {section}\n(.*?)(?=^## |\Z)", PAGE, re.M | re.S).group(1)
        lines = re.findall(r"^    (\S.*)$", text, re.M)
        assert lines, f"docs/clusters.md, {section}: no commands"
        found += lines
    return "\n".join(found)


def workplace(folder, name):
    """A folder with the experiments. Its name has to be quoted."""
    made = folder / f"{name}'s $HOME"
    made.mkdir()
    for file in ["twelve-runs.toml", "chosen.toml"]:
        shutil.copy(HERE / file, made)
    return made


def directory(place, name):
    (found,) = place.glob(f"runs/{name}-*")
    return found


def ended(place, name):
    return len(list(place.glob(f"runs/{name}-*/parts/*/*/done.json")))


def same_tables(place, name, reference):
    """Every table holds the bytes of one process's."""
    found = directory(place, name)
    for table in TABLES + (["selection.csv"] if name == "chosen" else []):
        one, other = (found / table).read_bytes(), (reference / table).read_bytes()
        check(f"{place.name}: {name}: {table} as by one process", one == other and one.count(b"\n") > 1, f"{found}, {reference}")


def by_one_process(place, env):
    """The tables to compare with, of `basislab run`."""
    for name in ["twelve-runs.toml", "chosen.toml", "adam-vs-sgd --smoke"]:
        out = f"reference/{name.split()[0].removesuffix('.toml')}"
        run(f"basislab run {name} --no-reuse --quiet --out {out}", place, env)
    assert (place / "reference/chosen/selection.csv").is_file()


def page(place, env, reference, section):
    """The commands of docs/clusters.md, from the plan to the verdicts."""
    printed = run(commands("Plan", section, "Verdicts"), place, env)
    check(f"{place.name}: the page's commands end with verdicts", "exploratory" in printed, printed)
    same_tables(place, "adam-vs-sgd", reference / "adam-vs-sgd")


def planned(place, env, name, *options):
    """Makes plan.jsonl and job.sh."""
    run(f"basislab plan {name}.toml > plan.jsonl", place, env)
    run(f"basislab plan script {' '.join(options)} plan.jsonl > job.sh", place, env)
    for shell in ["sh", "bash"]:
        run([shell, "-n", "job.sh"], place, env)
    print((place / "job.sh").read_text())


# Slurm


def job(env, number):
    """What Slurm says about a job or a task: a dictionary."""
    printed = subprocess.run(["scontrol", "show", "job", number], env=env, capture_output=True, text=True).stdout
    return dict(re.findall(r"(\w+)=(\S*)", printed))


def submitted(place, env):
    """Runs job.sh; gives the numbers of its jobs."""
    printed = run("sh job.sh", place, env)
    return re.findall(r"(?:array|job) (\d+)", printed)


def state(env, number):
    return job(env, number).get("JobState")


def wait_for(env, *numbers):
    """Waits until jobs have ended; those that wait two minutes after a requeue wait no longer."""
    def over():
        states = [state(env, number) for number in numbers]
        return states if all(state in ("COMPLETED", "FAILED", "CANCELLED") for state in states) else None

    return until(f"jobs {numbers}", over, 120)


def trains(place, name, count=1):
    """Whether so many runs are being trained and have come far enough to have something to lose."""
    return lambda: len([file for file in place.glob(f"runs/{name}-*/parts/*/*.work/writer-*/steps.csv") if file.stat().st_size > 500]) >= count


def requeue_and_cancel(place, env, reference):
    """USR1 in the middle of a run, a cancelled task, `collect` while runs are missing, and a second submission."""
    planned(place, env, "twelve-runs", "slurm", "--chunk 3", "--time 0:03:00", "--option=--comment=\"it's\"")
    run("basislab collect plan.jsonl", place, env, code=6)
    check("slurm: collect without any run ends with 6", not list(place.glob("runs/*/verdicts.csv")))
    array, collect = submitted(place, env)
    until("the first task", lambda: state(env, f"{array}_0") == "RUNNING")
    until("a task that trains", trains(place, "twelve-runs", 2))
    check("slurm: options are passed on", job(env, f"{array}_0")["Comment"] == "it's", job(env, f"{array}_0"))
    # What Slurm sends before the time limit. Where tasks of the array are pending, this scancel tries to signal them too.
    sender = subprocess.Popen(["scancel", "--signal=USR1", "--batch", f"{array}_0"], env=env, stderr=subprocess.DEVNULL)
    until("a requeue", lambda: job(env, f"{array}_0").get("Restarts") == "1")
    sender.kill()
    sender.wait()
    check("slurm: USR1 requeues the task, and no other", job(env, f"{array}_1")["Restarts"] == "0")
    log = place / f"runs/slurm-{array}_0.log"
    until("the requeued task", lambda: state(env, f"{array}_0") == "PENDING")
    check("slurm: the task stopped after a checkpoint", list(place.glob("runs/*/parts/*/*.work/writer-*/checkpoint*")), log.read_text())
    check("slurm: collect waits for a requeued task", state(env, collect) == "PENDING", job(env, collect))
    # Task 3 begins when one of the first two has ended.
    until("the last task", lambda: state(env, f"{array}_3") == "RUNNING")
    time.sleep(1)
    run(["scancel", f"{array}_3"], place, env)
    wait_for(env, f"{array}_3", f"{array}_1", f"{array}_2")
    check("slurm: a task that was cancelled stays cancelled", state(env, f"{array}_3") == "CANCELLED", job(env, f"{array}_3"))
    run(["scontrol", "update", f"JobId={array}_0", "StartTime=now"], place, env)
    wait_for(env, f"{array}_0", collect)
    ends = job(env, f"{array}_0")
    check("slurm: the requeued task ends well", (ends["JobState"], ends["ExitCode"]) == ("COMPLETED", "0:0"), ends)
    parts = log.read_text()
    check("slurm: its log has both parts", 0 < parts.find("stopped after step") < parts.find("resuming from step"), parts)
    ends = job(env, collect)
    check("slurm: collect while runs are missing ends with 6", ends["ExitCode"] == "6:0" and ended(place, "twelve-runs") < 12, ends)
    check("slurm: and decides nothing", not list(place.glob("runs/*/verdicts.csv")))
    array, collect = submitted(place, env)
    wait_for(env, collect)
    check("slurm: a second submission completes the plan", job(env, collect)["ExitCode"] == "0:0" and ended(place, "twelve-runs") == 12, job(env, collect))
    same_tables(place, "twelve-runs", reference / "twelve-runs")


def two_arrays(place, env, reference):
    """Two arrays on one plan, whose tasks of the same number run at the same time."""
    planned(place, env, "twelve-runs", "slurm", "--chunk 6")
    text = (place / "job.sh").read_text()
    (place / "job.sh").write_text(text.replace('"$((tasks - 1))"', '"$((tasks - 1))%1"'))
    jobs = [submitted(place, env) for _ in range(2)]
    until("both arrays train", trains(place, "twelve-runs", 2))
    check("two arrays: both train", [state(env, f"{array}_0") for array, _ in jobs] == ["RUNNING"] * 2)
    wait_for(env, *(collect for _, collect in jobs))
    codes = sorted(job(env, f"{array}_{task}")["ExitCode"] for array, _ in jobs for task in range(2))
    check("two arrays: tasks end with 0 or, where the other array has their runs, with 6", set(codes) <= {"0:0", "6:0"} and codes[:2] == ["0:0"] * 2, codes)
    codes = {job(env, collect)["ExitCode"] for _, collect in jobs}
    check("two arrays: collect of the array that ends last finds all", {"0:0"} <= codes <= {"0:0", "6:0"}, codes)
    writers = list(place.glob("runs/*/parts/*/*.work/writer-*"))
    check("two arrays: no run was trained twice", not writers, writers)
    same_tables(place, "twelve-runs", reference / "twelve-runs")


def second_stage(place, env, reference):
    """A plan with a choice: the second array begins when the first has ended."""
    planned(place, env, "chosen", "slurm", "--chunk 4", "--cpus 2")
    # Before anything is submitted: stage 1 cannot have ended.
    run("basislab work plan.jsonl --stage 2 --shard 0/1 --quiet", place, env, code=6)
    check("stages: work on stage 2 before stage 1 has ended ends with 6", ended(place, "chosen") == 0)
    first, second, collect = submitted(place, env)
    for what, one, other in [("the second waits for the first", f"{second}_0", first), ("collect waits for the second", collect, second)]:
        waits = job(env, one)
        check(f"stages: {what}", waits["Dependency"].startswith(f"afterany:{other}_"), waits)
    wait_for(env, collect)
    check("stages: collect ends well", job(env, collect)["ExitCode"] == "0:0", job(env, collect))
    same_tables(place, "chosen", reference / "chosen")


def slurm(folder, env, reference):
    (folder / "slurm").mkdir()
    with services.slurm(folder / "slurm", env) as inside:
        part("Slurm: the page", page, workplace(folder, "slurm page"), inside, reference, "Slurm")
        part("Slurm: requeue and cancel", requeue_and_cancel, workplace(folder, "requeue"), inside, reference)
        part("Slurm: two arrays", two_arrays, workplace(folder, "two arrays"), inside, reference)
        part("Slurm: two stages", second_stage, workplace(folder, "stages"), inside, reference)


# HyperQueue


def programs(place):
    """Processes of `basislab work` in a folder."""
    found = []
    for entry in pathlib.Path("/proc").iterdir():
        try:
            words = (entry / "cmdline").read_bytes().split(b"\0")
            if b"work" in words[1:2] and (entry / "cwd").resolve() == place.resolve():
                found.append(int(entry.name))
        except (OSError, ValueError):
            pass
    return found


def stopped_and_killed(place, env, reference):
    """Within a task: one program is told to stop, another one is killed."""
    planned(place, env, "twelve-runs", "hq", "--chunk 3")
    script = subprocess.Popen(["sh", "job.sh"], cwd=place, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    until("two tasks that train", trains(place, "twelve-runs", 2))
    stopped, killed = programs(place)[:2]
    os.kill(stopped, signal.SIGUSR1)
    os.kill(killed, signal.SIGKILL)
    printed, _ = script.communicate(timeout=120)
    check("hq: the script ends with the code of collect, 6", script.returncode == 6, f"{script.returncode}: {printed}")
    logs = {log.name: log.read_text() for log in place.glob("runs/hq-*.log")}
    check("hq: four tasks have logs", len(logs) == 4, logs)
    check("hq: a task that was stopped went on", [log.find("resuming from step") > log.find("stopped after step") > 0 for log in logs.values()].count(True) == 1, logs)
    missing = 12 - ended(place, "twelve-runs")
    check("hq: runs of the killed task alone are missing", 1 <= missing <= 3, missing)
    run("basislab work plan.jsonl --claim --jobs 1 --quiet", place, env)
    check("hq: another worker takes them", ended(place, "twelve-runs") == 12)
    run("basislab collect plan.jsonl --quiet", place, env)
    same_tables(place, "twelve-runs", reference / "twelve-runs")


def whole(place, env, reference, engine, name, *options):
    """A plan from the script's begin to its end."""
    planned(place, env, name, engine, *options)
    run("sh job.sh", place, env)
    same_tables(place, name, reference / name)


def hyperqueue(folder, env, reference):
    (folder / "hq").mkdir()
    with services.hyperqueue(folder / "hq", env) as inside:
        part("HyperQueue: the page", page, workplace(folder, "hq page"), inside, reference, "HyperQueue")
        part("HyperQueue: stopped and killed", stopped_and_killed, workplace(folder, "hq"), inside, reference)
        part("HyperQueue: two stages", whole, workplace(folder, "hq stages"), inside, reference, "hq", "chosen", "--time 0:10:00")


# Without a scheduler


def claims(place, env, reference):
    """Two workers without an engine, of which one is killed."""
    run("basislab plan twelve-runs.toml > plan.jsonl", place, env)
    command = ["basislab", "work", "plan.jsonl", "--claim", "--jobs", "1", "--threads", "1", "--quiet"]
    killed, other = (subprocess.Popen(command, cwd=place, env=env, stderr=subprocess.DEVNULL) for _ in range(2))
    until("two workers that train", trains(place, "twelve-runs", 2))
    killed.kill()
    killed.wait()
    check("claim: the worker that is left ends with 0", other.wait(120) == 0, other.returncode)
    check("claim: it took the runs of the one that was killed", ended(place, "twelve-runs") == 12)
    run("basislab collect plan.jsonl --quiet", place, env)
    same_tables(place, "twelve-runs", reference / "twelve-runs")


def kubernetes(place, env):
    """No cluster: the facts of the Jobs, as YAML has them."""
    run("basislab plan chosen.toml > plan.jsonl", place, env)
    printed = run("basislab plan script k8s plan.jsonl --image registry/basislab:1 --volume-claim shared --chunk 4 --cpus 2", place, env)
    first, second, collect = yaml.safe_load_all(printed)
    check("k8s: names", [one["metadata"]["name"] for one in (first, second, collect)] == [f"basislab-plan-{end}" for end in ("stage-1", "stage-2", "collect")])
    check("k8s: later jobs wait", [one["spec"].get("suspend") for one in (first, second, collect)] == [False, True, True])
    lines = [json.loads(line) for line in (place / "plan.jsonl").read_text().splitlines()]
    for stage, one in enumerate([first, second], 1):
        spec = one["spec"]
        runs = sum(line["stage"] == stage for line in lines)
        check(f"k8s: stage {stage}: an index for every task", spec["completions"] == spec["parallelism"] == -(-runs // 4) and spec["completionMode"] == "Indexed", spec)
        check(f"k8s: stage {stage}: one pod at a time", spec["podReplacementPolicy"] == "Failed" and spec["backoffLimitPerIndex"] == 3)
        rules = spec["podFailurePolicy"]["rules"]
        codes = {rule["action"]: rule["onExitCodes"]["values"] for rule in rules if "onExitCodes" in rule}
        check(f"k8s: stage {stage}: what is tried again", codes == {"Ignore": [6, 75], "FailIndex": [2, 3, 4, 5, 7, 8, 9]}, codes)
        check(f"k8s: stage {stage}: evictions are no failures", rules[0] == {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget"}]})
        pod = spec["template"]["spec"]
        (container,) = pod["containers"]
        check(f"k8s: stage {stage}: rules name the container", {rule["onExitCodes"]["containerName"] for rule in rules[1:]} == {container["name"]})
        check(f"k8s: stage {stage}: no restart in the pod", pod["restartPolicy"] == "Never" and pod["terminationGracePeriodSeconds"] == 120)
        claim = pod["volumes"][0]["persistentVolumeClaim"]["claimName"]
        check(f"k8s: stage {stage}: volume, image, CPUs", (claim, container["image"], container["resources"]["requests"]["cpu"]) == ("shared", "registry/basislab:1", 2))
        # The command itself, by the shell.
        command = [word.replace("$$", "$") for word in container["command"]]
        with_index = dict(env, JOB_COMPLETION_INDEX="0")
        run(command, place, with_index)
        if spec["completions"] == 1:
            check(f"k8s: stage {stage}: its command trains its share", ended(place, "chosen") == len(lines))
        else:
            for index in range(1, spec["completions"]):
                run(command, place, dict(env, JOB_COMPLETION_INDEX=str(index)))
            check(f"k8s: stage {stage}: its commands train its runs", ended(place, "chosen") == runs)
    run(collect["spec"]["template"]["spec"]["containers"][0]["command"], place, env)
    check("k8s: collect", (directory(place, "chosen") / "verdicts.csv").is_file())


def main(binary):
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))
    begun = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="basislab-engines-") as made:
        folder = pathlib.Path(made).resolve()
        (folder / "bin").mkdir()
        (folder / "bin/basislab").symlink_to(pathlib.Path(binary).resolve())
        env = dict(os.environ, PATH=f"{folder / 'bin'}:{services.PATH}")
        env[services.MARK] = str(folder)
        try:
            place = workplace(folder, "one process")
            by_one_process(place, env)
            reference = place / "reference"
            slurm(folder, env, reference)
            hyperqueue(folder, env, reference)
            part("GNU parallel: the page", page, workplace(folder, "parallel page"), env, reference, "One machine")
            part("GNU parallel: one stage", whole, workplace(folder, "parallel"), env, reference, "parallel", "twelve-runs", "--chunk 2")
            part("GNU parallel: two stages", whole, workplace(folder, "parallel stages"), env, reference, "parallel", "chosen", "--cpus 2")
            part("claims", claims, workplace(folder, "claims"), env, reference)
            part("Kubernetes", kubernetes, workplace(folder, "k8s"), env)
        finally:
            left = services.marked(folder)
            for process, _ in left:
                os.kill(process, signal.SIGKILL)
        part("processes", lambda: check("no process is left", not left, left))
    print(f"engines: {time.monotonic() - begun:.0f} s")
    for failure in failures:
        print(f"FAILED: {failure.splitlines()[0]}")
    print(f"test result: {'FAILED' if failures else 'ok'}. {passed} passed; {len(failures)} failed; 0 ignored")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
