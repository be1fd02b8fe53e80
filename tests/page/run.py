# /// script
# requires-python = ">=3.11"
# dependencies = []
# ///
"""Opens pages of `basislab report` in Chromium, and uses them.

    apt-get install chromium
    python tests/page/run.py target/release/basislab [--keep FOLDER]     # FOLDER gets a picture of each page

One page is of the committed evidence, one of a short run with a grid, one of its tables with dimensions that stand out planted in them,
and one of a configuration that would like to be a script. Then
one each of a run that was measured, of one that was rounded, and of a comparison.
"""
import csv
import pathlib
import shutil
import subprocess
import sys
import tempfile

import browser
from browser import Browser

ROOT = pathlib.Path(__file__).resolve().parents[2]
HOSTILE = "</script><script>window.taken = 1</script><img src=x onerror='window.taken = 2'>\u2028${window.taken = 3}&amp;"
MOST_BYTES = 3_000_000

if not browser.found():
    sys.exit("needs chromium: apt-get install chromium")

passed, failures = 0, []


def check(what, holds, found=""):
    global passed
    if holds:
        passed += 1
    else:
        failures.append(what)
        print(f"FAILED: {what}: {str(found)[:600]}")


def run(program, *arguments):
    """What the program prints."""
    done = subprocess.run([program, *map(str, arguments)], capture_output=True, text=True, check=False)
    if done.returncode not in (0, 5):
        sys.exit(f"{' '.join(map(str, arguments))}: exit code {done.returncode}: {done.stderr}")
    return done.stdout


def pages(program, folder):
    """Directories with a page, and what `report` printed there."""
    evidence, hostile, grid = folder / "evidence", folder / "hostile", folder / "grid"
    for copy in (evidence, hostile):
        shutil.copytree(ROOT / "results/adam-vs-sgd", copy, ignore=shutil.ignore_patterns("report.html"))
    config = (hostile / "config.toml").read_text()
    # As TOML writes it in one line.
    text = '"' + HOSTILE.replace("\\", "\\\\").replace('"', '\\"') + '"'
    lines = [f"{line.split(' = ')[0]} = {text}" if line.startswith(("question = ", "text = ")) else line for line in config.splitlines()]
    (hostile / "config.toml").write_text("\n".join(lines) + "\n")
    sweep = "arm.adam.optimizer.lr=0.001,0.003,0.01"
    run(program, "run", "adam-vs-sgd", "--smoke", "--seeds", "2000..2002", "--sweep", sweep, "--quiet", "--no-reuse", "--out", grid)
    planted = folder / "planted"
    planted.mkdir()
    for table in ["config.toml", "manifest.json", "steps.csv", "evals.csv", "residual.csv", "dimensions.csv", "selection.csv"]:
        if (grid / table).exists():
            shutil.copy(grid / table, planted / table)
    plant(planted, grid / "outliers.csv")
    return {place: run(program, "report", place) for place in (evidence, hostile, grid, planted)}


def plant(folder, table):
    """Three dimensions that stand out in seed 2001 of SGD, and one of them in seed 2000 too, beside nothing else."""
    with table.open() as rows:
        header = next(csv.reader(rows))
    with (folder / "dimensions.csv").open() as rows:
        steps = sorted({int(row["step"]) for row in csv.DictReader(rows)})
    with (folder / "outliers.csv").open("w", newline="") as rows:
        writer = csv.DictWriter(rows, header)
        writer.writeheader()
        for seed, dim, first in [(2000, 5, steps[-1]), (2001, 5, steps[0]), (2001, 9, steps[1]), (2001, 11, steps[2])]:
            for site in ["blocks.0.resid_post", "blocks.1.resid_post"]:
                row = dict(arm="sgd", seed=seed, step=steps[-1], site=site, layer=site[7], basis="standard", tokens="rest", dim=dim)
                writer.writerow(row | dict(rms=3.5, ratio=3.5, threshold=1.5, bases=8, rank=1, first_step=first))


