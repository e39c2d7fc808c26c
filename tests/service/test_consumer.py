"""`pexec consume` against a real Redis: what is lost, what is done twice, and what is given up, when something dies."""

from __future__ import annotations

import signal
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import orjson
import pytest

from parallel_exec import Plugin
from parallel_exec.cli.main import dispatch
from parallel_exec.service import Client
from tests.service.programs import Program, Serve, Start, TestedRedis

PLUGIN = """
function work(d) {
    if (d.bad) throw new TypeError("no " + d.bad);
    for (let i = 0; i < (d.steps || 0); i++) ;
    return 2 * d.n;
}
"""
OPTIONS = ("--stream", "in", "--group", "g", "--results", "out", "--function", "work", "--workers", "2")


@pytest.fixture
def consume(start: Start, redis_server: TestedRedis, tmp_path: Path) -> Start:
    """Start a consumer and wait until it consumes."""
    (tmp_path / "work.js").write_text(PLUGIN)

    def begin(*options: str) -> Program:
        process = start("consume", redis_server.url, str(tmp_path / "work.js"), *OPTIONS, *options)
        assert process.err().startswith("pexec: note: consuming in as ")
        return process

    return begin


def put(redis: Any, documents: Iterable[object]) -> list[bytes]:
    return [redis.xadd("in", {"document": orjson.dumps(each)}) for each in documents]


def results(redis: Any, count: int, key: str = "out") -> list[dict[bytes, bytes]]:
    """The first entries of a stream, waited for."""
    found: list[dict[bytes, bytes]] = []
    last = b"0"
    while len(found) < count:
        for _, entries in redis.xread({key: last}, block=60_000, count=count - len(found)) or pytest.fail("too slow"):
            for last, fields in entries:  # noqa: B007 - where to go on
                found.append(fields)
    return found


def nothing_is_left(redis: Any) -> None:
    assert redis.xpending("in", "g")["pending"] == 0
    assert redis.xinfo_groups("in")[0]["lag"] == 0


def test_every_entry_gets_its_result(consume: Start, redis_server: TestedRedis) -> None:
    redis = redis_server.client()
    before = put(redis, ({"n": n} for n in range(300)))
    process = consume()
    after = put(redis, ({"n": n} for n in range(300, 400)))
    found = {fields[b"entry"]: fields for fields in results(redis, 400)}
    assert sorted(found) == sorted(before + after)
    assert [found[ident][b"result"] for ident in before + after] == [b"%d" % (2 * n) for n in range(400)]
    assert {fields[b"status"] for fields in found.values()} == {b"ok"}
    status, errors = process.end()
    assert (status, errors) == (0, "pexec: note: 400 results, 0 of them errors; 0 entries given up\n")
    nothing_is_left(redis)
    assert redis.xinfo_consumers("in", "g") == []
    assert redis.xlen("out") == 400


def test_errors_of_plugins_and_malformed_documents_are_results(consume: Start, redis_server: TestedRedis) -> None:
    redis = redis_server.client()
    consume()
    thrown, *_ = put(redis, [{"bad": "luck"}])
    no_json = redis.xadd("in", {"document": "{"})
    missing = redis.xadd("in", {"other": "1"})
    found = {fields.pop(b"entry"): fields for fields in results(redis, 3)}
    assert found[thrown][b"error"] == b"JSError"
    assert (found[thrown][b"js_name"], found[thrown][b"js_message"]) == (b"TypeError", b"no luck")
    assert b"work.js: work(): TypeError: no luck" in found[thrown][b"message"]
    assert found[no_json][b"error"] == b"InvalidDocument"
    assert found[missing][b"message"] == b"the entry has no field 'document'"
    nothing_is_left(redis)


def test_a_signal_lets_what_runs_end(consume: Start, redis_server: TestedRedis) -> None:
    redis = redis_server.client()
    process = consume("--in-flight", "2")
    put(redis, [{"n": 1, "steps": 10_000_000}] * 2 + [{"n": 1}] * 50)
    while not redis.xpending("in", "g")["pending"]:
        redis.wait(0, 1)  # until the first ones have been read
    status, errors = process.end(signal.SIGINT)
    assert status == 0
    assert errors.startswith("pexec: note: ")
    done = redis.xlen("out")
    assert done >= 2
    assert redis.xpending("in", "g")["pending"] == 0
    assert redis.xinfo_groups("in")[0]["lag"] == 52 - done


def test_another_consumer_takes_what_a_killed_one_had(consume: Start, redis_server: TestedRedis) -> None:
    redis = redis_server.client()
    first = consume()
    idents = put(redis, [{"n": n, "steps": 300_000} for n in range(100)])
    assert len(results(redis, 10)) == 10
    first.kill()
    assert redis.xpending("in", "g")["pending"] > 0
    consume("--claim-after", "0.2")
    found = results(redis, 100)
    assert sorted(fields[b"entry"] for fields in found) == sorted(idents)
    nothing_is_left(redis)


