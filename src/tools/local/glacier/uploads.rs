//! Multipart uploads: a directory with an `upload.json` and the parts that
//! have come. `CompleteMultipartUpload` makes the directory itself the archive,
//! so that nothing is copied.

use std::fs::{self, File};
use std::io::Write;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::hash::tree::Fold;
use crate::tools::local::clock::{DAY, Millis, stamp};
use crate::tools::local::disk;
use crate::tools::local::glacier::archive::{self, Archive};
use crate::tools::local::glacier::archives::{Incoming, REQUEST};
use crate::tools::local::glacier::inventory;
use crate::tools::local::part::{self, Part, Written};
use crate::tools::local::range::{MIB, Range, number};
use crate::tools::local::reply::{Answer, Refusal, Reply, broken};
use crate::tools::local::request::{Asked, cut};
use crate::tools::local::store::{
    ACCOUNT, ARCHIVE_ID, SHORT_ID, Turn, Vault, is_id, letters, new_id,
};

/// Most parts of an upload.
const PARTS: u64 = 10_000;
/// An upload without a part for this long is gone, and a repeated Complete is
/// answered for this long.
const IDLE: Millis = DAY;

/// What is known of an upload; `upload.json` in its directory.
#[derive(Serialize, Deserialize)]
struct Upload {
    id: String,
    description: String,
    created: Millis,
    part_size: u64,
}

impl Upload {
    fn dir(&self, vault: &Vault) -> PathBuf {
        dir(vault, &self.id)
    }

    /// Notes that a part came. A lost note costs idle time, not data.
    fn touch(&self, vault: &Vault, now: Millis) -> Answer<()> {
        let file = self.dir(vault).join("activity");
        // Written in place: eight bytes are never torn.
        File::options()
            .write(true)
            .create(true)
            .truncate(false)
            .open(file)
            .and_then(|mut file| file.write_all(&now.to_be_bytes()))
            .map_err(broken("upload"))
    }

    /// When the last part came, or the upload was begun.
    fn active(&self, vault: &Vault) -> Millis {
        let noted = fs::read(self.dir(vault).join("activity")).ok();
        noted
            .and_then(|bytes| bytes.try_into().ok())
            .map_or(self.created, Millis::from_be_bytes)
            .max(self.created)
    }

    fn is_idle(&self, turn: &Turn, vault: &Vault) -> bool {
        turn.now >= self.active(vault) + IDLE && !turn.is_in_flight(&self.id)
    }

    /// Where its parts begin, in order.
    fn starts(&self, vault: &Vault) -> Answer<Vec<u64>> {
        let names = disk::names(&self.dir(vault)).map_err(broken("upload"))?;
        Ok(names.iter().filter_map(|name| part::start_of(name)).collect())
    }
}

fn dir(vault: &Vault, id: &str) -> PathBuf {
    vault.dir.join("uploads").join(id)
}

/// The upload of this id; one that was idle for too long goes now.
fn open(turn: &Turn, vault: &Vault, id: &str) -> Answer<Option<Upload>> {
    if !is_id(id, SHORT_ID) {
        return Ok(None);
    }
    let file = dir(vault, id).join("upload.json");
    let upload: Option<Upload> = disk::read_json(&file).map_err(broken("upload"))?;
    match upload {
        Some(upload) if upload.is_idle(turn, vault) => {
            turn.discard(&upload.dir(vault))?;
            Ok(None)
        }
        upload => Ok(upload),
    }
}

fn unknown(id: &str) -> Refusal {
    Refusal::not_found(format!("The upload ID was not found: {id}"))
}

fn find(turn: &Turn, vault: &Vault, id: &str) -> Answer<Upload> {
    open(turn, vault, id)?.ok_or_else(|| unknown(id))
}

/// `InitiateMultipartUpload`.
pub fn initiate(turn: &Turn, asked: &Asked) -> Answer {
    let vault = inventory::vault(turn, &asked.route.vault)?;
    let part_size = asked.count("x-amz-part-size")?;
    if !part_size.is_power_of_two() || !(MIB..=REQUEST).contains(&part_size) {
        return Err(Refusal::invalid(format!(
            "Invalid part size: {part_size}. Part size must be a power of two times 1048576, and \
             at most {REQUEST}"
        )));
    }
    let upload = Upload {
        id: new_id(SHORT_ID)?,
        description: asked.description()?,
        created: turn.now,
        part_size,
    };
    let scratch = turn.scratch()?;
    let to = upload.dir(&vault);
    disk::write_json(&scratch.dir.join("upload.json"), &upload)
        .and_then(|()| fs::rename(&scratch.dir, &to))
        .and_then(|()| disk::sync_parent(&to))
        .map_err(broken("upload"))?;
    Ok(Reply::empty(201)
        .with(
            "Location",
            format!("/{ACCOUNT}/vaults/{}/multipart-uploads/{}", vault.name, upload.id),
        )
        .with("x-amz-multipart-upload-id", upload.id))
}

