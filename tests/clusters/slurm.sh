#!/usr/bin/env bash
# A real SLURM cluster on one machine, for tests and for trying things: 4 nodes of 8 CPUs and 4 fake GPUs, accounting,
# with all its files in one folder.
#
#   slurm.sh start               start it; prints `export SLURM_CONF=...`, with which sbatch, squeue ... talk to it
#   slurm.sh stop                end its jobs and daemons; the folder stays, with the job history, for the next start
#   slurm.sh run                 start it, and stop it at the end of standard input: by Ctrl-D, or when the caller dies
#   slurm.sh env                 print the export line alone
#   slurm.sh status              print how it is set up and its nodes; exit code 1 if it is not running
#   slurm.sh check               exit code 0 if this machine can run it, 3 and the reason if not
#   slurm.sh kill-node n2        a node crashes: kill -9 of its slurmd. Its jobs live on, as on a node that is cut off
#   slurm.sh start-node n2       and comes back
#   slurm.sh kill-controller     the head node goes away: nothing can be asked or submitted, jobs run on
#   slurm.sh start-controller    and comes back
#   slurm.sh restart-controller  both
#
# Settings, as environment variables. Every command reads the first, start and run read all:
#
#   FLIPSCALE_SLURM=.cluster/slurm  the folder, below the working directory by default
#   BASEPORT=16800      the ports from BASEPORT+16 to BASEPORT+20+NODES are used. A second cluster needs others
#   DBPORT=16816        the database's port; BASEPORT+16 by default
#   NODES=4             they are called n1, n2, ...
#   CPUS=8 MEM=6000 GPUS=4  of each node, MEM in MB: not what the machine has, but what SLURM is told
#   ACCOUNTING=1        0: no database and no slurmdbd, so sacct does not work, as on some real clusters
#   CGROUP=auto         1: memory limits by cgroup v1, the kernel kills. 0: SLURM looks every 2 s and kills. auto: 1 if
#                       /sys/fs/cgroup/memory is a v1 hierarchy that can be written
#   SLURMD_TIMEOUT=8    seconds without an answer until a node is DOWN; that is 12 to 18 s after kill-node
#   CRED_EXPIRE=5       seconds that a requeued job waits at least
#
# It needs root, as slurmd starts jobs as their users. `--nodes=2` works, but the resolver does not know n1 and n2, so
# MASTER_ADDR has to be 127.0.0.1. Other clusters of the machine are not touched.

# shellcheck disable=SC2013,SC2317  # lines of one word each; functions that only wait_until calls
set -euo pipefail
export LC_ALL=C PATH=$PATH:/usr/sbin:/sbin

trap : PIPE # the reader of our output may be gone, and we still have to stop what we started
unset "${!SLURM_@}" # we may be called in a job, or by someone who uses another cluster
folder=$(realpath -m "${FLIPSCALE_SLURM:-$PWD/.cluster/slurm}")
export SLURM_CONF=$folder/etc/slurm.conf # for the daemons, and for every command of SLURM that is called below
base_port=${BASEPORT:-16800}
db_port=${DBPORT:-$((base_port + 16))}
nodes=${NODES:-4}
good='idle|mix|alloc|comp' # states of a node, as sinfo %t shows them; `idle*` does not answer
accounting=${ACCOUNTING:-1}

main() {
    case ${1:-} in
        env) echo "export SLURM_CONF=$SLURM_CONF" ;;
        status) status ;;
        check) check ;;
        start) check && start ;;
        run) check && run ;;
        stop) as_root && stop && echo "nothing of it runs in $folder" >&2 ;;
        kill-node) is_started && is_node "${2:-}" && kill_node "$2" ;;
        start-node) is_started && is_node "${2:-}" && start_node "$2" ;;
        kill-controller) is_started && kill_controller ;;
        start-controller) is_started && start_controller ;;
        restart-controller) is_started && kill_controller && start_controller ;;
        *) usage ;;
    esac
}

usage() { # the first part of this file's header
    sed -n '2,/^# Settings/p' "$0" | sed '$d; s/^# \{0,1\}//' >&2
    exit 2
}

# ---- start and stop -------------------------------------------------------------------------------------------------

