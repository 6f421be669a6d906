//! Tokens of the API: made here, shown once, and known by their hash from then on.

use std::collections::HashMap;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use model::BoxFuture;
use model::store::StoreError;
use model::tokens::{ApiToken, ApiTokens as _, Limits, Scope};
use model::versions::{Deed, VersionsError};
use ring::rand::{SecureRandom as _, SystemRandom};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use store::Embedded;
use tokio_util::sync::CancellationToken;
use tracing::warn;
use web::{Admitted, NewToken};

use crate::reload::now_us;

/// What a token begins with: scanners for secrets know it by that.
const PREFIX: &str = "sequin_";
/// Random bytes of a token, and of its id.
const BYTES: usize = 32;
const ID_BYTES: usize = 8;

/// How often it is recorded when tokens were used.
const RECORD: Duration = Duration::from_secs(60);

/// Beyond it nobody knows any more who has one.
const TOKENS_MAX: usize = 1_000;

/// Tokens of the configuration: names and scopes, by hash.
type Declared = HashMap<[u8; 32], (String, Vec<Scope>, Limits)>;

/// All tokens.
pub(crate) struct Tokens {
    store: Arc<Embedded>,
    known: RwLock<HashMap<[u8; 32], Arc<Known>>>,
    /// Those that the configuration names.
    declared: RwLock<Arc<Declared>>,
}

struct Known {
    token: ApiToken,
    /// 0: never.
    used_us: AtomicI64,
}

impl Tokens {
    /// Those that are kept.
    ///
    /// # Errors
    /// The store cannot be read.
    pub(crate) async fn read(store: Arc<Embedded>) -> Result<Self, VersionsError> {
        let all = store.tokens().await?.into_iter();
        let known = all.map(|token| (token.hash, Arc::new(Known::new(token)))).collect();
        Ok(Self { store, known: RwLock::new(known), declared: RwLock::default() })
    }

    /// From now on these are those that the configuration names.
    pub(crate) fn declare(&self, tokens: &[config::spec::ApiToken]) {
        let of = |it: &config::spec::ApiToken| {
            (
                hash(it.token.reveal().as_bytes()),
                (it.name.clone(), it.scopes.clone(), it.limits.clone()),
            )
        };
        let all = Arc::new(tokens.iter().map(of).collect());
        *self.declared.write().unwrap_or_else(PoisonError::into_inner) = all;
    }

