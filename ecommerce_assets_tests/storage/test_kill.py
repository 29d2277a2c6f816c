"""After a SIGKILL at any moment, readers see the old or the new version, and the next run removes leftovers.

Writers without Spark are killed at every file-system call. Trials: writers with Spark are killed while it works.
"""

from __future__ import annotations

import random
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from ecommerce_assets_tests.storage.children import MODULES, writer
from ecommerce_assets_tests.storage.generations import ALL, is_poisoned, leftovers, seen


def allowed(before: dict[str, int], generation: int) -> dict[str, set[int]]:
    """Returns the generations that readers may see of each asset after a run of this generation is killed."""
    new = {generation}
    return {
        a: {g} | (new if a == "rejected_events" or not is_poisoned(generation) else set()) for a, g in before.items()
    }


def check(data_dir: Path, before: dict[str, int], generation: int) -> dict[str, int]:
    now = seen(data_dir)
    assert now.keys() == before.keys()
    expected = allowed(before, generation)
    assert all(now[asset] in expected[asset] for asset in now), (before, generation, now)
    return now


@pytest.mark.parametrize("step", [10, pytest.param(1, marks=pytest.mark.trial)])
def test_killed_at_every_file_system_call(tmp_path: Path, step: int) -> None:
    command = [sys.executable, "-m", f"{MODULES}.forked_writers", str(tmp_path), str(step)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert int(done.stdout) >= 60 / step, "moments tried"


KILLS = 72
"""Number of kills: two of three at a file-system call, before or after it, the third after a random time. About one in
six is too late, because a blocked run makes fewer calls."""


@pytest.mark.trial
def test_killed_at_many_moments_while_spark_runs(tmp_path: Path) -> None:
    data_dirs = [tmp_path / f"lane{lane}" for lane in range(2)]
    with ThreadPoolExecutor(len(data_dirs)) as lanes:
        moments = [m for found in lanes.map(_kill_again_and_again, data_dirs, (0, 1)) for m in found]
    at_work = [moment for moment in moments if "at the end" not in moment]
    print("\n".join(moments))
    print(f"killed at {len(at_work)} moments of a run, and {len(moments) - len(at_work)} times after its end")
    assert len(at_work) >= 50


def _kill_again_and_again(data_dir: Path, lane: int) -> list[str]:
    """Kills one run after the other on one data dir; every second time, a run in between must remove the leftovers."""
    chance, moments = random.Random(lane), []
    with writer(data_dir, ALL, 1) as child:
        child.next("ends")
        whole = child.next("ends")
        child.kill()
        child.wait_until_dead()
    generation = whole["ends"]
    for number in range(KILLS // 2):
        heals = number % 2 == 0
        generation += 1
        if heals:  # its first run is a good one
            generation += is_poisoned(generation)
        first, generation = generation, generation + heals
        share = (number + 0.5 * lane) / (KILLS // 2)
        # Runs make more calls as versions accumulate: take the number of the last complete one.
        call, after = 1 + int(share * whole["calls"]), chance.random() < 0.5
        at_call = number % 3 != 2
        options = ["--runs=2" if heals else "--runs=1", *([f"--call={call}"] if at_call else []), *["--after"] * after]
        with writer(data_dir, ALL, first, *options) as child:
            if heals:
                whole = child.next("ends")
                assert whole["leftovers"] == [], whole
                assert seen(data_dir) == dict.fromkeys(ALL, first)
            before = seen(data_dir)
            assert child.next("begins")["begins"] == generation
            if at_call:
                moment = f"{'after' if after else 'before'} call {call} of {whole['calls']}"
                if child.dies_or("ends"):
                    moment = f"at the end, without call {call}"  # a blocked run makes fewer calls
            else:
                seconds = whole["seconds"] * chance.random()
                moment = f"after {seconds:.2f} of {whole['seconds']:.2f} s"
                time.sleep(seconds)
            child.kill()
            child.wait_until_dead()
        now = check(data_dir, before, generation)
        moments.append(f"generation {generation} {moment}: {now}, {len(leftovers(data_dir))} left over")
        with (data_dir.parent / "moments").open("a") as log:
            log.write(f"{lane} {moments[-1]}\n")
    run_after = generation + 1 + is_poisoned(generation + 1)
    with writer(data_dir, ALL, run_after, "--runs=1") as child:
        assert child.next("ends")["leftovers"] == []
    assert seen(data_dir) == dict.fromkeys(ALL, run_after)
    return moments
