"""One page to leaf through a run: summary numbers on top, then the executed notebooks, in a single file.

Nothing is loaded from elsewhere: pictures, styles and the few lines of script lie in the page, so it can be mailed.
"""

import json
import re
from collections.abc import Mapping
from html import escape
from pathlib import Path
from string import Template

import nbformat
from nbconvert import HTMLExporter
from pygments.formatters import HtmlFormatter

PACKAGES = ("numpy", "pandas", "scikit-learn", "torch", "optuna", "botocore")  # whose version may change a number


def page(folder: Path, manifest: Mapping[str, object]) -> str:
    """The report of a run as HTML.

    folder: holds ``notebooks/`` and perhaps ``summary.json``, the numbers that notebooks want on top, as
    ``{label: value}``.  manifest: what ``lib.run`` knows of the run.
    """
    summary = json.loads((folder / "summary.json").read_text()) if (folder / "summary.json").is_file() else {}
    records = manifest["notebooks"]
    longest = max((record["seconds"] for record in records.values()), default=1)
    links, steps, sections = [], [], []
    for path in sorted((folder / "notebooks").glob("*.ipynb")):
        stem, _, end = path.name.partition(".")
        if end == "running.ipynb":
            continue
        notebook = nbformat.read(path, as_version=4)
        title, record = escape(_title(notebook, stem)), records.get(stem)
        time = _duration(record["seconds"]) if record else "failed"
        kind = "" if record else "failed"
        links.append(f'<a href="#{stem}" class="{kind}"><span>{title}</span><small>{time}</small></a>')
        share = 100 * record["seconds"] / longest if record else 0
        memory = f"{record['peak_memory_mib']:,} MiB" if record else ""
        steps.append(
            f'<tr class="{kind}"><td><a href="#{stem}">{title}</a></td>'
            f'<td class="bar"><i style="width:{share:.1f}%"></i></td>'
            f"<td>{time}</td><td>{memory}</td></tr>"
        )
        sections.append(f'<section class="notebook" id="{stem}">{_body(notebook, stem)}</section>')
    return Template(PAGE).substitute(
        name=escape(str(manifest["profile"])),
        description=escape(str(manifest["description"])),
        state=escape(str(manifest["state"])),
        cards="".join(
            f"<div><b>{escape(_number(value))}</b><span>{escape(label)}</span></div>"
            for label, value in summary.items()
        ),
        links="\n".join(links),
        steps="\n".join(steps),
        facts="".join(f"<dt>{name}</dt><dd>{escape(value)}</dd>" for name, value in _facts(manifest).items()),
        sections="\n".join(sections),
        highlight=HtmlFormatter(style="friendly").get_style_defs(".highlight"),
    )


def _title(notebook: nbformat.NotebookNode, stem: str) -> str:
    """The notebook's first heading."""
    prose = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    heading = re.search(r"^# +(.+)$", prose, flags=re.MULTILINE)
    return heading[1].strip() if heading else stem


def _body(notebook: nbformat.NotebookNode, stem: str) -> str:
    """The cells of a notebook as HTML; its ids are the page's only ones, its links to notebooks lead to sections."""
    exporter = HTMLExporter(template_name="basic", embed_images=True, exclude_anchor_links=True)
    body, _ = exporter.from_notebook_node(notebook)
    body = re.sub(r'(<div class="cell [^"]*" id=)"', rf'\1"{stem}--', body)
    return re.sub(r'href="(\d\d_\w+)\.ipynb(?:#[^"]*)?"', r'href="#\1"', body)


def _facts(manifest: Mapping[str, object]) -> dict[str, str]:
    packages = manifest["packages"]
    return {
        "State": str(manifest["state"]),
        "Started": str(manifest["started"]).replace("T", " ").replace("+00:00", " UTC"),
        "Duration": _duration(manifest["seconds"]),
        "Peak memory": f"{manifest['peak_memory_mib']:,} MiB",
        "Machine": str(manifest["platform"]),
        "Python": str(manifest["python"]),
        "Packages": ", ".join(f"{name} {packages[name]}" for name in PACKAGES if name in packages),
        "Commit": str(manifest["commit"] or "not in a clone"),
        "Again": str(manifest["command"]),
    }


