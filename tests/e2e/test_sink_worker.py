"""The worker's contract against a target that does as the test says (kind `flaky`): what it accepts is in a file, so
tests judge what arrived. What the target is told stands in another file, read before each write."""

from __future__ import annotations

import signal
from typing import Any, Callable

import pytest

from harness import Oneslot, Postgres

Make = Callable[..., Any]
SINK = {"kind": "flaky", "path": "./got.ndjson", "script": "./script", "tables": ["public.*"]}
BIG = "repeat(md5(%s::text), 500)"  # larger than TOAST_TUPLE_THRESHOLD, and does not compress below it


class Flaky:
    def __init__(self, pg: Postgres, make_oneslot: Make, **options: Any) -> None:
        self.pg = pg
        self.one: Oneslot = make_oneslot(pg, config={"sinks": {"out": {**SINK, **options}}})
        pg.sql("CREATE TABLE t (id text PRIMARY KEY, v text, note text)")
        pg.sql("ALTER TABLE t ALTER note SET STORAGE EXTERNAL")

    def start(self) -> "Flaky":
        self.one.start()
        self.one.wait_streaming()
        return self

    def says(self, *lines: str) -> None:
        """Written beside it and renamed: a write never sees half of it."""
        path = self.one.folder / "script"
        fresh = path.with_suffix(".new")
        fresh.write_text("".join(f"{line}\n" for line in lines))
        fresh.chmod(0o644)
        fresh.rename(path)

    def got(self) -> list[tuple[str, str, Any]]:
        """(op, id, v) of each accepted change, in the order of arrival."""
        if not (self.one.folder / "got.ndjson").exists():
            return []
        return [(c["op"], c["key"]["id"], c.get("new", {}).get("v")) for c in self.one.file_changes("out")]

    def last(self, key: str) -> Any:
        """The v of the change of that key that arrived last."""
        return next((v for _, k, v in reversed(self.got()) if k == key), None)

    def settled(self) -> None:
        self.one.wait_durable(self.pg)
        self.one.wait_settled("out")

    def sink(self) -> dict[str, Any]:
        return self.one.sink("out")

    def wait_sink(self, what: str, **wanted: Any) -> None:
        def is_so() -> bool:
            sink = self.sink()
            return all(sink.get(name) == value for name, value in wanted.items())

        self.one.wait(is_so, 30, what)

    def letters(self) -> list[dict[str, Any]]:
        answer = self.one.http.get("/sinks/out/dead-letters")
        assert answer.status == 200, answer
        letters: list[dict[str, Any]] = answer.json()["letters"]
        return letters

    def command(self, *args: str) -> None:
        done = self.one.cli(*args)
        assert done.returncode == 0, done


@pytest.fixture
def flaky(pg: Postgres, make_oneslot: Make) -> Flaky:
    return Flaky(pg, make_oneslot).start()


def test_one_poisoned_record_is_one_dead_letter_and_nobody_waits(flaky: Flaky) -> None:
    flaky.says("reject poison")
    flaky.pg.sql("INSERT INTO t VALUES ('a', '1'), ('poison', '1'), ('b', '1')")
    flaky.settled()
    assert {key for _, key, _ in flaky.got()} == {"a", "b"}
    assert flaky.sink()["dead_letters"] == 1
    letter = flaky.letters()[0]
    assert letter["reason"] == "the script says so" and letter["table"] == "t" and letter["op"] == "insert"


def test_a_later_record_of_its_key_supersedes_a_letter(flaky: Flaky) -> None:
    flaky.says("reject poison")
    flaky.pg.sql("INSERT INTO t VALUES ('poison', '1')")
    flaky.settled()
    flaky.pg.sql("UPDATE t SET v = '2'")
    flaky.settled()
    assert flaky.sink()["dead_letters"] == 1, "a rejected whole record takes the place of the older one"
    assert flaky.letters()[0]["op"] == "update"
    flaky.says()
    flaky.pg.sql("UPDATE t SET v = '3'")
    flaky.settled()
    assert flaky.sink()["dead_letters"] == 0
    assert flaky.got() == [("update", "poison", "3")]


