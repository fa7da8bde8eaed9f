"""What leases cost: taking and giving back four locks of one peer on a warm connection, and keeping a thousand locks on a
hundred peers fresh.
"""

import argparse
import os
import pathlib
import shutil
import time

import harness
import tables

TICK = 1 / os.sysconf("SC_CLK_TCK")  # seconds
PEERS, LOCKS = 100, 10


def four_locks(sandbox, stamper, keys):
    at = f"type: remote, {keys}"
    locks = "".join(f'      - {{{at}, path: "{sandbox.dir}/locks/{number}"}}\n' for number in range(4))
    stamp = f'{{action: command, id: stamp, command: "{stamper.directory}/stamp", args: ["-"]}}'
    return f"  - id: four\n    type: local\n    lock_files:\n{locks}    actions: [{stamp}]\n"


def warm(sandbox, keys, name, rounds):
    """Samples of a program whose connection stands."""
    stamper = sandbox.stamper(name)
    with harness.ours(sandbox, four_locks(sandbox, stamper, keys)) as program:
        program.ready()
        harness.locked_run(sandbox, program, stamper)
        return [harness.locked_run(sandbox, program, stamper) for _ in range(rounds)]


def thousand_locks(sandbox, sshd):
    """One job that holds them all. The peers differ by their key's name: to the director they are a hundred hosts."""
    locks = []
    for peer in range(PEERS):
        key = sshd.dir / f"key-{peer:03}"
        shutil.copy(sshd.dir / "key", key)
        keys = sshd.keys().replace(f"{sshd.dir}/key", str(key))
        locks += [f'{{type: remote, {keys}, path: "{sandbox.dir}/locks/{peer:03}/{n}"}}' for n in range(LOCKS)]
    files = "".join(f"      - {lock}\n" for lock in locks)
    hold = "{action: command, id: hold, command: sleep, args: ['3600']}"
    return f"  - id: thousand\n    type: local\n    lock_files:\n{files}    actions: [{hold}]\n"


def cpu(pid):
    """Seconds of CPU that a process has used."""
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) * TICK


def refreshing(sandbox, sshd, seconds):
    """The share of a core that refreshing takes, the resident memory in MB, and how many locks were fresh at the end."""
    with harness.ours(sandbox, thousand_locks(sandbox, sshd)) as program:
        program.ready()
        program.hup()
        held = f'rsyncdirector_locks_held{{job_id="thousand",scope="remote"}} {PEERS * LOCKS}'
        harness.until("all locks are held", lambda: held in (program.scrape() or ""), seconds=120, pause=0.5)
        time.sleep(1)
        before, began = cpu(program.pid), time.monotonic()
        time.sleep(seconds)
        share = (cpu(program.pid) - before) / (time.monotonic() - began)
        memory = program.status("VmRSS") / 1024
        youngest = time.time() - 20  # a quarter of the lease, and some
        fresh = sum(lock.stat().st_mtime > youngest for lock in (sandbox.dir / "locks").glob("*/*"))
        return share, memory, fresh


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--rounds", type=int, default=20)
    arguments.add_argument("--seconds", type=int, default=90)
    options = arguments.parse_args()
    with harness.Sandbox() as sandbox, harness.Sshd(sandbox) as sshd:
        table = tables.Table("4 locks on one peer, warm connection")
        fast = warm(sandbox, sshd.keys(), "fast", options.rounds)
        proxy = harness.DelayingProxy(sshd.port)
        sshd.know(proxy.port)
        slow = warm(sandbox, sshd.keys(proxy.port), "slow", 3)
        table.row("HUP -> command executed", {"ours": [taking for taking, _ in fast]}, "ms")
        table.row("command executed -> locks gone", {"ours": [giving for _, giving in fast]}, "ms")
        table.row("both, with the run around them", {"ours": [sum(sample) for sample in fast]}, "ms", bar=30)
        both = harness.trips([sum(sample) for sample in slow], [sum(sample) for sample in fast])
        table.row("round trips of both", {"ours": both}, "", bar=2.2)

        keeping = tables.Table(f"{PEERS * LOCKS} locks on {PEERS} peers, default lease")
        share, memory, fresh = refreshing(sandbox, sshd, options.seconds)
        keeping.row("refreshing, share of a core", {"ours": [100 * share]}, "%", bar=2)
        keeping.row("resident memory", {"ours": [memory]}, "MB")
        keeping.row("locks not refreshed", {"ours": [PEERS * LOCKS - fresh]}, "", bar=0)
        tables.finish(table, keeping)


main()
