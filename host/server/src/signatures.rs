//! Whether a component is signed by who must have signed it.
//!
//! What is signed are its bytes, detached: Ed25519 (RFC 8032), or ECDSA P-256 over their SHA-256 in
//! DER, both in base64. The latter is what `cosign sign-blob --key` writes; the former what `openssl
//! pkeyutl -sign -rawin` does. Once `sequin.yaml` asks for signatures, what it says nothing of is
//! refused.

use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use config::spec::{Component, PublicKey, SignatureRule, Signatures};
use model::versions::VersionsError;
use ring::signature::{ECDSA_P256_SHA256_ASN1, ED25519, UnparsedPublicKey};

use crate::bindings::Known;
use crate::components::Found;

/// Of a file of a signature.
const FILE_BYTES_MAX: u64 = 4_096;

/// Whether these signatures let the bytes be called that.
///
/// # Errors
/// `unsigned`, `bad_signature`.
pub(crate) fn check(
    policy: &Signatures,
    name: &str,
    bytes: &[u8],
    signatures: &[String],
) -> Result<(), VersionsError> {
    let Some(rule) = rule(policy, name) else {
        let what = format!(
            "signatures are asked for, and nothing in `plugins.signatures.require` is for `{name}`"
        );
        return Err(VersionsError::refused("unsigned", what));
    };
    let has_signed = |signer: &&String| {
        let mut keys = policy.keys.iter().filter(|(name, _)| name == *signer);
        keys.any(|(_, key)| signatures.iter().any(|signature| verifies(key, bytes, signature)))
    };
    let (signed, missing): (Vec<_>, Vec<_>) = rule.signers.iter().partition(has_signed);
    if if rule.all { missing.is_empty() } else { !signed.is_empty() } {
        return Ok(());
    }
    let who: Vec<&str> = missing.iter().map(|signer| signer.as_str()).collect();
    let who = who.join(if rule.all { " and " } else { " or " });
    let (code, what) = if signatures.is_empty() {
        ("unsigned", format!("`{name}` must be signed by {who}, and comes without a signature"))
    } else {
        ("bad_signature", format!("no signature of `{name}` is one of its bytes by {who}"))
    };
    Err(VersionsError::refused(code, what))
}

/// The same for a component that is to run: with the signatures that it was uploaded with, or with
/// the one beside its file.
///
/// # Errors
/// As [`check`].
pub(crate) fn check_found(
    policy: Option<&Signatures>,
    component: &Component,
    found: &Found,
    known: &Known,
) -> Result<(), String> {
    let Some(policy) = policy else { return Ok(()) };
    let inspected = plugin::inspect(&found.bytes, &plugin::Limits::default());
    let inspected = inspected.map_err(|error| error.to_string())?;
    let mut signatures: Vec<String> = known.signatures(&inspected.digest).cloned().collect();
    signatures.extend(found.path.as_deref().and_then(beside));
    // Only what is in the bytes is signed.
    let name = inspected.name.unwrap_or_default();
    if let Component::Named { name: asked, version } = component
        && (*asked != name || inspected.version.as_ref() != Some(version))
    {
        return Err(format!(
            "name_unsigned: signatures are asked for, and {asked}@{version} does not say itself that \
             it is that"
        ));
    }
    check(policy, &name, &found.bytes, &signatures).map_err(|error| error.to_string())
}

/// The signature beside a file, if there is one.
pub(crate) fn beside(file: &Path) -> Option<String> {
    let mut beside = file.as_os_str().to_owned();
    beside.push(".sig");
    if !std::fs::metadata(&beside).is_ok_and(|it| it.len() <= FILE_BYTES_MAX) {
        return None;
    }
    let text = std::fs::read_to_string(&beside).ok()?;
    Some(text.split_whitespace().collect())
}

/// The rule for a name: of several, the longest.
fn rule<'a>(policy: &'a Signatures, name: &str) -> Option<&'a SignatureRule> {
    let fits = |rule: &&SignatureRule| match rule.plugin.strip_suffix('*') {
        Some(beginning) => name.starts_with(beginning),
        None => rule.plugin == name,
    };
    // Exactly the name is more than its beginning.
    let rank = |rule: &&SignatureRule| (!rule.plugin.ends_with('*'), rule.plugin.len());
    policy.rules.iter().filter(fits).max_by_key(rank)
}

