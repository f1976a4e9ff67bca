"""Large files: git LFS in one piece and in parts, and the chunk formats of Xet."""

from __future__ import annotations

import hashlib
import io
import os
import struct
from pathlib import Path

import lz4.frame
import pytest
from huggingface_hub import CommitOperationAdd

from release.local_hub.storage import BlobWriter
from release.local_hub.xet_format import XetError, chunk_headers, files_of_shard, hash_text, unpack

pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")


def batch_for(content: bytes) -> dict[str, object]:
    objects = [{"oid": hashlib.sha256(content).hexdigest(), "size": len(content)}]
    return {"operation": "upload", "transfers": ["basic", "multipart"], "objects": objects}


def test_a_large_file_travels_in_parts(api, hub, monkeypatch, tmp_path):
    monkeypatch.setattr("release.local_hub.routes_lfs.MULTIPART_FROM", 1_000_000)
    monkeypatch.setattr("release.local_hub.routes_lfs.PART_SIZE", 300_000)
    content = os.urandom(1_234_567)
    api.create_repo("slipway/demo")
    api.create_commit("slipway/demo", [CommitOperationAdd("w.bin", io.BytesIO(content))], commit_message="1")
    path = Path(api.hf_hub_download("slipway/demo", "w.bin", cache_dir=tmp_path))
    assert path.read_bytes() == content
    assert list(hub.store.blobs.incoming.iterdir()) == []


def test_content_that_differs_from_its_hash_is_not_stored(api, ask, token, hub):
    api.create_repo("slipway/demo")
    content = b"\0promised"
    answer = ask("POST", "/slipway/demo.git/info/lfs/objects/batch", token, batch_for(content)).json()["objects"][0]
    href = answer["actions"]["upload"]["href"].removeprefix(hub.endpoint)
    assert ask("PUT", href, body=b"\0delivere").status == 400
    assert ask("PUT", href, body=b"\0promised and more").status == 413
    assert not hub.store.blobs.has(answer["oid"])
    assert ask("POST", "/lfs/verify", token, {"oid": answer["oid"], "size": len(content)}).status == 404
    assert ask("PUT", href, body=content).status == 200
    assert ask("POST", "/lfs/verify", token, {"oid": answer["oid"], "size": len(content)}).status == 200


def test_an_upload_address_is_good_for_its_file_only_and_not_for_ever(api, ask, token, hub):
    api.create_repo("slipway/demo")
    one, two = b"\0one", b"\0two"
    answer = ask("POST", "/slipway/demo.git/info/lfs/objects/batch", token, batch_for(one)).json()["objects"][0]
    href = answer["actions"]["upload"]["href"].removeprefix(hub.endpoint)
    other = href.replace(hashlib.sha256(one).hexdigest(), hashlib.sha256(two).hexdigest())
    assert ask("PUT", other, body=two).status == 403
    assert ask("PUT", href.replace("user=slipway", "user=other"), body=one).status == 403
    expired = hub.store.sign("lfs", answer["oid"], "4", "slipway", lifetime=-1)
    assert ask("PUT", f"/lfs/{answer['oid']}?size=4&user=slipway&signature={expired}", body=one).status == 403


def test_a_stored_file_is_not_asked_for_again(api, ask, token):
    api.create_repo("slipway/demo")
    content = b"\0weights"
    api.create_commit("slipway/demo", [CommitOperationAdd("w.bin", io.BytesIO(content))], commit_message="1")
    answer = ask("POST", "/slipway/demo.git/info/lfs/objects/batch", token, batch_for(content)).json()["objects"][0]
    assert "actions" not in answer


def test_odd_batches_are_refused_by_object(api, ask, token):
    api.create_repo("slipway/demo")
    odd = {"operation": "upload", "objects": [{"oid": "../../x", "size": 3}]}
    answer = ask("POST", "/slipway/demo.git/info/lfs/objects/batch", token, odd)
    assert answer.json()["objects"][0]["error"]["code"] == 422
    assert ask("POST", "/slipway/demo.git/info/lfs/objects/batch", token, {"operation": "download"}).status == 422


# Xet


def chunk(content: bytes, scheme: int) -> bytes:
    """A chunk as a client packs it."""
    packed = content
    if scheme == 2:
        packed = b"".join(content[lane::4] for lane in range(4))
    if scheme:
        packed = lz4.frame.compress(packed)
    size, unpacked = len(packed).to_bytes(3, "little"), len(content).to_bytes(3, "little")
    return b"\0" + size + bytes([scheme]) + unpacked + packed


