"""A bucket on loopback that TensorFlow takes for one of Google Cloud Storage.

TensorFlow asks Google's two hosts for `gs://` and no other, but over the proxy that `https_proxy`
names. The server is that proxy, and answers for the hosts itself, with a certificate made for
their names. It knows what TensorFlow's file system asks for, and nothing else.
"""

import json
import shutil
import ssl
import subprocess
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

HOSTS = ("storage.googleapis.com", "www.googleapis.com")
TOKEN = "a-token"
# A listing has so few names a page that the next pages are asked for.
PAGE = 4


@dataclass
class Bucket:
    """What is in the bucket, and what it refuses.

    Attributes:
        objects: Content by name.
        ages: How many days ago an object was written, by name; 0 for all others.
        refused: Of "write", "list", "delete" and "bucket" (to read what the bucket itself is), what
            is answered with the code 403.
        refused_after: The same, and how often it is answered before.
        environment: With these variables a process takes it for `gs://NAME`, whatever the name.
    """

    objects: dict[str, bytes] = field(default_factory=dict)
    ages: dict[str, float] = field(default_factory=dict)
    refused: set[str] = field(default_factory=set)
    refused_after: dict[str, int] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)
    sessions: list[str] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def names(self, prefix, delimiter):
        """Names below a prefix, and folders instead of what is in them."""
        found = {}
        for name in sorted(name for name in self.objects if name.startswith(prefix)):
            folder, slash, _ = name[len(prefix) :].partition(delimiter or "\0")
            found[prefix + folder + slash if slash else name] = bool(slash)
        return list(found.items())


@contextmanager
def serving(folder):
    """A bucket that is served until the block ends.

    Args:
        folder: Where the key and the certificate are written.
    """
    key, certificate = made_certificate(Path(folder))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    bucket = Bucket()
    handler = type("Handler", (_Handler,), {"bucket": bucket, "context": context})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        proxy = f"http://127.0.0.1:{server.server_port}"
        bucket.environment |= {
            "https_proxy": proxy,
            "HTTPS_PROXY": proxy,
            "no_proxy": "",
            "NO_PROXY": "",
            "CURL_CA_BUNDLE": str(certificate),
            "GOOGLE_AUTH_TOKEN_FOR_TESTING": TOKEN,
            "GCS_RETRY_CONFIG_MAX_RETRIES": "1",
        }
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield bucket
        server.shutdown()
        thread.join()


def can_be_served():
    """Whether there is what makes a certificate."""
    return shutil.which("openssl") is not None


def made_certificate(folder):
    """The paths of a key and of the certificate of Google's two hosts that it signed itself."""
    key, certificate = folder / "key.pem", folder / "certificate.pem"
    names = ",".join(f"DNS:{host}" for host in HOSTS)
    command = ["openssl", "req", "-x509", "-nodes", "-days", "2", "-subj", "/CN=bucket"]
    command += ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]
    command += ["-addext", f"subjectAltName={names}", "-keyout", key, "-out", certificate]
    subprocess.run(command, check=True, capture_output=True)
    return key, certificate


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    bucket: Bucket
    context: ssl.SSLContext

    def log_message(self, *_):
        pass

    def do_CONNECT(self):
        """From here on the client speaks, encrypted, with whom it takes for Google."""
        if self.path.rpartition(":")[0] not in HOSTS:
            self.send_error(502)
            return
        self.send_response(200)
        self.end_headers()
        self.connection = self.request = self.context.wrap_socket(self.connection, server_side=True)
        self.setup()

    def finish(self):
        super().finish()
        self.connection.close()

    def _handle(self):
        body = self._body()
        parts = urlsplit(self.path)
        query = {name: value[0] for name, value in parse_qs(parts.query).items()}
        with self.bucket.lock:
            if self.headers.get("Authorization") != f"Bearer {TOKEN}":
                self._answer(401)
                return
            path = parts.path.strip("/").split("/")
            if path[:3] == ["storage", "v1", "b"]:
                self._object(self.command, list(map(unquote, path[4:])), query)
            elif path[:4] == ["upload", "storage", "v1", "b"]:
                self._upload(query, body)
            else:
                self._media(unquote(path[1]))

    do_GET = do_POST = do_PUT = do_DELETE = _handle

    def _body(self):
        if "chunked" not in self.headers.get("Transfer-Encoding", ""):
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        body = b""
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def _answer(self, code, content=b"", **headers):
        content = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(code)
        for name, value in {"Content-Length": len(content), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def _refuses(self, kind):
        left = self.bucket.refused_after
        refused = kind in self.bucket.refused or left.get(kind) == 0
        if kind in left and not refused:
            left[kind] -= 1
        if refused:
            self._answer(403)
        return refused

    def _object(self, method, path, query):
        """What the JSON interface says of the bucket, its names, an object, and does to it."""
        objects = self.bucket.objects
        if not path:
            if not self._refuses("bucket"):
                self._answer(200, {})
        elif len(path) == 1:
            self._list(query)
        elif path[1] not in objects:
            self._answer(404)
        elif method == "DELETE":
            if not self._refuses("delete"):
                del objects[path[1]]
                self._answer(204)
        elif method == "POST":
            if not self._refuses("write"):
                objects[path[-1]] = objects[path[1]]
                self._answer(200, {"done": True})
        else:
            written = datetime.now(UTC) - timedelta(days=self.bucket.ages.get(path[1], 0))
            updated = f"{written:%Y-%m-%dT%H:%M:%S.%fZ}"
            size = str(len(objects[path[1]]))
            self._answer(200, {"size": size, "generation": "1", "updated": updated})

    def _list(self, query):
        if self._refuses("list"):
            return
        found = self.bucket.names(query.get("prefix", ""), query.get("delimiter"))
        first = int(query.get("pageToken", 0))
        last = first + min(int(query.get("maxResults", PAGE)), PAGE)
        page = {
            "items": [{"name": name} for name, folder in found[first:last] if not folder],
            "prefixes": [name for name, folder in found[first:last] if folder],
        }
        if last < len(found):
            page["nextPageToken"] = str(last)
        self._answer(200, page)

    def _upload(self, query, body):
        if "session" in query:
            self.bucket.objects[self.bucket.sessions[int(query["session"])]] = body
            self._answer(200)
        elif self._refuses("write"):
            pass
        elif query["uploadType"] == "resumable":
            self.bucket.sessions.append(query["name"])
            place = f"https://{HOSTS[1]}{urlsplit(self.path).path}?session="
            self._answer(200, Location=f"{place}{len(self.bucket.sessions) - 1}")
        elif "ifGenerationMatch" in query and query["name"] in self.bucket.objects:
            self._answer(412)
        else:
            self.bucket.objects[query["name"]] = body
            self._answer(200)

    def _media(self, name):
        content = self.bucket.objects.get(name)
        if content is None:
            self._answer(404)
            return
        first, last = map(int, self.headers["Range"].removeprefix("bytes=").split("-"))
        if first >= len(content):
            self._answer(416)
        else:
            self._answer(206, content[first : last + 1])
