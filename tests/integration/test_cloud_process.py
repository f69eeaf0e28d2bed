"""The cloud as a process: its first start, its stop, its death, and settings that cannot work."""

import json
import re
import stat
import threading
import urllib.error
import urllib.request

import pytest

from tests.kit.waiting import wait_until

CONFIG = (
    "data_dir: {data}\nhttp: {{port: 0}}\nbroker: {{embedded_port: 0}}\n"
    "central_gateway: {{enabled: false}}\n"
)


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "cloud.yaml"
    path.write_text(CONFIG.format(data=tmp_path / "data"))
    return path


def start(programs, config, *arguments):
    cloud = programs.python("cloud", config, *arguments)
    cloud.wait_for_line(r"^roundsman cloud is ready at (http\S+)")
    return cloud


def address(tmp_path):
    return json.loads((tmp_path / "data" / "runtime.json").read_text())["url"]


def ask(url, token, body=None, method=None):
    data = None if body is None else body.encode()
    request = urllib.request.Request(url, data, {"Authorization": f"Bearer {token}"}, method=method)
    with urllib.request.urlopen(request, timeout=10) as answer:
        return json.loads(answer.read())


def test_the_first_start_shows_a_token_once(programs, config, tmp_path):
    kept = tmp_path / "token"
    cloud = start(programs, config, "--token-file", kept)
    token = cloud.wait_for_line(r"^administrator token, shown only this once: (\S+)$")[1]
    assert kept.read_text().strip() == token
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    assert ask(f"{address(tmp_path)}/readyz", token) == {"ready": True, "missing": []}
    assert ask(f"{address(tmp_path)}/api/v1/jobs", token)["items"] == []
    assert cloud.terminate() == 0
    assert not (tmp_path / "data" / "runtime.json").exists()
    again = start(programs, config)
    assert "administrator token" not in again.output()
    assert ask(f"{address(tmp_path)}/api/v1/jobs", token)["items"] == []
    for path in (tmp_path / "data").rglob("*"):
        if path.is_file():
            assert token.encode() not in path.read_bytes(), path


def test_a_stop_ends_event_streams_and_takes_the_broker_along(programs, config, tmp_path):
    cloud = start(programs, config, "--token-file", tmp_path / "token")
    token, url = (tmp_path / "token").read_text().strip(), address(tmp_path)
    job = "name: greet\nsteps: [{uses: flow.log, with: {text: x}}]\n"
    ask(f"{url}/api/v1/jobs", token, job)
    run = ask(f"{url}/api/v1/jobs/greet/runs", token, "{}")["id"]
    request = urllib.request.Request(
        f"{url}/api/v1/events?run={run}", headers={"Authorization": f"Bearer {token}"}
    )
    lines = []

    def listen():
        with urllib.request.urlopen(request, timeout=30) as answer:
            lines.extend(answer)  # until the service ends it

    listener = threading.Thread(target=listen)
    listener.start()
    wait_until(
        lambda: b"roundsman_event_listeners 1.0" in cloud.wait_for_http(f"{url}/metrics"), 20
    )
    assert cloud.terminate(deadline_s=10) == 0
    listener.join(10)
    assert not listener.is_alive()
    assert b"event: run\n" in lines
    assert (tmp_path / "data" / "broker" / "nats.conf").exists()
    assert not (tmp_path / "data" / "broker" / "nats.pid").exists()


def test_killed_it_starts_again_where_it_was(programs, config, tmp_path):
    cloud = start(programs, config, "--token-file", tmp_path / "token")
    token, first = (tmp_path / "token").read_text().strip(), address(tmp_path)
    ask(f"{first}/api/v1/gateways", token, '{"id": "north"}')
    broker = json.loads((tmp_path / "data" / "runtime.json").read_text())["broker"]
    cloud.kill_9()
    cloud.start()
    cloud.wait_for_line("^roundsman cloud is ready")
    gateways = ask(f"{address(tmp_path)}/api/v1/gateways", token)["items"]
    assert [gateway["id"] for gateway in gateways] == ["north"]
    # The broker it left behind was ended; gateways find the new one where the old one was.
    assert json.loads((tmp_path / "data" / "runtime.json").read_text())["broker"] == broker


def test_two_clouds_never_share_a_folder(programs, config):
    start(programs, config)
    second = programs.python("cloud", config, name="second")
    assert second.wait() == 2
    assert "another cloud runs in" in second.output()


@pytest.mark.parametrize(
    ("text", "code", "said"),
    [
        ("htpp: {}", 2, r"cloud\.yaml:1:1: htpp: unknown key `htpp`; did you mean `http`"),
        ("http: {port: 1.5}", 2, r"cloud\.yaml:1:14: http\.port: "),
        ("broker: {url: 'mqtts://x', tls: {authority: /no.pem}}", 2, r"broker\.tls: "),
        ("database: sqlite:////proc/no/such/folder/x.db", 1, "unable to open database"),
    ],
)
def test_settings_that_cannot_work_are_one_clear_line(programs, tmp_path, text, code, said):
    path = tmp_path / "cloud.yaml"
    path.write_text(text)
    ours = {"DATA_DIR": str(tmp_path / "data"), "BROKER__EMBEDDED_PORT": "0"}
    if "port" not in text:
        ours["HTTP__PORT"] = "0"
    env = {f"ROUNDSMAN_CLOUD__{name}": value for name, value in ours.items()}
    cloud = programs.python("cloud", path, env=env)
    assert cloud.wait() == code
    assert re.search(f"^roundsman cloud: .*{said}", cloud.output(), re.MULTILINE)
    assert "Traceback" not in cloud.output()


def test_ports_that_are_taken_are_said(programs, config, tmp_path):
    start(programs, config)
    port = address(tmp_path).rpartition(":")[2]
    folder = {"ROUNDSMAN_CLOUD__DATA_DIR": str(tmp_path / "other"),
              "ROUNDSMAN_CLOUD__HTTP__PORT": port}  # fmt: skip
    second = programs.python("cloud", config, name="second", env=folder)
    assert second.wait() == 2
    assert f"cannot listen on 127.0.0.1:{port}" in second.output()


def test_a_broker_away_at_the_start_is_waited_for(programs, tmp_path, mosquitto):
    mosquitto.stop()
    path = tmp_path / "cloud.yaml"
    path.write_text(
        f"data_dir: {tmp_path / 'data'}\nhttp: {{port: {free()}}}\n"
        f"broker: {{url: 'mqtt://127.0.0.1:{mosquitto.port}'}}\n"
    )
    cloud = programs.python("cloud", path)
    (port,) = re.findall("http: {port: ([0-9]+)", path.read_text())
    url = f"http://127.0.0.1:{port}"
    missing = cloud.wait_for_http(f"{url}/readyz", status=503)
    assert b"no session with the broker" in missing
    mosquitto.start()
    cloud.wait_for_line("^roundsman cloud is ready")
    cloud.wait_for_http(f"{url}/readyz")


def free():
    from tests.kit.ports import free_port

    return free_port()


def test_check_says_whether_settings_are_good(programs, config, tmp_path):
    good = programs.python("cloud", config, "--check", name="good")
    assert good.wait() == 0
    assert "good" in good.output()
    assert not (tmp_path / "data").exists()