/// The range that a part says it is.
fn announced(asked: &Asked, upload: &Upload) -> Answer<Range> {
    let text = asked.required("content-range")?;
    let range = Range::of_part(text)
        .ok_or_else(|| Refusal::invalid(format!("Invalid Content-Range: {text}")))?;
    if !range.start.is_multiple_of(upload.part_size) || range.size() > upload.part_size {
        return Err(Refusal::invalid(format!(
            "Content-Range: {text} is incompatible with part size: {}; a part begins at a \
             multiple of it and is at most as long",
            upload.part_size
        )));
    }
    // 10,000 parts of at most 4 GiB stay below the largest archive, 40,000 GiB.
    if range.start / upload.part_size >= PARTS {
        return Err(Refusal::invalid(format!(
            "Content-Range: {text} is past part {PARTS}, the last an upload can have"
        )));
    }
    Ok(range)
}

/// `UploadMultipartPart`, before its bytes.
pub fn begin(turn: &Turn, asked: &Asked) -> Answer<Incoming> {
    let vault = inventory::vault(turn, &asked.route.vault)?;
    let upload = find(turn, &vault, &asked.route.id)?;
    let range = announced(asked, &upload)?;
    let mut incoming = Incoming::announced(turn, asked)?;
    if incoming.size != range.size() {
        return Err(Refusal::invalid(format!(
            "Content-Range: bytes {}-{}/* does not match Content-Length: {}",
            range.start, range.end, incoming.size
        )));
    }
    upload.touch(&vault, turn.now)?;
    turn.set_in_flight(&upload.id, &mut incoming.scratch);
    Ok(incoming)
}

/// `UploadMultipartPart`, after its bytes: the last of several with one range
/// wins.
pub fn commit(turn: &Turn, asked: &Asked, incoming: &Incoming, written: &Written) -> Answer {
    incoming.check(written)?;
    let vault = inventory::vault(turn, &asked.route.vault)?;
    let upload = find(turn, &vault, &asked.route.id)?;
    let range = announced(asked, &upload)?;
    fs::rename(&incoming.file, upload.dir(&vault).join(part::name(range.start)))
        .and_then(|()| disk::sync_dir(&upload.dir(&vault)))
        .map_err(broken("part"))?;
    upload.touch(&vault, turn.now)?;
    Ok(Reply::empty(204).with("x-amz-sha256-tree-hash", written.treehash.to_string()))
}

/// The id of the archive that an upload becomes. Computed, so that a repeated
/// Complete finds the archive without a record of uploads that are gone.
fn archive_id(upload: &str) -> String {
    let blocks = (0u8..).flat_map(|block| Sha256::digest(format!("{block} {upload}")));
    letters(&blocks.take(ARCHIVE_ID).collect::<Vec<u8>>())
}

/// `CompleteMultipartUpload`.
pub fn complete(turn: &Turn, asked: &Asked) -> Answer {
    let mut vault = inventory::vault(turn, &asked.route.vault)?;
    let id = &asked.route.id;
    let size = asked.count("x-amz-archive-size")?;
    let treehash = asked.hash("x-amz-sha256-tree-hash")?;
    let Some(upload) = open(turn, &vault, id)? else {
        // A repeat, after an answer that was lost.
        let archive = archive::find(&vault, &archive_id(id))?
            .filter(|_| is_id(id, SHORT_ID))
            .filter(|archive| turn.now < archive.created + IDLE)
            .ok_or_else(|| unknown(id))?;
        if archive.size != size || archive.treehash != treehash {
            return Err(Refusal::invalid(format!(
                "The upload {id} was completed with another size or tree hash"
            )));
        }
        return Ok(archive.stored(&vault.name));
    };
    let (mut at, mut fold) = (0, Fold::default());
    let starts = upload.starts(&vault)?;
    for start in &starts {
        if *start != at {
            return Err(gap(at, *start));
        }
        let part = Part::open(&upload.dir(&vault), *start).map_err(broken("part"))?;
        at += part.size;
        fold.push(part.treehash);
    }
    if at != size || starts.is_empty() {
        return Err(Refusal::invalid(format!(
            "The archive size {size} does not match the {at} bytes of the uploaded parts"
        )));
    }
    let found = fold.finish();
    if found != treehash {
        return Err(Refusal::invalid(format!(
            "Checksum mismatch: expected {treehash} but got {found}"
        )));
    }
    let archive = Archive {
        id: archive_id(id),
        description: upload.description.clone(),
        created: turn.now,
        size,
        treehash,
        part_size: upload.part_size,
    };
    vault.note_change(turn.now)?;
    archive::place(&vault, &upload.dir(&vault), &archive)?;
    Ok(archive.stored(&vault.name))
}

