"""Slots that fail in every stage and way, crash storms, recycling: no request is lost.

The slots are those of build/failpoints (tests/failpoints/slot.c), which do themselves the
harm that SIFTMESH_FAILPOINT names; every other process is the product's own.
"""

import json
import os
import re
import resource
import signal
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.harness.mesh import BIN, ROOT, until
from tests.harness.scenes import encoded
from tests.soak.slots import soak

FAILSLOT = Path(os.environ.get("SIFTMESH_FAILPOINT_SLOT",
                               ROOT / "build/failpoints/bin/siftmesh-slot"))

# A hung job is seen soon, and does not end the test's patience.
QUICK_BROKER = {"lease_ms": 1000}
QUICK = {"slot_program": FAILSLOT, "abort_grace_ms": 300}


@pytest.fixture
def failing(mesh, tmp_path, monkeypatch):
    """failing("decode:exit") starts a mesh with one slot that does that once; once=False:
    all of them, always; once="one": one slot, always."""
    if not FAILSLOT.exists():
        pytest.skip(f"{FAILSLOT} is not built (./dev build failpoints)")

    def start(failpoint, once=True, broker=None, **extractor):
        which = {True: "once", False: None, "one": "one"}[once]
        monkeypatch.setenv("SIFTMESH_FAILPOINT", failpoint
                           + (f":{which}={tmp_path / 'failed'}" if which else ""))
        mesh.start(broker={**QUICK_BROKER, **(broker or {})},
                   extractor={**QUICK, "slots": 2, **extractor})
        return mesh
    return start


def log(mesh):
    return mesh.processes["extractor"].text()


def events(mesh, message, **wanted):
    """Lines of the supervisor's log; of a wanted text only the beginning counts."""
    lines = [json.loads(line) for line in log(mesh).splitlines() if line.startswith("{")]
    return [line for line in lines if line["msg"] == message
            and all(str(line[k]).startswith(v) for k, v in wanted.items())]


def counted(mesh, name):
    """The supervisor's counter, as the broker last heard; None before it did."""
    (worker,) = [w for w in mesh.status()["workers"] if w["service"] == "extract"]
    return worker["stats"].get(name)


def post(mesh, seed, **more):
    return mesh.post("/v1/features", encoded(".png", seed=seed, **more))


def post_until_one_ended(mesh, seed, **wanted):
    """New pictures, four at a time, each answered with 200, until a slot has ended so: it
    is not known which slot has the failpoint, and one alone may be fast enough for all."""
    with ThreadPoolExecutor(4) as pool:
        for first in range(seed, seed + 80, 4):
            pictures = [encoded(".png", seed=s) for s in range(first, first + 4)]
            answers = list(pool.map(lambda p: mesh.post("/v1/features", p), pictures))
            assert [a.status for a in answers] == [200] * 4
            if events(mesh, "slot ended", **wanted):
                break
    (end,) = events(mesh, "slot ended")
    assert end in events(mesh, "slot ended", **wanted), end
    return end


def test_without_a_failpoint_nothing_fails(failing):
    # The tests below would be worth little if the test slot failed by itself.
    mesh = failing("answer:open", once=False, sandbox="off")
    assert [post(mesh, seed).status for seed in range(1000, 1005)] == [200] * 5
    assert not events(mesh, "slot ended")


@pytest.mark.parametrize("action,how", [("kill", "signal 9"), ("exit", "exit 70"),
                                        ("abort", "signal 6")])
@pytest.mark.parametrize("stage", ["decode", "denoise", "sift", "answer"])
def test_a_slot_that_ends_in_any_stage_costs_no_request(failing, stage, action, how):
    mesh = failing(f"{stage}:{action}")
    post_until_one_ended(mesh, 11000, how=how)
    until(lambda: len(mesh.slot_pids()) == 2, "the slot was replaced")


def is_filtered(mesh):
    status = Path(f"/proc/{mesh.slot_pids()[0]}/status").read_text()
    return re.search(r"^Seccomp:\s+2$", status, re.M)


@pytest.mark.parametrize("action", ["open", "socket", "fork", "exec"])
def test_a_slot_that_breaks_out_is_killed_and_only_its_job_retried(failing, action):
    mesh = failing(f"decode:{action}")
    if not is_filtered(mesh):
        pytest.skip("this system forbids seccomp filters")
    post_until_one_ended(mesh, 12000, how="signal 31 (Bad system call)")


