"""Drives glacier-local with boto3: vaults, uploads, jobs, policies, refusals.

usage: vaults.py ENDPOINT (the server's clock runs at 7200: an hour in 0.5 s)
"""

import hashlib
import io
import json
import sys
import time

import boto3
import botocore.utils
from botocore.config import Config
from botocore.exceptions import ClientError

MIB = 1 << 20


def client(secret=None):
    return boto3.client(
        "glacier",
        endpoint_url=sys.argv[1],
        config=Config(retries={"total_max_attempts": 1}),
        **({"aws_access_key_id": "AKIAIOSFODNN7EXAMPLE", "aws_secret_access_key": secret} if secret else {}),
    )


def tree(data):
    return botocore.utils.calculate_tree_hash(io.BytesIO(data))


def refused(code, call, **arguments):
    try:
        call(**arguments)
    except ClientError as error:
        found = error.response["Error"]["Code"]
        assert found == code, (found, code, error)
        assert error.response["ResponseMetadata"]["RequestId"]
        return
    raise AssertionError(f"{call} was not refused with {code}")


def until(condition):
    end = time.monotonic() + 60
    while time.monotonic() < end:
        found = condition()
        if found:
            return found
        time.sleep(0.02)
    raise AssertionError("never came true")


g = client()
v = {"vaultName": "v"}
data = bytes(range(256)) * 4096 + b"x" * MIB + b"y" * (MIB + 17)
invalid, absent = "InvalidParameterValueException", "ResourceNotFoundException"

# Vaults and tags.
for name in ["v", "v", "a.b", "z_-9"]:
    assert g.create_vault(vaultName=name)["location"] == f"/012345678901/vaults/{name}"
assert [x["VaultName"] for x in g.list_vaults()["VaultList"]] == ["a.b", "v", "z_-9"]
page = g.list_vaults(limit="2")
assert page["Marker"] == "arn:aws:glacier:us-east-1:012345678901:vaults/z_-9", page
assert [x["VaultName"] for x in g.list_vaults(marker=page["Marker"])["VaultList"]] == ["z_-9"]
paginated = g.get_paginator("list_vaults").paginate(accountId="-", PaginationConfig={"PageSize": 1})
assert [x["VaultName"] for p in paginated for x in p["VaultList"]] == ["a.b", "v", "z_-9"]
refused(invalid, g.create_vault, vaultName="no space")
refused(absent, g.describe_vault, vaultName="none")
refused(invalid, g.list_vaults, limit="51")
g.delete_vault(vaultName="a.b")
g.add_tags_to_vault(**v, Tags={"one": "1", "two": "ü"})
g.remove_tags_from_vault(**v, TagKeys=["one"])
assert g.list_tags_for_vault(**v)["Tags"] == {"two": "ü"}
refused("LimitExceededException", g.add_tags_to_vault, **v, Tags={str(n): "" for n in range(50)})

# Signatures.
refused("InvalidSignatureException", client("wrong").list_vaults)

# Uploads.
up = g.initiate_multipart_upload(**v, archiveDescription='{"a":"q\\"b"}', partSize=str(MIB))["uploadId"]
u = {**v, "uploadId": up}
assert len(up) == 92
refused(invalid, g.initiate_multipart_upload, **v, partSize=str(3 * MIB))
refused(invalid, g.initiate_multipart_upload, **v, partSize=str(8 << 30))
refused(invalid, g.upload_multipart_part, **u, range=f"bytes 1-{MIB}/*", body=data[1 : MIB + 1])
refused(invalid, g.upload_multipart_part, **u, range=f"bytes 0-{2 * MIB - 1}/*", body=data[: 2 * MIB])
refused(invalid, g.upload_multipart_part, **u, range="bytes 0-9/*", body=data[:9])
refused(invalid, g.upload_multipart_part, **u, range="bytes 0-9/*", body=data[:10], checksum=tree(b"no"))
refused(absent, g.upload_multipart_part, **v, uploadId="x" * 92, range="bytes 0-9/*", body=data[:10])
for start in [2 * MIB, 3 * MIB, 0]:
    part = data[start : start + MIB]
    answer = g.upload_multipart_part(**u, range=f"bytes {start}-{start + len(part) - 1}/*", body=part)
    assert answer["checksum"] == tree(part)
