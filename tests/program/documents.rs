//! What a reader copies from the documents and from the folders of `examples/`: the program accepts their command lines,
//! and each README.md shows the lines of the files beside it.

use std::fs;
use std::io;
use std::path::Path;
use std::process::Command;

use crate::site::{output_of, program};

#[test]
fn every_line_that_runs_is_in_the_readme_of_its_example() -> io::Result<()> {
    let mut files = 0;
    for example in fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("examples"))? {
        let example = example?.path();
        let Ok(readme) = fs::read_to_string(example.join("README.md")) else {
            assert!(!example.join("run").exists(), "{example:?} has no README.md");
            continue;
        };
        for file in fs::read_dir(&example)? {
            let file = file?.path();
            let is_configuration = file
                .extension()
                .is_some_and(|extension| ["conf", "service"].iter().any(|kind| extension == *kind))
                || ["fstab", "passfile"].iter().any(|name| file.ends_with(name));
            if !is_configuration {
                continue;
            }
            files += 1;
            for line in fs::read_to_string(&file)?.lines().filter(|line| !line.starts_with('#')) {
                assert!(readme.lines().any(|shown| shown == line), "{file:?}: {line}");
            }
        }
    }
    assert!(files >= 20, "only {files} configuration files");
    Ok(())
}

/// What stands in a document between `pg_standby` and the end of its command.
fn command_lines(document: &str) -> Vec<String> {
    document
        .lines()
        .flat_map(|line| line.split("pg_standby -").skip(1))
        .map(|rest| rest.split(['\'', '`', '#']).next().unwrap_or_default())
        .map(|arguments| format!("-{}", arguments.split("2>>").next().unwrap_or_default()))
        .map(|arguments| arguments.split(" >").next().unwrap_or_default().to_owned())
        .filter(|arguments| arguments.contains("/srv/pg/wal") || arguments.contains(" ARCHIVE "))
        .collect()
}

#[test]
fn every_command_line_in_the_documents_is_one() -> io::Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let named = ["README.md", "docs/migrating.md", "docs/monitoring.md"];
    let mut documents: Vec<_> = named.iter().map(|name| root.join(name)).collect();
    for example in fs::read_dir(root.join("examples"))? {
        documents.push(example?.path().join("README.md"));
    }
    let place = tempfile::tempdir()?;
    let segment = "000000010000000000000003";
    let mut lines = 0;
    for document in documents.iter().filter(|document| document.exists()) {
        for line in command_lines(&fs::read_to_string(document)?) {
            lines += 1;
            let arguments = line
                // As sudoers has it.
                .replace("\\,", ",")
                .replace("%f", segment)
                .replace("%p", "pg_wal/RECOVERYXLOG")
                .replace("%r", segment)
                .replace("SEGMENT.OFFSET", &format!("{segment}.00000028"))
                .replace("SEGMENT", segment)
                .replace("/srv/pg", &place.path().display().to_string());
            let mut command = Command::new(program());
            command.args(arguments.split_whitespace()).current_dir(place.path());
            let output = output_of(&mut command);
            // There is no such archive, and nothing else may be wrong.
            let said = [&*output.stderr, &*output.stdout].concat();
            let said = String::from_utf8_lossy(&said).replace("\n            ", " ");
            let expected = match line.as_str() {
                line if line.contains("--prune") => 1,
                line if line.contains("--status=plugin") => 3,
                line if line.contains("--status") && !line.contains("-D") => 2,
                _ => 202,
            };
            assert_eq!(output.status.code(), Some(expected), "{document:?}: {line}\n{said}");
            let is_missing = said.contains("does not exist") || said.contains("No such file");
            assert!(is_missing, "{document:?}: {line}\n{said}");
            assert!(!said.contains("pg_standby --help"), "{document:?}: {line}\n{said}");
        }
    }
    assert!(lines >= 20, "only {lines} command lines");
    Ok(())
}

/// Without one, what the server says goes to the terminal, and is gone with it.
#[test]
fn every_server_in_the_documents_starts_with_a_log_file() -> io::Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut documents = vec![root.join("README.md"), root.join("docs/migrating.md")];
    for example in fs::read_dir(root.join("examples"))? {
        documents.push(example?.path().join("README.md"));
    }
    let mut starts = 0;
    for document in documents.iter().filter(|document| document.exists()) {
        let text = fs::read_to_string(document)?;
        for line in
            ["pg_ctl start -D", "pg_ctl restart -D"].iter().flat_map(|it| text.split(it).skip(1))
        {
            starts += 1;
            let arguments = line.split(['`', '\n']).next().unwrap_or_default();
            assert!(arguments.contains(" -l"), "{document:?}: pg_ctl -D{arguments}");
        }
    }
    assert!(starts >= 10, "only {starts} starts");
    Ok(())
}
