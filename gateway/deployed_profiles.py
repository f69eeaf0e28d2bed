"""Profiles that the cloud deploys: fetched, judged by our own model, kept, and used at once.

The files in the data folder are the only record of what is held. What is wanted comes with every
welcome and with messages in between, and each set that was dealt with is answered.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.abc import Traversable
from typing import Final, Protocol

from pydantic import BaseModel

from contract.documents import DocumentInvalid, load, load_value
from contract.messages import (
    MAX_PROFILE_BYTES,
    ArtifactRef,
    HeldProfile,
    HeldProfiles,
    WantedProfile,
    WantedProfiles,
)
from contract.plugins import PlugInBroken
from gateway.actions.base import FetchedArtifact
from gateway.artifacts.profile_files import ProfileFile, ProfileFiles
from gateway.device_settings import DeviceSettings, read_profile, users_of_profiles
from gateway.domain.plain_json import plain_text
from gateway.drivers.base import OnProgress, Surroundings
from gateway.drivers.registry import Drivers
from gateway.errors import ArtifactUnavailable, SettingsInvalid, StorageFull
from gateway.logs import Log

# Of a file that does not say which driver it is for.
DEFAULT_DRIVER: Final = "mqtt"
LONGEST_PROBLEM: Final = 300
# All answers together have to fit into one message.
LONGEST_OF_MANY: Final = 80
MANY: Final = 20
NAMED: Final = 5

Tell = Callable[[HeldProfiles], None]
Renew = Callable[[Sequence[str], bool], None]

log = Log()


class ProfileRefused(Exception):
    """It cannot be used here; the text says why."""


class Artifacts(Protocol):
    """Where files come from."""

    async def fetch(
        self, ref: ArtifactRef, on_progress: OnProgress, holder: str
    ) -> FetchedArtifact: ...

    def release(self, holder: str) -> None: ...


@dataclass(frozen=True)
class Judge:
    """What a profile has to please: our drivers, and the devices that name it.

    `folders` hold the profiles that go behind deployed ones. `surroundings` has all in use.
    """

    devices: Sequence[DeviceSettings]
    folders: Sequence[Traversable]
    drivers: Drivers
    surroundings: Surroundings

    def users(self, name: str) -> list[DeviceSettings]:
        return users_of_profiles(self.devices).get(name, [])

    async def read(self, name: str, data: bytes) -> BaseModel:
        """The profile in a file's bytes. Raises ProfileRefused."""
        if len(data) > MAX_PROFILE_BYTES:
            raise ProfileRefused(f"more than {MAX_PROFILE_BYTES} bytes")
        users = self.users(name)
        try:
            text = data.decode()
            model = self._model(users, text)
            profile = await asyncio.to_thread(load, text, model, f"{name}.yaml")
        except (UnicodeDecodeError, DocumentInvalid) as error:
            raise ProfileRefused(str(error)) from error
        self._try(name, profile, users)
        return profile

    def other(self, name: str) -> BaseModel | None:
        """The profile of that name that goes behind a deployed one. Raises ProfileRefused."""
        users = self.users(name)
        if not users or users[0].kind is None or users[0].kind.profile is None:
            return None
        try:
            return read_profile(name, users[0].kind.profile, self.folders)
        except (OSError, UnicodeDecodeError, DocumentInvalid) as error:
            raise ProfileRefused(str(error)) from error

    def _model(self, users: Sequence[DeviceSettings], text: str) -> type[BaseModel]:
        value = load_value(text, "profile")
        named = value.get("driver", DEFAULT_DRIVER) if isinstance(value, dict) else DEFAULT_DRIVER
        if users and users[0].kind is not None:
            kind, driver = users[0].kind, users[0].driver
        else:
            driver = str(named)
            if driver not in self.drivers.names:
                raise ProfileRefused(f"there is no driver `{driver[:64]}` here")
            try:
                kind = self.drivers.kind(driver)
            except PlugInBroken as error:
                raise ProfileRefused(str(error)) from error
        if kind.profile is None:
            raise ProfileRefused(f"driver `{driver}` works without profiles")
        return kind.profile

    def _try(self, name: str, profile: BaseModel, users: Sequence[DeviceSettings]) -> None:
        """Build each device's driver with it: what is wrong with its options is said now."""
        trial = replace(self.surroundings, profiles={**self.surroundings.profiles, name: profile})
        for device in users:
            assert device.kind is not None
            try:
                device.kind.make(device.id, device.options, trial, lambda text: None)
            except SettingsInvalid as error:
                raise ProfileRefused(str(error)) from error
            except Exception as error:  # perhaps somebody else's driver
                raise ProfileRefused(f"device {device.id}: {type(error).__name__}: {error}") from (
                    error
                )


