"""A director that is connected to 50 peers and has nothing to do: its resident memory."""

import argparse
import shutil

import harness
import tables

PEERS = 50


def jobs(sandbox, sshd):
    """A lock on each peer, and a sync to each. The peers differ by their key's name: to the director they are so many hosts."""
    locks, syncs = [], []
    for peer in range(PEERS):
        key = sshd.dir / f"key-{peer:03}"
        shutil.copy(sshd.dir / "key", key)
        keys = sshd.keys().replace(f"{sshd.dir}/key", str(key))
        locks.append(f'{{type: remote, {keys}, path: "{sandbox.dir}/locks/{peer}"}}')
        sync = f'{{action: sync, id: sync, source: "{sandbox.dir}/source/", dest: "{sandbox.dir}/dest", opts: [-a]}}'
        syncs.append(f"  - {{id: sync-{peer}, type: remote, {keys}, actions: [{sync}]}}\n")
    files = "".join(f"      - {lock}\n" for lock in locks)
    act = '{action: command, id: act, command: "true", args: []}'
    return f"  - id: locks\n    type: local\n    lock_files:\n{files}    actions: [{act}]\n", "".join(syncs)


def memory(sandbox, sshd, jobs, connections):
    """The resident memory in MB, once the jobs have run and so many connections stand."""
    before = sshd.count("Accepted publickey")
    with harness.ours(sandbox, jobs, top="transport: native\n") as program:
        program.ready()
        program.hup()
        done = f'runs_completed_total{{rsync_id="{program.name}"}} 1'
        harness.until("the run is over", lambda: done in (program.scrape() or ""), seconds=120, pause=0.2)
        made = sshd.count("Accepted publickey") - before
        if made != connections:
            raise RuntimeError(f"{made} connections, not {connections}")
        return program.status("VmRSS") / 1024


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--rounds", type=int, default=3)
    options = arguments.parse_args()
    table = tables.Table(f"Connected to {PEERS} idle peers, resident memory")
    with harness.Sandbox() as sandbox, harness.Sshd(sandbox) as sshd:
        locks, syncs = jobs(sandbox, sshd)
        commands = [memory(sandbox, sshd, locks, PEERS) for _ in range(options.rounds)]
        both = [memory(sandbox, sshd, locks + syncs, 2 * PEERS) for _ in range(options.rounds)]
    table.row("a connection for locks each", {"ours": commands}, "MB", bar=25)
    table.row("and one that rsync has just used", {"ours": both}, "MB")
    tables.finish(table)


main()
