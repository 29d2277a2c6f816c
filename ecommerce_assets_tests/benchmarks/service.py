"""Measures the HTTP service with many users in memory, with `wrk` (a Debian package) over loopback.

Prints requests per second and latencies for 1, 4 and 16 connections and while a new version is loaded, and the memory
of the process. The lists are random. A fixed list replaces fold-in, whose time and memory are not measured.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import time
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import uvicorn

from ecommerce_assets.delivery.service import create_app
from ecommerce_assets.recommendation.fold_in import Entry, FoldIn
from ecommerce_assets.storage.lake import Lake
from ecommerce_assets.storage.version import Input
from ecommerce_assets_tests.stored import put_table

FIRST_USER, FIRST_PRODUCT, LENGTH = 500_000_000, 1_000_000, 10
CONNECTIONS = (1, 4, 16)
PORT = 8_765
SCRIPT = """
local paths = {
  function() return "/users/" .. %(first_user)d + 3 * math.random(0, %(users)d - 1) .. "/recommendations" end,
  function() return "/users/" .. math.random(0, %(users)d) .. "/recommendations" end,
  function() return "/users/" .. %(first_user)d + 3 * math.random(0, %(users)d - 1) .. "/segment" end,
  function() return "/products/" .. %(first_product)d + math.random(0, %(products)d - 1) .. "/similar" end,
  function() return "/products/" .. %(first_product)d + math.random(0, %(products)d - 1) .. "/pairs" end,
}
-- Of ten requests six for known users, one for an unknown one, and one of each other kind.
local mix = {1, 1, 1, 1, 1, 1, 2, 3, 4, 5}
function setup(thread) thread:set("seed", math.random(1, 1000000)) end
function init() math.randomseed(seed) end
function request() return wrk.format("GET", paths[mix[math.random(1, 10)]]()) end
"""


class Popular(FoldIn):
    """The same list for every visitor."""

    def __init__(self) -> None:
        pass

    def recommend_for(self, events: Any, segment: str | None = None, k: int | None = None) -> list[Entry]:
        """The first k products."""
        return [Entry(n + 1, FIRST_PRODUCT + n, 1 / (n + 1), "popular", None) for n in range(k or LENGTH)]


def publish(lake: Lake, users: int, products: int, seed: int) -> None:
    """Publishes random lists of ten for all users and all products."""
    random = np.random.default_rng(seed)
    user_ids = FIRST_USER + 3 * np.arange(users)
    product_ids = FIRST_PRODUCT + np.arange(products)

    def lists(ids: np.ndarray[Any, Any], key: str, listed: str, **columns: pa.Array) -> pa.Table:
        rows = len(ids) * LENGTH
        return pa.table(
            {
                key: np.repeat(ids, LENGTH),
                "rank": np.tile(np.arange(1, LENGTH + 1, dtype=np.int32), len(ids)),
                listed: FIRST_PRODUCT + random.integers(products, size=rows),
                **{
                    name: values.take(pa.array(random.integers(len(values), size=rows)))
                    for name, values in columns.items()
                },
            }
        )

    numbers = pa.array(random.random(1_000))
    features = put_table(
        lake,
        "product_features",
        pa.table(
            {
                "product_id": product_ids,
                "category": pa.array([f"category {n}" for n in range(50)]).take(pa.array(product_ids % 50)),
                "brand": pa.array([f"brand {n}" for n in range(2_000)]).take(pa.array(product_ids % 2_000)),
            }
        ),
    )
    segment_ids = random.integers(5, size=users, dtype=np.int32)
    names = pa.array(["VIP_Customers", "Loyal_Customers", "Active_Buyers", "Dormant_Users", "Casual_Browsers"])
    segments = put_table(
        lake,
        "segmented_users",
        pa.table({"user_id": user_ids, "segment_id": segment_ids, "segment": names.take(pa.array(segment_ids))}),
    )
    inputs = tuple(Input(asset=v.asset, version=v.version, fingerprint=v.folder) for v in (features, segments))
    put_table(lake, "similar_products", lists(product_ids, "product_id", "similar_product_id", similarity=numbers))
    baskets = pa.array(np.arange(1, 100))
    shares = dict.fromkeys(("support", "confidence", "lift"), numbers)
    kinds = [
        lists(product_ids, "product_id", "pair_product_id", kind=pa.array([kind]), baskets=baskets, **shares)
        for kind in ("bought", "viewed")
    ]
    put_table(lake, "product_pairs", pa.concat_tables(kinds))
    sources = pa.array(["als", "item_neighbours", "latest", "popular"])
    put_table(
        lake, "recommendations", lists(user_ids, "user_id", "product_id", score=numbers, source=sources), inputs=inputs
    )


def load(script: Path, connections: int, seconds: int) -> str:
    """Returns the results of wrk: requests per second, median and 99th percentile of the latency, failed requests."""
    threads = str(min(2, connections))
    command = ["wrk", f"-t{threads}", f"-c{connections}", f"-d{seconds}s", "--latency", "-s", str(script)]
    output = subprocess.run([*command, f"http://127.0.0.1:{PORT}"], capture_output=True, text=True, check=True).stdout
    rate, median, tail = (
        re.search(p, output, re.MULTILINE) for p in (r"^Requests/sec:\s+(\S+)", r"^ +50%\s+(\S+)", r"^ +99%\s+(\S+)")
    )
    failed = re.search(r"Non-2xx.*?(\d+)|Socket errors:.*", output)
    assert rate is not None, output
    assert median is not None, output
    assert tail is not None, output
    return f"{rate[1]:>9} requests/s  p50 {median[1]:>8}  p99 {tail[1]:>8}  {failed[0] if failed else 'no failures'}"


def memory(pid: int) -> str:
    """Returns the resident memory of a process, now and at its peak."""
    status = Path(f"/proc/{pid}/status").read_text()
    now, peak = (int(re.search(rf"{name}:\s+(\d+)", status)[1]) / 1024 for name in ("VmRSS", "VmHWM"))  # type: ignore[index]
    return f"{now:,.0f} MB, at its peak {peak:,.0f} MB"


def wait_for(version: str) -> float:
    """Waits until the service has this version of the recommendations; returns the seconds."""
    started = time.perf_counter()
    while True:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{PORT}/health") as answer:
                if f'"recommendations":{{"version":"{version}"' in answer.read().decode():
                    return time.perf_counter() - started
        except OSError:
            pass
        time.sleep(0.1)


def main(arguments: Sequence[str] | None = None) -> int:
    """Makes the shop if there is none, starts the service in another process, and measures it."""
    parser = argparse.ArgumentParser(prog="python -m ecommerce_assets_tests.benchmarks.service", description=__doc__)
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder for the shop")
    parser.add_argument("--users", type=float, default=1e6, metavar="N")
    parser.add_argument("--products", type=float, default=1e5, metavar="N")
    parser.add_argument("--seconds", type=int, default=30, help="length of each measurement (default: %(default)s)")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    users, products, shop = int(options.users), int(options.products), options.out / "shop"
    if options.serve:
        uvicorn.run(create_app(str(shop), lambda _: Popular()), port=PORT, access_log=False)
        return 0
    lake = Lake(str(shop))
    if lake.latest_or_none("recommendations") is None:
        publish(lake, users, products, seed=7)
    sizes = {"users": users, "products": products, "first_user": FIRST_USER, "first_product": FIRST_PRODUCT}
    script = options.out / "requests.lua"
    script.write_text(SCRIPT % sizes)
    command = [sys.executable, "-m", "ecommerce_assets_tests.benchmarks.service", "--serve", "--out", str(options.out)]
    service = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        version = int(lake.latest("recommendations").version)
        print(f"{users:,} users, {products:,} products, load average {os.getloadavg()[0]:.1f} before the load")
        print(f"ready after {wait_for(str(version)):.1f} s; memory {memory(service.pid)}")
        for connections in CONNECTIONS:
            print(f"{connections:>3} connections: {load(script, connections, options.seconds)}", flush=True)
        print(f"memory {memory(service.pid)}")
        publish(lake, users, products, seed=8)
        print(f"while a new version is loaded: {load(script, 4, options.seconds)}", flush=True)
        print(f"switched; waited {wait_for(str(version + 1)):.1f} s more; memory {memory(service.pid)}")
    finally:
        service.terminate()
        service.wait()
    return 0


if __name__ == "__main__":
    sys.exit(main())