def test_the_sandbox_can_be_required_and_turned_off(mesh):
    mesh.start(extractor={"slots": 1, "sandbox": "off"})
    assert not is_filtered(mesh)
    assert post(mesh, 1250).status == 200
    mesh.kill("extractor")
    process = mesh.start_one("extractor", sandbox="perhaps")
    assert process.wait() != 0
    assert "--sandbox is \"perhaps\", must be auto, require or off" in process.text()
    process.killed = True
    mesh.start_one("extractor", sandbox="require")
    until(lambda: events(mesh, "ready"), "a slot is ready")
    if not is_filtered(mesh):
        pytest.skip("this system forbids seccomp filters")
    assert post(mesh, 1251).status == 200


def test_where_filters_are_forbidden_slots_work_and_it_is_said_once(failing, mesh):
    if os.geteuid() == 0:  # root's slots need the filter: here the supervisor is nobody
        if subprocess.run(["unshare", "--user", "true"], capture_output=True).returncode:
            pytest.skip("this system lets root make no user namespace")
        mesh.prefixes["extractor"] = ["unshare", "--user"]
    failing("seal:forbid", once=False)
    assert [post(mesh, seed).status for seed in range(1260, 1263)] == [200] * 3
    until(lambda: mesh.slots() == 2, "both slots have come up")
    (warning,) = events(mesh, "slots run without a seccomp filter")
    assert warning["level"] == "warning" and "not permitted" in warning["error"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root's slots need the filter")
def test_root_has_no_slot_without_a_filter_and_none_with_capabilities(mesh, monkeypatch):
    mesh.start()
    status = Path(f"/proc/{mesh.slot_pids()[0]}/status").read_text()
    assert set(re.findall(r"^Cap(?!Bnd)\w+:\s+(\w+)$", status, re.M)) == {"0" * 16}
    assert is_filtered(mesh)
    mesh.kill("extractor")
    if not FAILSLOT.exists():
        pytest.skip(f"{FAILSLOT} is not built (./dev build failpoints)")
    monkeypatch.setenv("SIFTMESH_FAILPOINT", "seal:forbid")
    mesh.start_one("extractor", slot_program=FAILSLOT)
    until(lambda: len(events(mesh, "slot ended", how="exit 71")) >= 2, "slots give up")
    assert not events(mesh, "ready")


def test_a_slot_can_only_add_to_the_log_that_it_inherits(mesh):
    mesh.start()
    (flags,) = re.findall(r"^flags:\s+(\d+)$",
                          Path(f"/proc/{mesh.slot_pids()[0]}/fdinfo/2").read_text(), re.M)
    assert int(flags, 8) & os.O_APPEND


def test_where_filters_are_forbidden_and_required_there_is_no_slot(failing, monkeypatch):
    mesh = failing("seal:forbid", once=False, sandbox="off")
    mesh.kill("extractor")
    mesh.start_one("extractor", sandbox="require")
    until(lambda: len(events(mesh, "slot ended", how="exit 71")) >= 2, "slots give up")
    assert "cannot confine itself: Operation not permitted" in log(mesh)
    assert not events(mesh, "ready")


def test_a_hung_supervisor_does_not_let_a_slot_compute_for_ever(failing):
    mesh = failing("sift:spin", slots=1, job_timeout_ms=1000)
    (slot,) = mesh.slot_pids()
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(post, mesh, 1390)
        until(lambda: mesh.status()["services"]["extract"]["running"] == 1, "it computes")
        mesh.processes["extractor"].signal(signal.SIGSTOP)
        # Neither the deadline nor the lease is minded now; the kernel minds the CPU time.
        until(lambda: Path(f"/proc/{slot}/stat").read_text().rsplit(")")[1].split()[0] == "Z",
              "the kernel ended it")
        mesh.processes["extractor"].signal(signal.SIGCONT)
        assert answer.result().status == 200
    until(lambda: events(mesh, "slot ended", how="signal 24"), "its end is logged")


def test_a_supervisor_killed_in_the_middle_of_jobs_leaves_no_slot(failing, monkeypatch):
    mesh = failing("denoise:stop", once=False, broker={"lease_ms": 20000})
    with ThreadPoolExecutor(2) as pool:
        answers = [pool.submit(post, mesh, seed) for seed in (1395, 1396)]
        until(lambda: mesh.status()["services"]["extract"]["running"] == 2, "jobs run")
        slots = mesh.slot_pids()
        mesh.kill("extractor")
        until(lambda: not [s for s in slots if Path(f"/proc/{s}").exists()], "no orphan")
        monkeypatch.delenv("SIFTMESH_FAILPOINT")
        mesh.start_one("extractor")
        assert [a.result().status for a in answers] == [200, 200]


@pytest.mark.parametrize("stage,action", [("decode", "stop"), ("denoise", "stop"),
                                          ("sift", "spin"), ("answer", "stop")])
def test_a_slot_in_which_nothing_moves_is_killed_and_its_job_retried(failing, stage, action):
    mesh = failing(f"{stage}:{action}")
    post_until_one_ended(mesh, 13000, why="does not stop")
    until(lambda: len(mesh.slot_pids()) == 2, "the slot was replaced")


def test_vlfeat_is_not_taken_for_hung_while_it_computes(failing):
    # Its octaves take longer than the lease, and it cannot say how far it is.
    mesh = failing("sift:crawl", once="one")
    slots = mesh.slot_pids()
    with ThreadPoolExecutor(2) as pool:
        answers = list(pool.map(
            lambda seed: mesh.post("/v1/features?sift=vlfeat&denoise=none",
                                   encoded(".png", seed=seed)), (13100, 13101)))
    assert [a.status for a in answers] == [200, 200]
    until(lambda: counted(mesh, "jobs_done_total") == 2, "the supervisor's count came")
    assert counted(mesh, "jobs_started_total") == 2, "neither was tried again"
    assert mesh.slot_pids() == slots


def test_vlfeat_is_taken_for_hung_when_it_does_not_compute(failing):
    mesh = failing("sift:stop")
    with ThreadPoolExecutor(2) as pool:
        answers = list(pool.map(
            lambda seed: mesh.post("/v1/features?sift=vlfeat&denoise=none",
                                   encoded(".png", seed=seed)), (13200, 13201)))
    assert [a.status for a in answers] == [200, 200]
    until(lambda: events(mesh, "slot ended", why="does not stop"), "the hung one was killed")


def test_a_job_beyond_its_time_is_killed_and_retried(failing):
    mesh = failing("denoise:endless", job_timeout_ms=1000, slots=1)
    assert post(mesh, 1400).status == 200
    until(lambda: len(events(mesh, "slot ended", why="does not stop")) == 1, "it is killed")


def test_a_job_that_computed_until_its_time_was_over_is_not_tried_again(failing):
    # The other slot would need as long: the picture is like that. It is not known which of
    # the two has the failpoint; in turn, one picture meets it.
    mesh = failing("denoise:slow", job_timeout_ms=1000)
    slots = mesh.slot_pids()
    answers = [post(mesh, seed).status for seed in (1410, 1411)]
    assert sorted(answers) == [200, 504]
    until(lambda: counted(mesh, "jobs_expired_total") == 1, "the supervisor's count came")
    assert counted(mesh, "jobs_started_total") == 2
    assert mesh.slot_pids() == slots, "a slot that listens is kept"


def test_a_job_that_computed_too_long_does_not_count_against_its_picture(failing):
    mesh = failing("sift:slow", once=False, job_timeout_ms=500)
    for _ in range(3):
        answer = post(mesh, 1420)
        assert answer.status == 504, answer.body


def test_a_picture_that_kills_two_slots_is_refused_from_then_on(failing):
    mesh = failing("decode:kill", once=False)
    assert post(mesh, 1430).status == 422
    until(lambda: len(events(mesh, "slot ended")) == 2, "two slots died")
    answer = post(mesh, 1430)
    assert (answer.status, answer.json()["code"]) == (422, "poison_input")
    assert len(events(mesh, "slot ended")) == 2, "it is not tried again"


def test_a_slot_that_allocates_without_end_costs_no_request(failing):
    limit = 1 << 30
    # Taking so much may last longer than the usual lease.
    mesh = failing("sift:alloc", slot_address_bytes=limit, broker={"lease_ms": 20000})
    assert post_until_one_ended(mesh, 15000, how="signal 6")["peak_bytes"] < limit


def test_a_slot_that_babbles_is_killed_and_its_job_retried(failing):
    mesh = failing("decode:babble", slots=1)
    assert post(mesh, 1510).status == 200
    assert len(events(mesh, "slot killed", why="speaks nonsense")) == 1


# ---- slots that answer what was not asked ----

@pytest.mark.parametrize("lie", ["forge", "huge", "clock", "count", "chatter"])
def test_a_slot_that_lies_is_killed_and_its_job_retried(failing, lie):
    mesh = failing(f"answer:{lie}", once="one")
    with ThreadPoolExecutor(2) as pool:
        answers = list(pool.map(lambda seed: post(mesh, seed), range(16000, 16010)))
    assert [a.status for a in answers] == [200] * 10
    why = "speaks nonsense" if lie == "chatter" else "answers what was not asked"
    assert len(events(mesh, "slot killed", why=why)) == 1
    until(lambda: counted(mesh, "slots_killed_total") == 1, "the supervisor's count came")
    assert counted(mesh, "answers_unusable_total") == (lie != "chatter")


@pytest.mark.parametrize("lie", ["forge", "script"])
def test_what_is_no_whole_picture_is_not_served_as_one(failing, lie):
    mesh = failing(f"answer:{lie}", once="one")
    pictures = [encoded(".png", seed=seed) for seed in range(16100, 16104)]
    answers = [mesh.post("/v1/denoise", picture) for picture in pictures]
    assert [a.status for a in answers] == [200] * 4
    assert b"<script" not in b"".join(a.body for a in answers)
    assert len(events(mesh, "slot killed", why="answers what was not asked")) == 1


def test_one_sick_slot_of_four_costs_no_picture(failing):
    # It lives on and fails each job: the second attempt is another slot's, and in turn the
    # others get most of the work.
    mesh = failing("sift:enomem", once="one", slots=4)
    answers = [post(mesh, seed) for seed in range(16200, 16230)]
    assert [a.status for a in answers] == [200] * 30
    assert not events(mesh, "slot killed")
    until(lambda: counted(mesh, "jobs_done_total") == 30, "the supervisor's count came")
    assert 5 <= counted(mesh, "jobs_failed_total") <= 10


def test_a_second_attempt_with_one_slot_comes_to_a_new_process(failing):
    mesh = failing("sift:enomem", once="one", slots=1)
    (sick,) = mesh.slot_pids()
    assert post(mesh, 16300).status == 200
    assert mesh.slot_pids() != [sick]
    assert events(mesh, "slot ended", why="second attempt", how="exit 0")


def test_slots_are_used_in_turn(mesh):
    mesh.start(extractor={"slots": 3})
    until(lambda: mesh.slots() == 3, "three slots have come up")
    assert [post(mesh, seed).status for seed in range(16400, 16406)] == [200] * 6
    until(lambda: counted(mesh, "jobs_done_total") == 6, "the supervisor's count came")
    assert [slot["jobs"] for slot in counted(mesh, "slot_list")] == [2, 2, 2]


def test_a_slot_of_one_job_is_another_process_for_the_next(mesh):
    mesh.start(extractor={"slots": 1, "slot_jobs": 1})
    assert [post(mesh, seed).status for seed in range(16500, 16504)] == [200] * 4
    until(lambda: len(events(mesh, "slot ended", why="slot_jobs")) == 4, "each has ended")
    ends = events(mesh, "slot ended")
    assert [end["jobs"] for end in ends] == [1] * 4
    assert len({end["slot_pid"] for end in ends}) == 4


# ---- a host that is short of something ----

def test_a_supervisor_short_of_descriptors_puts_no_picture_in_quarantine(mesh):
    mesh.start(extractor={"slots": 2})
    picture = encoded(".png", seed=16600)
    pid = mesh.processes["extractor"].pid
    soft, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    # One for the picture, none for the result.
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (12, hard))
    for _ in range(3):
        answer = mesh.post("/v1/features", picture)
        assert answer.status == 503, (answer.status, answer.body)
        assert int(answer.headers["retry-after"]) > 0
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (soft, hard))
    assert mesh.post("/v1/features", picture).status == 200


