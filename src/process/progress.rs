//! Progress for a terminal's stderr; nothing anywhere else, as cron mails
//! what is printed.

use std::io::{self, IsTerminal as _};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// A message alone.
const WORDS: &str = "{msg}";

/// Bytes, rate and time left, where somebody looks.
pub struct Progress(Option<(ProgressBar, ProgressStyle)>);

impl Progress {
    /// Shows progress, unless stderr is no terminal or `quiet`.
    pub fn new(quiet: bool) -> Self {
        let style =
            "{msg}  {binary_bytes} of {binary_total_bytes}  {binary_bytes_per_sec}  {eta} left";
        Self::with(quiet, style)
    }

    /// The same for what is not counted in bytes: words alone.
    pub fn in_words(quiet: bool) -> Self {
        Self::with(quiet, WORDS)
    }

    fn with(quiet: bool, style: &str) -> Self {
        if quiet || !io::stderr().is_terminal() {
            return Self(None);
        }
        let bar = ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::stderr());
        let style = styled(style);
        bar.set_style(style.clone());
        Self(Some((bar, style)))
    }

    /// What is going on.
    pub fn say(&self, message: impl FnOnce() -> String) {
        self.tell(|| (message(), false));
    }

    /// What is going on, and whether that says all: then nothing is added to
    /// it.
    pub fn tell(&self, message: impl FnOnce() -> (String, bool)) {
        if let Some((bar, style)) = &self.0 {
            let (message, says_all) = message();
            bar.set_style(if says_all { styled(WORDS) } else { style.clone() });
            bar.set_message(crate::process::printable(&message));
        }
    }

    /// How far it is.
    pub fn show(&self, done: u64, all: u64) {
        if let Some((bar, _)) = &self.0 {
            bar.set_length(all);
            bar.set_position(done);
        }
    }
}

/// A template that does not parse shows the bar's own.
fn styled(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some((bar, _)) = &self.0 {
            bar.finish_and_clear();
        }
    }
}