@pytest.mark.parametrize("key", ["poison", "k" * 100_000], ids=["short", "long"])
@pytest.mark.parametrize("ending", ["DELETE FROM t", "TRUNCATE t"])
def test_a_row_that_is_gone_needs_no_letter(flaky: Flaky, ending: str, key: str) -> None:
    flaky.says("reject *")
    flaky.pg.sql(f"INSERT INTO t VALUES ('{key}', '1')")
    flaky.settled()
    assert flaky.sink()["dead_letters"] == 1
    flaky.says()
    flaky.pg.sql(ending)
    flaky.settled()
    assert flaky.sink()["dead_letters"] == 0


def test_a_letter_is_redriven_and_rejected_again_or_accepted(flaky: Flaky) -> None:
    flaky.says("reject poison")
    flaky.pg.sql("INSERT INTO t VALUES ('poison', '1')")
    flaky.settled()
    flaky.command("dead-letters", "out", "retry", "--all")
    flaky.one.wait(lambda: flaky.letters()[0]["attempts"] == 2, 30, "it is rejected once more")
    assert flaky.letters()[0]["state"] == "dead" and not flaky.got()
    flaky.says()
    flaky.command("dead-letters", "out", "retry", "--all")
    flaky.wait_sink("it is accepted", dead_letters=0)
    assert flaky.got() == [("insert", "poison", "1")]


def test_letters_that_are_rejected_once_more_do_not_stop_the_sink(flaky: Flaky) -> None:
    """They say nothing new of the target, and a quiet table has nothing that would be accepted between them."""
    keys = [f"p{i}" for i in range(6)]
    flaky.says(*(f"reject {key}" for key in keys))
    for key in keys:
        flaky.pg.sql(f"INSERT INTO t VALUES ('{key}', '1')")
        flaky.settled()
        flaky.pg.sql(f"INSERT INTO t VALUES ('good-{key}', '1')")
        flaky.settled()
    flaky.command("dead-letters", "out", "retry", "--all")
    flaky.one.wait(lambda: [t["attempts"] for t in flaky.letters()] == [2] * 6, 30, "all are rejected once more")
    flaky.pg.sql("INSERT INTO t VALUES ('last', '1')")
    flaky.settled()
    assert flaky.sink()["state"] == "running"


def test_an_update_that_needs_the_letters_value_is_read_again(flaky: Flaky) -> None:
    """Its note is TOASTed and did not change: it is in the letter only."""
    flaky.says("reject poison")
    flaky.pg.sql(f"INSERT INTO t VALUES ('poison', '1', {BIG % 1})")
    flaky.settled()
    flaky.says()
    flaky.pg.sql("UPDATE t SET v = '2'")
    flaky.one.wait(lambda: flaky.sink()["dead_letters"] == 0, 60, "the row is read again and accepted")
    flaky.settled()
    ops = [op for op, _, _ in flaky.got()]
    assert ops == ["read"] and flaky.last("poison") == "2"


def test_a_discarded_letter_bars_its_value_until_the_row_arrives_whole(flaky: Flaky) -> None:
    flaky.says("reject poison")
    flaky.pg.sql(f"INSERT INTO t VALUES ('poison', '1', {BIG % 1})")
    flaky.settled()
    flaky.command("dead-letters", "out", "discard", "--all", "--yes")
    flaky.wait_sink("it is given up", dead_letters=0)
    flaky.says()
    flaky.pg.sql("UPDATE t SET v = '2'")
    flaky.one.wait(lambda: flaky.last("poison") == "2", 60, "the row is read again")
    assert {op for op, _, _ in flaky.got()} == {"read"}, "twice where the session that the discard ended had asked too"
    flaky.pg.sql("UPDATE t SET v = '3'")
    flaky.settled()
    assert "update" in [op for op, _, _ in flaky.got()], "nothing bars it any more"


