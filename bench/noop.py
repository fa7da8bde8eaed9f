"""Fifty local syncs that find nothing to do, in one job, against the same fifty rsync commands in a shell loop.

A no-op rsync takes either 27 ms or 47: its processes look for each other's end every 20 ms, and which of two looks comes
first is chance. So a round of fifty varies by 4 %, and only many rounds tell something.
"""

import argparse
import subprocess

import harness
import tables

SYNCS = 50


def jobs(sandbox, stamper):
    stamp = '      - {{action: command, id: {0}, command: "{1}/stamp", args: ["-"]}}\n'
    sync = '      - {{action: sync, id: sync-{0}, source: "{1}/source/", dest: "{1}/dest", opts: ["-a"]}}\n'
    actions = [stamp.format("begin", stamper.directory)]
    actions += [sync.format(number, sandbox.dir) for number in range(SYNCS)]
    actions += [stamp.format("end", stamper.directory)]
    return "  - id: many\n    type: local\n    actions:\n" + "".join(actions)


def loop(sandbox, stamper):
    """The yardstick: no director at all."""
    script = f"""
        {stamper.directory}/stamp
        i=0
        while [ $i -lt {SYNCS} ]; do rsync -a {sandbox.dir}/source/ {sandbox.dir}/dest; i=$((i + 1)); done
        {stamper.directory}/stamp
    """
    subprocess.run(["sh", "-c", script], env=sandbox.environment(), stdout=subprocess.DEVNULL, check=True)
    begin, end = stamper.next(2)
    return harness.milliseconds(end - begin) / SYNCS


def directed(program, stamper):
    program.hup()
    begin, end = stamper.next(2, pause=0.25)
    return harness.milliseconds(end - begin) / SYNCS


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--rounds", type=int, default=25)
    options = arguments.parse_args()
    table = tables.Table(f"{SYNCS} no-op local syncs in one job, per sync")
    samples, ratios, bare = {}, {}, []
    with harness.Sandbox() as sandbox:
        shell = sandbox.stamper("shell")
        running = []
        for name, start, settle in harness.programs():
            stamper = sandbox.stamper(name)
            program = start(sandbox, jobs(sandbox, stamper))
            program.ready(settle)
            running.append((name, program, stamper))
        try:
            loop(sandbox, shell)  # makes the copy, so that nothing is left to do
            for _ in range(options.rounds):
                # Each program between two loops, so that a change of the machine's mood shows in both.
                bare.append(loop(sandbox, shell))
                for name, program, stamper in running:
                    samples.setdefault(name, []).append(directed(program, stamper))
                    bare.append(loop(sandbox, shell))
                    around = (bare[-1] + bare[-2]) / 2
                    ratios.setdefault(name, []).append(samples[name][-1] / around)
        finally:
            for _, program, _ in running:
                program.__exit__()
    table.row("in the director", samples, "ms")
    table.row("in a shell loop", {"ours": bare}, "ms")
    table.row("director / shell loop, round by round", ratios, "x", bar=1.05)
    tables.finish(table)


main()
