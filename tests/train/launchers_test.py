#!/usr/bin/env python3
"""krait train under the mpirun of Open MPI and of MPICH and in jobs of Slurm, real ones: the curve of krait's own
processes, to the bit, with a rank killed on the way; a Slurm job that is told that its time is up comes again and ends.
Slurm's daemons are started here, for one node and on loopback, which takes root; what is not installed is skipped.

usage: launchers_test.py KRAIT_BINARY [ONE_TEST]
"""
import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

import processes_test

RANKS = 2
JOB = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../examples/train/slurm_job.sh")

SLURM = """
ClusterName=krait
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller}
SlurmdPort={daemon}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={root}/munge.socket
StateSaveLocation={root}/state
SlurmdSpoolDir={root}/spool
SlurmctldPidFile={root}/slurmctld.pid
SlurmdPidFile={root}/slurmd.pid
SlurmctldLogFile={root}/slurmctld.log
SlurmdLogFile={root}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerType=sched/builtin
ReturnToService=2
KillWait=5
NodeName={host} NodeAddr=127.0.0.1 CPUs={cores} State=UNKNOWN
PartitionName=all Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""


def expected_curve(binary, root, steps):
    run = processes_test.Run(binary, root, f"expected_{steps}", steps)
    status, _, err = run.finish("--processes", str(RANKS), "--threads", "1")
    assert status == 0, err
    return run.entries("loss")


def kill_a_rank(run, variable):
    deadline = time.monotonic() + 60
    while len(ranks := run.ranks(variable)) < RANKS:
        assert time.monotonic() < deadline, f"ranks {sorted(ranks)} of {RANKS}"
        time.sleep(0.02)
    os.kill(ranks[1], signal.SIGKILL)


MPI = (("mpirun.openmpi", ["--oversubscribe"], "OMPI_COMM_WORLD_RANK"), ("mpirun.mpich", [], "PMI_RANK"))


def under_mpirun(binary, root):
    expected = None
    for name, options, variable in MPI:
        mpirun = shutil.which(name)
        if mpirun is None:
            print(f"skipped: {name} is not installed")
            continue
        expected = expected or expected_curve(binary, root, 200)
        run = processes_test.Run(binary, root, name, 200)
        how = {"before": [mpirun, *options, "-n", str(RANKS)], "OMPI_ALLOW_RUN_AS_ROOT": 1,
               "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": 1}
        arguments = ["--resume", "--threads", "1"]
        process = run.start(*arguments, **how)
        run.wait_for_checkpoint(process)
        kill_a_rank(run, variable)
        process.communicate(timeout=120)
        assert process.returncode != 0, f"{name} is content though a rank was killed"
        status, _, err = run.finish(*arguments, **how)
        assert status == 0, err
        assert run.entries("loss") == expected, f"another curve than without {name}"
        print(f"ok under {name}, killed and told to go on")


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


@contextlib.contextmanager
def slurm(root):
    """Slurm's daemons for this machine alone. Gives the environment in which its commands find them."""
    host = socket.gethostname().split(".")[0]
    for folder in ("state", "spool"):
        os.mkdir(os.path.join(root, folder))
    config = os.path.join(root, "slurm.conf")
    with open(config, "w", encoding="utf-8") as file:
        file.write(SLURM.format(host=host, root=root, controller=free_port(), daemon=free_port(),
                                cores=len(os.sched_getaffinity(0))))
    key = os.path.join(root, "munge.key")
    with open(os.open(key, os.O_WRONLY | os.O_CREAT, 0o400), "wb") as file:
        file.write(os.urandom(1024))
    environment = processes_test.environment(SLURM_CONF=config)
    started = []
    try:
        for command in (["munged", "--foreground", "--force", f"--key-file={key}", f"--socket={root}/munge.socket",
                         f"--pid-file={root}/munge.pid", f"--log-file={root}/munge.log", f"--seed-file={root}/munge.seed"],
                        ["slurmctld", "-D"], ["slurmd", "-D"]):
            log = os.path.join(root, command[0] + ".said")
            with open(log, "wb") as said:
                started.append((command[0], log, subprocess.Popen(command, env=environment, stdout=said, stderr=said)))
            if command[0] == "munged":
                wait_until(lambda: os.path.exists(f"{root}/munge.socket"), "munged", started)
        wait_until(lambda: "idle" in asked(["sinfo", "-h", "-o", "%t"], environment), "an idle node", started)
        yield environment
    finally:
        for _, _, process in reversed(started):
            process.terminate()
        for _, _, process in started:
            try:
                process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                process.kill()


