"""An update that an MQTT device does by itself, watched until its end.

A device that is offline for a while is not a failed one. One that restarted has forgotten the
update and is asked again, unless its profile says that it goes offline while it updates.
"""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

from pydantic import JsonValue

from contract.template_dialect import TemplateError, evaluate, render
from gateway.domain import profile_messages as messages
from gateway.domain.profile_messages import Accepted, Declined, News
from gateway.domain.profiles import Chunks, Upload
from gateway.errors import DeviceUnreachable, ReplyGarbled
from gateway.transports.mqtt_conversation import Conversation, Watching

LOOK_EVERY_S: Final = 5.0
SETTLE_LOOK_EVERY_S: Final = 1.0
# A device whose presence flaps is neither asked nor looked at more often than this.
PAUSE_S: Final = 0.3
MAX_CHUNK: Final = 256 * 1024

Scope = dict[str, JsonValue]


class Update:
    """One update. `firmware` is what the profile's texts see of the image.

    `is_there(until_s)` asks the device whether it has the image: it may raise DeviceUnreachable
    and ReplyGarbled. A refusal's code is ours where the profile's `refused` says so.
    """

    def __init__(
        self,
        talk: Conversation,
        upload: Upload,
        path: Path,
        firmware: Scope,
        until_s: float,
        on_progress: Callable[[float, str], None],
        is_there: Callable[[float], Awaitable[bool]],
    ) -> None:
        self._talk = talk
        self._upload = upload
        self._path = path
        self._until_s = until_s
        self._on_progress = on_progress
        self._is_there = is_there
        self._quiet_s = upload.no_progress.total_seconds()
        self._news_at_s = _now_s()
        self._is_taken = False
        self._was_away = False
        self._rested_at_s = 0.0
        self._scope: Scope = {"firmware": {"id": talk.new_id(), **firmware}}

    async def run(self) -> Accepted | Declined:
        """Raises DeviceUnreachable and ReplyGarbled, and TemplateError for a wrong profile."""
        upload = self._upload
        chunks = None if upload.chunks is None else upload.chunks.topic
        if not upload.progress and chunks is None:
            return await self._start() or await self._settled()
        with self._talk.watching(upload.progress, chunks, self._scope) as watching:
            while True:
                if not self._is_taken:
                    if self._was_away and await self._has_it():
                        return Accepted(None)
                    refusal = await self._start()
                    if refusal is not None:
                        return refusal
                outcome = await self._wait(watching)
                if outcome is not None:
                    return outcome

    async def _start(self) -> Declined | None:
        """Ask for the update. An unanswered request may have been taken: the news will tell."""
        upload, talk = self._upload, self._talk
        await self._pause()
        try:
            if upload.prepare is not None:
                told = await talk.exchange(upload.prepare, "update", self._until_s, self._scope)
                if isinstance(told, Declined):
                    return self._refusal(told)
            answer = await talk.exchange(upload.ask, "update", self._until_s, self._scope)
        except ReplyGarbled:
            if not upload.progress and upload.chunks is None:
                raise
            self._is_taken = upload.offline_is_progress
            return None
        except DeviceUnreachable:
            if _now_s() >= self._give_up_at_s:
                raise
            return None
        self._is_taken = True
        return None if isinstance(answer, Accepted) else self._refusal(answer)

    async def _wait(self, watching: Watching) -> Accepted | Declined | None:
        """Wait for news, and look at the device when there are none. None: go on."""
        look_at_s = min(self._give_up_at_s, _now_s() + LOOK_EVERY_S)
        was_online = self._talk.online
        has_changed = await self._has_changed(watching, look_at_s)
        if has_changed:
            await self._answer_questions(watching)
            if watching.news is not None:
                news, watching.news = watching.news, None
                end = await self._read_news(news)
                if end is not None:
                    return end
        if _now_s() >= self._give_up_at_s:
            if self._talk.online is not False and await self._has_it():
                return Accepted(None)
            raise DeviceUnreachable(f"no news of the update for {self._quiet_s:g} s")
        if has_changed and self._talk.online is was_online:
            return None
        if self._talk.online is False:
            self._was_away = True
            self._is_taken = self._is_taken and self._upload.offline_is_progress
            if not self._is_taken:
                # A device that is gone hears nothing: the next request waits for it.
                await self._talk.wait_for_presence(
                    lambda: self._talk.online is not False, self._give_up_at_s
                )
        elif await self._has_it():
            return Accepted(None)
        return None

    async def _read_news(self, news: News) -> Accepted | Declined | None:
        self._news_at_s, self._is_taken = _now_s(), True
        if news.percent is not None:
            self._on_progress(min(max(news.percent, 0.0), 100.0), news.note)
        match news.end:
            case Accepted():
                return await self._settled()
            case Declined():
                return self._refusal(news.end)
        return None

    async def _settled(self) -> Accepted:
        """It says that it is done. What is true of it, a version that is read back will tell."""
        if self._upload.settles is not None:
            until_s = min(self._until_s, _now_s() + self._upload.settles.total_seconds())
            while _now_s() < until_s:
                look_again_s = min(until_s, _now_s() + SETTLE_LOOK_EVERY_S)
                if self._talk.online is not False and await self._has_it():
                    break
                online = self._talk.online
                await self._talk.wait_for_presence(
                    lambda online=online: self._talk.online is not online,  # type: ignore[misc]
                    look_again_s,
                )
        return Accepted(None)

    async def _has_changed(self, watching: Watching, until_s: float) -> bool:
        try:
            async with asyncio.timeout_at(until_s):
                await watching.changed.wait()
        except TimeoutError:
            return False
        watching.changed.clear()
        return True

    async def _has_it(self) -> bool:
        """Whether the device has the image: the last news may have been lost."""
        await self._pause()
        try:
            return await self._is_there(min(self._until_s, _now_s() + LOOK_EVERY_S))
        except (DeviceUnreachable, ReplyGarbled):
            return False

    async def _pause(self) -> None:
        await asyncio.sleep(max(self._rested_at_s + PAUSE_S - _now_s(), 0.0))
        self._rested_at_s = _now_s()

    async def _answer_questions(self, watching: Watching) -> None:
        chunks = self._upload.chunks
        while chunks is not None and watching.questions:
            topic, payload = watching.questions.popleft()
            scope = {**watching.scope, "topic": topic, "payload": payload}
            piece = _piece_asked_for(chunks, scope)
            if piece is None:
                continue
            number, size = piece
            data = await asyncio.to_thread(_piece, self._path, number * size, size)
            until_s = min(self._until_s, _now_s() + LOOK_EVERY_S)
            await self._talk.publish(str(render(chunks.reply, scope)), data, until_s)
            self._news_at_s = _now_s()

    @property
    def _give_up_at_s(self) -> float:
        return min(self._until_s, self._news_at_s + self._quiet_s)

    def _refusal(self, answer: Declined) -> Declined | None:
        """None where it only says that the update is under way already."""
        upload = self._upload
        seen: Scope = {"code": answer.code, "text": answer.text}
        if upload.busy is not None and messages.holds(upload.busy, seen):
            return None
        text = f"{answer.text} ({answer.code})" if answer.code else answer.text
        return Declined(upload.refused.get(answer.code, "image_refused"), text)


def _piece_asked_for(chunks: Chunks, scope: Scope) -> tuple[int, int] | None:
    """Number and size, or None for a question that makes no sense."""
    try:
        number, size = evaluate(chunks.number, scope), evaluate(chunks.size, scope)
    except TemplateError:
        return None
    if not isinstance(number, int) or not isinstance(size, int):
        return None
    return (number, size) if 0 <= number < 1 << 32 and 0 < size <= MAX_CHUNK else None


def _piece(path: Path, offset: int, size: int) -> bytes:
    with path.open("rb") as file:
        file.seek(offset)
        return file.read(size)


def _now_s() -> float:
    return asyncio.get_running_loop().time()
