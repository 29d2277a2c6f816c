"""Speed and memory of the project and of other systems: `python -m ecommerce_assets_tests.benchmarks`.

Each part runs in its own process and prints its results as one line of JSON, so that memory and JVMs do not mix.
events.py generates the data; graph.py and sail.py run our graph; mllib.py, duckdb_peer.py and reference.py run other
systems; kernels.py and kernels_mllib.py compare ALS and the top 10 alone. report.py and growth.py present the results.
"""
