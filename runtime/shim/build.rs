//! Links the shim with packed relative relocations: a list of a megabyte, read at every start, becomes some kilobytes.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
}