class ProfileKeeper:
    """`profiles` are those in use, which drivers see; `unusable` deployed files, and why."""

    def __init__(
        self,
        files: ProfileFiles,
        artifacts: Artifacts,
        judge: Judge,
        profiles: dict[str, BaseModel],
        unusable: Mapping[str, str],
    ) -> None:
        self._files = files
        self._artifacts = artifacts
        self._judge = judge
        self._profiles = profiles
        self._unusable = dict(unusable)
        self._held: dict[str, ProfileFile] | None = None
        self._wanted: WantedProfiles | None = None
        self._answer: HeldProfiles | None = None
        self._wake = asyncio.Event()

    def held(self) -> list[HeldProfile]:
        """What stands in the hello: the files that are used, or would be."""
        return [
            HeldProfile(name=name, sha256=file.sha256, size=file.size)
            for name, file in self._all().items()
        ]

    def take(self, wanted: WantedProfiles, opens: bool) -> None:
        """A wanted set: of a welcome that `opens` a session, or of a message within it."""
        known = self._wanted
        if opens or known is None or wanted.revision > known.revision:
            self._wanted, self._answer = wanted, None
            self._wake.set()
        elif wanted.revision == known.revision and self._answer is not None:
            self._wake.set()

    async def run(self, tell: Tell, renew: Renew) -> None:
        """Deal with each wanted set, the newest only, and `tell` what came of it.

        `renew` hears which devices have another profile than before, and whether one was, or is,
        without any.
        """
        while True:
            await self._wake.wait()
            self._wake.clear()
            wanted = self._wanted
            assert wanted is not None
            if self._answer is None:
                self._answer = await self._unless_overtaken(wanted, renew)
            if self._answer is not None:
                tell(self._answer)

    async def _unless_overtaken(self, wanted: WantedProfiles, renew: Renew) -> HeldProfiles | None:
        """The answer; None when another set has come meanwhile."""
        async with asyncio.TaskGroup() as group:
            work = group.create_task(self._bring_about(wanted, renew), name="profiles.bring_about")
            newer = group.create_task(self._wake.wait(), name="profiles.newer")
            await asyncio.wait({work, newer}, return_when=asyncio.FIRST_COMPLETED)
            work.cancel()
            newer.cancel()
        return None if work.cancelled() or self._wanted is not wanted else work.result()

    async def _bring_about(self, wanted: WantedProfiles, renew: Renew) -> HeldProfiles:
        words = [await self._deploy(one, renew) for one in wanted.profiles]
        names = {one.name for one in wanted.profiles}
        for name in sorted(self._all().keys() - names):
            word = self._withdraw(name, renew)
            if word is not None:
                words.append(word)
        if sum(bool(word.problem) for word in words) > MANY:
            words = [
                word.model_copy(update={"problem": word.problem[:LONGEST_OF_MANY]})
                for word in words
            ]
        return HeldProfiles(revision=wanted.revision, profiles=words)

    async def _deploy(self, one: WantedProfile, renew: Renew) -> HeldProfile:
        before = self._all().get(one.name)
        is_here = before is not None and before.sha256 == one.sha256
        if is_here and one.name not in self._unusable:
            return HeldProfile(name=one.name, sha256=one.sha256, size=one.size)
        try:
            data = self._files.read(one.name) if is_here else await self._fetch(one)
            profile = await self._judge.read(one.name, data)
            if not is_here:
                # Not in a thread, which would write on when a newer set ends this.
                self._all()[one.name] = self._files.write(one.name, data)
        except (ProfileRefused, ArtifactUnavailable, StorageFull, OSError) as error:
            log.error("profile refused", profile=one.name, sha256=one.sha256, why=str(error))
            kept = {} if before is None or is_here else {"sha256": before.sha256}
            return HeldProfile(
                name=one.name,
                **kept,
                size=before.size if before is not None and kept else 0,
                refused=one.sha256,
                problem=_words(error),
            )
        self._unusable.pop(one.name, None)
        self._use(one.name, profile, renew)
        log.info("profile deployed", profile=one.name, sha256=one.sha256)
        return HeldProfile(name=one.name, sha256=one.sha256, size=one.size)

    async def _fetch(self, one: WantedProfile) -> bytes:
        if one.size > MAX_PROFILE_BYTES:
            raise ProfileRefused(f"more than {MAX_PROFILE_BYTES} bytes")
        holder = f"profile:{one.name}"
        try:
            ref = ArtifactRef(sha256=one.sha256, size=one.size)
            fetched = await self._artifacts.fetch(ref, lambda percent, note: None, holder)
            with open(fetched.path, "rb") as file:  # noqa: ASYNC230 (small, and verified)
                return file.read()
        finally:
            self._artifacts.release(holder)

    def _withdraw(self, name: str, renew: Renew) -> HeldProfile | None:
        """Go back to the profile behind it; None when that is done."""
        file = self._all()[name]
        users = self._judge.users(name)
        try:
            other = self._judge.other(name)
            if users and other is None:
                ids = ", ".join(device.id for device in users[:NAMED])
                more = f" and {len(users) - NAMED} more" if len(users) > NAMED else ""
                raise ProfileRefused(f"used by {ids}{more}, and there is no other `{name}`")
            self._files.remove(name)
        except (ProfileRefused, OSError) as error:
            log.error("profile not withdrawn", profile=name, why=str(error))
            return HeldProfile(name=name, sha256=file.sha256, size=file.size, problem=_words(error))
        del self._all()[name]
        self._unusable.pop(name, None)
        self._use(name, other, renew)
        log.info("profile withdrawn", profile=name)
        return None

    def _use(self, name: str, profile: BaseModel | None, renew: Renew) -> None:
        users = [device.id for device in self._judge.users(name)]
        if not users:
            return
        had_none = name not in self._profiles
        if profile is None:
            self._profiles.pop(name, None)
        else:
            self._profiles[name] = profile
        renew(users, had_none or profile is None)

    def _all(self) -> dict[str, ProfileFile]:
        if self._held is None:
            self._held = self._files.list()
        return self._held


def _words(error: Exception) -> str:
    if isinstance(error, StorageFull):
        return "the disk is full"
    if isinstance(error, OSError):
        return plain_text(f"it cannot be written: {error.strerror or error}", LONGEST_PROBLEM)
    return plain_text(str(error), LONGEST_PROBLEM) or type(error).__name__
