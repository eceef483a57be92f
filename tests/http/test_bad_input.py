"""Bad input, and what it gets: a clear refusal that names every fault, nothing held, nothing inserted."""

import json
from typing import Any

import httpx
import pytest

from tests.conftest import ADMIN_KEY
from tests.gateway import Gateway, Person

from .wire import head, send
from .world import IMAGE, NOBODYS, PNG, TEXT, faults, nothing_written, refusal

pytestmark = pytest.mark.asyncio(loop_scope="package")

LINK = "https://example.com/a.png"


async def ask(gateway: Gateway, person: Person, content: Any, path: str = TEXT) -> httpx.Response:
    """Submit this body, or these bytes, and see that nothing comes of it."""
    raw = content if isinstance(content, bytes) else json.dumps(content).encode()
    headers = person.headers | {"Content-Type": "application/json"}
    async with nothing_written(gateway):
        return await gateway.client.post(path, content=raw, headers=headers)


ANYTHING: list[Any] = [None, True, False, 0, 1, -1, 1.5, 10**30, "", "x", [], ["x"], {}, {"x": 1}, "\0", "a\0b"]
WRONG: dict[str, list[Any]] = {
    "prompt": [*(value for value in ANYTHING if value != "x"), "x" * 2501, "🎬" * 2501],
    "negative_prompt": [*(value for value in ANYTHING if value not in ("", "x")), "x" * 2501],
    "duration": [*ANYTHING, "7", 7, "05", " 5", "5 ", 5.0, "5.0", "\u0665", 15, "10s"],
    "aspect_ratio": [*ANYTHING, "4:3", "16:9 ", "9:16\n", "16/9"],
    "cfg_scale": [None, True, "0.5", "", [], {}, 1.01, -0.01, -1, 2, 1e308, 10**30],
    "model": [*ANYTHING, "KLING-2.1-MASTER", "fal-ai/kling-video", "../x", "x" * 10_000],
    "end_user": [*(value for value in ANYTHING if value not in (None, "x")), "x" * 129],
    "tags": [
        *(value for value in ANYTHING if value != {}),
        {str(number): "x" for number in range(11)},
        [["a", "b"]],
    ],
    "nonsense": [None, 1, "x"],
    "webhook_url": [
        *(value for value in ANYTHING if value is not None),
        "http://hooks.test/",
        "https://127.0.0.1/",
        "https://hooks.test/" + "x" * 2000,
    ],
    "image_url": [LINK],
    "x" * 50: [1],
    "": [1],
    "Prompt": ["x"],
}


@pytest.mark.parametrize("field", WRONG)
async def test_no_wrong_value_of_a_field_gets_in(gateway: Gateway, ann: Person, field: str) -> None:
    async with nothing_written(gateway):
        for wrong in WRONG[field]:
            body = {"prompt": "a boat", field: wrong}
            for path in (TEXT, f"{TEXT}/estimate"):
                answer = await gateway.client.post(path, json=body, headers=ann.headers)
                found = faults(answer)
                assert {pointer.split("/")[1] for pointer in found} == {field}, (wrong, found)
                assert len(answer.content) < 2000, "what is wrong is named, not repeated"


async def test_each_tag_that_is_wrong_is_named(gateway: Gateway, ann: Person) -> None:
    names = ["", "A", "a b", "ä", "a/b", "a~b", "x" * 65, "x" * 10_000, "a\n", "a\0", "\u0663", "[key]"]
    for name in names:
        (pointer,) = faults(await ask(gateway, ann, {"prompt": "x", "tags": {name: "v"}}))
        shown = name if len(name) <= 100 else name[:100] + "…"
        assert pointer == "/tags/" + shown.replace("~", "~0").replace("/", "~1")
    values: list[Any] = [None, True, 1, 1.5, [], {}, "x" * 257, "x" * 10_000, "a\0b"]
    for value in values:
        assert list(faults(await ask(gateway, ann, {"prompt": "x", "tags": {"a": value}}))) == ["/tags/a"]


