//! Progress for a terminal's stderr; nothing anywhere else, as cron mails
//! what is printed.

use std::io::{self, IsTerminal as _};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Bytes, rate and time left, where somebody looks.
pub struct Progress(Option<ProgressBar>);

impl Progress {
    /// Shows progress, unless stderr is no terminal or `quiet`.
    pub fn new(quiet: bool) -> Self {
        let style =
            "{msg}  {binary_bytes} of {binary_total_bytes}  {binary_bytes_per_sec}  {eta} left";
        Self::with(quiet, style)
    }

    /// The same for what is not counted in bytes: words alone.
    pub fn in_words(quiet: bool) -> Self {
        Self::with(quiet, "{msg}")
    }

    fn with(quiet: bool, style: &str) -> Self {
        if quiet || !io::stderr().is_terminal() {
            return Self(None);
        }
        let bar = ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::stderr());
        // A template that does not parse shows the bar's own.
        if let Ok(style) = ProgressStyle::with_template(style) {
            bar.set_style(style);
        }
        Self(Some(bar))
    }

    /// What is going on.
    pub fn say(&self, message: impl FnOnce() -> String) {
        if let Some(bar) = &self.0 {
            bar.set_message(crate::cli::printable(&message()));
        }
    }

    /// How far it is.
    pub fn show(&self, done: u64, all: u64) {
        if let Some(bar) = &self.0 {
            bar.set_length(all);
            bar.set_position(done);
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.0 {
            bar.finish_and_clear();
        }
    }
}