def plain_pages(program, folder, grid):
    """Directories of other commands with a page, and what these printed."""
    runs = sorted((grid / "parts").glob("*/2000"))[:2]
    measured, rounded, compared = folder / "measured", folder / "rounded", folder / "compared"
    return {
        measured: run(program, "measure", *runs, "--quiet", "--out", measured),
        rounded: run(program, "quantize", runs[0], "--quiet", "--tokens", "64", "--out", rounded),
        compared: run(program, "compare", ROOT / "results/adam-vs-sgd", grid, "--out", compared),
    }


# All of the drawing that a reader can see.
PICTURE = "document.querySelector('#figure-{0} .plot svg').innerHTML"
WIDER = "document.documentElement.scrollWidth - window.innerWidth"
BUTTONS = "[...document.querySelectorAll('#figure-{0} .keys button')]"


def every_page(tab, name, page, printed, verdicts=True):
    check(f"{name}: small", page.stat().st_size < MOST_BYTES, page.stat().st_size)
    for width in (1280, 400):
        for dark in (False, True):
            how = f"{name}, {width} pixels, {'dark' if dark else 'light'}"
            tab.open(page, width, dark)
            check(f"{how}: the console is silent", not tab.said, tab.said)
            check(f"{how}: nothing else is loaded", tab.asked == [page.resolve().as_uri()], tab.asked)
            check(f"{how}: nothing is wider than the window", tab.value(WIDER) <= 0, tab.value(WIDER))
            drawn = tab.value("JSON.parse(document.getElementById('data').textContent).figures.map(one => one.name)")
            empty = [figure for figure in drawn if not tab.value(f"document.getElementById('figure-{figure}').querySelectorAll('.plot .ink').length")]
            check(f"{how}: every figure is drawn", drawn and not empty, (drawn, empty))
            paper = tab.value("getComputedStyle(document.body).backgroundColor")
            check(f"{how}: the paper", (paper == "rgb(255, 255, 255)") != dark, paper)
    scripts = tab.value("[...document.scripts].filter(one => one.type !== 'application/json').length")
    check(f"{name}: one script", scripts == 1, scripts)
    shown = tab.value("document.querySelector('main').innerText")
    flat = " ".join(shown.split())
    if not verdicts:
        lines = [" ".join(line.split()) for line in printed.splitlines() if line.strip() and not line.startswith((str(page.parent), "next: "))]
        missing = [line for line in lines if line not in flat]
        check(f"{name}: everything that is printed is there", len(lines) > 5 and not missing, missing)
    sentences = [" ".join(line.split(None, 1)[1].split()) for line in printed.splitlines() if line.split(" ")[0] in VERDICTS]
    check(f"{name}: the printed verdicts are there", not verdicts or sentences and all(said in flat for said in sentences), sentences)
    notes = [" ".join(line.removeprefix("note: ").split()) for line in printed.splitlines() if line.startswith("note: ")]
    check(f"{name}: the printed notes are there", all(note in flat for note in notes), notes)
    tab.open(page, 1280, dark=True, media="print")
    paper = tab.value("getComputedStyle(document.body).backgroundColor")
    check(f"{name}: printed on white paper", paper == "rgb(255, 255, 255)", paper)
    tab.open(page, scripts=False)
    check(f"{name}: without scripts nothing is said", not tab.said, tab.said)


VERDICTS = ["supported", "opposite", "negligible", "refuted", "inconclusive", "exploratory", "control", "deviates"]


def without_scripts(tab, page):
    tab.open(page, scripts=False)
    # Nothing can be asked of a page without scripts but its layout.
    tree = tab.call("DOM.getDocument", depth=-1)["root"]
    html = tab.call("DOM.getOuterHTML", nodeId=tree["nodeId"])["outerHTML"]
    check("without scripts: the verdicts are there", 'class="verdict supported"' in html and "<noscript>" in html)
    tab.call("Emulation.setScriptExecutionDisabled", value=False)


