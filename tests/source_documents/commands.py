"""Commands of the documents, run by a shell as they stand there: only the port is another one."""

from __future__ import annotations

import re
import subprocess

from tests.support.processes import ServerProcess

END_S = 30
_ADDRESS = re.compile(r"localhost:(8000|8080)\b")


def fill_in_port(server: ServerProcess, block: str) -> str:
    """The block with the server's port in place of the document's."""
    return _ADDRESS.sub(f"localhost:{server.port}", block)


def run_block(server: ServerProcess, block: str) -> bytes:
    """What the block printed. `CalledProcessError` when a command of it failed."""
    ended = subprocess.run(
        ["sh", "-ec", fill_in_port(server, block)], stdout=subprocess.PIPE, timeout=END_S, check=True
    )
    return ended.stdout
