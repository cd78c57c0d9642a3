"""What ends a training command. Each message is one sentence that says what to do; none holds health text.

TrainingError
├── DataError         a file that cannot be used
├── CanaryFound       a row of a benchmark among rows for training
├── ProfileError      a profile with a wrong or missing value
├── CeilingReached    the cost ceiling: what is done is kept, the same command goes on
├── JobsFailed        too many rows failed; the dead-letter file has the reasons
├── RewardUnavailable too few completions could be judged for training to mean anything
└── JudgeUnavailable  the judge cannot be asked, or gives no log-probabilities
"""

from __future__ import annotations


class TrainingError(Exception): ...


class DataError(TrainingError): ...


class CanaryFound(DataError): ...


class ProfileError(TrainingError): ...


class CeilingReached(TrainingError): ...


class JobsFailed(TrainingError): ...


class RewardUnavailable(TrainingError): ...


class JudgeUnavailable(TrainingError): ...
