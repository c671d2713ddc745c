//! Any command line has an answer.

use super::*;
use proptest::prelude::*;
use std::os::unix::ffi::OsStringExt;

/// Words that mean something here, digits and noise, so that many lines come close to a good one.
fn word() -> impl Strategy<Value = OsString> {
    let options = "--?(copy|debug|keep-files|link|max-retries|sleep-time|trigger-file|max-wait-time|no-wait|\
                   require-file|on-error|partial|verify|standby-name|prune|dry-run|status|pgdata|behind|silent|version|help)?(=.{0,4})?|-[cdDklnrstwV?]{1,3}.{0,2}";
    let operands =
        "[0-9A-F]{24}(.partial)?|[0-9A-F]{8}.history|/?[a-z]{0,4}/?|-?[0-9]{0,11}[.]?[0-9]?";
    prop_oneof![
        options.prop_map(OsString::from),
        operands.prop_map(OsString::from),
        any::<Vec<u8>>().prop_map(OsString::from_vec),
    ]
}

proptest! {
    #[test]
    fn any_command_line_is_taken_or_refused_for_a_reason(
        words in proptest::collection::vec(word(), 0..9)
    ) {
        match parse([OsString::from("pg_standby")].into_iter().chain(words)) {
            Ok(Command::Restore(options)) => {
                prop_assert!(options.sleep_time >= Duration::from_millis(100));
                prop_assert!(options.sleep_time <= Duration::from_secs(60));
                prop_assert!(options.destination.file_name().is_some());
            }
            Ok(Command::Prune(pruning)) => prop_assert!(!pruning.archive_location.as_os_str().is_empty()),
            Ok(Command::Status(inquiry)) => prop_assert!(!inquiry.archive_location.as_os_str().is_empty()),
            Ok(Command::Print(text)) => prop_assert!(!text.is_empty()),
            Err(error) => {
                prop_assert_eq!(error.to_string().lines().count(), 1);
            }
        }
    }
}
