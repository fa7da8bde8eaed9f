"""SIGTERM while a throttled rsync runs: time until the director has exited, the locks are gone, and no rsync is left."""

import argparse
import os
import pathlib
import signal
import time

import harness
import tables


def jobs(sandbox, sshd):
    return f"""\
  - id: slow
    type: local
    lock_files:
      - {{type: local, path: "{sandbox.dir}/locks/here"}}
      - {{type: remote, path: "{sandbox.dir}/locks/there", {sshd.keys()}}}
    actions:
      - {{action: sync, id: one, source: "{sandbox.dir}/big", dest: "{sandbox.dir}/copy/", opts: ["-a", "--bwlimit=1m"]}}
"""


def rsyncs(sandbox):
    """The pids of rsyncs that work in this sandbox."""
    found = []
    for entry in pathlib.Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                argv = (entry / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if argv[0].endswith(b"rsync") and any(os.fsencode(sandbox.dir) in word for word in argv):
                found.append(int(entry.name))
    return found


def stop(sandbox, sshd, start, settle):
    """One sample: milliseconds until exit, until both locks are gone; number of rsyncs that outlive the director."""
    locks = [sandbox.dir / "locks/here", sandbox.dir / "locks/there"]
    with start(sandbox, jobs(sandbox, sshd)) as program:
        program.ready(settle)
        program.hup()
        harness.until("rsync writes", lambda: any((sandbox.dir / "copy").glob(".big.*")), 30)
        sent = time.time_ns()
        os.kill(program.pid, signal.SIGTERM)
        gone = exited = None
        while exited is None or gone is None:
            if gone is None and not any(lock.exists() for lock in locks):
                gone = time.time_ns()
            if exited is None and program.process.poll() is not None:
                exited = time.time_ns()
            if time.time_ns() - sent > 30e9:
                raise TimeoutError("not stopped")
            time.sleep(0.0005)
    left = rsyncs(sandbox)
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    harness.until("they are gone", lambda: not rsyncs(sandbox))
    for path in (sandbox.dir / "copy").iterdir():
        path.unlink()
    return harness.milliseconds(exited - sent), harness.milliseconds(gone - sent), len(left)


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--rounds", type=int, default=7)
    options = arguments.parse_args()
    table = tables.Table("SIGTERM with a running rsync")
    samples = {}
    with harness.Sandbox() as sandbox, harness.Sshd(sandbox) as sshd:
        (sandbox.dir / "copy").mkdir()
        (sandbox.dir / "big").write_bytes(os.urandom(1 << 20) * 200)
        for _ in range(options.rounds):
            for name, start, settle in harness.programs():
                samples.setdefault(name, []).append(stop(sandbox, sshd, start, settle))
    for column, (what, unit, bar) in enumerate(
        [("TERM -> exited", "ms", 1000), ("TERM -> both locks gone", "ms", 1000), ("rsync processes left", "", 0)]
    ):
        table.row(what, {name: [sample[column] for sample in rows] for name, rows in samples.items()}, unit, bar)
    tables.finish(table)


main()
