"""How fast the project is beside its peers: `python -m ecommerce_assets_tests.benchmarks`.

Every part runs in a process of its own and prints one JSON line at the end, so that memory and JVMs do not mix:
events.py makes the data; graph.py runs our whole graph; mllib.py, duckdb_peer.py and reference.py run the others;
kernels.py compares ALS and the top 10 alone, with its Spark half in kernels_mllib.py. report.py and growth.py read the
results. Nothing here is a test of correctness.
"""
