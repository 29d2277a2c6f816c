"""Look one user or one product up from a shell, without Spark: tables.py reads, users.py and products.py answer,
printing.py shows. Nothing here computes or writes anything.
"""
