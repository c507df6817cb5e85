"""The table of findings, the contact sheet, and a page with both."""

from __future__ import annotations

import dataclasses
import html
import sys
from pathlib import Path

import pandas as pd
from rich.console import Console
from rich.table import Table

from ..core import storage
from ..reporting.contact_sheets import contact_sheet
from .check import Finding
from .workspace import Workspace

COLOURS = {"pass": "green", "warn": "yellow", "fail": "red", "skip": "dim"}
COLUMNS, THUMB = 8, 160
TABLE, SHEET, PAGE = "checks.csv", "contact_sheet.png", "index.html"
STYLE = """body{font:15px/1.4 system-ui,sans-serif;margin:2rem;max-width:80rem;color:#222}
table{border-collapse:collapse;width:100%}td,th{padding:.3rem .6rem;text-align:left;
vertical-align:top;border-bottom:1px solid #ddd}img{max-width:100%}
.pass{color:#2a7d2a}.warn{color:#9a6a00}.fail{color:#b00020;font-weight:600}.skip{color:#777}"""


def write(bench: Workspace, findings: list[Finding], verdict: str) -> list[Path]:
    """Write all three into the workspace's folder; returns their paths."""
    paths = [bench.folder / name for name in (TABLE, SHEET, PAGE)]
    columns = [f.name for f in dataclasses.fields(Finding)]
    storage.write_table(paths[0], pd.DataFrame(map(dataclasses.asdict, findings), columns=columns))
    title = f"preflight of {bench.config.study}: {verdict}"
    storage.write_image(
        paths[1],
        contact_sheet(
            [p for _, _, p in bench.pictures],
            [f"{section}: {caption}" for section, caption, _ in bench.pictures],
            COLUMNS,
            THUMB,
            title,
        ),
    )
    storage.write_text(paths[2], as_html(findings, title))
    return paths


def as_html(findings: list[Finding], title: str) -> str:
    """The page; failures first."""
    order = sorted(findings, key=lambda f: ("fail", "warn", "pass", "skip").index(f.status))
    cells = "".join(
        "<tr>"
        + "".join(
            f"<td class={f.status}>{html.escape(x)}</td>" for x in (f.status, f.check, f.what)
        )
        + "".join(f"<td>{html.escape(x)}</td>" for x in (f.value, f.wanted, f.remedy))
        + "</tr>"
        for f in order
    )
    heads = "".join(f"<th>{h}</th>" for h in ("", "check", "what", "seen", "wanted", "remedy"))
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{html.escape(title)}</title>'
        f"<style>{STYLE}</style><h1>{html.escape(title)}</h1><table><tr>{heads}</tr>{cells}</table>"
        f'<h2>Contact sheet</h2><img src="{SHEET}" alt="pictures of the checks">\n'
    )


def show(findings: list[Finding], verdict: str) -> None:
    """Print the table, remedies below it, and the verdict; plain lines where it is piped."""
    if not sys.stdout.isatty():
        for f in findings:
            print(f"{f.status:<5} {f.check:<13} {f.what}: {f.value} (wanted: {f.wanted})")
    else:
        table = Table("", "check", "what", "seen", "wanted")
        for f in findings:
            row = (f.status, f.check, f.what, f.value, f.wanted)
            table.add_row(*row, style=COLOURS[f.status])
        Console(highlight=False, markup=False).print(table)
    for f in (f for f in findings if f.remedy):
        print(f"\n{f.status}  {f.check}: {f.what}\n      seen:   {f.value}")
        print(f"      do:     {f.remedy}")
    print(f"\n{verdict}")
