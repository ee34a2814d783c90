# SPDX-License-Identifier: Apache-2.0
#
# common.sh: what the service starters share. Sourced with `dir` (the service's folder, absolute) set. Everything a service owns is below its folder; nothing system-wide is read or touched.

fail() {
	echo "$(basename "$0"): $*" >&2
	exit 1
}

# Ports outside of the range that outgoing connections get theirs from: a client that dials a stopped service on a port of that
# range can end up connected to itself, and so keep the service from coming back. Who was given one has it to himself for a quarter
# of an hour, which is longer than a service takes to listen on it: several start at the same time.
free_port() {
	python3 - "${1:-}" <<-'PY'
		import os, pathlib, random, socket, sys, tempfile, time
		avoid = sys.argv[1]
		given = pathlib.Path(tempfile.gettempdir(), "weir-test-ports-%d" % os.getuid())
		given.mkdir(exist_ok=True)
		for mark in given.iterdir():
		    try:
		        if time.time() - mark.stat().st_mtime > 900:
		            mark.unlink()
		    except FileNotFoundError:
		        pass
		for port in random.sample(range(20000, 30000), 200):
		    with socket.socket() as s:
		        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
		        try:
		            s.bind(("127.0.0.1", port))
		            (given / str(port)).touch(exist_ok=False)
		        except OSError:
		            continue
		    if str(port) != avoid:
		        print(port)
		        break
		else:
		    sys.exit("no free port")
	PY
}

kept_port() { # name: the port of this folder's service, the same at every start
	[ -s "$dir/$1" ] || free_port >"$dir/$1"
	cat "$dir/$1"
}

# Servers refuse to run as root, or should not; a plain user runs them as himself.
run_as=()
as_runner() { "${run_as[@]}" "$@"; }

pick_runner() { # candidates...: sets `runner`, the first that exists, and `run_as`, the command words that become it
	for runner in "$@"; do
		if id -u "$runner" >/dev/null 2>&1; then break; fi
	done
	run_as=()
	if [ "$(id -u)" = 0 ]; then run_as=(setpriv --reuid="$runner" --regid="$(id -g "$runner")" --init-groups --); fi
}

# The runner needs to pass through every folder above `dir`. Folders below the temporary folder get the search bit for that;
# others are not ours to open.
prepare_dir() {
	local tmp up
	mkdir -p "$dir"
	tmp=$(realpath "${TMPDIR:-/tmp}")
	if [ "$(id -u)" = 0 ]; then
		chown "$runner:" "$dir"
		up=$(dirname "$dir")
		while [[ $up == "$tmp"/* ]]; do
			chmod o+x "$up"
			up=$(dirname "$up")
		done
		as_runner test -w "$dir" || fail "$dir cannot be reached by user $runner; choose a folder below $tmp"
	fi
}

# For a service with --tls: DIR/tls, made once. `ca` signs `server`, whose name is localhost and not its address, `client`, and `expired`,
# which is `server` past its time. `other` signs nothing. The keys are the runner's alone.
make_certificates() {
	[ ! -d "$dir/tls" ] || return 0
	command -v openssl >/dev/null || fail "openssl is missing; run: make test-deps"
	as_runner rm -rf "$dir/tls.new"
	as_runner mkdir "$dir/tls.new"
	{
		authority ca && authority other &&
			certificate server localhost 30 && certificate client client 30 && certificate expired localhost -1
	} 2>"$dir/tls.log" || { cat "$dir/tls.log" >&2; fail "could not make certificates"; }
	as_runner mv "$dir/tls.new" "$dir/tls"
}
new_key=(-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes)
authority() { # name
	as_runner openssl req -x509 "${new_key[@]}" -keyout "$dir/tls.new/$1.key" -out "$dir/tls.new/$1.pem" -days 30 -subj "/CN=weir tests $1"
}
certificate() { # name host days
	as_runner openssl req "${new_key[@]}" -keyout "$dir/tls.new/$1.key" -subj "/CN=$1" -addext "subjectAltName=DNS:$2" |
		as_runner openssl x509 -req -copy_extensions copy -CA "$dir/tls.new/ca.pem" -CAkey "$dir/tls.new/ca.key" -CAcreateserial \
			-days "$3" -out "$dir/tls.new/$1.pem"
}

wait_until() { # seconds command...: until the command succeeds
	local deadline=$(($(date +%s) + $1))
	shift
	until "$@" >/dev/null 2>&1; do
		[ "$(date +%s)" -lt "$deadline" ] || return 1
		sleep 0.1
	done
}

listens() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; } # port: a quick look before a client is started that asks more

is_ours() { # pid text: alive (not a zombie), and its command line or environment shows that it is this folder's
	local pid=$1
	[ -n "$pid" ] && [ -r "/proc/$pid/cmdline" ] || return 1
	! grep -q '^State:[[:space:]]*Z' "/proc/$pid/status" 2>/dev/null || return 1
	tr '\0' ' ' <"/proc/$pid/cmdline" 2>/dev/null | grep -qF -- "$2"
}

gone() { # pids...
	local pid
	for pid in "$@"; do
		if [ -d "/proc/$pid" ] && ! grep -q '^State:[[:space:]]*Z' "/proc/$pid/status" 2>/dev/null; then return 1; fi
	done
}

descendants() { # pid: all below it, by parent
	local child
	for child in $(pgrep -P "$1" || true); do
		echo "$child"
		descendants "$child"
	done
}
