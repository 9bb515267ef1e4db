#!/usr/bin/env bash
# A real Ray cluster on one machine, for tests and for trying things: a head and two workers with logical CPUs and GPUs,
# with all its files in one folder.
#
#   ray.sh start               start it; prints `export RAY_ADDRESS=...`, with which `flipscale submit --on ray` finds it
#   ray.sh stop                end its processes; the folder stays
#   ray.sh run                 start it, and stop it at the end of standard input: by Ctrl-D, or when the caller dies
#   ray.sh env                 print the export line alone
#   ray.sh status              print its nodes; exit code 1 if it is not running
#   ray.sh check               exit code 0 if this machine can run it, 3 and the reason if not
#   ray.sh kill-node w1        a machine crashes: all processes of the node are killed at once, training included
#   ray.sh start-node w1       and comes back, as a new node
#
# Settings, as environment variables. Every command reads them:
#
#   FLIPSCALE_RAY=.cluster/ray  the folder, below the working directory by default
#   PORT=21379          the ports PORT to PORT+5 are used, PORT+1 by the dashboard and the Jobs API. A second cluster needs others
#   CPUS=4 GPUS=4       of each worker: not what the machine has, but what Ray is told. The head has none
#   WORKERS="w1 w2"     which workers start
#   PYTHON=             the Python that Ray is installed in; .venv/bin/python here, or python3
#
# All nodes are at 127.0.0.1 and differ by name, since Ray listens on every interface for any other address.
# Other Ray clusters of the machine are not touched: processes are found by a word in their environment.

set -euo pipefail
export LC_ALL=C
# Called by a process that it has started, it would count itself as one of its nodes.
[[ -z ${FLIPSCALE_RAY_NODE:-} ]] || exec env -u FLIPSCALE_RAY_NODE "$0" "$@"

trap : PIPE # whoever reads what we say may be gone, but we go on to stop what we started
here=$(cd "$(dirname "$0")/../.." && pwd)
folder=$(realpath -m "${FLIPSCALE_RAY:-$PWD/.cluster/ray}")
port=${PORT:-21379}
python=${PYTHON:-$here/.venv/bin/python}
[[ -x $python ]] || python=$(command -v python3 || true)
dashboard=127.0.0.1:$((port + 1))

main() {
    case ${1:-} in
        env) echo "export RAY_ADDRESS=http://$dashboard" ;;
        status) status ;;
        check) check ;;
        start) check && start ;;
        run) check && run ;;
        stop) stop && echo "nothing of it runs in $folder" >&2 ;;
        kill-node) kill_node "${2:?which node: w1 or w2}" ;;
        start-node) start_again "${2:?which node: w1 or w2}" ;;
        *) sed -n '2,/^$/s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
    esac
}

check() {
    [[ -d /proc/self ]] || { echo "it needs Linux's /proc and loopback addresses" >&2; return 3; }
    # Found, not imported: importing takes seconds, and `ray start` does it soon enough. The last three come with
    # ray[default,tune].
    [[ -n $python ]] && "$python" -c '
from importlib.util import find_spec
raise SystemExit(not all(map(find_spec, ["ray", "aiohttp", "pandas", "pyarrow"])))' 2>/dev/null || {
        echo "no Ray in ${python:-any Python}; pip install 'ray[default,tune]'" >&2
        return 3
    }
}

