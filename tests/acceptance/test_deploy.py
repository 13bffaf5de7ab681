"""The files of examples/deploy: linted, and run as far as one machine can."""

import configparser
import http.server
import json
import os
import re
import shutil
import signal
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import workers
import yaml
from pymongo import MongoClient
from store.units import good, ids, some_units
from waiting import wait_for

from optomatic.store import connection
from optomatic.store.connection import open_store
from optomatic.worker.cli import main

TESTS = Path(__file__).parents[1]
DEPLOY = TESTS.parent / "examples" / "deploy"
PAGE = TESTS.parent / "docs" / "deploying.md"
FILES = sorted(path.name for path in DEPLOY.iterdir() if path.name != "README.md")
BIN = Path(sys.executable).parent


def text_of(name):
    return (DEPLOY / name).read_text()


def kubernetes(kind):
    (found,) = [d for d in yaml.safe_load_all(text_of("kubernetes.yaml")) if d["kind"] == kind]
    return found


def lint(*command):
    """Run a linter; fail with what it says."""
    program = shutil.which(command[0], path=f"{BIN}:{os.environ['PATH']}")
    if program is None:
        pytest.skip(f"there is no {command[0]} here")
    ended = subprocess.run([program, *command[1:]], capture_output=True, text=True)
    assert (ended.returncode, ended.stdout.strip()) == (0, ""), ended.stdout + ended.stderr
    return ended.stderr


# -- every file ----------------------------------------------------------------------------


def test_the_readme_names_every_file():
    said = set(re.findall(r"^\| `([^`]+)`", text_of("README.md"), re.MULTILINE))
    assert sorted(said) == FILES


def test_the_page_shows_every_file_word_for_word():
    shown = set()
    for section in PAGE.read_text().split("\n## ")[1:]:
        names = re.findall(r"\]\(\.\./examples/deploy/([\w.-]+)\)", section)
        excerpts = re.findall(r"^```(?:ini|bash|dockerfile|yaml)\n(.*?)^```$", section, re.M | re.S)
        assert bool(names) == bool(excerpts), section
        for excerpt in excerpts:
            assert any(f"\n{excerpt}" in f"\n{text_of(name)}" for name in names), excerpt
        shown.update(names)
    assert sorted(shown) == FILES


@pytest.mark.parametrize("name", FILES)
def test_settings_and_options_are_those_of_the_worker(name, capsys):
    with pytest.raises(SystemExit):
        main(["--help"])
    known = capsys.readouterr().out
    settings = set(re.findall(r"OPTOMATIC_[A-Z_]+", text_of(name)))
    options = set(re.findall(r"optomatic\.worker (--.*)", text_of(name)))
    named = settings | {f"--{o}" for line in options for o in re.findall(r"--([a-z-]+)", line)}
    assert named
    assert not [one for one in named if not re.search(rf"{one}\b", known)]


@pytest.mark.parametrize("name", FILES)
def test_no_address_with_a_password_stands_in_a_command_or_image(name):
    commands = [line.partition("#")[0] for line in text_of(name).splitlines()]
    assert not [line for line in commands if "--db" in line or re.search(r"://\S+@", line)]


@pytest.mark.parametrize(
    ("name", "patience"),
    [
        ("optomatic-worker.service", r"TimeoutStopSec=(\d+)"),
        ("ec2-user-data.sh", r"TimeoutStopSec=(\d+)"),
        ("kubernetes.yaml", r"terminationGracePeriodSeconds: (\d+)"),
        ("slurm-array.sh", r"--signal=B:TERM@(\d+)"),
    ],
)
def test_there_is_more_time_to_end_than_the_grace(name, patience):
    (grace,) = re.findall(
        r'(?:OPTOMATIC_GRACE=|--grace |OPTOMATIC_GRACE, value: ")(\d+)', text_of(name)
    )
    (seconds,) = re.findall(patience, text_of(name))
    assert int(seconds) > int(grace)


# -- linters -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [name for name in FILES if name.endswith(".sh")])
def test_scripts_have_no_faults_that_shellcheck_knows(name):
    lint("bash", "-n", str(DEPLOY / name))
    lint("shellcheck", str(DEPLOY / name))


def test_the_unit_is_one_that_systemd_takes(tmp_path):
    unit = configparser.ConfigParser(strict=False)
    unit.optionxform = str
    unit.read_string(text_of("optomatic-worker.service"))
    assert unit["Service"]["EnvironmentFile"].startswith("/etc/")
    installed = tmp_path / "optomatic-worker.service"
    python = unit["Service"]["ExecStart"].split()[0]
    installed.write_text(text_of("optomatic-worker.service").replace(python, sys.executable))
    said = lint("systemd-analyze", "verify", "--man=no", str(installed))
    assert not [line for line in said.splitlines() if installed.name in line]


