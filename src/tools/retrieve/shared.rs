//! A vault as many samples share it.
//!
//! Each sample waits for its job by itself, so that one that fails ends no
//! other. All look at the same list of jobs at the same time, and so it is
//! asked for once.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::time::{Duration, Instant};

use tokio::sync::Mutex;

use crate::hash::tree::Hash;
use crate::storage::{Attempt, Body, Dest, Failure, Inventory, Job, Listed, Span, Tier, Vault};

/// How old a list may be; those who want one at the same time come within it.
const FRESH: Duration = Duration::from_millis(500);

/// A vault whose list of jobs is shared for a moment.
pub struct Shared<'a, V> {
    vault: &'a V,
    list: Mutex<Option<(Instant, u64, Vec<Job>)>>,
    /// Requests that failed, and may have been taken all the same: what was
    /// listed before one does not tell.
    unsure: Cell<u64>,
    /// Archives that are not there, and what the service says of them.
    missing: RefCell<HashMap<String, String>>,
}

impl<'a, V> Shared<'a, V> {
    /// Nothing is asked yet.
    pub fn new(vault: &'a V) -> Self {
        Self { vault, list: Mutex::default(), unsure: Cell::default(), missing: RefCell::default() }
    }

    /// What the service said when it did not find an archive.
    pub fn missing(&self, archive: &str) -> Option<String> {
        self.missing.borrow().get(archive).cloned()
    }
}

impl<V: Vault> Vault for Shared<'_, V> {
    fn dest(&self) -> &Dest {
        self.vault.dest()
    }

    fn region(&self) -> &str {
        self.vault.region()
    }

    async fn create(&self) -> Attempt<()> {
        self.vault.create().await
    }

    async fn archives(&self) -> Attempt<u64> {
        self.vault.archives().await
    }

    async fn initiate(&self, description: &str, part_size: u64) -> Attempt<String> {
        self.vault.initiate(description, part_size).await
    }

    async fn send(&self, upload: &str, offset: u64, body: &Body) -> Attempt<()> {
        self.vault.send(upload, offset, body).await
    }

    async fn parts(&self, upload: &str) -> Attempt<Vec<Listed>> {
        self.vault.parts(upload).await
    }

    async fn complete(&self, upload: &str, size: u64, treehash: Hash) -> Attempt<String> {
        self.vault.complete(upload, size, treehash).await
    }

    async fn abort(&self, upload: &str) -> Attempt<()> {
        self.vault.abort(upload).await
    }

    async fn retrieve(&self, archive: &str, range: Option<Span>, tier: Tier) -> Attempt<String> {
        let answer = self.vault.retrieve(archive, range, tier).await;
        if let Err(failure) = &answer {
            self.unsure.set(self.unsure.get() + 1);
            if let Failure::Missing(why) = failure {
                self.missing.borrow_mut().insert(archive.to_owned(), why.clone());
            }
        }
        answer
    }

    async fn request_inventory(&self) -> Attempt<String> {
        self.vault.request_inventory().await
    }

    async fn job(&self, job: &str) -> Attempt<Job> {
        self.vault.job(job).await
    }

    async fn jobs(&self) -> Attempt<Vec<Job>> {
        let mut list = self.list.lock().await;
        if let Some((time, unsure, jobs)) = list.as_ref()
            && *unsure == self.unsure.get()
            && time.elapsed() < FRESH
        {
            return Ok(jobs.clone());
        }
        let unsure = self.unsure.get();
        let jobs = self.vault.jobs().await?;
        *list = Some((Instant::now(), unsure, jobs.clone()));
        Ok(jobs)
    }

    async fn fetch(
        &self,
        job: &str,
        offset: u64,
        size: u64,
        sink: &mut dyn FnMut(&[u8]),
    ) -> Attempt<()> {
        self.vault.fetch(job, offset, size, sink).await
    }

    async fn inventory(&self, job: &str) -> Attempt<Inventory> {
        self.vault.inventory(job).await
    }

    async fn retrieval_policy(&self) -> Option<String> {
        self.vault.retrieval_policy().await
    }
}
