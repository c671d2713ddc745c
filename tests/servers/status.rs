//! What `--status` says of a real standby while something is wrong with it: the first line names it, whatever form the
//! answer has, and once it has been mended nothing is wrong any more.

use std::fs;
use std::process::Output;

use crate::header::Header;
use crate::machine::{Doing, PATIENCE, Result, wait_for};
use crate::trial::{OFTEN, Trial};

tests_on!(postgresql_10 10, postgresql_18 18: [
    the_first_line_names_what_is_wrong_with_the_archive,
    the_first_line_names_what_is_wrong_with_the_standby,
    an_empty_archive_is_critical_before_consistency,
]);

/// Asks in one form, as the server's user.
fn ask(trial: &Trial, options: &[&str]) -> Result<Output> {
    let machine = &trial.pair.machine;
    let mut command = machine.command(machine.pg_standby());
    command.args(options).arg("-D").arg(&trial.pair.standby.data).arg(trial.archive());
    command.output().doing("--status")
}

/// Asks until the first line begins like this, and gives the whole text. The other forms have to agree.
fn says(trial: &Trial, beginning: &str, status: i32) -> Result<String> {
    let mut text = String::new();
    let said = wait_for(format_args!("{beginning:?}"), PATIENCE, || {
        let output = ask(trial, &["--status"])?;
        // Each entry on one line.
        text = String::from_utf8_lossy(&output.stdout).replace("\n            ", " ");
        Ok(text.starts_with(beginning) && output.status.code() == Some(status))
    });
    said.doing(&text)?;
    let (code, what) = beginning.split_once(' ').unwrap();
    let plugin = ask(trial, &["--status=plugin"])?;
    let line = String::from_utf8_lossy(&plugin.stdout);
    let state = ["OK", "WARNING", "CRITICAL"][usize::try_from(status)?];
    assert_eq!(plugin.status.code(), Some(status), "{line}");
    assert!(line.starts_with(&format!("PG_STANDBY {state} - ")), "{line}");
    if status > 0 {
        let named = format!("{}: {}", code.to_lowercase(), what.trim());
        assert!(line.contains(&named), "{named:?} in {line}");
    }
    Ok(text)
}

/// Every record that the primary has archived is read, and the one of which a bit is wrong is named.
fn checks_every_record(trial: &Trial) -> Result<()> {
    let machine = &trial.pair.machine;
    let check = || -> Result<(Option<i32>, String)> {
        let mut command = machine.command(machine.pg_standby());
        let output = command.args(["--status", "--verify=records"]).arg(machine.archive()).output();
        let output = output.doing("--verify=records")?;
        let text = String::from_utf8_lossy(&output.stdout).replace("\n            ", " ");
        Ok((output.status.code(), text))
    };
    let count = machine.archived()?.len();
    let (status, text) = check()?;
    assert_eq!(status, Some(0), "{text}");
    assert!(
        count >= 4 && text.contains(&format!("\nchecked     the records of {count}, ")),
        "{text}"
    );
    let name = machine.archived()?.swap_remove(1);
    let path = machine.archive().join(&name);
    let mut bytes = fs::read(&path).doing(&name)?;
    let record = 2 * 8192 + 100;
    bytes[record] ^= 1;
    machine.write(&path, &bytes)?;
    let (status, text) = check()?;
    bytes[record] ^= 1;
    machine.write(&path, &bytes)?;
    assert_eq!(status, Some(2), "{text}");
    let said = format!("SEGMENT     {name} is not ready: the server could read it only up to 0/");
    assert!(text.starts_with(&said), "{text}");
    Ok(())
}

/// Nothing is wrong, and the standby waits for this segment.
fn is_well(trial: &mut Trial) -> Result<String> {
    trial.call()?;
    let text = says(trial, "OK          the standby has asked for everything", 0)?;
    assert!(text.contains("\nbehind      nothing that is in the archive\n"), "{text}");
    assert!(text.contains(" and lose nothing"), "{text}");
    let line = text.lines().find_map(|line| line.strip_prefix("waiting for "));
    Ok(line.unwrap_or_else(|| panic!("nothing is waited for in {text}"))[..24].to_owned())
}

