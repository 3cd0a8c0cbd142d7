"""Starts Python programs from a process that has imported the server already: a start takes a third of the time.

A program that is started so is a process of its own, with its own environment, folder, signals and exit code, as after
`python -m MODULE ARGUMENTS`. Only what every start does alike was done once: importing the modules, compiling the
packaged rules, and the check of `openapi.yaml` against OpenAPI's schema; and passwords are hashed at the least cost.
Tests of the start itself start Python anew.

Each request is a message with three file descriptors: standard output, standard error and a pipe for the report, which
gets two lines, the process id and, at the end, the exit code, which is negative for a signal as in `subprocess.Popen`.
"""

from __future__ import annotations

import atexit
import gc
import json
import os
import runpy
import signal
import socket
import sys
import threading
import time
from contextlib import suppress
from functools import cache
from pathlib import Path
from subprocess import DEVNULL, Popen, TimeoutExpired
from typing import Any, NoReturn, TextIO

ROOT = Path(__file__).parent.parent.parent
MAX_REQUEST_BYTES = 65_536
_lock = threading.Lock()


class ForkedProcess:
    """`python -m MODULE ARGUMENTS`, with the methods of `subprocess.Popen` that tests use. It reads no input."""

    def __init__(self, module: str, arguments: list[str], folder: Path, environment: dict[str, str], log: int) -> None:
        output, output_end = os.pipe()
        self._report, report_end = os.pipe()
        request = {"module": module, "arguments": arguments, "folder": str(folder), "environment": environment}
        with _lock:
            socket.send_fds(_connect(), [json.dumps(request).encode()], [output_end, log, report_end])
        os.close(output_end)
        os.close(report_end)
        self.stdout: TextIO = os.fdopen(output, encoding="utf-8")
        self.pid = self._read_number()
        self.returncode: int | None = None
        # Readable as soon as the process is gone.
        self._waiter = threading.Thread(target=self._wait, daemon=True)
        self._waiter.start()

    def poll(self) -> int | None:
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """The exit code; `subprocess.TimeoutExpired` when the process still runs after the time."""
        self._waiter.join(timeout)
        if self.returncode is None:
            raise TimeoutExpired(f"process {self.pid}", timeout or 0)
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self.returncode is None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def _wait(self) -> None:
        self.returncode = self._read_number()
        os.close(self._report)

    def _read_number(self) -> int:
        line = b""
        while not line.endswith(b"\n"):
            byte = os.read(self._report, 1)
            if not byte:
                raise ConnectionError("the fork server ended")
            line += byte
        return int(line)


@cache
def _connect() -> socket.socket:
    """The connection to this process's fork server, which ends when the connection does."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        command = [sys.executable, "-m", "tests.support.fork_server", str(theirs.fileno())]
        process = Popen(command, cwd=ROOT, stdin=DEVNULL, pass_fds=[theirs.fileno()])

    def end() -> None:
        ours.close()
        process.wait(5)

    atexit.register(end)
    return ours


def serve(requests: socket.socket) -> None:
    """Fork for each request, until the other side is gone."""
    _import_server()
    # What is loaded by now is shared by all processes for as long as nobody writes to it.
    gc.freeze()
    assert threading.active_count() == 1, "a fork takes no thread along"
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    while True:
        message, descriptors, _, _ = socket.recv_fds(requests, MAX_REQUEST_BYTES, 3)
        if not message:
            return
        if os.fork() == 0:
            requests.close()
            _start_and_report(json.loads(message), *descriptors)
        for descriptor in descriptors:
            os.close(descriptor)


def _import_server() -> None:
    """All that no start does differently. Not the programs themselves, which run under the name `__main__`."""
    from openapi_server import cli, server
    from openapi_server.accounts import passwords
    from openapi_server.moderation.rule_set import load_packaged_rules
    from openapi_server.spec import load_spec
    from tests.support.fakes import CHEAP_HASHER

    assert all((cli, server))
    load_spec()
    load_packaged_rules()
    # Every new database gets four demo accounts. What a password hash costs is told by the tests of the passwords.
    vars(passwords)["PasswordHasher"] = lambda **cost: CHEAP_HASHER


def _start_and_report(request: dict[str, Any], output: int, log: int, report: int) -> NoReturn:
    """Start the program, and wait for its end to report it: only a parent is told how a process ended."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    pid = os.fork()
    if pid == 0:
        os.close(report)
        os.dup2(output, 1)
        os.dup2(log, 2)
        os.close(output)
        os.close(log)
        _run(request)
    os.close(output)
    os.close(log)
    os.write(report, f"{pid}\n".encode())
    _, status = os.waitpid(pid, 0)
    os.write(report, f"{os.waitstatus_to_exitcode(status)}\n".encode())
    os._exit(0)


def _run(request: dict[str, Any]) -> NoReturn:
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update(request["environment"])
    time.tzset()
    encoding = os.environ.get("PYTHONIOENCODING")
    sys.stdout = open(1, "w", encoding=encoding, buffering=1, closefd=False)  # noqa: SIM115  # until the end
    sys.stderr = open(2, "w", encoding=encoding, buffering=1, closefd=False)  # noqa: SIM115  # until the end
    sys.argv = [request["module"], *request["arguments"]]
    code = 1
    try:
        runpy.run_module(request["module"], run_name="__main__", alter_sys=True)
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        sys.excepthook(*sys.exc_info())  # as an interpreter does that is about to end
    finally:
        # What the interpreter does at its own end, which a forked process does not reach.
        threading._shutdown()  # type: ignore[attr-defined]
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    serve(socket.socket(fileno=int(sys.argv[1])))