# --- keys that are much longer than what an index holds: PostgreSQL compresses them


def test_a_row_with_a_very_long_key_has_a_letter_of_its_own(flaky: Flaky) -> None:
    one, two = "k" * 100_000, "k" * 100_001
    flaky.says("reject *")
    flaky.pg.sql("INSERT INTO t VALUES (repeat('k', 100000), '1'), (repeat('k', 100001), '1')")
    flaky.settled()
    letters = flaky.letters()
    assert len(letters) == 2
    for letter, key in zip(letters, (one, two)):
        shown = flaky.one.cli("dead-letters", "out", "show", str(letter["offset"]), "--json")
        assert shown.returncode == 0 and f'"{key}"' in shown.stdout, shown.stderr
    flaky.command("dead-letters", "out", "retry", "--all")
    flaky.one.wait(lambda: [t["attempts"] for t in flaky.letters()] == [2, 2], 30, "both are rejected once more")
    flaky.says()
    flaky.command("dead-letters", "out", "retry", str(letters[0]["offset"]))
    flaky.wait_sink("one is accepted", dead_letters=1)
    assert flaky.got() == [("insert", one, "1")]
    flaky.pg.sql("UPDATE t SET v = '2' WHERE length(id) = 100001")
    flaky.settled()
    assert flaky.letters() == [], "the other has something newer"
    assert flaky.got()[1:] == [("update", two, "2")]


def test_a_row_with_a_very_long_key_is_read_again(flaky: Flaky) -> None:
    flaky.pg.sql(f"INSERT INTO t VALUES (repeat('k', 200000), '1', {BIG % 1})")
    flaky.settled()
    flaky.says("reread *")
    flaky.pg.sql("UPDATE t SET v = '2'")
    flaky.one.wait(lambda: len(flaky.got()) == 2, 30, "the row is read again")
    assert flaky.got()[1] == ("read", "k" * 200_000, "2")
    assert flaky.sink()["dead_letters"] == 0


def test_a_row_whose_key_is_too_long_to_be_asked_for_is_a_letter(pg: Postgres, make_oneslot: Make) -> None:
    """Four million bits are 500 kB, and their text is 4 MB: an index takes it under lz4 only."""
    flaky = Flaky(pg, make_oneslot)
    pg.sql("CREATE TABLE bits (id bit varying COMPRESSION lz4 PRIMARY KEY, v text, note text)")
    pg.sql("ALTER TABLE bits ALTER note SET STORAGE EXTERNAL")
    flaky.start()
    pg.sql(f"INSERT INTO bits VALUES (repeat('0', 4000000)::bit varying, '1', {BIG % 1})")
    flaky.settled()
    flaky.says("reread *")
    pg.sql("UPDATE bits SET v = '2'")
    pg.sql("INSERT INTO t VALUES ('a', '1')")
    flaky.settled()
    assert flaky.last("a") == "1", "nobody waits"
    assert ["cannot be read again: its key is longer" in letter["reason"] for letter in flaky.letters()] == [True]
    flaky.command("dead-letters", "out", "retry", "--all")
    flaky.one.wait(lambda: flaky.letters()[0]["attempts"] == 2, 30, "and is one again when it is redriven")
    pg.sql("UPDATE bits SET v = '3', note = 'short'")
    flaky.settled()
    assert flaky.letters() == [], "the whole row has arrived"


def test_different_keys_rejected_in_a_row_stop_the_sink(flaky: Flaky) -> None:
    flaky.says("reject *")
    flaky.pg.sql("INSERT INTO t SELECT 'k' || i, '1' FROM generate_series(1, 20) i")
    flaky.wait_sink("the sink stops", state="stopped")
    assert "different keys in a row" in flaky.sink()["last_error"]
    assert flaky.sink()["dead_letters"] < 5
    flaky.says()
    flaky.command("sinks", "resume", "out")
    flaky.settled()
    flaky.command("dead-letters", "out", "retry", "--all")
    flaky.wait_sink("what was buried arrives too", dead_letters=0)
    assert {key for _, key, _ in flaky.got()} == {f"k{i}" for i in range(1, 21)}


