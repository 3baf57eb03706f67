#!/usr/bin/env bash
# The main command for real: starts a cluster on free ports in a directory of its own, uses it, ends it, and looks
# whether everything is gone. Needs bash, coreutils and cargo.
set -euo pipefail
cd "$(dirname "$0")/.."

dir=$(mktemp -d)
up=
finish() {
    local code=$?
    if [[ -n $up ]] && kill -0 "$up" 2>/dev/null; then
        kill -KILL "$up" # its nodes end with it
        wait "$up" 2>/dev/null || true
    fi
    if ((code != 0)); then
        printf 'smoke test: FAILED (exit code %d). What the cluster said:\n' "$code" >&2
        cat "$dir/ready" "$dir/log" >&2 2>/dev/null || true
    fi
    rm -rf "$dir"
}
trap finish EXIT

fail() {
    printf 'smoke test: %s\n' "$1" >&2
    exit 1
}

# Whether something listens at a port of this machine.
taken() { (: <>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

# Below the range from which the kernel gives ports to clients, so that nobody gets one by chance.
ports=()
while ((${#ports[@]} < 3)); do
    port=$((20000 + RANDOM % 10000))
    if ! taken "$port" && [[ " ${ports[*]-} " != *" $port "* ]]; then
        ports+=("$port")
    fi
done

config="$dir/cluster.toml"
endpoints=
printf '[cluster]\nid = "smoke"\n' >"$config"
for i in 0 1 2; do
    printf '[[cluster.nodes]]\nid = %d\naddress = "127.0.0.1:%d"\n' "$((i + 1))" "${ports[i]}" >>"$config"
    endpoints+="${endpoints:+,}127.0.0.1:${ports[i]}"
done

# What takes long is no part of what is tested.
cargo build --quiet --locked --bin quorate
quorate() { cargo run --quiet --locked -- "$@"; }
export QUORATE_ENDPOINTS=$endpoints

# cargo becomes the program, so a signal to it reaches the launcher.
cargo run --quiet --locked -- up --config "$config" --data "$dir/data" >"$dir/ready" 2>"$dir/log" &
up=$!

for ((i = 0; ; i++)); do
    if [[ -s "$dir/ready" ]]; then break; fi
    kill -0 "$up" 2>/dev/null || fail "the cluster ended before it served"
    ((i < 300)) || fail "the cluster does not serve after 30 s"
    sleep 0.1
done
read -r first <"$dir/ready"
[[ $first == 'Cluster "smoke" serves'* ]] || fail "the cluster said: $first"

said=$(quorate put greeting hello)
[[ $said == "version 1" ]] || fail "put said: $said"
said=$(quorate get greeting)
[[ $said == "hello" ]] || fail "get said: $said"
quorate status >"$dir/status" || fail "status found something missing: $(cat "$dir/status")"

kill -TERM "$up"
code=0
wait "$up" || code=$?
up=
((code == 0)) || fail "the cluster ended with exit code $code"
for line in /proc/[0-9]*/cmdline; do
    words=$(tr '\0' ' ' 2>/dev/null <"$line" || true)
    [[ $words != *"$dir/data"* ]] || fail "a process is left: $words"
done
for port in "${ports[@]}"; do
    ! taken "$port" || fail "something still listens at port $port"
done
printf 'smoke test: ok (three nodes served, kept a key, and ended in order)\n'
