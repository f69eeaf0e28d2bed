"""Which off-the-shelf MQTT devices the simulator plays, by the name scenario files use."""

from collections.abc import Mapping
from typing import Final

from firmware_sim.gadget import Gadget
from firmware_sim.personalities.aws_jobs import AwsJobsPersonality
from firmware_sim.personalities.esphome import EsphomePersonality
from firmware_sim.personalities.losant import LosantPersonality
from firmware_sim.personalities.shelly_gen1 import ShellyGen1Personality
from firmware_sim.personalities.shelly_gen2 import ShellyGen2Personality
from firmware_sim.personalities.tasmota import TasmotaPersonality
from firmware_sim.personalities.thingsboard import ThingsBoardPersonality
from firmware_sim.personalities.zigbee2mqtt import Zigbee2MqttPersonality

FAMILIES: Final[Mapping[str, type[Gadget]]] = {
    "tasmota": TasmotaPersonality,
    "shelly_gen1": ShellyGen1Personality,
    "shelly_gen2": ShellyGen2Personality,
    "zigbee2mqtt": Zigbee2MqttPersonality,
    "esphome": EsphomePersonality,
    "losant": LosantPersonality,
    "thingsboard": ThingsBoardPersonality,
    "aws_jobs": AwsJobsPersonality,
}