def test_only_what_was_not_taken_is_sent_again_and_later_changes_of_its_key(flaky: Flaky) -> None:
    flaky.says("retry slow")
    flaky.pg.sql("INSERT INTO t VALUES ('a', '1'), ('slow', '1'), ('b', '1')")
    flaky.pg.sql("UPDATE t SET v = '2' WHERE id = 'slow'")
    flaky.one.wait(lambda: {"a", "b"} <= {key for _, key, _ in flaky.got()}, 30, "the others arrive")
    flaky.says()
    flaky.settled()
    got = flaky.got()
    assert [v for _, key, v in got if key == "slow"] == ["1", "2"]
    assert sorted(key for _, key, _ in got if key != "slow") == ["a", "b"], "and the others once"


@pytest.mark.parametrize("trouble, state", [("down", "retrying"), ("busy", "retrying"), ("auth", "stopped")])
def test_a_target_in_trouble_takes_nothing_and_nothing_is_lost(flaky: Flaky, trouble: str, state: str) -> None:
    flaky.pg.sql("INSERT INTO t VALUES ('first', '1')")
    flaky.settled()
    flaky.says(trouble)
    flaky.pg.sql("INSERT INTO t SELECT 'k' || i, '1' FROM generate_series(1, 50) i")
    flaky.wait_sink("the sink says so", state=state)
    assert f"the script says: {trouble}" in flaky.sink()["last_error"]
    assert flaky.sink()["dead_letters"] == 0
    flaky.says()
    if state == "stopped":
        flaky.command("sinks", "resume", "out")
    flaky.settled()
    assert sorted(key for _, key, _ in flaky.got()) == sorted(["first", *(f"k{i}" for i in range(1, 51))])


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_a_worker_that_dies_or_sleeps_is_followed_at_once(pg: Postgres, make_oneslot: Make, number: int) -> None:
    flaky = Flaky(pg, make_oneslot)
    broker = flaky.one.start_broker()
    flaky.one.wait_serving()  # it makes the data folder, without which the replicator ends
    replicator = flaky.one.start_replicator()
    first = flaky.one.start_sink("out")
    flaky.one.wait_streaming()
    pg.sql("INSERT INTO t VALUES ('a', '1')")
    flaky.settled()
    first.send(number)
    pg.sql("UPDATE t SET v = v || '!'")
    flaky.one.wait_durable(pg)
    if number == signal.SIGSTOP:  # its lock is its own: a second process of the same name has to wait for it
        assert flaky.one.cli("lag").returncode == 0
        first.send(signal.SIGCONT)
        flaky.settled()
    else:
        flaky.one.start_sink("out")
        flaky.settled()
    assert flaky.last("a") == "1!"
    assert broker.is_running() and replicator.is_running()


def test_a_transaction_larger_than_every_batch(flaky: Flaky) -> None:
    flaky.pg.sql("INSERT INTO t SELECT 'k' || i, '1' FROM generate_series(1, 30000) i")
    flaky.settled()
    keys = [key for _, key, _ in flaky.got()]
    assert len(keys) == len(set(keys)) == 30000


def test_letters_survive_everything_that_is_killed(flaky: Flaky) -> None:
    flaky.says("reject poison")
    flaky.pg.sql("INSERT INTO t VALUES ('poison', '1'), ('a', '1')")
    flaky.settled()
    flaky.one.kill_all()
    flaky.says()
    flaky.one.start()
    flaky.one.wait_streaming()
    assert flaky.sink()["dead_letters"] == 1
    flaky.pg.sql("UPDATE t SET v = '2' WHERE id = 'poison'")
    flaky.settled()
    assert flaky.sink()["dead_letters"] == 0 and flaky.last("poison") == "2"
