"""Both brokers of the kit start, keep their port, and lose what they are told to lose."""

from tests.kit.brokers import NATS_MAX_ACK_PENDING, Broker, Mosquitto, Nats
from tests.kit.mqtt_client import MqttClient

NO_MATCHING_SUBSCRIBERS = 0x10


def test_messages_pass_and_the_port_stays_across_restarts(broker: Broker):
    port = broker.port
    for _ in range(2):
        with MqttClient("ears", port) as ears, MqttClient("mouth", port) as mouth:
            assert ears.subscribe("a/+/c") == [1]
            assert mouth.publish("a/b/c", b"hello") == 0
            assert ears.wait_for(1) == [("a/b/c", b"hello")]
        broker.restart()
    broker.stop()
    assert not broker.program.is_running


def test_a_wiped_broker_has_forgotten_its_sessions(broker: Broker):
    with MqttClient("ears", broker.port, clean=False) as ears:
        ears.subscribe("kept")
    broker.stop()
    broker.start()
    with MqttClient("ears", broker.port, clean=False) as ears:
        assert ears.session_present
    broker.restart(wipe=True)
    with MqttClient("ears", broker.port, clean=False) as ears:
        assert not ears.session_present


def test_a_queue_on_nats_survives_kill_9(nats: Nats):
    with MqttClient("ears", nats.port, clean=False) as ears:
        ears.subscribe("kept/+")
    with MqttClient("mouth", nats.port) as mouth:
        for number in range(20):
            mouth.publish(f"kept/{number}", b"x")
    nats.restart()
    with MqttClient("ears", nats.port, clean=False) as ears:
        assert len(ears.wait_for(20)) == 20


def test_nats_grants_enough_filters_for_all_shards_and_refuses_the_rest(nats: Nats):
    granted = 65535 // NATS_MAX_ACK_PENDING
    assert granted >= 32 + 1
    with MqttClient("coordinator", nats.port) as client:
        codes = client.subscribe(*(f"roundsman/v1/{n:02x}/+/+/up/+" for n in range(granted + 1)))
    assert codes == [1] * granted + [0x80]


def test_mqtt5_is_refused_by_nats_and_spoken_by_mosquitto(broker: Broker):
    client = MqttClient("five", broker.port, mqtt5=True)
    try:
        client.connect()
        accepted = any(not reason.is_failure for reason in client.connected)
    except OSError:
        accepted = False
    finally:
        client.close()
    assert accepted is broker.speaks_mqtt5


def test_mosquitto_says_that_nobody_listens(mosquitto: Mosquitto):
    with MqttClient("five", mosquitto.port, mqtt5=True) as client:
        assert client.publish("nobody/listens", b"x") == NO_MATCHING_SUBSCRIBERS
