//! That no ruling and no case of the contract is left out.

use std::collections::BTreeSet;

use crate::case::{Case, RULINGS, folder, read_all};

/// The items of the section "What every build proves" in docs/semantics.md that are cases: separated by semicolons.
fn promised() -> BTreeSet<String> {
    let page = include_str!("../../../docs/semantics.md");
    let (_, section) = page.split_once("\n## What every build proves\n").expect("the section");
    let section = section.split("\n## ").next().unwrap_or_default();
    let lines = section.lines().filter(|line| line.starts_with("- ") || line.starts_with("  ")).map(str::trim);
    let text: String = lines.map(|line| line.replacen("- ", "", 1) + " ").collect();
    text.split([';', '.']).map(|item| item.trim().replace('`', "")).filter(|item| !item.is_empty()).collect()
}

#[test]
fn every_ruling_has_a_case() {
    let shown: BTreeSet<u8> = read_all(&folder()).iter().flat_map(|case| case.rulings.clone()).collect();
    assert_eq!(shown, RULINGS.collect());
}

#[test]
fn every_case_that_the_contract_promises_is_there() {
    let cases = read_all(&folder());
    let shown: BTreeSet<String> = cases.iter().flat_map(|case| case.proves.clone()).collect();
    assert_eq!(shown, promised());
}

const SMALL: &str = "
rulings: [1]
says: Nothing in particular.
pods: {x/a: {}}
steps:
- expect: |
    TCP  x/a
    x/a  yes
";

#[test]
fn a_file_that_says_something_wrong_is_refused_by_field() {
    assert!(Case::read("small", SMALL).is_ok());
    for (right, wrong, expected) in [
        ("rulings: [1]", "rulings: [22]", "rulings: there is no ruling 22"),
        ("rulings: [1]", "rulings: []", "rulings: name at least one"),
        ("says:", "said:", "unknown field `said`"),
        ("- expect:", "- expects:", "unknown field `expects`"),
        (
            "- expect: |",
            "- ask: ['x/a -> x/b 80/TCP: silent']\n  expect: |",
            "steps[0].ask: `x/a -> x/b 80/TCP: silent`: `x/b` is not there",
        ),
        ("- expect: |", "- cut: [talk]\n  expect: |", "steps[0].cut: no step opens `talk`"),
        ("- expect: |", "- remove: [x/b]\n  expect: |", "steps[0].remove: `x/b` is not there"),
        ("- expect: |", "- add: {z: {}}\n  expect: |", "steps[0].add: `z`: write NAMESPACE/NAME"),
        ("x/a: {}", "x/a: {ports: {web: 80}}", "pods: `x/a`: ports.web: `80`: write NUMBER/PROTOCOL"),
        ("x/a: {}", "x/a: {ports: {web: TCP/80}}", "pods: `x/a`: ports.web: `TCP/80`: write NUMBER/PROTOCOL"),
        ("TCP  x/a", "TCP  x/b", "steps[0].expect: `x/b` in a corner"),
        ("    x/a  yes", "    x/a  no", "steps[0].expect: x/a -> x/a: `no`: write yes"),
    ] {
        assert!(SMALL.contains(right), "{right}");
        let error = Case::read("small", &SMALL.replacen(right, wrong, 1)).expect_err(wrong);
        assert!(error.contains(expected), "{expected}\n{error}");
    }
}
