"""The ways of an rsync to a peer: the director's own connections, and what people use instead.

- `rsync -e ssh`: what the Python program ran, with OpenSSH's default algorithms; and with the cipher that ours chooses.
- ControlMaster: the same through a connection of ssh's that stands.
- Without SSH, the floor on loopback: `--rsh` is a program that becomes `rsync --server` itself, so that nothing at all is
  between the two rsyncs but a socket pair.
- An rsync daemon: TCP without encryption, but with more round trips before the first file than SSH has on a connection that
  stands.
"""

import contextlib
import dataclasses
import shlex
import subprocess
import time

import harness

OURS, FLOOR, DAEMON, MASTER = "ours", "without SSH", "rsync daemon", "ControlMaster"
SSH, SSH_GCM = "rsync -e ssh", "rsync -e ssh, aes128-gcm"

BARE = r"""
#include <string.h>
#include <unistd.h>
int main(int count, char **words) {
    while (*words && strcmp(*words, "rsync")) words++;
    if (*words) execvp(*words, words);
    return 127 + 0 * count;
}
"""


@dataclasses.dataclass
class Task:
    """What is synced, how often in one sample."""

    source: str
    dest: str
    direction: str = "push"
    count: int = 1
    options: tuple = ("-a",)
    keys: str = ""  # further keys of our sync

    def ends(self, at):
        """Source and destination, where `at` comes before the peer's path."""
        if self.direction == "push":
            return [self.source, at + self.dest]
        return [at + self.source, self.dest]


class Ours:
    """A director with a job that does the task; what is measured begins and ends with a stamp."""

    connecting = 0.0  # seconds before the first sample; ours connects within it

    def __init__(self, sandbox, sshd, task, name):
        self.stamper = sandbox.stamper(name)
        stamp = f'{{action: command, id: %s, command: "{self.stamper.directory}/stamp", args: ["-"]}}'
        options = ", ".join(f'"{option}"' for option in task.options)
        sync = (
            f'{{action: sync, id: sync-%s, source: "{task.source}", dest: "{task.dest}", direction: {task.direction},'
            f" opts: [{options}]{', ' if task.keys else ''}{task.keys}}}"
        )
        actions = [stamp % "begin", *(sync % number for number in range(task.count)), stamp % "end"]
        lines = "".join(f"        {action},\n" for action in actions)
        job = f"  - {{id: job, type: remote, {sshd.keys()}, actions: [\n{lines}    ]}}\n"
        self.program = harness.ours(sandbox, job, name=name, top="transport: native\n")
        self.program.ready()

    def close(self):
        self.program.__exit__()

    def time(self):
        """Milliseconds of all syncs of a run."""
        self.program.hup()
        begin, end = self.stamper.next(2, seconds=600, pause=0.1)
        return harness.milliseconds(end - begin)


class Loop:
    """The same rsync in a shell loop."""

    def __init__(self, sandbox, stamper, task, at, rsh=None, connecting=0.0):
        self.sandbox, self.stamper, self.connecting = sandbox, stamper, connecting
        words = ["rsync", *task.options, *(["--rsh", rsh] if rsh else []), "--", *task.ends(at)]
        stamp = stamper.directory / "stamp"
        rsync = f"{shlex.join(words)} || exit; i=$((i + 1))"
        self.script = f"{stamp}; i=0; while [ $i -lt {task.count} ]; do {rsync}; done; {stamp}"

    def close(self):
        pass

    def time(self):
        """Milliseconds of all rounds of the loop."""
        subprocess.run(
            ["sh", "-c", self.script], env=self.sandbox.environment(), stdout=subprocess.DEVNULL, check=True
        )
        begin, end = self.stamper.next(2)
        return harness.milliseconds(end - begin)


class Place:
    """A peer and how it is reached: on loopback, or at the far end of a line."""

    def __init__(self, sandbox, line=None):
        self.sandbox, self.line = sandbox, line
        self.name = "20 ms" if line else "loopback"
        self.stack = contextlib.ExitStack()
        enter, address = (line.there, line.FAR) if line else ([], "127.0.0.1")
        self.sshd = self.stack.enter_context(harness.Sshd(sandbox, address, enter))
        if line:
            self.daemon = self.stack.enter_context(RsyncDaemon(sandbox, address, enter))
        else:
            self.bare = sandbox.compile("bare", BARE)
        self.started = 0

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stack.close()

    def ways(self, task, names):
        """The ways of these names, which live as long as the place."""
        return {name: self.stack.enter_context(contextlib.closing(self.way(task, name))) for name in names}

    def way(self, task, name):
        self.started += 1
        unique = f"{self.name.replace(' ', '')}-{self.started}"
        if name == OURS:
            return Ours(self.sandbox, self.sshd, task, unique)
        at, rsh, connecting = f"{harness.USER}@{self.sshd.address}:", None, 0.0
        if name == SSH:
            rsh = self.sshd.ssh()
        elif name == SSH_GCM:
            rsh = self.sshd.ssh("-c", "aes128-gcm@openssh.com")
        elif name == MASTER:
            master = self.stack.enter_context(Master(self.sandbox, self.sshd, unique))
            rsh, connecting = master.rsh, master.connecting
        elif name == DAEMON:
            at = self.daemon.at
        else:
            rsh = str(self.bare)
        return Loop(self.sandbox, self.sandbox.stamper(unique), task, at, rsh, connecting)


class Master:
    """A connection of ssh's that stands, and the command that uses it."""

    def __init__(self, sandbox, sshd, name):
        self.socket = sandbox.dir / f"{name}.master"
        self.rsh = sshd.ssh("-S", str(self.socket))
        command = [*shlex.split(self.rsh), "-M", "-N", sshd.address]
        began = time.monotonic()
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, env=sandbox.environment())
        harness.until("ssh's connection stands", self.socket.exists)
        self.connecting = time.monotonic() - began  # seconds

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait()


class RsyncDaemon:
    """An rsync daemon that gives and takes all that the user may read and write."""

    def __init__(self, sandbox, address, enter):
        port = harness.free_port()
        config = sandbox.dir / "rsyncd.conf"
        config.write_text(
            f"use chroot = no\nreverse lookup = no\nlog file = {sandbox.dir}/rsyncd.log\n"
            f"uid = {harness.USER}\ngid = *\n[all]\npath = /\nread only = no\n"
        )
        words = ["rsync", "--daemon", "--no-detach", f"--address={address}", f"--port={port}", f"--config={config}"]
        self.process = subprocess.Popen([*enter, *words], stdin=subprocess.DEVNULL)
        self.at = f"rsync://{address}:{port}/all"
        harness.until("the rsync daemon answers", self.answers, pause=0.05)

    def answers(self):
        return subprocess.run(["rsync", self.at + "/"], capture_output=True, check=False).returncode == 0

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()


def rounds(ways, count, before=lambda: None, convert=lambda time: time):
    """Samples of all ways, which alternate. One round before them, which does not count, makes connections and copies."""
    samples = {name: [] for name in ways}
    for number in range(count + 1):
        for name, way in ways.items():
            before()
            sample = convert(way.time())
            if number > 0:
                samples[name].append(sample)
    return samples