refused(invalid, g.complete_multipart_upload, **u, archiveSize=str(len(data)), checksum=tree(data))
# A short part in the middle is taken, and refused at the end; the last wins.
g.upload_multipart_part(**u, range=f"bytes {MIB}-{MIB + 9}/*", body=data[MIB : MIB + 10])
refused(invalid, g.complete_multipart_upload, **u, archiveSize=str(len(data)), checksum=tree(data))
g.upload_multipart_part(**u, range=f"bytes {MIB}-{2 * MIB - 1}/*", body=data[MIB : 2 * MIB])
parts = g.list_parts(**u)
assert [p["RangeInBytes"] for p in parts["Parts"]][-1] == f"{3 * MIB}-{len(data) - 1}"
assert parts["Parts"][0]["SHA256TreeHash"] == tree(data[:MIB]) and parts["PartSizeInBytes"] == MIB
assert parts["ArchiveDescription"] == '{"a":"q\\"b"}'
page = g.list_parts(**u, limit="3")
assert len(page["Parts"]) == 3 and len(g.list_parts(**u, marker=page["Marker"])["Parts"]) == 1
assert [x["MultipartUploadId"] for x in g.list_multipart_uploads(**v)["UploadsList"]] == [up]
refused(invalid, g.complete_multipart_upload, **u, archiveSize=str(len(data) - 1), checksum=tree(data))
refused(invalid, g.complete_multipart_upload, **u, archiveSize=str(len(data)), checksum=tree(data[1:]))
done = g.complete_multipart_upload(**u, archiveSize=str(len(data)), checksum=tree(data))
again = g.complete_multipart_upload(**u, archiveSize=str(len(data)), checksum=tree(data))
big = done["archiveId"]
assert len(big) == 138 and again["archiveId"] == big and done["checksum"] == tree(data)
refused(absent, g.list_parts, **u)
other = g.initiate_multipart_upload(**v, partSize=str(MIB))["uploadId"]
g.abort_multipart_upload(**v, uploadId=other)
refused(absent, g.abort_multipart_upload, **v, uploadId=other)
small = g.upload_archive(**v, archiveDescription="small", body=b"Hello World")
assert small["checksum"] == "a591a6d40bf420404a011733cfb7b190d62c65bf0bcda32b57b277d9ad9f146e"
refused(invalid, g.upload_archive, **v, body=b"abc", checksum=tree(b"abd"))
refused(invalid, g.upload_archive, **v, archiveDescription="x" * 1025, body=b"abc")
refused(invalid, g.delete_vault, **v)

# Jobs.
def start(**parameters):
    return {**v, "jobId": g.initiate_job(**v, jobParameters=parameters)["jobId"]}


whole = start(Type="archive-retrieval", ArchiveId=big, Tier="Expedited", Description="d", SNSTopic="t")
until(lambda: g.describe_job(**whole)["Completed"])
described = g.describe_job(**whole)
assert described["StatusCode"] == "Succeeded" and described["ArchiveSHA256TreeHash"] == tree(data)
assert described["RetrievalByteRange"] == f"0-{len(data) - 1}" and described["Tier"] == "Expedited"
output = g.get_job_output(**whole)
assert output["body"].read() == data and output["checksum"] == tree(data) and output["status"] == 200
assert output["archiveDescription"] == '{"a":"q\\"b"}'
output = g.get_job_output(**whole, range=f"bytes={MIB}-{2 * MIB - 1}")
assert output["body"].read() == data[MIB : 2 * MIB] and output["status"] == 206
assert output["checksum"] == tree(data[MIB : 2 * MIB])
assert output["contentRange"] == f"bytes {MIB}-{2 * MIB - 1}/{len(data)}"
output = g.get_job_output(**whole, range=f"bytes={MIB}-{3 * MIB - 1}")
assert output["body"].read() == data[MIB : 3 * MIB] and "checksum" not in output
refused(invalid, g.get_job_output, **whole, range=f"bytes={len(data)}-")
refused(absent, g.initiate_job, **v, jobParameters={"Type": "archive-retrieval", "ArchiveId": "A" * 138})
for wrong in [{"Type": "select"}, {"RetrievalByteRange": f"1-{MIB - 1}"}, {"RetrievalByteRange": f"0-{MIB}"}, {"Tier": "Fast"}]:
    refused(invalid, g.initiate_job, **v, jobParameters={"Type": "archive-retrieval", "ArchiveId": big, **wrong})
half = start(Type="archive-retrieval", ArchiveId=big, RetrievalByteRange=f"{2 * MIB}-{len(data) - 1}")
refused(invalid, g.get_job_output, **half)
until(lambda: g.describe_job(**half)["Completed"])
output = g.get_job_output(**half, range="bytes=0-9")
assert output["body"].read() == data[2 * MIB : 2 * MIB + 10] and "checksum" not in output
assert g.get_job_output(**half)["checksum"] == tree(data[2 * MIB :])

