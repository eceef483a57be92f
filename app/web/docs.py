"""/docs and a page for every problem, with assets of our own: no page asks another host."""

import html
import re
from importlib.resources import files
from typing import Any, Final

from fastapi import APIRouter, FastAPI
from fastapi.openapi.docs import get_swagger_ui_html
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.staticfiles import StaticFiles

from app.problems import NotFound, all_problems, responses
from app.web.headers import page_policy

router: Final = APIRouter(include_in_schema=False)

INTRODUCTION: Final = """
Videos from fal, with keys, quotas and a ledger of your own.

Send `Authorization: Bearer fg_…`. Money and every figure of a quota is a decimal string; times are RFC 3339 in UTC;
a list is `{data, next_cursor}`, newest first. Every refusal is `application/problem+json`: its `type` is the URL of a
page that says what happened and what to do. Fields, codes and statuses may be added; none is removed or renamed.
"""
TAGS: Final = [
    {"name": "jobs", "description": "Ask for videos and follow them."},
    {"name": "tokens", "description": "What a key hands to a browser: less than the key, for a while."},
    {"name": "files", "description": "Images to begin a video with."},
    {"name": "fal", "description": "fal's own protocol, for the programs and clients that speak it."},
    {"name": "me", "description": "Who you are and what you may still spend."},
    {"name": "webhooks", "description": "How jobs that have ended come to you: signed, and tried for a day."},
    {"name": "models", "description": "What can be asked for, and its price."},
    {"name": "teams", "description": "Cost centres."},
    {"name": "users", "description": "People and service accounts."},
    {"name": "keys", "description": "A user's keys."},
    {"name": "quotas", "description": "What may not be exceeded."},
    {"name": "prices", "description": "The price book."},
    {"name": "months", "description": "Which are closed."},
    {"name": "reports", "description": "Where the money went."},
    {"name": "freezes", "description": "Who may ask for no job at present."},
    {"name": "audit log", "description": "Who changed what."},
    {"name": "health", "description": "For whatever watches the gateway."},
]

_STYLE: Final = """
:root { color-scheme: light dark; --line: #8884; --soft: #8882; }
body { font: 16px/1.6 system-ui, sans-serif; max-width: 44rem; margin: 3rem auto; padding: 0 1.25rem; }
h1 { font-size: 1.6rem; margin: 0 0 .25rem; }
code { font: .92em ui-monospace, monospace; background: var(--soft); padding: .1em .35em; border-radius: .3em; }
table { border-collapse: collapse; width: 100%; }
td { border-top: 1px solid var(--line); padding: .5rem .75rem .5rem 0; vertical-align: top; }
a { color: inherit; }
.soft { opacity: .7; }
"""


def mount_assets(app: FastAPI) -> None:
    """The scripts and styles of /docs, from the `fastapi-offline` wheel."""
    app.mount("/docs/assets", StaticFiles(directory=str(files("fastapi_offline") / "static")), name="docs-assets")


@router.get("/")
async def get_root() -> Response:
    """There is one page to begin with."""
    return RedirectResponse("/docs")


@router.get("/docs")
async def get_docs(request: Request) -> HTMLResponse:
    """Every route, with examples that can be sent from the page."""
    root = request.scope.get("root_path", "")
    page = get_swagger_ui_html(
        openapi_url=f"{root}/openapi.json",
        title="falgate",
        swagger_js_url=f"{root}/docs/assets/swagger-ui-bundle.js",
        swagger_css_url=f"{root}/docs/assets/swagger-ui.css",
        swagger_favicon_url=f"{root}/docs/assets/favicon.png",
        swagger_ui_parameters={
            "persistAuthorization": True,
            "displayRequestDuration": True,
            "tryItOutEnabled": True,
            "validatorUrl": None,  # Swagger UI would ask another host
        },
    )
    page.headers.update(page_policy(bytes(page.body).decode()))
    return page


@router.get("/problems")
async def get_problems() -> HTMLResponse:
    """Every problem that can be answered."""
    rows = "".join(
        f'<tr><td>{kind.status}</td><td><a href="/problems/{code}"><code>{code}</code></a></td>'
        f"<td>{_prose(_first_paragraph(kind.__doc__))}</td></tr>"
        for code, kind in all_problems().items()
    )
    return _page("Problems", f"<h1>Problems</h1><table>{rows}</table>")


@router.get("/problems/{code}")
async def get_problem(code: str) -> HTMLResponse:
    """What happened and what to do: the docstring of the problem's class."""
    kind = all_problems().get(code)
    if kind is None:
        raise NotFound("There is no problem of this code; /problems lists them all.")
    paragraphs = "".join(f"<p>{_prose(part)}</p>" for part in (kind.__doc__ or "").split("\n\n"))
    body = (
        f'<p class="soft"><a href="/problems">Problems</a></p><h1>{html.escape(kind.title)}</h1>'
        f'<p class="soft">HTTP {kind.status} · <code>{code}</code></p>{paragraphs}'
    )
    return _page(kind.title, body)


def _page(title: str, body: str) -> HTMLResponse:
    page = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<link rel="icon" href="/docs/assets/favicon.png"><title>{html.escape(title)} · falgate</title>'
        f"<style>{_STYLE}</style></head><body>{body}</body></html>"
    )
    return HTMLResponse(page, headers=page_policy(page))


def _first_paragraph(doc: str | None) -> str:
    return (doc or "").strip().split("\n\n")[0]


def _prose(text: str) -> str:
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", html.escape(" ".join(text.split())))


def _add_refusals_of_the_edge(answers: dict[str, Any]) -> None:
    """What asks for a key hears wrong ones only so often, and no body is waited for without end."""
    for after, status in (("401", 429), ("413", 408)):
        if after in answers:
            answers.setdefault(str(status), responses(status)[status])


def only_problems(document: dict[str, Any]) -> None:
    """Our refusals are problems: take out the validation error that FastAPI adds by itself."""
    for name, path in document["paths"].items():
        if name.startswith("/fal/"):
            continue  # in fal's shapes
        for operation in path.values():
            _add_refusals_of_the_edge(operation["responses"])
            schema = operation["responses"].get("422", {}).get("content", {}).get("application/json", {})
            if schema:
                operation["responses"]["422"] = responses(422)[422]
    for name in ("HTTPValidationError", "ValidationError"):
        document["components"]["schemas"].pop(name, None)
