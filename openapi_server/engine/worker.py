"""Workers: which process runs a turn, and whether that process can still be there."""

from __future__ import annotations

import os
import secrets
import socket


def make_worker_id() -> str:
    """The name of this process, from now on: host, process id, and a random part, because ids come back."""
    return f"{socket.gethostname()}/{os.getpid()}/{secrets.token_hex(4)}"


def is_known_dead(worker: str, me: str) -> bool:
    """True when the worker was a process of this host that is not there any more; of other hosts we cannot know.

    >>> is_surely_dead("elsewhere/1/aaaa", "here/1/bbbb"), is_surely_dead("here/1/aaaa", "here/1/bbbb")
    (False, True)
    """
    host, _, rest = worker.partition("/")
    my_host, _, my_rest = me.partition("/")
    if not rest or host != my_host:
        return False
    pid, my_pid = rest.partition("/")[0], my_rest.partition("/")[0]
    if pid == my_pid:
        # Our own id under another name: an earlier life, as in a container whose server is always process 1.
        return worker != me
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    except (PermissionError, ValueError):
        return False
    return False
