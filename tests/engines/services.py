"""Slurm and HyperQueue on this machine, on loopback, for as long as a `with` block lasts. No systemd, no installed configuration."""
import contextlib
import os
import pathlib
import signal
import socket
import subprocess
import sys
import time

# Every process that is started below has this variable, so that none is left behind unseen.
MARK = "BASISLAB_ENGINES"

# Daemons lie in sbin.
PATH = os.environ["PATH"] + ":/usr/sbin:/sbin"

SLURM_CONF = """\
ClusterName=basislab
SlurmctldHost=localhost
SlurmUser={user}
SlurmdUser={user}
SlurmctldPort={controller}
SlurmdPort={node}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
MpiDefault=none
SwitchType=switch/none
ProctrackType=proctrack/pgid
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerParameters=sched_interval=1,bf_interval=1,batch_sched_delay=0,sched_min_interval=0
ReturnToService=2
MinJobAge=3600
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
NodeName=localhost CPUs={cpus} State=UNKNOWN
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


def until(what, condition, seconds=60):
    """Waits until `condition()` gives something, and gives it back."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := condition():
            return found
        time.sleep(0.1)
    raise TimeoutError(f"{what}: not within {seconds} s")


def marked(folder):
    """Processes that were started here and still are, zombies apart."""
    found = []
    for entry in pathlib.Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            if f"{MARK}={folder}".encode() in (entry / "environ").read_bytes().split(b"\0"):
                found.append((int(entry.name), (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode().strip()))
        except OSError:
            pass
    return found


def free_ports(count):
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


@contextlib.contextmanager
def service(command, log, env):
    """A process in the foreground of which nothing is left afterwards."""
    with open(log, "ab") as output:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=env)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextlib.contextmanager
def slurm(folder, env, cpus=2):
    """A controller and a node; gives the environment in which sbatch finds them."""
    for name in ["state", "spool"]:
        (folder / name).mkdir()
    folder.chmod(0o700)
    (folder / "munge.key").touch(0o600)
    (folder / "munge.key").write_bytes(os.urandom(128))
    controller, node = free_ports(2)
    user = subprocess.run(["id", "-un"], capture_output=True, text=True, check=True).stdout.strip()
    (folder / "slurm.conf").write_text(
        SLURM_CONF.format(folder=folder, user=user, controller=controller, node=node, cpus=cpus)
    )
    env = dict(env, SLURM_CONF=str(folder / "slurm.conf"))
    munged = ["munged", "--foreground", "--force", *(f"--{name}={folder}/munge.{end}" for name, end in [
        ("key-file", "key"), ("socket", "socket"), ("pid-file", "pid"), ("seed-file", "seed"), ("log-file", "log")
    ])]
    with contextlib.ExitStack() as stack:
        stack.enter_context(service(munged, folder / "munged.log", env))
        until("munged", (folder / "munge.socket").exists)
        stack.enter_context(service(["slurmctld", "-D", "-f", folder / "slurm.conf"], folder / "slurmctld.log", env))
        stack.enter_context(
            service(["slurmd", "-D", "-f", folder / "slurm.conf", "-N", "localhost"], folder / "slurmd.log", env)
        )

        def said(*command):
            return subprocess.run(command, env=env, capture_output=True, text=True).stdout.strip()

        try:
            until("an idle node", lambda: said("sinfo", "--noheader", "--format=%T") == "idle")
            yield env
        except BaseException:
            for log in ["slurmctld.log", "slurmd.log"]:
                sys.stderr.write(f"--- {log}\n" + "".join((folder / log).read_text().splitlines(True)[-20:]))
            raise
        finally:
            said("scancel", f"--user={user}")
            with contextlib.suppress(TimeoutError):
                until("an empty queue", lambda: not said("squeue", "--noheader"), 15)


@contextlib.contextmanager
def hyperqueue(folder, env, cpus=2):
    """A server and a worker; gives the environment in which the stand-in `hq` finds them."""
    env = dict(env, HQ_SERVER_DIR=str(folder))
    here = pathlib.Path(__file__).resolve()
    env["PATH"] = f"{here.parent / 'bin'}:{pathlib.Path(sys.executable).parent}:{env['PATH']}"
    log = folder / "server.log"
    with service([sys.executable, here, "hyperqueue", folder, str(cpus)], log, env) as server:
        until("HyperQueue", lambda: (folder / "started").exists() or server.poll() is not None)
        if server.poll() is not None:
            raise OSError(f"HyperQueue ended: {log.read_text()}")
        yield env


def serve_hyperqueue(folder, cpus):
    """Server and worker are threads of this process until it gets TERM."""
    from hyperqueue.cluster import LocalCluster, WorkerConfig

    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
    with LocalCluster(str(folder), WorkerConfig(cores=cpus)):
        (folder / "started").touch()
        signal.sigwait([signal.SIGTERM])


if __name__ == "__main__":
    serve_hyperqueue(pathlib.Path(sys.argv[2]), int(sys.argv[3]))