def test_no_memory_in_a_living_slot_puts_no_picture_in_quarantine(failing):
    mesh = failing("sift:enomem", once=False)
    for _ in range(3):
        answer = post(mesh, 16700)
        assert answer.status == 503, (answer.status, answer.body)
        assert int(answer.headers["retry-after"]) > 0
    assert not events(mesh, "slot killed")


# ---- supervisors ----

def test_a_new_supervisor_starts_clean_after_a_killed_one(mesh):
    mesh.start()
    for round in range(3):
        slots = mesh.slot_pids()
        mesh.kill("extractor")
        until(lambda: not [p for p in slots if Path(f"/proc/{p}").exists()], "no orphan")
        mesh.start_one("extractor")
        assert post(mesh, 1600 + round).status == 200
        assert len(mesh.slot_pids()) <= 2


# ---- crash storms ----

def test_in_a_crash_storm_cached_results_are_served_and_it_passes(mesh, tmp_path):
    program = tmp_path / "slot"
    mesh.start(extractor={"slots": 2}, gateway={"request_timeout_ms": 2000})
    known = encoded(".png", seed=1700)
    assert mesh.post("/v1/features", known).status == 200
    mesh.kill("extractor")
    program.symlink_to("/bin/false")  # every slot ends as soon as it is started
    mesh.start_one("extractor", slot_program=program)
    until(lambda: events(mesh, "slots keep dying"), "the alert")
    alert = events(mesh, "slots keep dying")[0]
    assert alert["level"] == "error" and alert["next_start_ms"] >= 1000
    # 0.1 s, doubled each time: at most five starts of each slot in the first three seconds.
    assert len(events(mesh, "slot started")) <= 2 * 6

    again = mesh.post("/v1/features", known)
    assert (again.status, again.cache) == (200, "hit")
    key = again.headers["etag"].strip('"').split("-")[0].split(".")[0]
    assert mesh.get(f"/v1/features/{key}").status == 200
    refused = post(mesh, 1701)
    assert refused.status in (503, 504), refused.body
    assert refused.status != 503 or int(refused.headers["retry-after"]) > 0

    good = tmp_path / "good"
    good.symlink_to(BIN / "siftmesh-slot")
    good.rename(program)
    until(lambda: mesh.slots() == 2, "the storm has passed")
    assert post(mesh, 1702).status == 200


