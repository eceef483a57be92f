"""The only room that knows fal's wire.

What this room guarantees:

- **An answer is a value.** The calls of `Queue`, `Platform` and `Storage` return one of the frozen dataclasses of
  `fal.outcomes` or `fal.listed`, whatever fal, a proxy or the network does; only cancellation of the calling
  task and a caller's own mistake (an endpoint id that cannot be one, a body that is no JSON) are raised, the
  latter before a byte is sent.
- **`NotSent` is proof.** It is said only while not one byte of the request had gone out. Everything that is
  not a clear answer is `Unknown`, and must not be sent again without evidence (DESIGN.md, section 3).
- **FAL_KEY goes to FAL_QUEUE_URL, FAL_API_URL and FAL_REST_URL, and nowhere else.** Of the URLs fal returns only the
  path is kept (those of files in its storage are checked, and called without the key); no redirect, cookie, `netrc` or
  proxy of the environment is looked at, and no carried text, `repr` or exception shows the key.
- **What is carried is bounded.** Replies are read up to a limit, texts are cut, images are dropped.
- **A webhook is nobody's word until its signature holds** by fal's published keys; then it says whose account it is.

Where things are
- fal's queue: `queue` asks, `paths` says where, `verdicts` reads the answer into `outcomes`; `errors`, `lines`,
  `messages`
- fal's platform API: `platform` asks for the balance, the request list, which `listed` reads, the price list
  (`pricing`) and the bill (`billing`); it erases payloads
- webhooks: `signature`, then `webhooks`
- `storage` puts a caller's image where a job can name it
- `downloads`: the videos at its CDN, which are public: no key goes there
- `wire`: the connections, and reading one reply
"""

from app.fal.billing import LONGEST_PERIOD, BillingEvent, BillPage
from app.fal.downloads import Download, DownloadGone, Downloads, DownloadTrouble, OutOfRange
from app.fal.errors import SPEAKS_OF_US
from app.fal.lines import MOST_LINES
from app.fal.listed import COVERED, Listed, ListedRequest
from app.fal.outcomes import (
    CLIENT_CLOSED,
    Accepted,
    AlreadyCompleted,
    BillableUnits,
    CancelDone,
    CancelOutcome,
    CancelRequested,
    Completed,
    Failed,
    FalError,
    Gone,
    InProgress,
    LogLine,
    NotSent,
    NotYet,
    Queued,
    Refused,
    RefusedUs,
    RequestRef,
    ResultOutcome,
    StatusOutcome,
    SubmitOutcome,
    Succeeded,
    Trouble,
    Unknown,
    UnknownStatus,
)
from app.fal.paths import alias_ref, is_request_id
from app.fal.platform import Balance, Erased, Platform
from app.fal.pricing import UnitPrice, UnitPrices
from app.fal.queue import Queue, key_id_of
from app.fal.signature import Forged, Genuine, KeysAway, KeySet
from app.fal.storage import Initiated, Storage, Stored
from app.fal.webhooks import Webhook, read_webhook, told_outcome
from app.fal.wire import trust

__all__ = [
    "CLIENT_CLOSED",
    "COVERED",
    "LONGEST_PERIOD",
    "MOST_LINES",
    "SPEAKS_OF_US",
    "Accepted",
    "AlreadyCompleted",
    "Balance",
    "BillPage",
    "BillableUnits",
    "BillingEvent",
    "CancelDone",
    "CancelOutcome",
    "CancelRequested",
    "Completed",
    "Download",
    "DownloadGone",
    "DownloadTrouble",
    "Downloads",
    "Erased",
    "Failed",
    "FalError",
    "Forged",
    "Genuine",
    "Gone",
    "InProgress",
    "Initiated",
    "KeySet",
    "KeysAway",
    "Listed",
    "ListedRequest",
    "LogLine",
    "NotSent",
    "NotYet",
    "OutOfRange",
    "Platform",
    "Queue",
    "Queued",
    "Refused",
    "RefusedUs",
    "RequestRef",
    "ResultOutcome",
    "StatusOutcome",
    "Storage",
    "Stored",
    "SubmitOutcome",
    "Succeeded",
    "Trouble",
    "UnitPrice",
    "UnitPrices",
    "Unknown",
    "UnknownStatus",
    "Webhook",
    "alias_ref",
    "is_request_id",
    "key_id_of",
    "read_webhook",
    "told_outcome",
    "trust",
]
