"""Killed with SIGKILL at any moment: readers see the whole old version or the whole new one, and the next run tidies up.

Two ways: writers without Spark die at every single file-system call; writers with a Spark of their own die while it
writes, audits and saves. The long version of the second is marked as a trial.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import SparkSession

from ecommerce_assets_tests.storage.generations import ALL, EVENTS, is_poisoned, leftovers, run, seen

JAVA_ENDS_WITHIN = 30.0
MODULES = "ecommerce_assets_tests.storage"


class Victim:
    """A child process that writes generations until it is killed."""

    def __init__(self, data_dir: Path, assets: Sequence[str], first: int, *options: str) -> None:
        # A temporary folder of its own: the machine's lock lets one Spark run at a time, and a test has one already.
        own = data_dir.parent / f"{data_dir.name}-tmp"
        own.mkdir(exist_ok=True)
        self.errors = own / "stderr"
        command = [sys.executable, "-m", f"{MODULES}.victim", str(data_dir), ",".join(assets), f"--first={first}"]
        with self.errors.open("w") as errors:
            self.process = subprocess.Popen(
                [*command, *options],
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                env={**os.environ, "TMPDIR": str(own)},
            )
        self.told: list[dict[str, Any]] = []

    def next(self, key: str) -> dict[str, Any]:
        """What it tells next under this key."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.startswith("{"):
                self.told.append(json.loads(line))
                if key in self.told[-1]:
                    return self.told[-1]
        raise AssertionError(f"ended ({self.process.wait()}) before {key}: {self.errors.read_text()[-3000:]}")

    def kill(self) -> None:
        self.process.kill()

    def wait_until_dead(self) -> None:
        """Until the process and its Java are gone; AssertionError where either stays, or ended otherwise."""
        assert self.process.wait(60) == -signal.SIGKILL, self.errors.read_text()[-3000:]
        deadline = time.monotonic() + JAVA_ENDS_WITHIN
        while _runs(self.told[0]["java"]):
            assert time.monotonic() < deadline, "Java outlives the process that started it"
            time.sleep(0.1)


def _runs(pid: int) -> bool:
    try:
        # A process that ended and that nobody waited for is still listed, as a zombie.
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


@contextmanager
def victim(data_dir: Path, assets: Sequence[str], first: int, *options: str) -> Iterator[Victim]:
    child = Victim(data_dir, assets, first, *options)
    try:
        yield child
    finally:
        child.kill()
        child.process.wait()


def allowed(before: dict[str, int], generation: int) -> dict[str, set[int]]:
    """What readers may see of each asset when a run of this generation over what was there before is killed."""
    new = {generation}
    return {a: {g} | (new if a == "rejected_events" or not is_poisoned(generation) else set()) for a, g in before.items()}


def check(data_dir: Path, before: dict[str, int], generation: int) -> dict[str, int]:
    now = seen(data_dir)
    assert now.keys() == before.keys()
    may_be = allowed(before, generation)
    assert all(now[asset] in may_be[asset] for asset in now), (before, generation, now)
    return now


def test_killed_at_every_file_system_call(tmp_path: Path) -> None:
    command = [sys.executable, "-m", f"{MODULES}.forked_writers", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert int(done.stdout) >= 80, "moments tried"


def test_killed_while_spark_writes(spark: SparkSession, tmp_path: Path) -> None:
    data_dir = tmp_path / "shop"
    run(data_dir, 1, EVENTS)
    before = seen(data_dir)
    with victim(data_dir, EVENTS, 2) as child:
        child.next("begins")
        # The folder of the version appears with Spark's first file; nothing is committed before the last.
        there = set((data_dir / "lake" / "cleaned_events").glob("2*"))
        while set((data_dir / "lake" / "cleaned_events").glob("2*")) == there and child.process.poll() is None:
            time.sleep(0.001)
        child.kill()
        child.wait_until_dead()
    now = check(data_dir, before, 2)
    assert now == {"rejected_events": 2, "cleaned_events": 1}
    assert leftovers(data_dir)
    run(data_dir, 4, EVENTS)
    assert seen(data_dir) == dict.fromkeys(EVENTS, 4)
    assert leftovers(data_dir) == []


KILLS = 56
"""Moments of the long version: two of three at a file-system call, before or after it, the third after a while."""


@pytest.mark.trial
def test_killed_at_many_moments_of_a_run_with_spark(tmp_path: Path) -> None:
    data_dirs = [tmp_path / f"lane{lane}" for lane in range(2)]
    with ThreadPoolExecutor(len(data_dirs)) as lanes:
        moments = [m for found in lanes.map(_kill_again_and_again, data_dirs, (0, 1)) for m in found]
    for moment in moments:
        print(moment)
    print(f"killed at {len(moments)} moments")
    assert len(moments) >= 50


def _kill_again_and_again(data_dir: Path, lane: int) -> list[str]:
    chance, generation, moments = random.Random(lane), 1, []
    with victim(data_dir, ALL, generation) as child:
        child.next("ends")
        whole = child.next("ends")
        while is_poisoned(whole["ends"]):
            whole = child.next("ends")
        child.kill()
        generation = whole["ends"]
        child.wait_until_dead()
    before = check(data_dir, seen(data_dir), generation + 1)
    for number in range(KILLS // 2):
        at_call = number % 3 != 2
        share = (number + (0.5 * lane)) / (KILLS // 2)
        call = 1 + int(share * whole["calls"])
        options = [f"--call={call}"] + ["--after"] * (number % 2) if at_call else []
        # The first generation of this child is the run after a kill; the second one is killed, and is good two times
        # of three.
        first = generation + 2
        while is_poisoned(first) or (is_poisoned(first + 1) and number % 4):
            first += 1
        with victim(data_dir, ALL, first, *options) as child:
            healed = child.next("ends")
            assert healed["leftovers"] == [], healed
            before = seen(data_dir)
            assert before == dict.fromkeys(ALL, first)
            generation = child.next("begins")["begins"]
            if at_call:
                moment = f"{'after' if number % 2 else 'before'} call {call} of {whole['calls']}"
                # A poisoned run makes fewer calls and may end before.
                deadline = time.monotonic() + 60
                while child.process.poll() is None and time.monotonic() < deadline and not is_poisoned(generation):
                    time.sleep(0.02)
                if is_poisoned(generation):
                    time.sleep(whole["seconds"] * chance.random())
            else:
                seconds = whole["seconds"] * chance.random()
                moment = f"after {seconds:.2f} of {whole['seconds']:.2f} s"
                time.sleep(seconds)
            child.kill()
            child.wait_until_dead()
        now = check(data_dir, before, generation)
        moments.append(f"generation {generation} {moment}: {now}, left {len(leftovers(data_dir))}")
    return moments
