"""A hall of 64 nodes of eight A100 and 1 TB that only a controller believes in: it says what it would start, and where.

Nothing runs there. Nodes of a cloud that are switched off count as idle, so no slurmd is needed.
"""

import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from types import TracebackType

from tests.clusters.slurm import SlurmCluster, free_ports
from tests.patience import wait_until

CONFIGURATION = """
ClusterName=hall
SlurmctldHost=localhost(127.0.0.1)
SlurmUser=root
{trust}
SlurmctldPort={port}
SlurmdPort={next_port}
StateSaveLocation={folder}/state
SlurmctldPidFile={folder}/slurmctld.pid
SlurmctldLogFile={folder}/slurmctld.log
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
GresTypes=gpu
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SuspendProgram=/bin/true
ResumeProgram=/bin/true
SuspendTime=INFINITE
SlurmctldParameters=cloud_dns
NodeName=a[1-64] NodeAddr=127.0.1.[1-64] CPUs=128 RealMemory=1000000 Gres=gpu:a100:8 State=CLOUD
PartitionName=gpu Nodes=ALL Default=YES MaxTime=24:00:00
"""

ALONE = "AuthType=auth/slurm\nCredType=auth/slurm"

BESIDE = """
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket={run}/munge.socket
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=127.0.0.1
AccountingStoragePort={port}
AccountingStoragePass={run}/munge.socket
"""


class Hall:
    """With it as a context, a controller answers to the variables in `env`.

    Beside a cluster it is another of the same site: that one's accounting knows it as `hall`.
    """

    def __init__(self, beside: SlurmCluster | None = None) -> None:
        trust = BESIDE.format(run=beside.folder / "run", port=beside.accounting_port) if beside else ALONE
        self.folder = Path(tempfile.mkdtemp(prefix="flipscale-hall-", dir="/tmp"))
        self.env = {"SLURM_CONF": str(self.folder / "slurm.conf")}
        port = free_ports()
        text = CONFIGURATION.format(folder=self.folder, port=port, next_port=port + 1, trust=trust)
        (self.folder / "slurm.conf").write_text(text)
        (self.folder / "slurm.key").write_bytes(os.urandom(1024))
        (self.folder / "slurm.key").chmod(0o600)
        (self.folder / "state").mkdir()

    def __enter__(self) -> "Hall":
        with open(self.folder / "said", "w") as said:
            command = ["slurmctld", "-D", "-f", self.env["SLURM_CONF"]]
            self.controller = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=said, stderr=said)
        wait_until(lambda: "idle" in self._ask("sinfo", "-h", "-o", "%T").stdout, "a controller that answers")
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.controller.terminate()
        self.controller.wait()
        shutil.rmtree(self.folder)

    def refuses(self, script: Path, *options: str) -> str:
        """Why sbatch would not take a script; '' if it would."""
        done = self._ask("sbatch", "--test-only", *options, str(script))
        return done.stderr.strip() if done.returncode else ""

    def _ask(self, *command: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(command, env=os.environ | self.env, capture_output=True, text=True)
