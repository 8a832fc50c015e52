//! A change of the suite's text, which must still apply to it.

/// A text of a file, and what takes its place.
pub struct Swap {
    /// Under src/ of the suite.
    pub file: &'static str,
    pub right: &'static str,
    pub wrong: &'static str,
}

impl Swap {
    /// The text with the change.
    ///
    /// # Panics
    /// When it does not apply: a text that is not there would change nothing,
    /// and one that is there twice something else.
    pub fn apply(&self, text: &str, name: &str) -> String {
        let times = text.matches(self.right).count();
        assert_eq!(times, 1, "{name}: not once in {}: {}", self.file, self.right);
        text.replace(self.right, self.wrong)
    }
}
