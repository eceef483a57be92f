"""Which path belongs to whom; plain ASGI, because a bench asks thousands of times a second."""

from app.sandbox.answers import Answer, platform_error
from app.sandbox.box import Box
from app.sandbox.calls import Call, Receive, Scope, Send
from app.sandbox.control import PREFIX, answer_control
from app.sandbox.files import FOLDER, send_file
from app.sandbox.platform import ERASED, PATHS, answer_erasing, answer_platform
from app.sandbox.reads import answer_read, parse_request_path
from app.sandbox.storage import FOLDER as STORAGE
from app.sandbox.storage import PYTHONS_UPLOAD, answer_storage
from app.sandbox.streams import stream_status
from app.sandbox.submits import answer_submit
from app.sandbox.wire import deliver


class Application:
    """The sandbox as uvicorn calls it."""

    def __init__(self, box: Box) -> None:
        self._box = box

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one call."""
        call = Call(scope, receive, send)
        path = call.path
        if path.startswith(PREFIX):
            await deliver(call, await answer_control(self._box, call))
        elif path.startswith(STORAGE) or path == PYTHONS_UPLOAD:
            await deliver(call, await answer_storage(self._box, call))
        elif path.startswith(FOLDER):
            await send_file(self._box, call)
        elif call.method == "GET" and path in PATHS:
            await deliver(call, await answer_platform(self._box, call, PATHS[path]))
        elif call.method == "DELETE" and (about := ERASED.fullmatch(path)):
            await deliver(call, await answer_erasing(self._box, call, about[1]))
        elif address := parse_request_path(path):
            await self._answer_about(call, *address)
        elif call.method == "POST":
            await deliver(call, await answer_submit(self._box, call))
        else:
            await deliver(call, platform_error(404, f"Path /{path} not found"))

    async def _answer_about(self, call: Call, base: str, request_id: str, kind: str) -> None:
        answer = await answer_read(self._box, call, base, request_id, kind)
        if isinstance(answer, Answer):
            await deliver(call, answer)
        else:
            await stream_status(self._box, call, answer)
