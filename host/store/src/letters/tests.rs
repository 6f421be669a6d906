use model::lsn::Lsn;
use model::store::Stage;

use super::*;

fn letter(ordinal: u64, error: &str) -> Letter {
    Letter {
        origin: "o".into(),
        sink: "a".into(),
        position: Position::new(Lsn(7), ordinal),
        table: "public.t".into(),
        input: format!("{{\"n\":{ordinal}}}"),
        relation: Some("{\"oid\":1}".into()),
        keys: vec![GroupKey(u64::MAX - ordinal), GroupKey(ordinal)],
        reason: "plugin_trap".into(),
        error: error.into(),
        plugin: Some("sha256:00".into()),
        config: "c".into(),
        attempts: 1,
        ..Letter::default()
    }
}

fn all() -> LetterQuery {
    LetterQuery { limit: 100, ..LetterQuery::default() }
}

fn store() -> (tempfile::TempDir, Embedded) {
    let directory = tempfile::tempdir().unwrap();
    let store = Embedded::open(directory.path()).unwrap();
    (directory, store)
}

async fn errors(store: &Embedded, query: LetterQuery) -> Vec<String> {
    let page = store.list(query).await.unwrap();
    page.letters.into_iter().map(|stored| stored.letter.error).collect()
}

#[tokio::test]
async fn a_letter_comes_back_whole_and_another_failure_replaces_it() {
    let (_directory, store) = store();
    let message = Letter { stage: Stage::Message, message: Some("{}".into()), ..letter(0, "sent") };
    let first = vec![letter(0, "first"), letter(1, "second"), message.clone()];
    store.bury(store.epoch(), first.into()).await.unwrap();
    store.bury(store.epoch(), vec![letter(0, "again")].into()).await.unwrap();
    // The row's change and a message of it are two letters.
    assert_eq!(errors(&store, all()).await, ["again", "second", "sent"]);
    let listed = store.list(all()).await.unwrap().letters.remove(2);
    assert_eq!((&*listed.letter.input, &listed.letter.message), ("", &None));
    let whole = store.get(listed.id).await.unwrap().unwrap();
    assert_eq!(whole.letter, message);
    assert_eq!(whole.state, LetterState::Open);
    assert_eq!(store.get(99).await.unwrap(), None);
}

#[tokio::test]
async fn lists_are_paged_and_filtered() {
    let (_directory, store) = store();
    let letters = (0..10).map(|n| letter(n, &format!("error {n}"))).collect();
    store.bury(store.epoch(), letters).await.unwrap();
    let other = Letter { sink: "b".into(), reason: "delivery".into(), ..letter(50, "other") };
    let other = Letter { table: "x.y".into(), ..other };
    store.bury(store.epoch(), vec![other].into()).await.unwrap();
    let of_a = || LetterQuery { sink: Some("a".into()), ..all() };
    let mut query = LetterQuery { limit: 4, ..of_a() };
    let mut pages = Vec::new();
    loop {
        let page = store.list(query.clone()).await.unwrap();
        pages.push(page.letters.len());
        let Some(next) = page.next else { break };
        query.after = next;
    }
    assert_eq!(pages, [4, 4, 2]);
    let text = |text: &str| LetterQuery { text: Some(text.into()), ..all() };
    assert_eq!(errors(&store, text("\"n\":3")).await, ["error 3"]);
    assert_eq!(errors(&store, text("r 4")).await, ["error 4"]);
    assert_eq!(errors(&store, text("%")).await.len(), 0, "no pattern");
    let reason = LetterQuery { reason: Some("delivery".into()), ..all() };
    assert_eq!(errors(&store, reason).await, ["other"]);
    let table = LetterQuery { table: Some("x.y".into()), ..all() };
    assert_eq!(errors(&store, table).await, ["other"]);
    let early = LetterQuery { until: Some("2000-01-01T00:00:00Z".into()), ..all() };
    assert_eq!(errors(&store, early).await.len(), 0);
    let late = LetterQuery { since: Some("2000-01-01T00:00:00Z".into()), ..all() };
    assert_eq!(errors(&store, late).await.len(), 11);
    let counts = store.counts().await.unwrap();
    let told: Vec<_> = counts.iter().map(|it| (&*it.sink, &*it.reason, it.letters)).collect();
    assert_eq!(told, [("a", "plugin_trap", 10), ("b", "delivery", 1)]);
}

#[tokio::test]
async fn newer_state_supersedes_letters_of_its_row_alone() {
    let (_directory, store) = store();
    let (epoch, keys) = (store.epoch(), || store.keys("a", 0));
    store.bury(epoch, vec![letter(1, "x"), letter(2, "y")].into()).await.unwrap();
    assert_eq!(keys().await.unwrap().0.len(), 4);
    let at = |ordinal| Position::new(Lsn(7), ordinal);
    let supersede = |origin, sink, key, ordinal| {
        store.supersede(epoch, origin, sink, vec![(GroupKey(key), at(ordinal))])
    };
    assert!(supersede("o", "a", 1, 1).await.unwrap().is_empty(), "its own position");
    assert!(supersede("o", "a", 3, 9).await.unwrap().is_empty(), "another row");
    assert!(supersede("o", "b", 1, 9).await.unwrap().is_empty(), "another sink");
    let marked = supersede("o", "a", u64::MAX - 1, 2).await.unwrap();
    let [id] = marked[..] else { panic!("{marked:?}") };
    assert_eq!(store.get(id).await.unwrap().unwrap().state, LetterState::Superseded);
    // Positions of another stream say nothing: all that it sends is newer.
    assert_eq!(supersede("p", "a", 2, 0).await.unwrap().len(), 1);
    store.close(epoch, id, Close::Discarded, "not needed").await.unwrap();
    assert_eq!(keys().await.unwrap().0.len(), 2, "of what is open");
}

