//! The request log: a line for each request, of those that are never
//! answered too.

use std::sync::Arc;
use std::time::Instant;

use hyper::HeaderMap;
use hyper::http::request::Parts;
use jiff::Timestamp;
use serde::Serialize;

use super::Server;
use super::call::{Call, Route};

/// A line of the request log.
#[derive(Serialize)]
pub struct Line {
    r#type: &'static str,
    /// The real time of the end.
    time: String,
    /// The real time at which the request's head had come.
    begin: String,
    call: String,
    path: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    upload: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    job: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    archive: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    range: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    fault: Option<&'static str>,
    received: u64,
    sent: u64,
    ms: u64,
}

/// What becomes of one request. Its line is written when it has an end, or
/// when nothing is done about it any more.
pub struct Record {
    server: Arc<Server>,
    started: Instant,
    line: Line,
    is_written: bool,
}

fn now() -> String {
    Timestamp::now().strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_string()
}

impl Record {
    /// Begins the record of a request.
    pub fn new(
        server: &Arc<Server>,
        parts: &Parts,
        route: Option<&Route>,
        fault: Option<&'static str>,
    ) -> Self {
        let mut line = Line {
            r#type: "request",
            time: String::new(),
            begin: now(),
            call: route.map_or_else(|| "unknown".to_owned(), |route| format!("{:?}", route.call)),
            path: parts.uri.path().to_owned(),
            upload: None,
            job: None,
            archive: None,
            range: range(&parts.headers),
            status: None,
            code: None,
            fault,
            received: 0,
            sent: 0,
            ms: 0,
        };
        if let Some(route) = route.filter(|route| !route.id.is_empty()) {
            let named = match route.call {
                Call::DeleteArchive => Some(&mut line.archive),
                Call::DescribeJob | Call::GetJobOutput => Some(&mut line.job),
                Call::UploadMultipartPart
                | Call::CompleteMultipartUpload
                | Call::AbortMultipartUpload
                | Call::ListParts => Some(&mut line.upload),
                _ => None,
            };
            if let Some(named) = named {
                *named = Some(route.id.clone());
            }
        }
        Self { server: Arc::clone(server), started: Instant::now(), line, is_written: false }
    }

    /// So many more bytes of the request's body were read.
    pub fn received(&mut self, bytes: usize) {
        self.line.received += u64::try_from(bytes).unwrap_or(0);
    }

    /// So many bytes of the answer's body have been handed over.
    pub fn sent(&mut self, bytes: u64) {
        self.line.sent = bytes;
    }

    /// Notes what the answer names.
    pub fn names(&mut self, headers: &[(&'static str, String)]) {
        for (name, value) in headers {
            let named = match *name {
                "x-amz-multipart-upload-id" => &mut self.line.upload,
                "x-amz-job-id" => &mut self.line.job,
                "x-amz-archive-id" => &mut self.line.archive,
                _ => continue,
            };
            *named = Some(value.clone());
        }
    }

    /// The answer goes out.
    pub fn answered(&mut self, status: u16, code: Option<String>) {
        self.line.status = Some(status);
        self.line.code = code;
    }

    /// Writes the line, once.
    pub fn write(&mut self) {
        if self.is_written {
            return;
        }
        self.is_written = true;
        self.line.time = now();
        self.line.ms = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.server.log(&self.line);
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        self.write();
    }
}

/// The bytes that a request is about.
fn range(headers: &HeaderMap) -> Option<String> {
    let value = headers.get("content-range").or_else(|| headers.get("range"))?;
    Some(value.to_str().ok()?.to_owned())
}
