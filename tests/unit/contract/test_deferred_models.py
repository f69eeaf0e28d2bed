"""Models that are built when they are first used can be built, every one of them."""

import importlib
import pkgutil

from pydantic import BaseModel

import contract
from gateway.domain import modbus_profile, profiles


def _below(model: type[BaseModel]) -> list[type[BaseModel]]:
    return [model, *(found for child in model.__subclasses__() for found in _below(child))]


def _ours() -> list[type[BaseModel]]:
    for module in pkgutil.walk_packages(contract.__path__, "contract."):
        importlib.import_module(module.name)
    models = [model for model in _below(BaseModel) if model.__module__.startswith("contract.")]
    models += [*_below(profiles.Section), *_below(modbus_profile.Section)]
    return [model for model in models if not model.__pydantic_generic_metadata__["parameters"]]


def test_every_model_of_the_contract_can_be_built():
    models = _ours()
    assert len(models) > 200
    for model in models:
        model.model_rebuild()
        assert model.__pydantic_complete__, model
