"""Which addresses steps may reach."""

from ipaddress import ip_network

import pytest

from gateway.transports.web import is_allowed


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "10.0.0.1",
        "172.16.0.1",
        "192.168.1.1",
        "169.254.169.254",
        "100.64.0.1",
        "0.0.0.0",
        "224.0.0.1",
        "255.255.255.255",
        "::1",
        "::",
        "fe80::1%eth0",
        "fd00::1",
        "::ffff:10.0.0.1",
        "ff02::1",
    ],
)
def test_inner_addresses_need_to_be_allowed(address):
    assert not is_allowed(address, [])
    assert not is_allowed(address, [ip_network("203.0.113.0/24")])


def test_public_and_allowed_ones_may_be_reached():
    assert is_allowed("93.184.216.34", [])
    assert is_allowed("2606:2800:220:1::1", [])
    assert is_allowed("10.1.2.3", [ip_network("10.1.0.0/16")])
    assert not is_allowed("10.2.2.3", [ip_network("10.1.0.0/16")])
    assert is_allowed("::ffff:10.1.2.3", [ip_network("10.1.0.0/16")])
