//! Mistakes that the models must find, each as a change of the suite's text.
//! One that does not apply any more fails the build.

/// A text of a file, and what takes its place.
pub struct Swap {
    /// Under src/ of the suite.
    pub file: &'static str,
    pub right: &'static str,
    pub wrong: &'static str,
}

/// What a model must find.
pub struct Mistake {
    pub name: &'static str,
    /// The scene that shows it.
    pub scene: &'static str,
    pub swap: Swap,
}

/// What makes the models small, for all variants.
pub const LEVERS: &[Swap] = &[
    Swap {
        file: "treehash.rs",
        right: "pub const LEAF: usize = 1 << 20;",
        wrong: "pub const LEAF: usize = 64;",
    },
    // Leaves are taken from the far end before there are ten.
    Swap {
        file: "hashing/work.rs",
        right: "const BACKLOG: usize = 8;",
        wrong: "const BACKLOG: usize = 1;",
    },
    // Where the bytes say so, a hashing thread fails, past the panic hook.
    Swap {
        file: "hashing/work.rs",
        right: "        self.block.get(self.range.clone()).unwrap_or_default()",
        wrong: "        let bytes = self.block.get(self.range.clone()).unwrap_or_default();
        if bytes.contains(&crate::FATAL) {
            std::panic::resume_unwind(Box::new(\"as the model wants it\"));
        }
        bytes",
    },
];

/// All of them.
pub const MISTAKES: &[Mistake] = &[
    // As it was: the linear hash of a run is put back beside the queue.
    Mistake {
        name: "recorded_unlocked",
        scene: "one run",
        swap: Swap {
            file: "hashing/work.rs",
            right: "waiting = lock(&self.work);
                waiting.record(found);",
            wrong: "Waiting::default().record(found);
                waiting = lock(&self.work);",
        },
    },
    Mistake {
        name: "block_returned_in_silence",
        scene: "one run",
        swap: Swap {
            file: "hashing/blocks.rs",
            right: "self.pool.returned.notify_one();",
            wrong: "",
        },
    },
    Mistake {
        name: "block_told_before_it_is_there",
        scene: "one block",
        swap: Swap {
            file: "hashing/blocks.rs",
            right: "lock(&self.pool.buffers).free.push(buffer);
        self.pool.returned.notify_one();",
            wrong: "self.pool.returned.notify_one();
        lock(&self.pool.buffers).free.push(buffer);",
        },
    },
    Mistake {
        name: "pool_unlocked_before_the_wait",
        scene: "one block",
        swap: Swap {
            file: "hashing/blocks.rs",
            right: "            let waited =",
            wrong: "            drop(buffers);
            let buffers_again = lock(&self.0.buffers);
            buffers = buffers_again;
            let waited =",
        },
    },
    Mistake {
        name: "work_sent_in_silence",
        scene: "one run",
        swap: Swap {
            file: "hashing/mod.rs",
            right: "self.hashers.queue.more.notify_all();",
            wrong: "",
        },
    },
    Mistake {
        name: "work_sent_before_it_is_counted",
        scene: "one run",
        swap: Swap {
            file: "hashing/mod.rs",
            right: "        let mut so_far = lock(&self.found.so_far);
        // What failed",
            wrong: "        let tasks = pieces.len();
        waiting.pieces.extend(pieces);
        self.hashers.queue.more.notify_all();
        drop(waiting);
        let mut waiting = self::work::Waiting::default();
        let mut so_far = lock(&self.found.so_far);
        let pieces: Vec<Work> = Vec::new();
        so_far.left += 2 * tasks;
        // What failed",
        },
    },
    Mistake {
        name: "queue_unlocked_before_the_wait",
        scene: "one run",
        swap: Swap {
            file: "hashing/work.rs",
            right: "                waiting = self.more.wait(waiting)",
            wrong: "                drop(waiting);
                waiting = lock(&self.work);
                waiting = self.more.wait(waiting)",
        },
    },
    Mistake {
        name: "run_done_in_silence",
        scene: "one run",
        swap: Swap { file: "hashing/work.rs", right: "self.done.notify_all();", wrong: "" },
    },
    Mistake {
        name: "run_unlocked_before_the_wait",
        scene: "one run",
        swap: Swap {
            file: "hashing/mod.rs",
            right: "            so_far = self.found.done.wait(so_far)",
            wrong: "            drop(so_far);
            so_far = lock(&self.found.so_far);
            so_far = self.found.done.wait(so_far)",
        },
    },
    Mistake {
        name: "closed_in_silence",
        scene: "one run",
        swap: Swap {
            file: "hashing/mod.rs",
            right: "        self.queue.more.notify_all();",
            wrong: "",
        },
    },
    Mistake {
        name: "closing_told_before_it_is_so",
        scene: "one run",
        swap: Swap {
            file: "hashing/mod.rs",
            right: "        lock(&self.queue.work).closing = true;
        self.queue.more.notify_all();",
            wrong: "        self.queue.more.notify_all();
        lock(&self.queue.work).closing = true;",
        },
    },
    Mistake {
        name: "failure_not_told",
        scene: "a thread fails",
        swap: Swap {
            file: "hashing/work.rs",
            right: "run.update(0, |so_far| so_far.failed = true);",
            wrong: "",
        },
    },
    Mistake {
        name: "failed_run_keeps_its_blocks",
        scene: "a thread fails",
        swap: Swap { file: "hashing/work.rs", right: "self.forget();", wrong: "" },
    },
    Mistake {
        name: "failed_run_is_sent_more",
        scene: "a thread fails",
        swap: Swap { file: "hashing/mod.rs", right: "if !so_far.failed {", wrong: "{" },
    },
];
