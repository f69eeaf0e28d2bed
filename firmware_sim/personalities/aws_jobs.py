"""A device with a small AWS IoT Jobs client: it asks for the next job, runs it, and says how far.

A job document may hold `reports` (updates on the way), `every_s` (between them), `end` (its last
status) and `result` (the last details). Its plan of faults: `refuse_upload` rejects every job,
`doubled_replies` sends an update twice, `corrupted_lines` one with a stale `expectedVersion`,
`lost_lines` loses one, and `reboot_after_chunks` counts updates after which it dies.
"""

from collections.abc import Mapping
from typing import Any, Final

from firmware_sim.gadget import Gadget, as_json, object_in
from firmware_sim.messages import Action, Later, Publish, Reboot

ASK_AGAIN_S: Final = 2.0
DIES_AFTER_S: Final = 0.05


class AwsJobsPersonality(Gadget):
    """It runs one job at a time; after a boot it knows nothing, and asks."""

    job: str | None = None
    version: int = 0
    said: int = 0
    updates: int = 0
    _asks: int = 0
    _waits: bool = False
    _document: Mapping[str, Any] = {}

    def topics(self) -> list[str]:
        leaves = ("notify-next", "start-next/+", "+/update/+")
        return [f"$aws/things/{self.id}/jobs/{leaf}" for leaf in leaves]

    def boot(self, now_s: float) -> None:
        super().boot(now_s)
        self.job = None

    def connected(self) -> list[Action]:
        return self._ask_next()

    def serve(self, topic: str, text: str) -> list[Action]:
        words, body = topic.split("/")[4:], object_in(text)
        match words:
            case ["notify-next"]:
                return self._ask_next() if self.job is None else []
            case ["start-next", "accepted"]:
                self._waits = False
                return self._begin(body)
            case [job, "update", "accepted"] if job == self.job:
                return self._taken(body)
            case [job, "update", "rejected"] if job == self.job:
                return self._refused(body)
        return []

    def _ask_next(self) -> list[Action]:
        """Asked again while nobody answers."""
        self._waits = True
        return [
            self._ask("start-next", {}),
            Later(ASK_AGAIN_S, lambda now_s: self._ask_next() if self._waits else []),
        ]

    def _ask(self, leaf: str, body: Mapping[str, object]) -> Publish:
        self._asks += 1
        payload = as_json({"clientToken": f"{self.id}-{self._asks}", **body})
        return Publish(f"$aws/things/{self.id}/jobs/{leaf}", payload)

    def _begin(self, body: Mapping[str, Any]) -> list[Action]:
        execution = body.get("execution")
        if self.job is not None or not isinstance(execution, dict):
            return []
        document = execution.get("jobDocument")
        self._document = document if isinstance(document, dict) else {}
        self.job, self.version, self.said = execution["jobId"], execution["versionNumber"], 0
        self.device.experienced(
            "job",
            {"job": self.job, "number": execution["executionNumber"], "version": self.version},
        )
        return self._go_on()

    def _go_on(self) -> list[Action]:
        """The next update, and the same again should nobody answer."""
        if self.device.faults.refuse_upload is not None:
            return self._update("REJECTED", {"reason": "unknown-operation"})
        reports = int(self._document.get("reports", 2))
        if self.said >= reports:
            end = str(self._document.get("end", "SUCCEEDED"))
            return self._update(end, self._result())
        percent = f"{100 * (self.said + 1) // (reports + 1)}%"
        return self._update("IN_PROGRESS", {"progress": percent, "boot": self._boots})

    @property
    def _boots(self) -> str:
        return str(self.device.counters.boots)

    def _result(self) -> dict[str, str]:
        result = self._document.get("result")
        return {"version": self.device.version} if not isinstance(result, dict) else result

    def _update(self, status: str, details: Mapping[str, str]) -> list[Action]:
        self.updates += 1
        faults, count = self.device.faults, self.updates
        expected = self.version
        if faults.happens("stale", faults.corrupted_lines, count):
            expected -= 1
        body = {"status": status, "statusDetails": details, "expectedVersion": expected}
        update = self._ask(f"{self.job}/update", {**body, "includeJobExecutionState": True})
        actions: list[Action] = [Later(ASK_AGAIN_S, self._repeat_of(self.job, count))]
        if not faults.happens("lost out", faults.lost_lines, count):
            actions.insert(0, update)
        if faults.happens("doubled", faults.doubled_replies, count):
            actions.insert(0, update)
        if count in faults.reboot_after_chunks:
            actions.append(Reboot(DIES_AFTER_S))
        return actions

    def _repeat_of(self, job: str | None, count: int) -> Any:
        def repeat(now_s: float) -> list[Action]:
            return self._go_on() if (self.job, self.updates) == (job, count) else []

        return repeat

    def _taken(self, body: Mapping[str, Any]) -> list[Action]:
        state = body.get("executionState")
        if not isinstance(state, dict) or state.get("versionNumber", 0) <= self.version:
            return []
        return self._is_at(state)

    def _refused(self, body: Mapping[str, Any]) -> list[Action]:
        """A state that is ahead of ours says that an update before was taken."""
        state = body.get("executionState")
        if not isinstance(state, dict):
            return []
        if state.get("status") == "IN_PROGRESS" and state.get("versionNumber") == self.version:
            return self._go_on()
        if state.get("versionNumber", 0) > self.version:
            return self._is_at(state)
        return []

    def _is_at(self, state: Mapping[str, Any]) -> list[Action]:
        self.version = int(state["versionNumber"])
        self.updates += 1  # what waits to be repeated is not
        if state.get("status") != "IN_PROGRESS":
            self.device.experienced("job ended", {"job": self.job, "status": state.get("status")})
            self.job = None
            return self._ask_next()
        self.said += 1
        every_s = float(self._document.get("every_s", 0.05))
        job = self.job
        return [Later(every_s, lambda now_s: self._go_on() if self.job == job else [])]