fn gap(from: u64, to: u64) -> Refusal {
    Refusal::invalid(format!("The uploaded parts leave out bytes {from}-{}", to.saturating_sub(1)))
}

/// `AbortMultipartUpload`.
pub fn abort(turn: &Turn, asked: &Asked) -> Answer {
    let vault = inventory::vault(turn, &asked.route.vault)?;
    let upload = find(turn, &vault, &asked.route.id)?;
    turn.discard(&upload.dir(&vault))?;
    Ok(Reply::empty(204))
}

/// Has an upload vanish, as if its day were over.
pub fn forget(turn: &Turn, asked: &Asked, id: &str) -> Answer<()> {
    let vault = inventory::vault(turn, &asked.route.vault)?;
    match open(turn, &vault, id)? {
        Some(upload) => turn.discard(&upload.dir(&vault)),
        None => Ok(()),
    }
}

/// `ListParts`. A marker is the first byte of the page's first part.
pub fn parts(turn: &Turn, asked: &Asked) -> Answer {
    let vault = inventory::vault(turn, &asked.route.vault)?;
    let upload = find(turn, &vault, &asked.route.id)?;
    let page = asked.page()?;
    let from = match page.marker {
        None => 0,
        Some(text) => {
            number(text).ok_or_else(|| Refusal::invalid(format!("Invalid marker: {text}")))?
        }
    };
    let starts = upload.starts(&vault)?.into_iter().filter(|start| *start >= from).collect();
    let (starts, marker) = cut(starts, page.limit, u64::to_string);
    let parts = starts
        .iter()
        .map(|start| {
            let part = Part::open(&upload.dir(&vault), *start).map_err(broken("part"))?;
            let end = start + part.size - 1;
            Ok(json!({ "RangeInBytes": format!("{start}-{end}"), "SHA256TreeHash": part.treehash }))
        })
        .collect::<Answer<Vec<Value>>>()?;
    let mut reply = entry(&upload, &vault);
    if let Some(fields) = reply.as_object_mut() {
        fields.insert("Marker".to_owned(), marker);
        fields.insert("Parts".to_owned(), Value::Array(parts));
    }
    Ok(Reply::json(reply))
}

fn entry(upload: &Upload, vault: &Vault) -> Value {
    json!({
        "ArchiveDescription": (!upload.description.is_empty()).then_some(&upload.description),
        "CreationDate": stamp(upload.created),
        "MultipartUploadId": upload.id,
        "PartSizeInBytes": upload.part_size,
        "VaultARN": vault.arn,
    })
}

/// All uploads of a vault by their ids; those idle for too long go now.
pub fn sweep(turn: &Turn, vault: &Vault) -> Answer<Vec<Value>> {
    let mut found = Vec::new();
    for id in disk::names(&vault.dir.join("uploads")).map_err(broken("uploads"))? {
        found.extend(open(turn, vault, &id)?.map(|upload| entry(&upload, vault)));
    }
    Ok(found)
}

/// `ListMultipartUploads`. A marker is the id of the page's first upload.
pub fn list(turn: &Turn, asked: &Asked) -> Answer {
    let vault = inventory::vault(turn, &asked.route.vault)?;
    let page = asked.page()?;
    let id = |upload: &Value| {
        upload.get("MultipartUploadId").and_then(Value::as_str).unwrap_or_default().to_owned()
    };
    let mut uploads = sweep(turn, &vault)?;
    uploads.retain(|upload| page.marker.is_none_or(|marker| id(upload).as_str() >= marker));
    let (uploads, marker) = cut(uploads, page.limit, id);
    Ok(Reply::json(json!({ "Marker": marker, "UploadsList": uploads })))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_upload_always_becomes_the_same_archive() {
        let upload = new_id(SHORT_ID).unwrap();
        assert!(is_id(&archive_id(&upload), ARCHIVE_ID));
        assert_eq!(archive_id(&upload), archive_id(&upload));
        assert_ne!(archive_id(&upload), archive_id(&new_id(SHORT_ID).unwrap()));
    }
}
