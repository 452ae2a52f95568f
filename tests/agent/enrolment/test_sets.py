# SPDX-FileCopyrightText: 2026 civigate contributors
# SPDX-License-Identifier: EUPL-1.2
from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.enrolment.sets import ROLES_FILE, SILENT_FAILURES, CertificateSets, Roles
from agent.errors import IdentityError
from tests.agent.enrolment.issuing import Issuer

ISSUER = Issuer()


def add(sets: CertificateSets, *, enrolled: bool = False, last_day: float = 90) -> str:
    pem = ISSUER.issue(sets.next_key().public_key(), last_day=last_day)
    return sets.add(pem, ISSUER.certificate(), enrolled=enrolled).name


def chosen(sets: CertificateSets) -> str:
    one = sets.choose()
    assert one is not None
    return one.name


def urgent(sets: CertificateSets) -> bool:
    return sets.urgent


@pytest.fixture
def sets(tmp_path: Path) -> CertificateSets:
    return CertificateSets(tmp_path / "sets")


def test_there_is_none_before_the_enrolment(sets: CertificateSets) -> None:
    assert not sets
    assert sets.choose() is None
    assert not urgent(sets)


def test_a_new_set_is_current_only_after_it_has_carried_a_receipt(sets: CertificateSets) -> None:
    first = add(sets, enrolled=True)
    assert sets.roles == Roles(candidate=first, factory=first)
    sets.carried(first)
    assert sets.roles == Roles(current=first, factory=first)
    second = add(sets)
    assert sets.roles == Roles(candidate=second, current=first, factory=first)
    assert chosen(sets) == second
    sets.carried(second)
    third = add(sets)
    sets.carried(third)
    assert sets.roles == Roles(current=third, previous=second, factory=first)
    assert [one.name for one in sets.order()] == [third, second, first]


def test_a_bad_renewal_is_dropped_once_another_set_works(sets: CertificateSets) -> None:
    good = add(sets, enrolled=True)
    sets.carried(good)
    bad = add(sets)
    sets.failed(chosen(sets), certain=True)
    assert chosen(sets) == good
    assert sets.roles.candidate == bad, "it may still be the platform's fault"
    sets.carried(good)
    assert sets.roles == Roles(current=good, factory=good)
    assert not (sets._folder / bad).exists()


def test_a_current_set_that_is_refused_falls_back_and_makes_a_renewal_urgent(sets: CertificateSets) -> None:
    names = []
    for number in range(3):
        names.append(add(sets, enrolled=number == 0))
        sets.carried(names[-1])
    factory, previous, current = names
    sets.failed(current, certain=True)
    assert chosen(sets) == previous
    sets.failed(previous, certain=True)
    assert chosen(sets) == factory
    sets.carried(factory)
    assert urgent(sets)
    assert sets.roles == Roles(current=current, previous=previous, factory=factory)
    new = add(sets)
    assert not urgent(sets)
    sets.carried(new)
    assert sets.roles == Roles(current=new, previous=current, factory=factory)


def test_when_all_are_refused_all_are_tried_again_and_a_renewal_is_urgent(sets: CertificateSets) -> None:
    first = add(sets, enrolled=True)
    sets.carried(first)
    second = add(sets)
    for name in (second, first, second, first, second):
        assert chosen(sets) == name
        sets.failed(name, certain=True)
    assert urgent(sets)
    sets.carried(first)
    assert not urgent(sets)


def test_a_connection_that_just_ends_is_no_reason_until_it_repeats(sets: CertificateSets) -> None:
    first = add(sets, enrolled=True)
    sets.carried(first)
    second = add(sets)
    for _ in range(SILENT_FAILURES - 1):
        sets.failed(second, certain=False)
        assert chosen(sets) == second
    sets.failed(second, certain=False)
    assert chosen(sets) == first


def test_what_another_process_adds_is_seen(sets: CertificateSets) -> None:
    first = add(sets, enrolled=True)
    other = CertificateSets(sets._folder)
    assert chosen(other) == first
    second = add(other)
    assert chosen(sets) == second


