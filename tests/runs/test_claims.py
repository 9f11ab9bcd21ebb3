"""Claims: one has it, nobody takes a living one's, anybody a dead one's."""

import json
import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from types import SimpleNamespace

import pytest

from toymoe.errors import ToymoeWarning
from toymoe.runs import claims
from toymoe.runs.progress import Progress


@pytest.fixture
def path(tmp_path):
    return tmp_path / "seed-3.claim"


@pytest.fixture
def brisk(monkeypatch):
    monkeypatch.setattr(claims, "BEAT", 0.02)
    monkeypatch.setattr(claims, "STALE", 0.3)


def left_by_a_process(path):
    """A claim whose process ended without a word."""
    code = (
        "import os, sys; from pathlib import Path; from toymoe.runs import claims;"
        "held = claims.held(Path(sys.argv[1])); held.__enter__(); os._exit(0)"
    )
    subprocess.run([sys.executable, "-c", code, str(path)], check=True)
    assert path.is_file()


def rewritten(path, **changes):
    says = claims._holder(path.read_bytes())._replace(**changes)
    path.write_text(json.dumps(says))


def test_one_of_many_has_it_and_gives_it_back(path):
    together = threading.Barrier(8)

    def attempt(_):
        together.wait()
        with claims.held(path) as claim:
            together.wait()
            return claim is not None

    for _ in range(20):
        with ThreadPoolExecutor(8) as pool:
            assert sum(pool.map(attempt, range(8))) == 1
        assert list(path.parent.iterdir()) == []


def test_it_says_where_the_work_stands(path, brisk):
    judge, here = claims.Judge(), Progress("align", 3, 6, 0.5, 0.25, 0.125)
    assert judge.look(path) == (True, None, None)
    with claims.held(path) as claim:
        assert judge.look(path) == (False, None, None)
        claim.say(here)
        while judge.look(path)[2] is None:
            pass
        assert judge.look(path) == (False, None, here)


def test_a_dead_processs_claim_is_taken_by_one(path):
    left_by_a_process(path)
    assert claims.Judge().look(path)[0]
    together = threading.Barrier(8)

    def attempt(_):
        together.wait()
        with claims.held(path) as claim:
            together.wait()
            return claim is not None

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(attempt, range(8))) == 1
    assert list(path.parent.iterdir()) == []


def test_a_process_id_given_to_another_process_is_a_dead_ones(path):
    with claims.held(path) as claim:
        born = claims._holder(path.read_bytes()).born
        assert born  # this process's beginning, as the system says it
        assert not claims.Judge().look(path)[0]
        claim._over.set()  # no beat puts back what follows
        claim._thread.join()
        rewritten(path, born="1")
        assert claims.Judge().look(path)[0]


