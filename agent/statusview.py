"""Status and findings for people: in colours on a terminal, plain elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from rich.console import Console
from rich.markup import escape

from agent.equations import equations
from agent.finding import Finding, Gravity
from agent.status import AgentStatus

SHIPPED = ("model", "state")
"""Kinds of which the runtime brings a first release along."""
_MARKS = {Gravity.BAD: "[red]✗[/]", Gravity.NOTE: "[yellow]•[/]", Gravity.GOOD: "[green]✓[/]"}


def show_findings(findings: Sequence[Finding]) -> None:
    console = Console()
    for finding in findings:
        words, advice = escape(finding.words), escape(finding.advice)
        console.print(f"{_MARKS[finding.gravity]} [bold]{finding.subject}[/]  {words}", highlight=False)
        if advice:
            console.print(f"    {advice}", style="dim", highlight=False)


def show_purged(purged: Any) -> None:
    """`purged` as `POST /purge` answers."""
    console = Console()
    told = (
        f"Erased for {', '.join(purged['purposes'])}: {purged['records']:,} records, {purged['pictures']:,} pictures, "
        f"{purged['examples']:,} examples."
    )
    console.print(told, highlight=False, markup=False)
    for folder, before in purged["keys_before"].items():
        after = purged["keys_after"].get(folder, "none")
        console.print(f"  {folder:<9} keys {before[:16]}… became {after[:16]}…", style="dim", highlight=False)
    console.print(f"  The audit has it as {purged['name']}.", style="dim", highlight=False)


def show_status(status: Any) -> None:
    """`status` as `GET /status` answers."""
    console = Console()
    told = tuple(equations(msgspec.convert(status, AgentStatus)))
    for law in dict.fromkeys(equation.law for equation in told):
        of_law = [equation for equation in told if equation.law == law]
        holds = "it holds" if all(equation.holds for equation in of_law) else "[red]BROKEN[/]"
        console.print(f"[bold]{law}[/]: {holds}", highlight=False)
        for equation in of_law:
            console.print(f"  {equation.of:<9} {equation}", highlight=False, markup=False, soft_wrap=True)
    for line in _lines(status):
        # Words of others may look like markup.
        console.print(line, highlight=False, markup=False)


def _number(value: Any) -> int:
    return sum(value.values()) if isinstance(value, dict) else int(value)


def _lines(status: Any) -> list[str]:
    cloud, uplink = status["cloud"], status["cloud"]["uplink"]
    lines = [f"agent     version {status['version']}, pid {status['pid']}"]
    if (perception := status["perception"]) is not None:
        latency = perception["latency"]
        lines.append(
            f"model     {perception['model']}, worker {perception['live_pid']}, standby {perception['standby_pid']}"
        )
        lines.append(
            f"latency   p50 {latency['p50_ms']:.1f} ms, p99 {latency['p99_ms']:.1f} ms of {latency['count']:,} frames"
        )
        lines += _trial(perception["trial"])
    lines += _campaigns(status["campaigns"])
    lines += _privacy(status["privacy"])
    lines += [f"left out  {number:,} {what.replace('_', ' ')}" for what, number in status["left_out"].items() if number]
    lines += _updates(status["updates"]) + _pictures(status["gallery"]) + _learning(status["learning"])
    if uplink is None:
        lines.append(f"link      {cloud['link']}: {'never paired' if cloud['paired_with'] is None else 'off'}")
    else:
        told = uplink["state"] + (f": {uplink['reason']}" if uplink["reason"] else "")
        lines.append(f"link      {cloud['link']} to {cloud['paired_with']} as {cloud['vehicle']}, {told}")
        lines.append(_network(uplink["meter"]))
        if not status["law_6_holds"]:
            lines.append("law 6     not held: this link frees records when a broker takes them")
    return lines


def _network(meter: Any) -> str:
    interface = f" ({meter['interface']})" if meter["interface"] else ""
    line = f"network   {meter['network']}{interface}, {meter['gone_bytes']:,} bytes today"
    return line + (f" of {meter['budget_bytes']:,}" if meter["budget_bytes"] else "")


def _privacy(privacy: Any) -> list[str]:
    dropped = ", ".join(f"{number:,} {reason}" for reason, number in privacy["dropped"].items())
    lines = [f"privacy   consents: {', '.join(privacy['consents']) or 'none'}; {privacy['passed']:,} records passed, "
             f"{_number(privacy['dropped']):,} dropped{f' ({dropped})' if dropped else ''}"]  # fmt: skip
    if privacy["zones"]:
        lines.append(f"privacy   {privacy['zones']} zones; {privacy['hidden'] or 'outside of all'} now")
    return lines


def _trial(trial: Any) -> list[str]:
    if trial is None:
        return []
    agreement = trial["agreement"]
    return [
        f"trial     {trial['model']}, {'live' if trial['is_live'] else 'beside'}, {trial['looked_at']:,} frames, "
        f"{trial['deaths']} deaths; both saw {agreement['both']:,}, the live one alone {agreement['first_alone']:,}, "
        f"it alone {agreement['second_alone']:,}"
    ]


def _updates(updates: Any) -> list[str]:
    if updates is None:
        return []
    lines = [f"update    the last look came to nothing: {updates['trouble']}"] if updates["trouble"] else []
    lines += [f"update    {waits['words']}"] if (waits := updates["waits"]) is not None else []
    if updates["whole"]:
        lines.append(f"update    fetched {updates['fetched']:,} of {updates['whole']:,} bytes")
    for kind in updates["kinds"]:
        none = "as shipped" if kind["kind"] in SHIPPED else "none yet"
        good = kind["good"]["title"] if kind["good"] is not None else none
        trial = f", trying {kind['trial']['title']}" if kind["trial"] is not None else ""
        lines.append(f"update    {kind['kind']}: {good}, {kind['state']}{trial}")
    return lines


def _campaigns(room: Any) -> list[str]:
    if (side := room["side"]) is None:
        return []
    lines = [f"bus       {room['bus']}, {_received(side)} frames"] if room["bus"] else []
    if room["gnss"] and (told := side["told"]) is not None:
        lines.append(
            f"gnss      {room['gnss']}, " + (told["gnss"] or f"{told['counts'].get('gnss_taken', 0):,} sentences")
        )
    lines.append(
        f"campaigns revision {side['revision']}" + (f"; refused: {side['refused']}" if side["refused"] else "")
    )
    for campaign in (side["told"] or {}).get("campaigns", ()):
        left_out = ", ".join(f"{number:,} {reason}" for reason, number in campaign["dropped"].items())
        lines.append(
            f"campaign  {campaign['name']} ({campaign['revision']}): {campaign['state']}, "
            f"{campaign['triggers']:,} triggers, {campaign['records']:,} records, {campaign['bytes']:,} bytes"
            + (f"; left out {left_out}" if left_out else "")
        )
    return lines


def _received(side: Any) -> str:
    return f"{side['told']['counts'].get('received', 0):,}" if side["told"] is not None else "no"


def _pictures(gallery: Any) -> list[str]:
    if gallery is None:
        return []
    lines = [f"pictures  {gallery['denied']:,} covered, and not kept"] if gallery["denied"] else []
    if (uplink := gallery["uplink"]) is not None:
        lines.append(f"pictures  {uplink['state']}" + (f": {uplink['reason']}" if uplink["reason"] else ""))
    return lines


def _learning(learning: Any) -> list[str]:
    if learning is None:
        return []
    examples = ", ".join(f"{number:,} {label}" for label, number in learning["examples"].items()) or "none"
    lines = [f"learning  {_why_idle(learning)}", f"learning  examples from {learning['source']}: {examples}"]
    if learning["runs"] or learning["told"]:
        runs = ", ".join(f"{number} {became}" for became, number in learning["runs"].items()) or "none"
        lines.append(f"learning  runs: {runs}; {learning['told']} updates told within 30 days")
    if learning["last_loss"] is not None:
        lines.append(f"learning  loss {learning['first_loss']:.3f} to {learning['last_loss']:.3f} in the last run")
    return lines


def _why_idle(learning: Any) -> str:
    if learning["is_learning"]:
        return f"plan {learning['plan']}: learning now"
    if learning["waiting"]:
        return "an update waits for the spool"
    if learning["refusal"] or learning["fault"]:
        return str(learning["refusal"] or learning["fault"])
    if learning["plan"] is None:
        return "no plan"
    return f"plan {learning['plan']}: waits for {', '.join(learning['closed']) or 'the next look'}"
