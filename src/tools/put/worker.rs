//! The worker: makes the requests that the plan wants, several at a time, and
//! does here what it says.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Once};
use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use jiff::{SignedDuration, Timestamp};

use super::forecast::{Meter, Speed};
use super::gate::{Gate, Gates};
use super::inbox::{Inbox, NOT_WHOLE};
use super::plan::{Action, Ask, Effect, Outcome, Plan};
use super::{Settings, manifest};
use crate::error::{Error, Result};
use crate::hash::tree::Hash;
use crate::line::{Failed, Line, Stamp, now};
use crate::process;
use crate::process::peers;
use crate::process::progress::Progress;
use crate::spool::journal::{Record, Target};
use crate::spool::{Spool, StreamDir};
use crate::storage::concurrency::Lanes;
use crate::storage::rate_limit::Uplink;
use crate::storage::retry::{Patience, Trouble};
use crate::storage::{Attempt, Body, Failure, Place, Terms, Uploads};
use crate::tools::put::log::Ledger;
use crate::tools::put::upload::Piece;
use crate::tools::receipts;
use crate::units;

/// How often to look at the neighbours, the clock and the progress.
pub const TICK: Duration = Duration::from_secs(1);

/// After so many ticks without a byte, what is in flight of a stream that will
/// not be whole today is not waited for.
pub const HOPELESS: u32 = 10;

/// The parts in flight are not so many that they take longer than this.
const LONG: Duration = Duration::from_mins(5);

/// How often it is written down that the service took a part.
const HOUR: Duration = Duration::from_hours(1);

/// How long a chunk that has printed its last line may take to end.
const LEAVING: Duration = Duration::from_secs(5);

/// How far apart two clocks may be before that is told.
const SKEW: SignedDuration = SignedDuration::from_mins(5);

/// A request on its way; ends with what came of it.
type Running<'a> = Pin<Box<dyn Future<Output = Done> + 'a>>;

/// What a request came to; none for the dropping of an upload.
struct Done {
    action: Option<(Action, Arc<AtomicU64>)>,
    result: Attempt<Outcome>,
}

/// One stream's work.
pub struct Worker<'a, V> {
    vault: &'a V,
    spool: &'a Spool,
    directory: &'a StreamDir,
    settings: &'a Settings,
    plan: Plan,
    ledger: Ledger<'a>,
    gates: Gates,
    running: FuturesUnordered<Running<'a>>,
    /// Bytes of the parts in flight, for progress.
    moving: Vec<Arc<AtomicU64>>,
    lanes: Rc<Lanes>,
    uplink: Uplink,
    /// How far the service's clock is ahead of this machine's.
    skew: Rc<Cell<SignedDuration>>,
    troubles: BTreeMap<(Target, Option<usize>), Trouble>,
    input_ended: bool,
    failed: Option<Failed>,
    /// Ticks in which nothing moved, and how much had moved then.
    still: (u32, u64),
    meter: Meter,
    /// When the meter was read last, and how much had moved then.
    metered: (Instant, u64),
    /// When it was last written down that a part was taken.
    moved: Option<Instant>,
    /// A volume that is too large for the window was told.
    is_warned: bool,
    progress: Progress,
}

impl<'a, V: Uploads> Worker<'a, V> {
    /// Prepares the work on a stream.
    pub fn new(
        vault: &'a V,
        spool: &'a Spool,
        directory: &'a StreamDir,
        settings: &'a Settings,
        plan: Plan,
        ledger: Ledger<'a>,
        uplink: Uplink,
    ) -> Self {
        let progress = Progress::new(settings.quiet);
        progress.say(|| plan.stream().name.clone());
        Self {
            vault,
            spool,
            directory,
            settings,
            plan,
            ledger,
            gates: Gates::default(),
            running: FuturesUnordered::new(),
            moving: Vec::new(),
            lanes: Rc::new(Lanes::new(settings.concurrency)),
            uplink,
            skew: Rc::default(),
            troubles: BTreeMap::new(),
            input_ended: false,
            failed: None,
            still: (0, 0),
            meter: Meter::default(),
            metered: (Instant::now(), 0),
            moved: None,
            is_warned: false,
            progress,
        }
    }

