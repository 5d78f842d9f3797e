"""One account in one region: what every operation is called with."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from lib.resources.quotas import DEFAULTS
from lib.resources.throttling import Throttle
from lib.store.database import Store

SERVICE_ARN = "arn:aws:personalize:::"


def no_wake() -> None:
    """Start nothing: jobs wait until somebody runs them."""


def no_s3() -> None:
    """No bucket but those that a folder stands for."""


@dataclass(frozen=True, slots=True)
class Account:
    """An account's store, clock and limits.

    now: the time, UTC and aware.  wake: sees to it that pending jobs are worked on, and returns at once.
    buckets: name of an S3 bucket -> the folder that stands for it.  s3: gives a boto3 client for the others, None
    where there are no credentials.  seed: of everything that draws by chance.
    settling: how long a resource that needs no computing stays in CREATE PENDING, CREATE IN_PROGRESS or DELETE PENDING.
    throttle: counts the requests of campaigns, with other processes where some answer at the same port.
    workers: how many may answer there.  worker: which of those this is, from 0; each explores by chances of its own.
    """

    store: Store
    region: str
    account_id: str
    now: Callable[[], datetime]
    quotas: Mapping[str, float] = field(default_factory=lambda: DEFAULTS)
    wake: Callable[[], None] = no_wake
    buckets: Mapping[str, Path] = field(default_factory=dict)
    s3: Callable[[], Any | None] = no_s3
    seed: int = 0
    settling: timedelta = timedelta(milliseconds=200)
    throttle: Throttle = field(default_factory=Throttle)
    workers: int = 1
    worker: int = 0

    def arn(self, kind: str, name: str) -> str:
        """``kind``: as ARNs spell it, ``dataset-group``."""
        return f"arn:aws:personalize:{self.region}:{self.account_id}:{kind}/{name}"
