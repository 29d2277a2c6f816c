"""A PostgreSQL server from Debian's package, on a socket in a temporary folder."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

USER, PASSWORD = "shop", "hunter2"


@contextmanager
def postgres_server() -> Iterator[str]:
    """Yields the address of its database; the password is in PGPASSWORD."""
    programs = _programs()
    folder = Path(tempfile.mkdtemp(prefix="pg", dir="/tmp"))  # the path of a socket must be short
    (folder / "password").write_text(PASSWORD)
    as_user = []
    if os.getuid() == 0:  # it does not start as root
        user = pwd.getpwnam("postgres")
        for path in (folder, folder / "password"):
            os.chown(path, user.pw_uid, user.pw_gid)
        as_user = ["runuser", "-u", "postgres", "--"]

    def run(program: str, *options: str) -> None:
        subprocess.run(
            [*as_user, programs / program, "-D", folder / "data", *options],
            cwd=folder,
            stdout=subprocess.DEVNULL,
            check=True,
        )

    try:
        run("initdb", "-U", USER, "-A", "scram-sha-256", f"--pwfile={folder}/password", "--no-sync")
        run("pg_ctl", "-w", "-l", f"{folder}/log", "-o", f"-c listen_addresses='' -k {folder}", "start")
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("PGPASSWORD", PASSWORD)
            yield f"postgresql://{USER}@/postgres?host={folder}"
        run("pg_ctl", "-w", "-m", "immediate", "stop")
    finally:
        shutil.rmtree(folder)


def _programs() -> Path:
    newest = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    if newest:
        return newest[-1].parent
    if os.environ.get("CI") == "true":
        pytest.fail("no PostgreSQL server: apt-get install postgresql")
    pytest.skip("no PostgreSQL server: apt-get install postgresql")