    /// Works until the stream is stored, or cannot be today.
    ///
    /// # Errors
    /// Why it is not stored.
    pub async fn run(mut self, inbox: &mut Inbox) -> Result<()> {
        let id = self.directory.id();
        let mut tick = tokio::time::interval(TICK);
        loop {
            self.start()?;
            if self.plan.is_finished() {
                return Ok(());
            }
            if self.running.is_empty() && self.input_ended && !self.may_wait() {
                return Err(self.verdict());
            }
            tokio::select! {
                biased;
                message = inbox.next_of(id), if !self.input_ended => {
                    // What could not be read names its line already.
                    let message = message.transpose()?;
                    self.take(message).map_err(|e| inbox.blame(e))?;
                    // All that is there at once, as the plan is asked between.
                    while !self.input_ended && inbox.has_more() {
                        let message = inbox.next_of(id).await.transpose()?;
                        self.take(message).map_err(|e| inbox.blame(e))?;
                    }
                }
                Some(done) = self.running.next(), if !self.running.is_empty() => {
                    self.finished(done)?;
                }
                _ = tick.tick() => {
                    peers::wait(Duration::ZERO)?;
                    if self.is_hopeless() {
                        return Err(self.verdict());
                    }
                    self.show();
                }
            }
        }
    }

    /// Whether nothing moves any more of a stream that will not be whole
    /// today. Asked once a tick.
    fn is_hopeless(&mut self) -> bool {
        let moving: u64 = self.moving.iter().map(|taken| taken.load(Ordering::Relaxed)).sum();
        let moved = self.plan.progress().1.wrapping_add(moving);
        let cut = self.input_ended && !self.plan.has_end();
        let (ticks, before) = self.still;
        self.still = (if cut && moved == before { ticks + 1 } else { 0 }, moved);
        self.still.0 > HOPELESS
    }

    /// Takes the next line, or the end of the input.
    fn take(&mut self, message: Option<(u64, Line, Stamp)>) -> Result<()> {
        let effects = match message {
            None => {
                self.input_ended = true;
                Vec::new()
            }
            Some((_, Line::Failed(failed), _)) => {
                self.failed = Some(failed);
                self.input_ended = true;
                Vec::new()
            }
            Some((_, line, stamp)) => {
                let stamp = self.gates.number(stamp)?;
                match self.plan.take(line, stamp) {
                    Ok(effects) => effects,
                    Err(error) => {
                        // chunk spools what the journal under way does not
                        // have. Where there is none it takes the word of a
                        // receipt, perhaps of another destination.
                        if matches!(error, Error::Unfinished(_)) {
                            self.ledger.begin()?;
                        }
                        return Err(self.named(error));
                    }
                }
            }
        };
        self.perform(effects)
    }

    /// Adds to the error that a stored volume differs which part is the first.
    fn named(&self, error: Error) -> Error {
        let Some((volume, now)) = self.plan.difference() else { return error };
        let receipts = self.spool.receipts(self.directory.id()).unwrap_or_default();
        let then = self.ledger.hashes(receipts, volume).unwrap_or_default();
        match now.iter().zip(&then).position(|(now, then)| now != then) {
            Some(part) => Error::Data(format!(
                "volume {volume} part {part}: the stream is stored, and its bytes were others; nothing is sent"
            )),
            None => error,
        }
    }

    /// What the service's clock says, as far as it was heard: what is proven by
    /// an order of times is proven by those of one clock.
    fn time(&self) -> Timestamp {
        Timestamp::now() + self.skew.get()
    }

    /// Tells, once a run, that this machine's clock is wrong.
    fn tell_skew(&self) {
        static TOLD: Once = Once::new();
        let skew = self.skew.get();
        if skew.abs() > SKEW {
            TOLD.call_once(|| {
                let way = if skew.is_negative() { "ahead of" } else { "behind" };
                process::warn(&format!(
                    "this machine's clock is {} min {way} that of {}, which counts for what is stored",
                    skew.abs().as_mins(),
                    self.vault.dest()
                ));
            });
        }
    }

    /// Starts what can be started.
    fn start(&mut self) -> Result<()> {
        while self.running.len() < self.lanes.open().min(self.useful()) {
            let gates = &self.gates;
            let open = |stamp| gates.gate(stamp).is_open();
            let Some((effects, action)) = self.plan.next(self.time(), open)? else { break };
            self.perform(effects)?;
            let attempt = self.attempt(action, Duration::ZERO)?;
            self.running.push(attempt);
        }
        Ok(())
    }

