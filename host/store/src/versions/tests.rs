use model::lsn::Lsn;
use model::rollout::{Rollout, RolloutState};
use model::store::Rollouts;
use model::versions::{How, Link};
use sha2::{Digest as _, Sha256};

use super::*;
use crate::rollouts::tests::canary;

fn version(name: &str, number: &str, digest: &str) -> Version {
    Version {
        name: name.to_owned(),
        version: number.to_owned(),
        digest: digest.to_owned(),
        bytes: 3,
        metadata: "{}".to_owned(),
        signatures: vec!["a".to_owned(), "b".to_owned()],
        by: "ann".to_owned(),
        at_us: 1,
        ..Version::default()
    }
}

fn made(sink: &str, number: u64, digest: &str, hold: bool) -> Made {
    let link =
        Link { function: "f".to_owned(), digest: digest.to_owned(), config: "{}".to_owned() };
    let generation = Generation {
        number,
        links: vec![link],
        how: if hold { How::Rollback } else { How::Apply },
        by: "ann".to_owned(),
        reason: "why".to_owned(),
        at_us: 7,
        behind: None,
    };
    Made { name: name(sink), generation, hold, refused: false }
}

fn name(sink: &str) -> BindingName {
    BindingName { sink: sink.to_owned(), role: Role::Transform }
}

fn code<T: std::fmt::Debug>(result: Result<T, VersionsError>) -> &'static str {
    match result {
        Err(VersionsError::Refused { code, .. }) => code,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn b270_a_version_never_moves_not_even_over_its_deletion() {
    let directory = tempfile::tempdir().unwrap();
    let store = Embedded::open(directory.path()).unwrap();
    let epoch = store.epoch();
    assert!(store.add(epoch, version("a-b", "1.0.0", "sha256:1")).await.unwrap());
    assert!(!store.add(epoch, version("a-b", "1.0.0", "sha256:1")).await.unwrap(), "it was there");
    assert_eq!(code(store.add(epoch, version("a-b", "1.0.0", "sha256:2")).await), "version_taken");
    assert_eq!(code(store.add(epoch, version("a_b", "2.0.0", "sha256:2")).await), "name_too_close");
    assert_eq!(store.versions().await.unwrap(), [version("a-b", "1.0.0", "sha256:1")]);
    store.remove(epoch, "a-b", "1.0.0", Deed::default()).await.unwrap();
    assert_eq!(store.versions().await.unwrap(), []);
    assert_eq!(code(store.remove(epoch, "a-b", "1.0.0", Deed::default()).await), "unknown_version");
    assert_eq!(code(store.add(epoch, version("a-b", "1.0.0", "sha256:2")).await), "version_taken");
    assert!(store.add(epoch, version("a-b", "1.0.0", "sha256:1")).await.unwrap());
    let what: Vec<_> = store.deeds(None, 9).await.unwrap().into_iter().map(|it| it.what).collect();
    assert_eq!(what, ["upload", "", "upload"], "each once, the newest first");
}

#[tokio::test]
async fn b270_generations_are_kept_and_what_is_held_or_used_stays() {
    let directory = tempfile::tempdir().unwrap();
    let store = Embedded::open(directory.path()).unwrap();
    let epoch = store.epoch();
    for (number, digest) in [("1.0.0", "sha256:1"), ("2.0.0", "sha256:2"), ("3.0.0", "sha256:3")] {
        store.add(epoch, version("a", number, digest)).await.unwrap();
    }
    store.bind(epoch, vec![made("s", 1, "sha256:1", false)]).await.unwrap();
    let both = vec![made("t", 1, "sha256:3", false), made("s", 1, "sha256:2", false)];
    assert_eq!(code(store.bind(epoch, both).await), "conflict");
    assert_eq!(store.bindings().await.unwrap().len(), 1, "all of it or nothing");
    let behind = Position::new(Lsn(9), 2);
    for place in [behind, Position::new(Lsn(10), 0)] {
        store.begun(epoch, name("s"), 1, place).await.unwrap();
    }
    store.bind(epoch, vec![made("s", 2, "sha256:2", false)]).await.unwrap();
    store.bind(epoch, vec![made("s", 3, "sha256:3", true)]).await.unwrap();
    drop(store);
    let store = Embedded::open(directory.path()).unwrap();
    let epoch = store.epoch();
    let [binding] = &store.bindings().await.unwrap()[..] else { panic!() };
    assert_eq!(binding.current, made("s", 3, "sha256:3", true).generation);
    let hold = binding.hold.as_ref().unwrap();
    assert_eq!((hold.generation, hold.by.as_str(), hold.at_us), (3, "ann", 7));
    let history = store.history("s").await.unwrap();
    let numbers: Vec<_> = history.iter().map(|(_, it)| (it.number, it.behind)).collect();
    assert_eq!(numbers, [(3, None), (2, None), (1, Some(behind))]);
    for (number, is_used) in [("2.0.0", true), ("3.0.0", true), ("1.0.0", false)] {
        let removed = store.remove(epoch, "a", number, Deed::default()).await;
        if is_used {
            assert_eq!(code(removed), "in_use", "{number}");
        } else {
            removed.unwrap();
        }
    }
    assert!(store.release(epoch, name("s"), Deed::default()).await.unwrap());
    assert!(!store.release(epoch, name("s"), Deed::default()).await.unwrap());
    store.bind(epoch, vec![made("s", 4, "sha256:2", true)]).await.unwrap();
    store.bind(epoch, vec![made("s", 5, "sha256:2", false)]).await.unwrap();
    assert_eq!(store.bindings().await.unwrap()[0].hold, None, "another generation ends it");
}

#[tokio::test]
async fn b250_b270_what_rows_take_in_a_rollout_is_neither_deleted_nor_collected() {
    let directory = tempfile::tempdir().unwrap();
    let store = Embedded::open(directory.path()).unwrap();
    let epoch = store.epoch();
    let bytes = b"some bytes";
    let hash: [u8; 32] = Sha256::digest(bytes).into();
    let hash: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
    let digest = format!("sha256:{hash}");
    let mut rollout = Rollout { digest: digest.as_str().into(), ..canary() };
    store.keep(&digest, bytes).unwrap();
    store.add(epoch, version("a", "2.0.0", &digest)).await.unwrap();
    Rollouts::save(&store, epoch, rollout.clone()).await.unwrap();
    let remove = || store.remove(epoch, "a", "2.0.0", Deed::default());
    assert_eq!(code(remove().await), "in_use");
    rollout.state = RolloutState::Aborted;
    Rollouts::save(&store, epoch, rollout.clone()).await.unwrap();
    remove().await.unwrap();
    // Without a name, as what comes from the plugin directory.
    rollout.state = RolloutState::Promoted;
    Rollouts::save(&store, epoch, rollout.clone()).await.unwrap();
    assert_eq!(store.collect(epoch, Deed::default()).await.unwrap(), [""; 0]);
    assert_eq!(store.bytes(&digest).unwrap(), bytes);
    rollout.state = RolloutState::Completed;
    Rollouts::save(&store, epoch, rollout).await.unwrap();
    assert_eq!(store.collect(epoch, Deed::default()).await.unwrap(), [digest]);
}
