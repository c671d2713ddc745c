//! Hands the command line to the library and ends the process with its outcome.

use pg_standby::Outcome;

fn main() -> Outcome {
    pg_standby::run(std::env::args_os())
}