def test_the_image_is_built_from_what_is_there():
    lint("hadolint", str(DEPLOY / "Dockerfile"))
    copied = re.findall(r"^COPY (.+) \S+$", text_of("Dockerfile"), re.MULTILINE)
    assert copied
    for name in " ".join(copied).split():
        assert (TESTS.parent / name).exists()
    (entry,) = re.findall(r"^ENTRYPOINT (.+)$", text_of("Dockerfile"), re.MULTILINE)
    assert json.loads(entry) == ["python", "-m", "optomatic.worker"]


def test_the_compose_file_is_one():
    path = DEPLOY / "compose.yaml"
    checker = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec"]
    ended = subprocess.run([*checker, str(path)], capture_output=True, text=True)
    assert ended.returncode == 0, ended.stdout
    worker = yaml.safe_load(path.read_text())["services"]["worker"]
    dockerfile = DEPLOY / worker["build"]["context"] / worker["build"]["dockerfile"]
    assert dockerfile.resolve() == DEPLOY / "Dockerfile"
    grace = re.search(r"OPTOMATIC_GRACE=(\d+)", dockerfile.read_text())[1]
    assert int(worker["stop_grace_period"].removesuffix("s")) > int(grace)


def test_kubernetes_objects_refer_to_each_other():
    deployment, scaled, auth = map(
        kubernetes, ["Deployment", "ScaledObject", "TriggerAuthentication"]
    )
    pod = deployment["spec"]["template"]
    assert deployment["spec"]["selector"]["matchLabels"] == pod["metadata"]["labels"]
    assert scaled["spec"]["scaleTargetRef"]["name"] == deployment["metadata"]["name"]
    (address,) = [e for e in pod["spec"]["containers"][0]["env"] if e["name"] == "OPTOMATIC_DB"]
    (secret,) = auth["spec"]["secretTargetRef"]
    assert address["valueFrom"]["secretKeyRef"] == {"name": secret["name"], "key": secret["key"]}
    for trigger in scaled["spec"]["triggers"]:
        assert trigger["authenticationRef"]["name"] == auth["metadata"]["name"]


# -- the queries of KEDA -------------------------------------------------------------------


def test_keda_counts_what_is_queued_and_what_runs_by_an_index(uri):
    queued, running = (t["metadata"] for t in kubernetes("ScaledObject")["spec"]["triggers"])
    with open_store(uri) as store, MongoClient(uri) as client:
        store.jobs.submit(some_units(30), "s")
        lease = store.claims.claim("w", 7)
        store.claims.start(lease.token, ids(lease.jobs)[:5])
        store.claims.complete("w", lease.token, {i: good() for i in ids(lease.jobs)[:2]})
        for asked, number, index in ((queued, 23, "queued"), (running, 5, "claims")):
            units = client.get_default_database()[asked["collection"]]
            query = json.loads(asked["query"], parse_int=_refuse, parse_float=_refuse)
            assert units.count_documents(query) == number
            assert f"'indexName': '{index}'" in str(units.find(query).explain())


def _refuse(number):
    raise AssertionError(f"KEDA takes canonical extended JSON, without bare numbers as {number}")


def test_keda_looks_into_the_database_that_workers_use():
    for trigger in kubernetes("ScaledObject")["spec"]["triggers"]:
        assert trigger["metadata"]["dbName"] == connection._DATABASE


# -- run with a real worker ----------------------------------------------------------------


@pytest.fixture
def stubs(tmp_path):
    """A folder of programs that scripts find before those of the machine."""
    folder = tmp_path / "stubs"
    folder.mkdir()

    def add(name, *lines):
        program = folder / name
        program.write_text("\n".join(["#!/bin/bash", *lines, ""]))
        program.chmod(program.stat().st_mode | stat.S_IXUSR)
        return program

    add.folder = folder
    return add


@pytest.fixture
def start(tmp_path, stubs, start_process):
    """Start a program in the environment of a fresh machine; kill it at the end."""
    fresh = {
        "HOME": str(tmp_path),
        "USER": "ann",
        "PATH": f"{stubs.folder}:{os.environ['PATH']}",
        "PYTHONPATH": workers.environment()["PYTHONPATH"],
        "OPTOMATIC_HOME": str(tmp_path),
    }
    options = {"cwd": tmp_path, "stdout": subprocess.PIPE}
    return lambda *command, **environ: start_process(*command, env=fresh, **options, **environ)