#[tokio::test]
async fn an_edit_keeps_the_original_and_a_closed_letter_is_as_it_was() {
    let (_directory, store) = store();
    let epoch = store.epoch();
    store.bury(epoch, vec![letter(1, "x")].into()).await.unwrap();
    let id = store.list(all()).await.unwrap().letters[0].id;
    for text in ["once", "twice"] {
        store.edit(epoch, id, Edit::Input(text.into())).await.unwrap();
    }
    let edited = store.get(id).await.unwrap().unwrap();
    assert_eq!(
        (&*edited.letter.input, edited.original_input.as_deref()),
        ("twice", Some("{\"n\":1}"))
    );
    assert!(edited.edited_at.is_some());
    assert_eq!(edited.bytes, 6, "of what is there now");
    let refused = |edited: Result<(), StoreError>| match edited {
        Err(StoreError::Refused(why)) => why,
        other => panic!("{other:?}"),
    };
    let none = store.edit(epoch, id, Edit::Message("x".into())).await;
    assert!(refused(none).contains("no message"));
    store.failed_again(epoch, id, "worse", 3).await.unwrap();
    store.close(epoch, id, Close::Discarded, "ann: a test row").await.unwrap();
    store.close(epoch, id, Close::Replayed, "").await.unwrap();
    store.failed_again(epoch, id, "late", 3).await.unwrap();
    let closed = store.get(id).await.unwrap().unwrap();
    assert_eq!((closed.state, closed.letter.attempts), (LetterState::Discarded, 4));
    assert_eq!(
        (closed.closed.unwrap().1, closed.letter.error),
        ("ann: a test row".into(), "worse".into())
    );
    let late = store.edit(epoch, id, Edit::Input("x".into())).await;
    assert!(refused(late).contains("is discarded"));
    assert!(refused(store.edit(epoch, 99, Edit::Input("x".into())).await).contains("no letter"));
}

#[tokio::test]
async fn an_older_process_changes_no_letter() {
    let (_directory, store) = store();
    store.bury(store.epoch(), vec![letter(1, "x")].into()).await.unwrap();
    let older = Epoch(store.epoch().0 - 1);
    let fenced = |result| assert!(matches!(result, Err(StoreError::Fenced { .. })), "{result:?}");
    fenced(store.bury(older, vec![letter(2, "y")].into()).await);
    fenced(store.close(older, 1, Close::Discarded, "").await);
    fenced(store.edit(older, 1, Edit::Input("x".into())).await);
    fenced(store.failed_again(older, 1, "x", 1).await);
    assert_eq!(store.get(1).await.unwrap().unwrap().letter, letter(1, "x"));
}

#[tokio::test]
async fn what_retention_removes_is_counted() {
    let (directory, store) = store();
    let epoch = store.epoch();
    store.bury(epoch, (0..4).map(|n| letter(n, "1234")).collect()).await.unwrap();
    let nothing = store.retain(epoch, Retention::default()).await.unwrap();
    assert_eq!(nothing, []);
    store.close(epoch, 4, Close::Replayed, "").await.unwrap();
    // 11 bytes each.
    let half = Retention { bytes_max: Some(22), age_max: None };
    store.retain(epoch, half).await.unwrap();
    let ids: Vec<_> = store.list(all()).await.unwrap().letters.iter().map(|it| it.id).collect();
    assert_eq!(ids, [2, 3], "what nobody needs goes first, then the oldest");
    store
        .retain(epoch, Retention { bytes_max: None, age_max: Some(std::time::Duration::ZERO) })
        .await
        .unwrap();
    let dropped = LetterFile::open(directory.path()).unwrap().dropped().unwrap();
    let told: Vec<_> = dropped.iter().map(|it| (it.open, it.letters, it.bytes)).collect();
    assert_eq!(told, [(false, 1, 11), (true, 3, 33)]);
}

/// As many and as large as an incident leaves: no read holds more than a page of them.
#[tokio::test]
async fn b205_many_letters_are_read_a_page_at_a_time() {
    let (_directory, store) = store();
    let large = "x".repeat(18 << 10);
    for batch in 0..140 {
        let letters =
            (0..100).map(|n| Letter { input: large.clone(), ..letter(batch * 100 + n, "e") });
        store.bury(store.epoch(), letters.collect()).await.unwrap();
    }
    let mut query = LetterQuery { limit: usize::MAX, whole: true, ..LetterQuery::default() };
    let (mut seen, mut pages) = (0, 0);
    loop {
        let page = store.list(query.clone()).await.unwrap();
        let held: usize = page.letters.iter().map(|stored| stored.letter.input.len()).sum();
        assert!(held <= 64 << 20, "{held} bytes in a page");
        (seen, pages) = (seen + page.letters.len(), pages + 1);
        let Some(next) = page.next else { break };
        query.after = next;
    }
    assert_eq!(seen, 14_000);
    assert!(pages >= 4, "{pages}");
    let (keys, next) = store.keys("a", 0).await.unwrap();
    assert!(keys.len() <= KEYS && next.is_some());
}
