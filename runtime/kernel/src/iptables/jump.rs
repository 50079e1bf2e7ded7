//! Jumps from built-in chains into ours: the one thing in a chain of everybody that is ours, and its position counts.

use iptables::IPTables;

use super::{IptablesError, Table};

/// A jump from a built-in chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Jump {
    /// the table
    pub table: Table,
    /// the built-in chain
    pub chain: String,
    /// where it jumps to; a chain of ours, by which the jump is recognised
    pub target: String,
    /// what it matches, in the order in which iptables prints it; empty for everything
    pub matches: String,
}

impl Jump {
    fn rule(&self) -> String {
        format!("{} -j {}", self.matches, self.target).trim().to_owned()
    }
}

/// Where the jumps to a target stand in a chain, from 1. Several are one too many.
pub(super) fn positions(tool: &IPTables, jump: &Jump) -> Result<Vec<usize>, IptablesError> {
    let listed = tool.list(jump.table.as_str(), &jump.chain).map_err(|error| failed(tool, jump, error.as_ref()))?;
    // The first line states the chain's policy; without it nothing was listed.
    if !listed.first().is_some_and(|line| line.starts_with("-P ") || line.starts_with("-N ")) {
        return Err(IptablesError::Failed {
            program: tool.cmd.to_owned(),
            stderr: format!("cannot list chain {} of table {}", jump.chain, jump.table),
        });
    }
    Ok(listed[1..]
        .iter()
        .enumerate()
        .filter(|(_, line)| target_of(line) == Some(jump.target.as_str()))
        .map(|(index, _)| index + 1)
        .collect())
}

/// Makes `jump` the first rule of its chain and the only one to its target. Says whether anything had to change.
pub(super) fn ensure_first(tool: &IPTables, jump: &Jump) -> Result<bool, IptablesError> {
    let table = jump.table.as_str();
    let present = positions(tool, jump)?;
    let right =
        present == [1] && tool.exists(table, &jump.chain, &jump.rule()).map_err(|e| failed(tool, jump, e.as_ref()))?;
    if right {
        return Ok(false);
    }
    // The new one first: between the two steps there is one jump too many, never one too few.
    tool.insert(table, &jump.chain, &jump.rule(), 1).map_err(|error| failed(tool, jump, error.as_ref()))?;
    for position in present.iter().rev() {
        delete_at(tool, jump, position + 1)?;
    }
    Ok(true)
}

/// Removes every jump to the target. Says whether there was one.
pub(super) fn remove(tool: &IPTables, jump: &Jump) -> Result<bool, IptablesError> {
    let present = positions(tool, jump)?;
    for position in present.iter().rev() {
        delete_at(tool, jump, *position)?;
    }
    Ok(!present.is_empty())
}

fn delete_at(tool: &IPTables, jump: &Jump, position: usize) -> Result<(), IptablesError> {
    let output = tool
        .execute(jump.table.as_str(), &format!("-D {} {position}", jump.chain))
        .map_err(|error| failed(tool, jump, error.as_ref()))?;
    if output.status.success() {
        return Ok(());
    }
    Err(IptablesError::Failed {
        program: tool.cmd.to_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).trim().to_owned(),
    })
}

fn failed(tool: &IPTables, jump: &Jump, error: &dyn std::error::Error) -> IptablesError {
    IptablesError::Failed {
        program: tool.cmd.to_owned(),
        stderr: format!("jump from {} of table {} to {}: {error}", jump.chain, jump.table, jump.target),
    }
}

fn target_of(line: &str) -> Option<&str> {
    let mut words = line.split_whitespace();
    words.find(|word| matches!(*word, "-j" | "-g")).and_then(|_| words.next())
}

#[cfg(test)]
mod tests {
    use super::target_of;

    #[test]
    fn the_target_of_a_listed_rule_is_read() {
        assert_eq!(target_of("-A FORWARD -i mpod+ -m comment --comment \"x y\" -j MP-FWD"), Some("MP-FWD"));
        assert_eq!(target_of("-A FORWARD -i mpod+"), None);
    }
}
