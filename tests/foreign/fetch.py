"""Brings a stream back from a vault, with glacier-lines(5) and boto3 alone.

usage: fetch.py ENDPOINT VAULT NAME FILE (the server's clock runs at 14400)
"""

import io
import json
import sys
import time

import boto3
import botocore.utils

MIB = 1 << 20
endpoint, vault, name, file = sys.argv[1:]
g = boto3.client("glacier", endpoint_url=endpoint)
v = {"vaultName": vault}


def tree(data):
    return botocore.utils.calculate_tree_hash(io.BytesIO(data))


def until(condition):
    end = time.monotonic() + 120
    while time.monotonic() < end:
        found = condition()
        if found:
            return found
        time.sleep(0.02)
    raise AssertionError("never came true")


def job(**parameters):
    started = {**v, "jobId": g.initiate_job(**v, jobParameters=parameters)["jobId"]}
    return until(lambda: g.describe_job(**started)["Completed"] and started)


def archive(archive_id, size, treehash, pieces):
    """The bytes of an archive; in pieces, each with a checksum of its own."""
    ready = job(Type="archive-retrieval", ArchiveId=archive_id, Tier="Expedited")
    assert g.describe_job(**ready)["SHA256TreeHash"] == treehash
    data = b""
    if pieces:
        for start in range(0, size, MIB):
            last = min(start + MIB, size) - 1
            output = g.get_job_output(**ready, range=f"bytes={start}-{last}")
            piece = output["body"].read()
            assert output["checksum"] == tree(piece) and output["status"] == 206
            data += piece
    else:
        output = g.get_job_output(**ready)
        data = output["body"].read()
        assert output["checksum"] == treehash
    assert len(data) == size and tree(data) == treehash
    return data


def listed():
    """What the vault's inventory tells, once it knows the manifest."""
    try:
        output = g.get_job_output(**job(Type="inventory-retrieval"))
    except g.exceptions.ResourceNotFoundException:
        return None  # no inventory yet
    archives = json.load(output["body"])["ArchiveList"]
    told = [(json.loads(a["ArchiveDescription"]), a) for a in archives]
    return told if any(d["kind"] == "manifest" for d, _ in told) else None


told = until(listed)
assert all(d["v"] == 1 and d["kind"] in ("volume", "manifest") for d, _ in told), told
[(manifest, found)] = [(d, a) for d, a in told if d["kind"] == "manifest" and d["name"] == name]
lines = archive(found["ArchiveId"], found["Size"], found["SHA256TreeHash"], pieces=False).decode()
assert all(len(line.encode()) < 4096 for line in lines.splitlines())
recipe, *lines = [json.loads(line) for line in lines.splitlines() if line]
assert recipe["type"] == "recipe" and all(len(text) < 200 for text in recipe["text"])
assert all(line["stream"] == manifest["stream"] for line in lines)
[stored] = [line for line in lines if line["type"] == "stored"]
assert "manifest_id" not in stored and stored["guid"] == manifest["guid"]
# They come as they were completed, not as they stand in the stream.
archives = sorted((a for a in lines if a["type"] == "archive"), key=lambda a: a["volume"])
assert [a["volume"] for a in archives] == list(range(stored["volumes"]))

# The volumes; the inventory says the same of each.
inventory = {a["ArchiveId"]: (d, a) for d, a in told if d["kind"] == "volume"}
assert len(inventory) == len(archives) > 1
stream = b""
for a in archives:
    description, listing = inventory[a["archive_id"]]
    assert description["volume"] == a["volume"] and description["stream"] == a["stream"]
    assert (listing["Size"], listing["SHA256TreeHash"]) == (a["size"], a["treehash"])
    assert a["offset"] == len(stream)
    data = archive(a["archive_id"], a["size"], a["treehash"], pieces=a["volume"] % 2 == 0)
    runs = [h for h in lines if h["type"] == "hashes" and h["volume"] == a["volume"]]
    hashes = [hash for h in sorted(runs, key=lambda h: h["part"]) for hash in h["treehashes"]]
    cuts = range(0, a["size"], a["part_size"])
    assert hashes == [tree(data[cut : cut + a["part_size"]]) for cut in cuts]
    stream += data
assert len(stream) == stored["size"] and tree(stream) == stored["treehash"]
with open(file, "wb") as out:
    out.write(stream)
print("fetched")
