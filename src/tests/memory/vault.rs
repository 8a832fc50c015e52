//! What only a vault does: jobs of hours, and inventories of yesterday.

use super::*;

impl MemoryStorage {
    /// When the last inventory was made.
    pub(super) fn midnight(&self) -> Timestamp {
        let now = self.now.get().as_second();
        Timestamp::from_second(now - now % 86_400).unwrap()
    }

    /// What was there then.
    pub(super) fn listed(&self, made: Timestamp) -> impl Iterator<Item = Stored> {
        let archives = self.archives.borrow().clone();
        archives.into_iter().filter(move |archive| {
            archive.made <= made && archive.deleted.is_none_or(|deleted| deleted > made)
        })
    }

    /// What a service says of bytes that it took.
    pub(super) fn sent(&self, bytes: &[u8]) -> Sent {
        match self.face {
            Face::Vault => {
                Sent { proof: Some(Proof::Tree(crate::hash::tree::TreeHash::of(bytes))), tag: None }
            }
            Face::S3 => {
                let hash = sha256(bytes);
                let tag = hash.to_string().get(..32).map(|text| format!("\"{text}\""));
                Sent { proof: Some(Proof::Sha256(hash)), tag }
            }
        }
    }

    pub(super) fn as_a_vault(
        &self,
        upload: &Upload,
        seal: &Seal,
        bytes: Vec<u8>,
    ) -> Attempt<Stored> {
        if fold(upload) != seal.treehash {
            return Err(invalid("its tree hash is another"));
        }
        Ok(Stored {
            id: self.name("archive"),
            version: None,
            bytes,
            described: upload.about.text().unwrap(),
            checksum: Proof::Tree(seal.treehash),
            made: self.now.get(),
            deleted: None,
            lock: None,
            class: None,
            restored: None,
        })
    }

    pub(super) fn look_into_inventory(
        &self,
        about: &Description,
        seal: &Seal,
        ticket: Option<&Id>,
    ) -> Reply<Lookup> {
        let task = self.tasks.borrow().iter().find(|it| Some(&it.job.id) == ticket).cloned();
        let Some(task) = task.filter(|task| self.state(task) != State::Over) else {
            return self.answer(Lookup::Later(Some(self.begin_inventory())));
        };
        if self.state(&task) == State::Waiting {
            return self.answer(Lookup::Later(Some(task.job.id)));
        }
        let made = Self::made(&task);
        let found = self.listed(made).find(|archive| {
            about.identifies(&archive.described)
                && archive.checksum == Proof::Tree(seal.treehash)
                && archive.bytes.len() as u64 == seal.size
        });
        let absent = Lookup::Absent { as_of: made };
        self.answer(found.map_or(absent, |archive| Lookup::Same(Self::seen(&archive))))
    }

    /// An inventory is of the midnight before it was asked for.
    fn made(task: &Task) -> Timestamp {
        let asked = task.asked.as_second();
        Timestamp::from_second(asked - asked % 86_400).unwrap()
    }

    fn begin(&self, archive_id: Option<&Id>, range: Option<Span>, tier: Option<Tier>) -> Id {
        let id = self.name("job");
        let asked = self.now.get();
        let takes = if self.instant.get() { SignedDuration::ZERO } else { JOB };
        let job = Job {
            id: id.clone(),
            archive_id: archive_id.cloned(),
            range,
            state: JobState::Waiting,
            tier,
            created: Some(asked),
            completed: None,
            size: None,
            partial: false,
        };
        let ready = Some(asked + takes);
        self.tasks.borrow_mut().push(Task {
            job,
            asked,
            ready,
            failed: false,
            gone: false,
            hidden: false,
        });
        id
    }

    fn begin_inventory(&self) -> Id {
        self.begin(None, None, None)
    }

    pub(super) fn begin_job(&self, want: Want<'_>, tier: Tier) -> Attempt<Requested> {
        self.all().iter().find(|it| it.id == *want.archive).ok_or_else(|| missing("archive"))?;
        let is_usable = |task: &Task| {
            task.job.archive_id.as_ref() == Some(want.archive)
                && task.job.range == want.span
                && !task.gone
                && matches!(self.state(task), State::Waiting | State::Ready)
        };
        // Each costs money.
        if self.tasks.borrow().iter().any(is_usable) {
            self.needless.set(self.needless.get() + 1);
        }
        Ok(Requested::Begun(self.begin(Some(want.archive), want.span, Some(tier))))
    }

    /// Lists a job of an archive that somebody else began.
    pub fn begun_before(&self, id: &str, archive: &str, range: Option<Span>) {
        let own = self.begin(Some(&archive.into()), range, None);
        self.change(&own, |task| task.job.id = id.into());
    }

    fn change(&self, job: &str, change: impl Fn(&mut Task)) {
        self.tasks.borrow_mut().iter_mut().filter(|it| it.job.id.as_str() == job).for_each(change);
    }

    /// What the next job will be called.
    pub fn next_job(&self) -> Id {
        format!("job-{}", self.names.get() + 1).into()
    }

    /// A job fails.
    pub fn fail(&self, job: &str) {
        self.change(job, |task| task.failed = true);
    }