WRONG_IMAGES: list[Any] = [
    None, True, 0, [], {}, "", " ", "x", "ftp://example.com/a.png", "file:///etc/passwd", "http://example.com/a.png",
    "https://", "https:///a.png", "https:example.com", "//example.com/a.png", "javascript:alert(1)", "https://u:p@example.com/",
    "https://u@example.com/", "https://example.com:99999/", "https://[::1", "https://example.com/a b", "https://example.com/\n",
    "https://example.com/ä", "https://exämple.com/", "https://example.com/\0", "\thttps://example.com/",
    "https://x/" + "a" * 8192,
    "data:", "data:,x", "data:image/png", "data:image/png,AAAA", "data:image/png;base64", "data:image/png;base64,",
    "data:image/png;base64,!!!!", "data:image/png;base64,AAA", "data:image/png;base64,AAAA\n",
    "data:image/png;base64, AAAA",
    "data:image/png;base64,ÄÄÄÄ", "data:image/png;base64,AA==AA==", "data:text/html;base64,AAAA",
    "data:image/;base64,AAAA",
    "data:image/png;charset=x;base64,AAAA", "data:image/png;base64,AA-_", "data:image/" + "x" * 41 + ";base64,AAAA",
    "x" * 9000,
]  # fmt: skip


async def test_no_wrong_image_gets_in(gateway: Gateway, ann: Person) -> None:
    async with nothing_written(gateway):
        for wrong in WRONG_IMAGES:
            answer = await gateway.client.post(IMAGE, json={"prompt": "x", "image_url": wrong}, headers=ann.headers)
            assert list(faults(answer)) == ["/image_url"], wrong
        answer = await gateway.client.post(IMAGE, json={"prompt": "x"}, headers=ann.headers)
        assert faults(answer) == {"/image_url": "this field is required"}
        body = {"prompt": "x", "image_url": LINK, "aspect_ratio": "16:9"}
        assert list(faults(await gateway.client.post(IMAGE, json=body, headers=ann.headers))) == ["/aspect_ratio"]


async def test_every_fault_is_named_at_once_and_no_value_is_repeated(gateway: Gateway, ann: Person) -> None:
    body = {
        "prompt": "",
        "duration": "canary",
        "aspect_ratio": "canary",
        "negative_prompt": "canary\0",
        "cfg_scale": "canary",
        "tags": {"canary!": "x", "fine": 1},
        "end_user": "canary" * 100,
        "webhook_url": "canary",
        "nonsense": "canary",
    }
    headers = ann.headers | {"Idempotency-Key": "canary" * 100, "Prefer": "wait=canary"}
    async with nothing_written(gateway):
        answer = await gateway.client.post(TEXT, json=body, headers=headers)
    found = faults(answer)
    assert set(found) == {
        "/prompt", "/duration", "/aspect_ratio", "/negative_prompt", "/cfg_scale", "/tags/canary!", "/tags/fine",
        "/end_user", "/webhook_url", "/nonsense", "Idempotency-Key", "Prefer",
    }  # fmt: skip
    assert "canary" not in answer.text.replace("/tags/canary!", "")
    assert answer.json()["detail"] == "Mend the 12 faults listed in `errors` and send it again."


async def test_a_model_that_is_not_served_does_not_hide_faults_of_our_own_fields(gateway: Gateway, ann: Person) -> None:
    body = {"prompt": "x", "model": "nonsense", "tags": {"A": "x"}, "end_user": ""}
    assert set(faults(await ask(gateway, ann, body))) == {"/model", "/tags/A", "/end_user"}
    told = faults(await ask(gateway, ann, {"prompt": "x", "model": "nonsense"}))["/model"]
    assert "kling-2.1-master" in told


NO_JSON = [
    b"", b" ", b"{", b"}", b"nul", b"prompt=x", b"\xff\xfe", b"\xff", b'{"prompt": "\xff"}',
    b'{"prompt": "\xed\xa0\x80"}',
    b'{"prompt": "\\ud800"}', b'{"prompt": "\\udc00\\ud800"}', b'{"prompt": "x", "cfg_scale": NaN}',
    b'{"prompt": "x", "cfg_scale": Infinity}', b'{"prompt": "x", "cfg_scale": -Infinity}', b"[" * 500_000,
    b'{"prompt":' * 90_000, b'{"prompt": ' + b"[" * 5000 + b"]" * 5000 + b"}", b'\xef\xbb\xbf{"prompt": "x"}',
    b'{"prompt": "x"}{}', b'{"prompt": "x"} x', b'{"prompt": "x",}', b"{'prompt': 'x'}", b'{"prompt": "x\n"}',
    b'{"cfg_scale": 1' + b"0" * 5000 + b"}", b'{"cfg_scale": 01}', b'{"cfg_scale": .5}', b'{"cfg_scale": +1}',
    b'{"prompt": "x"} // y', "{}".encode("utf-16"), b"\0", b'{"prompt": "a\0b"}', b"\x1f\x8b\x08\0\0\0\0\0\0\3\xab",
]  # fmt: skip