# Inventories, a day after.
until(lambda: g.describe_vault(**v).get("NumberOfArchives") == 2)
assert g.describe_vault(**v)["SizeInBytes"] == len(data) + 11
def listed(**parameters):
    job = start(Type="inventory-retrieval", **parameters)
    until(lambda: g.describe_job(**job)["Completed"])
    return job, g.get_job_output(**job)


_, output = listed()
assert output["contentType"] == "application/json" and "checksum" not in output
inventory = json.load(output["body"])
assert {a["ArchiveId"]: (a["Size"], a["SHA256TreeHash"]) for a in inventory["ArchiveList"]} == {
    big: (len(data), tree(data)), small["archiveId"]: (11, small["checksum"])}
job, output = listed(InventoryRetrievalParameters={"Limit": "1"})
marker = g.describe_job(**job)["InventoryRetrievalParameters"]["Marker"]
first = json.load(output["body"])["ArchiveList"]
_, output = listed(InventoryRetrievalParameters={"Marker": marker}, Format="CSV")
csv = output["body"].read().decode().splitlines()
assert len(first) == 1 and len(csv) == 2 and csv[1].split(",")[0] == marker

# Jobs and their output go a day later; so do idle uploads.
idle = g.initiate_multipart_upload(**v, partSize=str(MIB))["uploadId"]
def gone(call, **arguments):
    try:
        call(**arguments)
    except ClientError as error:
        return error.response["Error"]["Code"] == absent


until(lambda: gone(g.describe_job, **whole))
until(lambda: gone(g.list_parts, **v, uploadId=idle))
assert whole["jobId"] not in [j["JobId"] for j in g.list_jobs(**v)["JobList"]]
start(Type="archive-retrieval", ArchiveId=big, Tier="Bulk")
assert len(g.list_jobs(**v, completed="false", statuscode="InProgress")["JobList"]) == 1
refused(invalid, g.list_jobs, **v, statuscode="Odd")

# Policies, locks, notifications, capacity.
policy = {"Policy": '{"Version":"2012-10-17","Statement":[]}'}
g.set_vault_access_policy(**v, policy=policy)
assert g.get_vault_access_policy(**v)["policy"] == policy
g.delete_vault_access_policy(**v)
refused(absent, g.get_vault_access_policy, **v)
lock = g.initiate_vault_lock(**v, policy=policy)["lockId"]
refused("AccessDeniedException", g.initiate_vault_lock, **v, policy=policy)
refused(invalid, g.complete_vault_lock, **v, lockId="wrong")
g.abort_vault_lock(**v)
lock = g.initiate_vault_lock(**v, policy=policy)["lockId"]
g.complete_vault_lock(**v, lockId=lock)
assert g.get_vault_lock(**v)["State"] == "Locked"
refused("AccessDeniedException", g.abort_vault_lock, **v)
events = {"SNSTopic": "arn:aws:sns:us-east-1:012345678901:t", "Events": ["ArchiveRetrievalCompleted"]}
g.set_vault_notifications(**v, vaultNotificationConfig=events)
assert g.get_vault_notifications(**v)["vaultNotificationConfig"] == events
g.delete_vault_notifications(**v)
refused(absent, g.get_vault_notifications, **v)
rules = {"Rules": [{"Strategy": "BytesPerHour", "BytesPerHour": 5}]}
g.set_data_retrieval_policy(Policy=rules)
assert g.get_data_retrieval_policy()["Policy"] == rules
refused("PolicyEnforcedException", g.initiate_job, **v, jobParameters={"Type": "archive-retrieval", "ArchiveId": big})
g.purchase_provisioned_capacity()
g.purchase_provisioned_capacity()
refused("LimitExceededException", g.purchase_provisioned_capacity)
assert len(g.list_provisioned_capacity()["ProvisionedCapacityList"]) == 2

# Deletion: an archive that a finished job offers can still be fetched.
last = start(Type="archive-retrieval", ArchiveId=small["archiveId"], Tier="Expedited")
until(lambda: g.describe_job(**last)["Completed"])
for archive in [small["archiveId"], small["archiveId"], big]:
    g.delete_archive(**v, archiveId=archive)
assert g.get_job_output(**last)["body"].read() == b"Hello World"
refused(invalid, g.delete_archive, **v, archiveId="short")
refused(invalid, g.delete_vault, **v)
until(lambda: g.describe_vault(**v)["NumberOfArchives"] == 0)
g.delete_vault(**v)
refused(absent, g.describe_vault, **v)
print("agreed")