def legend(tab, page):
    for width in (1280, 400):
        tab.open(page, width)
        figure = "kurtosis_over_steps"
        whole = tab.value(PICTURE.format(figure))
        names = tab.value(f"{BUTTONS.format(figure)}.map(one => one.innerText.split('\\n')[0])")
        check(f"legend, {width}: real buttons", "adam" in names[0] and "each seed" in names[-1], names)
        seen = {whole}
        for place in range(len(names)):
            tab.value(f"{BUTTONS.format(figure)}[{place}].click()")
            seen.add(tab.value(PICTURE.format(figure)))
            pressed = tab.value(f"{BUTTONS.format(figure)}[{place}].getAttribute('aria-pressed')")
            check(f"legend, {width}: {names[place]} is off", pressed == "false", pressed)
            tab.value(f"{BUTTONS.format(figure)}[{place}].click()")
            check(f"legend, {width}: {names[place]} is back", tab.value(PICTURE.format(figure)) == whole)
        check(f"legend, {width}: each button changes the picture", len(seen) == len(names) + 1, len(seen))


def slider(tab, page):
    tab.open(page)
    figure = "kurtosis_over_layers"
    moments = tab.value("JSON.parse(document.getElementById('data').textContent).figures.find(one => one.moments.length > 1).moments.length")
    tab.value(f"document.querySelector('#figure-{figure} input').focus()")
    seen = [(tab.value(PICTURE.format(figure)), tab.value(f"document.querySelector('#title-{figure}').innerText"))]
    for _ in range(moments - 1):
        tab.key("ArrowLeft")
        seen.append((tab.value(PICTURE.format(figure)), tab.value(f"document.querySelector('#title-{figure}').innerText")))
    check("slider: each moment has a picture", len({picture for picture, _ in seen}) == moments > 2, moments)
    check("slider: each moment has a title", len({title for _, title in seen}) == moments, [title for _, title in seen])
    said = tab.value(f"document.querySelector('#figure-{figure} input').getAttribute('aria-valuetext')")
    check("slider: it says where it is", said == "step 0" and "step 0" in seen[-1][1], said)
    # What is hidden stays hidden.
    tab.value(f"{BUTTONS.format(figure)}[0].click()")
    hidden = tab.value(PICTURE.format(figure))
    tab.value(f"document.querySelector('#figure-{figure} input').focus()")
    tab.key("ArrowRight")
    tab.key("ArrowLeft")
    check("slider: what is hidden stays hidden", tab.value(PICTURE.format(figure)) == hidden)


def pointer_and_keys(tab, page):
    for width in (1280, 400):
        tab.open(page, width)
        figure = "kurtosis_over_steps"
        tab.value(f"document.querySelector('#figure-{figure}').scrollIntoView()")
        # The last point of Adam's mean, as the data has it.
        where = tab.value(
            "(() => { const of = JSON.parse(document.getElementById('data').textContent).figures[0].moments[0];"
            "const mark = of.panels[0].marks.find(one => one.width && one.of[0] === 0); return mark.points.at(-1); })()"
        )
        line = f"[...document.querySelectorAll('#figure-{figure} .plot svg > path.line:not(.single)')][0]"
        at = tab.value(
            f"(() => {{ const line = {line}; const end = line.getPointAtLength(line.getTotalLength());"
            "const svg = line.ownerSVGElement, box = svg.getBoundingClientRect(), wide = svg.viewBox.baseVal.width;"
            "return [box.left + end.x * box.width / wide, box.top + end.y * box.width / wide]; })()"
        )
        tip = f"document.querySelector('#figure-{figure} .tip')"
        check(f"pointer, {width}: silent at first", tab.value(f"{tip}.hidden"))
        tab.move(*at)
        said = tab.value(f"{tip}.innerText")
        wanted = ["adam, mean", f"optimizer step: {where[0]:g}", f"token kurtosis: {where[1]:.4g}", "random bases: "]
        check(f"pointer, {width}: tells the point under it", all(part in said for part in wanted), (said, wanted))
        inside = tab.value(f"(() => {{ const box = {tip}.getBoundingClientRect(); return box.left >= 0 && box.right <= innerWidth; }})()")
        check(f"pointer, {width}: within the window", inside)
        tab.move(2, 2)
        tab.value(f"document.querySelector('#figure-{figure} .plot svg').focus()")
        told = []
        for key in ["ArrowRight", "ArrowRight", "ArrowDown", "ArrowUp"]:
            tab.key(key)
            told.append(tab.value(f"{tip}.innerText"))
        check(f"keys, {width}: go from point to point", all(told) and len(set(told)) >= 3, told)
    tab.open(page)
    tab.value("document.querySelector('#figure-kurtosis_over_steps .keys button').focus()")
    tab.key("Tab")
    outline = tab.value("getComputedStyle(document.activeElement).outlineStyle + ' ' + document.activeElement.tagName")
    check("keys: the focus is seen", outline == "solid BUTTON", outline)
    tab.key(" ")
    check("keys: space presses a button", tab.value("document.activeElement.getAttribute('aria-pressed')") == "false")


