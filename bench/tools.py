# SPDX-License-Identifier: Apache-2.0
"""What every part of the benchmark needs: the competitors installed into build/bench, processes that are ended for sure,
free ports, medians, and a description of the machine.

A competitor that cannot be installed (no network) raises Missing; its part says so and goes on without it.
"""
import atexit
import os
import pathlib
import platform
import re
import shlex
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
HERE = ROOT / "bench"
CACHE = ROOT / "build" / "bench"
WEIR = pathlib.Path(os.environ.get("WEIR_BIN", ROOT / "build" / "weir")).resolve()
# The interpreter that instances get is the one of this path; the competitors run on the same one.
PLAIN_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
PYTHON = shutil.which("python3", path=PLAIN_PATH) or sys.executable
PERF_TEST = "2.22.1"


class Missing(Exception):
    """A competitor is not there; the text says why."""


def say(text):
    print(time.strftime("%H:%M:%S"), text, flush=True)


# ---- processes ---------------------------------------------------------------------------------------------------------

_alive = []


def spawn(argv, log=None, **more):
    """A child in a session of its own; what it says goes to build/bench/log/<log>.log. Ended with the benchmark."""
    (CACHE / "log").mkdir(parents=True, exist_ok=True)
    out = open(CACHE / "log" / f"{log}.log", "ab") if log else subprocess.DEVNULL
    try:
        child = subprocess.Popen([str(word) for word in argv], stdin=subprocess.DEVNULL, stdout=more.pop("stdout", out),
                                 stderr=out, start_new_session=True, **more)
    finally:
        if log:
            out.close()
    _alive.append(child)
    return child


