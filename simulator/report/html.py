"""The report as one HTML file that fetches nothing: claims, faults, the drawn drive, plots and the laws' numbers."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Sequence
from importlib.resources import files
from typing import Final

from simulator.claims import Claim, Verdict
from simulator.report.drive import replay_data, road
from simulator.report.evidence import CloudPicture, Drive, Equation, Evidence, Ledger, LedgerRow, Waypoint
from simulator.report.markup import Content, Markup, element
from simulator.report.plots import LANE_NAMES, latency_plot, legend, spool_plot, stored_plot, strip, timeline
from simulator.report.routemap import arrivals, route_map

MAX_STAYS: Final = 8
LONG: Final = 18
"""Letters; what was measured is set large when it is shorter."""
_ASSETS: Final = files("simulator.report") / "assets"
_POLICY: Final = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:"


def render(evidence: Evidence, recording: str | None = None) -> str:
    """The whole page. `recording` is the name of the MCAP file beside it, when there is one."""
    sections = [
        _claims(evidence.verdict),
        _faults(evidence),
        _drive(evidence),
        _picture(evidence.picture),
        _latency(evidence),
        _spool(evidence),
        _laws(evidence.ledgers),
    ]
    body = [_header(evidence), element("main", sections, id="main"), _footer(recording), _script(evidence)]
    return "<!doctype html>\n" + element("html", _head(evidence), element("body", body), lang="en") + "\n"


# --- the page --------------------------------------------------------------------------------------------------------


def _head(evidence: Evidence) -> Markup:
    return element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="color-scheme", content="light dark"),
        element("meta", http_equiv="Content-Security-Policy", content=_POLICY),
        element("link", rel="icon", href="data:,"),
        element("title", f"{evidence.verdict.sentence}: {evidence.title}"),
        element("style", _asset("style.css")),
    )


def _asset(name: str) -> Markup:
    return Markup(_ASSETS.joinpath(name).read_text(encoding="utf-8"))


def _script(evidence: Evidence) -> list[Markup]:
    data = Markup(replay_data(evidence.drive, evidence.faults, evidence.end_s))
    return [
        element("script", data, type="application/json", id="replay-data"),
        element("script", _asset("drive.js")),
    ]


def _header(evidence: Evidence) -> Markup:
    host = evidence.host
    facts = {
        "When": element("time", f"{evidence.when:%d %B %Y, %H:%M}", datetime=evidence.when.isoformat()),
        "Took": f"{evidence.verdict.seconds:.1f} s, {evidence.mode}",
        "Computer": f"{host.cpu}, {host.cores} cores, {host.system}",
        "Runtime": f"Python {host.python}, ONNX Runtime {host.onnxruntime}, {host.isa}",
    }
    return element(
        "header",
        element("p", element("b", "Outrider"), " ", evidence.title, class_="brand"),
        element("h1", f"{evidence.verdict.sentence}.", class_="held" if evidence.verdict.ok else "failed"),
        element("p", evidence.summary, class_="summary"),
        element("dl", [element("div", element("dt", name), element("dd", fact)) for name, fact in facts.items()]),
    )


def _section(name: str, title: str, lead: str, *content: Content) -> Markup:
    heading = element("h2", title, id=name)
    return element("section", heading, element("p", lead, class_="lead"), content, aria_labelledby=name)


def _footer(recording: str | None) -> Markup:
    drive = [element("code", recording), " opens in Foxglove or Lichtblick. "] if recording else []
    also = ["The same claims are in ", element("code", "claims.json"), " and ", element("code", "junit.xml"), ". "]
    return element("footer", element("p", drive, also, "This page is one file and fetches nothing."))


# --- its sections ----------------------------------------------------------------------------------------------------


def _claims(verdict: Verdict) -> Markup:
    names = ("Claim", "Measured", "Bar", "Verdict")
    heads = [element("th", name, scope="col", role="columnheader") for name in names]
    head = element("thead", element("tr", heads, role="row"), role="rowgroup")
    body = element("tbody", [_claim(claim) for claim in verdict.claims], role="rowgroup")
    lead = "Each was measured in this run, against a bar that was set before it."
    # The roles say what the tags say, since on a narrow page the style sheet lays the rows out as something else.
    return _section("claims", "Claims", lead, element("table", head, body, class_="claims", role="table"))


def _claim(claim: Claim) -> Markup:
    verdict = element("span", element("i", aria_hidden="true"), "held" if claim.ok else "failed", class_="verdict")
    return element(
        "tr",
        element("th", claim.name, element("p", claim.why, class_="why"), scope="row", role="rowheader"),
        _measured(claim.measured),
        element("td", claim.bar, class_="bar", role="cell"),
        element("td", verdict, role="cell"),
        class_="held" if claim.ok else "failed",
        role="row",
    )


def _measured(text: str) -> Markup:
    """The number large, and small below it what is said in brackets."""
    number, _, aside = text.removesuffix(")").partition(" (") if text.endswith(")") else (text, "", "")
    small = element("small", aside) if aside else ""
    return element("td", number, small, class_="measured" if len(number) <= LONG else "measured long", role="cell")


def _faults(evidence: Evidence) -> Markup:
    lead = "The letters mark the same moments in every plot below."
    if not evidence.faults:
        return _section("faults", "What was done to it", "Nothing: this was an undisturbed run.")
    return _section("faults", "What was done to it", lead, timeline(evidence.faults, evidence.end_s))


def _drive(evidence: Evidence) -> Markup:
    drive = evidence.drive
    lead = (
        "Drawn from the tracks alone, from no camera picture, so nobody is shown. "
        "Horizon, scale and lanes are inferred from the boxes; the road marks move at the speed the vehicle reported."
    )
    if drive.frames:
        scene = element("div", road(drive), element("p", id="fault", class_="now", hidden=True), class_="scene")
    else:
        scene = element("p", "No tracks were recorded.", class_="nothing")
    figure = element("figure", scene, _controls(), _strips(drive, evidence.end_s), id="drive")
    return _section("drive-title", "The drive", lead, figure, _map(drive))


def _controls() -> Markup:
    play = element("button", "Play", type="button", id="play")
    clock = element("output", id="clock", for_="time")
    time = element("input", type="range", id="time", min="0", step="1", value="0", aria_label="Time in the drive")
    return element("div", play, clock, time, class_="controls", hidden=True)


def _strips(drive: Drive, end_s: float) -> Markup:
    top_kmh = max((value for _, value in drive.speed_kmh.points), default=1.0) * 1.1 or 1.0
    rows = [
        _strip_row("Speed", "speed", strip(drive.speed_kmh, top_kmh, end_s, "speed"), drive.speed_kmh.points, "km/h"),
        _strip_row(
            "Brake", "brake", strip(drive.brake_percent, 100.0, end_s, "brake"), drive.brake_percent.points, "%"
        ),
    ]
    return element("div", rows, element("i", class_="playhead", aria_hidden="true"), class_="strips")


def _strip_row(name: str, css: str, drawn: Markup, points: Sequence[tuple[float, float]], unit: str) -> Markup:
    top = max((value for _, value in points), default=0.0)
    said = element("b", f"up to {top:,.0f} {unit}" if points else "not told", id=css)
    label = element("p", element("span", name), " ", said)
    return element("div", label, drawn, class_=f"strip {css}")


def _map(drive: Drive) -> Markup:
    if not drive.route:
        return element("p", "The cloud was told no position.", class_="nothing")
    stays = arrivals(drive.route)
    rows = [element("li", element("span", f"{place.t_s:.0f} s"), _degrees(place)) for place in stays[:MAX_STAYS]]
    more = element("li", f"and {len(stays) - MAX_STAYS} more") if len(stays) > MAX_STAYS else ""
    what = f"All that the cloud was told about where the vehicle was: the middles of cells of {drive.cell_m:,.0f} m."
    caption = element("figcaption", element("p", what), element("ol", rows, more))
    return element("figure", route_map(drive), caption, class_="route")


def _degrees(place: Waypoint) -> str:
    north, east = "NS"[place.latitude < 0], "EW"[place.longitude < 0]
    return f"{abs(place.latitude):.4f}° {north}, {abs(place.longitude):.4f}° {east}"


def _picture(picture: CloudPicture | None) -> Markup:
    title = "What the cloud got"
    if picture is None:
        return _section("picture", title, "No picture that shows nobody was stored at the receiver.")
    lead = (
        f"{_plural(picture.pictures, 'picture')} of what the vehicle noticed, each covered before anything of it was "
        "written. This is one of them as the receiver stored it, byte for byte."
    )
    shown = element(
        "img",
        src=f"data:image/jpeg;base64,{b64encode(picture.jpeg).decode()}",
        width=picture.width_px,
        height=picture.height_px,
        alt="The road ahead. Faces, heads and the lower parts of vehicles are grey rectangles.",
    )
    caption = (
        f"{_plural(picture.covered, 'region')} became one grey: a face beside the road, and where plates may be. "
        f"{picture.width_px} x {picture.height_px} pixels, {len(picture.jpeg) / 1000:.0f} KB."
    )
    return _section("picture", title, lead, element("figure", shown, element("figcaption", caption), class_="photo"))


def _plural(count: int, thing: str) -> str:
    return f"{count:,} {thing}" if count == 1 else f"{count:,} {thing}s"


def _latency(evidence: Evidence) -> Markup:
    lead = "From the camera's exposure to the tracks. Where frames crowd, one stroke spans them."
    plot = latency_plot(evidence.latency, evidence.faults, evidence.end_s)
    return _section("latency", "Camera to result", lead, plot)


def _spool(evidence: Evidence) -> Markup:
    lead = "A record waits on the vehicle's flash until the receiver has stored it; the shading below is what waits."
    lanes = [
        (f"line lane{index}", f"{lane.name} {LANE_NAMES.get(lane.name, '')}".strip())
        for index, lane in enumerate(evidence.spool.lanes)
    ]
    both = [("line durable", evidence.spool.durable.name), ("line stored", evidence.spool.stored.name)]
    return _section(
        "spool",
        "Waiting, and stored",
        lead,
        element("figure", legend(lanes), spool_plot(evidence.spool, evidence.faults, evidence.end_s)),
        element("figure", legend(both), stored_plot(evidence.spool, evidence.faults, evidence.end_s)),
    )


def _laws(ledgers: Sequence[Ledger]) -> Markup:
    lead = "Nothing may vanish without a name. Each row's parts are added up again here, from the vehicle's own counts."
    if not ledgers:
        return _section("laws", "Conservation", "No counts were taken.")
    return _section("laws", "Conservation", lead, [_ledger(ledger) for ledger in ledgers])


def _ledger(ledger: Ledger) -> Markup:
    tables = [_equation(equation) for equation in ledger.equations]
    return element("article", element("h3", ledger.title), element("p", ledger.sentence, class_="why"), tables)


def _equation(equation: Equation) -> Markup:
    heads = ["", equation.total, *equation.parts, "Balance"]
    signs = ["", "", "=", *["+"] * (len(equation.parts) - 1), ""]
    cells = [
        element("th", element("i", sign) if sign else "", name, scope="col")
        for sign, name in zip(signs, heads, strict=True)
    ]
    head = element("thead", element("tr", cells))
    body = element("tbody", [_ledger_row(row) for row in equation.rows])
    # A wide table scrolls by itself; that has to work from the keyboard too.
    label = f"{equation.total} by part"
    return element(
        "div",
        element("table", head, body, class_="ledger"),
        class_="wide",
        tabindex="0",
        role="region",
        aria_label=label,
    )


def _ledger_row(row: LedgerRow) -> Markup:
    numbers = [element("td", f"{value:,}", class_="zero" if value == 0 else None) for value in (row.total, *row.parts)]
    balance = "even" if row.missing == 0 else f"{row.missing:+,}"
    verdict = element("span", element("i", aria_hidden="true"), balance, class_="verdict")
    css = "held" if row.missing == 0 else "failed"
    return element("tr", element("th", row.label, scope="row"), numbers, element("td", verdict), class_=css)