# The processes of a node, or without a name of all nodes, whoever their parents are by now. Ray writes the titles of
# some over their environment; those are children of its raylet.
pids_of() {
    local file
    for file in $(grep -lz "^FLIPSCALE_RAY_NODE=$folder/${1:-}" /proc/[0-9]*/environ 2>/dev/null); do
        file=${file#/proc/}
        echo "${file%/environ}"
        cat "/proc/${file%/environ}"/task/*/children 2>/dev/null | tr ' ' '\n' || true
    done | sort -un | sed '/^0*$/d'
}

ray_start() { # NAME ARGUMENT...
    local name=$1
    shift
    mkdir -p "$folder/log"
    local no_agent=$here/tests/clusters/no_agent.py
    [[ $name != head ]] || no_agent=
    # No usage statistics, no token, no search for other clusters, and a dead machine is noticed in seconds. Worker ports
    # of 0 are free ones: nodes that share an address would otherwise hand out the same.
    FLIPSCALE_RAY_NODE=$folder/$name/ NO_AGENT=$no_agent RAY_ADDRESS='' RAY_USAGE_STATS_ENABLED=0 RAY_AUTH_MODE=disabled \
        PYTHONPATH=$here${PYTHONPATH:+:$PYTHONPATH} \
        RAY_health_check_period_ms=1000 RAY_health_check_timeout_ms=1000 RAY_health_check_failure_threshold=3 \
        RAY_DISABLE_IMPORT_WARNING=1 RAY_enable_metrics_collection=0 RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER=0 \
        setsid "$python" -m tests.clusters.ray_start start "$@" --node-name="$name" --node-ip-address=127.0.0.1 \
        --min-worker-port=0 --max-worker-port=0 --include-log-monitor=false --disable-usage-stats \
        --object-store-memory=100000000 </dev/null >"$folder/log/$name.log" 2>&1 || {
        echo "$name did not come up; look into $folder/log/$name.log" >&2
        return 1
    }
}

start_node() {
    case $1 in
        head)
            ray_start head --head --port="$port" --num-cpus=0 --num-gpus=0 --temp-dir="$folder/tmp" \
                --dashboard-host=127.0.0.1 --dashboard-port="$((port + 1))" --include-dashboard=true --no-monitor \
                --ray-client-server-port="$((port + 2))" --dashboard-agent-listen-port="$((port + 3))" ;;
        w1 | w2)
            ray_start "$1" --address="127.0.0.1:$port" --num-cpus="${CPUS:-4}" --num-gpus="${GPUS:-4}" \
                --dashboard-agent-listen-port="$((port + ${1#w} + 3))" ;;
        *) echo "there is no node $1; there are w1 and w2" >&2; return 2 ;;
    esac
}

# A raylet that starts now and then does not register with the head, and waits for ever: another one does.
start_again() {
    for _ in 1 2 3; do
        start_node "$1" || return
        nodes_alive 200 3 >/dev/null && return
        kill_all "$1/"
    done
    echo "$1 did not come up in 10 minutes; look into $folder/log and $folder/tmp" >&2
    return 1
}

kill_node() {
    [[ $1 == w1 || $1 == w2 ]] || { echo "there is no node $1; there are w1 and w2" >&2; return 2; }
    kill_all "$1/"
}

kill_all() {
    local pids all=
    # Frozen first, until no new ones come, so that none sees another die.
    while pids=$(pids_of "$1") && [[ $pids != "$all" ]]; do
        # shellcheck disable=SC2086  # several words
        kill -STOP $pids 2>/dev/null || true
        all=$pids
    done
    while [[ -n $pids ]]; do
        # shellcheck disable=SC2086
        kill -KILL $pids 2>/dev/null || true
        sleep 0.1
        pids=$(pids_of "$1")
    done
}

nodes_alive() { # SECONDS NODES: wait at most SECONDS until NODES nodes are alive, in one process that polls
    "$python" - "http://$dashboard" "${1:-0}" "${2:-0}" <<'PYTHON'
import json, sys, time, urllib.request
until = time.monotonic() + float(sys.argv[2])
while True:
    try:
        with urllib.request.urlopen(f"{sys.argv[1]}/nodes?view=summary", timeout=5) as answer:
            nodes = json.load(answer)["data"]["summary"]
    except Exception:  # while it comes up, it may answer with anything
        nodes = None
    # A node that died before its agent reported has no state.
    states = [(node["raylet"].get("state", "?"), node["raylet"].get("nodeName", "?")) for node in nodes or ()]
    enough = nodes is not None and sum(state == "ALIVE" for state, _ in states) >= int(sys.argv[3])
    if enough or time.monotonic() > until:
        break
    time.sleep(0.3)
for state in states:
    print(*state)
raise SystemExit(not enough)
PYTHON
}

wait_for_nodes() { # WORKERS: wait until this many workers and the head are alive
    nodes_alive 600 $(($1 + 1)) >/dev/null || {
        echo "the nodes did not come up in 10 minutes; look into $folder/log and $folder/tmp" >&2
        return 1
    }
}

start_workers() {
    local name number=0
    for name in ${WORKERS-w1 w2}; do
        start_node "$name" || return
        number=$((number + 1))
    done
    wait_for_nodes "$number"
}

start() {
    if [[ -n $(pids_of) ]]; then
        echo "it runs already" >&2
    else
        mkdir -p "$folder"
        # On a busy machine a raylet may give up on its agents. All of it starts again, as the head may be without one.
        for again in yes yes no; do
            rm -rf "$folder/tmp"
            # One after the other: two that start at once on one machine may wait for each other until they give up.
            start_node head && start_workers && break
            stop
            [[ $again == yes ]] || return 1
        done
    fi
    main env
}

stop() {
    kill_all ''
}

run() {
    trap stop EXIT
    trap 'exit 1' INT TERM HUP
    start
    read -r _ || true
}

status() {
    [[ -n $(pids_of head/) ]] || { echo "it is not running in $folder"; return 1; }
    main env
    nodes_alive
}

main "$@"
