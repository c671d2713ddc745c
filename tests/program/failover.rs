//! The trigger file: what its words do, what is reported, and that the program never writes through it, blocks on it or
//! misreads it.

use std::fs::{self, File, Permissions};
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt, chown, symlink};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::stat::Mode;
use nix::unistd::{User, geteuid, mkfifo};

use crate::site::{SEGMENT, Site};
use crate::wal::after;

fn me() -> String {
    User::from_uid(geteuid()).unwrap().unwrap().name
}

fn used_up(segment: &str) -> String {
    format!("smart before {segment}\n")
}

#[test]
fn a_smart_failover_restores_what_is_there_and_ends_at_the_first_that_is_not() {
    for word in ["", " \n", "smart", "Smart\n", "SMART failover"] {
        let site = Site::new();
        let bytes = site.put_segment(SEGMENT);
        site.write("trigger", word);
        site.asks(&[], SEGMENT).with_trigger().ends().with_status(0).in_silence();
        assert_eq!(site.restored(), Some(bytes), "{word:?}");
        let next = after(SEGMENT, 1);
        let ended = site.asks(&[], &next).with_trigger().ends().with_status(1);
        assert_eq!(
            ended.stderr,
            format!(
                "pg_standby: smart failover requested by trigger file {:?} of {}: recovery ends before {next}\n",
                site.trigger(),
                me()
            )
        );
        assert_eq!(fs::read_to_string(site.trigger()).unwrap(), word);
    }
}

#[test]
fn a_smart_failover_does_not_wait_for_a_segment_that_is_not_ready() {
    let site = Site::new();
    site.put(SEGMENT, "half a file");
    site.write("trigger", "smart");
    let ended = site.asks(&["-s", "60"], SEGMENT).with_trigger().ends().with_status(1);
    ended.saying("failover continues without it").saying("smart failover");
}

#[test]
fn a_smart_failover_does_not_give_up_a_segment_that_our_side_cannot_write() {
    let site = Site::with("archive", "nowhere/RECOVERYXLOG");
    site.put_segment(SEGMENT);
    site.write("trigger", "smart");
    site.asks(&["-s", "0.1"], SEGMENT).with_trigger().ends().with_status(201);
}

#[test]
fn a_fast_failover_ends_at_once_and_uses_the_trigger_file_up() {
    for word in
        ["fast", "Fast\n", "\n fast and more than the line that replaces it, by quite a bit\n"]
    {
        let site = Site::new();
        site.put_segment(SEGMENT);
        site.write("trigger", word);
        let ended = site.asks(&[], SEGMENT).with_trigger().ends().with_status(1);
        assert_eq!(
            ended.stderr,
            format!(
                "pg_standby: fast failover requested by trigger file {:?} of {}: recovery ends before {SEGMENT}\n",
                site.trigger(),
                me()
            )
        );
        assert_eq!(site.restored(), None);
        assert_eq!(fs::read_to_string(site.trigger()).unwrap(), used_up(SEGMENT));
    }
}

#[test]
fn after_a_fast_failover_the_server_gets_what_it_asks_for_again_and_nothing_else() {
    let site = Site::new();
    let (last, refused) = (SEGMENT, &after(SEGMENT, 1));
    let bytes = site.put_segment(last);
    site.put_segment(refused);
    site.put_segment(&after(SEGMENT, 2));
    site.write("trigger", "fast");
    let ask = |name: &str| site.asks(&["-s", "60"], name).with_trigger().ends();
    ask(refused).with_status(1).saying("fast failover");
    // 15 and later read ahead and ask twice.
    ask(refused).with_status(1).saying("is refused");
    // Every version asks again for the last segment that it had.
    ask(last).with_status(0).in_silence();
    assert_eq!(site.restored(), Some(bytes));
    fs::remove_file(site.destination()).unwrap();
    ask("00000002.history").with_status(1).in_silence();
    ask("00000001.history").with_status(1).in_silence();
    ask(&after(SEGMENT, 2)).with_status(1);
    // On another timeline it is the same place in WAL.
    ask(&refused.replace("00000001000", "00000002000")).with_status(1).saying("is refused");
    // Nothing is waited for any more: what is absent stays absent.
    ask("000000010000000000000003").with_status(1);
    assert_eq!(site.restored(), None);
    assert_eq!(fs::read_to_string(site.trigger()).unwrap(), used_up(refused));
}

#[test]
fn a_trigger_file_that_comes_while_it_waits_is_seen() {
    for (word, words) in [("smart", "smart failover"), ("fast\n", "fast failover")] {
        let site = Site::new();
        let running = site.asks(&["-s", "0.1"], SEGMENT).with_trigger().starts().until_it_waits();
        site.write("trigger", word);
        running.ends().with_status(1).saying(words);
    }
}

/// Shorter than the time after which an empty trigger file counts.
const A_LITTLE: Duration = Duration::from_millis(80);

#[test]
fn a_word_that_is_written_a_little_later_than_the_file_is_created_counts_500_times_in_a_row() {
    thread::scope(|scope| {
        for thread in 0..4 {
            scope.spawn(move || {
                let site = Site::new();
                let mut round = 0;
                while round < 125 {
                    let asking = site.asks(&["-s", "60"], SEGMENT).with_trigger();
                    let running = asking.starts().until_it_waits();
                    let begin = Instant::now();
                    let mut file = File::create(site.trigger()).unwrap();
                    thread::sleep(Duration::from_millis((thread + round) % 10 * 3));
                    file.write_all(b"fast\n").unwrap();
                    drop(file);
                    let took = begin.elapsed();
                    let ended = running.ends().with_status(1);
                    // If the machine is so busy that the word came much later, the empty file may have counted.
                    if took < A_LITTLE {
                        ended.saying("fast failover");
                        round += 1;
                    }
                    fs::remove_file(site.trigger()).unwrap();
                }
            });
        }
    });
}

