//! Rules about system calls as instructions of the kernel's filter machine. Pure.
//!
//! One block for each architecture: runs of allowed numbers first, in ascending order, then the conditional ones. A scan over
//! the runs is short, and the kernel remembers the calls that are allowed whatever their arguments (since 5.11). libseccomp's
//! own generator takes 10 to 25 ms for such a list, which would be half the start of a pod.

use libc::sock_filter;

use super::profile::Argument;

/// What a filter answers, for `SECCOMP_RET_*`.
const ALLOW: u32 = libc::SECCOMP_RET_ALLOW;
const REFUSE: u32 = libc::SECCOMP_RET_ERRNO | libc::EPERM.cast_unsigned();
const ABSENT: u32 = libc::SECCOMP_RET_ERRNO | libc::ENOSYS.cast_unsigned();
const KILL: u32 = libc::SECCOMP_RET_KILL_PROCESS;

/// Offsets in `struct seccomp_data`.
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;
const ARGUMENTS: u32 = 16;

const LOAD: u32 = libc::BPF_LD | libc::BPF_W | libc::BPF_ABS;
const AND: u32 = libc::BPF_ALU | libc::BPF_AND | libc::BPF_K;
const EQUAL: u32 = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
const AT_LEAST: u32 = libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K;
const ABOVE: u32 = libc::BPF_JMP | libc::BPF_JGT | libc::BPF_K;
const JUMP: u32 = libc::BPF_JMP | libc::BPF_JA;
const RETURN: u32 = libc::BPF_RET | libc::BPF_K;

/// The rules for one architecture, by call number.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Rules {
    /// `AUDIT_ARCH_*`
    pub(super) architecture: u32,
    /// allowed whatever the arguments
    pub(super) allowed: Vec<u32>,
    /// allowed where one of the number's conditions holds
    pub(super) conditional: Vec<(u32, Argument)>,
    /// answered as if the kernel did not know them
    pub(super) absent: Vec<u32>,
}

/// The program. A call that is not named is refused with EPERM; one that is younger than every named one is unknown to this
/// list and answered with ENOSYS, so that programs fall back; one of another architecture ends the process.
pub(super) fn assemble(architectures: &[Rules]) -> Vec<sock_filter> {
    let mut program = vec![statement(LOAD, ARCHITECTURE)];
    for rules in architectures {
        let block = assemble_block(rules);
        program.push(jump(EQUAL, rules.architecture, 1, 0));
        program.push(statement(JUMP, u32::try_from(block.len()).unwrap_or(u32::MAX)));
        program.extend(block);
    }
    program.push(statement(RETURN, KILL));
    program
}

/// Every way through a block ends in a return, since the accumulator is the call's number no more after a condition.
fn assemble_block(rules: &Rules) -> Vec<sock_filter> {
    let mut block = vec![statement(LOAD, NUMBER)];
    let conditional = rules.conditional.iter().map(|(number, _)| *number);
    let youngest = rules.allowed.iter().copied().chain(conditional.clone()).chain(rules.absent.iter().copied()).max();
    block.extend([jump(ABOVE, youngest.unwrap_or_default(), 0, 1), statement(RETURN, ABSENT)]);
    for (first, last) in runs(&rules.allowed) {
        if first == last {
            block.extend([jump(EQUAL, first, 0, 1), statement(RETURN, ALLOW)]);
        } else {
            block.extend([jump(AT_LEAST, first, 0, 2), jump(ABOVE, last, 1, 0), statement(RETURN, ALLOW)]);
        }
    }
    for number in &rules.absent {
        block.extend([jump(EQUAL, *number, 0, 1), statement(RETURN, ABSENT)]);
    }
    let mut numbers: Vec<u32> = conditional.collect();
    numbers.sort_unstable();
    numbers.dedup();
    for number in numbers {
        let own = rules.conditional.iter().filter(|(other, _)| *other == number);
        let conditions: Vec<sock_filter> = own.flat_map(|(_, argument)| assemble_condition(*argument)).collect();
        let length = u8::try_from(conditions.len() + 1).unwrap_or(u8::MAX);
        block.push(jump(EQUAL, number, 0, length));
        block.extend(conditions);
        block.push(statement(RETURN, REFUSE));
    }
    block.push(statement(RETURN, REFUSE));
    block
}

/// Allows if the condition holds, else goes on behind itself. Only the low half of an argument is looked at: all of these are
/// 32 bits wide in the kernel, which ignores the rest.
fn assemble_condition(argument: Argument) -> Vec<sock_filter> {
    let low = |index: u32| ARGUMENTS + 8 * index + if cfg!(target_endian = "big") { 4 } else { 0 };
    match argument {
        Argument::Is(index, value) => {
            vec![statement(LOAD, low(index)), jump(EQUAL, value, 0, 1), statement(RETURN, ALLOW)]
        }
        Argument::IsNot(index, value) => {
            vec![statement(LOAD, low(index)), jump(EQUAL, value, 1, 0), statement(RETURN, ALLOW)]
        }
        Argument::HasNoneOf(index, bits) => {
            vec![statement(LOAD, low(index)), statement(AND, bits), jump(EQUAL, 0, 0, 1), statement(RETURN, ALLOW)]
        }
    }
}

