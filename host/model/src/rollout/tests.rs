use super::diff::{Difference, diff, is_same};
use super::*;
use crate::lsn::Lsn;

fn at(n: u64) -> Position {
    Position::new(Lsn(n), 0)
}

fn rollout() -> Rollout {
    Rollout {
        id: "r".into(),
        sink_id: "s".into(),
        sink: "s".into(),
        function: "f".into(),
        component: "f@2".into(),
        digest: "sha256:2".into(),
        base: "sha256:1".into(),
        state: RolloutState::Canary,
        why: None,
        percent: 20,
        steps: Vec::new(),
        rules: Rules::default(),
        drained: false,
        resumed: 0,
        created_us: 0,
        updated_us: 0,
    }
}

fn stepped(steps: &[(&str, u64, u8)]) -> Rollout {
    let mut rollout = rollout();
    for (origin, from, percent) in steps {
        rollout.percent = *percent;
        rollout.step(&Arc::from(*origin), at(*from), 0);
    }
    rollout
}

#[test]
fn b270_a_share_is_in_force_from_its_position_on() {
    let rollout = stepped(&[("a", 100, 100), ("a", 200, 0), ("a", 300, 100)]);
    let took = |n| rollout.takes("a", at(n), 7);
    let expected = [(99, false), (100, true), (199, true), (200, false), (299, false), (300, true)];
    for (n, takes) in expected {
        assert_eq!(took(n), takes, "{n}");
    }
    assert!(rollout.may_step("a", at(301)) && !rollout.may_step("a", at(300)));
    assert!(rollout.may_step("b", at(1)), "positions of another stream mean something else");
}

#[test]
fn b270_another_stream_goes_on_with_what_was_decided_last() {
    let mut rollout = stepped(&[("a", 100, 100)]);
    assert!(rollout.takes("b", at(1), 7), "wherever it begins");
    rollout.percent = 0;
    rollout.step(&Arc::from("b"), at(50), 0);
    assert!(rollout.takes("b", at(49), 7) && !rollout.takes("b", at(50), 7));
    assert!(!rollout.takes("a", at(99), 7) && rollout.takes("a", at(100), 7), "what is finished");
}

#[test]
fn b270_what_was_decided_waits_for_its_position() {
    let mut rollout = rollout();
    assert_eq!(rollout.pending(), Some(20));
    assert!((0..1_000).all(|key| !rollout.takes("a", at(1), key)));
    rollout.step(&Arc::from("a"), at(1), 5);
    assert_eq!((rollout.pending(), rollout.updated_us), (None, 5));
}

#[test]
fn a_share_is_about_as_large_as_it_says_and_grows_by_more_of_the_same() {
    let shares: Vec<Rollout> = [1, 20, 50].map(|percent| stepped(&[("a", 1, percent)])).into();
    let mut taken = [0; 3];
    for key in 0..20_000_u64 {
        // As FNV leaves them.
        let key = GroupKeyOf(key).key();
        let takes: Vec<bool> = shares.iter().map(|it| it.takes("a", at(1), key)).collect();
        assert!(takes.is_sorted(), "who has it keeps it when the share grows");
        taken.iter_mut().zip(takes).for_each(|(count, takes)| *count += usize::from(takes));
    }
    for (count, expected) in taken.into_iter().zip([200, 4_000, 10_000]) {
        assert!(count.abs_diff(expected) < expected / 10 + 50, "{count} of {expected}");
    }
    let other = Rollout { id: "other".into(), ..shares[1].clone() };
    let both = (0..20_000)
        .filter(|key| shares[1].takes("a", at(1), *key) && other.takes("a", at(1), *key));
    assert!((600..1_000).contains(&both.count()), "another rollout tries other rows");
}

struct GroupKeyOf(u64);

impl GroupKeyOf {
    fn key(&self) -> u64 {
        let text = self.0.to_string();
        crate::groups::GroupKey::of_values(Some(1), [text.as_str()]).0
    }
}

#[test]
fn a_record_is_the_same_after_it_was_written() {
    let mut rollout = stepped(&[("a", u64::MAX, 20)]);
    rollout.rules.auto_promote = Some(AutoPromote { rows: 5, seconds: 6 });
    let text = serde_json::to_string(&rollout).unwrap();
    assert_eq!(serde_json::from_str::<Rollout>(&text).unwrap(), rollout);
}

#[test]
fn rules_that_cannot_be_are_named() {
    assert_eq!(Rules::default().check(), Ok(()));
    let wrong = Rules { max_trap_percent: f64::NAN, ..Rules::default() };
    assert_eq!(wrong.check().unwrap_err().field, "max_trap_percent");
    let wrong = Rules { max_p99_factor: Some(0.0), ..Rules::default() };
    assert_eq!(wrong.check().unwrap_err().to_string(), "max_p99_factor must be more than 0");
}

#[test]
fn differences_are_told_by_pointer_with_both_values() {
    let old = r#"{"a": 1, "b": {"c/d": [1, 2], "e~": "x"}, "same": null}"#;
    let new = r#"{"same": null, "b": {"c/d": [1, 3, 4], "e~": "y"}, "n": true}"#;
    let difference = |pointer: &str, old: &str, new: &str| {
        let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        Difference { pointer: pointer.to_owned(), old: some(old), new: some(new) }
    };
    let all = [
        difference("/a", "1", ""),
        difference("/b/c~1d/1", "2", "3"),
        difference("/b/c~1d/2", "", "4"),
        difference("/b/e~0", "\"x\"", "\"y\""),
        difference("/n", "", "true"),
    ];
    assert_eq!(diff(old, new, 10), all);
    assert_eq!(diff(old, new, 2), all[..2]);
    assert!(is_same(r#"{"a":1,"b":2}"#, r#"{ "b": 2, "a": 1 }"#));
    assert!(!is_same("no JSON", "{}"));
    let long = format!("\"{}\"", "é".repeat(600));
    assert!(diff(&long, "1", 1)[0].old.as_ref().unwrap().ends_with("… (1202 bytes)"));
}
