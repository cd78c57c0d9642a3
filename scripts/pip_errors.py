"""pip's output in one sentence that says what to do. Standard library only, Python 3.6 syntax: setup.py imports it."""

import re
from typing import List, NamedTuple


class Problem(NamedTuple):
    kind: str
    sentence: str


_WHO = r"(?:for|from) ([A-Za-z0-9][A-Za-z0-9._+-]*(?:\[[^\]]*\])?(?:[=<>!~]=?=?[^\s;()]*)?)"
_MISSING = re.compile(r"No matching distribution found " + _WHO)
_WRONG_WHEEL = re.compile(r"(\S+\.whl) is not a supported wheel on this platform")

# The order matters: without a network things are not found either, and a full disk also damages downloads.
_PROBLEMS = (
    (
        "disk",
        r"No space left on device|Errno 28|Disk quota exceeded|Errno 122",
        "The disk is full: free some space (also in the temporary folder), then run this again",
    ),
    (
        "certificate",
        r"CERTIFICATE_VERIFY_FAILED|SSLError|SSLCertVerificationError",
        "The package index's certificate was not accepted: set PIP_CERT to your network's certificate file",
    ),
    (
        "network",
        (
            r"NewConnectionError|Name or service not known|Temporary failure in name resolution|Network is unreachable"
            r"|Connection refused|ConnectTimeoutError|ReadTimeoutError|Max retries exceeded|ProxyError|nodename nor servname"
            r"|Connection reset by peer|Could not fetch URL|RemoteDisconnected|IncompleteRead"
        ),
        "The package index could not be reached: check the network and pip's settings, then run this again",
    ),
    ("missing", _MISSING.pattern, "The package index has no {} for this Python and system"),
    (
        "damaged",
        r"DO NOT MATCH THE HASHES|BadZipFile|File is not a zip file|[Ii]nvalid wheel",
        "A download was damaged: run `pip cache purge`, then run this again",
    ),
    (
        "memory",
        r"MemoryError|Cannot allocate memory|Errno 12\b",
        "The machine ran out of memory while installing: close other programs, then run this again",
    ),
    (
        "denied",
        r"Permission denied|Errno 13\b|Read-only file system|Errno 30\b",
        "A file could not be written: check who owns this folder and .venv (`rm -rf .venv` starts afresh)",
    ),
    ("platform", _WRONG_WHEEL.pattern, "The package {} does not fit this Python or system"),
    (
        "build",
        r"Failed building wheel|subprocess-exited-with-error|metadata-generation-failed|Failed to build",
        "A package has no ready-made build for this Python and system, and building it failed",
    ),
)


def explain(lines: List[str], what: str, log: str) -> Problem:
    """The most telling problem in pip's output."""
    text = "\n".join(lines)
    for kind, pattern, sentence in _PROBLEMS:
        found = re.search(pattern, text)
        if found:
            about = sentence.format(*found.groups())
            return Problem(kind, "{}; pip's own words are in {}.".format(about, log))
    return Problem("other", "Installing {} failed: the reason is in {}.".format(what, log))


def activity(line: str) -> str:
    """What pip is doing, from one line of its output; "" when the line says nothing of use."""
    words = line.split()
    if len(words) < 2:
        return ""
    if words[0] in ("Collecting", "Processing", "Downloading"):
        name = words[1].rsplit("/", 1)[-1]
        size = " " + " ".join(words[2:4]) if words[0] == "Downloading" and len(words) >= 4 else ""
        return words[0].lower() + " " + name + size
    if line.startswith("Installing collected packages"):
        return "unpacking {} packages".format(line.count(",") + 1)
    return ""
