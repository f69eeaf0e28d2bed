"""Every metric of the cloud, each with its sentence."""

from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

REGISTRY: Final = CollectorRegistry()

HTTP_REQUESTS: Final = Counter(
    "roundsman_http_requests",
    "Requests answered, by route, method and status.",
    ["method", "route", "status"],
    registry=REGISTRY,
)
HTTP_SECONDS: Final = Histogram(
    "roundsman_http_seconds",
    "Time until the headers of an answer went out.",
    ["route"],
    registry=REGISTRY,
    buckets=(0.005, 0.02, 0.1, 0.5, 2.0, 10.0),
)
LISTENERS: Final = Gauge(
    "roundsman_event_listeners", "Open event streams (SSE).", registry=REGISTRY
)
MQTT_CONNECTED: Final = Gauge(
    "roundsman_mqtt_connected", "1 while the broker session is open.", registry=REGISTRY
)
MQTT_CONNECTS: Final = Counter(
    "roundsman_mqtt_connects", "Broker sessions opened.", registry=REGISTRY
)
MQTT_RECEIVED: Final = Counter(
    "roundsman_mqtt_received", "Messages from gateways, by kind.", ["kind"], registry=REGISTRY
)
MQTT_SENT: Final = Counter(
    "roundsman_mqtt_sent", "Messages to gateways, by kind.", ["kind"], registry=REGISTRY
)
MQTT_DROPPED: Final = Counter(
    "roundsman_mqtt_dropped",
    "Messages from gateways that were dropped, by reason; senders send again.",
    ["reason"],
    registry=REGISTRY,
)
MQTT_REFUSED: Final = Counter(
    "roundsman_mqtt_publish_refused",
    "Messages the broker's rules did not let us publish.",
    registry=REGISTRY,
)
REPORTS_STORED: Final = Counter(
    "roundsman_reports_stored", "Items of reports made durable.", registry=REGISTRY
)
REPORTS_REFUSED: Final = Counter(
    "roundsman_reports_refused", "Items of reports refused, by code.", ["code"], registry=REGISTRY
)
REPORT_BATCH_SECONDS: Final = Histogram(
    "roundsman_report_batch_seconds",
    "Time of one transaction that stores a batch of reports.",
    registry=REGISTRY,
    buckets=(0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 2.0),
)
TASKS_OFFERED: Final = Counter(
    "roundsman_tasks_offered", "Offers sent, repeated ones too.", registry=REGISTRY
)
CANCELS_SENT: Final = Counter(
    "roundsman_cancels_sent", "Cancels sent, repeated ones too.", registry=REGISTRY
)
BROKER_RESTARTS: Final = Counter(
    "roundsman_embedded_broker_restarts",
    "Times the embedded broker had to be started again.",
    registry=REGISTRY,
)


def exposition() -> bytes:
    """All metrics in the text format of Prometheus."""
    return generate_latest(REGISTRY)
