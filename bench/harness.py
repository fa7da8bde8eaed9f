"""What the benchmarks share: a sandbox, the two programs, a private sshd, time stamps, and rows of a table.

Python's standard library only. Times are nanoseconds of CLOCK_REALTIME inside, milliseconds in the table. The peer is the
Python program that rsyncdirector replaces, installed from its package index into bench/.venv by `bench/peer`; where it
cannot be, its column is empty and the bars stand alone.
"""

import contextlib
import heapq
import os
import pathlib
import pwd
import re
import shutil
import signal
import socket
import shlex
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parent.parent
PEER = ROOT / "bench/.venv/bin/rsyncdirector"
USER = pwd.getpwuid(os.getuid()).pw_name
MILLISECOND = 1_000_000  # nanoseconds
DELAY = 0.05  # seconds, each way: how long a DelayingProxy keeps each byte


def binary():
    """The release build, or what RSYNCDIRECTOR_BIN names."""
    target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    path = pathlib.Path(os.environ.get("RSYNCDIRECTOR_BIN", target / "release/rsyncdirector"))
    if not path.is_file():
        sys.exit(f"{path} is missing: cargo build --release")
    return path.resolve()


def until(what, condition, seconds=20.0, pause=0.001):
    """Waits for a condition and returns what it gave; gives up with an error."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {seconds} s: {what}")
        if pause:
            time.sleep(pause)
    return value


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


class Sandbox:
    """A temporary directory with a home, and a compiled program that appends the time at which it was executed."""

    STAMP = r"""
    #include <fcntl.h>
    #include <stdio.h>
    #include <time.h>
    #include <unistd.h>
    int main(void) {
        struct timespec now;
        char line[32];
        clock_gettime(CLOCK_REALTIME, &now);
        int length = snprintf(line, sizeof line, "%lld\n", now.tv_sec * 1000000000LL + now.tv_nsec);
        int file = open(STAMPS, O_WRONLY | O_APPEND | O_CREAT, 0600);
        return write(file, line, length) == length ? 0 : 1;
    }
    """

    def __init__(self):
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="rsyncdirector-bench."))
        for name in ("home/.ssh", "run", "bin", "source", "dest", "locks"):
            (self.dir / name).mkdir(parents=True)
        (self.dir / "home/.ssh").chmod(0o700)
        for number in range(10):
            (self.dir / f"source/file-{number}").write_text("content\n" * 100)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        shutil.rmtree(self.dir)

    def stamper(self, name):
        """Compiles a stamping program; `name` tells its stamps apart. A program called `rsync` stands in for rsync."""
        directory = self.dir / "bin" / name
        directory.mkdir()
        for program in ("rsync", "stamp"):
            self.compile(f"{name}/{program}", self.STAMP, f'-DSTAMPS="{directory}/stamps"')
        return Stamper(directory)

    def compile(self, name, source, *flags):
        """Compiles a program in C into `bin`; its path."""
        program = self.dir / "bin" / name
        subprocess.run(["cc", "-O2", *flags, "-x", "c", "-", "-o", program], input=source, text=True, check=True)
        return program

    def environment(self, path=None):
        """What the programs see: our home, nothing of the caller's agents and configuration."""
        search = os.environ["PATH"]
        return {
            "HOME": str(self.dir / "home"),
            "STATE_DIRECTORY": str(self.dir / "state"),
            "USER": USER,
            "LANG": "C.UTF-8",
            "PATH": f"{path}:{search}" if path else search,
        }


@contextlib.contextmanager
def memory():
    """A temporary directory whose files are in memory."""
    path = pathlib.Path(tempfile.mkdtemp(prefix="rsyncdirector-bench.", dir="/dev/shm"))
    try:
        yield path
    finally:
        shutil.rmtree(path)