def test_a_request_that_is_repeated_is_for_the_same_key(sets: CertificateSets) -> None:
    key = sets.next_key().public_key().public_numbers()
    assert sets.next_key().public_key().public_numbers() == key
    add(sets)
    assert sets.next_key().public_key().public_numbers() != key


def test_a_certificate_for_another_key_is_not_taken(sets: CertificateSets) -> None:
    sets.next_key()
    with pytest.raises(IdentityError, match="another key"):
        sets.add(ISSUER.issue(ISSUER.key.public_key()), b"", enrolled=True)
    with pytest.raises(IdentityError, match="no certificate"):
        sets.add(b"rubbish", b"", enrolled=True)
    with pytest.raises(IdentityError, match="authorities of the platform"):
        sets.add(ISSUER.issue(sets.next_key().public_key()), b"rubbish", enrolled=True)
    assert not sets


def test_keys_are_for_their_user_alone(sets: CertificateSets) -> None:
    add(sets, enrolled=True)
    sets.next_key()
    for path in sets._folder.rglob("*"):
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path


@pytest.mark.parametrize("damage", ["", "{}", "[]", "\0" * 20, '{"candidate": "../../etc"}'])
def test_damaged_roles_do_not_strand_the_gateway(damage: str, sets: CertificateSets) -> None:
    first = add(sets, enrolled=True, last_day=30)
    sets.carried(first)
    second = add(sets, last_day=90)
    sets.carried(second)
    (sets._folder / ROLES_FILE).write_text(damage)
    fresh = CertificateSets(sets._folder)
    assert [one.name for one in fresh.order()] == [second, first]


def test_a_damaged_set_is_passed_over(sets: CertificateSets) -> None:
    first = add(sets, enrolled=True)
    sets.carried(first)
    second = add(sets)
    (sets._folder / second / "certificate.pem").write_text("rubbish")
    assert chosen(CertificateSets(sets._folder)) == first


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(IdentityError, match="cannot be written"):
        CertificateSets(tmp_path / "file").next_key()


@settings(max_examples=25, deadline=None)
@given(st.lists(st.sampled_from(["add", "fail", "silent", "carry"]), max_size=12))
def test_whatever_happens_there_is_always_a_set_to_try_and_the_one_that_worked_last_is_kept(events: list[str]) -> None:
    with TemporaryDirectory() as folder:
        sets = CertificateSets(Path(folder))
        worked = add(sets, enrolled=True)
        sets.carried(worked)
        for event in events:
            name = chosen(sets)
            match event:
                case "add":
                    add(sets)
                case "carry":
                    sets.carried(name)
                    worked = name
                case _:
                    sets.failed(name, certain=event == "fail")
            assert worked in {one.name for one in sets.order()}
            assert sets.choose() is not None


CHILD = """
import os, signal, sys
from pathlib import Path
from agent.enrolment.sets import CertificateSets
from tests.agent.enrolment.issuing import Issuer
sets = CertificateSets(Path(sys.argv[1]))
pem = Issuer().issue(sets.next_key().public_key())
left = [int(sys.argv[2])]
def counted(call):
    def wrapped(*args, **options):
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        left[0] -= 1
        return call(*args, **options)
    return wrapped
for name in ("open", "write", "fsync", "rename", "mkdir", "unlink"):
    setattr(os, name, counted(getattr(os, name)))
sets.add(pem, b"", enrolled=False)
sets.carried(sets.choose().name)
print("done")
"""


def test_killed_at_any_step_of_a_change_there_is_a_set_that_works(tmp_path: Path) -> None:
    """SIGKILL before each system call of taking over a new set; what is left must have a whole set, and go on."""
    for calls in range(0, 60, 3):
        folder = tmp_path / str(calls)
        sets = CertificateSets(folder)
        first = add(sets, enrolled=True)
        sets.carried(first)
        done = subprocess.run([sys.executable, "-c", CHILD, str(folder), str(calls)], capture_output=True, text=True)
        fresh = CertificateSets(folder)
        assert first in {one.name for one in fresh.order()}, calls
        assert chosen(fresh)
        second = add(fresh)
        fresh.carried(second)
        assert fresh.roles.current == second
        if done.stdout == "done\n":
            return
        assert done.returncode == -signal.SIGKILL, done.stderr
    pytest.fail(f"never done in {os.getpid()}")