def test_one_slot_that_dies_young_does_not_hold_up_the_others(failing):
    # Back-off is by slot: slot 1 dies twice as it starts, slot 2 works on.
    mesh = failing("start:exit", once=True)
    assert [post(mesh, seed, width=80, height=60).status for seed in range(1720, 1725)] \
        == [200] * 5
    until(lambda: len(mesh.slot_pids()) == 2, "the other one lives too")
    assert len(events(mesh, "slot ended", how="exit 70")) == 1
    assert not events(mesh, "slots keep dying")


# ---- recycling ----

def test_slots_are_replaced_by_age_while_they_work(mesh):
    mesh.start(extractor={"slots": 2, "recycle_age_s": 1})
    seeds = iter(range(1800, 2000))

    def aged():
        assert post(mesh, next(seeds), width=80, height=60).status == 200
        return len(events(mesh, "slot ended", why="age")) >= 3
    until(aged, "three slots were replaced")
    for end in events(mesh, "slot ended", why="age"):
        assert end["how"] == "exit 0" and end["jobs"] >= 0
        assert end["peak_bytes"] > end["private_bytes"] > 0


def test_a_slot_that_keeps_much_memory_is_replaced_after_its_job(mesh):
    mesh.start(extractor={"slots": 1, "slot_resident_bytes": 1 << 20})
    (slot,) = mesh.slot_pids()
    assert post(mesh, 2000, width=1200, height=900).status == 200
    until(lambda: slot not in mesh.slot_pids(), "it was replaced")
    (end,) = events(mesh, "slot ended", why="memory")
    assert end["jobs"] == 1 and end["peak_bytes"] > end["private_bytes"] > 1 << 20
    # Its successor has more than the limit as well, but has done nothing yet.
    assert post(mesh, 2001, width=80, height=60).status == 200
    until(lambda: len(events(mesh, "slot ended", why="memory")) == 2, "it was replaced too")
    assert [end["jobs"] for end in events(mesh, "slot ended")] == [1, 1]


def test_nothing_piles_up_over_many_recycles(mesh):
    soak(mesh, 60)
