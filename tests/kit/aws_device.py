"""A device program on Amazon's own SDK, as its samples have it: `python -m tests.kit.aws_device`.

It waits for jobs, runs one at a time and says how far it is. The document says what happens:
`reports` updates on the way, then a wait for the file `hold`, then the end `end`. Each thing it
does is a JSON line in `--experiences`.
"""

import argparse
import json
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, TimeoutError
from pathlib import Path
from typing import Any, Final, Protocol

from awscrt import exceptions, mqtt, mqtt5
from awscrt import mqtt_request_response as request_response
from awsiot import V2ServiceException, iotjobs

ANSWER_WITHIN_S: Final = 2.0
CONNECT_WITHIN_S: Final = 30.0
AGAIN_S: Final = 0.2
QOS: Final = mqtt.QoS.AT_LEAST_ONCE


class Rejected(Exception):
    def __init__(self, error: Any) -> None:
        super().__init__(str(error.code))
        self.error = error


class Jobs(Protocol):
    """What a device needs of either generation of the client."""

    def listen(self, on_next: Callable[[Any], None], on_list: Callable[[Any], None]) -> None: ...

    def get(self) -> Any: ...

    def start_next(self, **fields: Any) -> Any: ...

    def describe(self, job: str, **fields: Any) -> Any: ...

    def update(self, job: str, **fields: Any) -> Any: ...


class JobsV1:
    """IotJobsClient: answers come on subscriptions, matched here by their token."""

    def __init__(self, connection: mqtt.Connection, thing: str) -> None:
        self._client = iotjobs.IotJobsClient(connection)
        self._thing = thing
        self._waiting: dict[str, Future[Any]] = {}
        self._count = 0

    def listen(self, on_next: Callable[[Any], None], on_list: Callable[[Any], None]) -> None:
        client, thing = self._client, {"thing_name": self._thing}
        any_job = {**thing, "job_id": "+"}
        next_changed = iotjobs.NextJobExecutionChangedSubscriptionRequest(**thing)
        list_changed = iotjobs.JobExecutionsChangedSubscriptionRequest(**thing)
        pending = iotjobs.GetPendingJobExecutionsSubscriptionRequest(**thing)
        start = iotjobs.StartNextPendingJobExecutionSubscriptionRequest(**thing)
        describe = iotjobs.DescribeJobExecutionSubscriptionRequest(**any_job)
        update = iotjobs.UpdateJobExecutionSubscriptionRequest(**any_job)
        yes, no = self._accepted, self._rejected
        for subscribe, request, then in (
            (client.subscribe_to_next_job_execution_changed_events, next_changed, on_next),
            (client.subscribe_to_job_executions_changed_events, list_changed, on_list),
            (client.subscribe_to_get_pending_job_executions_accepted, pending, yes),
            (client.subscribe_to_get_pending_job_executions_rejected, pending, no),
            (client.subscribe_to_start_next_pending_job_execution_accepted, start, yes),
            (client.subscribe_to_start_next_pending_job_execution_rejected, start, no),
            (client.subscribe_to_describe_job_execution_accepted, describe, yes),
            (client.subscribe_to_describe_job_execution_rejected, describe, no),
            (client.subscribe_to_update_job_execution_accepted, update, yes),
            (client.subscribe_to_update_job_execution_rejected, update, no),
        ):
            future, _ = subscribe(request, QOS, then)
            future.result(CONNECT_WITHIN_S)

    def get(self) -> Any:
        request = iotjobs.GetPendingJobExecutionsRequest(thing_name=self._thing)
        return self._ask(self._client.publish_get_pending_job_executions, request)

    def start_next(self, **fields: Any) -> Any:
        request = iotjobs.StartNextPendingJobExecutionRequest(thing_name=self._thing, **fields)
        return self._ask(self._client.publish_start_next_pending_job_execution, request)

    def describe(self, job: str, **fields: Any) -> Any:
        request = iotjobs.DescribeJobExecutionRequest(thing_name=self._thing, job_id=job, **fields)
        return self._ask(self._client.publish_describe_job_execution, request)

    def update(self, job: str, **fields: Any) -> Any:
        request = iotjobs.UpdateJobExecutionRequest(thing_name=self._thing, job_id=job, **fields)
        return self._ask(self._client.publish_update_job_execution, request)

    def _ask(self, publish: Callable[[Any, mqtt.QoS], Future[Any]], request: Any) -> Any:
        self._count += 1
        request.client_token = f"ask-{self._count}"
        answered = self._waiting[request.client_token] = Future()
        publish(request, QOS)
        try:
            return answered.result(ANSWER_WITHIN_S)
        finally:
            self._waiting.pop(request.client_token, None)

    def _accepted(self, response: Any) -> None:
        answered = self._waiting.get(response.client_token)
        if answered is not None and not answered.done():
            answered.set_result(response)

    def _rejected(self, error: Any) -> None:
        answered = self._waiting.get(error.client_token)
        if answered is not None and not answered.done():
            answered.set_exception(Rejected(error))