def numbers(tab, page):
    tab.open(page)
    table = "document.getElementById('figure-{0}').querySelector('details')"
    for figure in tab.value("JSON.parse(document.getElementById('data').textContent).figures.map(one => one.name)"):
        tab.value(f"{table.format(figure)}.open = true")
        tab.settle()
        rows = tab.value(f"{table.format(figure)}.querySelectorAll('tbody tr').length")
        points = tab.value(
            f"JSON.parse(document.getElementById('data').textContent).figures.find(one => one.name === '{figure}')"
            ".moments.at(-1).panels.flatMap(one => one.marks).filter(one => !['ring', 'cross'].includes(one.kind))"
            ".map(one => one.points.length).reduce((a, b) => a + b, 0)"
        )
        check(f"numbers of {figure}: a row for each point", rows == points > 0, (rows, points))
    check("numbers: no wider than the window", tab.value(WIDER) <= 0)


ATLAS = "JSON.parse(document.getElementById('atlas').textContent)"
MAP = "document.querySelector('#dimensions .heat-map').innerHTML"
CHOSEN = "document.querySelector('#dimensions .dimension').innerText"
SELECT = "document.querySelectorAll('#dimensions select')[{0}]"


def choose(tab, place, index):
    tab.value(f"(() => {{ const one = {SELECT.format(place)}; one.selectedIndex = {index}; one.dispatchEvent(new Event('change')); }})()")


