"""Become a server that ends with its parent: ``python -I -S _child.py PARENT SIGNAL UID GID COMMAND...``.

A program of its own and not a ``preexec_fn``, which may deadlock in a process that has threads.
Imports the standard library only: it runs before the uid is dropped, from a folder that the new uid may not read.
"""

import ctypes
import os
import sys

PR_SET_PDEATHSIG = 1


def main(parent: int, death_signal: int, uid: int, gid: int, command: list[str]) -> None:
    """Replace this process by `command`, as `uid`, with `death_signal` at the death of `parent`."""
    libc = ctypes.CDLL(None, use_errno=True)
    if uid != os.geteuid():
        os.setgroups([])
        os.setgid(gid)
        os.setuid(uid)
    # After the uid, since a change of it clears the signal.
    if libc.prctl(PR_SET_PDEATHSIG, death_signal, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG)")
    if os.getppid() != parent:
        sys.exit("the parent ended before its server started")
    os.execv(command[0], command)  # noqa: S606  # no shell is the point


if __name__ == "__main__":
    numbers = [int(word) for word in sys.argv[1:5]]
    main(numbers[0], numbers[1], numbers[2], numbers[3], sys.argv[5:])
