"""An S3 server (moto's) on this machine, with a bucket; fsspec and botocore find it through the environment."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.request import Request, urlopen

import boto3
import pytest
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
from s3fs import S3FileSystem
from werkzeug.serving import make_server

from tests.helpers.request_faults import Faults

BUCKET = "faces"
_LISTED_EVERY_SEC = 0.2


@contextmanager
def serving() -> Iterator[Any]:
    """A client of the server, with the bucket ``faces``, while its address and keys are in the environment."""
    with serving_with_faults() as (client, _):
        yield client


@contextmanager
def serving_with_faults() -> Iterator[tuple[Any, Faults]]:
    """As ``serving``, with the faults of requests that fsspec sends; those of the client never fail."""
    faults = Faults(lambda environ: "aiobotocore" in environ.get("HTTP_USER_AGENT", ""))
    app = faults.around(DomainDispatcherApplication(create_backend_app))
    server = make_server("127.0.0.1", 0, app, threaded=True, request_handler=MotoRequestHandler)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}"
    settings = {
        "FSSPEC_S3_ENDPOINT_URL": url,
        "AWS_ENDPOINT_URL": url,
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in settings.items():
            patch.setenv(name, value)
        S3FileSystem.clear_instance_cache()  # They may know the address of an earlier server.
        urlopen(Request(f"{url}/moto-api/reset", method="POST")).close()  # moto has one state in a process.
        client = boto3.client("s3")
        client.create_bucket(Bucket=BUCKET)
        yield client, faults
    faults.end()
    server.shutdown()


@contextmanager
def watched(client: Any, prefix: str) -> Iterator[list[dict[str, int]]]:
    """Lists the objects of a folder, with their sizes, again and again."""
    seen: list[dict[str, int]] = []
    is_done = threading.Event()

    def watch() -> None:
        while not is_done.wait(_LISTED_EVERY_SEC):
            listed = client.list_objects_v2(Bucket=BUCKET, Prefix=f"{prefix}/").get("Contents", [])
            seen.append({entry["Key"].removeprefix(f"{prefix}/"): entry["Size"] for entry in listed})

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield seen
    finally:
        is_done.set()
        watcher.join()


def half_written(seen: list[dict[str, int]], manifest: dict[str, Any]) -> int:
    """Listings that show a shard of another size than its final one, or a data set that is not complete."""
    sizes = {shard["name"]: shard["num_bytes"] for shard in manifest["shards"]}
    needed = {*sizes, "index.safetensors"}
    return sum(
        any(listed.get(name, size) != size for name, size in sizes.items())
        or ("dataset.json" in listed and not needed <= listed.keys())
        for listed in seen
    )


def open_uploads(client: Any) -> int:
    """Uploads that were begun and neither completed nor aborted."""
    return len(client.list_multipart_uploads(Bucket=BUCKET).get("Uploads", []))