start() {
    if is_up; then
        echo "already running in $folder" >&2
    else
        stop # what a killed start or a crash left behind
        trap 'echo "start was broken off, stopping again" >&2; stop' EXIT
        trap 'exit 130' INT TERM HUP
        ports_are_free
        make_folder
        write_configuration
        start_munged
        if [ "$accounting" = 1 ]; then
            start_mariadbd
            start_slurmdbd
        fi
        start_controller
        start_nodes
    fi
    trap - EXIT INT TERM HUP
    echo "export SLURM_CONF=$SLURM_CONF" 2>/dev/null || true # a caller that died meanwhile does not read it
}

run() {
    start
    trap stop EXIT
    trap 'exit 130' INT TERM HUP
    read -r || true # `cat` would hold back the traps until it ends
}

stop() {
    # Jobs first, while there is a controller to record their end. 7 s: they have KillWait=5 between TERM and KILL.
    if running slurmctld >/dev/null && timeout 5 squeue --noheader 2>/dev/null | grep -q .; then
        begin "cancelling jobs"
        timeout 5 squeue --noheader --format=%A | xargs --no-run-if-empty timeout 5 scancel || true
        if wait_until 7 queue_is_empty; then end "done"; else end "some left"; fi
    fi
    if [ -n "$(processes)" ]; then
        begin "stopping"
        # First those that write to the others.
        end_daemons "$folder"/run/slurmd-*.pid "$folder/run/slurmctld.pid"
        end_daemons "$folder/run/slurmdbd.pid"
        end_daemons "$folder/run/mariadbd.pid" "$folder/run/munged.pid"
        # Jobs that a killed node left behind, and daemons whose start was broken off.
        wait_until 60 kill_the_rest || fail "still there: $(processes | tr '\n' ' ')"
        end "all gone"
    fi
    # A cgroup is busy for a moment after its last process.
    wait_until 5 remove_cgroups || echo "cannot remove $(cgroup memory)" >&2
}

is_started() { # though it may lack nodes or its controller
    as_root
    running munged >/dev/null || fail "not running in $folder; type: $0 start"
}

is_up() {
    local states
    running slurmctld >/dev/null && states=$(timeout 5 sinfo -h -N -p main -o %t 2>/dev/null) || return 1
    [ -n "$states" ] && ! grep -qvxE "$good" <<<"$states"
}

status() {
    if ! running slurmctld >/dev/null; then
        echo "not running in $folder"
        return 1
    fi
    echo "folder: $folder"
    echo "memory limit: $(setting "memory limit")"
    echo "accounting: $(setting accounting)"
    echo "ports: $(setting ports)"
    sinfo -N -o '%N %P %T %c CPUs %m MB %G'
}

setting() { # setting NAME: what the configuration says about itself
    sed -n "s/^# $1: //p" "$SLURM_CONF"
}

# ---- what the machine has -------------------------------------------------------------------------------------------