@pytest.mark.parametrize("length", [1, 2, 3, 4, 5, 1000, 65_537])
@pytest.mark.parametrize("scheme", [0, 1, 2])
def test_chunks_unpack_whatever_their_scheme_and_length(scheme, length):
    content = os.urandom(length)
    xorb = chunk(b"first", 0) + chunk(content, scheme) + b"XETBLOB" + b"\1" * 40
    headers = chunk_headers(io.BytesIO(xorb))
    assert len(headers) == 2
    header = headers[1]
    assert unpack(xorb[header.offset : header.offset + header.compressed], header) == content


@pytest.mark.parametrize(
    "xorb",
    [
        b"",
        b"\1" * 20,
        chunk(b"abc", 0)[:-1],
        chunk(b"abc", 0).replace(b"\0", b"\7", 1),
        b"\0\3\0\0\0\0\0\0abc",
        b"\0\3\0\0\0\xff\xff\xffabc",
    ],
)
def test_a_damaged_xorb_is_refused(xorb):
    with pytest.raises(XetError):
        chunk_headers(io.BytesIO(xorb))


def test_a_chunk_that_unpacks_to_more_than_it_says_is_refused():
    bomb = lz4.frame.compress(b"\0" * (64 << 20))
    xorb = b"\0" + len(bomb).to_bytes(3, "little") + b"\1" + (100).to_bytes(3, "little") + bomb
    header = chunk_headers(io.BytesIO(xorb))[0]
    with pytest.raises(XetError, match="not 100"):
        unpack(bomb, header)
    with pytest.raises(XetError, match="LZ4"):
        unpack(b"nonsense", header)


def shard(sha256: str, xorb: str, size: int, chunks: int) -> bytes:
    """A shard of one file made of one segment."""

    def raw(text: str) -> bytes:
        return struct.pack("<4Q", *(int(text[start : start + 16], 16) for start in range(0, 64, 16)))

    header = (b"HFRepoMetaData\0" + b"\x55" * 17) + struct.pack("<QQ", 2, 0)
    file = b"\1" * 32 + struct.pack("<IIQ", 1 << 31 | 1 << 30, 1, 0)
    segment = raw(xorb) + struct.pack("<IIII", 0, size, 0, chunks)
    verification, metadata = b"\2" * 48, raw(sha256) + b"\0" * 16
    return header + file + segment + verification + metadata + b"\xff" * 32 + b"\0" * 16


def test_a_shard_says_how_files_are_made():
    digest, xorb = hashlib.sha256(b"x").hexdigest(), "0123456789abcdef" * 4
    (file,) = files_of_shard(shard(digest, xorb, 5, 2))
    assert (file.sha256, file.segments[0].xorb, file.segments[0].end) == (digest, xorb, 2)
    assert hash_text(bytes(range(32)))[:16] == "0706050403020100"
    for damaged in (b"", b"x" * 100, shard(digest, xorb, 5, 2)[:120]):
        with pytest.raises(XetError):
            list(files_of_shard(damaged))


def test_files_made_of_chunks_are_checked_against_their_hash(api, ask, token, hub):
    api.create_repo("slipway/demo")
    answer = ask("GET", "/api/models/slipway/demo/xet-write-token/main", token)
    cas, access = answer.headers["x-xet-cas-url"].removeprefix(hub.endpoint), answer.headers["x-xet-access-token"]
    content, xorb = b"hello" + b"world" * 1000, "ab" * 32
    body = chunk(content[:5], 0) + chunk(content[5:], 1)
    assert ask("POST", f"{cas}/v1/xorbs/default/{xorb}", token, body).status == 401, (
        "a Hub token is not an access token"
    )
    assert ask("POST", f"{cas}/v1/xorbs/default/{xorb}", access, b"junk").status == 400
    assert ask("POST", f"{cas}/v1/xorbs/default/{xorb}", access, body).json() == {"was_inserted": True}
    assert ask("POST", f"{cas}/v1/xorbs/default/{xorb}", access, body).json() == {"was_inserted": False}
    wrong = shard(hashlib.sha256(b"other").hexdigest(), xorb, len(content), 2)
    assert ask("POST", f"{cas}/v1/shards", access, wrong).status == 400
    assert ask("POST", f"{cas}/v1/shards", access, shard("0" * 64, "cd" * 32, 1, 1)).status == 400
    digest = hashlib.sha256(content).hexdigest()
    for _ in range(2):  # the second time from the place where the chunks now stand
        assert ask("POST", f"{cas}/v1/shards", access, shard(digest, xorb, len(content), 2)).json() == {"result": 1}
        assert hub.store.blobs.read(digest) == content
        assert not (hub.store.root / "xet" / "slipway" / xorb).exists(), "no byte is kept twice"


