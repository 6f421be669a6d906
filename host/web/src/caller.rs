//! Who asks, and the record of what they change.
//!
//! A name that is said is a claim; that of a token is proven. Both are recorded. Handlers that record
//! what they do themselves, with more than its path, ask [`by`]; of the others the doorkeeper records the
//! request.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::http::{HeaderMap, Method, Uri};
use model::BoxFuture;
use model::tokens::Limits;

/// Who it is done for, as the command line says it.
const BY: &str = "sequin-by";

/// Characters of what is said.
const TEXT_MAX: usize = 200;

/// Keeps the record of what was changed.
pub trait Audit: Send + Sync {
    /// Somebody has changed something.
    fn note(&self, by: String, what: &'static str, subject: String) -> BoxFuture<'static, ()>;
}

/// Who asks.
#[derive(Default)]
pub(crate) struct Caller {
    /// The name of the token that was shown.
    pub(crate) token: Option<String>,
    /// What that is for.
    pub(crate) limits: Limits,
    /// Whom they say they are.
    pub(crate) claimed: Option<String>,
    /// Whether the handler records what it does.
    is_noted: AtomicBool,
}

tokio::task_local! {
    static CALLER: Arc<Caller>;
}

impl Caller {
    pub(crate) fn new(token: Option<String>, limits: Limits, headers: &HeaderMap) -> Arc<Self> {
        let claimed = headers.get(BY).and_then(|said| said.to_str().ok());
        let claimed = claimed.filter(|said| !said.is_empty() && said.len() <= TEXT_MAX);
        let claimed = claimed.map(str::to_owned);
        Arc::new(Self { token, limits, claimed, is_noted: AtomicBool::new(false) })
    }

    fn name(&self, claimed: Option<&str>) -> String {
        let claimed = claimed.or(self.claimed.as_deref());
        match (claimed, &self.token) {
            (Some(claimed), Some(token)) => format!("{claimed} (token {token})"),
            (None, Some(token)) => format!("token {token}"),
            (Some(claimed), None) => claimed.to_owned(),
            (None, None) => "api".to_owned(),
        }
    }

    /// Answers a request, and records it if it is one that is done and nobody else does.
    pub(crate) async fn scope<T>(
        self: Arc<Self>,
        audit: &dyn Audit,
        (method, uri): (Method, Uri),
        answer: impl Future<Output = T>,
        is_done: impl Fn(&T) -> bool,
    ) -> T {
        let answer = CALLER.scope(Arc::clone(&self), answer).await;
        if is_done(&answer) && !self.is_noted.load(Ordering::Relaxed) {
            // Without the query, which may hold rows.
            audit.note(self.name(None), word(&method), uri.path().to_owned()).await;
        }
        answer
    }
}

/// Who does it, for a record that the handler makes itself.
pub(crate) fn by(claimed: Option<&str>) -> String {
    let claimed = claimed.filter(|said| !said.is_empty());
    let found = CALLER.try_with(|caller| {
        caller.is_noted.store(true, Ordering::Relaxed);
        caller.name(claimed)
    });
    found.unwrap_or_else(|_| claimed.unwrap_or("api").to_owned())
}

/// Whether who asks may do something to this one.
pub(crate) fn may(kind: &str, name: &str) -> bool {
    CALLER.try_with(|caller| caller.limits.allow(kind, name)).unwrap_or(true)
}

/// What who asks is limited to.
pub(crate) fn limits() -> Limits {
    CALLER.try_with(|caller| caller.limits.clone()).unwrap_or_default()
}

/// What a request that changes something does, as a stable word.
fn word(method: &Method) -> &'static str {
    match *method {
        Method::PUT => "put",
        Method::PATCH => "patch",
        Method::DELETE => "delete",
        _ => "post",
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    #[derive(Default)]
    struct Kept(Mutex<Vec<String>>);

    impl Audit for Kept {
        fn note(&self, by: String, what: &'static str, subject: String) -> BoxFuture<'static, ()> {
            self.0.lock().unwrap().push(format!("{by}: {what} {subject}"));
            Box::pin(async {})
        }
    }

    #[tokio::test]
    async fn what_changes_something_is_recorded_once_with_who_it_was() {
        let kept = Kept::default();
        let mut headers = HeaderMap::new();
        headers.insert(BY, "ann".parse().unwrap());
        let ask =
            async |token: Option<&str>, headers: &HeaderMap, ask: (Method, &str), noted, done| {
                let uri: Uri = ask.1.parse().unwrap();
                let answer = async { if noted { by(Some("ben")) } else { String::new() } };
                let caller = Caller::new(token.map(str::to_owned), Limits::default(), headers);
                caller.scope(&kept, (ask.0, uri), answer, |_| done).await
            };
        let none = HeaderMap::new();
        ask(None, &none, (Method::POST, "/api/config/plan"), false, false).await;
        ask(None, &none, (Method::POST, "/api/letters/5/discard?x=row"), false, true).await;
        ask(Some("ci"), &headers, (Method::DELETE, "/api/backfills/5"), false, true).await;
        let said = ask(Some("ci"), &headers, (Method::PUT, "/api/sinks/a"), true, true).await;
        assert_eq!(said, "ben (token ci)");
        assert_eq!(
            *kept.0.lock().unwrap(),
            ["api: post /api/letters/5/discard", "ann (token ci): delete /api/backfills/5"]
        );
        assert_eq!(by(None), "api", "outside of a request");
    }
}
