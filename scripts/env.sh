# shellcheck shell=bash
# What the scripts share. Sourced in a shell of yours it makes cargo use the scripts' target folder, which lies outside
# the checkout, so that dependencies compile once for every clone.

: "${HOME:=/}"
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/agentsight/target}
# Between clones that share a target folder cargo looks at the age of files alone: what another clone built last would be
# taken for this one's.
if [[ -d $CARGO_TARGET_DIR && $(cat "$CARGO_TARGET_DIR/checkout" 2>/dev/null) != "$root" ]]; then
    find "$root"/{bpf,capture,formats,query,replay,src} -type f -exec touch {} +
    echo "$root" >"$CARGO_TARGET_DIR/checkout"
fi
command -v cargo >/dev/null || PATH=$PATH:${CARGO_HOME:-$HOME/.cargo}/bin

# The program under test; `AGENTSIGHT=path` names another build.
agentsight=${AGENTSIGHT:-$CARGO_TARGET_DIR/debug/agentsight}

if [[ -t 1 ]]; then bold=$'\e[1m' dim=$'\e[2m' plain=$'\e[0m'; else bold='' dim='' plain=''; fi

section() { printf '\n%s── %s %s%s\n\n' "$bold" "$1" "$(printf '─%.0s' $(seq $((${#1} < 72 ? 74 - ${#1} : 2))))" "$plain"; }
note() { printf '%s%s%s\n' "$dim" "$*" "$plain"; }
die() { printf '%s: %s\n' "${0##*/}" "$*" >&2; exit 1; }

# Prints why this machine cannot record with eBPF; nothing where it can.
why_no_ebpf() {
    local kernel caps
    [[ $(uname -s) == Linux ]] || { echo "eBPF is a part of Linux, and this is $(uname -s)"; return; }
    [[ $(id -u) == 0 ]] || { echo "recording takes root, and this is user $(id -un)"; return; }
    IFS=.- read -r -a kernel < <(uname -r)
    ((kernel[0] * 1000 + kernel[1] >= 5015)) || { echo "the kernel is $(uname -r), older than 5.15"; return; }
    [[ -r /sys/kernel/btf/vmlinux ]] || { echo "the kernel has no BTF: /sys/kernel/btf/vmlinux is not there"; return; }
    caps=$(sed -n 's/^CapEff:[[:space:]]*/0x/p' /proc/self/status) # 21 is CAP_SYS_ADMIN
    (((caps >> 21) & 1)) || echo "this root has no CAP_SYS_ADMIN: it is a container's"
}

# The interpreter itself, not a wrapper around it.
find_python() { python3 -c 'import sys; print(sys.executable)'; }

# A folder that is gone at the end, along with the server, if one was started. Sets `temp`.
make_temp() {
    temp=$(mktemp -d "${TMPDIR:-/tmp}/agentsight-${0##*/}.XXXXXX")
    trap clean_up EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM
}
clean_up() { stop_stub; rm -rf "$temp"; }

# Starts the LLM stub with its certificate in $temp and the given options. Sets `url` and `stub_pid`.
start_stub() {
    local port
    exec {stub_out}< <(exec "$(find_python)" "$root/fixtures/stub/llm_stub.py" --dir "$temp" "$@")
    stub_pid=$!
    read -r port <&"$stub_out" || die "the LLM stub did not start"
    url=https://127.0.0.1:$port
}
stop_stub() {
    [[ -n ${stub_pid:-} ]] || return 0
    kill "$stub_pid" 2>/dev/null || true
    cat <&"$stub_out" >/dev/null # until it has ended
    exec {stub_out}<&-
    stub_pid=
}