def dimensions(tab, page):
    for width in (1280, 400):
        how = f"dimensions, {width}"
        tab.open(page, width)
        found = tab.value(ATLAS)
        run, last = found["runs"][found["start"]], len(found["runs"][0]["steps"]) - 1
        check(f"{how}: the run with the most outliers is first", (run["arm"], run["seed"]) == ("sgd", 2001), (run["arm"], run["seed"]))
        shown = [tab.value(f"{SELECT.format(place)}.value") for place in range(3)]
        check(f"{how}: the choosers say so", shown == ["sgd", "2001", "standard"], shown)
        rows = "document.querySelectorAll('#dimensions .heat-map tbody tr')"
        cells = tab.value(f"[{rows}.length, {rows}[0].querySelectorAll('.heat').length]")
        check(f"{how}: every dimension at every site", cells == [run["d"], len(run["sites"])], cells)
        marked = "document.querySelectorAll('#dimensions .heat-map .out').length"
        check(f"{how}: what stands out is marked", tab.value(marked) == 6, tab.value(marked))
        check(f"{how}: with its first step", f"▸ 9" in tab.value(f"[...{rows}].map(one => one.innerText).join()"))
        # The numbers of a row are those of the data, by number and by energy.
        wanted = [one["rms"][7] / one["median"] for one in run["bases"][0]["lists"][last]]
        choose(tab, 4, 1)
        titles = tab.value(f"[...{rows}[7].querySelectorAll('td[title]')].map(one => Number(one.title.split(': ')[1].split(',')[0]))")
        check(f"{how}: a row's numbers", all(abs(a - b) < 1e-3 * b for a, b in zip(titles, wanted, strict=True)), (titles, wanted))
        seen = [tab.value(MAP)]
        choose(tab, 4, 0)
        seen.append(tab.value(MAP))
        energy = lambda dim: sum((one["rms"][dim] / one["median"]) ** 2 for one in run["bases"][0]["lists"][last])
        top = tab.value(f"Number({rows}[0].dataset.dim)")
        check(f"{how}: the largest is first", energy(top) == max(map(energy, range(run["d"]))), top)
        choose(tab, 3, 1)
        seen.append(tab.value(MAP))
        legend = tab.value("document.querySelector('#dimensions .heat-legend').innerText")
        check(f"{how}: the legend has numbers", "kurtosis" in legend and sum(letter.isdigit() for letter in legend) > 5, legend)
        choose(tab, 3, 0)
        choose(tab, 1, 0)
        seen.append(tab.value(MAP))
        names = tab.value(f"[...{SELECT.format(0)}.options].map(one => one.value)")
        choose(tab, 0, names.index("adam-rotated"))
        seen.append(tab.value(MAP))
        choose(tab, 2, 1)
        seen.append(tab.value(MAP))
        check(f"{how}: each chooser changes the picture", len(set(seen)) == len(seen) == 6, len(set(seen)))
        check(f"{how}: no wider than the window", tab.value(WIDER) <= 0, tab.value(WIDER))

        tab.open(page, width)
        tab.value("document.querySelector('#dimensions input').focus()")
        seen = [(tab.value(MAP), tab.value(CHOSEN))]
        for _ in range(last):
            tab.key("ArrowLeft")
            seen.append((tab.value(MAP), tab.value(CHOSEN)))
        check(f"{how}: each step has its picture", len({one for one, _ in seen}) == len({one for _, one in seen}) == last + 1 == 3, last)
        check(f"{how}: before its birth nothing stands out", tab.value(marked) == 2, tab.value(marked))
        told = tab.value("document.querySelector('#dimensions input').getAttribute('aria-valuetext')")
        check(f"{how}: the slider says where it is", told == f"step {run['steps'][0]}", told)
        drill_down(tab, how, rows, run)
        check(f"{how}: no wider than the window below", tab.value(WIDER) <= 0, tab.value(WIDER))
        check(f"{how}: the console is silent", not tab.said, tab.said)
    papers = []
    for dark in (False, True):
        tab.open(page, 1280, dark)
        papers.append(tab.value("[...document.querySelectorAll('#dimensions .heat-legend .heat')].slice(0, 5).map(one => getComputedStyle(one).backgroundColor)"))
    check("dimensions: five colours in light and dark", len({colour for paper in papers for colour in paper}) == 10, papers)


def drill_down(tab, how, rows, run):
    """The dimension that is chosen, by click and by keys; at the first step."""
    tab.value(f"{rows}[2].click()")
    tab.settle()
    clicked = tab.value(f"{rows}[2].dataset.dim")
    title = "document.querySelector('#dimensions .dimension h3').innerText"
    check(f"{how}: a click shows a dimension", tab.value(title) == f"Dimension {clicked}", tab.value(title))
    tab.key("ArrowDown")
    check(f"{how}: arrows alone choose nothing", tab.value(title) == f"Dimension {clicked}", tab.value(title))
    tab.key("Enter")
    entered = int(tab.value(f"{rows}[3].dataset.dim"))
    check(f"{how}: Enter shows the next", tab.value(title) == f"Dimension {entered}", tab.value(title))
    focus = tab.value("getComputedStyle(document.activeElement).outlineStyle + ' ' + document.activeElement.tagName")
    check(f"{how}: the focus is seen", focus == "solid TR", focus)
    reached = tab.value("document.querySelectorAll('#dimensions .heat-map tr[tabindex=\"0\"]').length")
    check(f"{how}: Tab reaches one row", reached == 1, reached)
    lines = tab.value("[...document.querySelectorAll('#dimensions .charts svg')].map(one => one.querySelectorAll('path.line').length)")
    # A line for each site of the stream, so not for the one after the last norm; and the median.
    check(f"{how}: lines over steps and sites", lines == [len(run["sites"]), len(run["steps"]) + 1], lines)
    numbers = tab.value("[...document.querySelectorAll('#dimensions .writes .number')].map(one => Number(one.innerText))")
    energy = [one["rms"][entered] ** 2 for one in run["bases"][0]["lists"][0]]
    added = [after - before for before, after in zip([0.0, *energy], energy[:-1])]
    wanted = [*added, energy[-2]]
    alike = len(numbers) == len(wanted) and all(abs(a - b) < 1e-3 * abs(b) + 1e-9 for a, b in zip(numbers, wanted))
    check(f"{how}: energies are of the sites' differences", alike, (numbers, wanted))
    check(f"{how}: they add up", abs(sum(numbers[:-1]) - numbers[-1]) < 2e-3 * energy[-2], numbers)
    said = tab.value("document.querySelector('#dimensions .agreement').innerText")
    check(f"{how}: agreement and chance", "1 dimension stands out in two or more of" in said and "5 (2)" in said and "expected" in said, said)