    /// How many parts at a time are of use: at a low rate one after the other
    /// goes no slower than all at once, and what the window's close cuts off
    /// is less.
    fn useful(&self) -> usize {
        let Some(rate) = self.gates.slowest() else { return usize::MAX };
        let parts = rate.saturating_mul(LONG.as_secs()) / self.plan.stream().part_size.max(1);
        usize::try_from(parts).unwrap_or(usize::MAX).max(1)
    }

    /// One attempt at an action, after a pause.
    fn attempt(&mut self, action: Action, pause: Duration) -> Result<Running<'a>> {
        let vault = self.vault;
        let target = action.target;
        let taken = Arc::new(AtomicU64::new(0));
        let mut body = None;
        if let Ask::Send { part, offset, piece, .. } = &action.ask {
            let file = self.file(target, *part, piece.size)?;
            let start = match target {
                Target::Volume(_) => 0,
                Target::Manifest => self.plan.stream().part_size * *part as u64,
            };
            self.moving.push(Arc::clone(&taken));
            let gate = self.gates.gate(piece.stamp);
            let pace = self.uplink.pace(gate.rate());
            let at = Place { part: number(target, *part)?, offset: *offset };
            body = Some((
                gate,
                at,
                Body {
                    file: Arc::new(file),
                    start,
                    size: piece.size,
                    treehash: piece.treehash,
                    sha256: piece.sha256,
                    taken: Arc::clone(&taken),
                    pace,
                },
            ));
        }
        let part_size = self.plan.stream().part_size;
        let terms = self.terms(target);
        let grace = self.settings.grace;
        let lanes = Rc::clone(&self.lanes);
        let skew = Rc::clone(&self.skew);
        let heard = move |at: Timestamp| skew.set(at.duration_since(Timestamp::now()));
        Ok(Box::pin(async move {
            tokio::time::sleep(pause).await;
            let _lane = lanes.enter().await;
            let result = match &action.ask {
                Ask::Begin { about } => {
                    let begun = vault.begin(about, part_size, &terms).await;
                    begun.inspect(|begun| heard(begun.at)).map(|it| Outcome::Begun(it.value.upload))
                }
                Ask::List { upload } => {
                    let held = vault.held(upload, part_size).await;
                    held.inspect(|held| heard(held.at)).map(|it| Outcome::Held(it.value))
                }
                Ask::Send { upload, .. } => match &body {
                    // I7: the window is looked at when the request starts,
                    // and while its bytes flow.  Held by
                    // tests/put.rs::sends_nothing_while_the_window_is_closed
                    // and a_clock_that_jumps_sends_nothing_outside_of_the_window.
                    Some((gate, at, body)) if gate.is_open() => tokio::select! {
                        sent = vault.send(upload, *at, body) => {
                            sent.inspect(|sent| heard(sent.at)).map(|it| Outcome::Sent(it.value))
                        }
                        () = gate.closed(grace) => Ok(Outcome::Stopped),
                    },
                    _ => Ok(Outcome::Stopped),
                },
                Ask::Complete { upload, seal, .. } => {
                    vault.complete(upload, seal).await.map(Outcome::Completed)
                }
                Ask::LookUp { about, seal, ticket } => {
                    vault.look_up(about, seal, ticket.as_ref()).await.map(Outcome::LookedUp)
                }
            };
            Done { action: Some((action, taken)), result }
        }))
    }

    /// How an archive is to be kept.
    fn terms(&self, target: Target) -> Terms {
        let Settings { class, manifest_class, .. } = self.settings;
        let class = match target {
            Target::Volume(_) => class,
            Target::Manifest => manifest_class,
        };
        Terms { class: class.clone(), ..Terms::default() }
    }

    /// The file that holds a part.
    fn file(&self, target: Target, part: usize, size: u64) -> Result<std::fs::File> {
        let file = match target {
            Target::Volume(volume) => self.directory.part(volume, number(target, part)?, size)?,
            Target::Manifest => self.directory.manifest()?,
        };
        file.ok_or_else(|| {
            Error::Unfinished(format!(
                "{target} part {part}: not in the spool as it was announced; run glacier-chunk again, with the same spool"
            ))
        })
    }

    fn finished(&mut self, done: Done) -> Result<()> {
        let Some((action, taken)) = done.action else {
            if let Err(failure) = done.result {
                process::warn(&format!(
                    "an upload that is of no more use stays for a day: {failure}"
                ));
            }
            return Ok(());
        };
        self.moving.retain(|moving| !Arc::ptr_eq(moving, &taken));
        // Its answer came just now; a clock may be set while a part is sent.
        if matches!(action.ask, Ask::Complete { .. }) {
            self.tell_skew();
        }
        let part = match &action.ask {
            Ask::Send { part, .. } => Some(*part),
            _ => None,
        };
        let key = (action.target, part);
        let failure = match done.result {
            Ok(outcome) => {
                self.troubles.remove(&key);
                self.lanes.worked();
                if matches!(outcome, Outcome::Sent(_))
                    && self.moved.is_none_or(|moved| moved.elapsed() >= HOUR)
                {
                    self.ledger.record(&Record::Moved { at: now() })?;
                    self.moved = Some(Instant::now());
                }
                let effects = self.plan.done(&action, outcome)?;
                return self.perform(effects);
            }
            Err(failure) => failure,
        };
        if !self.plan.wants(&action) {
            return Ok(());
        }
        self.lanes.failed(&failure);
        let now = self.time();
        let trouble = self.troubles.entry(key).or_default();
        let tried = trouble.is_repeated();
        if let Some(effects) = self.plan.heal(&action, &failure, tried, now) {
            self.troubles.remove(&key);
            return self.perform(effects);
        }
        // A stream that will not be whole today is not worth waiting for.
        let hopeless = self.input_ended && !self.plan.has_end();
        let limit = if hopeless { Duration::ZERO } else { self.settings.patience };
        let thing = match part {
            Some(part) => format!("{} part {part}", action.target),
            None => format!("{}: {}", self.vault.dest(), action.target),
        };
        match (Patience { limit }).after(trouble, failure) {
            Ok(pause) => {
                let attempt = self.attempt(action, pause)?;
                self.running.push(attempt);
                Ok(())
            }
            Err(Failure::Missing(why)) if matches!(action.ask, Ask::Begin { .. }) => {
                let dest = self.vault.dest();
                Err(Error::Refused(format!("{dest}: {why}; {} makes one", dest.creates())))
            }
            Err(failure) => match self.read_again(&action)? {
                None => Err(failure.on(&thing)),
                Some(sha256) => {
                    process::warn(&format!(
                        "{thing}: its tree hash is right, and the sha256 in its line is not; sent with the right one"
                    ));
                    let action = self.plan.corrected(action, sha256);
                    let attempt = self.attempt(action, Duration::ZERO)?;
                    self.running.push(attempt);
                    Ok(())
                }
            },
        }
    }

    /// Whether a part that could not be sent is still what was announced. If
    /// all but its linear hash is, the true one: spools of version 0.1.0 may
    /// hold a wrong one, beside a tree hash on which two programs now agree.
    ///
    /// # Errors
    /// When it is not, or cannot be read any more.
    fn read_again(&self, action: &Action) -> Result<Option<Hash>> {
        let (Target::Volume(volume), Ask::Send { part, piece, .. }) = (action.target, &action.ask)
        else {
            return Ok(None);
        };
        let file = self.file(action.target, *part, piece.size)?;
        let now = Piece::read(file, piece.size)
            .map_err(|e| Error::io(format!("volume {volume} part {part}: cannot read"), e))?;
        match now {
            Some(now) if now.treehash == piece.treehash => {
                Ok(Some(now.sha256).filter(|sha256| *sha256 != piece.sha256))
            }
            _ => Err(Error::Data(format!(
                "volume {volume} part {part}: damaged in the spool; run glacier-chunk on the same stream again"
            ))),
        }
    }

    /// Does what the plan says, in its order.
    fn perform(&mut self, effects: Vec<Effect>) -> Result<()> {
        for effect in effects {
            match effect {
                Effect::Record(record) => self.ledger.record(&record)?,
                // I2: catalog and journal are on disk before the parts go.
                Effect::Publish(lines) => self.ledger.publish(&lines)?,
                Effect::Clear(volume) => self.directory.remove(volume, 0)?,
                Effect::Warn(message) => process::warn(&message),
                Effect::Abort(upload) => {
                    let vault = self.vault;
                    self.running.push(Box::pin(async move {
                        let result = vault.abort(&upload).await.map(|_| Outcome::Stopped);
                        Done { action: None, result }
                    }));
                }
                Effect::Manifest => {
                    let manifest = manifest::prepare(&self.plan, self.directory)?;
                    let effects = self.plan.manifest(manifest)?;
                    self.perform(effects)?;
                }
                Effect::Retire if self.ledger.is_awaited() => {}
                Effect::Retire => {
                    let (id, dest) = (self.directory.id(), &self.settings.dest);
                    let name = || receipts::name(self.spool, id, dest, self.vault.region());
                    let receipt = (!self.ledger.has_receipt()).then(name).transpose()?;
                    self.spool.retire(self.directory, receipt.as_deref(), LEAVING)?;
                }
            }
        }
        Ok(())
    }

    /// Whether the end of the input leaves something that may be waited for:
    /// the hour of a window, for a stream that is whole.
    fn may_wait(&self) -> bool {
        self.plan.has_end() && self.plan.waits_for().is_some()
    }

    /// Why the stream is not stored, when nothing more can be done.
    fn verdict(&mut self) -> Error {
        if let Some(failed) = self.failed.take() {
            return Error::from_code(failed.code, failed.message);
        }
        if let Some(target) = self.plan.unconfirmed() {
            return Error::Unfinished(format!(
                "{target}: the service never said whether it is stored; looked for in the vault's next inventory, run the same command again tomorrow"
            ));
        }
        if self.plan.has_end() {
            return Error::Bug("nothing is left to do, and the stream is not stored".to_owned());
        }
        Error::Unfinished(NOT_WHOLE.to_owned())
    }

    fn show(&mut self) {
        let (all, sent) = self.plan.progress();
        let moving: u64 = self.moving.iter().map(|taken| taken.load(Ordering::Relaxed)).sum();
        let done = sent + moving;
        let (then, before) = std::mem::replace(&mut self.metered, (Instant::now(), done));
        if !self.moving.is_empty() {
            self.meter.saw(done.saturating_sub(before), then.elapsed());
        }
        self.look_ahead();
        self.progress.tell(|| self.state(all, done));
        self.progress.show(done, all);
    }

    /// What is going on, and whether that says all.
    fn state(&self, all: u64, done: u64) -> (String, bool) {
        let name = &self.plan.stream().name;
        let whole = self.plan.has_end();
        let waits = self.plan.waits_for().filter(|_| self.running.is_empty() && whole);
        let waits = waits.and_then(|stamp| self.gates.gate(stamp).opens());
        let waits = waits.map(|opens| format!("waits for {}", opens.strftime("%Y-%m-%d %H:%M")));
        let forecast = if whole { self.forecast(all.saturating_sub(done)) } else { None };
        match (waits, forecast) {
            (Some(waits), Some(forecast)) => (format!("{name}: {waits}; {forecast}"), true),
            (Some(one), None) | (None, Some(one)) => (format!("{name}: {one}"), true),
            (None, None) if done == 0 && whole => (self.estimate(all), false),
            (None, None) => (name.clone(), false),
        }
    }

    /// When what is left will be done, in the hours of the window.
    fn forecast(&self, left: u64) -> Option<String> {
        let gate = self.gates.gate(self.plan.last_stamp()?);
        Some(gate.forecast(left, self.speed(&gate))?.1)
    }

    fn speed(&self, gate: &Gate) -> Speed {
        match self.meter.rate() {
            Some(rate) => Speed::measured(rate, gate.rate().get()),
            None => Speed::assumed(self.settings.assume_rate),
        }
    }

    /// Warns of a volume that cannot be sent in one opening, where the next is
    /// too late for it: once, and as soon as that is known.
    fn look_ahead(&mut self) {
        if self.is_warned {
            return;
        }
        let Some(stamp) = self.plan.last_stamp() else { return };
        let gate = self.gates.gate(stamp);
        if let Some(why) = gate.too_large(self.plan.largest(), self.speed(&gate)) {
            process::warn(&format!("{}: {why}", self.plan.stream().name));
            self.is_warned = true;
        }
    }

    /// What is ahead, before the first byte has moved.
    fn estimate(&self, all: u64) -> String {
        let name = &self.plan.stream().name;
        let time = match self.settings.assume_rate {
            Some(rate) => {
                let time = units::time(Duration::from_secs(all.div_ceil(rate)));
                format!(", {time} at {}/s", units::bytes(rate))
            }
            None => String::new(),
        };
        format!(
            "{name}: {} in {} requests{time}",
            units::bytes(all),
            self.plan.estimate().requests()
        )
    }
}

/// The number of a part.
fn number(target: Target, part: usize) -> Result<u32> {
    u32::try_from(part).map_err(|_| Error::Bug(format!("{target}: part {part} is too many")))
}