    /// A job is ready now, or not before this is called again.
    pub fn ready(&self, job: &str, is: bool) {
        self.change(job, |task| task.ready = Some(self.now.get()).filter(|_| is));
    }

    /// The output of a job is gone, though it is listed.
    pub fn lose_output(&self, job: &str) {
        self.change(job, |task| task.gone = true);
    }

    /// A job is not listed, and known if it is asked after.
    pub fn hide(&self, job: &str, is: bool) {
        self.change(job, |task| task.hidden = is);
    }

    /// A job is known no more.
    pub fn forget_job(&self, job: &str) {
        self.tasks.borrow_mut().retain(|it| it.job.id.as_str() != job);
    }

    /// The jobs whose output is gone, though they are listed.
    pub fn lost(&self) -> Vec<Id> {
        let tasks = self.tasks.borrow();
        tasks.iter().filter(|task| task.gone).map(|task| task.job.id.clone()).collect()
    }

    fn state(&self, task: &Task) -> State {
        let now = self.now.get();
        match task.ready {
            _ if task.failed => State::Failed,
            Some(ready) if now >= ready + SignedDuration::from_hours(24) => State::Over,
            Some(ready) if now >= ready => State::Ready,
            _ => State::Waiting,
        }
    }

    /// The jobs that are known.
    pub fn jobs(&self) -> Vec<Job> {
        let tasks = self.tasks.borrow();
        let known = tasks.iter().filter(|task| self.state(task) != State::Over);
        let job = |task: &Task| Job {
            state: match self.state(task) {
                State::Failed => JobState::Failed("it was told to".into()),
                State::Ready => JobState::Ready,
                _ => JobState::Waiting,
            },
            completed: task.ready.filter(|ready| *ready <= self.now.get()),
            ..task.job.clone()
        };
        known.map(job).collect()
    }

    pub(super) fn by_jobs(&self, sought: &Sought<'_>) -> Readiness {
        let of = |job: Job| match job.state {
            JobState::Waiting => {
                Readiness::Coming { ticket: job.id, since: job.created, tier: job.tier }
            }
            JobState::Ready => {
                let until = job.completed.map(|done| done + SignedDuration::from_hours(24));
                Readiness::Ready { ticket: job.id, since: job.created, tier: job.tier, until }
            }
            JobState::Failed(why) => Readiness::Failed(why),
        };
        let mut jobs = self.jobs();
        jobs.retain(|job| job.archive_id.as_deref() == Some(sought.want.archive));
        jobs.retain(|job| job.range == sought.want.span);
        let own = jobs.iter().find(|job| sought.ticket == Some(&job.id)).cloned();
        jobs.retain(|job| !sought.gone.contains(&job.id));
        let tasks = self.tasks.borrow();
        jobs.retain(|job| tasks.iter().any(|task| task.job.id == job.id && !task.hidden));
        jobs.retain(|job| !matches!(job.state, JobState::Failed(_)));
        jobs.sort_by_key(|job| (job.state == JobState::Ready, own.as_ref() == Some(job)));
        match (jobs.pop().or(own), sought.ticket) {
            (Some(job), _) => of(job),
            (None, Some(_)) => Readiness::Failed("no such job".into()),
            (None, None) => Readiness::Cold,
        }
    }

    /// The bytes of an archive, if the output of its job can be fetched.
    pub(super) fn output(&self, ticket: &Id, want: Want<'_>) -> Attempt<Vec<u8>> {
        let task = self.tasks.borrow().iter().find(|it| it.job.id == *ticket).cloned();
        let task = task.filter(|it| !it.gone).ok_or_else(|| missing("job"))?;
        match self.state(&task) {
            State::Ready => {}
            State::Waiting => return Err(invalid("it is not ready")),
            _ => return Err(missing("job")),
        }
        assert_eq!((task.job.archive_id.as_ref(), task.job.range), (Some(want.archive), want.span));
        let mut all = self.all().into_iter();
        all.find(|it| it.id == *want.archive).map(|it| it.bytes).ok_or_else(|| missing("archive"))
    }

    pub(super) fn list_as_a_vault(
        &self,
        ticket: Option<&Id>,
        each: &mut dyn FnMut(Seen),
    ) -> Listing {
        let mut known: Vec<Task> = self.tasks.borrow().clone();
        known.retain(|task| task.job.archive_id.is_none() && !task.gone);
        if known.iter().any(|it| it.failed && Some(&it.job.id) == ticket) {
            return Listing::Failed("it was told to".into());
        }
        known.retain(|task| matches!(self.state(task), State::Waiting | State::Ready));
        known.sort_by_key(|task| (self.state(task) == State::Ready, task.asked));
        match known.pop() {
            None => Listing::Later(self.begin_inventory()),
            Some(task) if self.state(&task) == State::Waiting => Listing::Later(task.job.id),
            Some(task) => {
                let made = Self::made(&task);
                self.listed(made).map(|archive| Self::seen(&archive)).for_each(each);
                Listing::AsOf(made)
            }
        }
    }
}

/// How far a job is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum State {
    Waiting,
    Ready,
    Failed,
    /// It is known no more.
    Over,
}
