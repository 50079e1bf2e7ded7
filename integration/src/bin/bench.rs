//! Runs a benchmark suite, prints its table and writes `target/bench/SUITE.json`.

use anyhow::{Result, bail};
use integration::bench::policy::Part;
use integration::bench::{figure, pod, policy};
use integration::programs;

#[expect(clippy::print_stdout, reason = "the table is the program's output")]
fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let suite = arguments.next().unwrap_or_default();
    if suite == "worker" {
        return policy::worker::run(&arguments.collect::<Vec<_>>());
    }
    let rounds = match arguments.next() {
        Some(text) => text.parse()?,
        None => 11,
    };
    let figures = match suite.as_str() {
        "pod" => pod::measure(rounds)?,
        "policy" => policy::measure(&Part::ALL, rounds)?,
        "policy-changes" => policy::measure(&[Part::Changes], rounds)?,
        "policy-packets" => policy::measure(&[Part::Packets], rounds)?,
        "policy-streams" => policy::measure(&[Part::Streams], rounds)?,
        other => bail!("unknown suite `{other}`: use pod, policy, policy-changes, policy-packets or policy-streams"),
    };
    println!("{}", figure::table(&figures));
    let programs = programs::directory()?;
    let target = programs.parent().unwrap_or(&programs);
    figure::write(target, &suite, &figures)
}