def asked(command, environment):
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=60).stdout


def wait_until(true, what, started, seconds=60):
    deadline = time.monotonic() + seconds
    while not true():
        for name, log, process in started:
            with open(log, encoding="utf-8", errors="replace") as file:
                assert process.poll() is None, f"{name} ended with {process.returncode}: {file.read()}"
        assert time.monotonic() < deadline, f"{what}: not within {seconds} s"
        time.sleep(0.1)


class SlurmJob:
    """examples/train/slurm_job.sh of a run, with as many tasks on this one node."""

    def __init__(self, run, root, environment):
        self.run, self.environment = run, environment
        self.output = os.path.join(root, os.path.basename(run.folder) + ".out")
        # The script says krait, as its user would.
        path = os.path.dirname(run.binary) + os.pathsep + environment["PATH"]
        words = subprocess.run(
            ["sbatch", "--parsable", "--nodes=1", f"--ntasks-per-node={RANKS}", "--cpus-per-task=1", "--overcommit",
             f"--chdir={root}", f"--output={self.output}", JOB, run.config],
            env={**environment, "PATH": path}, capture_output=True, text=True, check=False)
        assert words.returncode == 0, words.stderr
        self.number = words.stdout.strip()

    def state(self):
        told = asked(["scontrol", "show", "job", self.number], self.environment)
        found = re.search(r"JobState=(\w+)", told)
        return found[1] if found else told

    def said(self):
        with contextlib.suppress(FileNotFoundError), open(self.output, encoding="utf-8") as file:
            return file.read()
        return "nothing"

    def has_steps(self):
        """Whether Slurm still has processes for it on this node."""
        for entry in filter(str.isdigit, os.listdir("/proc")):
            with contextlib.suppress(OSError), open(f"/proc/{entry}/cmdline", "rb") as file:
                if file.read().startswith(f"slurmstepd: [{self.number}.".encode()):
                    return True
        return False

    def wait(self, true, what, seconds=120):
        deadline = time.monotonic() + seconds
        while not true():
            assert time.monotonic() < deadline and self.state() not in ("FAILED", "CANCELLED"), (
                f"{what}: the job is {self.state()} and said {self.said()}")
            time.sleep(0.1)


def in_slurm(binary, root):
    missing = [name for name in ("munged", "slurmctld", "slurmd", "srun", "sbatch", "scancel") if not shutil.which(name)]
    if missing or os.geteuid() != 0:
        print(f"skipped: {', '.join(missing) or 'root'} for Slurm's daemons is missing")
        return
    expected = expected_curve(binary, root, 200)
    with slurm(root) as environment:
        killed = SlurmJob(processes_test.Run(binary, root, "killed", 200), root, environment)
        killed.wait(killed.run.committed, "a checkpoint")
        kill_a_rank(killed.run, "SLURM_PROCID")
        killed.wait(lambda: killed.state() == "COMPLETED", "the job's end")
        assert killed.run.entries("loss") == expected, "another curve than without Slurm"
        print("ok in a Slurm job, a rank killed and the step started again by the job's script")

        # Two minutes before the job's time is up Slurm sends this; here it comes at once.
        late = SlurmJob(processes_test.Run(binary, root, "late", 200), root, environment)
        late.wait(late.run.committed, "a checkpoint")
        assert not asked(["scancel", "--batch", "--signal=USR1", late.number], environment)
        late.wait(lambda: late.state() == "PENDING", "the job to be in the queue again")
        stopped = len(late.run.entries("loss"))
        assert 0 < stopped < 200, f"{stopped} steps of 200 when the job went back into the queue"
        # A job that comes again waits for two minutes, unless it is told to start. What was left of it on the node has
        # ended by then.
        late.wait(lambda: "idle" in asked(["sinfo", "-h", "-o", "%t"], environment) and not late.has_steps(), "an idle node")
        asked(["scontrol", "update", f"JobId={late.number}", "StartTime=now"], environment)
        late.wait(lambda: late.state() == "COMPLETED", "the job's end")
        assert late.run.entries("loss") == expected, "another curve than in one go"
        print(f"ok in a Slurm job that was put back into the queue after {stopped} steps")


TESTS = (under_mpirun, in_slurm)


def main(binary, only=None):
    for test in TESTS:
        if only in (None, test.__name__):
            with tempfile.TemporaryDirectory(prefix="krait_launchers_", ignore_cleanup_errors=True) as root:
                test(os.path.abspath(binary), root)


if __name__ == "__main__":
    main(*sys.argv[1:])