def repeated(xorb: str, size: int, chunks: int, times: int, sha256: str = "12" * 32) -> bytes:
    """A shard of one file that is `times` the same segment."""
    whole = shard(sha256, xorb, size, chunks)
    segment = whole[96:144]
    file = b"\1" * 32 + struct.pack("<IIQ", 1 << 30, times, 0)
    return whole[:48] + file + segment * times + whole[192:]


def test_a_few_bytes_are_not_unpacked_to_gigabytes(api, ask, token, hub, monkeypatch):
    api.create_repo("slipway/demo")
    answer = ask("GET", "/api/models/slipway/demo/xet-write-token/main", token)
    cas, access = answer.headers["x-xet-cas-url"].removeprefix(hub.endpoint), answer.headers["x-xet-access-token"]
    xorb, size = "ab" * 32, 1 << 20
    body = chunk(b"\0" * size, 1) * 20
    assert ask("POST", f"{cas}/v1/xorbs/default/{xorb}", access, body).status == 200
    written: list[int] = []
    monkeypatch.setattr(BlobWriter, "write", lambda _, data: written.append(len(data)))
    bomb = repeated(xorb, 20 * size, 20, 100)  # 2 GB of 90 kB
    assert ask("POST", f"{cas}/v1/shards", access, bomb).status == 400
    liar = repeated(xorb, 5, 20, 2)
    assert "not 5" in ask("POST", f"{cas}/v1/shards", access, liar).json()["error"]
    monkeypatch.setattr(hub.store, "largest_file", 1000)
    assert ask("POST", f"{cas}/v1/shards", access, repeated(xorb, size, 1, 1)).status == 413
    monkeypatch.undo()
    usage = type("usage", (), {"free": 1000})
    monkeypatch.setattr("release.local_hub.routes_xet.shutil.disk_usage", lambda _: usage)
    assert ask("POST", f"{cas}/v1/shards", access, repeated(xorb, size, 1, 1)).status == 507
    monkeypatch.undo()
    assert written == []
    assert list(hub.store.blobs.incoming.iterdir()) == []
    digest = hashlib.sha256(b"\0" * 3 * size).hexdigest()
    assert ask("POST", f"{cas}/v1/shards", access, repeated(xorb, size, 1, 3, digest)).status == 200


def test_a_xorb_that_a_shard_names_very_often_is_looked_at_once(api, ask, token, hub, monkeypatch):
    from release.local_hub import routes_xet

    api.create_repo("slipway/demo")
    answer = ask("GET", "/api/models/slipway/demo/xet-write-token/main", token)
    cas, access = answer.headers["x-xet-cas-url"].removeprefix(hub.endpoint), answer.headers["x-xet-access-token"]
    xorb, looked = "ab" * 32, []
    assert ask("POST", f"{cas}/v1/xorbs/default/{xorb}", access, chunk(b"a", 0) * 60_000).status == 200
    headers = routes_xet.chunk_headers
    monkeypatch.setattr(routes_xet, "chunk_headers", lambda file: looked.append(1) or headers(file))
    digest = hashlib.sha256(b"a" * 500).hexdigest()
    assert ask("POST", f"{cas}/v1/shards", access, repeated(xorb, 1, 1, 500, digest)).status == 200
    assert len(looked) <= 2
    assert ask("POST", f"{cas}/v1/xorbs/default/{'cd' * 32}", access, chunk(b"a", 0) * 70_000).status == 400


def test_the_content_store_of_another_user_or_store_is_closed(api, ask, token, hub):
    api.create_repo("slipway/demo")
    other = hub.store.create_user("other")
    ask("POST", "/api/repos/create", other, {"name": "mine"})
    mine = ask("GET", "/api/models/slipway/demo/xet-write-token/main", token).headers
    theirs = ask("GET", "/api/models/other/mine/xet-write-token/main", other).headers
    assert mine["x-xet-cas-url"] != theirs["x-xet-cas-url"]
    path = theirs["x-xet-cas-url"].removeprefix(hub.endpoint) + "/v1/xorbs/default/" + "ab" * 32
    assert ask("POST", path, mine["x-xet-access-token"], chunk(b"x", 0)).status == 401
    assert ask("GET", "/api/models/slipway/demo/xet-write-token/main", other).status == 403
    read = ask("GET", "/api/models/slipway/demo/xet-read-token/main", other).headers["x-xet-access-token"]
    assert read