def _duration(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 60 else f"{int(seconds) // 60} min {int(seconds) % 60:02} s"


def _number(value: object) -> str:
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>$name · Personalize workbook</title>
<style>
:root { --ink: #1c2733; --soft: #5d6b7a; --line: #dfe5eb; --ground: #f6f8fa; --accent: #0b6e6e; --bad: #b3261e; }
* { box-sizing: border-box; }
body { margin: 0; color: var(--ink); background: #fff; font: 16px/1.6 system-ui, "Segoe UI", Roboto, sans-serif; }
a { color: var(--accent); }
nav { position: fixed; inset: 0 auto 0 0; width: 250px; padding: 28px 18px; overflow-y: auto;
  background: var(--ground); border-right: 1px solid var(--line); }
nav h2 { margin: 0 0 20px 10px; font-size: 15px; line-height: 1.35; }
nav h2 small { display: block; color: var(--soft); font-weight: 400; }
nav a { display: flex; justify-content: space-between; align-items: baseline; gap: 8px; padding: 7px 10px;
  border-radius: 6px; color: var(--ink); text-decoration: none; }
nav a small { color: var(--soft); white-space: nowrap; font-variant-numeric: tabular-nums; }
nav a:hover { background: #e9eef2; }
nav a.here { background: var(--accent); color: #fff; }
nav a.failed small, tr.failed td { color: var(--bad); }
nav a.here small { color: #cfe6e6; }
nav a.failed.here { background: var(--bad); }
nav label { display: block; margin: 22px 10px 0; color: var(--soft); font-size: 14px; cursor: pointer; }
main { margin-left: 250px; padding: 40px 56px 80px; max-width: 1130px; }
h1 { margin: 0 0 12px; font-size: 32px; line-height: 1.2; letter-spacing: -.01em; }
h2 { margin: 40px 0 10px; font-size: 22px; line-height: 1.3; }
h3 { margin: 28px 0 8px; font-size: 18px; }
p { margin: 8px 0; max-width: 46em; }
.lead { color: var(--soft); font-size: 18px; }
.cards { display: grid; grid-template-columns: repeat(auto-fill, minmax(230px, 1fr)); gap: 14px; margin: 28px 0; }
.cards div { padding: 16px 18px; border: 1px solid var(--line);
  border-top: 3px solid var(--accent); border-radius: 6px; }
.cards b { display: block; font-size: 21px; line-height: 1.25; font-weight: 650; overflow-wrap: anywhere;
  font-variant-numeric: tabular-nums; }
.cards span { color: var(--soft); font-size: 14px; }
table { border-collapse: collapse; margin: 12px 0; font-size: 14px; font-variant-numeric: tabular-nums; }
th, td { padding: 5px 12px; text-align: left; border-bottom: 1px solid var(--line); }
thead th { border-bottom: 2px solid var(--line); }
.steps { width: 100%; }
.steps td:nth-child(n+3) { text-align: right; white-space: nowrap; color: var(--soft); }
.steps .bar { width: 45%; }
.bar i { display: block; height: 10px; border-radius: 5px; background: var(--accent); min-width: 2px; }
.failed .bar i { visibility: hidden; }
dl { display: grid; grid-template-columns: 130px 1fr; gap: 4px 12px; font-size: 14px; }
dt { color: var(--soft); } dd { margin: 0; overflow-wrap: anywhere; }
.notebook h1 { padding-bottom: 14px; border-bottom: 3px solid var(--accent); }
.cell { margin: 10px 0; }
.prompt { display: none; }
code { font: 13.5px/1.5 ui-monospace, "SF Mono", Menlo, Consolas, "DejaVu Sans Mono", monospace; }
p code, td code, li code, th code { padding: 1px 5px; border-radius: 4px; background: #eef2f5; }
pre { margin: 0; font: 13.5px/1.5 ui-monospace, "SF Mono", Menlo, Consolas, "DejaVu Sans Mono", monospace; }
.input { border: 1px solid var(--line); border-left: 3px solid #b9c6d2; border-radius: 4px; background: var(--ground); }
.input pre { padding: 10px 14px; overflow-x: auto; }
.no-code .input { display: none; }
.highlight { background: none !important; }
.output_wrapper { margin: 8px 0 18px; padding-left: 16px; overflow-x: auto; }
.output_subarea pre { white-space: pre-wrap; overflow-wrap: anywhere; }
.output_stderr, .output_error { padding: 10px 14px; border-left: 3px solid var(--bad); background: #fdf3f2; }
.rendered_html table { border-collapse: collapse; }
.output_html table, .output_html th, .output_html td { border-width: 0; }
.output_html th, .output_html td { padding: 4px 12px; border-bottom: 1px solid var(--line); }
.output_html thead th { border-bottom-width: 2px; }
.output_html tbody tr:hover { background: var(--ground); }
img { max-width: 100%; height: auto; }
blockquote { margin: 10px 0; padding-left: 14px; border-left: 3px solid var(--line); color: var(--soft); }
.ansi-red-fg, .ansi-red-intense-fg { color: var(--bad); } .ansi-green-fg, .ansi-green-intense-fg { color: #1b6e2f; }
.ansi-blue-fg, .ansi-blue-intense-fg { color: #1f4fa3; } .ansi-cyan-fg { color: #0b6e6e; }
.ansi-bold { font-weight: 700; }
.turn { display: flex; justify-content: space-between; margin-top: 48px; padding-top: 16px;
  border-top: 1px solid var(--line); }
section { scroll-margin-top: 60px; }
.paged section { display: none; } .paged section.here { display: block; }
@media (max-width: 820px) { nav { position: static; width: auto; } main { margin: 0; padding: 24px 18px; } }
@media print { nav, .turn { display: none; } main { margin: 0; max-width: none; } .paged section { display: block; } }
$highlight
</style>
</head>
<body>
<nav>
<h2>Personalize workbook<small>$name</small></h2>
<a href="#overview"><span>Overview</span></a>
$links
<label><input type="checkbox" id="code" checked> show code</label>
</nav>
<main>
<section id="overview">
<h1>$name</h1>
<p class="lead">$description</p>
<div class="cards">$cards</div>
<h2>Steps</h2>
<table class="steps"><tbody>
$steps
</tbody></table>
<h2>This run</h2>
<dl>$facts</dl>
</section>
$sections
</main>
<script>
const links = [...document.querySelectorAll("nav a")], sections = [...document.querySelectorAll("section")];
document.body.classList.add("paged");
sections.forEach((section, place) => {
  const turn = document.createElement("div");
  turn.className = "turn";
  for (const [step, sign] of [[-1, "← "], [1, " →"]]) {
    const link = document.createElement("a"), to = links[place + step];
    if (to) {
      link.href = to.hash;
      link.textContent = step < 0 ? sign + to.firstChild.textContent : to.firstChild.textContent + sign;
    }
    turn.append(link);
  }
  section.append(turn);
});
function show() {
  const target = document.getElementById(decodeURIComponent(location.hash.slice(1))) || sections[0];
  const section = target.closest("section") || sections[0];
  sections.forEach(each => each.classList.toggle("here", each === section));
  links.forEach(each => each.classList.toggle("here", each.hash === "#" + section.id));
  target === section ? scrollTo(0, 0) : target.scrollIntoView();
}
addEventListener("hashchange", show);
addEventListener("load", show);
addEventListener("keydown", event => {
  const step = {ArrowLeft: -1, ArrowRight: 1}[event.key];
  const to = step && !event.target.closest("input") && links[links.findIndex(each => each.matches(".here")) + step];
  if (to) location.hash = to.hash;
});
document.getElementById("code").onchange = event => document.body.classList.toggle("no-code", !event.target.checked);
show();
</script>
</body>
</html>
"""