async def test_what_is_not_json_is_refused_in_words(gateway: Gateway, ann: Person) -> None:
    headers = ann.headers | {"Content-Type": "application/json"}
    async with nothing_written(gateway):
        for raw in NO_JSON:
            for path in (TEXT, IMAGE, f"{TEXT}/estimate"):
                problem = refusal(await gateway.client.post(path, content=raw, headers=headers), 415, "not-json")
                assert len(problem["detail"]) < 200


async def test_what_is_json_but_no_object_is_refused(gateway: Gateway, ann: Person) -> None:
    for raw in (b"null", b"true", b"1", b'"x"', b"[]", b'[{"prompt": "x"}]'):
        assert faults(await ask(gateway, ann, raw)) == {"": "the body must be a JSON object"}


async def test_of_a_field_given_twice_the_last_one_counts(gateway: Gateway, ann: Person) -> None:
    assert list(faults(await ask(gateway, ann, b'{"prompt": "x", "prompt": ""}'))) == ["/prompt"]


async def test_a_number_beyond_all_numbers_is_too_great(gateway: Gateway, ann: Person) -> None:
    assert list(faults(await ask(gateway, ann, b'{"prompt": "x", "cfg_scale": 1e999}'))) == ["/cfg_scale"]


async def test_another_content_type_is_refused(gateway: Gateway, ann: Person) -> None:
    async with nothing_written(gateway):
        for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "", "json",
                     "application/jsonp", "application/json,text/plain", "text/json"):  # fmt: skip
            headers = ann.headers | {"Content-Type": kind}
            answer = await gateway.client.post(TEXT, content=b'{"prompt": "x"}', headers=headers)
            assert "Content-Type" in refusal(answer, 415, "not-json")["detail"]
        answer = await gateway.client.post(TEXT, content=b'{"prompt": "x"}', headers=ann.headers)
        refusal(answer, 415, "not-json")


async def test_a_thousand_unknown_fields_are_not_each_named(gateway: Gateway, ann: Person) -> None:
    """They would be answered with many times what was sent."""
    many = {f"x{number}": 1 for number in range(50_000)}
    for path in (TEXT, f"{TEXT}/estimate"):
        answer = await ask(gateway, ann, many, path)
        assert faults(answer) == {"": "must have at most 200 fields"}
    assert len(faults(await ask(gateway, ann, {f"field{number}": 1 for number in range(199)} | {"prompt": "x"}))) == 199


# Bodies that are too large


@pytest.mark.parametrize("megabytes", [1, 3, 20, 40])
@pytest.mark.parametrize("chunked", [False, True])
async def test_a_large_text_to_video_is_refused_and_the_client_reads_it(
    gateway: Gateway, ann: Person, megabytes: int, *, chunked: bool
) -> None:
    answer = await ask_large(
        gateway, ann, TEXT, b'{"prompt": "' + b"x" * (megabytes * 1_000_000) + b'"}', chunked=chunked
    )
    assert refusal(answer, 413, "body-too-large")["limit_bytes"] == 1_000_000


@pytest.mark.parametrize("path", [IMAGE, f"{IMAGE}/estimate"])
@pytest.mark.parametrize("chunked", [False, True])
async def test_a_twenty_megabyte_image_is_refused_and_the_client_reads_it(
    gateway: Gateway, ann: Person, path: str, *, chunked: bool
) -> None:
    body = b'{"prompt": "x", "image_url": "data:image/png;base64,' + b"A" * 20_000_000 + b'"}'
    answer = await ask_large(gateway, ann, path, body, chunked=chunked)
    assert refusal(answer, 413, "body-too-large")["limit_bytes"] == 15_000_000


async def ask_large(gateway: Gateway, person: Person, path: str, body: bytes, *, chunked: bool) -> httpx.Response:
    async def pieces() -> Any:
        for start in range(0, len(body), 65536):
            yield body[start : start + 65536]

    headers = person.headers | {"Content-Type": "application/json"}
    async with nothing_written(gateway):
        return await gateway.client.post(path, content=pieces() if chunked else body, headers=headers)