    fn declared(&self) -> Arc<Declared> {
        Arc::clone(&self.declared.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn all(&self) -> Vec<Arc<Known>> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        known.values().cloned().collect()
    }

    /// Records when they were used, until cancelled and once more then.
    pub(crate) async fn record(self: Arc<Self>, stop: CancellationToken) {
        let mut recorded: HashMap<String, i64> = HashMap::new();
        loop {
            let is_over = tokio::time::timeout(RECORD, stop.cancelled()).await.is_ok();
            let all = self.all().into_iter();
            let used = all.map(|it| (it.token.id.clone(), it.used_us.load(Ordering::Relaxed)));
            let used = used.filter(|(id, at)| *at > 0 && recorded.get(id) != Some(at));
            let used: Vec<_> = used.collect();
            if !used.is_empty() {
                recorded.extend(used.iter().cloned());
                if let Err(error) = self.store.used_tokens(self.store.epoch(), used).await {
                    warn!(%error, "when tokens of the API were used cannot be recorded");
                }
            }
            if is_over {
                return;
            }
        }
    }

    async fn make(&self, new: NewToken) -> Result<Value, VersionsError> {
        if self.all().len() >= TOKENS_MAX {
            let what = format!("{TOKENS_MAX} tokens are the most: revoke some");
            return Err(VersionsError::refused("too_many", what));
        }
        let NewToken { name, scopes, limits, days, by } = new;
        let text = format!("{PREFIX}{}", random(BYTES)?);
        let now = now_us();
        let lasts = days.map(|days| i64::from(days) * 86_400_000_000);
        let token = ApiToken {
            id: random(ID_BYTES)?,
            hash: hash(text.as_bytes()),
            name,
            scopes,
            limits,
            created_us: now,
            expires_us: lasts.map(|lasts| now.saturating_add(lasts)),
            used_us: None,
        };
        let deed = deed("token_create", &token, by);
        self.store.add_token(self.store.epoch(), token.clone(), deed).await?;
        let mut told = told(&token, None);
        if let Value::Object(told) = &mut told {
            told.insert("token".to_owned(), text.into());
        }
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        known.insert(token.hash, Arc::new(Known::new(token)));
        Ok(told)
    }

    async fn end(&self, which: &str, by: String) -> Result<Value, VersionsError> {
        let is_it = |it: &&Arc<Known>| it.token.id == which || it.token.name == which;
        let all = self.all();
        let Some(found) = all.iter().find(is_it) else {
            if self.declared().values().any(|(name, ..)| name == which) {
                let what = format!(
                    "the engine's own configuration names `{which:.200}`: take it out there"
                );
                return Err(VersionsError::refused("declared", what));
            }
            let what = format!("there is no token `{which:.200}`");
            return Err(VersionsError::refused("unknown_token", what));
        };
        // It ends at once, whether that can be recorded or not.
        self.known.write().unwrap_or_else(PoisonError::into_inner).remove(&found.token.hash);
        let deed = deed("token_revoke", &found.token, by);
        self.store.remove_token(self.store.epoch(), found.token.id.clone(), deed).await?;
        Ok(json!({"id": found.token.id, "deleted": true}))
    }
}

impl Known {
    fn new(token: ApiToken) -> Self {
        let used_us = AtomicI64::new(token.used_us.unwrap_or_default());
        Self { token, used_us }
    }
}

impl web::Tokens for Tokens {
    fn admit(&self, shown: &[u8]) -> Admitted {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        // Of a random token the hash tells nothing: that it is looked up tells nothing either.
        let hash = hash(shown);
        let Some(found) = known.get(&hash) else {
            return match self.declared().get(&hash) {
                Some((name, scopes, limits)) => Admitted::May {
                    name: name.clone(),
                    scopes: scopes.clone(),
                    limits: limits.clone(),
                },
                None => Admitted::Unknown,
            };
        };
        let now = now_us();
        if found.token.expires_us.is_some_and(|expires| expires <= now) {
            return Admitted::Expired;
        }
        found.used_us.store(now, Ordering::Relaxed);
        let ApiToken { name, scopes, limits, .. } = found.token.clone();
        Admitted::May { name, scopes, limits }
    }

    fn is_any(&self) -> bool {
        !self.known.read().unwrap_or_else(PoisonError::into_inner).is_empty()
            || !self.declared().is_empty()
    }

    fn list(&self) -> Value {
        let mut all = self.all();
        all.sort_by_key(|it| it.token.created_us);
        let shown = all.iter().map(|it| {
            let used = it.used_us.load(Ordering::Relaxed);
            told(&it.token, (used > 0).then_some(used))
        });
        let declared = self.declared();
        let mut declared: Vec<_> = declared.values().collect();
        declared.sort();
        let declared = declared.into_iter().map(|(name, scopes, limits)| {
            json!({
                "name": name, "scopes": words(scopes), "resources": limits.0, "declared": true,
            })
        });
        web::list_of(shown.chain(declared).collect())
    }

    fn create(self: Arc<Self>, new: NewToken) -> BoxFuture<'static, Result<Value, VersionsError>> {
        Box::pin(async move { self.make(new).await })
    }

    fn revoke(
        self: Arc<Self>,
        which: String,
        by: String,
    ) -> BoxFuture<'static, Result<Value, VersionsError>> {
        Box::pin(async move { self.end(&which, by).await })
    }
}

