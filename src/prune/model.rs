//! Pruning held against a model: random archives, calls and registrations, on real directories.

#![allow(clippy::arithmetic_side_effects, reason = "a test that panics has failed")]

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::os::unix::fs::symlink;

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::cli;
use crate::options::Command;

/// A call on a made-up archive.
#[derive(Clone, Debug)]
struct Case {
    numbering: Numbering,
    requested: SegmentName,
    by: By,
    entries: Vec<(String, Kind)>,
    /// What other standbys have registered, by what is in their files.
    registrations: Vec<String>,
}

#[derive(Clone, Debug)]
enum By {
    RestartFile(String),
    Count(u32),
    Alone(String),
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    File,
    Directory,
    LinkToFile,
    LinkToDirectory,
    LinkToNothing,
}

fn numbering() -> impl Strategy<Value = Numbering> {
    (20..=30_u32, any::<bool>())
        .prop_map(|(shift, skips_last)| Numbering { segment_size: 1 << shift, skips_last })
}

/// Close to the ends of log files, and to one another.
fn segment(numbering: Numbering) -> impl Strategy<Value = SegmentName> {
    let per_log = u32::try_from(numbering.segments_per_log()).unwrap();
    let segment = prop_oneof![0..4_u32, per_log.saturating_sub(3)..per_log.saturating_add(1)];
    (0..4_u32, 0..3_u32, segment).prop_map(|(timeline, log, segment)| SegmentName {
        timeline,
        position: Position { log, segment },
    })
}

fn name(numbering: Numbering) -> impl Strategy<Value = String> {
    let forms = [
        "",
        "",
        "",
        "",
        ".partial",
        ".gz",
        ".lz4",
        ".zst",
        ".partial.gz",
        ".partial.zst",
        ".gz.partial",
        ".lz4.partial",
        ".00000028.backup",
        ".00000028.backup.gz",
        ".history",
        ".tmp",
        ".bz2",
        "0",
        " ",
        ".gz.gz",
    ];
    let form = prop::sample::select(forms.to_vec());
    let near = (segment(numbering), form).prop_map(|(name, form)| format!("{name}{form}"));
    prop_oneof![
        8 => near,
        1 => segment(numbering).prop_map(|it| it.to_string().to_lowercase().replace('0', "a")),
        1 => "[0-9A-F]{8}[.]history|[0-9A-Fa-f]{16,25}|[.]?[a-z]{1,5}",
    ]
}

fn case() -> impl Strategy<Value = Case> {
    numbering().prop_flat_map(|numbering| {
        let last = u32::try_from(numbering.segments_per_log()).unwrap() - 1;
        let requested = segment(numbering).prop_map(move |mut requested| {
            requested.position.segment = requested.position.segment.min(last);
            requested
        });
        let kind = prop_oneof![
            12 => Just(Kind::File),
            1 => Just(Kind::Directory),
            1 => Just(Kind::LinkToFile),
            1 => Just(Kind::LinkToDirectory),
            1 => Just(Kind::LinkToNothing),
        ];
        let by = prop_oneof![
            4 => segment(numbering).prop_map(|it| By::RestartFile(it.to_string())),
            1 => name(numbering).prop_map(By::RestartFile),
            2 => (0..20_u32).prop_map(By::Count),
            1 => any::<u32>().prop_map(By::Count),
            2 => (segment(numbering), prop::sample::select(vec!["", ".partial", ".00000028.backup"]))
                .prop_map(|(segment, form)| By::Alone(format!("{segment}{form}"))),
        ];
        let registration = prop_oneof![
            12 => segment(numbering).prop_map(|it| format!("{it}\n")),
            1 => "[0-9A-F]{0,23}",
        ];
        let registrations =
            prop_oneof![3 => vec(registration.clone(), 0..1), 1 => vec(registration, 1..4)];
        (requested, by, vec((name(numbering), kind), 0..24), registrations).prop_map(
            move |(requested, by, entries, registrations)| Case {
                numbering,
                requested,
                by,
                entries,
                registrations,
            },
        )
    })
}

