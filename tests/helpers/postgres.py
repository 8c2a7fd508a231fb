"""A PostgreSQL server of a test's own, where the machine has its programs."""

import os
import pwd
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PLACES = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)


def programs() -> Path | None:
    """The folder of initdb and pg_ctl."""
    found = shutil.which("initdb")
    return Path(found).parent if found else next((place for place in PLACES if (place / "initdb").is_file()), None)


@contextmanager
def server(folder: Path) -> Iterator[str]:
    """Yield the address of an empty database on loopback; the server is gone afterwards."""
    bin_, user = programs(), None
    assert bin_, "no PostgreSQL"
    if os.geteuid() == 0:  # PostgreSQL refuses to run as root
        names = {entry.pw_name for entry in pwd.getpwall()}
        user = "postgres" if "postgres" in names else "nobody"
        shutil.chown(folder, user)
        for parent in folder.parents[:-2]:
            parent.chmod(parent.stat().st_mode | 0o011)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]

    def do(*command: str) -> None:
        subprocess.run(command, user=user, cwd=folder, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    data = str(folder / "data")
    do(str(bin_ / "initdb"), "-D", data, "-A", "trust", "-U", "kellet", "--no-sync")
    options = f"-k {folder} -p {port} -c listen_addresses=127.0.0.1 -c fsync=off"
    do(str(bin_ / "pg_ctl"), "-D", data, "-w", "-o", options, "-l", str(folder / "log"), "start")
    try:
        yield f"postgresql+psycopg://kellet@127.0.0.1:{port}/postgres"
    finally:
        do(str(bin_ / "pg_ctl"), "-D", data, "-m", "immediate", "stop")