def test_on_another_machine_it_is_dead_when_it_has_not_changed_for_long(path, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(claims, "time", SimpleNamespace(monotonic=lambda: now[0]))
    left_by_a_process(path)
    rewritten(path, machine="another")
    token, judge = claims._holder(path.read_bytes()).token, claims.Judge()
    assert judge.look(path) == (False, None, None)
    with claims.held(path) as claim:
        assert claim is None
    for beat in range(30):  # as it does while its process lives
        rewritten(path, beat=beat)
        assert judge.look(path)[0] is False
        now[0] += 0.9 * claims.STALE
    assert judge.look(path)[0] is False
    now[0] += 0.2 * claims.STALE
    assert judge.look(path) == (True, token, None)
    with claims.held(path, "of an older claim") as claim:
        assert claim is None
    with claims.held(path, token) as claim:
        assert claim is not None


def test_a_living_process_of_this_machine_may_take_its_time(path, brisk):
    """It may be stopped, or starve, for any time."""
    judge = claims.Judge()
    with claims.held(path) as claim:
        claim._over.set()
        claim._thread.join()
        for _ in range(40):
            assert judge.look(path)[0] is False
            threading.Event().wait(0.01)


def test_one_made_and_never_written_is_dead_after_a_while_too(path, brisk):
    path.touch()
    judge = claims.Judge()
    assert judge.look(path)[0] is False
    with claims.held(path) as claim:
        assert claim is None
    while not (seen := judge.look(path))[0]:
        pass
    with claims.held(path, seen[1]) as claim:
        assert claim is not None


def test_who_had_seemed_dead_hears_of_it_and_leaves_the_new_claim(path, brisk):
    with ExitStack() as stack:
        first = stack.enter_context(claims.held(path))
        with claims.held(path, claims._holder(path.read_bytes()).token) as second:
            with pytest.raises(claims.Lost, match=r"seed-3\.claim was taken over"):
                while True:
                    first.say(Progress("align", 1, 2))
            stack.close()
            assert claims._holder(path.read_bytes()).token == second._says.token
            second.say(Progress("align", 1, 2))
        assert not path.exists()


def test_one_that_cannot_be_read_is_anybodys_and_not_ours(path, monkeypatch):
    """A network's folder is away for a while: nobody takes it over meanwhile."""
    path.mkdir()  # so that reading it is an OSError
    assert claims.Judge().look(path) == (False, None, None)
    with claims.held(path, "") as claim:
        assert claim is None
    path.rmdir()
    path.touch()  # made and not yet written; and then, to its heir, it cannot be read
    reads = iter([claims._read(path), claims._SOMEBODY])
    monkeypatch.setattr(claims, "_read", lambda path: next(reads))
    with claims.held(path, "") as claim:
        assert claim is None
    assert list(path.parent.iterdir()) == [path] and next(reads, None) is None


def test_whether_its_process_is_dead_is_waited_for_where_this_machine_cannot_tell(
    path, monkeypatch
):
    def sleep(seconds):
        now[0] += 0.6 * claims.STALE
        if beats:
            rewritten(path, beat=beats.pop())

    now, beats = [0.0], []
    time = SimpleNamespace(monotonic=lambda: now[0], sleep=sleep)
    assert claims.of_the_dead(path) is None  # there is none
    left_by_a_process(path)
    assert claims.of_the_dead(path) is None  # and none is needed
    rewritten(path, machine="another")
    monkeypatch.setattr(claims, "time", time)
    with pytest.warns(ToymoeWarning, match=r"seed-3\.claim is of a process that may run elsewhere"):
        token = claims.of_the_dead(path)
    assert now[0] == pytest.approx(1.2 * claims.STALE)
    assert token == claims._holder(path.read_bytes()).token
    beats.append(1)
    with pytest.warns(ToymoeWarning, match="for a sign of it, 120 s"):
        assert claims.of_the_dead(path) is None
    assert now[0] == pytest.approx(1.8 * claims.STALE)
    monkeypatch.undo()
    path.unlink()
    with claims.held(path):
        assert claims.of_the_dead(path) is None  # it lives: without waiting, or a warning


def test_whoever_died_while_taking_over_is_in_nobodys_way(path):
    left_by_a_process(path)
    token = claims._holder(path.read_bytes()).token
    left_by_a_process(path.with_suffix(f".over{token}"))
    with claims.held(path) as claim:
        assert claim is not None and list(path.parent.iterdir()) == [path]
    assert list(path.parent.iterdir()) == []


def test_who_comes_late_to_a_dead_claim_leaves_the_new_one(path, monkeypatch):
    left_by_a_process(path)
    late, real = [], claims._is_dead

    def is_dead(holder):  # and while we think about it, another takes it
        if real(holder) and not late:
            late.append(claims.held(path))
            assert late[0].__enter__() is not None
        return real(holder) or holder.pid != os.getpid()

    monkeypatch.setattr(claims, "_is_dead", is_dead)
    with claims.held(path) as claim:
        assert claim is None
    assert claims._holder(path.read_bytes()).pid == os.getpid()
    late[0].__exit__(None, None, None)
    assert list(path.parent.iterdir()) == []
