//! A kernel that ends its process before the operation that a test names. In debug builds only.
//!
//! The test writes a number into a file. Each operation takes one from it; the one that finds 1 removes the file and kills the process, with
//! SIGKILL. As long as the file is there, what the kernel is asked in one call is taken apart into its smallest changes, each of
//! which is an operation: a table of one family, a jump, an element of a set.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::ops::{Deref, DerefMut};
use std::path::PathBuf;
use std::thread;

use minipod_kernel::process::{PidFd, Signal};
use netd_dataplane::kernel::{Kernel, KernelError};
use netd_dataplane::name::{ChainName, SetName};
use netd_dataplane::observed::{HookKey, Observed};
use netd_dataplane::plan::{Entries, SetEdit, TableRestore};
use netd_dataplane::spec::{Jump, SetKind};

/// The kernel, with the file that says when to end.
#[derive(Debug)]
pub struct Breakable<K> {
    kernel: K,
    file: PathBuf,
}

impl<K> Breakable<K> {
    /// A kernel that does what `kernel` does until `file` says otherwise.
    pub fn new(kernel: K, file: PathBuf) -> Self {
        Self { kernel, file }
    }

    fn is_armed(&self) -> bool {
        self.file.exists()
    }

    /// One operation is about to be done.
    fn point(&self) {
        let left = fs::read_to_string(&self.file).ok().and_then(|text| text.trim().parse::<u64>().ok());
        match left {
            None => {}
            // Whoever removes the file has it: the test, which then knows that nothing ends any more, or this operation.
            Some(0 | 1) => {
                if fs::remove_file(&self.file).is_err() {
                    return;
                }
                let own = i32::try_from(std::process::id()).ok().and_then(|pid| PidFd::open(pid).ok().flatten());
                let _ = own.map(|own| own.signal(Signal::SIGKILL));
                loop {
                    thread::park();
                }
            }
            Some(left) => {
                // Not created again where the test has just removed it.
                let file = OpenOptions::new().write(true).truncate(true).open(&self.file);
                let _ = file.and_then(|mut file| write!(file, "{}", left - 1));
            }
        }
    }
}

impl<K> Deref for Breakable<K> {
    type Target = K;

    fn deref(&self) -> &K {
        &self.kernel
    }
}

impl<K> DerefMut for Breakable<K> {
    fn deref_mut(&mut self) -> &mut K {
        &mut self.kernel
    }
}

impl<K: Kernel> Kernel for Breakable<K> {
    fn observe(&mut self) -> Result<Observed, KernelError> {
        self.kernel.observe()
    }

    fn create_set(&mut self, name: &SetName, kind: SetKind) -> Result<(), KernelError> {
        self.point();
        self.kernel.create_set(name, kind)
    }

    fn edit_sets(&mut self, edits: &[SetEdit]) -> Result<(), KernelError> {
        if !self.is_armed() {
            return self.kernel.edit_sets(edits);
        }
        for edit in edits.iter().flat_map(elements) {
            self.point();
            self.kernel.edit_sets(&[edit])?;
        }
        Ok(())
    }

    fn rename_set(&mut self, from: &SetName, to: &SetName) -> Result<(), KernelError> {
        self.point();
        self.kernel.rename_set(from, to)
    }

    fn swap_sets(&mut self, one: &SetName, other: &SetName) -> Result<(), KernelError> {
        self.point();
        self.kernel.swap_sets(one, other)
    }

    fn destroy_set(&mut self, name: &SetName) -> Result<(), KernelError> {
        self.point();
        self.kernel.destroy_set(name)
    }

    fn restore(&mut self, tables: &[TableRestore]) -> Result<(), KernelError> {
        if !self.is_armed() {
            return self.kernel.restore(tables);
        }
        for table in tables {
            self.point();
            self.kernel.restore(std::slice::from_ref(table))?;
        }
        Ok(())
    }

    fn ensure_jumps(&mut self, jumps: &[Jump]) -> Result<(), KernelError> {
        if !self.is_armed() {
            return self.kernel.ensure_jumps(jumps);
        }
        for jump in jumps {
            self.point();
            self.kernel.ensure_jumps(std::slice::from_ref(jump))?;
        }
        Ok(())
    }

    fn remove_jump(&mut self, hook: HookKey, chain: &ChainName) -> Result<(), KernelError> {
        self.point();
        self.kernel.remove_jump(hook, chain)
    }
}

/// The same change element by element.
fn elements(edit: &SetEdit) -> Vec<SetEdit> {
    match edit {
        SetEdit::Remove(set, entries) => {
            entries.iter().map(|entry| SetEdit::Remove(set.clone(), vec![entry.clone()])).collect()
        }
        SetEdit::Add(set, entries) => entries
            .iter()
            .map(|(entry, mark)| SetEdit::Add(set.clone(), Entries::from([(entry.clone(), *mark)])))
            .collect(),
    }
}
