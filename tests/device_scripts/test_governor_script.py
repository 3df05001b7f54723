"""governor.sh under mksh and dash with toybox: however it ends, the old values are back."""

from __future__ import annotations

import os
import shlex
import signal
from pathlib import Path

import pytest
from fake_sys import wait_until

from droidmace.devices.governors import pinned_governors, restore_governors
from droidmace.devices.phone_script import script_command

NO_PROCESS = 2**22  # more than Linux gives out
STATE = "state of governors"


@pytest.fixture
def state(tmp_path) -> str:
    return str(tmp_path / STATE)


@pytest.fixture
def governors(fake_sys) -> dict[Path, str]:
    """Governors that can be pinned, and what they are at."""
    return {
        fake_sys.policy(0, "schedutil"): "schedutil",
        fake_sys.policy(4, "walt", "walt performance"): "walt",
        fake_sys.gpu("18500000.mali", "simple_ondemand"): "simple_ondemand",
    }


def values(governors) -> dict[Path, str]:
    return {path: path.read_text().strip() for path in governors}


def pinned(governors) -> bool:
    return set(values(governors).values()) == {"performance"}


def leftovers(state: str) -> list[Path]:
    return sorted(Path(state).parent.glob(f"{STATE}*"))


def processes(state: str, command: str) -> list[int]:
    """Process ids of ``governor.sh COMMAND STATE``."""
    words = f"\0governor.sh\0{command}\0{state}\0".encode()
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if words in entry.read_bytes():
                found.append(int(entry.parent.name))
        except OSError:
            continue  # it has ended meanwhile
    return found


def test_pins_and_restores(shell_device, governors, fake_sys, state):
    no_choice = fake_sys.policy(6, "powersave", "powersave schedutil")
    there = fake_sys.policy(7, "performance")
    with pinned_governors(shell_device, state=state) as pin:
        assert pinned(governors)
        assert {Path(one.path): one.before for one in pin.pinned} == governors
        assert {Path(one.path): one.reason for one in pin.kept} == {
            no_choice: "the phone has no such governor",
            there: "already there",
        }
        assert (pin.restored, pin.recovered) == (None, False)
        assert Path(state).exists()
    assert pin.restored is True
    assert values(governors) == governors
    assert no_choice.read_text() == "powersave\n"
    assert leftovers(state) == []
    assert pin.note.startswith("3 governors pinned; ")
    wait_until(lambda: not processes(state, "watch"), "the watchdog ends with its hold")


def test_restores_when_the_work_fails(shell_device, governors, state):
    def work():
        with pinned_governors(shell_device, state=state):
            assert pinned(governors)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        work()
    assert values(governors) == governors


def test_nothing_to_pin(shell_device, state):
    with pinned_governors(shell_device, state=state) as pin:
        assert (pin.pinned, pin.kept) == ((), ())
        assert pin.note == "the phone shows no governors"
        assert leftovers(state) == []
    assert pin.restored is True


def test_the_watchdog_restores_when_the_hold_is_killed(shell_device, governors, state):
    with pinned_governors(shell_device, state=state) as pin:
        assert pinned(governors)
        for pid in processes(state, "hold"):
            os.kill(pid, signal.SIGKILL)
        wait_until(lambda: values(governors) == governors, "the governors are restored")
        wait_until(lambda: leftovers(state) == [], "the state is gone")
    assert pin.restored is False
    assert "has not confirmed" in pin.note


def test_the_next_start_restores_when_the_watchdog_was_killed_too(shell_device, governors, state):
    with pinned_governors(shell_device, state=state):
        wait_until(lambda: bool(processes(state, "watch")), "there is a watchdog")
        for pid in processes(state, "watch") + processes(state, "hold"):
            os.kill(pid, signal.SIGKILL)
        wait_until(lambda: not processes(state, "hold"), "the hold is gone")
    assert pinned(governors)
    with pinned_governors(shell_device, state=state) as pin:
        assert pin.recovered
        assert {Path(one.path): one.before for one in pin.pinned} == governors
        assert pinned(governors)
    assert values(governors) == governors
    assert leftovers(state) == []


@pytest.mark.parametrize("name", ["", f".taken-{NO_PROCESS}-17", ".taken-", ".taken-x-y"])
def test_restore_undoes_what_was_left(shell_device, governors, state, name):
    lines = [f"holder {NO_PROCESS} 17", *(f"governor {p} {v}" for p, v in governors.items())]
    Path(state + name).write_text("\n".join(lines) + "\n")
    for path in governors:
        path.write_text("performance\n")
    assert restore_governors(shell_device, state=state)
    assert values(governors) == governors
    assert leftovers(state) == []
    assert restore_governors(shell_device, state=state), "nothing to do is fine"


def test_a_number_that_went_to_another_process_is_not_the_hold(shell_device, governors, state):
    (path, *_) = governors
    Path(state).write_text(f"holder {os.getpid()} 17\ngovernor {path} powersave\n")
    assert restore_governors(shell_device, state=state)
    assert path.read_text() == "powersave\n"


def test_a_second_hold_leaves_the_first_alone(shell_device, governors, state):
    with pinned_governors(shell_device, state=state) as first:
        with pinned_governors(shell_device, state=state) as second:
            assert [one.reason for one in second.kept] == [
                "another hold is under way, or could not be undone"
            ]
        assert pinned(governors)
    assert first.restored is True
    assert values(governors) == governors


def test_gives_back_after_its_time(shell_device, governors, state):
    result = shell_device.run(script_command("governor.sh", "hold", state, "1"))
    lines = result.text.splitlines()
    assert [line.split()[0] for line in lines] == [
        "pid", "pinned", "pinned", "pinned", "ready", "restored",
    ]  # fmt: skip
    assert values(governors) == governors


def test_a_forged_state_writes_nothing_else(shell_device, fake_sys, state, tmp_path):
    secret = tmp_path / "secret" / "scaling_governor"
    secret.parent.mkdir()
    secret.write_text("kept\n")
    policy = fake_sys.policy(0, "schedutil")
    (fake_sys.root / "devices/system/cpu/x").mkdir()
    lines = [
        f"holder {NO_PROCESS} 17",
        f"governor {secret} performance",
        f"governor {fake_sys.root}/devices/system/cpu/x/../../../../../secret/scaling_governor x",
        f"governor {policy};touch${{IFS}}{tmp_path}/pwned x",
        f"governor {policy} a'$(touch${{IFS}}{tmp_path}/pwned)'",
        f"governor {policy}",
        f"rm {policy} x",
        "governor",
        "",
    ]
    Path(state).write_text("\n".join(lines))
    assert restore_governors(shell_device, state=state)
    assert secret.read_text() == "kept\n"
    assert policy.read_text() == "schedutil\n"
    assert not (tmp_path / "pwned").exists()


def test_what_could_not_be_undone_is_not_done(shell_device, governors, tmp_path):
    with pinned_governors(shell_device, state=str(tmp_path / "nowhere" / "state")) as pin:
        assert values(governors) == governors
    assert "cannot write" in pin.note


def test_as_a_file_of_its_own(shell_device, scripts, governors, state):
    line = shlex.join([str(scripts / "governor.sh"), "hold", state, "1"])
    result = shell_device.run(f'"$SHELL_UNDER_TEST" {line}')
    assert result.text.count("\npinned ") == len(governors)
    assert values(governors) == governors


def test_odd_commands(shell_device, state):
    assert shell_device.run(script_command("governor.sh", "pin", state)).exit_code == 2