class JobsV2:
    """IotJobsClientV2: requests with futures, notifications as streams."""

    def __init__(self, connection: mqtt.Connection | mqtt5.Client, thing: str) -> None:
        options = request_response.ClientOptions(
            max_request_response_subscriptions=6,
            max_streaming_subscriptions=2,
            operation_timeout_in_seconds=round(ANSWER_WITHIN_S),
        )
        self._client = iotjobs.IotJobsClientV2(connection, options)
        self._thing = thing
        self._streams: list[Any] = []

    def listen(self, on_next: Callable[[Any], None], on_list: Callable[[Any], None]) -> None:
        from awsiot import ServiceStreamOptions

        for create, request, then in (
            (
                self._client.create_next_job_execution_changed_stream,
                iotjobs.NextJobExecutionChangedSubscriptionRequest(thing_name=self._thing),
                on_next,
            ),
            (
                self._client.create_job_executions_changed_stream,
                iotjobs.JobExecutionsChangedSubscriptionRequest(thing_name=self._thing),
                on_list,
            ),
        ):
            established = threading.Event()
            stream = create(
                request,
                ServiceStreamOptions(
                    incoming_event_listener=then,
                    subscription_status_listener=lambda _, there=established: there.set(),
                ),
            )
            stream.open()
            assert established.wait(CONNECT_WITHIN_S)
            self._streams.append(stream)

    def get(self) -> Any:
        request = iotjobs.GetPendingJobExecutionsRequest(thing_name=self._thing)
        return self._result(self._client.get_pending_job_executions(request))

    def start_next(self, **fields: Any) -> Any:
        request = iotjobs.StartNextPendingJobExecutionRequest(thing_name=self._thing, **fields)
        return self._result(self._client.start_next_pending_job_execution(request))

    def describe(self, job: str, **fields: Any) -> Any:
        request = iotjobs.DescribeJobExecutionRequest(thing_name=self._thing, job_id=job, **fields)
        return self._result(self._client.describe_job_execution(request))

    def update(self, job: str, **fields: Any) -> Any:
        request = iotjobs.UpdateJobExecutionRequest(thing_name=self._thing, job_id=job, **fields)
        return self._result(self._client.update_job_execution(request))

    def _result(self, future: Future[Any]) -> Any:
        try:
            return future.result(CONNECT_WITHIN_S)
        except V2ServiceException as failure:
            if failure.modeled_error is not None:
                raise Rejected(failure.modeled_error) from failure
            raise TimeoutError(str(failure.inner_error)) from failure


def connect(port: int, client_id: str) -> mqtt.Connection:
    """An MQTT 3.1.1 connection in the clear, that comes back by itself and subscribes anew."""

    def resumed(connection: mqtt.Connection, return_code: Any, session_present: bool) -> None:
        if not session_present:
            connection.resubscribe_existing_topics()

    connection = mqtt.Connection(
        client=mqtt.Client(),
        host_name="127.0.0.1",
        port=port,
        client_id=client_id,
        clean_session=True,
        keep_alive_secs=30,
        reconnect_min_timeout_secs=1,
        reconnect_max_timeout_secs=2,
        on_connection_resumed=resumed,
    )
    connection.connect().result(CONNECT_WITHIN_S)
    return connection


def connect5(port: int, client_id: str) -> mqtt5.Client:
    """An MQTT 5 connection in the clear."""
    connected: Future[None] = Future()
    client = mqtt5.Client(
        mqtt5.ClientOptions(
            host_name="127.0.0.1",
            port=port,
            connect_options=mqtt5.ConnectPacket(client_id=client_id),
            on_lifecycle_event_connection_success_fn=lambda _: connected.set_result(None),
        )
    )
    client.start()
    connected.result(CONNECT_WITHIN_S)
    return client


class AwsDevice:
    """Runs whatever job is next, until the program ends."""

    def __init__(self, jobs: Jobs, experiences: Path) -> None:
        self._jobs = jobs
        self._experiences = experiences
        self._something = threading.Event()

    def run(self) -> None:
        self._jobs.listen(lambda event: self._something.set(), lambda event: None)
        self._tell("listening")
        while True:
            self._something.clear()
            execution = self._until_answered(self._jobs.start_next).execution
            if execution is not None:
                self._work(execution)
                continue
            # A real device would wait for the word alone; this one also asks now and then, as one
            # does that has just come back.
            self._something.wait(ANSWER_WITHIN_S)

    def _work(self, execution: Any) -> None:
        document, job = execution.job_document, execution.job_id
        self._tell("began", job=job, number=execution.execution_number, document=document)
        version, reports = execution.version_number, document.get("reports", 2)
        try:
            for done in range(1, reports + 1):
                details = {"progress": f"{100 * done // (reports + 1)}%", "step": f"part-{done}"}
                self._update(job, version, "IN_PROGRESS", details)
                version += 1
            while "hold" in document and not Path(document["hold"]).exists():
                time.sleep(AGAIN_S)
            end = document.get("end", "SUCCEEDED")
            self._update(job, version, end, {"result": "installed", "parts": str(reports)})
        except Rejected as rejected:
            state = rejected.error.execution_state
            status = None if state is None else state.status
            self._tell("given up", job=job, code=rejected.error.code, status=status)
        else:
            self._tell("done", job=job, end=end)

    def _update(self, job: str, version: int, status: str, details: dict[str, str]) -> None:
        def ask() -> Any:
            return self._jobs.update(
                job, status=status, status_details=details, expected_version=version
            )

        try:
            self._until_answered(ask)
        except Rejected as rejected:
            # The answer to the one before was lost: it was taken then.
            state = rejected.error.execution_state
            if state is None or (state.status, state.version_number) != (status, version + 1):
                raise
        self._tell("said", job=job, status=status, version=version + 1)

    def _until_answered(self, ask: Callable[[], Any]) -> Any:
        while True:
            try:
                return ask()
            except (TimeoutError, exceptions.AwsCrtError):
                time.sleep(AGAIN_S)

    def _tell(self, what: str, **about: Any) -> None:
        with self._experiences.open("a") as file:
            file.write(json.dumps({"what": what, **about}) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--thing", required=True)
    parser.add_argument("--client", choices=["v1", "v2"], default="v1")
    parser.add_argument("--experiences", type=Path, required=True)
    given = parser.parse_args()
    connection = connect(given.port, given.thing)
    kind = JobsV1 if given.client == "v1" else JobsV2
    AwsDevice(kind(connection, given.thing), given.experiences).run()


if __name__ == "__main__":
    main()
