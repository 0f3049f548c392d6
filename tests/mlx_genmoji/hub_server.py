"""A server on this machine that speaks the hub's API, with as many repositories as a test puts into it."""

import hashlib
import json
from collections.abc import Mapping


class Repositories:
    """The repositories of a server that speaks the hub's API: by id and revision the contents of files by name."""

    def __init__(self) -> None:
        self.files: dict[tuple[str, str], dict[str, bytes]] = {}
        self.licenses: dict[str, str] = {}
        self.url = ""
        self.requests: list[str] = []

    def add(self, id: str, files: Mapping[str, bytes], revision: str = "main", license: str | None = None) -> None:
        self.files[id, revision] = dict(files)
        if license is not None:
            self.licenses[id] = license

    def commit(self, id: str, revision: str) -> str:
        return hashlib.sha1(f"{id}@{revision}".encode()).hexdigest()

    def answer(self, path: str) -> tuple[int, bytes, dict[str, str]]:
        """The status, body and headers of the response to a request."""
        self.requests.append(path)
        for (id, revision), files in self.files.items():
            commit = self.commit(id, revision)
            if path in (f"/api/models/{id}/revision/{name}" for name in (revision, commit)):
                siblings = [{"rfilename": name, "size": len(content)} for name, content in files.items()]
                tags = [f"license:{self.licenses[id]}"] if id in self.licenses else []
                info = {"id": id, "sha": commit, "siblings": siblings, "tags": tags}
                return 200, json.dumps(info).encode(), {}
            name = path.removeprefix(f"/{id}/resolve/{commit}/")
            if name in files:
                etag = hashlib.sha256(files[name]).hexdigest()
                return 200, files[name], {"X-Repo-Commit": commit, "ETag": f'"{etag}"'}
        known = any(path.startswith(f"/api/models/{id}/") for id, _ in self.files)
        return 404, b"{}", {"X-Error-Code": "RevisionNotFound" if known else "RepoNotFound"}
