//! The recorded behaviour of the C program, and where ours differs on purpose: `vectors.json`.
//!
//! Each vector is a situation (`files` in the archive, `args`, things that happen `during` the run) and what was seen:
//! `expect` for the C program, `ours` laid over it for this one. With `PG_STANDBY_UNDER_TEST` at the C program `expect`
//! alone counts.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::{Map, Value, json};

use crate::site::{Running, Site, is_the_original};
use crate::wal::{MB, Segment};

const VECTORS: &str = include_str!("vectors.json");
/// Seconds that a busy machine may add to what a vector allows; the C program's sleeps are longer than that.
const SLACK: f64 = 1.5;
/// How many vectors run at once. They mostly wait, and other tests that watch the clock run beside them.
const AT_ONCE: usize = 8;

#[test]
fn every_recorded_vector_holds() {
    let vectors: Vec<Value> = serde_json::from_str(VECTORS).unwrap();
    assert_eq!(vectors.len(), 53);
    let original = is_the_original();
    let waiting = Mutex::new(vectors.iter());
    let next = || waiting.lock().unwrap().next();
    let failures: Vec<String> = thread::scope(|scope| {
        let run = || std::iter::from_fn(next).filter_map(|vector| check(vector, original).err());
        let threads: Vec<_> =
            (0..AT_ONCE).map(|_| scope.spawn(move || run().collect::<Vec<_>>())).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    assert!(failures.is_empty(), "{} fall short:\n{}", failures.len(), failures.join("\n"));
}

fn check(vector: &Value, original: bool) -> Result<(), String> {
    if original && vector.get("skip_original").is_some() {
        return Ok(());
    }
    let mut wanted = vector["expect"].as_object().unwrap().clone();
    let ours = vector.get("ours").and_then(Value::as_object).cloned().unwrap_or_default();
    if original {
        wanted.remove("stdout");
        wanted.remove("stderr");
    } else {
        // Whether the C program printed something matters only where a vector says that it does for ours.
        wanted.retain(|key, _| !matches!(key.as_str(), "stdout" | "stderr"));
        wanted.extend(ours);
    }
    wanted.entry("litter").or_insert(json!([]));
    let seen = observe(vector);
    let mut differences: Vec<String> = wanted
        .iter()
        .filter(|(key, value)| seen.get(*key).unwrap_or(&Value::Null) != *value)
        .map(|(key, value)| {
            format!("{key}: wanted {value}, got {}", seen.get(key).unwrap_or(&Value::Null))
        })
        .collect();
    if !original {
        if seen.get("mode_ok") == Some(&json!(false)) {
            differences.push("the destination's mode is wrong".to_owned());
        }
        let limit = vector.get("max_s").and_then(Value::as_f64).map(|limit| limit + SLACK);
        let wall = seen.get("wall").and_then(Value::as_f64);
        if limit.zip(wall).is_some_and(|(limit, wall)| wall > limit) {
            differences.push(format!("it took {} s", seen["wall"]));
        }
    }
    if differences.is_empty() {
        return Ok(());
    }
    Err(format!("{}: {} ({})", vector["name"], differences.join("; "), seen["said"]))
}

fn observe(vector: &Value) -> Map<String, Value> {
    let site = Site::with(
        vector.get("archive_dir").map_or("archive", |name| name.as_str().unwrap()),
        vector.get("dest").map_or("pg_wal/RECOVERYXLOG", |name| name.as_str().unwrap()),
    );
    if vector.get("no_archive").is_some() {
        fs::remove_dir(site.archive()).unwrap();
    }
    for file in list(vector, "files") {
        put(&site, text(&file[0]), text(&file[1]));
    }
    if let Some(content) = vector.get("trigger") {
        fs::write(site.trigger(), text(content)).unwrap();
    }
    if vector.get("dest_before").is_some() {
        fs::write(site.destination(), "old").unwrap();
    }
    let args = list(vector, "args").into_iter().map(|arg| match text(&arg) {
        "{a}" => site.archive().into(),
        "{d}" => site.destination().into(),
        "{t}" => site.trigger().into_os_string(),
        other => other.into(),
    });
    let start = Instant::now();
    let mut running = site.runs(args.collect::<Vec<_>>()).starts();
    for event in list(vector, "during") {
        let due = start + Duration::from_millis(event[0].as_u64().unwrap());
        while Instant::now() < due && running.goes_on() {
            thread::sleep(Duration::from_millis(2));
        }
        happen(&site, &mut running, &event);
    }
    let limit = vector.get("limit_s").map_or(20.0, |seconds| seconds.as_f64().unwrap());
    let left = (start + Duration::from_secs_f64(limit)).saturating_duration_since(Instant::now());
    let ended = running.ends_within(left);
    drop(running);
    describe(vector, &site, ended)
}

fn describe(vector: &Value, site: &Site, ended: Option<crate::site::Ended>) -> Map<String, Value> {
    let mut seen = Map::new();
    let mut see = |key: &str, value: Value| seen.insert(key.to_owned(), value);
    match ended {
        None => see("status", json!("waits")),
        Some(ended) => {
            see("stdout", json!(!ended.stdout.is_empty()));
            see("stderr", json!(!ended.stderr.is_empty()));
            see("said", json!(ended.stderr));
            see("wall", json!(ended.wall.as_secs_f64()));
            match ended.status.signal() {
                Some(signal) => see("signal", json!(signal)),
                None => see("status", json!(ended.status.code())),
            }
        }
    };
    if seen.get("status") == Some(&json!("waits")) {
        let said = fs::read_to_string(site.path().join("stderr")).unwrap();
        seen.insert("stderr".to_owned(), json!(!said.is_empty()));
    }
    let mut see = |key: &str, value: Value| seen.insert(key.to_owned(), value);
    see("dest", json!(destination(vector, site)));
    if let Ok(metadata) = fs::metadata(site.destination()) {
        let mode = metadata.permissions().mode() & 0o777;
        see("mode_ok", json!(mode & !0o640 == 0 && mode & 0o600 == 0o600));
    }
    if site.archive().is_dir() {
        see("archive", json!(site.listing()));
    }
    see("litter", json!(site.litter()));
    if let Ok(content) = fs::read_to_string(site.trigger()) {
        see("trigger", json!(content));
    }
    seen
}

fn destination(vector: &Value, site: &Site) -> String {
    let Some(restored) = site.restored() else { return "absent".to_owned() };
    let mut files: Vec<(String, String)> = list(vector, "files")
        .iter()
        .map(|file| (text(&file[0]).to_owned(), text(&file[1]).to_owned()))
        .collect();
    for event in list(vector, "during") {
        match text(&event[1]) {
            "put" => files.push((text(&event[2]).to_owned(), text(&event[3]).to_owned())),
            "half_then_full" => files.push((text(&event[2]).to_owned(), "seg".to_owned())),
            _ => {}
        }
    }
    match files.iter().rev().find(|(name, kind)| restored == content(name, kind)) {
        Some((name, _)) => format!("same as {name}"),
        None => format!("{} other bytes", restored.len()),
    }
}

fn happen(site: &Site, running: &mut Running<'_>, event: &Value) {
    match text(&event[1]) {
        "put" => put(site, text(&event[2]), text(&event[3])),
        "half_then_full" => {
            let bytes = content(text(&event[2]), "seg");
            let (first, second) = bytes.split_at(MB / 2);
            let mut file = File::create(site.archive().join(text(&event[2]))).unwrap();
            file.write_all(first).unwrap();
            thread::sleep(Duration::from_secs_f64(event[3].as_f64().unwrap()));
            file.write_all(second).unwrap();
        }
        "trigger" => fs::write(site.trigger(), text(&event[2])).unwrap(),
        "kill" if running.goes_on() => running.signal(text(&event[2]).parse::<Signal>().unwrap()),
        "kill" => {}
        other => panic!("no such event: {other}"),
    }
}

fn put(site: &Site, name: &str, kind: &str) {
    if kind == "dir" {
        fs::create_dir(site.archive().join(name)).unwrap();
    } else if let Some(target) = kind.strip_prefix("link:") {
        symlink(Path::new(target), site.archive().join(name)).unwrap();
    } else {
        site.put(name, content(name, kind));
    }
}

fn content(name: &str, kind: &str) -> Vec<u8> {
    if let Some(text) = kind.strip_prefix("text:") {
        return text.as_bytes().to_vec();
    }
    let good = Segment::named(&name[..24]);
    let whole = good.bytes();
    match kind {
        "seg" => whole,
        "seg16" => Segment::sized(name, 16 * MB).bytes(),
        "half" => whole[..MB / 2].to_vec(),
        "over" => [&whole[..], b"x"].concat(),
        "zeros" => vec![0; MB],
        "empty" => Vec::new(),
        "otherpage" => good.with(|is| is.lsn = 77 << 20).bytes(),
        other => panic!("no such kind of file: {other}"),
    }
}

fn list(vector: &Value, key: &str) -> Vec<Value> {
    vector.get(key).and_then(Value::as_array).cloned().unwrap_or_default()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap()
}
