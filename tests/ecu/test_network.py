"""Which network there is comes from the kernel's files as they are; what can't be known counts as the dearer."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecu.conditions import Network
from ecu.network import LinuxNetwork, NetworkSource, Reach, SettableNetwork, default_interface, is_roaming, kind_of

HEAD = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n"


def ipv4(name: str, metric: int = 0, destination: str = "00000000", mask: str = "00000000", flags: str = "0003") -> str:
    return f"{name}\t{destination}\t010200C0\t{flags}\t0\t0\t{metric}\t{mask}\t0\t0\t0\n"


def ipv6(name: str, metric: str = "00000400", prefix: str = "00", flags: str = "00000003") -> str:
    return f"{'0' * 32} {prefix} {'0' * 32} 00 fe80{'0' * 27}1 {metric} 00000001 00000000 {flags} {name}\n"


def linux(root: Path, routes: str, devices: dict[str, str], **named: object) -> LinuxNetwork:
    (root / "proc").mkdir()
    (root / "proc/route").write_text(HEAD + routes)
    for name, text in devices.items():
        path = root / "sys" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return LinuxNetwork(proc=root / "proc", devices=root / "sys", **named)  # type: ignore[arg-type]


def test_the_best_default_route_names_the_interface() -> None:
    routes = ipv4("eth0", destination="000200C0", mask="00FFFFFF") + ipv4("wwan0", 700) + ipv4("wlan0", 600)
    assert default_interface(HEAD + routes) == "wlan0"
    assert default_interface(HEAD + routes, ipv6("eth9", "00000001")) == "wlan0"
    assert default_interface(HEAD, ipv6("wwan0", "00000400") + ipv6("wlan0", "00000258")) == "wlan0"


def test_no_default_route_is_no_network() -> None:
    assert default_interface(HEAD + ipv4("eth0", destination="000200C0", mask="00FFFFFF")) is None
    assert default_interface("", "") is None
    # One that is down, one that rejects, and the kernel's own unreachable default.
    assert default_interface(HEAD + ipv4("eth0", flags="0002") + ipv4("eth0", flags="0203")) is None
    assert default_interface(HEAD, ipv6("lo", "ffffffff", flags="00200200") + ipv6("lo")) is None


@pytest.mark.parametrize(
    ("name", "wireless", "type_text", "uevent", "network"),
    [
        ("wlan0", True, "1", "DEVTYPE=wlan\nINTERFACE=wlan0", Network.WIFI),
        ("eth0", False, "1", "INTERFACE=eth0", Network.WIRED),
        ("enp3s0", False, "1", "", Network.WIRED),
        ("wwan0", False, "1", "", Network.METERED),
        ("usb0", False, "1", "DEVTYPE=wwan\nINTERFACE=usb0", Network.METERED),
        ("rmnet_data0", False, "519", "", Network.METERED),
        ("ppp0", False, "512", "", Network.METERED),
        ("wg0", False, "65534", "", Network.METERED),
        ("odd0", False, "", "", Network.METERED),
    ],
)
def test_an_interface_is_what_the_kernel_says_of_it(
    name: str, wireless: bool, type_text: str, uevent: str, network: Network
) -> None:
    assert kind_of(name, wireless, type_text, uevent) is network


def test_the_owners_word_on_an_interface_goes_before_the_kernels(tmp_path: Path) -> None:
    source = linux(tmp_path, ipv4("enx001122"), {"enx001122/type": "1\n"}, interfaces={"enx*": Network.METERED})
    assert source.now() == Reach(Network.METERED, "enx001122")


@pytest.mark.parametrize(("text", "network"), [
    ("0\n", Network.METERED), ("home", Network.METERED), ("1\n", Network.ROAMING), ("Roaming", Network.ROAMING),
    ("", Network.ROAMING), ("searching", Network.ROAMING), (None, Network.ROAMING),
])  # fmt: skip
def test_roaming_is_what_the_modems_file_says_and_doubt_counts_as_roaming(
    tmp_path: Path, text: str | None, network: Network
) -> None:
    if text is not None:
        (tmp_path / "roaming").write_text(text)
    source = linux(tmp_path, ipv4("wwan0"), {"wwan0/type": "65534"}, roaming=tmp_path / "roaming")
    assert source.now().network is network


def test_only_cellular_roams(tmp_path: Path) -> None:
    source = linux(
        tmp_path, ipv4("wlan0"), {"wlan0/type": "1", "wlan0/wireless/x": ""}, roaming=tmp_path / "missing"
    )  # fmt: skip
    assert source.now() == Reach(Network.WIFI, "wlan0")


@given(st.text(max_size=300), st.text(max_size=300), st.text(max_size=20))
def test_whatever_the_files_say_an_interface_is_one_that_they_name(route: str, route6: str, word: str) -> None:
    name = default_interface(route, route6)
    assert name is None or name in (*route.split(), *route6.split())
    assert is_roaming(word) or word.strip()


def test_this_computer_answers() -> None:
    sources: list[NetworkSource] = [LinuxNetwork(), SettableNetwork(Network.ROAMING)]
    assert [source.now().network for source in sources][1] is Network.ROAMING


def test_what_costs_nothing_is_wifi_and_wire() -> None:
    assert {network for network in Network if network.costs_nothing} == {Network.WIFI, Network.WIRED}
