"""The README's chart, as SVG: a panel for each comparison, bars from zero, ours first, readable on light and dark pages."""

import html

WIDTH, PANEL, LABEL, BAR, GAP, HEAD = 880, 440, 172, 15, 6, 44  # pixels
LONGEST = PANEL - LABEL - 80  # pixels; the rest is for the number

STYLE = """
text { font: 12px system-ui, sans-serif; fill: #24292f }
.title { font-weight: 600; font-size: 13px }
.quiet { fill: #57606a }
.ours { fill: #0969da } .other { fill: #8c959f } .floor { fill: #d0d7de }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3 } .quiet { fill: #9da7b1 }
  .ours { fill: #4493f8 } .other { fill: #7d8590 } .floor { fill: #3d444d }
}
"""

# The tables shown, by the benchmark and the beginning of a title, with the panel's title and what is better.
PANELS = [
    ("transport", "No-op sync of 10 files, loopback", "No-op sync, loopback", "ms, less is better"),
    ("transport", "No-op sync of 10 files, 20 ms", "No-op sync, 20 ms round trip", "ms, less is better"),
    ("bulk", "A file of 2,000 MB, push, loopback", "2 GB file, push", "MB/s, more is better"),
    ("bulk", "A file of 2,000 MB, pull, loopback", "2 GB file, pull", "MB/s, more is better"),
    ("bulk", "20,000 files of 4 KB, push", "20,000 files of 4 KB, push", "files/s, more is better"),
    ("bulk", "20,000 files of 4 KB, pull", "20,000 files of 4 KB, pull", "files/s, more is better"),
]


def panel(rows, title, better, left, top):
    """One comparison; `rows` are (way, median)."""
    most = max(median for _, median in rows)
    parts = [
        f'<text class="title" x="{left}" y="{top + 16}">{html.escape(title)}</text>',
        f'<text class="quiet" x="{left}" y="{top + 33}">{html.escape(better)}</text>',
    ]
    for number, (way, median) in enumerate(rows):
        y = top + HEAD + number * (BAR + GAP)
        kind = "ours" if way == "ours" else "floor" if way == "without SSH" else "other"
        length = LONGEST * median / most
        digits = 0 if median >= 100 else 1
        parts += [
            f'<text x="{left + LABEL - 8}" y="{y + 12}" text-anchor="end">{html.escape(way)}</text>',
            f'<rect class="{kind}" x="{left + LABEL}" y="{y}" width="{length:.1f}" height="{BAR}"/>',
            f'<text x="{left + LABEL + length + 6:.1f}" y="{y + 12}">{median:,.{digits}f}</text>',
        ]
    return parts, HEAD + len(rows) * (BAR + GAP) + 14


def find(kept, benchmark, beginning):
    for table in kept.get(benchmark, {"tables": []})["tables"]:
        if table["title"].startswith(beginning):
            return [(row["way"], row["median"]) for row in table["rows"] if "way" in row]
    return []


def write(kept, path):
    """Draws what is there of the panels, two in a line."""
    panels = [(find(kept, name, beginning), *words) for name, beginning, *words in PANELS]
    panels = [panel for panel in panels if panel[0]]
    parts, top, height = [], 0, 0
    for number, (rows, title, better) in enumerate(panels):
        if number % 2 == 0:
            top, height = top + height, 0
        drawn, taken = panel(rows, title, better, 8 + number % 2 * PANEL, top)
        parts += drawn
        height = max(height, taken)
    if panels:
        where = kept[PANELS[0][0] if PANELS[0][0] in kept else PANELS[2][0]]["where"]
        caption = f"Medians. {where['machine']}; rsync {where['rsync']}, OpenSSH {where['OpenSSH']}; {where['date'][:10]}"
        parts.append(f'<text class="quiet" x="8" y="{top + height + 12}">{html.escape(caption)}</text>')
        size = f'width="{WIDTH}" height="{top + height + 24}" viewBox="0 0 {WIDTH} {top + height + 24}"'
        head = f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img">'
        label = "<title>Syncs over the director's own connection beside rsync over OpenSSH</title>"
        path.write_text("\n".join([head, label, f"<style>{STYLE}</style>", *parts, "</svg>"]) + "\n")
