"""The tables that the benchmarks print, and what `bench/run` keeps of them for RESULTS.md."""

import json
import os
import statistics
import sys


def spread(numbers, unit):
    """Median and range."""
    if not numbers:
        return "-"
    middle = statistics.median(numbers)
    digits = 0 if middle >= 100 else 1 if middle >= 10 else 2
    if len(numbers) == 1:
        return f"{middle:,.{digits}f} {unit}".rstrip()
    return f"{middle:,.{digits}f} ({min(numbers):,.{digits}f}..{max(numbers):,.{digits}f}) {unit}".rstrip()


class Results:
    """Rows under a title. Remembers whether a bar was missed, and writes all of it to the file that BENCH_RESULTS names."""

    def __init__(self, title, columns):
        self.missed = False
        self.kept = {"title": title, "columns": columns, "rows": []}
        print(f"\n{title}", flush=True)

    def keep(self, cells, **facts):
        self.kept["rows"].append({"cells": [cell.strip() for cell in cells], **facts})

    def bar(self, is_met):
        self.missed |= not is_met
        return "met" if is_met else "MISSED"

    def skip(self, what, why):
        """A row that cannot be measured here."""
        print(f"  {what:46} skipped: {why}", flush=True)
        self.keep([what, f"skipped: {why}"])

    def finish(self):
        """Hands the rows over; whether all bars were met."""
        if path := os.environ.get("BENCH_RESULTS"):
            with open(path, "a") as file:
                file.write(json.dumps(self.kept) + "\n")
        return not self.missed


class Table(Results):
    """One measurement a row, ours beside the Python program's."""

    def __init__(self, title):
        super().__init__(title, ["", "ours", "peer", "peer / ours", "bar"])
        print(f"  {'':46} {'ours':>24} {'peer':>24} {'ratio':>7}  bar")

    def row(self, what, samples, unit, bar=None):
        """`samples` maps a program to its numbers; the bar is the greatest median that ours may have."""
        shown = [spread(samples.get(name), unit) for name in ("ours", "peer")]
        ratio = ""
        if samples.get("peer") and statistics.median(samples["ours"]) > 0:
            ratio = f"{statistics.median(samples['peer']) / statistics.median(samples['ours']):.1f}x"
        verdict = ""
        if bar is not None:
            verdict = f"<= {bar:g} {unit}: {self.bar(statistics.median(samples['ours']) <= bar)}"
        print(f"  {what:46} {shown[0]:>24} {shown[1]:>24} {ratio:>7}  {verdict}", flush=True)
        self.keep([what, *shown, ratio, verdict])


class Facts(Results):
    """What was measured of the circumstances."""

    def __init__(self, title):
        super().__init__(title, ["", "median (least..greatest)"])

    def row(self, what, numbers, unit):
        print(f"  {what:46} {spread(numbers, unit):>30}", flush=True)
        self.keep([what, spread(numbers, unit)])


class Comparison(Results):
    """One way of doing the same a row, ours first. Samples of all ways alternate: the numbers of one round stand at the same
    place of their lists, and a ratio is the median of the rounds' ratios, ours over the other."""

    def __init__(self, title, unit):
        super().__init__(title, ["", f"median (least..greatest), {unit}", "ours / this", "bar"])
        self.unit = unit
        print(f"  {'':46} {'median (least..greatest)':>30} {'ours/it':>8}  bar")

    def rows(self, samples, bars):
        """`samples` maps a way to its numbers; a bar is `("<=" or ">=", number)` for the ratio."""
        ours = next(iter(samples.values()))
        for index, (way, numbers) in enumerate(samples.items()):
            quotient = statistics.median(a / b for a, b in zip(ours, numbers, strict=True))
            ratio = f"{quotient:.2f}x" if index else ""
            verdict = ""
            if way in bars:
                relation, bound = bars[way]
                is_met = quotient <= bound if relation == "<=" else quotient >= bound
                verdict = f"{relation} {bound:.2f}x: {self.bar(is_met)}"
            shown = spread(numbers, self.unit)
            print(f"  {way:46} {shown:>30} {ratio:>8}  {verdict}", flush=True)
            self.keep([way, spread(numbers, ""), ratio, verdict], way=way, median=statistics.median(numbers))


def finish(*tables):
    """Ends the benchmark, with 1 when a bar was missed."""
    met = [table.finish() for table in tables]
    sys.exit(0 if all(met) else 1)
