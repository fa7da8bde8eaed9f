"""What the gate adds to a session: a no-op rsync through a connection that stands, with a key that may do anything, with one
behind the gate, and with one behind rrsync (Python), round by round."""

import argparse
import contextlib
import shutil
import subprocess

import harness
import tables
from ways import Master


def keys(sandbox, sshd):
    """A key for each way, and the lines that the peer accepts."""
    policy = sandbox.dir / "policy.yaml"
    (sandbox.dir / "read").mkdir()
    (sandbox.dir / "read/file").write_text("x")
    policy.write_text(f"read: [{sandbox.dir}/read]\nlocks: [{sandbox.dir}/x.lock]\n")
    lines, found = [], {}
    for name in ("plain", "ours", "peer"):
        key = sandbox.dir / f"key-{name}"
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
        public = key.with_suffix(".pub").read_text()
        found[name] = key
        if name == "ours":
            command = [harness.binary(), "gate", "keyline", "--program", harness.binary(), "--policy", policy]
            public = subprocess.check_output([*command, key.with_suffix(".pub")], text=True)
        elif name == "peer":
            rrsync = shutil.which("rrsync")
            if not rrsync:
                continue
            public = f'restrict,command="{rrsync} -ro {sandbox.dir}/read" {public}'
        lines.append(public)
    (sshd.dir / "authorized_keys").write_text("".join(lines))
    return found


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--rounds", type=int, default=40)
    options = arguments.parse_args()
    table = tables.Table("The gate: what it adds to a session (peer: rrsync, Python)")
    with contextlib.ExitStack() as stack:
        sandbox = stack.enter_context(harness.Sandbox())
        sshd = stack.enter_context(harness.Sshd(sandbox))
        found = keys(sandbox, sshd)
        ways = {}
        for name, key in found.items():
            if name == "peer" and not shutil.which("rrsync"):
                continue
            for suffix in ("", ".pub"):  # what the next connection shows
                shutil.copy(f"{key}{suffix}", f"{sshd.dir}/key{suffix}")
            ways[name] = stack.enter_context(Master(sandbox, sshd, name)).rsh
        stamper = sandbox.stamper("gate")
        times = {name: [] for name in ways}
        for _ in range(options.rounds):
            for name, rsh in ways.items():
                path = "" if name == "peer" else f"{sandbox.dir}/read/"
                rsync = f"rsync -r --list-only --rsh '{rsh}' {harness.USER}@{sshd.address}:{path}"
                script = f"{stamper.directory}/stamp; {rsync} > /dev/null || exit; {stamper.directory}/stamp"
                subprocess.run(["sh", "-c", script], env=sandbox.environment(), check=True)
                begin, end = stamper.next(2)
                times[name].append(harness.milliseconds(end - begin))
    added = {name: [a - b for a, b in zip(times[name], times["plain"])] for name in ways if name != "plain"}
    table.row("a session without it", {"ours": times["plain"]}, "ms")
    table.row("added", added, "ms", bar=15)
    tables.finish(table)


main()
