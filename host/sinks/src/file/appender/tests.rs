use std::fs::{read_to_string, write};

use tempfile::TempDir;

use super::*;

fn appender(dir: &TempDir, rotate_bytes: Option<u64>) -> Appender {
    let path = dir.path().join("events.ndjson");
    Appender::new(Ready { path, sync: true, rotate_bytes })
}

fn text(dir: &TempDir, name: &str) -> String {
    read_to_string(dir.path().join(name)).unwrap()
}

#[test]
fn lines_are_appended_to_what_is_there() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path().join("events.ndjson"), "older\n").unwrap();
    let mut it = appender(&dir, None);
    it.check().unwrap();
    it.append(b"{}\n").unwrap();
    it.append(b"[]\n").unwrap();
    assert_eq!(text(&dir, "events.ndjson"), "older\n{}\n[]\n");
}

#[test]
fn half_a_line_that_a_kill_left_is_cut_off() {
    let long = format!("{{\"a\":\"{}", "x".repeat(3 * BLOCK));
    for (left, kept) in [
        ("", ""),
        ("{\"a\":", ""),
        ("{\"a\":1}\n{\"b", "{\"a\":1}\n"),
        (&*format!("{{}}\n{long}"), "{}\n"),
        // Whole but for its end, whoever wrote it.
        ("{}\n{\"b\":2}", "{}\n{\"b\":2}\n"),
        ("{}\n\0\0\0", "{}\n"),
    ] {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path().join("events.ndjson"), left).unwrap();
        appender(&dir, None).append(b"{\"next\":1}\n").unwrap();
        assert_eq!(text(&dir, "events.ndjson"), format!("{kept}{{\"next\":1}}\n"), "{left:.40}");
    }
}

#[test]
fn a_text_of_somebody_else_is_not_touched() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path().join("events.ndjson"), "a\nmy notes").unwrap();
    let error = appender(&dir, None).append(b"{}\n").unwrap_err();
    assert!(error.message.contains("has no end and is no message"), "{error}");
    assert_eq!(text(&dir, "events.ndjson"), "a\nmy notes");
}

#[test]
fn a_full_disk_is_told_and_nothing_of_the_batch_stays() {
    let dir = tempfile::tempdir().unwrap();
    let mut it = appender(&dir, None);
    it.append(b"{\"a\":1}\n").unwrap();
    it.write = |file, bytes| {
        file.write_all(bytes.split_at(bytes.len() / 2).0)?;
        Err(ErrorKind::StorageFull.into())
    };
    let error = it.append(b"{\"b\":2}\n{\"c\":3}\n").unwrap_err();
    assert!(error.message.contains("cannot write") && error.message.contains("no storage space"));
    assert_eq!(text(&dir, "events.ndjson"), "{\"a\":1}\n");
    it.write = |file, bytes| file.write_all(bytes);
    it.append(b"{\"b\":2}\n{\"c\":3}\n").unwrap();
    assert_eq!(text(&dir, "events.ndjson"), "{\"a\":1}\n{\"b\":2}\n{\"c\":3}\n");
}

#[test]
fn a_full_file_gets_the_next_number() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path().join("events.ndjson.7"), "older\n").unwrap();
    write(dir.path().join("events.ndjson.gz"), "unrelated").unwrap();
    let mut it = appender(&dir, Some(10));
    for line in ["{\"a\":1}\n", "{\"b\":2}\n", "{\"longer than a file may be\":3}\n", "{}\n"] {
        it.append(line.as_bytes()).unwrap();
    }
    assert_eq!(text(&dir, "events.ndjson.8"), "{\"a\":1}\n");
    assert_eq!(text(&dir, "events.ndjson.9"), "{\"b\":2}\n");
    assert_eq!(text(&dir, "events.ndjson.10"), "{\"longer than a file may be\":3}\n");
    assert_eq!(text(&dir, "events.ndjson"), "{}\n");
    assert_eq!(text(&dir, "events.ndjson.7"), "older\n");
}

#[test]
fn a_file_that_was_moved_or_removed_is_begun_anew() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("events.ndjson");
    let mut it = appender(&dir, None);
    it.append(b"1\n").unwrap();
    std::fs::rename(&path, dir.path().join("moved")).unwrap();
    it.append(b"2\n").unwrap();
    std::fs::remove_file(&path).unwrap();
    it.append(b"3\n").unwrap();
    // As `copytruncate` of logrotate does.
    write(&path, "").unwrap();
    it.append(b"4\n").unwrap();
    assert_eq!((text(&dir, "moved"), text(&dir, "events.ndjson")), ("1\n".into(), "4\n".into()));
}

#[test]
fn two_do_not_write_one_file() {
    let dir = tempfile::tempdir().unwrap();
    let (mut first, mut second) = (appender(&dir, None), appender(&dir, None));
    first.append(b"1\n").unwrap();
    let error = second.append(b"2\n").unwrap_err();
    assert!(error.message.contains("by another sink or process"), "{error}");
    drop(first);
    second.append(b"2\n").unwrap();
    assert_eq!(text(&dir, "events.ndjson"), "1\n2\n");
}

#[test]
fn what_cannot_be_written_is_told_by_a_check_too() {
    let dir = tempfile::tempdir().unwrap();
    let at = |path: PathBuf| Appender::new(Ready { path, sync: true, rotate_bytes: None });
    for (mut it, told) in [
        (at(dir.path().join("nowhere/events")), "the directory"),
        (at(dir.path().to_path_buf()), "no ordinary file"),
        (at("/dev/null".into()), "no ordinary file"),
    ] {
        let (checked, appended) = (it.check().unwrap_err(), it.append(b"{}\n").unwrap_err());
        assert!(checked.message.contains(told), "{checked}");
        assert!(appended.message.contains(told), "{appended}");
    }
    appender(&dir, None).check().unwrap();
    assert!(std::fs::read_dir(dir.path()).unwrap().next().is_none(), "a check creates nothing");
}