def test_a_consumer_that_comes_back_under_its_name_takes_up_what_it_had(
    consume: Start, redis_server: TestedRedis
) -> None:
    redis = redis_server.client()
    first = consume("--consumer", "me")
    idents = put(redis, [{"n": n, "steps": 300_000} for n in range(50)])
    results(redis, 5)
    first.kill()
    consume("--consumer", "me")  # and takes nothing from others for a minute
    found = results(redis, 50)
    assert sorted(fields[b"entry"] for fields in found) == sorted(idents)


def test_a_restart_of_redis_loses_nothing(consume: Start, redis_server: TestedRedis) -> None:
    redis = redis_server.client()
    process = consume("--claim-after", "0.5")
    idents = put(redis, [{"n": n, "steps": 300_000} for n in range(200)])
    for _ in range(2):
        results(redis, 20)
        redis_server.kill()
        assert "Redis is lost: " in process.err()
        redis_server.start()
    found = {fields[b"entry"]: fields[b"result"] for fields in results(redis, 200)}
    assert sorted(found) == sorted(idents)
    assert [found[ident] for ident in idents] == [b"%d" % (2 * n) for n in range(200)]
    assert process.end()[0] == 0
    assert redis.xlen("out") == 200
    nothing_is_left(redis)


def test_no_more_is_read_than_may_be_in_flight(consume: Start, redis_server: TestedRedis) -> None:
    redis = redis_server.client()
    process = consume("--in-flight", "7")
    put(redis, [{"n": n, "steps": 200_000} for n in range(60)])
    most = 0
    while redis.xlen("out") < 60:
        most = max(most, redis.xpending("in", "g")["pending"])
    assert 2 <= most <= 7
    assert process.end()[0] == 0


def workers_of(process: Program) -> list[Any]:
    psutil = pytest.importorskip("psutil")
    zygotes = psutil.Process(process.popen.pid).children()
    return [worker for zygote in zygotes for worker in zygote.children()]


def test_an_entry_that_kills_its_worker_is_given_up(consume: Start, redis_server: TestedRedis) -> None:
    """No plugin can do that, so the test kills the worker that runs it."""
    redis = redis_server.client()
    process = consume("--deliveries", "2", "--time-limit", "300")
    poison, *_ = put(redis, [{"n": 1, "steps": 1e15}])
    for deliveries in (1, 2):
        while not [
            each for each in redis.xpending_range("in", "g", "-", "+", 1) if each["times_delivered"] == deliveries
        ]:
            redis.wait(0, 1)
        busy: list[Any] = []
        while not busy:
            busy = [each for each in workers_of(process) if each.cpu_times().user > 0.2]
        busy[0].kill()
    dead, *_ = results(redis, 1, "in:dead")
    assert dead == {
        b"document": b'{"n":1,"steps":1000000000000000.0}',
        b"entry": poison,
        b"deliveries": b"3",
        b"reason": b"delivered too often",
    }
    assert redis.xlen("out") == 0
    put(redis, [{"n": 21}])
    assert results(redis, 1)[0][b"result"] == b"42"
    status, errors = process.end()
    assert status == 0 and errors.endswith("1 results, 0 of them errors; 1 entries given up\n")
    nothing_is_left(redis)


def test_an_entry_of_many_fields_is_given_up(consume: Start, redis_server: TestedRedis) -> None:
    redis = redis_server.client()
    redis.xgroup_create("in", "g", id="0", mkstream=True)
    redis.xadd("in", {"document": b"1", **{f"f{n}": n for n in range(5000)}})
    for _ in range(3):
        redis.xreadgroup("g", "gone", {"in": ">"})
        redis.xautoclaim("in", "g", "gone", min_idle_time=0)
    process = consume("--claim-after", "0.1", "--deliveries", "2")
    dead, *_ = results(redis, 1, "in:dead")
    assert (dead[b"document"], dead[b"reason"], len(dead)) == (b"1", b"delivered too often", 1003)
    assert process.end()[0] == 0
    nothing_is_left(redis)


def test_an_entry_whose_worker_dies_is_run_again(consume: Start, redis_server: TestedRedis) -> None:
    redis = redis_server.client()
    process = consume("--time-limit", "300")
    put(redis, [{"n": n, "steps": 5_000_000} for n in range(20)])
    results(redis, 2)
    for worker in workers_of(process):
        worker.kill()
    found = results(redis, 20)
    assert sorted(int(fields[b"result"]) for fields in found) == [2 * n for n in range(20)]
    nothing_is_left(redis)