/// The numbers as first and last of runs without gaps, ascending.
fn runs(numbers: &[u32]) -> Vec<(u32, u32)> {
    let mut sorted = numbers.to_vec();
    sorted.sort_unstable();
    sorted.dedup();
    sorted.into_iter().fold(Vec::new(), |mut runs: Vec<(u32, u32)>, number| {
        match runs.last_mut() {
            Some((_, last)) if *last + 1 == number => *last = number,
            _ => runs.push((number, number)),
        }
        runs
    })
}

fn statement(code: u32, k: u32) -> sock_filter {
    sock_filter { code: u16::try_from(code).unwrap_or_default(), jt: 0, jf: 0, k }
}

fn jump(code: u32, k: u32, jt: u8, jf: u8) -> sock_filter {
    sock_filter { code: u16::try_from(code).unwrap_or_default(), jt, jf, k }
}

#[cfg(test)]
mod tests {
    use libc::sock_filter;

    use super::{
        ABOVE, ABSENT, ALLOW, AND, ARCHITECTURE, ARGUMENTS, AT_LEAST, EQUAL, JUMP, KILL, LOAD, NUMBER, REFUSE, RETURN,
        Rules, assemble, runs,
    };
    use crate::seccomp::profile::Argument;

    const HERE: u32 = 0xC000_003E;
    const THERE: u32 = 0x4000_0003;

    /// The kernel's machine, as far as these programs use it.
    fn interpret(program: &[sock_filter], architecture: u32, number: u32, arguments: [u64; 6]) -> u32 {
        let (mut accumulator, mut at) = (0, 0);
        loop {
            let instruction = program[at];
            at += 1;
            let mut branch = |holds: bool| at += usize::from(if holds { instruction.jt } else { instruction.jf });
            match u32::from(instruction.code) {
                LOAD => {
                    accumulator = match instruction.k {
                        NUMBER => number,
                        ARCHITECTURE => architecture,
                        offset => {
                            let argument = arguments[((offset - ARGUMENTS) / 8) as usize];
                            u32::try_from(argument & 0xFFFF_FFFF).expect("low half")
                        }
                    }
                }
                AND => accumulator &= instruction.k,
                EQUAL => branch(accumulator == instruction.k),
                AT_LEAST => branch(accumulator >= instruction.k),
                ABOVE => branch(accumulator > instruction.k),
                JUMP => at += instruction.k as usize,
                RETURN => return instruction.k,
                other => unreachable!("instruction {other}"),
            }
        }
    }

    fn rules() -> Vec<Rules> {
        vec![
            Rules {
                architecture: HERE,
                allowed: vec![9, 1, 2, 3, 7, 2],
                conditional: vec![
                    (5, Argument::Is(0, 8)),
                    (5, Argument::Is(0, 9)),
                    (6, Argument::IsNot(1, 40)),
                    (12, Argument::HasNoneOf(0, 0b110)),
                ],
                absent: vec![11],
            },
            Rules { architecture: THERE, allowed: vec![4], conditional: Vec::new(), absent: Vec::new() },
        ]
    }

    #[test]
    fn every_number_is_answered_by_its_own_architectures_rules() {
        let program = assemble(&rules());
        for number in 0..20 {
            let here = match number {
                // the conditions of 6 and 12 hold, since every argument is zero
                1 | 2 | 3 | 7 | 9 | 6 | 12 => ALLOW,
                11 | 13.. => ABSENT,
                _ => REFUSE,
            };
            assert_eq!(interpret(&program, HERE, number, [0; 6]), here, "{number}");
            let there = match number {
                4 => ALLOW,
                5.. => ABSENT,
                _ => REFUSE,
            };
            assert_eq!(interpret(&program, THERE, number, [0; 6]), there, "{number}");
            assert_eq!(interpret(&program, 1, number, [0; 6]), KILL, "{number}");
        }
    }

    #[test]
    fn conditions_look_at_the_argument() {
        let program = assemble(&rules());
        let check = |number, arguments: [u64; 2], expected| {
            let [a, b] = arguments;
            assert_eq!(interpret(&program, HERE, number, [a, b, 0, 0, 0, 0]), expected, "{number} {arguments:?}");
        };
        check(5, [8, 0], ALLOW);
        check(5, [9, 0], ALLOW);
        check(5, [10, 0], REFUSE);
        check(6, [40, 41], ALLOW);
        check(6, [0, 40], REFUSE);
        check(6, [0, (1 << 32) + 40], REFUSE);
        check(12, [0b1001, 0], ALLOW);
        check(12, [0b0100, 0], REFUSE);
    }

    #[test]
    fn numbers_in_a_row_are_one_run() {
        assert_eq!(runs(&[5, 1, 2, 3, 3, 9]), [(1, 3), (5, 5), (9, 9)]);
        assert_eq!(runs(&[]), []);
    }
}
