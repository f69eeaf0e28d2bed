"""The configuration we ship for mosquitto: who gets in, and who may speak where."""

import ssl
from dataclasses import replace
from pathlib import Path

import pytest

from tests.kit.brokers import MosquittoWithCertificates
from tests.kit.mqtt_client import MqttClient
from tests.kit.waiting import wait_until

NOT_AUTHORIZED = 0x87


@pytest.fixture
def broker(mosquitto_with_certificates: MosquittoWithCertificates) -> MosquittoWithCertificates:
    return mosquitto_with_certificates


def client(broker: MosquittoWithCertificates, name: str, client_id: str = "") -> MqttClient:
    identity = broker.identity(name)
    return MqttClient(
        client_id or name, broker.port, host="localhost", mqtt5=True, identity=identity
    )


def test_without_a_certificate_nobody_gets_in(broker):
    context = ssl.create_default_context(cafile=broker.authority_file)
    stranger = MqttClient("stranger", broker.port, host="localhost", mqtt5=True, tls=context)
    assert not got_in(stranger)


def test_a_certificate_of_another_authority_does_not_open_the_door(broker, tmp_path):
    forged = MosquittoWithCertificates(tmp_path, Path("unused")).identity("acme/gateway-1")
    forged = replace(forged, authority=broker.authority_file)
    visitor = MqttClient("x", broker.port, host="localhost", mqtt5=True, identity=forged)
    assert not got_in(visitor)


def got_in(visitor: MqttClient) -> bool:
    try:
        visitor.connect()
    except OSError:
        return False
    finally:
        visitor.close()
    return any(not reason.is_failure for reason in visitor.connected)


def test_a_gateway_speaks_under_its_own_name_and_no_other(broker):
    with client(broker, "coordinator") as coordinator, client(broker, "acme/gateway-1") as gateway:
        coordinator.subscribe("roundsman/v1/07/+/+/up/+")
        assert gateway.publish("roundsman/v1/07/acme/gateway-1/up/report", b"mine") == 0
        for foreign in (
            "roundsman/v1/07/acme/gateway-2/up/report",
            "roundsman/v1/07/other/gateway-1/up/report",
            "roundsman/v1/07/acme/gateway-1/down/offer",
            "roundsman/v1/07/acme/gateway-1",
            "elsewhere",
        ):
            assert gateway.publish(foreign, b"forged") == NOT_AUTHORIZED
        assert gateway.publish("roundsman/v1/07/acme/gateway-1/up/report", b"last") == 0
        payloads = [payload for _, payload in coordinator.wait_for(2)]
    assert payloads == [b"mine", b"last"]


def test_a_gateway_hears_what_is_sent_to_it_and_nothing_else(broker):
    with client(broker, "coordinator") as coordinator, client(broker, "acme/gateway-1") as gateway:
        gateway.subscribe("roundsman/v1/07/acme/gateway-1/down/+")
        # Mosquitto grants any filter and keeps back what may not be read.
        gateway.subscribe("roundsman/v1/07/acme/gateway-2/down/+", "roundsman/v1/#")
        gateway.subscribe("$SYS/#")
        for name in ("gateway-2", "gateway-1"):
            topic = f"roundsman/v1/07/acme/{name}/down/offer"
            assert coordinator.publish(topic, name.encode()) == 0
        messages = gateway.wait_for(1)
        gateway.publish("roundsman/v1/07/acme/gateway-1/up/report")  # a round trip behind both
    assert {payload for _, payload in messages + gateway.messages} == {b"gateway-1"}


def test_the_client_id_is_the_certificates_name_whatever_the_client_says(broker):
    with client(broker, "acme/gateway-1", client_id="one") as first:
        with client(broker, "acme/gateway-1", client_id="two"):
            wait_until(lambda: first.disconnected, message="the first to be displaced")
        assert first.connected
    assert "as acme/gateway-1" in broker.program.output()


def test_the_will_of_a_gateway_is_bound_by_the_same_rules(broker):
    identity = broker.identity("acme/gateway-1")
    with client(broker, "coordinator") as coordinator:
        coordinator.subscribe("roundsman/v1/07/+/+/up/+")
        for topic in ("acme/gateway-2/up/presence", "acme/gateway-1/up/presence"):
            will = (f"roundsman/v1/07/{topic}", topic.encode())
            visitor = MqttClient(
                "x", broker.port, host="localhost", mqtt5=True, identity=identity, will=will
            )
            visitor.connect()
            visitor.vanish()
            if "gateway-1" in topic:
                assert coordinator.wait_for(1) == [will]


def test_every_setting_of_the_file_is_known_to_this_mosquitto(broker):
    assert "Error:" not in broker.program.output()
