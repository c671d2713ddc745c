//! Faults that cannot be caused on demand on a test machine: `shim.c`, compiled.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// The library for `LD_PRELOAD`, built once by each test program.
pub fn shim() -> &'static Path {
    static SHIM: OnceLock<PathBuf> = OnceLock::new();
    SHIM.get_or_init(|| {
        let directory = Path::new(env!("CARGO_TARGET_TMPDIR"));
        let shim = directory.join(concat!("shim-of-", env!("CARGO_CRATE_NAME"), ".so"));
        // Another process may be at the same point.
        let own = directory.join(format!("shim-{}.so", std::process::id()));
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/shim/shim.c");
        let mut compiler = Command::new("cc");
        compiler.args(["-shared", "-fPIC", "-o"]).arg(&own).args([source, "-ldl"]);
        let built = compiler.status().expect("a C compiler, which Rust needs as its linker");
        assert!(built.success());
        fs::rename(own, &shim).expect("a place for it");
        shim
    })
}
