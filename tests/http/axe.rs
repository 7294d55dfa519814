//! axe-core, which finds what people cannot read or reach.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::{Mutex, PoisonError};

const PACKAGE: &str = "axe-core@4.14.1";

/// The tests of one program install it once.
static INSTALLING: Mutex<()> = Mutex::new(());

/// The script, which npm installs below `target` the first time.
pub fn source() -> String {
    let _turn = INSTALLING.lock().unwrap_or_else(PoisonError::into_inner);
    let home = Path::new(env!("CARGO_TARGET_TMPDIR")).join(PACKAGE);
    let script = home.join("node_modules/axe-core/axe.min.js");
    if !script.exists() {
        fs::create_dir_all(&home).unwrap();
        let mut npm = Command::new("npm");
        npm.args(["install", "--no-fund", "--no-audit", "--ignore-scripts", "--prefix"]);
        let output = npm.arg(&home).arg(PACKAGE).output();
        let said = match &output {
            Ok(output) => String::from_utf8_lossy(&output.stderr).into_owned(),
            Err(error) => error.to_string(),
        };
        assert!(
            script.exists(),
            "the check of accessibility needs {PACKAGE}, which npm gets from its registry once: \
             install npm with `make deps`, and run the test with a network\n{said}"
        );
    }
    fs::read_to_string(script).unwrap()
}
