//! What a standby registers of its requests: what it has asked for, since when, and that it is still waiting.

use std::fs;
use std::process::Command;
use std::time::Duration;

use super::{age, asks, put_registration, registration, segments, whole_registration};
use crate::site::{FIRST, Running, SEGMENT, Site, output_of, wait_until};
use crate::wal::after;

/// The line of it that says what was asked for, without the time, and the time.
fn asked(site: &Site, name: &str) -> Option<(String, String)> {
    let registration = whole_registration(site, name)?;
    let (asked, since) = registration.lines().nth(1)?.split_once(" since ")?;
    Some((asked.to_owned(), since.to_owned()))
}

/// Waits, because nothing more comes.
fn waits<'a>(site: &'a Site, name: &str, requested: &str, restart: &str) -> Running<'a> {
    let options = ["-s", "0.1", "--standby-name", name];
    site.asks(&options, requested).arg(restart).starts()
}

#[test]
fn a_registration_says_what_was_asked_for_and_since_when() {
    let site = Site::with_five_segments();
    asks(&site, "a", SEGMENT, FIRST).ends().with_status(0).in_silence();
    let (what, since) = asked(&site, "a").unwrap();
    assert_eq!(what, format!("asked for {SEGMENT}"));
    let seconds = |date: &str| -> i64 {
        let output = output_of(Command::new("date").args(["-u", "+%s", "-d", date]));
        String::from_utf8_lossy(&output.stdout).trim().parse().unwrap()
    };
    assert!((0..60).contains(&(seconds("now") - seconds(&since))), "{since:?}");
}

#[test]
fn a_standby_that_waits_renews_a_registration_that_is_old() {
    let site = Site::with_five_segments();
    let next = after(SEGMENT, 1);
    let path = site.archive().join(".pg_standby/a");
    // One line, as an earlier version or an operator writes it.
    put_registration(&site, "a", &after(FIRST, 1));
    age(&site, "a", Duration::from_secs(90));
    let running = waits(&site, "a", &next, &after(FIRST, 2));
    wait_until("it is registered", || asked(&site, "a").is_some());
    assert_eq!(registration(&site, "a").unwrap(), format!("{}\n", after(FIRST, 2)));
    let (what, since) = asked(&site, "a").unwrap();
    assert_eq!(what, format!("asked for {next}"));
    let age_now = fs::metadata(&path).unwrap().modified().unwrap().elapsed().unwrap();
    assert!(age_now < Duration::from_secs(60), "{age_now:?}");
    assert_eq!(running.stderr(), "");
    drop(running);
    // The next call for the same segment goes on with the wait of the first.
    age(&site, "a", Duration::from_secs(90));
    wait_until("another second", || now() != since);
    let running = waits(&site, "a", &next, &after(FIRST, 2));
    let is_new = || fs::metadata(&path).is_ok_and(|it| is_younger_than_a_minute(&it));
    wait_until("it is renewed", is_new);
    assert_eq!(asked(&site, "a").unwrap(), (format!("asked for {next}"), since));
    drop(running);
    assert_eq!(segments(&site), 5, "nothing is pruned by a wait");
}

/// The present, as a registration would say it.
fn now() -> String {
    let now = output_of(Command::new("date").args(["-u", "+%Y-%m-%dT%H:%M:%SZ"]));
    String::from_utf8_lossy(&now.stdout).trim_end().to_owned()
}

fn is_younger_than_a_minute(metadata: &fs::Metadata) -> bool {
    metadata.modified().unwrap().elapsed().unwrap_or_default() < Duration::from_secs(60)
}

#[test]
fn a_standby_that_waits_does_not_write_what_is_known_and_fresh() {
    let site = Site::with_five_segments();
    put_registration(&site, "a", &after(FIRST, 2));
    let running = waits(&site, "a", &after(SEGMENT, 1), &after(FIRST, 2)).until_it_waits();
    assert_eq!(running.still_waits_after(Duration::from_millis(500)), "");
    assert_eq!(whole_registration(&site, "a").unwrap(), after(FIRST, 2));
}

#[test]
fn a_wait_registers_nothing_where_it_must_not_and_says_nothing_where_it_cannot() {
    let next = after(SEGMENT, 1);
    let site = Site::with_five_segments();
    fs::create_dir(site.archive().join("archive_status")).unwrap();
    let running = waits(&site, "a", &next, FIRST).until_it_waits();
    assert_eq!(running.still_waits_after(Duration::from_millis(500)), "");
    assert_eq!(registration(&site, "a"), None, "in a server's WAL directory");

    let site = Site::with_five_segments();
    let options = ["-s", "0.1", "--standby-name", "a"];
    let asking = site.asks(&options, &next).arg(FIRST).with_fault("readonly");
    let running = asking.starts().until_it_waits();
    assert_eq!(running.still_waits_after(Duration::from_millis(500)), "");

    let site = Site::with_five_segments();
    let running = site.asks(&["-s", "0.1"], &next).arg(FIRST).starts().until_it_waits();
    assert_eq!(running.still_waits_after(Duration::from_millis(500)), "");
    assert!(!site.archive().join(".pg_standby").exists(), "a standby without a name");
}
