//! Mistakes that the models must find, each as a change of the suite's text.
//! One that does not apply any more fails the build.

use crate::swap::Swap;

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
        file: "hash/tree.rs",
        right: "pub const LEAF: usize = 1 << 20;",
        wrong: "pub const LEAF: usize = 64;",
    },
    // Leaves are taken from the far end before there are ten.
    Swap {
        file: "hash/pool/work.rs",
        right: "const BACKLOG: usize = 8;",
        wrong: "const BACKLOG: usize = 1;",
    },
    Swap {
        file: "stream/source.rs",
        right: "const BLOCKS: usize = 16;",
        wrong: "const BLOCKS: usize = 3;",
    },
    Swap {
        file: "stream/source.rs",
        right: "const PIECE: usize = 256 << 10;",
        wrong: "const PIECE: usize = 100;",
    },
    Swap {
        file: "tools/chunk/writer.rs",
        right: "use std::fs::File;",
        wrong: "use crate::spool::File;",
    },
    // Where the bytes say so, a hashing thread fails, past the panic hook.
    Swap {
        file: "hash/pool/work.rs",
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
            file: "hash/pool/work.rs",
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
            file: "hash/pool/blocks.rs",
            right: "self.pool.returned.notify_one();",
            wrong: "",
        },
    },
    Mistake {
        name: "block_told_before_it_is_there",
        scene: "one block",
        swap: Swap {
            file: "hash/pool/blocks.rs",
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
            file: "hash/pool/blocks.rs",
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
            file: "hash/pool/mod.rs",
            right: "self.hashers.queue.more.notify_all();",
            wrong: "",
        },
    },
    Mistake {
        name: "work_sent_before_it_is_counted",
        scene: "one run",
        swap: Swap {
            file: "hash/pool/mod.rs",
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
            file: "hash/pool/work.rs",
            right: "                waiting = self.more.wait(waiting)",
            wrong: "                drop(waiting);
                waiting = lock(&self.work);
                waiting = self.more.wait(waiting)",
        },
    },
    Mistake {
        name: "run_done_in_silence",
        scene: "one run",
        swap: Swap { file: "hash/pool/work.rs", right: "self.done.notify_all();", wrong: "" },
    },
    Mistake {
        name: "run_unlocked_before_the_wait",
        scene: "one run",
        swap: Swap {
            file: "hash/pool/mod.rs",
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
            file: "hash/pool/mod.rs",
            right: "        self.queue.more.notify_all();",
            wrong: "",
        },
    },
    Mistake {
        name: "closing_told_before_it_is_so",
        scene: "one run",
        swap: Swap {
            file: "hash/pool/mod.rs",
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
            file: "hash/pool/work.rs",
            right: "run.update(0, |so_far| so_far.failed = true);",
            wrong: "",
        },
    },
    Mistake {
        name: "failed_run_keeps_its_blocks",
        scene: "a thread fails",
        swap: Swap { file: "hash/pool/work.rs", right: "self.forget();", wrong: "" },
    },
    Mistake {
        name: "failed_run_is_sent_more",
        scene: "a thread fails",
        swap: Swap { file: "hash/pool/mod.rs", right: "if !so_far.failed {", wrong: "{" },
    },
    Mistake {
        name: "orders_never_end",
        scene: "chunk",
        swap: Swap { file: "stream/source.rs", right: "            drop(orders);\n", wrong: "" },
    },
    // Without the time, that is for ever.
    Mistake {
        name: "orders_outlive_who_takes_them",
        scene: "chunk, and a hashing thread fails",
        swap: Swap {
            file: "stream/source.rs",
            right: "    orders.iter().try_for_each(take)",
            wrong: "    let result = orders.iter().try_for_each(take);
            std::mem::forget(orders);
            result",
        },
    },
    Mistake {
        name: "writing_fails_in_silence",
        scene: "chunk, and the disk is full",
        swap: Swap {
            file: "stream/source.rs",
            right: "                stop.store(true, Ordering::Relaxed);
                result",
            wrong: "                result",
        },
    },
    Mistake {
        name: "reading_fails_in_silence",
        scene: "chunk, and reading fails",
        swap: Swap {
            file: "stream/source.rs",
            right: "            if read.is_err() {
                stop.store(true, Ordering::Relaxed);
            }
",
            wrong: "",
        },
    },
    Mistake {
        name: "reading_stops_before_it_fails",
        scene: "chunk to inspect, and reading fails",
        swap: Swap {
            file: "stream/source.rs",
            right: "Ok(Err(e)) if is_stopped(&e) => read,",
            wrong: "Ok(Err(e)) => Err(e),
                Ok(Ok(())) if read.is_err() => Err(stopped()),",
        },
    },
    Mistake {
        name: "stop_is_not_heard_while_nobody_reads",
        scene: "chunk, and reading fails",
        swap: Swap {
            file: "tools/chunk/writer.rs",
            right: "        if stop.load(Ordering::Relaxed) {",
            wrong: "        if false {",
        },
    },
    Mistake {
        name: "the_last_part_before_the_proof",
        scene: "chunk of what is not whole",
        swap: Swap {
            file: "stream/source.rs",
            right: "        let whole = self.prove(proofs)?;
        if in_part > 0 {
            send(Order::EndPart(run.finish()))?;
        }
",
            wrong: "        if in_part > 0 {
            send(Order::EndPart(run.finish()))?;
        }
        let whole = self.prove(proofs)?;
",
        },
    },
    Mistake {
        name: "a_part_that_failed_is_passed_over",
        scene: "chunk to inspect, and a hashing thread fails",
        swap: Swap {
            file: "tools/chunk/inspect.rs",
            right: "let hashes = pending.wait()?;",
            wrong: "let Ok(hashes) = pending.wait() else { return Ok(()) };",
        },
    },
];
