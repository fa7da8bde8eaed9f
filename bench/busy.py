"""A lock taken and given back on a peer while 2 GB go to the same peer, against the same on an idle connection: on an idle host,
and by a director without a transfer while that of the other keeps the processors busy.
"""

import argparse
import contextlib

import harness
import tables
from ways import Place

MEGABYTE = 1_000_000  # bytes
AT_ONCE = 10  # samples of each kind in a round
DURING, BESIDE, IDLE = "during a transfer to the peer", "during another director's transfer", "idle connection, idle host"


def jobs(sandbox, sshd, stamper, transfer):
    """One job that takes a lock, and one beside it that transfers or does nothing."""
    lock = f'{{type: remote, {sshd.keys()}, path: "{sandbox.dir}/locks/0"}}'
    stamp = f'{{action: command, id: stamp, command: "{stamper.directory}/stamp", args: ["-"]}}'
    return (
        f'  - {{id: lock, type: local, cron_schedule: "0 3 * * *", lock_files: [{lock}], actions: [{stamp}]}}\n'
        f"  - {{id: data, type: remote, {sshd.keys()}, actions: [{transfer}]}}\n"
    )


class Director:
    """Runs both jobs at once, each time it is told to; a job that still runs is not run twice."""

    def __init__(self, place, name, transfer):
        self.sandbox, self.stamper = place.sandbox, place.sandbox.stamper(name)
        self.program = harness.ours(
            self.sandbox, jobs(self.sandbox, place.sshd, self.stamper, transfer), name=name, top="transport: native\n"
        )
        self.program.ready()
        self.lock()  # makes the connections

    def close(self):
        self.program.__exit__()

    def lock(self):
        """Milliseconds from the trigger until the lock's job has acted, and from then until its lock is gone."""
        return sum(harness.locked_run(self.sandbox, self.program, self.stamper, locks=1, pause=0.05))

    def is_transferring(self):
        return 'rsyncdirector_job_running{job_id="data"} 1' in (self.program.scrape() or "")


def transferring(busy, idle):
    """Pairs of samples of both directors during transfers of the one."""
    count = 0
    while count < AT_ONCE:
        before = busy.is_transferring()
        pair = busy.lock(), idle.lock()
        # A transfer ends now and then, and each trigger owes another: only what lies within one counts.
        if before and busy.is_transferring():
            yield pair
            count += 1


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--rounds", type=int, default=4)
    arguments.add_argument("--megabytes", type=int, default=2000)
    options = arguments.parse_args()
    table = tables.Comparison("A lock taken and given back on one peer, warm connection", "ms")
    with contextlib.ExitStack() as stack:
        sandbox = stack.enter_context(harness.Sandbox())
        memory = stack.enter_context(harness.memory())
        place = stack.enter_context(Place(sandbox))
        (memory / "file").write_bytes(bytes(MEGABYTE) * options.megabytes)

        def director(name, transfer):
            return stack.enter_context(contextlib.closing(Director(place, name, transfer)))

        idle = director("idle", '{action: command, id: nothing, command: "true", args: []}')
        options_of_rsync = '["-a", "--inplace", "--ignore-times", "--whole-file"]'
        sync = f'{{action: sync, id: data, source: "{memory}/file", dest: "{memory}/copy", opts: {options_of_rsync}}}'
        busy = director("busy", sync)
        samples = {DURING: [], BESIDE: [], IDLE: []}
        for _ in range(options.rounds):
            harness.until("no transfer runs", lambda: not busy.is_transferring(), seconds=120, pause=0.1)
            samples[IDLE] += [idle.lock() for _ in range(AT_ONCE)]
            found = list(transferring(busy, idle))
            samples[DURING] += [during for during, _ in found]
            samples[BESIDE] += [beside for _, beside in found]
    table.rows(samples, {IDLE: ("<=", 2.0)})
    tables.finish(table)


main()
