//! iptables through its own programs: whole tables are read and written as text (`-save`, `-restore --noflush`), the few jumps from
//! built-in chains go through the `iptables` crate. What the rules say is decided elsewhere.
//!
//! Atomicity: one `restore` of one table is in effect as a whole or not at all. Ownership: works in the network namespace of the
//! calling thread's process image, that is, of the thread that calls.

mod error;
mod generation;
mod jump;
mod run;
mod variant;

use std::fmt;

use iptables::IPTables;
use minipod_model::IpFamily;

pub use error::IptablesError;
pub use generation::{Generation, Generations};
pub use jump::Jump;
pub use variant::{UnknownVariant, Variant};

use variant::{Choice, Programs};

/// How long a program waits for another's lock, in seconds.
const LOCK_SECONDS: u32 = 30;

/// A table of iptables.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Table {
    /// `raw`
    Raw,
    /// `mangle`
    Mangle,
    /// `nat`
    Nat,
    /// `filter`
    Filter,
    /// `security`
    Security,
}

impl Table {
    /// The tables in the order in which a packet meets them.
    pub const ALL: [Self; 5] = [Self::Raw, Self::Mangle, Self::Nat, Self::Filter, Self::Security];

    /// The name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Mangle => "mangle",
            Self::Nat => "nat",
            Self::Filter => "filter",
            Self::Security => "security",
        }
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The iptables of this host, in one variant.
pub struct Iptables {
    choice: Choice,
    jumps_v4: IPTables,
    jumps_v6: Option<IPTables>,
}

impl fmt::Debug for Iptables {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Iptables").field("choice", &self.choice).finish_non_exhaustive()
    }
}

impl Iptables {
    /// Finds the programs and chooses the variant: `forced`, else the one that has rules already (ours count most, then a
    /// kubelet's hint), else what `iptables` is on this system.
    ///
    /// # Errors
    /// [`IptablesError::Missing`], [`IptablesError::VariantMissing`], [`IptablesError::Permission`]
    pub fn detect(forced: Option<Variant>) -> Result<Self, IptablesError> {
        let choice = variant::choose(forced)?;
        let jumps_v4 = jump_tool(&choice.v4);
        let jumps_v6 = choice.v6.as_ref().map(jump_tool);
        Ok(Self { choice, jumps_v4, jumps_v6 })
    }

    /// The variant in use.
    #[must_use]
    pub fn variant(&self) -> Variant {
        self.choice.variant
    }

    /// Whether rules of this family can be made: IPv6 needs `ip6tables` and a kernel with IPv6.
    #[must_use]
    pub fn supports(&self, family: IpFamily) -> bool {
        self.programs(family).is_ok()
    }

    /// A table as `iptables-save` prints it.
    ///
    /// # Errors
    /// The program's.
    pub fn save(&self, family: IpFamily, table: Table) -> Result<String, IptablesError> {
        run::output(&self.programs(family)?.save, &["-t", table.as_str()], None)
    }

    /// A table as `iptables-save` prints it, each rule with the packets and bytes that it has matched.
    ///
    /// # Errors
    /// The program's.
    pub fn save_counted(&self, family: IpFamily, table: Table) -> Result<String, IptablesError> {
        run::output(&self.programs(family)?.save, &["-c", "-t", table.as_str()], None)
    }

    /// All tables as `iptables-save` prints them.
    ///
    /// # Errors
    /// The program's.
    pub fn save_all(&self, family: IpFamily) -> Result<String, IptablesError> {
        run::output(&self.programs(family)?.save, &[], None)
    }

    /// Applies `text` (the `iptables-save` format): chains declared in it are replaced, all others stay. A refused line leaves its
    /// table as it was.
    ///
    /// # Errors
    /// [`IptablesError::Line`] with the text of the refused line.
    pub fn restore(&self, family: IpFamily, text: &str) -> Result<(), IptablesError> {
        let restore = &self.programs(family)?.restore;
        match self.choice.variant {
            // The nft variant has the kernel's transactions instead of a lock.
            Variant::Nft => run::output(restore, &["--noflush"], Some(text))?,
            Variant::Legacy => run::output(restore, &["--noflush", &format!("--wait={LOCK_SECONDS}")], Some(text))?,
        };
        Ok(())
    }

    /// Makes `jump` the first rule of its chain and the only one to its target. Says whether anything had to change.
    ///
    /// # Errors
    /// The program's.
    pub fn ensure_first(&self, family: IpFamily, jump: &Jump) -> Result<bool, IptablesError> {
        jump::ensure_first(self.jumps(family)?, jump)
    }

    /// Where the jumps to `jump`'s target stand in its chain, from 1.
    ///
    /// # Errors
    /// The program's.
    pub fn positions(&self, family: IpFamily, jump: &Jump) -> Result<Vec<usize>, IptablesError> {
        jump::positions(self.jumps(family)?, jump)
    }

    /// Removes every jump to `jump`'s target from its chain. Says whether there was one.
    ///
    /// # Errors
    /// The program's.
    pub fn remove_jump(&self, family: IpFamily, jump: &Jump) -> Result<bool, IptablesError> {
        jump::remove(self.jumps(family)?, jump)
    }

    fn programs(&self, family: IpFamily) -> Result<&Programs, IptablesError> {
        match family {
            IpFamily::V4 => Ok(&self.choice.v4),
            IpFamily::V6 => self.choice.v6.as_ref().ok_or(IptablesError::Family(family)),
        }
    }

    fn jumps(&self, family: IpFamily) -> Result<&IPTables, IptablesError> {
        match family {
            IpFamily::V4 => Ok(&self.jumps_v4),
            IpFamily::V6 => self.jumps_v6.as_ref().ok_or(IptablesError::Family(family)),
        }
    }
}

/// The crate's own constructor knows only the system's default variant.
fn jump_tool(programs: &Programs) -> IPTables {
    // The crate wants a name that lives for ever; there are two of a few dozen bytes in a process.
    let cmd: &'static str = Box::leak(programs.command.display().to_string().into_boxed_str());
    IPTables { cmd, has_check: true, has_wait: true, is_numeric: false }
}
