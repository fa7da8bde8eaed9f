"""A job with four remote locks and two remote blocks on one peer: time until rsync is executed, from cold and on a warm
connection, time until the locks are gone, connections, and round trips.

Round trips are counted as an outsider can: a proxy delays each direction, and what a step takes longer through it is a
multiple of that delay. The job is of type `local`, so that its rsync is the stamping one and needs no connection of its
own.
"""

import argparse

import harness
import tables

def jobs(sandbox, keys):
    at = f"type: remote, {keys}"
    locks = "".join(f'      - {{{at}, path: "{sandbox.dir}/locks/{number}"}}\n' for number in range(4))
    blocks = "".join(
        f'      - {{{at}, path: "{sandbox.dir}/block-{number}", wait_time: 1, timeout: 10}}\n' for number in range(2)
    )
    return (
        f"  - id: remote\n    type: local\n    lock_files:\n{locks}    blocks_on:\n{blocks}"
        f'    actions:\n      - {{action: sync, id: one, source: "{sandbox.dir}/source/",'
        f' dest: "{sandbox.dir}/dest", opts: ["-a"]}}\n'
    )


def measure(sandbox, sshd, start, settle, name, cold_rounds, warm_rounds):
    """Cold and warm samples of one program: lists of (to rsync, to gone); and its connections and sessions."""
    cold, warm, stamper = [], [], sandbox.stamper(name)
    counts = []
    for number in range(cold_rounds):
        with start(sandbox, jobs(sandbox, sshd.keys()), path=stamper.directory) as program:
            program.ready(settle)
            before = sshd.count("Connection from"), sshd.count("Starting session")
            cold.append(harness.locked_run(sandbox, program, stamper))
            counts.append((sshd.count("Connection from") - before[0], sshd.count("Starting session") - before[1]))
            if number == cold_rounds - 1:
                warm = [harness.locked_run(sandbox, program, stamper) for _ in range(warm_rounds)]
    return cold, warm, counts


def delayed(sandbox, sshd, start, settle, name):
    """The same through the proxy: the second run of an instance."""
    proxy = harness.DelayingProxy(sshd.port)
    sshd.know(proxy.port)
    stamper = sandbox.stamper(f"{name}-delayed")
    with start(sandbox, jobs(sandbox, sshd.keys(proxy.port)), path=stamper.directory) as program:
        program.ready(settle)
        harness.locked_run(sandbox, program, stamper)
        return [harness.locked_run(sandbox, program, stamper) for _ in range(3)]


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--cold", type=int, default=10)
    arguments.add_argument("--warm", type=int, default=20)
    options = arguments.parse_args()
    table = tables.Table("A job with 4 remote locks and 2 remote blocks on one peer")
    rows = {}

    def collect(what, name, samples):
        rows.setdefault(what, {})[name] = list(samples)

    with harness.Sandbox() as sandbox, harness.Sshd(sandbox) as sshd:
        for name, start, settle in harness.programs():
            cold, warm, counts = measure(sandbox, sshd, start, settle, name, options.cold, options.warm)
            slow = delayed(sandbox, sshd, start, settle, name)
            collect("cold", name, (to_rsync for to_rsync, _ in cold))
            collect("warm", name, (to_rsync for to_rsync, _ in warm))
            collect("gone", name, (to_gone for _, to_gone in warm))
            collect("connections", name, (connections for connections, _ in counts))
            collect("sessions", name, (sessions for _, sessions in counts))
            collect("taking", name, harness.trips([a for a, _ in slow], [a for a, _ in warm]))
            collect("releasing", name, harness.trips([b for _, b in slow], [b for _, b in warm]))
    table.row("HUP -> rsync executed, first run", rows["cold"], "ms", bar=150)
    table.row("HUP -> rsync executed, later runs", rows["warm"], "ms", bar=15)
    table.row("rsync executed -> locks gone, later runs", rows["gone"], "ms")
    table.row("TCP connections of a first run", rows["connections"], "", bar=1)
    table.row("SSH sessions of a first run", rows["sessions"], "")
    # The first look at the blocks, then at most two for taking all locks, which ends with the second look.
    table.row("round trips, trigger -> rsync", rows["taking"], "", bar=3.2)
    table.row("round trips, rsync -> locks gone", rows["releasing"], "", bar=2.2)
    tables.finish(table)


main()