async def test_a_body_that_is_all_here_when_it_is_refused_is_not_waited_for(gateway: Gateway) -> None:
    """The message that goes over the limit may be the last one: the next one would be the caller hanging up."""
    messages = [{"type": "http.request", "body": b"x" * 1_000_001, "more_body": False}]
    answered: list[Any] = []

    async def receive() -> Any:
        return messages.pop()  # a second call is an error

    async def send(message: Any) -> None:
        answered.append(message)

    headers = [(b"content-type", b"application/json"), (b"authorization", f"Bearer {ADMIN_KEY}".encode())]
    scope = {"type": "http", "method": "POST", "path": "/v1/teams", "raw_path": b"/v1/teams", "query_string": b"",
             "headers": headers, "app": gateway.app, "http_version": "1.1", "scheme": "http", "root_path": "",
             "server": ("127.0.0.1", 80), "client": ("127.0.0.1", 1)}  # fmt: skip
    await gateway.app(scope, receive, send)
    assert answered[0]["status"] == 413


async def test_a_large_image_is_taken(gateway: Gateway, ann: Person) -> None:
    body = b'{"prompt": "x", "image_url": "data:image/png;base64,' + b"A" * 14_000_000 + b'"}'
    answer = await gateway.client.post(IMAGE, content=body, headers=ann.headers | {"Content-Type": "application/json"})
    assert answer.status_code == 202
    assert answer.json()["input"]["image_url"].startswith("data:image/png;bytes=10500000;sha256=")
    await gateway.client.post(f"{answer.headers['location']}/cancel", headers=ann.headers)


async def test_a_body_just_at_the_limit_is_read(gateway: Gateway, ann: Person) -> None:
    body = b'{"prompt": "x"}'
    assert (await ask_at(gateway, ann, body + b" " * (1_000_000 - len(body)))).status_code == 202
    refusal(await ask_at(gateway, ann, body + b" " * (1_000_001 - len(body))), 413, "body-too-large")


async def ask_at(gateway: Gateway, person: Person, raw: bytes) -> httpx.Response:
    headers = person.headers | {"Content-Type": "application/json"}
    return await gateway.client.post(TEXT, content=raw, headers=headers)


async def test_a_client_that_asks_first_is_refused_before_it_sends(gateway: Gateway, ann: Person) -> None:
    """`curl` sends `Expect: 100-continue` with a large body and waits."""
    lines = [f"Authorization: Bearer {ann.secret}", "Content-Type: application/json", "Expect: 100-continue"]
    answer = await send(gateway, head("POST", TEXT, *lines, "Content-Length: 900000000"), within_seconds=2)
    assert answer.status == 413
    assert json.loads(answer.body)["code"] == "body-too-large"


# Requests that lie, and requests that are none


async def test_a_body_shorter_than_it_says_makes_nothing(gateway: Gateway, ann: Person) -> None:
    lines = [f"Authorization: Bearer {ann.secret}", "Content-Type: application/json", "Content-Length: 1000"]
    async with nothing_written(gateway):
        answer = await send(gateway, head("POST", TEXT, *lines), b'{"prompt": "x"}', close=True, within_seconds=3)
    assert answer.status == 0


async def test_a_body_longer_than_it_says_is_cut_there(gateway: Gateway, ann: Person) -> None:
    lines = [f"Authorization: Bearer {ann.secret}", "Content-Type: application/json", "Content-Length: 5"]
    async with nothing_written(gateway):
        answer = await send(gateway, head("POST", TEXT, *lines), b'{"prompt": "x"}')
    assert answer.status in {400, 415}


async def test_two_lengths_and_other_smuggling_are_refused(gateway: Gateway, ann: Person) -> None:
    lines = [f"Authorization: Bearer {ann.secret}", "Content-Type: application/json"]
    for more in (
        ["Content-Length: 15", "Content-Length: 16"],
        ["Content-Length: -1"],
        ["Content-Length: x"],
        ["Content-Length: " + "9" * 30],
        ["Content-Length: 15", "Transfer-Encoding: chunked"],
    ):
        async with nothing_written(gateway):
            answer = await send(gateway, head("POST", TEXT, *lines, *more), b'{"prompt": "x"}', close=True)
        assert answer.status in {400, 413}, more


async def test_a_broken_chunk_makes_nothing(gateway: Gateway, ann: Person) -> None:
    lines = [f"Authorization: Bearer {ann.secret}", "Content-Type: application/json", "Transfer-Encoding: chunked"]
    async with nothing_written(gateway):
        answer = await send(gateway, head("POST", TEXT, *lines), b'zz\r\n{"prompt": "x"}\r\n0\r\n\r\n', close=True)
    assert answer.status in {0, 400}


async def test_a_client_that_leaves_in_the_middle_makes_nothing(gateway: Gateway, ann: Person) -> None:
    lines = [f"Authorization: Bearer {ann.secret}", "Content-Type: application/json", "Content-Length: 14000000"]
    async with nothing_written(gateway):
        with pytest.raises(TimeoutError):
            await send(gateway, head("POST", IMAGE, *lines), b'{"prompt": "x"', within_seconds=0.2)
        assert (await gateway.client.get("/health/ready")).status_code == 200


