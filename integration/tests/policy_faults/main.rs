//! `./scripts/test policy-faults`: the daemon is killed before every single operation of a change of rules and sets, with real pods, while
//! packets of every pair of pods flow. What neither the old nor the new state allows never arrives; of what both allow nothing is lost,
//! not while the daemon is dead and not while the next one starts; and what that one makes is the new state. And whatever others do to
//! the rules is put right within two seconds.

mod changes;
mod drift;
mod node;
mod scene;
mod starts;
mod streams;
