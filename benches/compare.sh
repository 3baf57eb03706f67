#!/usr/bin/env bash
# Measures Quorate beside etcd and Redis, on this machine, in one run.
#
#   quorate   three node processes (`quorate up`): each put is on the disks of a majority when it is answered and each
#             client has a session, so a put is carried out once; gets are linearizable. Load by `quorate bench --direct`,
#             every connection to the leader, as for etcd
#   etcd      three members with default settings: each put is on the disks of a majority when it is answered; gets are
#             linearizable. Load by `peers etcd`, gRPC over HTTP/2, every connection to the leader: etcd's best case
#   redis     one server, not replicated: `--appendonly yes --appendfsync always`, and no RDB snapshots beside the log.
#             Load by `peers redis`, a connection a client. A yardstick for the disk and the sockets, not an equal
#
# Cases: puts and gets, at each number of clients, over as many connections as clients (at most 64) and over few. A
# closed loop: one request under way per client; keys at random out of those that were written before; 256 random
# bytes a value. One thread makes the load, on this machine, where it takes its share of the processors from the
# system that is measured: the report says how much. Only one system runs at a time, on an empty directory; rounds go
# quorate, etcd, redis, quorate, ... so that what else happens on the machine meets all of them. The report has the
# median of the rounds, least and most.
#
# Needs cargo; etcd and redis-server where they are to be compared (Debian: etcd-server, redis-server): one that is not
# installed is left out. Everything listens on 127.0.0.1 and writes below one directory, which is removed at the end,
# also after Ctrl-C. That directory must be on a disk: syncs to a tmpfs cost nothing.
#
# The report goes to standard output, progress to standard error.
set -euo pipefail
export LC_ALL=C

usage() {
    cat <<'END'
Usage: benches/compare.sh [OPTIONS]

  --seconds S        measure each case for so long [5]
  --warmup S         and run it before for so long, uncounted [1]
  --rounds N         measure everything so often [3]
  --clients "N ..."  numbers of clients ["1 64 512"]
  --few-conns N      connections in the cases with few of them [4]
  --keys N           different keys [100000]
  --only LIST        systems, separated by commas ["quorate,etcd,redis"]
  --dir DIR          keep the data in a new directory below this one, on a disk [$TMPDIR or /tmp]
  --quorate FILE     measure this binary, instead of building one
  --raw FILE         also add every single measurement to this file, one JSON object a line
  --markdown         report for documents
  --json             report for programs
  --help
END
}

seconds=5 warmup=1 rounds=3 clients="1 64 512" few_conns=4 keys=100000 only=quorate,etcd,redis
dir=${TMPDIR:-/tmp} quorate='' raw='' format=text
value_size=256

say() { printf '%s\n' "$*" >&2; }
die() { say "compare.sh: $*"; exit 1; }
wrong() { say "compare.sh: $*"; usage >&2; exit 2; }

number() { # option value
    [[ $2 =~ ^[1-9][0-9]{0,6}$ ]] || wrong "$1 takes a number of at least 1, not '$2'"
}

while (($#)); do
    case $1 in
        --markdown) format=markdown; shift; continue ;;
        --json) format=json; shift; continue ;;
        --help | -h) usage; exit 0 ;;
    esac
    (($# >= 2)) || wrong "unknown option, or one without its value: $1"
    case $1 in
        --seconds) number "$1" "$2"; seconds=$2 ;;
        --warmup) number "$1" "$2"; warmup=$2 ;;
        --rounds) number "$1" "$2"; rounds=$2 ;;
        --clients) clients=$2 ;;
        --few-conns) number "$1" "$2"; few_conns=$2 ;;
        --keys) number "$1" "$2"; keys=$2 ;;
        --only) only=$2 ;;
        --dir) dir=$(realpath -- "$2") ;;
        --quorate) quorate=$(realpath -- "$2") ;;
        --raw) raw=$(realpath -- "$2") ;;
        *) wrong "unknown option: $1" ;;
    esac
    shift 2
