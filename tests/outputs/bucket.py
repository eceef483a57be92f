"""A bucket of our own: as much of S3 as an archive needs, in memory. The signature is not checked, its key is."""

import asyncio
import re
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

KEY_ID, KEY = "canary-bucket-key-id", "canary-bucket-key-secret"


@dataclass
class Bucket:
    """One of the name `videos`."""

    url: str = ""
    objects: dict[str, tuple[bytes, str]] = field(default_factory=dict)
    uploads: dict[str, dict[int, bytes]] = field(default_factory=dict)
    status: int = 200

    @property
    def settings(self) -> dict[str, str]:
        keys = {"AWS_ACCESS_KEY_ID": KEY_ID, "AWS_SECRET_ACCESS_KEY": KEY, "AWS_ENDPOINT_URL": self.url}
        return {"OUTPUT_STORE": "s3://videos/kept", "AWS_REGION": "eu-central-1"} | keys

    async def answer(self, request: Request) -> Response:  # noqa: PLR0911  a table
        signed = request.headers.get("authorization", "") + request.query_params.get("X-Amz-Credential", "")
        if KEY_ID not in signed or self.status != 200:
            return _error(403 if self.status == 200 else self.status, "AccessDenied")
        if request.path_params["bucket"] != "videos":
            return _error(404, "NoSuchBucket")
        name, query = request.path_params.get("name", ""), request.query_params
        match request.method:
            case "POST" if "delete" in query:
                return self._delete_many((await request.body()).decode())
            case "POST" if "uploads" in query:
                self.uploads["one"] = {}
                return _told("InitiateMultipartUploadResult", "<UploadId>one</UploadId>")
            case "POST":
                parts = self.uploads.pop("one")
                self.objects[name] = b"".join(parts[n] for n in sorted(parts)), "video/mp4"
                return _told("CompleteMultipartUploadResult", "<ETag>x</ETag>")
            case "PUT" if "partNumber" in query:
                self.uploads["one"][int(query["partNumber"])] = await request.body()
                return Response(headers={"ETag": '"x"'})
            case "PUT":
                self.objects[name] = await request.body(), request.headers.get("content-type", "")
                return Response(headers={"ETag": '"x"'})
            case "DELETE" if "uploadId" in query:
                self.uploads.clear()
                return Response(status_code=204)
            case "DELETE":
                self.objects.pop(name, None)
                return Response(status_code=204)
        return self._read(request, name)

    def _read(self, request: Request, name: str) -> Response:
        if name not in self.objects:
            return _error(404, "NoSuchKey")
        content, content_type = self.objects[name]
        headers = {"ETag": '"x"', "Last-Modified": "Fri, 20 Nov 2026 10:00:00 GMT", "Content-Type": content_type}
        found = re.fullmatch(r"bytes=(\d+)-(\d+)", request.headers.get("range", ""))
        if found is None:
            return Response(content, headers=headers)
        start, end = int(found[1]), min(int(found[2]) + 1, len(content))
        headers["Content-Range"] = f"bytes {start}-{end - 1}/{len(content)}"
        return Response(content[start:end], status_code=206, headers=headers)

    def _delete_many(self, asked: str) -> Response:
        for name in re.findall("<Key>(.*?)</Key>", asked):
            self.objects.pop(name, None)
        return _told("DeleteResult", "")


def _told(what: str, content: str) -> Response:
    return Response(f"<{what}>{content}</{what}>", media_type="application/xml")


def _error(status: int, code: str) -> Response:
    body = f"<Error><Code>{code}</Code><AWSAccessKeyId>{KEY_ID}</AWSAccessKeyId></Error>"
    return Response(body, status_code=status, media_type="application/xml")


@asynccontextmanager
async def run_bucket() -> AsyncIterator[Bucket]:
    bucket = Bucket()
    methods = ["GET", "HEAD", "PUT", "POST", "DELETE"]
    routes = [Route(path, bucket.answer, methods=methods) for path in ("/{bucket}", "/{bucket}/{name:path}")]
    listener = socket.create_server(("127.0.0.1", 0))
    bucket.url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    server = uvicorn.Server(uvicorn.Config(Starlette(routes=routes), log_config=None))
    serving = asyncio.create_task(server.serve([listener]))
    try:
        yield bucket
    finally:
        server.should_exit = True
        await serving