check() {
    as_root
    local needed="munged slurmctld slurmd sbatch squeue sinfo scontrol scancel" missing="" program
    [ "$accounting" != 1 ] || needed="$needed slurmdbd sacct sacctmgr mariadbd mariadb mariadb-admin mariadb-install-db"
    for program in $needed; do
        command -v "$program" >/dev/null || missing="$missing $program"
    done
    [ -z "$missing" ] || cannot "SLURM is not complete, missing:$missing. apt-get install -y --no-install-recommends" \
        "slurm-wlm slurmdbd slurm-wlm-mysql-plugin mariadb-server"
    # SLURM's files cannot quote, and the path of a UNIX socket has 107 characters at most.
    [[ $folder != *[[:space:]]* ]] || cannot "'$folder' has a space in its name; set FLIPSCALE_SLURM to another folder"
    [ ${#folder} -le 75 ] || cannot "'$folder' is longer than 75 characters; set FLIPSCALE_SLURM to another folder"
}

as_root() {
    [ "$(id -u)" = 0 ] || cannot "a SLURM cluster needs root: its daemons start jobs as other users; try it with sudo"
}

cannot() {
    echo "$*" >&2
    exit 3
}

ports_are_free() {
    local port
    for port in "$db_port" $(seq $((base_port + 17)) $((base_port + 20 + nodes))); do
        if (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then
            fail "port $port is another program's; set BASEPORT (now $base_port) to the start of a free range"
        fi
    done
}

can_limit_by_cgroup() { # the kernel's v1 hierarchies are there and may be written
    local hierarchy probe
    for hierarchy in memory freezer; do
        probe=/sys/fs/cgroup/$hierarchy/flipscale-probe-$$
        [ -e "/sys/fs/cgroup/$hierarchy/tasks" ] && mkdir "$probe" 2>/dev/null && rmdir "$probe" || return 1
    done
}

# ---- configuration --------------------------------------------------------------------------------------------------

make_folder() {
    mkdir -p "$folder"/{etc,log,run,state,gpu,spool,cgroup,db}
    chmod 700 "$folder/db" # there is a socket, at which root of the database needs no password
    local number
    for number in $(seq 0 $((${GPUS:-4} - 1))); do
        # A fake GPU has to be a character device, or SLURM drains the node.
        ln -sfn /dev/null "$folder/gpu/gpu$number"
    done
    [ -s "$folder/etc/munge.key" ] || (umask 077 && head -c 1024 /dev/urandom >"$folder/etc/munge.key")
}

write_configuration() {
    local by_cgroup=${CGROUP:-auto} memory memory_settings history history_settings
    if [ "$by_cgroup" = auto ]; then
        if can_limit_by_cgroup; then by_cgroup=1; else by_cgroup=0; fi
    fi
    if [ "$by_cgroup" = 1 ]; then
        memory="cgroup v1 (the kernel kills)"
        memory_settings=$'ProctrackType=proctrack/cgroup\nTaskPlugin=task/cgroup'
        use_cgroup
    else
        memory="OverMemoryKill (SLURM looks every 2 s; no writable cgroup v1, or CGROUP=0)"
        memory_settings=$'ProctrackType=proctrack/linuxproc\nTaskPlugin=task/none\nJobAcctGatherParams=OverMemoryKill'
        echo "CgroupPlugin=disabled" >"$folder/etc/cgroup.conf"
    fi
    if [ "$accounting" = 1 ]; then
        history="slurmdbd"
        # AccountingStoragePass: for this connection SLURM does not read AuthInfo.
        history_settings="AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=127.0.0.1
AccountingStoragePort=$((base_port + 19))
AccountingStoragePass=$folder/run/munge.socket
AccountingStorageTRES=gres/gpu
AccountingStoreFlags=job_comment,job_extra"
        write_slurmdbd_conf
    else
        history="none (sacct does not work)"
        history_settings="AccountingStorageType=accounting_storage/none"
    fi
    echo "AutoDetect=off
NodeName=n[1-$nodes] Name=gpu File=$folder/gpu/gpu[0-$((${GPUS:-4} - 1))]" >"$folder/etc/gres.conf"
    write_slurm_conf
}

partitions() {
    cat <<END
# main: nobody is preempted. preempt: a job of main pre-empts one of these, 20 s after warning it. preempt0: at once.
# short: time limits that a test can wait for, in minutes. SLURM looks every 30 s, so jobs end up to that much later.
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE DefaultTime=10 PriorityTier=10 PreemptMode=OFF
PartitionName=preempt Nodes=ALL MaxTime=INFINITE DefaultTime=10 PriorityTier=1 PreemptMode=REQUEUE GraceTime=20
PartitionName=preempt0 Nodes=ALL MaxTime=INFINITE DefaultTime=10 PriorityTier=1 PreemptMode=REQUEUE GraceTime=0
PartitionName=short Nodes=ALL MaxTime=2 DefaultTime=1 OverTimeLimit=0 PriorityTier=10 PreemptMode=OFF
END
}

write_slurm_conf() {
    local host
    host=$(hostname -s)
    cat >"$SLURM_CONF" <<END
# Written by slurm.sh start.
# memory limit: $memory
# accounting: $history
# ports: controller $((base_port + 17)), nodes from $((base_port + 21))

ClusterName=flipscale
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=$((base_port + 17))
SlurmUser=root
SlurmdUser=root
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool/%n
SlurmctldPidFile=$folder/run/slurmctld.pid
SlurmdPidFile=$folder/run/slurmd-%n.pid
SlurmctldLogFile=$folder/log/slurmctld.log
SlurmdLogFile=$folder/log/slurmd-%n.log
MailProg=/bin/true

# munge with a socket of its own. auth/slurm would need no munged, but its clients ask at /run/slurm/sack.socket,
# whatever SLURM_CONF says: there listens the cluster that was started last, and others refuse their own users.
# cred_expire: a requeued job waits that long (default 120 s).
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket=$folder/run/munge.socket,cred_expire=${CRED_EXPIRE:-5}

# Several slurmd on one host: each node has a port of its own, and SLURM believes what is written here of its size.
NodeName=n[1-$nodes] NodeHostname=$host NodeAddr=127.0.0.1 Port=[$((base_port + 21))-$((base_port + 20 + nodes))] \
    CPUs=${CPUS:-8} RealMemory=${MEM:-6000} Gres=gpu:${GPUS:-4}
SlurmdParameters=config_overrides
GresTypes=gpu
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
DefMemPerCPU=200

$(partitions)
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
# A job that asked for a signal before its time limit gets the same one when it is pre-empted.
PreemptParameters=send_user_signal
JobRequeue=1

# Look for work every second and not every minute, and at once after a submission: jobs start in 0.3 to 0.9 s.
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=1,bf_interval=1,sched_min_interval=10000,batch_sched_delay=0

# A node that has not answered for SlurmdTimeout (default 300) is DOWN, and good again as soon as it registers. To ask a
# dead one takes up to twice MessageTimeout (default 10), and nobody asks the others meanwhile: at a low SlurmdTimeout
# good nodes go DOWN with it. Seen at MessageTimeout=10 or 5 with 5 s; not at 3 with 8 s, even beside 8 busy loops.
SlurmdTimeout=${SLURMD_TIMEOUT:-8}
MessageTimeout=3
ReturnToService=2
# Seconds between SIGTERM and SIGKILL (default 30).
KillWait=5

# What a job uses is measured every 2 s (default 30).
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=2
$memory_settings

$history_settings
END
}

write_slurmdbd_conf() {
    (umask 077 && cat >"$folder/etc/slurmdbd.conf") <<END
AuthType=auth/munge
AuthInfo=socket=$folder/run/munge.socket
DbdHost=localhost
DbdAddr=127.0.0.1
DbdPort=$((base_port + 19))
SlurmUser=root
LogFile=$folder/log/slurmdbd.log
PidFile=$folder/run/slurmdbd.pid
StorageType=accounting_storage/mysql
StorageHost=127.0.0.1
StoragePort=$db_port
StorageUser=slurm
StoragePass=$(database_password)
StorageLoc=slurm
END
}

database_password() { # the same at each start, known to root only
    sha256sum <"$folder/etc/munge.key" | cut -c1-32
}

# ---- cgroups --------------------------------------------------------------------------------------------------------

# SLURM names a job's cgroup by node and job number, slurm_n1/uid_0/job_1. Two clusters would share it and kill each
# other's jobs. A mount point of our own, whose hierarchies are links to a folder in each real one, keeps them apart.

use_cgroup() {
    local hierarchy
    for hierarchy in memory freezer; do # no cores and devices: those of the nodes are made up
        mkdir -p "$(cgroup "$hierarchy")"
        ln -sfn "$(cgroup "$hierarchy")" "$folder/cgroup/$hierarchy"
    done
    cat >"$folder/etc/cgroup.conf" <<END
CgroupPlugin=cgroup/v1
CgroupMountpoint=$folder/cgroup
ConstrainRAMSpace=yes
END
}

cgroup() { # cgroup HIERARCHY: this cluster's folder in it
    echo "/sys/fs/cgroup/$1/flipscale-slurm-$(cksum <<<"$folder" | cut -d' ' -f1)"
}

remove_cgroups() {
    local hierarchy
    for hierarchy in memory freezer; do
        [ ! -d "$(cgroup "$hierarchy")" ] || find "$(cgroup "$hierarchy")" -depth -type d -exec rmdir {} + || return 1
    done
}

# ---- daemons --------------------------------------------------------------------------------------------------------

# Daemons must not keep the caller's pipes open, or their reader waits forever: each is started with </dev/null >>log.

start_munged() {
    begin "starting munged"
    # --force: below a folder that only root may enter, as a temporary one, it would refuse to start.
    munged --force --socket="$folder/run/munge.socket" --key-file="$folder/etc/munge.key" \
        --pid-file="$folder/run/munged.pid" --seed-file="$folder/state/munged.seed" \
        --log-file="$folder/log/munged.log" </dev/null >>"$folder/log/munged.err" 2>&1 \
        || fail "munged did not start" munged.err munged.log
    wait_until 600 running munged || fail "munged did not come up" munged.err munged.log
    end up
}

start_mariadbd() {
    # MariaDB removes every temporary table in its folder when it starts, also those of another MariaDB.
    mkdir -p "$folder/db-tmp"
    if [ ! -e "$folder/db/ready" ]; then # also after a start that was killed midway
        begin "making a database"
        rm -rf "$folder/db"
        mariadb-install-db --no-defaults --user=root --datadir="$folder/db" --auth-root-authentication-method=normal \
            --tmpdir="$folder/db-tmp" --skip-test-db </dev/null >"$folder/log/mariadb-install.log" 2>&1 \
            || fail "no database" mariadb-install.log
        touch "$folder/db/ready"
        end "done"
    fi
    begin "starting mariadbd"
    # Small, and careless with a crash of the machine. slurmdbd insists on a long lock wait.
    setsid mariadbd --no-defaults --user=root --datadir="$folder/db" --tmpdir="$folder/db-tmp" \
        --socket="$folder/db/socket" --pid-file="$folder/run/mariadbd.pid" --bind-address=127.0.0.1 \
        --port="$db_port" --max-connections=40 \
        --innodb-buffer-pool-size=64M --innodb-log-file-size=32M --innodb-flush-log-at-trx-commit=0 \
        --innodb-lock-wait-timeout=900 --skip-log-bin --performance-schema=OFF \
        </dev/null >>"$folder/log/mariadbd.log" 2>&1 &
    wait_until 600 mariadb-admin --no-defaults -uroot --socket="$folder/db/socket" ping \
        || fail "mariadbd did not come up" mariadbd.log
    mariadb --no-defaults -uroot --socket="$folder/db/socket" >>"$folder/log/mariadb-install.log" 2>&1 <<END
create database if not exists slurm;
create or replace user slurm@'127.0.0.1' identified by '$(database_password)';
create or replace user slurm@localhost identified by '$(database_password)';
grant all on slurm.* to slurm@'127.0.0.1', slurm@localhost;
END
    end up
}

start_slurmdbd() {
    begin "starting slurmdbd"
    slurmdbd </dev/null >>"$folder/log/slurmdbd.err" 2>&1 || fail "slurmdbd did not start" slurmdbd.err slurmdbd.log
    wait_until 600 timeout 5 sacctmgr --noheader show cluster \
        || fail "slurmdbd did not come up" slurmdbd.err slurmdbd.log
    end up
}

start_controller() {
    if running slurmctld >/dev/null; then
        echo "slurmctld is running already" >&2
        return
    fi
    begin "starting slurmctld"
    slurmctld -f "$SLURM_CONF" </dev/null >>"$folder/log/slurmctld.err" 2>&1 \
        || fail "slurmctld did not start" slurmctld.err slurmctld.log
    wait_until 600 controller_answers || fail "slurmctld did not come up" slurmctld.err slurmctld.log
    # After a restart the controller does not know a node for up to a few seconds and gives it no job.
    local path node
    for path in "$folder/spool/n"*; do
        node=$(basename "$path")
        running "slurmd-$node" >/dev/null || continue
        wait_until 600 node_is_back "$node" || fail "$node did not come back" slurmctld.log
    done
    end up
}

controller_answers() { # the first needs only an open port; the second alone would wait a second before it tries again
    running munged >/dev/null || exit 1 # stopped by somebody else while we wait
    timeout 5 scontrol ping | grep -q 'is UP' && timeout 5 squeue --noheader
}

kill_controller() {
    begin "stopping slurmctld"
    # TERM, not KILL: it writes its state every few seconds only, and would forget the newest jobs.
    end_daemons "$folder/run/slurmctld.pid"
    end gone
}

start_nodes() {
    begin "starting $nodes nodes"
    local number
    for number in $(seq "$nodes"); do
        launch_slurmd "n$number"
    done
    wait_until 600 is_up || fail "not all nodes came up" slurmd.err "slurmd-n1.log" slurmctld.log
    end up
}

launch_slurmd() {
    mkdir -p "$folder/spool/$1"
    slurmd -N "$1" -f "$SLURM_CONF" </dev/null >>"$folder/log/slurmd.err" 2>&1 \
        || fail "slurmd of $1 did not start" slurmd.err "slurmd-$1.log"
}

start_node() {
    begin "starting $1"
    running "slurmd-$1" >/dev/null || launch_slurmd "$1"
    wait_until 600 node_is_good "$1" || fail "$1 is $(sinfo -h -n "$1" -p main -o '%T, %E')" slurmd.err "slurmd-$1.log"
    end up
}

node_is_good() {
    running munged >/dev/null || exit 1
    timeout 5 sinfo -h -n "$1" -p main -o %t | grep -qxE "$good"
}

# Also a node that the controller drained: it answers, and a person has to resume it.
node_is_back() {
    node_is_good "$1" || timeout 5 sinfo -h -n "$1" -p main -o %t | grep -qxE 'drain|drng'
}

kill_node() {
    local pid
    pid=$(running "slurmd-$1") || fail "$1 is not running"
    kill -9 "$pid"
    wait_until 10 gone "$pid"
    echo "killed slurmd of $1" >&2
}

is_node() {
    [[ $1 =~ ^n[0-9]+$ && -d $folder/spool/$1 ]] || fail "'$1' is no node; write n1, n2 ... of a cluster in $folder"
}

# ---- processes ------------------------------------------------------------------------------------------------------

ours() { # ours PID: it was started here for this folder; the number in an old pid file may be anyone's
    grep -qszxF "SLURM_CONF=$SLURM_CONF" "/proc/$1/environ"
}

gone() { # or a zombie, which has no environment; in containers nobody may reap it
    ! ours "$1"
}

running() { # running NAME: the process id of a daemon; fails if it does not run
    local pid
    pid=$(cat "$folder/run/$1.pid" 2>/dev/null) && ours "$pid" && echo "$pid"
}

end_daemons() { # end_daemons PID_FILE...: TERM for all, then wait for each
    local file name pid pids=""
    for file in "$@"; do
        name=$(basename "$file" .pid)
        pid=$(running "$name") && kill "$pid" 2>/dev/null && pids="$pids $pid"
    done
    for pid in $pids; do
        wait_until 20 gone "$pid" || kill -9 "$pid"
    done
}

processes() { # daemons and processes of jobs, but not a shell or an editor in which SLURM_CONF is set too
    local pid file
    for pid in $(grep -lszxF "SLURM_CONF=$SLURM_CONF" /proc/[0-9]*/environ | cut -d/ -f3); do
        if grep -qszE '^SLURM_JOB_ID=' "/proc/$pid/environ" \
            || grep -qsxE 'munged|mariadbd|slurmdbd|slurmctld|slurmd' "/proc/$pid/comm"; then
            echo "$pid"
        fi
    done
    # The process above a job's step has no environment to see, but works where the logs are.
    for file in $(grep -lsx slurmstepd /proc/[0-9]*/comm); do
        [ "$(readlink "${file%/comm}/cwd")" != "$folder/log" ] || basename "${file%/comm}"
    done
}

kill_the_rest() {
    local pids
    pids=$(processes)
    [ -n "$pids" ] || return 0
    # shellcheck disable=SC2086  # one word a process
    kill -9 $pids 2>/dev/null || true
    return 1
}

queue_is_empty() {
    [ -z "$(timeout 5 squeue --noheader)" ]
}

# ---- talk -----------------------------------------------------------------------------------------------------------

wait_until() { # wait_until SECONDS COMMAND...: until the command succeeds; fails if it did not in time
    local deadline=$((SECONDS + $1))
    shift
    until "$@" >/dev/null 2>&1; do
        ((SECONDS <= deadline)) || return 1
        sleep 0.05
    done
}

begin() { # begin WORDS, and `end WORD` when it is done: 'starting slurmctld ... up in 0.8 s'
    printf '%s ... ' "$*" >&2 || true
    began=${EPOCHREALTIME/./}
}

end() {
    local tenths=$(((${EPOCHREALTIME/./} - began) / 100000))
    printf '%s in %d.%d s\n' "$*" $((tenths / 10)) $((tenths % 10)) >&2 || true
}

fail() { # fail WHAT [LOG...]: says it, shows the ends of these logs
    printf '%s\n' "$1" >&2
    shift
    local log
    for log in "$@"; do
        printf -- '--- the end of %s\n' "$folder/log/$log" >&2
        tail -n 15 "$folder/log/$log" >&2 2>/dev/null || true
    done
    exit 1
}

main "$@"; exit # on one line, so that this file can be edited while `run` waits