done
read -ra clients <<<"$clients"
((${#clients[@]})) || wrong "--clients takes at least one number"
for n in "${clients[@]}"; do number --clients "$n"; done
cd "$(dirname "$0")/.."

# --- What runs, and how it ends ---------------------------------------------------------------------------------------

work=''
servers=() # processes of the system that runs
load=''    # the process that makes the load

alive() { kill -0 "$1" 2>/dev/null; }

stop_servers() {
    ((${#servers[@]})) || return 0
    kill -TERM "${servers[@]}" 2>/dev/null || true
    local pid tries=0
    for pid in "${servers[@]}"; do
        while alive "$pid" && ((tries < 200)); do
            sleep 0.1
            tries=$((tries + 1))
        done
        if alive "$pid"; then
            say "process $pid does not end; killing it"
            kill -KILL "$pid" 2>/dev/null || true
        fi
        wait "$pid" 2>/dev/null || true
    done
    servers=()
}

cleanup() {
    trap '' INT TERM HUP
    if [[ -n $load ]]; then kill -TERM "$load" 2>/dev/null || true; fi
    stop_servers
    if [[ -n $work ]]; then rm -rf -- "$work"; fi
}
trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

# The end of what a server or a load wrote, where something went wrong.
tail_of() {
    local file
    for file in "$@"; do
        [[ -s $file ]] || continue
        say "--- the end of $(basename "$file"):"
        tail -n 8 -- "$file" >&2
    done
}

# Runs a load for at most so many seconds; its output goes to $work/out, its errors to $work/err. In the background, so
# that Ctrl-C is obeyed at once. Sets cpu_s to the processor time it took.
cpu_s=0
run_load() { # seconds command...
    local limit=$1 status=0
    shift
    times >"$work/times-before"
    timeout --kill-after=5 "$limit" "$@" >"$work/out" 2>"$work/err" &
    load=$!
    wait "$load" || status=$?
    load=''
    times >"$work/times-after"
    cpu_s=$(awk 'FNR == 2 { for (i = 1; i <= 2; i++) { split($i, t, /[ms]/); s[NR] += t[1] * 60 + t[2] } }
        END { printf "%.2f", s[4] - s[2] }' "$work/times-before" "$work/times-after")
    return "$status"
}

# --- The systems: each has start_X, fill_X and load_X -----------------------------------------------------------------

take_ports() { # count; sets ports
    mapfile -t ports < <("$peers" ports "$1")
    ((${#ports[@]} == $1)) || die "no free ports"
}

start_quorate() {
    take_ports 3
    local id
    {
        printf '[cluster]\nid = "compare"\n'
        for id in 1 2 3; do
            printf '\n[[cluster.nodes]]\nid = %d\naddress = "127.0.0.1:%d"\n' "$id" "${ports[id - 1]}"
        done
    } >"$work/quorate.toml"
    "$quorate" up --config "$work/quorate.toml" --data "$work/data" --json \
        >"$work/quorate.ready" 2>"$work/quorate.log" &
    servers=($!)
    local tries=0
    until [[ -s $work/quorate.ready ]]; do
        alive "${servers[0]}" && ((tries++ < 400)) || return 1
        sleep 0.1
    done
}

# Reads write every key before, as a side effect here.
fill_quorate() {
    run_load 180 "$quorate" bench get --config "$work/quorate.toml" --json --clients 64 --seconds 1 --warmup 0 \
        --keys "$keys" --value-size "$value_size"
}

load_quorate() { # op clients conns
    run_load $((warmup + seconds + 30)) "$quorate" bench "$1" --config "$work/quorate.toml" --json --no-fill --direct \
        --clients "$2" --conns "$3" --seconds "$seconds" --warmup "$warmup" --keys "$keys" --value-size "$value_size"
}

start_etcd() {
    take_ports 6
    local id cluster='' client peer
    etcd_endpoints=''
    for id in 1 2 3; do
        cluster+="${cluster:+,}m$id=http://127.0.0.1:${ports[id + 2]}"
        etcd_endpoints+="${etcd_endpoints:+,}127.0.0.1:${ports[id - 1]}"
    done
    mkdir -p "$work/data"
    servers=()
    for id in 1 2 3; do
        client=http://127.0.0.1:${ports[id - 1]} peer=http://127.0.0.1:${ports[id + 2]}
        etcd --name "m$id" --data-dir "$work/data/m$id" \
            --listen-client-urls "$client" --advertise-client-urls "$client" \
            --listen-peer-urls "$peer" --initial-advertise-peer-urls "$peer" \
            --initial-cluster "$cluster" --initial-cluster-token compare --initial-cluster-state new \
            >"$work/etcd-$id.log" 2>&1 &
        servers+=($!)
    done
    # The load waits for a leader; here it is enough that the members listen.
    local port
    for port in "${ports[@]}"; do wait_for_port "$port" || return 1; done
}

load_etcd() { # op clients conns
    run_load $((warmup + seconds + 30)) "$peers" etcd --endpoints "$etcd_endpoints" --json --op "$1" \
        --clients "$2" --conns "$3" --seconds "$seconds" --warmup "$warmup" --keys "$keys" --value-size "$value_size"
}

fill_etcd() {
    run_load 300 "$peers" etcd --endpoints "$etcd_endpoints" --json --op fill --clients 512 --keys "$keys" \
        --value-size "$value_size"
}

start_redis() {
    take_ports 1
    redis_endpoint=127.0.0.1:${ports[0]}
    mkdir -p "$work/data"
    redis-server --bind 127.0.0.1 --port "${ports[0]}" --dir "$work/data" --save '' \
        --appendonly yes --appendfsync always >"$work/redis.log" 2>&1 &
    servers=($!)
    wait_for_port "${ports[0]}"
}

load_redis() { # op clients
    run_load $((warmup + seconds + 30)) "$peers" redis --endpoint "$redis_endpoint" --json --op "$1" \
        --clients "$2" --seconds "$seconds" --warmup "$warmup" --keys "$keys" --value-size "$value_size"
}

fill_redis() {
    run_load 300 "$peers" redis --endpoint "$redis_endpoint" --json --op fill --clients 512 --keys "$keys" \
        --value-size "$value_size"
}

wait_for_port() { # port; fails when a server ended, or after 20 s
    local tries=0 pid
    until (: <"/dev/tcp/127.0.0.1/$1") 2>/dev/null; do
        for pid in "${servers[@]}"; do alive "$pid" || return 1; done
        ((tries++ < 200)) || return 1
        sleep 0.1
    done
}

# --- Measuring --------------------------------------------------------------------------------------------------------

conns_for() { # system clients: the numbers of connections that are measured
    local many=$(($2 < 64 ? $2 : 64))
    if [[ $1 == redis ]]; then
        echo "$2"
    elif ((few_conns < many)); then
        echo "$many $few_conns"
    else
        echo "$many"
    fi
}

measure_case() { # system round op clients conns
    local system=$1 round=$2 op=$3 status=0 result
    "load_$system" "$op" "$4" "$5" || status=$?
    # A measurement with some failed operations is reported, with their number.
    result=$(head -n 1 "$work/out")
    if [[ $result != *'"operations_per_s":'* ]]; then
        say "  $op, $4 clients, $5 connections: no result (exit code $status)"
        tail_of "$work/err" "$work/out"
        return 0
    fi
    if [[ -s $work/err ]]; then tail_of "$work/err"; fi
    printf '{"system":"%s","round":%d,"op":"%s","warmup_s":%d,"generator_cpu_s":%s,"result":%s}\n' \
        "$system" "$round" "$op" "$warmup" "$cpu_s" "$result" >>"$work/measurements"
    if [[ -n $raw ]]; then tail -n 1 "$work/measurements" >>"$raw"; fi
    local rate=${result#*'"operations_per_s":'}
    say "  $op, $4 clients, $5 connections: ${rate%%[.,\}]*} /s"
}

measure_system() { # system round
    local system=$1 round=$2 op n conns
    say "round $round of $rounds: $system"
    "start_$system" || { tail_of "$work/$system"*.log; die "$system does not start"; }
    "fill_$system" || { tail_of "$work/err" "$work/$system"*.log; die "$system: the keys could not be written"; }
    for op in put get; do
        for n in "${clients[@]}"; do
            for conns in $(conns_for "$system" "$n"); do measure_case "$system" "$round" "$op" "$n" "$conns"; done
        done
    done
    stop_servers
    rm -rf -- "$work/data"
}

# --- The machine ------------------------------------------------------------------------------------------------------

check_dir() { # sets file_system
    [[ -d $dir && -w $dir ]] || die "--dir $dir: not a directory that can be written to"
    file_system=$(stat -f -c %T -- "$dir")
    case $file_system in
        tmpfs | ramfs) die "$dir is in memory ($file_system), where syncs cost nothing; name one on a disk: --dir" ;;
    esac
}

choose_systems() { # sets systems
    local system
    systems=()
    for system in ${only//,/ }; do
        case $system in
            quorate) systems+=(quorate) ;;
            etcd) if command -v etcd >/dev/null; then systems+=(etcd); else say "etcd is not installed: left out"; fi ;;
            redis)
                if command -v redis-server >/dev/null; then
                    systems+=(redis)
                else
                    say "redis-server is not installed: left out"
                fi
                ;;
            *) wrong "--only takes quorate, etcd and redis, not '$system'" ;;
        esac
    done
    ((${#systems[@]})) || die "nothing is left to be measured"
}

build() { # sets quorate, built_from and peers
    local built=(cargo build --release --locked --quiet)
    "${built[@]}" --manifest-path benches/peers/Cargo.toml --target-dir benches/peers/target
    peers=$PWD/benches/peers/target/release/peers
    [[ " ${systems[*]} " == *' quorate '* ]] || return 0
    built_from="a binary that was given"
    if [[ -z $quorate ]]; then
        built_from="built from $(git describe --always --dirty 2>/dev/null || echo "an unknown commit")"
        "${built[@]}" --bin quorate --target-dir "${CARGO_TARGET_DIR:-target}"
        quorate=$(realpath -- "${CARGO_TARGET_DIR:-target}/release/quorate")
    fi
    [[ -x $quorate ]] || die "--quorate $quorate: not a program"
}

facts() {
    local system
    echo "date: $(date -u +%Y-%m-%dT%H:%MZ)"
    echo "processor: $(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1), $(nproc) logical"
    echo "memory: $(awk '/^MemTotal/ { printf "%.0f GiB", $2 / 1048576 }' /proc/meminfo)"
    echo "kernel: $(uname -sr)"
    echo "file system: $file_system, $(df --output=source -- "$work" | tail -n 1)"
    echo "writes of 4 KiB, each synced: $(synced_writes)"
    echo "load average before: $(cut -d ' ' -f 1-3 /proc/loadavg)"
    for system in "${systems[@]}"; do
        case $system in
            quorate) echo "quorate: $("$quorate" --version | cut -d ' ' -f 2), $built_from" ;;
            etcd) echo "etcd: $(etcd --version | head -n 1)" ;;
            redis) echo "redis: $(redis-server --version | cut -d ' ' -f 1-3)" ;;
        esac
    done
    echo "measured: $rounds rounds of $seconds s after $warmup s of warm-up; $keys keys, values of $value_size bytes"
}

synced_writes() {
    local n=500
    dd if=/dev/zero of="$work/probe" bs=4096 count="$n" oflag=dsync 2>&1 |
        awk -v n="$n" '/copied/ { for (i = 1; i < NF; i++) if ($(i + 1) ~ /^s,?$/) printf "%.0f /s", n / $i }'
    rm -f -- "$work/probe"
}

# How long the measuring takes, at least, in seconds.
expected() {
    local system n conns cases=0
    for system in "${systems[@]}"; do
        for n in "${clients[@]}"; do
            read -ra conns <<<"$(conns_for "$system" "$n")"
            cases=$((cases + 2 * ${#conns[@]}))
        done
    done
    echo $((cases * rounds * (seconds + warmup)))
}

choose_systems
check_dir
build
work=$(mktemp -d -- "${dir%/}/quorate-compare.XXXXXX")
: >"$work/measurements"
facts >"$work/facts"
cat "$work/facts" >&2
say "this takes $(($(expected) / 60)) min $(($(expected) % 60)) s, and what starting and filling the systems takes"

for ((round = 1; round <= rounds; round++)); do
    for system in "${systems[@]}"; do measure_system "$system" "$round"; done
done
say
"$peers" report --facts "$work/facts" --format "$format" "$work/measurements"