fn the_first_line_names_what_is_wrong_with_the_archive(major: u32) -> Result<()> {
    let mut trial = Trial::new(major, OFTEN)?;
    let awaited = is_well(&mut trial)?;

    // A hole.
    let (missing, next) = (trial.pair.ship()?, trial.pair.ship()?);
    assert_eq!(missing, awaited);
    trial.deliver(&next)?;
    let text =
        says(&trial, &format!("HOLE        {missing} is missing, {} is there", &next[22..]), 2)?;
    assert!(text.contains("\nbehind      1 segment that is in the archive\n"), "{text}");
    let end = format!("\nfailover    now would end before {missing} and lose 1 segment\n");
    assert!(text.contains(&end), "{text}");
    trial.deliver(&missing)?;
    trial.pair.standby_sees_every_row()?;
    is_well(&mut trial)?;

    // Another cluster's segment.
    let name = trial.pair.ship()?;
    let mut strange = fs::read(trial.pair.machine.archive().join(&name)).doing(&name)?;
    let header = Header::of(&strange).unwrap();
    Header { system_identifier: 42, ..header }.put_on(&mut strange);
    trial.put(&name, &strange)?;
    says(&trial, &format!("CLUSTER     {name} is from another cluster: found"), 2)?;
    // One that is not a segment at all.
    trial.put(&name, &vec![7; strange.len()])?;
    says(&trial, &format!("SEGMENT     {name} is not ready: not WAL: found magic 0707"), 2)?;

    // Only what has been received of it, and only a form that is not read.
    fs::rename(trial.archive().join(&name), trial.archive().join(format!("{name}.partial")))?;
    says(&trial, &format!("FORM        there is only {name}.partial, which is not read"), 1)?;
    fs::rename(
        trial.archive().join(format!("{name}.partial")),
        trial.archive().join(format!("{name}.xz")),
    )?;
    says(&trial, &format!("FORM        there is only {name}.xz, which is not read"), 2)?;
    fs::remove_file(trial.archive().join(format!("{name}.xz")))?;
    trial.deliver(&name)?;
    trial.pair.standby_sees_every_row()?;
    let awaited = is_well(&mut trial)?;

    // A later timeline, which a server looks for only when it starts.
    let history = trial.archive().join("00000002.history");
    trial.put("00000002.history", b"1\t0/1000100\tno recovery target specified\n")?;
    let text =
        says(&trial, "TIMELINE    timeline 2 began at 0/1000100; the standby still asks for", 2)?;
    assert!(text.contains(&awaited), "{text}");
    assert!(text.contains("\ntimelines   1; 2 began at 0/1000100\n"), "{text}");
    fs::remove_file(history)?;
    is_well(&mut trial)?;

    // Nothing at all, and no archive at all.
    let away = trial.place("away");
    fs::rename(trial.archive(), &away)?;
    says(&trial, "ARCHIVE     could not read", 2)?;
    trial.pair.machine.make_directory(&trial.archive())?;
    says(&trial, "EMPTY       the archive holds no segment", 1)?;
    fs::remove_dir(trial.archive())?;
    fs::rename(&away, trial.archive())?;
    is_well(&mut trial)?;
    trial.follow()?;
    checks_every_record(&trial)
}

fn the_first_line_names_what_is_wrong_with_the_standby(major: u32) -> Result<()> {
    let mut trial = Trial::new(major, OFTEN)?;
    is_well(&mut trial)?;

    // A trigger file that triggers nothing.
    trial.pair.machine.ask_for_failover("please")?;
    let trigger = trial.pair.machine.trigger_file();
    says(&trial, &format!("TRIGGER     trigger file {trigger:?} is"), 1)?;
    fs::remove_file(&trigger)?;
    is_well(&mut trial)?;

    trial.pair.standby.stop_fast()?;
    let text = says(&trial, "STOPPED     the standby does not run", 2)?;
    assert!(text.contains(", does not run, in recovery (recovery."), "{text}");
    trial.pair.standby.start()?;
    is_well(&mut trial)?;

    trial.pair.machine.ask_for_failover("smart")?;
    trial.pair.standby.wait_for_promotion()?;
    says(&trial, "PRIMARY     the server is not in recovery", 2)?;
    Ok(())
}

fn an_empty_archive_is_critical_before_consistency(major: u32) -> Result<()> {
    let mut trial = Trial::not_started(major, OFTEN)?;
    trial.pair.standby.start()?;
    trial.call()?;
    says(&trial, "EMPTY       the archive holds no segment", 2)?;
    trial.follow()?;
    is_well(&mut trial).map(drop)
}
