"""Stores a stream as glacier-lines(5) says, with boto3 alone, and prints its
catalog lines. Without a NAME it is one of ZFS.

usage: store.py ENDPOINT VAULT FILE [NAME]
"""

import hashlib
import io
import json
import struct
import sys
from datetime import datetime, timezone

import boto3
import botocore.utils

MIB = 1 << 20
PART, VOLUME = MIB, 2 * MIB
endpoint, vault, file = sys.argv[1:4]
g = boto3.client("glacier", endpoint_url=endpoint)
v = {"vaultName": vault}
g.create_vault(**v)


def tree(data):
    return botocore.utils.calculate_tree_hash(io.BytesIO(data))


def cut(data, size):
    return [data[start : start + size] for start in range(0, len(data), size)]


def now():
    return datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def upload(data, **description):
    """Stores an archive of parts, and gives its id."""
    text = json.dumps(description, separators=(",", ":"))
    u = g.initiate_multipart_upload(**v, archiveDescription=text, partSize=str(PART))
    u = {**v, "uploadId": u["uploadId"]}
    start = 0
    for part in cut(data, PART):
        there = f"bytes {start}-{start + len(part) - 1}/*"
        assert g.upload_multipart_part(**u, range=there, body=part)["checksum"] == tree(part)
        start += len(part)
    done = g.complete_multipart_upload(**u, archiveSize=str(len(data)), checksum=tree(data))
    assert done["checksum"] == tree(data)
    return done["archiveId"]


lines = []


def line(kind, **fields):
    text = json.dumps({"type": kind, **fields}, ensure_ascii=False, separators=(",", ":")) + "\n"
    assert len(text.encode()) <= 4096
    lines.append(text)


with open(file, "rb") as stream:
    data = stream.read()
if len(sys.argv) > 4:
    name, known, snapshot = sys.argv[4], {"format": "bytes"}, None
    identity = b"name\0" + name.encode()
else:
    # dmu_replay_record of OpenZFS: BEGIN is 312 bytes and its payload.
    _, payload, magic = struct.unpack_from("<IIQ", data)
    assert magic == 0x2F5BACBAC
    guid, base = struct.unpack_from("<QQ", data, 40)
    name = data[56:312].split(b"\0")[0].decode()
    identity = data[: 312 + payload]
    snapshot = {"guid": str(guid), **({"from_guid": str(base)} if base else {})}
    known = {"format": "zfs", **snapshot}
sizes = struct.pack(">QQ", PART, VOLUME)
of = {"stream": hashlib.sha256(identity + sizes).hexdigest()[:32]}
who = {"host": "elsewhere", "name": name}
where = {"dest": f"glacier://{vault}", "region": g.meta.region_name}
what = {**of, "generation": 0}
guids = snapshot or {}
line("stream", v=1, **of, **who, **known, part_size=PART, volume_size=VOLUME)

for number, volume in enumerate(cut(data, VOLUME)):
    archive = upload(volume, v=1, kind="volume", **what, volume=number, **who, **guids)
    hashes = [tree(part) for part in cut(volume, PART)]
    for first in range(0, len(hashes), 50):
        run = hashes[first : first + 50]
        line("hashes", **of, volume=number, part=first, dest=where["dest"], treehashes=run)
    line("archive", v=1, **of, **who, volume=number, offset=number * VOLUME, size=len(volume),
         treehash=tree(volume), part_size=PART, **where, archive_id=archive, uploaded=now())
if snapshot:
    line("snapshot", **of, name=name, **snapshot, offset=0)
stored = {"v": 1, **of, **who, **known, "volumes": len(cut(data, VOLUME)), "size": len(data),
          "treehash": tree(data), "whole": "trusted", **where}
manifest = "".join(lines) + json.dumps({"type": "stored", **stored, "stored": now()}) + "\n"
manifest = upload(manifest.encode(), v=1, kind="manifest", **what, **who, **guids)
line("stored", **stored, manifest_id=manifest, stored=now())
# The first line is the manifest's alone.
sys.stdout.buffer.write("".join(lines[1:]).encode())