#[test]
fn an_empty_trigger_file_counts_once_it_has_settled() {
    let site = Site::new();
    site.write("trigger", "");
    let ended = site.asks(&["-s", "60"], SEGMENT).with_trigger().ends().with_status(1);
    ended.saying("smart failover");
    // Its time may be ahead of ours, on a file server whose clock is wrong.
    let file = File::options().write(true).open(site.trigger()).unwrap();
    file.set_modified(std::time::SystemTime::now() + Duration::from_secs(3600)).unwrap();
    let ended = site.asks(&["-s", "60"], SEGMENT).with_trigger().ends().with_status(1);
    ended.saying("smart failover");
}

#[test]
fn any_other_word_is_reported_once_with_its_owner_and_ignored() {
    let site = Site::new();
    site.write("trigger", "later, perhaps\n");
    let running = site.asks(&["-s", "0.1"], SEGMENT).with_trigger().starts();
    let running =
        running.until_it_says("is ignored: found \"later, perhaps\\n\", expected nothing");
    let bytes = site.put_segment(SEGMENT);
    let ended = running.ends().with_status(0);
    assert_eq!(ended.stderr.lines().count(), 1, "{ended:?}");
    ended.saying(&format!("trigger file {:?} of {}", site.trigger(), me()));
    assert_eq!(site.restored(), Some(bytes));
    assert_eq!(fs::read_to_string(site.trigger()).unwrap(), "later, perhaps\n");
}

#[test]
fn a_trigger_path_that_is_no_regular_file_is_reported_and_never_blocks() {
    let make: [fn(&Path); 3] = [
        |path| fs::create_dir(path).unwrap(),
        |path| mkfifo(path, Mode::S_IRWXU).unwrap(),
        |path| symlink("/dev/zero", path).unwrap(),
    ];
    for make in make {
        let site = Site::new();
        make(&site.trigger());
        let running = site.asks(&["-s", "0.1"], SEGMENT).with_trigger().starts();
        let running = running.until_it_says("is ignored: not a regular file");
        site.put_segment(SEGMENT);
        running.ends().with_status(0);
    }
}

#[test]
fn a_trigger_file_that_cannot_be_read_is_reported_and_ignored() {
    let site = Site::new();
    site.write("trigger", "fast");
    fs::set_permissions(site.trigger(), Permissions::from_mode(0o000)).unwrap();
    let running = site.asks(&["-s", "0.1"], SEGMENT).with_trigger().unprivileged().starts();
    let running = running.until_it_says("is ignored: Permission denied");
    site.put_segment(SEGMENT);
    running.ends().with_status(0);
}

#[test]
fn a_fast_file_that_cannot_be_written_works_and_must_be_removed_by_hand() {
    let site = Site::new();
    site.put_segment(SEGMENT);
    site.write("trigger", "fast");
    fs::set_permissions(site.trigger(), Permissions::from_mode(0o444)).unwrap();
    let ended = site.asks(&[], SEGMENT).with_trigger().unprivileged().ends().with_status(1);
    ended.saying("remove the file by hand").saying("fast failover");
    assert_eq!(fs::read_to_string(site.trigger()).unwrap(), "fast");
}

#[test]
fn a_trigger_file_is_read_through_a_link_and_never_written_through_one() {
    let site = Site::new();
    site.write("target", "fast");
    symlink("target", site.trigger()).unwrap();
    let ended = site.asks(&[], SEGMENT).with_trigger().ends().with_status(1);
    ended.saying("remove the file by hand").saying("fast failover");
    assert_eq!(fs::read_to_string(site.path().join("target")).unwrap(), "fast");
}

#[test]
fn without_the_option_no_file_is_a_trigger() {
    let site = Site::new();
    site.write("trigger", "fast");
    site.put_segment(SEGMENT);
    site.asks(&[], SEGMENT).ends().with_status(0).in_silence();
    let ended = site.asks(&["-t", ""], SEGMENT).ends().with_status(0);
    ended.saying("the name of the trigger file is empty");
}

#[test]
fn an_empty_trigger_file_counts_whoever_may_read_it() {
    let site = Site::new();
    let running = site.asks(&["-s", "60"], SEGMENT).with_trigger().unprivileged().starts();
    let running = running.until_it_waits();
    // Root's umask 077; where the tests are not run by root, nobody may read it at all.
    let mode = if geteuid().is_root() { 0o600 } else { 0 };
    fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(site.trigger()).unwrap();
    let ended = running.ends().with_status(1);
    let said = format!("smart failover requested by trigger file {:?} of {}", site.trigger(), me());
    ended.saying(&said);
}

#[test]
fn a_failover_does_not_wait_for_the_name_of_the_trigger_files_owner() {
    for word in ["fast", "smart", "later"] {
        let site = Site::new();
        site.write("trigger", word);
        if geteuid().is_root() {
            // Nobody's number: /etc/passwd has no name for it.
            chown(site.trigger(), Some(4_000_000_000), None).unwrap();
        }
        let running = site.asks(&[], SEGMENT).with_trigger().with_fault("names").starts();
        if word == "later" {
            let _ = running.until_it_says("is ignored");
        } else {
            running.ends().with_status(1).saying("failover requested by trigger file");
        }
    }
}