@pytest.fixture
def fit(start, uri):
    """Start a fit of so many candidates and seconds a unit that leaves all to workers."""
    script = str(TESTS / "acceptance" / "hosts" / "client.py")
    return lambda *what: start(sys.executable, script, *map(str, what), OPTOMATIC_DB=uri)


def test_an_array_job_works_until_it_is_told_to_end(start, stubs, fit, uri, tmp_path):
    stubs("python3", f'exec {sys.executable} "$@"')
    config = tmp_path / ".config" / "optomatic"
    config.mkdir(parents=True)
    (config / "worker.env").write_text(f"OPTOMATIC_DB='{uri}&appName=a'\n")
    client = fit(3, 0)
    job = start(str(DEPLOY / "slurm-array.sh"), SLURM_CPUS_PER_TASK="1", SLURM_TMPDIR=str(tmp_path))
    assert json.loads(client.communicate(timeout=120)[0]) == [0, 1, 2]
    job.send_signal(signal.SIGTERM)
    assert job.wait(120) == 0
    assert (tmp_path / "optomatic-ann").is_dir()


SYSTEMD_RUN = """
while [[ $1 == --* ]]; do
  case $1 in
    --property=EnvironmentFile=*) set -a; . "${1#--property=EnvironmentFile=}"; set +a ;;
    --setenv=*) export "${1#--setenv=}" ;;
    --unit=*) unit=${1#--unit=} ;;
  esac
  shift
done
"$@" > "$unit.log" 2>&1 &
echo $! > "$unit.pid"
"""


class Metadata(http.server.BaseHTTPRequestHandler):
    """The service that tells an instance about itself: no notice until `noticed`."""

    noticed = False
    asked = 0

    def do_PUT(self):
        self._answer(b"a token" if "x-aws-ec2-metadata-token-ttl-seconds" in self.headers else None)

    def do_GET(self):
        type(self).asked += 1
        known = self.headers["x-aws-ec2-metadata-token"] == "a token"
        right = known and self.path == "/latest/meta-data/spot/instance-action"
        self._answer(b"{}" if right and self.noticed else None)

    def _answer(self, content):
        self.send_response(404 if content is None else 200)
        self.end_headers()
        self.wfile.write(content or b"")

    def log_message(self, *_):
        pass


@pytest.fixture
def metadata():
    """The address of a metadata service, and its class."""
    service = type("Service", (Metadata,), {})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), service) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", service
        server.shutdown()
        thread.join()


@pytest.fixture
def instance(stubs, start, metadata, uri, tmp_path):
    """Run the user data; all that it would do to the machine happens in a folder."""
    if shutil.which("curl") is None:
        pytest.skip("there is no curl here")
    python = f'exec {sys.executable} "$@"'
    stubs("dnf")
    stubs("sleep", "exec /bin/sleep 0.1")
    stubs("aws", '[[ "$*" == "ssm get-parameter "*"--with-decryption"* ]] && echo "$STORE"')
    stubs("python3.11", 'mkdir -p "$3/bin" && cp "${0%/*}/python" "${0%/*}/pip" "$3/bin"')
    stubs("python", python), stubs("pip")
    stubs("systemd-run", SYSTEMD_RUN)
    stubs("systemctl", 'kill -TERM "$(cat "$2.pid")"')
    script = text_of("ec2-user-data.sh").replace("http://169.254.169.254", metadata[0])
    for folder in ("/opt/", "/etc/", "/var/"):
        script = script.replace(folder, f"{tmp_path}{folder}")
    (tmp_path / "etc").mkdir()
    (tmp_path / "user-data").write_text(script.replace("GRACE=90", "GRACE=0.5"))
    process = start("bash", "user-data", STORE=uri)
    assert process.wait(120) == 0
    yield tmp_path
    for pid in tmp_path.glob("*.pid"):
        subprocess.run(["kill", "-9", pid.read_text().strip()], stderr=subprocess.DEVNULL)


def test_a_spot_notice_gives_everything_back_uncharged(fit, instance, metadata, uri):
    secret = instance / "etc" / "optomatic" / "worker.env"
    assert stat.S_IMODE(secret.stat().st_mode) == 0o600
    fit(3, 1000)
    log = instance / "optomatic-worker.log"
    with MongoClient(uri) as client:
        units = client.get_default_database()["units"]
        wait_for(lambda: units.count_documents({"started": True}) >= 1, seconds=60)
        _, service = metadata
        before = service.asked
        wait_for(lambda: service.asked > before + 1)
        assert "ending" not in log.read_text()
        service.noticed = True
        wait_for(lambda: "0 crashes" in log.read_text())
        assert units.count_documents({"state": "queued", "losses": 0}) == 6