/// The rules of pruning, told in text: characters 9 to 24 of names, compared as they are.
impl Case {
    fn cutoff(&self) -> Option<String> {
        let SegmentName { position: requested, .. } = self.requested;
        let text = |at: Position| format!("{:08X}{:08X}", at.log, at.segment);
        let own = match &self.by {
            By::RestartFile(name) => Some(name)
                .filter(|name| name.len() == 24 && is_hexadecimal(name))
                .map(|name| name[8..].to_owned())
                .filter(|cutoff| *cutoff <= text(requested)),
            By::Alone(name) => Some(name[8..24].to_owned()),
            By::Count(0) => None,
            By::Count(count) => {
                let last = u32::try_from(self.numbering.segments_per_log()).unwrap() - 1;
                (0..*count)
                    .try_fold(requested, |Position { log, segment }, _| match (log, segment) {
                        (0, 0) => None,
                        (_, 0) => Some(Position { log: log - 1, segment: last }),
                        _ => Some(Position { segment: segment - 1, log }),
                    })
                    .map(text)
            }
        };
        let own = own.filter(|cutoff| *cutoff != "0".repeat(16))?;
        let others: Option<Vec<_>> =
            self.registrations.iter().map(|it| it.get(8..24).map(str::to_owned)).collect();
        others?.into_iter().chain([own]).min()
    }

    fn stays(&self, name: &str, kind: Kind) -> bool {
        let Some(cutoff) = self.cutoff() else { return true };
        let Some((segment, form)) = name.split_at_checked(24) else { return true };
        let form = form.strip_prefix(".partial").or(form.strip_suffix(".partial")).unwrap_or(form);
        !["", ".gz", ".lz4", ".zst"].contains(&form)
            || !is_hexadecimal(segment)
            || segment[8..] >= *cutoff
            || matches!(kind, Kind::Directory | Kind::LinkToDirectory)
    }

    fn plays(&self) -> Result<(), TestCaseError> {
        let root = tempfile::tempdir()?;
        let below = |name: &str| root.path().join(name);
        let (archive, target) = (below("archive"), below("elsewhere/000000010000000000000000"));
        fs::create_dir_all(archive.join(".pg_standby"))?;
        fs::create_dir(below("elsewhere"))?;
        fs::write(&target, "")?;
        for (name, kind) in &self.entries {
            let path = archive.join(name);
            match kind {
                Kind::File => fs::write(path, "")?,
                Kind::Directory => fs::create_dir(path)?,
                Kind::LinkToFile => symlink(&target, path)?,
                Kind::LinkToDirectory => symlink(below("elsewhere"), path)?,
                Kind::LinkToNothing => symlink(below("nothing"), path)?,
            }
        }
        for (number, registration) in self.registrations.iter().enumerate() {
            fs::write(archive.join(format!(".pg_standby/{number}")), registration)?;
        }
        let mut line: Vec<OsString> = vec!["pg_standby".into()];
        let operands = [
            archive.clone().into(),
            self.requested.to_string().into(),
            below("pg_wal/RECOVERYXLOG").into(),
        ];
        match &self.by {
            By::RestartFile(name) => line.extend(operands.into_iter().chain([name.into()])),
            By::Count(count) => {
                line.extend(["-k".into(), count.to_string().into()].into_iter().chain(operands));
            }
            By::Alone(name) => line.extend(["--prune".into(), archive.clone().into(), name.into()]),
        }
        let done = match cli::parse(line) {
            Ok(Command::Restore(options)) => {
                remove_preceding(self.requested, self.numbering, &options)
            }
            Ok(Command::Prune(pruning)) => standalone(&pruning).map(drop),
            other => return Err(TestCaseError::fail(format!("{other:?}"))),
        };
        let mut expected: Vec<_> =
            self.entries.iter().filter(|(name, kind)| self.stays(name, *kind)).collect();
        expected.sort_by(|one, other| one.0.cmp(&other.0));
        let mut left = Vec::new();
        for entry in fs::read_dir(&archive)? {
            left.push(entry?.file_name().into_string().unwrap());
        }
        left.retain(|name| name != ".pg_standby");
        left.sort();
        prop_assert_eq!(
            left,
            expected.iter().map(|it| it.0.clone()).collect::<Vec<_>>(),
            "{:?}",
            done
        );
        prop_assert!(target.exists());
        Ok(())
    }
}

fn is_hexadecimal(text: &str) -> bool {
    text.bytes().all(|byte| b"0123456789ABCDEF".contains(&byte))
}

proptest! {
    // PROPTEST_CASES=1000000 for as many; TMPDIR on a tmpfs makes that a matter of minutes.
    #[test]
    fn what_is_left_is_what_the_model_says(mut case in case()) {
        let mut seen = BTreeSet::new();
        case.entries.retain(|(name, _)| seen.insert(name.clone()));
        case.plays()?;
    }
}