fn verifies(key: &PublicKey, bytes: &[u8], signature: &str) -> bool {
    let Ok(signature) = STANDARD.decode(signature) else { return false };
    match key {
        PublicKey::Ed25519(key) => {
            UnparsedPublicKey::new(&ED25519, key).verify(bytes, &signature).is_ok()
        }
        PublicKey::P256(key) => {
            let key = UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, key);
            key.verify(bytes, &signature).is_ok()
        }
    }
}

#[cfg(test)]
mod tests {
    use ring::rand::SystemRandom;
    use ring::signature::{
        ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _,
    };

    use super::*;

    struct Signer {
        ed: Ed25519KeyPair,
        ec: EcdsaKeyPair,
        random: SystemRandom,
    }

    impl Signer {
        fn new() -> Self {
            let random = SystemRandom::new();
            let ed = Ed25519KeyPair::generate_pkcs8(&random).unwrap();
            let algorithm = &ECDSA_P256_SHA256_ASN1_SIGNING;
            let ec = EcdsaKeyPair::generate_pkcs8(algorithm, &random).unwrap();
            let ed = Ed25519KeyPair::from_pkcs8(ed.as_ref()).unwrap();
            let ec = EcdsaKeyPair::from_pkcs8(algorithm, ec.as_ref(), &random).unwrap();
            Self { ed, ec, random }
        }

        fn policy(&self, rules: &[(&str, &[&str], bool)]) -> Signatures {
            let ed = PublicKey::Ed25519(self.ed.public_key().as_ref().to_vec());
            let ec = PublicKey::P256(self.ec.public_key().as_ref().to_vec());
            let rule = |(plugin, signers, all): &(&str, &[&str], bool)| SignatureRule {
                plugin: (*plugin).to_owned(),
                signers: signers.iter().map(|it| (*it).to_owned()).collect(),
                all: *all,
            };
            let keys = vec![("ed".to_owned(), ed), ("ec".to_owned(), ec)];
            Signatures { keys, rules: rules.iter().map(rule).collect() }
        }

        fn ed(&self, bytes: &[u8]) -> String {
            STANDARD.encode(self.ed.sign(bytes))
        }

        fn ec(&self, bytes: &[u8]) -> String {
            STANDARD.encode(self.ec.sign(&self.random, bytes).unwrap())
        }
    }

    #[test]
    fn b271_once_signatures_are_asked_for_nothing_passes_without() {
        let signer = Signer::new();
        let code = |policy: &Signatures, name: &str, signatures: &[String]| match check(
            policy, name, b"it", signatures,
        ) {
            Ok(()) => "good",
            Err(VersionsError::Refused { code, .. }) => code,
            Err(other) => panic!("{other}"),
        };
        let (ed, ec) = (signer.ed(b"it"), signer.ec(b"it"));
        let other = signer.ed(b"another");
        let any = signer.policy(&[("a-*", &["ed", "ec"], false)]);
        assert_eq!(code(&any, "a-x", &[]), "unsigned");
        assert_eq!(code(&any, "b", std::slice::from_ref(&ed)), "unsigned", "no rule is for it");
        assert_eq!(code(&any, "a-x", std::slice::from_ref(&other)), "bad_signature");
        assert_eq!(code(&any, "a-x", &["?".to_owned(), "AAAA".to_owned()]), "bad_signature");
        for good in [&ed, &ec] {
            assert_eq!(code(&any, "a-x", &[other.clone(), good.clone()]), "good");
        }
        let all = signer.policy(&[("a-*", &["ed"], false), ("a-x", &["ed", "ec"], true)]);
        assert_eq!(code(&all, "a-x", std::slice::from_ref(&ed)), "bad_signature");
        assert_eq!(code(&all, "a-x", &[ec.clone(), ed.clone()]), "good");
        assert_eq!(code(&all, "a-y", std::slice::from_ref(&ed)), "good", "the longest rule counts");
        assert_eq!(code(&all, "a-y", std::slice::from_ref(&ec)), "bad_signature");
        assert_eq!(code(&any, "", std::slice::from_ref(&ed)), "unsigned", "what has no name");
    }
}