def end(child, patience=15):
    """SIGTERM to the process, then SIGKILL to its session."""
    if child.poll() is None:
        child.terminate()
        try:
            child.wait(patience)
        except subprocess.TimeoutExpired:
            pass
    try:
        os.killpg(child.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    child.wait()
    if child in _alive:
        _alive.remove(child)


@atexit.register
def _end_all():
    for child in list(_alive):
        end(child, 3)


def run(argv, timeout=600, **more):
    """Runs to the end, returns stdout; a failure raises with the last lines of what it said."""
    done = subprocess.run([str(word) for word in argv], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, text=True, timeout=timeout, **more)
    if done.returncode:
        tail = (done.stderr.strip() or done.stdout.strip()).splitlines()[-5:]
        raise RuntimeError(f"{shlex.join(str(w) for w in argv[:3])} … failed ({done.returncode}): " + " / ".join(tail))
    return done.stdout


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def wait_for(what, condition, seconds, pause=0.01):
    """Returns the first true value of condition()."""
    until = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > until:
            raise RuntimeError(f"{what}: not within {seconds} s")
        time.sleep(pause)


def port_answers(port):
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
        return True
    except OSError:
        return False


def median(values):
    return statistics.median(values)


def run_ns(pid):
    """Processor time of a process so far, by the scheduler's own count."""
    return sum(int(f.read_text().split()[0]) for f in pathlib.Path(f"/proc/{pid}").glob("task/*/schedstat"))


def resident_mib(pid):
    return int(_first(r"VmRSS:\s+(\d+)", f"/proc/{pid}/status")) / 1024


def at_rest(pids, seconds):
    """Of each process: resident MiB, and its share of a core in per cent over so many seconds."""
    before, start = [run_ns(pid) for pid in pids], time.monotonic()
    time.sleep(seconds)
    took = time.monotonic() - start
    return [(resident_mib(pid), (run_ns(pid) - then) / 1e9 / took * 100) for pid, then in zip(pids, before)]


# ---- installing --------------------------------------------------------------------------------------------------------

def debian(*packages):
    """Installs the Debian packages that are missing."""
    query = subprocess.run(["dpkg-query", "-W", "-f", "${db:Status-Status} ${Package}\n", *packages],
                           stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    present = {line.split()[1] for line in query.stdout.splitlines() if line.startswith("installed ")}
    missing = [name for name in packages if name not in present]
    if not missing:
        return
    say("installing Debian packages: " + " ".join(missing))
    sudo = [] if os.getuid() == 0 else ["sudo"]
    install = [*sudo, "env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "install", "-q", "-y", "--no-install-recommends",
               *missing]
    try:
        try:
            run(install)
        except RuntimeError:
            run([*sudo, "apt-get", "update", "-q"])
            run(install)
    except (RuntimeError, OSError, subprocess.TimeoutExpired) as e:
        raise Missing(f"Debian packages {' '.join(missing)} ({e})") from None


def venv():
    """The folder of the programs of a virtual environment with the Python competitors."""
    where = CACHE / "venv"
    done = where / ".complete"
    if not done.exists():
        debian("python3-venv")
        say("installing celery, pika and functions-framework with pip")
        shutil.rmtree(where, ignore_errors=True)
        try:
            run([PYTHON, "-m", "venv", where])
            run([where / "bin/pip", "install", "-q", "celery", "pika", "functions-framework"])
        except (RuntimeError, subprocess.TimeoutExpired) as e:
            raise Missing(f"pip install ({e})") from None
        done.touch()
    return where / "bin"


def pip_version(package):
    code = f"import importlib.metadata as m; print(m.version('{package}'))"
    return run([venv() / "python3", "-c", code]).strip()


_POM = """<project xmlns="http://maven.apache.org/POM/4.0.0"><modelVersion>4.0.0</modelVersion>
<groupId>bench</groupId><artifactId>bench</artifactId><version>1</version><dependencies><dependency>
<groupId>com.rabbitmq</groupId><artifactId>perf-test</artifactId><version>%s</version>
</dependency></dependencies></project>
"""


def perf_test():
    """The words that start RabbitMQ's PerfTest."""
    where = CACHE / "perf-test" / PERF_TEST
    done = where / ".complete"
    if not done.exists():
        for program, package in ("mvn", "maven"), ("java", "default-jre-headless"):
            if not shutil.which(program):
                debian(package)
        say(f"resolving com.rabbitmq:perf-test:{PERF_TEST} with Maven")
        shutil.rmtree(where, ignore_errors=True)
        where.mkdir(parents=True)
        (where / "pom.xml").write_text(_POM % PERF_TEST)
        try:
            run(["mvn", "-q", "-B", "dependency:copy-dependencies", "-DincludeScope=runtime", "-DoutputDirectory=lib"],
                cwd=where)
        except (RuntimeError, subprocess.TimeoutExpired) as e:
            raise Missing(f"Maven ({e})") from None
        done.touch()
    return ["java", "-cp", f"{where}/lib/*", "com.rabbitmq.perf.PerfTest"]


def compiled(name, *libraries, archives=()):
    """bench/<name>.c as a program, with the optimisation that weir has; archives: of weir, that it is linked with."""
    source, binary = HERE / f"{name}.c", CACHE / name
    CACHE.mkdir(parents=True, exist_ok=True)
    if not binary.exists() or any(binary.stat().st_mtime < part.stat().st_mtime for part in (source, *archives)):
        flags = shlex.split(run(["pkg-config", "--cflags", "--libs", *libraries])) if libraries else []
        run(["gcc", "-std=gnu17", "-O2", "-g", "-Wall", "-Wextra", "-D_GNU_SOURCE", "-I", ROOT, "-o", binary, source, *archives,
             "-Wl,--as-needed", *flags])
    return binary


def wrk():
    debian("wrk")
    return "wrk"


# ---- the machine -------------------------------------------------------------------------------------------------------

def _first(pattern, path, fallback="?"):
    try:
        found = re.search(pattern, pathlib.Path(path).read_text(), re.M)
    except OSError:
        found = None
    return found.group(1).strip() if found else fallback


def _version(argv, pattern):
    try:
        done = subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                              timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return "not there"
    found = re.search(pattern, done.stdout)
    return found.group(1) if found else "?"


def _debian_version(package):
    return _version(["dpkg-query", "-W", "-f", "${Version}", package], r"(\S+)")


def machine():
    """Name and value of what the figures depend on."""
    rows = {
        "CPU": f"{_first(r'^model name.*?:(.*)', '/proc/cpuinfo')}, {os.cpu_count()} cores",
        "virtual": "yes" if re.search(r"\bhypervisor\b", _first(r"^flags.*?:(.*)", "/proc/cpuinfo", "")) else "no",
        "RAM": f"{int(_first(r'MemTotal: *([0-9]+)', '/proc/meminfo', '0')) / 2**20:.1f} GiB",
        "kernel": platform.release(),
        "system": "Debian " + _first(r"(\S+)", "/etc/debian_version"),
        "load before": "%.2f" % os.getloadavg()[0],
        "commit": _version(["git", "-C", str(ROOT), "describe", "--always", "--dirty"], r"(\S+)"),
        "Python": _version([PYTHON, "--version"], r"Python (\S+)"),
        "RabbitMQ": _debian_version("rabbitmq-server"),
        "PostgreSQL": _debian_version("postgresql-15"),
        "Kafka": _first(r"kafka_2.13</artifactId>\s*<version>(.*?)<", ROOT / "tests/services/kafka-pom.xml"),
        "librdkafka": _debian_version("librdkafka1"),
        "confluent-kafka": _debian_version("python3-confluent-kafka"),
        "SQLite": _debian_version("libsqlite3-0"),
        "wrk": _debian_version("wrk"),
        "bubblewrap": _debian_version("bubblewrap"),
        "Java": _version(["java", "-version"], r'version "([^"]+)"'),
        "PerfTest": PERF_TEST,
    }
    try:
        for package in "celery", "pika", "functions-framework", "gunicorn":
            rows[package] = pip_version(package)
    except (Missing, RuntimeError):
        pass
    return rows