async def test_a_request_of_absurd_size_is_refused(gateway: Gateway, ann: Person) -> None:
    for path in ("/v1/jobs?" + "&".join(f"{n:x}=" for n in range(9_000)),
    "/v1/keys?" + "&".join(f"{n:x}=" for n in range(9_000)),
                 "/v1/jobs/" + "x" * 60_000, "/v1/jobs?" + "x" * 60_000, "/v1/jobs?" + "&".join(["a=1"] * 10_000),
                 "/v1/jobs?status=" + "x" * 60_000, "/" + "../" * 10_000):  # fmt: skip
        answer = await gateway.client.get(path, headers=ann.headers)
        assert answer.status_code in {307, 400, 404, 422}, path[:30]
        assert len(answer.content) < 50_000
    answer = await gateway.client.get("/v1/jobs", headers=ann.headers | {"X-Much": "x" * 60_000})
    assert answer.status_code in {200, 400, 431}


async def test_an_absurd_host_is_nothing_to_it(gateway: Gateway) -> None:
    for host in ("[", "[::1", "x:99999999", "a b", "\xff", "", "x" * 5000, "a/../b", 'evil.example"><script>'):
        answer = await send(gateway, f"GET /v1/me HTTP/1.1\r\nHost: {host}\r\n\r\n".encode("latin-1"))
        assert answer.status in {400, 401}, host
        assert b"<script>" not in answer.body
    answer = await send(gateway, b"GET /v1/me HTTP/1.1\r\n\r\n")
    assert answer.status in {400, 401}
    for host in ("[", 'evil.example"><script>alert(1)</script>'):
        page = await send(gateway, f"GET /problems HTTP/1.1\r\nHost: {host}\r\n\r\n".encode("latin-1"))
        assert page.status in {200, 400}
        assert b"<script>" not in page.body


async def test_an_absurd_query_on_a_submit_is_nothing_to_it(gateway: Gateway, ann: Person) -> None:
    answer = await gateway.client.post(f"{TEXT}?prompt=y&x=%00%ff", json={"prompt": "x"}, headers=ann.headers)
    assert answer.json()["input"]["prompt"] == "x"


async def test_no_method_but_its_own_touches_a_route(gateway: Gateway, ann: Person) -> None:
    job_id = (await gateway.submit(ann)).json()["id"]
    async with nothing_written(gateway):
        for method in ("HEAD", "OPTIONS", "PUT", "PATCH", "DELETE", "TRACE"):
            for path in (TEXT, IMAGE, f"{TEXT}/estimate", f"/v1/jobs/{job_id}", f"/v1/jobs/{job_id}/cancel"):
                answer = await gateway.client.request(method, path, headers=ann.headers)
                assert answer.status_code == 405


async def test_no_absurd_id_is_anything_but_not_there(gateway: Gateway) -> None:
    admin = await gateway.make_person("admin")
    bodies = {"PATCH": {"maximum": 1}, "POST": {"outcome": "void", "note": "x"}}
    for made_up in ("x", "-1", "0", "null", "%00", "%ff", "%F0%9F%8E%AC", "'", "a" * 5000, f"job_{NOBODYS}x",
    f"JOB_{NOBODYS}",
                    "job_" + "٣" * 32, f"job__{NOBODYS}", "job_00000000-0000-0000-0000-000000000000", " ", "%20",
                    "{id}"):  # fmt: skip
        for method, path in (("PATCH", "/v1/quotas/{}"), ("DELETE", "/v1/quotas/{}"), ("DELETE", "/v1/prices/{}"),
                             ("POST", "/v1/jobs/{}/resolve"), ("GET", "/v1/jobs/{}"), ("POST",
                             "/v1/jobs/{}/cancel")):  # fmt: skip
            answer = await gateway.client.request(
                method, path.format(made_up), json=bodies.get(method), headers=admin.headers
            )
            refusal(answer, 404, "not-found")


async def test_an_image_that_is_no_image_is_fals_to_judge(gateway: Gateway, ann: Person) -> None:
    """We check that it can be decoded; whether it shows anything, fal says."""
    for image in (PNG, "data:image/png;base64,AAAA", "data:image/svg+xml;base64,AAAA"):
        answer = await gateway.client.post(IMAGE, json={"prompt": "x", "image_url": image}, headers=ann.headers)
        assert answer.status_code == 202