class Stamper:
    """A directory with the programs `rsync` and `stamp`, both of which only record when they were executed."""

    def __init__(self, directory):
        self.directory = directory
        self.seen = 0

    def stamps(self):
        with contextlib.suppress(FileNotFoundError):
            return [int(line) for line in (self.directory / "stamps").read_text().split()]
        return []

    def next(self, count=1, seconds=60.0, pause=0.001):
        """The next stamps, waited for. A long `pause` between two looks leaves the processors to what is measured."""
        until("a stamp", lambda: len(self.stamps()) >= self.seen + count, seconds, pause)
        found = self.stamps()[self.seen : self.seen + count]
        self.seen += count
        return found if count > 1 else found[0]


class Program:
    """A running director, ours or the peer, with one configuration."""

    def __init__(self, sandbox, name, command, jobs, path=None, schedule="30 2 * * *", top=""):
        self.sandbox, self.name, self.port = sandbox, name, free_port()
        directory = sandbox.dir / f"instance-{name}"
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir()
        config = directory / "config.yaml"
        config.write_text(
            f"rsync_id: {name}\n"
            f'cron_schedule: "{schedule}"\n'
            f"pid_file_dir: {directory}\n"
            f"metrics: {{addr: 127.0.0.1, port: {self.port}, startup_timeout_seconds: 10,"
            " startup_retry_wait_seconds: 1, startup_retry_limit: 5}\n"
            f"{top}jobs:\n{jobs}"
        )
        config.chmod(0o600)
        environment = sandbox.environment(path) | {
            "RSYNCMANANGER_CONFIG": str(config),
            "RSYNCMANANGER_LOGLEVEL": "info",
        }
        self.config, self.environment = config, environment
        self.log = directory / "log"
        self.started = time.time_ns()
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(
                command, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        self.pid = self.process.pid

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()

    def scrape(self):
        """The text of /metrics, or None when nobody answers."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics", timeout=5) as answer:
                return answer.read().decode()
        except OSError:
            if self.process.poll() is not None:
                raise RuntimeError(f"{self.name} ended:\n{self.log.read_text()[-3000:]}") from None
            return None

    def ready(self, settle=0.0):
        """Waits for the first answer; `settle` is what the peer needs after it before it survives a signal."""
        until(f"{self.name} answers", self.scrape)
        answered = time.time_ns()
        time.sleep(settle)
        return answered

    def hup(self):
        """Triggers a run; the time at which it was sent."""
        sent = time.time_ns()
        os.kill(self.pid, signal.SIGHUP)
        return sent

    def status(self, key):
        """A number of /proc/PID/status, kB for memory."""
        text = pathlib.Path(f"/proc/{self.pid}/status").read_text()
        return int(re.search(rf"^{key}:\s+(\d+)", text, re.M)[1])

    def tasks(self, key):
        """The sum of a number over the status of all threads."""
        total = 0
        for task in pathlib.Path(f"/proc/{self.pid}/task").iterdir():
            total += int(re.search(rf"^{key}:\s+(\d+)", (task / "status").read_text(), re.M)[1])
        return total


def ours(sandbox, jobs, name="ours", **options):
    """Our program as a daemon, its log in a file. `top` is further keys of its configuration."""
    return Program(sandbox, name, [binary(), "run", "--log-format", "human"], jobs, **options)


def peer(sandbox, jobs, **options):
    """The Python program as a daemon, its log in a file."""
    return Program(sandbox, "peer", [PEER], jobs, **options)


def programs():
    """The programs to compare, ours first: (name, how to start it, seconds it needs before a signal)."""
    both = [("ours", ours, 0.1)]
    if PEER.exists():
        both.append(("peer", peer, 1.5))
    return both


class Sshd:
    """A private sshd on loopback, or at another address; `port` is where clients are to connect.

    `enter` comes in front of its command, to start it in another network namespace.
    """

    def __init__(self, sandbox, address="127.0.0.1", enter=()):
        self.dir = sandbox.dir / f"sshd-{address}"
        self.dir.mkdir()
        if os.getuid() == 0:
            pathlib.Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
        for key in ("host_key", "key"):
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", self.dir / key], check=True)
        shutil.copy(self.dir / "key.pub", self.dir / "authorized_keys")
        self.address, self.port = address, free_port()
        self.known_hosts = sandbox.dir / "home/.ssh/known_hosts"
        self.know(self.port)
        (self.dir / "config").write_text(
            f"Port {self.port}\nListenAddress {address}\nHostKey {self.dir}/host_key\n"
            f"AuthorizedKeysFile {self.dir}/authorized_keys\nStrictModes no\nUsePAM no\nPasswordAuthentication no\n"
            "KbdInteractiveAuthentication no\nPermitRootLogin yes\nPidFile none\nLogLevel VERBOSE\nUseDNS no\n"
            f"MaxStartups 100\nSetEnv HOME={sandbox.dir}/home\n"  # the user's own dot files are not measured
        )
        program = shutil.which("sshd", path=os.environ["PATH"] + ":/usr/sbin")
        with open(self.dir / "log", "wb") as log:
            self.process = subprocess.Popen(
                [*enter, program, "-D", "-e", "-f", self.dir / "config"], stdin=subprocess.DEVNULL, stderr=log
            )
        until("sshd listens", lambda: "Server listening on" in self.log())

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()

    def know(self, port):
        """Makes the host key known under a port, as a proxy's clients need it."""
        kind, key, *_ = (self.dir / "host_key.pub").read_text().split()
        with open(self.known_hosts, "a") as known:
            known.write(f"[{self.address}]:{port} {kind} {key}\n")

    def log(self):
        return (self.dir / "log").read_text(errors="replace")

    def count(self, text):
        return sum(line.startswith(text) for line in self.log().splitlines())

    def keys(self, port=None):
        """The peer's keys of a configuration, to stand in a flow mapping."""
        return f"user: {USER}, host: {self.address}, port: {port or self.port}, private_key_path: {self.dir}/key"

    def ssh(self, *options):
        """The command of an OpenSSH client without the user's own configuration, for a shell or `rsync --rsh`."""
        known = f"UserKnownHostsFile={self.known_hosts}"
        where = ["-p", str(self.port), "-l", USER, "-i", str(self.dir / "key"), "-o", "IdentitiesOnly=yes"]
        return shlex.join(["ssh", "-F", "/dev/null", "-o", known, "-o", "BatchMode=yes", *where, *options])


class DelayingProxy:
    """Forwards connections, each byte `DELAY` after it came."""

    def __init__(self, target):
        self.target = target
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.connections = 0
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            client, _ = self.listener.accept()
            self.connections += 1
            server = socket.create_connection(("127.0.0.1", self.target))
            for source, sink in ((client, server), (server, client)):
                sink.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                threading.Thread(target=self.forward, args=(source, sink), daemon=True).start()

    @staticmethod
    def forward(source, sink):
        late, number, arrived = [], 0, threading.Condition()

        def deliver():
            while True:
                with arrived:
                    arrived.wait_for(lambda: late)
                    due, _, data = heapq.heappop(late)
                time.sleep(max(0.0, due - time.monotonic()))
                try:
                    if not data:
                        sink.shutdown(socket.SHUT_WR)
                        return
                    sink.sendall(data)
                except OSError:
                    return

        threading.Thread(target=deliver, daemon=True).start()
        data = b"-"
        while data:
            try:
                data = source.recv(65536)
            except OSError:
                data = b""
            with arrived:
                number += 1
                heapq.heappush(late, (time.monotonic() + DELAY, number, data))
                arrived.notify()


def trips(slow, fast):
    """How many round trips the difference makes."""
    fast = sorted(fast)[len(fast) // 2]
    return [(sample - fast) / (2000 * DELAY) for sample in slow]


def locked_run(sandbox, program, stamper, locks=4, pause=0.3):
    """One run with the locks `locks/0` and so on: trigger to the stamp, and stamp to the last lock gone, in milliseconds."""
    sent = program.hup()
    stamp = stamper.next()
    locks = [sandbox.dir / f"locks/{number}" for number in range(locks)]
    until("the locks are gone", lambda: not any(lock.exists() for lock in locks), pause=0.0002)
    gone = time.time_ns()
    time.sleep(pause)  # what the program does after it: its next run is to be a fresh one
    return milliseconds(stamp - sent), milliseconds(gone - stamp)


def milliseconds(nanoseconds):
    return nanoseconds / MILLISECOND
