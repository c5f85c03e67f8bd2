"""A real S3 server on a free port: moto's, as a process; its objects live as long as it does."""

import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import boto3
from mlflow_server import free_port

PATIENCE = 60.0


class S3:
    """One server with one empty bucket.

    Args:
        folder: Where its log goes.
    """

    def __init__(self, folder: Path) -> None:
        self._log, self.port = folder / "s3.log", free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self.environment = {
            "AWS_ACCESS_KEY_ID": "planted-key-id",
            "AWS_SECRET_ACCESS_KEY": "planted-secret-key",
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{self.port}",
            "AWS_REGION": "us-east-1",
        }

    def start(self) -> None:
        command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(self.port)]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
        until = time.monotonic() + PATIENCE
        while not self._answers():
            assert self._process.poll() is None, self._log.read_text()
            assert time.monotonic() < until, self._log.read_text()
            time.sleep(0.1)
        self.client.create_bucket(Bucket="bucket")

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/moto-api/", timeout=5):
                return True
        except (urllib.error.URLError, OSError):
            return False

    @property
    def client(self) -> Any:
        """Amazon's own client, to look at what was stored."""
        made = self.environment
        return boto3.client(
            "s3",
            endpoint_url=made["AWS_ENDPOINT_URL"],
            aws_access_key_id=made["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=made["AWS_SECRET_ACCESS_KEY"],
            region_name=made["AWS_REGION"],
        )

    def names(self, prefix: str = "") -> list[str]:
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket="bucket", Prefix=prefix)
        return [entry["Key"] for page in pages for entry in page.get("Contents", [])]

    def read(self, key: str) -> bytes:
        return self.client.get_object(Bucket="bucket", Key=key)["Body"].read()

    def write(self, key: str, content: bytes) -> None:
        self.client.put_object(Bucket="bucket", Key=key, Body=content)

    def clear(self) -> None:
        for key in self.names():
            self.client.delete_object(Bucket="bucket", Key=key)

    def stop(self) -> None:
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None