@pytest.mark.parametrize(
    ("arguments", "status", "says"),
    [
        (("redis://127.0.0.1:1/0", "PLUGIN", *OPTIONS), 1, "cannot reach Redis: "),
        (("http://127.0.0.1:1", "PLUGIN", *OPTIONS), 1, "'http://127.0.0.1:1' is not the address of a Redis: "),
        (("URL", "PLUGIN", *OPTIONS[2:]), 2, "--stream is needed"),
        (("URL", *OPTIONS), 2, "either a plugin's file or --deployment is needed"),
        (("URL", "PLUGIN", *OPTIONS, "--in-flight", "0"), 2, "--in-flight must be at least 1; got 0"),
        (("URL", "PLUGIN", *OPTIONS, "--claim-after", "0"), 2, "--claim-after must be at least 0.1; got 0.0"),
        (("URL", "PLUGIN", *OPTIONS, "--results", "in"), 2, "results and dead entries need streams of their own"),
        (("URL", "PLUGIN", *OPTIONS, "--dead", "in"), 2, "results and dead entries need streams of their own"),
        (("URL", "PLUGIN", *OPTIONS, "--stream", "text"), 1, "Redis rejects the group 'g': WRONGTYPE"),
        (("URL", "PLUGIN", *OPTIONS, "--results", "text"), 1, "Redis rejects a command: WRONGTYPE"),
    ],
)
def test_what_cannot_work_is_said_in_one_line(
    capfd: pytest.CaptureFixture[str],
    redis_server: TestedRedis,
    tmp_path: Path,
    arguments: Sequence[str],
    status: int,
    says: str,
) -> None:
    (tmp_path / "work.js").write_text(PLUGIN)
    redis = redis_server.client()
    redis.set("text", "no stream")
    put(redis, [{"n": 1}])
    names = {"URL": redis_server.url, "PLUGIN": str(tmp_path / "work.js")}
    assert dispatch(["consume", *(names.get(each, each) for each in arguments)]) == status
    lines = [line for line in capfd.readouterr().err.splitlines() if not line.startswith("pexec: note: ")]
    assert len(lines) == 1 and lines[0].startswith(f"pexec: error: {says}")
    assert redis.xlen("in") == 1
    if arguments[-2:] == ("--results", "text"):
        assert redis.xpending("in", "g")["pending"] == 1  # not acknowledged


def test_a_deployment_of_a_server(start: Start, serve: Serve, redis_server: TestedRedis, tmp_path: Path) -> None:
    _, address = serve()
    redis = redis_server.client()
    put(redis, [{"n": 1}, {"bad": "luck"}])
    with Client(address) as client:
        client.deploy("w", Plugin(PLUGIN, name="work.js"))
        process = start("consume", redis_server.url, *OPTIONS, "--deployment", "w", "--server", address)
        found = {fields[b"status"]: fields for fields in results(redis, 2)}
    assert found[b"ok"][b"result"] == b"2"
    assert found[b"error"][b"js_message"] == b"no luck"
    assert process.end()[0] == 0


def test_a_server_that_refuses_every_call_answers_no_entry(
    start: Start, serve: Serve, redis_server: TestedRedis
) -> None:
    _, address = serve()
    redis = redis_server.client()
    put(redis, [{"n": 1}, {"n": 2}])
    process = start("consume", redis_server.url, *OPTIONS, "--deployment", "nope", "--server", address)
    status, errors = process.end(None)
    assert status == 1 and "pexec: error: nothing is deployed as 'nope'" in errors
    assert redis.xlen("out") == 0 and redis.xpending("in", "g")["pending"] == 2


def test_a_server_with_too_many_calls_is_asked_again(start: Start, serve: Serve, redis_server: TestedRedis) -> None:
    _, address = serve("--max-calls", "2")
    redis = redis_server.client()
    put(redis, ({"n": n} for n in range(20)))
    with Client(address) as client:
        client.deploy("w", Plugin(PLUGIN, name="work.js"))
        held = [client.submit("w", "work", {"steps": 20_000_000}) for _ in range(2)]
        start("consume", redis_server.url, *OPTIONS, "--deployment", "w", "--server", address)
        assert {fields[b"status"] for fields in results(redis, 20)} == {b"ok"}
        assert [each.result() for each in held] == [b"null"] * 2


def test_a_redis_without_room_is_waited_for(consume: Start, redis_server: TestedRedis) -> None:
    redis = redis_server.client()
    process = consume()
    put(redis, [{"n": 1}])
    results(redis, 1)
    process.popen.send_signal(signal.SIGSTOP)
    put(redis, ({"n": n} for n in range(2, 50)))
    redis.config_set("maxmemory", "1mb")
    process.popen.send_signal(signal.SIGCONT)
    assert process.err().startswith("pexec: warning: Redis is lost: command not allowed when used memory")
    redis.config_set("maxmemory", "0")
    assert sorted(int(fields[b"result"]) for fields in results(redis, 49)) == [2 * n for n in range(1, 50)]
    nothing_is_left(redis)


def test_a_redis_that_only_reads_is_waited_for(consume: Start, redis_server: TestedRedis) -> None:
    redis = redis_server.client()
    process = consume()
    redis.execute_command("REPLICAOF", "127.0.0.1", "1")
    assert process.err().startswith("pexec: warning: Redis is lost: ")
    redis.execute_command("REPLICAOF", "NO", "ONE")
    put(redis, [{"n": 1}])
    assert results(redis, 1)[0][b"result"] == b"2"


def test_a_stream_that_is_removed_begins_anew(consume: Start, redis_server: TestedRedis) -> None:
    redis = redis_server.client()
    process = consume()
    for _ in range(3):
        put(redis, [{"n": 1}])
        assert results(redis, 1)[0][b"result"] == b"2"
        redis.flushall()
    assert process.end()[0] == 0