def hostile(tab, page):
    tab.open(page)
    check("hostile: nothing is run", tab.value("window.taken === undefined"))
    title = tab.value("document.querySelector('h1').textContent")
    check("hostile: shown as it is", title == HOSTILE, title)
    check("hostile: no image", tab.value("document.images.length") == 0)
    check("hostile: the claims too", tab.value("document.querySelector('.verdicts').textContent").count(HOSTILE) > 10)
    # The policy stops even what would get into the page.
    tab.value("document.body.insertAdjacentHTML('beforeend', '<img src=x onerror=\"window.taken = 4\">')")
    tab.value("document.body.append(Object.assign(document.createElement('script'), { textContent: 'window.taken = 5' }))")
    tab.settle()
    check("hostile: the policy holds", tab.value("window.taken === undefined") and tab.said, tab.said)


def main():
    program = str(pathlib.Path(sys.argv[1]).resolve())
    keep = pathlib.Path(sys.argv[3]) if sys.argv[2:3] == ["--keep"] else None
    with tempfile.TemporaryDirectory() as folder:
        made = pages(program, pathlib.Path(folder))
        tab = Browser()
        try:
            for place, printed in made.items():
                every_page(tab, place.name, place / "report.html", printed)
            evidence, odd, grid, planted = made
            plain = plain_pages(program, pathlib.Path(folder), grid)
            for place, printed in plain.items():
                every_page(tab, place.name, place / "report.html", printed, verdicts=False)
                numbers(tab, place / "report.html")
                opened = subprocess.run([program, "open", place], capture_output=True, text=True, check=False, env={})
                check(f"{place.name}: open finds the page", opened.stdout.strip() == str((place / "report.html").resolve()), opened)
            page = evidence / "report.html"
            without_scripts(tab, page)
            legend(tab, page)
            slider(tab, grid / "report.html")
            pointer_and_keys(tab, page)
            numbers(tab, page)
            numbers(tab, grid / "report.html")
            hostile(tab, odd / "report.html")
            dimensions(tab, planted / "report.html")
            tab.open(grid / "report.html")
            dose = tab.value("document.querySelectorAll('#figure-sweep_adam_optimizer_lr .plot .axis').length")
            check("grid: the dose curve has its two panels", dose == 2, dose)
            for place in [*made, *plain] if keep else []:
                for width in (1280, 400):
                    for dark in (False, True):
                        tab.open(place / "report.html", width, dark)
                        keep.mkdir(parents=True, exist_ok=True)
                        tab.picture(keep / f"{place.name}-{width}-{'dark' if dark else 'light'}.png")
        finally:
            tab.close()
    print(f"test result: {'FAILED' if failures else 'ok'}. {passed} passed; {len(failures)} failed; 0 ignored")
    sys.exit(1 if failures else 0)


main()