fn random(bytes: usize) -> Result<String, VersionsError> {
    let mut random = vec![0; bytes];
    let filled = SystemRandom::new().fill(&mut random);
    filled.map_err(|_| StoreError::Unavailable("the system gives no random bytes".to_owned()))?;
    Ok(URL_SAFE_NO_PAD.encode(random))
}

fn hash(token: &[u8]) -> [u8; 32] {
    Sha256::digest(token).into()
}

fn deed(what: &str, token: &ApiToken, by: String) -> Deed {
    Deed {
        at_us: now_us(),
        by,
        what: what.to_owned(),
        subject: format!("token {}", token.name),
        detail: [words(&token.scopes), token.limits.0.iter().map(String::as_str).collect()]
            .concat()
            .join(" "),
        ..Deed::default()
    }
}

fn words(scopes: &[Scope]) -> Vec<&'static str> {
    scopes.iter().map(|scope| scope.as_str()).collect()
}

fn told(token: &ApiToken, used_us: Option<i64>) -> Value {
    let time = |us: i64| {
        let mut text = String::new();
        model::json::timestamp(&mut text, us);
        text
    };
    json!({
        "id": token.id, "name": token.name, "scopes": words(&token.scopes),
        "resources": token.limits.0, "inserted_at": time(token.created_us), "expires_at": token.expires_us.map(time),
        "last_used_at": used_us.map(time),
    })
}

#[cfg(test)]
mod tests {
    use web::Tokens as _;

    use super::*;

    fn limits() -> Limits {
        Limits(vec!["sink:poi-*".to_owned(), "main".to_owned()])
    }

    fn may() -> Admitted {
        Admitted::May { name: "ci".to_owned(), scopes: vec![Scope::Read], limits: limits() }
    }

    #[tokio::test]
    async fn b261_a_token_is_known_until_it_is_revoked_or_expires_also_by_the_next_process() {
        let directory = tempfile::tempdir().unwrap();
        let new = |name: &str, days| NewToken {
            name: name.to_owned(),
            scopes: vec![Scope::Read],
            limits: limits(),
            days,
            by: String::new(),
        };
        let token = {
            let store = Arc::new(Embedded::open(directory.path()).unwrap());
            let tokens = Arc::new(Tokens::read(Arc::clone(&store)).await.unwrap());
            assert!(!tokens.is_any());
            let made = tokens.make(new("ci", Some(1))).await.unwrap();
            let token = made["token"].as_str().unwrap().to_owned();
            assert!(token.starts_with(PREFIX) && token.len() > 48, "{token}");
            assert_eq!(tokens.admit(token.as_bytes()), may());
            assert_eq!(tokens.admit(&token.as_bytes()[1..]), Admitted::Unknown);
            assert!(tokens.make(new("ci", None)).await.is_err(), "its name is taken");
            assert!(!tokens.list().to_string().contains(&token));
            let expired = ApiToken {
                id: "old".to_owned(),
                name: "old".to_owned(),
                hash: hash(b"old"),
                scopes: vec![Scope::Admin],
                limits: Limits::default(),
                created_us: 0,
                expires_us: Some(1),
                used_us: None,
            };
            store.add_token(store.epoch(), expired, Deed::default()).await.unwrap();
            let stop = CancellationToken::new();
            stop.cancel();
            tokens.record(stop).await;
            token
        };
        let store = Arc::new(Embedded::open(directory.path()).unwrap());
        let tokens = Tokens::read(store).await.unwrap();
        assert_eq!(tokens.admit(b"old"), Admitted::Expired);
        assert!(tokens.list()["data"][1]["last_used_at"].is_string(), "{}", tokens.list());
        assert_eq!(tokens.admit(token.as_bytes()), may());
        tokens.end("ci", String::new()).await.unwrap();
        assert_eq!(tokens.admit(token.as_bytes()), Admitted::Unknown);
        assert!(tokens.end("ci", String::new()).await.is_err());
    }
}
